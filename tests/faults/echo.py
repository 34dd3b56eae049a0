"""A server that sends every message back: the real listener and transport, without the rest of Creemson.

``python -m tests.faults.echo TRANSPORT`` prints its port and serves until it is killed. It must be a separate
process, so that its client can use another kind of event loop.
"""

import contextlib
import sys

import structlog
import trio

from creemson.metrics import Metrics
from creemson.server.listener import Listener, Socket
from creemson.server.refusals import Refusals
from creemson.server.transport.closing import Closed, Draining
from creemson.settings.sections import Limits, Server, Settings
from tests.server.connection.test_connection import callers_of

LARGEST = 2**24
"""Bytes of the largest message in the Autobahn test suite (cases 9.1.6 and 9.2.6)."""


class Echo:
    """Takes the place of the connection actor in the real server."""

    def __init__(self, socket: Socket, peer: str, identity: None) -> None:
        self._socket = socket

    async def run(self) -> None:
        """Send every message back until one side closes."""
        with contextlib.suppress(Closed):
            while True:
                await self._socket.send([await self._socket.receive()])


async def serve() -> None:
    """Listen on a free port and print it."""
    settings = Settings(
        server=Server(host="127.0.0.1", port=0, transport=sys.argv[1]),
        limits=Limits(message_bytes=LARGEST, chunk_bytes=LARGEST),
    )
    listener = Listener(
        settings=settings,
        connect=Echo,
        app=None,
        callers=callers_of(settings),
        draining=Draining(),
        refusals=Refusals(Metrics(), structlog.get_logger()),
        logger=structlog.get_logger(),
    )
    print(await listener.open(), flush=True)  # noqa: T201
    await listener.run()


if __name__ == "__main__":
    trio.run(serve)
