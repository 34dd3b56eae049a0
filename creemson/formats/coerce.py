"""Converts columns to requested types; cells that do not fit become null and are reported.

All formats but CSV convert with this module what ``options.types`` and ``options.null_values`` request, and
:mod:`creemson.engine.cast` uses it for the casts of a query. CSV has its own conversion in
:mod:`creemson.formats.csv.values.types`, which also infers how a file writes numbers and dates.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import polars as pl
import polars.selectors as cs

from creemson.errors import InvalidFormat
from creemson.formats.blocks import LINE
from creemson.formats.columns import unnamed
from creemson.formats.exact import has_finer_seconds, without_leap_seconds
from creemson.formats.nested import changes
from creemson.formats.report import Report
from creemson.formats.table import text_of
from creemson.formats.types import DTYPES, RULES, why_not
from creemson.model.query import TYPES, Options

__all__ = ["cast", "cast_frame", "check_types", "converted", "dtypes_of", "portable"]

_BOOLEANS = RULES["boolean"].requested_words


def check_types(name: str, columns: Collection[str], types: Mapping[str, str] | None) -> None:
    """Check that requested types exist, and that the file has the columns.

    Args:
        name: The file's name in messages.
        columns: Its columns.
        types: The requested types, by column.

    Raises:
        InvalidFormat: ``invalid_message`` or ``invalid_columns``.
    """
    known = frozenset(columns) if types else frozenset()
    for column, requested in (types or {}).items():
        if requested not in DTYPES:
            raise InvalidFormat(
                "invalid_message",
                f"There is no type {requested[:40]!r} to read a column as.",
                details=[f"$.options.types: {requested[:40]!r} is none of {', '.join(TYPES)}"],
            )
        if column not in known:
            some = ", ".join(map(repr, list(columns)[:10]))
            raise InvalidFormat(
                "invalid_columns",
                f"{name!r} has no column {column[:80]!r} to read as {requested}.",
                details=[f"$.options.types: {column[:80]!r} is none of {some}"],
            )


def dtypes_of(types: Mapping[str, str] | None) -> dict[str, pl.DataType]:
    """Return the polars types of requested types, by column."""
    return {column: DTYPES[requested] for column, requested in (types or {}).items()}


def cast(
    frame: pl.LazyFrame, options: Options | None, report: Report, *, line: str | None = None
) -> pl.LazyFrame:
    """Convert a frame to the requested types, batch by batch.

    Args:
        frame: The frame.
        options: ``null_values``, which become null first, and ``types``, checked by :func:`check_types`.
        report: Collects the cells that do not fit.
        line: The name of a column with each row's line number in the file; the column is removed. None if the row
            numbers are the line numbers.

    Returns:
        The converted frame; nothing has been read yet.
    """
    if options is None or not (options.types or options.null_values):
        return frame if line is None else frame.drop(line)
    dtypes = dtypes_of(options.types)
    line = line or LINE
    frame = frame if line in frame.collect_schema() else frame.with_row_index(line, 1)
    schema = frame.drop(line).collect_schema()
    return frame.map_batches(
        lambda batch: cast_frame(batch.drop(line), batch.get_column(line), options, report),
        schema=pl.Schema({column: dtypes.get(column, dtype) for column, dtype in schema.items()}),
        streamable=True,
        predicate_pushdown=False,
        projection_pushdown=False,
        slice_pushdown=False,
    )


def cast_frame(
    frame: pl.DataFrame, lines: Sequence[int] | pl.Series, options: Options, report: Report
) -> pl.DataFrame:
    """Convert rows in memory to the requested types.

    Args:
        frame: The rows.
        lines: The line of each row in the file.
        options: As for :func:`cast`.
        report: As for :func:`cast`.

    Returns:
        The converted rows.
    """
    if options.null_values:
        texts = cs.string() - cs.starts_with(text_of(""))
        frame = frame.with_columns(pl.when(~texts.is_in(list(options.null_values))).then(texts))
    columns = frozenset(frame.columns)
    for column, requested in (options.types or {}).items():
        if column not in columns:  # the query does not need it
            continue
        before = unnamed(frame.get_column(column))
        after = converted(before, DTYPES[requested])
        is_lost = after.is_null() & before.is_not_null()
        if is_lost.any():
            numbers = pl.Series(lines).filter(is_lost)
            for line, value in zip(numbers, before.filter(is_lost), strict=True):
                report.add(
                    "unparsable_cells", line=line, column=column, value=str(value), why=why_not(requested)
                )
        frame = frame.with_columns(after.alias(column))
    return frame


def converted(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Convert a column as a polars cast does, but never to a value with another meaning.

    Text may be a number, date, time or boolean, with spaces around it (:data:`~creemson.formats.types.RULES`). Only
    the numbers 1 and 0 become booleans; a fraction does not become an integer, and a number that is too large for the
    type does not become infinite.

    Args:
        column: A column of any type.
        dtype: One of :data:`~creemson.formats.types.DTYPES`, or a datetime with a time zone.

    Returns:
        The converted column, with null where a value does not fit the type.
    """
    if column.dtype == pl.String:
        text = column.str.strip_chars() if dtype != pl.String else column
        if dtype == pl.Boolean:
            return text.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
        if dtype.is_temporal():
            return _parse_temporal(text, dtype)
        return _without_overflow(text.cast(dtype, strict=False), text)
    if column.dtype.is_nested():
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_list()]
        return converted(pl.Series(column.name, texts, pl.String), dtype)
    if column.dtype == pl.Null:
        return pl.Series(column.name, [None] * len(column), dtype)
    if column.dtype.is_numeric() and dtype == pl.Boolean:
        is_one, is_zero = column == 1, column == 0
        return is_one.set(~(is_one | is_zero), None)
    if (column.dtype.is_float() or column.dtype.is_decimal()) and dtype.is_integer():
        return column.set(column.is_not_null() & (column != column.floor()), None).cast(dtype, strict=False)
    try:
        return _without_overflow(column.cast(dtype, strict=False), column)
    except pl.exceptions.InvalidOperationError:  # for example from a date to a boolean
        return pl.Series(column.name, [None] * len(column), dtype)


def _parse_temporal(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Parse dates and times in the notations of the rule; the first notation that fits a cell is used.

    A time with more digits than its type does not fit: polars would cut it. Nor does a leap second.
    """
    text = text.to_frame().select(without_leap_seconds(pl.first()).alias(text.name)).to_series()
    parsed_dtype = pl.Time() if dtype == pl.Time else pl.Datetime("us")
    parsed = pl.Series(text.name, [None], parsed_dtype).new_from_index(0, len(text))
    rule = "time" if dtype == pl.Time else "datetime" if isinstance(dtype, pl.Datetime) else "date"
    for notation in RULES[rule].notations:
        unparsed = (parsed.is_null() & text.is_not_null()).arg_true()
        if unparsed.is_empty():
            break
        parsed.scatter(unparsed, text.gather(unparsed).str.strptime(parsed_dtype, notation, strict=False))
    if rule != "date":  # which has no digits to lose
        parsed = parsed.set(has_finer_seconds(text, 9 if rule == "time" else 6), None)
    return parsed.cast(dtype)


def _without_overflow(result: pl.Series, column: pl.Series) -> pl.Series:
    """Replace infinite numbers in the result by null if the column has finite numbers, or text, in their place."""
    if not result.dtype.is_float() or not (is_infinite := result.is_infinite()).any():
        return result
    if column.dtype == pl.String:
        was_infinite = column.str.to_lowercase().str.contains("inf", literal=True)
    else:
        was_infinite = column.is_infinite()
    return result.set(is_infinite & ~was_infinite, None)


def portable(scan: Callable[[], pl.LazyFrame], schema: pl.Schema) -> Callable[[], pl.LazyFrame]:
    """Read types that other programs refuse as types that they know, also within lists and structs.

    Integers of 128 bits become decimals, or text if these are too short, structs without fields the text ``{}``, and
    extensions of Arrow (such as ``arrow.json``) what they are stored as.

    Args:
        scan: Returns the frame.
        schema: Its schema.
    """
    while stored := changes(schema, _stored):  # what is stored may be an extension, too
        scan = _with_columns(scan, stored.values())
        schema = scan().collect_schema()
    columns = changes(schema, partial(_portable, pl.Decimal(38, 0)))
    texts = changes(schema, partial(_portable, pl.String()))
    for name, text in texts.items():
        try:
            scan().select(columns[name].null_count()).collect(engine="streaming")
        except pl.exceptions.InvalidOperationError:
            columns[name] = text
    return _with_columns(scan, columns.values()) if columns else scan


def _with_columns(scan: Callable[[], pl.LazyFrame], columns: Iterable[pl.Expr]) -> Callable[[], pl.LazyFrame]:
    return lambda: scan().with_columns(columns)


def _stored(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if not isinstance(dtype, pl.BaseExtension):
        return None
    storage = column.ext.storage()
    return storage.cast(pl.Boolean) if dtype.ext_name() == "arrow.bool8" else storage


def _portable(wide: pl.DataType, column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if dtype in (pl.Int128, pl.UInt128):
        return column.cast(wide)
    return pl.when(column.is_not_null()).then(pl.lit("{}")) if isinstance(dtype, pl.Struct) else None
