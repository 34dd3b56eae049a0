"""A server that sends every message back: the real listener and transport, without the rest of Creemson.

``python -m tests.faults.echo TRANSPORT`` prints its port and serves until it is killed. It has to be a process of its
own, so that who drives it can have an event loop of another kind.
"""

import contextlib
import sys

import structlog
import trio

from creemson.server.listener import Listener, Socket
from creemson.server.transport import Closed
from creemson.settings import Limits, Server, Settings
from tests.test_connection import gate_of

LARGEST = 2**24
"""Bytes of the largest message in the Autobahn test suite (cases 9.1.6 and 9.2.6)."""


class Echo:
    """Stands where the connection actor stands in the real server."""

    def __init__(self, socket: Socket, peer: str, identity: None) -> None:
        self._socket = socket

    async def run(self) -> None:
        """Send back what comes until one side closes."""
        with contextlib.suppress(Closed):
            while True:
                await self._socket.send([await self._socket.receive()])


async def serve() -> None:
    """Listen on a free port of this machine, and say which."""
    settings = Settings(
        server=Server(host="127.0.0.1", port=0, transport=sys.argv[1]),
        limits=Limits(message_bytes=LARGEST, chunk_bytes=LARGEST),
    )
    listener = Listener(
        settings=settings,
        connect=Echo,
        app=None,
        gate=gate_of(settings),
        draining=trio.Event(),
        logger=structlog.get_logger(),
    )
    print(await listener.open(), flush=True)  # noqa: T201
    await listener.run()


if __name__ == "__main__":
    trio.run(serve)
