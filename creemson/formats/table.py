"""Defines the table that every format returns when it opens a file."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs
import polars as pl

from creemson.errors import ProcessingError
from creemson.formats.columns import exactly
from creemson.formats.imported.facts import Facts
from creemson.formats.report import Report
from creemson.formats.source import Source
from creemson.model.results import Reading

__all__ = [
    "MAX_COLUMNS",
    "Choose",
    "Needed",
    "Reread",
    "Table",
    "Workspace",
    "check_empty_cells",
    "check_width",
    "reading_of",
    "text_of",
]

MAX_COLUMNS = 100_000
"""Maximum number of columns: polars needs about 8 kB for each while it reads, and clients receive all their names."""


EMPTY_CELLS_FREE, EMPTY_CELLS_PER_BYTE = 10_000_000, 100
"""A text file may have ``EMPTY_CELLS_FREE`` cells that are not in it, or ``EMPTY_CELLS_PER_BYTE`` times its bytes if
that is more. Otherwise the work would grow with the square of the size: a megabyte of objects with a key each has 10^10
cells."""


class Reread(Exception):  # noqa: N818 - not an error
    """The rows that were read are wrong; the next reading may be right."""


@attrs.define
class Workspace:
    """Where a repaired copy of a file can be written.

    Attributes:
        path: Path of the copy, a temporary file; the caller removes it.
        on_progress: Called with the number of bytes of the file that were repaired; an exception that it raises ends
            the work.
    """

    path: Path
    on_progress: Callable[[int], None] = lambda _: None


Needed: TypeAlias = Callable[[pl.Schema], Sequence[str]]
"""Chooses the columns that are needed from those that exist."""


Choose: TypeAlias = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Makes a plan of a lazy frame that has the rows of a file, for example a slice or a filter."""


def text_of(name: str) -> str:
    """Return the name of the hidden column with a column's cells as the file writes them; names in files have no NUL.

    The hidden column accompanies the column of values through a plan. It is null where the text need not be kept: where
    it is empty, and where a CSV shows the value in the same way.
    """
    return f"\x00text {name}"


@attrs.frozen
class Table:
    """An opened file, of which only samples and metadata may have been read.

    Attributes:
        name: The file's name in messages.
        schema: The columns and their types.
        readings: Ways to read the file, the fastest first; if one fails, the caller tries the next one.
        source: Format, compression and size of the file.
        rows: Number of rows, if the file's metadata has it.
        row_bytes: Bytes of the file per row, estimated from a sample; 0 if ``rows`` is known.
        small: The whole table, if the file is so small that it is already in memory; else None.
        check: Called after a reading; raises :exc:`Reread` if its rows are wrong.
        window: Returns the chosen rows of a file of which enough was read to know its types; the choice is made before
            cells become values. None if a reading does so.
        window_texts: Returns what is made of the cells as the file writes them; None if the file has values.
        window_values: Returns what is made of the values; None if a reading is as fast. As ``window``, it needs no
            :attr:`check`.
        texts: Returns, of the columns whose cells an output shows, those of which a reading also has the cells as the
            file writes them, each in a hidden column (:func:`text_of`); it may return others for each reading.
        small_texts: The hidden columns of ``small``; None if a CSV shows all values as the file writes them.
        headers: Returns how the file writes the names of columns, where it is not the name.
        notations: Returns how the dates and times of columns are written, for output that looks like its input.
        reading: Returns how the file is read, for clients.
        report: Collects what is repaired or lost while the table is opened and read.
        facts: Returns what a description of some columns needs; None if the reading of all columns does not tell how
            others read some of them. Asked after a reading that has succeeded.
        is_json: Whether the values are from JSON, though the file is of another format.
        held: Holds open what is read as long as the table exists, if that is not the file itself.
    """

    name: str
    schema: pl.Schema
    readings: tuple[Callable[[Needed], pl.LazyFrame], ...]
    source: Source
    rows: int | None
    row_bytes: float
    small: pl.DataFrame | None = None
    small_texts: pl.DataFrame | None = None
    check: Callable[[], None] = lambda: None
    window: Callable[[Choose], pl.DataFrame] | None = None
    window_texts: Callable[[Choose], pl.DataFrame] | None = None
    window_values: Callable[[Choose], pl.DataFrame] | None = None
    texts: Callable[[Collection[str]], frozenset[str]] = lambda _: frozenset()
    headers: Callable[[], Mapping[str, str]] = dict
    notations: Callable[[], dict[str, str]] = dict
    reading: Callable[[], Reading] | None = None
    report: Report = attrs.field(factory=Report)
    facts: Callable[[], Facts | None] = lambda: None
    is_json: bool = False
    held: object = None


def reading_of(
    scan: Callable[[], pl.LazyFrame],
    *,
    clears: Report | None = None,
    on_texts: Callable[[frozenset[str]], None] | None = None,
) -> Callable[[Needed], pl.LazyFrame]:
    """Return a reading that selects columns of a lazy frame.

    Args:
        scan: Returns the frame, with all columns, and hidden columns of texts (:func:`text_of`).
        clears: The report of an earlier reading, which is cleared first.
        on_texts: Called with the columns that have a hidden column of texts.
    """

    def read(needed: Needed) -> pl.LazyFrame:
        if clears is not None:
            clears.clear()
        frame = scan()
        schema = frame.collect_schema()
        texts = frozenset(name for name in schema if text_of(name) in schema)
        if on_texts is not None:
            on_texts(texts)
        hidden = frozenset(map(text_of, texts))
        return frame.select(
            map(exactly, needed(pl.Schema((name, schema[name]) for name in schema if name not in hidden)))
        )

    return read


def check_width(name: str, columns: int) -> None:
    """Check that a file does not have too many columns.

    Args:
        name: The file's name in messages.
        columns: Number of its columns.

    Raises:
        ProcessingError: ``unreadable_file``.
    """
    if columns > MAX_COLUMNS:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} has {columns:,} columns; the maximum is {MAX_COLUMNS:,}. "
            "Split the file, or move what distinguishes the columns into a column of its own.",
        )


def check_empty_cells(name: str, rows: int, columns: int, size: int, *, empty: int | None = None) -> None:
    """Check that a text does not have far more empty cells than bytes.

    Args:
        name: The file's name in messages.
        rows: Number of rows.
        columns: Number of columns.
        size: Number of bytes that contain the rows.
        empty: Number of cells that are not in the text; as many as the rows have columns if it is unknown.

    Raises:
        ProcessingError: ``unreadable_file``.
    """
    cells = rows * columns if empty is None else empty
    if cells > max(EMPTY_CELLS_FREE, EMPTY_CELLS_PER_BYTE * size):
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} has {columns:,} columns, and nearly all of their cells in {rows:,} rows would be empty. "
            "Move what distinguishes the columns into a column of its own.",
        )
