"""Looks at the jobs of all servers: counts them, and lets those wait again whose owners are gone."""

from collections import Counter

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.jobs.rows import Stored
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import ProcessingError
from creemson.jobs.journal import InThread
from creemson.jobs.queue.errors import too_many_restarts
from creemson.jobs.queue.queue import COUNTED, MAX_RESTARTS
from creemson.jobs.records import Records, outcome_of
from creemson.jobs.servers.following.relay import LOOK
from creemson.jobs.servers.taking import Taking

__all__ = ["Others"]


class Others:
    """The jobs of all servers; each server does this for all.

    Args:
        sharing: the rows.
        taking: may take the jobs that wait again.
        records: converts jobs to rows and back.
        in_thread: runs what blocks.
        logger: Logger.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        taking: Taking,
        records: Records,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._owned = sharing.jobs.owned
        self._known = sharing.jobs.known
        self._taking = taking
        self._records = records
        self._in_thread = in_thread
        self._log = logger
        self._counts: Counter[tuple[str, str]] = Counter()  # of the last look: by caller and state

    def counts(self, caller: str | None = None) -> dict[str, int]:
        """Count the jobs of all servers, as they were a second ago."""
        counted: Counter[str] = Counter()
        for (owner, state), number in self._counts.items():
            if caller in (None, owner):
                counted[state] += number
        return {state: counted[state] for state in COUNTED}

    async def run(self) -> None:
        """Look at times, until cancelled."""
        while True:
            try:
                for orphan in await self._in_thread(self._owned.orphans):
                    await self._end(orphan)
                    self._taking.look()
                counted = await self._in_thread(self._known.counts)
            except OSError as error:
                self._log.warning("jobs of other servers not read", error=str(error))
            else:
                self._counts = Counter()
                for caller, state, owned, number in counted:
                    shown = "running" if owned and state == "queued" else state
                    self._counts[caller, shown] += number
            await trio.sleep(LOOK)

    async def _end(self, orphan: Stored) -> None:
        """End a job that nobody shall start again."""
        error: ProcessingError | None = None
        if not orphan.row.kept:
            error = ProcessingError(
                "worker_died",
                "The server that had the job was stopped or cut off, and the job was to end with its connection. "
                "Ask again.",
            )
        elif orphan.row.restarts > MAX_RESTARTS:
            error = too_many_restarts(orphan.row.restarts)
        if error is not None:
            now = self._records.now()
            await self._in_thread(self._owned.settle, orphan.row.id, orphan.epoch, outcome_of(error), now)
        else:
            self._log.info("job of another server starts again", job=orphan.row.id)
