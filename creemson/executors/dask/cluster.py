"""Keeps the connection to the scheduler: opens it, watches it, and opens it again when the scheduler is back."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import ProcessingError
from creemson.executors.dask.library import Connection, WorkerInfo, scheduler_version
from creemson.executors.dask.tls import TlsFiles, host_of
from creemson.executors.dask.versions import differing, mismatch, own_label

__all__ = ["Cluster", "ClusterListener"]

CONNECT_TIMEOUT = 8.0
"""Maximum seconds for one attempt to connect: a server that cannot reach the scheduler says so within 10 s."""
WATCH_INTERVAL = 1.0
"""Seconds between two looks at the scheduler and its workers."""
ANSWER_TIMEOUT = 10.0
"""Maximum seconds for an answer of the scheduler; then it counts as lost."""
STATUS_INTERVAL = 0.25
"""Seconds between two looks at the status of a connection on which an answer is missing."""
RETRY_INTERVAL = 1.0
"""Seconds between two attempts to reach a scheduler that was lost."""
PATIENCE = 30.0
"""Maximum seconds that a command waits for the scheduler and a worker before it fails; jobs are then tried again."""
MAX_TTL = 15.0
"""Maximum seconds after which the scheduler should give up a worker that says nothing. It may notice after twice that
time; a frozen worker should cost 30 s at most."""


class ClusterListener(Protocol):
    """Learns what happens in the cluster; all methods are called in trio's thread."""

    def handle_event(self, event: Mapping[str, Any]) -> None:
        """Handle an event of a task: see :mod:`creemson.executors.dask.task`."""

    def worker_lost(self, address: str) -> None:
        """Handle the loss of a worker."""

    def disconnected(self) -> None:
        """Handle the loss of the scheduler, with all tasks."""

    def resized(self) -> None:
        """Handle a new number of workers."""


class Cluster:
    """The connection to a scheduler.

    Args:
        address: address of the scheduler.
        files: TLS files; None without TLS.
        topic: topic of the events of this server's tasks.
        listener: learns what happens.
        logger: Logger.

    Attributes:
        workers: the workers that can carry out this server's commands.
        lost: number of workers that were lost since the start.
    """

    def __init__(
        self,
        address: str,
        files: TlsFiles | None,
        *,
        topic: str,
        listener: ClusterListener,
        logger: FilteringBoundLogger,
    ) -> None:
        self.address = address
        self.workers: Sequence[WorkerInfo] = ()
        self.lost = 0
        self._files = files
        self._topic = topic
        self._listener = listener
        self._log = logger
        self._label = own_label()
        self._connection: Connection | None = None
        self._changed = trio.Event()  # set when the connection or the workers have changed
        self._look = trio.Event()  # set when the next look must not wait
        self._told: frozenset[str] = frozenset()  # addresses of unusable workers that the log knows
        self._usable: set[str] = set()  # addresses of workers whose loss would count

    @property
    def trouble(self) -> str | None:
        """Why no command can run on the cluster, without addresses, which are not for clients; None if they can."""
        if self._connection is None:
            return "The Dask scheduler cannot be reached."
        if not self.workers:
            return "The Dask cluster has no worker for this server: the operator must start some (`creemson worker`)."
        return None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection until cancelled; the first one must succeed.

        Raises:
            OSError: the scheduler cannot be reached, or has another version.
        """
        connection = await self._open()
        task_status.started()
        while True:
            try:
                await self._watch(connection)
            finally:
                self._connection, self.workers = None, ()
                self._usable.clear()
                self._listener.disconnected()
                self._notify()
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(connection.close, abandon_on_cancel=True)
            self._log.error("scheduler lost", address=self.address)
            connection = await self._reopen()
            self._log.info("scheduler is back", address=self.address)

    async def ready(self) -> Connection:
        """Return the connection, once there is a worker.

        Raises:
            ProcessingError: ``worker_died``: there is none after :data:`PATIENCE` seconds.
        """
        with trio.move_on_after(PATIENCE):
            while self._connection is None or not self.workers:
                await self._changed.wait()
            return self._connection
        raise ProcessingError(
            "worker_died", f"{self.trouble or 'The cluster changes all the time.'} Try again."
        )

    def look(self) -> None:
        """Look at the scheduler now: something may be wrong."""
        self._look.set()

    # --- opening -------------------------------------------------------------------------------------

    async def _open(self) -> Connection:
        """Open a connection.

        Raises:
            OSError: the scheduler cannot be reached, or has another version.
        """
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                wrong = mismatch(await self._ask_version(), self.address)
                if wrong is None:
                    connection, ttl = await self._connect()
        except (OSError, trio.TooSlowError) as error:
            raise ConnectionError(
                f"The Dask scheduler at {self.address} cannot be reached ({_told(error)}). Check that "
                "`dask scheduler` runs there, that processing.dask_scheduler is its address, and that both have TLS "
                "files of the same authority, or none."
            ) from error
        if wrong is not None:
            raise ConnectionError(wrong)
        if ttl > MAX_TTL:
            self._log.warning(
                "the scheduler notices a frozen worker late: start it with "
                "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=10s",
                worker_ttl=ttl,
            )
        token = trio.lowlevel.current_trio_token()

        def later(handle: Callable[[Any], None]) -> Callable[[Any], None]:
            def call(event: Any) -> None:
                with contextlib.suppress(trio.RunFinishedError):  # the server has stopped
                    token.run_sync_soon(handle, event)

            return call

        connection.subscribe(self._topic, later(self._listener.handle_event))
        connection.subscribe("all", later(self._handle_cluster_event))
        self._connection = connection
        self._notify()  # the workers follow with the first look
        return connection

    async def _ask_version(self) -> str:
        """Return the scheduler's version of ``distributed``."""
        host, port = host_of(self.address), int(self.address.rpartition(":")[2])
        await (await trio.open_tcp_stream(host, port)).aclose()  # fails at once if nothing listens there
        ask = partial(scheduler_version, self.address, self._files, timeout=CONNECT_TIMEOUT)
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)

    async def _connect(self) -> tuple[Connection, float]:
        """Return a connection, and the scheduler's ``worker-ttl`` in seconds."""
        hand_over = threading.Lock()
        opened: list[tuple[Connection, float]] = []
        abandoned = False

        def connect() -> None:
            connection = Connection(self.address, self._files, timeout=CONNECT_TIMEOUT)
            try:
                found = connection, connection.worker_ttl()
                with hand_over:
                    if not abandoned:
                        opened.append(found)
                        return
            except BaseException:
                connection.close()
                raise
            connection.close()

        try:
            await trio.to_thread.run_sync(connect, abandon_on_cancel=True)
        except trio.Cancelled:
            # The thread may have ended in the meantime: whoever is second closes the connection.
            with hand_over:
                abandoned = True
            for connection, _ in opened:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(connection.close)
            raise
        return opened[0]

    async def _reopen(self) -> Connection:
        reported = ""
        while True:
            await trio.sleep(RETRY_INTERVAL)
            try:
                return await self._open()
            except OSError as error:
                if str(error) != reported:
                    reported = str(error)
                    self._log.warning("scheduler not reached", error=reported)

    # --- watching ------------------------------------------------------------------------------------

    async def _watch(self, connection: Connection) -> None:
        """Watch the workers until the connection is lost."""
        while connection.is_open:
            self._look = trio.Event()
            found = await _ask_workers(connection)
            if found is None:
                return
            self._set_workers(found)
            with trio.move_on_after(WATCH_INTERVAL):
                await self._look.wait()

    def _set_workers(self, found: Sequence[WorkerInfo]) -> None:
        before = len(self.workers)
        self.workers = [worker for worker in found if self._label in worker.resources]
        self._usable.update(worker.address for worker in self.workers)
        unusable = {
            worker.address: versions
            for worker in found
            if (versions := differing(worker.resources, self._label)) is not None
        }
        for address in unusable.keys() - self._told:
            self._log.warning(
                "a worker gets no work, because its versions differ",
                worker=address,
                versions=unusable[address],
                own=self._label,
            )
        self._told = frozenset(unusable)
        if len(self.workers) != before:
            self._log.info("cluster", workers=len(self.workers))
            self._notify()

    def _handle_cluster_event(self, event: Any) -> None:
        if not isinstance(event, dict) or event.get("action") not in ("add-worker", "remove-worker"):
            return
        if event["action"] == "remove-worker":
            address = event["worker"]
            # A look may have noticed before that it is gone, so ``workers`` does not tell whether it was one of ours.
            if address in self._usable and not event.get("expected"):
                self.lost += 1
                self._log.warning("worker lost", worker=address)
            self._usable.discard(address)
            if any(worker.address == address for worker in self.workers):
                self.workers = [worker for worker in self.workers if worker.address != address]
                self._notify()
            self._listener.worker_lost(address)
        self.look()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        self._listener.resized()


async def _ask_workers(connection: Connection) -> Sequence[WorkerInfo] | None:
    """Return the workers; None if the scheduler is lost.

    If it is killed in the middle, Dask's client waits for the answer. Only its status tells that.
    """
    found = None
    with trio.move_on_after(ANSWER_TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_closed, connection, nursery.cancel_scope)
            with contextlib.suppress(OSError):
                found = await trio.to_thread.run_sync(connection.workers, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
    return found


async def _cancel_when_closed(connection: Connection, scope: trio.CancelScope) -> None:
    while connection.is_open:  # noqa: ASYNC110 - no event
        await trio.sleep(STATUS_INTERVAL)
    scope.cancel()


def _told(error: BaseException) -> str:
    return f"no answer within {CONNECT_TIMEOUT:g} s" if isinstance(error, trio.TooSlowError) else str(error)
