"""How much memory there is on this machine, and how much of it a worker may use."""

import os
from pathlib import Path

from creemson.settings.sections import Settings

__all__ = ["machine_memory", "server_memory", "worker_memory"]

SHARE = 0.8
"""The default limit, as a share of the machine's memory."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the memory limit of a container, in bytes: of cgroup v2 and v1."""


def machine_memory() -> int:
    """Return the bytes of memory of this machine or container (docs.kernel.org, cgroup-v2, memory.max)."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in CGROUP_LIMITS:
        try:
            return min(total, int(path.read_text()))
        except (OSError, ValueError):  # the file does not exist, or says "max"
            continue
    return total


def server_memory(settings: Settings) -> int:
    """Return the memory limit of a server and its workers in bytes: its share of the machine's, if none is set."""
    return settings.limits.memory_bytes or int(machine_memory() * SHARE / settings.server.processes)


def worker_memory(settings: Settings) -> int:
    """Return the memory limit of each worker process in bytes: its share of the machine's, if none is set."""
    processing = settings.processing
    return processing.worker_memory_bytes or int(
        machine_memory() * SHARE / settings.server.processes / processing.workers
    )
