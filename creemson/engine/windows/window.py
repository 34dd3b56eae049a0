"""Reads some rows of a table, as many as fit one answer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

from creemson.engine.answers import AnswerLimits, Rows, RowTaker, bounded, json_size, row_too_large
from creemson.engine.export.csv import window_texts
from creemson.engine.progress import Progress
from creemson.engine.windows.survey import Surveys
from creemson.errors import ProcessingError
from creemson.formats.open import faults
from creemson.formats.table import Needed, Table
from creemson.model.query import Options
from creemson.model.results import Window

__all__ = ["window"]

MAX_OFFSET = 2**62
"""Larger than the number of rows of any table; polars needs an offset that fits into 64 bits with a sign."""
READ_BYTES = 8 << 20
"""Bytes of a file that are read at once for a window, as estimated from a sample of the file."""


def window(
    source: Path,
    name: str,
    offset: int,
    limit: int,
    options: Options | None = None,
    *,
    surveys: Surveys | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
    texts: Path | None = None,
    copy: Path | None = None,
) -> Window:
    """Read some rows of a table, as many as fit one answer: those that a job for all columns would store.

    Args:
        source: Path of the file.
        name: The file's name in messages.
        offset: Number of rows before the first one.
        limit: Maximum number of rows.
        options: How to read the file; empty fields are detected.
        surveys: Remembers how files are read, so that not every window reads the whole file.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        limits: How large the answer may be.
        texts: None for values; for cells as the file writes them, where the texts of a stored output are.
        copy: Path of the file's columnar copy, if there is one.

    Returns:
        Columns and rows, the number of all rows if it is known, and whether enough of the file was looked at to know
        that these are the rows of a job.

    Raises:
        InvalidFormat: The options do not fit the file; or ``message_too_large``: the first row does not fit, or the
            names of the columns do not.
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: The disk failed.
    """
    surveyed = (surveys or Surveys()).open(source, name, options, on_progress, copy)
    table, is_complete = surveyed.table, surveyed.is_complete
    read, start = table.window, min(offset, MAX_OFFSET)
    for reading in table.readings:
        try:
            with faults(name, source):
                rows = read or partial(_slice, reading)
                if texts is not None:
                    rows = table.window_texts or window_texts(rows, source, texts, name, table)
                schema, taken = _take(table, rows, start, limit, limits.message)
            break
        except ProcessingError:
            if read is not None or reading is table.readings[-1]:
                raise
    if not taken.rows and taken.too_large:
        raise row_too_large(name, offset, taken.too_large, limits.message)
    return Window(
        columns=tuple(schema),
        rows=taken.rows,
        total=table.rows,
        complete=is_complete,
        more=not taken.all_taken,
    )


def _slice(reading: Callable[[Needed], pl.LazyFrame], offset: int, limit: int) -> pl.DataFrame:
    """Read the rows at an offset."""
    scan = reading(list)
    return scan.slice(offset, limit).collect(engine="streaming")


def _take(
    table: Table, read: Callable[[int, int], pl.DataFrame], offset: int, limit: int, size: int
) -> tuple[pl.Schema, Rows]:
    """Read rows in pieces until there are enough, or no more fit, or the table ends."""
    # A piece of a file whose rows are long has few rows; mostly one piece is enough.
    count = min(limit, max(1, int(READ_BYTES / table.row_bytes))) if table.row_bytes else limit
    frame = read(offset, count)
    taker = RowTaker(size - json_size(bounded(frame.columns, size, "The list of the columns")))
    taken = 0
    while True:
        taker.take(frame)
        taken += frame.height
        if taker.is_full or frame.height < count or taken == limit:
            return frame.schema, taker.result()
        count = min(limit - taken, count)
        frame = read(offset + taken, count)
