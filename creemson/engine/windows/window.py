"""Reads some rows of a table, as many as fit one answer."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import polars as pl

from creemson.engine.answers import AnswerLimits, Rows, RowTaker, bounded, json_size, row_too_large
from creemson.engine.progress import Progress
from creemson.engine.windows.cells import Cells
from creemson.engine.windows.filters import Filters, reached_rows
from creemson.engine.windows.survey import Surveyed, Surveys
from creemson.formats.table import Choose
from creemson.model.query import Options, View
from creemson.model.results import Window

__all__ = ["window"]

MAX_OFFSET = 2**62
"""Larger than the number of rows of any table; polars needs an offset that fits into 64 bits with a sign."""
READ_BYTES = 8 << 20
"""Bytes of a file that are read at once for a window, as estimated from a sample of the file."""


MAX_SKIPPED_BYTES = 2 << 30
"""Bytes of a CSV that polars skips in a second or two; it cannot be stopped meanwhile."""

Read: TypeAlias = Callable[[int, int], pl.DataFrame]
"""Reads the rows at an offset, up to a limit."""


def window(
    source: Path,
    name: str,
    offset: int,
    limit: int,
    options: Options | None = None,
    *,
    view: View = View(),  # noqa: B008 - frozen
    surveys: Surveys | None = None,
    filters: Filters | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
    as_texts: bool = False,
    texts: Path | None = None,
    copy: Path | None = None,
) -> Window:
    """Read some rows of a table, as many as fit one answer: those that a job for all columns would store.

    Args:
        source: Path of the file.
        name: The file's name in messages.
        offset: Number of rows of the view before the first one.
        limit: Maximum number of rows.
        options: How to read the file; empty fields are detected.
        view: Which rows, and in which order; the default is all rows as they are.
        surveys: Remembers how files are read, so that not every window reads the whole file.
        filters: Remembers the rows of views, so that not every window searches the whole file.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        limits: How large the answer may be.
        as_texts: Whether the cells are texts, as the file writes them, and not values.
        texts: Where the texts of a stored output are, which may not exist; None if neither ``as_texts`` nor a text to
            find needs them.
        copy: Path of the file's columnar copy, if there is one.

    Returns:
        Columns and rows, the number of all rows of the view if it is known, and whether enough of the file was looked
        at to know that these are the rows of a job.

    Raises:
        InvalidFormat: The options or the view do not fit the file; or ``message_too_large``: the first row does not
            fit, or the names of the columns do not.
        ProcessingError: ``unreadable_file``, ``unsupported_format``, or ``column_not_found``.
        OSError: The disk failed.
    """
    began = time.monotonic()
    surveyed = (surveys or Surveys()).open(source, name, options, on_progress, copy)
    cells = Cells(surveyed.table, source, texts)
    total, is_complete, numbers = surveyed.table.rows, surveyed.is_complete, None
    start = min(offset, MAX_OFFSET)
    rows = cells.rows_as_texts if as_texts else cells.rows
    read: Read
    if not view.is_whole:
        spent, filters = time.monotonic() - began, filters or Filters()
        found = filters.rows(cells, view, surveyed.key, on_progress, spent=spent, end=start + limit)
        numbers, is_complete = found.rows, is_complete and found.is_complete
        total = found.total if is_complete else None
        read = partial(filters.scattered.read, cells, surveyed.key, numbers, as_texts=as_texts)
    elif _is_far(surveyed, start):
        read = partial(reached_rows, cells, rows, on_progress=on_progress)
    else:
        read = partial(_read, rows)
    columns, taken = _take(read, start, limit, limits.message, surveyed.table.row_bytes)
    if not taken.rows and taken.too_large:
        row = offset if numbers is None else numbers[offset]
        raise row_too_large(name, row, taken.too_large, limits.message)
    return Window(
        columns=columns, rows=taken.rows, total=total, complete=is_complete, more=not taken.all_taken
    )


def _is_far(surveyed: Surveyed, offset: int) -> bool:
    """Whether it may take too long to reach an offset in a file that was too large for a survey."""
    table = surveyed.table
    if surveyed.is_complete:
        return False
    return table.source.format != "csv" or offset * table.row_bytes > MAX_SKIPPED_BYTES


def _read(rows: Callable[[Choose], pl.DataFrame], offset: int, limit: int) -> pl.DataFrame:
    return rows(lambda frame: frame.slice(offset, limit))


def _take(read: Read, offset: int, limit: int, size: int, row_bytes: float) -> tuple[tuple[str, ...], Rows]:
    """Read rows in pieces until there are enough, or no more fit, or the table ends."""
    # A piece of a file whose rows are long has few rows; mostly one piece is enough.
    count = min(limit, max(1, int(READ_BYTES / row_bytes))) if row_bytes else limit
    frame = read(offset, count)
    taker = RowTaker(size - json_size(bounded(frame.columns, size, "The list of the columns")))
    taken = 0
    while True:
        taker.take(frame)
        taken += frame.height
        if taker.is_full or frame.height < count or taken == limit:
            return tuple(frame.columns), taker.result()
        count = min(limit - taken, count)
        frame = read(offset + taken, count)
