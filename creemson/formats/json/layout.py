"""Finds the table in JSON text: which array is it, or do the keys of an object name its columns or its rows?

An array is read as it is. An object may contain the table in several ways, which its keys and the first of its values
tell: as an array of objects or rows, as columns, as rows with names, or as names and rows apart (as pandas writes with
``orient="split"``). The whole object is scanned once, because a longer array may follow.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from creemson.errors import ProcessingError
from creemson.formats.json.parsing import loads
from creemson.formats.json.values import KEY, MAX_ELEMENT, Cursor, elements, end_of

__all__ = ["Layout", "NoArray", "find_layout"]

MAX_ENTRIES = 1000
"""Number of keys of an object that are remembered."""
MAX_LOOK = 1 << 20
"""Maximum size in bytes of an inner object that is parsed to find out what its keys mean."""
MAX_OBJECTS = 100
"""Maximum number of inner objects that are parsed for this."""

Kind: TypeAlias = Literal["objects", "rows", "scalars", "empty", "object", "scalar"]


class NoArray(ValueError):  # noqa: N818 - the name says what is missing
    """A text contains no array of objects."""


@attrs.frozen
class Layout:
    """Where the table is.

    Attributes:
        form: ``values``: of an array, or a sequence of objects. ``members``: an object whose keys are the names of
            rows. ``columns``: an object whose keys are the names of columns.
        start: Offset in the text after the bracket of the array or the object; of the first object of a sequence.
        end: The closing bracket; empty for a sequence.
        names: The names of the columns, if they are not in the table.
        labels: The names of the rows, if they are apart from the table.
        has_labels: Whether the keys of the rows are names, rather than numbers from 0.
        key: The key of the array in its object.
        keys: The keys of all arrays that may be tables, if there are several.
        is_alone: Whether the table is an array that is not in an object, behind which others may follow.
    """

    form: Literal["values", "members", "columns"]
    start: int
    end: bytes = b"]"
    names: Sequence[Any] | None = None
    labels: Sequence[Any] | None = None
    has_labels: bool = False
    key: str | None = None
    keys: tuple[str, ...] = ()
    is_alone: bool = False


@attrs.frozen
class _Entry:
    """A key of an object, and what its value is.

    Attributes:
        key: The key.
        kind: An array of objects, of rows, of single values, an empty array, an object, or a single value.
        start: Offset in the text after the bracket.
        count: Number of values of an array.
        text: The JSON of an object, or its beginning.
        values: The values of an array that describes the table (``columns``, ``index``).
    """

    key: str
    kind: Kind
    start: int = 0
    count: int = 0
    text: bytes = b""
    values: list[Any] | None = None


def find_layout(blocks: Iterator[bytes], name: str, wanted: str | int | None = None) -> Layout:
    """Find the table in a text.

    Args:
        blocks: The text.
        name: The file's name in messages.
        wanted: The key of the array that is the table, or its number among those that may be; None for the longest.

    Raises:
        NoArray: The text is neither an array nor an object.
        ProcessingError: ``unreadable_file``: no array has the key that is wanted.
    """
    cursor = Cursor(blocks)
    opening = cursor.next()
    begin = cursor.offset
    if opening == b"[":
        if wanted is not None:
            raise _unknown_table(name, wanted, [])
        cursor.move(cursor.at + 1)
        return (
            Layout("values", begin, b"") if _are_rows(cursor) else Layout("values", begin + 1, is_alone=True)
        )
    if opening != b"{":
        raise NoArray("neither an array nor an object")
    sequence = Layout("values", begin, b"")
    cursor.move(cursor.at + 1)
    found = _Entries()
    is_whole = _scan(cursor, found)
    if is_whole and cursor.next() == b"{":
        return sequence
    return _layout_of(found, name, wanted, begin + 1) or sequence


def _are_rows(cursor: Cursor) -> bool:
    """Whether an array has single values, and another array follows: each is a row, as JSON lines may have them."""
    if cursor.next() in {b"", b"[", b"{", b"]"}:
        return False
    return all(run.is_whole for run in elements(cursor, b"]")) and cursor.next() == b"["


class _Entries:
    """The entries of an object, of which only the first ones and the arrays are remembered."""

    def __init__(self) -> None:
        self.first: list[_Entry] = []
        self.tables: list[_Entry] = []
        self.count = 0
        self.are_objects = True
        self.are_numbered = True  # the keys are 0, 1, 2 …
        self.lengths: set[int] = set()  # of the arrays; more than one if any value is no array

    def add(self, entry: _Entry) -> None:
        if len(self.first) < MAX_ENTRIES:
            self.first.append(entry)
        if entry.kind in {"objects", "rows"} and len(self.tables) < MAX_ENTRIES:
            self.tables.append(entry)
        self.are_objects &= entry.kind == "object"
        self.are_numbered &= entry.key == str(self.count)
        if len(self.lengths) < 2:
            self.lengths.add(entry.count if entry.kind in {"objects", "rows", "scalars", "empty"} else -1)
        self.count += 1


def _scan(cursor: Cursor, found: _Entries) -> bool:
    """Collect the entries of an object; return whether it has an end."""
    while (character := cursor.next()) != b"}":
        match = KEY.match(cursor.buffer, cursor.at) if character == b'"' else None
        if match is None or match.end() == len(cursor.buffer):
            if character != b'"' or len(cursor.buffer) - cursor.at > MAX_ELEMENT or not cursor.more():
                return False
            continue
        try:
            key = str(loads(match[1]))
        except ValueError:
            return False
        cursor.move(match.end())
        read = _array if cursor.buffer[cursor.at : cursor.at + 1] == b"[" else _single
        entry, is_whole = read(cursor, key)
        if entry is not None:
            found.add(entry)
        if not is_whole:
            return False
    cursor.move(cursor.at + 1)
    return True


def _array(cursor: Cursor, key: str) -> tuple[_Entry | None, bool]:
    """Count the values of an array; return also whether it has an end."""
    cursor.move(cursor.at + 1)
    start, count = cursor.offset, 0
    first = b""
    values: list[Any] | None = [] if key in {"columns", "index"} else None
    size, is_whole = 0, True
    for run in elements(cursor, b"]"):
        if not run.is_whole:
            is_whole = False
            break
        first = first or run.texts[0][:1]
        count += len(run.texts)
        size += sum(map(len, run.texts))
        if values is not None and size <= MAX_ELEMENT:
            try:
                values += map(loads, run.texts)
            except (ValueError, RecursionError):
                values = None
    kind: Kind = {b"{": "objects", b"[": "rows", b"": "empty"}.get(first, "scalars")  # type: ignore[assignment]
    return _Entry(key, kind, start, count, values=values if size <= MAX_ELEMENT else None), is_whole


def _single(cursor: Cursor, key: str) -> tuple[_Entry | None, bool]:
    """Pass an object or a single value; return also whether it has an end."""
    while True:
        stop = end_of(cursor.buffer, cursor.at) if cursor.at < len(cursor.buffer) else None
        if stop is not None and (stop < len(cursor.buffer) or cursor.has_ended):
            break
        if cursor.has_ended or len(cursor.buffer) - cursor.at > MAX_ELEMENT:
            return None, False
        cursor.more()
    start, text = cursor.offset + 1, cursor.buffer[cursor.at : min(stop, cursor.at + MAX_LOOK)]
    cursor.move(stop)
    if not text.startswith(b"{"):
        return _Entry(key, "scalar"), True
    return _Entry(key, "object", start, text=text), True


def _layout_of(found: _Entries, name: str, wanted: str | int | None, start: int) -> Layout | None:
    by_key = {entry.key: entry for entry in found.first}
    names, rows = by_key.get("columns"), by_key.get("data")
    if wanted is None:
        if names is not None and names.values and rows is not None and rows.kind in {"rows", "empty"}:
            return Layout("values", rows.start, names=names.values, labels=_labels(by_key.get("index"), rows))
        are_lists = len(found.lengths) == 1 and min(found.lengths) > 0
        if are_lists and any(entry.kind == "scalars" for entry in found.first):
            return Layout("columns", start, b"}")
    if tables := [entry for entry in found.tables if entry.kind == "objects"] or found.tables:
        return _choose(tables if wanted is None else found.tables, name, wanted)
    if wanted is not None:
        raise _unknown_table(name, wanted, [])
    if found.count and found.are_objects:
        return _object_of_objects(found, start)
    return None


def _labels(index: _Entry | None, rows: _Entry) -> list[Any] | None:
    """The names of the rows, unless they are their numbers."""
    values = index.values if index is not None else None
    if values is None or len(values) != rows.count or values == list(range(len(values))):
        return None
    return values


def _choose(tables: list[_Entry], name: str, wanted: str | int | None) -> Layout:
    keys = tuple(entry.key for entry in tables)
    if isinstance(wanted, int):
        chosen = tables[wanted] if 0 <= wanted < len(tables) else None
    elif wanted is not None:
        chosen = next((entry for entry in tables if entry.key == wanted), None)
    else:
        chosen = max(tables, key=lambda entry: entry.count)
    if chosen is None:
        raise _unknown_table(name, wanted, keys)
    return Layout("values", chosen.start, key=chosen.key, keys=keys if len(keys) > 1 else ())


def _unknown_table(name: str, wanted: str | int | None, keys: Sequence[str]) -> ProcessingError:
    some = ", ".join(repr(key[:80]) for key in keys[:20]) or "none"
    shown = f"number {wanted}" if isinstance(wanted, int) else repr(str(wanted)[:80])
    return ProcessingError(
        "unreadable_file",
        f"{name!r} has no array {shown} of objects or rows; it has {some}.",
    )


def _object_of_objects(found: _Entries, start: int) -> Layout | None:
    """Whether the keys of an object of objects name rows or columns; None if it is no table."""
    members = Layout("members", start, b"}", has_labels=not found.are_numbered)
    columns = Layout("columns", start, b"}")
    inner: list[dict[str, Any]] = []
    for entry in found.first[:MAX_OBJECTS]:
        if len(entry.text) >= MAX_LOOK:  # no row is as long as that
            return columns
        try:
            inner.append(loads(entry.text))
        except (ValueError, RecursionError):
            return None
    if not all(inner):
        return None
    if found.are_numbered:
        return members
    if all(list(row) == [str(number) for number in range(len(row))] for row in inner):
        return columns
    if len(inner) == 1 or not set.intersection(*map(set, inner)):
        return None
    types = [{_type(value) for value in row.values()} - {None} for row in inner]
    is_uniform = all(len(kinds) <= 1 for kinds in types)
    return columns if is_uniform and len(set().union(*types)) > 1 else members


def _type(value: Any) -> type | None:
    return (
        None
        if value is None
        else float
        if isinstance(value, int) and not isinstance(value, bool)
        else type(value)
    )
