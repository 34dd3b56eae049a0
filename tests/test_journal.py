"""The journal: what is written is written before what follows is told."""

import pytest
import structlog
import trio

from creemson.processing.jobs import Accepted
from creemson.processing.journal import Journal, Told
from tests.test_catalog import JOB


class SlowCatalog:
    """Writes when the test says so."""

    def __init__(self):
        self.written = []
        self.fault = None
        self.turn = trio.Semaphore(0)

    def record_jobs(self, jobs):
        if self.fault is not None:
            raise self.fault
        self.written.append(list(jobs))

    async def in_thread(self, function, *args):
        await self.turn.acquire()
        return function(*args)


def told(number):
    return Told("c", number, Accepted("j", 0))


@pytest.fixture
async def catalog():
    return SlowCatalog()


@pytest.fixture
async def heard():
    return []


@pytest.fixture
async def journal(catalog, heard, nursery):
    journal = Journal(
        catalog, tell=heard.append, on_failure=lambda batch, error: [told(99)],
        logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]), in_thread=catalog.in_thread,
    )  # fmt: skip
    nursery.start_soon(journal.run)
    return journal


async def test_what_waits_for_nothing_is_told_at_once(journal, heard):
    """There is nothing to be written before it."""
    journal.put(told(1))
    assert heard == [told(1)]


async def test_what_follows_a_record_waits_for_it(journal, catalog, heard):
    """And what comes while the disk is busy shares the next transaction."""
    journal.put(JOB)
    journal.put(told(1))
    await trio.testing.wait_all_tasks_blocked()
    for entry in (told(2), JOB, "j1", told(3)):
        journal.put(entry)
    assert heard == []
    catalog.turn.release()
    await trio.testing.wait_all_tasks_blocked()
    assert (heard, catalog.written) == ([told(1)], [[JOB]])
    catalog.turn.release()
    await journal.flush()
    assert (heard, catalog.written) == ([told(1), told(2), told(3)], [[JOB], [JOB, "j1"]])
    await journal.flush()


async def test_a_fault_of_the_disk_changes_what_is_told(journal, catalog, heard):
    """The processor says what."""
    catalog.fault = OSError(28, "No space left on device")
    journal.put(JOB)
    journal.put(told(1))
    catalog.turn.release()
    await journal.flush()
    assert heard == [told(99)]
