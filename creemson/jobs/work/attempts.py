"""Attempts: runs of jobs on workers, each with its output published at the end."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.claims import Claim, LostClaimError
from creemson.errors import CreemsonError, disk_error, internal_error
from creemson.executors import commands
from creemson.executors.commands import AnswerLimits, WorkerCommand
from creemson.executors.executor import Executor, OnProgress, TransientFault
from creemson.jobs.journal import InThread
from creemson.jobs.queue.effects import Effect, Start, Stop
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Work
from creemson.jobs.versions import recognise
from creemson.jobs.work.publishing import output_target
from creemson.jobs.work.reading import call_on
from creemson.jobs.work.results import result_of_worker
from creemson.metrics import Metrics
from creemson.model.converter import plain
from creemson.model.division import may_be_divided
from creemson.model.query import Options
from creemson.model.results import ResultData
from creemson.storage.store import Found
from creemson.storage.stores import Stores

__all__ = ["Attempts"]

MAX_MACHINES = 20
"""Maximum number of machines that a job tells of in one attempt."""


class Attempts:
    """The attempts that run.

    Args:
        stores: the stores of all callers.
        workers: executor for jobs.
        queue: gets to know the progress and the ends of attempts.
        apply: carries out effects of the queue.
        copy_of: returns the path of a file's columnar copy; see :meth:`creemson.jobs.work.imports.Imports.copy_of`.
        claim_of: returns the claim under which a job runs; see :meth:`creemson.jobs.keeper.Keeper.claim_of`.
        limits: how large an answer may be.
        metrics: gets the durations of phases.
        ask: calls a function of a store with arguments; in a thread if it may wait for a database.
        in_thread: runs what blocks in a thread.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        stores: Stores,
        workers: Executor,
        queue: JobQueue,
        apply: Callable[[Sequence[Effect]], None],
        copy_of: Callable[[str, str, Found, Options | None], str | None],
        claim_of: Callable[[str], Claim | None],
        limits: AnswerLimits,
        metrics: Metrics,
        ask: InThread,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._stores = stores
        self._workers = workers
        self._queue = queue
        self._apply = apply
        self._copy_of = copy_of
        self._claim_of = claim_of
        self._limits = limits
        self._metrics = metrics
        self._ask = ask
        self._in_thread = in_thread
        self._log = logger
        self._scopes: dict[str, trio.CancelScope] = {}  # by job

    def start(self, nursery: trio.Nursery, effect: Start) -> None:
        """Start an attempt; it reports its end by itself."""
        # Created here and not in the task, because a cancel may come before the task has begun.
        scope = self._scopes[effect.job] = trio.CancelScope()
        nursery.start_soon(self._attempt, effect, scope)

    def stop(self, effect: Stop) -> None:
        """Stop an attempt; it still reports its end."""
        self._scopes[effect.job].cancel()

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
                    self._apply(self._queue.note(start.job, start.attempt, f"The job runs on {machine}."))
            if figures["phase"] != phase:
                now = trio.current_time()
                self._metrics.phase_seconds.labels(phase).observe(now - since)
                phase, since = figures["phase"], now
            self._apply(self._queue.progress(trio.current_time(), start.job, start.attempt, figures))

        with scope:
            try:
                outcome = await self._run_query(start.job, work, on_progress)
                value = result_of_worker(work.output, outcome, elapsed=trio.current_time() - began)
            except TransientFault as fault:
                error, transient = fault.error, True
            except CreemsonError as fault:
                error, transient = fault, fault.reason == "worker_died"
            except OSError as fault:
                # Of the object store or the database, before the work or when its output was published.
                log.warning("attempt not carried out", error=str(fault))
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
        self._apply(
            self._queue.attempt_ended(
                trio.current_time(), start.job, start.attempt, value=value, error=error, transient=transient
            )
        )

    async def _run_query(self, job: str, work: Work, on_progress: OnProgress) -> Any:
        """Run a query on the version of the file for which it was accepted, and publish the output."""
        assert work.version is not None  # it is bound to one before it starts
        store, query = self._stores.of(work.caller), plain(work.query)

        def command(found: Found, target: str) -> WorkerCommand:
            copy = self._copy_of(work.caller, work.query.filename, found, work.query.options)
            return commands.run(
                query,
                source=found.path,
                identity=found.identity,
                target=target,
                limits=self._limits,
                room=room,
                copy=copy,
                shared_copy=None if copy is None else self._stores.tables.shared(copy),
                is_output=not store.is_upload(found),
                may_be_divided=may_be_divided(work.query),
            )

        find = partial(self._ask, store.versions.find, work.query.filename, work.version)
        await recognise(
            store.versions, work.query.filename, work.version, ask=self._ask, in_thread=self._in_thread
        )
        room = await self._ask(lambda: store.quota.left)
        claim = self._claim_of(job)
        async with output_target(store.outputs, work.output, self._in_thread, claim) as target:
            return await call_on(
                self._workers, find, lambda found: command(found, target), on_progress=on_progress
            )
