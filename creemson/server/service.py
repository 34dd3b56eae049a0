"""A whole server: its parts, in the order in which they start and stop."""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from creemson import __version__
from creemson.errors import CloseCode
from creemson.processing.mailbox import Command
from creemson.processing.pool import Pool
from creemson.processing.processor import Processor
from creemson.server import memory
from creemson.server.connection import Connection
from creemson.server.http import make_app
from creemson.server.listener import Listener
from creemson.server.metrics import Status
from creemson.server.protocol import ConnectionState, Protocol
from creemson.server.transport import LINGER, ServerSocket
from creemson.server.uploads import Uploads
from creemson.settings import Settings
from creemson.storage.catalog import Catalog
from creemson.storage.files import Files
from creemson.storage.store import Store

__all__ = ["ANYONE", "Server"]

ANYONE = "anonymous"
"""The one caller where nobody has to say who they are."""
INBOX = 1000
"""Commands that may wait for the processor before connections wait to add theirs."""
SWEEP_INTERVAL = 60.0
"""Seconds between two looks at what is to be removed."""
MEMORY_SHARE = 0.8
"""Of the machine, for all workers together where no limit is set."""


class Server:
    """A server with the given settings.

    Args:
        settings: in force; ``server.port`` 0 picks a free port.
        logger: for what the operator should know.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        logger: FilteringBoundLogger,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._log = logger
        self._wall_clock = wall_clock
        self._stopping = trio.Event()
        self._files = Files(settings.storage.data_dir.absolute())
        self._catalog = Catalog(self._files.root / "catalog.db")
        self._store = Store(
            self._files,
            self._catalog,
            caller=ANYONE,
            quota=settings.limits.storage_bytes,
            clock=wall_clock,
        )
        self._uploads = Uploads()
        self._inbox, inbox = trio.open_memory_channel[Command](INBOX)
        processing = settings.processing
        memory = processing.worker_memory_bytes or int(_machine_memory() * MEMORY_SHARE / processing.workers)
        make_pool = partial(Pool, memory_bytes=memory, nice=processing.nice, logger=logger)
        self._pools = (make_pool(size=processing.workers), make_pool(size=1))
        self._processor = Processor(
            settings=settings,
            store=self._store,
            catalog=self._catalog,
            inbox=inbox,
            workers=self._pools[0],
            quick=self._pools[1],
            logger=logger,
            wall_clock=wall_clock,
        )
        self._draining = trio.Event()
        self._began = wall_clock()
        app = make_app(
            settings=settings,
            store=self._store,
            caller=ANYONE,
            processor=self._inbox,
            status=self._status,
            draining=self._draining,
            logger=logger,
        )
        self._listener = Listener(
            settings=settings, connect=self._connect, app=app, draining=self._draining, logger=logger
        )

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`stop`; cancelling stops at once. Nothing of it is left afterwards.

        Reports the port once connections are accepted.

        Raises:
            OSError: the data folder cannot be used, or is another server's, or the address cannot be listened on.
        """
        with self._files.locked(), contextlib.closing(self._catalog):
            await trio.to_thread.run_sync(self._prepare)
            port = await self._listener.open()
            async with trio.open_nursery() as service:
                service.start_soon(self._keep_order)
                async with trio.open_nursery() as starting:
                    for pool in self._pools:
                        starting.start_soon(service.start, pool.run)
                await service.start(self._processor.run)
                async with trio.open_nursery() as listening:
                    listening.start_soon(self._listener.run)
                    self._log.info("serving", port=port, data_dir=str(self._files.root))
                    task_status.started(port)
                    await self._stopping.wait()
                    await self._drain(listening.cancel_scope)
                service.cancel_scope.cancel()
        self._log.info("stopped")

    def stop(self) -> None:
        """Begin to drain: accept nothing new, let running jobs finish, say goodbye."""
        self._stopping.set()

    def _status(self) -> Status:
        return Status(
            version=__version__,
            uptime_s=round(self._wall_clock() - self._began, 3),
            connections=self._listener.connections,
            jobs=self._processor.counts(),
        )

    def _prepare(self) -> None:
        self._files.prepare()
        aside = self._catalog.open()
        if aside is not None:
            self._log.warning("the catalog could not be read; a new one is begun", old=str(aside))

    async def _keep_order(self) -> None:
        """Remove what is kept long enough, and what a crash has left: at start and every minute."""
        storage = self._settings.storage
        sweep = partial(
            self._store.sweep,
            keep_uploads=storage.keep_uploads,
            keep_outputs=storage.keep_outputs,
            keep_parts=self._settings.timeouts.upload_idle,
        )
        while True:
            try:
                removed = await trio.to_thread.run_sync(sweep)
            except OSError as error:
                self._log.error("the data folder could not be swept", error=str(error))
            else:
                if removed:
                    self._log.info("swept", files=removed)
            await trio.to_thread.run_sync(memory.give_back)
            await trio.sleep(SWEEP_INTERVAL)

    async def _drain(self, listening: trio.CancelScope) -> None:
        self._log.info("draining", connections=self._listener.connections)
        self._listener.stop()
        await self._processor.drain(self._settings.server.drain_timeout)
        self._listener.close(CloseCode.GOING_AWAY, "the server is shutting down")
        # A peer that does not read its goodbye must not keep the server.
        listening.deadline = trio.current_time() + LINGER + 1

    def _connect(self, socket: ServerSocket, peer: str) -> Connection:
        state = ConnectionState(id=os.urandom(6).hex(), caller=ANYONE, peer=peer)
        log = self._log.bind(connection=state.id, peer=peer)
        log.info("connected")
        protocol = Protocol(
            state,
            limits=self._settings.limits,
            timeouts=self._settings.timeouts,
            server=f"creemson {__version__}",
            wall_clock=self._wall_clock,
        )
        return Connection(
            socket,
            protocol=protocol,
            processor=self._inbox.clone(),
            store=self._store,
            uploads=self._uploads,
            settings=self._settings,
            logger=log,
        )


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
