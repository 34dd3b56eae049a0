"""What a server tells of the database that it shares: while it answers, while it fails, and while it is silent."""

import pytest
import structlog
import trio

from creemson.server.housekeeping import keep_leases
from creemson.server.reach import SILENCE, Reach


class Stores:
    """Stores whose leases are renewed as a test says."""

    is_shared = True

    def __init__(self):
        self.fails = False

    def renew(self):
        if self.fails:
            raise OSError("no database")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Threads take no time: the clock would jump while they run."""

    async def run_sync(function, *, limiter):
        await trio.lowlevel.checkpoint()
        return function()

    monkeypatch.setattr("trio.to_thread.run_sync", run_sync)


@pytest.fixture
def logs():
    return structlog.testing.CapturingLogger()


@pytest.fixture
def logger(logs):
    return structlog.wrap_logger(logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[])


async def test_server_is_ready_as_long_as_its_database_answers(autojump_clock, nursery, logs, logger):
    """Restarts of some seconds do not count; the loss and the return have one line each."""
    stores, reach = Stores(), Reach(logger)
    nursery.start_soon(reach.watch)
    nursery.start_soon(keep_leases, stores, reach, structlog.testing.CapturingLogger())
    await trio.sleep(60)
    stores.fails = True
    await trio.sleep(SILENCE - 6)
    assert reach.refusal() is None
    await trio.sleep(60)
    assert reach.refusal().reason == "busy"
    stores.fails = False
    await trio.sleep(6)
    assert reach.refusal() is None
    assert [(call.method_name, call.kwargs["event"]) for call in logs.calls] == [
        ("error", "the database does not answer; requests that need it wait or fail"),
        ("info", "the database answers again"),
    ]


async def test_renewal_that_never_ends_is_noticed(autojump_clock, nursery, logger):
    """A database whose disk hangs accepts connections, and does not answer."""
    reach = Reach(logger)
    nursery.start_soon(reach.watch)
    await trio.sleep(SILENCE + 1)
    assert reach.refusal().retryable
