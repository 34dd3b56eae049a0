"""The handlers of the HTTP routes."""

import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import attrs
import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, InvalidFormat, ProcessingError, disk_error, shutting_down
from creemson.executors.executor import ClusterState
from creemson.executors.memory import Memory
from creemson.jobs import commands
from creemson.jobs.events import Ended
from creemson.metrics import METRICS_TYPE, Metrics, Now
from creemson.model.converter import plain
from creemson.model.filenames import composed
from creemson.server.http.downloads import FileDownload
from creemson.server.http.middleware import CALLER
from creemson.server.http.page_files import PAGE_FILES, open_page_file
from creemson.server.http.processor_client import ProcessorClient
from creemson.server.http.responses import error_response, json_response, too_large
from creemson.server.http.uploads import MAX_FORM_BYTES, finish, receive_files
from creemson.server.reach import Reach
from creemson.server.transport.closing import Draining
from creemson.settings.sections import Settings
from creemson.storage.stores import Stores
from creemson.wire import codec
from creemson.wire.asyncapi import describe
from creemson.wire.messages import LegacyRequest

__all__ = ["Handlers", "Status"]

T = TypeVar("T")
Handler = Callable[["Handlers", Request], Awaitable[Response]]


@attrs.frozen(kw_only=True)
class Status:
    """The state of the server, the response to ``GET /status``.

    Attributes:
        version: version of the server.
        uptime_s: seconds since the server started.
        connections: number of open WebSocket connections.
        jobs: number of jobs by state: queued and running now; done, failed and cancelled since the server started.
        cluster: the workers on other machines; None if there is no cluster.
    """

    version: str
    uptime_s: float
    connections: int
    jobs: Mapping[str, int]
    cluster: ClusterState | None = None


def _with_error_responses(handle: Handler) -> Handler:
    """Decorate a handler: its errors, including those of the disk, become responses."""

    @functools.wraps(handle)
    async def answer(self: "Handlers", request: Request) -> Response:
        try:
            return await handle(self, request)
        except CreemsonError as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except OSError as error:
            self._log.error("disk error", error=str(error))
            return error_response(disk_error(error))

    return answer


@attrs.frozen(kw_only=True)
class Handlers:
    """One method per route.

    Args:
        settings: effective settings.
        stores: the stores of all callers.
        processor_client: sends commands to the processor.
        status: returns the state of the server for a caller.
        metrics: shown by :meth:`metrics`.
        now: returns the current state of the server for :meth:`metrics`.
        memory: decides whether there is enough memory for new work; None disables the check.
        draining: set once the server is shutting down.
        cluster: returns the state of the cluster that jobs run on; None if there is none.
        reach: whether the database answers that this server shares with others; None if it shares none.
        logger: Logger.
    """

    _settings: Settings
    _stores: Stores
    _processor_client: ProcessorClient
    _status: Callable[[str], Status]
    _metrics: Metrics
    _now: Callable[[], Now]
    _memory: Memory | None
    _draining: Draining
    _cluster: Callable[[], ClusterState] | None
    _reach: Reach | None
    _log: FilteringBoundLogger = attrs.field(alias="logger")

    async def page(self, _: Request) -> Response:
        """Serve the page."""
        return await _page_file("index.html")

    async def static(self, request: Request) -> Response:
        """Serve a file that belongs to the page."""
        name = request.path_params["path"]
        if name not in PAGE_FILES:
            raise HTTPException(status_code=404)
        return await _page_file(name)

    async def status(self, request: Request) -> Response:
        """Return the state of the server, with the jobs of the caller."""
        status = attrs.asdict(self._status(_caller_of(request)))
        return json_response({name: value for name, value in status.items() if value is not None})

    async def healthz(self, _: Request) -> Response:
        """Report that the server is alive."""
        return json_response({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Report whether the server accepts new work."""
        if self._draining.is_set():
            return error_response(shutting_down())
        if self._memory is not None and self._memory.scarce:
            return error_response(self._memory.refusal())
        if self._reach is not None and (refusal := self._reach.refusal()) is not None:
            return error_response(refusal)
        cluster = None if self._cluster is None else self._cluster()
        if cluster is not None and cluster.trouble is not None:
            return error_response(ProcessingError("busy", f"{cluster.trouble} Jobs on large files wait."))
        return json_response({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        """Return the metrics in the text format of Prometheus."""
        return Response(self._metrics.text(self._now()), media_type=METRICS_TYPE)

    async def asyncapi(self, _: Request) -> Response:
        """Return the AsyncAPI description of the WebSocket protocol."""
        return json_response(describe())

    async def not_upgraded(self, _: Request) -> Response:
        """Answer a plain HTTP request for the WebSocket path."""
        error = InvalidFormat("invalid_message", "This path serves WebSocket connections only.")
        return error_response(error, status=426, headers={"upgrade": "websocket", "connection": "upgrade"})

    @_with_error_responses
    async def columns(self, request: Request) -> Response:
        """Return the column names of a file."""
        filename = request.path_params["filename"]
        ask = commands.ReadColumns(filename)
        reply = await _while_connected(request, lambda: self._processor_client.ask(_caller_of(request), ask))
        assert isinstance(reply, commands.ColumnsRead)
        return json_response([column.name for column in reply.described.columns])

    @_with_error_responses
    async def process(self, request: Request) -> Response:
        """Run the job of a legacy request and return its result. A disconnect cancels the job."""
        try:
            message = codec.structure_request(codec.parse(await self._body(request)))
        except codec.Rejected as rejected:
            raise rejected.error from None
        if not isinstance(message, LegacyRequest):
            raise InvalidFormat(
                "invalid_message",
                "Only a legacy request is accepted here: an object with filename and selectedColumns.",
            )
        ask = commands.Submit(message.query(), None, keep=False)
        reply = await _while_connected(request, lambda: self._processor_client.ask(_caller_of(request), ask))
        assert isinstance(reply, Ended)
        return json_response(plain(commands.result_of(reply)))

    @_with_error_responses
    async def download(self, request: Request) -> Response:
        """Send a file: an upload or an output."""
        filename = request.path_params["filename"]
        ask = commands.FindFile(filename)
        reply = await _while_connected(request, lambda: self._processor_client.ask(_caller_of(request), ask))
        assert isinstance(reply, commands.FileReady)
        store = self._stores.of(_caller_of(request))
        file = await trio.to_thread.run_sync(store.open, reply.path)
        return FileDownload(file, composed(filename), cache_control="private, no-cache", attachment=True)

    @_with_error_responses
    async def upload(self, request: Request) -> Response:
        """Store the files of a form, all or none; they replace files with the same names."""
        if self._draining.is_set():
            raise shutting_down()
        _check_encoding(request)
        limit = self._settings.limits.upload_bytes
        announced = _announced(request)
        if announced > limit + MAX_FORM_BYTES:
            raise too_large("The upload", announced, limit)
        uploads = self._stores.of(_caller_of(request)).uploads
        parts = await receive_files(request, uploads, limit=limit, announced=announced)
        names = await finish(uploads, parts)
        return json_response({"filename": names[0]} | ({"filenames": names} if len(names) > 1 else {}))

    async def _body(self, request: Request) -> bytes:
        _check_encoding(request)
        limit = self._settings.limits.message_bytes
        if _announced(request) > limit:  # before the peer sends it, if it asks first
            raise InvalidFormat("message_too_large", f"The request has more than {limit:,} bytes.")
        body = bytearray()
        async with contextlib.aclosing(request.stream()) as pieces:
            async for data in pieces:
                body += data
                if len(body) > limit:
                    raise InvalidFormat("message_too_large", f"The request has more than {limit:,} bytes.")
        return bytes(body)


async def _page_file(name: str) -> Response:
    """Make the response with a file of the page. Browsers check for a new version each time."""
    file = await trio.to_thread.run_sync(open_page_file, name)
    return FileDownload(file, name, cache_control="no-cache", attachment=False)


def _announced(request: Request) -> int:
    """Return the size of a request's body in bytes; 0 if it is not announced. h11 has checked that it is a number."""
    return int(request.headers.get("content-length", "0"))


def _check_encoding(request: Request) -> None:
    """Refuse a compressed body: files may be compressed, and are stored as they are."""
    encoding = request.headers.get("content-encoding", "identity").strip()
    if encoding.lower() not in ("", "identity"):
        raise ProcessingError(
            "unsupported_format",
            f"The body of the request has the Content-Encoding {encoding[:40]!r}. Send it without one; a compressed "
            "file is uploaded as it is.",
        )


async def _while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do some work; cancel it if the peer disconnects. A peer that only closes its sending side still gets its answer.

    Raises:
        ClientDisconnect: the peer has disconnected.
        CreemsonError: the work raised it.
    """
    failure: Exception = ClientDisconnect()
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        try:
            return await work()
        except CreemsonError as error:  # leaving the nursery would wrap it in a group
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    raise failure


def _caller_of(request: Request) -> str:
    """Return the name of the authenticated caller."""
    caller: str = request.scope[CALLER]
    return caller
