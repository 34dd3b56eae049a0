"""A whole server: its parts, in the order in which they start and stop."""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio
from structlog.typing import FilteringBoundLogger

from creemson import __version__
from creemson.errors import CloseCode
from creemson.metrics import Metrics, Now
from creemson.processing.mailbox import Command
from creemson.processing.memory import Memory, machine_memory
from creemson.processing.pool import Pool
from creemson.processing.processor import Processor
from creemson.server import heap
from creemson.server.bucket import Buckets
from creemson.server.connection import Connection
from creemson.server.gate import Gate
from creemson.server.heartbeats import Heartbeats
from creemson.server.http import Status, make_app
from creemson.server.identity import Identity, make_authenticator
from creemson.server.listener import Listener, Socket
from creemson.server.protocol import ConnectionState, Protocol
from creemson.server.tls import Certificate
from creemson.server.transport import LINGER
from creemson.server.uploads import Uploads
from creemson.settings import Settings
from creemson.storage.catalog import Catalog
from creemson.storage.clock import AgeClock
from creemson.storage.stores import ANYONE, Stores

__all__ = ["Server"]

CALLER_SHARE = 10
"""As many connections' messages may one caller send in all."""
INBOX = 1000
"""Commands that may wait for the processor before connections wait to add theirs."""
SWEEP_INTERVAL = 60.0
"""Seconds between two looks at what is to be removed."""
LAG_INTERVAL = 0.25
"""Seconds between two measurements of the event loop's lag."""
MEMORY_SHARE = 0.8
"""Of the machine, for all workers together where no limit is set."""


class Server:
    """A server with the given settings.

    Args:
        settings: in force; ``server.port`` 0 picks a free port.
        logger: for what the operator should know.
        wall_clock: seconds since 1970.

    Raises:
        SettingsError: they do not suffice.
        OSError: the certificate cannot be used.
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
        self._certificate = _certificate(settings)
        limits = settings.limits
        self._gate = Gate(
            make_authenticator(settings, clock=wall_clock),
            per_caller=limits.connections_per_caller,
            pace=Buckets(
                rate=limits.messages_per_s * CALLER_SHARE, burst=limits.messages_burst * CALLER_SHARE
            ),
            logger=logger,
        )
        data = settings.storage.data_dir.absolute()
        self._catalog = Catalog(data / "catalog.db", on_damage=self._warn_of_damage)
        self._age_clock = AgeClock(wall_clock, on_jump=self._warn_of_jump)
        self._stores = Stores(data, self._catalog, quota=limits.storage_bytes, clock=wall_clock)
        self._uploads = Uploads()
        self._heartbeats = Heartbeats()
        self._inbox, inbox = trio.open_memory_channel[Command](INBOX)
        processing = settings.processing
        memory = processing.worker_memory_bytes or int(machine_memory() * MEMORY_SHARE / processing.workers)
        self._metrics = Metrics()
        make_pool = partial(Pool, memory_bytes=memory, nice=processing.nice, logger=logger)
        self._pools = (make_pool(size=processing.workers), make_pool(size=1))
        self._memory = Memory(
            limits.memory_bytes,
            workers=lambda: [pid for pool in self._pools for pid in pool.pids],
            shed=lambda: any(pool.shed() for pool in self._pools),
            logger=logger,
        )
        self._processor = Processor(
            settings=settings,
            stores=self._stores,
            catalog=self._catalog,
            inbox=inbox,
            workers=self._pools[0],
            quick=self._pools[1],
            memory=self._memory,
            metrics=self._metrics,
            logger=logger,
            wall_clock=wall_clock,
        )
        self._draining = trio.Event()
        self._began = time.monotonic()
        app = make_app(
            settings=settings,
            stores=self._stores,
            gate=self._gate,
            processor=self._inbox,
            status=self._status,
            draining=self._draining,
            memory=self._memory,
            metrics=self._metrics,
            now=self._now,
            logger=logger,
        )
        self._listener = Listener(
            settings=settings,
            connect=self._connect,
            app=app,
            gate=self._gate,
            certificate=self._certificate,
            draining=self._draining,
            metrics=self._metrics,
            logger=logger,
        )

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`stop`; cancelling stops at once. Nothing of it is left afterwards.

        Reports the port once connections are accepted.

        Raises:
            OSError: the data folder cannot be used, or is another server's, or the address cannot be listened on.
        """
        with self._stores.data.locked(), contextlib.closing(self._catalog):
            await trio.to_thread.run_sync(self._prepare)
            port = await self._listener.open()
            async with trio.open_nursery() as service:
                service.start_soon(self._keep_order)
                service.start_soon(self._memory.run)
                service.start_soon(self._heartbeats.run)
                service.start_soon(self._watch_loop)
                async with trio.open_nursery() as starting:
                    for pool in self._pools:
                        starting.start_soon(service.start, pool.run)
                await service.start(self._processor.run)
                async with trio.open_nursery() as listening:
                    listening.start_soon(self._listener.run)
                    self._log.info("serving", port=port, data_dir=str(self._stores.data.root))
                    task_status.started(port)
                    await self._stopping.wait()
                    await self._drain(listening.cancel_scope)
                service.cancel_scope.cancel()
        self._log.info("stopped")

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._certificate is not None

    def reload(self) -> None:
        """Read the certificate anew; one that cannot be used is told of in the log and changes nothing."""
        assert self._certificate is not None
        try:
            self._certificate.reload()
        except OSError as error:
            self._log.error("the certificate was not reloaded", error=str(error))
        else:
            self._log.info("certificate reloaded")

    def stop(self) -> None:
        """Begin to drain: accept nothing new, let running jobs finish, say goodbye."""
        self._stopping.set()

    async def _watch_loop(self) -> None:
        """Measure by how much the event loop is late."""
        while True:
            due = trio.current_time() + LAG_INTERVAL
            await trio.sleep_until(due)
            self._metrics.loop_lag.observe(trio.current_time() - due)

    def _now(self) -> Now:
        memory = self._memory
        return Now(
            uptime_s=time.monotonic() - self._began,
            connections=self._listener.connections,
            jobs=self._processor.counts(),
            restarts=sum(pool.restarts for pool in self._pools),
            memory={"server": memory.server, "workers": memory.workers, "limit": memory.limit},
            outbox=self._listener.unsent,
        )

    def _status(self, caller: str) -> Status:
        """What a caller may know: where callers are told apart, nothing of the others."""
        alone = caller if self._gate.guarded else None
        return Status(
            version=__version__,
            uptime_s=round(time.monotonic() - self._began, 3),
            connections=self._listener.connections if alone is None else self._gate.connections(alone),
            jobs=self._processor.counts(alone),
        )

    def _prepare(self) -> None:
        self._memory.look()
        aside = self._catalog.open()
        if aside is not None:
            self._warn_of_damage(aside)
        self._stores.prepare()

    def _warn_of_damage(self, aside: Path) -> None:
        self._log.warning("the catalog could not be read; a new one is begun", old=str(aside))

    def _warn_of_jump(self, seconds: float) -> None:
        self._log.warning(
            "the clock has jumped; what is stored is kept by its age without it", seconds=round(seconds)
        )

    async def _keep_order(self) -> None:
        """Remove what is kept long enough, and what a crash has left: at start and every minute."""
        storage = self._settings.storage
        sweep = partial(
            self._stores.sweep,
            keep_uploads=storage.keep_uploads,
            keep_outputs=storage.keep_outputs,
            keep_parts=self._settings.timeouts.upload_idle,
        )
        while True:
            try:
                removed = await trio.to_thread.run_sync(partial(sweep, now=self._age_clock()))
            except OSError as error:
                self._log.error("the data folder could not be swept", error=str(error))
            else:
                if removed:
                    self._log.info("swept", files=removed)
            await trio.to_thread.run_sync(heap.give_back)
            await trio.sleep(SWEEP_INTERVAL)

    async def _drain(self, listening: trio.CancelScope) -> None:
        self._log.info("draining", connections=self._listener.connections)
        self._listener.stop()
        await self._processor.drain(self._settings.server.drain_timeout)
        self._listener.close(CloseCode.GOING_AWAY, "the server is shutting down")
        # A peer that does not read its goodbye must not keep the server.
        listening.deadline = trio.current_time() + LINGER + 1

    def _connect(self, socket: Socket, peer: str, identity: Identity | None) -> Connection:
        caller = ANYONE if not self._gate.guarded else "" if identity is None else identity.caller
        state = ConnectionState(
            id=os.urandom(6).hex(), caller=caller, peer=peer, identity=identity, began=trio.current_time()
        )
        if identity is not None:
            self._gate.enter(identity)
        log = self._log.bind(connection=state.id, peer=peer)
        log.info("connected", caller=caller)
        protocol = Protocol(
            state,
            limits=self._settings.limits,
            timeouts=self._settings.timeouts,
            server=f"creemson {__version__}",
            wall_clock=self._wall_clock,
            gate=self._gate,
            auth_timeout=self._settings.auth.timeout,
            metrics=self._metrics,
        )
        return Connection(
            socket,
            protocol=protocol,
            processor=self._inbox.clone(),
            stores=self._stores,
            uploads=self._uploads,
            heartbeats=self._heartbeats,
            gate=self._gate,
            metrics=self._metrics,
            settings=self._settings,
            logger=log,
        )


def _certificate(settings: Settings) -> Certificate | None:
    server = settings.server
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Certificate(server.tls_cert, server.tls_key)
