"""One WebSocket connection that checks the server: each request ends exactly once, and no message is stray."""

import asyncio
import itertools
import json
import socket
import struct

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from creemson.errors import REASONS

PATIENCE = 180
"""Seconds to the end of any request: on a busy machine, the workers get little CPU time."""
NEWS = {"accepted", "progress", "log", "upload_ready", "upload_progress", "download"}


class Cut(Exception):  # noqa: N818 - a state
    """The connection was dropped deliberately."""


class Asked:
    """A request in flight."""

    def __init__(self, id, end):
        self.id = id
        self.end = end
        self.job = None
        self.seq = 0
        self.data = []
        self.started = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def result(self):
        return await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE)


class Wire:
    """A connection; ``async with`` opens it, and it always ends with `drop`."""

    _numbers = itertools.count(1)

    def __init__(self, url, ledger):
        self._url = url
        self.ledger = ledger
        self.open = {}
        self._dropped = False
        self._down = None

    async def __aenter__(self):
        self._socket = await connect(
            self._url, compression=None, max_size=2**24, ping_interval=None, open_timeout=PATIENCE
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._dropped = True
        await self._socket.close()
        await self._reader
        self.ledger.cut += len(self.open)
        for asked in self.open.values():
            asked.ended.cancel()
        self.open.clear()

    # --- requests --------------------------------------------------------------------------------------

    def message(self, type, end, **fields):
        """Return a message to send, and its request."""
        asked = Asked(f"r{next(self._numbers)}", end)
        self.open[asked.id] = asked
        self.ledger.opened += 1
        if type == "download":
            self._down = asked
        return {"type": type, "id": asked.id, **fields}, asked

    async def send(self, message):
        try:
            await self._socket.send(message if isinstance(message, bytes) else json.dumps(message))
        except ConnectionClosed:
            raise Cut from None

    async def start(self, type, end, **fields):
        message, asked = self.message(type, end, **fields)
        await self.send(message)
        return asked

    async def ask(self, type, end, **fields):
        return await (await self.start(type, end, **fields)).result()

    # --- disconnecting ------------------------------------------------------------------------------------

    async def drop(self, how):
        """Disconnect: with a close frame, a reset, or in the middle of a frame."""
        self._dropped = True
        if how == "clean":
            await self._socket.close()
            return
        transport = self._socket.transport
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        else:
            transport.write(b"\x81\xfe\x01\x00\x01\x02\x03\x04half a message")
            transport.close()

    # --- receiving -------------------------------------------------------------------------------------

    async def _read(self):
        try:
            async for message in self._socket:
                if isinstance(message, bytes):
                    self._bytes(message)
                    continue
                received = json.loads(message)
                for one in received["messages"] if received["type"] == "batch" else [received]:
                    self._dispatch(one)
        except ConnectionClosed:
            pass
        if not self._dropped:
            self.ledger.fault(f"the server closed: {self._socket.close_code} {self._socket.close_reason}")
        for asked in self.open.values():
            for future in (asked.started, asked.ended):
                if not future.done():
                    future.set_exception(Cut())
                    future.exception()

    def _bytes(self, data):
        if self._down is None:
            self.ledger.fault(f"{len(data)} bytes without a download")
        else:
            self._down.data.append(data)
            self.ledger.bytes_down += len(data)

    def _dispatch(self, message):
        kind, asked = message["type"], self.open.get(message.get("id"))
        if kind == "error":
            self._check_error(message)
        if asked is None:
            self.ledger.fault(f"an answer to no request, or a second one: {str(message)[:200]}")
            return
        if "seq" in message:
            if message["seq"] <= asked.seq:
                self.ledger.fault(f"seq {message['seq']} after {asked.seq}")
            asked.seq = message["seq"]
        asked.job = message.get("job", asked.job)
        if kind in NEWS and asked.end != kind:
            if kind in {"accepted", "upload_ready", "download"} and not asked.started.done():
                asked.started.set_result(message)
            return
        if kind not in {asked.end, "error"}:
            self.ledger.fault(f"{kind} in answer to a request that ends in {asked.end}")
        del self.open[asked.id]
        if self._down is asked:
            self._down = None
        self.ledger.ended += 1
        if not asked.started.done():
            asked.started.set_result(message)
        if not asked.ended.done():
            asked.ended.set_result(message)

    def _check_error(self, message):
        reason = message["reason"]
        self.ledger.errors[reason] += 1
        known = REASONS.get(reason)
        if known is None or reason == "internal" or message["code"] != known.code:
            self.ledger.fault(f"an unexpected error: {message}")
