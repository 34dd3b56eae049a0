"""Sends the downloads of one connection: one after the other, and no faster than the peer reads.

    FileReady ──> found() ──> run(): Protocol.download_started(), the bytes, Protocol.downloaded()

A download that was cancelled may still be running when the next one is found; the next one waits.
"""

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, ProcessingError, disk_error
from creemson.server.connection.effects import Effect
from creemson.server.connection.protocol import Protocol
from creemson.storage.store import OpenFile, Store, Stream

__all__ = ["Downloads"]

CHUNK = 1024 * 1024
"""Maximum bytes of a binary frame."""

T = TypeVar("T")


class Downloads:
    """Sends files.

    Args:
        protocol: protocol of the connection.
        store: returns the caller's store.
        put: sends a piece of a file; returns the number of the batch that it belongs to.
        room: waits until the outbox has room for a piece, and a batch has been sent.
        perform: carries out effects.
        max_frame: maximum bytes of a binary frame; if it is larger, ``CHUNK`` applies.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        protocol: Protocol,
        store: Callable[[], Store],
        put: Callable[[bytes | memoryview], int],
        room: Callable[[int], Awaitable[None]],
        perform: Callable[[Sequence[Effect]], None],
        max_frame: int,
        logger: FilteringBoundLogger,
    ) -> None:
        self._protocol = protocol
        self._store = store
        self._put = put
        self._room = room
        self._perform = perform
        self._chunk = min(CHUNK, max_frame)
        self._log = logger
        self._files: list[tuple[int, Path]] = []  # requests and their files, not started
        self._running = False  # whether run() runs
        self._current: int | None = None  # request of the current download
        self._scope = trio.CancelScope()  # around the current download

    def found(self, request: int, path: Path) -> bool:
        """Queue a file that the processor has found.

        Returns:
            Whether the caller must start :meth:`run`.
        """
        self._files.append((request, path))
        idle, self._running = not self._running, True
        return idle

    def stop(self, request: int) -> None:
        """Stop sending a download that was cancelled."""
        if self._current == request:
            self._scope.cancel()

    async def run(self) -> None:
        """Send the files that were found, until none is left."""
        while self._files:
            request, path = self._files.pop(0)
            offset = self._protocol.download_offset(request)
            if offset is None:  # cancelled while it was queued
                continue
            self._current = request
            with trio.CancelScope() as self._scope:
                await self._send(request, path, offset)
            self._current = None
        self._running = False

    async def _send(self, request: int, path: Path, offset: int) -> None:
        try:
            file, digest = await trio.to_thread.run_sync(self._open, path)
            with file.stream:
                effects = await self._send_file(request, file, digest, offset)
        except CreemsonError as error:
            await trio.lowlevel.checkpoint_if_cancelled()
            effects = self._protocol.fail(request, error)
        except OSError as error:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._log.error("download failed", error=str(error))
            effects = self._protocol.fail(request, disk_error(error))
        self._perform(effects)

    def _open(self, path: Path) -> tuple[OpenFile, str | None]:
        """Open a file, and look up its digest."""
        store = self._store()
        file = store.open(path)
        return file, store.digest(file.path, file.version)

    async def _send_file(self, request: int, file: OpenFile, digest: str | None, offset: int) -> list[Effect]:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._perform(self._protocol.download_started(request, size=file.size, sha256=digest))
        if digest is not None:
            await self._send_bytes(file.stream, offset, file.size)
        else:
            sha256 = digest = await self._send_digesting(file.stream, offset, file.size)
            await _in_thread(lambda: self._store().record_digest(file.path, file.version, sha256))
        return self._protocol.downloaded(request, size=file.size, sha256=digest)

    async def _send_bytes(self, stream: Stream, offset: int, size: int) -> None:
        """Send the bytes from ``offset`` on.

        Two pieces of memory take turns: one is filled while the other is being sent. Memory of its own for each piece
        would be given back to the system and provided by it again each time, which took longer than reading.
        """
        count = 2 if size - offset > self._chunk else 1
        rooms = [memoryview(bytearray(min(self._chunk, size - offset))) for _ in range(count)]
        batches = [0] * count  # in which each of them was sent
        turns = itertools.cycle(range(count))
        while offset < size:
            turn = next(turns)
            length = min(self._chunk, size - offset)
            await self._room(batches[turn])
            data: bytes | memoryview = rooms[turn][: stream.ready(offset, rooms[turn][:length])]
            if not data:
                data = await _in_thread(partial(stream.read_at, offset, length))
                if not data:
                    raise _became_shorter()
            offset += len(data)
            batches[turn] = self._put(data)

    async def _send_digesting(self, stream: Stream, offset: int, size: int) -> str:
        """Send a file whose digest is unknown; the bytes before ``offset`` are read for the digest only."""
        digest = hashlib.sha256()
        position = 0

        def read() -> bytes:
            length = min(self._chunk, (offset if position < offset else size) - position)
            data = stream.read_at(position, length)
            digest.update(data)
            return data

        while position < size:
            data = await _in_thread(read)
            if not data:
                raise _became_shorter()
            position += len(data)
            if position > offset:
                await self._room(0)
                self._put(data)
        return digest.hexdigest()


def _became_shorter() -> ProcessingError:
    return ProcessingError(
        "file_changed", "The file became shorter while it was sent: somebody changes it by hand. Ask again."
    )


async def _in_thread(work: Callable[[], T]) -> T:
    """Call ``work`` in a thread; if this was cancelled meanwhile, raise Cancelled instead of returning."""
    result = await trio.to_thread.run_sync(work)
    await trio.lowlevel.checkpoint_if_cancelled()
    return result
