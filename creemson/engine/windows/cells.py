"""Reads the values of a table, or its cells as text, for windows and for filters."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs
import polars as pl

from creemson.engine.export.csv import Written, beside, text_cells, texts_of_output, written_of
from creemson.engine.windows.find import can_show
from creemson.errors import ProcessingError
from creemson.formats.open import faults
from creemson.formats.table import Choose, Needed, Table, text_of

__all__ = ["Cells", "with_texts"]

Reading: TypeAlias = Callable[[Needed], pl.LazyFrame]
T = TypeVar("T")


def with_texts(table: Table, schema: pl.Schema) -> Sequence[str]:
    """Choose all columns, and the hidden columns of texts if only a reading has them."""
    names = list(schema)
    if table.window_texts is not None:
        return names
    hidden = table.texts(frozenset(names))
    return [*names, *(text_of(name) for name in names if name in hidden)]


@attrs.frozen
class Cells:
    """The cells of a table.

    Attributes:
        table: The table.
        source: Path of its file.
        texts: Path of its texts, if it is a stored output.
    """

    table: Table
    source: Path
    texts: Path | None = None

    def rows(self, choose: Choose) -> pl.DataFrame:
        """Return the values of chosen rows.

        Args:
            choose: Chooses rows by their place.

        Raises:
            ProcessingError: ``unreadable_file``.
            OSError: The disk failed.
        """
        if self.table.window is not None:
            return self._read(partial(self.table.window, choose))
        return self._with_each_reading(lambda reading: choose(reading(list)).collect(engine="streaming"))

    def rows_as_texts(self, choose: Choose) -> pl.DataFrame:
        """Return the cells of chosen rows as text; see :meth:`rows`."""
        if self.table.window_texts is not None:
            return self._read(partial(self.table.window_texts, choose))
        written = self._written()

        def read(reading: Reading) -> pl.DataFrame:
            frame = choose(reading(partial(with_texts, self.table)))
            if (texts := self._texts_of_output(written)) is not None:
                frame = beside(frame, choose(texts))
            return text_cells(frame, written.notations).collect(engine="streaming")

        return self._with_each_reading(read)

    def search_values(self, plan: Choose) -> pl.DataFrame:
        """Return what a plan makes of the values of all rows; see :meth:`rows`."""
        if self.table.window_values is not None:
            return self._read(partial(self.table.window_values, plan))
        return self._with_each_reading(lambda reading: plan(reading(list)).collect(engine="streaming"))

    def search_texts(self, plan: Choose, text: str) -> pl.DataFrame:
        """Return what a plan makes of the cells of all rows as text; see :meth:`rows`.

        Args:
            plan: The plan.
            text: A text; columns that cannot show it are left out.
        """
        if self.table.window_texts is not None:
            return self._read(partial(self.table.window_texts, plan))
        written = self._written()

        def read(reading: Reading) -> pl.DataFrame:
            frame = reading(partial(with_texts, self.table))
            if (texts := self._texts_of_output(written)) is not None:
                frame = beside(frame, texts)
            cells = text_cells(_able_to_show(frame, written.notations, text), written.notations)
            return plan(cells).collect(engine="streaming")

        return self._with_each_reading(read)

    def _written(self) -> Written:
        """How the original is written, if the file is a stored output; else how this file is."""
        written = written_of(self.source) or Written()
        return attrs.evolve(written, notations=written.notations or self.table.notations())

    def _texts_of_output(self, written: Written) -> pl.LazyFrame | None:
        if not written.has_texts or self.texts is None or not self.texts.exists():
            return None
        return texts_of_output(self.texts, self.table.name, self.table.rows or 0)

    def _with_each_reading(self, read: Callable[[Reading], T]) -> T:
        """Return what the first reading gives that can read the file."""
        for reading in self.table.readings:
            try:
                return self._read(partial(read, reading))
            except ProcessingError:
                if reading is self.table.readings[-1]:
                    raise
        raise AssertionError("a table has at least one reading")

    def _read(self, read: Callable[[], T]) -> T:
        with faults(self.table.name, self.source):
            return read()


def _able_to_show(frame: pl.LazyFrame, notations: Mapping[str, str], text: str) -> pl.LazyFrame:
    """Leave out values that cannot show a text, so that they are neither read nor written as text.

    Args:
        frame: Values, and texts in hidden columns.
        notations: How dates and times are written.
        text: The text.
    """
    schema = frame.collect_schema()
    places = {name: place for place, name in enumerate(schema)}
    columns = []
    for name, dtype in schema.items():
        if name.startswith(text_of("")):
            continue
        hidden = places.get(text_of(name))
        if can_show(dtype, notations.get(name), text):
            value = pl.nth(places[name])
            columns.append(
                value if hidden is None else _written_cells(pl.nth(hidden), value, notations, name)
            )
        elif hidden is not None:
            columns.append(pl.nth(hidden).alias(name))
    return frame.select(columns or pl.first())


def _written_cells(texts: pl.Expr, values: pl.Expr, notations: Mapping[str, str], name: str) -> pl.Expr:
    """The cells of a column with texts; most batches have a text for each value, so no value is written as text."""

    def cells(columns: Sequence[pl.Series]) -> pl.Series:
        text, value = columns
        lacks_text = text.is_null() & value.is_not_null()
        if not lacks_text.any():
            return text
        rest = value.filter(lacks_text).alias(name).to_frame()
        shown = text_cells(rest.lazy(), notations).collect().to_series()
        return text.scatter(lacks_text.arg_true(), shown)

    column = pl.map_batches([texts, values], cells, return_dtype=pl.String, is_elementwise=True)
    return column.alias(name)
