"""Patterns of dates and times: what is accepted is parsed by polars, what polars does not know is refused."""

import datetime
import warnings

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.model.date_patterns import pattern_fault

MOMENT = datetime.datetime(2024, 3, 5, 13, 4, 6, 250_000)
DATES = st.sampled_from(
    ["%Y-%m-%d", "%d/%m/%Y", "%-d/%-m/%y", "%d %b %Y", "%B %d, %Y", "%Y-%j", "%F", "%D", "%a %d.%m.%Y", "%Y%m%d", "%e.%m.%Y", "%G-W%V-%u"]
)  # fmt: skip
TIMES = st.sampled_from(
    ["%H:%M", "%H:%M:%S", "%H:%M:%S%.f", "%T%.3f", "%R", "%I:%M %p", "%k.%M", "%-I:%M:%S %P"]
)


@given(DATES, st.none() | TIMES, st.sampled_from([" ", "T", ", ", "é", " %% "]))
def test_accepted_pattern_is_parsed_by_polars(date, time, gap):
    """What polars writes with an accepted pattern, it reads again."""
    pattern = date if time is None else f"{date}{gap}{time}"
    assert pattern_fault(pattern) == ""
    texts = pl.Series([MOMENT]).dt.to_string(pattern)
    with warnings.catch_warnings(action="error"):
        (moment,) = texts.str.to_datetime(pattern, strict=False, cache=False)
    assert moment is not None
    assert moment.date() == MOMENT.date()


@given(TIMES)
def test_pattern_of_a_time_needs_no_date(pattern):
    """Times of day are columns, too."""
    assert pattern_fault(pattern) == ""
    assert pl.Series([MOMENT]).dt.to_string(pattern).str.to_time(pattern)[0].hour == MOMENT.hour


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "strftime"),
        ("dd.mm.yyyy", "strftime"),
        ("100%", "no directive %;"),
        ("%Q", "no directive %Q;"),
        ("%Y-%5f", "no directive %5f;"),
        ("%-B %Y", "no directive %-B;"),
        ("%Y %", "no directive %;"),
        ("%d.%m", "year"),
        ("%S", "hour and minutes"),
        ("%Y-%m-%d %H", "%M"),
        ("%I:%M", "%p"),
        ("%H:%M %p", "%I"),
        ("%Y-%m-%d %H:%M:%S.%f", "%.f"),
        ("%Y\0", "NUL"),
        ("%Y\ud800", "surrogates"),
        ("%Y" * 51, "100"),
    ],
)
def test_unusable_pattern_is_refused_with_the_reason(pattern, words):
    """polars would make every cell null, or fail without naming the pattern."""
    assert words in pattern_fault(pattern)
