"""How the text cells of a column are converted to a type."""

import datetime as dt
import gzip
import math
import random
from decimal import Context, Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.client.arguments import query_of
from creemson.engine.run import run
from creemson.formats.csv.values.kinds import TEXT
from creemson.formats.csv.values.types import (
    choose_kind,
    infer_kinds,
    may_be_thousands,
    requested_kind,
    sample_cells,
)
from creemson.model.query import Options
from tests.examples import examples_of

UTC = dt.UTC
EXACT = Context(prec=7000)


def read(cells, *, lazy=False, **options):
    """The detected kind of a column with these cells, and the converted values."""
    frame = pl.DataFrame(
        {"^a$": cells}, schema={"^a$": pl.String}
    )  # a name that would be a pattern in polars
    samples = {"^a$": sample_cells(frame["^a$"])}
    kind = infer_kinds(frame.lazy() if lazy else frame, ["^a$"], samples, Options(**options))["^a$"]
    return kind, frame.rename({"^a$": "a"}).select(kind.convert(pl.col("a"))).to_series().to_list()


@pytest.mark.parametrize("seed", range(30))
def test_sample_that_shows_text_gives_the_type_that_all_cells_give(seed):
    """The sample decides only for a table in memory."""
    rng = random.Random(seed)
    values = rng.choice(
        (["1", "-20", "+3"], ["1.5", "2e3", "inf"], ["true", "false"], ["2024-01-31", "2024-12-01"])
    )
    words = rng.choice((["n/a", "NULL", ""], ["x", " y "], ["x", "N/A"], ["$5", "(3)"], ["12 km", "nan"]))
    share = rng.choice((0.002, 0.02, 0.3))
    cells = [rng.choice(words if rng.random() < share else values) for _ in range(rng.choice((3, 30, 400)))]
    assert read(cells) == read(cells, lazy=True)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("cells", "name", "values"),
    [
        (["1", "-2", None], "int64", [1, -2, None]),
        (["1", str(2**64)], "decimal", [1, 2**64]),
        (["1", "2.5", "1e3"], "float64", [1.0, 2.5, 1000.0]),
        (["1,5", "1.234,25", "7"], "float64", [1.5, 1234.25, 7.0]),
        (["true", "FALSE", "False"], "boolean", [True, False, False]),
        (["2020-02-29", "2021-01-05"], "date", [dt.date(2020, 2, 29), dt.date(2021, 1, 5)]),
        (["2020/02/29"], "date", [dt.date(2020, 2, 29)]),
        (["31.12.2020", "01.02.2020"], "date", [dt.date(2020, 12, 31), dt.date(2020, 2, 1)]),
        (["12/31/2020", "01/02/2020"], "date", [dt.date(2020, 12, 31), dt.date(2020, 1, 2)]),
        (["2020-02-29 12:30"], "datetime", [dt.datetime(2020, 2, 29, 12, 30)]),
        (["2020-02-29T12:30:01.25"], "datetime", [dt.datetime(2020, 2, 29, 12, 30, 1, 250000)]),
        (["2020-02-29T12:30:00+02:00"], "datetime", [dt.datetime(2020, 2, 29, 10, 30, tzinfo=UTC)]),
        (["12:30", "00:01"], "time", [dt.time(12, 30), dt.time(0, 1)]),
        ([" 1", "2 "], "int64", [1, 2]),
    ],
)
def test_column_gets_the_narrowest_kind_that_fits_all_cells(cells, name, values, lazy):
    """The same from a sample as from all rows of a large file."""
    kind, converted = read(cells, lazy=lazy)
    assert (kind.name, converted) == (name, values)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "cells",
    [
        ["01", "02"],  # codes
        ["+49", "+33"],
        ["1" * 39],  # more digits than an integer can hold
        ["01.02.2020", "03.04.2020"],  # day or month first: ambiguous
        ["yes", "no"],
        ["$5", "€6"],
        ["50%"],
        ["12:30", "12:30:15"],  # two notations
        ["2020-13-01"],
        ["1", "a"],
        ["", "  "],
        [None],
        [],
    ],
    ids=str,
)
def test_ambiguous_column_stays_text(cells, lazy):
    """Cells that are ambiguous, would lose information or fit no other kind stay text."""
    assert read(cells, lazy=lazy) == (TEXT, cells)


@pytest.mark.parametrize("lazy", [False, True])
def test_column_with_one_bad_cell_in_a_hundred_gets_the_kind(lazy):
    """At most one in a hundred cells may be lost; empty cells do not count."""
    kind, values = read(["7"] * 99 + ["x"] + [None] * 50, lazy=lazy)
    assert (kind.name, values[99]) == ("int64", None)
    assert read(["7"] * 98 + ["x"], lazy=lazy)[0] is TEXT


def test_decimal_comma_is_used_only_if_unambiguous():
    """Three digits may be thousands; a decimal sign known for the whole file decides."""
    assert read(["1,500", "2,750"])[0] is TEXT
    assert read(["1,500", "2,750"], decimal=",")[1] == [1.5, 2.75]
    assert read(["1,5", "2,75"], decimal=".")[0] is TEXT
    assert may_be_thousands(["1.500", " 12.345.678"])
    assert not may_be_thousands(["1.500", "1.5"])


@pytest.mark.parametrize(
    ("name", "cells", "values"),
    [
        ("string", ["1"], ["1"]),
        ("int8", ["1", "300", " 5 "], [1, None, 5]),
        ("uint16", ["65535", "-1"], [65535, None]),
        ("float32", ["1,5", "x"], [1.5, None]),
        ("float64", ["1.5", "2"], [1.5, 2.0]),
        ("boolean", ["true", "maybe"], [True, None]),
        ("date", ["01.02.2020", "03.04.2020"], [dt.date(2020, 2, 1), dt.date(2020, 4, 3)]),
        ("date", ["01/31/2020", "02/03/2020"], [dt.date(2020, 1, 31), dt.date(2020, 2, 3)]),
        ("date", ["soon", "2020-01-02"], [None, dt.date(2020, 1, 2)]),
        ("datetime", ["never"], [None]),
        ("time", ["12:30"], [dt.time(12, 30)]),
    ],
)
def test_requested_kind_is_read_in_the_style_of_the_cells(name, cells, values):
    """Reads the notation found in the cells; the day comes first where both orders fit."""
    column = pl.Series("a", cells)
    kind = requested_kind(name, sample_cells(column), Options(), column)
    assert kind.name == name.replace("string", "text")
    assert pl.DataFrame({"a": column}).select(kind.convert(pl.col("a"))).to_series().to_list() == values


def test_choose_prefers_most_cells_then_the_narrower_kind():
    """Stays text if digits would be lost or no cell fits."""
    kinds = {
        key: requested_kind(name, [], Options()) for key, name in (("int", "int64"), ("float", "float64"))
    }
    kinds |= {"day": requested_kind("date", ["2020-01-01"], Options())}
    assert choose_kind(kinds, {"int": 10, "float": 10, "day": 0}, 10, has_lossy_digits=False) == kinds["int"]
    assert choose_kind(kinds, {"int": 5, "float": 10, "day": 0}, 10, has_lossy_digits=False) == kinds["float"]
    assert choose_kind(kinds, {"int": 10, "float": 10, "day": 0}, 10, has_lossy_digits=True) is TEXT
    assert choose_kind(kinds, {"int": 0, "float": 0, "day": 0}, 0, has_lossy_digits=False) is TEXT


@given(st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=60))
def test_samples_are_distinct_sampled_cells(cells):
    """At most about sixty, each once, and at least one if any cell has a value."""
    samples = sample_cells(pl.Series("a", cells, dtype=pl.String))
    assert len(set(samples)) == len(samples) <= 62
    assert set(samples) <= set(cells)
    assert bool(set(samples) - {None}) is any(cell is not None for cell in cells)


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**70), 2**70), st.floats(width=32)), min_size=1, max_size=30)
)
def test_numbers_written_by_python_are_read_unchanged(numbers):
    """Numbers in Python's notation are read as numbers without loss; infinity is a word, and NaN a missing value."""
    numbers = [number for number in numbers if number is None or not math.isinf(number)]
    cells = [None if number is None else repr(number) for number in numbers]
    kind, values = read(cells)
    written = [None if cell in (None, "nan") else Decimal(cell) for cell in cells]
    if kind is TEXT:
        assert values == cells
    else:
        assert [
            None if value is None else Decimal(repr(value) if isinstance(value, float) else value)
            for value in values
        ] == written


@st.composite
def number_texts(draw):
    """A number in any notation that is not a code: no leading zeros and no plus sign."""
    whole = draw(st.one_of(st.just("0"), st.integers(1, 10**25).map(str), st.just("")))
    fraction = draw(st.text("0123456789", max_size=22))
    whole = whole if whole or fraction else "0"
    point = "." if fraction or draw(st.booleans()) else ""
    exponent = draw(st.sampled_from([""] * 6 + ["e5", "E-7", "e+12", "e-300", "e400", "E5903"]))
    return draw(st.sampled_from(["", "", "-"])) + whole + point + fraction + exponent


@pytest.mark.parametrize("lazy", [False, True])
@given(cells=st.lists(st.none() | number_texts(), max_size=8))
@settings(max_examples=examples_of(200), deadline=None)
def test_number_is_the_written_one_or_the_column_is_text(cells, lazy):
    """No value is rounded, infinite, or missing."""
    kind, values = read(cells, lazy=lazy)
    if kind is TEXT:
        assert values == cells
        return
    assert kind.dtype in (pl.Int64, pl.Float64, pl.Decimal)
    for cell, value in zip(cells, values, strict=True):
        assert (value is None) == (cell is None)
        if cell is not None:
            assert EXACT.create_decimal(
                repr(value) if isinstance(value, float) else value
            ) == EXACT.create_decimal(cell)


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["7587E5903", "7587E5904"], pl.String()),
        (["1E5", "2E5"], pl.String()),
        (["1E5", "7"], pl.String()),
        (["1E5", "1.5"], pl.Float64()),
        (["1E5", "-1E5"], pl.Float64()),
        (["1E5", "1.5", "7587E5903"], pl.String()),
        (["1.5", "1e400"], pl.String()),
        (["1.5", "1e-400"], pl.String()),
        (["1.5"] * 200 + ["1e400"], pl.String()),
        (["1.5", "inf"], pl.String()),
        (["1.5"] * 200 + ["inf"], pl.Float64()),  # null, and reported
        (["1.5", "Infinity"], pl.String()),
        (["1.5", "nan"], pl.Float64()),
        (["inf", "nan"], pl.String()),
        (["-0", "1"], pl.Int64()),
        (["-0.0", "1"], pl.Float64()),
        ([".5", "5."], pl.Float64()),
        (["48.140077299999994", "11.534977600000000"], pl.Float64()),
        (["3.5215257120407011", "1.1234567891234567"], pl.Decimal(38, 16)),
        (["12345678901234567.25", "1.5"], pl.Decimal(38, 2)),
        (["9007199254740993", "9007199254740992", "1.5"], pl.Decimal(38, 1)),
        (["9" * 38, "-1"], pl.Decimal(38, 0)),
        (["9" * 38, "1.5"], pl.String()),
        (["12345678901234567,25", "1,5"], pl.Decimal(38, 2)),
        (["12.345.678.901.234.567,25", "1,5"], pl.Decimal(38, 2)),
        (["1,5", "2.5"], pl.String()),  # 2.5 is no number with a decimal comma
    ],
    ids=str,
)
@pytest.mark.parametrize("lazy", [False, True])
def test_numbers_get_a_type_that_holds_them(cells, dtype, lazy):
    """A double, a decimal, or text."""
    assert read(cells, lazy=lazy)[0].dtype == dtype


@st.composite
def timestamps(draw, has_zone):
    """A timestamp, and its instant in nanoseconds since 1970."""
    at = draw(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1))).replace(microsecond=0)
    fraction = draw(st.text("0123456789", max_size=9))
    minutes = draw(st.integers(-14 * 60, 14 * 60)) if has_zone else 0
    zone = ""
    if has_zone:
        hours, rest = divmod(abs(minutes), 60)
        zone = f"{'-' if minutes < 0 else '+'}{hours:02}{draw(st.sampled_from(['', ':']))}{rest:02}"
        zone = draw(st.sampled_from(["Z", zone])) if not minutes else zone
    seconds = (at - dt.datetime(1970, 1, 1)) // dt.timedelta(seconds=1) - 60 * minutes
    text = f"{at:%Y-%m-%dT%H:%M:%S}" + (f".{fraction}" if fraction else "") + zone
    return text, seconds * 10**9 + int(fraction.ljust(9, "0"))


@pytest.mark.parametrize("lazy", [False, True])
@given(data=st.data())
@settings(max_examples=examples_of(100), deadline=None)
def test_timestamp_is_the_written_instant(lazy, data):
    """Any number of digits up to nine, and any offsets, in one column."""
    stamps = timestamps(has_zone=data.draw(st.booleans()))
    written = data.draw(st.lists(stamps, min_size=1, max_size=6))
    frame = pl.DataFrame({"a": [text for text, _ in written]})
    samples = {"a": sample_cells(frame["a"])}
    kind = infer_kinds(frame.lazy() if lazy else frame, ["a"], samples, Options())["a"]
    values = frame.select(kind.convert(pl.col("a"))).to_series()
    assert isinstance(kind.dtype, pl.Datetime)
    assert values.cast(pl.Datetime("ns", kind.dtype.time_zone)).to_physical().to_list() == [
        at for _, at in written
    ]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (
            ["2024-03-01 10:00:00", "2024-03-01 10:00:00.25", "2024-03-01 10:00:00.123456789"],
            pl.Datetime("ns"),
        ),
        (["2024-03-01 10:00:00.1234567+02:00", "2024-03-01T10:00:00Z"], pl.String()),  # two notations
        (["2024-03-01 10:00:00.1234567+02:00", "2024-03-01 10:00:00Z"], pl.Datetime("ns", "UTC")),
        (["2024-03-01 10:00:00.1234560", "9999-12-31 00:00:00"], pl.Datetime("us")),
        (["2024-03-01 10:00:00.1234567", "9999-12-31 00:00:00"], pl.String()),  # no datetime holds both
        (["2024-03-01 10:00:00.1234567891"], pl.String()),
        (["10:00:00.1234567891"], pl.String()),
        (["10:00:00.123456789"], pl.Time()),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_timestamps_get_a_type_that_holds_them(cells, dtype, lazy):
    """Microseconds, nanoseconds, or text."""
    assert read(cells, lazy=lazy)[0].dtype == dtype


def test_requested_datetime_has_as_many_digits_as_the_cells():
    """A request names the kind of value, not its precision."""
    column = pl.Series("a", ["2024-03-01 10:00:00.123456789"])
    assert requested_kind("datetime", sample_cells(column), Options(), column).dtype == pl.Datetime("ns")


DAY = dt.datetime(2024, 2, 1)


@pytest.mark.parametrize(
    ("cells", "options", "values"),
    [
        (["2024-02-01", "soon", "1500-02-01"], {}, [DAY, None, DAY.replace(year=1500)]),
        (["01/02/2024", "13/02/2024"], {}, [DAY, DAY.replace(day=13)]),
        (["02/01/2024", "x"], {"date_format": "%m/%d/%Y"}, [DAY, None]),
        (["02/01/2024", "x"], {"date_format": {"a": "%m/%d/%Y"}}, [DAY, None]),
        (
            ["2024-02-01 00:00:00", "1500-02-01 00:00:00", "x.1234567"],
            {},
            [DAY, DAY.replace(year=1500), None],
        ),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_requested_datetimes_are_read_whatever_else_is_in_their_column(
    tmp_path, name, cells, options, values
):
    """Of dates, too; a cell that is none costs no other its value: once, it made nanoseconds of all, without 1500."""
    content = "".join(f"k,{cell}\n" for cell in ["a", *cells]).encode()
    source, target = tmp_path / name, tmp_path / "out"
    source.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    query = query_of(name, options={"types": {"a": "datetime"}, "header": True, **options})
    outcome = run(query, source, target, lambda _: None)
    column = pl.read_parquet(target)["a"]
    assert (column.dtype, column.to_list()) == (pl.Datetime("us"), values)
    assert (outcome.issues.unparsable_cells if outcome.issues else 0) == values.count(None)


@pytest.mark.parametrize(
    ("name", "cells", "values"),
    [
        ("float64", ["1e400", "1.5", "NaN", "inf"], [None, 1.5, None, math.inf]),
        ("float32", ["1e39", "1.5"], [None, 1.5]),
    ],
)
def test_requested_number_that_is_too_large_has_no_value(name, cells, values):
    """It is never infinite."""
    kind = requested_kind(name, cells, Options())
    assert kind.converted(pl.Series(cells)).to_list() == values
