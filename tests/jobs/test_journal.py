"""The journal: records are written before later events are delivered."""

import pytest
import structlog
import trio

from creemson.jobs.events import Accepted
from creemson.jobs.journal import Delivery, Journal, deliveries_of, rows_of
from tests.catalog.test_sqlite import JOB


class SlowRecording:
    """Writes only when the test allows it."""

    def __init__(self):
        self.written = []
        self.fault = None
        self.lost = {"another server's"}
        self.turn = trio.Semaphore(0)

    def record(self, rows):
        if self.fault is not None:
            raise self.fault
        self.written.append(list(rows))
        return self.lost

    def recorded(self, batch, lost):
        assert lost == (self.lost if rows_of(batch) else ())
        return deliveries_of(batch)

    def failed(self, batch, error):
        return [event(99)]

    async def in_thread(self, function, *args):
        await self.turn.acquire()
        return function(*args)


def event(number):
    return Delivery("c", number, Accepted("j", 0))


@pytest.fixture
async def recording():
    return SlowRecording()


@pytest.fixture
async def delivered():
    return []


@pytest.fixture
async def journal(recording, delivered, nursery):
    journal = Journal(
        recording, deliver=delivered.append,
        logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]), in_thread=recording.in_thread,
    )  # fmt: skip
    nursery.start_soon(journal.run)
    return journal


async def test_event_without_pending_records_is_delivered_at_once(journal, delivered):
    """No record has to be written before it."""
    journal.put(event(1))
    assert delivered == [event(1)]


async def test_event_after_a_record_waits_until_it_is_written(journal, recording, delivered):
    """Records that arrive while the disk is busy share the next transaction."""
    journal.put(JOB)
    journal.put(event(1))
    await trio.testing.wait_all_tasks_blocked()
    for entry in (event(2), JOB, "j1", event(3)):
        journal.put(entry)
    assert delivered == []
    recording.turn.release()
    await trio.testing.wait_all_tasks_blocked()
    assert (delivered, recording.written) == ([event(1)], [[JOB]])
    recording.turn.release()
    await journal.flush()
    assert (delivered, recording.written) == ([event(1), event(2), event(3)], [[JOB], [JOB, "j1"]])
    await journal.flush()


async def test_first_record_waits_to_share_a_transaction(recording, delivered, nursery, autojump_clock):
    """It waits only if more records are expected."""
    many = [True, False]
    journal = Journal(
        recording, deliver=delivered.append, gather_time=lambda: 0.01 * many.pop(0), in_thread=recording.in_thread,
        logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]),
    )  # fmt: skip
    nursery.start_soon(journal.run)
    recording.turn = trio.Semaphore(2)
    began = trio.current_time()
    journal.put(JOB)
    await trio.sleep(0.009)
    assert (recording.written, delivered) == ([], [])
    journal.put("j1")
    journal.put(event(1))
    await journal.flush()
    assert (recording.written, delivered) == ([[JOB, "j1"]], [event(1)])
    assert trio.current_time() == pytest.approx(began + 0.01)
    journal.put(JOB)
    await journal.flush()
    assert len(recording.written) == 2
    assert trio.current_time() == pytest.approx(began + 0.01)


async def test_disk_error_replaces_the_delivered_events(journal, recording, delivered):
    """The recording decides which events are delivered instead."""
    recording.fault = OSError(28, "No space left on device")
    journal.put(JOB)
    journal.put(event(1))
    recording.turn.release()
    await journal.flush()
    assert delivered == [event(99)]
