"""The processor actor: one per server, shared by all connections.

The processor owns the job queue (:mod:`creemson.jobs.queue.queue` decides, this module carries out its effects). A
keeper carries out the requests that concern jobs (:mod:`creemson.jobs.keeper`), and :mod:`creemson.jobs.work` uses the
executors. All tasks run in one nursery. Commands arrive through the inbox; replies leave through ports, which never
block.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import Catalog
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import CreemsonError, ProcessingError, internal_error
from creemson.executors import commands as worker_commands
from creemson.executors.executor import Executor
from creemson.executors.memory import Memory
from creemson.jobs.alone.alone import Alone
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
    ListJobs,
    Port,
    ReadColumns,
    ReadRows,
    Reply,
    StopLookUp,
    Submit,
    mark_cached,
)
from creemson.jobs.events import Ended
from creemson.jobs.journal import RUN, Delivery, InThread, Journal, directly
from creemson.jobs.keeper import Keeper
from creemson.jobs.queue.effects import Effect, Erase, Forget, Grant, Notify, Record, Revoke, Start, Stop
from creemson.jobs.queue.job import Job
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records, reader
from creemson.jobs.servers.shared_queue import SharedQueue
from creemson.jobs.sharing.bounds import Bound, bounds_of
from creemson.jobs.sharing.turns import SPARE
from creemson.jobs.work.attempts import Attempts
from creemson.jobs.work.imports import Imports
from creemson.jobs.work.lookups import Lookups
from creemson.jobs.work.publishing import expect_output, remove_output
from creemson.jobs.work.renderings import Renderings
from creemson.metrics import Metrics
from creemson.settings.sections import Settings
from creemson.storage.stores import Stores

__all__ = ["Processor"]

GATHER_TIME = 0.01
"""Seconds in which records are collected for one transaction while jobs wait for a worker: then the workers are the
bottleneck, and the delay costs nothing."""
ASKING = 4
"""Number of threads that ask a database where files are; it has one connection for that."""
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
        self._memory = memory
        self._metrics = metrics
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
        self._records = Records(trio.current_time, wall_clock, logger=logger)
        self._keeper: Keeper
        if sharing is None:
            self._keeper = Alone(
                settings=settings, catalog=catalog, stores=stores, queue=self._jobs, actor=self,
                records=self._records, refusal=self._refusal, in_thread=in_thread, logger=logger,
            )  # fmt: skip
        else:
            self._keeper = SharedQueue(
                sharing, settings=settings, stores=stores, queue=self._jobs, bounds=bounds, actor=self,
                records=self._records, refusal=self._refusal, in_thread=in_thread, logger=logger,
            )  # fmt: skip
        self._journal = Journal(
            self._keeper.recording,
            deliver=self._deliver,
            logger=logger,
            gather_time=lambda: GATHER_TIME if self._jobs.slots.queued else 0.0,
            # A thread of its own, because leases are short: the ends of jobs must not wait for transfers.
            in_thread=in_thread if sharing is None else partial(in_thread, limiter=trio.CapacityLimiter(1)),
        )
        # Where files are is in memory or on this machine if the server is alone; else a database tells, which may hang.
        # The event loop never waits for it, and transfers do not wait for these threads.
        ask = directly if sharing is None else partial(in_thread, limiter=trio.CapacityLimiter(ASKING))
        self._renderings = Renderings(
            workers=workers,
            timeout=settings.timeouts.job,
            ask=ask,
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
        limits = worker_commands.answer_limits(settings.limits)
        self._attempts = Attempts(
            stores=stores,
            workers=workers,
            queue=self._jobs,
            apply=self.apply,
            copy_of=self._imports.copy_of,
            claim_of=self._keeper.claim_of,
            limits=limits,
            metrics=metrics,
            ask=ask,
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
            limits=limits,
            # Not through the journal: no record must precede the answer, so it need not wait for a slow catalog.
            reply=lambda *answer: self._deliver(Delivery(*answer)),
            ask=ask,
            logger=logger,
        )
        self._ports: dict[str, Port] = {}  # by connection
        self._nursery: trio.Nursery | None = None
        self._wake_at = math.inf  # time of the next tick
        self._wake = trio.Event()  # set when the next tick is due earlier
        self._quiet = trio.Event()  # set when no attempt runs

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle commands until all senders have closed the inbox."""
        self._records.begin()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._journal.run)
            storage = self._settings.storage
            await self._imports.open(reader(), storage.tables_bytes if storage.tables == "auto" else 0)
            await self._nursery.start(self._keeper.run)
            self._nursery.start_soon(self._imports.run)
            self._nursery.start_soon(self._run_timer)
            self._nursery.start_soon(self._follow_size)
            await self._nursery.start(self._renderings.run)
            task_status.started()
            # Closed in any case at the end, so that no sender waits for a processor that has ended.
            async with self._inbox:
                async for command in self._inbox:
                    self._handle(command)
            self._nursery.cancel_scope.cancel()

    def totals(self) -> Mapping[str, int]:
        """Count the jobs for the metrics: those of this server; but those that wait, of all that share them."""
        return self._keeper.totals()

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Count jobs; see :meth:`JobQueue.counts`."""
        return self._keeper.counts(caller)

    async def drain(self, grace: float) -> None:
        """Stop accepting jobs and let running attempts finish; stop them, and look-ups, after ``grace`` seconds."""
        self._imports.stop()
        if await self._keeper.leave():
            grace = 0
        self.apply(self._jobs.drain(trio.current_time()))
        with trio.move_on_after(grace):
            await self._until_quiet()
        self.apply(self._jobs.stop_all(trio.current_time()))
        self._lookups.stop()
        await self._journal.flush()
        await self._keeper.hand_over()
        with trio.move_on_after(STOP_GRACE):
            await self._until_quiet()
        await self._journal.flush()

    def _refusal(self) -> CreemsonError | None:
        """Return the error if no new job can be accepted now."""
        return self._memory.refusal() if self._memory is not None and self._memory.scarce else None

    async def _until_quiet(self) -> None:
        while self._jobs.slots.used:
            self._quiet = trio.Event()
            await self._quiet.wait()

    # --- commands ------------------------------------------------------------------------------------

    def _handle(self, command: InboxMessage) -> None:
        match command:
            case Connect():
                self.register(command.connection, command.port)
            case Disconnect():
                self.register(command.connection, None)
                self._lookups.disconnect(command.connection)
                self._keeper.put(command)
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
        match command.ask:
            case CancelRequest(other) if self._lookups.cancel(command.connection, other):
                fault = ProcessingError("cancelled", "The request was cancelled, as requested.")
                self.reply(command.connection, other, Ended(None, None, error=fault))
                self.reply(command.connection, command.request, Cancelled(None))
            case StopLookUp(other):
                self._lookups.cancel(command.connection, other)
            case ReadColumns() | ReadRows() | FindFile() as ask:
                assert self._nursery is not None
                self._lookups.start(self._nursery, command, ask)
            case Submit() | Attach() | ListJobs() | CancelJob() | CancelRequest():
                self._keeper.put(command)

    def tell_cancelled(self, command: Command, job: str, effects: Sequence[Effect]) -> None:
        """Reply to a cancel before its effects are told, but after they are recorded: the job must not start again."""
        self.apply([effect for effect in effects if isinstance(effect, Record)])
        self.reply(command.connection, command.request, Cancelled(job))
        self.apply([effect for effect in effects if not isinstance(effect, Record)])

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
                case Erase() | Forget() if not self._keeper.remembers:
                    pass  # another server may answer from it
                case Erase(name):
                    self._journal.put(name)
                case Grant(lease):
                    self._renderings.granted(lease)
                case Revoke(lease):
                    self._renderings.revoked(lease)
                case Start():
                    self._attempts.start(self._nursery, effect)
                case Stop():
                    self._attempts.stop(effect)
                case Forget(_, work):
                    remove_output(self._stores, work, self._log)
        used, queued = self._jobs.slots.used, self._jobs.slots.queued
        if not used:
            self._quiet.set()
        has_room = not queued and used < self._workers.size - SPARE
        self._imports.jobs_changed(running=bool(used or queued), has_room=has_room)
        if self._jobs.next_wake() < self._wake_at:
            self._wake.set()
        self._keeper.changed()

    def _record(self, job: Job) -> None:
        """Record a job; once it has ended, keep only a part of it in memory."""
        row = self._records.row(job)
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
                expect_output(self._stores, job)
            if self._keeper.remembers:
                self.apply(self._jobs.set_size(job, len(row.outcome or "")))

    def reply(self, connection: str, request: int, reply: Reply) -> None:
        """Deliver a reply after all entries of the journal that precede it."""
        self._journal.put(Delivery(connection, request, reply))

    def register(self, connection: str, port: Port | None) -> None:
        """Let replies to a connection leave through a port; None: nowhere, from now on."""
        if port is None:
            self._ports.pop(connection, None)
        else:
            self._ports[connection] = port

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
