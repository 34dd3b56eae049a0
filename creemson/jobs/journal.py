"""The journal: records jobs in the catalog before clients are notified."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeAlias

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import Catalog, JobRow
from creemson.jobs.commands import Reply

__all__ = ["RUN", "Delivery", "Entry", "InThread", "Journal"]


@attrs.frozen
class Delivery:
    """A reply to a request of a connection."""

    connection: str
    request: int
    reply: Reply


RUN = 50
"""Number of deliveries that are made at once. One takes up to 0.1 ms, and a job may have thousands of waiters; after a
run, other tasks get their turn."""
Entry: TypeAlias = JobRow | str | Delivery
"""A job to record, the id of a job to erase, or a reply to deliver."""
InThread: TypeAlias = Callable[..., Awaitable[Any]]
"""Calls a blocking function with arguments, without blocking the event loop."""


class Journal:
    """Carries out entries in their order; entries that arrive while the disk is busy share the next transaction.

    A transaction takes 0.15 ms of CPU plus the switch to a thread and back, and each row in it 0.007 ms. So if many
    entries are expected, the first one waits for others. (Without this, each of two hundred small jobs a second took
    1.7 transactions.)

    Args:
        catalog: records the jobs.
        deliver: carries out a :class:`Delivery`.
        record: records rows, and deletes those given by id, in one transaction; returns the ids of the jobs that are
            another server's by now, and that it did not record. None: the catalog's own method, for a server alone.
        on_lost: called with a batch and these ids; returns the deliveries that must still be made.
        on_failure: called with a batch that could not be recorded, before later entries are carried out; returns the
            deliveries of this batch that must still be made.
        on_written: called with the rows of each batch when they are recorded, or have failed to be.
        logger: Logger.
        gather_time: returns the seconds to wait for more entries before a transaction begins.
        in_thread: runs the catalog's methods; tests with a mock clock replace it.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        deliver: Callable[[Delivery], None],
        on_failure: Callable[[Sequence[Entry], OSError], Sequence[Delivery]],
        on_written: Callable[[Sequence[JobRow | str]], None] = lambda _: None,
        record: Callable[[Sequence[JobRow | str]], Collection[str]] | None = None,
        on_lost: Callable[[Sequence[Entry], Collection[str]], Sequence[Delivery]] = lambda batch, _: (
            _deliveries(batch)
        ),
        logger: FilteringBoundLogger,
        gather_time: Callable[[], float] = lambda: 0.0,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._catalog = catalog
        self._in_thread = in_thread
        self._deliver = deliver
        self._record = record
        self._on_lost = on_lost
        self._on_failure = on_failure
        self._on_written = on_written
        self._log = logger
        self._gather_time = gather_time
        self._entries: deque[Entry] = deque()
        self._writing = False  # whether a batch is being carried out
        self._filled = trio.Event()  # set when there is an entry
        self._empty = trio.Event()  # set when there is none

    async def load(self) -> list[JobRow]:
        """Return all recorded jobs, oldest first.

        Raises:
            OSError: the disk failed.
        """
        rows: list[JobRow] = await self._in_thread(self._catalog.jobs)
        return rows

    def put(self, entry: Entry, *, later: bool = False) -> None:
        """Add an entry; a delivery is made at once if nothing must precede it.

        Args:
            entry: what to do.
            later: make the delivery not at once, but in a run with others, in which the event loop gets its turns.
        """
        if isinstance(entry, Delivery) and not (self._entries or self._writing or later):
            self._deliver(entry)
            return
        self._entries.append(entry)
        self._filled.set()

    async def run(self) -> None:
        """Carry out entries until cancelled."""
        while True:
            while not self._entries:
                self._empty.set()
                self._filled = trio.Event()
                await self._filled.wait()
            if wait := self._gather_time():
                await trio.sleep(wait)
            batch = list(self._entries)
            self._entries.clear()
            self._writing = True
            deliveries: Sequence[Delivery] = _deliveries(batch)
            rows = [entry for entry in batch if not isinstance(entry, Delivery)]
            try:
                if rows and self._record is None:
                    await self._in_thread(self._catalog.record_jobs, rows)
                elif rows and (lost := await self._in_thread(self._record, rows)):
                    deliveries = self._on_lost(batch, lost)
            except OSError as error:
                self._log.error("jobs could not be recorded", error=str(error))
                deliveries = self._on_failure(batch, error)
            self._on_written(rows)
            for number, entry in enumerate(deliveries, 1):
                self._deliver(entry)
                if not number % RUN:
                    await trio.lowlevel.checkpoint()
            self._writing = False

    async def flush(self) -> None:
        """Wait until all entries are carried out."""
        while self._entries or self._writing:
            self._empty = trio.Event()
            await self._empty.wait()


def _deliveries(batch: Sequence[Entry]) -> list[Delivery]:
    return [entry for entry in batch if isinstance(entry, Delivery)]
