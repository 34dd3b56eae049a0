"""Turns the conditions, aggregates and values of a query into polars expressions."""

import datetime
import re
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from decimal import MAX_EMAX, MIN_EMIN, ROUND_FLOOR, Context, Decimal, InvalidOperation
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import polars as pl

from creemson.errors import InvalidFormat
from creemson.formats.columns import exactly
from creemson.model.excerpt import MAX_EXCERPT, excerpt
from creemson.model.query import MAX_FIND, TEXT_OPERATORS, Condition

__all__ = [
    "MAX_INTEGER",
    "SHOWN_FUNCTIONS",
    "aggregate_expression",
    "condition_expression",
    "number_or_null",
    "text_of_value",
    "wide_sum",
]

MAX_INTEGER = 2**126
"""Integers beyond this are compared as floats; only the largest integers of 128 bits are affected."""

_EXACT = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Numbers of up to a thousand digits; more than any double has."""
_SCALES = {"ns": 0, "us": -3, "ms": -6}
"""The powers of ten with which nanoseconds become the units of a datetime."""
_MORE_DIGITS = re.compile(r"([^.]*\.\d{6})(\d+)(\D.*)?")
"""A datetime with more than six digits of seconds."""
_HOURS = re.compile(
    r"(?P<sign>-?)(?P<hours>\d{1,12}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)(?:\.(?P<fraction>\d{1,6}))?"
)
"""A duration as outputs show it."""


def number_or_null(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Replace NaN by null for comparisons and sorts: in polars, NaN equals itself and is greater than all numbers."""
    return column.fill_nan(None) if dtype.is_float() else column


def condition_expression(condition: Condition, name: str, dtype: pl.DataType, path: str) -> pl.Expr:
    """Return the expression that is true for the rows that a condition selects.

    Args:
        condition: The condition.
        name: The name of its column.
        dtype: The type of its column.
        path: Where the request has the condition (a JSON path), for errors.

    Raises:
        InvalidFormat: ``invalid_message``: the condition does not fit the column's type.
    """
    column, value, operator = exactly(name), condition.value, condition.operator
    if operator == "is_null":
        return column.is_null()
    if operator == "not_null":
        return column.is_not_null()
    if isinstance(dtype, (pl.Categorical, pl.Enum)):  # as text, not by the codes of the categories
        column, dtype = column.cast(pl.String), pl.String()
    if operator in TEXT_OPERATORS:
        if dtype != pl.String or not isinstance(value, str):
            raise _misfit(
                f"{path}: {operator} compares text with text; {name!r} is {dtype}, got {_shown(value)}"
            )
        return _text_comparison(column, operator, value, path)
    column = number_or_null(column, dtype)
    if operator in ("in", "not_in"):
        literals = [
            _typed_literal(item, dtype, name, f"{path}[2][{index}]") for index, item in enumerate(value)
        ]
        is_in = _is_in(column, dtype, literals)
        return is_in if operator == "in" else ~is_in
    typed = _typed_literal(value, dtype, name, f"{path}[2]")
    if isinstance(typed, Decimal):
        return _compared(column, operator, typed, dtype)
    literal = pl.lit(typed)
    return _COMPARISONS[operator](column, literal)


def _text_comparison(column: pl.Expr, operator: str, value: str, path: str) -> pl.Expr:
    """Compare text with text; upper and lower case as in :mod:`creemson.engine.windows.find`."""
    match operator:
        case "contains":
            return column.str.contains(value, literal=True)
        case "starts_with":
            return column.str.starts_with(value)
        case "ends_with":
            return column.str.ends_with(value)
    if len(value) > MAX_FIND:  # it becomes a pattern, whose size is limited
        raise _misfit(f"{path}: {operator} takes texts of up to {MAX_FIND} characters, got {len(value)}")
    begin = "" if operator in ("icontains", "iends_with") else "^"
    end = "" if operator in ("icontains", "istarts_with") else "$"
    return column.str.contains(f"(?i){begin}{pl.escape_regex(value)}{end}")


_COMPARISONS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "==": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}


def _compared(column: pl.Expr, operator: str, value: Decimal, dtype: pl.DataType) -> pl.Expr:
    """Compare decimals or datetimes with a number of any size and digits, exactly; polars would round some.

    Args:
        column: The column.
        operator: The operator.
        value: The number, or the nanoseconds since 1970.
        dtype: The type of the column.
    """
    if isinstance(dtype, pl.Decimal):
        highest, scaled = Decimal(10) ** dtype.precision, value.scaleb(dtype.scale, _EXACT)
    else:
        assert isinstance(dtype, pl.Datetime)
        highest, scaled = Decimal(2**63), value.scaleb(_SCALES[dtype.time_unit], _EXACT)
    if not -highest < scaled < highest:
        is_true = operator == "!=" or operator[0] == ("<" if scaled > 0 else ">")
        return pl.when(column.is_not_null()).then(pl.lit(is_true))
    whole = scaled.to_integral_value(ROUND_FLOOR, _EXACT)
    if whole != scaled:  # between two values of the column's type
        if operator in ("==", "!="):
            return pl.when(column.is_not_null()).then(pl.lit(operator == "!="))
        operator = "<=" if operator[0] == "<" else ">"
    if isinstance(dtype, pl.Decimal):
        literal = pl.lit(whole.scaleb(-dtype.scale, _EXACT), dtype=dtype)
    else:
        literal = pl.lit(int(whole), dtype=pl.Int64).cast(dtype)
    return _COMPARISONS[operator](column, literal)


def aggregate_expression(function: str, name: str, dtype: pl.DataType, path: str) -> pl.Expr:
    """Return the expression of an aggregate.

    Args:
        function: One of :data:`creemson.model.query.FUNCTIONS`.
        name: The name of the column.
        dtype: The type of the column.
        path: Where the request has the aggregate (a JSON path), for errors.

    Raises:
        InvalidFormat: ``invalid_message``: the function does not fit the column's type.
    """
    if function in _NUMERIC_FUNCTIONS and not (dtype.is_numeric() or dtype == pl.Boolean):
        raise _misfit(f"{path}: {function} needs numbers, and {name!r} is {dtype}")
    if function in _ORDERED_FUNCTIONS and dtype.is_nested():
        raise _misfit(f"{path}: {function} needs values that have an order, and {name!r} is {dtype}")
    column = exactly(name)
    return _sum(column, dtype) if function == "sum" else _FUNCTIONS[function](column)


def _sum(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The sum of a column: of integers in 64 bits, or an error if it needs more; polars would start anew at zero."""
    total = wide_sum(column, dtype)
    return total.cast(dtype) if dtype in (pl.Int64, pl.UInt64) else total


def wide_sum(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return the sum of a column, in a type that holds each sum of up to 2**32 of its values if they are integers."""
    if not dtype.is_integer():
        return column.sum()
    # 2 ms more of CPU time for a million rows in 128 bits
    return column.cast(pl.Int128 if dtype in (pl.Int64, pl.UInt64) else pl.Int64).sum()


SHOWN_FUNCTIONS = frozenset({"first", "last", "min", "max"})
"""The aggregates whose value is that of a cell."""


def text_of_value(text: pl.Expr, value: pl.Expr, function: str) -> pl.Expr:
    """Return the text of the cell from which an aggregate takes its value.

    Args:
        text: The texts of the cells.
        value: Their values.
        function: One of :data:`SHOWN_FUNCTIONS`.
    """
    match function:
        case "min":
            return text.filter(value == value.min()).first()  # min_by would take any of equal values
        case "max":
            return text.filter(value == value.max()).first()
        case "last":
            return text.last()
    return text.first()


_NUMERIC_FUNCTIONS = frozenset({"sum", "mean", "median", "std"})
_ORDERED_FUNCTIONS = frozenset({"min", "max"})
_FUNCTIONS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "count": pl.Expr.count,
    "mean": pl.Expr.mean,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "median": pl.Expr.median,
    "std": pl.Expr.std,
    "first": pl.Expr.first,
    "last": pl.Expr.last,
    "n_unique": pl.Expr.n_unique,
}


def _is_in(column: pl.Expr, dtype: pl.DataType, values: list[Any]) -> pl.Expr:
    """Whether a column is one of some values; null where it is null, as for the other comparisons."""
    if dtype.is_decimal() or any(isinstance(value, Decimal) for value in values):  # a series would round some
        equal = [_compared(column, "==", value, dtype) for value in values]
        return pl.any_horizontal(pl.when(column.is_not_null()).then(pl.lit(value=False)), *equal)
    if dtype.is_integer():  # values outside of the column's range are equal to none of its cells
        integers = pl.Series([value for value in values if isinstance(value, int)], dtype=pl.Int128)
        series = integers.cast(dtype, strict=False).drop_nulls()
    # Python's values have microseconds, and a longer range.
    elif isinstance(dtype, (pl.Datetime, pl.Duration)):
        zone = {"time_zone": dtype.time_zone} if isinstance(dtype, pl.Datetime) else {}
        exact = pl.Series(values, dtype=type(dtype)("us", **zone))
        series = exact.cast(dtype, strict=False)
        series = series.filter(series.cast(exact.dtype) == exact)
    else:
        series = pl.Series(values, dtype=dtype)
    is_in = column.is_in(series.implode())
    if series.is_empty() or dtype == pl.Boolean:
        return is_in
    # A scan skips row groups by their statistics. For this it needs bounds: it does not examine the list.
    minimum, maximum = (pl.lit(bound, dtype=series.dtype) for bound in (series.min(), series.max()))
    return (column >= minimum) & (column <= maximum) & is_in


def _typed_literal(value: Any, dtype: pl.DataType, name: str, path: str) -> Any:
    """Convert a value of the request to one that the column can be compared with."""
    if value is None:
        hint = "Use is_null or not_null."
        raise _misfit(f"{path}: {name!r} is {dtype}, which cannot be compared with null. {hint}")
    if dtype.is_temporal():
        try:
            if isinstance(dtype, pl.Datetime) and (dtype.time_unit == "ns" or _MORE_DIGITS.match(str(value))):
                return _nanoseconds(value, dtype)
            return _TEMPORAL[dtype.base_type()](value, dtype)
        # OverflowError: the year 1 in a time zone where it is the year 0.
        except (TypeError, ValueError, OverflowError):
            hint = "27:15:00, or as a number of seconds" if dtype == pl.Duration else "ISO 8601 text"
            raise _misfit(
                f"{path}: {name!r} is {dtype}, and {_shown(value)} is not. Write it as {hint}"
                + (" without an offset" if dtype in (pl.Datetime(), pl.Time) else "")
            ) from None
    if isinstance(dtype, pl.Decimal):
        return _decimal(value, dtype, name, path)
    if isinstance(value, bool):
        fits = dtype == pl.Boolean
    elif isinstance(value, (int, float)):
        fits = dtype.is_numeric()
        if dtype.is_integer() and abs(value) < MAX_INTEGER and value == int(value):
            value = int(value)  # 5.0 is 5, so that large integers are not compared as floats
    else:
        fits = isinstance(value, str) and dtype == pl.String
    if not fits:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        hint = " Write it in quotes, as text." if dtype == pl.String and is_number else ""
        raise _misfit(f"{path}: {name!r} is {dtype}, which cannot be compared with {_shown(value)}.{hint}")
    return value


def _shown(value: Any) -> str:
    """Return a value of the request for a message: text in single quotes, all else as JSON; cut if it is long."""
    return repr(value[:MAX_EXCERPT]) if isinstance(value, str) else excerpt(value)


def _decimal(value: Any, dtype: pl.Decimal, name: str, path: str) -> Decimal:
    """The decimal of a number, or of text, as the protocol shows decimals; a float has the digits of its text."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(InvalidOperation):
            number = _EXACT.create_decimal(value.strip() if isinstance(value, str) else repr(value))
            if number.is_finite():
                return number
    raise _misfit(f"{path}: {name!r} is {dtype}, which cannot be compared with {_shown(value)}.")


def _datetime(text: str, dtype: pl.Datetime) -> datetime.datetime:
    """Parse a datetime; without an offset, it is in the column's time zone; with one, the column must have a zone."""
    value = datetime.datetime.fromisoformat(text)
    if dtype.time_zone is not None:
        zone = zoneinfo.ZoneInfo(dtype.time_zone)
        return value.astimezone(zone) if value.tzinfo else value.replace(tzinfo=zone)
    if value.tzinfo is not None:
        raise ValueError(text)
    return value


def _nanoseconds(text: str, dtype: pl.Datetime) -> Decimal:
    """The nanoseconds between 1970 and a datetime, which Python would cut to microseconds."""
    more = _MORE_DIGITS.match(text)
    value = _datetime(text if more is None else more[1] + (more[3] or ""), dtype)
    since = value - datetime.datetime(1970, 1, 1, tzinfo=value.tzinfo and datetime.UTC)
    digits = Decimal(f"0.{more[2][:100]}") if more is not None else Decimal(0)
    return (since // datetime.timedelta(microseconds=1) + digits) * 1000


def _time(text: str, _dtype: pl.DataType) -> datetime.time:
    value = datetime.time.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError(text)
    return value


def _duration(value: float | str, _dtype: pl.DataType) -> datetime.timedelta:
    """The duration of a number of seconds, or of hours, minutes and seconds, as outputs show it."""
    if isinstance(value, bool):
        raise TypeError(value)
    try:
        if not isinstance(value, str):
            return datetime.timedelta(seconds=value)
        parts = _HOURS.fullmatch(value.strip())
        if parts is None:
            raise ValueError(value)
        length = datetime.timedelta(
            hours=int(parts["hours"]), minutes=int(parts["minutes"]), seconds=int(parts["seconds"]),
            microseconds=int((parts["fraction"] or "").ljust(6, "0")),
        )  # fmt: skip
    except OverflowError as error:
        raise ValueError(value) from error
    return -length if parts["sign"] else length


_TEMPORAL: dict[Any, Callable[[Any, Any], Any]] = {
    pl.Date: lambda text, _dtype: datetime.date.fromisoformat(text),
    pl.Datetime: _datetime,
    pl.Time: _time,
    pl.Duration: _duration,
}


def _misfit(detail: str) -> InvalidFormat:
    return InvalidFormat("invalid_message", f"The request does not fit the file: {detail}", details=[detail])
