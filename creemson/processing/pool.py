"""Warm worker processes that can be killed: the only way to stop polars for certain.

Every worker is a task of the pool's nursery. A command is run by borrowing a worker; cancelling the
caller's scope stops the command: politely through the pipe, and by SIGKILL when it does not listen (a
sort does not). A worker that died is replaced, and costs the one command that it had.

(loky and ProcessPoolExecutor are broken for good after one killed worker, and trio-parallel has no way
for progress.)
"""

import contextlib
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
from creemson.storage.files import temporary_name

__all__ = ["Pool", "TransientFault"]

CANCEL_GRACE = 0.25
"""Seconds in which a worker may stop by itself."""
MEMORY_INTERVAL = 0.1
"""Seconds between two looks at a working worker's memory."""
RESTART_DELAY = 0.1
"""Seconds before a worker that died without having done anything is replaced; doubled each time."""
RESTART_DELAY_MOST = 5.0
START_TIMEOUT = 60.0
STDERR_KEPT = 4096
LAST_WORDS = 0.1
"""Seconds after a worker's death in which what it wrote last is read."""
RECEIVE_BYTES = 64 * 1024
DATA_HEADROOM = 2
"""RLIMIT_DATA as a multiple of the limit: it counts what is reserved and not what is used, and is the
fence behind the guard, which looks at what is used."""

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
    """The worker's output has ended."""


@attrs.define(eq=False)
class _Worker:
    """One process and the bytes that came from it."""

    process: trio.Process
    stderr: bytes = b""
    silent: trio.Event = attrs.field(factory=trio.Event)
    busy: bool = False
    useful: bool = False
    killed: bool = False
    over_memory: bool = False
    _received: bytearray = attrs.field(factory=bytearray)
    _lines: deque[bytes] = attrs.field(factory=deque)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and self.process.poll() is None

    async def send(self, command: Event) -> None:
        assert self.process.stdin is not None
        try:
            await self.process.stdin.send_all(orjson.dumps(command, option=orjson.OPT_APPEND_NEWLINE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise _Died from None

    async def receive(self) -> dict[str, Any]:
        """The next event. Cancelling it loses nothing."""
        assert self.process.stdout is not None
        while not self._lines:
            try:
                data = await self.process.stdout.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise _Died
            self._received += data
            *lines, rest = self._received.split(b"\n")
            self._lines.extend(map(bytes, lines))
            self._received = bytearray(rest)
        event: dict[str, Any] = orjson.loads(self._lines.popleft())
        return event

    def resident_bytes(self) -> int:
        """What the process has in memory; 0 if it has gone."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_bytes().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * resource.getpagesize()

    def kill(self) -> None:
        self.killed = self.killed or self.alive
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

    @property
    def pids(self) -> list[int]:
        """Of the processes that live."""
        return [worker.process.pid for worker in self._workers if worker.alive]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; then none is left.

        Reports that the first one is ready.

        Raises:
            ProcessingError: ``worker_died``: not one could be started.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._keep)
            for _ in range(self.size - 1):
                nursery.start_soon(self._keep)
            task_status.started()

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
        worker = await self._borrow()
        try:
            return await self._carry_out(worker, command, on_progress)
        except _Died:
            with trio.CancelScope(shield=True):
                await self._end(worker)
            raise self._death(worker) from None
        finally:
            if worker.busy and worker.alive:  # cancelled
                with trio.CancelScope(shield=True):
                    await self._stop(worker)
            if worker.alive:
                self._give_back(worker)
            elif part is not None:
                part.unlink(missing_ok=True)

    # --- one command ---------------------------------------------------------------------------------

    async def _carry_out(
        self, worker: _Worker, command: Mapping[str, Any], on_progress: Callable[[Event], None] | None
    ) -> Any:
        event: Event = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guard_memory, worker)
            failure: Exception | None = None
            worker.busy = True
            try:
                await worker.send(command)
                while (event := await worker.receive())["event"] == "progress":
                    if on_progress is not None:
                        on_progress({key: value for key, value in event.items() if key != "event"})
            except _Died as died:  # raised outside, so that the nursery does not wrap it
                failure = died
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        worker.busy = False
        worker.useful = True
        if event["event"] == "done":
            return event["value"]
        error = error_for(event["reason"], event["message"], details=event["details"])
        raise TransientFault(error) if event["transient"] else error

    async def _guard_memory(self, worker: _Worker) -> None:
        while self._memory:
            if worker.resident_bytes() > self._memory:
                worker.over_memory = True
                worker.kill()
                return
            await trio.sleep(MEMORY_INTERVAL)

    async def _stop(self, worker: _Worker) -> None:
        """Ask the worker to stop, and kill it if it does not."""
        with trio.move_on_after(CANCEL_GRACE), contextlib.suppress(_Died):
            await worker.send({"op": "cancel"})
            while (await worker.receive())["event"] == "progress":
                pass
            worker.busy = False
            return
        await self._end(worker)

    async def _end(self, worker: _Worker) -> None:
        """Make sure that a worker is dead, and that its last words are known."""
        worker.kill()
        await worker.process.wait()
        with trio.move_on_after(LAST_WORDS):
            await worker.silent.wait()

    def _death(self, worker: _Worker) -> ProcessingError:
        """Why a worker died in the middle of a command."""
        if worker.over_memory or b"memory allocation of" in worker.stderr or b"MemoryError" in worker.stderr:
            return ProcessingError(
                "out_of_memory",
                "The job needs more memory than a worker has. Pick fewer columns, filter, or ask for more memory.",
            )
        return ProcessingError(
            "worker_died", f"The process that did the work {_ending(worker.process)}. Try again."
        )

    # --- the workers ---------------------------------------------------------------------------------

    async def _borrow(self) -> _Worker:
        while True:
            await self._returned.acquire()
            worker = self._idle.pop()
            if worker.alive:
                return worker

    def _give_back(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._returned.release()

    async def _keep(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep one place of the pool filled with a living worker."""
        delay = RESTART_DELAY
        while True:
            useful = await self._live(task_status)
            task_status = trio.TASK_STATUS_IGNORED
            delay = RESTART_DELAY if useful else min(delay * 2, RESTART_DELAY_MOST)
            if not useful:
                await trio.sleep(delay)
            self.restarts += 1

    async def _live(self, task_status: trio.TaskStatus[None]) -> bool:
        """The life of one worker; returns whether it has done anything useful."""
        arguments = [f"--memory-bytes={self._memory * DATA_HEADROOM}", f"--nice={self._nice}"]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "creemson.processing.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        worker = _Worker(process)
        self._workers.add(worker)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_stderr, worker)
                with trio.move_on_after(START_TIMEOUT):
                    with contextlib.suppress(_Died):
                        await worker.receive()  # ready
                        self._give_back(worker)
                        task_status.started()
                await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
            log = self._log.info if worker.killed else self._log.warning
            log(
                "worker ended",
                pid=process.pid,
                how=_ending(process),
                stderr=worker.stderr.decode(errors="replace"),
            )
        finally:
            self._workers.discard(worker)
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    assert stream is not None
                    await stream.aclose()
        return worker.useful

    async def _read_stderr(self, worker: _Worker) -> None:
        """Keep the pipe from filling, and the last words of the worker."""
        assert worker.process.stderr is not None
        async for data in worker.process.stderr:
            worker.stderr = (worker.stderr + data)[-STDERR_KEPT:]
        worker.silent.set()


def _ending(process: trio.Process) -> str:
    """How a process ended, in words."""
    code = process.returncode
    if code is None:
        return "is ending"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"
