"""The executor on a real cluster: results, progress, errors, cancellation."""

from contextlib import suppress

import psutil
import pytest
import trio

from creemson.errors import ProcessingError
from creemson.executors.dask import attempts, library
from tests.executors.dask.conftest import make_executor, names
from tests.executors.test_local import COLUMNS, PATIENCE, SAMPLE, SORT, Call, assert_idle, cpu_of, run, until


async def test_query_on_the_cluster_writes_the_same_output_as_here(executor, tmp_path):
    """The worker of the cluster is the same program as the local one; nothing but the output is left."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    progress = []
    with trio.fail_after(PATIENCE):
        value = await executor.call(run(SAMPLE, there), on_progress=progress.append)
        expected = await executor._local.call(run(SAMPLE, here))
    assert value == expected
    assert set(progress[-1]) == {"phase", "bytes_read", "bytes_total", "rows", "fraction", "machine"}
    assert names(there) == names(here)
    assert (there / "out.parquet").read_bytes() == (here / "out.parquet").read_bytes()
    assert executor.size == 1 + 1
    assert executor.state().trouble is None


async def test_command_does_not_wait_for_others_before_it_is_sent(executor):
    """Dask's client has no setting for this, so an attribute of it is set, which a later version may not have."""
    assert executor.cluster._connection._client.scheduler_comm.interval == library.SEND_INTERVAL


class Recorder:
    """Stands for the local pool, and only notes its commands."""

    size, restarts, pids = 2, 0, ()

    def __init__(self):
        self.sources = []

    async def run(self, *, task_status):
        task_status.started()

    async def call(self, command, *, on_progress=None):
        self.sources.append(command["source"])


async def test_small_command_stays_here_and_large_one_goes_to_the_cluster(cluster, nursery, logged, tmp_path):
    """The size of the file decides: 5 bytes, or some kilobytes."""
    small = tmp_path / "small.csv"
    small.write_text("a\n1\n")
    local = Recorder()
    executor = make_executor(cluster, logged, least_bytes=1000, local=local)
    with trio.fail_after(PATIENCE):
        await nursery.start(executor.run)
        for source in (small, SAMPLE):
            await executor.call(run(source, tmp_path, name=f"{source.stem}.parquet"))
    assert local.sources == [str(small)]
    assert "penguins.parquet" in names(tmp_path)


async def test_error_of_the_worker_keeps_its_reason(executor, tmp_path):
    """As if it had run here."""
    with trio.fail_after(PATIENCE), pytest.raises(ProcessingError) as raised:
        await executor.call(run(SAMPLE, tmp_path, {"sort": [["nowhere"]]}))
    assert raised.value.reason == "column_not_found"
    assert names(tmp_path) == []


async def test_command_without_target_runs_on_the_cluster(executor):
    """It needs no attempt."""
    with trio.fail_after(PATIENCE):
        described = await executor.call(COLUMNS)
    assert described["columns"][0]["name"] == "species"


async def test_cancelled_command_uses_no_cpu_and_leaves_nothing(executor, cluster, nursery, large, tmp_path):
    """A sort does not react, so its process is killed; the next command gets a new one."""
    (process,) = cluster.engine_processes()
    call = Call(executor, run(large, tmp_path, SORT))
    await nursery.start(call.run)
    await call.cancel()
    await assert_idle(process.pid)
    assert names(tmp_path) == []
    with trio.fail_after(PATIENCE):
        await executor.call(run(SAMPLE, tmp_path))
    assert "out.parquet" in names(tmp_path)


async def idle(pid):
    """Wait until a process has ended, or uses no CPU time."""
    with suppress(psutil.NoSuchProcess):
        before, used = -1.0, cpu_of(pid)
        while used > before:
            await trio.sleep(0.5)
            before, used = used, cpu_of(pid)


async def test_command_of_a_server_that_ends_is_stopped(cluster, nursery, logged, large, tmp_path):
    """Its client is gone, so Dask cancels its tasks."""
    (process,) = cluster.engine_processes()
    executor = make_executor(cluster, logged)
    async with trio.open_nursery() as service:
        await service.start(executor.run)
        call = Call(executor, run(large, tmp_path, SORT))
        await service.start(call.run)
        service.cancel_scope.cancel()
    await until(lambda: names(tmp_path) == [])
    with trio.fail_after(PATIENCE):  # nobody waits for the worker, so it may take longer
        await idle(process.pid)


async def test_worker_that_does_not_see_the_folder_is_told_in_words(executor, tmp_path, monkeypatch):
    """Both have a folder of this name, but not the same one."""
    begin = attempts.begin

    def elsewhere(target):
        folder = begin(target)
        folder.rmdir()
        return folder

    monkeypatch.setattr(attempts, "begin", elsewhere)
    with trio.fail_after(PATIENCE), pytest.raises(ProcessingError, match="mount the same data folder"):
        await executor.call(run(SAMPLE, tmp_path))
