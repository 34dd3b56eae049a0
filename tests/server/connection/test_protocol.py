"""The protocol's state machine: every message in every state, with the effects that follow."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from creemson.errors import REASONS, CloseCode, ProcessingError
from creemson.server import protocol as p
from creemson.server.protocol import ConnectionState, Protocol
from creemson.settings import Limits, Timeouts
from creemson.wire import codec, messages
from creemson.wire.messages import CLIENT_TYPES
from tests import strategies

LIMITS = Limits(batch_messages=5, upload_bytes=100, chunk_bytes=10)
OUTPUT = messages.OutputData(
    rows=1, columns=("a",), dtypes=("Int64",), filename="x.parquet", final_filename_csv="x.csv",
    final_filename_excel="x.xlsx", elapsed_s=0.1, cached=False,
)  # fmt: skip
DATA = messages.ResultData(summary="ok", output_data=OUTPUT)
COLUMNS = (messages.Column(index=0, name="a", dtype="Int64"),)
FIGURES = {
    "phase": "reading", "bytes_read": 1, "bytes_total": 2, "rows": 1, "fraction": 0.5, "rows_per_s": 1.0, "eta_s": 1.0,
}  # fmt: skip
CLASSIC = {"filename": "a.csv", "selectedColumns": [0]}


def make(limits=LIMITS):
    state = ConnectionState(id="c1", caller="ann")
    return Protocol(state, limits=limits, timeouts=Timeouts(), server="test", wall_clock=lambda: 123.5)


class Peer:
    """Talks to a protocol and keeps what it answers."""

    def __init__(self):
        self.protocol = make()
        self.now = 0.0

    def say(self, value):
        self.now += 1
        return self.protocol.text(self.now, value if isinstance(value, str) else json.dumps(value))

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
    assert all(isinstance(effect, p.Send) for effect in effects), effects
    return [effect.message for effect in effects]


def the_error(effects):
    (message,) = sent(effects)
    assert isinstance(message, messages.Error)
    assert message.code == REASONS[message.reason].code
    return message


def test_hello_is_answered_by_welcome(peer):
    """The limits are those in force."""
    (welcome,) = sent(peer.say({"type": "hello", "version": 1, "id": "h", "batch": True}))
    assert welcome.id == "h"
    assert welcome.limits.chunk_bytes == 10
    assert welcome.connection == "c1"
    assert peer.protocol.state.batching


def test_another_version_is_not_spoken(peer):
    """The answer says which one is."""
    error = the_error(peer.say({"type": "hello", "version": 2}))
    assert error.reason == "invalid_message"
    assert "with 1" in error.message


def test_ping_is_answered_by_pong(peer):
    """With the server's time, and the id if there is one."""
    assert sent(peer.say({"type": "ping", "id": "a"})) == [messages.Pong(id="a", time=123.5)]
    assert sent(peer.say({"type": "ping"})) == [messages.Pong(time=123.5)]


def test_a_classic_request_has_exactly_one_answer(peer):
    """Neither `accepted` nor `progress` comes before the result, and nothing else is in it."""
    (effect,) = peer.say(CLASSIC)
    assert effect == p.Submit(1, messages.Query(filename="a.csv", selectedColumns=(0,)), None, keep=False)
    assert peer.protocol.accepted(1, "j", 0) == []
    assert peer.protocol.progress(1, "j", 1, FIGURES) == []
    assert sent(peer.protocol.result(1, "j", 2, DATA)) == [messages.Result(data=DATA)]


def test_classic_answers_keep_the_order_of_the_requests(peer):
    """A later one that is done first waits for its turn; so does a faulty one."""
    peer.say(CLASSIC)
    peer.say({**CLASSIC, "id": "second"})
    assert peer.say({"filename": "a.csv", "selectedColumns": []}) == []
    assert peer.say("garbage") == []
    assert peer.protocol.result(2, "j2", 1, DATA) == []
    answers = sent(peer.protocol.fail(1, ProcessingError("internal", "No."), job="j1", seq=1))
    assert [getattr(answer, "reason", answer.type) for answer in answers] == [
        "internal",
        "result",
        "invalid_columns",
        "invalid_json",
    ]
    assert answers[0].job is None
    assert answers[1].id == "second"


def test_a_typed_answer_does_not_wait_for_classic_ones(peer):
    """Only the classic requests have an order."""
    peer.say(CLASSIC)
    assert sent(peer.say({"type": "ping"}))


def test_a_job_tells_of_itself(peer):
    """accepted, progress, result: each with the id, the later ones with job and seq."""
    effect = peer.process(timeout=5, on_disconnect="cancel")
    assert effect == p.Submit(1, messages.Query(filename="a.csv"), 5.0, keep=False)
    assert sent(peer.protocol.accepted(1, "j", 3)) == [messages.Accepted(id="p", job="j", position=3)]
    (progress,) = peer.protocol.progress(1, "j", 1, FIGURES)
    assert progress.replaces == 1
    assert progress.message.fraction == 0.5
    assert peer.protocol.state.processing == 1
    assert sent(peer.protocol.result(1, "j", 2, DATA)) == [messages.Result(id="p", job="j", seq=2, data=DATA)]
    assert peer.protocol.state.processing == 0


def test_the_error_of_a_job_has_its_number(peer):
    """So that a client that attaches later knows it has seen it."""
    peer.process()
    error = the_error(peer.protocol.fail(1, ProcessingError("busy", "Later."), job="j", seq=4))
    assert (error.id, error.job, error.seq, error.retryable) == ("p", "j", 4, True)
    assert peer.protocol.state.retry_count == 1
    assert peer.protocol.state.errors == 1


def test_an_id_in_flight_is_not_taken_again(peer):
    """The second message gets an error, the first goes on; then the id is free."""
    peer.process("x")
    assert the_error(peer.say({"type": "ping", "id": "x"})).reason == "duplicate_id"
    assert the_error(peer.say({**CLASSIC, "id": "x"})).reason == "duplicate_id"
    assert sent(peer.protocol.result(1, "j", 1, DATA))[0].id == "x"
    assert isinstance(peer.process("x"), p.Submit)


def test_too_many_requests_in_flight_are_busy(peer):
    """One connection cannot fill the server's memory with requests."""
    for number in range(5):
        peer.process(str(number))
    error = the_error(peer.say({"type": "jobs", "id": "last"}))
    assert (error.reason, error.id) == ("busy", "last")
    assert peer.protocol.ping(peer.now, '{"type": "ping", "id": "last"}'), "which is never in flight"
    peer.protocol.result(1, "j", 1, DATA)
    assert peer.say({"type": "jobs", "id": "last"}) == [p.ListJobs(7)]


@pytest.mark.parametrize(
    "message",
    [
        CLASSIC,
        {"type": "process", "id": "a"},
        {"type": "columns", "id": "a"},
        {"type": "upload", "id": "a", "size": 1},
        {"type": "download", "id": "a"},
    ],
)
@pytest.mark.parametrize("name", ["../a.csv", "/a.csv", "a\x00", "C:\\a", "con", ""])
def test_an_unsafe_name_is_refused_wherever_it_stands(peer, message, name):
    """`invalid_filename`, and the connection answers the next request."""
    error = the_error(peer.say({**message, "filename": name}))
    assert error.reason == "invalid_filename"
    assert error.id == message.get("id")
    assert sent(peer.say({"type": "ping"}))


def test_columns(peer):
    """What the processor finds is answered."""
    assert peer.say({"type": "columns", "id": "a", "filename": "f"}) == [p.ReadColumns(1, "f")]
    assert sent(peer.protocol.columns(1, messages.Described(columns=COLUMNS))) == [
        messages.Columns(id="a", columns=COLUMNS)
    ]


def test_cancel_by_job_and_by_request(peer):
    """Exactly one of the two is named."""
    peer.process("p")
    assert peer.say({"type": "cancel", "id": "a", "job": "j"}) == [p.CancelJob(2, "j")]
    assert peer.say({"type": "cancel", "id": "b", "request": "p"}) == [p.CancelRequest(3, 1)]
    assert sent(peer.protocol.cancelled(2, "j")) == [messages.Cancelled(id="a", job="j")]
    assert the_error(peer.say({"type": "cancel", "id": "c"})).reason == "invalid_message"
    assert (
        the_error(peer.say({"type": "cancel", "id": "c", "job": "j", "request": "p"})).reason
        == "invalid_message"
    )


@pytest.mark.parametrize("other", ["nobody", "c"])
def test_cancel_of_a_request_without_a_job(peer, other):
    """Neither an unknown request nor one of another kind has a job."""
    peer.say({"type": "columns", "id": "c", "filename": "f"})
    assert the_error(peer.say({"type": "cancel", "id": "x", "request": other})).reason == "job_not_found"


def test_a_job_is_followed(peer):
    """Its events carry the id of the `attach`, which ends with it."""
    [attach] = peer.say({"type": "attach", "id": "a", "job": "j", "after": 3})
    assert attach == p.Attach(attach.request, "j", 3)
    [told] = sent(peer.protocol.log(attach.request, "j", 4, "info", "So far."))
    assert told == messages.Log(id="a", job="j", seq=4, level="info", message="So far.")
    [end] = sent(peer.protocol.result(attach.request, "j", 5, DATA))
    assert (end.id, end.job, end.seq) == ("a", "j", 5)
    assert peer.protocol.state.processing == 0


def test_jobs_are_listed(peer):
    """As the processor knows them."""
    [asked] = peer.say({"type": "jobs", "id": "a"})
    info = messages.JobInfo(job="j", state="done", filename="a.csv", created=1.0, rows=3)
    assert sent(peer.protocol.jobs(asked.request, (info,))) == [messages.Jobs(id="a", jobs=(info,))]


# --- batches -----------------------------------------------------------------------------------------


def test_a_batch_is_as_its_members_alone(peer):
    """In order; a bad member gets its own error, the others go on."""
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
    assert peer.protocol.state.batching


def test_a_batch_has_a_limit(peer):
    """More members than `limits.batch_messages` are refused as a whole."""
    error = the_error(peer.say({"type": "batch", "id": "b", "messages": [{"type": "ping"}] * 6}))
    assert (error.reason, error.id) == ("invalid_message", "b")


def test_the_line_of_classic_answers_is_bounded(peer):
    """Over the limit they are refused at once, out of turn: garbage behind a slow request costs no memory."""
    peer.say(CLASSIC)
    for _ in range(4):
        assert peer.say("garbage") == []
    assert the_error(peer.say("garbage")).reason == "invalid_json"
    assert the_error(peer.say(CLASSIC)).reason == "busy"
    assert len(sent(peer.protocol.result(1, "j", 1, DATA))) == 5


# --- files -------------------------------------------------------------------------------------------


def test_files_are_listed_and_deleted(peer):
    """Whatever the store says is passed on."""
    info = messages.FileInfo(filename="a.csv", size=1, modified=2.0, sha256="s")
    assert peer.say({"type": "files", "id": "f"}) == [p.ListFiles(1)]
    assert sent(peer.protocol.files(1, (info,))) == [messages.Files(id="f", files=(info,))]
    assert peer.say({"type": "delete", "id": "d", "filename": "a.csv"}) == [p.DeleteFile(2, "a.csv")]
    assert sent(peer.protocol.deleted(2)) == [messages.Deleted(id="d", filename="a.csv")]


def test_a_window_of_a_table(peer):
    """The answer says again where it begins."""
    message = {"type": "rows", "id": "r", "filename": "a.csv", "offset": 7, "limit": 2}
    assert peer.say(message) == [p.ReadRows(1, "a.csv", 7, 2)]
    window = messages.Window(columns=("a",), rows=((1,),), total=8)
    assert sent(peer.protocol.rows(1, window)) == [
        messages.Rows(id="r", columns=("a",), rows=((1,),), offset=7, total=8)
    ]
    assert the_error(peer.say({**message, "limit": 1001})).reason == "invalid_message"


# --- uploads -----------------------------------------------------------------------------------------


def test_an_upload_from_begin_to_end(peer):
    """ready, chunks, uploaded with digest and columns."""
    assert peer.upload(sha256="0" * 64, overwrite=True) == p.OpenUpload(
        1, "a.csv", 20, "0" * 64, overwrite=True
    )
    assert sent(peer.protocol.upload_opened(0)) == [messages.UploadReady(id="u", offset=0)]
    assert peer.protocol.binary(1.0, b"x" * 10) == [p.WriteChunk(1, b"x" * 10)]
    assert peer.protocol.chunk_written(1, 0) == []
    assert peer.protocol.binary(2.0, b"x" * 10) == [p.WriteChunk(1, b"x" * 10)]
    assert peer.protocol.chunk_written(1, 0) == [p.FinishUpload(1, "a.csv", "0" * 64)]
    peer.protocol.upload_finished()
    assert isinstance(peer.upload("next"), p.OpenUpload)
    assert sent(peer.protocol.uploaded(1, "digest", COLUMNS)) == [
        messages.Uploaded(id="u", filename="a.csv", size=20, sha256="digest", columns=COLUMNS)
    ]


def test_an_empty_file_is_whole_at_once(peer):
    """Nothing has to be sent for it."""
    peer.upload(size=0)
    assert peer.protocol.upload_opened(0) == [
        p.Send(messages.UploadReady(id="u", offset=0)),
        p.FinishUpload(1, "a.csv", None),
    ]


def test_upload_progress_is_told_when_bytes_are_safe(peer):
    """Not after every chunk."""
    peer.upload(size=100)
    peer.protocol.upload_opened(0)
    told = []
    for durable in (0, 20, 20, 40):
        peer.protocol.binary(1.0, b"x" * 10)
        told += sent(peer.protocol.chunk_written(1, durable))
    assert told == [messages.UploadProgress(id="u", offset=20), messages.UploadProgress(id="u", offset=40)]


def test_an_upload_goes_on_where_it_was(peer):
    """Only what is missing is to be sent; an upload that lacks nothing is finished at once."""
    peer.upload(size=20)
    assert sent(peer.protocol.upload_opened(15)) == [messages.UploadReady(id="u", offset=15)]
    peer.protocol.binary(1.0, b"x" * 5)
    assert peer.protocol.chunk_written(1, 15) == [p.FinishUpload(1, "a.csv", None)]
    peer.protocol.upload_finished()
    request = peer.upload("v", size=20).request
    assert peer.protocol.upload_opened(20)[1:] == [p.FinishUpload(request, "a.csv", None)]


def test_an_upload_that_is_taken_over(peer):
    """It ends in `cancelled`; what still comes of it is told of once."""
    peer.upload()
    peer.protocol.upload_opened(0)
    drop, error = peer.protocol.upload_taken()
    assert drop == p.DropUpload()
    assert (error.message.reason, error.message.id) == ("cancelled", "u")
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"
    assert isinstance(peer.upload("v"), p.OpenUpload)


def test_nothing_is_taken_over_of_an_upload_that_has_failed(peer):
    """It was answered already."""
    peer.upload(size=5)
    peer.protocol.upload_opened(0)
    peer.protocol.binary(1.0, b"x" * 6)
    assert peer.protocol.upload_taken() == []


def test_an_upload_can_be_given_up(peer):
    """By `cancel` with its id: it is dropped, and ends in `cancelled`; a complete one can only be deleted."""
    peer.upload()
    peer.protocol.upload_opened(0)
    drop, error, answer = peer.say({"type": "cancel", "id": "c", "request": "u"})
    assert drop == p.DropUpload()
    assert (error.message.reason, error.message.id) == ("cancelled", "u")
    assert answer.message == messages.Cancelled(id="c")
    peer.upload("v", size=0)
    peer.protocol.upload_opened(0)
    peer.protocol.upload_finished()
    error = the_error(peer.say({"type": "cancel", "id": "c", "request": "v"}))
    assert (error.reason, error.id) == ("job_not_found", "c")


def test_more_bytes_than_announced_drop_the_upload(peer):
    """`size_mismatch`; what still comes of it is told of once."""
    peer.upload(size=5)
    peer.protocol.upload_opened(0)
    drop, error = peer.protocol.binary(1.0, b"x" * 6)
    assert drop == p.DropUpload()
    assert (error.message.reason, error.message.id) == ("size_mismatch", "u")
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"
    assert peer.protocol.binary(1.0, b"x") == []
    peer.say({"type": "ping"})
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"


def test_bytes_beyond_a_complete_file_take_it_back(peer):
    """As long as `uploaded` has not been said; afterwards they are stray bytes like any other."""
    peer.upload(size=5)
    peer.protocol.upload_opened(0)
    peer.protocol.binary(1.0, b"xxxxx")
    peer.protocol.chunk_written(1, 0)
    peer.protocol.upload_finished()
    remove, error = peer.protocol.binary(1.0, b"yy")
    assert remove == p.RemoveUpload(1, "a.csv")
    assert (error.message.reason, error.message.id) == ("size_mismatch", "u")
    assert "7 bytes" in error.message.message
    assert peer.protocol.state.processing == 0
    peer.upload(size=0)
    peer.protocol.upload_opened(0)
    peer.protocol.upload_finished()
    peer.protocol.uploaded(2, "digest", COLUMNS)
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"


def test_bytes_without_an_upload_are_unexpected(peer):
    """A client that forgot to announce them learns of it."""
    assert the_error(peer.protocol.binary(1.0, b"x")).reason == "unexpected_binary"


def test_one_upload_at_a_time(peer):
    """The second is `busy`, the first goes on."""
    peer.upload("u")
    peer.protocol.upload_opened(0)
    assert the_error([peer.upload("v")]).reason == "busy"
    assert peer.protocol.binary(1.0, b"x") == [p.WriteChunk(1, b"x")]


def test_an_upload_over_the_limit_is_refused(peer):
    """Before a byte was sent."""
    assert the_error([peer.upload(size=101)]).reason == "upload_too_large"


def test_a_draining_server_takes_no_upload(peer):
    """`shutting_down` is retryable."""
    peer.protocol.drain()
    error = the_error([peer.upload()])
    assert (error.reason, error.code, error.retryable) == ("shutting_down", 1001, True)


# --- downloads ---------------------------------------------------------------------------------------


def test_a_download_from_begin_to_end(peer):
    """The size is the whole file's, also with an offset."""
    message = {"type": "download", "id": "d", "filename": "f", "offset": 3}
    assert peer.say(message) == [p.OpenDownload(1, "f", 3)]
    assert the_error(peer.say({**message, "id": "e"})).reason == "busy"
    assert sent(peer.protocol.download_started(1, size=5, sha256=None)) == [
        messages.DownloadStarted(id="d", filename="f", size=5, offset=3)
    ]
    assert sent(peer.protocol.downloaded(1, size=5, sha256="s")) == [
        messages.Downloaded(id="d", size=5, sha256="s")
    ]
    assert peer.say(message) == [p.OpenDownload(3, "f", 3)]


def test_a_download_can_be_given_up(peer):
    """By `cancel` with its id: no more bytes are sent, and it ends in `cancelled`."""
    peer.say({"type": "download", "id": "d", "filename": "f"})
    peer.protocol.download_started(1, size=5, sha256="s")
    stop, error, answer = peer.say({"type": "cancel", "id": "c", "request": "d"})
    assert stop == p.StopDownload(1)
    assert (error.message.reason, error.message.id) == ("cancelled", "d")
    assert answer.message == messages.Cancelled(id="c")
    assert peer.say({"type": "download", "id": "d", "filename": "f"}) == [p.OpenDownload(3, "f", 0)]


def test_an_offset_beyond_the_end(peer):
    """`offset_mismatch`; the end itself is legal."""
    peer.say({"type": "download", "id": "d", "filename": "f", "offset": 5})
    assert peer.protocol.download_started(1, size=5, sha256=None)
    with pytest.raises(p.InvalidFormat) as caught:
        peer.protocol.download_started(1, size=4, sha256=None)
    assert the_error(peer.protocol.fail(1, caught.value)).reason == "offset_mismatch"
    assert peer.say({"type": "download", "id": "d", "filename": "f"}) == [p.OpenDownload(2, "f", 0)]


# --- what must close ---------------------------------------------------------------------------------


def test_a_message_over_its_limit_is_explained_first(peer):
    """The error, then the close code 1009."""
    for binary in (True, False):
        send, close = peer.protocol.too_large(binary=binary, size=11, limit=10)
        assert send.message.reason == "message_too_large"
        assert "11" in send.message.message
        assert close.code is CloseCode.TOO_BIG


# --- anything, in any state --------------------------------------------------------------------------


def minimal(kind):
    """The shortest message of a class."""
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
    """Bring a connection into one of the states that matter to what comes next."""
    if state == "classic in flight":
        peer.say(CLASSIC)
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
    "fresh", "classic in flight", "job in flight", "same id in flight", "upload opening", "upload open",
    "upload failed", "upload complete", "download open", "batching", "draining", "full",
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [*CLIENT_TYPES.values(), messages.Classic, "binary"])
def test_every_message_in_every_state(peer, state, kind):
    """It is served, or refused with a documented reason; the connection goes on in any case."""
    prepare(peer, state)
    if kind == "binary":
        effects = peer.protocol.binary(1.0, b"x")
    else:
        effects = peer.say(minimal(kind))
    for effect in effects:
        assert not isinstance(effect, p.Close)
        if isinstance(effect, p.Send):
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


@hypothesis_settings(max_examples=200, deadline=None)
@given(ROUNDS)
def test_whatever_comes_is_answered_in_words(rounds):
    """No text or bytes raise; every request in flight can be ended, and then nothing is left of it."""
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
            if isinstance(effect, p.Send):
                codec.encode(effect.message)
        # An upload may have been ended by what came.
        in_flight = {
            request: effect for request, effect in in_flight.items() if request in protocol._requests
        }
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
def test_the_short_way_answers_as_the_long_one(ping):
    """The same words, and the same counts."""
    short, long = make(), make()
    said = short.ping(1.0, json.dumps(ping))
    (answer,) = sent(long.text(1.0, json.dumps(ping)))
    assert json.loads(said) == json.loads(codec.encode(answer))
    assert attrs.evolve(short.state, processing=0) == long.state
    assert (short._metrics.received, short._metrics.sent) == (long._metrics.received, long._metrics.sent)


@pytest.mark.parametrize("other", OTHERS, ids=lambda value: json.dumps(value)[:40])
def test_the_short_way_leaves_the_rest_alone(other):
    """Nothing is done, whatever it is."""
    protocol = make()
    before = attrs.evolve(protocol.state)
    assert protocol.ping(1.0, json.dumps(other)) is None
    assert protocol.ping(1.0, "{") is None
    assert protocol.state == before


def test_pings_that_come_too_soon_have_no_short_way():
    """Each of them takes its turn, and the one too many is refused once."""
    protocol = make(limits=attrs.evolve(LIMITS, messages_per_s=1.0, messages_burst=2))
    answers = [protocol.ping(1.0, '{"type": "ping"}') for _ in range(3)]
    assert [answer is None for answer in answers] == [False, False, True]
    assert the_error(protocol.text(1.0, '{"type": "ping"}')).reason == "rate_limited"
    assert protocol.ping(2.0, '{"type": "ping"}')


def test_pings_of_a_batch_are_answered_together():
    """In their place among the others; where they come too soon, one by one."""
    members = [{"type": "ping", "id": "a"}, {"type": "ping"}, 5, {"type": "ping", "id": "b"}]
    protocol = make(limits=attrs.evolve(LIMITS, messages_per_s=1.0, messages_burst=5))
    pongs, wrong, last = sent(protocol.text(1.0, json.dumps({"type": "batch", "messages": members})))
    assert json.loads(codec.encode(pongs)) == {
        "type": "batch",
        "messages": [{"type": "pong", "id": "a", "time": 123.5}, {"type": "pong", "time": 123.5}],
    }
    assert wrong.reason == "invalid_message"
    assert (last.type, last.id) == ("pong", "b")
    first, *others = sent(protocol.text(1.0, json.dumps({"type": "batch", "messages": members})))
    assert (first.type, first.id) == ("pong", "a")
    assert {other.reason for other in others} == {"rate_limited"}
