"""What the columns of a stored output hold: a few figures and a small picture of each."""

import base64
import datetime
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from creemson.processing.tables import exactly
from creemson.wire.messages import ColumnProfile, Histogram

__all__ = ["cell", "profile_of", "sayable"]

BINS = 20
TOP = 10
PROBABILITIES = (0.25, 0.5, 0.75)
INTERVAL = 0.1
"""Seconds between two checks while one column takes long."""
GROUP_CELLS = 2**20
GROUP_BYTES = 2**26
"""What is read together, of columns that are as large as those before them."""
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
    """A column without what Python's calendar does not have: days before the year 1 and after 9999, longer durations.

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
    if isinstance(dtype, pl.Duration) and dtype.time_unit == "ms":
        return pl.when(column.dt.total_days().abs() < datetime.timedelta.max.days).then(column)
    return column


def profile_of(output: pl.LazyFrame, *, check: Callable[[], None]) -> tuple[ColumnProfile, ...]:
    """Describe each column; as many are in memory at a time as one large one takes.

    Args:
        output: the stored output.
        check: is called between columns and, while one takes long, from another thread; what it raises ends
            the profile and is raised again.

    Returns:
        One description per column.
    """
    names = output.collect_schema().names()
    described: list[ColumnProfile] = []
    width = 1
    with _watched(check) as step:
        while len(described) < len(names):
            step()
            group = names[len(described) : len(described) + width]
            found, width = _profiles(output.select(map(exactly, group)), step)
            described += found
    return tuple(described)


@contextmanager
def _watched(check: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """What is to be called between two steps; in a long one, a thread calls the check."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def watch() -> None:
        while not ended.wait(INTERVAL):
            try:
                check()
            except BaseException as error:  # it is raised where somebody waits for it
                raised.append(error)
                return

    def step() -> None:
        if raised:
            raise raised[0]
        check()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield step
    finally:
        ended.set()
        watcher.join()
    if raised:  # while the last step was under way
        raise raised[0]


def _profiles(group: pl.LazyFrame, step: Callable[[], None]) -> tuple[list[ColumnProfile], int]:
    """Some columns, and how many of that kind may be read together: to open a wide file takes milliseconds."""
    frame = group.collect()
    width = min(
        GROUP_CELLS // max(1, frame.height), GROUP_BYTES * frame.width // max(1, int(frame.estimated_size()))
    )
    return [_profile(column, step) for column in frame.iter_columns()], max(1, width)


def _profile(column: pl.Series, step: Callable[[], None]) -> ColumnProfile:
    step()
    name, dtype = column.name, column.dtype
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
    several = dtype.is_nested() and not isinstance(dtype, pl.List)
    if several or dtype == pl.Null or isinstance(dtype, pl.Object | pl.BaseExtension):
        return ColumnProfile(**figures)
    values = column.drop_nulls() if figures["nulls"] else column
    if not isinstance(dtype, pl.List):
        estimate: Any = values.approx_n_unique()
        figures["distinct"] = min(len(values), estimate)
    values = _describable(values)
    if values.is_empty():
        return ColumnProfile(**figures)
    step()
    if values.dtype in (pl.String, pl.Boolean):
        figures["min"], figures["max"] = cell(values.min()), cell(values.max())
        figures["distinct"], top = _top(values)
        return ColumnProfile(**figures, top=top)
    if values.dtype.is_numeric():
        figures["mean"], figures["std"] = _finite(values.mean()), _finite(values.std())
    ordered = values.sort()  # 6 million in 20 to 90 ms; to find three quantiles without takes longer
    step()
    last = len(ordered) - 1
    figures["min"], figures["max"] = cell(ordered[0]), cell(ordered[last])
    figures["quantiles"] = {str(share): cell(ordered[round(share * last)]) for share in PROBABILITIES}
    return ColumnProfile(**figures, histogram=_histogram(ordered))


def _describable(values: pl.Series) -> pl.Series:
    """What the figures are of: numbers that are some, days that can be said, categories as text, lengths."""
    dtype = values.dtype
    if dtype.is_float():
        finite = values.is_finite()
        return values if finite.all() else values.filter(finite)
    if dtype.is_temporal():
        return values.to_frame().select(sayable(pl.col("values"), dtype)).to_series().drop_nulls()
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    if isinstance(dtype, pl.List):
        return values.list.len()
    if dtype == pl.Binary:
        return values.bin.size()
    return values


def _top(values: pl.Series) -> tuple[int, tuple[tuple[Any, int], ...]]:
    """How many distinct values there are, and the most frequent; of those that are equally frequent, the least."""
    counts = values.value_counts(sort=True, name="times")
    found, times, distinct = counts["values"], counts["times"], len(counts)
    if len(times) > TOP:  # to sort them all would take longer than to count them
        rarest = times[TOP - 1]
        tied = pl.Series([rarest], dtype=times.dtype)
        first, end = (times.search_sorted(tied, side, descending=True)[0] for side in ("left", "right"))
        found = found[:first].append(found[first:end].bottom_k(TOP - first))
        times = times[:TOP]
    pairs = zip(found, times, strict=True)
    ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return distinct, tuple((cell(value), count) for value, count in ranked)


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
    below = [0, *numbers.search_sorted(pl.Series(inner, dtype=pl.Float64), side="left"), len(numbers)]
    counts = tuple(int(after - before) for before, after in itertools.pairwise(below))
    if dtype.is_numeric():
        return Histogram(edges=tuple(map(cell, edges)), counts=counts)
    whole = pl.Series(inner, dtype=pl.Float64).round().cast(ordered.to_physical().dtype, strict=False)
    return Histogram(edges=tuple(map(cell, [ordered[0], *whole.cast(dtype), ordered[-1]])), counts=counts)
