"""The pool: real worker processes that are stopped, killed, starved and counted."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import polars as pl
import psutil
import pytest
import structlog
import trio

from creemson.errors import ProcessingError
from creemson.processing import pool as pool_module
from creemson.processing.pool import Pool, TransientFault

SAMPLE = Path(pool_module.__file__).parents[1] / "samples" / "penguins.csv"
COLUMNS = {"op": "columns", "source": str(SAMPLE), "name": "penguins.csv"}
SORT = {"sort": [["t"], ["h"]]}
PATIENCE = 60
"""Seconds until a test gives up. What is to come at once is told from what waits for a grace by a longer grace."""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Near 100 MB of CSV: most of a second to read, and more to sort."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    number = pl.int_range(3_500_000, eager=True)
    pl.DataFrame(
        {"n": number, "t": (number * 2654435761 % 1_000_003).cast(pl.String), "h": number / 2}
    ).write_csv(path)
    return path


@pytest.fixture
def logged():
    return structlog.testing.CapturingLogger()


def make(logged, size=1, memory_bytes=0):
    return Pool(
        size=size, memory_bytes=memory_bytes, nice=0, logger=structlog.wrap_logger(logged, processors=[])
    )


@pytest.fixture
async def pool(nursery, logged):
    """A pool of one worker."""
    pool = make(logged)
    await nursery.start(pool.run)
    return pool


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


def run(source, out, query=None, name="out.parquet"):
    query = {"filename": "t.csv"} | (query or {})
    return {"op": "run", "query": query, "source": str(source), "target": str(out / name)}


def count_files(pid):
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def data_bytes(pid):
    """What counts against RLIMIT_DATA."""
    return int(re.search(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def until(condition, seconds=PATIENCE):
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - no event tells of processes
            await trio.sleep(0.005)


def entries(logged, event):
    return [call.kwargs for call in logged.calls if call.kwargs["event"] == event]


class Call:
    """A call that runs in the background, from its first sign of life on."""

    def __init__(self, pool, command):
        self.scope = trio.CancelScope()
        self.progress = []
        self.value = self.error = None
        self.ended = trio.Event()
        self._pool, self._command = pool, command

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        def on_progress(figures):
            self.progress.append(figures)
            if len(self.progress) == 1:
                task_status.started()

        with self.scope:
            try:
                self.value = await self._pool.call(self._command, on_progress=on_progress)
            except (ProcessingError, TransientFault) as error:
                self.error = error
        self.ended.set()

    async def cancel(self):
        """Cancel; returns the seconds it took to return."""
        before = time.perf_counter()
        self.scope.cancel()
        with trio.fail_after(PATIENCE):
            await self.ended.wait()
        assert self.scope.cancelled_caught
        return time.perf_counter() - before


async def pause(pid):
    """Stop a process; a signal takes effect some time after it was sent."""
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


async def assert_idle(pid):
    """The process is gone, or spends next to nothing in the next 100 ms."""
    try:
        process = psutil.Process(pid)
        before = process.cpu_times()
        await trio.sleep(0.1)
        after = process.cpu_times()
    except psutil.NoSuchProcess:
        return
    assert after.user + after.system - before.user - before.system <= 0.05


# --- what a command gives ----------------------------------------------------------------------------


async def test_progress_and_value(pool, large, out):
    """Progress comes with growing figures while the work goes on, then the value; the output is in place."""
    progress = []
    value = await pool.call(run(large, out), on_progress=progress.append)
    assert value["rows"] == 3_500_000
    fractions = [figures["fraction"] for figures in progress]
    assert 0 < fractions[0] < 1
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert progress[0].keys() == {"phase", "bytes_read", "bytes_total", "rows", "fraction"}
    assert [path.name for path in out.iterdir()] == ["out.parquet"]


async def test_failure(pool, out):
    """An error of the worker is raised with its reason; the worker goes on."""
    pids = pool.pids
    with pytest.raises(ProcessingError, match="'wings'") as caught:
        await pool.call(run(SAMPLE, out, {"selectedColumns": ["wings"]}))
    assert caught.value.reason == "column_not_found"
    assert await pool.call(COLUMNS)
    assert pool.pids == pids


async def test_faults_of_ours_are_logged(pool, logged):
    """What is ours is told as `internal`, and its traceback is in the log."""
    with pytest.raises(ProcessingError) as caught:
        await pool.call({"op": "dance", "source": "x"})
    assert caught.value.reason == "internal"
    [entry] = entries(logged, "command failed")
    assert entry["op"] == "dance"
    assert "ValueError: dance" in entry["traceback"]


async def test_transient_fault(pool, tmp_path):
    """A fault of the system that may pass is a `TransientFault`, so that the job is tried again."""
    open_now = count_files(pool.pids[0])
    resource.prlimit(pool.pids[0], resource.RLIMIT_NOFILE, (open_now, open_now))
    with pytest.raises(TransientFault) as caught:
        await pool.call(COLUMNS)
    assert caught.value.error.reason == "internal"


async def test_a_large_answer(pool, tmp_path, out):
    """A line of megabytes arrives whole."""
    source = tmp_path / "wide.csv"
    source.write_text("a\n" + "".join(f"{index}{'x' * 5000}\n" for index in range(1000)))
    value = await pool.call(run(source, out, {"preview": 1000}))
    assert [row[0] for row in value["preview"]] == [f"{index}{'x' * 5000}" for index in range(1000)]


async def test_many_calls(nursery, logged, out):
    """Fifty calls at once on two workers all get their own answer."""
    pool = make(logged, size=2)
    await nursery.start(pool.run)
    values = {}

    async def call(limit):
        values[limit] = await pool.call(run(SAMPLE, out, {"limit": limit}, name=f"{limit}.parquet"))

    async with trio.open_nursery() as calls:
        for limit in range(1, 51):
            calls.start_soon(call, limit)
    assert {limit: value["rows"] for limit, value in values.items()} == {
        limit: limit for limit in range(1, 51)
    }
    assert len(list(out.iterdir())) == 50
    assert len(pool.pids) == 2


async def test_progress_handler_that_fails(pool, large, out):
    """What `on_progress` raises comes out as it is, and the work is stopped."""

    def fail(figures):
        raise ZeroDivisionError

    [pid] = pool.pids
    with pytest.raises(ZeroDivisionError):
        await pool.call(run(large, out), on_progress=fail)
    await assert_idle(pid)
    assert await pool.call(COLUMNS)
    assert not list(out.iterdir())


async def test_a_command_that_is_no_json(pool):
    """A command that cannot be written costs no worker."""
    pids = pool.pids
    with pytest.raises(orjson.JSONEncodeError):
        await pool.call({**COLUMNS, "name": object()})
    assert await pool.call(COLUMNS)
    assert pool.pids == pids


# --- cancelling --------------------------------------------------------------------------------------


async def test_cancelling_a_scan(pool, nursery, monkeypatch, large, out):
    """A scan stops when asked to: the worker is idle at once, lives on, and nothing is left on disk."""
    monkeypatch.setattr(pool_module, "CANCEL_GRACE", 10 * PATIENCE)
    [pid] = pool.pids
    call = Call(pool, run(large, out))
    await nursery.start(call.run)
    await call.cancel()
    await assert_idle(pid)
    assert await pool.call(COLUMNS)
    assert pool.pids == [pid]
    assert not list(out.iterdir())
    assert pool.restarts == 0


async def test_cancelling_a_sort(pool, nursery, monkeypatch, large, out):
    """A sort does not listen: its worker is killed and replaced, its temporary file removed."""
    monkeypatch.setattr(pool_module, "CANCEL_GRACE", 0.01)  # or a fast machine may be done within it
    [pid] = pool.pids
    call = Call(pool, run(large, out, SORT))
    await nursery.start(call.run)
    await until(lambda: call.progress[-1]["phase"] == "sorting")
    await call.cancel()
    await assert_idle(pid)
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)


async def test_cancelling_what_does_not_listen(pool, nursery, large, out, logged):
    """A worker that does not stop is killed after the grace and replaced; it left a file, which is removed."""
    [pid] = pool.pids
    call = Call(pool, run(large, out))
    await nursery.start(call.run)
    await pause(pid)
    assert len(list(out.iterdir())) == 1
    assert await call.cancel() > pool_module.CANCEL_GRACE
    assert not psutil.pid_exists(pid)
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)
    assert pool.pids != [pid]
    assert (pool.restarts, entries(logged, "worker ended")[0]["how"]) == (1, "was ended by SIGKILL")


async def test_cancelling_again_and_again(pool, nursery, large, out, monkeypatch):
    """Workers that we killed are replaced without delay, however often."""
    monkeypatch.setattr(pool_module, "RESTART_DELAY", 300)
    for _ in range(3):
        call = Call(pool, run(large, out))
        await nursery.start(call.run)
        await pause(pool.pids[0])
        await call.cancel()
    with trio.fail_after(PATIENCE):
        assert await pool.call(COLUMNS)
    assert pool.restarts == 3


async def test_cancelling_in_the_middle_of_a_large_command(pool, nursery, monkeypatch):
    """When only a part of a command has been written, its worker cannot be asked any more: it is replaced."""
    monkeypatch.setattr(pool_module, "CANCEL_GRACE", 10 * PATIENCE)
    [pid] = pool.pids
    await pause(pid)
    call = Call(pool, {**COLUMNS, "name": "x" * 1_000_000})
    nursery.start_soon(call.run)
    await trio.sleep(0.05)
    await call.cancel()
    assert await pool.call(COLUMNS)
    assert pool.pids != [pid]


async def test_cancelling_at_any_moment(pool, nursery, out):
    """Cancelling may cross with the end of a command: the next command gets its own answer all the same."""
    names = [column["name"] for column in (await pool.call(COLUMNS))["columns"]]
    for step in range(40):
        with trio.move_on_after(step * 0.0005):
            await pool.call(run(SAMPLE, out, {"selectedColumns": [0], "preview": 2}))
        assert [column["name"] for column in (await pool.call(COLUMNS))["columns"]] == names
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


async def test_cancelling_while_waiting_for_a_worker(pool, nursery, large, out):
    """Who waits for a worker may leave; those behind them get theirs."""
    first, second = Call(pool, run(large, out)), Call(pool, COLUMNS)
    await nursery.start(first.run)
    nursery.start_soon(second.run)
    third = Call(pool, COLUMNS)
    nursery.start_soon(third.run)
    await trio.testing.wait_all_tasks_blocked()
    await second.cancel()
    await first.cancel()
    await third.ended.wait()
    assert third.value


# --- deaths ------------------------------------------------------------------------------------------


async def test_a_worker_that_dies_at_work(pool, nursery, large, out, logged):
    """Its command ends in `worker_died` and its temporary file is removed; the next call has a new worker."""
    [pid] = pool.pids
    call = Call(pool, run(large, out))
    await nursery.start(call.run)
    assert len(list(out.iterdir())) == 1
    os.kill(pid, signal.SIGKILL)
    await call.ended.wait()
    assert call.error.reason == "worker_died"
    assert "SIGKILL" in call.error.message
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)
    assert pool.pids != [pid]
    assert any(call.method_name == "warning" for call in logged.calls)


async def test_idle_workers_that_die(nursery, logged):
    """Calls right after the death of idle workers succeed, before it could be noticed and after."""
    pool = make(logged, size=2)
    await nursery.start(pool.run)
    await until(lambda: len(pool._idle) == 2)
    for pause in (0, 0, 0.001, 0.1):
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        await trio.sleep(pause)
        assert await pool.call(COLUMNS)
    await until(lambda: len(pool._idle) == 2)
    assert pool._returned.value == 2


async def test_more_memory_than_allowed(nursery, logged, large, out):
    """A worker over the limit is killed, and its command ends in `out_of_memory`; the next call succeeds."""
    pool = make(logged, memory_bytes=150 << 20)
    await nursery.start(pool.run)
    with pytest.raises(ProcessingError) as caught:
        await pool.call(run(large, out, SORT))
    assert caught.value.reason == "out_of_memory"
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)


async def test_a_worker_that_keeps_much_memory_is_replaced(nursery, monkeypatch, logged):
    """A command does not have to make do with what the one before it has left of its worker's memory."""
    pool = make(logged, memory_bytes=1000 << 20)
    await nursery.start(pool.run)
    [pid] = pool.pids
    monkeypatch.setattr(
        pool_module._Worker, "used_bytes", lambda worker: (400 << 20) + worker.began * (200 << 20)
    )
    assert await pool.call(COLUMNS)
    assert not psutil.pid_exists(pid)
    assert await pool.call(COLUMNS)
    assert entries(logged, "worker ended")[0]["how"] == "was ended by SIGKILL"


async def test_a_worker_is_not_looked_at_after_each_small_command(nursery, monkeypatch, logged):
    """Its memory is read now and then, and so also when many small commands have added up."""
    monkeypatch.setattr(pool_module, "MEMORY_INTERVAL", 3600.0)
    pool = make(logged, memory_bytes=1000 << 20)
    await nursery.start(pool.run)
    [worker] = pool._workers
    await pool.call(COLUMNS)
    looked = worker.looked
    assert looked <= trio.current_time()
    await pool.call(COLUMNS)
    assert worker.looked == looked
    worker.looked -= 3600
    await pool.call(COLUMNS)
    assert worker.looked > looked


async def test_more_data_than_allowed(nursery, monkeypatch, logged, large, out):
    """A worker that aborts for want of memory ends its command in `out_of_memory`."""
    pool = make(logged)
    await nursery.start(pool.run)
    await pool.call(run(SAMPLE, out))
    [pid] = pool.pids
    limit = data_bytes(pid) + (40 << 20)
    resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
    with pytest.raises(ProcessingError) as caught:
        await pool.call(run(large, out, SORT))
    assert caught.value.reason == "out_of_memory"
    assert entries(logged, "worker ended")[0]["how"] == "was ended by SIGABRT"


@pytest.mark.parametrize(("before", "option"), [("", "muzzy_decay_ms:0"), ("a:1", "a:1,muzzy_decay_ms:0")])
async def test_limit_and_environment(nursery, monkeypatch, logged, before, option):
    """The fence lies above the limit; a worker has none of the server's settings, which may be secret."""
    monkeypatch.setenv("CREEMSON_TOKEN", "secret")
    monkeypatch.setenv("_RJEM_MALLOC_CONF", before)
    pool = make(logged, memory_bytes=1 << 30)
    await nursery.start(pool.run)
    process = psutil.Process(pool.pids[0])
    assert process.rlimit(psutil.RLIMIT_DATA) == (6 << 30, 6 << 30)
    environment = process.environ()
    assert "CREEMSON_TOKEN" not in environment
    assert environment["_RJEM_MALLOC_CONF"] == option


async def test_a_worker_whose_pipes_are_closed():
    """A worker is dead for those who still hold it when the pool has closed its pipes."""
    process = await trio.lowlevel.open_process(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    worker = pool_module._Worker(process)
    await process.wait()
    await process.stdin.aclose()
    await process.stdout.aclose()
    with pytest.raises(pool_module._Died):
        await worker.send(b"{}\n")
    with pytest.raises(pool_module._Died):
        await worker.receive()


def test_a_process_that_has_gone_uses_nothing():
    """The memory of a process that ended between two looks is 0."""
    process = subprocess.Popen(["true"])
    process.wait()
    assert pool_module._Worker(process).used_bytes() == 0


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGRTMIN + 3, "signal 37")]
)
def test_the_end_of_a_process_in_words(number, words):
    """A death by a signal is told by its name, where it has one."""
    with subprocess.Popen(["sleep", "60"]) as process:
        assert pool_module._ending(process) == "is ending"
        process.send_signal(number)
        process.wait()
    assert pool_module._ending(process) == f"was ended by {words}"


# --- starting ----------------------------------------------------------------------------------------


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exit 1", "ended with status 1"),
        ("echo oops >&2; exit 3", "oops"),
        ("echo this is no JSON; exec sleep 60", "SIGKILL"),
        ("exec >&-; exec sleep 60", "SIGKILL"),
        ("exec sleep 60", "SIGKILL"),
    ],
)
async def test_workers_that_cannot_start(monkeypatch, tmp_path, logged, text, told):
    """After three failed starts `run` raises `worker_died` instead of hanging; why is in the log."""
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", text))
    monkeypatch.setattr(pool_module, "START_TIMEOUT", 0.3)
    began = time.perf_counter()
    with pytest.raises(ProcessingError) as caught:
        await make(logged, size=4).run()
    assert caught.value.reason == "worker_died"
    assert time.perf_counter() - began > 0.3
    ends = entries(logged, "worker ended")
    assert len(ends) == 3
    assert told in str(ends[0])


async def test_no_process_at_all(monkeypatch, tmp_path, logged):
    """Where the system gives no process, it is the same."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(ProcessingError, match="no process"):
        await make(logged).run()
    assert len(entries(logged, "worker cannot be started")) == 3


async def test_workers_that_cannot_be_replaced(pool, nursery, monkeypatch, tmp_path):
    """Those who wait when starts fail are told, as are those who come then; when starts succeed again, all is well."""
    python = sys.executable
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "exit 1"))
    waiting = Call(pool, COLUMNS)
    os.kill(pool.pids[0], signal.SIGKILL)
    await until(lambda: not pool.pids)
    nursery.start_soon(waiting.run)
    with trio.fail_after(PATIENCE):
        await waiting.ended.wait()
    assert waiting.error.reason == "worker_died"
    with pytest.raises(ProcessingError, match="no process"):
        await pool.call(COLUMNS)
    monkeypatch.setattr(sys, "executable", python)
    await until(lambda: pool.pids and pool._idle, 10)
    assert await pool.call(COLUMNS)


async def test_workers_import_nothing_from_the_working_directory(nursery, monkeypatch, tmp_path, logged):
    """A file that has the name of a module does not get into the workers of a server started beside it."""
    (tmp_path / "queue.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    pool = make(logged)
    await nursery.start(pool.run)
    assert not logged.calls


async def test_ctrl_c_does_not_reach_workers(nursery, logged):
    """Ctrl-C signals the group of the server: workers have their own from the very start."""
    pool = make(logged)
    nursery.start_soon(pool.run)
    await until(lambda: pool.pids)
    assert os.getpgid(pool.pids[0]) == pool.pids[0] != os.getpgrp()


# --- ending ------------------------------------------------------------------------------------------


async def test_nothing_is_left(logged, large, out):
    """When the pool's scope is cancelled, no process, no temporary file and no file descriptor remains."""
    before = count_files("self")
    pool = make(logged, size=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        calls = [Call(pool, run(large, out, SORT, name=f"{index}.parquet")) for index in range(2)]
        for call in calls:
            await nursery.start(call.run)
        nursery.start_soon(Call(pool, COLUMNS).run)
        await trio.testing.wait_all_tasks_blocked()
        pids = pool.pids
        assert len(pids) == 2
        nursery.cancel_scope.cancel()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not list(out.iterdir())
    assert count_files("self") == before


async def test_calls_outlive_the_pool(logged, nursery, large, out):
    """Calls at work, waiting and coming when the pool has ended are told `worker_died`; nothing hangs."""
    pool = make(logged)
    working, waiting = Call(pool, run(large, out)), Call(pool, COLUMNS)
    async with trio.open_nursery() as place:
        await place.start(pool.run)
        await nursery.start(working.run)
        nursery.start_soon(waiting.run)
        await trio.testing.wait_all_tasks_blocked()
        place.cancel_scope.cancel()
    with trio.fail_after(PATIENCE):
        await working.ended.wait()
        await waiting.ended.wait()
    assert working.error.reason == waiting.error.reason == "worker_died"
    with pytest.raises(ProcessingError):
        await pool.call(COLUMNS)
    assert not list(out.iterdir())


PARENT = """
import sys, trio, structlog
from creemson.processing.pool import Pool

async def main():
    pool = Pool(size=2, memory_bytes=0, nice=0, logger=structlog.wrap_logger(structlog.testing.CapturingLogger()))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        while len(pool._idle) < 2:
            await trio.sleep(0.01)
        pids = pool.pids
        command = {"op": "run", "query": {"filename": "x", "sort": [["t"], ["h"]]}, "source": sys.argv[1],
                   "target": sys.argv[2]}
        await pool.call(command, on_progress=lambda figures: print(*pids, flush=True))

trio.run(main)
"""


def test_workers_do_not_outlive_their_parent(large, out):
    """When the server is killed, its workers are gone within 3 s, the one in the middle of a sort as well."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(large), str(out / "x.parquet")], stdout=subprocess.PIPE, text=True
    ) as parent:
        watchdog = threading.Timer(30, parent.kill)
        watchdog.start()
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        watchdog.cancel()
        assert len(pids) == 2
        deadline = time.monotonic() + 3
        while any(map(lives, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def lives(pid):
    """Whether there is such a process; where nobody reaps orphans, one that has ended remains a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
