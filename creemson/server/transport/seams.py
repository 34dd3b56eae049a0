"""The private APIs of trio-websocket 0.12 and wsproto 1.3 that Creemson uses. No other module uses them.

Both libraries are pinned below their next minor version in `pyproject.toml`. Before a pin is raised,
`tests/server/transport/test_seams.py` shows which of these APIs have changed.

- trio-websocket has no public way to handle single events, or to send without closing on errors.
  :class:`HookedConnection` gives public names to what :mod:`creemson.server.transport.plain` overrides and calls.
- trio-websocket's `WebSocketRequest` calls private methods of its connection. :func:`upgrade_request` makes one that
  calls given functions, for :mod:`creemson.server.transport.websocket`.
- wsproto does not report whether it is between two messages. :func:`is_between_messages` does.

The client uses only public APIs.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import trio
from trio_websocket import WebSocketConnection, WebSocketRequest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, Request, TextMessage

__all__ = ["HookedConnection", "is_between_messages", "upgrade_request"]

Headers: TypeAlias = list[tuple[bytes, bytes]]
Accept: TypeAlias = Callable[[Request, str | None, Headers], Awaitable[None]]
"""Accepts an upgrade request, with the subprotocol and additional headers."""
Reject: TypeAlias = Callable[[int, Headers, bytes], Awaitable[None]]
"""Rejects an upgrade request, with the status, additional headers and the body."""


def is_between_messages(connection: Connection) -> bool:
    """Whether a wsproto connection is open and has consumed all bytes up to the end of a message."""
    if connection.state is not ConnectionState.OPEN:
        return False
    protocol = connection._proto
    decoder = protocol._frame_decoder
    return decoder.header is None and not len(decoder.buffer) and protocol._message_decoder.opcode is None


def upgrade_request(event: Request, *, accept: Accept, reject: Reject) -> WebSocketRequest:
    """Make trio-websocket's request object, which calls these functions."""
    return WebSocketRequest(_Responder(accept, reject), event)  # type: ignore[arg-type] # it uses only these two


@attrs.frozen(eq=False)
class _Responder:
    """The two methods of a connection that `WebSocketRequest` calls, as attributes."""

    _accept: Accept
    _reject: Reject


class HookedConnection(WebSocketConnection):
    """trio-websocket's server connection with public names for its hooks. The `on_…` methods may be overridden.

    Args:
        stream: the byte stream.
        max_message_size: maximum size of a message in characters or bytes.
        receive_buffer_size: maximum number of bytes per read.
    """

    def __init__(self, stream: trio.abc.Stream, *, max_message_size: int, receive_buffer_size: int) -> None:
        super().__init__(
            stream,
            WSConnection(ConnectionType.SERVER),
            max_message_size=max_message_size,
            receive_buffer_size=receive_buffer_size,
        )

    # --- for subclasses to call ----------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the WebSocket is open, and no close frame has been sent or received."""
        return self._wsproto.state is ConnectionState.OPEN

    @property
    def send_lock(self) -> trio.StrictFIFOLock:
        """Held while a frame is being sent."""
        return self._stream_lock

    @property
    def close_done(self) -> trio.Event:
        """Set once the closing handshake is over, or cannot take place."""
        return self._close_handshake

    async def run_reader(self) -> None:
        """Read and handle events until the connection ends."""
        await self._reader_task()

    def stop_reader(self) -> None:
        """Make :meth:`run_reader` return after the current event."""
        self._reader_running = False

    def encode(self, event: Event) -> bytes:
        """Return the bytes of an event.

        Raises:
            wsproto.utilities.LocalProtocolError: the event is not allowed in the current state.
        """
        return self._wsproto.send(event)

    def accepted(self, request: Request, subprotocol: str | None) -> None:
        """Note that the upgrade request has been accepted."""
        self._subprotocol = subprotocol
        self._path = request.target
        self._open_handshake.set()

    def join_last_parts(self, count: int) -> None:
        """Replace the last parts of the current message by a single one."""
        parts: list[Any] = self._message_parts
        parts[-count:] = [parts[-1][:0].join(parts[-count:])]

    async def end_messages(self) -> None:
        """End the queue of received messages."""
        await self._send_channel.aclose()

    async def mark_closed(self, code: int, reason: str | None) -> None:
        """Record why the connection is closed, and end the queue of received messages."""
        await self._close_web_socket(code, reason)

    async def close_stream(self) -> None:
        """Stop the reader and close the byte stream."""
        await self._close_stream()

    # --- hooks ---------------------------------------------------------------------------------------

    async def on_send(self, event: Event) -> None:
        """Send an event."""
        await super()._send(event)

    async def on_request(self, request: WebSocketRequest, event: Request) -> None:
        """Handle an upgrade request."""
        raise NotImplementedError

    async def on_accept(self, request: Request, subprotocol: str | None, headers: Headers) -> None:
        """Accept the upgrade request."""
        await super()._accept(request, subprotocol, headers)

    async def on_reject(self, status: int, headers: Headers, body: bytes) -> None:
        """Reject the upgrade request."""
        await super()._reject(status, headers, body)

    async def on_message_part(self, event: BytesMessage | TextMessage) -> None:
        """Handle a part of a message."""
        await super()._handle_message_event(event)

    async def on_ping(self, event: Ping) -> None:
        """Handle a ping."""
        await super()._handle_ping_event(event)

    async def on_pong(self, event: Pong) -> None:
        """Handle a pong."""
        await super()._handle_pong_event(event)

    async def on_close(self, event: CloseConnection) -> None:
        """Handle a close frame, or a violation of the protocol, which wsproto reports in the same way."""
        await super()._handle_close_connection_event(event)

    # --- what trio-websocket calls -------------------------------------------------------------------

    async def _send(self, event: Event) -> None:
        await self.on_send(event)

    async def _handle_request_event(self, event: Request) -> None:
        await self.on_request(WebSocketRequest(self, event), event)

    async def _accept(self, request: Request, subprotocol: str | None, extra_headers: Headers) -> None:
        await self.on_accept(request, subprotocol, extra_headers)

    async def _reject(self, status_code: int, headers: Headers, body: bytes) -> None:
        await self.on_reject(status_code, headers, body)

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        await self.on_message_part(event)

    async def _handle_ping_event(self, event: Ping) -> None:
        await self.on_ping(event)

    async def _handle_pong_event(self, event: Pong) -> None:
        await self.on_pong(event)

    async def _handle_close_connection_event(self, event: CloseConnection) -> None:
        await self.on_close(event)
