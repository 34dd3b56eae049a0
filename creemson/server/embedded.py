"""A server of one's own, for as long as it is used: for a command or a script that has none."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from creemson import observe
from creemson.server.service import Server
from creemson.settings import Settings

__all__ = ["embedded"]


@asynccontextmanager
async def embedded(settings: Settings | None = None) -> AsyncIterator[str]:
    """Run a server on a free port of this machine, in a temporary folder.

    What it does is told through its clients; only what is wrong with it goes to standard error.

    Args:
        settings: in force but for its address and folder; None are the defaults.

    Yields:
        Its address.
    """
    settings = settings or Settings()
    with tempfile.TemporaryDirectory(prefix="creemson-") as folder:
        own = attrs.evolve(
            settings,
            server=attrs.evolve(settings.server, host="127.0.0.1", port=0),
            storage=attrs.evolve(settings.storage, data_dir=Path(folder)),
        )
        async with trio.open_nursery() as nursery:
            server = Server(own, logger=observe.errors_only())
            port = await nursery.start(server.run)
            yield f"ws://127.0.0.1:{port}/ws"
            nursery.cancel_scope.cancel()
