"""Makes the executors that the settings ask for; Dask is imported only if it is used."""

from collections.abc import Callable
from functools import partial

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.executors.executor import ClusterState, Executor
from creemson.executors.local import LocalExecutor
from creemson.executors.machine import worker_memory
from creemson.executors.spawn import ScratchFolder, Spawned
from creemson.jobs.sharing.turns import SPARE
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError

__all__ = ["Engine", "make_engine", "max_line", "scratch_folder"]

EVENT_BYTES = 256 * 1024
"""Maximum bytes of a worker's event beside the answer that it carries."""


@attrs.frozen
class Engine:
    """The executors of a server.

    Attributes:
        workers: runs jobs.
        quick: runs commands that must not wait for jobs, always on this machine.
        cluster: returns the state of the cluster that jobs run on; None if they run on this machine.
    """

    workers: Executor
    quick: Executor
    cluster: Callable[[], ClusterState] | None = None

    @property
    def all(self) -> tuple[Executor, ...]:
        """The executors, each of them once."""
        return (self.workers,) if self.workers is self.quick else (self.workers, self.quick)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the executors until cancelled; see :meth:`creemson.executors.executor.Executor.run`.

        Calls ``task_status.started()`` when all of them can run commands.

        Raises:
            ProcessingError: ``worker_died``: no worker could be started.
        """
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                for executor in self.all:
                    starting.start_soon(nursery.start, executor.run)
            task_status.started()


def max_line(settings: Settings) -> int:
    """Return the maximum bytes of an event of a worker."""
    return settings.limits.answer_bytes + EVENT_BYTES


def scratch_folder(settings: Settings) -> ScratchFolder | None:
    """Return where workers keep copies of files in an object store; None: there is no object store."""
    storage = settings.storage
    if storage.url is None:
        return None
    return ScratchFolder(storage.data_dir.absolute() / "scratch", storage.scratch_bytes)


def make_engine(
    settings: Settings,
    logger: FilteringBoundLogger,
    *,
    few_callers: bool = False,
    first: Spawned | None = None,
) -> Engine:
    """Make the executors.

    Args:
        settings: effective settings.
        logger: Logger.
        few_callers: whether to start with one worker for everything, and to start others when they are needed. Jobs of
            one caller leave the spare worker free, so commands that must not wait for jobs find it.
        first: the first worker, from :func:`creemson.server.first_worker.first_worker`; None starts it.

    Raises:
        SettingsError: the scheduler's address or the TLS files cannot be used.
    """
    processing = settings.processing
    make = partial(
        LocalExecutor,
        memory_bytes=worker_memory(settings),
        nice=processing.nice,
        logger=logger,
        max_line=max_line(settings),
        scratch=scratch_folder(settings),
    )
    is_shared = few_callers and processing.engine == "local"
    workers = make(size=processing.workers + SPARE, warm=1 if is_shared else processing.workers, first=first)
    quick = workers if is_shared else make(size=1 + SPARE, warm=1)
    if processing.engine == "local":
        return Engine(workers, quick)
    from creemson.executors.dask.executor import DaskExecutor  # noqa: PLC0415 - it takes a second
    from creemson.executors.dask.tls import TlsFiles, refusal  # noqa: PLC0415

    address = processing.dask_scheduler or ""
    files = TlsFiles.of(processing.dask_ca, processing.dask_cert, processing.dask_key)
    refused = refusal(address, files, how="processing.dask_ca, processing.dask_cert and processing.dask_key")
    if refused is not None:
        raise SettingsError(refused)
    cluster = DaskExecutor(
        workers,
        address=address,
        files=files if address.startswith("tls:") else None,
        least_bytes=processing.dask_least_bytes,
        part_bytes=processing.dask_part_bytes,
        logger=logger,
    )
    return Engine(cluster, quick, cluster.state)
