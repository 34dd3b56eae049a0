"""The journal: what has become of jobs is written down first, and told then."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.processing.mailbox import Reply
from creemson.storage.catalog import Catalog, JobRow

__all__ = ["Entry", "InThread", "Journal", "Told"]


@attrs.frozen
class Told:
    """What a connection is told about a request."""

    connection: str
    request: int
    reply: Reply


Entry: TypeAlias = JobRow | str | Told
"""A job to be written down, the id of one to be erased, or who is to be told what."""
InThread: TypeAlias = Callable[..., Awaitable[Any]]
"""Calls a function that blocks, with arguments, and does not keep the event loop waiting meanwhile."""


class Journal:
    """Entries are carried out in their order; those that come while the disk is busy share the next transaction.

    A transaction takes 0.15 ms of CPU besides the hop to a thread and back, and each row in it 0.007. So where many
    are coming, the first waits for some company. (Two hundred small jobs a second took 1.7 transactions each.)

    Args:
        catalog: to write to.
        tell: carries out a :class:`Told`.
        on_failure: is given the entries that could not be written, before what follows them is told; it returns
            what is to be told instead of each ``Told`` of that batch.
        logger: for what the operator should know.
        company: seconds to wait for more before a transaction begins.
        in_thread: for the catalog's sake; a mock clock knows no threads.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        tell: Callable[[Told], None],
        on_failure: Callable[[Sequence[Entry], OSError], Sequence[Told]],
        logger: FilteringBoundLogger,
        company: Callable[[], float] = lambda: 0.0,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._catalog = catalog
        self._in_thread = in_thread
        self._tell = tell
        self._on_failure = on_failure
        self._log = logger
        self._company = company
        self._entries: deque[Entry] = deque()
        self._writing = False
        self._filled = trio.Event()
        self._empty = trio.Event()

    async def load(self) -> list[JobRow]:
        """What has been written down, the oldest job first.

        Raises:
            OSError: the disk failed.
        """
        rows: list[JobRow] = await self._in_thread(self._catalog.jobs)
        return rows

    def put(self, entry: Entry) -> None:
        """Add an entry; somebody is told at once if nothing has to be written before."""
        if isinstance(entry, Told) and not self._entries and not self._writing:
            self._tell(entry)
            return
        self._entries.append(entry)
        self._filled.set()

    async def run(self) -> None:
        """Write and tell; ends by being cancelled."""
        while True:
            while not self._entries:
                self._empty.set()
                self._filled = trio.Event()
                await self._filled.wait()
            if wait := self._company():
                await trio.sleep(wait)
            batch = list(self._entries)
            self._entries.clear()
            self._writing = True
            told: Sequence[Told] = [entry for entry in batch if isinstance(entry, Told)]
            try:
                rows = [entry for entry in batch if not isinstance(entry, Told)]
                if rows:
                    await self._in_thread(self._catalog.record_jobs, rows)
            except OSError as error:
                self._log.error("jobs could not be written down", error=str(error))
                told = self._on_failure(batch, error)
            for entry in told:
                self._tell(entry)
            self._writing = False

    async def flush(self) -> None:
        """Wait until all is written and told."""
        while self._entries or self._writing:
            self._empty = trio.Event()
            await self._empty.wait()
