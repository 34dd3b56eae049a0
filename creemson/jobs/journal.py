"""The journal: records jobs before clients are notified."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol, TypeAlias

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import JobRow
from creemson.jobs.commands import Reply

__all__ = [
    "RUN",
    "Delivery",
    "Entry",
    "InThread",
    "Journal",
    "Recording",
    "deliveries_of",
    "directly",
    "rows_of",
]


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


class Recording(Protocol):
    """How jobs are recorded."""

    def record(self, rows: Sequence[JobRow | str]) -> Collection[str]:
        """Record rows, and delete those given by id, in one transaction. Blocks.

        Returns:
            The ids of the jobs that are another server's by now, and that it did not record.

        Raises:
            OSError: nothing was recorded.
        """

    def recorded(self, batch: Sequence[Entry], lost: Collection[str]) -> Sequence[Delivery]:
        """Note that a batch was recorded, but for the jobs that are lost; return the deliveries to make of it."""

    def failed(self, batch: Sequence[Entry], error: OSError) -> Sequence[Delivery]:
        """Note that a batch could not be recorded, before later entries are carried out; return the same."""


class Journal:
    """Carries out entries in their order; entries that arrive while the disk is busy share the next transaction.

    A transaction takes 0.15 ms of CPU plus the switch to a thread and back, and each row in it 0.007 ms. So if many
    entries are expected, the first one waits for others. (Without this, each of two hundred small jobs a second took
    1.7 transactions.)

    Args:
        recording: records the jobs.
        deliver: carries out a :class:`Delivery`.
        logger: Logger.
        gather_time: returns the seconds to wait for more entries before a transaction begins.
        in_thread: runs what blocks; tests with a mock clock replace it.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        deliver: Callable[[Delivery], None],
        logger: FilteringBoundLogger,
        gather_time: Callable[[], float] = lambda: 0.0,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._recording = recording
        self._in_thread = in_thread
        self._deliver = deliver
        self._log = logger
        self._gather_time = gather_time
        self._entries: deque[Entry] = deque()
        self._writing = False  # whether a batch is being carried out
        self._filled = trio.Event()  # set when there is an entry
        self._empty = trio.Event()  # set when there is none

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
            rows = rows_of(batch)
            try:
                lost = await self._in_thread(self._recording.record, rows) if rows else ()
            except OSError as error:
                self._log.error("jobs could not be recorded", error=str(error))
                deliveries = self._recording.failed(batch, error)
            else:
                deliveries = self._recording.recorded(batch, lost)
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


def deliveries_of(batch: Sequence[Entry]) -> list[Delivery]:
    """Return the deliveries of a batch."""
    return [entry for entry in batch if isinstance(entry, Delivery)]


def rows_of(batch: Sequence[Entry]) -> list[JobRow | str]:
    """Return the jobs of a batch that are recorded or erased."""
    return [entry for entry in batch if not isinstance(entry, Delivery)]


async def directly(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that does not wait, in place of :data:`InThread`: a thread would take longer than it."""
    return function(*args)
