"""Bytes of a connection, read and written without a detour through the scheduler where nothing has to wait.

trio's streams pass through the scheduler with every call, so that each is fair and can be cancelled. A short
answer costs the server 20 µs so; here it takes one system call. What waits here, waits as in trio.
"""

import os
from typing import Protocol

import trio

__all__ = ["Pipe", "pipe_over"]


class Pipe(Protocol):
    """The byte level of a connection; its errors are those of trio's streams.

    Attributes:
        immediate: whether :meth:`post` ever takes anything.
    """

    immediate: bool

    def post(self, data: bytes | memoryview) -> int:
        """Write without waiting; returns how many bytes were taken."""

    async def write(self, data: bytes | memoryview) -> None:
        """Write all."""

    async def read(self, limit: int) -> bytes | bytearray:
        """Read what there is, up to ``limit`` bytes, but wait for some; none at the end."""


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

    async def write(self, data: bytes | memoryview) -> None:
        """See :class:`Pipe`."""
        rest = memoryview(data)
        while True:
            rest = rest[self.post(rest) :]
            if not rest:
                return
            await trio.lowlevel.wait_writable(self._descriptor())

    async def read(self, limit: int) -> bytes:
        """See :class:`Pipe`."""
        while True:
            await trio.lowlevel.wait_readable(self._descriptor())
            try:
                return os.read(self._descriptor(), limit)
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

    async def write(self, data: bytes | memoryview) -> None:
        """See :class:`Pipe`."""
        await self._stream.send_all(data)

    async def read(self, limit: int) -> bytes | bytearray:
        """See :class:`Pipe`."""
        return await self._stream.receive_some(limit)


def pipe_over(stream: trio.abc.Stream) -> Pipe:
    """The quickest one for a stream."""
    return SocketPipe(stream) if isinstance(stream, trio.SocketStream) else StreamPipe(stream)
