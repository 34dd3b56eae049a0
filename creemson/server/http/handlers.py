"""The HTTP side: a Starlette app for the page, for front ends without WebSockets, and for operators.

It shares the store and the processor with the WebSocket connections, and says errors in the same words.
"""

import contextlib
import functools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import attrs
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, InvalidFormat, ProcessingError, disk_error
from creemson.metrics import METRICS_TYPE, Metrics, Now
from creemson.processing import mailbox
from creemson.processing.jobs import Ended
from creemson.processing.memory import Memory
from creemson.server.answers import (
    error_response,
    http_error,
    internal_error,
    json_response,
    shutting_down,
    too_large,
)
from creemson.server.asking import Asker
from creemson.server.gate import Gate
from creemson.server.http1 import Gone
from creemson.server.middleware import CALLER, CORS, CallerKnown, Origins, SecurityHeaders
from creemson.server.multipart import FileField
from creemson.settings import Settings, is_loopback
from creemson.storage.parts import Part
from creemson.storage.stores import Stores
from creemson.wire import codec
from creemson.wire.asyncapi import describe
from creemson.wire.messages import Classic

__all__ = ["Status", "make_app"]

STATIC = Path(__file__).parent / "static"
WRITE_BYTES = 1024 * 1024
"""Bytes of an upload that are written to the disk at once."""
FORM_BYTES = 64 * 1024
"""Bytes that a form may have besides its file."""
REFUSALS = frozenset({401, 403, 413, 429, 503, 507})
"""Statuses that tell of a limit, and not only of a mistake."""
T = TypeVar("T")
Handler = Callable[["_Handlers", Request], Awaitable[Response]]


@attrs.frozen(kw_only=True)
class Status:
    """How the server is; what ``GET /status`` says.

    Attributes:
        version: of the server.
        uptime_s: seconds since it began.
        connections: open WebSocket connections.
        jobs: by state; queued and running now; done, failed and cancelled since the server began.
    """

    version: str
    uptime_s: float
    connections: int
    jobs: Mapping[str, int]


def make_app(
    *,
    settings: Settings,
    stores: Stores,
    gate: Gate,
    processor: trio.MemorySendChannel[mailbox.Command],
    status: Callable[[str], Status],
    draining: trio.Event,
    memory: Memory | None = None,
    metrics: Metrics,
    now: Callable[[], Now],
    logger: FilteringBoundLogger,
) -> ASGIApp:
    """The app.

    Args:
        settings: in force.
        stores: of all callers.
        gate: finds out who asks.
        processor: the processor's inbox.
        status: tells a caller how the server is.
        draining: set once the server is shutting down.
        memory: says whether new work may begin.
        metrics: where requests that are turned away are counted, and what ``GET /metrics`` tells.
        now: how the server is, for ``GET /metrics``.
        logger: for what the operator should know.
    """
    handlers = _Handlers(
        settings=settings,
        stores=stores,
        asker=Asker(processor),
        status=status,
        metrics=metrics,
        now=now,
        memory=memory,
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
        Middleware(SecurityHeaders),
        Middleware(
            Origins,
            allowed=allowed,
            may_be_rebound=is_loopback(settings.server.host) and not gate.guarded,
        ),
        Middleware(CORS, allowed=allowed),
        Middleware(CallerKnown, gate=gate),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: http_error, Exception: internal_error},
    )

    async def contained(scope: Scope, receive: Receive, send: Send) -> None:
        """The edge of a request: whatever is wrong with one is told and logged, and hurts no other."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in REFUSALS:
                metrics.refusals[str(message["status"])] += 1
                # Without the query, in which somebody may have put a secret.
                logger.info(
                    "refused",
                    status=message["status"],
                    method=scope["method"],
                    path=scope["path"],
                    peer="{}:{}".format(*scope["client"]) if scope.get("client") else None,
                )
            await send(message)

        try:
            await app(scope, receive, noting)
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
    _stores: Stores
    _asker: Asker
    _status: Callable[[str], Status]
    _metrics: Metrics
    _now: Callable[[], Now]
    _memory: Memory | None
    _draining: trio.Event
    _log: FilteringBoundLogger = attrs.field(alias="logger")

    async def page(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def status(self, request: Request) -> Response:
        return json_response(attrs.asdict(self._status(caller_of(request))))

    async def healthz(self, _: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        if self._draining.is_set():
            return error_response(shutting_down())
        if self._memory is not None and self._memory.scarce:
            return error_response(self._memory.refusal())
        return json_response({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(self._now()), media_type=METRICS_TYPE)

    async def asyncapi(self, _: Request) -> Response:
        return json_response(describe())

    async def not_upgraded(self, _: Request) -> Response:
        fault = InvalidFormat("invalid_message", "This is the address of the WebSocket: upgrade to it.")
        return error_response(fault, status=426, headers={"upgrade": "websocket", "connection": "upgrade"})

    @_answering
    async def columns(self, request: Request) -> Response:
        filename = request.path_params["filename"]
        reply = await self._asker.ask(
            lambda connection, number: mailbox.ReadColumns(connection, number, caller_of(request), filename)
        )
        assert isinstance(reply, mailbox.ColumnsRead)
        return json_response([column.name for column in reply.described.columns])

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
            return mailbox.Submit(connection, number, caller_of(request), query, None, keep=False)

        reply = await _while_connected(request, lambda: self._asker.ask(submit))
        assert isinstance(reply, Ended)
        return json_response(codec.plain(mailbox.result_of(reply)))

    @_answering
    async def download(self, request: Request) -> Response:
        filename = request.path_params["filename"]

        def find(connection: str, number: int) -> mailbox.Command:
            return mailbox.FindFile(connection, number, caller_of(request), filename)

        reply = await _while_connected(request, lambda: self._asker.ask(find))
        assert isinstance(reply, mailbox.FileReady)
        try:
            return _Download(await trio.to_thread.run_sync(reply.path.open, "rb"), filename)
        except FileNotFoundError:
            gone = ProcessingError("file_not_found", f"{filename!r} was removed in this moment.")
            raise gone from None

    @_answering
    async def upload(self, request: Request) -> Response:
        if self._draining.is_set():
            raise shutting_down()
        limit = self._settings.limits.upload_bytes
        announced = int(request.headers.get("content-length", "0"))  # h11 has seen to its form
        if announced > limit + FORM_BYTES:
            raise too_large("The upload", announced, limit)
        store = self._stores.of(caller_of(request))
        field = FileField(request.headers.get("content-type", ""), "file")
        part: Part | None = None
        try:
            async with contextlib.aclosing(_by_the_megabyte(request, field, limit)) as pieces:
                async for data in pieces:
                    if part is None:
                        assert field.filename is not None
                        begin = functools.partial(
                            store.begin_unannounced, field.filename, most=max(announced - FORM_BYTES, 1)
                        )
                        part = await trio.to_thread.run_sync(begin)
                    await trio.to_thread.run_sync(store.write, part, data)
            assert part is not None
            if not announced:
                await trio.to_thread.run_sync(store.check_share, part.target, part.size)
            whole, part = part, None
            await trio.to_thread.run_sync(store.finish, whole, None)
        finally:
            if part is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(store.discard, part)
        return json_response({"filename": whole.name})

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
            raise too_large("The upload", received, limit)
        pieces += field.feed(data) if data else ()
        waiting = sum(map(len, pieces))
        if size + waiting > limit:
            raise too_large(repr(field.filename), size + waiting, limit)
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


def caller_of(request: Request) -> str:
    """Who asks."""
    caller: str = request.scope[CALLER]
    return caller


class _Download(FileResponse):
    """A file to keep, and never to show: it may be a page with scripts.

    It is open before the response begins, so that it may be removed or replaced meanwhile. Starlette opens a
    path, and so it is given one that leads to the open file whatever has become of its name.
    """

    chunk_size = 1024 * 1024

    def __init__(self, file: BinaryIO, filename: str) -> None:
        self._file = file
        super().__init__(
            f"/proc/self/fd/{file.fileno()}", stat_result=os.fstat(file.fileno()), filename=filename
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)
