"""A scripted server over memory streams, for clients on a mock clock."""

import json
from functools import partial

import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, wrap_server_stream
from wsproto.events import Pong

from creemson.client import handshake

WELCOME = {
    "type": "welcome",
    "version": 1,
    "server": "fake",
    "connection": "c",
    "limits": {
        "message_bytes": 10_000,
        "chunk_bytes": 10,
        "upload_bytes": 1000,
        "batch_messages": 5,
        "messages_per_s": 1000,
        "messages_burst": 1000,
    },
    "heartbeat": {"interval": 20.0, "timeout": 20.0},
    "formats": [],
    "outputs": [],
}
OUTPUT = {
    "rows": 1,
    "columns": ["a"],
    "dtypes": ["Int64"],
    "filename": "x.parquet",
    "final_filename_csv": "x.csv",
    "final_filename_excel": "x.xlsx",
    "elapsed_s": 0.1,
    "cached": False,
}
DATA = {"summary": "ok", "output_data": OUTPUT}
FIGURES = {
    "phase": "reading", "bytes_read": 1, "bytes_total": 2, "rows": 1, "fraction": 0.5, "rows_per_s": 1.0, "eta_s": 1.0,
}  # fmt: skip


class Peer:
    """The server's end of one connection; messages are dictionaries or bytes."""

    def __init__(self, socket, stream):
        self.socket = socket
        self.stream = stream
        self.hello = None
        self.frames = []

    async def hear(self):
        """Return the next message; the members of a batch are returned one by one."""
        if not self.frames:
            message = await self.socket.get_message()
            if isinstance(message, bytes):
                return message
            message = json.loads(message)
            self.frames = message["messages"] if message["type"] == "batch" else [message]
        return self.frames.pop(0)

    async def say(self, message):
        await self.socket.send_message(message if isinstance(message, str | bytes) else json.dumps(message))

    async def answer(self, request, **fields):
        await self.say({"id": request["id"], **fields})

    async def error(self, request, reason, **fields):
        code = {"shutting_down": 1001, "unauthenticated": 1002, "rate_limited": 1002}.get(reason, 1003)
        fault = {
            "type": "error",
            "message": reason,
            "code": code,
            "reason": reason,
            "retryable": False,
            **fields,
        }
        await (self.say(fault) if request is None else self.answer(request, **fault))

    async def drop(self):
        """The network fails."""
        await self.stream.aclose()

    def answer_pings_after(self, seconds):
        """Delay each pong by this many seconds; infinity for a peer that is alive only at TCP level."""
        send = self.socket._send

        async def slowly(event):
            if isinstance(event, Pong):
                await trio.sleep(seconds)
            await send(event)

        self.socket._send = slowly


class FakeServer:
    """Serves each connection with the next of ``scripts``, and repeats the last one.

    A script is an async function of the :class:`Peer` whose hello has been answered; or an exception, which the
    client's attempt to connect raises. The connection breaks when a script returns.
    """

    def __init__(self, nursery, *scripts):
        self.nursery = nursery
        self.scripts = list(scripts)
        self.peers = []
        self.times = []  # of the connection attempts
        self.urls = []  # of the same

    async def open_stream(self, url, ssl_context=None):
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        self.urls.append(url)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if isinstance(script, Exception):
            raise script
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(partial(self._serve, theirs, script))
        return ours

    async def _serve(self, stream, script):
        async with trio.open_nursery() as nursery:
            try:
                request = await wrap_server_stream(nursery, stream)
                peer = Peer(await request.accept(), stream)
                self.peers.append(peer)
                peer.hello = await peer.hear()
                if getattr(script, "unwelcome", False):
                    await script(peer)
                else:
                    await peer.answer(peer.hello, **WELCOME)
                    await script(peer)
            except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            await stream.aclose()
            nursery.cancel_scope.cancel()


def unwelcome(script):
    """Mark a script that handles the hello itself."""
    script.unwelcome = True
    return script


def served_by(monkeypatch, nursery, *scripts):
    """Connect every client to a fake server."""
    server = FakeServer(nursery, *scripts)
    monkeypatch.setattr(handshake, "open_stream", server.open_stream)
    return server
