"""One connection's side of the protocol, sans-IO: what arrives goes in, effects come out.

    frames of the peer     ──> text(), binary(), too_large()  ──┐
    answers of the server  ──> job_event(), answer(), fail()  ──┼──> [Send, Submit, OpenUpload, …]
    bytes of its uploads   ──> upload_opened(), …written()    ──┘

The connection actor carries the effects out in their order; nothing here waits, reads or writes.
A *request* is an integer that names one message of the client's for as long as it is in flight.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from creemson.errors import CloseCode, ConnectionLost, CreemsonError, InvalidFormat, ProcessingError
from creemson.metrics import Metrics
from creemson.server.bucket import Bucket
from creemson.server.effects import (
    Attach,
    CancelJob,
    CancelRequest,
    Close,
    DeleteFile,
    DropUpload,
    Effect,
    FinishUpload,
    ListFiles,
    ListJobs,
    OpenDownload,
    OpenUpload,
    ReadColumns,
    ReadRows,
    RemoveUpload,
    Send,
    StopDownload,
    Submit,
    WriteChunk,
)
from creemson.server.gate import Gate
from creemson.server.identity import Identity, unauthenticated
from creemson.settings import Limits, Timeouts
from creemson.storage.files import check_name
from creemson.wire import codec, messages
from creemson.wire.codec import Rejected, error_message
from creemson.wire.messages import PROTOCOL_VERSION, ServerMessage

__all__ = ["ConnectionState", "Protocol"]

REFUSALS = 10_000
"""Messages that come too soon and are refused, besides ten times the burst, before the peer is not listened to."""
CLOSES = {
    "unauthenticated": CloseCode.UNAUTHENTICATED,
    "too_many_connections": CloseCode.RATE_LIMITED,
    "rate_limited": CloseCode.RATE_LIMITED,
}
"""Faults after which the connection is closed. (A message that comes too soon is only refused, at first.)"""

# --- state -------------------------------------------------------------------------------------------


@attrs.define
class ConnectionState:
    """What a connection's actor alone owns and changes.

    Attributes:
        id: names the connection in messages and logs.
        caller: whose files and jobs it sees; empty until that is known.
        peer: address of the other side.
        identity: what the peer has proved; None where that is not wanted, or not done yet.
        began: when it was accepted, on the server's clock.
        processing: requests in flight.
        last_activity: when the last message came, on the server's clock.
        retry_count: errors sent after which the client may try the same again.
        messages, errors: how many came, and how many errors were sent.
        batching: whether several answers may travel in one ``batch``.
    """

    id: str
    caller: str
    peer: str = ""
    identity: Identity | None = None
    began: float = 0.0
    processing: int = 0
    last_activity: float = 0.0
    retry_count: int = 0
    messages: int = 0
    errors: int = 0
    batching: bool = False


@attrs.define(eq=False)
class _Classic:
    """A place in the line of classic answers, which are given in the order of the requests."""

    answer: ServerMessage | None = None


@attrs.define(eq=False)
class _Request:
    """A message in flight."""

    message: messages.ClientMessage
    id: str | None
    size: int
    place: _Classic | None = None
    job: str | None = None


@attrs.define(eq=False)
class _Upload:
    """The upload that is open."""

    request: int
    message: messages.Upload
    received: int = 0
    reported: int = 0


class Protocol:
    """The protocol's state machine for one connection.

    Args:
        state: the connection's.
        limits: in force.
        timeouts: in force.
        server: name and version, for ``welcome``.
        wall_clock: seconds since 1970, for ``pong``.
        gate: lets callers in; None if there is nobody to keep out.
        auth_timeout: seconds from the handshake in which a peer has to prove who it is.
        metrics: where messages are counted.
    """

    def __init__(
        self,
        state: ConnectionState,
        *,
        limits: Limits,
        timeouts: Timeouts,
        server: str,
        wall_clock: Callable[[], float],
        gate: Gate | None = None,
        auth_timeout: float = math.inf,
        metrics: Metrics | None = None,
    ) -> None:
        self.state = state
        self._limits = limits
        self._timeouts = timeouts
        self._server = server
        self._wall_clock = wall_clock
        self._gate = gate if gate is not None and gate.guarded else None
        self._auth_timeout = auth_timeout
        self._metrics = metrics or Metrics()
        self._pace = Bucket(limits.messages_per_s, limits.messages_burst)
        self._patience = Bucket(limits.messages_per_s, limits.messages_burst * 10 + REFUSALS)
        self._over = False  # it has been decided to close
        self._bytes = 0  # of the messages in flight
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._by_id: dict[str, int] = {}
        self._classics: deque[_Classic] = deque()
        self._upload: _Upload | None = None
        self._finished: _Upload | None = None  # complete, while its columns are being read
        self._download: int | None = None
        self._stray_told = False
        self._draining = False

    # --- what the peer sends -------------------------------------------------------------------------

    def text(self, now: float, text: str) -> list[Effect]:
        """A text message has come.

        Args:
            now: the time.
            text: the whole message.

        Returns:
            What is to be done. Whatever the text, there is no exception and the connection stays open.
        """
        self.state.last_activity = now
        self._stray_told = False
        if self._over:
            return []
        try:
            value = codec.parse(text, depth=self._limits.nesting_depth)
        except Rejected as rejected:
            self.state.messages += 1
            self._metrics.received["invalid"] += 1
            held = self._hold_back(now, rejected.id, typed=rejected.typed)
            return self._reject(rejected) if held is None else held
        return self._message(now, value, len(text))

    def ping(self, now: float, text: str) -> str | None:
        """Answer a ping, which most messages are, in a third of the time that :meth:`text` takes.

        Args:
            now: the time.
            text: a message.

        Returns:
            The answer, encoded. None if it is something else, or not as simple: nothing was done then.
        """
        found = codec.ping(text)
        if found is None or self._over or not self._answers(found) or self._wait(now):
            return None
        self.state.last_activity = now
        self._stray_told = False
        self._count_pings(1)
        return codec.pong(found, self._wall_clock())

    def binary(self, now: float, data: bytes) -> list[Effect]:
        """A binary message has come: a chunk of the open upload."""
        self.state.last_activity = now
        self.state.messages += 1
        if self._over:
            return []
        if self._gate is not None and self.state.identity is None:
            return self._turn_out(_nobody())
        if self._finished is not None:
            return self._overrun(self._finished, len(data))
        upload = self._upload
        if upload is None:
            if self._stray_told:  # the rest of an upload that failed is told of once
                return []
            self._stray_told = True
            fault = InvalidFormat(
                "unexpected_binary",
                f"{len(data)} bytes came in a binary frame, but no upload is open. Announce it first.",
            )
            return self._send(error_message(fault))
        if upload.received + len(data) > upload.message.size:
            return self._overrun(upload, len(data))
        upload.received += len(data)
        return [WriteChunk(upload.request, data)]

    def _overrun(self, upload: _Upload, surplus: int) -> list[Effect]:
        """More bytes came than were announced: the upload is dropped, be it complete already."""
        fault = InvalidFormat(
            "size_mismatch",
            f"{upload.received + surplus} bytes came for {upload.message.filename!r}, announced were "
            f"{upload.message.size}. The upload is dropped; begin it again.",
        )
        if upload is not self._finished:
            return self.fail(upload.request, fault)
        self._finished = None
        remove = RemoveUpload(upload.request, upload.message.filename)
        return [remove, *self.fail(upload.request, fault)]

    def too_large(self, *, binary: bool, size: int, limit: int) -> list[Effect]:
        """A message over its limit is on its way; the connection has to end."""
        kind = "binary" if binary else "text"
        fault = InvalidFormat(
            "message_too_large",
            f"A {kind} message of {size} bytes or more, allowed are {limit}. Send less at a time.",
        )
        return [*self._send(error_message(fault)), Close(CloseCode.TOO_BIG, fault.message[:100])]

    def drain(self) -> None:
        """From now on, new work is refused."""
        self._draining = True

    def recheck(self, now: float) -> list[Effect]:
        """Look again whether the peer may be here: time has passed, or a token was revoked."""
        if self._gate is None or self._over:
            return []
        identity = self.state.identity
        if identity is None:
            if now < self.state.began + self._auth_timeout:
                return []
            return self._turn_out(
                unauthenticated(f"No valid token came within {self._auth_timeout:g} s. Say hello with one.")
            )
        if self._gate.holds(identity):
            return []
        return self._turn_out(
            unauthenticated("The token has expired or was revoked. Connect again with another one.")
        )

    def _turn_out(self, fault: CreemsonError) -> list[Effect]:
        """Say why, and close."""
        return [*self._send(error_message(fault)), *self._close_for(fault)]

    def _close_for(self, fault: CreemsonError) -> list[Effect]:
        self._over = True
        return [Close(CLOSES[fault.reason], fault.message[:100])]

    def _hold_back(self, now: float, id: str | None, *, typed: bool) -> list[Effect] | None:  # noqa: A002
        """Refuse a message that comes too soon after others; None if it does not."""
        wait = self._wait(now)
        if not wait:
            return None
        fault = InvalidFormat(
            "rate_limited",
            f"More than {self._limits.messages_per_s:g} messages a second, and {self._limits.messages_burst} at once, "
            f"are not taken. Wait {wait:.3g} s.",
            retry_after=round(wait, 3),
        )
        if self._patience.take(now):  # it does not listen
            return self._turn_out(fault)
        return self._reject(Rejected(fault, id=id, typed=typed))

    def _message(self, now: float, value: object, size: int) -> list[Effect]:
        """A message has come, or a member of a batch, of ``size`` bytes."""
        if self._over:
            return []
        self.state.messages += 1
        try:
            message = codec.structure_request(value)
        except Rejected as rejected:
            self._metrics.received["invalid"] += 1
            held = self._hold_back(now, rejected.id, typed=rejected.typed)
            return self._reject(rejected) if held is None else held
        self._metrics.received["classic" if isinstance(message, messages.Classic) else message.type] += 1
        if isinstance(message, messages.Batch) and message.messages:
            return self._batch(now, message, size)
        typed = not isinstance(message, messages.Classic)
        held = self._hold_back(now, message.id, typed=typed)
        if held is not None:
            return held
        if isinstance(message, messages.Batch):
            return self._batch(now, message, size)
        place = None
        if isinstance(message, messages.Classic) and self._line_has_room():
            place = _Classic()
            self._classics.append(place)
        request = _Request(message, message.id, size, place)
        number = next(self._numbers)
        self._requests[number] = request
        self._bytes += size
        self.state.processing = len(self._requests)
        if message.id is not None and message.id in self._by_id:
            fault = InvalidFormat(
                "duplicate_id",
                f"The id {message.id!r} is in flight already. Give each message an id of its own.",
            )
            return self.fail(number, fault)
        out_of_line = not typed and place is None
        too_large = self._bytes > self._limits.in_flight_bytes and self._bytes > size
        if out_of_line or too_large or len(self._requests) > self._limits.batch_messages:
            fault_busy = ProcessingError(
                "busy",
                f"{len(self._requests) - 1} requests of this connection, of {self._bytes - size} bytes, are in flight, "
                "and no more may be. Wait for some answers.",
                retry_after=1.0,
            )
            return self.fail(number, fault_busy)
        if self._gate is not None and self.state.identity is None and not isinstance(message, messages.Hello):
            return [*self.fail(number, _nobody()), *self._close_for(_nobody())]
        if message.id is not None:
            self._by_id[message.id] = number
        try:
            return self._handle(number, message)
        except CreemsonError as error:
            closing = self._close_for(error) if error.reason in CLOSES else []
            return [*self.fail(number, error), *closing]

    def _wait(self, now: float, count: int = 1) -> float:
        """Seconds until so many messages may be taken; if it is none, they are."""
        wait = self._pace.take(now, count)
        if not wait and self._gate is not None and self.state.identity is not None:
            wait = self._gate.pace(self.state.caller, now, count)
            if wait:
                self._pace.put_back(count)
        return wait

    def _answers(self, ping: str) -> bool:
        """Whether a ping with this id can be answered at once."""
        return ping not in self._by_id and (self._gate is None or self.state.identity is not None)

    def _pongs(self, now: float, ids: list[str]) -> list[Effect] | None:
        """Answer so many pings of a batch in one message; None if they come too soon."""
        if self._wait(now, len(ids)):
            return None
        self._count_pings(len(ids))
        time = self._wall_clock()
        return [Send(messages.Batch(messages=tuple(codec.plain_pong(id, time) for id in ids)))]  # noqa: A001

    def _count_pings(self, count: int) -> None:
        self.state.messages += count
        self._metrics.received[messages.Ping.type] += count
        self._metrics.sent[messages.Pong.type] += count

    def _batch(self, now: float, batch: messages.Batch, size: int) -> list[Effect]:
        self.state.batching = True
        if len(batch.messages) > self._limits.batch_messages:
            fault = InvalidFormat(
                "invalid_message",
                f"A batch of {len(batch.messages)} messages, allowed are {self._limits.batch_messages}.",
                details=[f"$.messages: expected at most {self._limits.batch_messages}"],
            )
            return self._send(error_message(fault, id=batch.id))
        size //= max(1, len(batch.messages))
        effects: list[Effect] = []
        pings: list[str] = []
        for index, member in enumerate(batch.messages):
            ping = codec.ping_id(member)
            if ping is not None and self._answers(ping):
                pings.append(ping)
                continue
            effects += self._several(now, batch.messages[index - len(pings) : index], pings, size)
            pings = []
            if isinstance(member, dict) and member.get("type") == messages.Batch.type:
                fault = InvalidFormat("invalid_message", "A batch may not hold another batch.")
                effects += self._reject(Rejected(fault, id=codec.valid_id(member), typed=True))
            else:
                effects += self._message(now, member, size)
        return effects + self._several(now, batch.messages[-len(pings) :], pings, size)

    def _several(self, now: float, members: Sequence[object], pings: list[str], size: int) -> list[Effect]:
        """Handle neighbours in a batch that are all pings."""
        answered = self._pongs(now, pings) if len(pings) > 1 else None
        if answered is not None:
            return answered
        return [effect for member in members[: len(pings)] for effect in self._message(now, member, size)]

    def _handle(self, number: int, message: messages.ClientMessage) -> list[Effect]:
        match message:
            case messages.Hello():
                return self._hello(number, message)
            case messages.Ping():
                return self._answer(number, messages.Pong(id=message.id, time=self._wall_clock()))
            case messages.Classic():
                check_name(message.filename)
                return [Submit(number, message.query(), None, keep=False)]
            case messages.Process():
                check_name(message.filename)
                return [Submit(number, message.query(), message.timeout, message.on_disconnect == "keep")]
            case messages.Attach():
                return [Attach(number, message.job, message.after)]
            case messages.ListJobs():
                return [ListJobs(number)]
            case messages.Cancel():
                return self._cancel(number, message)
            case _:
                return self._handle_files(number, message)

    def _handle_files(self, number: int, message: messages.ClientMessage) -> list[Effect]:
        match message:
            case messages.ListColumns():
                check_name(message.filename)
                return [ReadColumns(number, message.filename, message.options)]
            case messages.ReadRows():
                check_name(message.filename)
                return [ReadRows(number, message.filename, message.offset, message.limit, message.options)]
            case messages.ListFiles():
                return [ListFiles(number)]
            case messages.Delete():
                check_name(message.filename)
                return [DeleteFile(number, message.filename)]
            case messages.Upload():
                return self._open_upload(number, message)
            case messages.Download():
                return self._open_download(number, message)
        raise AssertionError(message)

    def _hello(self, number: int, message: messages.Hello) -> list[Effect]:
        if message.version != PROTOCOL_VERSION:
            raise InvalidFormat(
                "invalid_message",
                f"Version {message.version} is not spoken here; say hello with {PROTOCOL_VERSION}.",
                details=[f"$.version: expected {PROTOCOL_VERSION}, got {message.version}"],
            )
        if self._gate is not None and not (message.token is None and self.state.identity is not None):
            self._admit(self._gate, message.token)
        self.state.batching = self.state.batching or message.batch
        limits = self._limits
        welcome = messages.Welcome(
            id=message.id,
            version=PROTOCOL_VERSION,
            server=self._server,
            connection=self.state.id,
            limits=messages.LimitsInfo(
                **{field.name: getattr(limits, field.name) for field in attrs.fields(messages.LimitsInfo)}
            ),
            heartbeat=messages.HeartbeatInfo(
                interval=self._timeouts.heartbeat_interval, timeout=self._timeouts.heartbeat_timeout
            ),
            formats=messages.INPUT_FORMATS,
            outputs=messages.OUTPUT_FORMATS,
        )
        return self._answer(number, welcome)

    def _admit(self, gate: Gate, token: str | None) -> None:
        """Let a caller in, or prove again who it is, for longer."""
        if token is None:
            raise _nobody()
        identity = gate.identify(token)
        if self.state.identity is None:
            gate.check(identity)
            gate.enter(identity)
            self.state.caller = identity.caller
        elif identity.caller != self.state.caller:
            raise InvalidFormat(
                "forbidden", "That token is another caller's. Open a connection of its own for that one."
            )
        self.state.identity = identity

    def _cancel(self, number: int, message: messages.Cancel) -> list[Effect]:
        if (message.job is None) == (message.request is None):
            raise InvalidFormat(
                "invalid_message",
                "A cancel names either a job or a request.",
                details=["$: expected exactly one of job and request"],
            )
        if message.job is not None:
            return [CancelJob(number, message.job)]
        assert message.request is not None
        other = self._by_id.get(message.request)
        match other and self._requests[other].message:
            case messages.Process() | messages.Classic() | messages.Attach():
                assert other is not None
                return [CancelRequest(number, other)]
            case messages.Upload() | messages.Download():
                assert other is not None
                return self._cancel_transfer(number, other)
        raise ProcessingError(
            "job_not_found", f"No request {message.request!r} of this connection has a job under way."
        )

    def _cancel_transfer(self, number: int, other: int) -> list[Effect]:
        """Give up an upload or a download; of a complete upload, the file stays."""
        stop: list[Effect] = [StopDownload(other)] if self._download == other else []
        if self._finished is not None and self._finished.request == other:
            raise ProcessingError("job_not_found", "The upload is complete. Delete the file instead.")
        answered = self.fail(other, ProcessingError("cancelled", "The transfer was cancelled, as asked."))
        return stop + answered + self.cancelled(number, None)

    def awaits(self, request: int) -> bool:
        """Whether a request is in flight."""
        return request in self._requests

    def id_of(self, request: int) -> str | None:
        """The id that the client gave to a request in flight."""
        return self._requests[request].id

    # --- what becomes of it --------------------------------------------------------------------------

    def accepted(self, request: int, job: str, position: int) -> list[Effect]:
        """A job is taken on."""
        found = self._requests[request]
        found.job = job
        if found.place is not None or found.id is None:
            return []
        return self._send(messages.Accepted(id=found.id, job=job, position=position))

    def progress(self, request: int, job: str, seq: int, figures: Mapping[str, Any]) -> list[Effect]:
        """A job has come further."""
        found = self._requests[request]
        if found.place is not None or found.id is None:
            return []
        message = messages.Progress(id=found.id, job=job, seq=seq, **figures)
        self._metrics.sent[message.type] += 1
        return [Send(message, replaces=request)]

    def log(self, request: int, job: str, seq: int, level: messages.LogLevel, text: str) -> list[Effect]:
        """There is something worth telling about a job."""
        found = self._requests[request]
        if found.place is not None or found.id is None:
            return []
        # Its events are told in their order: progress that comes later does not overtake it.
        return [Send(messages.Log(id=found.id, job=job, seq=seq, level=level, message=text), follows=request)]

    def result(self, request: int, job: str, seq: int, data: messages.ResultData) -> list[Effect]:
        """A job is done."""
        found = self._requests[request]
        if found.place is not None:
            return self._answer(request, messages.Result(id=found.id, data=data))
        return self._answer(request, messages.Result(id=found.id, job=job, seq=seq, data=data))

    def cancelled(self, request: int, job: str | None) -> list[Effect]:
        """What ``cancel`` asked for is under way."""
        found = self._requests[request]
        assert found.id is not None
        return self._answer(request, messages.Cancelled(id=found.id, job=job))

    def columns(self, request: int, described: messages.Described) -> list[Effect]:
        """The columns of a file are known."""
        found = self._requests[request]
        assert found.id is not None
        answer = messages.Columns(
            id=found.id, columns=described.columns, reading=described.reading, issues=described.issues
        )
        return self._answer(request, answer)

    def rows(self, request: int, window: messages.Window) -> list[Effect]:
        """A window of a table is known."""
        message = self._requests[request].message
        assert isinstance(message, messages.ReadRows)
        answer = messages.Rows(
            id=message.id,
            columns=window.columns,
            rows=window.rows,
            offset=message.offset,
            total=window.total,
        )
        return self._answer(request, answer)

    def jobs(self, request: int, jobs: tuple[messages.JobInfo, ...]) -> list[Effect]:
        """The caller's jobs are known."""
        found = self._requests[request]
        assert found.id is not None
        return self._answer(request, messages.Jobs(id=found.id, jobs=jobs))

    def files(self, request: int, files: tuple[messages.FileInfo, ...]) -> list[Effect]:
        """It is known what the caller has uploaded."""
        found = self._requests[request]
        assert found.id is not None
        return self._answer(request, messages.Files(id=found.id, files=files))

    def deleted(self, request: int) -> list[Effect]:
        """A file is removed."""
        message = self._requests[request].message
        assert isinstance(message, messages.Delete)
        return self._answer(request, messages.Deleted(id=message.id, filename=message.filename))

    def fail(
        self, request: int, error: CreemsonError, *, job: str | None = None, seq: int | None = None
    ) -> list[Effect]:
        """A request ends in an error."""
        found = self._requests[request]
        effects: list[Effect] = []
        if self._upload is not None and self._upload.request == request:
            self._upload = None
            self._stray_told = False
            effects.append(DropUpload())
        if self._download == request:
            self._download = None
        if found.place is not None:
            job = seq = None
        return effects + self._answer(request, error_message(error, id=found.id, job=job, seq=seq))

    # --- uploads and downloads -----------------------------------------------------------------------

    def _open_upload(self, number: int, message: messages.Upload) -> list[Effect]:
        check_name(message.filename)
        if self._draining:
            raise ConnectionLost("shutting_down", "The server is shutting down. Upload when it is back.")
        if self._upload is not None:
            raise ProcessingError(
                "busy",
                f"The upload of {self._upload.message.filename!r} is still open on this connection. "
                "Wait for its end, or open another connection.",
            )
        if message.size > self._limits.upload_bytes:
            raise ProcessingError(
                "upload_too_large",
                f"{message.filename!r} has {message.size} bytes, allowed are {self._limits.upload_bytes}.",
            )
        self._upload, self._finished = _Upload(number, message), None
        return [OpenUpload(number, message.filename, message.size, message.sha256, message.overwrite)]

    def upload_opened(self, offset: int) -> list[Effect]:
        """An upload may go on from ``offset``: so many bytes are here already."""
        upload = self._upload
        assert upload is not None
        upload.received = upload.reported = offset
        return self._send(messages.UploadReady(id=upload.message.id, offset=offset)) + self._finish_if_whole()

    def chunk_written(self, request: int, durable: int) -> list[Effect]:
        """The last chunk is written, and ``durable`` bytes of the file are safe."""
        upload = self._upload
        assert upload is not None
        done = self._finish_if_whole()
        if done or durable <= upload.reported:
            return done
        upload.reported = durable
        progress = messages.UploadProgress(id=upload.message.id, offset=durable)
        return [Send(progress, replaces=request)]

    def upload_taken(self) -> list[Effect]:
        """Another connection goes on with the open upload, if it is still open."""
        if self._upload is None:  # it failed in this moment
            return []
        fault = ProcessingError(
            "cancelled",
            f"Another connection has taken the upload of {self._upload.message.filename!r} over.",
        )
        return self.fail(self._upload.request, fault)

    def _finish_if_whole(self) -> list[Effect]:
        upload = self._upload
        assert upload is not None
        if upload.received < upload.message.size:
            return []
        return [FinishUpload(upload.request, upload.message.filename, upload.message.sha256)]

    def upload_finished(self) -> None:
        """The file has appeared; another upload may begin while its columns are read."""
        self._finished, self._upload = self._upload, None

    def uploaded(self, request: int, sha256: str, columns: tuple[messages.Column, ...]) -> list[Effect]:
        """All about an uploaded file is known."""
        message = self._requests[request].message
        assert isinstance(message, messages.Upload)
        if self._finished is not None and self._finished.request == request:
            self._finished = None
        answer = messages.Uploaded(
            id=message.id, filename=message.filename, size=message.size, sha256=sha256, columns=columns
        )
        return self._answer(request, answer)

    def _open_download(self, number: int, message: messages.Download) -> list[Effect]:
        check_name(message.filename)
        if self._download is not None:
            raise ProcessingError(
                "busy",
                "A download is under way on this connection. Wait for its end, or open another connection.",
            )
        self._download = number
        return [OpenDownload(number, message.filename, message.offset)]

    def download_started(self, request: int, *, size: int, sha256: str | None) -> list[Effect]:
        """The file is there; its bytes follow."""
        message = self._requests[request].message
        assert isinstance(message, messages.Download)
        if message.offset > size:
            raise InvalidFormat(
                "offset_mismatch",
                f"{message.filename!r} has {size} bytes, so nothing is left from {message.offset} on.",
            )
        return self._send(
            messages.DownloadStarted(
                id=message.id,
                filename=message.filename,
                size=size,
                offset=message.offset,
                sha256=sha256,
            )
        )

    def downloaded(self, request: int, *, size: int, sha256: str) -> list[Effect]:
        """All bytes were sent."""
        self._download = None
        found = self._requests[request]
        assert found.id is not None
        return self._answer(request, messages.Downloaded(id=found.id, size=size, sha256=sha256))

    # --- answering -----------------------------------------------------------------------------------

    def _reject(self, rejected: Rejected) -> list[Effect]:
        answer = error_message(rejected.error, id=rejected.id)
        if rejected.typed or not self._line_has_room():
            return self._send(answer)
        self._classics.append(_Classic(answer))
        return self._release()

    def _answer(self, request: int, answer: ServerMessage) -> list[Effect]:
        """The last answer to a request: it is no longer in flight."""
        found = self._requests.pop(request)
        self._bytes -= found.size
        self.state.processing = len(self._requests)
        if found.id is not None and self._by_id.get(found.id) == request:
            del self._by_id[found.id]
        if found.place is None:
            return self._send(answer)
        found.place.answer = answer
        return self._release()

    def _line_has_room(self) -> bool:
        """Whether one more classic answer may wait for its turn; over the limit it is refused out of turn."""
        return len(self._classics) < self._limits.batch_messages

    def _release(self) -> list[Effect]:
        """Send the classic answers whose turn it is."""
        effects: list[Effect] = []
        while self._classics and self._classics[0].answer is not None:
            effects += self._send(self._classics.popleft().answer)
        return effects

    def _send(self, message: ServerMessage | None) -> list[Effect]:
        assert message is not None
        self._metrics.sent[message.type] += 1
        if isinstance(message, messages.Error):
            self.state.errors += 1
            self._metrics.errors[message.reason] += 1
            self.state.retry_count += message.retryable
        return [Send(message)]


def _nobody() -> InvalidFormat:
    return unauthenticated("Say first who you are: `hello` with a token, or Authorization: Bearer TOKEN.")
