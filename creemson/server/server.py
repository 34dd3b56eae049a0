"""The server: creates its components, and starts and stops them in order."""

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import trio
from structlog.typing import FilteringBoundLogger

from creemson._version import __version__
from creemson.catalog.catalog import Catalog
from creemson.catalog.choice import choose_catalog
from creemson.catalog.shared.tokens import SharedTokens
from creemson.errors import SHUTDOWN_REASON, CloseCode
from creemson.executors.executor import ClusterState
from creemson.executors.machine import server_memory
from creemson.executors.memory import Memory
from creemson.jobs.commands import InboxMessage
from creemson.jobs.processor import Processor
from creemson.metrics import Metrics, Now
from creemson.model.callers import ANYONE
from creemson.server.auth.authenticators import make_authenticator, token_file
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import Identity
from creemson.server.auth.rate_limit import TokenBuckets
from creemson.server.auth.token_table import TokenTable
from creemson.server.auth.tokens import Tokens
from creemson.server.connection.connection import Connection, Shared
from creemson.server.connection.state import ConnectionState
from creemson.server.connection.upload_registry import UploadRegistry
from creemson.server.engines import Engine, make_engine, scratch_folder
from creemson.server.heartbeats import Heartbeats
from creemson.server.housekeeping import keep_leases, keep_tokens, measure_lag, sweep_expired
from creemson.server.http.app import make_app
from creemson.server.http.handlers import Status
from creemson.server.listener import Listener, Socket
from creemson.server.reach import Reach
from creemson.server.refusals import Refusals
from creemson.server.transport.closing import LINGER, Draining
from creemson.server.transport.tls import Certificate
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError
from creemson.storage.access import obstacle, obstacles
from creemson.storage.clock import AgeClock
from creemson.storage.handles import Handles
from creemson.storage.stores import Backend, Stores

__all__ = ["Server"]

CALLER_SHARE = 10
"""Rate limit of one caller over all its connections, as a multiple of the limit of one connection."""
INBOX = 1000
"""Maximum number of commands that wait for the processor; a connection that sends another one waits."""
MAX_OBSTACLES = 10
"""Maximum number of unusable files that are named when the server does not start because of them."""


class Server:
    """A server.

    Args:
        settings: effective settings; ``server.port`` 0 picks a free port.
        logger: Logger.
        wall_clock: returns the seconds since 1970.
        dropped_lines: returns the number of log lines that could not be written.
        engine: executors that the caller runs, and whose workers need not be ready; None makes and runs them.
        temporary: whether the data folder is removed at the end, so that nothing needs to survive a loss of power.

    Raises:
        SettingsError: settings for the authentication or the cluster are missing or invalid.
        OSError: the certificate cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        logger: FilteringBoundLogger,
        wall_clock: Callable[[], float] = time.time,
        dropped_lines: Callable[[], int] = lambda: 0,
        engine: Engine | None = None,
        temporary: bool = False,
    ) -> None:
        self._settings = settings
        self._log = logger
        self._dropped_lines = dropped_lines
        self._wall_clock = wall_clock
        self._stopping = trio.Event()
        self._certificate = _certificate(settings)
        limits = settings.limits
        self._catalog = choose_catalog(settings, on_damage=self._warn_of_damage, durable=not temporary)
        self._sharing = self._catalog.sharing()
        guarded = settings.auth.mode == "token"
        # Of several servers; one server has a token file, or its callers do not have our tokens.
        self._tokens = TokenTable(self._sharing.tokens) if guarded and self._sharing is not None else None
        self._callers = Callers(
            make_authenticator(settings, tokens=self._tokens, clock=wall_clock),
            per_caller=limits.connections_per_caller,
            pace=TokenBuckets(
                rate=limits.messages_per_s * CALLER_SHARE, burst=limits.messages_burst * CALLER_SHARE
            ),
            logger=logger,
        )
        data = settings.storage.data_dir.absolute()
        self._age_clock = AgeClock(wall_clock, on_jump=self._warn_of_jump)
        open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._stores = Stores(
            data,
            self._catalog,
            quota=limits.storage_bytes,
            clock=wall_clock,
            handles=Handles.within(open_files),
            backend=_backend(settings, self._catalog, wall_clock),
        )
        self._reach = Reach(logger) if self._stores.is_shared else None
        self._inbox, inbox = trio.open_memory_channel[InboxMessage](INBOX)
        self._metrics = Metrics()
        refusals = Refusals(self._metrics, logger)
        self._runs_engine = engine is None
        self._engine = engine = engine or make_engine(settings, logger)
        self._shared = Shared(
            settings=settings,
            processor=self._inbox,
            stores=self._stores,
            uploads=UploadRegistry(),
            heartbeats=Heartbeats(),
            callers=self._callers,
            metrics=self._metrics,
            wall_clock=wall_clock,
        )
        self._memory = Memory(
            server_memory(settings),
            workers=lambda: [pid for executor in engine.all for pid in executor.pids],
            shed=lambda: any(executor.shed() for executor in engine.all),
            logger=logger,
        )
        self._processor = Processor(
            settings=settings,
            stores=self._stores,
            catalog=self._catalog,
            inbox=inbox,
            workers=engine.workers,
            quick=engine.quick,
            memory=self._memory,
            metrics=self._metrics,
            sharing=self._sharing,
            logger=logger,
            wall_clock=wall_clock,
        )
        self._draining = Draining()
        self._began = time.monotonic()
        app = make_app(
            settings=settings,
            stores=self._stores,
            callers=self._callers,
            processor=self._inbox,
            status=self._status,
            draining=self._draining,
            memory=self._memory,
            cluster=engine.cluster,
            reach=self._reach,
            metrics=self._metrics,
            refusals=refusals,
            now=self._now,
            logger=logger,
        )
        self._listener = Listener(
            settings=settings,
            connect=self._connect,
            app=app,
            callers=self._callers,
            certificate=self._certificate,
            draining=self._draining,
            refusals=refusals,
            logger=logger,
        )

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until :meth:`stop`, then drain; cancelling stops at once.

        Reports the port to ``task_status`` once connections are accepted. On return, all tasks and worker processes
        have ended.

        Raises:
            OSError: the data folder or the token file is unusable, another server uses the folder, the address
                cannot be bound, or the cluster cannot be reached.
        """
        sharing = contextlib.nullcontext() if self._sharing is None else contextlib.closing(self._sharing)
        with (
            self._stores.locked(),
            contextlib.closing(self._catalog),
            contextlib.closing(self._stores),
            sharing,
        ):
            await trio.to_thread.run_sync(self._prepare)
            port = await self._listener.open()
            try:
                await self._serve(port, task_status)
            finally:  # a cluster that cannot be reached ends the server before it has accepted a connection
                self._listener.unbind()
        self._log.info("stopped")

    async def _serve(self, port: int, task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as service:
            service.start_soon(sweep_expired, self._stores, self._age_clock, self._settings, self._log)
            if self._reach is not None:
                service.start_soon(keep_leases, self._stores, self._reach, self._log)
                service.start_soon(self._reach.watch)
            if self._tokens is not None:
                service.start_soon(keep_tokens, self._tokens, self._log)
            service.start_soon(self._memory.run)
            service.start_soon(self._shared.heartbeats.run)
            service.start_soon(measure_lag, self._metrics)
            if self._runs_engine:
                await service.start(self._engine.run)
            await service.start(self._processor.run)
            async with trio.open_nursery() as listening:
                listening.start_soon(self._listener.run)
                # The id by which the rows of jobs, and other servers, name this one.
                shared = {} if self._sharing is None else {"server": self._sharing.owner}
                self._log.info("serving", port=port, data_dir=str(self._stores.data_dir), **shared)
                task_status.started(port)
                await self._stopping.wait()
                await self._drain(listening.cancel_scope)
            service.cancel_scope.cancel()

    def reload(self) -> None:
        """Load the certificate again, if there is one; if it is unusable, log that and keep the previous one."""
        if self._certificate is None:
            return
        try:
            self._certificate.reload()
        except OSError as error:
            self._log.error("the certificate was not reloaded", signal="SIGHUP", error=str(error))
        else:
            self._log.info("certificate reloaded")

    def stop(self) -> None:
        """Start draining: refuse new work, let running jobs finish, then close all connections."""
        self._stopping.set()

    def _now(self) -> Now:
        memory, cluster = self._memory, self._cluster()
        return Now(
            uptime_s=time.monotonic() - self._began,
            connections=self._listener.connections,
            jobs=self._processor.totals(),
            restarts=sum(executor.restarts for executor in self._engine.all),
            memory={"server": memory.server, "workers": memory.workers, "limit": memory.limit},
            outbox=self._listener.unsent,
            dropped_lines=self._dropped_lines(),
            tables=self._stores.tables.total(),
            cluster=None if cluster is None else (cluster.workers, cluster.running, cluster.lost),
        )

    def _status(self, caller: str) -> Status:
        """Return what a caller may see: with authentication, only its own connections and jobs."""
        only = caller if self._callers.guarded else None
        return Status(
            version=__version__,
            uptime_s=round(time.monotonic() - self._began, 3),
            connections=self._listener.connections if only is None else self._callers.connections(only),
            jobs=self._processor.counts(only),
            cluster=self._cluster(),
        )

    def _cluster(self) -> ClusterState | None:
        return None if self._engine.cluster is None else self._engine.cluster()

    def _prepare(self) -> None:
        self._memory.check()
        self._check_access()
        backup = self._catalog.open()
        if backup is not None:
            self._warn_of_damage(backup)
        if self._sharing is not None:
            self._sharing.open()
            if self._tokens is not None:
                self._import_tokens(self._sharing.tokens)
                self._tokens.refresh()
        self._stores.prepare()
        scratch = scratch_folder(self._settings)
        if scratch is not None:
            from creemson.storage.objects.scratch import Scratch  # noqa: PLC0415 - not without an object store

            Scratch(*scratch).prepare()

    def _import_tokens(self, tokens: SharedTokens) -> None:
        """Take over the tokens of the file once, when the catalog has none yet; later, the file does not count."""
        path = token_file(self._settings)
        entries = Tokens(path).entries()
        imported = tokens.import_once(entries)
        if imported:
            self._log.info("tokens imported into the catalog", tokens=imported, file=str(path))
        elif {entry.id for entry in entries} - {entry.id for entry in tokens.entries()}:
            self._log.warning(
                "the token file is not used: servers that share a catalog have their tokens there",
                file=str(path),
            )

    def _check_access(self) -> None:
        """Raise OSError, with what to do, for files that the server's user may not use."""
        found = list(obstacles(self._stores.data_dir))
        guarded = self._settings.auth.mode == "token"
        tokens = token_file(self._settings)
        if guarded and (fault := obstacle(tokens)):
            found.append(fault)
        if found:
            raise PermissionError(errno.EACCES, "\n".join(found[:MAX_OBSTACLES]))
        if guarded:
            Tokens(tokens).entries()

    def _warn_of_damage(self, backup: Path) -> None:
        self._log.warning("the catalog could not be read; starting with a new one", old=str(backup))

    def _warn_of_jump(self, seconds: float) -> None:
        self._log.warning(
            "the clock jumped; the age of stored files ignores the jump", seconds=round(seconds)
        )

    async def _drain(self, listening: trio.CancelScope) -> None:
        self._log.info("draining", connections=self._listener.connections)
        self._listener.stop()
        await self._processor.drain(self._settings.server.drain_timeout)
        self._listener.close(CloseCode.GOING_AWAY, SHUTDOWN_REASON)
        # A peer that does not read the close frame must not keep the server alive.
        listening.deadline = trio.current_time() + LINGER + 1

    def _connect(self, socket: Socket, peer: str, identity: Identity | None) -> Connection:
        caller = ANYONE if not self._callers.guarded else "" if identity is None else identity.caller
        state = ConnectionState(
            id=os.urandom(6).hex(), caller=caller, peer=peer, identity=identity, began=trio.current_time()
        )
        if identity is not None:
            self._callers.enter(identity)
        log = self._log.bind(connection=state.id, peer=peer)
        log.info("connected", caller=caller)
        return Connection(socket, state, shared=self._shared, logger=log)


def _backend(settings: Settings, catalog: Catalog, clock: Callable[[], float]) -> Backend | None:
    """Return where the bytes are, if not in the data folder.

    Raises:
        SettingsError: the library for object stores is not installed.
        ObjectStoreError: the environment has settings for the object store that cannot be used.
    """
    url = settings.storage.url
    if url is None:
        return None
    try:
        from creemson.storage.objects.stores import ObjectStores  # noqa: PLC0415 - it needs the extra `s3`
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"storage.url = {url!r} needs {error.name}, which is not installed: pip install 'creemson[s3]'"
        ) from None
    return ObjectStores(url, catalog, clock=clock, shares_tables=settings.processing.engine == "dask")


def _certificate(settings: Settings) -> Certificate | None:
    server = settings.server
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Certificate(server.tls_cert, server.tls_key)
