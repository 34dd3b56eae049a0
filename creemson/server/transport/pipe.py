"""Reads and writes the bytes of a connection, without a pass through the scheduler if a call need not wait.

trio's streams pass through the scheduler with every call, so that each call is fair and can be cancelled. This takes
20 µs for a short response; a pipe needs one system call. A call that has to wait uses trio as usual.
"""

import os
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

__all__ = ["Pipe", "pipe_over"]

PIECE_BYTES = 64 * 1024
"""Bytes of each piece of a message; the peer has the same time for each piece."""

T = TypeVar("T")
U = TypeVar("U")


class Pipe(Protocol):
    """The byte level of a connection; raises the exceptions of trio's streams.

    Attributes:
        immediate: whether :meth:`post` can write anything.
    """

    immediate: bool

    def post(self, data: bytes | memoryview) -> int:
        """Write without waiting; returns the number of bytes written."""

    async def write(self, data: bytes | memoryview, patience: float) -> float:
        """Write all bytes.

        Args:
            data: the bytes.
            patience: seconds in which the peer must take each piece of :data:`PIECE_BYTES`.

        Returns:
            Seconds that the call waited.

        Raises:
            trio.TooSlowError: the peer did not take a piece in time.
        """

    async def read(self, limit: int) -> bytes | bytearray:
        """Wait for bytes and return up to ``limit`` of them; empty at the end of the stream."""

    async def read_into(self, room: memoryview) -> int:
        """Wait for bytes and read them into ``room``; return their number, 0 at the end of the stream."""


class SocketPipe:
    """A TCP connection.

    Args:
        stream: the stream whose socket is used. The caller must close it.
    """

    immediate = True

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket

    def post(self, data: bytes | memoryview) -> int:
        """See :class:`Pipe`."""
        try:
            return os.write(self._descriptor(), data)
        except BlockingIOError:
            return 0
        except OSError:
            raise trio.BrokenResourceError from None

    async def write(self, data: bytes | memoryview, patience: float) -> float:
        """See :class:`Pipe`."""
        rest, taken = memoryview(data), self.post(data)
        if taken == len(data):
            return 0.0
        began = since = trio.current_time()
        progress = 0
        while taken < len(rest):
            rest = rest[taken:]
            progress += taken
            if progress >= PIECE_BYTES:
                progress, since = 0, trio.current_time()
            with trio.fail_at(since + patience):
                await trio.lowlevel.wait_writable(self._descriptor())
            taken = self.post(rest)
        return trio.current_time() - began

    async def read(self, limit: int) -> bytes:
        """See :class:`Pipe`."""
        await trio.lowlevel.wait_readable(self._descriptor())
        return await self._read(os.read, limit)

    async def read_into(self, room: memoryview) -> int:
        """See :class:`Pipe`. Tries before it waits: the rest of a large message has often arrived already."""
        return await self._read(os.readv, [room])

    async def _read(self, read: Callable[[int, T], U], where: T) -> U:
        while True:
            try:
                return read(self._descriptor(), where)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._descriptor())
            except OSError:
                raise trio.BrokenResourceError from None

    def _descriptor(self) -> int:
        """Return the file descriptor. Not stored: after a close, the same number may belong to another file."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError
        return descriptor


class StreamPipe:
    """Any other stream: TLS, or an in-memory stream in tests."""

    immediate = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    def post(self, data: bytes | memoryview) -> int:  # noqa: ARG002 - the interface of Pipe
        """See :class:`Pipe`; writes nothing."""
        return 0

    async def write(self, data: bytes | memoryview, patience: float) -> float:
        """See :class:`Pipe`."""
        began = trio.current_time()
        for start in range(0, len(data), PIECE_BYTES):
            with trio.fail_after(patience):
                await self._stream.send_all(memoryview(data)[start : start + PIECE_BYTES])
        return trio.current_time() - began

    async def read(self, limit: int) -> bytes | bytearray:
        """See :class:`Pipe`."""
        return await self._stream.receive_some(limit)

    async def read_into(self, room: memoryview) -> int:
        """See :class:`Pipe`."""
        data = await self._stream.receive_some(len(room))
        room[: len(data)] = data
        return len(data)


def pipe_over(stream: trio.abc.Stream) -> Pipe:
    """Return the fastest pipe for a stream."""
    return SocketPipe(stream) if isinstance(stream, trio.SocketStream) else StreamPipe(stream)
