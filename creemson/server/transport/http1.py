"""One HTTP/1.1 connection: an ASGI app serves the requests, a WebSocket upgrade goes back to the caller.

h11 parses and writes HTTP; this module moves its bytes and decides how long each step may take. One request and its
response are an :class:`~creemson.server.transport.asgi.Exchange`.
See docs/decisions/0019-http-on-h11.md for why no existing server is used.
"""

import contextlib
import math
import re
from collections.abc import Callable

import h11
import trio
from structlog.typing import FilteringBoundLogger

from creemson.server.transport.asgi import Address, ASGIApp, Exchange, Gone, date_header, make_scope
from creemson.server.transport.closing import LINGER, Draining, is_reset, keep_alive
from creemson.server.transport.pipe import PIECE_BYTES, pipe_over
from creemson.server.transport.request_head import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    fault_of,
    in_origin_form,
    origin_in,
    origin_of,
    wants_websocket,
)
from creemson.server.transport.tls import TLSStream
from creemson.server.transport.upgrade import Upgrade
from creemson.settings.sections import Timeouts

__all__ = ["serve"]

KEEP_ALIVE = 30.0
"""Seconds within which the next request must begin."""
FIRST_REQUEST = 0.5
"""The same for the first request, if the server is shutting down."""
RECEIVE_BYTES = 64 * 1024
"""Bytes per read."""
PROBE_AFTER, MAX_PROBE_INTERVAL = 0.5, 15.0
"""Seconds after which a peer that has closed its sending side is probed; the intervals double, up to a maximum."""
RESET_CHECK = 0.25
"""Seconds between two checks whether such a peer has reset the connection."""
CONTINUE = h11.InformationalResponse(status_code=100, headers=[])
_BYTES = re.compile(r":? (?:bytearray\()?b['\"]")
"""Where the text of an error of h11 begins to show bytes of the peer."""
BLANK = b"\r\n"
"""The characters of empty lines, which are ignored before a request (RFC 9112 section 2.2)."""

Header = tuple[bytes, bytes]
Describe = Callable[[int, str, str | None], tuple[list[Header], bytes]]
"""Makes headers and body of an error response from status, text for people, and the origin of the page, if any."""


def describe_plainly(_: int, why: str, __: str | None) -> tuple[list[Header], bytes]:
    """Make an error response of text only."""
    return [(b"content-type", b"text/plain; charset=utf-8")], f"{why}\n".encode()


async def serve(
    stream: trio.abc.Stream,
    app: ASGIApp,
    *,
    timeouts: Timeouts,
    draining: Draining,
    on_refusal: Callable[[int], object] = lambda _: None,
    describe: Describe = describe_plainly,
    logger: FilteringBoundLogger,
) -> Upgrade | None:
    """Serve the requests of one connection until it ends, or until one asks for a WebSocket.

    Args:
        stream: the byte stream. The caller must close it.
        app: serves the requests. Its exceptions are logged and never raised here. After the connection has
            ended, the app's `receive()` reports that and its `send()` raises an :class:`OSError`; the app is
            cancelled if it sends nothing for `timeouts.send` seconds. A peer that closes only its sending side
            after the request still gets the response (RFC 9112 section 9.6).
        timeouts: `handshake` limits the time for the head of a request; `send` limits the time in which the
            peer takes a piece of the response, and the time for the next piece of a body that the app waits for.
        draining: once it is set, the connection ends as soon as no request is in progress; the first one still gets
            its response if it arrives in time.
        on_refusal: called with the status of an error response that is not the app's, except 400 and 500.
        describe: makes the headers and the body of an error response that is not the app's.
        logger: Logger.

    Returns:
        The upgrade request and the bytes after it, for a WebSocket server, which owns the stream from then on; or
        None if the stream must be closed.
    """
    connection = _Connection(
        stream,
        app,
        timeouts=timeouts,
        draining=draining,
        on_refusal=on_refusal,
        describe=describe,
        logger=logger,
    )
    upgrade: Upgrade | None = None
    try:
        upgrade = await connection.run()
    except* Exception:  # not from the app: a bug here or in h11
        logger.exception("HTTP connection failed unexpectedly")
    return upgrade


class _Connection:
    """Reads requests, starts an exchange for each of them, and writes what the exchanges send.

    One task reads, even while a response is in progress, so that it notices when the peer disconnects. Each
    app has its own task and writes from there; a pipelined request waits until the previous response is sent.

    Attributes:
        over: whether nothing that an app sends can reach the peer any more.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        app: ASGIApp,
        *,
        timeouts: Timeouts,
        draining: Draining,
        on_refusal: Callable[[int], object],
        describe: Describe,
        logger: FilteringBoundLogger,
    ) -> None:
        self._stream = stream
        self._pipe = pipe_over(stream)
        self._app = app
        self._timeouts = timeouts
        self._draining = draining
        self._on_refusal = on_refusal
        self._describe = describe
        self._log = logger
        self._secure = isinstance(stream, TLSStream)
        self._client, self._server = _addresses(stream)
        self._h11 = _new_parser()
        self._request: h11.Request | None = None  # the latest request
        self._origin: str | None = None  # origin of the page that sent it
        self._exchange: Exchange | None = None  # the latest exchange
        self._is_responding = False  # whether it is in progress
        self._resumed = trio.Event()  # set when the next pipelined request may be parsed
        self.over = False
        self._lingers = False  # whether the peer gets time to read the last response
        self._writing = trio.Lock()  # held while an event is written
        self._deadline = trio.current_time() + timeouts.handshake  # for the bytes that are read next
        self._waiting = trio.CancelScope()  # around the current read
        self._reading = trio.CancelScope()  # around all reads
        self._apps: trio.Nursery | None = None  # from the first request on that is for the app

    async def run(self) -> Upgrade | None:
        """Serve until the connection ends; return the same as :func:`serve`."""
        first: h11.Request | Upgrade | None = None  # still None if the reading is cancelled
        with self._draining.calling(self._end_if_idle):
            with self._reading:
                first = await self._read()
                # Most connections ask for a WebSocket at once: they need no nursery.
                if isinstance(first, Upgrade):
                    return first
            if isinstance(first, h11.Request) and not self.over:
                return await self._serve_apps(first)
            if self._lingers:
                await self._linger()
        return None

    async def _serve_apps(self, request: h11.Request) -> Upgrade | None:
        """Do the same from the first request that is for the app."""
        found: h11.Request | Upgrade | None = request
        async with trio.open_nursery() as self._apps:
            with trio.CancelScope() as self._reading:
                while isinstance(found, h11.Request):
                    self._start_exchange(self._apps, found)
                    found = await self._read()
                self._reading.cancel()
            # Nothing is read any more; only the apps have to finish.
            upgrade = found if isinstance(found, Upgrade) else None
            self._cancel_apps_after(self._timeouts.send if upgrade is None else LINGER)
            if self._exchange is not None:
                self._exchange.disconnect()
            if self._lingers:
                await self._linger()
        return upgrade

    def _end_if_idle(self) -> None:
        if not self._is_idle:
            return
        if self._request is None:  # the client has just connected: its first request may be under way
            self._limit_reading(FIRST_REQUEST)
        else:
            self.end(polite=False)

    def _cancel_apps_after(self, seconds: float) -> None:
        if self._apps is not None:
            self._apps.cancel_scope.deadline = trio.current_time() + seconds

    # --- reading -------------------------------------------------------------------------------------

    async def _read(self) -> h11.Request | Upgrade | None:
        """Return the next request, or None at the end; pass on the body of the previous one meanwhile."""
        while True:
            head = self._h11.trailing_data[0] if self._h11.their_state is h11.IDLE else b""
            try:
                event = self._next_event()
            except h11.RemoteProtocolError as error:
                status, what = error.error_status_hint, _BYTES.split(str(error))[0]
                self._origin = origin_in(head) or self._origin
                why = HEAD_TOO_LARGE if status == 431 else f"The request is not valid HTTP: {what}."
                await self.refuse(status, why)
                return None
            if event is h11.NEED_DATA:
                if not await self._receive():
                    break
            elif event is h11.PAUSED:
                self._resumed = trio.Event()
                await self._resumed.wait()
            elif isinstance(event, h11.Request):
                self._request, self._origin = event, origin_of(event)
                if fault := fault_of(event):
                    await self.refuse(*fault)
                    return None
                event = in_origin_form(event)
                if wants_websocket(event):
                    return Upgrade(event, self._h11.trailing_data[0])
                return event
            elif isinstance(event, h11.Data) and self._exchange:
                await self._exchange.put(bytes(event.data), more=True)
            elif isinstance(event, h11.EndOfMessage) and self._exchange:
                await self._exchange.put(b"", more=False)
            else:  # h11.ConnectionClosed
                break
        if self._is_responding and not self.over:
            await self._watch_half_closed()
        return None

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event; bytes after the peer's last request must be ignored (RFC 9112 section 9.6)."""
        return h11.NEED_DATA if self._h11.their_state is h11.MUST_CLOSE else self._h11.next_event()

    async def _receive(self) -> bool:
        """Wait for bytes for the parser; return False if there is nothing more to parse."""
        try:
            if self._h11.they_are_waiting_for_100_continue:
                assert self._exchange is not None
                await self._exchange.body_wanted.wait()  # perhaps the app refuses the request by its head
                await self.send(CONTINUE)
            with trio.CancelScope(deadline=self._deadline) as self._waiting:
                data = await self._pipe.read(RECEIVE_BYTES)
        except (Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            self.over = True
            return False
        if self._waiting.cancelled_caught:
            if not self._is_idle:
                self._log.info("the head of a request took too long")
                self._origin = origin_in(self._h11.trailing_data[0])
                await self.refuse(408, "The head of the request took too long.")
            return False
        if self._h11.their_state is h11.MUST_CLOSE:
            return bool(data)
        if (
            data
            and self._h11.their_state in {h11.IDLE, h11.DONE}
            and not self._h11.trailing_data[0]
            and not (data := data.lstrip(BLANK))
        ):
            return True
        if self._is_idle and (self._exchange or self.draining):
            self._limit_reading(self._timeouts.handshake)
        self._h11.receive_data(bytes(data))
        return True

    async def _watch_half_closed(self) -> None:
        """Wait until a peer that has closed its sending side has its response, or has disconnected.

        Both look the same until something is sent to it. So an informational response is sent, which every client of
        HTTP/1.1 must be able to receive (RFC 9110 section 15.2); a peer that has disconnected answers with a reset.
        For HTTP/1.0, the keep-alive of TCP finds out, within a minute or two. Cancelled when the response is complete.
        """
        keep_alive(self._stream)
        assert self._request is not None
        probes = self._request.http_version != b"1.0"
        wait = PROBE_AFTER
        probe_at = trio.current_time() + wait
        while not is_reset(self._stream):
            await trio.sleep(RESET_CHECK)
            if probes and self._h11.our_state is h11.SEND_RESPONSE and trio.current_time() >= probe_at:
                wait = min(2 * wait, MAX_PROBE_INTERVAL)
                probe_at = trio.current_time() + wait
                with contextlib.suppress(Gone):
                    await self.send(CONTINUE)
        self.end(polite=False)

    @property
    def _is_idle(self) -> bool:
        """Whether no request is in progress, not even its head."""
        return not self._is_responding and not self._h11.trailing_data[0]

    def _limit_reading(self, seconds: float) -> None:
        self._deadline = self._waiting.deadline = trio.current_time() + seconds

    def _start_exchange(self, apps: trio.Nursery, request: h11.Request) -> None:
        self._limit_reading(math.inf)
        self._is_responding = True
        scope = make_scope(request, secure=self._secure, client=self._client, server=self._server)
        self._exchange = Exchange(self, scope["method"], patience=self._timeouts.send, logger=self._log)
        apps.start_soon(self._exchange.run, self._app, scope)

    # --- what an exchange calls: see asgi.Connection ------------------------------------------------

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    async def send(self, *events: h11.Event) -> None:
        await self._write(b"".join(self._h11.send(event) or b"" for event in events))

    def response_sent(self) -> None:
        self._is_responding = False
        both_done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if both_done and not self.draining:
            self._h11.start_next_cycle()
            self._skip_blank_lines()
            self._limit_reading(KEEP_ALIVE if self._is_idle else self._timeouts.handshake)
            self._resumed.set()
        else:
            self.end(polite=True)

    def end(self, *, polite: bool) -> None:
        self._lingers = self._lingers or (polite and not self.over)
        self.over = True
        self._reading.cancel()

    async def refuse(self, status: int, why: str) -> None:
        if not self.over:
            self.over = self._lingers = True
            if status not in {400, 500}:  # 400 is also the status if the peer disconnects during a request
                self._on_refusal(status)
            if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                with contextlib.suppress(Gone):
                    await self.send(*self._error_response(status, why))
        self._reading.cancel()

    def _error_response(self, status: int, why: str) -> list[h11.Event]:
        """Build the last response of the connection."""
        headers, body = self._describe(status, why, self._origin)
        length = (b"content-length", str(len(body)).encode())
        sent = [length, *headers, (b"connection", b"close"), date_header()]
        answers_head = (
            self._h11.our_state is h11.SEND_RESPONSE  # otherwise the latest request has been answered
            and self._request is not None
            and self._request.method == b"HEAD"
        )
        content = [] if answers_head else [h11.Data(data=body)]
        return [h11.Response(status_code=status, headers=sent), *content, h11.EndOfMessage()]

    def _skip_blank_lines(self) -> None:
        """Skip empty lines behind a request: h11 does not ignore them."""
        rest, ended = self._h11.trailing_data
        if rest[:1] and rest[:1] in BLANK:
            self._h11 = _new_parser()
            if rest := rest.lstrip(BLANK):
                self._h11.receive_data(rest)
            if ended:
                self._h11.receive_data(b"")

    # --- writing -------------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        try:
            async with self._writing:
                for start in range(0, len(data), PIECE_BYTES):
                    if self._reading.cancel_called:  # the peer still reads, so the app gets more time
                        self._cancel_apps_after(self._timeouts.send)
                    await self._pipe.write(memoryview(data)[start : start + PIECE_BYTES], self._timeouts.send)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            if isinstance(error, trio.TooSlowError):
                self._log.info("the peer does not take the response")
            self.end(polite=False)
            raise Gone from None
        except trio.Cancelled:  # perhaps by the app; half a message may have been sent
            self.end(polite=False)
            raise

    async def _linger(self) -> None:
        """Close our side first (RFC 9112 section 9.6): a reset might overtake the response."""
        disconnected = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
        with trio.move_on_after(LINGER), disconnected:
            async with self._writing:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass


def _new_parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)


def _addresses(stream: trio.abc.Stream) -> tuple[Address | None, Address | None]:
    """Return the addresses of the peer and of our side, if known."""
    if isinstance(stream, TLSStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return None, None
    try:
        return stream.socket.getpeername()[:2], stream.socket.getsockname()[:2]
    except OSError:  # the peer has disconnected already
        return None, None
