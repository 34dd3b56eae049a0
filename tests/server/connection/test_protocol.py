"""The protocol's state machine: every message in every state, with its effects."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from creemson.errors import REASONS, CloseCode, InvalidFormat, ProcessingError
from creemson.jobs.commands import (
    Attach,
    CancelJob,
    Cancelled,
    CancelRequest,
    ColumnsRead,
    FindFile,
    JobsListed,
    ListJobs,
    ReadColumns,
    ReadRows,
    RowsRead,
    StopLookUp,
    Submit,
)
from creemson.jobs.events import Accepted, Ended, Logged, Progressed
from creemson.metrics import Metrics
from creemson.model.query import Condition, Query, SortKey, View
from creemson.model.results import Column, Described, FileInfo, JobInfo, OutputData, ResultData, Window
from creemson.server.connection.effects import (
    AskProcessor,
    Close,
    DeleteFile,
    DropUpload,
    FinishUpload,
    ListFiles,
    OpenUpload,
    RemoveUpload,
    Send,
    StopDownload,
    WriteChunk,
)
from creemson.server.connection.protocol import Protocol
from creemson.server.connection.state import ConnectionState
from creemson.settings.sections import Limits, Settings
from creemson.wire import codec, messages
from creemson.wire.messages import CLIENT_TYPES
from tests import strategies
from tests.examples import examples_of

LIMITS = Limits(batch_messages=5, upload_bytes=100, chunk_bytes=10)
OUTPUT = OutputData(
    rows=1, columns=("a",), dtypes=("Int64",), filename="x.parquet", final_filename_csv="x.csv",
    final_filename_excel="x.xlsx", elapsed_s=0.1, cached=False,
)  # fmt: skip
DATA = ResultData(summary="ok", output_data=OUTPUT)
COLUMNS = (Column(index=0, name="a", dtype="Int64"),)
FIGURES = {
    "phase": "reading", "bytes_read": 1, "bytes_total": 2, "rows": 1, "fraction": 0.5, "rows_per_s": 1.0, "eta_s": 1.0,
}  # fmt: skip
LEGACY = {"filename": "a.csv", "selectedColumns": [0]}


def make(limits=LIMITS):
    state = ConnectionState(id="c1", caller="ann")
    return Protocol(
        state, settings=Settings(limits=limits), callers=None, metrics=Metrics(), wall_clock=lambda: 123.5
    )


class Peer:
    """Sends messages to a protocol and returns its effects."""

    def __init__(self):
        self.protocol = make()
        self.now = 0.0

    def say(self, value):
        self.now += 1
        return list(self.protocol.text(self.now, value if isinstance(value, str) else json.dumps(value)))

    def process(self, id="p", **fields):
        (effect,) = self.say({"type": "process", "id": id, "filename": "a.csv", **fields})
        return effect

    def upload(self, id="u", size=20, **fields):
        (effect,) = self.say({"type": "upload", "id": id, "filename": "a.csv", "size": size, **fields})
        return effect


@pytest.fixture
def peer():
    return Peer()


def sent(effects):
    assert all(isinstance(effect, Send) for effect in effects), effects
    return [effect.message for effect in effects]


def the_error(effects):
    (message,) = sent(effects)
    assert isinstance(message, messages.Error)
    assert message.code == REASONS[message.reason].code
    return message


def test_hello_is_answered_by_welcome(peer):
    """The welcome contains the effective limits."""
    (welcome,) = sent(peer.say({"type": "hello", "version": 1, "id": "h", "batch": True}))
    assert welcome.id == "h"
    assert welcome.limits.chunk_bytes == 10
    assert welcome.connection == "c1"
    assert peer.protocol.state.batching


def test_hello_with_unsupported_version_is_refused(peer):
    """The error names the supported version."""
    error = the_error(peer.say({"type": "hello", "version": 2}))
    assert error.reason == "invalid_message"
    assert "with version 1" in error.message


def test_ping_is_answered_by_pong(peer):
    """The pong has the server's time, and the id if there is one."""
    assert sent(peer.say({"type": "ping", "id": "a"})) == [messages.Pong(id="a", time=123.5)]
    assert sent(peer.say({"type": "ping"})) == [messages.Pong(time=123.5)]


def test_legacy_request_has_exactly_one_answer(peer):
    """Neither `accepted` nor `progress` precedes the result, which contains nothing else."""
    (effect,) = peer.say(LEGACY)
    assert effect == AskProcessor(1, Submit(Query(filename="a.csv", selectedColumns=(0,)), None, keep=False))
    assert peer.protocol.reply(1, Accepted("j", 0)) == []
    assert peer.protocol.reply(1, Progressed("j", 1, FIGURES)) == []
    assert sent(peer.protocol.reply(1, Ended("j", 2, DATA))) == [messages.Result(data=DATA)]


def test_legacy_answers_keep_the_order_of_requests(peer):
    """A later request that ends first waits for its turn; so does an invalid one."""
    peer.say(LEGACY)
    peer.say({**LEGACY, "id": "second"})
    assert peer.say({"filename": "a.csv", "selectedColumns": []}) == []
    assert peer.say("garbage") == []
    assert peer.protocol.reply(2, Ended("j2", 1, DATA)) == []
    answers = sent(peer.protocol.fail(1, ProcessingError("internal", "No."), job="j1", seq=1))
    assert [getattr(answer, "reason", answer.type) for answer in answers] == [
        "internal",
        "result",
        "invalid_columns",
        "invalid_json",
    ]
    assert answers[0].job is None
    assert answers[1].id == "second"


def test_typed_answer_does_not_wait_for_legacy_ones(peer):
    """Only legacy requests are answered in order."""
    peer.say(LEGACY)
    assert sent(peer.say({"type": "ping"}))


def test_job_is_answered_by_accepted_progress_and_result(peer):
    """Each message has the id; progress and result have job and seq as well."""
    effect = peer.process(timeout=5, on_disconnect="cancel")
    assert effect == AskProcessor(1, Submit(Query(filename="a.csv"), 5.0, keep=False))
    assert sent(peer.protocol.reply(1, Accepted("j", 3))) == [messages.Accepted(id="p", job="j", position=3)]
    (progress,) = peer.protocol.reply(1, Progressed("j", 1, FIGURES))
    assert progress.replaces == 1
    assert progress.message.fraction == 0.5
    assert peer.protocol.state.processing == 1
    assert sent(peer.protocol.reply(1, Ended("j", 2, DATA))) == [
        messages.Result(id="p", job="j", seq=2, data=DATA)
    ]
    assert peer.protocol.state.processing == 0


def test_error_of_job_has_its_sequence_number(peer):
    """A client that attaches later knows whether it has seen the error."""
    peer.process()
    error = the_error(peer.protocol.fail(1, ProcessingError("busy", "Later."), job="j", seq=4))
    assert (error.id, error.job, error.seq, error.retryable) == ("p", "j", 4, True)
    assert peer.protocol.state.retry_count == 1
    assert peer.protocol.state.errors == 1


def test_id_in_flight_is_refused_as_duplicate(peer):
    """The second message is refused, the first continues; afterwards the id is free."""
    peer.process("x")
    assert the_error(peer.say({"type": "ping", "id": "x"})).reason == "duplicate_id"
    assert the_error(peer.say({**LEGACY, "id": "x"})).reason == "duplicate_id"
    assert sent(peer.protocol.reply(1, Ended("j", 1, DATA)))[0].id == "x"
    assert isinstance(peer.process("x").ask, Submit)


def test_too_many_requests_in_flight_are_refused_as_busy(peer):
    """One connection cannot fill the server's memory with requests."""
    for number in range(5):
        peer.process(str(number))
    error = the_error(peer.say({"type": "jobs", "id": "last"}))
    assert (error.reason, error.id) == ("busy", "last")
    assert peer.protocol.pings(peer.now, ['{"type": "ping", "id": "last"}']), "a ping is never in flight"
    peer.protocol.reply(1, Ended("j", 1, DATA))
    assert peer.say({"type": "jobs", "id": "last"}) == [AskProcessor(6, ListJobs())]


@pytest.mark.parametrize(
    "message",
    [
        LEGACY,
        {"type": "process", "id": "a"},
        {"type": "columns", "id": "a"},
        {"type": "upload", "id": "a", "size": 1},
        {"type": "download", "id": "a"},
    ],
)
@pytest.mark.parametrize("name", ["../a.csv", "/a.csv", "a\x00", "C:\\a", "con", ""])
def test_unsafe_filename_is_refused_in_every_message(peer, message, name):
    """The error is `invalid_filename`, and the next request is served."""
    error = the_error(peer.say({**message, "filename": name}))
    assert error.reason == "invalid_filename"
    assert error.id == message.get("id")
    assert sent(peer.say({"type": "ping"}))


def test_unsafe_name_among_other_faults_is_invalid_message(peer):
    """Every fault is listed with its path."""
    error = the_error(peer.say({"type": "columns", "id": "a", "filename": "../a.csv", "options": 5}))
    assert error.reason == "invalid_message"
    assert [detail.split(":")[0] for detail in error.details] == ["$.filename", "$.options"]


def test_columns_request_is_answered_from_the_processor(peer):
    """The processor's columns are sent."""
    assert peer.say({"type": "columns", "id": "a", "filename": "f"}) == [AskProcessor(1, ReadColumns("f"))]
    assert sent(peer.protocol.reply(1, ColumnsRead(Described(columns=COLUMNS)))) == [
        messages.Columns(id="a", columns=COLUMNS)
    ]


def test_cancel_names_either_a_job_or_a_request(peer):
    """A cancel with both or neither is refused."""
    peer.process("p")
    assert peer.say({"type": "cancel", "id": "a", "job": "j"}) == [AskProcessor(2, CancelJob("j"))]
    assert peer.say({"type": "cancel", "id": "b", "request": "p"}) == [AskProcessor(3, CancelRequest(1))]
    assert sent(peer.protocol.reply(2, Cancelled("j"))) == [messages.Cancelled(id="a", job="j")]
    assert the_error(peer.say({"type": "cancel", "id": "c"})).reason == "invalid_message"
    assert (
        the_error(peer.say({"type": "cancel", "id": "c", "job": "j", "request": "p"})).reason
        == "invalid_message"
    )


@pytest.mark.parametrize("message", [{"type": "columns"}, {"type": "rows", "offset": 0, "limit": 1}])
def test_cancel_of_a_lookup_stops_it(peer, message):
    """The processor ends it; there is no job in the answer."""
    peer.say({"id": "c", "filename": "f", **message})
    assert peer.say({"type": "cancel", "id": "x", "request": "c"}) == [AskProcessor(2, CancelRequest(1))]
    [answer] = peer.protocol.reply(2, Cancelled(None))
    assert answer.message == messages.Cancelled(id="x")


@pytest.mark.parametrize("other", ["nobody", "c"])
def test_cancel_of_request_without_job_is_refused(peer, other):
    """Neither an unknown request nor one of another kind has a job."""
    peer.say({"type": "files", "id": "c"})
    assert the_error(peer.say({"type": "cancel", "id": "x", "request": other})).reason == "job_not_found"


def test_cancel_of_a_request_with_an_endless_id_is_refused_briefly(peer):
    """The id is no id, and is not repeated as a whole."""
    error = the_error(peer.say({"type": "cancel", "id": "x", "request": "y" * 100_000}))
    assert error.reason == "job_not_found"
    assert len(error.message) < 200


def test_attach_follows_a_job_until_its_end(peer):
    """The job's events carry the id of the `attach`, which ends with the job."""
    [attach] = peer.say({"type": "attach", "id": "a", "job": "j", "after": 3})
    assert attach == AskProcessor(attach.request, Attach("j", 3))
    [log] = sent(peer.protocol.reply(attach.request, Logged("j", 4, "info", "So far.")))
    assert log == messages.Log(id="a", job="j", seq=4, level="info", message="So far.")
    [end] = sent(peer.protocol.reply(attach.request, Ended("j", 5, DATA)))
    assert (end.id, end.job, end.seq) == ("a", "j", 5)
    assert peer.protocol.state.processing == 0


def test_jobs_request_lists_jobs(peer):
    """The list is that of the processor."""
    [asked] = peer.say({"type": "jobs", "id": "a"})
    info = JobInfo(job="j", state="done", filename="a.csv", created=1.0, rows=3)
    assert sent(peer.protocol.reply(asked.request, JobsListed((info,)))) == [
        messages.Jobs(id="a", jobs=(info,))
    ]


# --- batches -----------------------------------------------------------------------------------------


def test_batch_members_are_answered_as_if_sent_alone(peer):
    """In order; an invalid member gets its own error, the others are served."""
    effects = peer.say(
        {
            "type": "batch",
            "messages": [
                {"type": "ping", "id": "a"},
                {"type": "nonsense", "id": "b"},
                7,
                {"type": "batch", "id": "c", "messages": []},
                {"type": "ping", "id": "d"},
            ],
        }
    )
    assert [(m.type, m.id, getattr(m, "reason", None)) for m in sent(effects)] == [
        ("pong", "a", None),
        ("error", "b", "unknown_type"),
        ("error", None, "invalid_message"),
        ("error", "c", "invalid_message"),
        ("pong", "d", None),
    ]
    assert sent(effects)[2].details == ("$: not an object",)
    assert peer.protocol.state.batching


def test_batch_over_limit_is_refused_as_a_whole(peer):
    """More members than `limits.batch_messages` are refused."""
    error = the_error(peer.say({"type": "batch", "id": "b", "messages": [{"type": "ping"}] * 6}))
    assert (error.reason, error.id) == ("invalid_message", "b")


@pytest.mark.parametrize("members", [0, 6])
def test_batch_without_members_or_with_too_many_counts_as_a_message(members):
    """It is throttled as any other message."""
    protocol = make(limits=attrs.evolve(LIMITS, messages_per_s=1.0, messages_burst=2))
    batch = json.dumps({"type": "batch", "id": "b", "messages": [{"type": "ping"}] * members})
    reasons = [answer.reason for _ in range(3) for answer in sent(list(protocol.text(0.0, batch)))]
    assert reasons == ["invalid_message"] * (2 if members else 0) + ["rate_limited"]


def test_legacy_answer_queue_is_bounded(peer):
    """Beyond the limit, requests are refused out of turn: garbage behind a slow request costs no memory."""
    peer.say(LEGACY)
    for _ in range(4):
        assert peer.say("garbage") == []
    assert the_error(peer.say("garbage")).reason == "invalid_json"
    assert the_error(peer.say(LEGACY)).reason == "busy"
    assert len(sent(peer.protocol.reply(1, Ended("j", 1, DATA)))) == 5


# --- files -------------------------------------------------------------------------------------------


def test_files_are_listed_and_deleted(peer):
    """The store's answer is passed on."""
    info = FileInfo(filename="a.csv", size=1, modified=2.0, sha256="s")
    assert peer.say({"type": "files", "id": "f"}) == [ListFiles(1)]
    assert sent(peer.protocol.files(1, (info,))) == [messages.Files(id="f", files=(info,))]
    assert peer.say({"type": "delete", "id": "d", "filename": "a.csv"}) == [DeleteFile(2, "a.csv")]
    assert sent(peer.protocol.deleted(2)) == [messages.Deleted(id="d", filename="a.csv")]


def test_rows_request_returns_a_window_of_rows(peer):
    """The answer repeats the offset."""
    message = {"type": "rows", "id": "r", "filename": "a.csv", "offset": 7, "limit": 2}
    assert peer.say(message) == [AskProcessor(1, ReadRows("a.csv", 7, 2))]
    window = Window(columns=("a",), rows=((1,),), total=8)
    assert sent(peer.protocol.reply(1, RowsRead(window))) == [
        messages.Rows(id="r", columns=("a",), rows=((1,),), offset=7, total=8)
    ]
    assert the_error(peer.say({**message, "limit": 1001})).reason == "invalid_message"


def test_rows_request_may_have_a_view(peer):
    """Its conditions and sort keys have the form of those of `process`."""
    message = {"type": "rows", "id": "r", "filename": "a.csv", "offset": 0, "limit": 2}
    fields = {"where": [["n", ">", 1], [0, "is_null"]], "sort": [["n", "desc"]], "find": "Ab"}
    where = (Condition("n", ">", 1), Condition(0, "is_null"))
    view = View(where=where, sort=(SortKey("n", descending=True),), find="Ab")
    assert peer.say({**message, **fields}) == [AskProcessor(1, ReadRows("a.csv", 0, 2, view=view))]


@pytest.mark.parametrize(
    ("field", "detail"),
    [
        ({"find": "x" * 1001}, "$.find: expected at most 1000 characters, got "),
        ({"find": 5}, "$.find: expected a string, got 5"),
        ({"where": [["n", "~", 1]]}, "$.where[0]: expected an operator "),
        ({"sort": [["n", "up"]]}, "$.sort[0]: expected a direction "),
    ],
)
def test_invalid_view_is_refused_with_its_path(peer, field, detail):
    """The error says what was expected, and what was given."""
    error = the_error(
        peer.say({"type": "rows", "id": "r", "filename": "a.csv", "offset": 0, "limit": 2, **field})
    )
    assert error.reason == "invalid_message"
    assert error.details[0].startswith(detail)


# --- uploads -----------------------------------------------------------------------------------------


def test_upload_goes_from_ready_to_uploaded(peer):
    """ready, chunks, then uploaded with digest and columns."""
    assert peer.upload(sha256="0" * 64, overwrite=True) == OpenUpload(
        1, "a.csv", 20, "0" * 64, overwrite=True
    )
    assert sent(peer.protocol.upload_opened(0)) == [messages.UploadReady(id="u", offset=0)]
    assert peer.protocol.binary(1.0, b"x" * 10) == [WriteChunk(1, b"x" * 10)]
    assert peer.protocol.chunk_written(1, 0) == []
    assert peer.protocol.binary(2.0, b"x" * 10) == [WriteChunk(1, b"x" * 10)]
    assert peer.protocol.chunk_written(1, 0) == [FinishUpload(1, "a.csv", "0" * 64)]
    peer.protocol.upload_finished()
    assert isinstance(peer.upload("next"), OpenUpload)
    assert sent(peer.protocol.uploaded(1, "digest", COLUMNS)) == [
        messages.Uploaded(id="u", filename="a.csv", size=20, sha256="digest", columns=COLUMNS)
    ]


def test_upload_of_empty_file_is_complete_immediately(peer):
    """No bytes have to be sent."""
    peer.upload(size=0)
    assert peer.protocol.upload_opened(0) == [
        Send(messages.UploadReady(id="u", offset=0)),
        FinishUpload(1, "a.csv", None),
    ]


def test_empty_frame_is_never_too_much(peer):
    """Clients that read a file until nothing is left may send that, too: before, during and after an upload."""
    assert peer.protocol.binary(1.0, b"") == []
    peer.upload(size=1)
    peer.protocol.upload_opened(0)
    assert peer.protocol.binary(1.0, b"") == []
    assert peer.protocol.binary(1.0, b"x") == [WriteChunk(1, b"x")]
    assert peer.protocol.binary(1.0, b"") == []
    assert peer.protocol.chunk_written(1, 0) == [FinishUpload(1, "a.csv", None)]
    peer.protocol.upload_finished()
    assert peer.protocol.binary(1.0, b"") == []
    assert sent(peer.protocol.uploaded(1, "digest", COLUMNS))[0].type == "uploaded"
    assert peer.protocol.binary(1.0, b"") == []


def test_upload_progress_is_sent_when_bytes_are_durable(peer):
    """It is not sent after every chunk."""
    peer.upload(size=100)
    peer.protocol.upload_opened(0)
    progress = []
    for durable in (0, 20, 20, 40):
        peer.protocol.binary(1.0, b"x" * 10)
        progress += sent(peer.protocol.chunk_written(1, durable))
    assert progress == [
        messages.UploadProgress(id="u", offset=20),
        messages.UploadProgress(id="u", offset=40),
    ]


def test_upload_is_resumed_at_its_offset(peer):
    """Only missing bytes are sent; an upload that lacks none is finished immediately."""
    peer.upload(size=20)
    assert sent(peer.protocol.upload_opened(15)) == [messages.UploadReady(id="u", offset=15)]
    peer.protocol.binary(1.0, b"x" * 5)
    assert peer.protocol.chunk_written(1, 15) == [FinishUpload(1, "a.csv", None)]
    peer.protocol.upload_finished()
    request = peer.upload("v", size=20).request
    assert peer.protocol.upload_opened(20)[1:] == [FinishUpload(request, "a.csv", None)]


def test_upload_taken_over_ends_as_cancelled(peer):
    """Bytes that still arrive are reported once."""
    peer.upload()
    peer.protocol.upload_opened(0)
    drop, error = peer.protocol.upload_taken()
    assert drop == DropUpload()
    assert (error.message.reason, error.message.id) == ("cancelled", "u")
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"
    assert isinstance(peer.upload("v"), OpenUpload)


def test_failed_upload_cannot_be_taken_over(peer):
    """It has been answered already."""
    peer.upload(size=5)
    peer.protocol.upload_opened(0)
    peer.protocol.binary(1.0, b"x" * 6)
    assert peer.protocol.upload_taken() == []


def test_upload_can_be_cancelled_until_complete(peer):
    """`cancel` with its id drops it, and it ends as `cancelled`; a complete upload can only be deleted."""
    peer.upload()
    peer.protocol.upload_opened(0)
    drop, error, answer = peer.say({"type": "cancel", "id": "c", "request": "u"})
    assert drop == DropUpload()
    assert (error.message.reason, error.message.id) == ("cancelled", "u")
    assert answer.message == messages.Cancelled(id="c")
    peer.upload("v", size=0)
    peer.protocol.upload_opened(0)
    peer.protocol.upload_finished()
    error = the_error(peer.say({"type": "cancel", "id": "c", "request": "v"}))
    assert (error.reason, error.id) == ("job_not_found", "c")


def test_complete_upload_cannot_be_cancelled_while_the_next_one_is_open(peer):
    """Its file is in place; the columns still come."""
    peer.upload("u", size=0)
    peer.protocol.upload_opened(0)
    peer.protocol.upload_finished()
    peer.upload("v")
    error = the_error(peer.say({"type": "cancel", "id": "c", "request": "u"}))
    assert (error.reason, error.id) == ("job_not_found", "c")
    (uploaded,) = sent(peer.protocol.uploaded(1, "digest", COLUMNS))
    assert uploaded.id == "u"


def test_upload_with_too_many_bytes_is_dropped(peer):
    """The error is `size_mismatch`; bytes that still arrive are reported once."""
    peer.upload(size=5)
    peer.protocol.upload_opened(0)
    drop, error = peer.protocol.binary(1.0, b"x" * 6)
    assert drop == DropUpload()
    assert (error.message.reason, error.message.id) == ("size_mismatch", "u")
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"
    assert peer.protocol.binary(1.0, b"x") == []
    peer.say({"type": "ping"})
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"


def test_bytes_beyond_a_complete_upload_remove_it(peer):
    """This holds until `uploaded` is sent; later bytes are unexpected like any others."""
    peer.upload(size=5)
    peer.protocol.upload_opened(0)
    peer.protocol.binary(1.0, b"xxxxx")
    peer.protocol.chunk_written(1, 0)
    peer.protocol.upload_finished()
    remove, error = peer.protocol.binary(1.0, b"yy")
    assert remove == RemoveUpload(1, "a.csv")
    assert (error.message.reason, error.message.id) == ("size_mismatch", "u")
    assert "7 bytes" in error.message.message
    assert peer.protocol.state.processing == 0
    peer.upload(size=0)
    peer.protocol.upload_opened(0)
    peer.protocol.upload_finished()
    peer.protocol.uploaded(2, "digest", COLUMNS)
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"


def test_bytes_without_upload_are_refused_as_unexpected(peer):
    """A client that forgot to announce them is notified."""
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"


def test_second_upload_is_refused_as_busy(peer):
    """The first upload continues."""
    peer.upload("u")
    peer.protocol.upload_opened(0)
    assert the_error([peer.upload("v")]).reason == "busy"
    assert peer.protocol.binary(1.0, b"x") == [WriteChunk(1, b"x")]


def test_upload_over_limit_is_refused_before_any_byte(peer):
    """The error is `upload_too_large`."""
    assert the_error([peer.upload(size=101)]).reason == "upload_too_large"


def test_upload_while_draining_is_refused_as_retryable(peer):
    """The error is `shutting_down`."""
    peer.protocol.drain()
    error = the_error([peer.upload()])
    assert (error.reason, error.code, error.retryable) == ("shutting_down", 1001, True)


# --- downloads ---------------------------------------------------------------------------------------


def test_download_goes_from_started_to_downloaded(peer):
    """The size is that of the whole file, also with an offset."""
    message = {"type": "download", "id": "d", "filename": "f", "offset": 3}
    assert peer.say(message) == [AskProcessor(1, FindFile("f"))]
    assert the_error(peer.say({**message, "id": "e"})).reason == "busy"
    assert sent(peer.protocol.download_started(1, size=5, sha256=None)) == [
        messages.DownloadStarted(id="d", filename="f", size=5, offset=3)
    ]
    assert sent(peer.protocol.downloaded(1, size=5, sha256="s")) == [
        messages.Downloaded(id="d", size=5, sha256="s")
    ]
    assert peer.say(message) == [AskProcessor(3, FindFile("f"))]


def test_download_can_be_cancelled(peer):
    """`cancel` with its id stops the bytes, and it ends as `cancelled`."""
    peer.say({"type": "download", "id": "d", "filename": "f"})
    peer.protocol.download_started(1, size=5, sha256="s")
    stop, stop_search, error, answer = peer.say({"type": "cancel", "id": "c", "request": "d"})
    assert [stop, stop_search] == [StopDownload(1), AskProcessor(1, StopLookUp(1))]
    assert (error.message.reason, error.message.id) == ("cancelled", "d")
    assert answer.message == messages.Cancelled(id="c")
    assert peer.say({"type": "download", "id": "d", "filename": "f"}) == [AskProcessor(3, FindFile("f"))]


def test_download_offset_beyond_end_is_refused(peer):
    """The error is `offset_mismatch`; an offset at the end is valid."""
    peer.say({"type": "download", "id": "d", "filename": "f", "offset": 5})
    assert peer.protocol.download_started(1, size=5, sha256=None)
    with pytest.raises(InvalidFormat) as caught:
        peer.protocol.download_started(1, size=4, sha256=None)
    assert the_error(peer.protocol.fail(1, caught.value)).reason == "offset_mismatch"
    assert peer.say({"type": "download", "id": "d", "filename": "f"}) == [AskProcessor(2, FindFile("f"))]


# --- closing ---------------------------------------------------------------------------------


def test_message_over_limit_gets_error_before_close(peer):
    """The error is sent first, then close code 1009."""
    for binary in (True, False):
        send, close = peer.protocol.too_large(binary=binary, size=11, limit=10)
        assert send.message.reason == "message_too_large"
        assert "11" in send.message.message
        assert close.code is CloseCode.TOO_BIG


# --- any message in any state --------------------------------------------------------------------------


def minimal(kind):
    """Return the shortest message of a class."""
    fields = {
        "id": "n",
        "filename": "b.csv",
        "size": 5,
        "job": "j",
        "version": 1,
        "offset": 0,
        "limit": 1,
        "messages": [],
    }
    required = {field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING}
    name = {"type": kind.type} if hasattr(kind, "type") else {"selectedColumns": [0]}
    return {**name, **{key: value for key, value in fields.items() if key in required}}


def prepare(peer, state):
    """Bring a connection into this state."""
    if state == "legacy request in flight":
        peer.say(LEGACY)
    elif state == "job in flight":
        peer.process("n0")
    elif state == "same id in flight":
        peer.process("n")
    elif state == "upload opening":
        peer.upload()
    elif state == "upload open":
        peer.upload()
        peer.protocol.upload_opened(0)
    elif state == "upload failed":
        peer.upload(size=1)
        peer.protocol.binary(0.0, b"xx")
    elif state == "upload complete":
        peer.upload(size=0)
        peer.protocol.upload_opened(0)
        peer.protocol.upload_finished()
    elif state == "download open":
        peer.say({"type": "download", "id": "d", "filename": "f"})
    elif state == "batching":
        peer.say({"type": "hello", "version": 1, "batch": True})
    elif state == "draining":
        peer.protocol.drain()
    elif state == "full":
        for number in range(5):
            peer.process(f"n{number}")


STATES = [
    "fresh", "legacy request in flight", "job in flight", "same id in flight", "upload opening", "upload open",
    "upload failed", "upload complete", "download open", "batching", "draining", "full",
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [*CLIENT_TYPES.values(), messages.LegacyRequest, "binary"])
def test_every_message_in_every_state_is_served_or_refused(peer, state, kind):
    """A refusal has a documented reason; the connection stays open in any case."""
    prepare(peer, state)
    if kind == "binary":
        effects = peer.protocol.binary(1.0, b"x")
    else:
        effects = peer.say(minimal(kind))
    for effect in effects:
        assert not isinstance(effect, Close)
        if isinstance(effect, Send):
            assert codec.decode_answer(codec.encode(effect.message)) == effect.message
            if isinstance(effect.message, messages.Error):
                assert effect.message.reason in REASONS
                assert effect.message.message
    if state != "full":
        assert sent(peer.say({"type": "ping", "id": "still there"}))[0].id == "still there"


ROUNDS = st.lists(
    st.one_of(
        strategies.client_messages.map(codec.encode),
        strategies.odd_json.map(json.dumps),
        st.text(max_size=30),
        st.binary(max_size=12),
        st.just("settle"),
    ),
    max_size=12,
)


@hypothesis_settings(max_examples=examples_of(200), deadline=None)
@given(ROUNDS)
def test_random_input_never_raises(rounds):
    """Neither text nor bytes raise; each request in flight can be ended and then leaves nothing behind."""
    protocol = make()
    in_flight = {}
    for number, item in enumerate(rounds):
        if item == "settle":
            for request, effect in list(in_flight.items()):
                del in_flight[request]
                protocol.fail(request, ProcessingError("internal", "No."))
            continue
        receive = protocol.binary if isinstance(item, bytes) else protocol.text
        for effect in receive(float(number), item):
            request = getattr(effect, "request", None)
            if request is not None:
                in_flight[request] = effect
            if isinstance(effect, Send):
                codec.encode(effect.message)
        # The item may have ended an upload.
        in_flight = {request: effect for request, effect in in_flight.items() if protocol.awaits(request)}
    for request in in_flight:
        protocol.fail(request, ProcessingError("internal", "No."))
    assert protocol.state.processing == 0


SHORT_PINGS = [
    {"type": "ping"},
    {"type": "ping", "id": "a"},
    {"type": "ping", "id": "é" * 70, "more": 1},
]
OTHERS = [
    {"type": "ping", "id": None},
    {"type": "ping", "id": ""},
    {"type": "ping", "id": "x" * 129},
    {"type": "ping", "id": 5},
    {"type": "pong"},
    {"type": "ping", "pad": "x" * 600},
    {"type": "ping", "pad": [1]},
    {"type": "ping", "pad": {}},
    ["ping"],
    "ping",
    {"type": ["ping"]},
]


@pytest.mark.parametrize("ping", SHORT_PINGS, ids=json.dumps)
def test_ping_fast_path_equals_full_path(ping):
    """Answer and counters are the same."""
    short, long = make(), make()
    (said,) = short.pings(1.0, [json.dumps(ping)])
    (answer,) = sent(long.text(1.0, json.dumps(ping)))
    assert json.loads(said) == json.loads(codec.encode(answer))
    assert attrs.evolve(short.state, processing=0) == long.state
    assert (short._metrics.received, short._metrics.sent) == (long._metrics.received, long._metrics.sent)


@pytest.mark.parametrize("other", OTHERS, ids=lambda value: json.dumps(value)[:40])
def test_ping_fast_path_leaves_other_messages_alone(other):
    """The fast path has no effect on them, whatever they are."""
    protocol = make()
    before = attrs.evolve(protocol.state)
    ping = '{"type": "ping"}'
    for texts in ([json.dumps(other)], ["{"], [ping, json.dumps(other)], [ping, "{", ping]):
        assert protocol.pings(1.0, texts) == []
    assert protocol.state == before
    assert not protocol._metrics.received
    assert not protocol._metrics.sent


def test_ping_fast_path_declines_when_rate_limited():
    """The full path then refuses the excess ping once."""
    protocol = make(limits=attrs.evolve(LIMITS, messages_per_s=1.0, messages_burst=2))
    ping = '{"type": "ping"}'
    assert protocol.pings(1.0, [ping] * 3) == [], "all or none"
    assert len(protocol.pings(1.0, [ping] * 2)) == 2
    assert protocol.pings(1.0, [ping]) == []
    assert the_error(protocol.text(1.0, ping)).reason == "rate_limited"
    assert protocol.pings(2.0, [ping])


@given(st.lists(st.one_of(st.none(), st.text(min_size=1, max_size=128)), min_size=1, max_size=5))
def test_pings_that_arrive_together_are_answered_as_if_alone(ids):
    """Any ids: the same answers in the same order, and the same counters."""
    together, alone = make(), make()
    pings = [codec.encode(messages.Ping(id=id_)) for id_ in ids]
    expected = [codec.encode(answer) for ping in pings for answer in sent(alone.text(1.0, ping))]
    assert list(map(json.loads, together.pings(1.0, pings))) == list(map(json.loads, expected))
    assert attrs.evolve(together.state, processing=0) == alone.state
    assert (together._metrics.received, together._metrics.sent) == (
        alone._metrics.received,
        alone._metrics.sent,
    )


def test_no_ping_is_answered_together_with_one_whose_id_is_in_flight(peer):
    """Passed alone, only that one is refused."""
    peer.process("x")
    pings = [json.dumps({"type": "ping", "id": id_}) for id_ in ("a", "x")]
    assert peer.protocol.pings(peer.now, pings) == []
    assert len(peer.protocol.pings(peer.now, pings[:1])) == 1
    assert peer.protocol.pings(peer.now, pings[1:]) == []


def test_pings_in_a_batch_are_answered_together():
    """They keep their place among the others; rate-limited ones are answered one by one."""
    members = [{"type": "ping", "id": "a"}, {"type": "ping"}, 5, {"type": "ping", "id": "b"}]
    protocol = make(limits=attrs.evolve(LIMITS, messages_per_s=1.0, messages_burst=5))
    pongs, wrong, last = sent(list(protocol.text(1.0, json.dumps({"type": "batch", "messages": members}))))
    assert json.loads(codec.encode(pongs)) == {
        "type": "batch",
        "messages": [{"type": "pong", "id": "a", "time": 123.5}, {"type": "pong", "time": 123.5}],
    }
    assert wrong.reason == "invalid_message"
    assert (last.type, last.id) == ("pong", "b")
    first, *others = sent(list(protocol.text(1.0, json.dumps({"type": "batch", "messages": members}))))
    assert (first.type, first.id) == ("pong", "a")
    assert {other.reason for other in others} == {"rate_limited"}
