"""Checks that everything a server has sent is valid, whatever it was sent."""

import struct

import h11
import orjson

from creemson.errors import REASONS
from creemson.wire import codec
from creemson.wire.messages import SERVER_TYPES

HEALTHY = {501, 503, 505, 507}
"""The statuses from 500 on that are not a fault of the server."""


_HEADERS = [("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
"""Headers of the requests that h11 gets, so that it expects the responses."""


class InvalidAnswer(AssertionError):  # noqa: N818 - describes the fault
    """The server has sent something that it must not send."""


class Frames:
    """Checks the frames of a server after the handshake; the bytes may come in any pieces."""

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
                _check(size > 125, "a length in too many bytes")
            elif size == 127:
                if len(data) < at + 10:
                    break
                (size,), start = struct.unpack_from("!Q", data, at + 2), at + 10
                _check(2**16 <= size < 2**25, "a length in too many bytes, or too large")
            _check(size < 128 or data[at + 1] >= 126, "a mask")
            if len(data) < start + size:
                break
            self._frame(first, data[start : start + size])
            at = start + size
        self._data = data[at:]

    def end(self):
        _check(not self._data, f"half a frame: {self._data[:50]!r}")

    def _frame(self, first, payload):
        _check(self.closed is None, "a frame after the close frame")
        if first == 0x81:
            self.texts += 1
            _message(payload, whole=self.texts % 8 == 0)
        elif first == 0x88:
            (self.closed,) = struct.unpack("!H", payload[:2]) if payload else (1005,)
            payload[2:].decode()
            _check(self.closed not in {1011, 1006, 1015}, f"close code {self.closed}")
        elif first == 0x8A:
            self.pongs.append(payload)
        else:
            _check(first in {0x82, 0x89}, f"first byte {first:#x}")


def _check(condition, what):
    if not condition:
        raise InvalidAnswer(what)


def _message(payload, *, whole):
    """Check a text message; ``whole`` also checks all fields, which takes longer."""
    message = orjson.loads(payload)
    if message["type"] == "error":
        reason = REASONS.get(message["reason"])
        _check(reason is not None and message["reason"] != "internal", f"error {message}")
        _check((message["code"], message["retryable"]) == (reason.code, reason.retryable), f"error {message}")
        _check("Traceback (most recent" not in message["message"], f"error {message}")
    elif whole or message["type"] not in SERVER_TYPES:
        codec.structure_answer(message)
    if message["type"] == "batch":
        for one in message["messages"]:
            _message(orjson.dumps(one), whole=whole)


def responses(sent, received):
    """Check everything that was received in response to some HTTP requests; return the statuses of the complete responses.

    The last one may be incomplete: for a server, the end of the sent bytes may mean that the peer has disconnected.
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
            if b"HEAD" in sent:  # it is unknown which of several requests it was
                break
            raise InvalidAnswer(f"no HTTP: {error}") from error
        if status is None:
            break
        _check(status < 500 or status in HEALTHY, f"status {status}")
        statuses.append(status)
        if connection.their_state is h11.SWITCHED_PROTOCOL:
            Frames().feed(connection.trailing_data[0])
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            break
        connection.start_next_cycle()
    return statuses


def _response(connection):
    """Return the status of a complete response; None if it is incomplete."""
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
