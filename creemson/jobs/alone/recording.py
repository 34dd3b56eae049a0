"""Records the jobs of a server alone in its catalog."""

from collections.abc import Collection, Sequence

import trio

from creemson.catalog.catalog import Catalog, JobRow
from creemson.errors import disk_error
from creemson.jobs.alone.versions import HeldVersions
from creemson.jobs.events import Accepted
from creemson.jobs.journal import Delivery, Entry, deliveries_of, rows_of
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.queue import JobQueue

__all__ = ["CatalogRecording"]


class CatalogRecording:
    """See :class:`creemson.jobs.journal.Recording`.

    Args:
        catalog: has the rows.
        queue: the jobs.
        actor: carries out the effects of what could not be recorded.
        versions: what the jobs hold.
    """

    def __init__(self, catalog: Catalog, *, queue: JobQueue, actor: Actor, versions: HeldVersions) -> None:
        self._catalog = catalog
        self._queue = queue
        self._actor = actor
        self._versions = versions

    def record(self, rows: Sequence[JobRow | str]) -> Collection[str]:
        """Record jobs; nobody else could have one."""
        self._catalog.record_jobs(rows)
        return ()

    def recorded(self, batch: Sequence[Entry], lost: Collection[str]) -> Sequence[Delivery]:
        """Release what ended jobs have needed."""
        del lost
        self._versions.release_ended(rows_of(batch))
        return deliveries_of(batch)

    def failed(self, batch: Sequence[Entry], error: OSError) -> Sequence[Delivery]:
        """Fail the new jobs that could not be recorded. The ends of other jobs are delivered anyway."""
        fault = disk_error(error)
        deliveries = deliveries_of(batch)
        accepted = {entry.reply.job for entry in deliveries if isinstance(entry.reply, Accepted)}
        refused = accepted & {entry.id for entry in batch if isinstance(entry, JobRow)}
        for job in refused:
            self._actor.apply(self._queue.fail(trio.current_time(), job, fault))
        self._versions.release_ended(rows_of(batch))
        return [
            entry
            for entry in deliveries
            if not (isinstance(entry.reply, Accepted) and entry.reply.job in refused)
        ]
