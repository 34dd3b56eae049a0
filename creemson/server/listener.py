"""The listening socket: each TCP connection speaks HTTP or becomes a connection actor, isolated from all others."""

import contextlib
import resource
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import trio
from structlog.typing import FilteringBoundLogger
from trio_websocket import ConnectionClosed

from creemson.errors import CloseCode
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import Identity
from creemson.server.auth.origins import Refusal
from creemson.server.auth.rate_limit import TokenBucket
from creemson.server.connection.connection import Connection
from creemson.server.handshake import Handshake
from creemson.server.http.middleware import limited, rate_limit
from creemson.server.http.refusals import describe_refusal, unparsed_refusal
from creemson.server.http.responses import refusal
from creemson.server.port import Port
from creemson.server.refusals import Refusals
from creemson.server.transport import http1
from creemson.server.transport.asgi import ASGIApp
from creemson.server.transport.closing import Closed, Draining
from creemson.server.transport.plain import ServerSocket
from creemson.server.transport.tls import Certificate, encrypt
from creemson.server.transport.websocket import WebSocket
from creemson.settings.sections import Settings
from creemson.storage.handles import connection_share

__all__ = ["Listener", "Socket"]

Socket: TypeAlias = WebSocket | ServerSocket

RECHECK_INTERVAL = 0.5
"""Seconds between two checks whether connected callers are still authorized."""
NO_FILE_HANDLES = unparsed_refusal("The server has too many open connections. Try again later.")
"""Response to a connection if all handles that connections may have are in use."""


class Listener:
    """Accepts connections; answers HTTP, and runs a connection actor for each WebSocket.

    Args:
        settings: effective settings.
        connect: makes the actor of an accepted WebSocket from the socket, the peer's address and its identity.
        app: answers HTTP requests.
        callers: authenticates callers and counts their connections.
        certificate: certificate for TLS; None disables TLS.
        draining: set by :meth:`stop`.
        refusals: counts and logs refusals.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        connect: Callable[[Socket, str, Identity | None], Connection],
        app: ASGIApp,
        callers: Callers,
        certificate: Certificate | None = None,
        draining: Draining,
        refusals: Refusals,
        logger: FilteringBoundLogger,
    ) -> None:
        self._refusals = refusals
        self._settings = settings
        self._connect = connect
        self._callers = callers
        self._certificate = certificate
        self._handshake = Handshake(settings, callers, draining)
        self._log = logger
        self._port = Port(settings.server.host, settings.server.port, is_shared=settings.server.reuse_port)
        self._app = app
        self._draining = draining
        self._connections: set[Connection] = set()
        self._from_address: Counter[str] = Counter()  # open TCP connections by address
        self._streams = 0  # open TCP connections
        self._max_streams = connection_share(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    async def open(self) -> int:
        """Bind the address, without accepting connections yet.

        Returns:
            The port.

        Raises:
            OSError: the address cannot be bound.
        """
        return await self._port.open()

    def unbind(self) -> None:
        """Give the address back, also if no connection was accepted. Idempotent."""
        self._port.unbind()

    async def run(self) -> None:
        """Accept connections until :meth:`close`, and return when the last one has ended."""
        async with trio.open_nursery() as watching:
            if self._callers.guarded:
                watching.start_soon(self._recheck)
            async with trio.open_nursery() as handlers:
                await self._port.accept(self._serve, handlers)
            watching.cancel_scope.cancel()

    async def _recheck(self) -> None:
        while True:
            await trio.sleep(RECHECK_INTERVAL)
            self._callers.recheck()
            for connection in self._connections:
                connection.recheck()

    def stop(self) -> None:
        """Start draining: refuse new WebSockets and new work; HTTP reports the server as not ready.

        On a shared port, new connections go to the other servers from now on.
        """
        self._draining.set()
        if self._settings.server.reuse_port:
            self._port.close()
        for connection in self._connections:
            connection.drain()

    def close(self, code: CloseCode, reason: str) -> None:
        """Stop accepting connections, and close the open ones."""
        self._port.close()
        for connection in self._connections:
            connection.close(code, reason)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    @property
    def unsent(self) -> int:
        """Unsent bytes of all connections."""
        return sum(connection.unsent for connection in self._connections)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Serve one TCP connection; its exceptions are logged and never reach the server."""
        try:
            address, port = stream.socket.getpeername()[:2]
        except OSError:  # the peer has already disconnected
            await stream.aclose()
            return
        if self._streams >= self._max_streams:  # at once: waiting for the request would hold the handle
            self._refusals.note(503, f"{address}:{port}", why="too few file handles (ulimit -n)")
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_all(NO_FILE_HANDLES)
            await trio.aclose_forcefully(stream)
            return
        self._streams += 1
        self._from_address[address] += 1
        try:
            peer, others = f"{address}:{port}", self._from_address[address] - 1
            if self._certificate is None:
                await self.serve_stream(stream, peer, from_address=others)
            else:
                await self._serve_encrypted(stream, self._certificate, peer, others)
        except Exception:
            self._log.exception("connection failed unexpectedly", peer=f"{address}:{port}")
        finally:
            self._streams -= 1
            self._from_address[address] -= 1
            if not self._from_address[address]:
                del self._from_address[address]

    async def _serve_encrypted(
        self, stream: trio.SocketStream, certificate: Certificate, peer: str, from_address: int
    ) -> None:
        encrypted: trio.abc.Stream | None = None
        async with stream:
            with trio.move_on_after(self._settings.timeouts.handshake) as handshake:
                try:
                    encrypted = await encrypt(stream, certificate.context)
                except trio.BrokenResourceError as error:
                    self._refusals.note(400, peer, why=f"no TLS: {error.__cause__ or error}")
            if handshake.cancelled_caught:
                self._refusals.note(408, peer, why="the TLS handshake took too long")
            elif encrypted is not None:
                await self.serve_stream(encrypted, peer, from_address=from_address)

    async def serve_stream(self, stream: trio.abc.Stream, peer: str, *, from_address: int = 0) -> None:
        """Serve one connection over any byte stream.

        Args:
            stream: the byte stream; closed at the end.
            peer: name of the peer in logs.
            from_address: number of other connections from the same address.
        """
        async with stream:
            socket = await self._upgraded(stream, peer, from_address)
            if socket is not None:
                await socket.serve(partial(self._serve_socket, socket, peer, from_address))

    async def _upgraded(self, stream: trio.abc.Stream, peer: str, from_address: int) -> Socket | None:
        """Serve the HTTP requests of a connection; return its WebSocket if it asks for one.

        Nothing of the request is kept while the WebSocket is idle.
        """
        settings = self._settings
        limits = settings.limits
        refuse = rate_limit(TokenBucket(limits.messages_per_s, limits.messages_burst))
        if from_address >= limits.connections_per_address:
            why = f"There are {from_address} connections from your address already. Close some."
            self._refusals.note(429, peer, why=why)
            refuse = partial(refusal, 429, why)
        upgrade = await http1.serve(
            stream,
            limited(self._app, refuse),
            timeouts=settings.timeouts,
            # A client that connects while the server drains may still ask for its state: /readyz, /metrics.
            draining=Draining() if self._draining.is_set() else self._draining,
            on_refusal=self._refusals.count,
            describe=partial(describe_refusal, settings.server.allowed_origins),
            logger=self._log.bind(peer=peer),
        )
        if upgrade is None:
            return None
        kind = WebSocket if settings.server.transport == "fast" else ServerSocket
        return kind(
            stream,
            upgrade,
            message_bytes=limits.message_bytes,
            chunk_bytes=limits.chunk_bytes,
            send_timeout=settings.timeouts.send,
        )

    async def _serve_socket(self, socket: Socket, peer: str, from_address: int) -> None:
        connection = await self._shake_hands(socket, peer, from_address)
        if connection is not None:
            await self._run(socket, connection, peer)

    async def _shake_hands(self, socket: Socket, peer: str, from_address: int) -> Connection | None:
        outcome: Identity | Refusal | None = None
        try:
            with trio.move_on_after(self._settings.timeouts.handshake) as handshake:
                outcome = await self._handshake.answer(
                    await socket.request(),
                    socket.host,
                    connections=len(self._connections),
                    from_address=from_address,
                )
        except (Closed, ConnectionClosed):  # the peer disconnected during the handshake
            return None
        if handshake.cancelled_caught:
            self._refusals.note(408, peer, why="the handshake took too long")
            return None
        if isinstance(outcome, Refusal):
            self._refusals.note(outcome.status, peer, why=outcome.message)
            return None
        return self._connect(socket, peer, outcome)

    async def _run(self, socket: Socket, connection: Connection, peer: str) -> None:
        self._connections.add(connection)
        try:
            await connection.run()
        except Exception:
            self._log.exception("connection failed unexpectedly", peer=peer, connection=connection.state.id)
            await socket.close(CloseCode.INTERNAL, "internal error, which was logged")
        finally:
            self._connections.discard(connection)
