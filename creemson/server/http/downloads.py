"""The response that sends a file."""

import email.utils
import functools
import hashlib
import mimetypes
import secrets
import unicodedata
from urllib.parse import quote

import trio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from creemson.errors import InvalidFormat
from creemson.server.http.conditional import ALL, Answer, Validators, decide
from creemson.server.http.responses import error_response
from creemson.storage.store import OpenFile

__all__ = ["FileDownload", "content_disposition"]

CHUNK = 1024 * 1024
"""Maximum bytes of one read."""
LATIN = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
    }
)
"""Letters that Unicode does not decompose into a plain letter and an accent."""
UNSAFE = frozenset('"\\%/')
"""Characters with a meaning of their own for some clients, in the name of a downloaded file."""


class FileDownload(Response):
    """Sends a file, or what a conditional request or a range asks for.

    The file is open before the response begins, so that it may be deleted or replaced meanwhile.

    Args:
        file: the open file; closed after the response.
        filename: name that decides about the type.
        cache_control: how browsers may keep the file.
        attachment: whether browsers must store the file instead of showing it, because it may be a page with scripts.
    """

    def __init__(self, file: OpenFile, filename: str, *, cache_control: str, attachment: bool) -> None:
        self._stream = file.stream
        self._size = file.size
        tag = f'"{hashlib.sha256(file.version.encode()).hexdigest()[:32]}"'  # the version may contain internal numbers
        self._validators = Validators(tag, file.modified)
        self._kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        headers = {
            "accept-ranges": "bytes",
            "cache-control": cache_control,
            "etag": tag,
            "last-modified": email.utils.formatdate(file.modified, usegmt=True),
        }
        if attachment:
            headers["content-disposition"] = content_disposition(filename)
        super().__init__(headers=headers, media_type=self._kind)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file (ASGI)."""
        with self._stream:
            answer = decide(scope["method"], Headers(scope=scope), self._validators, self._size)
            if answer.status in (412, 416):
                await self._refuse(answer.status, scope, receive, send)
                return
            pieces = self._pieces(answer)
            length = sum(len(head) + end - start for head, start, end in pieces)
            self.status_code = answer.status
            if answer.status == 304:
                del self.headers["content-type"], self.headers["accept-ranges"]
            else:
                self.headers["content-length"] = str(length)
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                for head, start, end in pieces:
                    if head:
                        await send({"type": "http.response.body", "body": head, "more_body": True})
                    if not await self._send_bytes(start, end, send):
                        return  # the connection ends, so that the peer does not take this for the whole file
            await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        if status == 412:
            error = InvalidFormat(
                "invalid_message", "The file has another version than the request asks for."
            )
            headers = {"etag": self._validators.tag}
        else:
            error = InvalidFormat("offset_mismatch", f"The file has only {self._size:,} bytes.")
            headers = {"content-range": f"bytes */{self._size}"}
        await error_response(error, status=status, headers=headers)(scope, receive, send)

    def _pieces(self, answer: Answer) -> list[tuple[bytes, int, int]]:
        """Return what is sent: bytes, and the range of the file behind them. Sets the headers that belong to it."""
        size = self._size
        if answer == ALL:
            return [(b"", 0, size)]
        if len(answer.ranges) <= 1:
            for start, end in answer.ranges:
                self.headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
            return [(b"", start, end) for start, end in answer.ranges]
        boundary = secrets.token_hex(16)
        self.headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
        pieces = []
        for index, (start, end) in enumerate(answer.ranges):
            lines = [
                f"{'' if index == 0 else chr(13) + chr(10)}--{boundary}",
                f"Content-Type: {self._kind}",
                f"Content-Range: bytes {start}-{end - 1}/{size}",
            ]
            pieces.append(("\r\n".join([*lines, "", ""]).encode(), start, end))
        return [*pieces, (f"\r\n--{boundary}--\r\n".encode(), 0, 0)]

    async def _send_bytes(self, start: int, end: int, send: Send) -> bool:
        """Send a range of the file; return False if the file has become shorter."""
        while start < end:
            read = functools.partial(self._stream.read_at, start, min(CHUNK, end - start))
            data = await trio.to_thread.run_sync(read)
            if not data:
                return False
            start += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
        return True


def content_disposition(filename: str) -> str:
    r"""Return the header that lets a client store a file under its name (RFC 6266).

    The name in plain ASCII is for clients that do not know `filename*`, such as ``curl -OJ``: letters without their
    accents, and underscores instead of all others.

    >>> content_disposition("größe.csv")
    'attachment; filename="grosse.csv"; filename*=UTF-8\'\'gr%C3%B6%C3%9Fe.csv'
    >>> content_disposition("plain name.csv")
    'attachment; filename="plain name.csv"'
    """
    decomposed = unicodedata.normalize("NFD", filename.translate(LATIN))
    letters = (char for char in decomposed if not unicodedata.combining(char))
    plain = "".join(char if " " <= char <= "~" and char not in UNSAFE else "_" for char in letters)
    if not plain.partition(".")[0].strip("_ "):
        plain = "download" + plain[len(plain.partition(".")[0]) :]
    header = f'attachment; filename="{plain}"'
    return header if plain == filename else f"{header}; filename*=UTF-8''{quote(filename, safe='')}"
