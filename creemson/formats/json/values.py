"""Finds where the values of JSON text begin and end, without parsing all of it, whatever the size of the text."""

import re
from collections.abc import Iterator

import attrs

__all__ = ["KEY", "MAX_ELEMENT", "Cursor", "Elements", "elements", "end_of"]

MAX_ELEMENT = 64 << 20
"""Maximum size in bytes of one value of an array."""
MIN_READ = 1 << 18
"""Minimum number of bytes that are read first."""

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NESTED = rb"(?!)"
for _ in range(6):  # deeper values are scanned bracket by bracket, by end_of()
    _NESTED = rb"[{\[](?:[^\"{}\[\]]++|" + _STRING + rb"|" + _NESTED + rb")*+[}\]]"
# Anything but a value matches the rest of the text, so that there are no gaps between the values that are found.
_VALUES = re.compile(rb"([\s,]*+)()(" + _NESTED + rb")(?=\s*+[,\]{\[])|.+", re.DOTALL)
_MEMBERS = re.compile(rb"([\s,]*+)(" + _STRING + rb"\s*+:\s*+)(" + _NESTED + rb")(?=\s*+[,}])|.+", re.DOTALL)
_SCALARS = re.compile(rb"([\s,]*+)()(" + _STRING + rb"|[^,\]\[{}\":\s]++)(?=[\s,\]])|.+", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[{}\[\]"]', re.DOTALL)
_SPACE = re.compile(rb"[\s,]*+")
_SCALAR = re.compile(_STRING + rb"|[^,\]\[{}\"\s]++", re.DOTALL)
KEY = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
"""Matches a key of an object, and what is before its value."""


@attrs.frozen
class Elements:
    """Consecutive values of an array or an object.

    Attributes:
        texts: The JSON of each value, or the beginning of a single value that has no end.
        lines: The line of the file in which each value begins, counted from 1.
        is_whole: Whether the values have an end.
        keys: The JSON of the key of each value in an object, and what separates them; empty in an array.
    """

    texts: list[bytes]
    lines: list[int]
    is_whole: bool = True
    keys: list[bytes] = attrs.field(factory=list)


class Cursor:
    """A position in a text of which only a part is in memory.

    Attributes:
        buffer: The text that has been read and is still needed.
        at: The position in it.
        base: Offset in the text of the beginning of the buffer.
        line: The line of the position, counted from 1.
        has_ended: Whether all has been read.

    Args:
        blocks: The text.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.buffer = b""
        self.at = self.base = 0
        self.line = 1
        self.has_ended = False
        self._extend(MIN_READ)
        if self.buffer.startswith(b"\xef\xbb\xbf"):
            self.at = 3

    @property
    def offset(self) -> int:
        """Offset of the position in the text."""
        return self.base + self.at

    def move(self, at: int) -> None:
        """Move to a position in the buffer further on."""
        self.line += self.buffer.count(b"\n", self.at, at)
        self.at = at

    def seek(self, offset: int) -> None:
        """Move to an offset of the text further on."""
        while offset > self.base + len(self.buffer) and not self.has_ended:
            self.move(len(self.buffer))
            self.more()
        self.move(min(len(self.buffer), offset - self.base))

    def more(self) -> bool:
        """Drop what is before the position, and read as much again as is left; return whether there was more."""
        rest = len(self.buffer) - self.at
        self.base += self.at
        self.buffer = self.buffer[self.at :]
        self.at = 0
        self._extend(max(1, rest))  # double the buffer, so that a large value is not scanned too often
        return len(self.buffer) > rest

    def next(self) -> bytes:
        """Skip white space and commas; return the next character, or nothing at the end."""
        while True:
            match = _SPACE.match(self.buffer, self.at)
            assert match is not None
            self.move(match.end())
            if self.at < len(self.buffer) or not self.more():
                return self.buffer[self.at : self.at + 1]

    def _extend(self, size: int) -> None:
        pieces, count = [self.buffer], 0
        while count < size:
            piece = next(self._blocks, None)
            if piece is None:
                self.has_ended = True
                break
            pieces.append(piece)
            count += len(piece)
        self.buffer = b"".join(pieces)


def elements(cursor: Cursor, end: bytes) -> Iterator[Elements]:
    """Find the values of an array or an object, or a sequence of values.

    Args:
        cursor: The position after the opening bracket, or of the first value; it is moved.
        end: The closing bracket: ``]``, ``}``, or nothing for a sequence.

    Yields:
        The values, of any type.
    """
    is_object = end == b"}"
    while True:
        found = _consecutive(cursor, _MEMBERS if is_object else _VALUES) or (
            None if is_object else _consecutive(cursor, _SCALARS)
        )
        if found is not None:
            yield found
            continue
        match = _SPACE.match(cursor.buffer, cursor.at)
        assert match is not None
        cursor.move(match.end())
        buffer, begin = cursor.buffer, cursor.at
        if end and buffer[begin : begin + 1] == end:
            cursor.move(begin + 1)
            return
        key = KEY.match(buffer, begin) if is_object else None
        value = begin if key is None else key.end()
        stop = end_of(buffer, value) if value < len(buffer) else None
        # A complete value that the pattern does not match: it is nested too deeply, or neither list nor object.
        if stop is not None and (stop < len(buffer) or cursor.has_ended):
            yield Elements(
                [buffer[value:stop]], [cursor.line], keys=[] if key is None else [buffer[begin:value]]
            )
            cursor.move(stop)
            continue
        rest = len(buffer) - begin
        if cursor.has_ended or rest > MAX_ELEMENT:
            if rest or end:
                yield Elements([buffer[begin : begin + 1000]], [cursor.line], is_whole=False)
            return
        cursor.more()


def _consecutive(cursor: Cursor, pattern: re.Pattern[bytes]) -> Elements | None:
    """The consecutive values at a position, which is moved; None if there are none."""
    buffer = cursor.buffer
    matches = pattern.findall(buffer, cursor.at)
    if matches and not matches[-1][2]:
        matches.pop()
    if not matches:
        return None
    gaps, keys, texts = map(list, zip(*matches, strict=True))
    end = cursor.at + sum(map(len, gaps)) + sum(map(len, keys)) + sum(map(len, texts))
    keys = keys if keys[0] else []
    if buffer.count(b"\n", cursor.at, end) == 0:
        cursor.at = end
        return Elements(texts, [cursor.line] * len(texts), keys=keys)
    lines, line = [], cursor.line
    for gap, key, text in matches:
        line += gap.count(b"\n")
        lines.append(line)
        line += key.count(b"\n") + text.count(b"\n")
    cursor.at, cursor.line = end, line
    return Elements(texts, lines, keys=keys)


def end_of(text: bytes, begin: int) -> int | None:
    """Return where a value ends; None if it does not end in this text."""
    if text[begin : begin + 1] not in {b"{", b"["}:
        match = _SCALAR.match(text, begin)
        return begin + 1 if match is None and text[begin : begin + 1] != b'"' else match and match.end()
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        bracket = token[0]
        if bracket == b'"':  # a string without an end
            return None
        if bracket in {b"{", b"["}:
            depth += 1
        elif bracket in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                return token.end()
    return None
