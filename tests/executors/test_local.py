"""The worker pool: real worker processes that are stopped, killed, starved and counted."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import orjson
import psutil
import pytest
import structlog
import trio

from creemson.errors import ProcessingError
from creemson.executors import commands
from creemson.executors import local as pool_module
from creemson.executors import process as process_module
from creemson.executors.executor import TransientFault
from creemson.executors.local import LocalExecutor
from creemson.executors.process import WorkerDied, WorkerProcess, describe_exit
from tests.servers import wait_until

SAMPLE = Path(pool_module.__file__).parents[1] / "samples" / "penguins.csv"
COLUMNS = commands.columns(source=str(SAMPLE), name="penguins.csv")
SORT = {"sort": [["t"], ["h"]]}
PATIENCE = 60
"""Seconds until a test gives up. A longer grace period distinguishes what is immediate from what waits for it."""


@pytest.fixture
def logged():
    return structlog.testing.CapturingLogger()


def make(logged, size=1, memory_bytes=0, warm=None):
    logger = structlog.wrap_logger(logged, processors=[])
    return LocalExecutor(size=size, warm=warm, memory_bytes=memory_bytes, nice=0, logger=logger)


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


def run(source, out, query=None, name="out.parquet", **limits):
    query = {"filename": "t.csv"} | (query or {})
    return commands.run(query, source=str(source), target=str(out / name), **limits)


def count_files(pid):
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def data_bytes(pid):
    """Return the bytes that count against RLIMIT_DATA."""
    return int(re.search(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def until(condition, seconds=PATIENCE):
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - no event reports the end of a process
            await trio.sleep(0.005)


def entries(logged, event):
    return [call.kwargs for call in logged.calls if call.kwargs["event"] == event]


class Call:
    """A call in the background; `run` is started once its first progress has arrived."""

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

    async def cancel(self, halted=None):
        """Cancel the call and return the seconds until it ended; a halted worker goes on once it is asked to stop."""
        before = time.perf_counter()
        self.scope.cancel()
        if halted is not None:
            await trio.testing.wait_all_tasks_blocked()
            os.kill(halted, signal.SIGCONT)
        with trio.fail_after(PATIENCE):
            await self.ended.wait()
        assert self.scope.cancelled_caught
        return time.perf_counter() - before


async def pause(pid):
    """Stop a process and wait until the signal has taken effect."""
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


async def under_way(pool, nursery, command, *, sorting=False):
    """Return a call that is being carried out, whose worker is stopped; at the beginning, or while it sorts.

    On a busy machine, a command may end before its worker is stopped. Then it is started again.
    """
    for _ in range(20):
        call = Call(pool, command)
        await nursery.start(call.run)
        while call.progress[-1]["fraction"] == 0 or (sorting and call.progress[-1]["phase"] != "sorting"):
            if call.ended.is_set():
                break
            await trio.sleep(0.001)
        busy = [worker.process.pid for worker in pool._workers if worker.phase == "busy"]
        for pid in busy:
            await pause(pid)
        await trio.testing.wait_all_tasks_blocked(0.01)  # what it has written before is read
        if not call.ended.is_set() and (sorting or call.progress[-1]["fraction"] < 0.5):
            return call
        for pid in busy:
            os.kill(pid, signal.SIGCONT)
        await call.ended.wait()
        for path in Path(command["target"]).parent.iterdir():
            path.unlink()
    raise AssertionError("a command is never under way")


def cpu_of(pid):
    """Return the seconds of CPU time that a process has used."""
    return sum(psutil.Process(pid).cpu_times()[:2])


async def assert_idle(pid, most=0.05):
    """Assert that the process has ended, or is idle soon: it uses less CPU time than so many seconds until then."""
    try:
        begin = used = cpu_of(pid)
        while True:
            await trio.sleep(0.1)
            before, used = used, cpu_of(pid)
            assert used - begin <= most
            if used == before:
                return
    except psutil.NoSuchProcess:
        return


# --- results ----------------------------------------------------------------------------


def files_without_texts(folder):
    """The outputs in a folder, also unfinished ones, without their texts."""
    return [path for path in folder.iterdir() if ".texts." not in path.name]


async def test_call_reports_progress_and_returns_value(pool, large, out):
    """Progress increases while the command runs, then the value follows; the output file exists."""
    progress = []
    value = await pool.call(run(large, out), on_progress=progress.append)
    assert value["rows"] == 3_500_000
    fractions = [figures["fraction"] for figures in progress]
    assert 0 <= fractions[0] < 1
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert progress[0].keys() == {"phase", "bytes_read", "bytes_total", "rows", "fraction"}
    assert [path.name for path in out.iterdir()] == ["out.parquet"]


async def test_call_that_fails_raises_reason_and_keeps_worker(pool, out):
    """A worker's error is raised with its reason, and the worker continues."""
    pids = pool.pids
    with pytest.raises(ProcessingError, match="'wings'") as caught:
        await pool.call(run(SAMPLE, out, {"selectedColumns": ["wings"]}))
    assert caught.value.reason == "column_not_found"
    assert await pool.call(COLUMNS)
    assert pool.pids == pids


async def test_unexpected_error_of_worker_is_internal_and_logged(pool, logged):
    """A bug is reported as `internal`, and its traceback is in the log."""
    with pytest.raises(ProcessingError) as caught:
        await pool.call({"op": "dance", "source": "x"})
    assert caught.value.reason == "internal"
    [entry] = entries(logged, "command failed")
    assert entry["op"] == "dance"
    assert "ValueError: dance" in entry["traceback"]


async def test_temporary_system_error_is_a_transient_fault(pool, tmp_path):
    """A system error that may pass is a `TransientFault`, so that the job is retried."""
    open_now = count_files(pool.pids[0])
    resource.prlimit(pool.pids[0], resource.RLIMIT_NOFILE, (open_now, open_now))
    with pytest.raises(TransientFault) as caught:
        await pool.call(COLUMNS)
    assert caught.value.error.reason == "internal"


async def test_large_result_arrives_complete(pool, tmp_path, out):
    """A result line of megabytes arrives complete."""
    source = tmp_path / "wide.csv"
    source.write_text("a\n" + "".join(f"{index}{'x' * 5000}\n" for index in range(1000)))
    value = await pool.call(
        run(source, out, {"preview": 1000}, limits={"message": 8 << 20, "answer": 9 << 20})
    )
    assert [row[0] for row in value["preview"]] == [f"{index}{'x' * 5000}" for index in range(1000)]


async def test_worker_whose_answer_is_too_long_is_killed(nursery, logged, tmp_path, out):
    """Its command fails as a bug of the server, which is logged; the next one is served by another worker."""
    pool = LocalExecutor(
        size=1, memory_bytes=0, nice=0, logger=structlog.wrap_logger(logged, processors=[]), max_line=1000
    )
    path = tmp_path / "t.csv"
    path.write_text("a\n" + f"{'x' * 2000}\n" * 100)
    await nursery.start(pool.run)
    (pid,) = pool.pids
    with trio.fail_after(PATIENCE):
        for _ in range(2):
            with pytest.raises(ProcessingError) as caught:
                await pool.call(run(path, out, {"preview": 100}))
            assert caught.value.reason == "internal"
        assert pid not in pool.pids
    assert "too long" in str(logged.calls)


async def test_concurrent_calls_get_their_own_results(nursery, logged, out):
    """Fifty concurrent calls on two workers each get their own result."""
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
    assert len(files_without_texts(out)) == 50
    assert len(pool.pids) == 2


@pytest.mark.slow
async def test_worker_that_is_rarely_needed_starts_with_the_first_need(logged, nursery, large, out):
    """Only for a command that would have to wait, and never more than `size`; it is kept."""
    pool = make(logged, size=2, warm=1)
    await nursery.start(pool.run)
    for limit in (1, 2):
        await pool.call(run(large, out, {"limit": limit}))
    assert len(pool.pids) == 1
    async with trio.open_nursery() as calls:
        for limit in (3, 4, 5):
            calls.start_soon(pool.call, run(large, out, {"limit": limit}, f"{limit}.parquet"))
    await until(lambda: len(pool._idle) == 2)
    await pool.call(run(large, out, {"limit": 6}))
    assert len(pool.pids) == 2
    assert pool.restarts == 0


async def test_progress_handler_that_raises_stops_the_command(pool, large, out):
    """The handler's exception is raised unchanged, and the command is stopped."""

    def fail(figures):
        raise ZeroDivisionError

    [pid] = pool.pids
    before = cpu_of(pid)
    await pool.call(run(large, out))
    whole = cpu_of(pid) - before
    for path in out.iterdir():
        path.unlink()
    with pytest.raises(ZeroDivisionError):
        await pool.call(run(large, out), on_progress=fail)
    await assert_idle(pid, whole / 3)
    assert await pool.call(COLUMNS)
    assert not list(out.iterdir())


async def test_command_that_is_not_json_costs_no_worker(pool):
    """A command that cannot be encoded costs no worker."""
    pids = pool.pids
    with pytest.raises(orjson.JSONEncodeError):
        await pool.call({**COLUMNS, "name": object()})
    assert await pool.call(COLUMNS)
    assert pool.pids == pids


# --- cancellation --------------------------------------------------------------------------------------


async def test_cancelled_scan_stops_and_keeps_worker(pool, nursery, monkeypatch, large, out):
    """A scan stops when asked to: the worker idles immediately and lives on, and no file is left."""
    monkeypatch.setattr(process_module, "CANCEL_GRACE", 10 * PATIENCE)
    [pid] = pool.pids
    before = cpu_of(pid)
    await pool.call(run(large, out))
    whole = cpu_of(pid) - before
    for path in out.iterdir():
        path.unlink()
    call = await under_way(pool, nursery, run(large, out))
    await call.cancel(halted=pid)
    await assert_idle(pid, whole / 3)
    assert await pool.call(COLUMNS)
    assert pool.pids == [pid]
    assert not list(out.iterdir())
    assert pool.restarts == 0


async def test_cancelled_search_stops_and_keeps_worker(pool, nursery, monkeypatch, large):
    """A page that searches while people type does not wait for its older searches, and neither do others."""
    monkeypatch.setattr(process_module, "CANCEL_GRACE", 10 * PATIENCE)
    [pid] = pool.pids
    rows = partial(commands.rows, source=str(large), name="large.csv", offset=0, limit=1)
    await pool.call(rows())  # surveys the file
    before = cpu_of(pid)
    await pool.call(rows(view={"find": "no other text"}))
    whole = cpu_of(pid) - before
    before, scope, ended = cpu_of(pid), trio.CancelScope(), trio.Event()

    async def search():
        with scope:
            await pool.call(rows(view={"find": "no such text"}))
        ended.set()

    nursery.start_soon(search)
    await until(lambda: cpu_of(pid) > before)
    scope.cancel()
    with trio.fail_after(PATIENCE):
        await ended.wait()
    await assert_idle(pid, whole / 3)
    assert pool.pids == [pid]
    assert pool.restarts == 0


@pytest.mark.slow
async def test_cancelled_sort_kills_worker(pool, nursery, monkeypatch, large, out):
    """A sort does not check for cancellation: its worker is killed and replaced, its temporary file removed."""
    monkeypatch.setattr(process_module, "CANCEL_GRACE", 0.01)  # otherwise a fast machine may finish within it
    [pid] = pool.pids
    call = await under_way(pool, nursery, run(large, out, SORT), sorting=True)
    await call.cancel(halted=pid)
    await assert_idle(pid)
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)


async def test_cancelled_worker_that_does_not_react_is_killed_after_grace(pool, nursery, large, out, logged):
    """It is killed after the grace period and replaced; the file that it left is removed."""
    [pid] = pool.pids
    call = await under_way(pool, nursery, run(large, out))
    assert len(files_without_texts(out)) == 1
    assert await call.cancel() > process_module.CANCEL_GRACE
    assert not psutil.pid_exists(pid)
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)
    assert pool.pids != [pid]
    assert (pool.restarts, entries(logged, "worker ended")[0]["how"]) == (1, "was ended by SIGKILL")


@pytest.mark.slow
async def test_workers_killed_by_cancel_are_replaced_without_delay(pool, nursery, large, out, monkeypatch):
    """Workers that the pool killed are replaced without delay, however often."""
    monkeypatch.setattr(pool_module, "RESTART_DELAY", 300)
    for _ in range(3):
        call = await under_way(pool, nursery, run(large, out))
        await call.cancel()
    with trio.fail_after(PATIENCE):
        assert await pool.call(COLUMNS)
    assert pool.restarts == 3


async def test_cancel_during_partly_written_command_replaces_worker(pool, nursery, monkeypatch):
    """A worker that got only part of a command cannot be asked to stop: it is replaced."""
    monkeypatch.setattr(process_module, "CANCEL_GRACE", 10 * PATIENCE)
    [pid] = pool.pids
    await pause(pid)
    call = Call(pool, {**COLUMNS, "name": "x" * 1_000_000})
    nursery.start_soon(call.run)
    await trio.testing.wait_all_tasks_blocked()
    await call.cancel()
    assert await pool.call(COLUMNS)
    assert pool.pids != [pid]


@pytest.mark.slow
async def test_cancel_at_any_moment_does_not_mix_up_results(pool, nursery, out):
    """A cancel may cross with the end of a command: the next command still gets its own result."""
    names = [column["name"] for column in (await pool.call(COLUMNS))["columns"]]
    for step in range(40):
        with trio.move_on_after(step * 0.0005):
            await pool.call(run(SAMPLE, out, {"selectedColumns": [0], "preview": 2}))
        assert [column["name"] for column in (await pool.call(COLUMNS))["columns"]] == names
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


async def test_waiter_that_is_cancelled_lets_next_one_move_up(pool, nursery, large, out):
    """A waiter for a worker may leave; those behind it still get theirs."""
    first, second = await under_way(pool, nursery, run(large, out)), Call(pool, COLUMNS)
    nursery.start_soon(second.run)
    third = Call(pool, COLUMNS)
    nursery.start_soon(third.run)
    await trio.testing.wait_all_tasks_blocked()
    await second.cancel()
    await first.cancel()
    await third.ended.wait()
    assert third.value


# --- worker deaths ------------------------------------------------------------------------------------------


async def test_worker_death_during_command_is_reported(pool, nursery, large, out, logged):
    """The command fails with `worker_died`, its temporary file is removed, and the next call has a new worker."""
    [pid] = pool.pids
    call = await under_way(pool, nursery, run(large, out))
    assert len(files_without_texts(out)) == 1
    os.kill(pid, signal.SIGKILL)
    await call.ended.wait()
    assert call.error.reason == "worker_died"
    assert "SIGKILL" in call.error.message
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)
    assert pool.pids != [pid]
    assert any(call.method_name == "warning" for call in logged.calls)


@pytest.mark.slow
async def test_death_of_idle_workers_does_not_fail_calls(nursery, logged):
    """Calls right after the death of idle workers succeed, whether the pool has noticed it or not."""
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


async def test_worker_over_memory_limit_is_killed(nursery, logged, large, out):
    """A worker over the limit is killed, its command fails with `out_of_memory`, and the next call succeeds."""
    pool = make(logged, memory_bytes=150 << 20)
    await nursery.start(pool.run)
    with pytest.raises(ProcessingError) as caught:
        await pool.call(run(large, out, SORT))
    assert caught.value.reason == "out_of_memory"
    assert not list(out.iterdir())
    assert await pool.call(COLUMNS)


async def test_worker_that_keeps_much_memory_is_replaced(nursery, monkeypatch, logged):
    """A command does not inherit a worker whose memory is mostly used up."""
    pool = make(logged, memory_bytes=1000 << 20)
    await nursery.start(pool.run)
    [pid] = pool.pids
    monkeypatch.setattr(WorkerProcess, "used_bytes", lambda worker: (400 << 20) + worker.began * (200 << 20))
    assert await pool.call(COLUMNS)
    assert not psutil.pid_exists(pid)
    assert await pool.call(COLUMNS)
    assert entries(logged, "worker ended")[0]["how"] == "was ended by SIGKILL"


async def test_worker_memory_is_not_read_after_each_small_command(nursery, monkeypatch, logged):
    """Its memory is read at intervals, so also after many small commands."""
    monkeypatch.setattr(pool_module, "MEMORY_INTERVAL", 3600.0)
    pool = make(logged, memory_bytes=1000 << 20)
    await nursery.start(pool.run)
    [worker] = pool._workers
    await pool.call(COLUMNS)
    looked = worker.checked
    assert looked <= trio.current_time()
    await pool.call(COLUMNS)
    assert worker.checked == looked
    worker.checked -= 3600
    await pool.call(COLUMNS)
    assert worker.checked > looked


async def test_worker_abort_for_lack_of_memory_is_out_of_memory(nursery, monkeypatch, logged, large, out):
    """A worker that aborts for lack of memory fails its command with `out_of_memory`."""
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
async def test_worker_has_hard_limit_and_clean_environment(nursery, monkeypatch, logged, before, option):
    """The hard limit is above the soft one; a worker gets none of the server's settings, which may be secret."""
    monkeypatch.setenv("CREEMSON_TOKEN", "secret")
    monkeypatch.setenv("_RJEM_MALLOC_CONF", before)
    pool = make(logged, memory_bytes=1 << 30)
    await nursery.start(pool.run)
    process = psutil.Process(pool.pids[0])
    assert process.rlimit(psutil.RLIMIT_DATA) == (6 << 30, 6 << 30)
    environment = process.environ()
    assert "CREEMSON_TOKEN" not in environment
    assert environment["_RJEM_MALLOC_CONF"] == option


async def test_worker_with_closed_pipes_counts_as_dead():
    """After the pool has closed a worker's pipes, whoever still holds the worker sees it as dead."""
    worker = await WorkerProcess.start(memory_bytes=0, nice=0)
    await worker.close()
    with pytest.raises(WorkerDied):
        await worker.send(b"{}\n")
    with pytest.raises(WorkerDied):
        await worker.receive()


def test_ended_process_uses_no_memory():
    """The memory of a process that ended between two checks is 0."""
    process = subprocess.Popen(["true"])
    process.wait()
    assert WorkerProcess(process, lifeline=-1).used_bytes() == 0


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGRTMIN + 3, "signal 37")]
)
def test_process_ending_is_described_by_signal_name(number, words):
    """A death by a signal is described by the signal's name if it has one."""
    with subprocess.Popen(["sleep", "60"]) as process:
        assert describe_exit(process) == "is ending"
        process.send_signal(number)
        process.wait()
    assert describe_exit(process) == f"was ended by {words}"


# --- start ----------------------------------------------------------------------------------------


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected", "seconds"),
    [
        ("exit 1", "ended with status 1", PATIENCE),
        ("echo oops >&2; exit 3", "oops", PATIENCE),
        ("echo this is no JSON; exec sleep 600", "SIGKILL", PATIENCE),
        ("exec >&-; exec sleep 600", "SIGKILL", PATIENCE),
        ("exec sleep 600", "SIGKILL", 0.3),
    ],
)
async def test_pool_whose_workers_cannot_start_raises(monkeypatch, tmp_path, logged, text, expected, seconds):
    """After three failed starts `run` raises `worker_died` instead of hanging; the cause is in the log."""
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", text))
    monkeypatch.setattr(pool_module, "START_TIMEOUT", seconds)
    began = time.perf_counter()
    with pytest.raises(ProcessingError) as caught:
        await make(logged, size=4).run()
    assert caught.value.reason == "worker_died"
    assert time.perf_counter() - began > 0.3
    ends = entries(logged, "worker ended")
    assert len(ends) == 3
    assert expected in str(ends[0])


async def test_pool_without_processes_raises(monkeypatch, tmp_path, logged):
    """The same happens if the system cannot create a process."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(ProcessingError, match="No process"):
        await make(logged).run()
    assert len(entries(logged, "worker cannot be started")) == 3


@pytest.mark.slow
async def test_failed_replacement_of_workers_fails_waiters_until_starts_succeed(
    pool, nursery, monkeypatch, tmp_path
):
    """Waiters and newcomers get an error while starts fail; when starts succeed again, calls succeed."""
    python = sys.executable
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "exit 1"))
    waiting = Call(pool, COLUMNS)
    os.kill(pool.pids[0], signal.SIGKILL)
    await until(lambda: not pool.pids)
    nursery.start_soon(waiting.run)
    with trio.fail_after(PATIENCE):
        await waiting.ended.wait()
    assert waiting.error.reason == "worker_died"
    with pytest.raises(ProcessingError, match="No process"):
        await pool.call(COLUMNS)
    monkeypatch.setattr(sys, "executable", python)
    await until(lambda: pool.pids and pool._idle)
    assert await pool.call(COLUMNS)


async def test_workers_import_nothing_from_working_directory(nursery, monkeypatch, tmp_path, logged):
    """A file named like a module in the server's working directory is not imported by workers."""
    (tmp_path / "queue.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    pool = make(logged)
    await nursery.start(pool.run)
    assert not logged.calls


async def test_ctrl_c_does_not_reach_workers(nursery, logged):
    """Ctrl-C signals the server's process group: workers have their own group from the start."""
    pool = make(logged)
    nursery.start_soon(pool.run)
    await until(lambda: pool.pids)
    assert os.getpgid(pool.pids[0]) == pool.pids[0] != os.getpgrp()


# --- shutdown ------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_cancelled_pool_leaves_nothing(logged, large, out):
    """When the pool's scope is cancelled, no process, temporary file or file descriptor remains."""
    before = count_files("self")
    pool = make(logged, size=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await until(lambda: len(pool._idle) == 2)
        for index in range(2):
            folder = out / str(index)
            folder.mkdir()
            await under_way(pool, nursery, run(large, folder, SORT))
        nursery.start_soon(Call(pool, COLUMNS).run)
        await trio.testing.wait_all_tasks_blocked()
        pids = pool.pids
        assert len(pids) == 2
        nursery.cancel_scope.cancel()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not list(out.glob("*/*"))
    assert count_files("self") == before


async def test_calls_when_pool_has_ended_fail_as_worker_died(logged, nursery, large, out):
    """Running, waiting and later calls get `worker_died`; nothing hangs."""
    pool = make(logged)
    waiting = Call(pool, COLUMNS)
    async with trio.open_nursery() as place:
        await place.start(pool.run)
        working = await under_way(pool, nursery, run(large, out))
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
from creemson.executors.local import LocalExecutor

async def main():
    pool = LocalExecutor(size=2, memory_bytes=0, nice=0, logger=structlog.wrap_logger(structlog.testing.CapturingLogger()))
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


@pytest.mark.slow
def test_workers_do_not_outlive_killed_parent(large, out):
    """When the server is killed, the kernel ends its workers, also one in the middle of a command."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(large), str(out / "x.parquet")], stdout=subprocess.PIPE, text=True
    ) as parent:
        watchdog = threading.Timer(2 * PATIENCE, parent.kill)
        watchdog.start()
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        for pid in pids:  # so that they do not end by themselves
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        watchdog.cancel()
        assert len(pids) == 2
        wait_until(lambda: not any(map(lives, pids)))


def lives(pid):
    """Return whether the process lives; without a reaper of orphans, an ended one remains as a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
