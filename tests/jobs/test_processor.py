"""The processor actor with a scripted worker pool and a mock clock."""

import errno
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import attrs
import pytest
import structlog
import trio

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import DatabaseError, ProcessingError
from creemson.executors.executor import TransientFault
from creemson.jobs import records
from creemson.jobs.commands import (
    Attach,
    CancelJob,
    Cancelled,
    CancelRequest,
    ColumnsRead,
    Command,
    Connect,
    Disconnect,
    FileReady,
    FindFile,
    ListJobs,
    ReadColumns,
    ReadRows,
    RowsRead,
    StopLookUp,
    Submit,
)
from creemson.jobs.events import Accepted, Ended, Progressed
from creemson.jobs.journal import RUN
from creemson.jobs.processor import Processor
from creemson.jobs.records import output_name
from creemson.jobs.work.lookups import LOOKUP_TIME, MAX_WAIT
from creemson.metrics import Metrics
from creemson.model.callers import ANYONE
from creemson.model.filenames import check_name
from creemson.model.query import Condition, Query, SortKey, View
from creemson.settings.sections import Limits, Settings, Timeouts
from creemson.storage.stores import Stores

OUTCOME = {"rows": 3, "columns": ["a"], "dtypes": ["Int64"], "preview": None, "profile": None}
FIGURES = {"phase": "reading", "bytes_read": 1, "bytes_total": 2, "rows": 1, "fraction": 0.5}


class FakePool:
    """Follow the test's script in turn: return a value, raise an exception or run a function."""

    size = 2  # one of them is the spare one

    def __init__(self):
        self.todo = []
        self.commands = []
        self.busy = 0

    async def size_changed(self):
        await trio.sleep_forever()

    async def call(self, command, *, on_progress=None):
        self.commands.append(command)
        what = self.todo.pop(0)
        self.busy += 1
        assert self.busy <= self.size
        try:
            await trio.lowlevel.checkpoint()
            if isinstance(what, Exception):
                raise what
            return await what(on_progress) if callable(what) else what
        finally:
            self.busy -= 1


async def for_ever(_):
    await trio.sleep_forever()


async def at_once(function, *args):
    """Block the event loop, so that no time passes."""
    await trio.lowlevel.checkpoint()
    return function(*args)


class World:
    """A processor, one connection to it, and the replies which that connection gets."""

    def __init__(self, folder, **limits):
        self.settings = Settings(timeouts=Timeouts(job=60.0), limits=Limits(**limits))
        self.catalog = SqliteCatalog(folder / "catalog.db")
        self.catalog.open()
        self.stores = Stores(folder, self.catalog, quota=0, clock=lambda: 0.0)
        self.store = self.stores.of("ann")
        self.files = self.store._files
        if not (self.files.uploads / "a.csv").exists():
            (self.files.uploads / "a.csv").write_text("a\n1\n")
        self.workers, self.quick = FakePool(), FakePool()
        self.send, inbox = trio.open_memory_channel(100)
        self.reply_sender, self.replies = trio.open_memory_channel(1000)
        self.logs = structlog.testing.CapturingLogger()
        self.processor = Processor(
            settings=self.settings, stores=self.stores, catalog=self.catalog, inbox=inbox,
            workers=self.workers, quick=self.quick, wall_clock=lambda: 1000.0, in_thread=at_once, metrics=Metrics(),
            logger=structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[]),
        )  # fmt: skip
        self.send.send_nowait(Connect("c", self))
        self.requests = 0
        self.events = []
        self.callers = {}  # by number of the request

    def deliver(self, request, reply):
        self.events.append((request, reply))
        self.reply_sender.send_nowait((request, reply))

    def ask(self, ask, caller="ann", connection="c"):
        """Send a request, and return its number; each caller has the file `a.csv`."""
        path = self.stores.of(caller)._files.uploads / "a.csv"
        if not path.exists() and caller != "ann":
            path.write_text("a\n1\n")
        self.requests += 1
        self.callers[self.requests] = caller
        self.send.send_nowait(Command(connection, self.requests, caller, ask))
        return self.requests

    def submit(self, *, keep=True, timeout=None, caller="ann", **query):
        return self.ask(Submit(Query(filename="a.csv", **query), timeout, keep), caller)

    def look_up(self, ask=None, **whose):
        return self.ask(ask or ReadColumns("a.csv"), **whose)

    async def hear_both(self):
        """The number of the request, and a reply."""
        with trio.fail_after(1000):
            return await self.replies.receive()

    async def hear(self):
        return (await self.hear_both())[1]

    async def hear_whom(self):
        """The caller who gets a reply."""
        return self.callers[(await self.hear_both())[0]]


@pytest.fixture
async def world(tmp_path, nursery):
    world = World(tmp_path)
    await nursery.start(world.processor.run)
    return world


async def test_jobs_waiting_for_workers_are_recorded_in_batches(world, autojump_clock, monkeypatch):
    """A job's end and the next job's start are written together; a job with nobody behind it is written immediately."""
    sizes = []
    record = world.catalog.record_jobs
    monkeypatch.setattr(world.catalog, "record_jobs", lambda rows: (sizes.append(len(rows)), record(rows)))

    async def quickly(_):
        await trio.sleep(0.001)
        return OUTCOME

    world.workers.todo = [quickly] * 11
    for limit in range(10):
        world.submit(limit=limit)
    events = [await world.hear() for _ in range(20)]
    assert Counter(map(type, events)) == {Accepted: 10, Ended: 10}
    assert sum(sizes) == 20
    assert len(sizes) <= 4  # the first alone, if it starts before the others arrive, and perhaps the last
    del sizes[:]
    began = trio.current_time()
    world.submit(limit=10)
    await world.hear()
    await world.hear()
    assert sizes == [1, 1]
    assert trio.current_time() == pytest.approx(began + 0.001)


async def test_job_goes_from_submit_to_result(world, autojump_clock):
    """accepted, progress, then the result with the names of the files to download."""

    async def work(on_progress):
        on_progress({**FIGURES, "fraction": 0.0})
        await trio.sleep(2)
        on_progress(FIGURES)
        await trio.sleep(1)
        return OUTCOME

    world.workers.todo = [work]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    await world.hear()
    progress = await world.hear()
    assert isinstance(progress, Progressed)
    assert progress.figures["eta_s"] == pytest.approx(2.0)
    ended = await world.hear()
    output = ended.value.output_data
    assert (output.rows, output.columns, output.elapsed_s) == (3, ("a",), pytest.approx(3.0))
    assert output.filename == world.workers.commands[0]["target"].rpartition("/")[2]
    assert output.final_filename_csv == output.filename.replace(".parquet", ".csv")


async def test_job_with_transient_fault_is_retried(world, autojump_clock):
    """A worker's death is retried too, and the client gets a warning."""
    died = ProcessingError("worker_died", "It died.")
    world.workers.todo = [TransientFault(ProcessingError("internal", "Disk.")), died, OUTCOME]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    assert [(await world.hear()).level for _ in range(2)] == ["warning"] * 2
    assert (await world.hear()).value is not None
    assert len(world.workers.commands) == 3


async def test_unexpected_error_fails_one_job_only(world, autojump_clock):
    """The job fails with `internal`, and the next job is served."""
    world.workers.todo = [{"no": "outcome"}, OUTCOME]
    world.submit()
    await world.hear()
    assert (await world.hear()).error.reason == "internal"
    world.submit(limit=1)
    await world.hear()
    assert (await world.hear()).error is None


async def test_cancel_before_the_job_starts_is_safe(world, autojump_clock):
    """After submit and cancel in one batch, the job is cancelled and the next one is served."""
    world.workers.todo = [for_ever, OUTCOME]
    request = world.submit()
    world.send.send_nowait(Command("c", 99, "ann", CancelRequest(request)))
    assert isinstance(await world.hear(), Accepted)
    assert isinstance(await world.hear(), Cancelled)
    assert (await world.hear()).error.reason == "cancelled"
    world.submit()
    await world.hear()
    assert (await world.hear()).error is None


async def test_job_is_cancelled_by_its_id(world, autojump_clock):
    """Cancelling another caller's job is refused as `job_not_found`."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job
    world.send.send_nowait(Command("c", 8, "bob", CancelJob(job)))
    assert (await world.hear()).error.reason == "job_not_found"
    world.send.send_nowait(Command("c", 9, "ann", CancelJob(job)))
    assert await world.hear() == Cancelled(job)
    # Before it is told: the next server must not start the job again.
    assert [row.state for row in world.catalog.jobs()] == ["cancelled"]
    assert (await world.hear()).error.reason == "cancelled"


async def test_job_over_its_timeout_is_stopped(world, autojump_clock):
    """The request's timeout applies, up to the setting's."""
    world.workers.todo = [for_ever] * 2
    for asked, given in ((5.0, 5.0), (1000.0, 60.0)):
        world.submit(timeout=asked, limit=int(asked))
        await world.hear()
        began = trio.current_time()
        assert (await world.hear()).error.reason == "job_timeout"
        assert trio.current_time() - began == pytest.approx(given, abs=0.01)


async def test_submit_of_missing_file_creates_no_job(world, autojump_clock):
    """The request fails with `file_not_found`, without a job."""
    world.send.send_nowait(Command("c", 1, "ann", Submit(Query(filename="b.csv"), None, True)))
    ended = await world.hear()
    assert (ended.job, ended.error.reason) == (None, "file_not_found")


async def test_columns_are_read_by_the_quick_worker(world, autojump_clock):
    """Errors are reported with their reason; a transient fault is not retried."""
    world.quick.todo = [
        {"columns": [{"index": 0, "name": "a", "dtype": "Int64"}], "reading": {"format": "csv"}},
        ProcessingError("unreadable_file", "No."),
        TransientFault(ProcessingError("internal", "Disk.")),
        {"columns": [{"not": "a column"}]},
    ]
    for number in range(4):
        world.send.send_nowait(Command("c", number, "ann", ReadColumns("a.csv")))
    replies = [await world.hear() for _ in range(4)]
    assert isinstance(replies[0], ColumnsRead)
    assert replies[0].described.reading.format == "csv"
    assert [reply.error.reason for reply in replies[1:]] == ["unreadable_file", "internal", "internal"]


async def test_download_of_output_renders_it_once(world, autojump_clock):
    """An upload is served as it is; an output is rendered when first requested."""
    (world.files.outputs / "x-1.parquet").write_bytes(b"PAR1")

    async def render(_):
        (world.files.outputs / "x-1.csv").write_bytes(b"a\n")

    world.workers.todo = [render]
    for name in ("a.csv", "x-1.csv", "x-1.csv", "y-1.csv"):
        world.send.send_nowait(Command("c", 1, "ann", FindFile(name)))
        reply = await world.hear()
        if name == "y-1.csv":
            assert reply.error.reason == "file_not_found"
        else:
            assert isinstance(reply, FileReady)
            assert reply.path.name == name
    assert [command["format"] for command in world.workers.commands] == ["csv"]


async def test_rows_are_read_by_the_quick_worker(world, autojump_clock):
    """A window of rows does not wait behind jobs."""
    world.quick.todo = [{"columns": ["a"], "rows": [[1], [2]], "total": 9}]
    world.send.send_nowait(Command("c", 1, "ann", ReadRows("a.csv", 5, 2)))
    reply = await world.hear()
    assert isinstance(reply, RowsRead)
    assert (reply.window.rows, reply.window.total) == (((1,), (2,)), 9)
    assert world.quick.commands[0] | {"op": "rows", "offset": 5, "limit": 2} == world.quick.commands[0]
    assert "view" not in world.quick.commands[0]


async def test_rows_of_a_view_are_read_by_the_quick_worker(world, autojump_clock):
    """The worker gets the view as JSON."""
    world.quick.todo = [{"columns": ["a"], "rows": [], "total": 0}]
    view = View(where=(Condition("a", ">", 1),), find="x", sort=(SortKey("a", descending=True),))
    world.send.send_nowait(Command("c", 1, "ann", ReadRows("a.csv", 5, 2, view=view)))
    assert isinstance(await world.hear(), RowsRead)
    expected = {"where": [["a", ">", 1]], "find": "x", "sort": [["a", "desc"]]}
    assert world.quick.commands[0]["view"] == expected


async def test_concurrent_downloads_share_one_rendering(world, autojump_clock):
    """If it fails, all get its error: each of a thousand requests would else try it in turn."""
    (world.files.outputs / "x-1.parquet").write_bytes(b"")

    async def render(_):
        await trio.sleep(1)
        (world.files.outputs / "x-1.csv").write_bytes(b"")

    async def fail(_):
        await trio.sleep(1)
        raise ProcessingError("worker_died", "The worker died.")

    world.workers.todo = [fail, render]
    for expected in (Ended, FileReady):
        for number in range(3):
            world.send.send_nowait(Command("c", number, "ann", FindFile("x-1.csv")))
        assert [type(await world.hear()) for _ in range(3)] == [expected] * 3
    assert len(world.workers.commands) == 2


async def test_disconnected_peer_gets_no_replies(world, autojump_clock):
    """A kept job continues, and its end is sent to nobody."""
    world.workers.todo = [OUTCOME, OUTCOME]
    world.submit()
    world.send.send_nowait(Disconnect("c"))
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.WouldBlock):
        world.replies.receive_nowait()


async def test_output_of_forgotten_job_is_removed(tmp_path, nursery, autojump_clock):
    """When a job leaves the history, its file is removed."""
    world = World(tmp_path, results_per_caller=1)
    await nursery.start(world.processor.run)

    async def work(_):
        (world.files.outputs / world.workers.commands[-1]["target"].rpartition("/")[2]).write_bytes(b"PAR1")
        return OUTCOME

    world.workers.todo = [work, work]
    for limit in (1, 2):
        world.submit(limit=limit)
        await world.hear()
        last = (await world.hear()).value.output_data.filename
    await trio.testing.wait_all_tasks_blocked()
    assert [path.name for path in world.files.outputs.iterdir()] == [last]


@pytest.mark.parametrize("restarted", [False, True])
async def test_damaged_output_is_made_again_and_not_served(world, nursery, autojump_clock, restarted):
    """The size of an output is recorded; a result whose output has another size is no result any more."""

    def work(world):
        Path(world.workers.commands[-1]["target"]).write_bytes(b"PAR1")
        return OUTCOME | {"size": 4}

    world.workers.todo = [lambda _: at_once(work, world)]
    world.submit()
    first = (await world.hear()).job
    output = (await world.hear()).value.output_data
    assert output.size == 4
    (world.files.outputs / output.filename).write_bytes(b"PA")
    if restarted:
        world = await successor(world, nursery)
    world.workers.todo = [lambda _: at_once(work, world)]
    world.submit()
    assert (await world.hear()).job != first
    assert not (await world.hear()).cached
    world.submit()
    await world.hear()
    assert (await world.hear()).cached


async def test_drain_waits_and_then_stops_jobs(world, autojump_clock):
    """Running jobs get their time; those that take longer end with `shutting_down`."""

    async def five_seconds(_):
        await trio.sleep(5)
        return OUTCOME

    for work, reason in ((five_seconds, None), (for_ever, "shutting_down")):
        fresh = World(world.files.data)
        async with trio.open_nursery() as nursery:
            await nursery.start(fresh.processor.run)
            fresh.workers.todo = [work]
            fresh.submit()
            await fresh.hear()
            began = trio.current_time()
            await fresh.processor.drain(10)
            ended = await fresh.hear()
            assert (ended.error.reason if ended.error else None) == reason
            assert trio.current_time() - began == pytest.approx(5 if reason is None else 10, abs=0.1)
            nursery.cancel_scope.cancel()


async def test_processor_ends_with_its_inbox(tmp_path, autojump_clock):
    """When no sender is left, `run` returns."""
    world = World(tmp_path)
    world.send.close()
    with trio.fail_after(1):
        await world.processor.run()


def test_output_names_are_valid_file_names():
    """Whatever the source file is called, the output's name is valid."""
    for name in ("a.csv", "x" * 255, "ü" * 127, "a", "a.b.c.csv.gz"):
        assert check_name(output_name(name, "0" * 64))


def test_ended_without_error_has_none():
    """An end has either a value or an error."""
    assert Ended("j", 1, 5).error is None


async def test_missing_upload_folder_fails_one_request_only(world, autojump_clock):
    """The request fails with `internal`, and the processor continues."""
    (world.files.uploads / "a.csv").unlink()
    world.files.uploads.rmdir()
    world.submit()
    assert (await world.hear()).error.reason == "internal"
    world.files.uploads.mkdir()
    world.submit()
    assert (await world.hear()).error.reason == "file_not_found"


async def test_port_that_raises_loses_only_its_own_replies(tmp_path, nursery, autojump_clock):
    """Whatever a connection does, the processor goes on."""
    world = World(tmp_path)

    class Broken:
        def deliver(self, request, reply):
            raise ZeroDivisionError

    world.send.send_nowait(Connect("broken", Broken()))
    world.send.send_nowait(Command("broken", 1, "ann", CancelJob("j")))
    world.send.send_nowait(Command("broken", 2, "ann", CancelJob("j")))
    world.send.send_nowait(Disconnect("broken"))
    await nursery.start(world.processor.run)
    world.send.send_nowait(Command("c", 1, "ann", CancelJob("j")))
    assert (await world.hear()).error.reason == "job_not_found"


async def test_lookup_that_takes_long_is_stopped(world, autojump_clock):
    """After seconds, not the minutes of a job; a rendering may take as long as a job."""
    world.quick.todo = [for_ever]
    world.look_up()
    assert (await world.hear()).error.reason == "job_timeout"
    assert trio.current_time() == pytest.approx(LOOKUP_TIME)
    (world.files.outputs / "x-1.parquet").touch()
    world.workers.todo = [for_ever]
    world.look_up(FindFile("x-1.csv"))
    assert (await world.hear()).error.reason == "job_timeout"
    assert trio.current_time() == pytest.approx(LOOKUP_TIME + 60.0)


# --- what one caller's work costs others -------------------------------------------------------------


COLUMNS = {"columns": [{"index": 0, "name": "a", "dtype": "Int64"}], "reading": None}


async def in_a_second(_):
    await trio.sleep(1)
    return COLUMNS


async def test_lookups_of_one_caller_do_not_hold_those_of_another(world, autojump_clock):
    """However many hostile files it has: its look-ups use one worker, and the other's get the other one at once."""
    world.quick.todo = [for_ever, COLUMNS, COLUMNS]
    for _ in range(50):
        world.look_up()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2):
        world.look_up(caller="bob")
        assert isinstance(await world.hear(), ColumnsRead)
    assert trio.current_time() == 0
    assert world.quick.busy == 1


async def test_events_for_many_waiters_are_sent_in_runs(tmp_path, nursery, autojump_clock):
    """Other tasks get their turn in between; each waiter gets its events in order."""
    world = World(tmp_path)
    world.reply_sender, world.replies = trio.open_memory_channel(math.inf)
    await nursery.start(world.processor.run)

    async def work(on_progress):
        await trio.sleep(1)
        on_progress(FIGURES)
        await trio.sleep(100)
        return OUTCOME

    world.workers.todo = [work]
    world.submit()
    job = (await world.hear()).job
    for _ in range(1000):
        attach(world, job)
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    sent = []  # number of events so far, at each step of any task

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task):
            sent.append(len(world.events))

    trio.lowlevel.add_instrument(Steps())
    await trio.sleep(200)
    assert sent[-1] - sent[0] == 2 * 1001
    assert max(later - before for before, later in itertools.pairwise(sent)) <= 2 * RUN
    by_request = {}
    for number, reply in world.events:
        by_request.setdefault(number, []).append(type(reply))
    assert by_request.pop(1) == [Accepted, Progressed, Ended]
    assert list(by_request.values()) == [[Progressed, Ended]] * 1000


async def test_lookups_of_several_callers_take_turns(world, autojump_clock):
    """Each waits for one look-up of each other caller, not for all of them."""
    world.quick.todo = [in_a_second] * 22
    for caller, count in (("ann", 10), ("bob", 10), ("eve", 1), ("ann", 1)):
        for _ in range(count):
            world.look_up(caller=caller)
    assert "eve" in [await world.hear_whom() for _ in range(6)]


async def test_lookups_over_the_bound_of_their_caller_are_busy(tmp_path, nursery, autojump_clock):
    """Another caller's are not; and those of finished uploads never are."""
    world = World(tmp_path, lookups_per_caller=2)
    await nursery.start(world.processor.run)
    world.quick.todo = [in_a_second] * 9
    for _ in range(5):
        world.look_up()
    await trio.testing.wait_all_tasks_blocked()
    world.look_up(ReadColumns("a.csv", of_upload=True))
    world.look_up(caller="bob")
    replies = [await world.hear() for _ in range(7)]
    refused = [reply for reply in replies if isinstance(reply, Ended)]
    assert [reply.error.reason for reply in refused] == ["busy"] * 2
    assert "2 of your requests" in refused[0].error.message
    assert refused[0].error.retry_after > 0


async def test_lookup_of_an_upload_waits_as_long_as_necessary(world, autojump_clock):
    """An upload is not answered without columns because others were busy; other look-ups are told to try again."""
    world.quick.todo = [for_ever] * 8
    for number in range(4):  # each connection is a party of its own
        for _ in range(2):
            world.look_up(connection=f"c{number}", caller=ANYONE)
    await trio.testing.wait_all_tasks_blocked()
    (world.stores.of(ANYONE)._files.uploads / "a.csv").write_text("a\n1\n")
    world.look_up(ReadColumns("a.csv", of_upload=True), caller=ANYONE)
    late = world.look_up(caller=ANYONE)
    world.quick.todo[2:2] = [COLUMNS] * 20
    replies = {}
    while len(replies) < 2:
        number, reply = await world.hear_both()
        if number in (late - 1, late):
            replies[number] = reply
    assert isinstance(replies[late - 1], ColumnsRead)


async def test_lookup_that_waits_too_long_is_busy(world, autojump_clock):
    """The client is told so instead of waiting for minutes."""
    world.quick.todo = [for_ever] * 9
    for number in range(9):
        world.look_up(caller=f"caller-{number}")
    replies = [await world.hear() for _ in range(9)]
    assert Counter(reply.error.reason for reply in replies) == {"job_timeout": 6, "busy": 3}
    assert trio.current_time() == pytest.approx(3 * LOOKUP_TIME)
    assert 2 * LOOKUP_TIME < MAX_WAIT < 3 * LOOKUP_TIME


@pytest.mark.parametrize("ask", [ReadColumns("a.csv"), ReadRows("a.csv", 0, 5), FindFile("x-1.csv")])
async def test_lookup_without_its_database_is_busy(world, autojump_clock, monkeypatch, ask):
    """Of several servers, a database tells where files are: it is away, which is no bug, so it has one line in the log."""

    def fail(name):
        raise DatabaseError("the catalog db: connection refused", passing=True)

    for method in ("find", "look_up"):
        monkeypatch.setattr(world.store, method, fail)
    world.look_up(ask)
    error = (await world.hear()).error
    assert (error.reason, error.retry_after) == ("busy", 5.0)
    assert [call.method_name for call in world.logs.calls] == ["warning"]


@pytest.mark.parametrize("is_late", [False, True])
async def test_lookup_whose_database_is_silent_is_busy(world, autojump_clock, monkeypatch, is_late):
    """It is not the file that takes long; a thread cannot be stopped, and may answer too late."""

    async def ask(question, *args):
        if not is_late:
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            await trio.sleep(LOOKUP_TIME + 1)
        return question(*args)

    monkeypatch.setattr(world.processor._lookups, "_ask", ask)
    world.look_up()
    assert (await world.hear()).error.reason == "busy"
    assert trio.current_time() == pytest.approx(LOOKUP_TIME + is_late)


async def test_attempt_asks_for_its_file_where_it_may_wait(world, autojump_clock, monkeypatch):
    """Of several servers, a database tells where files are; the event loop must not wait for it."""
    asked = []

    async def ask(question, *args):
        asked.append(question)
        return question(*args)

    find = world.store.versions.find

    def found(name, version):
        assert asked and asked[-1] is found, "not asked in a thread"
        return find(name, version)

    monkeypatch.setattr(world.store.versions, "find", found)
    monkeypatch.setattr(world.processor._attempts, "_ask", ask)
    world.workers.todo = [OUTCOME]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    assert (await world.hear()).error is None
    assert asked.count(found) == 2


@pytest.mark.parametrize("ask", [ReadColumns("a.csv"), ReadRows("a.csv", 0, 5), FindFile("x-1.csv")])
async def test_lookup_is_stopped_with_its_request(world, autojump_clock, ask):
    """Its worker is free at once; the request ends as cancelled."""
    (world.files.outputs / "x-1.parquet").touch()
    world.quick.todo, world.workers.todo = [for_ever], [for_ever]
    number = world.look_up(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert world.quick.busy + world.workers.busy == 1
    world.send.send_nowait(Command("c", 99, "ann", CancelRequest(number)))
    ended = await world.hear()
    assert (ended.job, ended.error.reason) == (None, "cancelled")
    assert await world.hear() == Cancelled(None)
    await trio.testing.wait_all_tasks_blocked()
    assert world.quick.busy + world.workers.busy == 0
    world.quick.todo, world.workers.todo = [COLUMNS], [OUTCOME]
    world.look_up()
    assert isinstance(await world.hear(), ColumnsRead)
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    assert (await world.hear()).error is None


@pytest.mark.parametrize("end", [Disconnect("d"), Command("d", 99, "ann", StopLookUp(1))])
async def test_lookups_are_stopped_with_their_connection(world, autojump_clock, end):
    """Those that run, and those that wait; also a download that was cancelled while its file was rendered."""
    (world.files.outputs / "x-1.parquet").touch()
    world.quick.todo, world.workers.todo = [for_ever], [for_ever]
    world.send.send_nowait(Command("d", 1, "ann", FindFile("x-1.csv")))
    if isinstance(end, Disconnect):
        for number in range(2, 5):
            world.send.send_nowait(Command("d", number, "ann", ReadColumns("a.csv")))
    await trio.testing.wait_all_tasks_blocked()
    assert world.workers.busy == 1
    world.send.send_nowait(end)
    await trio.testing.wait_all_tasks_blocked()
    assert world.quick.busy + world.workers.busy == 0
    assert world.processor._lookups._scopes == {}
    assert world.processor._jobs.slots.used == world.processor._lookups._turns.waiting == 0


async def test_rendering_goes_on_until_the_last_request_leaves(world, autojump_clock):
    """One that leaves does not take it from the others, even the one that started it."""
    (world.files.outputs / "x-1.parquet").touch()

    async def render(_):
        await trio.sleep(5)
        (world.files.outputs / "x-1.csv").touch()

    world.workers.todo = [render]
    for connection in ("d", "c", "e"):
        world.send.send_nowait(Command(connection, 1, "ann", FindFile("x-1.csv")))
    await trio.testing.wait_all_tasks_blocked()
    for connection in ("d", "e"):
        world.send.send_nowait(Disconnect(connection))
    assert isinstance(await world.hear(), FileReady)
    assert trio.current_time() == 5


async def test_rendering_that_is_being_stopped_is_not_joined(world, autojump_clock):
    """A new request starts another one."""
    (world.files.outputs / "x-1.parquet").touch()

    async def slow_to_stop(_):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)

    async def render(_):
        (world.files.outputs / "x-1.csv").touch()

    world.workers.todo = [slow_to_stop, render]
    world.send.send_nowait(Command("d", 1, "ann", FindFile("x-1.csv")))
    await trio.testing.wait_all_tasks_blocked()
    world.send.send_nowait(Disconnect("d"))
    world.look_up(FindFile("x-1.csv"))
    assert isinstance(await world.hear(), FileReady)
    assert trio.current_time() == pytest.approx(0.2)


async def test_renderings_take_turns_with_jobs(world, autojump_clock):
    """Six renderings of one caller use one slot; another caller's job starts at once, its own after one rendering."""
    names = [f"x-{number}" for number in range(6)]

    async def work(_):
        await trio.sleep(10)
        for name in names:
            (world.files.outputs / f"{name}.csv").touch()
        return OUTCOME

    for name in names:
        (world.files.outputs / f"{name}.parquet").touch()
    world.workers.todo = [work] * 8
    for name in names:
        world.look_up(FindFile(f"{name}.csv"))
    await trio.testing.wait_all_tasks_blocked()
    assert world.workers.busy == 1
    world.submit(caller="bob")
    await trio.testing.wait_all_tasks_blocked()
    assert world.workers.busy == 2
    assert isinstance(await world.hear(), Accepted)
    assert trio.current_time() == 0


async def test_rendering_over_the_places_of_its_caller_is_busy(tmp_path, nursery, autojump_clock):
    """It takes a place of the queue like a job."""
    world = World(tmp_path, queue_per_caller=1)
    await nursery.start(world.processor.run)
    world.workers.todo = [for_ever]
    for number in range(3):
        (world.files.outputs / f"x-{number}.parquet").touch()
        world.look_up(FindFile(f"x-{number}.csv"))
    error = (await world.hear()).error
    assert (error.reason, "1 of your jobs wait" in error.message) == ("busy", True)


async def test_renderings_end_with_a_drain(world, autojump_clock):
    """One that waits at once, one that runs after the time for jobs."""
    world.workers.todo = [for_ever]
    for number in range(2):
        (world.files.outputs / f"x-{number}.parquet").touch()
        world.look_up(FindFile(f"x-{number}.csv"))
    await trio.testing.wait_all_tasks_blocked()
    await world.processor.drain(5)
    assert [(await world.hear()).error.reason for _ in range(2)] == ["shutting_down"] * 2
    assert trio.current_time() == pytest.approx(5)
    world.look_up(FindFile("x-0.csv"))
    assert (await world.hear()).error.reason == "shutting_down"


async def test_lookups_end_with_a_drain(world, autojump_clock):
    """Those that run, those that wait, and those that come later get `shutting_down`: no request is left unanswered."""
    world.quick.todo, world.workers.todo = [for_ever], [for_ever]
    asks = [ReadColumns("a.csv"), ReadRows("a.csv", 0, 5), ReadColumns("a.csv", of_upload=True)]
    numbers = [world.look_up(ask) for ask in asks]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    await trio.testing.wait_all_tasks_blocked()
    await world.processor.drain(5)
    assert trio.current_time() == pytest.approx(5)
    ended = [await world.hear_both() for _ in range(4)]
    assert {reply.error.reason for _, reply in ended} == {"shutting_down"}
    assert sorted(number for number, _ in ended) == [*numbers, numbers[-1] + 1]
    await trio.testing.wait_all_tasks_blocked()
    assert world.quick.busy == 0
    world.look_up()
    assert (await world.hear()).error.reason == "shutting_down"


# --- jobs that survive connections and servers -------------------------------------------------------


async def successor(world, nursery, **todo):
    """Start the next server's processor on the same folder."""
    after = World(world.files.data)
    after.workers.todo = todo.get("todo", [])
    await nursery.start(after.processor.run)
    return after


def attach(world, job, *, after=0):
    world.requests += 1
    world.send.send_nowait(Command("c", world.requests, "ann", Attach(job, after)))


async def test_job_is_recorded_before_accepted_is_sent(world, autojump_clock):
    """Its end is recorded as well."""
    world.workers.todo = [OUTCOME]
    world.submit()
    job = (await world.hear()).job
    [row] = world.catalog.jobs()
    assert (row.id, row.caller, row.kept, row.created) == (job, "ann", True, 1000.0)
    await world.hear()
    [row] = world.catalog.jobs()
    assert (row.state, row.finished) == ("done", 1000.0)


async def test_replaced_bytes_are_kept_until_the_end_of_the_job_is_recorded(
    world, autojump_clock, monkeypatch
):
    """A crash before that starts the job again, and it needs them."""
    kept = []

    async def replace(_):
        await trio.testing.wait_all_tasks_blocked()  # the job is recorded
        part = world.store.uploads.begin_unannounced("a.csv", least=4)
        world.store.uploads.write(part, b"a\n2\n")
        world.store.uploads.finish(part, None)
        return OUTCOME

    def record(catalog, rows):
        kept.extend((row.state, len(list(world.files.kept.iterdir()))) for row in rows)
        return original(catalog, rows)

    original = SqliteCatalog.record_jobs
    monkeypatch.setattr(SqliteCatalog, "record_jobs", record)
    world.workers.todo = [replace]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    assert (await world.hear()).error is None
    await trio.testing.wait_all_tasks_blocked()
    assert kept == [("queued", 0), ("done", 1)]
    assert list(world.files.kept.iterdir()) == []


async def test_submit_that_cannot_be_recorded_is_refused(world, autojump_clock, monkeypatch):
    """A full disk is reported instead of `accepted`; an end is sent even if it cannot be recorded."""
    world.workers.todo = [for_ever, OUTCOME]

    def full(_, jobs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteCatalog, "record_jobs", full)
        world.submit()
        assert (await world.hear()).error.reason == "storage_full"
        assert world.catalog.jobs() == []
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    monkeypatch.setattr(SqliteCatalog, "record_jobs", full)
    assert (await world.hear()).value is not None
    events = [call.kwargs["event"] for call in world.logs.calls]
    assert events.count("jobs could not be recorded") >= 2


async def test_next_server_takes_over_jobs(world, nursery, autojump_clock):
    """Finished jobs are served from cache, unfinished ones run again, and impossible ones fail with the cause."""
    (world.files.uploads / "b.csv").write_text("b\n1\n")
    world.workers.todo = [OUTCOME, for_ever]
    world.submit()
    done = (await world.hear()).job
    output = (await world.hear()).value.output_data.filename
    (world.files.outputs / output).touch()
    world.submit(limit=1)
    running = (await world.hear()).job
    world.requests += 1
    world.send.send_nowait(Command("c", world.requests, "ann", Submit(Query(filename="b.csv"), None, True)))
    replaced = (await world.hear()).job
    (world.files.uploads / "b.csv").write_text("b\n1\n2\n")

    after = await successor(world, nursery, todo=[OUTCOME])
    after.submit()
    assert await after.hear() == Accepted(done, 0)
    assert (await after.hear()).cached
    attach(after, running)
    events = [await after.hear(), await after.hear()]
    assert events[0].message == "The server was restarted; the job starts again."
    assert (events[1].job, events[1].error) == (running, None)
    assert events[1].seq > events[0].seq
    attach(after, replaced)
    error = (await after.hear()).error
    assert error.reason == "file_changed"
    after.send.send_nowait(Command("c", 99, "ann", ListJobs()))
    listed = (await after.hear()).jobs
    assert {(info.job, info.state, info.rows) for info in listed} == {
        (done, "done", 3), (running, "done", 3), (replaced, "failed", None)
    }  # fmt: skip
    assert all(info.created == 1000.0 for info in listed)
    assert [call["query"]["limit"] for call in after.workers.commands] == [1]


async def test_full_disk_at_start_ends_no_job(world, nursery, autojump_clock, monkeypatch):
    """The job was accepted; that it starts again cannot be recorded and need not be."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job

    def full(_, jobs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SqliteCatalog, "record_jobs", full)
    after = await successor(world, nursery, todo=[OUTCOME])
    attach(after, job)
    assert [type(await after.hear()).__name__ for _ in range(2)] == ["Logged", "Ended"]


async def test_invalid_job_row_is_dropped(world, nursery, autojump_clock):
    """An earlier version may have written it."""
    world.workers.todo = [OUTCOME]
    world.submit()
    await world.hear()
    await world.hear()
    [row] = world.catalog.jobs()
    strange = [
        attrs.evolve(row, id="s1", state="dreaming"),
        attrs.evolve(row, id="s2", query="{"),
        attrs.evolve(row, id="s3", outcome='{"no": "result"}'),
        attrs.evolve(row, id="s4", state="failed", outcome='{"no": "error"}'),
    ]
    world.catalog.record_jobs(strange)
    after = await successor(world, nursery)
    await trio.testing.wait_all_tasks_blocked()
    assert [row.id for row in after.catalog.jobs()] == [row.id]


async def test_file_deleted_before_work_starts_fails_the_job(world, autojump_clock):
    """The file existed when the job was accepted."""
    world.workers.todo = [for_ever]
    world.submit()
    await world.hear()
    world.submit(limit=1)
    await world.hear()
    (world.files.uploads / "a.csv").unlink()
    world.send.send_nowait(Command("c", 99, "ann", CancelRequest(1)))
    events = [await world.hear() for _ in range(3)]
    assert events[-1].error.reason == "file_changed"


async def test_old_jobs_are_forgotten_with_their_outputs(world, autojump_clock):
    """A result is kept while its file exists, an error as long as outputs are kept."""
    world.workers.todo = [OUTCOME, ProcessingError("unreadable_file", "It is not a table.")]
    world.submit()
    await world.hear()
    output = (await world.hear()).value.output_data.filename
    (world.files.outputs / output).touch()
    world.submit(limit=1)
    await world.hear()
    await world.hear()
    assert len(world.catalog.jobs()) == 2
    await trio.sleep(world.settings.storage.keep_outputs + 100)
    assert [row.state for row in world.catalog.jobs()] == ["done"]
    (world.files.outputs / output).unlink()
    await trio.sleep(100)
    assert world.catalog.jobs() == []


async def test_job_left_by_drain_runs_on_next_server(world, nursery, autojump_clock):
    """Its waiters get the retryable error `shutting_down`, and the next server runs it."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job
    await world.processor.drain(5)
    ended = await world.hear()
    assert (ended.job, ended.seq, ended.error.reason) == (job, None, "shutting_down")
    after = await successor(world, nursery, todo=[OUTCOME])
    attach(after, job, after=1)
    assert [type(await after.hear()).__name__ for _ in range(2)] == ["Logged", "Ended"]


async def test_result_of_an_earlier_reading_is_not_served_as_cached(
    world, nursery, autojump_clock, monkeypatch
):
    """After an upgrade the answer may be another one; an unfinished job continues under its new key."""
    world.workers.todo = [OUTCOME, for_ever]
    world.submit()
    done = (await world.hear()).job
    output = (await world.hear()).value.output_data.filename
    (world.files.outputs / output).touch()
    world.submit(limit=1)
    running = (await world.hear()).job

    monkeypatch.setattr(records, "READING_VERSION", -1)
    records._makers.cache_clear()
    try:
        after = await successor(world, nursery, todo=[OUTCOME, OUTCOME])
        attach(after, running)
        assert [type(await after.hear()).__name__ for _ in range(2)] == ["Logged", "Ended"]
        [row] = [row for row in after.catalog.jobs() if row.id == running]
        (world.files.outputs / json.loads(row.outcome)["output_data"]["filename"]).touch()
        after.submit(limit=1)
        assert await after.hear() == Accepted(running, 0)
        assert (await after.hear()).cached
        after.submit()
        assert (await after.hear()).job != done
        assert not (await after.hear()).cached
    finally:
        records._makers.cache_clear()


async def test_job_of_a_server_without_versions_runs_on_the_present_file(world, nursery, autojump_clock):
    """Its row does not tell for which version it was accepted."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job
    [row] = world.catalog.jobs()
    assert row.version.startswith("stat:")
    world.catalog.record_jobs([attrs.evolve(row, version=None, key="0" * 64)])
    after = await successor(world, nursery, todo=[OUTCOME])
    attach(after, job)
    assert [type(await after.hear()).__name__ for _ in range(2)] == ["Logged", "Ended"]
    [row] = after.catalog.jobs()
    assert row.version.startswith("stat:")
