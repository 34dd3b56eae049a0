"""The WebSocket handshake: decides whether an upgrade request is accepted, and which caller sent it."""

from trio_websocket import WebSocketRequest

from creemson.errors import REASONS, CreemsonError, shutting_down
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import Identity, bearer
from creemson.server.auth.origins import Refusal, refusal_for
from creemson.server.transport.closing import Draining
from creemson.settings.checks import is_loopback
from creemson.settings.sections import Settings
from creemson.wire.messages import SUBPROTOCOL

__all__ = ["Handshake"]

PATH = "/ws"
"""The path of WebSocket connections."""


class Handshake:
    """Decides on upgrade requests, and answers them.

    Args:
        settings: effective settings.
        callers: authenticates callers and counts their connections.
        draining: set once the server is shutting down.
    """

    def __init__(self, settings: Settings, callers: Callers, draining: Draining) -> None:
        self._settings = settings
        self._callers = callers
        self._draining = draining
        self._dns_rebinding_possible = is_loopback(settings.server.host) and not callers.guarded

    async def answer(
        self, request: WebSocketRequest, host: str, *, connections: int, from_address: int
    ) -> Identity | Refusal | None:
        """Accept or refuse an upgrade request.

        Args:
            request: the request.
            host: its `Host` header.
            connections: number of open connections.
            from_address: number of other connections from the same address.

        Returns:
            The refusal that was sent; or the identity that the handshake proves; or None if the connection is
            accepted but the caller is still unknown (or need not authenticate).

        Raises:
            trio_websocket.ConnectionClosed, Closed: the peer disconnected.
        """
        outcome = self._refusal(request, host, connections, from_address) or self._identity(request)
        if isinstance(outcome, Refusal):
            body = f"{outcome.message}\n".encode()
            await request.reject(outcome.status, extra_headers=outcome.headers, body=body)
        else:
            subprotocol = SUBPROTOCOL if SUBPROTOCOL in request.proposed_subprotocols else None
            await request.accept(subprotocol=subprotocol)
        return outcome

    def _refusal(
        self, request: WebSocketRequest, host: str, connections: int, from_address: int
    ) -> Refusal | None:
        if request.path.partition("?")[0] != PATH:
            return Refusal(404, f"WebSocket connections are served at {PATH}.")
        if self._draining.is_set():
            return Refusal(503, shutting_down().message)
        headers = {name.lower(): value.decode("latin-1") for name, value in request.headers}
        return refusal_for(
            headers.get(b"origin"),
            host,
            allowed_origins=self._settings.server.allowed_origins,
            limits=self._settings.limits,
            connections=connections,
            from_address=from_address,
            dns_rebinding_possible=self._dns_rebinding_possible,
        )

    def _identity(self, request: WebSocketRequest) -> Identity | Refusal | None:
        """Return the identity from the `Authorization` header; without one, `hello` must prove it."""
        values = [value for name, value in request.headers if name.lower() == b"authorization"]
        if not self._callers.guarded or not values:
            return None
        try:
            identity = self._callers.identify(bearer(b", ".join(values).decode("latin-1")))
            self._callers.check(identity)
        except CreemsonError as error:
            return Refusal(REASONS[error.reason].status, error.message)
        return identity
