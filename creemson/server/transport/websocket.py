"""WebSocket messages over a byte stream: the fast transport.

It behaves like :class:`~creemson.server.transport.plain.ServerSocket`, but works differently:

- No task reads ahead: the task that calls :meth:`WebSocket.receive` reads, and answers pings meanwhile.
- Complete plain frames are parsed in :mod:`creemson.server.transport.frames`, without wsproto.
- Messages are passed to the kernel at once, several as one piece; only what the kernel does not take waits
  (:meth:`WebSocket.post`).
- The size of a read adapts to the number of bytes that the previous reads returned.

See ``docs/decisions/0016-fast-transport.md`` for measurements.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

import trio
from trio_websocket import WebSocketRequest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping, Pong, RejectConnection, RejectData, Request
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from creemson.server.transport.closing import LINGER, MIN_WAIT, Closed
from creemson.server.transport.frames import Control, Frames, Outgoing, make_frames
from creemson.server.transport.pipe import PIECE_BYTES, pipe_over
from creemson.server.transport.seams import upgrade_request
from creemson.server.transport.size_limit import SizeLimit
from creemson.server.transport.upgrade import Upgrade, acceptance, read_upgrade

__all__ = ["WebSocket"]

MIN_READ_BYTES, MAX_READ_BYTES = 16 * 1024, 64 * 1024
"""Bytes per read: few for peers that send little, many for those that send many frames. The rest of an incomplete frame
is read by itself, so that nothing of the next one has to be moved."""


class WebSocket:
    """The server's end of one WebSocket connection.

    Args:
        stream: the byte stream. The caller must close it.
        upgrade: the upgrade request, and the bytes that arrived with it.
        message_bytes: maximum size of a text message.
        chunk_bytes: maximum size of a binary message.
        send_timeout: seconds in which the peer must take each
            :data:`~creemson.server.transport.pipe.PIECE_BYTES` of a message.

    Attributes:
        host: the `Host` header of the upgrade request.
        last_activity: when the last message, ping or pong was complete, or a send had to wait until the peer read; on
            trio's clock.
        rtt: seconds from the last ping to its pong; None until the pong has arrived.
        received: number of bytes received after the upgrade request, also of incomplete frames.
        unsent: bytes that :meth:`post` could not write; the next :meth:`send` begins with them.
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
        self._stream = stream
        self._pipe = pipe_over(stream, bulk=True)
        self._upgrade: Upgrade | None = upgrade  # until it is answered
        self._limit = SizeLimit(text=message_bytes, binary=chunk_bytes)
        self._frames = Frames(self._limit)
        self._send_timeout = send_timeout
        self._sending = trio.StrictFIFOLock()
        self._read_size = MIN_READ_BYTES
        self._reading = False  # whether a task reads
        self._read_at = trio.current_time()  # when bytes last arrived
        self._control: Control | None = None  # to be handled before the next message
        self._closing = False  # nothing is sent any more except our close frame
        self._violated = False  # by the peer: its input is discarded, and no close frame will come
        self._closed: Closed | None = None
        self._ended = trio.Event()
        self._ping_sent = 0.0  # on trio's clock
        self.host = ""
        self.last_activity = self._read_at
        self.rtt: float | None = None
        self.received = 0
        self.unsent = b""

    # --- the handshake -------------------------------------------------------------------------------

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`; this transport needs no background task."""
        await work()

    async def request(self) -> WebSocketRequest:
        """Return the upgrade request, to be accepted or rejected.

        Raises:
            Closed: the peer sent something else.
        """
        assert self._upgrade is not None
        event = read_upgrade(self._upgrade.request)
        if event is None:
            await self._refuse(self._upgrade)
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "no upgrade request")
        self.host = event.host
        return upgrade_request(event, accept=self._accept, reject=self._reject)

    async def _refuse(self, upgrade: Upgrade) -> None:
        """Send what wsproto answers to a request that is not valid, if anything."""
        wsproto = WSConnection(ConnectionType.SERVER)
        try:
            wsproto.receive_data(upgrade.head)
        except RemoteProtocolError as error:
            if error.event_hint is not None:
                await self._send([wsproto.send(error.event_hint)])
        except UnicodeError:  # wsproto decodes the request's Host and target without checking them
            return

    async def _accept(
        self,
        request: Request,
        subprotocol: str | None,
        extra_headers: list[tuple[bytes, bytes]],
    ) -> None:
        assert self._upgrade is not None
        rest, self._upgrade = self._upgrade.rest, None  # frees the request
        await self._send([acceptance(request, subprotocol, extra_headers)])
        self._frames.receive(rest)

    async def _reject(self, status_code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        assert self._upgrade is not None
        wsproto = WSConnection(ConnectionType.SERVER)
        wsproto.receive_data(self._upgrade.head)
        if body:
            headers = [*headers, (b"Content-length", str(len(body)).encode())]
        reject = RejectConnection(status_code=status_code, headers=headers, has_body=bool(body))
        response = wsproto.send(reject)
        if body:
            response += wsproto.send(RejectData(data=body))
        await self._send([response])

    # --- receiving -----------------------------------------------------------------------------------

    def next(self) -> str | bytes | None:
        """Return a message that has already arrived; None if there is none, or a control frame comes first."""
        if self._control is not None or self._closing:
            return None
        found = self._frames.next()
        if isinstance(found, (str, bytes)):
            self.last_activity = self._read_at
            return found
        self._control = found
        return None

    def take_texts(self) -> list[str]:
        """Take the messages that were parsed together with the last one, so that they can be handled together."""
        return self._frames.take_texts()

    def put_back(self, texts: Sequence[str]) -> None:
        """Let :meth:`next` return these messages one by one, before those that follow."""
        self._frames.put_back(texts)

    async def receive(self) -> str | bytes:
        """Return the next message.

        Raises:
            TooLarge: once, for a message over its limit.
            Closed: there are no more messages.
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
        if self._reading:  # close() reads, until the peer's close frame
            await self._ended.wait()
        if self._closed is not None:
            raise self._closed
        self._reading = True
        try:
            size = await self._read_once()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            size = 0
        finally:
            self._reading = False
        if not size:
            self._closing = True
            # A peer that sends nothing more may still read: send the rest of a frame whose beginning was sent.
            with trio.move_on_after(LINGER), contextlib.suppress(Closed, trio.TooSlowError):
                await self._send([])
            raise self._end(CloseReason.ABNORMAL_CLOSURE)
        self._read_at = trio.current_time()
        self.received += size

    async def _read_once(self) -> int:
        """Read once; return the number of bytes, 0 at the end."""
        frames = self._frames
        if frames.missing:
            with frames.room() as room:
                size = await self._pipe.read_into(room)
            frames.filled(size)
            return size
        data = await self._pipe.read(self._read_size)
        size = len(data)
        if size == self._read_size < MAX_READ_BYTES:
            self._read_size *= 4
        elif size * 16 < self._read_size:
            self._read_size = max(MIN_READ_BYTES, self._read_size // 4)
        if size:
            frames.receive(data)
        return size

    async def _handle(self, event: Control) -> None:
        if isinstance(event, Pong):
            self.rtt = self._read_at - self._ping_sent
        elif isinstance(event, Ping):
            if not self._closing:  # nothing follows our close frame (RFC 6455 section 5.5.1)
                # A peer that does not take the pong may still have sent more, which is delivered first.
                with contextlib.suppress(Closed, trio.TooSlowError):
                    await self._send([self._frames.wsproto.send(event.response())])
        else:
            await self._handle_close(event)

    async def _handle_close(self, event: CloseConnection) -> None:
        """End the connection: the peer has sent a close frame, or violated the protocol."""
        wsproto = self._frames.wsproto
        violated = wsproto.state is ConnectionState.OPEN  # wsproto reports both in the same way
        if violated and self._limit.exceeded is not None:
            self._violated = True
            raise self._limit.exceeded  # the actor sends an error and closes
        self._closing = True
        # The actor may be cancelled as soon as another task notices that nothing can be sent any more.
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
        """Close our side, so that the peer closes its own (RFC 6455 section 7.1.1), and read to the end.

        Closing a socket with unread bytes would reset it, perhaps before the peer has read the reason.
        """
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(MAX_READ_BYTES):
                pass

    # --- sending -------------------------------------------------------------------------------------

    def post(self, messages: Sequence[Outgoing]) -> bool:
        """Send messages without waiting.

        Returns:
            True: they have been passed to the kernel; what it did not take is in :attr:`unsent`.
            False: nothing has been sent.
        """
        if not self._pipe.immediate or self._closing or self.unsent or self._sending.locked():
            return False
        pieces = make_frames(messages)
        if len(pieces) > 1 or len(pieces[0]) > PIECE_BYTES:
            return False
        try:
            taken = self._pipe.post(pieces[0])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if not taken:
            return False
        self.unsent = bytes(pieces[0][taken:])
        return True

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, after :attr:`unsent`.

        Raises:
            Closed: they could not be sent.
            trio.TooSlowError: the peer does not read. The connection is closed.
        """
        if self._closing:
            raise self._closed or Closed(CloseReason.ABNORMAL_CLOSURE)
        await self._send(make_frames(messages))

    async def probe(self) -> None:
        """Send a ping, after what is being sent, and wait until it is nearly the peer's turn to answer.

        Its pong counts as a sign of life.

        Raises:
            Closed: it could not be sent.
        """
        self.rtt, self._ping_sent = None, trio.current_time()
        if self._closing:
            raise Closed(CloseReason.ABNORMAL_CLOSURE)
        try:
            await self._send([self._frames.wsproto.send(Ping())])
            await self._drain()
        except trio.TooSlowError:
            raise Closed(CloseReason.ABNORMAL_CLOSURE, "the peer does not read") from None

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, after what is being sent, and wait up to :data:`LINGER` seconds for the peer's."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(Closed, trio.TooSlowError):
            await self._send([self._frames.wsproto.send(CloseConnection(code, reason))])
            await self._drain()
        with trio.move_on_after(LINGER), contextlib.suppress(Closed):
            if self._violated:
                await self._discard()
            elif self._reading:
                await self._ended.wait()
            else:
                await self.receive()

    async def _send(self, pieces: Sequence[bytes | memoryview]) -> None:
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            unsent, self.unsent = self.unsent, b""
            for piece in (unsent, *pieces) if unsent else pieces:
                await self._await_peer(self._pipe.write(piece, self._send_timeout))
        finally:
            self._sending.release()

    async def _drain(self) -> None:
        """Wait until the peer has taken what the kernel queued before; others may send meanwhile."""
        await self._await_peer(self._pipe.drain(self._send_timeout))

    async def _await_peer(self, waiting: Awaitable[float]) -> None:
        """Wait for the peer to take bytes; having waited for that is a sign of life."""
        try:
            if await waiting > MIN_WAIT:
                self.last_activity = trio.current_time()
        except trio.TooSlowError:
            # Nothing can follow half a frame. Tasks that wait for the lock find the stream closed.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The peer has disconnected; the reader delivers what arrived before, then ends on its own.
            raise Closed(CloseReason.ABNORMAL_CLOSURE) from None
