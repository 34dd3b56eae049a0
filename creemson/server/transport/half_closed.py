"""A peer that has closed its sending side: finds out whether it still reads, or has disconnected.

Both look the same on the network until something is sent: a peer that has disconnected answers with a reset.
"""

import socket

import trio

from creemson.server.transport.tls import TLSStream

__all__ = ["is_reset", "keep_alive"]

TCP_CLOSE = 7
"""The state of a connection that was reset, in ``TCP_INFO`` (include/net/tcp_states.h)."""
KEEP_ALIVE_SECONDS = 10
"""Seconds between two probes of TCP."""


def is_reset(stream: trio.abc.Stream) -> bool:
    """Whether the connection has been reset. A stream that is no socket reports that by an exception when sending."""
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
