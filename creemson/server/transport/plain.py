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
- a peer has to take what it is sent, piece by piece, or the connection is closed: whoever waits to send behind
  a peer that does not read waits no longer than that;
- a message in more and more fragments of next to nothing takes no more memory than it has bytes;
- after our close frame the reader waits for the peer's, and answers no ping (trio-websocket would fail);
- a message, ping or pong that is complete counts as a sign of life, and a peer that takes what had to wait for
  it; of what is not complete, the bytes are counted.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

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
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from creemson.server.pipe import PIECE
from creemson.server.sizes import SizeLimit, TooLarge

__all__ = ["Closed", "ServerSocket", "TooLarge"]

RECEIVE_BYTES = 256 * 1024
"""Bytes per read; trio-websocket's default of 4 KiB costs uploads a factor of 3.5."""
WAITED = 0.1
"""Seconds that show a piece to have waited for room in the buffers, which only a peer that takes something makes."""
FRAGMENTS = 1000
"""Parts of a message that are kept apart; a part may be one byte long, and takes some fifty to keep."""
LINGER = 2.0
"""Seconds in which a peer can read why it is being closed, while what it sends is discarded."""


class Closed(Exception):  # noqa: N818 - a state, not always a fault
    """The connection is closed.

    Attributes:
        code: the close code; 1006 if there was no close frame.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(f"{code} {reason or ''}".rstrip())
        self.code = code


class _HeadFirst(trio.abc.ReceiveStream):
    """Delivers the upgrade request in one piece and alone; what came glued to it comes after it.

    wsproto 1.3 leaves bytes behind the request in h11's buffer for ever (its ``_accept`` does not pass
    ``trailing_data`` on).

    Attributes:
        count: bytes that have been read from the stream itself.
    """

    def __init__(self, stream: trio.abc.Stream, received: bytes) -> None:
        self._stream = stream
        head, end, rest = received.partition(b"\r\n\r\n")
        self._received = [piece for piece in (head + end, rest) if piece]
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


class ServerSocket(WebSocketConnection):
    """The server's end of one WebSocket connection.

    Args:
        stream: to talk over; :meth:`run` closes it in the end.
        received: the upgrade request, whole, and whatever has come behind it.
        message_bytes: limit of a text message.
        chunk_bytes: limit of a binary message.
        send_timeout: seconds in which the peer has to take each :data:`~creemson.server.pipe.PIECE` of what it is sent.

    Attributes:
        last_activity: when the last message, ping or pong was complete, on trio's clock. What there is of one
            before does not count here: a byte now and then would be enough. What the peer takes counts if we
            had to wait for that: on a slow link, a ping is long behind what the system has buffered.
        rtt: seconds from the last ping to its pong; None until that has come.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        received: bytes,
        *,
        message_bytes: int,
        chunk_bytes: int,
        send_timeout: float,
    ) -> None:
        self._limit = SizeLimit(text=message_bytes, binary=chunk_bytes)
        self._offered, self._offers = trio.open_memory_channel[WebSocketRequest](1)
        self._decided = trio.Event()
        self._incoming = _HeadFirst(stream, received)
        self._outgoing = stream
        self._send_timeout = send_timeout
        self._closing = False
        self._deaf = False  # what comes is not understood any more, so there will be no close frame
        self._loose = 0  # parts of a message that have not been joined
        self.host = ""
        self.last_activity = trio.current_time()
        self.rtt: float | None = None
        self._probed = 0.0
        super().__init__(
            trio.StapledStream(stream, self._incoming),
            WSConnection(ConnectionType.SERVER),
            # The limits above are stricter, and count before the bytes have come.
            max_message_size=message_bytes + chunk_bytes,
            receive_buffer_size=RECEIVE_BYTES,
        )

    # --- what the connection actor uses --------------------------------------------------------------

    @property
    def received(self) -> int:
        """Bytes that have come after the upgrade request, whether they are whole frames or not."""
        return self._incoming.count

    unsent = b""

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have work done with this socket, which reads meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await work()
            nursery.cancel_scope.cancel()

    def next(self) -> str | bytes | None:
        """A message that has come already: trio-websocket does not tell."""
        return None

    def post(self, messages: Sequence[str | bytes]) -> bool:  # noqa: ARG002 - FastSocket's
        """Send messages without waiting: that cannot be done here."""
        return False

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
            except trio.TooSlowError:  # a pong or a close frame could not be sent; the stream is closed
                pass
            finally:
                self._close_handshake.set()

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
            # Not over until the closing handshake is: who is told ends, and with that what is being sent, in the
            # middle of a frame; the close frame could not be told from the rest of it.
            await self._close_handshake.wait()
            raise _closed(closed) from None
        return message

    async def send(self, messages: Sequence[str | bytes]) -> None:
        """Send messages.

        Raises:
            Closed: they could not be sent.
            trio.TooSlowError: the peer does not take it. The connection is closed.
        """
        try:
            for message in messages:
                await self.send_message(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and wait for the peer's, :data:`LINGER` seconds at the most."""
        self._closing = True
        with trio.move_on_after(LINGER), contextlib.suppress(trio.TooSlowError):
            await self.aclose(code, reason)

    async def probe(self) -> None:
        """Send a WebSocket ping, after what is being sent; its pong counts as a sign of life.

        Raises:
            Closed: it could not be sent.
        """
        self.rtt, self._probed = None, trio.current_time()
        try:
            with _telling():
                await self._send(Ping())
        except LocalProtocolError:  # the closing handshake has begun
            raise Closed(CloseReason.ABNORMAL_CLOSURE) from None

    async def _send(self, event: Event) -> None:
        data = memoryview(self._wsproto.send(event))
        async with self._stream_lock:
            try:
                for start in range(0, len(data), PIECE):
                    began = trio.current_time()
                    with trio.fail_after(self._send_timeout):
                        await self._stream.send_all(data[start : start + PIECE])
                    if trio.current_time() - began > WAITED:
                        self.last_activity = trio.current_time()
                if self._deaf and isinstance(event, CloseConnection):
                    await self._end()
            except trio.TooSlowError:
                # Nothing can follow half a frame. Whoever waits for the lock finds the stream closed. The
                # reader does, too, and ends the actor, which is to learn first what was the matter.
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self._stream)
                raise
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
        accept = AcceptConnection(subprotocol, extensions=[self._limit], extra_headers=extra_headers)
        with _telling():
            await self._send(accept)
        self._open_handshake.set()
        self._decided.set()

    async def _reject(self, status_code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        try:
            with _telling():
                await super()._reject(status_code, headers, body)
        finally:
            self._reader_running = False
            self._decided.set()

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        if event.message_finished:
            self.last_activity = trio.current_time()
        elif not event.data:  # allowed (RFC 6455 section 5.4), and as often as the peer likes
            return
        await super()._handle_message_event(event)
        self._loose = 0 if event.message_finished else self._loose + 1
        if self._loose == FRAGMENTS:
            parts: list[Any] = self._message_parts
            parts[-FRAGMENTS:] = [event.data[:0].join(parts[-FRAGMENTS:])]
            self._loose = 0

    async def _handle_ping_event(self, event: Ping) -> None:
        self.last_activity = trio.current_time()
        if self._wsproto.state is ConnectionState.OPEN:  # nothing follows our close frame (section 5.5.1)
            await super()._handle_ping_event(event)

    async def _handle_pong_event(self, event: Pong) -> None:
        self.last_activity = trio.current_time()
        self.rtt = self.last_activity - self._probed
        await super()._handle_pong_event(event)

    async def _handle_close_connection_event(self, event: CloseConnection) -> None:
        """The peer closes, or (wsproto tells it alike) has violated the protocol."""
        violated = self._wsproto.state is ConnectionState.OPEN
        self._deaf = violated
        if violated and self._limit.exceeded is not None:
            # receive() raises, the actor explains and closes; until then, bytes go nowhere
            await self._send_channel.aclose()
            await _discard(self._stream)
        else:
            # The actor is told first, so that nobody sends anything after the close frame. It ends, and would
            # have this task cancelled before the peer is told, were it not for the shield.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER):
                if violated:
                    await self._close_web_socket(event.code, event.reason)
                    await self._send(CloseConnection(event.code, event.reason))
                    await _discard(self._stream)
                else:
                    await super()._handle_close_connection_event(event)
            await self._close_stream()
        self._reader_running = False
        self._close_handshake.set()

    async def _end(self) -> None:
        """Close our side, after which the peer closes its own, and does not wait for more (section 7.1.1)."""
        if isinstance(self._outgoing, trio.abc.HalfCloseableStream):
            await self._outgoing.send_eof()


async def _discard(stream: trio.abc.ReceiveStream) -> None:
    """Read until the end, so that closing does not reset what the peer has still to read."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(RECEIVE_BYTES):
            pass


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Say in our words that nothing can be sent any more, whether the peer has gone or only does not read."""
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
