"""A child process in trio, whoever has started it: :func:`trio.lowlevel.open_process` can only start one itself."""

import os

import trio

from creemson.executors.spawn import Spawned

__all__ = ["ChildProcess"]


class ChildProcess:
    """A child process, with its pipes as streams.

    Args:
        spawned: the process, whose pipes this object closes.

    Attributes:
        pid: its id.
        stdin, stdout, stderr: the streams.
    """

    def __init__(self, spawned: Spawned) -> None:
        self._process = spawned.process
        self.pid = spawned.process.pid
        self.stdin, self.stdout, self.stderr = (
            trio.lowlevel.FdStream(number) for number in (spawned.stdin, spawned.stdout, spawned.stderr)
        )
        self._waiting = trio.Lock()  # a file descriptor can be waited for by one task only
        try:
            self._handle: int | None = os.pidfd_open(self.pid)
        except OSError:  # a sandbox may lack the call, or no file descriptor is left
            self._handle = None
        self._thread = trio.CapacityLimiter(1)  # used if there is no handle

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that has ended it; None if it is alive."""
        return self._process.poll()

    async def wait(self) -> int:
        """Wait until it has ended, and return its exit status; any number of tasks may wait."""
        async with self._waiting:
            if self.returncode is None:
                if self._handle is not None:
                    await trio.lowlevel.wait_readable(self._handle)
                else:
                    await trio.to_thread.run_sync(
                        self._process.wait, abandon_on_cancel=True, limiter=self._thread
                    )
            return self._process.wait()

    def kill(self) -> None:
        """End it at once; idempotent."""
        self._process.kill()

    async def aclose(self) -> None:
        """Close the pipes; the process must have ended."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        for stream in (self.stdin, self.stdout, self.stderr):
            await stream.aclose()
