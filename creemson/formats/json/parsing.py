"""Parses lines of JSON, also what is not quite JSON: NaN, a comma at the end, a key twice, half of a surrogate pair."""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias

import attrs
import orjson

from creemson.formats.report import Fault, Report

__all__ = ["Chunk", "Chunks", "Number", "Rows", "dumps", "is_strict", "loads", "loads_exact", "parse"]

LARGE_INTEGER = re.compile(rb"\d{19}")
"""Matches text that may contain an integer of more than 64 bits, which orjson would turn into a float."""
_COLON = re.compile(rb'"\s*+:')
"""Matches behind each key; in a string, there is a backslash before the quote, as in what orjson writes."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\\\")
_TRAILING_COMMA = re.compile(r'"(?:[^"\\]++|\\.)*+"|(,\s*+)(?=[}\]])|[^",]++|,|".*+', re.DOTALL)
"""Matches all parts of a text; only a comma before a closing bracket is a group."""


@attrs.frozen
class Chunk:
    """Some consecutive lines; each should contain a JSON object, or be empty.

    Attributes:
        data: The lines, each with a line feed after it.
        numbers: The numbers of the lines in the file, counted from 1.
    """

    data: bytes
    numbers: Sequence[int]


Chunks: TypeAlias = Callable[[Report], Iterator[Chunk]]
"""Begins to read a file, and returns its chunks; the report collects what is in none of them."""


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def loads(line: bytes) -> Any:
    """Parse JSON, with exact integers of any size.

    Args:
        line: The text.

    Returns:
        The value.

    Raises:
        ValueError: The text is not JSON.
        RecursionError: The value is nested too deeply.
    """
    if LARGE_INTEGER.search(line):
        return json.loads(line, parse_constant=_refuse_constant)
    return _fast_loads(line)


def _fast_loads(line: bytes) -> Any:
    """Parse JSON; integers of more than 64 bits become floats."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # half of a surrogate pair and 1e400 are valid JSON
        return json.loads(line, parse_constant=_refuse_constant)


@attrs.frozen
class Number:
    """A number as it is written.

    Attributes:
        text: Its digits.
    """

    text: str

    @property
    def is_integer(self) -> bool:
        """Whether it has neither a point nor an exponent."""
        return self.text.removeprefix("-").isdecimal()


def loads_exact(text: bytes) -> Any:
    """Parse JSON whose numbers :func:`dumps` writes as they were: ``1.50``, ``NaN``.

    Args:
        text: The text.

    Returns:
        The value, with a :class:`Number` for each number but small integers.

    Raises:
        ValueError: The text is not JSON.
        RecursionError: The value is nested too deeply.
    """
    return json.loads(text, parse_float=Number, parse_int=_exact_integer, parse_constant=Number)


def _exact_integer(digits: str) -> int | Number:
    return int(digits) if len(digits) < 19 and digits != "-0" else Number(digits)


def dumps(value: Any) -> bytes:
    """Serialize a value.

    Args:
        value: A value as :func:`loads` or :func:`loads_exact` returns it.

    Returns:
        Its JSON, on one line.
    """
    try:
        return orjson.dumps(value, default=_fragment)
    except (
        TypeError
    ):  # an integer of more than 64 bits, an unpaired surrogate, or a value that is nested too deeply
        return json.dumps(value, default=lambda number: float(number.text)).encode()


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError


@attrs.frozen
class Rows:
    """The lines of a chunk that contain an object.

    Attributes:
        numbers: The numbers of the lines in the file, counted from 1.
        lines: The lines.
        values: The object of each line.
    """

    numbers: list[int]
    lines: list[bytes]
    values: list[dict[str, Any]]

    @property
    def data(self) -> bytes:
        """The lines as NDJSON."""
        return b"\n".join(self.lines) + b"\n"


def parse(chunk: Chunk, report: Report | None) -> Rows:
    """Parse a chunk.

    Args:
        chunk: The chunk.
        report: Collects the lines that are not objects, and what is repaired.

    Returns:
        The lines with an object, each of them strict JSON.
    """
    if (rows := _parse_valid(chunk)) is not None:
        return rows
    rows = Rows([], [], [])
    for number, line in zip(chunk.numbers, chunk.data.split(b"\n"), strict=False):
        if not line or line.isspace():
            continue
        for found in _parse_line(line, number, report):
            rows.numbers.append(number)
            rows.lines.append(found[0])
            rows.values.append(found[1])
    return rows


def is_strict(data: bytes) -> bool:
    """Whether lines have neither a key twice nor half of a surrogate pair, which polars reads in its own way.

    Args:
        data: Lines that are valid JSON.
    """
    if _has_half_pair(data):
        return False
    lines = data.strip().split(b"\n")
    try:
        values = orjson.loads(b"[" + b",".join(lines) + b"]")
    except orjson.JSONDecodeError:
        return False
    return _has_all_keys(data, values)


def _has_all_keys(data: bytes, value: Any) -> bool:
    """Whether a value has all keys of its JSON, which it has not if one is there twice."""
    try:
        dumped = orjson.dumps(value)
    except TypeError:  # nested too deeply
        return True
    if b'" :' not in data and data.count(b'":') == dumped.count(b'":'):  # ten times as fast as the pattern
        return True
    return len(_COLON.findall(data)) == len(_COLON.findall(dumped))


def _has_half_pair(data: bytes) -> bool:
    return _SURROGATE.search(data) is not None and _SURROGATE.search(_PAIR.sub(b"", data)) is not None


def _parse_valid(chunk: Chunk) -> Rows | None:
    """Parse a chunk as one array, in half the time; None if any of its lines is not an object, or needs a repair."""
    lines = chunk.data.removesuffix(b"\n").split(b"\n")
    if len(lines) != len(chunk.numbers):
        return None
    try:
        values = orjson.loads(b"[" + b",".join(lines) + b"]")
    except orjson.JSONDecodeError:
        return None
    # Two errors may compensate for each other, but then some line does not begin and end with a brace.
    if len(values) != len(lines) or set(map(type, values)) != {dict}:
        return None
    if not all(line.startswith(b"{") and line.endswith((b"}", b"}\r")) for line in lines):
        return None
    if _has_half_pair(chunk.data) or not _has_all_keys(chunk.data, values):
        return None
    return Rows(list(chunk.numbers), lines, values)


def _parse_line(line: bytes, number: int, report: Report | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the objects of a line, mostly one, each with its strict JSON; report what is repaired or left out."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        why = f"not JSON: {error.msg} at character {error.pos + 1}"
    else:
        if not isinstance(value, dict):
            why = f"not a JSON object, but {_kind(value)}"
        elif not _has_half_pair(line) and _has_all_keys(line, value):
            yield line, value
            return
        else:
            why = ""
    objects = None
    if not why.startswith("not a JSON object"):
        with suppress(RecursionError):
            objects = _Lenient(line, number, report).objects()
    if objects is not None:
        yield from objects
    elif report is not None:
        text = line[:1000].decode(errors="replace").strip()
        report.add("unparsable_rows", line=number, column=None, value=text, why=why)


class _Lenient:
    """Parses a line that is not quite JSON, and reports each repair.

    Args:
        line: The line.
        number: Its number in the file.
        report: Collects the repairs.
    """

    def __init__(self, line: bytes, number: int, report: Report | None) -> None:
        self._line = line
        self._number = number
        self._report = report
        self._doubles: list[str] = []
        self._is_legacy = False

    def objects(self) -> list[tuple[bytes, dict[str, Any]]] | None:
        """Return the objects of the line; None if it has anything else."""
        text = self._decoded()
        has_comma = text.endswith(",")
        values = self._values(text.removesuffix(","))
        if values is None:
            without = _TRAILING_COMMA.sub(lambda match: "" if match[1] else match[0], text)
            has_comma = True
            values = self._values(without.removesuffix(","))
        if values is None:
            return None
        if has_comma:
            self._tell("repaired_rows", None, "a comma behind the last value or the object", is_once=True)
        if self._is_legacy:
            self._tell("repaired_rows", None, "not UTF-8: decoded as windows-1252")
        if len(values) > 1:
            self._tell("repaired_rows", None, "several objects in one line")
        for key in self._doubles:
            self._tell("repaired_rows", key, "this key is there more than once: the last value counts")
        found = []
        for value in values:
            # JSON that is nested too deeply for this is nested too deeply for polars.
            clean = {
                self._text(key, None): self._cleaned(inner, key, is_within=False)
                for key, inner in value.items()
            }
            data = dumps(clean)
            found.append((data, loads(data)))
        return found

    def _decoded(self) -> str:
        try:
            return self._line.decode().strip()
        except UnicodeDecodeError:
            self._is_legacy = True
        try:
            return self._line.decode("windows-1252").strip()
        except UnicodeDecodeError:
            return self._line.decode("latin-1").strip()

    def _values(self, text: str) -> list[dict[str, Any]] | None:
        self._doubles = []
        decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs, parse_float=Number, parse_int=_exact_integer, parse_constant=Number
        )
        values, at = [], 0
        try:
            while at < len(text):
                value, at = decoder.raw_decode(text, at)
                if not isinstance(value, dict):
                    return None
                values.append(value)
                while at < len(text) and text[at] in " \t\r":
                    at += 1
        except (ValueError, RecursionError):
            return None
        return values or None

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen and key not in self._doubles:
                    self._doubles.append(key)
                seen.add(key)
        return value

    def _cleaned(self, value: Any, column: str, *, is_within: bool = True) -> Any:
        """Replace what JSON does not have, at any depth, and numbers within lists and objects that no double has."""
        if isinstance(value, str):
            return self._text(value, column)
        if isinstance(value, Number) and value.text.lstrip("-") in {"NaN", "Infinity"}:
            self._tell("unparsable_cells", column, "no number that JSON has", value=value.text)
            return None
        if is_within and isinstance(value, Number) and math.isinf(float(value.text)):
            self._tell("unparsable_cells", column, "too large for a double", value=value.text)
            return None
        if isinstance(value, list):
            return [self._cleaned(item, column) for item in value]
        if isinstance(value, dict):
            return {self._text(key, column): self._cleaned(inner, column) for key, inner in value.items()}
        return value

    def _text(self, text: str, column: str | None) -> str:
        if text.isascii():
            return text
        clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if clean != text:
            self._tell("repaired_cells", column, "half of a surrogate pair is no character", value=clean)
        return clean

    def _tell(
        self, fault: Fault, column: str | None, why: str, *, value: str | None = None, is_once: bool = False
    ) -> None:
        if self._report is None:
            return
        encoding = "windows-1252" if self._is_legacy else "utf-8"
        shown = value if value is not None else self._line[:1000].decode(encoding, "replace").strip()
        if is_once:
            self._report.add_once(fault, line=self._number, column=column, value=shown, why=why)
        else:
            self._report.add(fault, line=self._number, column=column, value=shown, why=why)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else "a number"
