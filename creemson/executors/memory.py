"""Watches the memory of the server and its workers, so that the server acts before the kernel kills a process."""

import math
import os
from collections.abc import Callable, Collection

import psutil
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import ProcessingError
from creemson.executors.machine import machine_memory

__all__ = ["Memory"]

INTERVAL = 0.5
"""Seconds between two checks; a check takes some 50 µs per process."""
MIN_AVAILABLE = 0.03
"""Minimum share of the machine's memory that must be available, whichever programs use the rest; below it, the kernel
is about to kill a process."""
EXCESS = 1.1
"""Multiple of the limit above which commands are not only refused, but stopped."""


class Memory:
    """Watches how much memory is used.

    Args:
        limit: bytes for the server and its workers together.
        workers: returns the ids of the worker processes.
        shed: stops the command that uses the most memory; returns whether one was stopped.
        logger: Logger.

    Attributes:
        limit: effective limit, in bytes.
        server, workers: bytes used by the server and by its workers at the last check.
    """

    def __init__(
        self,
        limit: int,
        *,
        workers: Callable[[], Collection[int]],
        shed: Callable[[], bool],
        logger: FilteringBoundLogger,
    ) -> None:
        self.limit = limit
        self.server = 0
        self.workers = 0
        self._min_available = machine_memory() * MIN_AVAILABLE  # bytes
        self._available = math.inf  # bytes, at the last check
        self._pids = workers
        self._shed = shed
        self._log = logger
        self._reported = False  # whether the log's last word is that memory is scarce

    @property
    def used(self) -> int:
        """Bytes used by the server and its workers."""
        return self.server + self.workers

    @property
    def scarce(self) -> bool:
        """Whether new work must be refused."""
        return self.used > self.limit or self._available < self._min_available

    def refusal(self) -> ProcessingError:
        """Return the error for refused work."""
        return ProcessingError(
            "busy",
            f"The server uses {self.used / 2**20:,.0f} MiB of its {self.limit / 2**20:,.0f} MiB of memory. "
            "Try again in a moment.",
            retry_after=1.0,
        )

    async def run(self) -> None:
        """Check repeatedly; never returns."""
        while True:
            self.check()
            await trio.sleep(INTERVAL)

    def check(self) -> None:
        """Check how much memory is used, and stop a command if it is far too much."""
        try:
            self.server = _resident(os.getpid())
            self.workers = sum(map(_resident, self._pids()))
            self._available = psutil.virtual_memory().available
        except OSError:  # no file handle is left for the check; the last values stay
            return
        if self.scarce != self._reported:
            self._reported = self.scarce
            log = self._log.warning if self.scarce else self._log.info
            log(
                "memory is scarce" if self.scarce else "memory is no longer scarce",
                used=self.used,
                limit=self.limit,
            )
        too_much = self.used > self.limit * EXCESS or self._available < self._min_available
        if too_much and self._shed():
            self._log.warning("a command was stopped to free memory", used=self.used, limit=self.limit)


def _resident(pid: int) -> int:
    try:
        found: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:  # it has ended
        return 0
    return found
