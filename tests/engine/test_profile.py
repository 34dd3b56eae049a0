"""Column profiles, and cell values as JSON."""

import base64
import collections
import datetime
import decimal
import json
import math
import statistics
import threading
import zoneinfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine import profile as module
from creemson.engine.profile import BINS, TOP, profile_of
from creemson.engine.values import to_json
from tests.examples import examples_of


def profile(values, dtype=None):
    """Return the profile of one column."""
    series = values if isinstance(values, pl.Series) else pl.Series("c", values, dtype=dtype)
    (described,) = profile_of(series.to_frame().lazy(), check=lambda: None)
    assert (described.column, described.dtype) == (series.name, str(series.dtype))
    return described


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("x", "x"),
        (True, True),
        (1.5, 1.5),
        (math.nan, None),
        (math.inf, None),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.UTC), "2024-05-01T10:00:00+00:00"),
        (datetime.time(10, 30), "10:30:00"),
        (datetime.timedelta(minutes=1.5), 90.0),
        (b"\xff\x00", base64.b64encode(b"\xff\x00").decode()),
        ([1, math.nan, [b"a"]], [1, None, ["YQ=="]]),
        ((1, "x"), [1, "x"]),
        ({"a": datetime.date(1, 1, 1), 2: None}, {"a": "0001-01-01", "2": None}),
        (pl.Series([1, None]), [1, None]),
        (decimal.Decimal("1.50"), "1.50"),
    ],
)
def test_cell_of_any_type_has_json_form(value, expected):
    """Every value that polars returns has a JSON form."""
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)


@settings(max_examples=examples_of(60), deadline=None)
@given(st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=60))
def test_figures_of_numbers_match_python_statistics(values):
    """Counts and figures match Python's statistics; the histogram counts each value once."""
    found, present = profile(values, pl.Int64), [value for value in values if value is not None]
    assert found.nulls == values.count(None)
    assert found.distinct == pytest.approx(len(set(present)), abs=2)
    if not present:
        assert (found.min, found.max, found.mean, found.std, found.quantiles, found.histogram) == (None,) * 6
        return
    assert (found.min, found.max) == (min(present), max(present))
    assert found.mean == pytest.approx(statistics.fmean(present), abs=1e-3)
    if len(present) > 1:
        assert found.std == pytest.approx(statistics.stdev(present), rel=1e-9, abs=1e-6)
    else:
        assert found.std is None
    assert all(value in present for value in found.quantiles.values())
    assert sum(found.histogram.counts) == len(present)
    assert len(found.histogram.edges) == len(found.histogram.counts) + 1
    assert len(found.histogram.counts) == (BINS if min(present) < max(present) else 1)
    assert found.top is None


def test_quantiles_are_values_and_bins_are_equal():
    """Quantiles are values of the column; bins have equal width, and the last one includes its upper edge."""
    found = profile(list(range(101)))
    assert found.quantiles == {"0.25": 25, "0.5": 50, "0.75": 75}
    assert found.histogram.edges == pytest.approx([5 * edge for edge in range(21)])
    assert found.histogram.counts == (*[5] * 19, 6)


def test_nan_and_infinity_are_excluded_from_figures():
    """NaN and the infinities count neither as nulls nor in any figure."""
    found = profile([1.0, math.nan, math.inf, -math.inf, 3.0, None])
    assert (found.nulls, found.min, found.max, found.mean) == (1, 1.0, 3.0, 2.0)
    assert sum(found.histogram.counts) == 2
    assert profile([math.nan, None]).min is None


def test_profile_of_text_has_most_frequent_values():
    """Text has its most frequent values, ties in alphabetical order."""
    found = profile(["b", "a", "b", None, *"cdefghijkl"])
    assert found.top[:3] == (("b", 2), ("a", 1), ("c", 1))
    assert len(found.top) == TOP
    assert (found.min, found.max, found.nulls, found.distinct) == ("a", "l", 1, 12)
    assert (found.mean, found.quantiles, found.histogram) == (None, None, None)


@pytest.mark.parametrize(
    "dtype", [pl.Categorical, pl.Enum(["z", "a"]), pl.Categorical(pl.Categories("mine"))]
)
def test_profile_of_categories_is_that_of_text(dtype):
    """Categories are described as the text they show."""
    found = profile(["z", "a", "z"], dtype)
    assert (found.min, found.max, found.top) == ("a", "z", (("z", 2), ("a", 1)))


def test_profile_of_booleans_has_counts():
    """Booleans have counts of both values."""
    found = profile([True, False, True, None])
    assert (found.min, found.max, found.top, found.nulls) == (False, True, ((True, 2), (False, 1)), 1)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([datetime.date(2024, 1, 1), datetime.date(2024, 1, 21)], "2024-01-01", "2024-01-21"),
        (
            [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)],
            "2024-01-01T00:00:00",
            "2024-01-02T00:00:00",
        ),
        ([datetime.time(1), datetime.time(2)], "01:00:00", "02:00:00"),
        ([datetime.timedelta(0), datetime.timedelta(1)], 0.0, 86400.0),
    ],
)
def test_profile_of_dates_and_times_has_bounds_and_histogram(values, low, high):
    """Dates, times and durations have bounds, quantiles and a histogram in their own form."""
    found = profile([*values, None])
    assert (found.min, found.max, found.mean, found.nulls) == (low, high, None, 1)
    assert (found.histogram.edges[0], found.histogram.edges[-1]) == (low, high)
    assert sum(found.histogram.counts) == 2
    assert found.quantiles["0.25"] == low


def test_decimals_and_large_integers_are_text():
    """Numbers that JSON cannot hold exactly are text; their mean is a float."""
    found = profile([decimal.Decimal("1.50"), decimal.Decimal("2.50")])
    assert (found.min, found.max, found.mean) == ("1.50", "2.50", 2.0)
    found = profile([2**70, 2**70 + 2**20], pl.Int128)
    assert (found.min, found.nulls) == (str(2**70), 0)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[b"a"], None], pl.Array(pl.Binary, 1)),
        ([{"a": 1}, None], None),
        ([None, None], pl.Null),
    ],
)
def test_profile_of_nested_or_null_column_counts_nulls_only(values, dtype):
    """For structs, arrays and null columns only the nulls are counted."""
    found = profile(values, dtype)
    assert found.nulls == values.count(None)
    assert (found.min, found.distinct, found.histogram, found.top) == (None, None, None, None)


# --- every type compared with Python ---------------------------------------------------------------------------

ZONE = zoneinfo.ZoneInfo("Europe/Oslo")
MOMENTS = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
ORDERED = {
    "Int8": (pl.Int8, st.integers(-128, 127)),
    "UInt64": (pl.UInt64, st.integers(0, 2**64 - 1)),
    "Int128": (pl.Int128, st.integers(-(2**100), 2**100)),
    "Float32": (pl.Float32, st.floats(width=32)),
    "Float64": (pl.Float64, st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.1, 0.25])),
    "Decimal": (pl.Decimal(20, 3), st.decimals(-(10**9), 10**9, places=3)),
    "Date": (pl.Date, st.dates()),
    "Datetime": (pl.Datetime("us"), MOMENTS),
    "Datetime with a zone": (
        pl.Datetime("us", "Europe/Oslo"),
        st.datetimes(
            datetime.datetime(1990, 1, 1),
            datetime.datetime(2030, 1, 1),
            timezones=st.just(datetime.UTC),
        ).map(lambda moment: moment.astimezone(ZONE)),
    ),
    "Time": (pl.Time, st.times()),
    "Duration": (pl.Duration("us"), st.timedeltas(datetime.timedelta(-999), datetime.timedelta(999))),
}
NAMED = {
    "String": (pl.String, st.text(st.characters(codec="utf-8"), max_size=3)),
    "few texts": (pl.String, st.sampled_from("abcdefghijklmn")),
    "Boolean": (pl.Boolean, st.booleans()),
    "Categorical": (pl.Categorical, st.sampled_from(["z", "a", "é", ""])),
    "Enum": (pl.Enum(["z", "a"]), st.sampled_from(["z", "a"])),
}
LONG = {
    "Binary": (pl.Binary, st.binary(max_size=9)),
    "List": (pl.List(pl.Int64), st.lists(st.integers(0, 9), max_size=9)),
}


def some(values):
    return st.lists(st.none() | values, max_size=40)


def same(found, expected):
    """Return whether a figure equals the expected value, within float precision."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-6)
    return found == to_json(expected)


def check_order(found, present):
    """Assert that bounds and quantiles are those of the sorted values, and that the bins count each value once."""
    present = sorted(present)
    if not present:
        assert (found.min, found.max, found.quantiles, found.histogram) == (None, None, None, None)
        return
    assert same(found.min, present[0])
    assert same(found.max, present[-1])
    for share, value in found.quantiles.items():
        assert same(value, present[round(float(share) * (len(present) - 1))])
    assert sum(found.histogram.counts) == len(present)
    assert len(found.histogram.edges) == len(found.histogram.counts) + 1


@pytest.mark.parametrize("kind", ORDERED)
@settings(max_examples=examples_of(40), deadline=None)
@given(data=st.data())
def test_profile_of_ordered_type_matches_python(kind, data):
    """Numbers, dates and times of every type are sorted as in Python; NaN and infinity are left out."""
    dtype, strategy = ORDERED[kind]
    values = data.draw(some(strategy))
    found = profile(values, dtype)
    assert found.nulls == values.count(None)
    assert found.top is None
    check_order(
        found, [v for v in values if v is not None and not (dtype.is_float() and not math.isfinite(v))]
    )


@pytest.mark.parametrize("kind", NAMED)
@settings(max_examples=examples_of(40), deadline=None)
@given(data=st.data())
def test_profile_of_named_type_counts_values(kind, data):
    """Text, categories and booleans are counted; the most frequent come first, ties in their own order."""
    dtype, strategy = NAMED[kind]
    values = data.draw(some(strategy))
    found = profile(values, dtype)
    present = [value for value in values if value is not None]
    assert (found.nulls, found.histogram, found.quantiles) == (values.count(None), None, None)
    if not present:
        assert (found.min, found.max, found.top) == (None, None, None)
        return
    assert (found.min, found.max) == (min(present), max(present))
    ranked = sorted(collections.Counter(present).items(), key=lambda pair: (-pair[1], pair[0]))
    assert list(found.top) == ranked[:TOP]
    assert found.distinct == len(ranked)


@pytest.mark.parametrize("kind", LONG)
@settings(max_examples=examples_of(40), deadline=None)
@given(data=st.data())
def test_profile_of_binary_and_lists_describes_lengths(kind, data):
    """The figures of bytes and lists are those of their lengths."""
    dtype, strategy = LONG[kind]
    values = data.draw(some(strategy))
    found = profile(values, dtype)
    assert (found.nulls, found.dtype) == (values.count(None), str(dtype))
    lengths = [len(value) for value in values if value is not None]
    check_order(found, lengths)
    assert found.mean == (pytest.approx(statistics.fmean(lengths)) if lengths else None)


@settings(max_examples=examples_of(60), deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=60))
def test_bin_includes_lower_edge_and_excludes_upper(values):
    """Each bin is half-open; the last one also includes the maximum."""
    found = profile(values, pl.Int64).histogram
    edges = [*found.edges[:-1], math.inf]
    for index, count in enumerate(found.counts):
        assert count == sum(edges[index] <= value < edges[index + 1] for value in values)


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_profile_of_many_columns_equals_that_of_each(monkeypatch, cells):
    """However many columns are read together, each is described as if read alone, in order."""
    monkeypatch.setattr(module, "GROUP_CELLS", cells)
    columns = {f"c{index}": [index, None, index + 1] for index in range(20)}
    columns |= {f"t{index}": ["x" * index, "y", None] for index in range(5)}
    frame = pl.DataFrame(columns)
    alone = [profile(frame[name]) for name in columns]
    assert list(profile_of(frame.lazy(), check=lambda: None)) == alone


def test_large_column_is_read_alone(monkeypatch):
    """A group of columns is limited both in cells and in bytes."""
    reads = []
    collect = pl.LazyFrame.collect

    def counting(self, *args, **kwargs):
        frame = collect(self, *args, **kwargs)
        reads.append(frame.width)
        return frame

    frame = pl.DataFrame({f"c{index}": range(100) for index in range(9)}).lazy()
    monkeypatch.setattr(pl.LazyFrame, "collect", counting)
    monkeypatch.setattr(module, "GROUP_CELLS", 400)
    profile_of(frame, check=lambda: None)
    assert reads == [1, 4, 4]
    reads.clear()
    monkeypatch.setattr(module, "GROUP_BYTES", 1000)
    profile_of(frame, check=lambda: None)
    assert reads == [1] * 9


def test_huge_floats_do_not_overflow():
    """A mean or deviation without a finite value is null, and the histogram is still valid."""
    found = profile([1e308, -1e308, 1e308])
    assert found.std is None
    json.dumps([found.mean, *found.histogram.edges], allow_nan=False)
    assert sum(found.histogram.counts) == 3


@pytest.mark.parametrize(
    "values",
    [
        pl.Series("c", [2**62, -(2**62), 1000]).cast(pl.Duration("ms")),
        pl.Series("c", [2**62, -(2**62), 1000]).cast(pl.Duration("ns")),
        pl.Series("c", [2**63 - 1, -(2**63)]).cast(pl.Datetime("ns")),
        pl.Series("c", [2**63 - 1, 2**63 - 3, None]).cast(pl.Datetime("ns")),
        pl.Series("c", [2**62, 0]).cast(pl.Datetime("us")),
        pl.Series("c", [datetime.date.min, datetime.date.max]),
        pl.Series("c", [2**128 - 1, 0, None], dtype=pl.UInt128),
        pl.Series("c", [-(2**127), 2**127 - 1], dtype=pl.Int128),
        pl.Series("c", [1, 60_000, None]).cast(pl.Float16),
        pl.Series("c", [decimal.Decimal("9" * 28)], dtype=pl.Decimal(38, 10)),
        pl.Series("c", [object()], dtype=pl.Object),
    ],
    ids=lambda series: str(series.dtype),
)
def test_extremes_of_every_type_have_json_form(values):
    """The largest and smallest values have a JSON form; dates outside Python's calendar are left out."""
    for some in (values, values.clear()):
        found = profile(some)
        assert found.nulls == some.null_count()
        json.dumps([found.min, found.max, found.mean, found.std, found.quantiles], allow_nan=False)
        if found.histogram:
            json.dumps(found.histogram.edges, allow_nan=False)


@pytest.mark.parametrize("name", ["*", "^a.*$", "", "a b"])
def test_column_name_is_never_a_pattern(name):
    """A name is taken literally, whatever polars would make of it."""
    frame = pl.DataFrame({"abc": [1], name: [5]})
    described = profile_of(frame.lazy(), check=lambda: None)
    assert [(found.column, found.min) for found in described] == [("abc", 1), (name, 5)]


def test_check_is_called_between_columns():
    """An exception from the check ends the profile."""
    calls = []

    def check():
        calls.append(None)
        if len(calls) == 2:
            raise KeyError

    with pytest.raises(KeyError):
        profile_of(pl.LazyFrame({"a": [1], "b": [2], "c": [3]}), check=check)
    assert len(calls) == 2


def test_check_is_called_while_a_column_takes_long(monkeypatch):
    """It is called from another thread; its exception ends the profile as soon as polars returns."""
    monkeypatch.setattr(module, "INTERVAL", 0.001)
    looked = threading.Event()

    def check():
        if threading.current_thread() is not threading.main_thread():
            looked.set()
            raise KeyError

    monkeypatch.setattr(module, "_comparable", lambda values: looked.wait(30) and values)
    with pytest.raises(KeyError):
        profile_of(pl.LazyFrame({"a": range(9), "b": range(9)}), check=check)
    assert looked.is_set()
