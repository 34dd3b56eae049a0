"""Connecting to a scheduler, with a stand-in for Dask's client."""

import importlib.metadata
import socket
import threading

import pytest
import structlog
import trio
import trio.testing

from creemson.executors.dask import cluster as cluster_module
from creemson.executors.dask.executor import DaskExecutor
from creemson.executors.dask.library import WorkerInfo
from creemson.executors.local import LocalExecutor
from tests.servers import PATIENCE

VERSION = importlib.metadata.version("distributed")


class Slow:
    """A connection whose last answer waits until it may come."""

    def __init__(self, *_, **__):
        self.asked, self.may_answer, self.closed = threading.Event(), threading.Event(), threading.Event()
        made.append(self)

    def worker_ttl(self):
        self.asked.set()
        assert self.may_answer.wait(PATIENCE)
        return 1.0

    def close(self):
        self.closed.set()


made = []


@pytest.fixture
def executor(monkeypatch):
    """An executor whose scheduler accepts connections."""
    monkeypatch.setattr(cluster_module, "Connection", Slow)
    monkeypatch.setattr(cluster_module, "scheduler_version", lambda *_, **__: VERSION)
    made.clear()
    logger = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield DaskExecutor(
            LocalExecutor(size=2, memory_bytes=0, nice=0, logger=logger),
            address=f"tcp://127.0.0.1:{listener.getsockname()[1]}",
            files=None,
            least_bytes=0,
            part_bytes=0,
            logger=logger,
        )


async def test_connection_that_opens_after_the_server_gave_up_is_closed(executor, nursery):
    """Nobody else would close it."""
    async with trio.open_nursery() as starting:
        starting.start_soon(executor.cluster.run)
        with trio.fail_after(PATIENCE):
            while not (made and made[0].asked.is_set()):  # noqa: ASYNC110 - set by another thread
                await trio.sleep(0.01)
        starting.cancel_scope.cancel()
    assert not made[0].closed.is_set()
    made[0].may_answer.set()
    assert await trio.to_thread.run_sync(made[0].closed.wait, PATIENCE)


async def test_change_of_the_number_of_workers_is_told(executor, nursery):
    """Also when all are gone with the scheduler; without a change, nobody is woken."""
    sizes = []

    async def follow():
        while True:
            await executor.size_changed()
            sizes.append(executor.size)

    nursery.start_soon(follow)
    await trio.testing.wait_all_tasks_blocked()
    assert sizes == []
    for workers in ([WorkerInfo("a", ()), WorkerInfo("b", ())], []):
        executor.cluster.workers = workers
        executor.resized()
        await trio.testing.wait_all_tasks_blocked()
    assert sizes == [4, 2]
