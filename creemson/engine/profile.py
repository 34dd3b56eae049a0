"""Profiles the columns of a stored output: some statistics and a histogram of each."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from creemson.engine.answers import cut_text
from creemson.engine.values import representable, to_json, with_nanoseconds
from creemson.formats.columns import exactly
from creemson.model.results import ColumnProfile, Histogram

__all__ = ["profile_of"]

BINS = 20
"""Maximum number of bins of a histogram."""
TOP = 10
"""Maximum number of the most frequent values of a column that are listed."""
PROBABILITIES = (0.25, 0.5, 0.75)
"""Probabilities of the quantiles."""
INTERVAL = 0.1
"""Seconds between two checks while one column is being profiled."""
GROUP_CELLS = 2**20
GROUP_BYTES = 2**26
"""Maximum number of cells and of bytes that are read together, estimated from the size of the preceding columns."""


def profile_of(output: pl.LazyFrame, *, check: Callable[[], None]) -> tuple[ColumnProfile, ...]:
    """Profile each column. Only one large column, or a group of small columns, is in memory at a time.

    Args:
        output: The stored output.
        check: Called between columns and, during a long step, from another thread; an exception that it raises ends
            the profile and is raised again.

    Returns:
        One profile per column.
    """
    names = output.collect_schema().names()
    profiles: list[ColumnProfile] = []
    width = 1
    with _checking(check) as step:
        while len(profiles) < len(names):
            step()
            group = names[len(profiles) : len(profiles) + width]
            group_profiles, width = _profile_group(output.select(map(exactly, group)), step)
            profiles += group_profiles
    return tuple(profiles)


@contextmanager
def _checking(check: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Return a function to call between two steps; during a long step, a thread calls the check."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def watch() -> None:
        while not ended.wait(INTERVAL):
            try:
                check()
            except BaseException as error:  # raised again in the thread that waits
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
    if raised:  # during the last step
        raise raised[0]


def _profile_group(group: pl.LazyFrame, step: Callable[[], None]) -> tuple[list[ColumnProfile], int]:
    """Profile some columns, and return how many columns of that size may be read together.

    Reading one column at a time would be slow: opening a wide file takes milliseconds.
    """
    frame = group.collect()
    width = min(
        GROUP_CELLS // max(1, frame.height), GROUP_BYTES * frame.width // max(1, int(frame.estimated_size()))
    )
    return [_profile(column, step) for column in frame.iter_columns()], max(1, width)


def _profile(column: pl.Series, step: Callable[[], None]) -> ColumnProfile:
    step()
    name, dtype = column.name, column.dtype
    column = column.alias("values")  # some methods of a series interpret a name such as "^a$" as a pattern
    statistics: dict[str, Any] = {
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
    is_struct_or_array = dtype.is_nested() and not isinstance(dtype, pl.List)
    if is_struct_or_array or dtype == pl.Null or isinstance(dtype, pl.Object | pl.BaseExtension):
        return ColumnProfile(**statistics)
    values = column.drop_nulls() if statistics["nulls"] else column
    if not isinstance(dtype, pl.List):
        estimate: Any = values.approx_n_unique()
        statistics["distinct"] = min(len(values), estimate)
    values = _comparable(values)
    if values.is_empty():
        return ColumnProfile(**statistics)
    step()
    if values.dtype in (pl.String, pl.Boolean):
        statistics["min"], statistics["max"] = _text(values.min()), _text(values.max())
        statistics["distinct"], top = _top(values)
        return ColumnProfile(**statistics, top=top)
    if values.dtype.is_numeric():
        statistics["mean"], statistics["std"] = _finite(values.mean()), _finite(values.std())
    ordered = values.sort()  # 6 million in 20 to 90 ms; three quantiles of unsorted values take longer
    step()
    last = len(ordered) - 1
    places = [0, last, *(round(share * last) for share in PROBABILITIES)]
    chosen = ordered[places]
    if chosen.dtype == pl.Float32:  # 0.1, not the double that is nearest to it
        chosen = chosen.cast(pl.String).cast(pl.Float64)
    low, high, *quantiles = map(to_json, with_nanoseconds(chosen))
    statistics["min"], statistics["max"] = low, high
    statistics["quantiles"] = dict(zip(map(str, PROBABILITIES), quantiles, strict=True))
    return ColumnProfile(**statistics, histogram=_histogram(ordered))


def _comparable(values: pl.Series) -> pl.Series:
    """The values to profile: finite numbers, dates that Python supports, categories as text, lengths of lists."""
    dtype = values.dtype
    if dtype.is_float():
        finite = values.is_finite()
        return values if finite.all() else values.filter(finite)
    if dtype.is_temporal():
        return values.to_frame().select(representable(pl.col("values"), dtype)).to_series().drop_nulls()
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    if isinstance(dtype, pl.List):
        return values.list.len()
    if dtype == pl.Binary:
        return values.bin.size()
    return values


def _top(values: pl.Series) -> tuple[int, tuple[tuple[Any, int], ...]]:
    """The number of distinct values, and the most frequent ones; equally frequent values are in ascending order."""
    counts = values.value_counts(sort=True, name="times")
    frequent, times, distinct = counts["values"], counts["times"], len(counts)
    if len(times) > TOP:  # sorting all would take longer than counting them
        # Of the values that are as frequent as the last one of the list, the smallest are chosen.
        tied = pl.Series([times[TOP - 1]], dtype=times.dtype)
        first, end = (times.search_sorted(tied, side, descending=True)[0] for side in ("left", "right"))
        frequent = frequent[:first].append(frequent[first:end].bottom_k(TOP - first))
        times = times[:TOP]
    pairs = zip(frequent, times, strict=True)
    ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return distinct, tuple((_text(value), count) for value, count in ranked)


def _text(value: Any) -> Any:
    """A text or a boolean as a JSON value; a very long text is cut."""
    return cut_text(to_json(value))


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _histogram(ordered: pl.Series) -> Histogram:
    """Bins of equal width from the minimum to the maximum; the last bin includes its upper edge."""
    dtype = ordered.dtype
    numbers = ordered.cast(pl.Float64) if dtype.is_numeric() else ordered.to_physical().cast(pl.Float64)
    low, high = numbers[0], numbers[-1]
    bins = BINS if high > low else 1
    scale = 2.0**-64  # a power of two changes no digits, and keeps the largest floats from overflowing
    inner = [(low * scale * (bins - step) + high * scale * step) / bins / scale for step in range(1, bins)]
    edges = [low, *inner, high]
    below = [0, *numbers.search_sorted(pl.Series(inner, dtype=pl.Float64), side="left"), len(numbers)]
    counts = tuple(int(after - before) for before, after in itertools.pairwise(below))
    if dtype.is_numeric():
        return Histogram(edges=tuple(map(to_json, edges)), counts=counts)
    whole = pl.Series(inner, dtype=pl.Float64).round().cast(ordered.to_physical().dtype, strict=False)
    return Histogram(edges=tuple(map(to_json, [ordered[0], *whole.cast(dtype), ordered[-1]])), counts=counts)
