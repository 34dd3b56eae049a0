"""One connection's side of the protocol, sans-IO: messages and replies go in, effects come out.

    messages of the peer      ──> text(), binary(), too_large(), pings() ──┐
    replies of the processor  ──> reply(), fail()                          ├──> [Send, AskProcessor, OpenUpload, …]
    results of the store      ──> files(), deleted(), upload_opened(), …  ──┘

A text message is decoded (:mod:`creemson.wire.codec`), admitted (``admission.py``), counted as a request in flight
(``requests.py``) and turned into effects; uploads and downloads are tracked by ``transfers.py``. The connection actor
carries out the effects in their order. Replies and results name the request by its number; the final answer removes
the request. Nothing here waits, reads or writes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from creemson._version import __version__
from creemson.errors import CloseCode, CreemsonError, InvalidFormat, ProcessingError
from creemson.jobs import commands
from creemson.jobs.events import Accepted, Ended, Logged, Progressed
from creemson.metrics import Metrics
from creemson.model.results import INPUT_FORMATS, OUTPUT_FORMATS, Column, FileInfo
from creemson.server.auth.callers import Callers
from creemson.server.connection.admission import CLOSING, Admission, missing_identity
from creemson.server.connection.effects import (
    AskProcessor,
    Close,
    DeleteFile,
    Effect,
    ListFiles,
    Send,
    WriteChunk,
)
from creemson.server.connection.requests import LegacyOrder, Request, Requests
from creemson.server.connection.state import ConnectionState
from creemson.server.connection.transfers import Transfers
from creemson.settings.sections import Settings
from creemson.storage.uploads import upload_taken
from creemson.wire import codec, messages
from creemson.wire.codec import Rejected, error_message
from creemson.wire.messages import MAX_ID_LENGTH, PROTOCOL_VERSION, LegacyRequest, ServerMessage

__all__ = ["Protocol"]


class Protocol:
    """The protocol's state machine for one connection.

    Args:
        state: state of the connection; updated here.
        settings: effective settings.
        callers: authenticates callers and limits their message rates; None disables both.
        metrics: counts messages.
        wall_clock: returns the seconds since 1970, for ``pong``.
    """

    def __init__(
        self,
        state: ConnectionState,
        *,
        settings: Settings,
        callers: Callers | None,
        metrics: Metrics,
        wall_clock: Callable[[], float],
    ) -> None:
        self.state = state
        self._limits = settings.limits
        self._timeouts = settings.timeouts
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._admission = Admission(state, settings=settings, callers=callers)
        self._requests = Requests()
        self._legacy = LegacyOrder(settings.limits.batch_messages)
        self._transfers = Transfers(settings.limits.upload_bytes)

    # --- messages of the peer ------------------------------------------------------------------------

    def text(self, now: float, text: str) -> Iterable[Effect]:
        """Handle a text message.

        Args:
            now: the time.
            text: the whole message.

        Returns:
            The effects. Faults in the message become error messages, not exceptions. Each effect must be carried out
            before the next one is taken: a member of a batch is not handled until the effects of the earlier ones are.
        """
        self.state.last_activity = now
        self._transfers.stray_reported = False
        if self._admission.phase is CLOSING:
            return []
        try:
            value = codec.parse(text, depth=self._limits.nesting_depth)
        except Rejected as rejected:
            self.state.messages += 1
            return self._invalid(now, rejected)
        return self._message(now, value, len(text))

    def pings(self, now: float, texts: Sequence[str]) -> list[str]:
        """Answer pings, the most frequent messages, in a fraction of the time that :meth:`text` takes.

        Args:
            now: the time.
            texts: messages that arrived together.

        Returns:
            The encoded answers, if all messages are pings that may be answered. Otherwise nothing, and nothing has
            changed: each message must be passed alone, to this method and then to :meth:`text`.
        """
        ids, in_flight = codec.pings(texts), self._requests.by_id
        if not ids or (in_flight and not in_flight.keys().isdisjoint(ids)):
            return []
        count = len(ids)
        if not self._admission.takes_ping(now, count):
            return []
        state, metrics = self.state, self._metrics
        state.last_activity = now
        state.messages += count
        self._transfers.stray_reported = False
        metrics.received["ping"] += count
        metrics.sent["pong"] += count
        return codec.pongs(ids, self._wall_clock())

    def binary(self, now: float, data: bytes) -> list[Effect]:
        """Handle a binary message: a chunk of the open upload."""
        self.state.last_activity = now
        self.state.messages += 1
        if self._admission.phase is CLOSING:
            return []
        if not self._admission.is_identified:
            return self._close_with(missing_identity())
        if not data:  # what a client reads at the end of a file; no byte is too many or unexpected
            return []
        upload = self._transfers.receiving
        if upload is not None and upload.take(len(data)):
            return [WriteChunk(upload.request, data)]
        return self._report_surplus(len(data))

    def _report_surplus(self, size: int) -> list[Effect]:
        """Report bytes that were not announced; if they follow an upload, the upload fails."""
        upload = self._transfers.receiving or self._transfers.complete
        if upload is not None:
            return self.fail(upload.request, upload.surplus(size))
        stray = self._transfers.stray(size)
        return [] if stray is None else self._send(error_message(stray))

    def too_large(self, *, binary: bool, size: int, limit: int) -> list[Effect]:
        """Refuse a message above its limit; the connection must end, because the message is not read."""
        kind = "binary" if binary else "text"
        fault = InvalidFormat(
            "message_too_large",
            f"A {kind} message has {size} bytes or more; the maximum is {limit}. Send smaller messages.",
        )
        return [*self._send(error_message(fault)), Close(CloseCode.TOO_BIG, fault.message[:100])]

    def drain(self) -> None:
        """Refuse new uploads from now on; the processor refuses new jobs."""
        self._admission.drain()

    def recheck(self, now: float) -> list[Effect]:
        """Close the connection if the peer has not authenticated in time, or its identity is no longer valid."""
        fault = self._admission.recheck(now)
        return [] if fault is None else self._close_with(fault)

    def _close_with(self, fault: CreemsonError) -> list[Effect]:
        """Send an error that answers no request, and close."""
        return [*self._send(error_message(fault)), *self._admission.close_for(fault)]

    def _message(self, now: float, value: object, size_bytes: int) -> Iterable[Effect]:
        """Decode, admit and dispatch a message, or a member of a batch."""
        if self._admission.phase is CLOSING:
            return []
        self.state.messages += 1
        try:
            message = codec.structure_request(value)
        except Rejected as rejected:
            return self._invalid(now, rejected)
        is_legacy = isinstance(message, LegacyRequest)
        self._metrics.received["classic" if isinstance(message, LegacyRequest) else message.type] += 1
        if isinstance(message, messages.Batch) and 0 < len(message.messages) <= self._limits.batch_messages:
            return self._batch(now, message, size_bytes)  # its members are throttled
        throttled = self._admission.throttle(now)
        if throttled is not None:
            return self._reject_throttled(now, throttled, message.id, typed=not is_legacy)
        if isinstance(message, messages.Batch):
            return self._odd_batch(message)
        has_slot = not is_legacy or self._legacy.has_room
        fault = self._admission.check(message, size_bytes, self._requests, has_slot)
        if fault is not None:
            answer = self._reject(Rejected(fault, id=message.id, typed=not is_legacy))
            return [*answer, *self._admission.close_for(fault)]
        slot = self._legacy.add() if is_legacy else None
        number = self._requests.add(Request(message, size_bytes, slot))
        self.state.processing = len(self._requests.by_number)
        try:
            return self._handle(number, message)
        except CreemsonError as error:
            return [*self.fail(number, error), *self._admission.close_for(error)]

    def _invalid(self, now: float, rejected: Rejected) -> list[Effect]:
        """Answer a message that cannot be decoded; it counts against the rate limits, too."""
        self._metrics.received["invalid"] += 1
        throttled = self._admission.throttle(now)
        if throttled is not None:
            return self._reject_throttled(now, throttled, rejected.id, typed=rejected.typed)
        return self._reject(rejected)

    def _reject_throttled(
        self,
        now: float,
        fault: CreemsonError,
        id: str | None,  # noqa: A002
        *,
        typed: bool,
    ) -> list[Effect]:
        """Refuse a message that exceeds the rate limits; close if the peer does not slow down."""
        if self._admission.is_flooded(now):
            return self._close_with(fault)
        return self._reject(Rejected(fault, id=id, typed=typed))

    # --- batches and pings ---------------------------------------------------------------------------

    def _batch(self, now: float, batch: messages.Batch, size_bytes: int) -> Iterator[Effect]:
        """Handle the members of a batch in order, each as if sent alone; neighboring pings are answered together."""
        self.state.batching = True
        size_bytes //= len(batch.messages)
        pings: list[str] = []
        for index, member in enumerate(batch.messages):
            ping = codec.ping_id(member)
            if ping is not None and ping not in self._requests.by_id and self._admission.is_identified:
                pings.append(ping)
                continue
            yield from self._pings(now, batch.messages[index - len(pings) : index], pings, size_bytes)
            pings = []
            if isinstance(member, dict) and member.get("type") == messages.Batch.type:
                fault = InvalidFormat("invalid_message", "A batch cannot contain another batch.")
                yield from self._reject(Rejected(fault, id=codec.valid_id(member), typed=True))
            else:
                yield from self._message(now, member, size_bytes)
        yield from self._pings(now, batch.messages[-len(pings) :], pings, size_bytes)

    def _odd_batch(self, batch: messages.Batch) -> list[Effect]:
        """Refuse a batch with too many members; one without any needs no answer."""
        if not self._admission.is_identified:
            return self._close_with(missing_identity())
        self.state.batching = True
        if not batch.messages:
            return []
        fault = InvalidFormat(
            "invalid_message",
            f"A batch has {len(batch.messages)} messages; the maximum is {self._limits.batch_messages}.",
            details=[f"$.messages: expected at most {self._limits.batch_messages}"],
        )
        return self._send(error_message(fault, id=batch.id))

    def _pings(
        self, now: float, members: Sequence[object], pings: list[str], size_bytes: int
    ) -> Iterable[Effect]:
        """Answer neighboring pings of a batch in one message; if they exceed the rate limits, one by one."""
        if len(pings) > 1 and self._admission.takes_ping(now, len(pings)):
            self.state.messages += len(pings)
            self._metrics.received["ping"] += len(pings)
            self._metrics.sent["pong"] += len(pings)
            time = self._wall_clock()
            pongs = tuple(codec.plain_pong(ping, time) for ping in pings)
            return [Send(messages.Batch(messages=pongs))]
        return [
            effect for member in members[: len(pings)] for effect in self._message(now, member, size_bytes)
        ]

    # --- requests ------------------------------------------------------------------------------------

    def _handle(self, number: int, message: messages.ClientMessage) -> list[Effect]:
        """Turn a request into effects; the processor answers most requests."""
        ask: commands.Ask
        match message:
            case LegacyRequest():
                ask = commands.Submit(message.query(), None, keep=False)
            case messages.Process():
                ask = commands.Submit(message.query(), message.timeout, message.on_disconnect == "keep")
            case messages.Attach(job=job, after=after):
                ask = commands.Attach(job, after)
            case messages.ListJobs():
                ask = commands.ListJobs()
            case messages.ListColumns(filename=filename, options=options):
                ask = commands.ReadColumns(filename, options)
            case messages.ReadRows():
                ask = commands.ReadRows(
                    message.filename,
                    message.offset,
                    message.limit,
                    message.options,
                    message.texts,
                    message.view(),
                )
            case _:
                return self._handle_here(number, message)
        return [AskProcessor(number, ask)]

    def _handle_here(self, number: int, message: messages.ClientMessage) -> list[Effect]:
        """Handle a request that the connection itself carries out."""
        match message:
            case messages.Ping():
                return self._answer(number, messages.Pong(id=message.id, time=self._wall_clock()))
            case messages.Hello():
                return self._hello(number, message)
            case messages.Cancel():
                return self._cancel(number, message)
            case messages.ListFiles():
                return [ListFiles(number)]
            case messages.Delete():
                return [DeleteFile(number, message.filename)]
            case messages.Upload():
                return [self._transfers.open_upload(number, message)]
            case messages.Download():
                return [self._transfers.open_download(number, message)]
        raise AssertionError(message)

    def _hello(self, number: int, message: messages.Hello) -> list[Effect]:
        if message.version != PROTOCOL_VERSION:
            raise InvalidFormat(
                "invalid_message",
                f"Version {message.version} is not supported; send `hello` with version {PROTOCOL_VERSION}.",
                details=[f"$.version: expected {PROTOCOL_VERSION}, got {message.version}"],
            )
        self._admission.authenticate(message.token)
        self.state.batching = self.state.batching or message.batch
        limits = {
            field.name: getattr(self._limits, field.name) for field in attrs.fields(messages.LimitsInfo)
        }
        welcome = messages.Welcome(
            id=message.id,
            version=PROTOCOL_VERSION,
            server=f"creemson {__version__}",
            connection=self.state.id,
            limits=messages.LimitsInfo(**limits),
            heartbeat=messages.HeartbeatInfo(
                interval=self._timeouts.heartbeat_interval, timeout=self._timeouts.heartbeat_timeout
            ),
            formats=INPUT_FORMATS,
            outputs=OUTPUT_FORMATS,
        )
        return self._answer(number, welcome)

    def _cancel(self, number: int, message: messages.Cancel) -> list[Effect]:
        match message:
            case messages.Cancel(job=str() as job, request=None):
                return [AskProcessor(number, commands.CancelJob(job))]
            case messages.Cancel(job=None, request=str() as id_):
                return self._cancel_request(number, id_)
        raise InvalidFormat(
            "invalid_message",
            "A cancel names either a job or a request.",
            details=["$: expected exactly one of job and request"],
        )

    def _cancel_request(self, number: int, id_: str) -> list[Effect]:
        other = self._requests.by_id.get(id_)
        if other is not None:
            match self._requests.by_number[other].message:
                case (
                    messages.Process()
                    | LegacyRequest()
                    | messages.Attach()
                    | messages.ListColumns()
                    | messages.ReadRows()
                ):
                    return [AskProcessor(number, commands.CancelRequest(other))]
                case messages.Upload() | messages.Download():
                    stop = self._transfers.stop(other)
                    fault = ProcessingError("cancelled", "The transfer was cancelled, as requested.")
                    answer = messages.Cancelled(id=self._id(number))
                    return [*stop, *self.fail(other, fault), *self._answer(number, answer)]
        shown = id_[:MAX_ID_LENGTH]
        raise ProcessingError("job_not_found", f"No request {shown!r} of this connection has a running job.")

    # --- replies of the processor --------------------------------------------------------------------

    def awaits(self, request: int) -> bool:
        """Return whether a request is in flight."""
        return request in self._requests.by_number

    def id_of(self, request: int) -> str | None:
        """Return the id that the client gave to a request in flight."""
        return self._requests.by_number[request].message.id

    def reply(self, request: int, reply: commands.Reply) -> list[Effect]:
        """Turn a reply of the processor into messages; ``FileReady`` starts a download instead."""
        found = self._requests.by_number[request]
        match reply:
            case Accepted() | Progressed() | Logged():
                return self._interim(request, found, reply)
            case Ended(job, seq, error=error) if error is not None:
                return self.fail(request, error, job=job, seq=seq)
            case Ended(job, seq):
                if found.slot is not None:  # a legacy result names no job
                    job = seq = None
                data = commands.result_of(reply)
                return self._answer(
                    request, messages.Result(id=found.message.id, job=job, seq=seq, data=data)
                )
        return self._answer(request, _answer_to(found.message, reply))

    def _interim(self, request: int, found: Request, reply: Accepted | Progressed | Logged) -> list[Effect]:
        """Report the progress of a job; legacy requests get only a result."""
        id_ = found.message.id
        if found.slot is not None or id_ is None:
            return []
        match reply:
            case Accepted(job, position):
                return self._send(messages.Accepted(id=id_, job=job, position=position))
            case Progressed(job, seq, figures):
                self._metrics.sent[messages.Progress.type] += 1
                return [Send(messages.Progress(id=id_, job=job, seq=seq, **figures), replaces=request)]
            case Logged(job, seq, level, text):
                # A job's events keep their order: later progress does not overtake its log.
                log = messages.Log(id=id_, job=job, seq=seq, level=level, message=text)
                return [Send(log, follows=request)]

    def fail(
        self, request: int, error: CreemsonError, *, job: str | None = None, seq: int | None = None
    ) -> list[Effect]:
        """End a request with an error."""
        effects = self._transfers.fail(request)
        found = self._requests.by_number[request]
        if found.slot is not None:
            job = seq = None
        return effects + self._answer(request, error_message(error, id=found.message.id, job=job, seq=seq))

    # --- results of the store ------------------------------------------------------------------------

    def files(self, request: int, files: tuple[FileInfo, ...]) -> list[Effect]:
        """Answer ``files`` with the caller's uploads."""
        return self._answer(request, messages.Files(id=self._id(request), files=files))

    def deleted(self, request: int) -> list[Effect]:
        """Confirm that a file was removed."""
        message = self._requests.by_number[request].message
        assert isinstance(message, messages.Delete)
        return self._answer(request, messages.Deleted(id=message.id, filename=message.filename))

    # --- uploads -------------------------------------------------------------------------------------

    def upload_opened(self, offset: int) -> list[Effect]:
        """Ask for the bytes of the open upload from ``offset`` on; the store already has the others."""
        upload = self._transfers.receiving
        assert upload is not None
        upload.received = upload.reported = offset
        ready = messages.UploadReady(id=upload.message.id, offset=offset)
        return self._send(ready) + upload.finish_if_whole()

    def chunk_written(self, request: int, durable: int) -> list[Effect]:
        """Report that ``durable`` bytes are safe, or finish the upload after its last chunk."""
        upload = self._transfers.receiving
        assert upload is not None
        return upload.finish_if_whole() or self.upload_synced(request, durable)

    def upload_synced(self, request: int, durable: int) -> list[Effect]:
        """Report that ``durable`` bytes are safe, if the upload is still open and has not been told so."""
        upload = self._transfers.receiving
        if upload is None or upload.request != request or durable <= upload.reported:
            return []
        upload.reported = durable
        return [Send(messages.UploadProgress(id=upload.message.id, offset=durable), replaces=request)]

    def upload_finished(self) -> None:
        """Mark the open upload as complete; another one may start while its columns are read."""
        self._transfers.complete, self._transfers.receiving = self._transfers.receiving, None

    def uploaded(self, request: int, sha256: str, columns: tuple[Column, ...]) -> list[Effect]:
        """Answer a complete upload, once its columns are known."""
        message = self._requests.by_number[request].message
        assert isinstance(message, messages.Upload)
        self._transfers.succeed(request)
        answer = messages.Uploaded(
            id=message.id, filename=message.filename, size=message.size, sha256=sha256, columns=columns
        )
        return self._answer(request, answer)

    def upload_taken(self, *, deleted: bool = False) -> list[Effect]:
        """End the open upload, if there still is one.

        Args:
            deleted: whether its file was deleted; otherwise, another connection has taken it over.
        """
        upload = self._transfers.receiving
        if upload is None:
            return []
        name = upload.message.filename
        return self.fail(upload.request, upload_taken(name, deleted=deleted))

    # --- downloads -----------------------------------------------------------------------------------

    def download_offset(self, request: int) -> int | None:
        """Return the first byte to send, or None if the download was cancelled."""
        if request not in self._requests.by_number:
            return None
        message = self._requests.by_number[request].message
        assert isinstance(message, messages.Download)
        return message.offset

    def download_started(self, request: int, *, size: int, sha256: str | None) -> list[Effect]:
        """Announce the bytes of a file.

        Raises:
            InvalidFormat: ``offset_mismatch``: the file is shorter than the offset.
        """
        message = self._requests.by_number[request].message
        assert isinstance(message, messages.Download)
        if message.offset > size:
            raise InvalidFormat(
                "offset_mismatch",
                f"{message.filename!r} has {size} bytes, so there is nothing to send from offset {message.offset}.",
            )
        started = messages.DownloadStarted(
            id=message.id, filename=message.filename, size=size, offset=message.offset, sha256=sha256
        )
        return self._send(started)

    def downloaded(self, request: int, *, size: int, sha256: str) -> list[Effect]:
        """Answer a download whose bytes have all been sent."""
        self._transfers.succeed(request)
        return self._answer(request, messages.Downloaded(id=self._id(request), size=size, sha256=sha256))

    # --- answers -------------------------------------------------------------------------------------

    def _id(self, request: int) -> str:
        """Return the id of a request whose message must have one."""
        id_ = self._requests.by_number[request].message.id
        assert id_ is not None
        return id_

    def _reject(self, rejected: Rejected) -> list[Effect]:
        """Answer a message that did not become a request."""
        answer = error_message(rejected.error, id=rejected.id)
        if rejected.typed or not self._legacy.has_room:
            return self._send(answer)
        self._legacy.add(answer)
        return self._release()

    def _answer(self, request: int, answer: ServerMessage) -> list[Effect]:
        """Send the final answer to a request, which is no longer in flight."""
        found = self._requests.remove(request)
        self.state.processing = len(self._requests.by_number)
        if found.slot is None:
            return self._send(answer)
        found.slot.answer = answer
        return self._release()

    def _release(self) -> list[Effect]:
        """Send the answers to legacy requests whose turn it is."""
        effects: list[Effect] = []
        for answer in self._legacy.take_due():
            effects += self._send(answer)
        return effects

    def _send(self, message: ServerMessage) -> list[Effect]:
        self._metrics.sent[message.type] += 1
        if isinstance(message, messages.Error):
            self.state.errors += 1
            self._metrics.errors[message.reason] += 1
            self.state.retry_count += message.retryable
        return [Send(message)]


def _answer_to(message: messages.ClientMessage, reply: commands.Reply) -> ServerMessage:
    """Return the final answer to a request that does not run a job."""
    match reply, message:
        case commands.Cancelled(job), messages.Cancel(id=id_):
            return messages.Cancelled(id=id_, job=job)
        case commands.JobsListed(jobs), messages.ListJobs(id=id_):
            return messages.Jobs(id=id_, jobs=jobs)
        case commands.ColumnsRead(found), messages.ListColumns(id=id_):
            return messages.Columns(id=id_, columns=found.columns, reading=found.reading, issues=found.issues)
        case commands.RowsRead(window), messages.ReadRows(id=id_, offset=offset):
            return messages.Rows(
                id=id_,
                columns=window.columns,
                rows=window.rows,
                offset=offset,
                total=window.total,
                complete=window.complete,
                more=window.more,
            )
    raise AssertionError((message, reply))
