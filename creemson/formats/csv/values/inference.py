"""Infers the types of a CSV's columns, and the words that mean missing values in them, from a sample.

:mod:`~creemson.formats.csv.values.types` has the candidates and chooses among them; this module applies the options and
remembers the result, which may be revised when the whole file has been read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import attrs
import polars as pl

from creemson.formats.csv.values.columns import SampleColumns
from creemson.formats.csv.values.kinds import TEXT, Kind, nanoseconds, pattern_kind, stripped
from creemson.formats.csv.values.numbers import DECIMAL_COMMA, have_decimal_commas
from creemson.formats.csv.values.types import (
    infer_kinds,
    may_be_thousands,
    needs_nanoseconds,
    requested_kind,
    sample_cells,
)
from creemson.formats.imported.facts import words_for_missing
from creemson.model.query import ColumnRef, Options

__all__ = ["ColumnTypes", "infer_columns"]


@attrs.define
class ColumnTypes:
    """What is known about the types of a CSV's columns.

    Attributes:
        kinds: The kind of each column, from left to right.
        null_words: The words for a missing value that the request gives, or those that are found in the sample; None
            if these are also text in other columns, so that a client cannot send them back.
        samples: Some cells of each column whose type matters.
        options: The options of the request; ``types`` and ``decimal`` are used.
        words: The words for a missing value that are found in the sample, by column.
        typed_at_first: The columns that are not text according to the sample.
        settled: The columns whose types have been inferred again, with cells that did not fit, and have not changed.
        are_linked: Whether cells behind the sample have changed the types of other columns, too.
    """

    kinds: dict[str, Kind]
    null_words: Sequence[str] | None
    samples: Mapping[str, Sequence[str]]
    options: Options
    words: Mapping[str, Sequence[str]] | None = None
    typed_at_first: frozenset[str] = frozenset()
    settled: set[str] = attrs.field(factory=set)
    are_linked: bool = False

    @property
    def schema(self) -> pl.Schema:
        """The columns and their types in polars."""
        return pl.Schema({name: kind.dtype for name, kind in self.kinds.items()})

    def notations(self) -> dict[str, str]:
        """Return how a CSV shows the dates and times of the columns, in strftime's syntax, and doubles, in printf's."""
        return {
            name: kind.notation if kind.decimals is None else f"%.{kind.decimals}f"
            for name, kind in self.kinds.items()
            if (kind.dtype.is_temporal() and kind.notation) or kind.decimals is not None
        }

    def has_decimal_commas(self) -> bool:
        """Whether any column has decimal commas."""
        return bool(self.commas())

    def commas(self) -> frozenset[str]:
        """Return the columns that have decimal commas."""
        return frozenset(name for name, kind in self.kinds.items() if kind.notation == ",")

    def thousands(self) -> str | None:
        """Return the sign between thousands: that of the request, or the one that is certain in some column."""
        signs = set(self.signs().values())
        return self.options.thousands or (signs.pop() if len(signs) == 1 else None)

    def signs(self) -> dict[str, str]:
        """Return the signs between thousands, by column."""
        # A requested number may have any signs; that says nothing of the other columns.
        requested = _requested(self.options)
        return {
            name: kind.thousands
            for name, kind in self.kinds.items()
            if kind.thousands and kind != DECIMAL_COMMA and name not in requested
        }

    def revise(self, misfits: Mapping[str, Sequence[str]], texts: Callable[[], pl.LazyFrame]) -> bool:
        """Infer types again if cells of the file did not have the inferred type.

        Requested types do not change, but datetimes get as many digits as they need. A column that the same cells have
        not changed is left alone: if another one has the file read again, they would count twice.

        Args:
            misfits: Some cells, by column, that are not of their column's type.
            texts: Returns all cells of the file, as text.

        Returns:
            Whether any type has changed.
        """
        requested = _requested(self.options)
        changed = {
            name: nanoseconds(kind)
            for name in misfits
            if name in requested and needs_nanoseconds(kind := self.kinds[name], pl.Series(misfits[name]))
        }
        doubtful = [name for name in misfits if name not in requested and name not in self.settled]
        if doubtful:
            samples = {name: [*self.samples[name], *misfits[name]] for name in doubtful}
            self.samples = {**self.samples, **samples}
            kinds = infer_kinds(texts(), doubtful, samples, self.options)
            differing = {name: kind for name, kind in kinds.items() if kind != self.kinds[name]}
            self.settled.update(kinds.keys() - differing.keys())
            changed |= differing
        self.kinds |= changed
        if any(kind.notation == "," for kind in changed.values()):
            others = self.read_points_as_text()
            self.are_linked |= bool(others)
            changed |= others
        return bool(changed)

    def read_points_as_text(self) -> dict[str, Kind]:
        """Make columns text whose numbers, such as 1.000, are thousands if other columns have decimal commas.

        Returns:
            The new kinds of the columns that have changed.
        """
        requested = _requested(self.options)
        changed = {
            name: TEXT
            for name, cells in self.samples.items()
            if name not in requested and self.kinds[name].name == "float64" and may_be_thousands(cells)
        }
        self.kinds |= changed
        return changed


def infer_columns(
    columns: SampleColumns,
    names: Sequence[str],
    options: Options,
    needed: Collection[ColumnRef] | None,
) -> ColumnTypes:
    """Infer the types of the columns.

    Args:
        columns: The columns of the sample.
        names: The names of the columns.
        options: Types that the request gives; they are not inferred.
        needed: The columns whose types matter; the others become text. None for all.

    Returns:
        The types.
    """
    requested = _requested(options)
    if needed is None:
        inferred = list(names)
    else:
        needed_names = {names[ref] if isinstance(ref, int) and ref < len(names) else ref for ref in needed}
        inferred = [name for name in names if name in needed_names]
    texts, samples = columns.texts, columns.cells(inferred)
    kinds = dict.fromkeys(names, TEXT)
    free = [name for name in inferred if name not in requested]
    kinds |= columns.kinds(free, options)
    types = ColumnTypes(kinds, options.null_values, samples, options)
    # If any column of a file has decimal commas, needed or not, 1.000 may mean a thousand in the others.
    doubtful = [name for name in free if kinds[name].name == "float64" and may_be_thousands(samples[name])]
    asked = [
        name for name in requested if name in samples and samples[name] and may_be_thousands(samples[name])
    ]
    has_commas = bool(doubtful or asked) and _have_decimal_commas(columns, names, options)
    if has_commas and doubtful:
        types.read_points_as_text()
    patterns = options.date_format if isinstance(options.date_format, dict) else {}
    for name in requested:
        dtype, pattern = (options.types or {}).get(name), patterns.get(name)
        if dtype is not None:
            cells = texts.get_column(name)
            told = (
                attrs.evolve(options, decimal=options.decimal or ",")
                if has_commas and name in asked
                else options
            )
            kinds[name] = requested_kind(dtype, sample_cells(cells), told, cells, pattern=pattern)
        elif pattern is not None:
            kind, cells = stripped(pattern_kind(pattern)), texts.get_column(name)
            kinds[name] = nanoseconds(kind) if needs_nanoseconds(kind, cells) else kind
    if options.null_values is None:
        types.typed_at_first = frozenset(name for name, kind in kinds.items() if kind is not TEXT)
        # Those in columns of text matter only if other columns have some. To search a column takes 0.03 ms.
        types.words = columns.words(list(types.typed_at_first)) and columns.words(names)
        types.null_words = words_for_missing(types.words, types.typed_at_first)
    return types


def _requested(options: Options) -> Collection[str]:
    """The columns whose kind of value the request names."""
    patterns = options.date_format if isinstance(options.date_format, dict) else {}
    return {**(options.types or {}), **patterns}.keys()


def _have_decimal_commas(columns: SampleColumns, names: Sequence[str], options: Options) -> bool:
    """Whether any of some columns has decimal commas, also one of amounts that are text because of their signs."""
    kinds = columns.kinds(names, options)
    if any(kind.notation == "," for kind in kinds.values()):
        return True
    texts = [name for name, kind in kinds.items() if kind is TEXT]
    return any(map(have_decimal_commas, columns.cells(texts).values()))
