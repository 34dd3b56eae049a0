"""Reads a whole text file before its rows are shown, so that a window has the rows and types that a job would have.

A window needs only some rows, but a later cell may change the type of a column, and a later quote may change where rows
end. So the file is read once in the way that a job reads it; how this went is remembered for the next windows.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path

import attrs
import polars as pl

from creemson.engine.progress import Progress, ProgressMeter
from creemson.engine.tables.read import open_copy
from creemson.engine.windows.cells import with_texts
from creemson.errors import ProcessingError
from creemson.formats.open import faults, open_table
from creemson.formats.table import Reread, Table, reading_of, text_of
from creemson.model.query import Options

__all__ = ["Surveyed", "Surveys"]

SECONDS = 3.0
"""Maximum duration of reading a file for a survey. Finding new types takes as long again at most; a lookup has 10 s."""
MAX_BYTES, MAX_PARSED_BYTES = 4 << 30, 64 << 20
"""Maximum size in bytes of a CSV that is surveyed, and of a file of another format, part of which Python parses."""
MAX_REMEMBERED = 16
"""Maximum number of files whose reading is remembered."""


class _OutOfTime(Exception):  # noqa: N818 - not an error
    """The survey has taken too long."""


@attrs.frozen
class Surveyed:
    """A table whose windows can be read.

    Attributes:
        table: The table; its number of rows and its reading are those of the survey.
        key: Identifies the version of the file and how it is read.
        is_complete: Whether the windows are those of a job. If not, the file is too large for a survey, and only its
            beginning and the rows of the window decide how it is read.
    """

    table: Table
    key: Hashable
    is_complete: bool


class Surveys:
    """Surveys files, and remembers the last ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Surveyed] = OrderedDict()

    def open(
        self,
        path: Path,
        name: str,
        options: Options | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        copy: Path | None = None,
    ) -> Surveyed:
        """Open a file, and survey it if that is necessary.

        Args:
            path: Path of the file.
            name: The file's name in messages.
            options: How to read the file; empty fields are detected.
            on_progress: Called from any thread; an exception that it raises ends the survey and is raised again.
            copy: Path of its columnar copy, if there is one.

        Raises:
            InvalidFormat: The options do not fit the file.
            ProcessingError: ``unreadable_file`` or ``unsupported_format``.
            OSError: The disk failed.
        """
        found = path.stat()
        key: Hashable = (
            path,
            name,
            repr(options),
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
        )
        copied = None if copy is None else open_copy(copy, name)
        if copied is not None:
            return Surveyed(copied, (copy, key), is_complete=True)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        table = open_table(path, name, options=options)
        if table.rows is not None or table.small is not None:
            rows = table.rows if table.small is None else table.small.height
            return Surveyed(attrs.evolve(table, rows=rows), key, is_complete=True)
        table, is_complete = _survey(table, path, options, on_progress)
        surveyed = Surveyed(table, key, is_complete)
        self._known[key] = surveyed
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return surveyed


def _survey(
    table: Table, path: Path, options: Options | None, on_progress: Callable[[Progress], None]
) -> tuple[Table, bool]:
    """Return the surveyed table, and whether its windows are those of a job."""
    size = table.source.size * table.source.expansion
    if size <= (MAX_BYTES if table.source.format == "csv" else MAX_PARSED_BYTES):
        began = time.monotonic()

        def check(progress: Progress) -> None:
            on_progress(progress)
            if time.monotonic() - began > SECONDS:
                raise _OutOfTime

        try:
            return _read_whole(table, path, check), True
        except _OutOfTime:  # it may have changed how the file is read
            table = open_table(path, table.name, options=options)
    return table, False


def _read_whole(table: Table, path: Path, on_progress: Callable[[Progress], None]) -> Table:
    """Read a table as a job does; return it with its number of rows, and windows of the reading that succeeded."""
    meter = ProgressMeter(table, path, on_progress, after="reading")
    for number, reading in enumerate(table.readings, 1):
        try:
            with faults(table.name, path), meter.running():
                scan = reading(partial(with_texts, table))
                # Without projection pushdown, all columns are read, and all cells are converted.
                tapped = scan.map_batches(meter.tap, streamable=True, projection_pushdown=False)
                rows = _count(tapped, meter)
                table.check()
            return _with_reading(attrs.evolve(table, rows=rows), scan)
        except (ProcessingError, Reread):
            if number == len(table.readings) or meter.stopped_by is not None:
                raise
    raise AssertionError("a table has at least one reading")


def _with_reading(table: Table, scan: pl.LazyFrame) -> Table:
    """Return the table with one reading, which has succeeded and can be used again."""
    if table.window is not None:
        return table
    schema = scan.collect_schema()
    texts = frozenset(name for name in schema if text_of(name) in schema)
    return attrs.evolve(table, readings=(reading_of(lambda: scan),), texts=texts.intersection)


def _count(tapped: pl.LazyFrame, meter: ProgressMeter) -> int:
    try:
        rows: int = tapped.select(pl.len()).collect(engine="streaming").item()
    except (Exception, pl.exceptions.PanicException):
        if meter.stopped_by is not None:
            raise meter.stopped_by from None
        raise
    if meter.stopped_by is not None:
        raise meter.stopped_by
    return rows
