"""What comes over a WebSocket, frame by frame: wsproto, with a short way for plain frames. Sans-IO.

wsproto 1.3 takes some 40 µs for a short message, and unmasks in Python. Here, a frame that is whole, final and of
the least length (RFC 6455 section 5.2) is cut out and unmasked as one, in C. Everything else is wsproto's, from
that frame on until it is between two messages again: fragments, control frames, whatever is wrong, and text of
which a part has not come. So it is wsproto that decides what is a violation, and when; a binary frame within the
limits is waited for, since until it is whole nothing about it can be wrong.

A test feeds both with the same bytes in the same pieces, and compares what they deliver after each.
"""

import io
import struct
from collections.abc import Sequence
from typing import TypeAlias

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from creemson.server.sizes import SizeLimit

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform
    from websockets.utils import apply_mask

__all__ = ["Control", "Frames", "framed"]

Control: TypeAlias = Ping | Pong | CloseConnection
"""What is no message; wsproto tells violations as :class:`CloseConnection` while its state is still open."""

TEXT, BINARY = 0x81, 0x82
"""The first byte of a final, unfragmented frame without reserved bits."""
MASKED = 0x80
LENGTH = 0x7F
SHORT, MEDIUM = 126, 127
"""Instead of a length: it follows in two bytes, or in eight."""
MASK_BYTES = 4
VIEWED = 16 * 1024
"""Bytes from which on a payload is not copied before it is unmasked; a view takes longer than a short copy."""
AHEAD = 16
"""Times what there is of a message, there is room made for."""
JOINED = 64 * 1024
"""Bytes up to which a message to be sent is joined with its neighbours; to copy more takes longer than to send it."""


class Frames:
    """Takes bytes, gives messages and events.

    Args:
        limit: of messages; wsproto tells it of each frame that is not plain.

    Attributes:
        wsproto: says what the state is, and makes control frames.
        missing: bytes without which nothing can be said, for which there is :meth:`room` at the end.
    """

    def __init__(self, limit: SizeLimit) -> None:
        self._limit = limit
        self.wsproto = Connection(ConnectionType.SERVER, [limit])
        self._data: bytes | bytearray = b""
        self._at = 0  # what comes before is done with
        self.missing = 0
        self._theirs = False  # wsproto is in the middle of something
        # A part may be a byte, and as an object of its own some fifty.
        self._text: io.StringIO | None = None
        self._bytes: bytearray | None = None

    def receive(self, data: bytes | bytearray) -> None:
        """Take what has come; all that there was before has to have been asked for."""
        if self._theirs:
            self.wsproto.receive_data(bytes(data))
        elif not self.missing:
            self._data, self._at = data, 0
        else:
            fitting = min(self.missing, len(data))
            with self.room() as room:
                room[:fitting] = memoryview(data)[:fitting]
            self.filled(fitting)
            if fitting < len(data):
                self._data += memoryview(data)[fitting:]

    def room(self) -> memoryview:
        """Where what is missing may be read into, which saves a copy; see :meth:`filled`."""
        return memoryview(self._data)[len(self._data) - self.missing :]

    def filled(self, size: int) -> None:
        """So many bytes of the :meth:`room` have come."""
        self.missing -= size

    def next(self) -> str | bytes | Control | None:
        """The next message or control frame; None if more has to come first."""
        if self._theirs:
            found = self._next_of_theirs()
            if found is not None:
                return found
            self._theirs = not self._between_messages()
        if self._theirs or self.missing:
            return None
        if self._at == len(self._data):
            self._data, self._at = b"", 0  # which may have been a large message
            return None
        return self._plain()

    def _plain(self) -> str | bytes | Control | None:
        """Read a frame's header (RFC 6455 section 5.2), to see whether it is a plain one."""
        data, at = self._data, self._at
        have = len(data) - at
        first = data[at]
        if first not in (TEXT, BINARY):
            return self._hand_over()
        if have == 1:
            return self._wait_for(1)
        if data[at + 1] < MASKED:
            return self._hand_over()
        size = data[at + 1] & LENGTH
        start = at + 2 + MASK_BYTES
        if size >= SHORT:
            wide, least = (2, SHORT) if size == SHORT else (8, 1 << 16)
            start += wide
            if have < 2 + wide:
                return self._wait_for(2 + wide - have)
            size = int.from_bytes(data[at + 2 : at + 2 + wide])
            if size < least:
                return self._hand_over()
        if size > (self._limit.text if first == TEXT else self._limit.binary):
            return self._hand_over()
        missing = start + size - len(data)
        if missing <= 0:
            return self._cut(start, size, is_text=first == TEXT)
        if first == BINARY:
            return self._wait_for(missing)
        # Text may be wrong before it is whole, and wsproto says so at once.
        begun = start < len(data)
        return self._hand_over() if begun else self._wait_for(min(missing, start + 1 - len(data)))

    def _cut(self, start: int, size: int, *, is_text: bool) -> str | bytes | Control | None:
        """Take a frame that is whole."""
        data, end = self._data, start + size
        payload = data[start:end] if size < VIEWED else memoryview(data)[start:end]
        message = apply_mask(payload, data[start - MASK_BYTES : start])
        if is_text:
            try:
                text = message.decode()
            except UnicodeDecodeError:
                return self._hand_over()
            self._at = end
            return text
        self._at = end
        return message

    def _wait_for(self, missing: int) -> str | bytes | Control | None:
        """Make room for so many bytes, but not for much more than there are: the peer may only say so."""
        have = memoryview(self._data)[self._at :]
        self.missing = min(missing, max(VIEWED, AHEAD * len(have)))
        self._data = bytearray(len(have) + self.missing)
        self._data[: len(have)] = have
        self._at = 0
        return None

    def _hand_over(self) -> str | bytes | Control | None:
        """From here on it is wsproto's."""
        rest = bytes(memoryview(self._data)[self._at :])
        self._data, self._at = b"", 0
        self._theirs = True
        self.wsproto.receive_data(rest)
        return self.next()

    def _next_of_theirs(self) -> str | bytes | Control | None:
        for event in self.wsproto.events():
            found = self._joined(event)
            if found is not None:
                return found
        return None

    def _joined(self, event: Event) -> str | bytes | Control | None:
        """What has come with an event, if that makes a message whole."""
        if isinstance(event, TextMessage):
            if self._text is None:
                if event.message_finished:
                    return event.data
                self._text = io.StringIO()
            self._text.write(event.data)
            if event.message_finished:
                text, self._text = self._text.getvalue(), None
                return text
        elif isinstance(event, BytesMessage):
            if self._bytes is None:
                if event.message_finished:
                    return bytes(event.data)
                self._bytes = bytearray()
            self._bytes += event.data
            if event.message_finished:
                message, self._bytes = bytes(self._bytes), None
                return message
        else:
            assert isinstance(event, Control)
            return event
        return None

    def _between_messages(self) -> bool:
        """Whether wsproto has nothing begun, of which there is no public word."""
        if self.wsproto.state is not ConnectionState.OPEN:
            return False
        protocol = self.wsproto._proto
        decoder = protocol._frame_decoder
        return decoder.header is None and not len(decoder.buffer) and protocol._message_decoder.opcode is None


def framed(messages: Sequence[str | bytes]) -> list[bytes]:
    """Make frames of messages, for a peer that does not want them masked.

    Args:
        messages: to be sent.

    Returns:
        The bytes, in pieces of no meaning.
    """
    pieces: list[bytes] = []
    small: list[bytes] = []
    for message in messages:
        first, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        size = len(payload)
        if size < SHORT:
            small.append(bytes((first, size)))
        elif size < 1 << 16:
            small.append(struct.pack("!BBH", first, SHORT, size))
        else:
            small.append(struct.pack("!BBQ", first, MEDIUM, size))
        if size <= JOINED:
            small.append(payload)
        else:
            pieces += (b"".join(small), payload)
            small = []
    if small:
        pieces.append(b"".join(small))
    return pieces
