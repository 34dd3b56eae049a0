"""The columns of a CSV's sample as text, and what is found out about each of them.

Each fact is found out once: the sample of a small file is remembered (:mod:`creemson.formats.csv.examined`), and a
job on other columns needs only what is not yet known about these.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import compress

import attrs
import polars as pl

from creemson.formats.columns import exactly, unnamed
from creemson.formats.csv.texts import shown_as_written
from creemson.formats.csv.values.kinds import TEXT, Kind
from creemson.formats.csv.values.types import (
    FEW_ROWS,
    GROUP_COLUMNS,
    column_groups,
    infer_kinds,
    sample_columns,
)
from creemson.formats.types import NULL_WORDS
from creemson.model.query import Options

__all__ = ["SampleColumns", "convert"]

Convert = Callable[[pl.Expr], pl.Expr]


@attrs.define(eq=False)
class SampleColumns:
    """The columns of a sample.

    Attributes:
        texts: The cells as text, with null in place of the words for a missing value that the request gives.
    """

    texts: pl.DataFrame
    _cells: dict[str, Sequence[str]] = attrs.field(factory=dict, init=False)
    _kinds: dict[str, Kind] = attrs.field(factory=dict, init=False)
    _words: dict[str, Sequence[str]] = attrs.field(factory=dict, init=False)
    # The last values of each column, and whether a CSV shows them as the file writes them; with what decides these.
    _values: dict[str, tuple[Convert, pl.Series]] = attrs.field(factory=dict, init=False)
    _shown: dict[str, tuple[Convert, str, bool]] = attrs.field(factory=dict, init=False)

    def cells(self, names: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return some cells of columns; see :func:`~creemson.formats.csv.values.types.sample_columns`."""
        self._cells |= sample_columns(self.texts, [name for name in names if name not in self._cells])
        return {name: self._cells[name] for name in names}

    def kinds(self, names: Sequence[str], options: Options) -> dict[str, Kind]:
        """Infer the kinds of columns.

        Args:
            names: The columns.
            options: The options of the request, the same each time.
        """
        new = [name for name in names if name not in self._kinds]
        if new:
            values: dict[str, pl.Series] = {}
            self._kinds |= infer_kinds(self.texts, new, self.cells(new), options, values)
            self._values |= {name: (self._kinds[name].convert, series) for name, series in values.items()}
            # All cells of these are values; no kind takes a word for a missing value for one.
            self._words |= dict.fromkeys(values, ())
        return {name: self._kinds[name] for name in names}

    def words(self, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the words for a missing value in each of some columns that has any."""
        new = [name for name in names if name not in self._words]
        self._words |= dict.fromkeys(new, ()) | _null_words(self.texts, new)
        return {name: words for name in names if (words := self._words[name])}

    def values(self, kinds: Mapping[str, Kind]) -> pl.DataFrame:
        """Convert columns to kinds."""
        new = {name: kind for name, kind in kinds.items() if not self._has_values(name, kind)}
        if new:
            for series in convert(self.texts, new):
                self._values[series.name] = new[series.name].convert, series
        return pl.DataFrame(
            [
                self.texts.get_column(name) if kind is TEXT else self._values[name][1]
                for name, kind in kinds.items()
            ]
        )

    def _has_values(self, name: str, kind: Kind) -> bool:
        return kind is TEXT or (name in self._values and self._values[name][0] is kind.convert)

    def shown_as_written(self, kinds: Mapping[str, Kind]) -> set[str]:
        """Return the columns of values that a CSV shows as the file writes them."""
        new = {
            name: kind
            for name, kind in kinds.items()
            if kind is not TEXT and self._shown.get(name, ())[:2] != (kind.convert, kind.shown)
        }
        if new:
            shown = shown_as_written(self.texts, self.values(new), new)
            self._shown |= {name: (kind.convert, kind.shown, name in shown) for name, kind in new.items()}
        return {name for name, kind in kinds.items() if kind is not TEXT and self._shown[name][2]}


def convert(texts: pl.DataFrame, kinds: Mapping[str, Kind]) -> pl.DataFrame:
    """Convert columns of text to kinds."""
    if len(kinds) <= GROUP_COLUMNS:
        return texts.select(kind.convert(exactly(name)).alias(name) for name, kind in kinds.items())
    found: dict[str, pl.Series] = {}
    for group, part in column_groups(texts, [name for name in kinds if kinds[name] is not TEXT]):
        columns = part.select(kinds[name].convert(exactly(name)).alias(name) for name in group)
        found |= zip(group, columns.get_columns(), strict=True)
    return pl.DataFrame([found[name] if name in found else texts.get_column(name) for name in kinds])


def _null_words(texts: pl.DataFrame, names: Sequence[str]) -> dict[str, Sequence[str]]:
    """The words for a missing value that columns of a sample contain."""
    words = frozenset(NULL_WORDS)
    suspects: list[str] = []
    has_words: Sequence[bool]
    for group, part in column_groups(texts, names):
        if part.height <= FEW_ROWS // 10:
            has_words = [not words.isdisjoint(column.to_list()) for column in part.iter_columns()]
        else:
            has_words = part.select(pl.all().is_in(NULL_WORDS).any()).row(0)
        suspects += compress(group, has_words)
    return {
        name: sorted(words.intersection(unnamed(texts.get_column(name)).unique().to_list()))
        for name in suspects
    }
