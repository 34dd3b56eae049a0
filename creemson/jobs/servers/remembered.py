"""Forgets ended jobs of all servers, with their outputs."""

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import JobRow
from creemson.catalog.shared.jobs.ended import EndedJobs
from creemson.jobs.journal import InThread
from creemson.jobs.records import Records
from creemson.jobs.servers.files import JobFiles
from creemson.jobs.sharing.bounds import Bounds

__all__ = ["Remembered"]

TRIM = 30.0
"""Seconds between two removals of jobs that need not be remembered."""


class Remembered:
    """The ended jobs; each server does this for all.

    Args:
        rows: the ended jobs of all servers.
        bounds: how many are remembered.
        keep_outputs: seconds after which an ended job is forgotten, if its output is gone.
        records: converts jobs to rows and back.
        files: the files of all jobs.
        in_thread: runs what blocks.
        logger: Logger.
    """

    def __init__(
        self,
        rows: EndedJobs,
        *,
        bounds: Bounds,
        keep_outputs: float,
        records: Records,
        files: JobFiles,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._rows = rows
        self._bounds = bounds
        self._keep_outputs = keep_outputs
        self._records = records
        self._files = files
        self._in_thread = in_thread
        self._log = logger

    async def run(self) -> None:
        """Forget the oldest jobs at times, until cancelled."""
        bounds = self._bounds
        while True:
            await trio.sleep(TRIM)
            try:
                forgotten = await self._in_thread(
                    self._rows.trim,
                    bounds.remembered.per_caller,
                    bounds.remembered.total,
                    bounds.remembered_bytes.per_caller,
                    bounds.remembered_bytes.total,
                )
                for stored in forgotten:
                    await self._remove_output(stored.row)
                await self._forget_without_output()
            except OSError as error:
                self._log.warning("old jobs not forgotten", error=str(error))

    async def _remove_output(self, row: JobRow) -> None:
        """Remove the output of a job that is forgotten, unless an equal job needs it."""
        if row.state != "done" or await self._in_thread(self._rows.answers, row.caller, row.key):
            return
        job = self._records.restored(row)
        if job is not None:
            await self._files.remove_output(job)

    async def _forget_without_output(self) -> None:
        before = self._records.now() - self._keep_outputs
        for stored in await self._in_thread(self._rows.ended_before, before):
            job = self._records.restored(stored.row)
            if job is None or not await self._files.has_output(job):
                await self._in_thread(self._rows.forget, [stored.row.id])
