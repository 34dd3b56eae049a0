"""JSON text by its outward look: whether it is one, and where the values in it begin and end. No polars here."""

import json
import re
from collections.abc import Iterator
from typing import Literal

import attrs

__all__ = ["ELEMENT_MOST", "Elements", "NoArray", "elements", "kind_of"]

ELEMENT_MOST = 64 << 20
"""Bytes of one value of an array that is read."""
START_MOST = 1 << 20
"""Bytes of an object, before the array in it that is the table."""

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NESTED = rb"(?!)"
for _ in range(6):  # deeper values are looked at bracket by bracket
    _NESTED = rb"[{\[](?:[^\"{}\[\]]++|" + _STRING + rb"|" + _NESTED + rb")*+[}\]]"
# What is no value swallows the rest, so that the values that are found follow one another.
_VALUES = re.compile(rb"([\s,]*+)(" + _NESTED + rb")(?=\s*+[,\]{\[])|.+", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[{}\[\]"]', re.DOTALL)
_SPACE = re.compile(rb"[\s,]*+")
_SCALAR = re.compile(_STRING + rb"|[^,\]\[{}\"\s]++", re.DOTALL)
_KEY = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_TABLE = re.compile(rb"\[\s*+[{\[]")


class NoArray(ValueError):  # noqa: N818 - it says what is missing
    """There is no array of objects in a text."""


@attrs.frozen
class Elements:
    """Values of an array that follow one another.

    Attributes:
        texts: the JSON of each, or what stands in the place of a last one that does not end.
        lines: of the file in which each begins, 1-based.
        whole: whether they end.
    """

    texts: list[bytes]
    lines: list[int]
    whole: bool = True


# --- what a file is ----------------------------------------------------------------------------------


def kind_of(
    text: str, *, cut: bool, named: Literal["lines", "json"] | None
) -> Literal["json", "ndjson"] | None:
    """What kind of JSON a text is, if it is any.

    Args:
        text: the beginning of a file, without a byte order mark and white space before it.
        cut: whether it goes on.
        named: what its name says, if anything.

    Returns:
        ``"ndjson"`` of an object on each line, ``"json"`` of one array, or of objects that span lines, or of one
        object in a file that is named so and has a list of objects in it.

    >>> kind_of('[{"a": 1}]', cut=False, named=None)
    'json'
    >>> kind_of("[a],b", cut=False, named=None)
    """
    if named == "lines" and not text.startswith("{") and not _begins_an_array(text) and "\n{" in text:
        return "ndjson"  # its first line is a bad one
    if text.startswith("["):
        return "json" if named is not None or _begins_an_array(text) else None
    if not text.startswith("{"):
        return None
    first = text.partition("\n")[0]
    if named is None and '"' not in first and not _key_on_next_line(text):
        return None
    if _decoded(first) is not None:
        alone = not cut and not text[len(first) :].strip()
        if alone and named == "json" and _TABLE.search(first.encode()) and _has_table(first):
            return "json"
        return "ndjson"
    if first == text.rstrip():  # one line, that is longer than what is seen of it, or is damaged
        return "json" if named == "json" and cut and _opens_table(text) else "ndjson"
    return "json" if _spans_lines(text, first) else "ndjson"


def _begins_an_array(text: str) -> bool:
    inner = text[1:].lstrip()
    if inner.startswith("]"):
        return not inner[1:].strip()
    if not inner.startswith(("{", "[")):
        return False
    try:
        value, end = json.JSONDecoder().raw_decode(inner)
    except RecursionError:
        return True
    except ValueError:  # cut off in its first value, or damaged there
        return _KEY.match(inner[1:].encode()) is not None
    return isinstance(value, (dict, list)) and inner[end:].lstrip()[:1] in {"", ",", "]"}


def _key_on_next_line(text: str) -> bool:
    return _KEY.match(text[1:].encode()) is not None


def _decoded(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _has_table(line: str) -> bool:
    value = _decoded(line)
    return isinstance(value, dict) and any(
        isinstance(inner, list) and inner and (isinstance(inner[0], dict) or _is_header(inner[0]))
        for inner in value.values()
    )


def _is_header(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(cell, str) for cell in value)


def _opens_table(text: str) -> bool:
    try:
        start(text.encode())
    except NoArray:
        return False
    return True


def _spans_lines(text: str, first: str) -> bool:
    """Whether the first line goes on in the second, rather than being damaged or cut off."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return True
    except json.JSONDecodeError as error:
        # What the end of the text cuts is valid up to there; in NDJSON the fault is in the first line, or right after.
        second = text[len(first) :].lstrip()
        return error.pos > len(first) and _decoded(second.partition("\n")[0]) is None
    return end > len(first)


# --- where its values are ----------------------------------------------------------------------------


def start(text: bytes) -> int:
    """Where the values begin.

    Args:
        text: the beginning of a file, up to :data:`START_MOST`.

    Returns:
        The offset behind the bracket of an array, or of the first array of objects or lists in an object; 0 if it is
        an object that has none.

    Raises:
        NoArray: it is neither an array nor an object.
    """
    at = _skip(text, 3 if text.startswith(b"\xef\xbb\xbf") else 0)
    if text[at : at + 1] == b"[":
        return at + 1
    if text[at : at + 1] != b"{":
        raise NoArray("neither an array nor an object")
    at += 1
    while key := _KEY.match(text, at):
        at = key.end()
        if found := _TABLE.match(text, at):
            return found.start() + 1
        if text[at : at + 1] in {b"{", b"["}:
            end = _end_of(text, at)
            if end is None:
                break
            at = end
        elif scalar := _SCALAR.match(text, at):
            at = scalar.end()
        else:
            break
    return 0


def elements(blocks: Iterator[bytes]) -> Iterator[Elements]:
    """The values of an array, or of objects that follow one another.

    Args:
        blocks: the text of the file.

    Yields:
        Its values; what follows on the array is left out. What is no list or object comes as it is.

    Raises:
        NoArray: the text is neither.
    """
    source = _Source(blocks)
    source.more(START_MOST // 4)
    at = start(source.buffer)
    array = at > 0
    line = 1 + source.buffer.count(b"\n", 0, at)
    while True:
        buffer = source.buffer
        if found := _run(buffer, at, line):
            yield found[0]
            _, at, line = found
        begin = _skip(buffer, at)
        line += buffer.count(b"\n", at, begin)
        if array and buffer[begin : begin + 1] == b"]":
            return
        end = _end_of(buffer, begin) if begin < len(buffer) else None
        if end is not None and (end < len(buffer) or source.ended):  # too deep for the pattern, or no object
            yield Elements([buffer[begin:end]], [line])
            line += buffer.count(b"\n", begin, end)
            at = end
            continue
        rest = len(buffer) - begin
        if source.ended or rest > ELEMENT_MOST:
            if rest or array:
                yield Elements([buffer[begin : begin + 1000]], [line], whole=False)
            return
        source.drop(begin)
        at = 0
        source.more(max(1, rest))  # as much again, so that a large value is not looked at too often


def _run(buffer: bytes, at: int, line: int) -> tuple[Elements, int, int] | None:
    """The values from an offset on, the offset behind them, and its line."""
    found = _VALUES.findall(buffer, at)
    if found and not found[-1][1]:
        found.pop()
    if not found:
        return None
    gaps, texts = map(list, zip(*found, strict=True))
    end = at + sum(map(len, gaps)) + sum(map(len, texts))
    if buffer.count(b"\n", at, end) == 0:
        return Elements(texts, [line] * len(texts)), end, line
    lines = []
    for gap, text in found:
        line += gap.count(b"\n")
        lines.append(line)
        line += text.count(b"\n")
    return Elements(texts, lines), end, line


class _Source:
    """What is read of a text and not used yet."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.buffer = b""
        self.ended = False

    def drop(self, size: int) -> None:
        self.buffer = self.buffer[size:]

    def more(self, size: int) -> None:
        pieces, got = [self.buffer], 0
        while got < size:
            piece = next(self._blocks, None)
            if piece is None:
                self.ended = True
                break
            pieces.append(piece)
            got += len(piece)
        self.buffer = b"".join(pieces)


def _skip(text: bytes, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _end_of(text: bytes, begin: int) -> int | None:
    """Where a value ends; None if not in this text."""
    if text[begin : begin + 1] not in {b"{", b"["}:
        match = _SCALAR.match(text, begin)
        return begin + 1 if match is None and text[begin : begin + 1] != b'"' else match and match.end()
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        bracket = token[0]
        if bracket == b'"':  # a string that does not end
            return None
        if bracket in {b"{", b"["}:
            depth += 1
        elif bracket in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                return token.end()
    return None
