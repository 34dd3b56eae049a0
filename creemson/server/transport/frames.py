"""Parses and builds WebSocket frames: wsproto, with a fast path for plain frames. Sans-IO.

wsproto 1.3 takes about 40 µs for a short message, and unmasks in Python. Here, a frame that is complete, final and
encoded with the shortest length (RFC 6455 section 5.2) is cut out and unmasked in one step, in C. wsproto parses
everything else (fragments, control frames, violations, incomplete text), from that frame until it is between two
messages again. So wsproto decides what is a violation, and when. For the rest of an incomplete binary frame within
the limits, this module waits itself: the frame cannot be invalid before it is complete.

A test feeds both parsers with the same bytes in the same segments, and compares what they deliver after each.
"""

import io
import struct
from collections.abc import Sequence
from typing import TypeAlias

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from creemson.server.transport.seams import is_between_messages
from creemson.server.transport.size_limit import SizeLimit

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform
    from websockets.utils import apply_mask

__all__ = ["Control", "Frames", "Outgoing", "make_frames"]

Control: TypeAlias = Ping | Pong | CloseConnection
"""An event that is not a message. wsproto reports a violation as :class:`CloseConnection` in the open state."""

Outgoing: TypeAlias = str | bytes | memoryview
"""A message to send. The memory of a view must not change until the message has been sent."""

TEXT, BINARY = 0x81, 0x82
"""The first byte of a final, unfragmented frame without reserved bits."""
MASKED = 0x80
"""The bit of the second byte that says that the payload is masked."""
LENGTH = 0x7F
"""The bits of the second byte with the length of the payload."""
SHORT, MEDIUM = 126, 127
"""Values in place of the length: the length follows in two bytes, or in eight."""
MASK_BYTES = 4
SHORT_HEADERS = tuple(bytes((TEXT, size)) for size in range(SHORT))
"""The headers of the unmasked text frames with less than :data:`SHORT` bytes, by this number."""
MIN_VIEW_BYTES = 16 * 1024
"""Minimum bytes of a payload that is unmasked without a copy; for fewer bytes, a copy is faster than a view."""
MAX_TOGETHER = 100
"""Maximum number of short messages that are parsed together, so that not all of them wait as objects."""
MAX_GROWTH = 16
"""Maximum size of the buffer for a frame, as a multiple of its bytes that have arrived."""
MAX_JOIN_BYTES = 64 * 1024
"""Maximum bytes of a message that is joined with its neighbors; sending it alone is faster than copying more."""


class Frames:
    """Takes bytes, returns messages and control frames.

    Args:
        limit: maximum sizes of messages; wsproto calls it for each frame that is not plain.

    Attributes:
        wsproto: knows the state, and builds control frames.
        missing: number of bytes that are needed before anything can be parsed; :meth:`room` has space for them.
    """

    def __init__(self, limit: SizeLimit) -> None:
        self._limit = limit
        self.wsproto = Connection(ConnectionType.SERVER, [limit])
        self._data: bytes | bytearray = b""
        self._at = 0  # position up to which the data have been parsed
        # The memory of the last large frame, for a next one of the same size; until another kind of frame arrives.
        self._spare: bytearray | None = None
        self.missing = 0
        self._in_wsproto = False  # whether wsproto parses the next bytes
        self._texts: list[str] = []  # short messages that have been parsed, and come next
        self._are_put_back = False  # whether these have been taken and put back
        # The current fragmented message, joined as it arrives: a part of one byte would take about fifty as an object.
        self._text: io.StringIO | None = None
        self._bytes: bytearray | None = None

    def receive(self, data: bytes | bytearray) -> None:
        """Add received bytes. Everything before must have been taken with :meth:`next`."""
        if self._in_wsproto:
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
        """Return memory to read the missing bytes into, which saves a copy; call :meth:`filled` afterwards."""
        return memoryview(self._data)[len(self._data) - self.missing :]

    def filled(self, size: int) -> None:
        """Note that bytes have been read into :meth:`room`."""
        self.missing -= size

    def next(self) -> str | bytes | Control | None:
        """Return the next message or control frame; None if more bytes are needed."""
        if self._texts:
            return self._texts.pop(0)
        if self._in_wsproto:
            found = self._next_from_wsproto()
            if found is not None:
                return found
            self._in_wsproto = not is_between_messages(self.wsproto)
        if self._in_wsproto or self.missing:
            return None
        if self._at == len(self._data):
            self._data, self._at = b"", 0  # releases the memory of a large message
            return None
        return self._plain()

    def take_texts(self) -> list[str]:
        """Take the messages that were parsed together with the last one, so that they can be handled together."""
        if not self._texts or self._are_put_back:
            return []
        texts, self._texts = self._texts, []
        return texts

    def put_back(self, texts: Sequence[str]) -> None:
        """Let :meth:`next` return these messages one by one, before those that follow."""
        self._texts, self._are_put_back = [*texts], True

    def _short_texts(self) -> list[str]:
        """Parse the short text messages that come next, if they are complete, valid and in plain frames.

        One loop takes 0.4 µs for each of them; a call of :meth:`next` for each took 0.7.
        """
        data, at, end = self._data, self._at, len(self._data)
        longest = MASKED + min(SHORT - 1, self._limit.text)
        texts: list[str] = []
        while at + 2 + MASK_BYTES <= end and data[at] == TEXT and MASKED <= data[at + 1] <= longest:
            start = at + 2 + MASK_BYTES
            stop = start + data[at + 1] - MASKED
            if stop > end or len(texts) == MAX_TOGETHER:
                break
            try:
                texts.append(apply_mask(data[start:stop], data[at + 2 : start]).decode())
            except UnicodeDecodeError:
                break
            at = stop
        self._at = at
        return texts

    def _plain(self) -> str | bytes | Control | None:
        """Parse a frame's header (RFC 6455 section 5.2), and the frame if it is a plain one."""
        data, at = self._data, self._at
        have = len(data) - at
        first = data[at]
        if first != BINARY:
            self._spare = None
        if first == TEXT:
            self._texts, self._are_put_back = self._short_texts(), False
            if self._texts:
                return self._texts.pop(0)
        elif first != BINARY:
            return self._hand_over()
        if have == 1:
            return self._wait_for(1)
        if data[at + 1] < MASKED:
            return self._hand_over()
        size = data[at + 1] & LENGTH
        start = at + 2 + MASK_BYTES
        if size >= SHORT:
            wide, minimum = (2, SHORT) if size == SHORT else (8, 1 << 16)
            start += wide
            if have < 2 + wide:
                return self._wait_for(2 + wide - have)
            size = int.from_bytes(data[at + 2 : at + 2 + wide])
            if size < minimum:
                return self._hand_over()
        if size > (self._limit.text if first == TEXT else self._limit.binary):
            return self._hand_over()
        missing = start + size - len(data)
        if missing <= 0:
            return self._cut(start, size, is_text=first == TEXT)
        if first == BINARY:
            return self._wait_for(missing)
        # Text may be invalid before it is complete, and wsproto reports this at once.
        has_payload = start < len(data)
        return self._hand_over() if has_payload else self._wait_for(min(missing, start + 1 - len(data)))

    def _cut(self, start: int, size: int, *, is_text: bool) -> str | bytes | Control | None:
        """Take a complete frame."""
        data, end = self._data, start + size
        payload = data[start:end] if size < MIN_VIEW_BYTES else memoryview(data)[start:end]
        message = apply_mask(payload, data[start - MASK_BYTES : start])
        if is_text:
            try:
                text = message.decode()
            except UnicodeDecodeError:
                return self._hand_over()
            self._at = end
            return text
        self._at = end
        if isinstance(data, bytearray) and end == len(data) >= MIN_VIEW_BYTES:
            self._spare = data
        return message

    def _wait_for(self, missing: int) -> str | bytes | Control | None:
        """Make room for missing bytes, but only in proportion to what has arrived: the peer may never send them."""
        have = memoryview(self._data)[self._at :]
        self.missing = min(missing, max(MIN_VIEW_BYTES, MAX_GROWTH * len(have)))
        size = len(have) + self.missing
        spare, self._spare = self._spare, None
        room = spare if spare is not None and len(spare) == size else bytearray(size)
        room[: len(have)] = have
        self._data = room
        self._at = 0
        return None

    def _hand_over(self) -> str | bytes | Control | None:
        """Let wsproto parse the rest."""
        rest = bytes(memoryview(self._data)[self._at :])
        self._data, self._at = b"", 0
        self._in_wsproto = True
        self.wsproto.receive_data(rest)
        return self.next()

    def _next_from_wsproto(self) -> str | bytes | Control | None:
        for event in self.wsproto.events():
            found = self._joined(event)
            if found is not None:
                return found
        return None

    def _joined(self, event: Event) -> str | bytes | Control | None:
        """Return the message that an event completes, or the control frame."""
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


def make_frames(messages: Sequence[Outgoing]) -> list[bytes | memoryview]:
    """Build unmasked frames.

    Args:
        messages: the messages.

    Returns:
        The bytes to send, in pieces that may end anywhere between frames and payloads.
    """
    pieces: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for message in messages:
        first, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        size = len(payload)
        if size < SHORT and first == TEXT:
            small.append(SHORT_HEADERS[size])
        elif size < SHORT:
            small.append(bytes((first, size)))
        elif size < 1 << 16:
            small.append(struct.pack("!BBH", first, SHORT, size))
        else:
            small.append(struct.pack("!BBQ", first, MEDIUM, size))
        if size <= MAX_JOIN_BYTES:
            small.append(payload)
        else:
            pieces += (b"".join(small), payload)
            small = []
    if small:
        pieces.append(b"".join(small))
    return pieces
