"""Columns as the types that somebody asked for; cells that do not fit become null, and are told."""

import json
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import polars as pl
import polars.selectors as cs

from creemson.errors import InvalidFormat
from creemson.processing.issues import Report
from creemson.processing.naming import unnamed
from creemson.wire.messages import TYPES, Options

__all__ = ["DTYPES", "LINE", "cast", "cast_frame", "check_types", "converted", "dtypes_of"]

DTYPES: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "int8": pl.Int8(),
        "int16": pl.Int16(),
        "int32": pl.Int32(),
        "int64": pl.Int64(),
        "uint8": pl.UInt8(),
        "uint16": pl.UInt16(),
        "uint32": pl.UInt32(),
        "uint64": pl.UInt64(),
        "float32": pl.Float32(),
        "float64": pl.Float64(),
        "boolean": pl.Boolean(),
        "string": pl.String(),
        "date": pl.Date(),
        "datetime": pl.Datetime("us"),
        "time": pl.Time(),
    }
)
"""What the names of :data:`~creemson.wire.messages.TYPES` are in polars."""
assert tuple(DTYPES) == TYPES
LINE = "\x00line"
"""A column beside the file's own, for a moment."""
DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")
STAMPS = tuple(
    f"{day}{between}{time}"
    for day in DAYS
    for between in ("T", " ")
    for time in ("%H:%M:%S%.f", "%H:%M:%S%.fZ", "%H:%M")
)
TIMES = ("%H:%M:%S%.f", "%H:%M")
"""How dates and times are written; with days and months in the order of the US nobody could tell them apart."""
TRUTHS = MappingProxyType({"true": True, "false": False, "1": True, "0": False})


def check_types(name: str, columns: Collection[str], types: Mapping[str, str] | None) -> None:
    """Whether the types that somebody asked for are types, of columns that are there.

    Args:
        name: what to call the file.
        columns: its columns.
        types: by column.

    Raises:
        InvalidFormat: ``invalid_message`` or ``invalid_columns``.
    """
    for column, wanted in (types or {}).items():
        if wanted not in DTYPES:
            raise InvalidFormat(
                "invalid_message",
                f"There is no type {wanted[:40]!r} to read a column as.",
                details=[f"$.options.types: {wanted[:40]!r} is none of {', '.join(TYPES)}"],
            )
        if column not in columns:
            some = ", ".join(map(repr, list(columns)[:10]))
            raise InvalidFormat(
                "invalid_columns",
                f"{name!r} has no column {column[:80]!r} to read as {wanted}.",
                details=[f"$.options.types: {column[:80]!r} is none of {some}"],
            )


def dtypes_of(types: Mapping[str, str] | None) -> dict[str, pl.DataType]:
    """The types as polars has them."""
    return {column: DTYPES[wanted] for column, wanted in (types or {}).items()}


def cast(
    frame: pl.LazyFrame, options: Options | None, report: Report, *, line: str | None = None
) -> pl.LazyFrame:
    """A frame whose columns have the types that were asked for, batch by batch.

    Args:
        frame: as it was read.
        options: ``null_values``, which are taken out first, and ``types``, checked by :func:`check_types`.
        report: is told of each cell that does not fit; null stands for it.
        line: a column that has the lines of the file, which is taken out; None for the numbers of the rows.

    Returns:
        The frame; nothing has been read yet.
    """
    if options is None or not (options.types or options.null_values):
        return frame if line is None else frame.drop(line)
    wanted = dtypes_of(options.types)
    line = line or LINE
    frame = frame if line in frame.collect_schema() else frame.with_row_index(line, 1)
    schema = frame.drop(line).collect_schema()
    made = pl.Schema({column: wanted.get(column, dtype) for column, dtype in schema.items()})
    return frame.map_batches(
        lambda batch: cast_frame(batch.drop(line), batch.get_column(line), options, report),
        schema=made,
        streamable=True,
        predicate_pushdown=False,
        projection_pushdown=False,
        slice_pushdown=False,
    )


def cast_frame(
    frame: pl.DataFrame, lines: Sequence[int] | pl.Series, options: Options, report: Report
) -> pl.DataFrame:
    """The same for rows in memory.

    Args:
        frame: the rows.
        lines: the line of the file for each row.
        options: as above.
        report: as above.

    Returns:
        The frame with other types.
    """
    if options.null_values:
        texts = cs.string()
        frame = frame.with_columns(pl.when(~texts.is_in(list(options.null_values))).then(texts))
    for column, wanted in (options.types or {}).items():
        if column not in frame.columns:  # not asked for
            continue
        before = unnamed(frame.get_column(column))
        after = converted(before, DTYPES[wanted])
        lost = after.is_null() & before.is_not_null()
        if lost.any():
            numbers = pl.Series(lines).filter(lost)
            for line, value in zip(numbers, before.filter(lost), strict=True):
                why = f"not of the type {wanted}"
                report.add("unparsable_cells", line=line, column=column, value=str(value), why=why)
        frame = frame.with_columns(after.alias(column))
    return frame


def _moments(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Dates and times in the ways in which they are mostly written; the first that fits a cell counts."""
    kind = pl.Time() if dtype == pl.Time else pl.Datetime("us")
    made = pl.Series(text.name, [None], kind).new_from_index(0, len(text))
    forms = {pl.Time: TIMES, pl.Datetime: (*STAMPS, *DAYS)}.get(dtype.base_type(), (*DAYS, *STAMPS))
    for form in forms:
        places = (made.is_null() & text.is_not_null()).arg_true()
        if places.is_empty():
            break
        made.scatter(places, text.gather(places).str.strptime(kind, form, strict=False))
    return made.cast(dtype)


def converted(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """A column as another type: as polars casts, but nothing is made of what is none of that type.

    Text may be a number, date, time or truth value, with blanks around it; of numbers, only 1 and 0 are truth
    values, a fraction is no whole number, and what is too large for its type is not infinite.

    Args:
        column: whatever it holds.
        dtype: of :data:`DTYPES`, or a time zone with it.

    Returns:
        The column, with null where a value is none of the type.
    """
    if column.dtype == pl.String:
        text = column.str.strip_chars() if dtype != pl.String else column
        if dtype == pl.Boolean:
            return text.str.to_lowercase().replace_strict(TRUTHS, default=None, return_dtype=pl.Boolean)
        if dtype.is_temporal():
            return _moments(text, dtype)
        return _finite(text.cast(dtype, strict=False), text)
    if column.dtype.is_nested():
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_list()]
        return converted(pl.Series(column.name, texts, pl.String), dtype)
    if column.dtype == pl.Null:
        return pl.Series(column.name, [None] * len(column), dtype)
    if column.dtype.is_numeric() and dtype == pl.Boolean:
        yes, no = column == 1, column == 0
        return yes.set(~(yes | no), None)
    if (column.dtype.is_float() or column.dtype.is_decimal()) and dtype.is_integer():
        return column.set(column.is_not_null() & (column != column.floor()), None).cast(dtype, strict=False)
    try:
        return _finite(column.cast(dtype, strict=False), column)
    except pl.exceptions.InvalidOperationError:  # there is no way from a date to a truth value
        return pl.Series(column.name, [None] * len(column), dtype)


def _finite(made: pl.Series, column: pl.Series) -> pl.Series:
    """Without the infinite numbers that were made of numbers, or texts, that were only too large."""
    if not made.dtype.is_float() or not (infinite := made.is_infinite()).any():
        return made
    text = column.dtype == pl.String
    meant = column.str.to_lowercase().str.contains("inf", literal=True) if text else column.is_infinite()
    return made.set(infinite & ~meant, None)
