"""The interface of executors, which run commands on workers."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from creemson.errors import CreemsonError
from creemson.executors.commands import WorkerCommand

__all__ = ["ClusterState", "Executor", "Figures", "OnProgress", "TransientFault"]

Figures: TypeAlias = Mapping[str, Any]
"""Progress of a command: ``phase``, ``bytes_read``, ``bytes_total``, ``rows``, ``fraction``; and ``machine``, the name
of the machine that does the work, if it is not this one."""
OnProgress: TypeAlias = Callable[[Figures], None]


class TransientFault(Exception):  # noqa: N818 - it wraps an error
    """A fault that may not occur in another attempt.

    Attributes:
        error: the error to report if no attempt succeeds.
    """

    def __init__(self, error: CreemsonError) -> None:
        super().__init__(error.message)
        self.error = error


@attrs.frozen(kw_only=True)
class ClusterState:
    """The state of a cluster of other machines.

    Attributes:
        workers: number of workers that can carry out commands.
        running: number of commands that this server has there, those that wait for a worker included.
        lost: number of workers that were lost since the server started.
        trouble: why no command can run there; None if they can.
    """

    workers: int
    running: int
    lost: int
    trouble: str | None


class Executor(Protocol):
    """Runs commands on workers.

    Sources and targets are paths: workers must see the same files as the server. A command writes its target as a
    whole or not at all, even if its worker dies.
    """

    @property
    def size(self) -> int:
        """Maximum number of commands that run at once; further commands wait. It may change."""

    @property
    def restarts(self) -> int:
        """Number of workers that had to be replaced."""

    @property
    def pids(self) -> Collection[int]:
        """Ids of the worker processes on this machine, whose memory counts as the server's."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; end all of them before returning.

        Calls ``task_status.started()`` when commands can be run.

        Raises:
            ProcessingError: ``worker_died``: no worker could be started.
        """

    async def call(self, command: WorkerCommand, *, on_progress: OnProgress | None = None) -> Any:
        """Run a command on a worker; wait for a free one first.

        Cancelling stops the command: it uses no CPU after this method has returned.

        Args:
            command: see :mod:`creemson.executors.commands`.
            on_progress: called with each progress report.

        Returns:
            The value that the worker returns; it consists of JSON types.

        Raises:
            CreemsonError: reported by the worker; or ``worker_died`` or ``out_of_memory`` if the worker ended.
            TransientFault: reported by the worker.
        """

    async def size_changed(self) -> None:
        """Wait until ``size`` may have changed; for ever if it never does."""

    def shed(self) -> bool:
        """Stop the command that uses the most memory on this machine; it fails with ``out_of_memory``.

        Returns:
            Whether a command was stopped.
        """
