"""The downloads of one connection: one after the other, no faster than the peer reads."""

import hashlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, ProcessingError, disk_error
from creemson.server.effects import Effect
from creemson.server.protocol import Protocol
from creemson.storage.files import version_of
from creemson.storage.store import Store

__all__ = ["Sending"]

CHUNK = 1024 * 1024
"""Bytes of a binary frame."""

T = TypeVar("T")


class Sending:
    """Sends files.

    Args:
        protocol: the connection's.
        store: gives the caller's.
        put: has a piece of a file sent.
        room: waits until there is room for one.
        tell: carries out what the protocol wants told.
        most: bytes of a frame at the most.
        logger: for what the operator should know.
    """

    def __init__(
        self,
        *,
        protocol: Protocol,
        store: Callable[[], Store],
        put: Callable[[bytes], None],
        room: Callable[[], Awaitable[None]],
        tell: Callable[[Sequence[Effect]], None],
        most: int,
        logger: FilteringBoundLogger,
    ) -> None:
        self._protocol = protocol
        self._store = store
        self._put = put
        self._room = room
        self._tell = tell
        self._chunk = min(CHUNK, most)
        self._log = logger
        self._offsets: dict[int, int] = {}  # of downloads that are wanted, by request
        self._files: deque[tuple[int, Path]] = deque()
        self._running = False
        self._current: int | None = None
        self._scope = trio.CancelScope()

    def expect(self, request: int, offset: int) -> None:
        """A file is being found for a download from ``offset`` on."""
        self._offsets[request] = offset

    def found(self, request: int, path: Path) -> bool:
        """It has been found; nothing happens if it is not wanted any more.

        Returns:
            Whether :meth:`run` has to be run.
        """
        if request not in self._offsets:
            return False
        self._files.append((request, path))
        idle, self._running = not self._running, True
        return idle

    def forget(self, request: int) -> None:
        """A request has ended: if it was a download, no more is sent of it."""
        self._offsets.pop(request, None)
        if self._current == request:
            self._scope.cancel()

    async def run(self) -> None:
        """Send what is found."""
        while self._files:
            request, path = self._files.popleft()
            if request not in self._offsets:
                continue
            self._current = request
            with trio.CancelScope() as self._scope:
                await self._send(request, path, self._offsets.pop(request))
            self._current = None
        self._running = False

    async def _send(self, request: int, path: Path, offset: int) -> None:
        try:
            stream = await trio.to_thread.run_sync(path.open, "rb")
            with stream:
                effects = await self._send_file(request, stream, path, offset)
        except CreemsonError as error:
            effects = self._protocol.fail(request, error)
        except FileNotFoundError:
            await trio.lowlevel.checkpoint_if_cancelled()
            gone = ProcessingError("file_not_found", f"{path.name!r} was removed in this moment.")
            effects = self._protocol.fail(request, gone)
        except OSError as error:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._log.error("download failed", error=str(error))
            effects = self._protocol.fail(request, disk_error(error))
        self._tell(effects)

    async def _send_file(self, request: int, stream: BinaryIO, path: Path, offset: int) -> list[Effect]:
        status = os.fstat(stream.fileno())
        version = version_of(status)
        digest = await _in_thread(lambda: self._store().digest(path, version))
        self._tell(self._protocol.download_started(request, size=status.st_size, sha256=digest))
        if digest is not None:
            await self._send_bytes(stream, offset)
        else:
            digest = await self._send_digesting(stream, offset)
            await _in_thread(lambda: self._store().record_digest(path, version, digest))
        return self._protocol.downloaded(request, size=status.st_size, sha256=digest)

    async def _send_bytes(self, stream: BinaryIO, offset: int) -> None:
        file, size = stream.fileno(), os.fstat(stream.fileno()).st_size
        while offset < size:
            data = _cached(file, offset, min(self._chunk, size - offset))
            if data is None:
                data = await _in_thread(partial(os.pread, file, self._chunk, offset))
                if not data:  # it has become shorter
                    break
            offset += len(data)
            await self._room()
            self._put(data)

    async def _send_digesting(self, stream: BinaryIO, offset: int) -> str:
        """The same, for a file whose digest is not known: what comes before ``offset`` counts for that only."""
        digest = hashlib.sha256()
        position = 0

        def read() -> bytes:
            data = stream.read(min(self._chunk, offset - position) if position < offset else self._chunk)
            digest.update(data)
            return data

        while data := await _in_thread(read):
            position += len(data)
            if position > offset:
                await self._room()
                self._put(data)
        return digest.hexdigest()


def _cached(file: int, offset: int, size: int) -> bytes | None:
    """Read what the system has in memory, without waiting for the disk; None if that is not all of it.

    A thread for each megabyte would take as long as to read it.
    """
    data = bytearray(size)
    try:
        return bytes(data) if os.preadv(file, [data], offset, os.RWF_NOWAIT) == size else None
    except OSError:  # EAGAIN, or a file system that cannot say
        return None


async def _in_thread(work: Callable[[], T]) -> T:
    """A thread's work is not given up, but what follows upon it is: the request may have ended meanwhile."""
    result = await trio.to_thread.run_sync(work)
    await trio.lowlevel.checkpoint_if_cancelled()
    return result
