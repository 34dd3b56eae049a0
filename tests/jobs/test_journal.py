"""The journal: records are written before later events are delivered."""

import pytest
import structlog
import trio

from creemson.jobs.events import Accepted
from creemson.jobs.journal import Delivery, Journal
from tests.catalog.test_sqlite import JOB


class SlowCatalog:
    """Writes only when the test allows it."""

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


def event(number):
    return Delivery("c", number, Accepted("j", 0))


@pytest.fixture
async def catalog():
    return SlowCatalog()


@pytest.fixture
async def delivered():
    return []


@pytest.fixture
async def journal(catalog, delivered, nursery):
    journal = Journal(
        catalog, deliver=delivered.append, on_failure=lambda batch, error: [event(99)],
        logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]), in_thread=catalog.in_thread,
    )  # fmt: skip
    nursery.start_soon(journal.run)
    return journal


async def test_event_without_pending_records_is_delivered_at_once(journal, delivered):
    """No record has to be written before it."""
    journal.put(event(1))
    assert delivered == [event(1)]


async def test_event_after_a_record_waits_until_it_is_written(journal, catalog, delivered):
    """Records that arrive while the disk is busy share the next transaction."""
    journal.put(JOB)
    journal.put(event(1))
    await trio.testing.wait_all_tasks_blocked()
    for entry in (event(2), JOB, "j1", event(3)):
        journal.put(entry)
    assert delivered == []
    catalog.turn.release()
    await trio.testing.wait_all_tasks_blocked()
    assert (delivered, catalog.written) == ([event(1)], [[JOB]])
    catalog.turn.release()
    await journal.flush()
    assert (delivered, catalog.written) == ([event(1), event(2), event(3)], [[JOB], [JOB, "j1"]])
    await journal.flush()


async def test_first_record_waits_to_share_a_transaction(catalog, delivered, nursery, autojump_clock):
    """It waits only if more records are expected."""
    many = [True, False]
    journal = Journal(
        catalog, deliver=delivered.append, on_failure=None, gather_time=lambda: 0.01 * many.pop(0), in_thread=catalog.in_thread,
        logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]),
    )  # fmt: skip
    nursery.start_soon(journal.run)
    catalog.turn = trio.Semaphore(2)
    began = trio.current_time()
    journal.put(JOB)
    await trio.sleep(0.009)
    assert (catalog.written, delivered) == ([], [])
    journal.put("j1")
    journal.put(event(1))
    await journal.flush()
    assert (catalog.written, delivered) == ([[JOB, "j1"]], [event(1)])
    assert trio.current_time() == pytest.approx(began + 0.01)
    journal.put(JOB)
    await journal.flush()
    assert len(catalog.written) == 2
    assert trio.current_time() == pytest.approx(began + 0.01)


async def test_disk_error_replaces_the_delivered_events(journal, catalog, delivered):
    """`on_failure` decides which events are delivered instead."""
    catalog.fault = OSError(28, "No space left on device")
    journal.put(JOB)
    journal.put(event(1))
    catalog.turn.release()
    await journal.flush()
    assert delivered == [event(99)]
