"""Bytes of a connection, read and written without a detour through the scheduler where nothing has to wait.

trio's streams pass through the scheduler with every call, so that each is fair and can be cancelled. A short
answer costs the server 20 µs so; here it takes one system call. What waits here, waits as in trio.
"""

import os
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

__all__ = ["Pipe", "pipe_over"]

PIECE = 64 * 1024
"""Bytes for which a peer has its time; a longer message takes longer."""
T = TypeVar("T")
U = TypeVar("U")


class Pipe(Protocol):
    """The byte level of a connection; its errors are those of trio's streams.

    Attributes:
        immediate: whether :meth:`post` ever takes anything.
    """

    immediate: bool

    def post(self, data: bytes | memoryview) -> int:
        """Write without waiting; returns how many bytes were taken."""

    async def write(self, data: bytes, patience: float) -> float:
        """Write all.

        Args:
            data: the bytes.
            patience: seconds in which the peer has to take each :data:`PIECE` of them.

        Returns:
            Seconds for which it had to wait.

        Raises:
            trio.TooSlowError: the peer did not take them.
        """

    async def read(self, limit: int) -> bytes | bytearray:
        """Read what there is, up to ``limit`` bytes, but wait for some; none at the end."""

    async def read_into(self, room: memoryview) -> int:
        """The same, into memory; returns how many bytes."""


class SocketPipe:
    """A TCP connection.

    Args:
        stream: whose socket is used. It is closed by its owner.
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

    async def write(self, data: bytes, patience: float) -> float:
        """See :class:`Pipe`."""
        rest, taken = memoryview(data), self.post(data)
        if taken == len(data):
            return 0.0
        began = since = trio.current_time()
        progress = 0
        while taken < len(rest):
            rest = rest[taken:]
            progress += taken
            if progress >= PIECE:
                progress, since = 0, trio.current_time()
            with trio.fail_at(since + patience):
                await trio.lowlevel.wait_writable(self._descriptor())
            taken = self.post(rest)
        return trio.current_time() - began

    async def read(self, limit: int) -> bytes:
        """See :class:`Pipe`."""
        return await self._when_readable(os.read, limit)

    async def read_into(self, room: memoryview) -> int:
        """See :class:`Pipe`."""
        return await self._when_readable(os.readv, [room])

    async def _when_readable(self, read: Callable[[int, T], U], where: T) -> U:
        while True:
            await trio.lowlevel.wait_readable(self._descriptor())
            try:
                return read(self._descriptor(), where)
            except BlockingIOError:  # woken for nothing: see select(2)
                continue
            except OSError:
                raise trio.BrokenResourceError from None

    def _descriptor(self) -> int:
        """Asked for each time, since the one of a closed socket may be another's by now."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError
        return descriptor


class StreamPipe:
    """Any other stream: TLS, or one of memory in tests."""

    immediate = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    def post(self, data: bytes | memoryview) -> int:  # noqa: ARG002 - the interface's
        """See :class:`Pipe`; nothing is ever taken so."""
        return 0

    async def write(self, data: bytes, patience: float) -> float:
        """See :class:`Pipe`."""
        began = trio.current_time()
        for start in range(0, len(data), PIECE):
            with trio.fail_after(patience):
                await self._stream.send_all(memoryview(data)[start : start + PIECE])
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
    """The quickest one for a stream."""
    return SocketPipe(stream) if isinstance(stream, trio.SocketStream) else StreamPipe(stream)
