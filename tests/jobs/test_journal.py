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


async def test_where_many_come_the_first_waits_for_company(catalog, heard, nursery, autojump_clock):
    """Then they share one transaction; where nobody is coming, nobody waits."""
    many = [True, False]
    journal = Journal(
        catalog, tell=heard.append, on_failure=None, company=lambda: 0.01 * many.pop(0), in_thread=catalog.in_thread,
        logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]),
    )  # fmt: skip
    nursery.start_soon(journal.run)
    catalog.turn = trio.Semaphore(2)
    began = trio.current_time()
    journal.put(JOB)
    await trio.sleep(0.009)
    assert (catalog.written, heard) == ([], [])
    journal.put("j1")
    journal.put(told(1))
    await journal.flush()
    assert (catalog.written, heard) == ([[JOB, "j1"]], [told(1)])
    assert trio.current_time() == pytest.approx(began + 0.01)
    journal.put(JOB)
    await journal.flush()
    assert len(catalog.written) == 2
    assert trio.current_time() == pytest.approx(began + 0.01)


async def test_a_fault_of_the_disk_changes_what_is_told(journal, catalog, heard):
    """The processor says what."""
    catalog.fault = OSError(28, "No space left on device")
    journal.put(JOB)
    journal.put(told(1))
    catalog.turn.release()
    await journal.flush()
    assert heard == [told(99)]
