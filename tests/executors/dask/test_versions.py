"""Which versions work together."""

import importlib.metadata

import pytest
import trio

from creemson.executors.dask import versions
from tests.executors.dask.conftest import make_executor


def test_scheduler_of_the_same_version_is_accepted():
    """That of distributed counts: it defines the protocol."""
    assert versions.mismatch(importlib.metadata.version("distributed"), "tls://a:1") is None


def test_worker_of_other_versions_is_described_and_others_are_not():
    """Workers of other programs have no such resource."""
    own = versions.own_label()
    assert versions.differing([own], own) is None
    assert versions.differing(["GPU"], own) is None
    assert versions.differing([f"{own}.1"], own) == f"{own}.1"


async def test_scheduler_with_another_version_is_refused_in_words(cluster, logged, monkeypatch):
    """Before any command is sent to it."""
    executor = make_executor(cluster, logged)
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda _: "1999.1.0")
    with trio.fail_after(60), pytest.raises(ConnectionError, match=r"and this server has 1999\.1\.0"):
        await executor.cluster.run()
