"""Starts the first worker of a temporary server, before the server itself: the imports of both take longest."""

import contextlib

from creemson.executors.machine import worker_memory
from creemson.executors.spawn import Spawned, spawn
from creemson.settings.sections import Settings

__all__ = ["first_worker"]


def first_worker(settings: Settings) -> Spawned | None:
    """Start the first worker for :func:`creemson.server.embedded.embedded`; it ends with this process at the latest.

    Args:
        settings: effective settings.

    Returns:
        The process; None if it cannot be started now: then the server tries it, and reports the error.
    """
    with contextlib.suppress(OSError):
        return spawn(memory_bytes=worker_memory(settings), nice=settings.processing.nice)
    return None
