"""The processor actor with a pool that does what the test says; time is a mock clock's."""

import errno
from collections import Counter

import attrs
import pytest
import structlog
import trio

from creemson.errors import ProcessingError
from creemson.processing.jobs import Accepted, Ended, Progressed
from creemson.processing.mailbox import (
    Attach,
    CancelJob,
    Cancelled,
    CancelRequest,
    ColumnsRead,
    Connect,
    Disconnect,
    FileReady,
    FindFile,
    ListJobs,
    ReadColumns,
    ReadRows,
    RowsRead,
    Submit,
)
from creemson.processing.pool import TransientFault
from creemson.processing.processor import Processor
from creemson.processing.records import output_name
from creemson.settings import Settings, Timeouts
from creemson.storage.catalog import Catalog
from creemson.storage.files import check_name
from creemson.storage.stores import Stores
from creemson.wire.messages import Query

OUTCOME = {"rows": 3, "columns": ["a"], "dtypes": ["Int64"], "preview": None, "profile": None}
FIGURES = {"phase": "reading", "bytes_read": 1, "bytes_total": 2, "rows": 1, "fraction": 0.5}


class FakePool:
    """Does what the test says, in turn: return, raise, or run a function."""

    size = 1

    def __init__(self):
        self.todo = []
        self.commands = []

    async def call(self, command, *, on_progress=None):
        self.commands.append(command)
        what = self.todo.pop(0)
        await trio.lowlevel.checkpoint()
        if isinstance(what, Exception):
            raise what
        return await what(on_progress) if callable(what) else what


async def for_ever(_):
    await trio.sleep_forever()


async def at_once(function, *args):
    """Blocks, and so lets no time pass."""
    await trio.lowlevel.checkpoint()
    return function(*args)


class World:
    """A processor, one connection to it, and what it is told."""

    def __init__(self, folder):
        self.settings = Settings(timeouts=Timeouts(job=60.0))
        self.catalog = Catalog(folder / "catalog.db")
        self.catalog.open()
        self.stores = Stores(folder, self.catalog, quota=0, clock=lambda: 0.0)
        self.store = self.stores.of("ann")
        self.files = self.store.files
        if not (self.files.uploads / "a.csv").exists():
            (self.files.uploads / "a.csv").write_text("a\n1\n")
        self.workers, self.quick = FakePool(), FakePool()
        self.send, inbox = trio.open_memory_channel(100)
        self.told, self.tellings = trio.open_memory_channel(1000)
        self.logs = structlog.testing.CapturingLogger()
        self.processor = Processor(
            settings=self.settings, stores=self.stores, catalog=self.catalog, inbox=inbox,
            workers=self.workers, quick=self.quick, wall_clock=lambda: 1000.0, in_thread=at_once,
            logger=structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[]),
        )  # fmt: skip
        self.send.send_nowait(Connect("c", self))
        self.requests = 0

    def deliver(self, request, reply):
        self.told.send_nowait((request, reply))

    def submit(self, *, keep=True, timeout=None, **query):
        self.requests += 1
        asked = Query(filename="a.csv", **query)
        self.send.send_nowait(Submit("c", self.requests, "ann", asked, timeout, keep))
        return self.requests

    async def hear(self):
        with trio.fail_after(1000):
            return (await self.tellings.receive())[1]


@pytest.fixture
async def world(tmp_path, nursery):
    world = World(tmp_path)
    await nursery.start(world.processor.run)
    return world


async def test_jobs_that_wait_for_workers_are_written_down_together(world, autojump_clock, monkeypatch):
    """With its end, each makes room for the next; a job that nobody waits behind is written down at once."""
    sizes = []
    record = world.catalog.record_jobs
    monkeypatch.setattr(world.catalog, "record_jobs", lambda rows: (sizes.append(len(rows)), record(rows)))

    async def quickly(_):
        await trio.sleep(0.001)
        return OUTCOME

    world.workers.todo = [quickly] * 11
    for limit in range(10):
        world.submit(limit=limit)
    told = [await world.hear() for _ in range(20)]
    assert Counter(map(type, told)) == {Accepted: 10, Ended: 10}
    assert sum(sizes) == 20
    assert len(sizes) <= 4  # the first alone, if it has begun before the others come; and perhaps the last
    del sizes[:]
    began = trio.current_time()
    world.submit(limit=10)
    await world.hear()
    await world.hear()
    assert sizes == [1, 1]
    assert trio.current_time() == pytest.approx(began + 0.001)


async def test_a_job_from_submit_to_result(world, autojump_clock):
    """accepted, progress, result with the names under which it can be fetched."""

    async def work(on_progress):
        await trio.sleep(2)
        on_progress(FIGURES)
        await trio.sleep(1)
        return OUTCOME

    world.workers.todo = [work]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    progress = await world.hear()
    assert isinstance(progress, Progressed)
    assert progress.figures["eta_s"] == pytest.approx(2.0)
    ended = await world.hear()
    output = ended.value.output_data
    assert (output.rows, output.columns, output.elapsed_s) == (3, ("a",), pytest.approx(3.0))
    assert output.filename == world.workers.commands[0]["target"].rpartition("/")[2]
    assert output.final_filename_csv == output.filename.replace(".parquet", ".csv")


async def test_a_transient_fault_is_tried_again(world, autojump_clock):
    """So is a worker's death; the waiter is told so."""
    died = ProcessingError("worker_died", "It died.")
    world.workers.todo = [TransientFault(ProcessingError("internal", "Disk.")), died, OUTCOME]
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    assert [(await world.hear()).level for _ in range(2)] == ["warning"] * 2
    assert (await world.hear()).value is not None
    assert len(world.workers.commands) == 3


async def test_an_unexpected_fault_of_one_job_is_contained(world, autojump_clock):
    """`internal`, and the next job is served."""
    world.workers.todo = [{"no": "outcome"}, OUTCOME]
    world.submit()
    await world.hear()
    assert (await world.hear()).error.reason == "internal"
    world.submit(limit=1)
    await world.hear()
    assert (await world.hear()).error is None


async def test_a_cancel_may_come_before_the_work_has_begun(world, autojump_clock):
    """Submit and cancel in one go: neither the job nor the server goes wrong."""
    world.workers.todo = [for_ever, OUTCOME]
    request = world.submit()
    world.send.send_nowait(CancelRequest("c", 99, request))
    assert isinstance(await world.hear(), Accepted)
    assert isinstance(await world.hear(), Cancelled)
    assert (await world.hear()).error.reason == "cancelled"
    world.submit()
    await world.hear()
    assert (await world.hear()).error is None


async def test_a_job_is_cancelled_by_its_name(world, autojump_clock):
    """And one that is not there is told."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job
    world.send.send_nowait(CancelJob("c", 8, "bob", job))
    assert (await world.hear()).error.reason == "job_not_found"
    world.send.send_nowait(CancelJob("c", 9, "ann", job))
    assert await world.hear() == Cancelled(job)
    assert (await world.hear()).error.reason == "cancelled"


async def test_a_job_over_its_time(world, autojump_clock):
    """The request's timeout counts, up to the setting's."""
    world.workers.todo = [for_ever] * 2
    for asked, given in ((5.0, 5.0), (1000.0, 60.0)):
        world.submit(timeout=asked, limit=int(asked))
        await world.hear()
        began = trio.current_time()
        assert (await world.hear()).error.reason == "job_timeout"
        assert trio.current_time() - began == pytest.approx(given, abs=0.01)


async def test_a_file_that_is_not_there(world, autojump_clock):
    """No job is made."""
    world.send.send_nowait(Submit("c", 1, "ann", Query(filename="b.csv"), None, True))
    ended = await world.hear()
    assert (ended.job, ended.error.reason) == (None, "file_not_found")


async def test_columns_are_read_by_the_quick_worker(world, autojump_clock):
    """Faults are told with their reason; a dead worker is tried once more by whoever asks."""
    world.quick.todo = [
        {"columns": [{"index": 0, "name": "a", "dtype": "Int64"}], "reading": {"format": "csv"}},
        ProcessingError("unreadable_file", "No."),
        TransientFault(ProcessingError("internal", "Disk.")),
        {"columns": [{"not": "a column"}]},
    ]
    for _ in range(4):
        world.send.send_nowait(ReadColumns("c", 1, "ann", "a.csv"))
    replies = [await world.hear() for _ in range(4)]
    assert isinstance(replies[0], ColumnsRead)
    assert replies[0].described.reading.format == "csv"
    assert [reply.error.reason for reply in replies[1:]] == ["unreadable_file", "internal", "internal"]


async def test_files_for_download(world, autojump_clock):
    """An upload as it is, an output rendered when it is first asked for."""
    (world.files.outputs / "x-1.parquet").write_bytes(b"PAR1")

    async def render(_):
        (world.files.outputs / "x-1.csv").write_bytes(b"a\n")

    world.workers.todo = [render]
    for name in ("a.csv", "x-1.csv", "x-1.csv", "y-1.csv"):
        world.send.send_nowait(FindFile("c", 1, "ann", name))
        reply = await world.hear()
        if name == "y-1.csv":
            assert reply.error.reason == "file_not_found"
        else:
            assert isinstance(reply, FileReady)
            assert reply.path.name == name
    assert [command["format"] for command in world.workers.commands] == ["csv"]


async def test_a_window_is_read_by_the_quick_worker(world, autojump_clock):
    """It need not wait behind jobs."""
    world.quick.todo = [{"columns": ["a"], "rows": [[1], [2]], "total": 9}]
    world.send.send_nowait(ReadRows("c", 1, "ann", "a.csv", 5, 2))
    reply = await world.hear()
    assert isinstance(reply, RowsRead)
    assert (reply.window.rows, reply.window.total) == (((1,), (2,)), 9)
    assert world.quick.commands[0] | {"op": "rows", "offset": 5, "limit": 2} == world.quick.commands[0]


async def test_one_rendering_for_all_who_ask(world, autojump_clock):
    """The second one waits for the first; if that fails, it tries for itself."""
    (world.files.outputs / "x-1.parquet").write_bytes(b"")

    async def render(_):
        await trio.sleep(1)
        (world.files.outputs / "x-1.csv").write_bytes(b"")

    async def fail(_):
        await trio.sleep(1)
        raise ProcessingError("worker_died", "The worker died.")

    world.workers.todo = [fail, render]
    for _ in range(3):
        world.send.send_nowait(FindFile("c", 1, "ann", "x-1.csv"))
    replies = [await world.hear() for _ in range(3)]
    assert [isinstance(reply, FileReady) for reply in replies] == [False, True, True]
    assert len(world.workers.commands) == 2


async def test_nothing_is_told_to_who_has_gone(world, autojump_clock):
    """What was kept goes on; its end has no listener."""
    world.workers.todo = [OUTCOME, OUTCOME]
    world.submit()
    world.send.send_nowait(Disconnect("c"))
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.WouldBlock):
        world.tellings.receive_nowait()


async def test_old_outputs_are_removed(tmp_path, nursery, autojump_clock):
    """When a job leaves the history, so does its file."""
    world = World(tmp_path)
    world.processor._jobs._remembered = 1
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


async def test_drain_waits_and_then_stops(world, autojump_clock):
    """What runs gets its time; what takes longer is told and stopped."""

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


async def test_the_processor_ends_with_its_inbox(tmp_path, autojump_clock):
    """When nobody can send any more, there is nothing more to do."""
    world = World(tmp_path)
    world.send.close()
    with trio.fail_after(1):
        await world.processor.run()


def test_output_names_are_names():
    """Whatever the file was called."""
    for name in ("a.csv", "x" * 255, "ü" * 127, "a", "a.b.c.csv.gz"):
        assert check_name(output_name(name, "0" * 64))


def test_ended_is_told_in_words():
    """An end has a value or an error."""
    assert Ended("j", 1, 5).error is None


async def test_a_disk_that_fails_hurts_one_request(world, autojump_clock):
    """The folder of uploads is gone: `internal` for who asks, and the processor goes on."""
    (world.files.uploads / "a.csv").unlink()
    world.files.uploads.rmdir()
    world.submit()
    assert (await world.hear()).error.reason == "internal"
    world.files.uploads.mkdir()
    world.submit()
    assert (await world.hear()).error.reason == "file_not_found"


async def test_a_port_that_raises_loses_its_own_replies_only(tmp_path, nursery, autojump_clock):
    """Whatever a connection does, the processor lives."""
    world = World(tmp_path)

    class Broken:
        def deliver(self, request, reply):
            raise ZeroDivisionError

    world.send.send_nowait(Connect("broken", Broken()))
    world.send.send_nowait(CancelJob("broken", 1, "ann", "j"))
    world.send.send_nowait(CancelJob("broken", 2, "ann", "j"))
    world.send.send_nowait(Disconnect("broken"))
    await nursery.start(world.processor.run)
    world.send.send_nowait(CancelJob("c", 1, "ann", "j"))
    assert (await world.hear()).error.reason == "job_not_found"


async def test_a_look_up_over_its_time(world, autojump_clock):
    """`timeouts.job` holds for them, too."""
    world.quick.todo = [for_ever]
    world.send.send_nowait(ReadColumns("c", 1, "ann", "a.csv"))
    assert (await world.hear()).error.reason == "job_timeout"
    assert trio.current_time() == pytest.approx(60.0)


# --- jobs that outlive connections and servers -------------------------------------------------------


async def successor(world, nursery, **todo):
    """The next server's processor on the same folder."""
    after = World(world.files.data)
    after.workers.todo = todo.get("todo", [])
    await nursery.start(after.processor.run)
    return after


def attach(world, job, *, after=0):
    world.requests += 1
    world.send.send_nowait(Attach("c", world.requests, "ann", job, after))


async def test_accepted_means_written_down(world, autojump_clock):
    """Before it is told; so is the end."""
    world.workers.todo = [OUTCOME]
    world.submit()
    job = (await world.hear()).job
    [row] = world.catalog.jobs()
    assert (row.id, row.caller, row.kept, row.created) == (job, "ann", True, 1000.0)
    await world.hear()
    [row] = world.catalog.jobs()
    assert (row.state, row.finished) == ("done", 1000.0)


async def test_what_cannot_be_written_down_is_refused(world, autojump_clock, monkeypatch):
    """A full disk is told instead of `accepted`; an end is told all the same."""
    world.workers.todo = [for_ever, OUTCOME]

    def full(_, jobs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "record_jobs", full)
        world.submit()
        assert (await world.hear()).error.reason == "storage_full"
        assert world.catalog.jobs() == []
    world.submit()
    assert isinstance(await world.hear(), Accepted)
    monkeypatch.setattr(Catalog, "record_jobs", full)
    assert (await world.hear()).value is not None
    events = [call.kwargs["event"] for call in world.logs.calls]
    assert events.count("jobs could not be written down") >= 2


async def test_the_next_server_takes_over(world, nursery, autojump_clock):
    """What was done is answered from store, what was not is done now, and what cannot be is told why."""
    (world.files.uploads / "b.csv").write_text("b\n1\n")
    world.workers.todo = [OUTCOME, for_ever]
    world.submit()
    done = (await world.hear()).job
    output = (await world.hear()).value.output_data.filename
    (world.files.outputs / output).touch()
    world.submit(limit=1)
    running = (await world.hear()).job
    world.requests += 1
    world.send.send_nowait(Submit("c", world.requests, "ann", Query(filename="b.csv"), None, True))
    replaced = (await world.hear()).job
    (world.files.uploads / "b.csv").write_text("b\n1\n2\n")

    after = await successor(world, nursery, todo=[OUTCOME])
    after.submit()
    assert await after.hear() == Accepted(done, 0)
    assert (await after.hear()).cached
    attach(after, running)
    told = [await after.hear(), await after.hear()]
    assert told[0].message == "The server was restarted; the job is begun again."
    assert (told[1].job, told[1].error) == (running, None)
    assert told[1].seq > told[0].seq
    attach(after, replaced)
    error = (await after.hear()).error
    assert (error.reason, "replaced" in error.message) == ("file_not_found", True)
    after.send.send_nowait(ListJobs("c", 99, "ann"))
    listed = (await after.hear()).jobs
    assert {(info.job, info.state, info.rows) for info in listed} == {
        (done, "done", 3), (running, "done", 3), (replaced, "failed", None)
    }  # fmt: skip
    assert all(info.created == 1000.0 for info in listed)
    assert [call["query"]["limit"] for call in after.workers.commands] == [1]


async def test_a_disk_that_is_full_at_the_start_ends_no_job(world, nursery, autojump_clock, monkeypatch):
    """It was accepted; that it is begun again cannot be written down, and need not be."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job

    def full(_, jobs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Catalog, "record_jobs", full)
    after = await successor(world, nursery, todo=[OUTCOME])
    attach(after, job)
    assert [type(await after.hear()).__name__ for _ in range(2)] == ["Logged", "Ended"]


async def test_a_row_that_makes_no_sense_is_dropped(world, nursery, autojump_clock):
    """Perhaps an earlier version of this program wrote it."""
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


async def test_a_file_that_is_gone_before_the_work_begins(world, autojump_clock):
    """It was there when the job was accepted."""
    world.workers.todo = [for_ever]
    world.submit()
    await world.hear()
    world.submit(limit=1)
    await world.hear()
    (world.files.uploads / "a.csv").unlink()
    world.send.send_nowait(CancelRequest("c", 99, 1))
    told = [await world.hear() for _ in range(3)]
    assert told[-1].error.reason == "file_not_found"


async def test_old_jobs_are_forgotten_with_their_outputs(world, autojump_clock):
    """A result is kept for as long as its file is there, an error for as long as outputs are kept."""
    world.workers.todo = [OUTCOME, ProcessingError("unreadable_file", "It is none.")]
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


async def test_what_a_drain_leaves_is_written_down(world, nursery, autojump_clock):
    """Those who wait are told to come again."""
    world.workers.todo = [for_ever]
    world.submit()
    job = (await world.hear()).job
    await world.processor.drain(5)
    ended = await world.hear()
    assert (ended.job, ended.seq, ended.error.reason) == (job, None, "shutting_down")
    after = await successor(world, nursery, todo=[OUTCOME])
    attach(after, job, after=1)
    assert [type(await after.hear()).__name__ for _ in range(2)] == ["Logged", "Ended"]
