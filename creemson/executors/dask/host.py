"""Runs commands on the machine of a Dask worker, in a worker process that can be killed.

A plugin of the Dask worker has a thread with trio, and in it a :class:`LocalExecutor` with one process: cancellation,
memory limit and everything else are the same as on the server's machine. The process stays warm between tasks.
"""

import asyncio
import os
import threading
from typing import Any

import attrs
import trio
from distributed import WorkerPlugin, get_worker

from creemson import logs
from creemson.executors.commands import WorkerCommand
from creemson.executors.executor import OnProgress
from creemson.executors.local import LocalExecutor
from creemson.executors.spawn import ScratchFolder

__all__ = ["Host", "HostSettings", "StoppedError", "current_host", "machine"]

NAME = "creemson"
"""Name of the plugin."""
MAX_CANCELLED = 1000
"""Maximum number of cancelled tasks that are remembered until they begin."""


@attrs.frozen(kw_only=True)
class HostSettings:
    """How the worker processes of a machine run; see :class:`LocalExecutor`."""

    memory_bytes: int
    nice: int
    max_line: int
    scratch: ScratchFolder | None


class StoppedError(Exception):
    """The command was stopped, because its task was cancelled."""


class Host(WorkerPlugin):  # type: ignore[misc]  # Dask has no types for it
    """The worker process of one Dask worker; Dask's own name for this is a plugin.

    Args:
        settings: how the process runs.
    """

    name = NAME

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    # --- called by Dask ------------------------------------------------------------------------------

    async def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's interface
        """Start the process; the Dask worker takes tasks when it is ready."""
        self._scopes: dict[str, trio.CancelScope] = {}  # by key of a task
        self._cancelled: dict[str, None] = {}  # keys of tasks that were cancelled before they began
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="creemson", daemon=True)
        self._thread.start()
        await asyncio.get_running_loop().run_in_executor(None, self._ready.wait)
        if self._failure is not None:
            raise RuntimeError(f"No worker process can be started: {self._failure}")

    async def teardown(self, worker: Any) -> None:  # noqa: ARG002
        """End the process."""
        if self._failure is None:
            self._token.run_sync_soon(self._scope.cancel)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def transition(self, key: str, start: str, finish: str, **_: Any) -> None:
        """Stop the command of a task that is cancelled, or that Dask has given to somebody else."""
        if start == "executing" and finish in ("cancelled", "released", "forgotten"):
            self._token.run_sync_soon(self._cancel, key)

    # --- called by the thread of a task --------------------------------------------------------------

    def call(self, key: str, command: WorkerCommand, on_progress: OnProgress) -> Any:
        """Run a command; see :meth:`creemson.executors.executor.Executor.call`.

        Raises:
            CreemsonError: as there.
            TransientFault: as there.
            StoppedError: the task was cancelled.
        """
        return trio.from_thread.run(self._call, key, command, on_progress, trio_token=self._token)

    # --- in the thread with trio ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        settings = self._settings
        self._executor = LocalExecutor(
            size=1,
            memory_bytes=settings.memory_bytes,
            nice=settings.nice,
            max_line=settings.max_line,
            scratch=settings.scratch,
            logger=logs.errors_only(),
        )
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            await nursery.start(self._executor.run)
            self._ready.set()

    def _cancel(self, key: str) -> None:
        scope = self._scopes.get(key)
        if scope is not None:
            scope.cancel()
            return
        self._cancelled[key] = None
        if len(self._cancelled) > MAX_CANCELLED:
            del self._cancelled[next(iter(self._cancelled))]

    async def _call(self, key: str, command: WorkerCommand, on_progress: OnProgress) -> Any:
        with trio.CancelScope() as scope:
            self._scopes[key] = scope
            if key in self._cancelled:
                scope.cancel()
            try:
                return await self._executor.call(command, on_progress=on_progress)
            finally:
                del self._scopes[key]
        raise StoppedError


def current_host() -> tuple[Host | None, Any]:
    """Return the host that belongs to the task of this thread, if its worker has one, and the Dask worker."""
    worker = get_worker()
    return worker.plugins.get(NAME), worker


def machine() -> str:
    """Return the name of this machine."""
    return os.uname().nodename
