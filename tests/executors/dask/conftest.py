"""Fixtures of the tests with a real cluster."""

import pytest
import structlog

from creemson.executors.dask.executor import DaskExecutor
from creemson.executors.local import LocalExecutor
from tests.executors.dask.clusters import cluster as running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of one worker that the tests of a module share."""
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def logged():
    return structlog.testing.CapturingLogger()


@pytest.fixture
def patient(monkeypatch):
    """A busy machine may take long for everything that takes milliseconds."""
    # So long may it take to notice a killed scheduler: an answer of it that is missing is waited for.
    monkeypatch.setattr("creemson.executors.dask.cluster.ANSWER_TIMEOUT", 30.0)
    for limit in ("CONNECT_TIMEOUT", "PATIENCE"):
        monkeypatch.setattr(f"creemson.executors.dask.cluster.{limit}", 240.0)


@pytest.fixture
async def executor(nursery, cluster, logged, patient):
    """An executor that runs everything on the cluster."""
    found = make_executor(cluster, logged)
    await nursery.start(found.run)
    return found


def make_executor(cluster, logged, *, least_bytes=0, part_bytes=0, local=None):
    logger = structlog.wrap_logger(logged, processors=[])
    return DaskExecutor(
        local or LocalExecutor(size=1, memory_bytes=0, nice=0, logger=logger),
        address=cluster.address,
        files=cluster.files,
        least_bytes=least_bytes,
        part_bytes=part_bytes,
        logger=logger,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())
