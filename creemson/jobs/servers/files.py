"""The files of jobs, in a store that several servers share: what they read, and their outputs."""

from collections.abc import Iterable

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import JobRow
from creemson.errors import CreemsonError
from creemson.jobs.journal import InThread
from creemson.jobs.queue.job import Job
from creemson.jobs.records import Work, key_of
from creemson.jobs.versions import bind, drop
from creemson.jobs.work.publishing import remove_output
from creemson.model.query import Query
from creemson.storage.store import HeldVersions
from creemson.storage.stores import Stores

__all__ = ["JobFiles"]


class JobFiles:
    """The files of all jobs.

    Args:
        stores: the stores of all callers.
        in_thread: runs what blocks in a thread.
        logger: Logger.
    """

    def __init__(self, stores: Stores, *, in_thread: InThread, logger: FilteringBoundLogger) -> None:
        self._stores = stores
        self._in_thread = in_thread
        self._log = logger
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Remove what no job needs any longer, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def version(self, caller: str, name: str) -> str:
        """Return the present version of a file, for a new job.

        Raises:
            ProcessingError: there is no such file, or the caller's quota is exceeded.
        """
        store = self._stores.of(caller)
        found = await self._in_thread(store.look_up, name)
        await self._in_thread(store.quota.check)
        version: str = found.version
        return version

    async def key_of(self, caller: str, version: str, query: Query) -> tuple[str, int]:
        """Return the key of the work of a job, and its size; see :func:`creemson.jobs.records.key_of`."""
        found: tuple[str, int] = await self._in_thread(
            key_of, version, query, self._stores.of(caller).outputs.is_hidden
        )
        return found

    async def rebind(self, job: Job) -> CreemsonError | None:
        """Let an unfinished job start on its version of the file; return the error if that is impossible."""
        work: Work = job.work
        store, name, version = self._stores.of(work.caller), work.query.filename, work.version
        try:
            if version is None:
                version = (await self._in_thread(store.look_up, name)).version
            if not await self._in_thread(store.versions.hold, name, version):
                await self._in_thread(store.versions.find, name, version)
            key, _ = await self.key_of(work.caller, version, work.query)
        except CreemsonError as error:
            return error
        bind(job, version, key)
        return None

    def ended(self, rows: Iterable[JobRow | str]) -> None:
        """Drop the versions that jobs which have ended needed, if their files were replaced meanwhile."""
        ended = {
            (row.caller, row.version)
            for row in rows
            if isinstance(row, JobRow) and row.state != "queued" and row.version is not None
        }
        assert self._nursery is not None
        for caller, version in ended:
            self._nursery.start_soon(self._drop_kept, self._stores.of(caller).versions, version)

    async def _drop_kept(self, versions: HeldVersions, version: str) -> None:
        try:
            is_kept = await self._in_thread(versions.release, version)
        except OSError as error:  # a sweep tries again
            self._log.warning("kept bytes not removed", error=str(error))
            return
        if is_kept:
            await drop(versions, version, self._in_thread, self._log)

    async def has_output(self, job: Job) -> bool:
        """Whether the output of a job that is done is still there."""
        has: bool = await self._in_thread(self._stores.of(job.caller).outputs.has, job.work.output)
        return has

    async def remove_output(self, job: Job) -> None:
        """Remove the output of a job that is done."""
        await self._in_thread(remove_output, self._stores, job.work, self._log)
