"""The end of connections: what all transports share, and how to find out whether a peer has disconnected."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import trio

from creemson.server.transport.tls import TLSStream

__all__ = ["LINGER", "MIN_WAIT", "Closed", "Draining", "is_reset", "keep_alive"]

MIN_WAIT = 0.1
"""Minimum seconds that a write takes to count as a sign of life: then it has waited until the peer read something."""
LINGER = 2.0
"""Seconds in which a peer can read the last bytes and close its side. What it sends meanwhile is discarded."""
TCP_CLOSE = 7
"""The state of a connection that was reset, in ``TCP_INFO`` (include/net/tcp_states.h)."""
KEEP_ALIVE_SECONDS = 10
"""Seconds between two probes of TCP."""


class Closed(Exception):  # noqa: N818 - a state, not always an error
    """The connection is closed.

    Attributes:
        code: the close code; 1006 if there was no close frame.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(f"{code} {reason or ''}".rstrip())
        self.code = code


class Draining:
    """Whether the server is shutting down; calls those who want to know, so that none needs a task that waits."""

    def __init__(self) -> None:
        self._is_set = False
        self._calls: set[Callable[[], None]] = set()

    def is_set(self) -> bool:
        """Whether the server is shutting down."""
        return self._is_set

    def set(self) -> None:
        """Note that the server is shutting down, and make the calls of :meth:`calling`."""
        self._is_set = True
        for call in tuple(self._calls):
            call()

    @contextlib.contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Within this context, call a function once the server is shutting down; at once if it already is."""
        self._calls.add(call)
        try:
            if self._is_set:
                call()
            yield
        finally:
            self._calls.discard(call)


def is_reset(stream: trio.abc.Stream) -> bool:
    """Whether the connection has been reset. A stream that is no socket reports that by an exception when sending.

    A peer that has disconnected looks like one that has closed its sending side only, until something is sent to it.
    Then it answers with a reset.
    """
    sock = _socket_of(stream)
    if sock is None:
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
    except OSError:  # not TCP, or closed
        return sock.fileno() < 0


def keep_alive(stream: trio.abc.Stream) -> None:
    """Let TCP probe the peer: one that has disconnected resets the connection once its system has forgotten it."""
    sock = _socket_of(stream)
    if sock is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_SECONDS)
    except OSError:  # not TCP, or closed
        return


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    if isinstance(stream, TLSStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None
