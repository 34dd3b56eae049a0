"""Whether what a server has said is worth that name, whatever it was asked."""

import struct

import h11
import orjson

from creemson.errors import REASONS
from creemson.wire import codec

HEALTHY = {501, 503, 505, 507}
"""The only statuses from 500 on that are no fault of the server's."""


_HEADERS = [("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
"""Of any request, to h11, which must expect what comes."""


class Wrong(AssertionError):  # noqa: N818 - what it was
    """The server has said something that it must not say."""


class Frames:
    """Takes a server's bytes after the handshake, in any pieces."""

    def __init__(self):
        self._data = b""
        self.closed = None  # the code of the close frame
        self.texts = 0
        self.pongs = []

    def feed(self, data):
        data = self._data + data
        at = 0
        while len(data) - at >= 2:
            first, size = data[at], data[at + 1]
            start = at + 2
            if size == 126:
                if len(data) < at + 4:
                    break
                (size,), start = struct.unpack_from("!H", data, at + 2), at + 4
                _hold(size > 125, "a length in too many bytes")
            elif size == 127:
                if len(data) < at + 10:
                    break
                (size,), start = struct.unpack_from("!Q", data, at + 2), at + 10
                _hold(2**16 <= size < 2**25, "a length in too many bytes, or too great")
            _hold(size < 128 or data[at + 1] >= 126, "a mask")
            if len(data) < start + size:
                break
            self._frame(first, data[start : start + size])
            at = start + size
        self._data = data[at:]

    def end(self):
        _hold(not self._data, f"half a frame: {self._data[:50]!r}")

    def _frame(self, first, payload):
        _hold(self.closed is None, "a frame after the close frame")
        if first == 0x81:
            self.texts += 1
            _message(payload, whole=self.texts % 8 == 0)
        elif first == 0x88:
            (self.closed,) = struct.unpack("!H", payload[:2]) if payload else (1005,)
            payload[2:].decode()
            _hold(self.closed not in {1011, 1006, 1015}, f"close code {self.closed}")
        elif first == 0x8A:
            self.pongs.append(payload)
        else:
            _hold(first in {0x82, 0x89}, f"first byte {first:#x}")


def _hold(condition, what):
    if not condition:
        raise Wrong(what)


def _message(payload, *, whole):
    """A text message; ``whole`` has all of its fields checked, which takes its time."""
    message = orjson.loads(payload)
    if message["type"] == "error":
        reason = REASONS.get(message["reason"])
        _hold(reason is not None and message["reason"] != "internal", f"error {message}")
        _hold((message["code"], message["retryable"]) == (reason.code, reason.retryable), f"error {message}")
        _hold("Traceback (most recent" not in message["message"], f"error {message}")
    elif whole or message["type"] not in codec.SERVER_TYPES:
        codec.structure_answer(message)
    if message["type"] == "batch":
        for one in message["messages"]:
            _message(orjson.dumps(one), whole=whole)


def responses(sent, received):
    """Hold everything that came in answer to some requests to HTTP; returns the statuses of what is whole.

    The last one may be half: a server may take the end of what it is sent for the end of the peer.
    """
    statuses = []
    connection = h11.Connection(h11.CLIENT)
    connection.receive_data(received)
    while connection.trailing_data[0]:
        head = sent.startswith(b"HEAD ") and not statuses
        connection.send(h11.Request(method="HEAD" if head else "GET", target="/", headers=_HEADERS))
        connection.send(h11.EndOfMessage())
        try:
            status = _response(connection)
        except h11.RemoteProtocolError as error:
            if b"HEAD" in sent:  # which of several it was, cannot be told for sure
                break
            raise Wrong(f"no HTTP: {error}") from error
        if status is None:
            break
        _hold(status < 500 or status in HEALTHY, f"status {status}")
        statuses.append(status)
        if connection.their_state is h11.SWITCHED_PROTOCOL:
            Frames().feed(connection.trailing_data[0])
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            break
        connection.start_next_cycle()
    return statuses


def _response(connection):
    """The status of a response that is whole; else None."""
    status = None
    while True:
        event = connection.next_event()
        if isinstance(event, h11.InformationalResponse | h11.Response):
            status = event.status_code
            if status == 101:
                return status
        elif isinstance(event, h11.EndOfMessage):
            return status
        elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return None
