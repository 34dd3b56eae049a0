"""The HTTP side: a Starlette app for the page, for front ends without WebSockets, and for operators.

It shares the store and the processor with the WebSocket connections, and says errors in the same words.
"""

import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import orjson
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from creemson.errors import REASONS, ConnectionLost, CreemsonError, InvalidFormat, ProcessingError
from creemson.processing import mailbox
from creemson.processing.jobs import Ended
from creemson.server.access import may_come_from
from creemson.server.asking import Asker
from creemson.server.http1 import Gone
from creemson.server.metrics import METRICS_TYPE, Status, metrics_of
from creemson.server.multipart import FileField
from creemson.server.sending import disk_error
from creemson.settings import Settings
from creemson.storage.parts import Part
from creemson.storage.store import Store
from creemson.wire import codec
from creemson.wire.asyncapi import describe
from creemson.wire.messages import Classic

__all__ = ["make_app", "refusing"]

STATIC = Path(__file__).parent / "static"
WRITE_BYTES = 1024 * 1024
"""Bytes of an upload that are written to the disk at once."""
FORM_BYTES = 64 * 1024
"""Bytes that a form may have besides its file."""
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
"""https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html"""
EXPOSED_HEADERS = ("Content-Disposition", "Content-Range", "Accept-Ranges", "ETag", "Retry-After")

T = TypeVar("T")
Handler = Callable[["_Handlers", Request], Awaitable[Response]]


def make_app(
    *,
    settings: Settings,
    store: Store,
    caller: str,
    processor: trio.MemorySendChannel[mailbox.Command],
    status: Callable[[], Status],
    draining: trio.Event,
    logger: FilteringBoundLogger,
) -> ASGIApp:
    """The app.

    Args:
        settings: in force.
        store: the caller's.
        caller: whose files and jobs it serves.
        processor: the processor's inbox.
        status: tells how the server is.
        draining: set once the server is shutting down.
        logger: for what the operator should know.
    """
    handlers = _Handlers(
        settings=settings,
        store=store,
        caller=caller,
        asker=Asker(processor),
        status=status,
        draining=draining,
        logger=logger,
    )
    routes = [
        Route("/", handlers.page),
        Route("/upload", handlers.upload, methods=["POST"]),
        Route("/columns/{filename:path}", handlers.columns),
        Route("/process", handlers.process, methods=["POST"]),
        Route("/download/{filename:path}", handlers.download),
        Route("/status", handlers.status),
        Route("/healthz", handlers.healthz),
        Route("/readyz", handlers.readyz),
        Route("/metrics", handlers.metrics),
        Route("/asyncapi.json", handlers.asyncapi),
        Route("/ws", handlers.not_upgraded),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    allowed = settings.server.allowed_origins
    middleware = [
        Middleware(_Headers),
        Middleware(_Origins, allowed=allowed),
        Middleware(_CORS, allowed=allowed),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: _http_error, Exception: _internal},
    )

    async def contained(scope: Scope, receive: Receive, send: Send) -> None:
        """The edge of a request: whatever is wrong with one is told and logged, and hurts no other."""
        try:
            await app(scope, receive, send)
        except (ClientDisconnect, Gone):
            pass
        except Exception:
            logger.exception("HTTP request failed unexpectedly", path=scope["path"])

    return contained


def _answering(handle: "Handler") -> "Handler":
    """Errors of ours are answered in our words, and those of the disk too."""

    @functools.wraps(handle)
    async def answer(self: "_Handlers", request: Request) -> Response:
        try:
            return await handle(self, request)
        except CreemsonError as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except OSError as error:
            self._log.error("the disk failed", error=str(error))
            return error_response(disk_error(error))

    return answer


@attrs.frozen(kw_only=True)
class _Handlers:
    """One method per path."""

    _settings: Settings
    _store: Store
    _caller: str
    _asker: Asker
    _status: Callable[[], Status]
    _draining: trio.Event
    _log: FilteringBoundLogger = attrs.field(alias="logger")

    async def page(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def status(self, _: Request) -> Response:
        return _json(attrs.asdict(self._status()))

    async def healthz(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        if self._draining.is_set():
            return error_response(_shutting_down())
        return _json({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        return Response(metrics_of(self._status()), media_type=METRICS_TYPE)

    async def asyncapi(self, _: Request) -> Response:
        return _json(describe())

    async def not_upgraded(self, _: Request) -> Response:
        fault = InvalidFormat("invalid_message", "This is the address of the WebSocket: upgrade to it.")
        return error_response(fault, status=426, headers={"upgrade": "websocket", "connection": "upgrade"})

    @_answering
    async def columns(self, request: Request) -> Response:
        filename = request.path_params["filename"]
        reply = await self._asker.ask(
            lambda connection, number: mailbox.ReadColumns(connection, number, self._caller, filename)
        )
        assert isinstance(reply, mailbox.ColumnsRead)
        return _json([column.name for column in reply.columns])

    @_answering
    async def process(self, request: Request) -> Response:
        try:
            message = codec.structure_request(codec.parse(await self._body(request)))
        except codec.Rejected as rejected:
            raise rejected.error from None
        if not isinstance(message, Classic):
            raise InvalidFormat(
                "invalid_message",
                "Only the classic request is served here: an object with filename and selectedColumns.",
            )
        query = message.query()

        def submit(connection: str, number: int) -> mailbox.Command:
            return mailbox.Submit(connection, number, self._caller, query, None, keep=False)

        reply = await _while_connected(request, lambda: self._asker.ask(submit))
        assert isinstance(reply, Ended)
        return _json(codec.plain(mailbox.result_of(reply)))

    @_answering
    async def download(self, request: Request) -> Response:
        filename = request.path_params["filename"]

        def find(connection: str, number: int) -> mailbox.Command:
            return mailbox.FindFile(connection, number, self._caller, filename)

        reply = await _while_connected(request, lambda: self._asker.ask(find))
        assert isinstance(reply, mailbox.FileReady)
        return _Download(reply.path, filename=filename)

    @_answering
    async def upload(self, request: Request) -> Response:
        if self._draining.is_set():
            raise _shutting_down()
        limit = self._settings.limits.upload_bytes
        announced = int(request.headers.get("content-length", "0"))  # h11 has seen to its form
        if announced > limit + FORM_BYTES:
            raise _too_large("The upload", announced, limit)
        field = FileField(request.headers.get("content-type", ""), "file")
        part: Part | None = None
        try:
            async with contextlib.aclosing(_by_the_megabyte(request, field, limit)) as pieces:
                async for data in pieces:
                    if part is None:
                        assert field.filename is not None
                        begin = functools.partial(
                            self._store.begin_unannounced, field.filename, most=max(announced - FORM_BYTES, 1)
                        )
                        part = await trio.to_thread.run_sync(begin)
                    await trio.to_thread.run_sync(self._store.write, part, data)
            assert part is not None
            if not announced:
                await trio.to_thread.run_sync(self._store.check_share, part.target, part.size)
            whole, part = part, None
            await trio.to_thread.run_sync(self._store.finish, whole, None)
        finally:
            if part is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._store.discard, part)
        return _json({"filename": whole.name})

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.limits.message_bytes
        body = bytearray()
        async for data in request.stream():
            body += data
            if len(body) > limit:
                fault = f"The request has more than {limit} bytes. Send less."
                raise InvalidFormat("message_too_large", fault)
        return bytes(body)


async def _by_the_megabyte(request: Request, field: FileField, limit: int) -> AsyncGenerator[bytes, None]:
    """The bytes of the file, in pieces that are worth a thread; at least one piece, if only an empty one."""
    pieces: list[bytes] = []
    waiting = size = received = 0
    async for data in request.stream():
        received += len(data)
        if received > limit + FORM_BYTES:
            raise _too_large("The upload", received, limit)
        pieces += field.feed(data) if data else ()
        waiting = sum(map(len, pieces))
        if size + waiting > limit:
            raise _too_large(repr(field.filename), size + waiting, limit)
        if waiting >= WRITE_BYTES:
            yield b"".join(pieces)
            size += waiting
            pieces = []
    field.feed(b"")
    yield b"".join(pieces)


async def _while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Cancel the work when the peer goes: nobody waits for it any more."""
    fault: Exception = ClientDisconnect()
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        try:
            return await work()
        except CreemsonError as error:  # leaving the nursery would wrap it in a group
            fault = error
        finally:
            nursery.cancel_scope.cancel()
    raise fault


class _Download(FileResponse):
    """A file to keep, and never to show: it may be a page with scripts."""

    chunk_size = 1024 * 1024


# --- errors ------------------------------------------------------------------------------------------


def error_response(
    error: CreemsonError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error as HTTP says it."""
    body = {
        "detail": error.message,
        "code": int(error.code),
        "reason": error.reason,
        "retryable": error.retryable,
        "details": error.details,
    }
    sent = dict(headers or {})
    status = REASONS[error.reason].status if status is None else status
    if error.retryable and status in (429, 503):
        sent["retry-after"] = str(max(1, round(error.retry_after or 1)))
    return _json(body, status=status, headers=sent)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    fault = InvalidFormat("invalid_message", what.get(error.status_code, str(error.detail)))
    return error_response(fault, status=error.status_code, headers=error.headers)


async def _internal(_: Request, __: Exception) -> Response:
    return error_response(
        ProcessingError("internal", "This failed for a reason that is ours, and was logged.")
    )


def refusing(status: int, message: str) -> ASGIApp:
    """An app that answers every request with a refusal."""
    reason = "rate_limited" if status == 429 else "too_many_connections"
    return error_response(InvalidFormat(reason, message), status=status, headers={"connection": "close"})


def _too_large(what: str, size: int, limit: int) -> ProcessingError:
    return ProcessingError("upload_too_large", f"{what} has {size:,} bytes or more, allowed are {limit:,}.")


def _shutting_down() -> ConnectionLost:
    return ConnectionLost("shutting_down", "The server is shutting down. Try again when it is back.")


def _json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


# --- what every request goes through -----------------------------------------------------------------


class _Headers:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, send_more)


class _Origins:
    """Refuses what pages of other origins ask for: a form of theirs could upload without a preflight."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Request(scope).headers
        origin = headers.get("origin")
        if origin is not None and not may_come_from(origin, headers.get("host", ""), self._allowed):
            fault = InvalidFormat(
                "forbidden", f"Pages of {origin} may not ask; server.allowed_origins lists those that may."
            )
            await error_response(fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _CORS(CORSMiddleware):
    """Starlette's, with the same notion of an allowed origin as everywhere (fetch.spec.whatwg.org, 3.3)."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=allowed,
            allow_methods=["GET", "HEAD", "POST", "OPTIONS"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
        self._allowed = tuple(origin.lower() for origin in allowed)

    def is_allowed_origin(self, origin: str) -> bool:
        return self.allow_all_origins or origin.lower() in self._allowed
