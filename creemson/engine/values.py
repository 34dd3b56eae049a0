"""Turns cells of a table into JSON values."""

import base64
import datetime
import math
from typing import Any

import polars as pl

__all__ = ["representable", "to_json", "with_nanoseconds"]

_INT64 = 2**63


def to_json(value: Any) -> Any:
    """Return a cell as a value that JSON has.

    Args:
        value: A cell as polars returns it.

    Returns:
        Dates and times as ISO 8601 text, durations in seconds, decimals and integers of more than 64 bits as text,
        bytes in base64, NaN and infinity as None.

    >>> import decimal
    >>> to_json(datetime.date(2024, 5, 1)), to_json(float("nan")), to_json(decimal.Decimal("1.50"))
    ('2024-05-01', None, '1.50')
    """
    match value:
        case None | str() | bool():
            return value
        case float():
            return value if math.isfinite(value) else None
        case int():
            return value if -_INT64 <= value < _INT64 else str(value)
        case datetime.date() | datetime.time():  # a datetime is a date
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [to_json(item) for item in value]
        case dict():
            return {str(key): to_json(item) for key, item in value.items()}
        case pl.Series():
            return [to_json(item) for item in value.to_list()]
        case _:
            return str(value)


def representable(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Replace what Python cannot represent by null: dates before the year 1 or after 9999, and longer durations.

    Args:
        column: A column of any type.
        dtype: Its type.
    """
    if dtype == pl.Date:
        return pl.when(column.is_between(datetime.date.min, datetime.date.max)).then(column)
    if isinstance(dtype, pl.Datetime):
        years = column.dt.replace_time_zone(None).dt.year() if dtype.time_zone else column.dt.year()
        # One year less at both ends if a time zone may shift a datetime out of the range.
        margin = 0 if dtype.time_zone in (None, "UTC") else 1
        return pl.when(years.is_between(1 + margin, 9999 - margin)).then(column)
    if isinstance(dtype, pl.Duration) and dtype.time_unit == "ms":
        return pl.when(column.dt.total_days().abs() < datetime.timedelta.max.days).then(column)
    return column


def with_nanoseconds(column: pl.Series) -> pl.Series:
    """Replace datetimes and times by ISO 8601 text if Python, which has microseconds, would cut some of them.

    Args:
        column: A column of any type.
    """
    dtype = column.dtype
    if dtype != pl.Time and not (isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns"):
        return column
    values = column.alias("")  # some methods of a series interpret a name such as "^a$" as a pattern
    if not (values.to_physical() % 1000 != 0).any():
        return column
    zone = "%:z" if isinstance(dtype, pl.Datetime) and dtype.time_zone else ""
    notation = "%H:%M:%S%.f" if dtype == pl.Time else f"%Y-%m-%dT%H:%M:%S%.f{zone}"
    return values.dt.to_string(notation).alias(column.name)
