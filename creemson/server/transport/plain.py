"""WebSocket messages over a byte stream: receive, send, close. Built on trio-websocket.

trio-websocket handles messages and wsproto handles frames. This module adds what our protocol promises and these
libraries do not do (trio-websocket 0.12, wsproto 1.3):

- A message over its limit is detected by the frame's header, before its payload arrives, and the peer can get an
  error message before the close frame. (trio-websocket would close at once.)
- A violation of RFC 6455 is answered with a close frame (section 7.1.7: "MUST _Fail the WebSocket Connection_", 1002 or
  1007). What arrives afterwards is discarded for a while: closing a socket with unread bytes resets it, and a
  reset may overtake the close frame.
- Frames in the same segment as the upgrade request are delivered at once.
- What arrived before a connection broke is delivered, even if a failed `send` is what reveals the break.
  (trio-websocket would close the reader's channel at once.)
- A peer must read each piece of a message in time, or the connection is closed. This also limits how long other
  tasks wait to send on the same connection.
- A message in many tiny fragments takes little more memory than its bytes.
- After our close frame, the reader waits for the peer's close frame and answers no ping. (trio-websocket would fail.)
- A complete message, ping or pong counts as a sign of life, and so does a send that waited until the peer read;
  for incomplete messages, only the bytes are counted.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest
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
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from creemson.server.transport.closing import LINGER, MIN_WAIT, Closed
from creemson.server.transport.frames import Outgoing
from creemson.server.transport.pipe import PIECE_BYTES
from creemson.server.transport.seams import HookedConnection
from creemson.server.transport.size_limit import SizeLimit
from creemson.server.transport.upgrade import Upgrade

__all__ = ["ServerSocket"]

RECEIVE_BYTES = 256 * 1024
"""Bytes per read; trio-websocket's default of 4 KiB makes uploads 3.5 times slower."""
MAX_PARTS = 1000
"""Maximum number of parts of a message before they are joined; a part of one byte takes about fifty bytes of memory."""


class _HeadFirst(trio.abc.ReceiveStream):
    """Delivers the upgrade request alone and in one piece, then the bytes that arrived with it.

    wsproto 1.3 never delivers bytes that it gets together with the request: they stay in h11's buffer, because its
    ``_accept`` ignores ``trailing_data``.

    Attributes:
        count: number of bytes read from the stream itself.
    """

    def __init__(self, stream: trio.abc.Stream, upgrade: Upgrade) -> None:
        self._stream = stream
        self._received = [piece for piece in (upgrade.head, upgrade.rest) if piece]
        self.count = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._received:
            await trio.lowlevel.checkpoint()
            return self._received.pop(0)
        data = await self._stream.receive_some(max_bytes)
        self.count += len(data)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class ServerSocket(HookedConnection):
    """The server's end of one WebSocket connection.

    Args:
        stream: the byte stream; :meth:`run` closes it at the end.
        upgrade: the upgrade request, and the bytes that arrived with it.
        message_bytes: maximum size of a text message.
        chunk_bytes: maximum size of a binary message.
        send_timeout: seconds in which the peer must take each
            :data:`~creemson.server.transport.pipe.PIECE_BYTES` of a message.

    Attributes:
        host: the `Host` header of the upgrade request.
        last_activity: when the last message, ping or pong was complete, on trio's clock. Incomplete ones do not count:
            otherwise a byte now and then would be enough. A send counts if it had to wait until the peer read: on a
            slow link, the answer to a ping is late, because the kernel has buffered much before the ping.
        rtt: seconds from the last ping to its pong; None until the pong has arrived.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        upgrade: Upgrade,
        *,
        message_bytes: int,
        chunk_bytes: int,
        send_timeout: float,
    ) -> None:
        self._limit = SizeLimit(text=message_bytes, binary=chunk_bytes)
        # From the reader to request().
        self._offered, self._offers = trio.open_memory_channel[WebSocketRequest](1)
        self._decided = trio.Event()  # set when the upgrade request has been answered
        self._incoming = _HeadFirst(stream, upgrade)
        self._outgoing = stream
        self._send_timeout = send_timeout
        self._violated = False  # by the peer: its input is discarded, and no close frame will come
        self._unjoined = 0  # parts of the current message that have not been joined
        self.host = ""
        self.last_activity = trio.current_time()
        self.rtt: float | None = None
        self._ping_sent = 0.0  # on trio's clock
        super().__init__(
            trio.StapledStream(stream, self._incoming),
            # The limits above are stricter, and apply before the bytes arrive.
            max_message_size=message_bytes + chunk_bytes,
            receive_buffer_size=RECEIVE_BYTES,
        )

    # --- what the connection actor uses --------------------------------------------------------------

    @property
    def received(self) -> int:
        """Number of bytes received after the upgrade request, also of incomplete frames."""
        return self._incoming.count

    unsent = b""
    """Bytes that :meth:`post` could not write: always empty here."""

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, and read from the stream meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await work()
            nursery.cancel_scope.cancel()

    def next(self) -> str | bytes | None:
        """Return None: this transport does not know whether a message has already arrived."""
        return None

    def take_texts(self) -> list[str]:
        """Return nothing: messages are parsed one by one."""
        return []

    def put_back(self, texts: Sequence[str]) -> None:
        """Do nothing: :meth:`take_texts` returned none."""

    def post(self, messages: Sequence[Outgoing]) -> bool:  # noqa: ARG002 - as in WebSocket
        """Return False: this transport cannot send without waiting."""
        return False

    async def run(self) -> None:
        """Read from the stream until the connection ends. All other methods need this running."""
        async with self._offered:
            try:
                await self.run_reader()
            except UnicodeError:  # wsproto decodes the request's Host and target without checking them
                await self.close_stream()
            except ConnectionClosed:  # the peer disconnected before the response to its invalid request
                await self.close_stream()
            except trio.TooSlowError:  # a pong or a close frame could not be sent; the stream is closed
                pass
            finally:
                self.close_done.set()

    async def request(self) -> WebSocketRequest:
        """Return the upgrade request, to be accepted or rejected.

        Raises:
            Closed: the peer sent something else, or disconnected.
        """
        try:
            return await self._offers.receive()
        except trio.EndOfChannel:
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "no upgrade request") from None

    async def receive(self) -> str | bytes:
        """Return the next message.

        Raises:
            TooLarge: once, for a message over its limit.
            Closed: there are no more messages.
        """
        try:
            message = await self.get_message()
        except ConnectionClosed as closed:
            if self._limit.exceeded is not None:
                exceeded, self._limit.exceeded = self._limit.exceeded, None
                raise exceeded from None
            # Wait for the end of the closing handshake: the actor ends with this exception, which would cancel a
            # send in the middle of a frame. The peer would take the close frame for the rest of that frame.
            await self.close_done.wait()
            raise _closed(closed) from None
        return message

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages.

        Raises:
            Closed: they could not be sent.
            trio.TooSlowError: the peer does not read. The connection is closed.
        """
        try:
            for message in messages:
                await self.send_message(bytes(message) if isinstance(message, memoryview) else message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and wait up to :data:`LINGER` seconds for the peer's."""
        with trio.move_on_after(LINGER), contextlib.suppress(trio.TooSlowError):
            await self.aclose(code, reason)

    async def probe(self) -> None:
        """Send a ping, after what is being sent. Its pong counts as a sign of life.

        Raises:
            Closed: it could not be sent.
        """
        self.rtt, self._ping_sent = None, trio.current_time()
        try:
            with _errors_as_closed():
                await self.on_send(Ping())
        except LocalProtocolError:  # the closing handshake has begun
            raise Closed(CloseReason.ABNORMAL_CLOSURE) from None

    # --- hooks of trio-websocket ---------------------------------------------------------------------

    async def on_send(self, event: Event) -> None:
        """Send an event; the peer must take each piece of it in time."""
        data = memoryview(self.encode(event))
        async with self.send_lock:
            try:
                for start in range(0, len(data), PIECE_BYTES):
                    began = trio.current_time()
                    with trio.fail_after(self._send_timeout):
                        await self._outgoing.send_all(data[start : start + PIECE_BYTES])
                    if trio.current_time() - began > MIN_WAIT:
                        self.last_activity = trio.current_time()
                if self._violated and isinstance(event, CloseConnection):
                    await self._send_eof()
            except trio.TooSlowError:
                # Nothing can follow half a frame. Tasks that wait for the lock find the stream closed, and so does
                # the reader, whose end ends the actor; the actor must get this exception first.
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self._outgoing)
                raise
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The peer has disconnected; the reader delivers what arrived before, then ends on its own.
                raise ConnectionClosed(None) from None

    async def on_request(self, request: WebSocketRequest, event: Request) -> None:
        """Offer the request to :meth:`request`."""
        self.host = event.host
        self._offered.send_nowait(request)
        # Read on only after the response, so that frames behind the request find an open connection.
        await self._decided.wait()

    async def on_accept(
        self, request: Request, subprotocol: str | None, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """Accept the request, with the limits as an extension that is not negotiated."""
        with _errors_as_closed():
            await self.on_send(AcceptConnection(subprotocol, extensions=[self._limit], extra_headers=headers))
        self.accepted(request, subprotocol)
        self._decided.set()

    async def on_reject(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Reject the request and stop reading."""
        try:
            with _errors_as_closed():
                await super().on_reject(status, headers, body)
        finally:
            self.stop_reader()
            self._decided.set()

    async def on_message_part(self, event: BytesMessage | TextMessage) -> None:
        """Collect a part of a message; parts are joined now and then, because each takes memory of its own."""
        if event.message_finished:
            self.last_activity = trio.current_time()
        elif not event.data:  # allowed (RFC 6455 section 5.4), and as often as the peer likes
            return
        await super().on_message_part(event)
        self._unjoined = 0 if event.message_finished else self._unjoined + 1
        if self._unjoined == MAX_PARTS:
            self.join_last_parts(MAX_PARTS)
            self._unjoined = 0

    async def on_ping(self, event: Ping) -> None:
        """Answer a ping, but not after our close frame (RFC 6455 section 5.5.1)."""
        self.last_activity = trio.current_time()
        if self.is_open:
            await super().on_ping(event)

    async def on_pong(self, event: Pong) -> None:
        """Measure the round trip."""
        self.last_activity = trio.current_time()
        self.rtt = self.last_activity - self._ping_sent
        await super().on_pong(event)

    async def on_close(self, event: CloseConnection) -> None:
        """End the connection: the peer has sent a close frame, or violated the protocol."""
        self._violated = self.is_open
        if self._violated and self._limit.exceeded is not None:
            # receive() raises TooLarge; the actor sends an error and closes. Until then, input is discarded.
            await self.end_messages()
            await _discard(self._incoming)
        else:
            # The actor is notified first, so that nobody sends anything after the close frame. It then ends, and
            # without the shield it would cancel this task before the peer gets the close frame.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER):
                if self._violated:
                    await self.mark_closed(event.code, event.reason)
                    await self.on_send(CloseConnection(event.code, event.reason))
                    await _discard(self._incoming)
                else:
                    await super().on_close(event)
            await self.close_stream()
        self.stop_reader()
        self.close_done.set()

    async def _send_eof(self) -> None:
        """Close our side, so that the peer closes its own (RFC 6455 section 7.1.1)."""
        if isinstance(self._outgoing, trio.abc.HalfCloseableStream):
            await self._outgoing.send_eof()


async def _discard(stream: trio.abc.ReceiveStream) -> None:
    """Read to the end: closing a socket with unread bytes would reset it, perhaps before the peer has read all."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(RECEIVE_BYTES):
            pass


@contextlib.contextmanager
def _errors_as_closed() -> Iterator[None]:
    """Raise Closed if nothing can be sent any more: the peer has disconnected, or does not read."""
    try:
        yield
    except ConnectionClosed as closed:
        raise _closed(closed) from None
    except trio.TooSlowError:
        raise Closed(CloseReason.ABNORMAL_CLOSURE, "the peer does not read") from None


def _closed(closed: ConnectionClosed) -> Closed:
    if closed.reason is None:
        return Closed(CloseReason.ABNORMAL_CLOSURE)
    return Closed(closed.reason.code, closed.reason.reason)
