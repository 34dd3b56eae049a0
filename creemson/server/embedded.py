"""A server inside another program: a command or a script starts it and stops it again."""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import attrs
import trio

from creemson import logs
from creemson.executors.spawn import Spawned
from creemson.logs.standard import END_SECONDS
from creemson.logs.writer import BackgroundWriter, to_stream
from creemson.server.engines import make_engine
from creemson.server.first_worker import first_worker
from creemson.settings.sections import Settings
from creemson.startup import without_collections

__all__ = ["embedded"]


@asynccontextmanager
async def embedded(settings: Settings | None = None, *, worker: Spawned | None = None) -> AsyncIterator[str]:
    """Run a server on a free port of this machine, in a temporary folder.

    Only errors are logged, on standard error.

    Args:
        settings: effective settings; address and data folder are replaced. None uses the defaults.
        worker: the first worker, if the caller has started it; see :func:`first_worker`.

    Yields:
        The WebSocket URL of the server.
    """
    settings = settings or Settings()
    worker = worker or first_worker(settings)
    with tempfile.TemporaryDirectory(prefix="creemson-") as folder:
        own = attrs.evolve(
            settings,
            server=attrs.evolve(settings.server, host="127.0.0.1", port=0),
            storage=attrs.evolve(settings.storage, data_dir=Path(folder)),
        )
        lines = BackgroundWriter(to_stream(sys.stderr))
        try:
            async with trio.open_nursery() as nursery:
                logger = logs.errors_only(lines)
                engine = make_engine(own, logger, few_callers=True, first=worker)
                nursery.start_soon(engine.run)
                # The worker starts meanwhile; the thread keeps the tasks of the event loop running.
                await trio.to_thread.run_sync(_import_server)
                from creemson.server.server import Server  # noqa: PLC0415 - imported by the thread

                server = Server(own, logger=logger, engine=engine)
                port = await nursery.start(server.run)
                yield f"ws://127.0.0.1:{port}/ws"
                nursery.cancel_scope.cancel()
        finally:
            lines.end(END_SECONDS)


def _import_server() -> None:
    with without_collections():
        import_module("creemson.server.server")
