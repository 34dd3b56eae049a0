"""Turns a query into a polars plan, or into an error that says where it does not fit the file."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial

import attrs
import polars as pl

from creemson.engine.cast import cast_batch, casting
from creemson.engine.expressions import (
    SHOWN_FUNCTIONS,
    aggregate_expression,
    condition_expression,
    number_or_null,
    text_of_value,
)
from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats.columns import exactly
from creemson.formats.report import Report
from creemson.formats.table import text_of
from creemson.model.nearest import nearest
from creemson.model.query import Aggregate, Clause, ColumnRef, Condition, Query, conditions_of

__all__ = ["ROWS", "Aggregated", "Plan", "columns_of", "named_in", "tapped"]

ROWS = "rows"
"""Stands for the function of an aggregate that counts rows."""


def columns_of(query: Query) -> set[ColumnRef] | None:
    """Return the columns that a query refers to, including computed columns; None for all columns of the file."""
    if query.selectedColumns is None and not (query.group_by or query.aggregate):
        return None
    return named_in(query)


def named_in(query: Query) -> set[ColumnRef]:
    """Return the columns that a query names, including computed columns."""
    return {
        *(query.selectedColumns or ()),
        *(query.group_by or ()),
        *(condition.column for condition in conditions_of(query.where)),
        *(aggregate.column for aggregate in query.aggregate or () if not aggregate.counts_rows),
        *(key.column for key in query.sort or ()),
        *(query.distinct if isinstance(query.distinct, tuple) else ()),
        *(query.cast or ()),
    }


def tapped(
    frame: pl.LazyFrame, tap: Callable[[pl.DataFrame], pl.DataFrame], *, has_row_count: bool
) -> pl.LazyFrame:
    """Let a function be called with every batch that is read.

    Args:
        frame: What is read.
        tap: Returns the batch unchanged.
        has_row_count: Whether the file's metadata has the number of its rows. Then polars may move filters before the
            tap, into the scan, which skips the rows that they exclude. In a CSV, every row must be counted.
    """
    return frame.map_batches(tap, streamable=True, predicate_pushdown=has_row_count, slice_pushdown=True)


@attrs.frozen
class Aggregated:
    """An aggregate, checked against the columns of a file.

    Attributes:
        result: The name of its result.
        function: One of :data:`creemson.model.query.FUNCTIONS`, or :data:`ROWS`.
        column: The column of the file; None for all rows.
        expression: What computes it.
    """

    result: str
    function: str
    column: str | None
    expression: pl.Expr

    @property
    def values(self) -> pl.Expr:
        """The values of the column of the file."""
        assert self.column is not None
        return exactly(self.column)

    @property
    def value(self) -> pl.Expr:
        """The column with the result."""
        return exactly(self.result)


class Plan:
    """A query, checked against the columns of a file.

    Args:
        query: The query.
        schema: The columns of the file and their types.
        texts: Returns, of some columns, those with a hidden column; see :attr:`creemson.formats.table.Table.texts`.

    Attributes:
        groups: The columns by which rows are grouped.
        aggregates: What is computed for each group, or for all rows.
        is_grouped: Whether the output has groups or aggregates.
        needed: The columns of the file that must be read, in the file's order; at least one, to count rows. After them,
            the hidden columns.
        texts: The columns of the output of which :meth:`apply` also returns the texts, in hidden columns.
        kept: Columns of the output that are unchanged columns of the file; maps their names in the output to those in
            the file.
        shown: The same, and aggregates whose values are those of cells.

    Raises:
        InvalidFormat: ``invalid_columns`` or ``invalid_message``: the query does not fit the file.
        ProcessingError: ``column_not_found``.
    """

    def __init__(
        self,
        query: Query,
        schema: pl.Schema,
        texts: Callable[[Collection[str]], Collection[str]] = lambda _: (),
    ) -> None:
        self._schema = schema
        self._names = list(schema)
        self._query = query
        self._casts = {
            self._resolve(name, f"$.cast.{name}"): casting(self._schema[name], dtype, f"$.cast.{name}")
            for name, dtype in (query.cast or {}).items()
        }
        if self._casts:
            self._schema = pl.Schema({**schema, **{name: cast.dtype for name, cast in self._casts.items()}})
        self._where = [
            self._clause(clause, f"$.where[{index}]") for index, clause in enumerate(query.where or ())
        ]
        self.groups = [
            self._resolve(ref, f"$.group_by[{index}]") for index, ref in enumerate(query.group_by or ())
        ]
        self.aggregates = [
            self._aggregate(aggregate, f"$.aggregate[{index}]")
            for index, aggregate in enumerate(query.aggregate or ())
        ]
        self.is_grouped = bool(self.groups or self.aggregates)
        self._grouped_names = [*self.groups, *(each.result for each in self.aggregates)]
        self._grouped = frozenset(self._grouped_names)
        if self.is_grouped:
            _check_distinct(
                self._grouped_names, "the grouped output", "$.aggregate" if self.aggregates else "$.group_by"
            )
        self._selected = self._select()
        self._keys = [
            self._row_column(key.column, f"$.sort[{index}][0]") for index, key in enumerate(query.sort or ())
        ]
        self._distinct = self._distinct_columns()
        self._renamed = self._new_names()
        sources = self._shown_sources()
        self.shown = {self._renamed.get(name, name): source for name, source in sources.items()}
        with_texts = texts(frozenset(sources.values()))
        self._sources = {name: source for name, source in sources.items() if source in with_texts}
        self.texts = [self._renamed.get(name, name) for name in self._sources]
        self.needed = self._needed()
        self.kept = self._kept()

    @property
    def group_keys(self) -> list[pl.Expr]:
        """The columns by which rows are grouped."""
        return [exactly(name) for name in self.groups]

    @property
    def row_columns(self) -> list[pl.Expr]:
        """The columns that :meth:`finished` needs of a table without groups, with the hidden ones."""
        used = {*self._selected, *self._keys, *self._distinct}
        hidden = map(text_of, dict.fromkeys(self._sources.values()))
        return [exactly(name) for name in (*(name for name in self._names if name in used), *hidden)]

    @property
    def conditions(self) -> list[pl.Expr]:
        """Expressions that are all true for the rows that the query selects."""
        return [condition for _, condition in self._where]

    def sort_keys(self, schema: pl.Schema | None = None) -> list[pl.Expr]:
        """Return the values by which rows are sorted, nulls last.

        Args:
            schema: The types of the columns that are sorted; None for those of the file.
        """
        schema = self._schema if schema is None else schema
        return [number_or_null(exactly(key), schema[key]) for key in self._keys]

    def apply_to(self, frame: pl.DataFrame, report: Report | None = None) -> pl.DataFrame:
        """Apply the plan to a frame in memory.

        Args:
            frame: The table.
            report: Collects the values that casts turn into null.
        """
        if not (
            self.is_grouped or self._where or self._keys or self._query.limit is not None or self._distinct
            or self._casts or self._renamed
        ):  # fmt: skip
            # saves 0.1 ms, which the engine takes even for an empty plan
            return frame[:, [*self._selected, *map(text_of, self._sources)]]
        return self.apply(frame.lazy(), report=report).collect(engine="streaming")

    def apply(
        self,
        frame: pl.LazyFrame,
        tap: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        *,
        has_row_count: bool = False,
        report: Report | None = None,
    ) -> pl.LazyFrame:
        """Apply the plan to a frame that has the needed columns.

        Args:
            frame: The frame.
            tap: See :func:`tapped`.
            has_row_count: See :func:`tapped`.
            report: Collects the values that casts turn into null.
        """
        if tap is not None:
            frame = tapped(frame, tap, has_row_count=has_row_count)
        if self._casts:
            frame = self._cast(frame, report)
        elif self._where:
            frame = frame.filter(self.conditions)
        return self.finished(self._grouped_rows(frame) if self.is_grouped else frame)

    def finished(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Apply what follows the groups and aggregates: distinct, sort, the selected columns and their names, limit."""
        frame = self.sorted_rows(self.distinct_rows(frame)).select(
            *(
                exactly(name).alias(new) if (new := self._renamed.get(name)) else exactly(name)
                for name in self._selected
            ),
            *(exactly(text_of(name)).alias(text_of(self._renamed.get(name, name))) for name in self._sources),
        )
        return self.limited(frame)

    def distinct_rows(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Keep the first of the rows that do not differ, if the query asks for that."""
        if not self._distinct:
            return frame
        subset = [exactly(name) for name in self._distinct]
        return frame.unique(subset=subset, keep="first", maintain_order=True)

    def sorted_rows(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Sort rows as the query asks; equal ones keep their order."""
        if not self._keys:
            return frame
        schema = frame.collect_schema() if self.is_grouped else self._schema
        descending = [key.descending for key in self._query.sort or ()]
        return frame.sort(self.sort_keys(schema), descending=descending, nulls_last=True, maintain_order=True)

    def limited(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Keep as many of the first rows as the query asks for."""
        limit = self._query.limit
        # polars counts rows in 32 bits.
        return frame if limit is None or limit >= 2**32 else frame.head(limit)

    def _grouped_rows(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        expressions = [
            *(each.expression.alias(each.result) for each in self.aggregates),
            *self.grouped_texts(),
        ]
        if not self.groups:
            return frame.select(expressions)
        return frame.group_by(self.group_keys, maintain_order=True).agg(expressions)

    def grouped_texts(self, *, of_parts: bool = False) -> list[pl.Expr]:
        """Return the texts of keys and aggregates, in hidden columns: those of the rows from which their values come.

        Args:
            of_parts: whether they come from the keys and aggregates of parts of the file, with their texts.
        """
        functions = {each.result: each.function for each in self.aggregates}
        return [
            text_of_value(
                exactly(text_of(name if of_parts else source)),
                exactly(name if of_parts else source),
                functions.get(name, "first"),
            ).alias(text_of(name))
            for name, source in self._sources.items()
        ]

    def _cast(self, frame: pl.LazyFrame, report: Report | None) -> pl.LazyFrame:
        """Apply casts and conditions: as many conditions as possible before the casts, so that a scan can skip rows."""
        before = [condition for names, condition in self._where if names.isdisjoint(self._casts)]
        after = [condition for names, condition in self._where if not names.isdisjoint(self._casts)]
        if before:
            frame = frame.filter(before)
        if not (after or self.is_grouped or self._distinct or self._keys):
            frame = self.limited(frame)  # otherwise, rows beyond the limit would be cast and reported
        schema = frame.collect_schema()
        casts = {name: cast for name, cast in self._casts.items() if name in schema}
        frame = frame.map_batches(
            partial(cast_batch, casts, report),
            streamable=True,
            predicate_pushdown=False,
            projection_pushdown=False,
            schema=schema | {name: cast.dtype for name, cast in casts.items()},
        )
        return frame.filter(after) if after else frame

    def _kept(self) -> dict[str, str]:
        """The names in the file of the output's unchanged columns."""
        unchanged = set(self.groups if self.is_grouped else self._names) - set(self._casts)
        return {self._renamed.get(name, name): name for name in self._selected if name in unchanged}

    def _shown_sources(self) -> dict[str, str]:
        """The columns of the file whose cells the selected columns show, by the name before it is changed."""
        if self.is_grouped:
            sources = {name: name for name in self.groups}
            sources |= {
                each.result: each.column
                for each in self.aggregates
                if each.column is not None and each.function in SHOWN_FUNCTIONS
            }
        else:
            sources = {name: name for name in self._selected}
        return {
            name: source
            for name in self._selected
            if (source := sources.get(name)) is not None and source not in self._casts
        }

    def _needed(self) -> list[str]:
        """The columns of the file that must be read."""
        used = {name for names, _ in self._where for name in names}
        used.update(each.column for each in self.aggregates if each.column is not None)
        used.update(self.groups)
        if not self.is_grouped:
            used.update(self._selected, self._keys, self._distinct)
        columns = [name for name in self._names if name in used] or self._names[:1]
        return [*columns, *map(text_of, dict.fromkeys(self._sources.values()))]

    def _resolve(self, ref: ColumnRef, path: str) -> str:
        """The name of a column of the file; ``path`` is where the request refers to it."""
        if isinstance(ref, int):
            if ref < len(self._names):
                return self._names[ref]
            hint = f"The last one is {self._names[-1]!r}."
            if str(ref) in self._schema:
                hint = f"The name of a column is written in quotes: '{ref}'."
            raise _no_column(
                f"There is no column {ref} in {self._query.filename!r}: it has {len(self._names)} columns, "
                f"0 to {len(self._names) - 1}. {hint}",
                path,
            )
        if ref in self._schema:
            return ref
        raise _not_found(ref, self._names, repr(self._query.filename), path)

    def _select(self) -> list[str]:
        refs = self._query.selectedColumns
        if refs is None:
            return self._grouped_names if self.is_grouped else self._names
        if not self.is_grouped:
            names = [self._resolve(ref, f"$.selectedColumns[{index}]") for index, ref in enumerate(refs)]
        else:
            names = [
                self._grouped_column(
                    self._names[ref] if isinstance(ref, int) and ref < len(self._names) else ref
                )
                for ref in refs
            ]
        _check_distinct(names, "selectedColumns", "$.selectedColumns")
        return names

    def _grouped_column(self, ref: ColumnRef) -> str:
        if ref in self._grouped:
            return str(ref)
        raise InvalidFormat(
            "invalid_columns",
            f"The column {ref!r} is not in the grouped output, which has: {', '.join(self._grouped_names[:20])}.",
            details=[f"$.selectedColumns: {ref!r} is neither in group_by nor an aggregate"],
        )

    def _distinct_columns(self) -> list[str]:
        """The columns in which rows must differ; empty if equal rows are kept."""
        by = self._query.distinct
        if by is None or by is False:
            return []
        if by is True:
            return self._selected
        return [self._row_column(ref, f"$.distinct[{index}]") for index, ref in enumerate(by)]

    def _new_names(self) -> dict[str, str]:
        """The new names of columns of the output, by their old names."""
        renamed = self._query.rename or {}
        selected = set(self._selected)
        for name in renamed:
            if name not in selected:
                raise _not_found(name, self._selected, "the output", f"$.rename.{name}")
        names = [renamed.get(name, name) for name in self._selected]
        _check_distinct(names, "the renamed output", "$.rename")
        return renamed

    def _row_column(self, ref: ColumnRef, path: str) -> str:
        """The name of a column to sort by or to compare: of the file, or of the grouped output."""
        if not self.is_grouped:
            return self._resolve(ref, path)
        name = self._resolve(ref, path) if isinstance(ref, int) else ref
        if name in self._grouped:
            return name
        raise _not_found(name, self._grouped_names, "the grouped output", path)

    def _clause(self, clause: Clause, path: str) -> tuple[set[str], pl.Expr]:
        """The columns of an element of ``where``, and the expression that must be true."""
        if isinstance(clause, Condition):
            name, expression = self._condition(clause, path)
            return {name}, expression
        found = [
            self._condition(condition, f"{path}.any[{index}]")
            for index, condition in enumerate(clause.conditions)
        ]
        return {name for name, _ in found}, pl.any_horizontal(expression for _, expression in found)

    def _condition(self, condition: Condition, path: str) -> tuple[str, pl.Expr]:
        name = self._resolve(condition.column, f"{path}[0]")
        return name, condition_expression(condition, name, self._schema[name], path)

    def _aggregate(self, aggregate: Aggregate, path: str) -> Aggregated:
        if aggregate.counts_rows:
            return Aggregated(aggregate.name or "count", ROWS, None, pl.len())
        name = self._resolve(aggregate.column, f"{path}[0]")
        expression = aggregate_expression(aggregate.function, name, self._schema[name], path)
        result = f"{name}_{aggregate.function}" if aggregate.name is None else aggregate.name
        return Aggregated(result, aggregate.function, name, expression)


def _not_found(name: str, names: Sequence[str], where: str, path: str) -> ProcessingError:
    similar = nearest(name, names, 0.4)
    hint = f"Did you mean {similar!r}?" if similar else f"It has: {', '.join(names[:20])}."
    return _no_column(f"There is no column {name[:80]!r} in {where}. {hint}", path)


def _no_column(message: str, path: str) -> ProcessingError:
    return ProcessingError("column_not_found", message, details=[f"{path[:100]}: {message}"])


def _check_distinct(names: Sequence[str], where: str, path: str) -> None:
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        message = f"The column {twice!r} occurs twice in {where}."
        raise InvalidFormat("invalid_columns", message, details=[f"{path}: {message}"])
