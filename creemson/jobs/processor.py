"""The processor actor: one per server, shared by all connections.

It owns the queue (:mod:`creemson.processing.jobs` decides, this module carries out) and the workers.
Everything runs in its nursery and touches its state from the event loop's thread only; commands come
over its inbox, replies go out through ports that never make it wait.
"""

import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, InvalidFormat, ProcessingError, disk_error
from creemson.metrics import Metrics
from creemson.processing import jobs
from creemson.processing.jobs import Accepted, Ended, Job, Jobs, Waiter
from creemson.processing.journal import Entry, InThread, Journal, Told
from creemson.processing.mailbox import (
    Attach,
    CancelJob,
    Cancelled,
    CancelRequest,
    ColumnsRead,
    Command,
    Connect,
    Disconnect,
    FileReady,
    FindFile,
    JobsListed,
    ListJobs,
    Port,
    ReadColumns,
    ReadRows,
    Reply,
    RowsRead,
    Submit,
    from_store,
)
from creemson.processing.memory import Memory
from creemson.processing.pool import Pool, TransientFault
from creemson.processing.records import Work, job_of, key_of, row_of
from creemson.settings import Settings
from creemson.storage.catalog import Catalog, JobRow
from creemson.storage.stores import Stores
from creemson.wire import codec
from creemson.wire.messages import (
    OUTPUT_FORMATS,
    Described,
    JobInfo,
    JobState,
    Options,
    OutputData,
    ResultData,
    Window,
)

__all__ = ["Processor"]

T = TypeVar("T")

LookUp: TypeAlias = ReadColumns | ReadRows | FindFile
"""What is no job."""
SUMMARY = "File processed successfully"
JOBS_BYTES = 16 * 1024 * 1024
"""Of JSON: the requests of the jobs that wait, and the results of those that are remembered. As objects they take
up to eleven times as much."""
GATHERING = 0.01
"""Seconds in which jobs gather to be written down together, while some of them wait for a worker: it is that which
keeps them waiting then, and not the disk."""
TIDY_INTERVAL = 60.0
"""Seconds between two looks for ended jobs that need not be known any more."""
STOP_GRACE = 2.0
"""Seconds that attempts get to be stopped at the end of a drain; the pool kills within a fraction of one."""


class Processor:
    """Takes commands, runs jobs on worker processes, tells those who wait.

    Args:
        settings: in force.
        stores: where the files of all callers are.
        catalog: where jobs are written down.
        inbox: commands of the connections.
        workers: for jobs; as many run at once as it has.
        quick: for what should not wait behind jobs.
        logger: for what the operator should know.
        wall_clock: seconds since 1970.
        memory: says when nothing new may begin; None: it never does.
        metrics: where jobs are measured.
        in_thread: see :class:`Journal`.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        stores: Stores,
        catalog: Catalog,
        inbox: trio.MemoryReceiveChannel[Command],
        workers: Pool,
        quick: Pool,
        logger: FilteringBoundLogger,
        wall_clock: Callable[[], float],
        memory: Memory | None = None,
        metrics: Metrics | None = None,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._wall_clock = wall_clock
        self._memory = memory
        self._metrics = metrics or Metrics()
        self._epoch = 0.0  # seconds since 1970 at time 0 of the event loop
        self._journal = Journal(
            catalog,
            tell=self._deliver,
            on_failure=self._not_written,
            logger=logger,
            company=lambda: GATHERING if self._jobs.queued else 0.0,
            in_thread=in_thread,
        )
        self._inbox = inbox
        self._workers = workers
        self._quick = quick
        self._log = logger
        self._jobs = Jobs(
            slots=workers.size,
            per_caller=settings.limits.jobs_per_caller,
            queue=settings.limits.queue,
            retries=settings.retries.job,
            weight=JOBS_BYTES,
        )
        self._ports: dict[str, Port] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._renderings: dict[Path, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self._wake_at = math.inf
        self._wake = trio.Event()
        self._quiet = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the inbox until it is closed on the other side; first, take over what an earlier server has left."""
        self._epoch = self._wall_clock() - trio.current_time()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._journal.run)
            await self._restore()
            self._nursery.start_soon(self._keep_time)
            self._nursery.start_soon(self._tidy)
            task_status.started()
            # Closed at the end, however that comes: nobody may wait for a processor that is no more.
            async with self._inbox:
                async for command in self._inbox:
                    self._handle(command)
            self._nursery.cancel_scope.cancel()

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """See :meth:`Jobs.counts`."""
        return self._jobs.counts(caller)

    async def drain(self, grace: float) -> None:
        """Take on no more work and let what runs finish; stop it after ``grace`` seconds."""
        self._apply(self._jobs.drain(trio.current_time()))
        with trio.move_on_after(grace):
            await self._until_quiet()
        self._apply(self._jobs.abandon(trio.current_time()))
        with trio.move_on_after(STOP_GRACE):
            await self._until_quiet()
        await self._journal.flush()

    async def _until_quiet(self) -> None:
        while self._jobs.running:
            self._quiet = trio.Event()
            await self._quiet.wait()

    # --- commands ------------------------------------------------------------------------------------

    def _handle(self, command: Command) -> None:
        match command:
            case Connect():
                self._ports[command.connection] = command.port
            case Disconnect():
                self._ports.pop(command.connection, None)
                self._apply(self._jobs.disconnect(trio.current_time(), command.connection))
            case _:
                try:
                    self._handle_request(command)
                except CreemsonError as error:
                    self._reply(command.connection, command.request, Ended(None, None, error=error))
                except Exception:
                    # The edge of a request: a disk that fails must not take the other connections down.
                    self._log.exception("request failed unexpectedly", connection=command.connection)
                    self._reply(command.connection, command.request, Ended(None, None, error=_ours()))

    def _handle_request(
        self, command: Submit | Attach | ListJobs | CancelJob | CancelRequest | LookUp
    ) -> None:
        now = trio.current_time()
        match command:
            case Submit():
                self._submit(now, command)
            case Attach():
                waiter = Waiter(command.connection, command.request)
                self._apply(self._jobs.attach(command.caller, command.job, command.after, waiter))
            case ListJobs():
                listed = tuple(map(self._info, self._jobs.of_caller(command.caller)))
                self._reply(command.connection, command.request, JobsListed(listed))
            case CancelJob():
                effects = self._jobs.cancel(now, command.caller, command.job)
                self._reply(command.connection, command.request, Cancelled(command.job))
                self._apply(effects)
            case CancelRequest():
                job, effects = self._jobs.leave(now, Waiter(command.connection, command.other))
                self._reply(command.connection, command.request, Cancelled(job))
                self._apply(effects)
            case ReadColumns() | ReadRows() | FindFile():
                assert self._nursery is not None
                self._nursery.start_soon(self._look_up, command)

    def _submit(self, now: float, command: Submit) -> None:
        query = command.query
        store = self._stores.of(command.caller)
        _, version = store.look_up(query.filename)
        store.check_quota()
        key, weight = key_of(version, query)
        done = self._jobs.find_done(command.caller, key)
        if done is not None and self._has_output(done.work):
            for event in self._jobs.again(done):
                self._reply(command.connection, command.request, event)
            return
        if done is not None:
            self._apply(self._jobs.forget(done.id))
        work = Work(query, key, command.caller)
        limit = self._settings.timeouts.job
        effects = self._jobs.submit(
            now,
            job=secrets.token_hex(8),
            key=key,
            caller=command.caller,
            work=work,
            timeout=limit if command.timeout is None else min(limit, command.timeout),
            waiter=Waiter(command.connection, command.request, command.keep),
            weight=weight,
            refusal=self._memory.refusal() if self._memory is not None and self._memory.scarce else None,
        )
        self._apply(effects)

    # --- effects -------------------------------------------------------------------------------------

    def _apply(self, effects: list[jobs.Effect]) -> None:
        assert self._nursery is not None
        for effect in effects:
            match effect:
                case jobs.Notify(waiter, event):
                    self._reply(waiter.connection, waiter.request, event)
                case jobs.Record(job):
                    self._record(job)
                case jobs.Erase(name):
                    self._journal.put(name)
                case jobs.Start():
                    # Made here and not in the task: a cancel may come before that has begun.
                    scope = self._scopes[effect.job] = trio.CancelScope()
                    self._nursery.start_soon(self._attempt, effect, scope)
                case jobs.Stop(name, _):
                    self._scopes[name].cancel()
                case jobs.Forget(_, work):
                    try:
                        self._stores.of(work.caller).files.remove_output(work.output, OUTPUT_FORMATS)
                    except OSError as error:
                        self._log.warning("output not removed", output=work.output, error=str(error))
        if not self._jobs.running:
            self._quiet.set()
        if self._jobs.next_wake() < self._wake_at:
            self._wake.set()

    def _not_written(self, batch: Sequence[Entry], error: OSError) -> Sequence[Told]:
        """What cannot be written down is not accepted; how a job ended is told all the same."""
        fault = disk_error(error)
        told = [entry for entry in batch if isinstance(entry, Told)]
        accepted = {entry.reply.job for entry in told if isinstance(entry.reply, Accepted)}
        refused = accepted & {entry.id for entry in batch if isinstance(entry, JobRow)}
        for job in refused:
            self._apply(self._jobs.fail(trio.current_time(), job, fault))
        return [
            entry for entry in told if not (isinstance(entry.reply, Accepted) and entry.reply.job in refused)
        ]

    def _reply(self, connection: str, request: int, reply: Reply) -> None:
        """Answer a request, after all that was to be told before."""
        self._journal.put(Told(connection, request, reply))

    def _deliver(self, told: Told) -> None:
        port = self._ports.get(told.connection)
        if port is None:
            return
        try:
            port.deliver(told.request, told.reply)
        except Exception:
            # A port is not to raise; if one does, that is its own connection's loss.
            self._log.exception("reply not delivered", connection=told.connection)
            del self._ports[told.connection]

    async def _keep_time(self) -> None:
        """Call ``tick`` when backoffs and timeouts are due."""
        while True:
            self._wake = trio.Event()
            self._wake_at = self._jobs.next_wake()
            with trio.move_on_at(self._wake_at):
                await self._wake.wait()
            self._apply(self._jobs.tick(trio.current_time()))

    # --- what is written down ------------------------------------------------------------------------

    def _record(self, job: Job) -> None:
        """Write a job down; of one that has ended, less is kept in memory from then on."""
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
            if job.state == "done":  # what it is told for from now on
                job.value = from_store(job.value)
            self._apply(self._jobs.weigh(job, len(row.outcome or "")))

    async def _restore(self) -> None:
        """Take over the jobs that an earlier server has done, or not."""
        for row in await self._journal.load():
            try:
                job = job_of(row, self._epoch)
            except (ValueError, TypeError, KeyError, CreemsonError) as error:
                self._log.warning("a job of an earlier server is given up", job=row.id, error=str(error))
                self._journal.put(row.id)
                continue
            fault = None if job.ended else self._why_not(job.work)
            self._apply(self._jobs.restore(trio.current_time(), job, error=fault))
        unfinished = len(self._jobs.unfinished())
        if unfinished:
            self._log.info("jobs of an earlier server are begun again", jobs=unfinished)

    def _why_not(self, work: Work) -> CreemsonError | None:
        """Why a job cannot be begun again."""
        name = work.query.filename
        try:
            _, version = self._stores.of(work.caller).look_up(name)
        except CreemsonError as error:
            return error
        if key_of(version, work.query)[0] == work.key:
            return None
        return ProcessingError(
            "file_not_found", f"The file {name!r} has been replaced since this job was accepted. Ask again."
        )

    def _info(self, job: Job) -> JobInfo:
        state: JobState = "queued" if job.put_off else job.state  # type: ignore[assignment]
        return JobInfo(
            job=job.id,
            state=state,
            filename=job.work.query.filename,
            created=round(job.created + self._epoch, 3),
            finished=None if job.finished is None else round(job.finished + self._epoch, 3),
            rows=job.value.output_data.rows if job.state == "done" else None,
        )

    async def _tidy(self) -> None:
        """Forget ended jobs after the time for which outputs are kept, but not before their output has gone."""
        while True:
            before = trio.current_time() - self._settings.storage.keep_outputs
            ended = self._jobs.ended_before(before)
            for job in ended:
                if not self._has_output(job.work):
                    self._apply(self._jobs.forget(job.id))
            await trio.sleep(TIDY_INTERVAL)

    def _has_output(self, work: Work) -> bool:
        return os.path.exists(self._output(work))  # noqa: PTH110 - 2 µs instead of 9, with each answer from store

    def _output(self, work: Work) -> str:
        return f"{self._stores.of(work.caller).files.root}/outputs/{work.output}"

    # --- work ----------------------------------------------------------------------------------------

    async def _attempt(self, start: jobs.Start, scope: trio.CancelScope) -> None:
        """Run one attempt of a job on a worker and report its end."""
        work: Work = start.work
        began = trio.current_time()
        log = self._log.bind(job=start.job, attempt=start.attempt)
        value: ResultData | None = None
        error: CreemsonError | None = None
        transient = False

        phase, since = "reading", began
        if start.attempt == 1:
            self._metrics.phase_seconds.labels("queued").observe(start.waited)

        def on_progress(figures: Mapping[str, Any]) -> None:
            nonlocal phase, since
            if figures["phase"] != phase:
                now = trio.current_time()
                self._metrics.phase_seconds.labels(phase).observe(now - since)
                phase, since = figures["phase"], now
            self._apply(self._jobs.progress(trio.current_time(), start.job, start.attempt, figures))

        with scope:
            try:
                command = {
                    "op": "run",
                    "query": codec.plain(work.query),
                    "source": self._stores.of(work.caller).look_up(work.query.filename)[0],
                    "target": self._output(work),
                }
                outcome = await self._workers.call(command, on_progress=on_progress)
                value = _result(work.output, outcome, elapsed=trio.current_time() - began)
            except TransientFault as fault:
                error, transient = fault.error, True
            except CreemsonError as fault:
                error, transient = fault, fault.reason == "worker_died"
            except Exception:
                # The edge of a job: whatever is wrong with one must not take the others down.
                log.exception("job failed unexpectedly")
                error = _ours()
        self._metrics.phase_seconds.labels(phase).observe(trio.current_time() - since)
        del self._scopes[start.job]
        if error is not None:
            log.info("attempt failed", reason=error.reason, error=error.message, transient=transient)
        elif scope.cancelled_caught:
            log.info("attempt stopped")
        self._apply(
            self._jobs.attempt_ended(
                trio.current_time(), start.job, start.attempt, value=value, error=error, transient=transient
            )
        )

    async def _look_up(self, command: LookUp) -> None:
        """Answer what is no job, without keeping the inbox waiting."""
        reply: Reply = Ended(None, None, error=_too_long(self._settings.timeouts.job))
        with trio.move_on_after(self._settings.timeouts.job):
            try:
                match command:
                    case ReadColumns():
                        reply = ColumnsRead(await self._columns(command))
                    case ReadRows():
                        reply = RowsRead(await self._rows(command))
                    case FindFile():
                        reply = FileReady(await self._file(command))
            except TransientFault as fault:
                reply = Ended(None, None, error=fault.error)
            except CreemsonError as error:
                reply = Ended(None, None, error=error)
            except Exception:
                self._log.exception("request failed unexpectedly", connection=command.connection)
                reply = Ended(None, None, error=_ours())
        # At once: what is no job is not written down, and need not wait while the catalog is slow or locked.
        self._deliver(Told(command.connection, command.request, reply))

    async def _columns(self, command: ReadColumns) -> Described:
        source = self._stores.of(command.caller).find(command.filename)
        found = await self._quick.call(
            {"op": "columns", "source": str(source), "name": command.filename}
            | _told_options(command.options)
        )
        return _trusted(found, Described)

    async def _rows(self, command: ReadRows) -> Window:
        source = self._stores.of(command.caller).find(command.filename)
        found = await self._quick.call(
            {
                "op": "rows",
                "source": str(source),
                "name": command.filename,
                "offset": command.offset,
                "limit": command.limit,
            }
            | _told_options(command.options)
        )
        return _trusted(found, Window)

    async def _file(self, command: FindFile) -> Path:
        """The file of that name; an output is made first, where it is there in another format only."""
        store = self._stores.of(command.caller)
        while True:
            try:
                return store.find(command.filename)
            except ProcessingError:
                stored = store.files.find_output_of(command.filename, OUTPUT_FORMATS)
                if stored is None:
                    raise
            target = store.files.outputs / command.filename
            rendering = self._renderings.get(target)
            if rendering is None:
                store.check_quota()
                await self._render(stored, target)
            else:  # somebody else has asked for it just before
                await rendering.wait()

    async def _render(self, stored: Path, target: Path) -> None:
        self._renderings[target] = trio.Event()
        try:
            await self._workers.call(
                {"op": "render", "source": str(stored), "target": str(target), "format": target.suffix[1:]}
            )
        finally:
            self._renderings.pop(target).set()


def _told_options(options: Options | None) -> dict[str, Any]:
    return {} if options is None else {"options": codec.plain(options)}


def _ours() -> ProcessingError:
    return ProcessingError("internal", "This failed for a reason that is ours, and was logged.")


def _too_long(seconds: float) -> ProcessingError:
    return ProcessingError(
        "job_timeout", f"This took longer than {seconds:g} s. Try again, or with a smaller file."
    )


def _result(output: str, outcome: Mapping[str, Any], *, elapsed: float) -> ResultData:
    stem = output.removesuffix(f".{OUTPUT_FORMATS[0]}")
    data = {
        **outcome,
        "filename": output,
        "final_filename_csv": f"{stem}.csv",
        "final_filename_excel": f"{stem}.xlsx",
        "elapsed_s": round(elapsed, 4),
        "cached": False,
    }
    return ResultData(summary=SUMMARY, output_data=_trusted(data, OutputData))


def _trusted(value: Any, kind: type[T]) -> T:
    """Structure what a worker says; if it is nonsense, the fault is ours and not that of who asked."""
    try:
        return codec.structure(value, kind)
    except InvalidFormat as error:
        raise TypeError(error.message) from error
