"""One connection to a server, from the end of its handshake until it is lost."""

import contextlib
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from creemson.client.values.words import in_arguments
from creemson.errors import REASONS, CloseCode, ConnectionLost, CreemsonError, InvalidFormat, error_for
from creemson.wire import codec, messages
from creemson.wire.batching import batched
from creemson.wire.messages import ClientMessage, ServerMessage

__all__ = ["Answers", "Connection", "Disconnected", "to_exception"]

CLOSE_TIMEOUT = 2.0
MAX_HOLD = 1.0
"""Seconds after which a held batch is sent anyway, so that a task that awaits an answer inside its block does not
wait forever."""
BATCH_OVERHEAD = 100
"""Upper bound of the bytes that a batch adds around its messages."""
FINAL_CLOSE_CODES = {
    CloseCode.UNAUTHENTICATED: "the server does not accept the token",
    CloseCode.POLICY: "the server refuses this client",
    CloseCode.TOO_BIG: "a message was too large",
}
"""Close codes after which another connection would be closed for the same reason."""

Answer = TypeVar("Answer")


class Disconnected(Exception):  # noqa: N818 - describes an event
    """This connection was lost; the attempt may be repeated over the next one.

    Used inside the client only. Callers get :class:`~creemson.errors.ConnectionLost` when the client gives up.
    """


class Answers:
    """The answers to one request, in the order of arrival.

    Args:
        channel: receives the answers.
        timeout: maximum number of seconds until the next answer.

    Attributes:
        refused: whether an answer was an error, which ends the request on the server.
    """

    def __init__(self, channel: trio.MemoryReceiveChannel[ServerMessage | bytes], timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout
        self.refused = False

    async def next(self) -> ServerMessage | bytes:
        """Wait for the next answer.

        Raises:
            Disconnected: the connection was lost.
            CreemsonError: the answer is an error, or none arrived within the timeout.
        """
        answer = await self.receive()
        if isinstance(answer, messages.Error):
            self.refused = True
            raise to_exception(answer)
        return answer

    async def receive(self) -> ServerMessage | bytes:
        """Wait for the next answer; an error message is returned and not raised.

        Raises:
            Disconnected: the connection was lost.
            ConnectionLost: no answer arrived within the timeout.
        """
        answer: ServerMessage | bytes | None = None
        try:
            with trio.move_on_after(self._timeout):
                answer = await self._channel.receive()
        except trio.EndOfChannel:
            raise Disconnected from None
        if answer is None:
            raise ConnectionLost("connection_lost", f"The server has not answered for {self._timeout:g} s.")
        return answer

    async def expect(self, kind: type[Answer]) -> Answer:
        """Wait for the next answer of a class; skip others.

        Raises:
            Disconnected: the connection was lost.
            CreemsonError: an answer is an error, or none arrived within the timeout.
        """
        while True:
            answer = await self.next()
            if isinstance(answer, kind):
                return answer

    def check(self) -> None:
        """Discard the answers that have arrived, without waiting; raise errors as :meth:`next` does."""
        try:
            while True:
                answer = self._channel.receive_nowait()
                if isinstance(answer, messages.Error):
                    self.refused = True
                    raise to_exception(answer)
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            raise Disconnected from None


def to_exception(answer: messages.Error) -> CreemsonError:
    """Return the exception for an error message."""
    return in_arguments(
        error_for(answer.reason, answer.message, details=answer.details, retry_after=answer.retry_after)
    )


class Connection:
    """An open WebSocket connection that sends requests and delivers answers.

    When it is lost, pending requests raise :class:`Disconnected`, and ``lost`` is set.

    Args:
        socket: the WebSocket; the caller runs it and closes its stream.
        answer_timeout: default for the maximum number of seconds until an answer.

    Attributes:
        lost: set when the connection is broken or closed.
        failure: the reason, if it is known.
        final: whether another connection would end in the same way.
        is_leaving: whether the server has closed the connection because it shuts down.
        useful: whether more than the welcome has arrived.
        opened_at: time of opening, on trio's clock.
        last_activity: time of the last message or pong from the server, on trio's clock.
        latency: seconds of the last round trip; None before the first.
    """

    def __init__(self, socket: WebSocketConnection, *, answer_timeout: float) -> None:
        self._socket = socket
        self._answer_timeout = answer_timeout
        self._pending: dict[str, trio.MemorySendChannel[ServerMessage | bytes]] = {}  # by request id
        self._closed: trio.Event | None = None  # created by `close`; set when the closing handshake has ended
        self._download: str | None = None  # id of the request to which binary messages belong
        self._posted: list[str] = []  # messages to be sent in the next turn
        self._wake_writer = trio.Event()
        self._hold_count = 0  # nested or concurrent `hold` blocks
        self._held: list[str] = []
        self._hold_until = math.inf
        self._limits: messages.LimitsInfo | None = None
        self.lost = trio.Event()
        self.failure: CreemsonError | None = None
        self.final = False
        self.is_leaving = False
        self.useful = False
        self.opened_at = self.last_activity = trio.current_time()
        self.latency: float | None = None

    async def run(self, *, heartbeat_interval: float, heartbeat_timeout: float) -> None:
        """Send and receive until the connection is lost.

        Args:
            heartbeat_interval: seconds between two pings.
            heartbeat_timeout: seconds after a ping within which something must arrive.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._heartbeat, heartbeat_interval, heartbeat_timeout)
            try:
                await self._read()
            finally:
                self._lose()
            nursery.cancel_scope.cancel()

    async def hello(self, hello: messages.Hello) -> messages.Welcome:
        """Introduce the client, and learn the server's limits.

        Raises:
            Disconnected: the connection was lost.
            CreemsonError: the server refuses the client.
        """
        sent_at = trio.current_time()
        async with self.exchange(hello) as answers:
            welcome = await answers.expect(messages.Welcome)
        self.latency = trio.current_time() - sent_at
        self.useful = False
        self._limits = welcome.limits
        return welcome

    @asynccontextmanager
    async def exchange(
        self, request: ClientMessage, *, buffer: float = math.inf, answer_timeout: float | None = None
    ) -> AsyncIterator[Answers]:
        """Send a request, and receive its answers until the block ends.

        Args:
            request: the message; its id must be unique among the pending requests.
            buffer: maximum number of buffered answers; when the buffer is full, the connection stops reading.
            answer_timeout: maximum number of seconds until an answer; None uses the connection's default.

        Yields:
            The answers.

        Raises:
            Disconnected: the connection has already been lost.
            InvalidFormat: ``message_too_large``.
        """
        assert request.id is not None
        send, receive = trio.open_memory_channel[ServerMessage | bytes](buffer)
        if self.lost.is_set():
            raise Disconnected
        self._pending[request.id] = send
        try:
            self.post(request)
            with receive:
                yield Answers(receive, self._answer_timeout if answer_timeout is None else answer_timeout)
        finally:
            del self._pending[request.id]

    def post(self, message: ClientMessage) -> None:
        """Queue a message, which is sent together with others; it is dropped if the connection is lost.

        Raises:
            InvalidFormat: ``message_too_large``: the server would close the connection, which others use, too.
        """
        text = codec.encode(message)
        if self._limits is not None:
            _check_size(message, text, self._limits.message_bytes)
        if self._hold_count:
            self._held.append(text)
            self._hold_until = min(self._hold_until, trio.current_time() + MAX_HOLD)
        else:
            self._posted.append(text)
        self._wake_writer.set()

    async def send(self, data: bytes) -> None:
        """Send bytes of a file, and wait until the socket has accepted them.

        Raises:
            Disconnected: the connection was lost.
        """
        await self._send(data)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the messages that are posted in the block, and send them together at its end."""
        self._hold_count += 1
        try:
            yield
        finally:
            self._hold_count -= 1
            if not self._hold_count:
                self._release()
                self._wake_writer.set()

    async def close(self) -> None:
        """Perform the closing handshake."""
        self._closed = trio.Event()
        try:
            # Not shielded, so that a cancelled caller does not wait; the stream is closed in any case.
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._socket.aclose()
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until the connection is lost and the closing handshake, if any, has ended."""
        await self.lost.wait()
        if self._closed is not None:
            await self._closed.wait()

    # --- writing -------------------------------------------------------------------------------------

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send_message(message)
        except ConnectionClosed:
            raise Disconnected from None

    async def _write(self) -> None:
        with contextlib.suppress(Disconnected):  # the reader notices it too
            while True:
                with trio.move_on_at(self._hold_until) as waiting:
                    await self._wake_writer.wait()
                if waiting.cancelled_caught:
                    self._release()
                self._wake_writer = trio.Event()
                posted, self._posted = self._posted, []
                for text in _batched(posted, self._limits) if posted else ():
                    await self._send(text)

    def _release(self) -> None:
        """Queue the held messages for sending."""
        self._posted += self._held
        self._held = []
        self._hold_until = math.inf

    # --- reading -------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while True:
                message = await self._socket.get_message()
                self.last_activity = trio.current_time()
                if isinstance(message, bytes):
                    await self._deliver(self._download, message)
                    continue
                for answer in _decode(message):
                    await self._handle(answer)
        except ConnectionClosed as closed:
            self.is_leaving = closed.reason is not None and closed.reason.code == CloseCode.GOING_AWAY
            if closed.reason is not None and closed.reason.code in FINAL_CLOSE_CODES:
                self.final = True
                why = closed.reason.reason or FINAL_CLOSE_CODES[CloseCode(closed.reason.code)]
                text = f"The connection was closed ({closed.reason.code}, {why})."
                self.failure = self.failure or ConnectionLost("connection_lost", text)
        except InvalidFormat as error:
            self.failure = ConnectionLost(
                "connection_lost", f"The server sent an invalid message. {error.message}"
            )

    async def _handle(self, answer: ServerMessage) -> None:
        self.useful = True
        if answer.id is not None:
            if isinstance(answer, messages.DownloadStarted):
                self._download = answer.id
            await self._deliver(answer.id, answer)
        elif isinstance(answer, messages.Error):
            # It concerns the connection, which the server is about to close.
            self.failure = to_exception(answer)
            self.final = not REASONS[self.failure.reason].retryable

    async def _deliver(self, request_id: str | None, message: ServerMessage | bytes) -> None:
        """Pass a message to the request that waits for it; drop it if there is none."""
        channel = self._pending.get(request_id) if request_id is not None else None
        if channel is not None:
            with contextlib.suppress(trio.BrokenResourceError):
                await channel.send(message)

    def _lose(self) -> None:
        self.lost.set()
        for channel in self._pending.values():
            channel.close()

    async def _heartbeat(self, interval: float, response_time: float) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader notices it too
            while True:
                await trio.sleep(interval)
                pinged_at = trio.current_time()
                with trio.move_on_after(response_time):
                    await self._socket.ping()
                    self.last_activity = trio.current_time()
                    self.latency = self.last_activity - pinged_at
                if self.last_activity < pinged_at:
                    break
            text = f"The server has not responded to a ping for {response_time:g} s."
            self.failure = ConnectionLost("connection_lost", text)
            with trio.move_on_after(0):  # no closing handshake with a server that does not respond
                await self._socket.aclose()


def _check_size(message: ClientMessage, text: str, limit: int) -> None:
    """Refuse a message that is larger than the server accepts.

    Raises:
        InvalidFormat: ``message_too_large``.
    """
    if 4 * len(text) <= limit:  # at most four bytes for a character
        return
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        name = getattr(message, "type", "")
        raise InvalidFormat(
            "message_too_large",
            f"The request {name!r} has {size:,} bytes; the server accepts {limit:,} (limits.message_bytes). "
            "Send fewer or shorter values.",
        )


def _batched(posted: Sequence[str], limits: messages.LimitsInfo | None) -> Sequence[str | bytes]:
    """Join messages into as few batches as the server's limits allow."""
    if limits is None:
        return posted
    max_bytes = limits.message_bytes - BATCH_OVERHEAD
    return batched(posted, max_messages=limits.batch_messages, max_bytes=max_bytes)


def _decode(text: str) -> list[ServerMessage]:
    """Decode a text frame into messages; skip those of types that only a newer server knows.

    Raises:
        InvalidFormat: the frame is not a valid message or batch.
    """
    answers: list[ServerMessage] = []
    try:
        value = codec.parse(text)
        members = value.get("messages") if value.get("type") == messages.Batch.type else [value]
        if not isinstance(members, list):
            raise InvalidFormat("invalid_message", "A batch has no list of messages.")
        for member in members:
            if not isinstance(member, dict):
                raise InvalidFormat("invalid_message", "A member of a batch is not an object.")
            try:
                answers.append(codec.structure_answer(member))
            except codec.Rejected as rejected:
                if rejected.error.reason != "unknown_type":
                    raise
    except codec.Rejected as rejected:
        assert isinstance(rejected.error, InvalidFormat)
        raise rejected.error from rejected
    return answers
