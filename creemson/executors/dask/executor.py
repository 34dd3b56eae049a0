"""The executor for a Dask cluster: large commands run on its workers, small ones on this machine."""

import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import orjson
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import ProcessingError, error_for, internal_error
from creemson.executors.commands import WorkerCommand
from creemson.executors.dask import attempts, task
from creemson.executors.dask.cluster import Cluster
from creemson.executors.dask.division import call_divided, part_count
from creemson.executors.dask.library import Connection, Task, TaskEnd
from creemson.executors.dask.placement import Load, for_cluster, place
from creemson.executors.dask.tls import TlsFiles
from creemson.executors.dask.versions import own_label
from creemson.executors.executor import ClusterState, OnProgress, TransientFault
from creemson.executors.local import LocalExecutor
from creemson.storage.names import is_remote

__all__ = ["DaskExecutor"]

STOP_TIMEOUT = 2.0
"""Maximum seconds to wait until a worker has stopped a cancelled command. Most take 50 ms; it does not answer at all if
it is frozen or cut off."""
RESULT_TIMEOUT = 30.0
"""Maximum seconds to fetch the outcome of a task."""

Cause: TypeAlias = Literal["ended", "worker_lost", "disconnected"]


@attrs.define(eq=False)
class _Run:
    """One attempt of a command on the cluster."""

    on_progress: OnProgress | None
    worker: str | None = None  # address of the worker that carries it out, once it has begun
    machine: str = ""  # its machine
    pid: int = 0  # the process of the Dask worker there
    cause: Cause | None = None  # why the wait for it has ended
    status: TaskEnd = "cancelled"  # how its task has ended
    over: trio.Event = attrs.field(factory=trio.Event)  # set with ``cause``
    stopped: trio.Event = attrs.field(factory=trio.Event)  # set when its worker has ended it

    def end(self, cause: Cause) -> None:
        if self.cause is None:
            self.cause = cause
            self.over.set()


class DaskExecutor:
    """Runs large commands on a Dask cluster; see :class:`creemson.executors.executor.Executor`.

    Args:
        local: runs the other commands.
        address: address of the scheduler.
        files: TLS files; None without TLS.
        least_bytes: size of a file from which on its commands go to the cluster.
        part_bytes: minimum bytes of the file for each of the workers among which a command is divided; 0: none is.
        logger: Logger.
    """

    def __init__(
        self,
        local: LocalExecutor,
        *,
        address: str,
        files: TlsFiles | None,
        least_bytes: int,
        part_bytes: int,
        logger: FilteringBoundLogger,
    ) -> None:
        self._local = local
        self._least_bytes = least_bytes
        self._part_bytes = part_bytes
        self._log = logger
        self._topic = f"creemson-{secrets.token_hex(8)}"
        self._resources = {own_label(): 1}
        self.cluster = Cluster(address, files, topic=self._topic, listener=self, logger=logger)
        self._runs: dict[str, _Run] = {}  # by key of the task
        self._limiter = trio.CapacityLimiter(1)  # one command per worker: Dask would queue behind a long one
        self._local_calls = self._cluster_calls = 0  # in progress
        self._resized = trio.Event()  # set when the number of workers changes

    @property
    def size(self) -> int:
        """Maximum number of commands that run at once; it changes with the number of workers."""
        return self._local.size + len(self.cluster.workers)

    @property
    def restarts(self) -> int:
        """Number of workers that had to be replaced, on this machine and in the cluster."""
        return self._local.restarts + self.cluster.lost

    @property
    def pids(self) -> list[int]:
        """Ids of the worker processes on this machine."""
        return self._local.pids

    async def size_changed(self) -> None:
        """Wait until a worker has come or gone."""
        await self._resized.wait()

    def shed(self) -> bool:
        """Stop the command that uses the most memory on this machine."""
        return self._local.shed()

    def state(self) -> ClusterState:
        """Return the state of the cluster."""
        cluster = self.cluster
        return ClusterState(
            workers=len(cluster.workers),
            running=self._cluster_calls,
            lost=cluster.lost,
            trouble=cluster.trouble,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive, and the connection to the cluster, until cancelled.

        Raises:
            ProcessingError: ``worker_died``: no local worker could be started.
            OSError: the scheduler cannot be used.
        """
        failure: OSError | ProcessingError | None = None
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(self.cluster.run)
                await nursery.start(self._local.run)
            except (OSError, ProcessingError) as error:  # the nursery would wrap it in a group
                failure = error
                nursery.cancel_scope.cancel()
            else:
                task_status.started()
        if failure is not None:
            raise failure

    async def call(self, command: WorkerCommand, *, on_progress: OnProgress | None = None) -> Any:
        """Run a command; see :meth:`creemson.executors.executor.Executor.call`."""
        load = Load(self._local_calls, self._local.size, self._cluster_calls, len(self.cluster.workers))
        if place(command, self._least_bytes, load) == "local":
            self._local_calls += 1
            try:
                return await self._local.call(command, on_progress=on_progress)
            finally:
                self._local_calls -= 1
        command = for_cluster(command)
        self._cluster_calls += 1
        try:
            free = max(0, int(self._limiter.available_tokens)) if self.cluster.workers else 0
            count = part_count(command, free=free, part_bytes=self._part_bytes)
            if count > 1:
                self._log.debug("command divided", parts=count)
                value = await call_divided(self._call_cluster, command, count, on_progress)
                if value is not None:
                    return value
            return await self._call_cluster(command, on_progress)
        finally:
            self._cluster_calls -= 1

    async def _call_cluster(self, command: WorkerCommand, on_progress: OnProgress | None) -> Any:
        """Run a command on a worker of the cluster; wait for a free one first."""
        while True:
            async with self._limiter:
                connection = await self.cluster.ready()
                outcome = await self._attempt(connection, command, on_progress)
            if outcome is not None:
                return outcome["value"]

    # --- the cluster's listener ----------------------------------------------------------------------

    def handle_event(self, event: Mapping[str, Any]) -> None:
        """Handle an event of a task."""
        run = self._runs.get(event["key"])
        if run is None:
            return
        match event["event"]:
            case "began" if run.worker is None:  # another run of the same task gets nothing to do
                run.worker, run.machine, run.pid = event["worker"], event["machine"], event["pid"]
                self._log.debug("command begun on the cluster", machine=run.machine, pid=run.pid)
            case "progress" if run.on_progress is not None and run.cause is None:
                run.on_progress({**event["figures"], "machine": run.machine})
            case "ended":
                run.stopped.set()

    def worker_lost(self, address: str) -> None:
        """End the attempts on a worker."""
        for run in self._runs.values():
            if run.worker == address:
                run.stopped.set()
                run.end("worker_lost")

    def disconnected(self) -> None:
        """End all attempts; they begin again when the scheduler is back."""
        for run in self._runs.values():
            run.stopped.set()
            run.end("disconnected")

    def resized(self) -> None:
        """Let as many commands run as there are workers."""
        self._limiter.total_tokens = max(1, len(self.cluster.workers))
        self._resized.set()
        self._resized = trio.Event()

    # --- one attempt ---------------------------------------------------------------------------------

    async def _attempt(
        self, connection: Connection, command: WorkerCommand, on_progress: OnProgress | None
    ) -> Mapping[str, Any] | None:
        """Run a command once.

        Returns:
            The outcome; None if the scheduler was lost, so that the command must be submitted again.
        """
        key = f"creemson-{secrets.token_hex(8)}"
        run = self._runs[key] = _Run(on_progress)
        folder: Path | None = None
        submitted: Task | None = None
        try:
            if "target" in command and not is_remote(command["target"]):
                folder = await trio.to_thread.run_sync(attempts.begin, Path(command["target"]))
            submitted = self._submit(connection, command, folder, key, run)
            await run.over.wait()
            if run.cause == "worker_lost":
                raise _worker_lost(run.machine)
            if run.cause == "disconnected" or run.status == "cancelled":
                self.cluster.look()
                return None
            return _understood(await self._fetch(submitted), run.machine)
        except ConnectionError:  # the worker has ended with the outcome
            raise _worker_lost(run.machine) from None
        finally:
            with trio.CancelScope(shield=True):
                if submitted is not None:
                    await self._stop(submitted, run)
                if folder is not None:  # removing gigabytes may take a while
                    await trio.to_thread.run_sync(attempts.revoke, folder)
            del self._runs[key]

    def _submit(
        self, connection: Connection, command: WorkerCommand, folder: Path | None, key: str, run: _Run
    ) -> Task:
        token = trio.lowlevel.current_trio_token()

        def on_end(status: TaskEnd) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # the server has stopped
                token.run_sync_soon(ended, status)

        def ended(status: TaskEnd) -> None:
            run.status = status
            run.end("ended")

        attempt = None if folder is None else str(folder)
        submitted = connection.submit(
            task.run, orjson.dumps(command), attempt, key, self._topic, key=key, resources=self._resources
        )
        submitted.on_end(on_end)
        return submitted

    async def _fetch(self, submitted: Task) -> Mapping[str, Any]:
        """Fetch the outcome.

        Raises:
            ConnectionError: it is lost.
            ProcessingError: ``internal``: the task has failed in a way that was not expected.
        """
        try:
            line = await trio.to_thread.run_sync(submitted.result, RESULT_TIMEOUT, abandon_on_cancel=True)
        except OSError as error:
            raise ConnectionError(str(error)) from error
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                raise ConnectionError(str(error)) from error
            self._log.exception("task failed unexpectedly")
            raise internal_error() from error
        outcome: Mapping[str, Any] = orjson.loads(line)
        return outcome

    async def _stop(self, submitted: Task, run: _Run) -> None:
        """Stop a task that still runs, and let the cluster forget it."""
        if run.cause != "ended":
            submitted.cancel()
            if run.worker is not None:
                with trio.move_on_after(STOP_TIMEOUT) as scope:
                    await run.stopped.wait()
                if scope.cancelled_caught:
                    self._log.warning("a worker does not stop its command", worker=run.worker)
        submitted.release()


def _understood(outcome: Mapping[str, Any], machine: str) -> Mapping[str, Any]:
    """Return an outcome with a value.

    Raises:
        CreemsonError: the command has failed.
        TransientFault: it has failed, and may succeed in another attempt.
    """
    match outcome["event"]:
        case "done":
            return outcome
        case "lost":
            raise _worker_lost(machine)
        case "unshared":
            raise ProcessingError(
                "internal",
                f"The worker on {outcome['machine']} does not see the server's folder {outcome['folder']}: "
                "the operator must mount the same data folder, under the same path, on all machines.",
            )
    error = error_for(outcome["reason"], outcome["message"], details=outcome["details"])
    raise TransientFault(error) if outcome["transient"] else error


def _worker_lost(machine: str) -> ProcessingError:
    where = f" on {machine}" if machine else ""
    return ProcessingError("worker_died", f"The worker{where} that did the work is gone. Try again.")
