"""One connection to a server, from its handshake to its loss."""

import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from creemson.errors import REASONS, CloseCode, ConnectionLost, CreemsonError, InvalidFormat, error_for
from creemson.wire import codec, messages
from creemson.wire.messages import ClientMessage, ServerMessage

__all__ = ["Answers", "Link", "LinkLost", "Unreachable", "nobody", "raised", "reach", "shake_hands"]

RECEIVE_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Of what a server may send: the profile of thousands of columns is large."""
DEFAULT_PORTS = {"ws": 80, "wss": 443}
CLOSE_TIMEOUT = 2.0
HOLD_MOST = 1.0
"""Seconds for which a batch is collected: who waits for an answer within its block does not wait for ever."""
TRY_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of a handshake after which another attempt makes sense (RFC 9110 section 15)."""
FINAL_CLOSES = {
    CloseCode.UNAUTHENTICATED: "the server does not know who we are",
    CloseCode.POLICY: "the server does not want us",
    CloseCode.TOO_BIG: "a message was too large",
}
"""Close codes after which another connection would end in the same way."""

Answer = TypeVar("Answer")
Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class LinkLost(Exception):  # noqa: N818 - what happened
    """The connection broke; the same may be tried over the next one."""


@attrs.frozen
class Unreachable(Exception):  # noqa: N818 - what the server is
    """There was no connection to be had.

    Attributes:
        error: what to tell.
        final: whether another attempt would end in the same way.
        retry_after: seconds that the server asked to wait.
    """

    error: CreemsonError
    final: bool = False
    retry_after: float = 0.0


async def reach(url: str, ssl_context: ssl.SSLContext | None = None) -> Stream:
    """A byte stream to the server. It is ours to close: a WebSocket that its peer has closed leaves it open.

    Raises:
        Unreachable: nobody is there, or the address is none.
    """
    parts = urlsplit(url)
    try:
        port, host = parts.port or DEFAULT_PORTS[parts.scheme], parts.hostname or ""
    except (KeyError, ValueError):
        port, host = 0, ""
    if not host:
        raise Unreachable(nobody(url, "an address looks like ws://HOST:PORT/ws"), final=True)
    try:
        if parts.scheme == "wss":
            # A server that dies says no goodbye: where the messages end, the WebSocket tells.
            encrypted = await trio.open_ssl_over_tcp_stream(
                host, port, ssl_context=ssl_context, https_compatible=True
            )
            try:
                await encrypted.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(encrypted)
                raise
            return encrypted
        return await trio.open_tcp_stream(host, port)
    except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
        raise Unreachable(nobody(url, error)) from error
    except trio.BrokenResourceError as error:  # there is no agreement on TLS
        cause: Any = error.__cause__ or error
        final = isinstance(cause, ssl.SSLCertVerificationError)
        raise Unreachable(nobody(url, getattr(cause, "verify_message", cause)), final=final) from error


async def shake_hands(nursery: trio.Nursery, stream: Stream, url: str) -> WebSocketConnection:
    """Make a WebSocket of a stream.

    Raises:
        Unreachable: the server does not want us, or is none.
    """
    parts = urlsplit(url)
    try:
        return await wrap_client_stream(
            nursery,
            stream,
            parts.netloc,
            parts.path or "/",
            subprotocols=[messages.SUBPROTOCOL],
            max_message_size=MAX_MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
    except ConnectionRejected as error:
        later = error.status_code in TRY_LATER
        why = f"it answers HTTP {error.status_code}"
        raise Unreachable(nobody(url, why), final=not later, retry_after=_retry_after(error)) from error
    except (HandshakeError, ConnectionClosed) as error:
        raise Unreachable(nobody(url, error)) from error


def nobody(url: str, why: Exception | str) -> ConnectionLost:
    """The error for a server that is not there."""
    text = str(why) or type(why).__name__
    return ConnectionLost("connection_lost", f"There is no Creemson server at {url} ({text}). Is it running?")


def _retry_after(rejected: ConnectionRejected) -> float:
    """Seconds, where the header gives them and not a date (RFC 9110 section 10.2.3)."""
    for name, value in rejected.headers or ():
        if name.lower() == b"retry-after" and value.isdigit():
            return float(value)
    return 0.0


class Answers:
    """The answers to one request, as they come.

    Args:
        channel: of what the link brings.
        timeout: seconds that the next answer may take.
    """

    def __init__(self, channel: trio.MemoryReceiveChannel[ServerMessage | bytes], timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout

    async def next(self) -> ServerMessage | bytes:
        """The next answer.

        Raises:
            LinkLost: none will come.
            CreemsonError: it is an error, or nothing has come for too long.
        """
        answer = await self.receive()
        if isinstance(answer, messages.Error):
            raise raised(answer)
        return answer

    async def receive(self) -> ServerMessage | bytes:
        """The next answer, which may be an error message.

        Raises:
            LinkLost: none will come.
            ConnectionLost: nothing has come for too long.
        """
        answer: ServerMessage | bytes | None = None
        try:
            with trio.move_on_after(self._timeout):
                answer = await self._channel.receive()
        except trio.EndOfChannel:
            raise LinkLost from None
        if answer is None:
            raise ConnectionLost("connection_lost", f"The server has not answered for {self._timeout:g} s.")
        return answer

    async def expect(self, kind: type[Answer]) -> Answer:
        """The next answer of a kind; others are passed over."""
        while True:
            answer = await self.next()
            if isinstance(answer, kind):
                return answer

    def check(self) -> None:
        """Take notice of what has come, without waiting; errors are raised as by :meth:`next`."""
        try:
            while True:
                answer = self._channel.receive_nowait()
                if isinstance(answer, messages.Error):
                    raise raised(answer)
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            raise LinkLost from None


def raised(answer: messages.Error) -> CreemsonError:
    """The exception for an error of the server's."""
    return error_for(answer.reason, answer.message, details=answer.details, retry_after=answer.retry_after)


class Link:
    """One connection whose handshake is done.

    Args:
        socket: to talk over; whoever made it runs and closes its stream.
        answer_timeout: seconds that an answer may take.

    Attributes:
        lost: whether the connection is broken or closed.
        failure: why, where the server has said so.
        final: whether another connection would end in the same way.
        useful: whether it has brought more than a welcome.
        began: when it was made, on trio's clock.
        last_activity: when the last message or pong came, on trio's clock.
        latency: seconds of the last round trip.
    """

    def __init__(self, socket: WebSocketConnection, *, answer_timeout: float) -> None:
        self._socket = socket
        self._answer_timeout = answer_timeout
        self._waiting: dict[str, trio.MemorySendChannel[ServerMessage | bytes]] = {}
        self._closing: trio.Event | None = None
        self._download: str | None = None  # id of the request whose bytes are coming
        self._posted: list[str] = []
        self._to_send = trio.Event()
        self._held = 0
        self._collected: list[str] = []  # while held, and
        self._collected_until = math.inf
        self._limits: messages.LimitsInfo | None = None
        self.lost = trio.Event()
        self.failure: CreemsonError | None = None
        self.final = False
        self.useful = False
        self.began = self.last_activity = trio.current_time()
        self.latency: float | None = None

    async def run(self, *, interval: float, patience: float) -> None:
        """Carry messages until the connection is lost.

        Args:
            interval: seconds between two pings.
            patience: seconds after a ping in which there must be a sign of life.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._heartbeat, interval, patience)
            try:
                await self._read()
            finally:
                self._lose()
            nursery.cancel_scope.cancel()

    async def hello(self, hello: messages.Hello) -> messages.Welcome:
        """Introduce us and learn the server's limits.

        Raises:
            LinkLost, CreemsonError: the server refuses, or is none.
        """
        began = trio.current_time()
        async with self.exchange(hello) as answers:
            welcome = await answers.expect(messages.Welcome)
        self.latency = trio.current_time() - began
        self.useful = False
        self._limits = welcome.limits
        return welcome

    @asynccontextmanager
    async def exchange(
        self, request: ClientMessage, *, buffer: float = math.inf, patience: float | None = None
    ) -> AsyncIterator[Answers]:
        """Send a request; its answers come until the block ends.

        Args:
            request: with an id that no other one in flight has.
            buffer: answers that may wait; with a bound, who is slow makes the server wait.
            patience: seconds that an answer may take, other than the link's.
        """
        assert request.id is not None
        send, receive = trio.open_memory_channel[ServerMessage | bytes](buffer)
        if self.lost.is_set():
            raise LinkLost
        self._waiting[request.id] = send
        try:
            self.post(request)
            with receive:
                yield Answers(receive, self._answer_timeout if patience is None else patience)
        finally:
            del self._waiting[request.id]

    def post(self, message: ClientMessage) -> None:
        """Send a message with the others of this moment; it is lost if the connection is."""
        if self._held:
            self._collected.append(codec.encode(message))
            self._collected_until = min(self._collected_until, trio.current_time() + HOLD_MOST)
        else:
            self._posted.append(codec.encode(message))
        self._to_send.set()

    async def send(self, data: bytes) -> None:
        """Send bytes of a file, and wait until the connection has taken them.

        Raises:
            LinkLost: it has not.
        """
        await self._send(data)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Collect what is posted in the block, and send it together."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._release()
                self._to_send.set()

    async def close(self) -> None:
        """Say goodbye."""
        self._closing = trio.Event()
        try:
            # Not shielded: who cancels does not want to wait; the stream is closed in any case.
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._socket.aclose()
        finally:
            self._closing.set()

    async def ended(self) -> None:
        """Wait until nothing happens any more, not even a goodbye."""
        await self.lost.wait()
        if self._closing is not None:
            await self._closing.wait()

    # --- the way of the messages ---------------------------------------------------------------------

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send_message(message)
        except ConnectionClosed:
            raise LinkLost from None

    async def _write(self) -> None:
        with contextlib.suppress(LinkLost):  # the reader sees it too
            while True:
                with trio.move_on_at(self._collected_until) as waited:
                    await self._to_send.wait()
                if waited.cancelled_caught:
                    self._release()
                self._to_send = trio.Event()
                posted, self._posted = self._posted, []
                for text in self._batched(posted) if posted else ():
                    await self._send(text)

    def _release(self) -> None:
        """What was collected may go out."""
        self._posted += self._collected
        self._collected = []
        self._collected_until = math.inf

    def _batched(self, posted: Sequence[str]) -> list[str]:
        """What was posted together, in as few messages as the server's limits allow."""
        limits = self._limits
        if limits is None or len(posted) == 1:
            return list(posted)
        joined: list[str] = []
        run: list[str] = []
        size = 0
        for text in posted:
            length = len(text.encode()) + 1
            if run and (len(run) == limits.batch_messages or size + length > limits.message_bytes - 100):
                joined.append(_join(run))
                run, size = [], 0
            run.append(text)
            size += length
        if run:
            joined.append(_join(run))
        return joined

    async def _read(self) -> None:
        try:
            while True:
                message = await self._socket.get_message()
                self.last_activity = trio.current_time()
                if isinstance(message, bytes):
                    await self._deliver(self._download, message)
                    continue
                for answer in _decoded(message):
                    await self._take(answer)
        except ConnectionClosed as closed:
            if closed.reason is not None and closed.reason.code in FINAL_CLOSES:
                self.final = True
                why = closed.reason.reason or FINAL_CLOSES[CloseCode(closed.reason.code)]
                lost = f"The connection was closed ({closed.reason.code}, {why})."
                self.failure = self.failure or ConnectionLost("connection_lost", lost)
        except InvalidFormat as garbage:
            self.failure = ConnectionLost(
                "connection_lost", f"What the server says makes no sense. {garbage.message}"
            )

    async def _take(self, answer: ServerMessage) -> None:
        self.useful = True
        if answer.id is not None:
            if isinstance(answer, messages.DownloadStarted):
                self._download = answer.id
            await self._deliver(answer.id, answer)
        elif isinstance(answer, messages.Error):  # of the connection, which is about to be closed
            self.failure = raised(answer)
            self.final = not REASONS[self.failure.reason].retryable

    async def _deliver(self, request: str | None, message: ServerMessage | bytes) -> None:
        """Hand it to who waits for it; what nobody waits for any more is dropped."""
        waiting = self._waiting.get(request) if request is not None else None
        if waiting is not None:
            with contextlib.suppress(trio.BrokenResourceError):
                await waiting.send(message)

    def _lose(self) -> None:
        self.lost.set()
        for waiting in self._waiting.values():
            waiting.close()

    async def _heartbeat(self, interval: float, patience: float) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader sees it too
            while True:
                await trio.sleep(interval)
                asked = trio.current_time()
                with trio.move_on_after(patience):
                    await self._socket.ping()
                    self.last_activity = trio.current_time()
                    self.latency = self.last_activity - asked
                if self.last_activity < asked:
                    break
            silence = f"There was no sign of life of the server for {patience:g} s."
            self.failure = ConnectionLost("connection_lost", silence)
            with trio.move_on_after(0):  # without a goodbye, which nobody would hear
                await self._socket.aclose()


def _join(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else codec.encode_batch(texts)


def _decoded(text: str) -> list[ServerMessage]:
    """The messages of a text frame; those of a type that only a newer server knows are left out.

    Raises:
        InvalidFormat: it is nonsense.
    """
    answers: list[ServerMessage] = []
    try:
        value = codec.parse(text)
        members = value.get("messages") if value.get("type") == messages.Batch.type else [value]
        if not isinstance(members, list):
            raise InvalidFormat("invalid_message", "A batch without messages.")
        for member in members:
            if not isinstance(member, dict):
                raise InvalidFormat("invalid_message", "A member of a batch is no object.")
            try:
                answers.append(codec.structure_answer(member))
            except codec.Rejected as rejected:
                if rejected.error.reason != "unknown_type":
                    raise
    except codec.Rejected as rejected:
        assert isinstance(rejected.error, InvalidFormat)
        raise rejected.error from rejected
    return answers
