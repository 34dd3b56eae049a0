"""Decides how Excel stores the values of a column: as numbers in a number format, or as texts if a number loses some.

Excel has numbers of 15 digits, and dates from 1900-03-01 (it has a 1900-02-29, which did not exist) to 9999-12-31.
"""

import functools

import attrs
import polars as pl

from creemson.engine.export.durations import duration_text, time_text
from creemson.engine.export.xlsx.package import GENERAL

__all__ = ["Cells", "cells_of"]

_DIGITS = 15
"""Digits of a number that Excel keeps."""
_LEAST = 2.2250738585072014e-308
"""The least positive number of Excel, which has no subnormal numbers."""
_MAX_SCALE = 30
"""Maximum number of digits after the point in a number format."""
_DAY_1970 = 25_569
"""1970-01-01 as a number of Excel: days since 1899-12-30."""
_FIRST_DAY, _LAST_DAY = 61, 2_958_465
"""1900-03-01 and 9999-12-31."""
_CALENDAR_DAYS = 95_000_000
"""Days from 1970-01-01 that polars can write as a date: 260,000 years."""
_MICROSECOND_DAYS, _NANOSECOND_DAYS = 65_536, 64
"""Days below which a double keeps microseconds and nanoseconds. It keeps the milliseconds of all days of Excel."""
_DAY = {"ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
"""The units of a day."""
_FLOAT_WIDTH = 12
"""Characters of a fraction in the format ``General``, which shows up to ten digits."""


@attrs.frozen
class Cells:
    """How the cells of a column are stored.

    Attributes:
        text: The values as texts.
        number: The values as Excel's numbers; None if all cells are texts.
        fits: Whether Excel keeps the value as a number; None if it keeps all.
        number_format: How Excel shows the numbers.
        kind: The type of the numbers' cells: ``n`` (number) or ``b`` (boolean).
        has_fraction: Whether any value has a fraction of a second, which the format then shows; None for other types.
        width: The characters of the widest value.
    """

    text: pl.Expr
    width: pl.Expr
    number: pl.Expr | None = None
    fits: pl.Expr | None = None
    number_format: str = GENERAL
    kind: str = "n"
    has_fraction: pl.Expr | None = None


def cells_of(column: pl.Expr, dtype: pl.DataType) -> Cells:
    """Return how the values of a column are stored.

    Args:
        column: The column.
        dtype: Its type; nested and binary values must be texts already.
    """
    text = column.cast(pl.String)
    if dtype == pl.Boolean:
        return Cells(text, width=pl.lit(5), number=column.cast(pl.Int8).cast(pl.String), kind="b")
    if dtype.is_integer():
        return Cells(
            text, width=_widest(column), number=text, fits=_few_digits(column, dtype), number_format="0"
        )
    if isinstance(dtype, pl.Decimal):
        return _decimals(column, dtype)
    if dtype.is_float():
        # NaN and infinity are no numbers in Excel.
        fits = column.is_finite() & ((column.abs() >= _LEAST) | (column == 0))
        return Cells(text, width=pl.lit(_FLOAT_WIDTH), number=text, fits=fits)
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return _moments(column, dtype)
    if dtype == pl.Time:
        return _spans(column, "ns", time_text(column), "hh:mm:ss")
    if isinstance(dtype, pl.Duration):
        return _spans(column, dtype.time_unit, duration_text(column, dtype), "[h]:mm:ss")
    # A wide character has three bytes in UTF-8.
    width = pl.max_horizontal(text.str.len_chars(), text.str.len_bytes() - text.str.len_chars()).max()
    return Cells(text, width=width)


def _few_digits(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """Whether integers have at most 15 digits; None if all of the type have."""
    least, largest = _ends(dtype)
    most = 10**_DIGITS - 1
    if largest <= most:
        return None
    # Literals of the same type, because polars would convert UInt128 to Int128.
    return column.is_between(pl.lit(max(-most, least), dtype), pl.lit(most, dtype))


@functools.cache
def _ends(dtype: pl.DataType) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    least, largest = pl.select(least=dtype.min(), largest=dtype.max()).row(0)  # type: ignore[attr-defined]
    return least, largest


def _widest(column: pl.Expr) -> pl.Expr:
    """The characters of the widest number."""
    ends = (end.cast(pl.String).str.len_chars() for end in (column.min(), column.max()))
    return pl.max_horizontal(*ends)


def _decimals(column: pl.Expr, dtype: pl.Decimal) -> Cells:
    """Decimals have as many digits after the point as their type says; zeros at the end are none to lose."""
    text = column.cast(pl.String)
    digits = text.str.strip_chars_end("0").str.strip_chars_end(".") if dtype.scale else text
    fits = digits.str.replace_all(r"^-?[0.]*|\.", "").str.len_bytes() <= _DIGITS
    shown = "0" + ("." + "0" * dtype.scale if dtype.scale else "")
    return Cells(
        text,
        width=_widest(column),
        number=text,
        fits=None if dtype.precision <= _DIGITS else fits,
        number_format=shown if dtype.scale <= _MAX_SCALE else GENERAL,
    )


def _moments(column: pl.Expr, dtype: pl.DataType) -> Cells:
    """Dates and datetimes; Excel has no time zones, so that local time is kept."""
    unit = dtype.time_unit if isinstance(dtype, pl.Datetime) else None
    in_day = _DAY[unit] if unit else 1
    utc = column.to_physical()
    # Beyond these days, polars panics when it converts them.
    local: pl.Expr = pl.when((utc // in_day).abs() <= _CALENDAR_DAYS).then(column)
    if unit:
        local = local.dt.replace_time_zone(None)
    text = local.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" if unit else "%Y-%m-%d")
    units = local.to_physical()
    days, rest = units // in_day + _DAY_1970, units % in_day
    fits = days.is_between(_FIRST_DAY, _LAST_DAY)
    return Cells(
        pl.coalesce(text, pl.format("{} {} since 1970-01-01", utc, pl.lit(unit or "days"))),
        width=pl.lit(19 if unit else 10),
        number=_serial(days, rest, unit) if unit else days.cast(pl.String),
        fits=(fits & _is_kept(days, rest, unit) if unit else fits).fill_null(column.is_null()),
        number_format="yyyy-mm-dd hh:mm:ss" if unit else "yyyy-mm-dd",
        has_fraction=_has_fraction(rest, unit) if unit else None,
    )


def _spans(column: pl.Expr, unit: str, text: pl.Expr, number_format: str) -> Cells:
    """Times of day and durations; Excel does not show negative ones."""
    units = column.to_physical()
    days, rest = units // _DAY[unit], units % _DAY[unit]
    return Cells(
        text,
        width=text.str.len_chars().max(),
        number=_serial(days, rest, unit),
        fits=days.is_between(0, _LAST_DAY) & _is_kept(days, rest, unit),
        number_format=number_format,
        has_fraction=_has_fraction(rest, unit),
    )


def _serial(days: pl.Expr, rest: pl.Expr, unit: str) -> pl.Expr:
    """Days and a fraction of a day as a number of Excel."""
    return (days.cast(pl.Float64) + rest / _DAY[unit]).cast(pl.String)


def _is_kept(days: pl.Expr, rest: pl.Expr, unit: str) -> pl.Expr:
    """Whether a double keeps the digits of a time after the second."""
    if unit == "ms":
        return pl.lit(value=True)
    if unit == "us":
        return (days < _MICROSECOND_DAYS) | (rest % 10**3 == 0)
    return (
        (days < _NANOSECOND_DAYS) | ((days < _MICROSECOND_DAYS) & (rest % 10**3 == 0)) | (rest % 10**6 == 0)
    )


def _has_fraction(rest: pl.Expr, unit: str) -> pl.Expr:
    return (rest % (_DAY[unit] // 86_400) != 0).any()
