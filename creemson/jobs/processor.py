"""The processor actor: one per server, shared by all connections.

The processor owns the job queue (:mod:`creemson.jobs.queue.queue` decides, this module carries out its effects) and
uses the executors. All its tasks run in one nursery. Commands arrive through its inbox; replies leave through ports,
which never block.
"""

import contextlib
import math
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import Catalog, JobRow
from creemson.catalog.shared.claims import LostClaimError
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import CreemsonError, ProcessingError, disk_error, internal_error
from creemson.executors import commands as worker_commands
from creemson.executors.commands import WorkerCommand
from creemson.executors.executor import Executor, OnProgress, TransientFault
from creemson.executors.memory import Memory
from creemson.jobs.commands import (
    Attach,
    CancelJob,
    Cancelled,
    CancelRequest,
    Command,
    Connect,
    Disconnect,
    FindFile,
    InboxMessage,
    JobsListed,
    ListJobs,
    Port,
    ReadColumns,
    ReadRows,
    Reply,
    StopLookUp,
    Submit,
    mark_cached,
)
from creemson.jobs.events import Accepted, Ended, Waiter
from creemson.jobs.journal import RUN, Delivery, Entry, InThread, Journal
from creemson.jobs.queue.job import Effect, Erase, Forget, Grant, Job, Notify, Record, Revoke, Start, Stop
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Work, job_of, key_of, reader, result_of_worker, row_of
from creemson.jobs.servers.shared_queue import SharedQueue
from creemson.jobs.sharing.bounds import Bound, bounds_of
from creemson.jobs.sharing.turns import SPARE, party_of
from creemson.jobs.work.imports import Imports
from creemson.jobs.work.lookups import Lookups
from creemson.jobs.work.publishing import output_target
from creemson.jobs.work.reading import MAX_CHANGES, always_changing, call_on
from creemson.jobs.work.renderings import Renderings
from creemson.metrics import Metrics
from creemson.model.converter import plain
from creemson.model.division import may_be_divided
from creemson.model.results import JobInfo, JobState, ResultData
from creemson.settings.sections import Settings
from creemson.storage.store import Found, Store
from creemson.storage.stores import Stores

__all__ = ["Processor"]

GATHER_TIME = 0.01
"""Seconds in which records are collected for one transaction while jobs wait for a worker: then the workers are the
bottleneck, and the delay costs nothing."""
TIDY_INTERVAL = 60.0
"""Seconds between two searches for ended jobs that can be forgotten."""
MAX_MACHINES = 20
"""Maximum number of machines that a job tells of in one attempt."""
STOP_GRACE = 2.0
"""Maximum seconds for attempts to stop at the end of a drain; the executor kills workers within a fraction of this."""


class Processor:
    """Handles commands, runs jobs on executors, and replies to connections.

    Args:
        settings: Effective settings.
        stores: the stores of all callers.
        catalog: records jobs.
        inbox: receives the commands of the connections.
        workers: executor for jobs; one of the commands that it runs at once is for the spare slot.
        quick: executor for commands that must not wait for jobs.
        logger: Logger.
        wall_clock: returns seconds since 1970.
        memory: decides whether new work must be refused; None disables the check.
        metrics: gets the durations of jobs.
        sharing: what this server shares with others; None if it is alone.
        in_thread: see :class:`Journal`.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        stores: Stores,
        catalog: Catalog,
        inbox: trio.MemoryReceiveChannel[InboxMessage],
        workers: Executor,
        quick: Executor,
        logger: FilteringBoundLogger,
        wall_clock: Callable[[], float],
        metrics: Metrics,
        memory: Memory | None = None,
        sharing: Sharing | None = None,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._wall_clock = wall_clock
        self._memory = memory
        self._metrics = metrics
        self._epoch = 0.0  # seconds since 1970 at time 0 of the event loop
        self._journal = Journal(
            catalog,
            deliver=self._deliver,
            on_failure=self._fail_unrecorded,
            on_written=self._written,
            record=None if sharing is None else self._record_shared,
            on_lost=self._lost,
            logger=logger,
            gather_time=lambda: GATHER_TIME if self._jobs.queued else 0.0,
            # A thread of its own, because leases are short: the ends of jobs must not wait for transfers.
            in_thread=in_thread if sharing is None else partial(in_thread, limiter=trio.CapacityLimiter(1)),
        )
        self._inbox = inbox
        self._workers = workers
        self._log = logger
        bounds = bounds_of(settings)
        self._jobs = JobQueue(
            slots=workers.size - SPARE,
            slots_per_caller=settings.limits.jobs_per_caller,
            retries=settings.retries.job,
            # What several servers remember is in the catalog only.
            bounds=bounds if sharing is None else attrs.evolve(bounds, remembered=Bound(0, 0)),
        )
        self._shared: SharedQueue | None = None
        if sharing is not None:
            self._shared = SharedQueue(
                sharing,
                queue=self._jobs,
                bounds=bounds,
                running_of_caller=settings.limits.jobs_per_caller,
                processing=self,
                in_thread=in_thread,
                keep_outputs=settings.storage.keep_outputs,
                logger=logger,
            )
        self._renderings = Renderings(
            workers=workers,
            timeout=settings.timeouts.job,
            in_thread=in_thread,
            request=lambda lease: self.apply(self._jobs.request(trio.current_time(), lease)),
            release=lambda lease: self.apply(self._jobs.release(trio.current_time(), lease)),
            logger=logger,
        )
        self._imports = Imports(
            stores=stores,
            workers=workers,
            timeout=settings.timeouts.job,
            metrics=metrics,
            in_thread=in_thread,
            logger=logger,
        )
        self._lookups = Lookups(
            stores=stores,
            quick=quick,
            renderings=self._renderings,
            copy_of=self._imports.copy_of,
            bound=bounds.lookups,
            timeout=settings.timeouts.job,
            limits=worker_commands.answer_limits(settings.limits),
            # Not through the journal: no record must precede the answer, so it need not wait for a slow catalog.
            reply=lambda *answer: self._deliver(Delivery(*answer)),
            logger=logger,
        )
        self._in_thread = in_thread
        self._ports: dict[str, Port] = {}  # by connection
        self._held: dict[str, tuple[str, str]] = {}  # by unfinished job: caller and version of the file
        self._scopes: dict[str, trio.CancelScope] = {}  # by job: of running attempts
        self._nursery: trio.Nursery | None = None
        self._wake_at = math.inf  # time of the next tick
        self._wake = trio.Event()  # set when the next tick is due earlier
        self._quiet = trio.Event()  # set when no attempt runs

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Restore the jobs of the previous server, then handle commands until all senders have closed the inbox."""
        self._epoch = self._wall_clock() - trio.current_time()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._journal.run)
            storage = self._settings.storage
            await self._imports.open(reader(), storage.tables_bytes if storage.tables == "auto" else 0)
            if self._shared is None:
                await self._restore()
            else:
                await self._nursery.start(self._shared.run)
            self._nursery.start_soon(self._imports.run)
            self._nursery.start_soon(self._run_timer)
            self._nursery.start_soon(self._follow_size)
            await self._nursery.start(self._renderings.run)
            if self._shared is None:
                self._nursery.start_soon(self._tidy)
            task_status.started()
            # Closed in any case at the end, so that no sender waits for a processor that has ended.
            async with self._inbox:
                async for command in self._inbox:
                    self._handle(command)
            self._nursery.cancel_scope.cancel()

    def totals(self) -> Mapping[str, int]:
        """Count the jobs for the metrics: those of this server; but those that wait, of all that share them."""
        if self._shared is None:
            return self._jobs.counts()
        return {**self._jobs.counts(), "queued": self._shared.others.counts()["queued"]}

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Count jobs; see :meth:`JobQueue.counts`."""
        return self._jobs.counts(caller) if self._shared is None else self._shared.others.counts(caller)

    async def drain(self, grace: float) -> None:
        """Stop accepting jobs and let running attempts finish; stop them after ``grace`` seconds."""
        self._imports.stop()
        if self._shared is not None and await self._shared.has_others():
            grace = 0  # the others start the jobs again at once
        self.apply(self._jobs.drain(trio.current_time()))
        with trio.move_on_after(grace):
            await self._until_quiet()
        self.apply(self._jobs.stop_all(trio.current_time()))
        if self._shared is not None:
            await self._journal.flush()
            await self._shared.hand_over()
        with trio.move_on_after(STOP_GRACE):
            await self._until_quiet()
        await self._journal.flush()

    async def _until_quiet(self) -> None:
        while self._jobs.used:
            self._quiet = trio.Event()
            await self._quiet.wait()

    # --- commands ------------------------------------------------------------------------------------

    def _handle(self, command: InboxMessage) -> None:
        match command:
            case Connect():
                self._ports[command.connection] = command.port
            case Disconnect():
                self._ports.pop(command.connection, None)
                self._lookups.disconnect(command.connection)
                if self._shared is not None:
                    self._shared.put(command)
                else:
                    self.apply(self._jobs.disconnect(trio.current_time(), command.connection))
            case Command():
                try:
                    self._handle_request(command)
                except CreemsonError as error:
                    self.reply(command.connection, command.request, Ended(None, None, error=error))
                except Exception:
                    # A fault in one request, for example of the disk, must not affect the others.
                    self._log.exception("request failed unexpectedly", connection=command.connection)
                    self.reply(command.connection, command.request, Ended(None, None, error=internal_error()))

    def _handle_request(self, command: Command) -> None:
        now = trio.current_time()
        match command.ask:
            case Submit() | Attach() | ListJobs() | CancelJob() if self._shared is not None:
                self._shared.put(command)
            case Submit() as ask:
                self._submit(now, command, ask)
            case Attach(job, after):
                waiter = Waiter(command.connection, command.request)
                self.apply(self._jobs.attach(command.caller, job, after, waiter))
            case ListJobs():
                listed = tuple(map(self.info, self._jobs.of_caller(command.caller)))
                self.reply(command.connection, command.request, JobsListed(listed))
            case CancelJob(job):
                self.tell_cancelled(command, job, self._jobs.cancel(now, command.caller, job))
            case CancelRequest(other) if self._lookups.cancel(command.connection, other):
                fault = ProcessingError("cancelled", "The request was cancelled, as requested.")
                self.reply(command.connection, other, Ended(None, None, error=fault))
                self.reply(command.connection, command.request, Cancelled(None))
            case StopLookUp(other):
                self._lookups.cancel(command.connection, other)
            case CancelRequest() if self._shared is not None:
                self._shared.put(command)
            case CancelRequest(other):
                self.tell_cancelled(command, *self._jobs.leave(now, Waiter(command.connection, other)))
            case ReadColumns() | ReadRows() | FindFile() as ask:
                assert self._nursery is not None
                self._lookups.start(self._nursery, command, ask)

    def tell_cancelled(self, command: Command, job: str, effects: Sequence[Effect]) -> None:
        """Reply to a cancel before its effects are told, but after they are recorded: the job must not start again."""
        self.apply([effect for effect in effects if isinstance(effect, Record)])
        self.reply(command.connection, command.request, Cancelled(job))
        self.apply([effect for effect in effects if not isinstance(effect, Record)])

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
        store.check_quota()
        key, size_bytes = key_of(version, query, store.is_hidden)
        done = self._jobs.find_done(command.caller, key)
        if done is not None and store.has_output(done.work.output):
            for event in self._jobs.again(done):
                self.reply(command.connection, command.request, event)
            return True
        if done is not None:
            self.apply(self._jobs.forget(done.id))
        job = secrets.token_hex(8)
        if not self._hold(job, command.caller, query.filename, version):
            return False
        work = Work(query, key, command.caller, version)
        effects = self._jobs.submit(
            now,
            job=job,
            key=key,
            caller=command.caller,
            work=work,
            timeout=self._timeout(ask),
            waiter=Waiter(command.connection, command.request, ask.keep),
            party=party_of(command.caller, command.connection),
            size_bytes=size_bytes,
            refusal=self._memory.refusal() if self._memory is not None and self._memory.scarce else None,
        )
        if not any(isinstance(effect, Record) and effect.job.id == job for effect in effects):
            self._release(job)  # it was refused, or an equal job does the work
        self.apply(effects)
        return True

    def _timeout(self, ask: Submit) -> float:
        limit = self._settings.timeouts.job
        return limit if ask.timeout is None else min(limit, ask.timeout)

    def _hold(self, job: str, caller: str, name: str, version: str) -> bool:
        """Keep the bytes of a version for a job; return whether they could be found."""
        held = self._stores.of(caller).hold(name, version)
        if held:
            self._held[job] = caller, version
        return held

    def _release(self, job: str) -> None:
        """End :meth:`_hold`."""
        caller, version = self._held.pop(job, (None, ""))
        if caller is not None and self._stores.of(caller).release(version):
            assert self._nursery is not None
            self._nursery.start_soon(self._drop, self._stores.of(caller), version)

    def _release_ended(self, rows: Sequence[JobRow | str]) -> None:
        """Release what ended jobs held. Not before their end is recorded: until then, a crash starts them again."""
        for row in rows:
            if isinstance(row, JobRow) and row.state != "queued":
                self._release(row.id)

    def _written(self, rows: Sequence[JobRow | str]) -> None:
        if self._shared is None:
            self._release_ended(rows)
            return
        self._shared.owned.recorded(rows)
        ended = {
            (row.caller, row.version)
            for row in rows
            if isinstance(row, JobRow) and row.state != "queued" and row.version is not None
        }
        assert self._nursery is not None
        for caller, version in ended:
            self._nursery.start_soon(self._drop_kept, self._stores.of(caller), version)

    async def _drop_kept(self, store: Store, version: str) -> None:
        """Drop a version that a job of several servers has needed, if its file was replaced meanwhile."""
        try:
            is_kept = await self._in_thread(store.release, version)
        except OSError as error:  # a sweep tries again
            self._log.warning("kept bytes not removed", error=str(error))
            return
        if is_kept:
            await self._drop(store, version)

    def _record_shared(self, rows: Sequence[JobRow | str]) -> set[str]:
        assert self._shared is not None
        return self._shared.owned.record(rows)

    def _lost(self, batch: Sequence[Entry], jobs: Collection[str]) -> Sequence[Delivery]:
        assert self._shared is not None
        return self._shared.owned.lost(batch, jobs)

    async def _drop(self, store: Store, version: str) -> None:
        try:
            await self._in_thread(store.drop, version)
        except OSError as error:  # the next server tries again
            self._log.warning("kept bytes not removed", error=str(error))

    # --- for several servers -------------------------------------------------------------------------

    def register(self, connection: str, port: Port | None) -> None:
        """Let replies to a connection leave through a port; None: nowhere, from now on."""
        if port is None:
            self._ports.pop(connection, None)
        else:
            self._ports[connection] = port

    async def prepare(self, command: Command, ask: Submit) -> Job:
        """Return a new job for the present version of its file."""
        query = ask.query
        store = self._stores.of(command.caller)
        found = await self._in_thread(store.look_up, query.filename)
        await self._in_thread(store.check_quota)
        if self._memory is not None and self._memory.scarce:
            raise self._memory.refusal()
        key, size_bytes = await self._in_thread(key_of, found.version, query, store.is_hidden)
        return Job(
            secrets.token_hex(8),
            (command.caller, key),
            command.caller,
            Work(query, key, command.caller, found.version),
            self._timeout(ask),
            created=trio.current_time(),
            party=party_of(command.caller, command.connection),
            kept=ask.keep,
            size_bytes=size_bytes,
        )

    async def has_output(self, job: Job) -> bool:
        """Whether the output of a job that is done is still there."""
        has: bool = await self._in_thread(self._stores.of(job.caller).has_output, job.work.output)
        return has

    async def remove_output(self, job: Job) -> None:
        """Remove the output of a job that is done."""
        await self._in_thread(self._remove_output, job.work)

    async def rebind(self, job: Job) -> CreemsonError | None:
        """Let an unfinished job start on its version of the file; return the error if that is impossible."""
        work: Work = job.work
        store, name, version = self._stores.of(work.caller), work.query.filename, work.version
        try:
            if version is None:
                version = (await self._in_thread(store.look_up, name)).version
            if not await self._in_thread(store.hold, name, version):
                await self._in_thread(store.find_version, name, version)
            key, _ = await self._in_thread(key_of, version, work.query, store.is_hidden)
        except CreemsonError as error:
            return error
        _bind(job, version, key)
        return None

    def restored(self, row: JobRow) -> Job | None:
        """Return the job that a row describes; None if this version of the server does not understand it."""
        try:
            return job_of(row, self._epoch)
        except (ValueError, TypeError, KeyError, CreemsonError) as error:
            self._log.warning("a job cannot be restored", job=row.id, error=str(error))
            return None

    def row(self, job: Job) -> JobRow:
        """Return the row that describes a job."""
        return row_of(job, self._epoch)

    def now_in_row(self) -> float:
        """Return the time in seconds since 1970."""
        return trio.current_time() + self._epoch

    # --- effects -------------------------------------------------------------------------------------

    def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out effects of the queue."""
        assert self._nursery is not None
        notified = 0
        for effect in effects:
            match effect:
                case Notify(waiter, event):
                    notified += 1
                    delivery = Delivery(waiter.connection, waiter.request, event)
                    self._journal.put(delivery, later=notified > RUN)
                case Record(job):
                    self._record(job)
                case Erase() | Forget() if self._shared is not None:
                    pass  # another server may answer from it
                case Erase(name):
                    self._journal.put(name)
                case Grant(lease):
                    self._renderings.granted(lease)
                case Revoke(lease):
                    self._renderings.revoked(lease)
                case Start() | Stop():
                    self._start_or_stop(effect)
                case Forget(_, work):
                    self._remove_output(work)
        used, queued = self._jobs.used, self._jobs.queued
        if not used:
            self._quiet.set()
        has_room = not queued and used < self._workers.size - SPARE
        self._imports.jobs_changed(running=bool(used or queued), has_room=has_room)
        if self._jobs.next_wake() < self._wake_at:
            self._wake.set()
        if self._shared is not None:
            self._shared.taking.changed()

    def _start_or_stop(self, effect: Start | Stop) -> None:
        if isinstance(effect, Stop):
            self._scopes[effect.job].cancel()
            return
        assert self._nursery is not None
        # Created here and not in the task, because a cancel may come before the task has begun.
        scope = self._scopes[effect.job] = trio.CancelScope()
        self._nursery.start_soon(self._attempt, effect, scope)

    def _remove_output(self, work: Work) -> None:
        try:
            self._stores.of(work.caller).remove_output(work.output)
        except OSError as error:
            self._log.warning("output not removed", output=work.output, error=str(error))

    def _fail_unrecorded(self, batch: Sequence[Entry], error: OSError) -> Sequence[Delivery]:
        """Fail the new jobs that could not be recorded. The ends of other jobs are delivered anyway."""
        if self._shared is not None:  # when the database is back, the jobs start again
            return self._shared.owned.lost(batch, {entry.id for entry in batch if isinstance(entry, JobRow)})
        fault = disk_error(error)
        deliveries = [entry for entry in batch if isinstance(entry, Delivery)]
        accepted = {entry.reply.job for entry in deliveries if isinstance(entry.reply, Accepted)}
        refused = accepted & {entry.id for entry in batch if isinstance(entry, JobRow)}
        for job in refused:
            self.apply(self._jobs.fail(trio.current_time(), job, fault))
        return [
            entry
            for entry in deliveries
            if not (isinstance(entry.reply, Accepted) and entry.reply.job in refused)
        ]

    def reply(self, connection: str, request: int, reply: Reply) -> None:
        """Deliver a reply after all entries of the journal that precede it."""
        self._journal.put(Delivery(connection, request, reply))

    def _deliver(self, delivery: Delivery) -> None:
        port = self._ports.get(delivery.connection)
        if port is None:
            return
        try:
            port.deliver(delivery.request, delivery.reply)
        except Exception:
            # Ports must not raise; if one does, only its own connection suffers.
            self._log.exception("reply not delivered", connection=delivery.connection)
            del self._ports[delivery.connection]

    async def _run_timer(self) -> None:
        """Call ``tick`` when backoffs and timeouts are due."""
        while True:
            self._wake = trio.Event()
            self._wake_at = self._jobs.next_wake()
            with trio.move_on_at(self._wake_at):
                await self._wake.wait()
            self.apply(self._jobs.tick(trio.current_time()))

    async def _follow_size(self) -> None:
        """Let as many jobs run as there are workers."""
        while True:
            self.apply(self._jobs.resize(trio.current_time(), self._workers.size - SPARE))
            await self._workers.size_changed()

    # --- records -------------------------------------------------------------------------------------

    def _record(self, job: Job) -> None:
        """Record a job; once it has ended, keep only a part of it in memory."""
        row = row_of(job, self._epoch)
        self._journal.put(row)
        if job.ended:
            assert job.finished is not None
            seconds = job.finished - job.created
            self._metrics.job_seconds.labels(job.state).observe(seconds)
            self._log.debug(
                "job ended", job=job.id, caller=job.caller, state=job.state, seconds=round(seconds, 3)
            )
            job.work = job.work.lightened()
            if job.state == "done":  # from now on, it is served from cache
                job.value = mark_cached(job.value)
                self._expect_output(job)
            if self._shared is None:
                self.apply(self._jobs.set_size(job, len(row.outcome or "")))

    async def _restore(self) -> None:
        """Restore the jobs that the previous server recorded."""
        for row in await self._journal.load():
            try:
                job = job_of(row, self._epoch)
            except (ValueError, TypeError, KeyError, CreemsonError) as error:
                self._log.warning(
                    "a job of an earlier server cannot be restored", job=row.id, error=str(error)
                )
                self._journal.put(row.id)
                continue
            if job.state == "done":
                self._expect_output(job)
            fault = None if job.ended else await self._rebind(job)
            self.apply(self._jobs.restore(trio.current_time(), job, error=fault))
        try:
            await self._in_thread(self._stores.drop_unheld)
        except OSError as error:
            self._log.warning("kept bytes not removed", error=str(error))
        unfinished = len(self._jobs.unfinished())
        if unfinished:
            self._log.info("jobs of an earlier server start again", jobs=unfinished)

    def _expect_output(self, job: Job) -> None:
        """Let the store serve the output of a job that is done only with the size that the worker has reported."""
        output = job.value.output_data
        if output.size is not None:
            self._stores.of(job.caller).expect_output(job.work.output, output.size, output.texts_size)

    async def _rebind(self, job: Job) -> CreemsonError | None:
        """Let an unfinished job start again on its version of the file; return the error if that is impossible."""
        work: Work = job.work
        store, name = self._stores.of(work.caller), work.query.filename
        try:
            version = store.look_up(name).version if work.version is None else work.version
            await self._recognise(store, name, version)
            if not self._hold(job.id, work.caller, name, version):
                store.find_version(name, version)
        except CreemsonError as error:
            return error
        key, _ = key_of(version, work.query, store.is_hidden)
        _bind(job, version, key)
        return None

    def info(self, job: Job) -> JobInfo:
        """Return what clients are told about a job."""
        state: JobState = "queued" if job.is_waiting else job.state  # type: ignore[assignment]
        return JobInfo(
            job=job.id,
            state=state,
            filename=job.work.query.filename,
            created=round(job.created + self._epoch, 3),
            finished=None if job.finished is None else round(job.finished + self._epoch, 3),
            rows=job.value.output_data.rows if job.state == "done" else None,
        )

    async def _tidy(self) -> None:
        """Forget ended jobs that are older than ``storage.keep_outputs`` and whose output is gone."""
        while True:
            before = trio.current_time() - self._settings.storage.keep_outputs
            ended = self._jobs.ended_before(before)
            for job in ended:
                if not self._stores.of(job.caller).has_output(job.work.output):
                    self.apply(self._jobs.forget(job.id))
            await trio.sleep(TIDY_INTERVAL)

    # --- tasks ---------------------------------------------------------------------------------------

    async def _attempt(self, start: Start, scope: trio.CancelScope) -> None:
        """Run one attempt of a job on a worker and report its end."""
        work: Work = start.work
        began = trio.current_time()
        log = self._log.bind(job=start.job, attempt=start.attempt)
        value: ResultData | None = None
        error: CreemsonError | None = None
        transient = False

        phase, since = "reading", began  # of the attempt, for the metrics
        if start.attempt == 1:
            self._metrics.phase_seconds.labels("queued").observe(start.waited)

        machines: set[str] = set()

        def on_progress(figures: Mapping[str, Any]) -> None:
            nonlocal phase, since
            machine = figures.get("machine")
            if machine is not None:
                figures = {name: value for name, value in figures.items() if name != "machine"}
                if machine not in machines and len(machines) < MAX_MACHINES:
                    machines.add(machine)
                    self.apply(self._jobs.note(start.job, start.attempt, f"The job runs on {machine}."))
            if figures["phase"] != phase:
                now = trio.current_time()
                self._metrics.phase_seconds.labels(phase).observe(now - since)
                phase, since = figures["phase"], now
            self.apply(self._jobs.progress(trio.current_time(), start.job, start.attempt, figures))

        with scope:
            try:
                outcome = await self._run_query(start.job, work, on_progress)
                value = result_of_worker(work.output, outcome, elapsed=trio.current_time() - began)
            except TransientFault as fault:
                error, transient = fault.error, True
            except CreemsonError as fault:
                error, transient = fault, fault.reason == "worker_died"
            except OSError as fault:  # of the object store, when the output was published
                log.warning("output not published", error=str(fault))
                error, transient = disk_error(fault), True
            except LostClaimError:
                log.info("the job is another server's by now")
            except Exception:
                # A fault in one job must not affect the others.
                log.exception("job failed unexpectedly")
                error = internal_error()
        self._metrics.phase_seconds.labels(phase).observe(trio.current_time() - since)
        del self._scopes[start.job]
        if error is not None:
            log.info("attempt failed", reason=error.reason, error=error.message, transient=transient)
        elif scope.cancelled_caught:
            log.info("attempt stopped")
        self.apply(
            self._jobs.attempt_ended(
                trio.current_time(), start.job, start.attempt, value=value, error=error, transient=transient
            )
        )

    async def _run_query(self, job: str, work: Work, on_progress: OnProgress) -> Any:
        """Run a query on the version of the file for which it was accepted, and publish the output."""
        assert work.version is not None  # see _rebind
        store, query = self._stores.of(work.caller), plain(work.query)

        def command(found: Found, target: str) -> WorkerCommand:
            copy = self._imports.copy_of(work.caller, work.query.filename, found, work.query.options)
            return worker_commands.run(
                query,
                source=found.path,
                identity=found.identity,
                target=target,
                limits=worker_commands.answer_limits(self._settings.limits),
                room=store.room(),
                copy=copy,
                shared_copy=None if copy is None else self._stores.tables.shared(copy),
                is_output=not store.is_upload(found),
                may_be_divided=may_be_divided(work.query),
            )

        find = partial(store.find_version, work.query.filename, work.version)
        await self._recognise(store, work.query.filename, work.version)
        claim = None if self._shared is None else self._shared.owned.leases.claim_of(job)
        if claim is None and self._shared is not None:
            raise LostClaimError(job)
        async with output_target(store, work.output, self._in_thread, claim) as target:
            return await call_on(
                self._workers, find, lambda found: command(found, target), on_progress=on_progress
            )

    async def _recognise(self, store: Store, name: str, version: str) -> None:
        """If a version cannot be found, compute the digest of the file: perhaps only its time has changed."""
        try:
            store.find_version(name, version)
        except CreemsonError:
            with contextlib.suppress(OSError):
                await self._in_thread(store.recognise, name, version)


def _bind(job: Job, version: str, key: str) -> None:
    """Set the version on which a job works; its key changes if the server that accepted it reads files otherwise."""
    job.work = attrs.evolve(job.work, key=key, version=version)
    job.key = (job.caller, key)
