"""Keeps the jobs of a server alone: carries out the requests, and takes over the jobs of the server before it."""

import secrets
from collections.abc import Callable, Mapping

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import Catalog
from creemson.errors import CreemsonError
from creemson.jobs.alone.recording import CatalogRecording
from creemson.jobs.alone.versions import HeldVersions
from creemson.jobs.commands import (
    Attach,
    CancelJob,
    CancelRequest,
    Command,
    Disconnect,
    JobsListed,
    ListJobs,
    Submit,
)
from creemson.jobs.events import Waiter
from creemson.jobs.journal import InThread
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.effects import Erase, Record
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records, Work, key_of
from creemson.jobs.sharing.turns import party_of
from creemson.jobs.work.publishing import expect_output
from creemson.jobs.work.reading import MAX_CHANGES, always_changing
from creemson.settings.sections import Settings
from creemson.storage.stores import Stores

__all__ = ["Alone"]

TIDY_INTERVAL = 60.0
"""Seconds between two searches for ended jobs that can be forgotten."""


class Alone:
    """The jobs of a server alone; see :class:`creemson.jobs.keeper.Keeper`.

    Args:
        settings: Effective settings.
        catalog: records jobs.
        stores: the stores of all callers.
        queue: the jobs.
        actor: the processor.
        records: converts jobs to rows and back.
        refusal: returns the error if no new job can be accepted now.
        in_thread: runs what blocks in a thread.
        logger: Logger.

    Attributes:
        recording: records the jobs.
        remembers: True: the queue has all ended jobs.
    """

    remembers = True

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        stores: Stores,
        queue: JobQueue,
        actor: Actor,
        records: Records,
        refusal: Callable[[], CreemsonError | None],
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._timeout = settings.timeouts.job
        self._keep_outputs = settings.storage.keep_outputs
        self._catalog = catalog
        self._stores = stores
        self._queue = queue
        self._actor = actor
        self._records = records
        self._refusal = refusal
        self._in_thread = in_thread
        self._log = logger
        self._versions = HeldVersions(stores, in_thread=in_thread, logger=logger)
        self.recording = CatalogRecording(catalog, queue=queue, actor=actor, versions=self._versions)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Restore the jobs of the previous server; then forget old ones, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._versions.run)
            await self._restore()
            nursery.start_soon(self._tidy)
            task_status.started()

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Count jobs by state; see :meth:`JobQueue.counts`."""
        return self._queue.counts(caller)

    def totals(self) -> Mapping[str, int]:
        """Count all jobs."""
        return self._queue.counts()

    # --- requests ------------------------------------------------------------------------------------

    def put(self, command: Command | Disconnect) -> None:
        """Carry out a request that concerns jobs, or the end of a connection.

        Raises:
            CreemsonError: the request is refused.
        """
        now = trio.current_time()
        if isinstance(command, Disconnect):
            self._actor.apply(self._queue.disconnect(now, command.connection))
            return
        match command.ask:
            case Submit() as ask:
                self._submit(now, command, ask)
            case Attach(job, after):
                waiter = Waiter(command.connection, command.request)
                self._actor.apply(self._queue.attach(command.caller, job, after, waiter))
            case ListJobs():
                listed = tuple(map(self._records.info, self._queue.of_caller(command.caller)))
                self._actor.reply(command.connection, command.request, JobsListed(listed))
            case CancelJob(job):
                self._actor.tell_cancelled(command, job, self._queue.cancel(now, command.caller, job))
            case CancelRequest(other):
                waiter = Waiter(command.connection, other)
                self._actor.tell_cancelled(command, *self._queue.leave(now, waiter))

    def _submit(self, now: float, command: Command, ask: Submit) -> None:
        """Accept a job for the present version of its file, unless the work has been done already."""
        for _ in range(MAX_CHANGES):
            if self._try_submit(now, command, ask):
                return
        raise always_changing(ask.query.filename)

    def _try_submit(self, now: float, command: Command, ask: Submit) -> bool:
        """Submit a job; return False if the file was replaced before its version could be held."""
        query = ask.query
        store = self._stores.of(command.caller)
        version = store.look_up(query.filename).version
        store.quota.check()
        key, size_bytes = key_of(version, query, store.outputs.is_hidden)
        done = self._queue.find_done(command.caller, key)
        if done is not None and store.outputs.has(done.work.output):
            for event in self._queue.again(done):
                self._actor.reply(command.connection, command.request, event)
            return True
        if done is not None:
            self._actor.apply(self._queue.forget(done.id))
        job = secrets.token_hex(8)
        if not self._versions.hold(job, command.caller, query.filename, version):
            return False
        effects = self._queue.submit(
            now,
            job=job,
            key=key,
            caller=command.caller,
            work=Work(query, key, command.caller, version),
            timeout=ask.timeout_within(self._timeout),
            waiter=Waiter(command.connection, command.request, ask.keep),
            party=party_of(command.caller, command.connection),
            size_bytes=size_bytes,
            refusal=self._refusal(),
        )
        if not any(isinstance(effect, Record) and effect.job.id == job for effect in effects):
            self._versions.release(job)  # it was refused, or an equal job does the work
        self._actor.apply(effects)
        return True

    # --- what is remembered --------------------------------------------------------------------------

    async def _restore(self) -> None:
        """Restore the jobs that the previous server recorded."""
        for row in await self._in_thread(self._catalog.jobs):
            job = self._records.restored(row, "a job of an earlier server cannot be restored")
            if job is None:
                self._actor.apply([Erase(row.id)])
                continue
            if job.state == "done":
                expect_output(self._stores, job)
            fault = None if job.ended else await self._versions.rebind(job)
            self._actor.apply(self._queue.restore(trio.current_time(), job, error=fault))
        try:
            await self._in_thread(self._stores.drop_unheld)
        except OSError as error:
            self._log.warning("kept bytes not removed", error=str(error))
        unfinished = len(self._queue.unfinished())
        if unfinished:
            self._log.info("jobs of an earlier server start again", jobs=unfinished)

    async def _tidy(self) -> None:
        """Forget ended jobs that are older than ``storage.keep_outputs`` and whose output is gone."""
        while True:
            for job in self._queue.ended_before(trio.current_time() - self._keep_outputs):
                if not self._stores.of(job.caller).outputs.has(job.work.output):
                    self._actor.apply(self._queue.forget(job.id))
            await trio.sleep(TIDY_INTERVAL)

    # --- what concerns several servers only ----------------------------------------------------------

    def changed(self) -> None:
        """Do nothing: jobs that wait are in the queue."""

    def claim_of(self, job: str) -> None:
        """Return None: no other server could have a job."""
        del job

    async def leave(self) -> bool:
        """Return False: unfinished jobs wait for the next server."""
        return False

    async def hand_over(self) -> None:
        """Do nothing, for the same reason."""
