"""The processor actor: one per server, shared by all connections.

It owns the queue (:mod:`creemson.processing.jobs` decides, this module carries out) and the workers.
Everything runs in its nursery and touches its state from the event loop's thread only; commands come
over its inbox, replies go out through ports that never make it wait.
"""

import hashlib
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import orjson
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, InvalidFormat, ProcessingError
from creemson.processing import jobs
from creemson.processing.jobs import Ended, Jobs, Waiter
from creemson.processing.mailbox import (
    CancelJob,
    Cancelled,
    CancelRequest,
    ColumnsRead,
    Command,
    Connect,
    Disconnect,
    FileReady,
    FindFile,
    Port,
    ReadColumns,
    ReadRows,
    Reply,
    RowsRead,
    Submit,
)
from creemson.processing.pool import Pool, TransientFault
from creemson.settings import Settings
from creemson.storage.store import Store
from creemson.wire import codec
from creemson.wire.messages import OUTPUT_FORMATS, Column, OutputData, Query, ResultData, Window

__all__ = ["Processor"]

T = TypeVar("T")

LookUp: TypeAlias = ReadColumns | ReadRows | FindFile
"""What is no job."""
SUMMARY = "File processed successfully"
STOP_GRACE = 2.0
"""Seconds that attempts get to be stopped at the end of a drain; the pool kills within a fraction of one."""


@attrs.frozen
class Work:
    """What a job has to do.

    Attributes:
        query: as it was asked.
        source: the file.
        output: name of the stored output.
    """

    query: Query
    source: Path
    output: str


class Processor:
    """Takes commands, runs jobs on worker processes, tells those who wait.

    Args:
        settings: in force.
        store: where the files are.
        inbox: commands of the connections.
        workers: for jobs; as many run at once as it has.
        quick: for what should not wait behind jobs.
        logger: for what the operator should know.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        inbox: trio.MemoryReceiveChannel[Command],
        workers: Pool,
        quick: Pool,
        logger: FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = store.files
        self._inbox = inbox
        self._workers = workers
        self._quick = quick
        self._log = logger
        self._jobs = Jobs(
            slots=workers.size,
            per_caller=settings.limits.jobs_per_caller,
            queue=settings.limits.queue,
            retries=settings.retries.job,
        )
        self._ports: dict[str, Port] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._renderings: dict[Path, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self._wake_at = math.inf
        self._wake = trio.Event()
        self._quiet = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the inbox until it is closed on the other side."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._keep_time)
            task_status.started()
            # Closed at the end, however that comes: nobody may wait for a processor that is no more.
            async with self._inbox:
                async for command in self._inbox:
                    self._handle(command)
            self._nursery.cancel_scope.cancel()

    def counts(self) -> Mapping[str, int]:
        """See :meth:`Jobs.counts`."""
        return self._jobs.counts()

    async def drain(self, grace: float) -> None:
        """Take on no more work and let what runs finish; stop it after ``grace`` seconds."""
        self._apply(self._jobs.drain(trio.current_time()))
        with trio.move_on_after(grace):
            await self._until_quiet()
        self._apply(self._jobs.abandon(trio.current_time()))
        with trio.move_on_after(STOP_GRACE):
            await self._until_quiet()

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

    def _handle_request(self, command: Submit | CancelJob | CancelRequest | LookUp) -> None:
        now = trio.current_time()
        match command:
            case Submit():
                self._submit(now, command)
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
        source = self._store.find(query.filename)
        self._store.check_quota()
        key = hashlib.sha256(orjson.dumps([self._files.version(source), codec.plain(query)])).hexdigest()
        work = Work(query, source, output_name(query.filename, key))
        done = self._jobs.find_done(command.caller, key)
        if done is not None and not (self._files.outputs / work.output).exists():
            self._jobs.forget(done.id)
        limit = self._settings.timeouts.job
        effects = self._jobs.submit(
            now,
            job=secrets.token_hex(8),
            key=key,
            caller=command.caller,
            work=work,
            timeout=limit if command.timeout is None else min(limit, command.timeout),
            waiter=Waiter(command.connection, command.request, command.keep),
        )
        self._apply(effects)

    # --- effects -------------------------------------------------------------------------------------

    def _apply(self, effects: list[jobs.Effect]) -> None:
        assert self._nursery is not None
        for effect in effects:
            match effect:
                case jobs.Notify(waiter, event):
                    self._reply(waiter.connection, waiter.request, event)
                case jobs.Start():
                    # Made here and not in the task: a cancel may come before that has begun.
                    scope = self._scopes[effect.job] = trio.CancelScope()
                    self._nursery.start_soon(self._attempt, effect, scope)
                case jobs.Stop(job, _):
                    self._scopes[job].cancel()
                case jobs.Forget(_, work):
                    try:
                        self._files.remove_output(work.output)
                    except OSError as error:
                        self._log.warning("output not removed", output=work.output, error=str(error))
        if not self._jobs.running:
            self._quiet.set()
        if self._jobs.next_wake() < self._wake_at:
            self._wake.set()

    def _reply(self, connection: str, request: int, reply: Reply) -> None:
        port = self._ports.get(connection)
        if port is None:
            return
        try:
            port.deliver(request, reply)
        except Exception:
            # A port is not to raise; if one does, that is its own connection's loss.
            self._log.exception("reply not delivered", connection=connection)
            del self._ports[connection]

    async def _keep_time(self) -> None:
        """Call ``tick`` when backoffs and timeouts are due."""
        while True:
            self._wake = trio.Event()
            self._wake_at = self._jobs.next_wake()
            with trio.move_on_at(self._wake_at):
                await self._wake.wait()
            self._apply(self._jobs.tick(trio.current_time()))

    # --- work ----------------------------------------------------------------------------------------

    async def _attempt(self, start: jobs.Start, scope: trio.CancelScope) -> None:
        """Run one attempt of a job on a worker and report its end."""
        work: Work = start.work
        began = trio.current_time()
        log = self._log.bind(job=start.job, attempt=start.attempt)
        value: ResultData | None = None
        error: CreemsonError | None = None
        transient = False

        def on_progress(figures: Mapping[str, Any]) -> None:
            self._apply(self._jobs.progress(trio.current_time(), start.job, start.attempt, figures))

        command = {
            "op": "run",
            "query": codec.plain(work.query),
            "source": str(work.source),
            "target": str(self._files.outputs / work.output),
        }
        with scope:
            try:
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
                        reply = ColumnsRead(await self._columns(command.filename))
                    case ReadRows():
                        reply = RowsRead(await self._rows(command))
                    case FindFile():
                        reply = FileReady(await self._file(command.filename))
            except TransientFault as fault:
                reply = Ended(None, None, error=fault.error)
            except CreemsonError as error:
                reply = Ended(None, None, error=error)
            except Exception:
                self._log.exception("request failed unexpectedly", connection=command.connection)
                reply = Ended(None, None, error=_ours())
        self._reply(command.connection, command.request, reply)

    async def _columns(self, filename: str) -> tuple[Column, ...]:
        source = self._store.find(filename)
        found = await self._quick.call({"op": "columns", "source": str(source), "name": filename})
        return tuple(_trusted(column, Column) for column in found)

    async def _rows(self, command: ReadRows) -> Window:
        source = self._store.find(command.filename)
        found = await self._quick.call(
            {
                "op": "rows",
                "source": str(source),
                "name": command.filename,
                "offset": command.offset,
                "limit": command.limit,
            }
        )
        return _trusted(found, Window)

    async def _file(self, filename: str) -> Path:
        """The file of that name; an output is made first, where it is there in another format only."""
        while True:
            try:
                return self._store.find(filename)
            except ProcessingError:
                stored = self._files.find_output_of(filename, OUTPUT_FORMATS)
                if stored is None:
                    raise
            target = self._files.outputs / filename
            rendering = self._renderings.get(target)
            if rendering is None:
                await self._render(stored, target)
            else:  # somebody else has asked for it just before
                await rendering.wait()

    async def _render(self, stored: Path, target: Path) -> None:
        self._store.check_quota()
        self._renderings[target] = trio.Event()
        try:
            await self._workers.call(
                {"op": "render", "source": str(stored), "target": str(target), "format": target.suffix[1:]}
            )
        finally:
            self._renderings.pop(target).set()


def _ours() -> ProcessingError:
    return ProcessingError("internal", "This failed for a reason that is ours, and was logged.")


def _too_long(seconds: float) -> ProcessingError:
    return ProcessingError(
        "job_timeout", f"This took longer than {seconds:g} s. Try again, or with a smaller file."
    )


def output_name(filename: str, key: str) -> str:
    """The name of a stored output: told apart by the job's key, recognisable by the file's name.

    >>> output_name("flights.csv.gz", "0123456789abcdef")
    'flights-0123456789ab.parquet'
    """
    stem = filename.split(".", 1)[0].encode()[:200].decode(errors="ignore")
    return f"{stem}-{key[:12]}.{OUTPUT_FORMATS[0]}"


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
