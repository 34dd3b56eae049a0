"""One HTTP request and its response as an ASGI app sees them: the scope, ``receive()`` and ``send()``.

:mod:`creemson.server.transport.http1` handles the bytes of the connection, and the sequence of its requests.
"""

import email.utils
import enum
import functools
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import unquote

import h11
import trio
from structlog.typing import FilteringBoundLogger

__all__ = ["ASGIApp", "Exchange", "Gone", "Message", "date_header", "make_scope"]

Message = MutableMapping[str, Any]
"""A scope or an event of the ASGI specification."""
ASGIApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI 3 application, with the same types as Starlette's."""
Address = tuple[str, int]
"""Host and port."""

MIN_RATE = 1024.0
"""Minimum average rate of a request body in bytes per second, once `timeouts.send` seconds have been used up."""
QUEUE = 4
"""Maximum number of body parts that wait for the app; while the queue is full, nothing is read."""


class Gone(OSError):  # noqa: N818 - a state, not always an error
    """Nothing can be sent any more (the ASGI specification requires an OSError)."""

    def __init__(self) -> None:
        super().__init__("the connection has ended")


class Connection(Protocol):
    """What an exchange needs from its connection."""

    @property
    def over(self) -> bool:
        """Whether the connection has ended: nothing that the app sends can reach the peer."""

    @property
    def draining(self) -> bool:
        """Whether the current response is the last one."""

    async def send(self, *events: h11.Event) -> None:
        """Send parts of the response.

        Raises:
            Gone: the connection has ended.
            h11.LocalProtocolError: HTTP does not allow this here.
        """

    async def refuse(self, status: int, why: str) -> None:
        """Send an error response if that is still possible, and end the connection."""

    def response_sent(self) -> None:
        """Note that the response is complete."""

    def end(self, *, polite: bool) -> None:
        """End the connection; if `polite`, give the peer time to read what has been sent."""


class _Phase(enum.Enum):
    """What the app has to send next."""

    HEAD = enum.auto()
    BODY = enum.auto()
    NOTHING = enum.auto()


class Exchange:
    """One request and its response.

    Args:
        connection: sends the response.
        method: method of the request, in upper case.
        patience: maximum seconds the app waits for the next part of the body.
        logger: Logger.

    Attributes:
        body_wanted: set once the app waits for the body of the request.
    """

    def __init__(
        self, connection: Connection, method: str, *, patience: float, logger: FilteringBoundLogger
    ) -> None:
        self._connection = connection
        self._method = method
        self._log = logger
        self._pace = _Pace(patience)
        self._parts_in, self._parts_out = trio.open_memory_channel[Message](QUEUE)
        self._phase = _Phase.HEAD
        self._bodiless = method == "HEAD"  # whether the response has no body, even if the app sends one
        self.body_wanted = trio.Event()  # set once the app waits for the body

    async def run(self, app: ASGIApp, scope: Message) -> None:
        """Run the app and log its exceptions; if its response is incomplete, send an error or end the connection."""
        with self._parts_out:
            try:
                await app(scope, self._receive, self._send)
            except* Exception as errors:
                self._log_errors(errors)
            if self._phase is not _Phase.NOTHING and not self._connection.over:
                if self._phase is _Phase.HEAD:
                    await self._connection.refuse(500, "The server failed; the error has been logged.")
                else:
                    self._connection.end(polite=True)

    async def put(self, data: bytes, *, more: bool) -> None:
        """Queue a part of the request body for the app. Waits while the queue is full."""
        part = {"type": "http.request", "body": data, "more_body": more}
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the exchange is over
            try:
                self._parts_in.send_nowait(part)
            except trio.WouldBlock:
                await self._parts_in.send(part)

    def disconnect(self) -> None:
        """Report to the app, after the queued parts, that the request is over. Idempotent."""
        self._parts_in.close()

    # --- what the app calls --------------------------------------------------------------------------

    async def _receive(self) -> Message:
        self.body_wanted.set()
        began = trio.current_time()
        with trio.move_on_after(self._pace.remaining) as waiting:
            try:
                part = await self._parts_out.receive()
            except trio.EndOfChannel:
                await trio.lowlevel.checkpoint()
                return {"type": "http.disconnect"}
        if waiting.cancelled_caught:
            self._log.info("the body of a request stalled")
            self.disconnect()
            await self._connection.refuse(408, "The body of the request stalled, or came too slowly.")
            return {"type": "http.disconnect"}
        self._pace.record(trio.current_time() - began, len(part["body"]), last=not part["more_body"])
        return part

    async def _send(self, message: Message) -> None:
        if self._connection.over:
            await trio.lowlevel.checkpoint()
            raise Gone
        kind = message["type"]
        if kind == "http.response.start" and self._phase is _Phase.HEAD:
            await self._send_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self._phase is _Phase.BODY:
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} cannot be sent now; the response expects: {self._phase.name.lower()}")

    async def _send_head(self, status: int, headers: Any) -> None:
        if status < 200:  # the final response follows; h11 refuses 101
            await self._connection.send(h11.InformationalResponse(status_code=status, headers=list(headers)))
            return
        sent = [*headers, date_header()]
        if self._connection.draining:
            sent.append((b"connection", b"close"))
        head = h11.Response(status_code=status, headers=sent)
        self._bodiless = self._bodiless or status in {204, 304}
        self._phase = _Phase.BODY
        await self._connection.send(head)

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        events: list[h11.Event] = []
        if data and not self._bodiless:
            events.append(h11.Data(data=data))
        if not more:
            events.append(h11.EndOfMessage())
        await self._connection.send(*events)
        if not more:
            self._phase = _Phase.NOTHING
            self.disconnect()
            self._connection.response_sent()

    def _log_errors(self, errors: ExceptionGroup[Exception]) -> None:
        error: BaseException = errors.exceptions[0] if len(errors.exceptions) == 1 else errors
        if self._connection.over:  # most likely the cause of the error
            # Starlette tries to answer 500 to its own ClientDisconnect.
            error = (error.__context__ or error) if isinstance(error, Gone) else error
            self._log.info("a request was abandoned: the connection has ended", error=repr(error))
        else:
            self._log.exception("the HTTP app failed", exc_info=error)


class _Pace:
    """Decides how long the app waits for the next part of a body; requires an average of :data:`MIN_RATE`.

    Args:
        patience: maximum seconds for one part.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waited = 0.0  # seconds, for all parts together
        self._bytes = 0  # size of all parts together
        self._complete = False

    @property
    def remaining(self) -> float:
        """Maximum seconds to wait now; infinite once the body is complete."""
        if self._complete:
            return math.inf
        return max(0.0, min(self._patience, self._patience + self._bytes / MIN_RATE - self._waited))

    def record(self, seconds: float, size: int, *, last: bool) -> None:
        """Record a part and how long it took."""
        self._waited += seconds
        self._bytes += size
        self._complete = last


def make_scope(
    request: h11.Request, *, secure: bool, client: Address | None, server: Address | None
) -> Message:
    """Build the ASGI scope of a request.

    Args:
        request: the request, as parsed by h11.
        secure: whether the connection is encrypted.
        client: address of the peer, if known.
        server: our own address, if known.
    """
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},  # 2.4: send() raises an OSError after the end
        "http_version": request.http_version.decode(),
        "method": request.method.decode().upper(),
        "scheme": "https" if secure else "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        # An Upgrade header may be ignored; in HTTP/1.0, it must be ignored (RFC 9110 section 7.8).
        "headers": [(name, value) for name, value in request.headers if name != b"upgrade"],
        "client": client,
        "server": server,
    }


def date_header() -> tuple[bytes, bytes]:
    """Return the `Date` header."""
    return b"date", _date(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return email.utils.formatdate(second, usegmt=True).encode()
