"""Reads the rows of a sorted view, which stand anywhere in a table.

polars decodes all of a table for a hundred scattered rows, so some hundred rows beside them are read with them, and
remembered: who scrolls needs them next.
"""

from collections import OrderedDict
from collections.abc import Hashable

import attrs
import polars as pl

from creemson.engine.windows.cells import Cells
from creemson.formats.table import Choose, Table

__all__ = ["ScatteredRows"]

BLOCK_ROWS, ROWS_BEFORE = 1000, 250
"""Number of rows that are read at once, and how many of them stand before the window."""
BLOCK_BYTES = 8 << 20
"""Size in bytes of rows, as estimated from the size of the file, above which no others are read with them; and of the
rows that are remembered."""
MAX_REMEMBERED = 4
"""Maximum number of remembered blocks: those of two people who look at different rows, for example."""

_ROW = "\0row"
"""Name of a temporary column; names in files contain no NUL."""


@attrs.frozen
class _Block:
    first: int  # its place in the view
    numbers: pl.Series
    rows: pl.DataFrame


class ScatteredRows:
    """Reads rows by their numbers, and remembers the last ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Block] = OrderedDict()

    def read(
        self, cells: Cells, key: Hashable, numbers: pl.Series, offset: int, limit: int, *, as_texts: bool
    ) -> pl.DataFrame:
        """Read the rows at an offset of a view.

        Args:
            cells: The cells of the table.
            key: Identifies the version of the file and how it is read.
            numbers: The numbers of the rows of the view.
            offset: Number of rows of the view before the first one.
            limit: Maximum number of rows.
            as_texts: Whether cells are read as texts.

        Raises:
            ProcessingError: ``unreadable_file``.
            OSError: The disk failed.
        """
        shown = numbers.slice(offset, limit)
        key = (key, as_texts)
        known = self._known.get(key)
        if known is not None and offset >= known.first:
            at = offset - known.first
            # The same request may find others later, if a search was incomplete.
            if known.numbers.slice(at, len(shown)).equals(shown):
                self._known.move_to_end(key)
                return known.rows.slice(at, len(shown))
        first = max(0, offset - ROWS_BEFORE)
        block = numbers.slice(first, BLOCK_ROWS)
        if offset - first + len(shown) > len(block) or not _is_as_cheap(cells.table, block, shown):
            return _rows(cells, shown, as_texts=as_texts)
        rows = _rows(cells, block, as_texts=as_texts)
        if rows.estimated_size() <= BLOCK_BYTES:
            self._known[key] = _Block(first, block, rows)
            self._known.move_to_end(key)
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return rows.slice(offset - first, len(shown))


def _is_as_cheap(table: Table, block: pl.Series, shown: pl.Series) -> bool:
    """Whether a block of rows is read in about the time of its part that is shown."""
    span = _span(shown)
    if not (len(shown) < span and len(shown) < len(block) and _span(block) <= 2 * span):
        return False
    row_bytes = table.source.size * table.source.expansion / max(1, table.rows or 1)
    return len(block) * max(row_bytes, table.row_bytes) <= BLOCK_BYTES


def _span(numbers: pl.Series) -> int:
    """The number of rows from the first to the last of some rows."""
    if numbers.is_empty():
        return 0
    first, last = numbers.min(), numbers.max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    return last - first + 1


def _rows(cells: Cells, numbers: pl.Series, *, as_texts: bool) -> pl.DataFrame:
    read = cells.rows_as_texts if as_texts else cells.rows
    ascending = numbers.sort()
    rows = read(_rows_at(ascending))
    return rows if ascending.equals(numbers) else rows[ascending.search_sorted(numbers)]


def _rows_at(numbers: pl.Series) -> Choose:
    """Return a function that chooses rows by their numbers, which must ascend."""
    if numbers.is_empty():
        return lambda frame: frame.head(0)
    first, count = numbers[0], _span(numbers)
    if count == len(numbers):
        return lambda frame: frame.slice(first, count)
    # The slice skips parts of a file, and ends its reading.
    return lambda frame: (
        frame.slice(first, count)
        .with_row_index(_ROW, offset=first)
        .filter(pl.col(_ROW).is_in(numbers.implode()))
        .drop(_ROW)
    )
