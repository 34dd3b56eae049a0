"""Makes the executors that the settings ask for; Dask is imported only if it is used."""

from collections.abc import Callable
from functools import partial

import attrs
from structlog.typing import FilteringBoundLogger

from creemson.executors.executor import ClusterState, Executor
from creemson.executors.local import LocalExecutor
from creemson.executors.memory import worker_memory
from creemson.executors.process import ScratchFolder
from creemson.jobs.sharing.turns import SPARE
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError

__all__ = ["Engine", "make_engine", "max_line"]

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
    def all(self) -> tuple[Executor, Executor]:
        """Both executors."""
        return self.workers, self.quick


def max_line(settings: Settings) -> int:
    """Return the maximum bytes of an event of a worker."""
    return settings.limits.answer_bytes + EVENT_BYTES


def make_engine(
    settings: Settings, logger: FilteringBoundLogger, *, scratch: ScratchFolder | None = None
) -> Engine:
    """Make the executors.

    Args:
        settings: effective settings.
        logger: Logger.
        scratch: where workers keep copies of files in an object store; None: there is no object store.

    Raises:
        SettingsError: the scheduler's address or the TLS files cannot be used.
    """
    processing = settings.processing
    make = partial(
        LocalExecutor,
        memory_bytes=worker_memory(processing),
        nice=processing.nice,
        logger=logger,
        max_line=max_line(settings),
        scratch=scratch,
    )
    workers = make(size=processing.workers + SPARE, warm=processing.workers)
    quick = make(size=1 + SPARE, warm=1)
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
        logger=logger,
    )
    return Engine(cluster, quick, cluster.state)
