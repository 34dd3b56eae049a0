"""The port of a server: its listening sockets, which are closed without losing connections.

A connection exists for the client as soon as the kernel has answered it; it then waits until the server accepts it.
Closing the socket resets what waits there, and what the kernel is about to put there. A server that stops alone loses
little with that, because clients cannot connect anyway. But where several servers share a port, another one would have
served them.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import trio

__all__ = ["Port"]

BACKLOG = 0xFFFF  # the kernel reduces it to net.core.somaxconn
HANDSHAKE_TIME = 0.2
"""Seconds within which a TCP handshake that has begun ends: the time that its last segment takes."""
SO_ATTACH_FILTER = 26
"""Option of a socket (Linux, asm-generic/socket.h), which Python does not name."""
IGNORE_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # if that is SYN alone, which begins a connection:
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # otherwise accept it
)
"""Classic BPF for a listening socket, as code, jumps and operand: new connections are not answered, and those that have
begun are completed. Clients repeat the first segment after a second, and then reach another server on the port."""


class Port:
    """Listens on an address.

    Args:
        host: address or name; all addresses of a name are used whose family the kernel supports.
        port: number; 0 lets the operating system choose.
        is_shared: whether other servers of this machine may listen on the port at the same time (SO_REUSEPORT). The
            kernel spreads the connections over them.
    """

    def __init__(self, host: str, port: int, *, is_shared: bool) -> None:
        self._host = host
        self._port = port
        self._is_shared = is_shared
        self._sockets: list[socket.socket] = []
        self._accepting = trio.CancelScope()

    async def open(self) -> int:
        """Bind the address, without accepting connections yet.

        Returns:
            The port.

        Raises:
            OSError: the address cannot be bound.
        """
        try:
            found = await trio.socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self._listen([(family, address) for family, _, _, _, address in found])
        except OSError as error:
            self.unbind()
            where = f"Cannot listen on {self._host}, port {self._port}"
            hint = ""
            if error.errno == errno.EADDRINUSE:
                hint = (
                    ". Stop the program that uses the port, or choose another one with --port (server.port)."
                )
            raise OSError(error.errno, f"{where}: {error.strerror or error}{hint}") from error
        number: int = self._sockets[0].getsockname()[1]
        return number

    def _listen(self, addresses: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
        for family, address in addresses:
            # "localhost" often has an IPv6 address even if the kernel has no IPv6.
            if (sock := _supported_socket(family)) is None:
                continue
            self._sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # right after another server has ended
            if self._is_shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        if not self._sockets:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    def unbind(self) -> None:
        """Give the address back, also if no connection was accepted. Idempotent."""
        for sock in self._sockets:
            sock.close()

    async def accept(
        self, handler: Callable[[trio.SocketStream], Awaitable[None]], nursery: trio.Nursery
    ) -> None:
        """Accept connections until :meth:`close`, then those that wait, and give the address back.

        Args:
            handler: serves one connection, and closes it.
            nursery: runs the handlers.
        """
        # trio closes what it listens on when it is cancelled. The socket itself stays open with the other descriptor.
        listeners = [
            trio.SocketListener(trio.socket.from_stdlib_socket(sock.dup())) for sock in self._sockets
        ]
        with self._accepting:
            await trio.serve_listeners(handler, listeners, handler_nursery=nursery)
        if self._is_shared:
            for sock in self._sockets:
                _ignore_new_connections(sock)
            await trio.sleep(HANDSHAKE_TIME)
        for sock in self._sockets:
            for stream in _waiting(sock):
                nursery.start_soon(handler, stream)
        self.unbind()

    def close(self) -> None:
        """Stop accepting new connections. Idempotent."""
        self._accepting.cancel()


def _supported_socket(family: int) -> socket.socket | None:
    """Return a socket, or None if the kernel does not support the address family."""
    try:
        return socket.socket(family)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise


def _ignore_new_connections(sock: socket.socket) -> None:
    """Let the kernel not answer new connections of a listening socket."""
    program = b"".join(struct.pack("HBBI", *line) for line in IGNORE_NEW_CONNECTIONS)
    buffer = ctypes.create_string_buffer(program)
    # struct sock_fprog of linux/filter.h: the number of lines, and their address.
    given = struct.pack("HP", len(IGNORE_NEW_CONNECTIONS), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):  # not on this kernel: what arrives in the last moment is reset
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)


def _waiting(sock: socket.socket) -> Iterator[trio.SocketStream]:
    """Accept the connections that wait at a listening socket."""
    sock.setblocking(False)
    while True:
        try:
            accepted, _ = sock.accept()
        except ConnectionAbortedError:  # the client has gone
            continue
        except OSError:  # none is left, or no file handle for it
            return
        yield trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
