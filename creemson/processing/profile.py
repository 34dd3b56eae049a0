"""What the columns of a stored output hold: a few figures and a small picture of each."""

import base64
import datetime
import itertools
import math
from collections.abc import Callable
from typing import Any

import polars as pl

from creemson.processing.tables import exactly
from creemson.wire.messages import ColumnProfile, Histogram

__all__ = ["cell", "profile_of", "sayable"]

BINS = 20
TOP = 10
PROBABILITIES = (0.25, 0.5, 0.75)
_INT64 = 2**63


def cell(value: Any) -> Any:
    """A value as JSON can say it.

    Args:
        value: as polars gives it.

    Returns:
        Dates and times as ISO 8601 text, durations in seconds, decimals and huge integers as text, bytes
        in base64; what is no number as None.

    >>> import decimal
    >>> cell(datetime.date(2024, 5, 1)), cell(float("nan")), cell(decimal.Decimal("1.50"))
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
            return [cell(item) for item in value]
        case dict():
            return {str(key): cell(item) for key, item in value.items()}
        case pl.Series():
            return [cell(item) for item in value.to_list()]
        case _:
            return str(value)


def sayable(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A column without the days that Python's calendar does not have: before the year 1, after 9999.

    Args:
        column: whatever it holds.
        dtype: its type.

    Returns:
        The column with null in their place.
    """
    if dtype == pl.Date:
        return pl.when(column.is_between(datetime.date.min, datetime.date.max)).then(column)
    if isinstance(dtype, pl.Datetime):
        # A day off either end, for what a time zone adds or takes.
        years = column.dt.replace_time_zone(None).dt.year() if dtype.time_zone else column.dt.year()
        return pl.when(years.is_between(2, 9998)).then(column)
    return column


def profile_of(output: pl.LazyFrame, *, check: Callable[[], None]) -> tuple[ColumnProfile, ...]:
    """Describe each column, one at a time, so that no more than one is in memory.

    Args:
        output: the stored output.
        check: is called between columns; what it raises is raised again.

    Returns:
        One description per column.
    """
    described = []
    for name, dtype in output.collect_schema().items():
        check()
        described.append(_profile(name, output.select(exactly(name)).collect().to_series(), dtype))
    return tuple(described)


def _profile(name: str, column: pl.Series, dtype: pl.DataType) -> ColumnProfile:
    column = column.alias("values")  # some methods of a series fall for a name that looks like a pattern
    figures: dict[str, Any] = {
        "column": name,
        "dtype": str(dtype),
        "nulls": column.null_count(),
        "min": None,
        "max": None,
        "mean": None,
        "std": None,
        "quantiles": None,
        "distinct": None,
    }
    if dtype.is_nested() or dtype in (pl.Object, pl.Null, pl.Binary):
        return ColumnProfile(**figures)
    values = column.drop_nulls()
    figures["distinct"] = values.approx_n_unique()
    if dtype.is_float():
        values = values.filter(values.is_finite())
    if dtype.is_temporal():
        values = values.to_frame().select(sayable(pl.col("values"), dtype)).to_series().drop_nulls()
    if dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.is_empty():
        return ColumnProfile(**figures)
    figures["min"], figures["max"] = cell(values.min()), cell(values.max())
    if dtype.is_numeric():
        figures["mean"], figures["std"] = _finite(values.mean()), _finite(values.std())
    if dtype.is_numeric() or dtype.is_temporal():
        ordered = values.sort()
        last = len(ordered) - 1
        figures["quantiles"] = {str(share): cell(ordered[round(share * last)]) for share in PROBABILITIES}
        return ColumnProfile(**figures, histogram=_histogram(ordered))
    counts = values.value_counts(sort=True, name="times").sort("times", "values", descending=[True, False])
    top = tuple((cell(value), times) for value, times in counts.head(TOP).iter_rows())
    return ColumnProfile(**figures, top=top)


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _histogram(ordered: pl.Series) -> Histogram:
    """Equal bins from the least to the greatest value, the last one with its upper edge."""
    dtype = ordered.dtype
    numbers = ordered.cast(pl.Float64) if dtype.is_numeric() else ordered.to_physical().cast(pl.Float64)
    low, high = numbers[0], numbers[-1]
    bins = BINS if high > low else 1
    scale = 2.0**-64  # a power of two changes no digit, and keeps the largest floats from overflowing
    inner = [(low * scale * (bins - step) + high * scale * step) / bins / scale for step in range(1, bins)]
    edges = [low, *inner, high]
    below = [0, *(numbers.search_sorted(edge, side="left") for edge in edges[1:-1]), len(numbers)]
    counts = tuple(int(after - before) for before, after in itertools.pairwise(below))
    if dtype.is_numeric():
        return Histogram(edges=tuple(map(cell, edges)), counts=counts)
    physical = pl.Series(edges).round().cast(ordered.to_physical().dtype)
    return Histogram(edges=tuple(map(cell, physical.cast(dtype))), counts=counts)
