"""WebSocket messages over a byte stream, with as little as possible in between.

What :class:`~creemson.server.transport.ServerSocket` promises holds here, too. In what way is another matter:

- there is no task that reads ahead: whoever wants the next message reads, and answers pings on the way;
- whole plain frames are decoded in :mod:`creemson.server.frames`, and never touch wsproto;
- what is sent is handed to the system at once, several messages as one piece, and only what it does not take
  waits (:meth:`FastSocket.post`);
- a read asks for as many bytes as the ones before it have brought.

``docs/decisions/0016-fast-transport.md`` says what that is worth.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

import trio
from trio_websocket import WebSocketRequest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from creemson.server.frames import Control, Frames, framed
from creemson.server.pipe import PIECE, pipe_over
from creemson.server.sizes import SizeLimit
from creemson.server.transport import LINGER, WAITED, Closed

__all__ = ["FastSocket"]

LEAST_READ, MOST_READ = 16 * 1024, 1024 * 1024
"""Bytes per read: little for those who say little, much for uploads."""
HEAD_END = b"\r\n\r\n"


class FastSocket:
    """The server's end of one WebSocket connection.

    Args:
        stream: to talk over. Its owner closes it.
        received: the upgrade request, whole, and whatever has come behind it.
        message_bytes: limit of a text message.
        chunk_bytes: limit of a binary message.
        send_timeout: seconds in which the peer has to take each
            :data:`~creemson.server.pipe.PIECE` of what it is sent.

    Attributes:
        host: what the peer calls us.
        last_activity: when a message, ping or pong was complete at last, or the peer took what had to wait.
        rtt: seconds from the last ping to its pong; None until that has come.
        received: bytes that have come after the upgrade request, whether they are whole frames or not.
        unsent: bytes that :meth:`post` could not hand over, which the next :meth:`send` begins with.
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
        self._stream = stream
        self._pipe = pipe_over(stream)
        self._handshake = received
        self._limit = SizeLimit(text=message_bytes, binary=chunk_bytes)
        self._frames = Frames(self._limit)
        self._send_timeout = send_timeout
        self._sending = trio.StrictFIFOLock()
        self._reads = LEAST_READ
        self._reading = False
        self._read_at = trio.current_time()
        self._control: Control | None = None  # to be handled before there are messages again
        self._closing = False  # nothing is sent any more but our close frame
        self._deaf = False  # what comes is not understood any more, so there will be no close frame
        self._closed: Closed | None = None
        self._ended = trio.Event()
        self._probed = 0.0
        self.host = ""
        self.last_activity = self._read_at
        self.rtt: float | None = None
        self.received = 0
        self.unsent = b""

    # --- the handshake -------------------------------------------------------------------------------

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have work done with this socket."""
        await work()

    async def request(self) -> WebSocketRequest:
        """The upgrade request, to be accepted or rejected.

        Raises:
            Closed: the peer sent something else, or left.
        """
        head, end, rest = self._handshake.partition(HEAD_END)
        self._handshake = rest
        self._shaking = WSConnection(ConnectionType.SERVER)
        try:
            self._shaking.receive_data(head + end)
        except RemoteProtocolError as error:
            if error.event_hint is not None:
                await self._send([self._shaking.send(error.event_hint)])
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "no upgrade request") from None
        except UnicodeError:  # wsproto decodes the request's Host and target without a look at them
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "no upgrade request") from None
        event = next(self._shaking.events(), None)
        if not isinstance(event, Request):
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "no upgrade request")
        self.host = event.host
        return WebSocketRequest(self, event)  # type: ignore[arg-type] # it calls the next two methods

    async def _accept(
        self,
        request: Request,  # noqa: ARG002 - WebSocketRequest's
        subprotocol: str | None,
        extra_headers: list[tuple[bytes, bytes]],
    ) -> None:
        answer = self._shaking.send(AcceptConnection(subprotocol, extra_headers=extra_headers))
        del self._shaking  # with some KiB of h11's
        await self._send([answer])
        self._frames.receive(self._handshake)
        self._handshake = b""

    async def _reject(self, status_code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if body:
            headers = [*headers, (b"Content-length", str(len(body)).encode())]
        reject = RejectConnection(status_code=status_code, headers=headers, has_body=bool(body))
        answer = self._shaking.send(reject)
        if body:
            answer += self._shaking.send(RejectData(data=body))
        await self._send([answer])

    # --- receiving -----------------------------------------------------------------------------------

    def next(self) -> str | bytes | None:
        """A message that has come already; None if there is none, or something has to be done first."""
        if self._control is not None or self._closing:
            return None
        found = self._frames.next()
        if isinstance(found, (str, bytes)):
            self.last_activity = self._read_at
            return found
        self._control = found
        return None

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            TooLarge: once, for a message over its limit.
            Closed: nothing more will come.
        """
        while True:
            found, self._control = self._control or self._frames.next(), None
            if found is None:
                await self._read()
                continue
            self.last_activity = self._read_at
            if not isinstance(found, (str, bytes)):
                await self._handle(found)
            elif not self._closing:
                return found

    async def _read(self) -> None:
        if self._reading:  # by close(), which takes what still comes
            await self._ended.wait()
        if self._closed is not None:
            raise self._closed
        self._reading = True
        try:
            size = await self._take()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            size = 0
        finally:
            self._reading = False
        if not size:
            self._closing = True
            # A peer that says nothing more may still read: the frame that is on its way comes whole.
            with trio.move_on_after(LINGER), contextlib.suppress(Closed, trio.TooSlowError):
                await self._send([])
            raise self._end(CloseReason.ABNORMAL_CLOSURE)
        self._read_at = trio.current_time()
        self.received += size

    async def _take(self) -> int:
        """Read once; returns how many bytes."""
        frames = self._frames
        if frames.missing >= LEAST_READ:
            with frames.room() as room:
                size = await self._pipe.read_into(room)
            frames.filled(size)
            return size
        data = await self._pipe.read(self._reads)
        size = len(data)
        if size == self._reads < MOST_READ:
            self._reads *= 4
        elif size * 16 < self._reads:
            self._reads = max(LEAST_READ, self._reads // 4)
        if size:
            frames.receive(data)
        return size

    async def _handle(self, event: Control) -> None:
        if isinstance(event, Pong):
            self.rtt = self._read_at - self._probed
        elif isinstance(event, Ping):
            if not self._closing:  # nothing follows our close frame (RFC 6455 section 5.5.1)
                # A peer that does not take it may still have sent more, which comes first.
                with contextlib.suppress(Closed, trio.TooSlowError):
                    await self._send([self._frames.wsproto.send(event.response())])
        else:
            await self._handle_close(event)

    async def _handle_close(self, event: CloseConnection) -> None:
        """The peer closes, or (wsproto tells it alike) has violated the protocol."""
        wsproto = self._frames.wsproto
        violated = wsproto.state is ConnectionState.OPEN
        if violated and self._limit.exceeded is not None:
            self._deaf = True
            raise self._limit.exceeded  # the actor explains, and closes
        self._closing = True
        # The actor may be cancelled as soon as somebody finds that nothing can be sent any more.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER):
            with contextlib.suppress(Closed, trio.TooSlowError):
                if violated:
                    await self._send([wsproto.send(CloseConnection(event.code, event.reason))])
                    await self._discard()
                elif wsproto.state is ConnectionState.REMOTE_CLOSING:
                    await self._send([wsproto.send(event.response())])
            with contextlib.suppress(trio.BrokenResourceError):
                await self._stream.aclose()
        raise self._end(event.code, event.reason)

    def _end(self, code: int, reason: str | None = None) -> Closed:
        self._closing = True
        self._closed = Closed(code, reason)
        self._ended.set()
        return self._closed

    async def _discard(self) -> None:
        """Close our side, after which the peer closes its own (RFC 6455 section 7.1.1), and read to the end.

        Closing a socket with unread bytes would reset it, perhaps before the peer has read why.
        """
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(MOST_READ):
                pass

    # --- sending -------------------------------------------------------------------------------------

    def post(self, messages: Sequence[str | bytes]) -> bool:
        """Hand messages to the system without waiting.

        Returns:
            Whether they are taken care of. If not, nothing was sent. What the system did not take of them is
            left in :attr:`unsent`.
        """
        if not self._pipe.immediate or self._closing or self.unsent or self._sending.locked():
            return False
        pieces = framed(messages)
        if len(pieces) > 1 or len(pieces[0]) > PIECE:
            return False
        try:
            taken = self._pipe.post(pieces[0])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if not taken:
            return False
        self.unsent = pieces[0][taken:]
        return True

    async def send(self, messages: Sequence[str | bytes]) -> None:
        """Send messages, after what :meth:`post` has left.

        Raises:
            Closed: they could not be sent.
            trio.TooSlowError: the peer does not take it. The connection is closed.
        """
        if self._closing:
            raise self._closed or Closed(CloseReason.ABNORMAL_CLOSURE)
        await self._send(framed(messages))

    async def probe(self) -> None:
        """Send a WebSocket ping, after what is being sent; its pong counts as a sign of life.

        Raises:
            Closed: it could not be sent.
        """
        self.rtt, self._probed = None, trio.current_time()
        if self._closing:
            raise Closed(CloseReason.ABNORMAL_CLOSURE)
        try:
            await self._send([self._frames.wsproto.send(Ping())])
        except trio.TooSlowError:
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "the peer does not read") from None

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and wait for the peer's, :data:`LINGER` seconds at the most."""
        if self._closing:
            return
        self._closing = True
        with trio.move_on_after(LINGER), contextlib.suppress(Closed, trio.TooSlowError):
            await self._send([self._frames.wsproto.send(CloseConnection(code, reason))])
            if self._deaf:
                await self._discard()
            elif self._reading:
                await self._ended.wait()
            else:
                await self.receive()

    async def _send(self, pieces: Sequence[bytes]) -> None:
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            unsent, self.unsent = self.unsent, b""
            for piece in (unsent, *pieces) if unsent else pieces:
                if await self._pipe.write(piece, self._send_timeout) > WAITED:
                    self.last_activity = trio.current_time()
        except trio.TooSlowError:
            # Nothing can follow half a frame. Whoever waits for the lock finds the stream closed.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The peer has gone; who reads comes to the end by itself, after what came before.
            raise Closed(CloseReason.ABNORMAL_CLOSURE) from None
        finally:
            self._sending.release()
