"""A query: the work that a client requests on a table, and the options for reading the file."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, TypeAlias

import attrs

from creemson.model.constraints import Bounds, Distinct, FileName, OneOf

__all__ = [
    "ALL_ROWS",
    "FUNCTIONS",
    "LIST_OPERATORS",
    "MAX_COUNT",
    "MAX_FIND",
    "MAX_HEADER_ROWS",
    "MAX_NAME",
    "MAX_ROWS",
    "OPERATORS",
    "TEXT_OPERATORS",
    "TYPES",
    "UNARY_OPERATORS",
    "Aggregate",
    "AnyOf",
    "Clause",
    "ColumnRef",
    "ColumnType",
    "Condition",
    "Count",
    "DateFormat",
    "DistinctBy",
    "Header",
    "Options",
    "Query",
    "Selection",
    "SortKey",
    "View",
    "conditions_of",
]

MAX_FIND = 1000
"""Maximum characters of a text to find."""

MAX_NAME = 1000
"""Maximum characters of a new column name."""
MAX_ROWS = 1000
"""Maximum rows in one answer: a ``rows`` window or a ``preview``."""
OPERATORS = (
    "==", "!=", "<", "<=", ">", ">=", "in", "not_in", "is_null", "not_null", "contains", "starts_with", "ends_with",
    "icontains", "istarts_with", "iends_with", "iequals",
)  # fmt: skip
TEXT_OPERATORS = (
    "contains",
    "starts_with",
    "ends_with",
    "icontains",
    "istarts_with",
    "iends_with",
    "iequals",
)
"""Compare text with text; those that begin with ``i`` without regard to case."""
UNARY_OPERATORS = ("is_null", "not_null")
LIST_OPERATORS = ("in", "not_in")
ALL_ROWS = "*"
"""Instead of a column, in the aggregate `count`: all rows are counted, also those without a value."""
FUNCTIONS = ("count", "sum", "mean", "min", "max", "median", "std", "first", "last", "n_unique")

ColumnRef: TypeAlias = int | str
"""A column: its 0-based index or its name. ``"2"`` is a name."""
TYPES = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
    "boolean", "string", "date", "datetime", "time",
)  # fmt: skip
"""Types that a column can be read as, or cast to."""
ColumnType: TypeAlias = Annotated[str, OneOf(TYPES)]
MAX_COUNT = 2**63 - 1
"""The largest integer that polars and SQLite can hold."""
Count: TypeAlias = Annotated[int, Bounds(0, MAX_COUNT)]
DistinctBy: TypeAlias = bool | tuple[int | str, ...]
"""Whether to remove duplicate rows; or the columns that decide whether rows are duplicates."""
Header: TypeAlias = bool | int
"""Whether there is a header row, or the number of header rows."""
MAX_HEADER_ROWS = 100
DateFormat: TypeAlias = str | dict[str, str]
"""How dates and times are written, as a strftime pattern: one for the whole file, or one for each named column."""
Selection: TypeAlias = Annotated[tuple[ColumnRef, ...], Distinct()]


@attrs.frozen
class Condition:
    """One ``[column, operator, value]`` of ``where``; the unary operators take no value."""

    column: ColumnRef
    operator: str
    value: Any = None


@attrs.frozen
class AnyOf:
    """``{"any": [condition, …]}`` in ``where``: at least one of the conditions must hold."""

    conditions: tuple[Condition, ...]


Clause: TypeAlias = Condition | AnyOf
"""An element of ``where``."""


@attrs.frozen
class SortKey:
    """One ``[column, "asc" | "desc"]`` of ``sort``."""

    column: ColumnRef
    descending: bool = False


@attrs.frozen
class Aggregate:
    """One ``[column, function, name?]`` of ``aggregate``; ``["*", "count"]`` counts rows."""

    column: ColumnRef
    function: str
    name: str | None = None

    @property
    def counts_rows(self) -> bool:
        """Whether rows are counted, and no values of a column."""
        return self.column == ALL_ROWS and self.function == "count"


def conditions_of(where: Iterable[Clause] | None) -> Iterator[Condition]:
    """Return all conditions of ``where``, also those of which only one must hold."""
    for clause in where or ():
        yield from clause.conditions if isinstance(clause, AnyOf) else (clause,)


@attrs.frozen(kw_only=True)
class Options:
    """How to read a file; options that are None are detected.

    The names are those of :class:`~creemson.model.results.Reading`.

    Attributes:
        delimiter: separates the cells of a CSV; one or more characters.
        quote: encloses cells; one character, or ``""`` for none.
        escape: precedes a quote in a quoted cell; one character, or ``""`` if quotes are doubled instead.
        encoding: encoding of the text, as an IANA name such as ``"windows-1252"``.
        header: whether there is a header row, or the number of header rows.
        skip_rows: number of lines (in a workbook: rows) before the header or the first row.
        null_values: words for a missing value, in addition to an empty cell.
        decimal: the decimal separator of numbers.
        thousands: separates the groups of digits of numbers; one character.
        date_format: how dates and times are written, as a strftime pattern such as ``"%d/%m/%Y"``; one for all columns,
            or one for each named column.
        comment: begins a line that is no row; one character, or ``""`` for none.
        widths: widths of the columns of a fixed-width file, in characters.
        sheet: sheet of a workbook, or array in an object of JSON: its 0-based index or its name.
        types: column types by column name; see :data:`TYPES`.
    """

    delimiter: Annotated[str, Bounds(1, 16)] | None = None
    quote: Annotated[str, Bounds(0, 1)] | None = None
    escape: Annotated[str, Bounds(0, 1)] | None = None
    encoding: Annotated[str, Bounds(1, 64)] | None = None
    header: Header | None = None
    skip_rows: Annotated[int, Bounds(0, 1_000_000)] | None = None
    null_values: tuple[str, ...] | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Annotated[str, Bounds(1, 1)] | None = None
    date_format: DateFormat | None = None
    comment: Annotated[str, Bounds(0, 1)] | None = None
    widths: tuple[Annotated[int, Bounds(1, 10_000)], ...] | None = None
    sheet: ColumnRef | None = None
    types: dict[str, ColumnType] | None = None


@attrs.frozen(kw_only=True)
class Query:
    """The work on one file. The operations are applied in the order of the attributes.

    Attributes:
        filename: name of an uploaded file or an output.
        options: how to read the file; None detects everything.
        strict: whether it is an error if anything must be repaired or would be lost.
        selectedColumns: columns of the output, in this order; None selects all.
        cast: new column types, by the file's column names; all other operations see the new type.
        where: conditions, or lists of which one must hold; a row must meet all of them.
        group_by: columns to group by; they come first in the output.
        aggregate: what to compute for each group.
        distinct: whether to remove duplicate rows of the output; or the columns that decide which rows are
            duplicates. The first of the duplicates is kept.
        sort: sort keys, the most significant first.
        limit: maximum number of rows of the output.
        rename: new column names in the output; all other attributes use the old ones.
        preview: number of rows to include in the result.
        profile: whether to include a profile of each column.
    """

    filename: FileName
    options: Options | None = None
    strict: bool = False
    selectedColumns: Selection | None = None
    cast: dict[str, ColumnType] | None = None
    where: tuple[Clause, ...] | None = None
    group_by: tuple[ColumnRef, ...] | None = None
    aggregate: tuple[Aggregate, ...] | None = None
    distinct: DistinctBy | None = None
    sort: tuple[SortKey, ...] | None = None
    limit: Count | None = None
    rename: dict[str, Annotated[str, Bounds(1, MAX_NAME)]] | None = None
    preview: Annotated[int, Bounds(0, MAX_ROWS)] | None = None
    profile: bool = False


@attrs.frozen(kw_only=True)
class View:
    """Which rows of a table are shown, and in which order. The operations are applied in the order of the attributes.

    Attributes:
        where: conditions, as in a query; a row must meet all of them.
        find: text that a row must have in any of its cells, as a CSV shows them, in any case; an empty one is in all
            rows.
        sort: sort keys, the most significant first; rows that are equal keep their order.
    """

    where: tuple[Clause, ...] | None = None
    find: Annotated[str, Bounds(0, MAX_FIND)] | None = None
    sort: tuple[SortKey, ...] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all rows are shown as they are."""
        return not (self.where or self.sort or self.find)
