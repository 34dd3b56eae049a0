"""A server inside another program: a command or a script starts it and stops it again."""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import attrs
import trio

from creemson.executors.spawn import Spawned
from creemson.server.first_worker import first_worker
from creemson.settings.sections import Auth, Catalog, Server, Settings, Storage
from creemson.startup import without_collections

__all__ = ["embedded", "temporary"]


@asynccontextmanager
async def embedded(settings: Settings | None = None, *, worker: Spawned | None = None) -> AsyncIterator[str]:
    """Run a server on a free port of this machine, in a temporary folder.

    Only errors are logged, on standard error.

    Args:
        settings: effective settings; those for other machines do not apply, see :func:`temporary`. None uses the
            defaults.
        worker: the first worker, if the caller has started it; see :func:`first_worker`.

    Yields:
        The WebSocket URL of the server.
    """
    settings = settings or Settings()
    worker = worker or first_worker(settings)
    try:
        # The worker starts meanwhile; the thread keeps the tasks of the event loop running.
        await trio.to_thread.run_sync(_import_server)
    except BaseException:
        if worker is not None:
            worker.discard()
        raise
    # Imported by the thread.
    from creemson import logs  # noqa: PLC0415
    from creemson.logs.standard import END_SECONDS  # noqa: PLC0415
    from creemson.logs.writer import BackgroundWriter, to_stream  # noqa: PLC0415
    from creemson.server import server as module  # noqa: PLC0415
    from creemson.server.engines import make_engine  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="creemson-") as folder:
        own = temporary(settings, Path(folder))
        lines = BackgroundWriter(to_stream(sys.stderr))
        try:
            async with trio.open_nursery() as nursery:
                logger = logs.errors_only(lines)
                engine = make_engine(own, logger, few_callers=True, first=worker)
                nursery.start_soon(engine.run)
                server = module.Server(own, logger=logger, engine=engine, temporary=True)
                port = await nursery.start(server.run)
                yield f"ws://127.0.0.1:{port}/ws"
                nursery.cancel_scope.cancel()
        finally:
            lines.end(END_SECONDS)


def temporary(settings: Settings, folder: Path) -> Settings:
    """Return the settings of a server that has one user, on this machine, and a folder that is removed at its end.

    The file of settings of a server in the same folder may name a certificate, tokens, a shared store or a cluster,
    which this server must neither demand nor use. Limits, timeouts and what concerns the work apply.

    Args:
        settings: effective settings.
        folder: the data folder.
    """
    storage = settings.storage
    return attrs.evolve(
        settings,
        server=Server(port=0, transport=settings.server.transport),
        auth=Auth(),
        catalog=Catalog(),
        storage=Storage(data_dir=folder, tables=storage.tables, tables_bytes=storage.tables_bytes),
        processing=attrs.evolve(settings.processing, engine="local"),
    )


def _import_server() -> None:
    with without_collections():
        import_module("creemson.server.server")
