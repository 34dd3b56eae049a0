"""The memory of the server and its workers: looked at, so that there is an end before the kernel makes one."""

import math
import os
from collections.abc import Callable, Collection
from pathlib import Path

import psutil
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import ProcessingError

__all__ = ["Memory", "machine_memory"]

SHARE = 0.8
"""Of the machine's memory, where no limit is set."""
INTERVAL = 0.5
"""Seconds between two looks; one takes some 50 µs per process."""
AVAILABLE_LEAST = 0.03
"""Share of the machine that has to be left, whoever uses the rest; below it, the kernel is about to kill somebody."""
EXCESS = 1.1
"""Times the limit, above which work is stopped and not only refused."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Memory:
    """Watches how much memory is in use.

    Args:
        limit: bytes for the server and its workers together; 0 is a share of the machine.
        workers: gives the ids of the worker processes.
        shed: stops the work that needs the most memory; returns whether there was any.
        logger: for what the operator should know.

    Attributes:
        limit: in force.
        server, workers: bytes in use, when last looked at.
    """

    def __init__(
        self,
        limit: int,
        *,
        workers: Callable[[], Collection[int]],
        shed: Callable[[], bool],
        logger: FilteringBoundLogger,
    ) -> None:
        self.limit = limit or int(machine_memory() * SHARE)
        self.server = 0
        self.workers = 0
        self._available_least = machine_memory() * AVAILABLE_LEAST
        self._available = math.inf
        self._pids = workers
        self._shed = shed
        self._log = logger
        self._told = False

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self.server + self.workers

    @property
    def scarce(self) -> bool:
        """Whether nothing new may begin."""
        return self.used > self.limit or self._available < self._available_least

    def refusal(self) -> ProcessingError:
        """The error for what may not begin."""
        return ProcessingError(
            "busy",
            f"The server uses {self.used / 2**20:,.0f} MiB of the {self.limit / 2**20:,.0f} MiB of memory that it may. "
            "Try again in a moment.",
            retry_after=1.0,
        )

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look()
            await trio.sleep(INTERVAL)

    def look(self) -> None:
        """Look how much is in use, and stop work if it is far too much."""
        try:
            self.server = _resident(os.getpid())
            self.workers = sum(map(_resident, self._pids()))
            self._available = psutil.virtual_memory().available
        except OSError:  # no file handle is left to look with; what was seen last is all there is
            return
        if self.scarce != self._told:
            self._told = self.scarce
            log = self._log.warning if self.scarce else self._log.info
            log(
                "memory is scarce" if self.scarce else "memory suffices again",
                used=self.used,
                limit=self.limit,
            )
        too_much = self.used > self.limit * EXCESS or self._available < self._available_least
        if too_much and self._shed():
            self._log.warning("work was stopped for want of memory", used=self.used, limit=self.limit)


def machine_memory() -> int:
    """Bytes of memory that this machine has, or this container (docs.kernel.org, cgroup-v2, memory.max)."""
    total: int = psutil.virtual_memory().total
    for path in CGROUP_LIMITS:
        try:
            return min(total, int(path.read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return total


def _resident(pid: int) -> int:
    try:
        found: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:  # it has gone
        return 0
    return found
