"""Reads and writes the bytes of a connection, without a pass through the scheduler if a call need not wait.

trio's streams pass through the scheduler with every call, so that each call is fair and can be cancelled. This takes
20 µs for a short response; a pipe needs one system call. A call that has to wait uses trio as usual.
"""

import os
import socket
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["Pipe", "pipe_over"]

PIECE_BYTES = 64 * 1024
"""Bytes of each piece of a message; the peer has the same time for each piece."""
LOW_MARK = 16 * 1024
"""Unsent bytes above which the kernel takes no more, as trio sets it (``TCP_NOTSENT_LOWAT``)."""
HIGH_MARK = 2 * 1024 * 1024
"""The same for a connection that is sent more than that. The kernel takes more once half of it is sent: then a chunk of
a download fits, which takes one write and one pass through the scheduler, not four or five."""
LOOKS = 8
"""How often the kernel is asked, in the time that a peer has for a piece, what the peer has taken."""
FIRST_LOOK = 0.01
"""Seconds until the first look of a call that only waits for that; each further one takes twice as long to come."""

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

    async def drain(self, patience: float) -> float:
        """Wait until the peer has taken what was written, except for about :data:`LOW_MARK` bytes.

        Without it, a slow peer would get what is written next long after :meth:`write` has returned.

        Args:
            patience: as for :meth:`write`.

        Returns:
            Seconds that the call waited.

        Raises:
            trio.TooSlowError: the peer did not take a piece in time.
        """

    async def read(self, limit: int) -> bytes | bytearray:
        """Wait for bytes and return up to ``limit`` of them; empty at the end of the stream."""

    async def read_into(self, room: memoryview) -> int:
        """Wait for bytes and read them into ``room``; return their number, 0 at the end of the stream."""


class Pace:
    """Whether a peer is fast enough: it must take :data:`PIECE_BYTES` in each ``patience`` seconds.

    Args:
        taken: bytes that it has taken so far.
        patience: the seconds.
    """

    def __init__(self, taken: int, patience: float) -> None:
        self._taken = taken
        self._patience = patience
        self.began = trio.current_time()
        self._deadline = self.began + patience

    @property
    def next_look(self) -> float:
        """When to look again at what the peer has taken."""
        return min(self._deadline, trio.current_time() + self._patience / LOOKS)

    def check(self, taken: int) -> None:
        """Look at what the peer has taken so far.

        Raises:
            trio.TooSlowError: too little in the last ``patience`` seconds.
        """
        now = trio.current_time()
        if taken - self._taken >= PIECE_BYTES:
            self._taken, self._deadline = taken, now + self._patience
        elif now >= self._deadline:
            raise trio.TooSlowError


class SocketPipe:
    """A TCP connection.

    What the kernel accepts is what the peer takes, up to the :data:`LOW_MARK`. Above the :data:`HIGH_MARK`, the kernel
    accepts nothing for a long time and then much at once, so it is asked what the peer has taken (``SIOCOUTQ``).

    Args:
        stream: the stream whose socket is used. The caller must close it.
        bulk: whether the mark may be raised, on systems that can be asked.
    """

    immediate = True

    def __init__(self, stream: trio.SocketStream, *, bulk: bool) -> None:
        self._socket = stream.socket
        self._may_raise = bulk and sys.platform == "linux"
        self._raised = False
        self._written = 0  # bytes

    def post(self, data: bytes | memoryview) -> int:
        """See :class:`Pipe`."""
        try:
            count = os.write(self._descriptor(), data)
        except BlockingIOError:
            return 0
        except OSError:
            raise trio.BrokenResourceError from None
        self._written += count
        return count

    async def write(self, data: bytes | memoryview, patience: float) -> float:
        """See :class:`Pipe`."""
        count = self.post(data)
        if count == len(data):
            return 0.0
        if self._may_raise:
            self._raise_mark()
        rest = memoryview(data)[count:]
        pace = Pace(self._taken(), patience)
        while True:
            with trio.move_on_at(pace.next_look):
                await trio.lowlevel.wait_writable(self._descriptor())
            rest = rest[self.post(rest) :]
            if not rest:
                return trio.current_time() - pace.began
            pace.check(self._taken())

    async def drain(self, patience: float) -> float:
        """See :class:`Pipe`."""
        if not self._raised:
            return 0.0
        enough = self._written - LOW_MARK
        pace = Pace(self._taken(), patience)
        pause = FIRST_LOOK
        while (taken := self._taken()) < enough:
            pace.check(taken)
            await trio.sleep_until(min(pace.next_look, trio.current_time() + pause))
            pause *= 2
        return trio.current_time() - pace.began

    def _raise_mark(self) -> None:
        """Let the kernel take more at once, if it tells what the peer has taken."""
        self._may_raise = False
        try:
            self._queued()
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, HIGH_MARK)
        except OSError:  # not the kernel of Linux, but something that behaves like it
            return
        self._raised = True

    def _taken(self) -> int:
        """Return how many bytes the peer has taken; only the difference between two calls has a meaning."""
        try:
            return self._written - (self._queued() if self._raised else 0)
        except OSError:
            raise trio.BrokenResourceError from None

    def _queued(self) -> int:
        """Return how many bytes the kernel keeps because the peer has not acknowledged them (``SIOCOUTQ``, tcp(7))."""
        return int.from_bytes(fcntl.ioctl(self._descriptor(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)

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

    async def drain(self, patience: float) -> float:  # noqa: ARG002 - the interface of Pipe
        """See :class:`Pipe`; the low mark stays."""
        return 0.0

    async def read(self, limit: int) -> bytes | bytearray:
        """See :class:`Pipe`."""
        return await self._stream.receive_some(limit)

    async def read_into(self, room: memoryview) -> int:
        """See :class:`Pipe`."""
        data = await self._stream.receive_some(len(room))
        room[: len(data)] = data
        return len(data)


def pipe_over(stream: trio.abc.Stream, *, bulk: bool = False) -> Pipe:
    """Return the fastest pipe for a stream.

    Args:
        stream: the stream.
        bulk: whether the kernel may take much at once. The caller must call :meth:`Pipe.drain` before it expects an
            answer to what it has written.
    """
    return SocketPipe(stream, bulk=bulk) if isinstance(stream, trio.SocketStream) else StreamPipe(stream)
