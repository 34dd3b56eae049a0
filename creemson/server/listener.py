"""The listening socket: each TCP connection speaks HTTP, or becomes a connection actor; none can hurt another."""

import contextlib
import resource
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import trio
from structlog.typing import FilteringBoundLogger
from trio_websocket import ConnectionClosed, WebSocketRequest

from creemson.errors import REASONS, CloseCode, CreemsonError
from creemson.metrics import Metrics
from creemson.server import http1
from creemson.server.access import Refusal, refusal_for
from creemson.server.answers import refusing
from creemson.server.bucket import Bucket
from creemson.server.connection import Connection
from creemson.server.fast import FastSocket
from creemson.server.gate import Gate
from creemson.server.http1 import ASGIApp
from creemson.server.identity import Identity, bearer
from creemson.server.middleware import Paced
from creemson.server.tls import Certificate, secured
from creemson.server.transport import Closed, ServerSocket
from creemson.settings import Settings, is_loopback
from creemson.wire.messages import SUBPROTOCOL

__all__ = ["Listener", "Socket"]

Socket: TypeAlias = FastSocket | ServerSocket

PATH = "/ws"
RECHECK_INTERVAL = 0.5
"""Seconds between two looks whether those who are connected may still be."""
RESERVED_FILES = 64
"""File handles that connections leave for files, workers and the catalog, so that those who are in can work."""
CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
)


class Listener:
    """Accepts connections; answers HTTP, and runs a connection actor for each WebSocket.

    Args:
        settings: in force.
        connect: makes the actor for an accepted WebSocket, given the peer's address, and what it has proved.
        app: answers what is no WebSocket.
        gate: lets callers in.
        certificate: for TLS; None speaks without.
        draining: set by :meth:`stop`.
        metrics: where those who are turned away are counted.
        logger: for what the operator should know.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        connect: Callable[[Socket, str, Identity | None], Connection],
        app: ASGIApp,
        gate: Gate,
        certificate: Certificate | None = None,
        draining: trio.Event,
        metrics: Metrics | None = None,
        logger: FilteringBoundLogger,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._settings = settings
        self._connect = connect
        self._gate = gate
        self._certificate = certificate
        self._may_be_rebound = is_loopback(settings.server.host) and not gate.guarded
        self._log = logger
        self._accepting = trio.CancelScope()
        self._app = app
        self._draining = draining
        self._listeners: list[trio.SocketListener] = []
        self._connections: set[Connection] = set()
        self._from_address: Counter[str] = Counter()
        self._streams = 0
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES

    async def open(self) -> int:
        """Listen on the address, without accepting anything yet.

        Returns:
            The port.

        Raises:
            OSError: the address cannot be listened on.
        """
        server = self._settings.server
        try:
            self._listeners = await trio.open_tcp_listeners(server.port, host=server.host)
        except OSError as error:
            where = f"Cannot listen on {server.host}, port {server.port}"
            raise OSError(error.errno, f"{where}: {error.strerror or error}") from error
        port: int = self._listeners[0].socket.getsockname()[1]
        return port

    async def run(self) -> None:
        """Accept connections until :meth:`close`, and go on until the last one has ended."""
        async with trio.open_nursery() as handlers, trio.open_nursery() as watching:
            if self._gate.guarded:
                watching.start_soon(self._recheck)
            with self._accepting:
                await trio.serve_listeners(self._serve, self._listeners, handler_nursery=handlers)
            watching.cancel_scope.cancel()

    async def _recheck(self) -> None:
        while True:
            await trio.sleep(RECHECK_INTERVAL)
            for connection in self._connections:
                connection.recheck()

    def stop(self) -> None:
        """Accept no more WebSockets, and let those that are open refuse new work; HTTP tells that it is so."""
        self._draining.set()
        for connection in self._connections:
            connection.drain()

    def close(self, code: CloseCode, reason: str) -> None:
        """Accept nothing more, and say goodbye to all peers."""
        self._accepting.cancel()
        for connection in self._connections:
            connection.close(code, reason)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return sum(connection.unsent for connection in self._connections)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """The edge of a connection: whatever happens beyond, the server lives."""
        try:
            address, port = stream.socket.getpeername()[:2]
        except OSError:  # it has gone already
            await stream.aclose()
            return
        if self._streams >= self._room:  # at once: to wait for a request would take a handle for as long
            self._refused(503, f"{address}:{port}", "too few file handles (ulimit -n)")
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_all(CROWDED)
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
                    encrypted = await secured(stream, certificate.context)
                except trio.BrokenResourceError as error:
                    self._refused(400, peer, f"no TLS: {error.__cause__ or error}")
            if handshake.cancelled_caught:
                self._refused(408, peer, "the TLS handshake took too long")
            elif encrypted is not None:
                await self.serve_stream(encrypted, peer, from_address=from_address)

    async def serve_stream(self, stream: trio.abc.Stream, peer: str, *, from_address: int = 0) -> None:
        """Serve one connection over any byte stream.

        Args:
            stream: closed in the end.
            peer: what to call the other side in logs.
            from_address: other connections from the same address.
        """
        settings = self._settings
        limits = settings.limits
        app: ASGIApp = Paced(self._app, Bucket(limits.messages_per_s, limits.messages_burst))
        if from_address >= limits.connections_per_address:
            why = f"There are {from_address} connections from your address already. Close some."
            self._refused(429, peer, why)
            app = refusing(429, why)
        async with stream:
            upgrade = await http1.serve(
                stream,
                app,
                timeouts=settings.timeouts,
                # Who comes now wants to know whether the server is ready, and is not idle yet.
                draining=trio.Event() if self._draining.is_set() else self._draining,
                on_refusal=self._count,
                logger=self._log.bind(peer=peer),
            )
            if upgrade is not None:
                await self._serve_socket(stream, upgrade, peer, from_address)

    async def _serve_socket(
        self, stream: trio.abc.Stream, upgrade: bytes, peer: str, from_address: int
    ) -> None:
        limits = self._settings.limits
        kind = FastSocket if self._settings.server.transport == "fast" else ServerSocket
        socket: Socket = kind(
            stream,
            upgrade,
            message_bytes=limits.message_bytes,
            chunk_bytes=limits.chunk_bytes,
            send_timeout=self._settings.timeouts.send,
        )

        async def work() -> None:
            with trio.move_on_after(self._settings.timeouts.handshake) as handshake:
                connection = await self._shake_hands(socket, peer, from_address)
            if handshake.cancelled_caught:
                self._refused(408, peer, "the handshake took too long")
            elif connection is not None:
                await self._run(socket, connection, peer)

        await socket.serve(work)

    async def _shake_hands(self, socket: Socket, peer: str, from_address: int) -> Connection | None:
        try:
            request = await socket.request()
            refusal = self._refusal(request, socket.host, from_address)
            identity: Identity | None = None
            if refusal is None:
                try:
                    identity = self._identify(request)
                except CreemsonError as error:
                    refusal = Refusal(REASONS[error.reason].status, error.message)
            if refusal is not None:
                self._refused(refusal.status, peer, refusal.message)
                await request.reject(
                    refusal.status, extra_headers=refusal.headers, body=f"{refusal.message}\n".encode()
                )
                return None
            await request.accept(subprotocol=_subprotocol(request))
        except (Closed, ConnectionClosed):  # it has gone in the middle of the handshake
            return None
        return self._connect(socket, peer, identity)

    def _refused(self, status: int, peer: str, why: str) -> None:
        """Every refusal is counted, and has its line in the log."""
        self._count(status)
        self._log.info("refused", peer=peer, status=status, why=why)

    def _count(self, status: int) -> None:
        self._metrics.refusals[str(status)] += 1

    def _identify(self, request: WebSocketRequest) -> Identity | None:
        """Who the peer is, where its handshake says so; others say it in `hello`."""
        given = [value for name, value in request.headers if name.lower() == b"authorization"]
        if not self._gate.guarded or not given:
            return None
        identity = self._gate.identify(bearer(b", ".join(given).decode("latin-1")))
        self._gate.check(identity)
        return identity

    def _refusal(self, request: WebSocketRequest, host: str, from_address: int) -> Refusal | None:
        if request.path.partition("?")[0] != PATH:
            return Refusal(404, f"WebSocket connections are served at {PATH}.")
        if self._draining.is_set():
            return Refusal(503, "The server is shutting down. Try again when it is back.")
        headers = {name.lower(): value.decode("latin-1") for name, value in request.headers}
        return refusal_for(
            headers.get(b"origin"),
            host,
            allowed_origins=self._settings.server.allowed_origins,
            limits=self._settings.limits,
            connections=len(self._connections),
            from_address=from_address,
            may_be_rebound=self._may_be_rebound,
        )

    async def _run(self, socket: Socket, connection: Connection, peer: str) -> None:
        self._connections.add(connection)
        try:
            await connection.run()
        except Exception:
            self._log.exception("connection failed unexpectedly", peer=peer, connection=connection.state.id)
            await socket.close(CloseCode.INTERNAL, "an error of the server's, which was logged")
        finally:
            self._connections.discard(connection)


def _subprotocol(request: WebSocketRequest) -> str | None:
    return SUBPROTOCOL if SUBPROTOCOL in request.proposed_subprotocols else None
