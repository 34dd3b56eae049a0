"""The workers of one machine: Dask's workers, each with a nanny that replaces it, one task at a time each."""

import asyncio
import logging
import signal
from collections.abc import Callable

import attrs
import dask
from distributed import Nanny
from distributed.utils import get_ip

from creemson.executors.dask.host import Host, HostSettings
from creemson.executors.dask.library import security
from creemson.executors.dask.tls import TlsFiles, host_of
from creemson.executors.dask.versions import own_label

__all__ = ["WorkerSettings", "run_workers"]

RESTART_DELAY = 1.0
"""Seconds before a worker is started again that has ended with its nanny."""
CLOSE_TIMEOUT = 10.0
"""Maximum seconds for the end of a worker."""
DEATH_TIMEOUT = 60.0
"""Seconds that a worker waits for the scheduler before it is started afresh."""


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """What the workers of one machine need.

    Attributes:
        scheduler: address of the scheduler.
        files: TLS files; None without TLS.
        count: number of workers.
        process: how their processes run.
        host: address on which they listen; None: the one that reaches the scheduler.
        folder: folder for Dask's files.
    """

    scheduler: str
    files: TlsFiles | None
    count: int
    process: HostSettings
    host: str | None
    folder: str


def run_workers(settings: WorkerSettings, *, on_ready: Callable[[], object]) -> None:
    """Run workers until SIGINT or SIGTERM.

    Args:
        settings: how they run.
        on_ready: called when all are connected to the scheduler for the first time.
    """
    # Dask would let its processes, and so ours below them, return freed memory at once, which costs polars a fifth more
    # CPU time.
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        asyncio.run(_run(settings, on_ready))


async def _run(settings: WorkerSettings, on_ready: Callable[[], object]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    missing = settings.count

    def ready() -> None:
        nonlocal missing
        missing -= 1
        if missing == 0:
            on_ready()

    keepers = [asyncio.create_task(_keep(settings, stopping, ready)) for _ in range(settings.count)]
    await stopping.wait()
    await asyncio.gather(*keepers)


async def _keep(settings: WorkerSettings, stopping: asyncio.Event, ready: Callable[[], object]) -> None:
    """Keep one worker with its nanny until the end."""
    stop = asyncio.create_task(stopping.wait())
    told = False
    while not stopping.is_set():
        nanny = _nanny(settings)
        start = asyncio.ensure_future(nanny)
        try:
            await asyncio.wait([start, stop], return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                if not told:
                    told = True
                    ready()
                end = asyncio.ensure_future(nanny.finished())
                await asyncio.wait([end, stop], return_when=asyncio.FIRST_COMPLETED)
                end.cancel()
        except Exception as error:
            logging.getLogger("distributed.nanny").warning("Worker not started: %s", error)
        finally:
            start.cancel()
            await nanny.close(timeout=CLOSE_TIMEOUT)
        await asyncio.wait([stop], timeout=RESTART_DELAY)


def _nanny(settings: WorkerSettings) -> Nanny:
    return Nanny(
        settings.scheduler,
        nthreads=1,
        # Dask's limit counts the wrong process; that of the worker process is the host's.
        memory_limit=0,
        resources={own_label(): 1},
        security=security(settings.files),
        death_timeout=DEATH_TIMEOUT,
        local_directory=settings.folder,
        # Without a host, Dask's worker listens on all addresses, also if the scheduler is on this machine only.
        host=settings.host or get_ip(host_of(settings.scheduler)),
        # Dask serves pages about the worker, without TLS: on this machine only.
        dashboard_address="127.0.0.1:0",
        dashboard=False,
        plugins=(Host(settings.process),),
    )
