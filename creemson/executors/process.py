"""One worker process and the pipes to it; :mod:`creemson.executors.local` decides when to start and stop it."""

import contextlib
import math
import os
import resource
import signal
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import orjson
import trio

from creemson.executors.child import ChildProcess
from creemson.executors.commands import CANCEL
from creemson.executors.spawn import ScratchFolder, Spawned, spawn

__all__ = ["EXIT_GRACE", "MAX_LINE", "Phase", "WorkerDied", "WorkerProcess", "describe_exit"]

CANCEL_GRACE = 0.2
"""Seconds in which a worker may stop its command before it is killed: a scan stops within 0.05 to 0.1; a kill takes up
to 0.2 more."""
MAX_STDERR = 4096
"""Number of last bytes of a worker's standard error that are kept for the log."""
ALLOCATION_FAILED = b"memory allocation of"
"""What Rust prints when an allocation fails, before it ends the process; a backtrace of any length may follow."""
EXIT_GRACE = 0.1
"""Seconds to wait for the end of a worker, and then for the rest of its output."""
RECEIVE_BYTES = 64 * 1024
"""Bytes per read."""
MAX_LINE = 64 * 1024 * 1024
"""Default of the maximum bytes of an event."""
Phase: TypeAlias = Literal["starting", "idle", "busy", "killed"]
"""What a worker process does. ``starting``: not yet ready. ``idle``: waits for a command. ``busy``: carries one out.
``killed``: we have killed it, but it may be alive for another moment."""


class WorkerDied(Exception):  # noqa: N818 - an event, not an error
    """The worker's output has ended, or is not understood."""


@attrs.define(eq=False)
class WorkerProcess:
    """One process and the bytes that came from it.

    Attributes:
        process: the process.
        lifeline: see :class:`Spawned`.
        phase: see :data:`Phase`.
        ready: whether it has started successfully.
        began: whether it has ever begun a command.
        torn: whether an incomplete line may have been written to it; then it would not understand the next line.
        out_of_memory: whether it was killed, or has ended, because it used too much memory.
        max_line: maximum bytes of an event; a process that writes more is killed. Workers bound their answers
            themselves, so this protects the server from a bug in one, or from somebody who has taken it over.
        too_long: whether it was killed for that.
        stderr: the last bytes that it wrote to standard error.
        silent: set when its standard error has ended.
        checked: time when its memory was last checked between two commands.
    """

    process: ChildProcess
    lifeline: int
    max_line: int = MAX_LINE
    phase: Phase = "starting"
    ready: bool = False
    began: bool = False
    torn: bool = False
    out_of_memory: bool = False
    too_long: bool = False
    stderr: bytes = b""
    silent: trio.Event = attrs.field(factory=trio.Event)
    checked: float = -math.inf
    _pieces: list[bytes] = attrs.field(factory=list)  # of a line whose end has not arrived
    _length: int = 0  # of these pieces
    _lines: deque[bytes] = attrs.field(factory=deque)  # received, not yet returned

    @classmethod
    async def start(
        cls, *, memory_bytes: int, nice: int, max_line: int = MAX_LINE, scratch: ScratchFolder | None = None
    ) -> "WorkerProcess":
        """Start a process; it is ready after its first event.

        Args:
            memory_bytes: memory limit; 0 disables it.
            nice: niceness.
            max_line: maximum bytes of an event.
            scratch: where it keeps copies of files in an object store; None: there is no object store.

        Raises:
            OSError: the process cannot be started.
        """
        # It takes some milliseconds, in which the server must answer others.
        spawned = await trio.to_thread.run_sync(
            partial(spawn, memory_bytes=memory_bytes, nice=nice, scratch=scratch)
        )
        return cls.of(spawned, max_line)

    @classmethod
    def of(cls, spawned: Spawned, max_line: int = MAX_LINE) -> "WorkerProcess":
        """Take over a process that was started before.

        Args:
            spawned: the process.
            max_line: maximum bytes of an event.
        """
        return cls(ChildProcess(spawned), spawned.lifeline, max_line)

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.returncode is None

    @property
    def usable(self) -> bool:
        """Whether it can take a command."""
        return self.phase == "idle" and self.alive

    async def send(self, line: bytes) -> None:
        """Write a line.

        Raises:
            WorkerDied: the process does not read it.
        """
        self.torn = True
        try:
            await self.process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise WorkerDied from None
        self.torn = False

    async def receive(self) -> dict[str, Any]:
        """Wait for the next event. Cancelling loses nothing.

        Raises:
            WorkerDied: no further event will come.
        """
        while not self._lines:
            try:
                data = bytes(await self.process.stdout.receive_some(RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise WorkerDied
            # A line of megabytes comes in many pieces, which are joined once.
            *ends, rest = data.split(b"\n")
            for end in ends:
                self._lines.append(b"".join([*self._pieces, end]))
                self._pieces.clear()
                self._length = 0
            self._pieces.append(rest)
            self._length += len(rest)
            if self._length > self.max_line:
                self._pieces.clear()
                self.too_long = True
                self.kill()
                raise WorkerDied
        try:
            event: dict[str, Any] = orjson.loads(self._lines.popleft())
        except orjson.JSONDecodeError:
            raise WorkerDied from None
        return event

    async def wait_ready(self) -> None:
        """Wait until the process has started.

        Raises:
            WorkerDied: it ended instead.
        """
        await self.receive()
        self.ready = True
        self.phase = "idle"

    async def begin(self, line: bytes) -> None:
        """Send it a command and wait until it has begun.

        Raises:
            WorkerDied: it ended instead.
        """
        self.phase = "busy"
        await self.send(line)
        await self.receive()  # "began"
        self.began = True

    def end_command(self) -> None:
        """Note that the command has ended."""
        if self.phase == "busy":
            self.phase = "idle"

    async def stop(self) -> None:
        """Ask it to stop its command; kill it if it does not stop in time."""
        if not self.torn:
            with trio.move_on_after(CANCEL_GRACE), contextlib.suppress(WorkerDied):
                await self.send(orjson.dumps(CANCEL, option=orjson.OPT_APPEND_NEWLINE))
                while (await self.receive())["event"] in ("began", "progress"):
                    pass
                self.end_command()
                return
        self.kill()

    def kill(self, *, out_of_memory: bool = False) -> None:
        """End the process at once."""
        self.phase = "killed"
        self.out_of_memory = self.out_of_memory or out_of_memory
        self.process.kill()

    async def wait_dead(self) -> None:
        """Wait until a process whose pipes are closed has ended and its output has been read; kill it if necessary."""
        with trio.CancelScope(shield=True):
            # The pipes close a moment before the exit status is available.
            with trio.move_on_after(EXIT_GRACE):
                await self.process.wait()
            if self.alive:
                self.kill()
                await self.process.wait()
            with trio.move_on_after(EXIT_GRACE):
                await self.silent.wait()

    async def read_stderr(self) -> None:
        """Read standard error until it ends, so that the pipe does not fill; keep its last bytes."""
        async for data in self.process.stderr:
            text = self.stderr + data
            self.out_of_memory = self.out_of_memory or ALLOCATION_FAILED in text
            self.stderr = text[-MAX_STDERR:]
        self.silent.set()

    async def close(self) -> None:
        """Kill the process and close its pipes; cannot be cancelled."""
        if self.alive:
            self.kill()
        with trio.CancelScope(shield=True):
            await self.process.wait()
            os.close(self.lifeline)
            await self.process.aclose()

    def used_bytes(self) -> int:
        """Return the private memory of the process (without pages of files); 0 if it has ended."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.process.pid}/statm").read_bytes().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * resource.getpagesize()


def describe_exit(process: ChildProcess) -> str:
    """Describe how a process ended, as the predicate of a sentence."""
    code = process.returncode
    if code is None:
        return "is ending"
    if code >= 0:
        return f"ended with status {code}"
    names = {member.value: member.name for member in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}"
