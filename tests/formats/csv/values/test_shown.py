"""Cells that match the pattern of their kind are shown for their values as they are written."""

import re

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from creemson.engine.export.csv import as_values
from creemson.formats.csv.values.kinds import BOOLEAN, pattern_kind, temporal_kinds, with_decimals
from creemson.formats.csv.values.numbers import FLOAT, INTEGER, LARGE_INTEGER, decimal_kind
from creemson.formats.csv.values.shown import SHORTEST_SHOWN, decimals_of, fixed_shown, time_shown

NUMBERS = [
    INTEGER,
    LARGE_INTEGER,
    FLOAT,
    *(with_decimals(FLOAT, decimals) for decimals in (2, 5, 9)),
    *(decimal_kind(FLOAT, pl.Decimal(38, scale)) for scale in (0, 1, 18)),
]
TIMES = [
    kind
    for text in (
        "2024-01-31", "31.1.2024", "1/31/2024", "2024-01-31T10:00", "2024-01-31 10:00:00",
        "2024-01-31T10:00:00Z", "2024-01-31 10:00:00+01:00", "31/01/2024 10:00:00.5", "10:00", "10:00:00",
    )
    for kind in temporal_kinds(text)
]  # fmt: skip
PATTERNS = [
    pattern_kind(pattern)
    for pattern in ("%Y%m%d", "%d %b %Y", "%m/%d/%y", "%Y-%m", "[%H:%M]", "%I:%M %p", "%Y-%m-%d %H", "%Y-%j", "%%%Y")
]  # fmt: skip
SIGNIFICANT = st.text("0123456789", min_size=1, max_size=20)
NUMERALS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "", "-", "+", " "]),
    SIGNIFICANT,
    st.sampled_from([".", ".", ".", "", ".0", ".000", ".0000"]),
    st.one_of(st.just(""), SIGNIFICANT),
    st.sampled_from(["", "", "", "", "e1", "E-2", " "]),
)
CLOCKS = st.builds(
    "{}{:02}:{:02}{}{}".format,
    st.sampled_from(["", "2024-01-31 ", "0001-12-01T", "31.01.2024 ", "1/31/2024 ", "31/1/2024 "]),
    st.integers(0, 24),
    st.integers(0, 60),
    st.sampled_from(["", ":00", ":59", ":60", ":00.0", ":00.25", ":01.123456"]),
    st.sampled_from(["", "", "Z", "+01:00"]),
)
DAYS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["2024", "1999", "0000", "31", "1", "01", "+2024", "02024", "24"]),
    st.sampled_from(["-", "/", ".", " "]),
    st.sampled_from(["1", "01", " 1", "12", "Jan"]),
    st.sampled_from(["-", "/", ".", " "]),
    st.sampled_from(["2024", "31", "5", "05", " 5", "24"]),
)


def shown(kind, cell):
    """Return the text that a CSV shows for the value of a cell; None if it has no value."""
    value = kind.converted(pl.Series([cell]))
    notation = kind.notation if kind.decimals is None else f"%.{kind.decimals}f"
    content = as_values(value.to_frame("v").lazy(), {"v": notation}).collect().write_csv(include_header=False)
    return None if value.null_count() else content.removesuffix("\n")


@given(st.sampled_from(NUMBERS), NUMERALS)
def test_number_that_matches_is_shown_as_written(kind, cell):
    if re.fullmatch(kind.shown, cell) and kind.converted(pl.Series([cell])).count():
        assert shown(kind, cell) == cell
        assert not kind.alters(pl.Series([cell])).any()


@pytest.mark.parametrize("decimals", [None, 2, 4, 9])
@given(st.data())
def test_any_double_that_matches_is_shown_as_written(decimals, data):
    """Made from the pattern."""
    kind = FLOAT if decimals is None else with_decimals(FLOAT, decimals)
    cell = data.draw(st.from_regex(re.compile(kind.shown, re.ASCII), fullmatch=True))
    assert shown(kind, cell) == cell
    assert not kind.alters(pl.Series([cell])).any()


@given(
    st.sampled_from([*TIMES, *PATTERNS]), st.one_of(CLOCKS, DAYS, st.sampled_from(["20240131", "[10:30]"]))
)
def test_time_that_matches_is_shown_as_written(kind, cell):
    assume(kind.shown)
    if re.fullmatch(kind.shown, cell) and kind.converted(pl.Series([cell])).count():
        assert shown(kind, cell) == cell


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (INTEGER, "-17"),
        (BOOLEAN, "true"),
        (FLOAT, "0.5"),
        (FLOAT, "-123456789.25"),
        (FLOAT, "12.345678901234"),
        (with_decimals(FLOAT, 2), "-0.50"),
        (with_decimals(FLOAT, 2), "1234567890123.00"),
        (decimal_kind(FLOAT, pl.Decimal(38, 2)), "0.00"),
        *((kind, "2024-01-31") for kind in temporal_kinds("2024-01-31")),
        *((kind, "01.02.2024") for kind in temporal_kinds("01.02.2024")),
        *((kind, "2024-01-31 10:00:00") for kind in temporal_kinds("2024-01-31 10:00:00.5")),
        *((kind, "2024-01-31T10:00:00Z") for kind in temporal_kinds("2024-01-31T10:00:00Z")),
        *((kind, "10:00") for kind in temporal_kinds("10:00")),
    ],
)
def test_usual_form_matches(kind, cell):
    assert re.fullmatch(kind.shown, cell)
    assert shown(kind, cell) == cell


@pytest.mark.parametrize(
    ("pattern", "cell"),
    [
        (SHORTEST_SHOWN, "1.50"),
        (SHORTEST_SHOWN, "0.00001"),
        (SHORTEST_SHOWN, "1234567890.1234567"),
        (fixed_shown(2), "-0.00"),
        (fixed_shown(2), "01.50"),
        (fixed_shown(2), "12345678901234.50"),
        (time_shown("%H:%M:%S"), "10:00:60"),
        (time_shown("%Y-%m-%d"), "2024- 1-05"),
    ],
)
def test_other_form_does_not_match(pattern, cell):
    assert not re.fullmatch(pattern, cell)


@pytest.mark.parametrize(
    "notation", ["%d %b %Y", "%y-%m-%d", "%Y-%m", "%d %H:%M", "%Y-%m-%d %H:%M:%S%#z", "%H", ""]
)
def test_notation_that_may_be_shown_otherwise_has_no_pattern(notation):
    assert time_shown(notation) == ""


@pytest.mark.parametrize(
    ("cells", "decimals"), [(["1.50", "20.00"], 2), (["1.5", "2.5"], None), (["1.50", "2"], None), ([], None)]
)
def test_number_of_decimals_is_known_if_all_cells_have_it(cells, decimals):
    assert decimals_of(cells) == decimals
