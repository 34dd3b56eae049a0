"""Warm worker processes that can be killed: the only way to stop polars for certain.

Every worker is a task of the pool's nursery. A command is run by borrowing a worker; cancelling the
caller's scope stops the command: politely through the pipe, and by SIGKILL when it does not listen (a
sort does not). A worker that died is replaced, and costs the one command that it had.

(loky and ProcessPoolExecutor are broken for good after one killed worker, and trio-parallel has no way
for progress.)
"""

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, ProcessingError, error_for
from creemson.settings import PREFIX
from creemson.storage.files import remove_with_companions, temporary_name

__all__ = ["Pool", "TransientFault"]

CANCEL_GRACE = 0.2
"""Seconds in which a worker may stop by itself: a scan takes 0.05 to 0.1; to kill one takes up to 0.2 more."""
MEMORY_INTERVAL = 0.1
"""Seconds between two looks at the memory of the workers at work; a look costs some 20 µs for each."""
MEMORY_KEPT = 0.5
"""Share of its limit that a worker may hold between two commands; if it holds more, it is replaced. After commands
that take no time it is looked at as often as it is while at work."""
SHED_LEAST = 128 * 1024 * 1024
"""Bytes that a worker has to hold for its end to be of any help; one that does nothing holds half as much."""
RESTART_DELAY = 0.1
"""Seconds before a worker that ended without having begun anything is replaced; doubled each time."""
RESTART_DELAY_MOST = 5.0
START_TIMEOUT = 30.0
START_ATTEMPTS = 3
"""Failed starts in a row after which those who wait for a worker are told so; attempts go on."""
STDERR_KEPT = 4096
STARVED = b"memory allocation of"
"""What Rust says before it ends the process; a backtrace of any length may follow."""
LAST_WORDS = 0.1
"""Seconds that a worker's end may take, and then the reading of what it wrote last."""
RECEIVE_BYTES = 64 * 1024
DATA_SHARE, DATA_MORE = 4, 2 << 30
"""RLIMIT_DATA is the limit times the first plus the second. It counts what is reserved: a worker that
sorted 766 MB of CSV used 0.7 GB at most and had 2.5 to 3.1 GB of data, and each thread adds its stack.
It is a fence behind the guard, which looks at what is used, for what grows too fast to be seen."""
ALLOCATOR = "_RJEM_MALLOC_CONF", "muzzy_decay_ms:0"
"""Makes polars' allocator hand memory back at once: else what it has freed counts as used for a second,
and for as long as it has nothing to do (half of what a worker seemed to use after a sort)."""

Event = Mapping[str, Any]


class TransientFault(Exception):  # noqa: N818 - what it carries is an error
    """A fault that another attempt may not meet.

    Attributes:
        error: what to tell if no attempt does better.
    """

    def __init__(self, error: CreemsonError) -> None:
        super().__init__(error.message)
        self.error = error


class _Died(Exception):  # noqa: N818 - what it did
    """The worker's output has ended, or makes no sense."""


@attrs.define(eq=False)
class _Worker:
    """One process and the bytes that came from it.

    Attributes:
        stderr: the end of what it wrote there.
        silent: set when it will write nothing more there.
        ready: whether it has started.
        busy: whether it has a command that it has not ended.
        torn: whether a part of a line may have been written to it: what follows it would not understand.
        began: whether it has ever begun a command.
        killed: whether we did it.
        over_memory: whether that was why.
        starved: whether it said that it could have no more memory.
        looked: when it was looked whether it holds too much between two commands.
    """

    process: trio.Process
    stderr: bytes = b""
    silent: trio.Event = attrs.field(factory=trio.Event)
    ready: bool = False
    busy: bool = False
    torn: bool = False
    began: bool = False
    killed: bool = False
    over_memory: bool = False
    starved: bool = False
    looked: float = -math.inf
    _pieces: list[bytes] = attrs.field(factory=list)
    _lines: deque[bytes] = attrs.field(factory=deque)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def usable(self) -> bool:
        """Whether it can take a command; one that was killed may be alive for a moment yet."""
        return self.alive and not self.killed and not self.busy

    async def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.torn = True
        try:
            await self.process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise _Died from None
        self.torn = False

    async def receive(self) -> dict[str, Any]:
        """The next event. Cancelling it loses nothing."""
        assert self.process.stdout is not None
        while not self._lines:
            try:
                data = bytes(await self.process.stdout.receive_some(RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise _Died
            # A line of megabytes comes in many pieces; they are joined once.
            *ends, rest = data.split(b"\n")
            for end in ends:
                self._lines.append(b"".join([*self._pieces, end]))
                self._pieces.clear()
            self._pieces.append(rest)
        try:
            event: dict[str, Any] = orjson.loads(self._lines.popleft())
        except orjson.JSONDecodeError:
            raise _Died from None
        return event

    def used_bytes(self) -> int:
        """Memory that is the process's own (pages of files are not); 0 if it has gone."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.process.pid}/statm").read_bytes().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * resource.getpagesize()

    def kill(self) -> None:
        self.killed = True
        self.process.kill()


class Pool:
    """A fixed number of worker processes.

    Args:
        size: how many.
        memory_bytes: of each; over it, it is killed, and its command ends in ``out_of_memory``; 0 is no limit.
        nice: their niceness.
        logger: for what the operator should know.
    """

    def __init__(self, *, size: int, memory_bytes: int, nice: int, logger: FilteringBoundLogger) -> None:
        self.size = size
        self.restarts = 0
        self._memory = memory_bytes
        self._nice = nice
        self._log = logger
        self._workers: set[_Worker] = set()
        # Last in, first out: the same few stay busy, and what they have in memory stays warm.
        self._idle: list[_Worker] = []
        self._returned = trio.Semaphore(0)
        self._attempts = 0
        self._failed_starts = 0
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes that live."""
        return [worker.process.pid for worker in self._workers if worker.alive]

    def shed(self) -> bool:
        """Stop the command that needs the most memory, if there is any at work; it ends in ``out_of_memory``."""
        at_work = [worker for worker in self._workers if worker.busy and worker.alive and not worker.killed]
        largest = max(at_work, key=_Worker.used_bytes, default=None)
        if largest is None or largest.used_bytes() < SHED_LEAST:
            return False
        largest.over_memory = True
        largest.kill()
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; then none is left.

        Reports that the first one is ready.

        Raises:
            ProcessingError: ``worker_died``: not one could be started.
        """
        failure: ProcessingError | None = None
        try:
            async with trio.open_nursery() as nursery:
                if self._memory:
                    nursery.start_soon(self._guard_memory)
                try:
                    await nursery.start(self._keep)
                except ProcessingError as error:  # raised outside, so that the nursery does not wrap it
                    failure = error
                    nursery.cancel_scope.cancel()
                else:
                    for _ in range(self.size - 1):
                        nursery.start_soon(self._keep)
                    task_status.started()
        finally:
            self._closed = True
            self._wake_waiting()
        if failure is not None:
            raise failure

    async def call(
        self, command: Mapping[str, Any], *, on_progress: Callable[[Event], None] | None = None
    ) -> Any:
        """Have a worker carry out a command; wait for a free one if need be.

        Cancelling stops the command; when this returns, no CPU is spent on it any more.

        Args:
            command: see :mod:`creemson.processing.worker`; a temporary name for its target is added.
            on_progress: is told each ``progress``.

        Returns:
            The value.

        Raises:
            CreemsonError: as the worker says; ``worker_died`` or ``out_of_memory`` where it cannot any more.
            TransientFault: as the worker says.
        """
        part = None
        if "target" in command:
            self._attempts += 1
            target = Path(command["target"])
            part = target.with_name(temporary_name(target.name, str(self._attempts)))
            command = {**command, "part": str(part)}
        line = orjson.dumps(command, option=orjson.OPT_APPEND_NEWLINE)
        worker = await self._begin(line, part)
        try:
            while (event := await worker.receive())["event"] == "progress":
                if on_progress is not None:
                    on_progress({key: value for key, value in event.items() if key != "event"})
            worker.busy = False
        except _Died:
            await self._end(worker)
            raise self._death(worker) from None
        finally:
            await self._release(worker, part)
        if event["event"] == "done":
            return event["value"]
        error = error_for(event["reason"], event["message"], details=event["details"])
        if event["traceback"] is not None:
            self._log.error(
                "command failed", op=command["op"], error=error.message, traceback=event["traceback"]
            )
        raise TransientFault(error) if event["transient"] else error

    # --- one command ---------------------------------------------------------------------------------

    async def _begin(self, line: bytes, part: Path | None) -> _Worker:
        """Borrow a worker and have it begin a command; if it turns out to be dead, another one."""
        while True:
            worker = await self._borrow()
            worker.busy = True
            try:
                await worker.send(line)
                await worker.receive()  # began
            except _Died:
                await self._end(worker)
                continue
            except BaseException:
                await self._release(worker, part)
                raise
            worker.began = True
            return worker

    async def _release(self, worker: _Worker, part: Path | None) -> None:
        """Part with a worker, which stops if it is still at work; cancelling this has no effect."""
        with trio.CancelScope(shield=True):
            if worker.busy and worker.alive:
                await self._stop(worker)
            # What it still holds would count against its next command.
            if self._memory and trio.current_time() >= worker.looked + MEMORY_INTERVAL:
                worker.looked = trio.current_time()
                if worker.used_bytes() > self._memory * MEMORY_KEPT:
                    worker.kill()
            if worker.usable:
                self._give_back(worker)
                return
            await worker.process.wait()
            if part is not None:  # gigabytes may take a while to remove
                await trio.to_thread.run_sync(remove_with_companions, part)

    async def _guard_memory(self) -> None:
        while True:
            for worker in self._workers:
                if worker.busy and worker.used_bytes() > self._memory:
                    worker.over_memory = True
                    worker.kill()
            await trio.sleep(MEMORY_INTERVAL)

    async def _stop(self, worker: _Worker) -> None:
        """Ask a worker to stop, and kill it if it does not."""
        if not worker.torn:
            with trio.move_on_after(CANCEL_GRACE), contextlib.suppress(_Died):
                await worker.send(b'{"op":"cancel"}\n')
                while (await worker.receive())["event"] in ("began", "progress"):
                    pass
                worker.busy = False
                return
        worker.kill()

    async def _end(self, worker: _Worker) -> None:
        """Make sure that a worker is dead, and that its last words are known."""
        with trio.CancelScope(shield=True):
            # Its pipes close a moment before the process has an end that can be told.
            with trio.move_on_after(LAST_WORDS):
                await worker.process.wait()
            if worker.alive:
                worker.kill()
                await worker.process.wait()
            with trio.move_on_after(LAST_WORDS):
                await worker.silent.wait()

    def _death(self, worker: _Worker) -> ProcessingError:
        """Why a worker died in the middle of a command."""
        if worker.over_memory or worker.starved:
            return ProcessingError(
                "out_of_memory",
                "The job needs more memory than there is for it. Pick fewer columns, filter, or ask for more memory.",
            )
        return ProcessingError(
            "worker_died", f"The process that did the work {_ending(worker.process)}. Try again."
        )

    # --- the workers ---------------------------------------------------------------------------------

    async def _borrow(self) -> _Worker:
        while True:
            if self._closed or self._hopeless():
                raise _no_worker()
            await self._returned.acquire()
            # Those who wait are also woken when there is nothing to wait for any more.
            worker = self._idle.pop() if self._idle else None
            if worker is not None and worker.usable:
                return worker

    def _give_back(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._returned.release()

    def _forget_idle(self, worker: _Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            # If somebody has been woken for it, they will find that there is none, and wait again.
            with contextlib.suppress(trio.WouldBlock):
                self._returned.acquire_nowait()

    def _hopeless(self) -> bool:
        """Whether no worker is there and none can be started."""
        return self._failed_starts >= START_ATTEMPTS and not any(worker.ready for worker in self._workers)

    def _wake_waiting(self) -> None:
        for _ in range(self._returned.statistics().tasks_waiting):
            self._returned.release()

    async def _keep(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep one place of the pool filled with a living worker.

        Reports that the first one is ready.

        Raises:
            ProcessingError: ``worker_died``: it could not be started.
        """
        reported = False

        def report() -> None:
            nonlocal reported
            if not reported:
                reported = True
                task_status.started()

        delay = RESTART_DELAY
        while True:
            worker = await self._live(report)
            if worker is None or not worker.ready:
                self._failed_starts += 1
                if self._hopeless():
                    if not reported:
                        raise _no_worker()
                    self._wake_waiting()
            # What a command does to its worker, or we to stop it, is no reason to wait.
            if worker is not None and worker.ready and (worker.began or worker.killed):
                delay = RESTART_DELAY
            else:
                await trio.sleep(delay)
                delay = min(delay * 2, RESTART_DELAY_MOST)
            self.restarts += 1

    async def _live(self, report: Callable[[], None]) -> _Worker | None:
        """The life of one worker; None if there could be no process."""
        fence = self._memory * DATA_SHARE + DATA_MORE if self._memory else 0
        arguments = [f"--data-bytes={fence}", f"--nice={self._nice}"]
        try:
            process = await trio.lowlevel.open_process(
                # -P: modules are not looked for in the folder that the server happens to be started in.
                [sys.executable, "-P", "-m", "creemson.processing.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                # Ctrl-C goes to the group of the server: in a group of their own, workers do not get it.
                process_group=0,
            )
        except OSError as error:
            self._log.error("worker cannot be started", error=str(error))
            return None
        worker = _Worker(process)
        self._workers.add(worker)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_stderr, worker)
                with trio.move_on_after(START_TIMEOUT), contextlib.suppress(_Died):
                    await worker.receive()  # ready
                    worker.ready = True
                if worker.ready:
                    self._failed_starts = 0
                    self._give_back(worker)
                    report()
                    await process.wait()
                else:
                    await self._end(worker)
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
            log = self._log.info if worker.killed and worker.ready else self._log.warning
            log(
                "worker ended",
                pid=process.pid,
                how=_ending(process),
                stderr=worker.stderr.decode(errors="replace"),
            )
        finally:
            self._workers.discard(worker)
            self._forget_idle(worker)
            if worker.alive:
                worker.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    assert stream is not None
                    await stream.aclose()
        return worker

    async def _read_stderr(self, worker: _Worker) -> None:
        """Keep the pipe from filling, and the last words of the worker."""
        assert worker.process.stderr is not None
        async for data in worker.process.stderr:
            words = worker.stderr + data
            worker.starved = worker.starved or STARVED in words
            worker.stderr = words[-STDERR_KEPT:]
        worker.silent.set()


def _environment() -> dict[str, str]:
    """That of a worker: files of strangers are read there, so the server's secrets are not."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    name, option = ALLOCATOR  # options may be there, polars' own as well; of two, the last one counts
    kept[name] = f"{kept[name]},{option}" if kept.get(name) else option
    return kept


def _no_worker() -> ProcessingError:
    return ProcessingError("worker_died", "There is no process that could do the work. Try again later.")


def _ending(process: trio.Process) -> str:
    """How a process ended, in words."""
    code = process.returncode
    if code is None:
        return "is ending"
    if code >= 0:
        return f"ended with status {code}"
    names = {member.value: member.name for member in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}"
