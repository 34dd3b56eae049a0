"""Killed and frozen workers, a scheduler that goes and comes back: what a command on the cluster meets."""

import signal
from contextlib import suppress

import psutil
import pytest
import trio

from creemson.errors import ProcessingError
from tests.executors.conftest import write_large
from tests.executors.dask.clusters import cluster as running
from tests.executors.dask.clusters import parent
from tests.executors.dask.conftest import names
from tests.executors.test_local import SAMPLE, SORT, Call, run, until

pytestmark = pytest.mark.slow
PATIENCE = 240
"""Seconds until a test gives up; on a busy machine, a worker takes many seconds to start."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers, so that one can be lost."""
    with running(tmp_path_factory.mktemp("cluster"), 2, ttl="10s") as found:
        yield found


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A CSV that takes seconds to sort."""
    return write_large(tmp_path_factory.mktemp("large"), 6_000_000)


async def start(nursery, executor, large, folder):
    """Start a command that takes seconds, and return it with the process that carries it out."""
    call = Call(executor, run(large, folder, SORT))
    with trio.fail_after(PATIENCE):
        await nursery.start(call.run)
    (going,) = executor._runs.values()
    return call, psutil.Process(going.pid)


async def ended(call):
    with trio.fail_after(PATIENCE):
        await call.ended.wait()
    return call


async def works(executor, folder, name="next.parquet"):
    """Assert that the next command succeeds."""
    with trio.fail_after(PATIENCE):
        assert (await executor.call(run(SAMPLE, folder, name=name)))["rows"] == 344
    assert name in names(folder)


async def test_killed_dask_worker_costs_the_attempt_only(executor, cluster, nursery, large, tmp_path):
    """Its own process dies with it, nothing is left, and the other worker goes on."""
    call, worker = await start(nursery, executor, large, tmp_path)
    (child,) = [process for process in cluster.engine_processes() if parent(process).pid == worker.pid]
    worker.kill()
    await ended(call)
    assert isinstance(call.error, ProcessingError)
    assert (call.error.reason, call.error.retryable) == ("worker_died", True)
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert names(tmp_path) == []
    await works(executor, tmp_path)
    assert executor.restarts >= 1
    with trio.fail_after(PATIENCE):
        while executor.state().workers < 2:  # noqa: ASYNC110 - the nanny starts another one
            await trio.sleep(0.1)


async def test_killed_process_of_a_worker_is_told_as_on_this_machine(
    executor, cluster, nursery, large, tmp_path
):
    """The Dask worker stays."""
    call, worker = await start(nursery, executor, large, tmp_path)
    (child,) = [process for process in cluster.engine_processes() if parent(process).pid == worker.pid]
    child.kill()
    await ended(call)
    assert (call.error.reason, "SIGKILL" in call.error.message) == ("worker_died", True)
    assert names(tmp_path) == []
    assert worker.is_running()
    await works(executor, tmp_path)


async def test_frozen_worker_costs_the_attempt_and_publishes_nothing_later(
    executor, cluster, nursery, large, tmp_path
):
    """The scheduler gives it up after its ``worker-ttl``; the nanny replaces it."""
    call, worker = await start(nursery, executor, large, tmp_path)
    (child,) = [process for process in cluster.engine_processes() if parent(process).pid == worker.pid]
    for process in (
        child,
        worker,
    ):  # as if its machine were; else the process would publish before it is given up
        process.send_signal(signal.SIGSTOP)
    try:
        await ended(call)
        assert call.error.reason == "worker_died"
        assert names(tmp_path) == []
        await works(executor, tmp_path)
    finally:
        for process in (child, worker):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
    await until(lambda: not any(name.startswith("out") for name in names(tmp_path)))


async def test_scheduler_that_comes_back_gets_the_command_again(executor, cluster, nursery, large, tmp_path):
    """Whoever waits for it notices only that it takes longer."""
    call, _ = await start(nursery, executor, large, tmp_path)
    cluster.kill_scheduler()
    with trio.fail_after(PATIENCE):
        while executor.state().trouble is None:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)
        assert "cannot be reached" in executor.state().trouble
        await trio.to_thread.run_sync(cluster.start_scheduler)
    await ended(call)
    if (
        call.error is not None
    ):  # on a busy machine, the scheduler may give up a worker that only starts slowly
        assert call.error.reason == "worker_died"
        with trio.fail_after(PATIENCE):
            call.value = await executor.call(run(large, tmp_path, SORT))
    assert call.value["rows"] == 6_000_000
    assert "out.parquet" in names(tmp_path)


async def test_command_waits_for_the_first_worker(executor, cluster, nursery, tmp_path):
    """Workers may come at any time; until then, the state says what is missing."""
    await trio.to_thread.run_sync(cluster.stop_workers)
    with trio.fail_after(PATIENCE):
        while executor.state().workers:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)
    assert "creemson worker" in executor.state().trouble
    async with trio.open_nursery() as waiting:
        waiting.start_soon(works, executor, tmp_path)
        await trio.to_thread.run_sync(cluster.start_workers)
