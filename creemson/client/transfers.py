"""Uploads and downloads that go on where they were when the connection breaks."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import trio

from creemson.client.link import Link, LinkLost
from creemson.client.session import Session
from creemson.errors import CreemsonError, ProcessingError
from creemson.wire import messages

__all__ = ["Transfers", "ignore"]

Report = Callable[[int, int], None]


class Transfers:
    """Those of one client: one in each direction at a time.

    Args:
        session: to talk over.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._uploading = trio.Lock()
        self._downloading = trio.Lock()

    async def upload(
        self, path: Path, name: str, *, overwrite: bool, report: Report, unless_there: bool = False
    ) -> messages.Uploaded:
        """See :meth:`creemson.client.Client.upload`.

        Args:
            path: of the file here.
            name: for it on the server.
            overwrite: whether it may replace a file of that name.
            report: is told how far it is.
            unless_there: whether it is fine if the server has this content under this name already.
        """
        whole = False  # the server may have all bytes, whatever becomes of the connection

        def about_to_have(sent: int) -> None:
            nonlocal whole
            whole = whole or sent == size

        stream = await trio.to_thread.run_sync(path.open, "rb")
        with stream:
            size = os.fstat(stream.fileno()).st_size
            # With the digest, the server goes on with what it has of the same content, and of no other.
            digest = await trio.to_thread.run_sync(hashlib.file_digest, stream, "sha256")
            sha256 = digest.hexdigest()

            async def attempt(link: Link) -> messages.Uploaded:
                request = messages.Upload(
                    id=self._session.new_id(), filename=name, size=size, sha256=sha256, overwrite=overwrite
                )
                return await self._send(link, request, stream, report, about_to_have)

            async with self._uploading:
                try:
                    return await self._session.persist(attempt)
                except ProcessingError as error:
                    # Perhaps it is there by our own doing, and only `uploaded` was lost on its way.
                    if error.reason != "file_exists" or not (whole or unless_there):
                        raise
                    found = await self._same(name, size, sha256)
                    if found is None:
                        raise
                    report(size, size)
                    return found

    async def _send(
        self,
        link: Link,
        request: messages.Upload,
        stream: BinaryIO,
        report: Report,
        about_to_have: Callable[[int], None],
    ) -> messages.Uploaded:
        assert self._session.welcome is not None
        chunk = self._session.welcome.limits.chunk_bytes
        async with link.exchange(request) as answers:
            try:
                sent = (await answers.expect(messages.UploadReady)).offset
                stream.seek(sent)
                about_to_have(sent)
                report(sent, request.size)
                while sent < request.size:
                    data = await trio.to_thread.run_sync(_read, stream, min(chunk, request.size - sent))
                    about_to_have(sent + len(data))
                    await link.send(data)
                    sent += len(data)
                    report(sent, request.size)
                    answers.check()
                return await answers.expect(messages.Uploaded)
            except (LinkLost, CreemsonError):
                raise
            except EOFError:
                self._give_up(link, request.id)
                shrunk = f"{request.filename!r} shrank while it was sent."
                raise ProcessingError("unreadable_file", shrunk) from None
            except BaseException:
                self._give_up(link, request.id)
                raise

    async def _same(self, name: str, size: int, sha256: str) -> messages.Uploaded | None:
        """The file of that name, if it has this very content."""
        listing = messages.ListFiles(id=self._session.new_id())
        for info in (await self._session.ask(listing, messages.Files)).files:
            if info.filename != name or info.size != size:
                continue
            # A server that has crashed may not know the digest any more.
            if (info.sha256 or await self._digest(name, size)) == sha256:
                try:
                    request = messages.ListColumns(id=self._session.new_id(), filename=name)
                    columns = (await self._session.ask(request, messages.Columns)).columns
                except ProcessingError:  # it is no table
                    columns = ()
                return messages.Uploaded(
                    id=self._session.new_id(), filename=name, size=size, sha256=sha256, columns=columns
                )
        return None

    async def _digest(self, name: str, size: int) -> str:
        """Let the server digest a file: a download from its end on has no bytes, and tells the digest."""

        async def attempt(link: Link) -> str:
            request = messages.Download(id=self._session.new_id(), filename=name, offset=size)
            async with link.exchange(request) as answers:
                return (await answers.expect(messages.Downloaded)).sha256

        async with self._downloading:
            return await self._session.persist(attempt)

    async def download(self, filename: str, target: Path, report: Report) -> messages.Downloaded:
        """See :meth:`creemson.client.Client.download`."""
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("w+b") as stream:
                done = await self._fetch(filename, stream, report)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return done

    async def read(self, filename: str) -> bytes:
        """See :meth:`creemson.client.Client.read`."""
        stream = io.BytesIO()
        await self._fetch(filename, stream, ignore)
        return stream.getvalue()

    async def _fetch(self, filename: str, stream: BinaryIO, report: Report) -> messages.Downloaded:
        received = _Received(stream)

        async def attempt(link: Link) -> messages.Downloaded:
            while True:
                offset = received.size
                try:
                    return await self._receive(link, filename, received, report)
                except _AnotherFile:
                    pass
                except CreemsonError as error:
                    if not (offset and error.reason in ("offset_mismatch", "checksum_mismatch")):
                        raise
                await trio.to_thread.run_sync(received.clear)

        async with self._downloading:
            return await self._session.persist(attempt)

    async def _receive(
        self, link: Link, filename: str, received: "_Received", report: Report
    ) -> messages.Downloaded:
        request = messages.Download(id=self._session.new_id(), filename=filename, offset=received.size)
        # Little buffer: a disk that is slow here makes the server wait.
        async with link.exchange(request, buffer=1) as answers:
            try:
                begun = await answers.expect(messages.DownloadStarted)
                received.check(begun)
                report(received.size, begun.size)
                while not isinstance(answer := await answers.next(), messages.Downloaded):
                    if isinstance(answer, bytes):
                        await trio.to_thread.run_sync(received.write, answer)
                        report(received.size, begun.size)
            except (LinkLost, CreemsonError):
                raise
            except BaseException:
                self._give_up(link, request.id)
                raise
        if answer.sha256 != received.hexdigest:
            raise ProcessingError("checksum_mismatch", f"The bytes of {filename!r} came damaged. Try again.")
        return answer

    def _give_up(self, link: Link, request: str) -> None:
        """Nobody waits for the transfer any more; the server need not, either."""
        link.post(messages.Cancel(id=self._session.new_id(), request=request))


def _read(stream: BinaryIO, size: int) -> bytes:
    """Some bytes; there have to be some.

    Raises:
        EOFError: there are none.
    """
    data = stream.read(size)
    if not data:
        raise EOFError
    return data


def ignore(done: int, size: int) -> None:
    """Nobody wants to know how far it is."""


class _AnotherFile(Exception):  # noqa: N818 - what it is
    """The file has changed since the first bytes came."""


class _Received:
    """What has come of a file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._of: tuple[int, str | None] | None = None  # size and digest that were announced
        self.size = 0

    @property
    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def check(self, begun: messages.DownloadStarted) -> None:
        """Whether it goes on with the file that it has begun with."""
        if self._of is not None and self.size:
            size, sha256 = self._of
            both = sha256 is not None and begun.sha256 is not None
            if size != begun.size or (both and sha256 != begun.sha256):
                raise _AnotherFile
        self._of = (begun.size, begun.sha256)

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def clear(self) -> None:
        """Begin anew."""
        self._stream.seek(0)
        self._stream.truncate()
        self._digest = hashlib.sha256()
        self._of = None
        self.size = 0
