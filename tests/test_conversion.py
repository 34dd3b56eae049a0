"""What the texts of a column mean."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.processing.conversion import TEXT, choose, kind_named, look, shapes_of, thousands

UTC = dt.UTC


def read(cells, *, decimal=None, lazy=False):
    """The kind of a column of these cells, and what it makes of them."""
    frame = pl.DataFrame(
        {"^a$": cells}, schema={"^a$": pl.String}
    )  # a name that polars would take for a pattern
    shapes = {"^a$": shapes_of(frame["^a$"])}
    kind = look(frame.lazy() if lazy else frame, ["^a$"], shapes, decimal)["^a$"]
    return kind, frame.rename({"^a$": "a"}).select(kind.convert(pl.col("a"))).to_series().to_list()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("cells", "name", "values"),
    [
        (["1", "-2", None], "int64", [1, -2, None]),
        (["1", str(2**64)], "int128", [1, 2**64]),
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
def test_kinds(cells, name, values, lazy):
    """The narrowest kind that all cells are of, from a sample as from all of a large file."""
    kind, converted = read(cells, lazy=lazy)
    assert (kind.name, converted) == (name, values)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "cells",
    [
        ["01", "02"],  # codes
        ["+49", "+33"],
        ["1" * 39],  # more digits than an integer has
        ["01.02.2020", "03.04.2020"],  # the day or the month first
        ["yes", "no"],
        ["$5", "€6"],
        ["50%"],
        ["12:30", "12:30:15"],  # written in two ways
        ["2020-13-01"],
        ["1", "a"],
        ["", "  "],
        [None],
        [],
    ],
    ids=str,
)
def test_what_stays_text(cells, lazy):
    """What could be meant in more than one way, would lose something, or is nothing else."""
    assert read(cells, lazy=lazy) == (TEXT, cells)


@pytest.mark.parametrize("lazy", [False, True])
def test_one_in_a_hundred_may_be_lost(lazy):
    """A column is of a type if all cells are but one in a hundred; empty ones do not count."""
    kind, values = read(["7"] * 99 + ["n/a"] + [None] * 50, lazy=lazy)
    assert (kind.name, values[99]) == ("int64", None)
    assert read(["7"] * 98 + ["n/a"], lazy=lazy)[0] is TEXT


def test_a_comma_has_to_be_certain():
    """Three digits may be thousands; a sign that is known for the whole file settles it."""
    assert read(["1,500", "2,750"])[0] is TEXT
    assert read(["1,500", "2,750"], decimal=",")[1] == [1.5, 2.75]
    assert read(["1,5", "2,75"], decimal=".")[0] is TEXT
    assert thousands(["1.500", " 12.345.678"])
    assert not thousands(["1.500", "1.5"])


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
def test_kinds_that_are_asked_for(name, cells, values):
    """Read as what was asked for, written as the cells are; the day is first where both fit."""
    column = pl.Series("a", cells)
    kind = kind_named(name, shapes_of(column), None, column)
    assert kind.name == name.replace("string", "text")
    assert pl.DataFrame({"a": column}).select(kind.convert(pl.col("a"))).to_series().to_list() == values


def test_the_best_of_what_fits():
    """Most cells win, the narrower kind where there are as many; not where digits would lose something."""
    kinds = {key: kind_named(name, [], None) for key, name in (("int", "int64"), ("float", "float64"))}
    kinds |= {"day": kind_named("date", ["2020-01-01"], None)}
    assert choose(kinds, {"int": 10, "float": 10, "day": 0}, 10, digits=False) == kinds["int"]
    assert choose(kinds, {"int": 5, "float": 10, "day": 0}, 10, digits=False) == kinds["float"]
    assert choose(kinds, {"int": 10, "float": 10, "day": 0}, 10, digits=True) is TEXT
    assert choose(kinds, {"int": 0, "float": 0, "day": 0}, 0, digits=False) is TEXT


@given(st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=60))
def test_shapes_are_some_of_the_cells(cells):
    """No more than sixty, each once, and at least one if there is one."""
    shapes = shapes_of(pl.Series("a", cells, dtype=pl.String))
    assert len(set(shapes)) == len(shapes) <= 62
    assert set(shapes) <= set(cells)
    assert bool(set(shapes) - {None}) is any(cell is not None for cell in cells)


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**70), 2**70), st.floats(width=32)), min_size=1, max_size=30)
)
def test_numbers_come_back(numbers):
    """What Python writes of numbers is read as numbers, and nothing is lost."""
    kind, values = read([None if number is None else repr(number) for number in numbers])
    if all(number is None for number in numbers):
        assert kind is TEXT
    else:
        assert repr(values) == repr(
            [None if number is None else kind.dtype.to_python()(number) for number in numbers]
        )
