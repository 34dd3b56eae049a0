"""One HTTP/1.1 connection: requests go to an ASGI app, WebSocket upgrades back to the caller.

h11 parses, and Hypercorn's ``H11Protocol`` turns its events into ASGI. The protocol object and its parts are
not Hypercorn's public interface, so Hypercorn is pinned to 0.18.x, and no other module uses them. What runs
them is written here, because Hypercorn's own runner

- dies on a WebSocket upgrade with frames glued to it (Hypercorn issue #225);
- sends in a shielded scope, so a peer that does not read would hold a shutdown up for ever;
- waits for ever for a request body that has stalled;
- waits for ever, too, once an app has answered without reading a large body: the message that tells it of
  the end does not fit into its full queue;
- switches to HTTP/2 by itself.
"""

import contextlib
import dataclasses
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.worker_context import WorkerContext
from structlog.typing import FilteringBoundLogger

from creemson.server.pipe import PIECE
from creemson.server.tls import TLSStream
from creemson.settings import Timeouts

__all__ = ["ASGIApp", "Gone", "serve"]

Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI 3 application, in the same words as Starlette's."""

MAX_HEAD_BYTES = 32 * 1024
"""Of a request: its first line and its headers."""
KEEP_ALIVE = 30.0
"""Seconds in which the next request has to begin."""
LINGER = 2.0
"""Seconds in which a peer can read the last response, while what it sends is discarded."""
RECEIVE_BYTES = 64 * 1024
MIN_RATE = 1024.0
"""Bytes per second that a body has to come with, on the average, after `timeouts.send` seconds for nothing."""
QUEUE = 4
"""Pieces of a body that wait for the app; after these, the peer waits."""


class Draining(Protocol):
    """What is needed of :class:`trio.Event`."""

    def is_set(self) -> bool:
        """Whether the server is shutting down."""

    async def wait(self) -> object:
        """Wait until it is."""


async def serve(
    stream: trio.abc.Stream,
    app: ASGIApp,
    *,
    timeouts: Timeouts,
    draining: Draining,
    on_refusal: Callable[[int], object] = lambda _: None,
    logger: FilteringBoundLogger,
) -> bytes | None:
    """Serve the requests of one connection until it ends, or until one wants to be a WebSocket.

    Args:
        stream: to talk over. Closing it is left to the caller.
        app: answers the requests. What it raises is logged, and never raised here. When the connection has
            ended, its `receive()` says so, its `send()` raises an :class:`OSError`, and after
            `timeouts.send` seconds in which it has sent nothing it is cancelled.
        timeouts: `handshake` for the head of a request; `send` for a piece of the response to be taken by
            the peer, and for the next piece of a body that the app waits for, which may not take for ever either.
        draining: once it is set, the connection ends as soon as no request is in progress.
        on_refusal: is told the status of a response that is made here and not by the app.
        logger: for what the operator should know.

    Returns:
        The upgrade request and what came behind it, to be replayed to a WebSocket server, which from then
        on has the stream to itself; or None, if the stream is to be closed.
    """
    connection = _Connection(stream, app, timeouts=timeouts, draining=draining, logger=logger)
    connection.on_refusal = on_refusal
    upgrade: bytes | None = None
    try:
        upgrade = await connection.run()
    except* Exception:  # not the app's: a fault of ours or of Hypercorn's
        logger.exception("HTTP connection failed unexpectedly")
    return upgrade


class _Upgrade(Exception):  # noqa: N818 - no fault
    """The peer wants to speak WebSocket; the argument is what is to be replayed."""


class _Refused(Exception):  # noqa: N818 - the answer
    """The request is not served; the argument is the status."""


class Gone(OSError):  # noqa: N818 - a state, not always a fault
    """Nothing can be sent any more (the ASGI specification wants an OSError)."""

    def __init__(self) -> None:
        super().__init__("the connection has ended")


class _Parser(h11.Connection):
    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event; none, once the peer has said that this is its last request.

        Whatever follows must not be processed (RFC 9112 section 9.6). To h11 it is an error, and to
        Hypercorn one to be answered with 400, in place of the response that is on its way.
        """
        return h11.NEED_DATA if self.their_state is h11.MUST_CLOSE else super().next_event()


class _Protocol(H11Protocol):
    """Hypercorn's, without HTTP/2 and WebSockets."""

    async def stream_send(self, event: events.Event) -> None:
        if isinstance(event, events.Response) and self.context.terminated.is_set():
            event = dataclasses.replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        if len(_head(event)) > MAX_HEAD_BYTES:  # h11 counts only what is not complete
            raise _Refused(431)
        if not event.http_version.startswith(b"1."):  # HTTP/2 with prior knowledge (RFC 9113 section 3.3)
            raise _Refused(505)
        if event.method == b"CONNECT":  # for proxies (RFC 9110 section 9.3.6)
            raise _Refused(501)
        # Methods are case-sensitive (section 9.1), but not to Hypercorn: of the response to "head", it would
        # leave out the body, for which h11 waits.
        if event.method != b"HEAD" and event.method.upper() == b"HEAD":
            raise _Refused(501)

    async def _create_stream(self, request: h11.Request) -> None:
        if _wants_websocket(request):
            raise _Upgrade(_head(request) + self.connection.trailing_data[0])
        # Any other Upgrade may be ignored, and must be in HTTP/1.0 (RFC 9110 section 7.8).
        headers = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"upgrade"]
        request = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        await super()._create_stream(request)

    @property
    def idle(self) -> bool:
        """Whether no request is in progress, not even its head."""
        return self.stream is None and not self.connection.trailing_data[0]

    async def refuse(self, status: int) -> None:
        """Answer with an error, unless the response has begun."""
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status)


class _Connection:
    """Reads, feeds the protocol, and writes. Also what Hypercorn calls a task group."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        app: ASGIApp,
        *,
        timeouts: Timeouts,
        draining: Draining,
        logger: FilteringBoundLogger,
    ) -> None:
        self._stream = stream
        self.timeouts = timeouts
        self._draining = draining
        self.log = logger
        self.over = False  # for the app: whatever it sends goes nowhere
        self.on_refusal: Callable[[int], object] = lambda _: None
        self._polite = False
        self._writing = trio.Lock()
        self._deadline = trio.current_time() + timeouts.handshake
        self._waiting = trio.CancelScope()
        config = _config()
        context = WorkerContext(None)
        context.terminated = cast("Any", draining)
        # Not as typed: the app is only handed on to spawn_app(), the task group is this object.
        encrypted = isinstance(stream, TLSStream)
        parts: Any = (app, config, context, self, {}, encrypted, *_addresses(stream), self._send)
        self._protocol = _Protocol(*parts)
        self._protocol.connection = _Parser(h11.SERVER, config.h11_max_incomplete_size)

    async def run(self) -> bytes | None:
        upgrade: bytes | None = None
        async with trio.open_nursery() as self._apps:
            async with trio.open_nursery() as reading:
                self._reading = reading.cancel_scope
                reading.start_soon(self._watch)
                upgrade = await self._read()
                reading.cancel_scope.cancel()
            # From here on, the apps have to come to their ends.
            self._apps.cancel_scope.deadline = trio.current_time() + (
                self.timeouts.send if upgrade is None else LINGER
            )
            await self._protocol.handle(Closed())
            if self._polite:
                await self._linger()
        return upgrade

    def end(self, *, polite: bool) -> None:
        """Read no more requests, and let the app send no more."""
        self._polite = self._polite or (polite and not self.over)
        self.over = True
        self._reading.cancel()

    async def refuse(self, status: int) -> None:
        """End with an error response, if it is not too late for one."""
        if not self.over:
            self.over = self._polite = True
            self.on_refusal(status)
            with contextlib.suppress(Gone):
                await self._protocol.refuse(status)
        self._reading.cancel()

    # --- reading -------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        await self._draining.wait()
        if self._protocol.idle:
            self.end(polite=False)

    async def _read(self) -> bytes | None:
        protocol = self._protocol
        while True:
            with trio.CancelScope(deadline=self._deadline) as self._waiting:
                try:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.over = True
                    return None
            if self._waiting.cancelled_caught:
                if not protocol.idle:
                    self.log.info("the head of a request took too long")
                    await self.refuse(408)
                return None
            if data and protocol.connection.their_state is h11.MUST_CLOSE:
                continue
            if protocol.idle and protocol.keep_alive_requests:
                self._wait(self.timeouts.handshake)
            try:
                await protocol.handle(RawData(bytes(data)))
            except _Upgrade as upgrade:
                request: bytes = upgrade.args[0]
                return request
            except _Refused as refused:
                await self.refuse(refused.args[0])
                return None
            except Gone:
                return None
            if not data:
                return None

    def _wait(self, seconds: float) -> None:
        self._deadline = self._waiting.deadline = trio.current_time() + seconds

    # --- what Hypercorn calls ------------------------------------------------------------------------

    async def spawn_app(
        self, app: ASGIApp, config: Config, scope: Message, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Start to answer a request.

        Returns:
            Where its body goes.
        """
        exchange = _Exchange(self, send, config.max_app_queue_size)
        self._apps.start_soon(exchange.run, app, scope)
        return exchange.put

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            self.end(polite=True)
        elif isinstance(event, Updated):
            if not event.idle:
                self._wait(math.inf)
            else:
                self._wait(KEEP_ALIVE if self._protocol.idle else self.timeouts.handshake)

    # --- writing -------------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            try:
                for start in range(0, len(data), PIECE):
                    if self._reading.cancel_called:  # the peer has nothing more to say, but listens
                        self._apps.cancel_scope.deadline = trio.current_time() + self.timeouts.send
                    with trio.fail_after(self.timeouts.send):
                        await self._stream.send_all(memoryview(data)[start : start + PIECE])
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                if isinstance(error, trio.TooSlowError):
                    self.log.info("the peer does not take the response")
                self.end(polite=False)
                raise Gone from None
            except trio.Cancelled:  # by the app, perhaps; half a message may have been sent
                self.end(polite=False)
                raise

    async def _linger(self) -> None:
        """Close our side first (RFC 9112 section 9.6): a reset might overtake the response."""
        gone = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
        with trio.move_on_after(LINGER), gone:
            async with self._writing:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass


class _Exchange:
    """One request and its response, as the app sees them."""

    def __init__(
        self, connection: _Connection, answer: Callable[[Message | None], Awaitable[None]], queue: int
    ) -> None:
        self._connection = connection
        self._answer = answer
        self._in, self._out = trio.open_memory_channel[Message](queue)
        self._whole = False
        self._taken = 0  # bytes of the body
        self._waited = 0.0  # seconds for them

    async def run(self, app: ASGIApp, scope: Message) -> None:
        with self._out:
            try:
                await app(scope, self._receive, self._send)
            except* Exception as faults:
                self._log(faults)
            try:
                await self._answer(None)  # ends the response; if there is none, it is 500
            except (h11.LocalProtocolError, Gone):  # it cannot be ended properly
                self._connection.end(polite=True)

    async def put(self, event: Message) -> None:
        """Take the next part of the body, or that the request is over (which never waits)."""
        if event["type"] == "http.disconnect":
            self._in.close()
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._in.send(event)

    async def _receive(self) -> Message:
        began = trio.current_time()
        with trio.move_on_after(self._patience()) as patience:
            try:
                event = await self._out.receive()
            except trio.EndOfChannel:
                await trio.lowlevel.checkpoint()
                return {"type": "http.disconnect"}
        if patience.cancelled_caught:
            self._connection.log.info("the body of a request stalled")
            self._in.close()
            await self._connection.refuse(408)
            return {"type": "http.disconnect"}
        self._waited += trio.current_time() - began
        self._taken += len(event.get("body", b""))
        self._whole = not event.get("more_body", False)
        return event

    def _patience(self) -> float:
        """Seconds that the next part of the body may take: a byte now and then is not enough."""
        if self._whole:
            return math.inf
        most = self._connection.timeouts.send
        return max(0.0, min(most, most + self._taken / MIN_RATE - self._waited))

    async def _send(self, event: Message) -> None:
        if self._connection.over:
            await trio.lowlevel.checkpoint()
            raise Gone
        await self._answer(event)

    def _log(self, faults: ExceptionGroup[Exception]) -> None:
        fault: BaseException = faults.exceptions[0] if len(faults.exceptions) == 1 else faults
        if self._connection.over:  # most likely a consequence of that
            # Starlette tries to answer 500 to its own ClientDisconnect.
            fault = (fault.__context__ or fault) if isinstance(fault, Gone) else fault
            self._connection.log.info("a request was given up: the connection has ended", error=repr(fault))
        else:
            self._connection.log.exception("the HTTP app failed", exc_info=fault)


def _config() -> Config:
    config = Config()
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.max_app_queue_size = QUEUE
    config.include_server_header = False
    config.accesslog = config.errorlog = None
    return config


def _addresses(stream: trio.abc.Stream) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    if isinstance(stream, TLSStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return None, None
    try:
        return stream.socket.getpeername()[:2], stream.socket.getsockname()[:2]
    except OSError:  # it has gone already
        return None, None


def _wants_websocket(request: h11.Request) -> bool:
    def tokens(wanted: bytes) -> set[bytes]:
        values = b",".join(value for name, value in request.headers if name == wanted)
        return {token.strip() for token in values.lower().split(b",")}

    return (
        request.method == b"GET"
        and request.http_version != b"1.0"
        and b"upgrade" in tokens(b"connection")
        and b"websocket" in tokens(b"upgrade")
    )


def _head(request: h11.Request) -> bytes:
    lines = [b"%b %b HTTP/%b" % (request.method, request.target, request.http_version)]
    lines += [b"%b: %b" % header for header in request.headers.raw_items()]
    return b"\r\n".join([*lines, b"", b""])
