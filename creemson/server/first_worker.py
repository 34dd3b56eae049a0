"""Starts the first worker of a temporary server, before the server itself: the imports of both take longest."""

import contextlib

from creemson.executors.machine import worker_memory
from creemson.executors.spawn import Spawned, spawn
from creemson.settings.sections import Settings

__all__ = ["first_worker"]


def first_worker(settings: Settings) -> Spawned | None:
    """Start the first worker for :func:`creemson.server.embedded.embedded`; it ends with this process at the latest.

    Args:
        settings: effective settings of the server.

    Returns:
        The process; None if the server must start it: it needs a folder of the server's, or cannot be started now.
    """
    if settings.processing.engine != "local" or settings.storage.url is not None:
        return None
    with contextlib.suppress(OSError):
        return spawn(memory_bytes=worker_memory(settings.processing), nice=settings.processing.nice)
    return None
