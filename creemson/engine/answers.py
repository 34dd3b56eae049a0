"""Answers of bounded size: as many rows as fit, and no text, list or error of a stranger's length.

A file of some hundred bytes can describe a gigabyte of cells (a compressed or shared text that every row repeats). So
rows become Python objects in slices, whose size polars knows before, and their JSON is measured as it is made.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import orjson
import polars as pl

from creemson.engine.export.nested import json_values
from creemson.engine.values import representable, to_json, with_nanoseconds
from creemson.errors import InvalidFormat
from creemson.formats.columns import exactly

__all__ = [
    "MAX_DETAILS",
    "MAX_TRACEBACK",
    "AnswerLimits",
    "RowTaker",
    "Rows",
    "bounded",
    "clipped",
    "cut_text",
    "json_size",
    "row_too_large",
]

FIRST_ROWS = 16
"""Rows of the first slice that becomes Python objects; the following ones grow while they are light."""
MAX_SLICE_ROWS = 512
SLICE_BYTES = 1 << 20
"""Maximum size of a slice of several rows."""
SIZE_FACTOR = 16
"""A row whose cells take this many times the bytes that its JSON may have is not made into JSON: a number of eight
bytes, and a comma, is at least two characters."""
MAX_TEXT, MAX_DETAILS = 2000, 20
"""Maximum characters of an error's message and of each detail, and maximum number of details."""
MAX_TRACEBACK = 16_000
"""Maximum characters of a traceback for the log: polars may quote a whole cell in an error."""
MAX_CUT = 200
"""Maximum characters of a text in a profile."""


@attrs.frozen
class AnswerLimits:
    """How large an answer may be, as JSON.

    Attributes:
        message: bytes of one that can be shortened: a window of rows, a result with a preview.
        answer: bytes of any other; a larger one is an error.
    """

    message: int = 1 << 20
    answer: int = 8 << 20

    @classmethod
    def of(cls, command: Mapping[str, Any]) -> "AnswerLimits":
        """Return the limits that a command names."""
        return cls(**command.get("limits", {}))


@attrs.frozen
class Rows:
    """The first rows of a table, as many as fit.

    Attributes:
        rows: their cells as JSON values.
        all_taken: whether all rows fit.
        too_large: bytes of the next row, about, if it would not even fit alone; 0 otherwise.
    """

    rows: tuple[tuple[Any, ...], ...]
    all_taken: bool
    too_large: int = 0


class RowTaker:
    """Takes rows of some frames, one after the other, until the next row does not fit.

    Args:
        room: bytes that the JSON of the rows may have, with a comma or bracket for each.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._used = 0
        self._rows: list[tuple[Any, ...]] = []
        self._step = FIRST_ROWS
        self._too_large = 0
        self.is_full = False

    def take(self, frame: pl.DataFrame) -> None:
        """Take the rows of a frame that fit."""
        frame, start = _readable(frame), 0
        while start < frame.height and not self.is_full:
            piece = frame.slice(start, self._step)
            size = _cell_bytes(piece)
            if size > SLICE_BYTES and piece.height > 1:
                self._step = max(1, min(piece.height // 2, piece.height * SLICE_BYTES // size))
                continue
            if size > SIZE_FACTOR * max(self._room, SLICE_BYTES):
                self._refuse(size)
                return
            start += piece.height
            self._step = min(2 * self._step, MAX_SLICE_ROWS)
            for row in _shown(piece).iter_rows():
                if not self._add(tuple(map(to_json, row))):
                    return

    def _add(self, row: tuple[Any, ...]) -> bool:
        size = json_size(row) + 1
        if self._used + size > self._room:
            self._refuse(size)
            return False
        self._used += size
        self._rows.append(row)
        return True

    def _refuse(self, size: int) -> None:
        self.is_full = True
        if size > self._room:
            self._too_large = size

    def result(self) -> Rows:
        """Return the rows that were taken."""
        return Rows(tuple(self._rows), not self.is_full, self._too_large)


def _readable(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace what Python cannot represent."""
    known = frame.select(representable(exactly(name), dtype) for name, dtype in frame.schema.items())
    return pl.DataFrame([with_nanoseconds(column) for column in known.iter_columns()])


def _shown(frame: pl.DataFrame) -> pl.DataFrame:
    """Write what Python cannot represent within lists and structs, durations, and fractions of single precision."""
    return frame.select(
        json_values(exactly(name), dtype).alias(name)
        if dtype.is_nested() or dtype in (pl.Float32, pl.Duration)
        else exactly(name)
        for name, dtype in frame.schema.items()
    )


def _cell_bytes(frame: pl.DataFrame) -> int:
    """Bytes of the cells, without those that a slice shares; a category counts with its text, not with its number."""
    size = int(frame.estimated_size())
    for column in frame.iter_columns():
        if isinstance(column.dtype, pl.Categorical | pl.Enum):
            longest: Any = column.cat.len_bytes().max()
            size += (longest or 0) * frame.height
        elif column.dtype.is_nested() and column.dtype != (texts := _with_texts(column.dtype)):
            size += int(column.cast(texts).estimated_size())
    return size


def _with_texts(dtype: Any) -> Any:
    """The same type with texts instead of categories."""
    match dtype:
        case pl.Categorical() | pl.Enum():
            return pl.String()
        case pl.List():
            return pl.List(_with_texts(dtype.inner))
        case pl.Array():
            return pl.Array(_with_texts(dtype.inner), dtype.size)
        case pl.Struct():
            return pl.Struct({field.name: _with_texts(field.dtype) for field in dtype.fields})
        case _:
            return dtype


def json_size(value: Any) -> int:
    """Return the number of bytes of a value as JSON."""
    return len(orjson.dumps(value))


def row_too_large(name: str, row: int, size: int, limit: int) -> InvalidFormat:
    """Return the error for a row that no message can carry.

    Args:
        name: the file's name.
        row: index of the row; the message counts from 1, as people do and as the page numbers rows.
        size: bytes of the row as JSON, about.
        limit: maximum bytes.
    """
    return InvalidFormat(
        "message_too_large",
        f"Row {row + 1:,} of {name[:255]!r} has about {size:,} bytes, and one answer at most {limit:,}. "
        "Download the file, or process it with fewer columns.",
    )


def bounded(value: Any, limit: int, what: str) -> Any:
    """Return a plain value if its JSON is small enough for an answer.

    Raises:
        InvalidFormat: ``message_too_large``.
    """
    size = json_size(value)
    if size <= limit:
        return value
    raise InvalidFormat(
        "message_too_large",
        f"{what} would be {size:,} bytes long, and the maximum is {limit:,}: there are very many columns, "
        "or very long names or values. Select fewer columns, or ask for no profile.",
    )


def cut_text(value: Any) -> Any:
    """Cut a text for a profile; other values are returned as they are."""
    return value[: MAX_CUT - 1] + "…" if isinstance(value, str) and len(value) > MAX_CUT else value


def clipped(text: str, limit: int = MAX_TEXT) -> str:
    """Leave out the middle of a text that is too long.

    >>> clipped("0123456789" * 3, 12)
    '012345…56789'
    """
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}…{text[len(text) - (limit - limit // 2 - 1) :]}"
