"""WebSocket messages over a byte stream: receive, send, close.

trio-websocket carries the messages and wsproto the frames. What is added here, because the protocol
promises it and they do not do it (trio-websocket 0.12, wsproto 1.3):

- a message over its limit is seen from the frame's header on, before its bytes arrive, and the peer
  can still be told why before the close frame (trio-websocket would close at once);
- a violation of RFC 6455 is answered with a close frame (section 7.1.7: "MUST _Fail the WebSocket
  Connection_", 1002 or 1007), then the rest of what arrives is discarded for a while, since closing a
  socket with unread bytes resets it, and a reset may overtake the close frame on its way;
- frames in the same segment as the upgrade request are delivered at once;
- what had come before a connection broke is delivered, also where a failed ``send`` is what shows the break
  (trio-websocket would close the reader's channel at once);
- any frame counts as a sign of life.
"""

import contextlib

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import LocalProtocolError

__all__ = ["Closed", "ServerSocket", "TooLarge"]

RECEIVE_BYTES = 256 * 1024
"""Bytes per read; trio-websocket's default of 4 KiB costs uploads a factor of 3.5."""
LINGER = 2.0
"""Seconds in which a peer can read why it is being closed, while what it sends is discarded."""
_NO_BITS = RsvBits(rsv1=False, rsv2=False, rsv3=False)


class Closed(Exception):  # noqa: N818 - a state, not always a fault
    """The connection is closed.

    Attributes:
        code: the close code; 1006 if there was no close frame.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(f"{code} {reason or ''}".rstrip())
        self.code = code


class TooLarge(Exception):  # noqa: N818 - what the message is
    """The peer sends a message over its limit. It can be answered, then the connection must be closed.

    Attributes:
        binary: whether it is a binary message.
        size: bytes announced so far.
        limit: bytes allowed.
    """

    def __init__(self, *, binary: bool, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes, allowed are {limit}")
        self.binary = binary
        self.size = size
        self.limit = limit


@attrs.define(slots=False)
class _SizeLimit(Extension):
    """A wsproto extension that is never offered: it only looks at the frame headers.

    wsproto calls it with each header before the payload has come (RFC 6455 section 5.2), and fails the
    connection with the reason that it returns.
    """

    text: int
    binary: int
    size: int = 0
    limit: int = 0
    exceeded: TooLarge | None = None
    name: str = "creemson-size-limit"
    _done: int = 0  # bytes of the message's frames that are complete
    _of_bytes: bool = False
    _counted: bool = False
    _within: bool = False

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def accept(self, offer: str) -> None:  # noqa: ARG002 - the interface's
        return None

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        opcode: Opcode,
        rsv: RsvBits,  # noqa: ARG002
        payload_length: int,
    ) -> CloseReason | RsvBits:
        self._counted = not opcode.iscontrol()
        if not self._counted or (opcode is Opcode.CONTINUATION and not self._within):
            return _NO_BITS  # in the second case, wsproto itself finds the fault
        if opcode is not Opcode.CONTINUATION:
            self._within = True
            self._done = 0
            self.limit = self.text if opcode is Opcode.TEXT else self.binary
            self._of_bytes = opcode is Opcode.BINARY
        # Not added up here: wsproto asks again when a segment has ended within the header's mask.
        self.size = self._done + payload_length
        if self.size > self.limit:
            self.exceeded = TooLarge(binary=self._of_bytes, size=self.size, limit=self.limit)
            return CloseReason.MESSAGE_TOO_BIG
        return _NO_BITS

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> None:  # noqa: ARG002
        if self._counted:
            self._done = self.size
            self._within = not fin


class _HeadFirst(trio.abc.ReceiveStream):
    """Delivers the upgrade request in one piece and alone; what came glued to it comes after it.

    wsproto 1.3 leaves bytes behind the request in h11's buffer for ever (its ``_accept`` does not pass
    ``trailing_data`` on).
    """

    def __init__(self, stream: trio.abc.Stream, received: bytes) -> None:
        self._stream = stream
        head, end, rest = received.partition(b"\r\n\r\n")
        self._received = [piece for piece in (head + end, rest) if piece]

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._received:
            await trio.lowlevel.checkpoint()
            return self._received.pop(0)
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ServerSocket(WebSocketConnection):
    """The server's end of one WebSocket connection.

    Args:
        stream: to talk over; :meth:`run` closes it in the end.
        received: the upgrade request, whole, and whatever has come behind it.
        message_bytes: limit of a text message.
        chunk_bytes: limit of a binary message.
    """

    def __init__(
        self, stream: trio.abc.Stream, received: bytes, *, message_bytes: int, chunk_bytes: int
    ) -> None:
        self._limit = _SizeLimit(text=message_bytes, binary=chunk_bytes)
        self._offered, self._offers = trio.open_memory_channel[WebSocketRequest](1)
        self._decided = trio.Event()
        self.host = ""
        self.last_activity = trio.current_time()
        super().__init__(
            trio.StapledStream(stream, _HeadFirst(stream, received)),
            WSConnection(ConnectionType.SERVER),
            # The limits above are stricter, and count before the bytes have come.
            max_message_size=message_bytes + chunk_bytes,
            receive_buffer_size=RECEIVE_BYTES,
        )

    # --- what the connection actor uses --------------------------------------------------------------

    async def run(self) -> None:
        """Read from the stream until the connection ends. Everything else needs this running."""
        async with self._offered:
            try:
                await self._reader_task()
            except UnicodeError:  # wsproto decodes the request's Host and target without a look at them
                await self._close_stream()
            except (
                ConnectionClosed
            ):  # the peer has gone before it could be told what was wrong with its request
                await self._close_stream()

    async def request(self) -> WebSocketRequest:
        """The upgrade request, to be accepted or rejected.

        Raises:
            Closed: the peer sent something else, or left.
        """
        try:
            return await self._offers.receive()
        except trio.EndOfChannel:
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "no upgrade request") from None

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            TooLarge: once, for a message over its limit.
            Closed: nothing more will come.
        """
        try:
            message = await self.get_message()
        except ConnectionClosed as closed:
            if self._limit.exceeded is not None:
                exceeded, self._limit.exceeded = self._limit.exceeded, None
                raise exceeded from None
            raise _closed(closed) from None
        return message

    async def send(self, message: str | bytes) -> None:
        """Send one message.

        Raises:
            Closed: it could not be sent.
        """
        try:
            await self.send_message(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and wait for the peer's, :data:`LINGER` seconds at the most."""
        with trio.move_on_after(LINGER):
            await self.aclose(code, reason)

    async def probe(self) -> None:
        """Send a WebSocket ping; its pong counts as a sign of life.

        Raises:
            Closed: it could not be sent.
        """
        try:
            await self._send(Ping())
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        except LocalProtocolError:  # the closing handshake has begun
            raise Closed(CloseReason.ABNORMAL_CLOSURE) from None

    async def _send(self, event: Event) -> None:
        data = self._wsproto.send(event)
        async with self._stream_lock:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The peer has gone; the reader comes to the end by itself, after what came before.
                raise ConnectionClosed(None) from None

    # --- what trio-websocket's reader calls ----------------------------------------------------------

    async def _handle_request_event(self, event: Request) -> None:
        self.host = event.host
        self._offered.send_nowait(WebSocketRequest(self, event))
        # Read on only after the answer, so that frames glued to the request find an open connection.
        await self._decided.wait()

    async def _accept(
        self, request: Request, subprotocol: str | None, extra_headers: list[tuple[bytes, bytes]]
    ) -> None:
        self._subprotocol = subprotocol
        self._path = request.target
        try:
            await self._send(
                AcceptConnection(subprotocol, extensions=[self._limit], extra_headers=extra_headers)
            )
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        self._open_handshake.set()
        self._decided.set()

    async def _reject(self, status_code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        try:
            await super()._reject(status_code, headers, body)
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        finally:
            self._reader_running = False
            self._decided.set()

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        self.last_activity = trio.current_time()
        await super()._handle_message_event(event)

    async def _handle_ping_event(self, event: Ping) -> None:
        self.last_activity = trio.current_time()
        await super()._handle_ping_event(event)

    async def _handle_pong_event(self, event: Pong) -> None:
        self.last_activity = trio.current_time()
        await super()._handle_pong_event(event)

    async def _handle_close_connection_event(self, event: CloseConnection) -> None:
        """The peer closes, or (wsproto tells it alike) has violated the protocol."""
        if self._wsproto.state is not ConnectionState.OPEN:
            await super()._handle_close_connection_event(event)
            return
        if self._limit.exceeded is None:
            # Told first, so that nobody sends anything after the close frame.
            await self._close_web_socket(event.code, event.reason)
            await self._send(CloseConnection(event.code, event.reason))
            with trio.move_on_after(LINGER):
                await _discard(self._stream)
            await self._close_stream()
        else:  # receive() raises, the actor explains and closes; until then, bytes go nowhere
            await self._send_channel.aclose()
            await _discard(self._stream)
        self._reader_running = False
        self._close_handshake.set()


async def _discard(stream: trio.abc.ReceiveStream) -> None:
    """Read until the end, so that closing does not reset what the peer has still to read."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(RECEIVE_BYTES):
            pass


def _closed(closed: ConnectionClosed) -> Closed:
    if closed.reason is None:
        return Closed(CloseReason.ABNORMAL_CLOSURE)
    return Closed(closed.reason.code, closed.reason.reason)
