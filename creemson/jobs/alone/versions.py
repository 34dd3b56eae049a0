"""Keeps the versions of files that the unfinished jobs of a server alone need."""

from collections.abc import Iterable

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import JobRow
from creemson.errors import CreemsonError
from creemson.jobs.journal import InThread, directly
from creemson.jobs.queue.job import Job
from creemson.jobs.records import Work, key_of
from creemson.jobs.versions import bind, drop, recognise
from creemson.storage.stores import Stores

__all__ = ["HeldVersions"]


class HeldVersions:
    """The versions that jobs hold.

    Args:
        stores: the stores of all callers.
        in_thread: runs what blocks in a thread.
        logger: Logger.
    """

    def __init__(self, stores: Stores, *, in_thread: InThread, logger: FilteringBoundLogger) -> None:
        self._stores = stores
        self._in_thread = in_thread
        self._log = logger
        self._held: dict[str, tuple[str, str]] = {}  # by unfinished job: caller and version of the file
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Remove what no job holds any longer, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def hold(self, job: str, caller: str, name: str, version: str) -> bool:
        """Keep the bytes of a version for a job; return whether they could be found."""
        held = self._stores.of(caller).versions.hold(name, version)
        if held:
            self._held[job] = caller, version
        return held

    def release(self, job: str) -> None:
        """End :meth:`hold`."""
        caller, version = self._held.pop(job, (None, ""))
        if caller is not None and self._stores.of(caller).versions.release(version):
            assert self._nursery is not None
            self._nursery.start_soon(
                drop, self._stores.of(caller).versions, version, self._in_thread, self._log
            )

    def release_ended(self, rows: Iterable[JobRow | str]) -> None:
        """Release what ended jobs held. Not before their end is recorded: until then, a crash starts them again."""
        for row in rows:
            if isinstance(row, JobRow) and row.state != "queued":
                self.release(row.id)

    async def rebind(self, job: Job) -> CreemsonError | None:
        """Let an unfinished job start again on its version of the file; return the error if that is impossible."""
        work: Work = job.work
        store, name = self._stores.of(work.caller), work.query.filename
        try:
            version = store.look_up(name).version if work.version is None else work.version
            await recognise(store.versions, name, version, ask=directly, in_thread=self._in_thread)
            if not self.hold(job.id, work.caller, name, version):
                store.versions.find(name, version)
        except CreemsonError as error:
            return error
        key, _ = key_of(version, work.query, store.outputs.is_hidden)
        bind(job, version, key)
        return None
