"""The listening socket: each TCP connection speaks HTTP, or becomes a connection actor; none can hurt another."""

from collections import Counter
from collections.abc import Callable

import trio
from structlog.typing import FilteringBoundLogger
from trio_websocket import WebSocketRequest

from creemson.errors import CloseCode
from creemson.server import http1
from creemson.server.access import Refusal, refusal_for
from creemson.server.answers import refusing
from creemson.server.connection import Connection
from creemson.server.http1 import ASGIApp
from creemson.server.transport import Closed, ServerSocket
from creemson.settings import Settings
from creemson.wire.messages import SUBPROTOCOL

__all__ = ["Listener"]

PATH = "/ws"


class Listener:
    """Accepts connections; answers HTTP, and runs a connection actor for each WebSocket.

    Args:
        settings: in force.
        connect: makes the actor for an accepted WebSocket, given the peer's address.
        app: answers what is no WebSocket.
        draining: set by :meth:`stop`.
        logger: for what the operator should know.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        connect: Callable[[ServerSocket, str], Connection],
        app: ASGIApp,
        draining: trio.Event,
        logger: FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._log = logger
        self._accepting = trio.CancelScope()
        self._app = app
        self._draining = draining
        self._listeners: list[trio.SocketListener] = []
        self._connections: set[Connection] = set()
        self._from_address: Counter[str] = Counter()

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
        async with trio.open_nursery() as handlers:
            with self._accepting:
                await trio.serve_listeners(self._serve, self._listeners, handler_nursery=handlers)

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

    async def _serve(self, stream: trio.SocketStream) -> None:
        """The edge of a connection: whatever happens beyond, the server lives."""
        try:
            address, port = stream.socket.getpeername()[:2]
        except OSError:  # it has gone already
            await stream.aclose()
            return
        self._from_address[address] += 1
        try:
            await self.serve_stream(stream, f"{address}:{port}", from_address=self._from_address[address] - 1)
        except Exception:
            self._log.exception("connection failed unexpectedly", peer=f"{address}:{port}")
        finally:
            self._from_address[address] -= 1
            if not self._from_address[address]:
                del self._from_address[address]

    async def serve_stream(self, stream: trio.abc.Stream, peer: str, *, from_address: int = 0) -> None:
        """Serve one connection over any byte stream.

        Args:
            stream: closed in the end.
            peer: what to call the other side in logs.
            from_address: other connections from the same address.
        """
        settings = self._settings
        too_many = from_address >= settings.limits.connections_per_address
        app = self._app
        if too_many:
            app = refusing(
                429, f"There are {from_address} connections from your address already. Close some."
            )
        async with stream:
            upgrade = await http1.serve(
                stream,
                app,
                timeouts=settings.timeouts,
                # Who comes now wants to know whether the server is ready, and is not idle yet.
                draining=trio.Event() if self._draining.is_set() else self._draining,
                logger=self._log.bind(peer=peer),
            )
            if upgrade is not None:
                await self._serve_socket(stream, upgrade, peer, from_address)

    async def _serve_socket(
        self, stream: trio.abc.Stream, upgrade: bytes, peer: str, from_address: int
    ) -> None:
        limits = self._settings.limits
        socket = ServerSocket(
            stream, upgrade, message_bytes=limits.message_bytes, chunk_bytes=limits.chunk_bytes
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.run)
            with trio.move_on_after(self._settings.timeouts.handshake) as handshake:
                accepted = await self._shake_hands(socket, peer, from_address)
            if handshake.cancelled_caught:
                self._log.info("the handshake took too long", peer=peer)
            elif accepted:
                await self._run(socket, peer)
            nursery.cancel_scope.cancel()

    async def _shake_hands(self, socket: ServerSocket, peer: str, from_address: int) -> bool:
        try:
            request = await socket.request()
            refusal = self._refusal(request, socket.host, from_address)
            if refusal is not None:
                self._log.info("refused", peer=peer, status=refusal.status, why=refusal.message)
                await request.reject(refusal.status, body=f"{refusal.message}\n".encode())
                return False
            await request.accept(subprotocol=_subprotocol(request))
        except Closed:
            return False
        return True

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
        )

    async def _run(self, socket: ServerSocket, peer: str) -> None:
        connection = self._connect(socket, peer)
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
