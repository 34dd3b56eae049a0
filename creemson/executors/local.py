"""An executor with local worker processes that stay warm, and that can be killed: the only reliable way to stop polars.

Every worker process belongs to a task of the executor's nursery. To run a command, a call acquires an idle worker.
Cancelling the call stops the command: first by a message through the pipe, then by SIGKILL if the worker does not
react (during a sort, it does not). A dead worker is replaced; only the command that it was carrying out fails.

(loky and ProcessPoolExecutor are permanently broken after one killed worker, and trio-parallel cannot report
progress.)
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import ProcessingError, error_for, internal_error
from creemson.executors.commands import WorkerCommand
from creemson.executors.executor import OnProgress, TransientFault
from creemson.executors.process import (
    EXIT_GRACE,
    MAX_LINE,
    WorkerDied,
    WorkerProcess,
    describe_exit,
)
from creemson.executors.spawn import ScratchFolder, Spawned
from creemson.storage.names import is_remote, remove_with_companions, temporary_name

__all__ = ["LocalExecutor"]

MEMORY_INTERVAL = 0.1
"""Seconds between two checks of the memory of busy workers; a check takes some 20 µs per worker."""
MEMORY_KEPT = 0.5
"""Maximum share of its limit that a worker may use between two commands; a worker that uses more is replaced. After
short commands, this is checked only every MEMORY_INTERVAL."""
MIN_SHED = 128 * 1024 * 1024
"""Minimum bytes that a worker must use to be stopped by :meth:`LocalExecutor.shed`; even an idle worker uses half as
much."""
RESTART_DELAY = 0.1
"""Seconds before a worker that ended without having begun any command is replaced; doubled each time."""
MAX_RESTART_DELAY = 5.0
"""Maximum of this delay, in seconds."""
START_TIMEOUT = 30.0
"""Maximum seconds for the start of a worker."""
START_ATTEMPTS = 3
"""Number of failed starts in a row after which waiting calls fail; the attempts continue."""


class LocalExecutor:
    """A number of worker processes; see :class:`creemson.executors.executor.Executor`.

    A worker that only waits takes 35 MiB of its own, and its start 0.6 s of CPU. So those that are rarely needed are
    started when more commands are to run than there are workers, and are kept from then on.

    Args:
        size: maximum number of workers.
        warm: number of workers that are always there; None: all of them.
        memory_bytes: memory limit of each worker; a worker above it is killed, and its command fails with
            ``out_of_memory``. 0 disables the limit.
        nice: niceness of the workers.
        logger: Logger.
        max_line: maximum bytes of an event of a worker; see :class:`WorkerProcess`.
        scratch: where workers keep copies of files in an object store; None: there is no object store.
        first: the first worker, if it has been started already, with the same limits; the executor ends it.
    """

    def __init__(
        self,
        *,
        size: int,
        memory_bytes: int,
        nice: int,
        logger: FilteringBoundLogger,
        max_line: int = MAX_LINE,
        warm: int | None = None,
        scratch: ScratchFolder | None = None,
        first: Spawned | None = None,
    ) -> None:
        self.size = size
        self._kept = size if warm is None else warm  # number of workers that are kept alive
        self._calls = 0  # number of calls in progress, those that wait included
        self._nursery: trio.Nursery | None = None
        self.restarts = 0
        self._memory = memory_bytes
        self._nice = nice
        self._max_line = max_line
        self._scratch = scratch
        self._first = first
        self._log = logger
        self._workers: set[WorkerProcess] = set()
        # Last in, first out: the same few workers stay busy, and their caches stay warm.
        self._idle: list[WorkerProcess] = []
        self._returned = trio.Semaphore(0)  # counts the idle workers
        self._attempts = 0  # number of commands with a target so far, for the names of temporary files
        self._failed_starts = 0  # in a row
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Ids of the living processes."""
        return [worker.process.pid for worker in self._workers if worker.alive]

    async def size_changed(self) -> None:
        """Wait for ever: the size never changes."""
        await trio.sleep_forever()

    def shed(self) -> bool:
        """Stop the command that uses the most memory; it fails with ``out_of_memory``."""
        busy = [worker for worker in self._workers if worker.phase == "busy" and worker.alive]
        largest = max(busy, key=WorkerProcess.used_bytes, default=None)
        if largest is None or largest.used_bytes() < MIN_SHED:
            return False
        largest.kill(out_of_memory=True)
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; end all of them before returning.

        Calls ``task_status.started()`` when the first one is ready.

        Raises:
            ProcessingError: ``worker_died``: no worker could be started.
        """
        failure: ProcessingError | None = None
        try:
            async with trio.open_nursery() as nursery:
                if self._memory:
                    nursery.start_soon(self._guard_memory)
                try:
                    await nursery.start(self._keep_first_alive)
                except ProcessingError as error:  # raised below, because the nursery would wrap it in a group
                    failure = error
                    nursery.cancel_scope.cancel()
                else:
                    for _ in range(self._kept - 1):
                        nursery.start_soon(self._keep_alive)
                    self._nursery = nursery
                    task_status.started()
        finally:
            self._closed = True
            self._wake_waiting()
        if failure is not None:
            raise failure

    async def call(self, command: WorkerCommand, *, on_progress: OnProgress | None = None) -> Any:
        """Run a command; see :meth:`creemson.executors.executor.Executor.call`."""
        part = Path(command["part"]) if "part" in command else None
        if "target" in command and part is None:
            self._attempts += 1
            part = self._part_of(command["target"])
            command = {**command, "part": str(part)}
        line = orjson.dumps(command, option=orjson.OPT_APPEND_NEWLINE)
        self._calls += 1
        try:
            self._start_missing()
            return await self._call(command, line, part, on_progress)
        finally:
            self._calls -= 1

    def _part_of(self, target: str) -> Path:
        """Return the temporary path to which a worker writes."""
        if is_remote(target):
            assert self._scratch is not None
            # Several executors share the folder, perhaps of several processes.
            return self._scratch.folder / temporary_name(target, f"{os.getpid()}-{id(self)}-{self._attempts}")
        path = Path(target)
        return path.with_name(temporary_name(path.name, str(self._attempts)))

    async def _call(
        self, command: WorkerCommand, line: bytes, part: Path | None, on_progress: OnProgress | None
    ) -> Any:
        worker = await self._begin(line, part)
        try:
            while (event := await worker.receive())["event"] == "progress":
                if on_progress is not None:
                    on_progress({key: value for key, value in event.items() if key != "event"})
            worker.end_command()
        except WorkerDied:
            await worker.wait_dead()
            raise _error_of_dead(worker) from None
        finally:
            await self._release(worker, part)
        if event["event"] == "done":
            return event["value"]
        error = error_for(event["reason"], event["message"], details=event["details"])
        if event["cause"] is not None:
            self._log.error("command failed", op=command["op"], error=event["cause"])
        elif event["traceback"] is not None:
            self._log.error(
                "command failed", op=command["op"], error=error.message, traceback=event["traceback"]
            )
        raise TransientFault(error) if event["transient"] else error

    # --- one command ---------------------------------------------------------------------------------

    async def _begin(self, line: bytes, part: Path | None) -> WorkerProcess:
        """Acquire a worker and begin a command on it; if it turns out to be dead, take another one."""
        while True:
            worker = await self._acquire()
            try:
                await worker.begin(line)
            except WorkerDied:
                await worker.wait_dead()
                continue
            except BaseException:
                await self._release(worker, part)
                raise
            return worker

    async def _release(self, worker: WorkerProcess, part: Path | None) -> None:
        """Stop the worker's command if it still runs, and give the worker back; cannot be cancelled."""
        with trio.CancelScope(shield=True):
            if worker.phase == "busy" and worker.alive:
                await worker.stop()
            # Memory that it still uses would count against its next command.
            if self._memory and trio.current_time() >= worker.checked + MEMORY_INTERVAL:
                worker.checked = trio.current_time()
                if worker.used_bytes() > self._memory * MEMORY_KEPT:
                    worker.kill()
            if worker.usable:
                self._give_back(worker)
                return
            await worker.process.wait()
            if part is not None:  # removing gigabytes may take a while
                await trio.to_thread.run_sync(remove_with_companions, part)

    async def _guard_memory(self) -> None:
        while True:
            for worker in self._workers:
                if worker.phase == "busy" and worker.used_bytes() > self._memory:
                    worker.kill(out_of_memory=True)
            await trio.sleep(MEMORY_INTERVAL)

    def _start_missing(self) -> None:
        """Start another worker if there are more calls than workers, up to ``size``."""
        if (
            self._calls > self._kept
            and self._kept < self.size
            and self._nursery is not None
            and not self._closed
        ):
            self._kept += 1
            self._nursery.start_soon(self._keep_alive)

    # --- the workers ---------------------------------------------------------------------------------

    async def _acquire(self) -> WorkerProcess:
        while True:
            if self._closed or self._cannot_start():
                raise _no_worker()
            await self._returned.acquire()
            # Waiting calls are also woken if no worker will come.
            worker = self._idle.pop() if self._idle else None
            if worker is not None and worker.usable:
                return worker

    def _give_back(self, worker: WorkerProcess) -> None:
        self._idle.append(worker)
        self._returned.release()

    def _forget_idle(self, worker: WorkerProcess) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            # A call that has already been woken for this worker will find none, and wait again.
            with contextlib.suppress(trio.WouldBlock):
                self._returned.acquire_nowait()

    def _cannot_start(self) -> bool:
        """Whether no worker is ready and the last starts have failed."""
        return self._failed_starts >= START_ATTEMPTS and not any(worker.ready for worker in self._workers)

    def _wake_waiting(self) -> None:
        for _ in range(self._returned.statistics().tasks_waiting):
            self._returned.release()

    async def _keep_first_alive(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Do the same as :meth:`_keep_alive` for the first worker; report to ``task_status`` when it is ready.

        Raises:
            ProcessingError: ``worker_died``: no process could be started.
        """
        await self._keep_alive(task_status)

    async def _keep_alive(self, first: trio.TaskStatus[None] | None = None) -> None:
        """Keep one worker alive: replace it each time it ends."""
        reported = first is None

        def report() -> None:
            nonlocal reported
            if first is not None and not reported:
                reported = True
                first.started()

        delay = RESTART_DELAY
        while True:
            worker = await self._run_worker(report)
            if worker is None or not worker.ready:
                self._failed_starts += 1
                if self._cannot_start():
                    if not reported:
                        raise _no_worker()
                    self._wake_waiting()
            # A worker that its command or we have ended can be replaced without delay.
            if worker is not None and worker.ready and (worker.began or worker.phase == "killed"):
                delay = RESTART_DELAY
            else:
                await trio.sleep(delay)
                delay = min(delay * 2, MAX_RESTART_DELAY)
            self.restarts += 1

    async def _run_worker(self, report: Callable[[], None]) -> WorkerProcess | None:
        """Run one worker process until it ends, and return it; None if no process could be started."""
        first, self._first = self._first, None
        try:
            worker = (
                WorkerProcess.of(first, self._max_line)
                if first is not None
                else await WorkerProcess.start(
                    memory_bytes=self._memory, nice=self._nice, max_line=self._max_line, scratch=self._scratch
                )
            )
        except OSError as error:
            self._log.error("worker cannot be started", error=str(error))
            return None
        self._workers.add(worker)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.read_stderr)
                with trio.move_on_after(START_TIMEOUT), contextlib.suppress(WorkerDied):
                    await worker.wait_ready()
                if worker.ready:
                    self._failed_starts = 0
                    self._give_back(worker)
                    report()
                    await worker.process.wait()
                else:
                    await worker.wait_dead()
                nursery.cancel_scope.deadline = trio.current_time() + EXIT_GRACE
            if worker.too_long:
                self._log.error(
                    "a worker's answer was too long", pid=worker.process.pid, limit=worker.max_line
                )
            log = self._log.info if worker.phase == "killed" and worker.ready else self._log.warning
            log(
                "worker ended",
                pid=worker.process.pid,
                how=describe_exit(worker.process),
                stderr=worker.stderr.decode(errors="replace"),
            )
        finally:
            self._workers.discard(worker)
            self._forget_idle(worker)
            await worker.close()
        return worker


def _error_of_dead(worker: WorkerProcess) -> ProcessingError:
    """Make the error for a worker that died while it carried out a command."""
    if worker.too_long:
        return internal_error()
    if worker.out_of_memory:
        return ProcessingError(
            "out_of_memory",
            "The job needs more memory than it may use. Pick fewer columns, filter, or ask for more memory.",
        )
    return ProcessingError(
        "worker_died", f"The process that did the work {describe_exit(worker.process)}. Try again."
    )


def _no_worker() -> ProcessingError:
    return ProcessingError("worker_died", "No process is available to do the work. Try again later.")
