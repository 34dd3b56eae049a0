"""Finds the rows of a view: those that meet its conditions and have its text, in the order in which it sorts them.

Only the numbers of the rows are found, in passes that read the columns they need; the cells of a window are read when
it is shown. The numbers are remembered, so that scrolling does not search again.

A pass is bounded in time and memory. What it has found until then is an answer, too: that of the rows it has looked at.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial

import attrs
import polars as pl

from creemson.engine.plan import Plan
from creemson.engine.progress import Progress, ProgressMeter
from creemson.engine.windows.cells import Cells
from creemson.engine.windows.find import has_text
from creemson.engine.windows.scattered import ScatteredRows
from creemson.formats.table import Choose
from creemson.model.query import Query, View

__all__ = ["Filters", "Found", "reached_rows"]

SECONDS, LEAST_SECONDS = 3.0, 1.0
"""Maximum duration of finding the rows of a view, and the part of it that is left after a long survey: a look-up with
both, and the reading of its rows, takes less than its 10 s."""
MAX_FOUND_BYTES = 128 << 20
"""Maximum size in bytes of what one pass finds: the numbers of rows, and what they are sorted by. Sorting so many texts
takes four seconds of CPU time, and cannot be stopped."""
MAX_REMEMBERED, MAX_REMEMBERED_BYTES = 32, 64 << 20
"""Maximum number and size in bytes of the results that are remembered; the last one always is."""
FIRST_SORTED = 10_000
"""Number of rows that are sorted first, if a window needs no more: for a million texts, that takes 0.04 s of CPU time
instead of 0.65."""
REMEMBERED_SECONDS = 30.0
"""Seconds for which an incomplete result is remembered; later, the same search may get further."""

_ROW, _HIT, _KEY = "\0row", "\0hit", "\0key"
"""Names of temporary columns; names in files contain no NUL."""


class _Over(Exception):  # noqa: N818 - not an error
    """A pass has taken too long, or found too much."""


@attrs.frozen
class Found:
    """The rows of a view.

    Attributes:
        rows: The numbers of the first rows or of all, in the order of the view.
        total: Number of all rows.
        is_complete: Whether all rows of the table were looked at.
    """

    rows: pl.Series
    total: int
    is_complete: bool

    def reaches(self, end: int | None) -> bool:
        """Whether there are the numbers of so many rows, or of all rows; None: of all."""
        return len(self.rows) == self.total or (end is not None and end <= len(self.rows))


def reached_rows(
    cells: Cells,
    read: Callable[[Choose], pl.DataFrame],
    offset: int,
    limit: int,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> pl.DataFrame:
    """Read the rows at an offset that is far into a large file, or none if they are not reached in time.

    Args:
        cells: The cells of the table.
        read: Reads rows of it that a function chooses.
        offset: Number of rows before the first one.
        limit: Maximum number of rows.
        on_progress: Called from any thread; an exception that it raises ends the reading and is raised again.
    """
    search = _Pass(cells, on_progress, time.monotonic, time.monotonic() + SECONDS)
    rows = search.reached(read, lambda frame: frame.slice(offset, limit))
    return read(lambda frame: frame.head(0)) if rows is None else rows


class Filters:
    """Finds the rows of views, and remembers the last ones.

    Args:
        clock: Returns the time in seconds.

    Attributes:
        scattered: Reads the rows of the windows, and remembers the last ones.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.scattered = ScatteredRows()
        self._known: OrderedDict[Hashable, tuple[Found, float]] = OrderedDict()

    def rows(
        self,
        cells: Cells,
        view: View,
        key: Hashable,
        on_progress: Callable[[Progress], None] = lambda _: None,
        *,
        spent: float = 0.0,
        end: int | None = None,
    ) -> Found:
        """Find the rows of a view that has conditions, a text or sort keys.

        Args:
            cells: The cells of the table.
            view: The view.
            key: Identifies the version of the file and how it is read.
            on_progress: Called from any thread; an exception that it raises ends the search and is raised again.
            spent: Seconds that the look-up has taken until now.
            end: Number of rows of the view of which the numbers are needed; None for all rows.

        Raises:
            InvalidFormat: ``invalid_message``: the view does not fit the file.
            ProcessingError: ``column_not_found`` or ``unreadable_file``.
            OSError: The disk failed.
        """
        search = partial(
            _Pass, cells, on_progress, self._clock, self._clock() + max(LEAST_SECONDS, SECONDS - spent / 2)
        )
        parts = []
        if view.where or view.sort:
            # repr: True and 1 are equal, but not as values of conditions
            values_key = (key, "values", repr(view.where), repr(view.sort))
            first = None if view.find else end  # which of them have the text is not known yet
            parts.append(self._remembered(values_key, lambda: _by_values(search(), view, first), first))
        if text := view.find:
            parts.append(self._remembered((key, "find", text), lambda: _by_text(search(), text)))
        if len(parts) == 1:
            return parts[0]
        by_values, by_text = parts
        rows = by_values.rows.filter(by_values.rows.is_in(by_text.rows.implode()))
        return Found(rows, len(rows), by_values.is_complete and by_text.is_complete)

    def _remembered(self, key: Hashable, search: Callable[[], Found], end: int | None = None) -> Found:
        now = self._clock()
        known = self._known.pop(key, None)
        if known is None or now - known[1] > REMEMBERED_SECONDS or not known[0].reaches(end):
            found = search()
            known = found, math.inf if found.is_complete else self._clock()
        self._known[key] = known
        while len(self._known) > 1 and (
            len(self._known) > MAX_REMEMBERED or self._size() > MAX_REMEMBERED_BYTES
        ):
            self._known.popitem(last=False)
        return known[0]

    def _size(self) -> int:
        return sum(int(found.rows.estimated_size()) for found, _ in self._known.values())


def _by_values(search: "_Pass", view: View, end: int | None) -> Found:
    """Find the rows that meet the conditions, and sort them; only the first ones if ``end`` is not far from there."""
    keys: list[str] = []

    def plan(frame: pl.LazyFrame) -> pl.LazyFrame:
        query = Query(filename=search.cells.table.name, where=view.where, sort=view.sort)
        planned = Plan(query, frame.collect_schema())
        expressions = planned.sort_keys()
        keys[:] = [f"{_KEY}{place}" for place in range(len(expressions))]
        selected = [key.alias(name) for key, name in zip(expressions, keys, strict=True)]
        hit = pl.all_horizontal(planned.conditions) if planned.conditions else pl.lit(value=True)
        return frame.select(hit.alias(_HIT), *selected)

    frame, is_complete = search.found(search.cells.search_values, plan)
    total = frame.height
    if keys:
        descending = [key.descending for key in view.sort or ()]
        if end is not None and end <= FIRST_SORTED < total:
            # Rows that are equal keep their order. It returns the rows in any order.
            frame = frame.bottom_k(FIRST_SORTED, by=[*keys, _ROW], reverse=[*descending, False]).sort(_ROW)
        frame = frame.sort(keys, descending=descending, nulls_last=True, maintain_order=True)
    return Found(frame.get_column(_ROW), total, is_complete)


def _by_text(search: "_Pass", text: str) -> Found:
    """Find the rows that have a text."""

    def plan(cells: pl.LazyFrame) -> pl.LazyFrame:
        return cells.select(pl.any_horizontal(has_text(pl.all(), text)).alias(_HIT))

    frame, is_complete = search.found(partial(search.cells.search_texts, text=text), plan)
    return Found(frame.get_column(_ROW), frame.height, is_complete)


class _Pass:
    """Reads a table once, until the time is over.

    polars calls the methods with batches from its own threads, in any order.

    Args:
        cells: The cells of the table.
        on_progress: See :meth:`Filters.rows`.
        clock: Returns the time in seconds.
        until: The time at which the pass ends.
    """

    def __init__(
        self,
        cells: Cells,
        on_progress: Callable[[Progress], None],
        clock: Callable[[], float],
        until: float,
    ) -> None:
        self.cells = cells
        self._on_progress, self._clock, self._until = on_progress, clock, until
        self._meter = ProgressMeter(cells.table, cells.source, self._check, after="reading")
        self._lock = threading.Lock()
        self._found: list[pl.DataFrame] = []
        self._size = 0
        self._has_begun = False
        self._is_over = False

    def found(self, read: Callable[[Choose], pl.DataFrame], plan: Choose) -> tuple[pl.DataFrame, bool]:
        """Collect what a plan finds.

        Args:
            read: Reads the table with a plan, in several ways if the first one fails.
            plan: Makes a plan of the table, with a column that says whether a row is wanted.

        Returns:
            The numbers of the rows that are wanted, in order, with the other columns of the plan; and whether all rows
            were looked at.
        """

        def numbered(frame: pl.LazyFrame) -> pl.LazyFrame:
            # Before a function of Python, polars reads all columns: it comes after the plan, which needs few.
            looked_at = plan(frame).map_batches(self._look, streamable=True)
            hits = looked_at.with_row_index(_ROW).filter(_HIT).drop(_HIT)
            return hits.map_batches(self._keep, streamable=True)

        empty = self._bounded(read, numbered)
        if empty is None:
            empty = pl.DataFrame(schema={_ROW: pl.UInt32})
        with self._lock:
            found = pl.concat(self._found) if self._found else empty
        return found.sort(_ROW), not self._is_over

    def reached(self, read: Callable[[Choose], pl.DataFrame], choose: Choose) -> pl.DataFrame | None:
        """Return the chosen rows, or None if the time is over before they are read."""
        return self._bounded(read, lambda frame: choose(frame.map_batches(self._look, streamable=True)))

    def _bounded(self, read: Callable[[Choose], pl.DataFrame], plan: Choose) -> pl.DataFrame | None:
        """Read the table with a plan that looks at each batch; return None if the time is over before the end."""

        def bounded(frame: pl.LazyFrame) -> pl.LazyFrame:
            # What was found before a reading failed is an answer; another reading would begin anew.
            self._is_over |= self._has_begun
            self._raise_if_over()
            return plan(frame)

        try:
            with self._meter.running():
                result = read(bounded)
            self._raise_if_over()
        # polars raises its own exception for that of one of its threads.
        except (Exception, pl.exceptions.PanicException):
            stopped_by = self._meter.stopped_by
            if stopped_by is not None and not isinstance(stopped_by, _Over):
                raise stopped_by from None
            if stopped_by is None and not self._is_over:
                raise
            self._is_over = True
            return None
        return result

    def _look(self, batch: pl.DataFrame) -> pl.DataFrame:
        self._has_begun = True
        return self._meter.tap(batch)

    def _keep(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Keep what was found; return none of it, so that polars does not keep it as well."""
        with self._lock:
            self._found.append(batch)
            self._size += int(batch.estimated_size())
            self._is_over |= self._size > MAX_FOUND_BYTES
        self._raise_if_over()
        return batch.clear()

    def _check(self, progress: Progress) -> None:
        self._on_progress(progress)
        if self._clock() > self._until:
            raise _Over

    def _raise_if_over(self) -> None:
        if self._meter.stopped_by is not None:
            raise self._meter.stopped_by
        if self._is_over:
            raise _Over
