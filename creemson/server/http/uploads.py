"""The body of an upload: finds the files in the form, and stores them, all or none."""

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterable

import trio
from starlette.requests import Request

from creemson.errors import InvalidFormat
from creemson.server.http.multipart import Begun, FormFiles
from creemson.server.http.responses import too_large
from creemson.storage.uploads import Part, Uploads

__all__ = ["MAX_FORM_BYTES", "discard", "finish", "receive_files"]

WRITE_BYTES = 1024 * 1024
"""Minimum bytes of a piece, except the last of a file: each piece is written in a thread, which has a cost."""
MAX_FORM_BYTES = 64 * 1024
"""Maximum bytes of a form in addition to its files."""
MAX_FILES = 20
"""Maximum number of files of one form: all of them are open until the last one is complete."""


async def receive_files(request: Request, uploads: Uploads, *, limit: int, announced: int) -> list[Part]:
    """Receive the files of a form.

    Args:
        request: the request.
        uploads: the uploads of the caller.
        limit: maximum size of all files together in bytes.
        announced: size of the body in bytes; 0 if it is not announced.

    Returns:
        The complete files, in their order in the form; to be finished or discarded. If this raises, none is left.

    Raises:
        ProcessingError: ``upload_too_large`` or ``storage_full``.
        InvalidFormat: the body is not a form with files, or a name cannot be used.
    """
    files = FormFiles(request.headers.get("content-type", ""), "file")
    parts: list[Part] = []
    try:
        async with (
            contextlib.aclosing(request.stream()) as body,
            contextlib.aclosing(_pieces(body, files, limit)) as pieces,
        ):
            async for piece in pieces:
                if isinstance(piece, Begun):
                    if parts:  # the rest of the announced bytes belongs to another file
                        await trio.to_thread.run_sync(uploads.settle, parts[-1])
                    least = 0 if parts else max(announced - MAX_FORM_BYTES, 0)
                    begin = functools.partial(uploads.begin_unannounced, piece.filename, least=least)
                    parts.append(await trio.to_thread.run_sync(begin))
                    _check_files(parts)
                else:
                    await trio.to_thread.run_sync(uploads.write, parts[-1], piece)
    except BaseException:
        await discard(uploads, parts)
        raise
    return parts


def _check_files(parts: list[Part]) -> None:
    """Check the files of a form when another one begins."""
    *earlier, last = (part.name for part in parts)
    if last in earlier:
        raise InvalidFormat("invalid_message", f"The form has two files named {last!r}.")
    if len(parts) > MAX_FILES:
        raise InvalidFormat("invalid_message", f"A form has at most {MAX_FILES} files. Send several forms.")


async def finish(uploads: Uploads, parts: list[Part]) -> list[str]:
    """Give files their names; those that are there already are replaced.

    Returns:
        The names.

    Raises:
        CreemsonError, OSError: the disk failed; the files before the failure have their names.
    """
    names = [part.name for part in parts]
    with trio.CancelScope(shield=True):  # all or none
        try:
            while parts:
                await trio.to_thread.run_sync(uploads.finish, parts.pop(0), None)
        except BaseException:
            await discard(uploads, parts)
            raise
    return names


async def discard(uploads: Uploads, parts: list[Part]) -> None:
    """Remove files that have no names yet."""
    with trio.CancelScope(shield=True):
        for part in parts:
            await trio.to_thread.run_sync(uploads.discard, part)


async def _pieces(
    body: AsyncIterable[bytes], files: FormFiles, limit: int
) -> AsyncGenerator[Begun | bytes, None]:
    """Yield the files of a form: the beginning of each, and its bytes in pieces that are worth a write."""
    waiting: list[bytes] = []
    size = received = 0
    async for data in body:
        received += len(data)
        if received > limit + MAX_FORM_BYTES:
            raise too_large("The upload", received, limit)
        for found in files.feed(data) if data else ():
            if isinstance(found, Begun):
                if waiting:
                    yield b"".join(waiting)
                    waiting = []
                yield found
            else:
                waiting.append(found)
                size += len(found)
        if size > limit:
            raise too_large("The upload", size, limit)
        if sum(map(len, waiting)) >= WRITE_BYTES:
            yield b"".join(waiting)
            waiting = []
    files.feed(b"")
    if waiting:
        yield b"".join(waiting)
