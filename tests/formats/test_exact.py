"""Whether a double or a decimal holds a number exactly as it is written."""

from decimal import Context, Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.formats.exact import (
    decimal_for,
    digit_counts,
    exact_decimal,
    exact_numbers,
    exact_type,
    is_altered,
    is_rounded,
)

EXACT = Context(prec=2000)
DIGITS = st.text("0123456789", max_size=25)


@st.composite
def numbers(draw):
    """A number as anybody may write it: leading and trailing zeros, a sign, an exponent."""
    whole, fraction = draw(DIGITS), draw(DIGITS)
    if not whole and not fraction:
        whole = "0"
    point = "." if fraction or draw(st.booleans()) else ""
    exponent = draw(
        st.sampled_from(["", "", "", "e5", "E-7", "e+12", "e-300", "e300", "e-320", "e400", "E-400"])
    )
    return draw(st.sampled_from(["", "-", "+"])) + whole + point + fraction + exponent


WRITTEN_DOUBLES = st.floats(allow_nan=False, allow_infinity=False).map(repr)


def exact(text):
    return EXACT.create_decimal(text)


@given(st.lists(st.none() | numbers() | WRITTEN_DOUBLES, max_size=8))
def test_number_is_rounded_if_the_shortest_text_of_its_double_is_another_number(texts):
    """No rounded number is missed, and no number is suspected that Python reads and writes unchanged."""
    series = pl.Series(texts, dtype=pl.String)
    values = series.cast(pl.Float64)
    values = values.set(values.is_infinite(), None)
    expected = [
        value is not None and exact(repr(value)) != exact(text)
        for text, value in zip(texts, values, strict=True)
    ]
    assert is_rounded(series, values).to_list() == expected
    assert is_altered(series, values).to_list() == expected


@given(st.lists(numbers(), min_size=1, max_size=8))
def test_decimal_that_fits_the_counted_digits_holds_all_numbers_exactly(texts):
    """Counting may say more digits than needed, never fewer."""
    frame = pl.DataFrame({"text": texts})
    whole, fraction = frame.select(
        *(count.max().alias(str(i)) for i, count in enumerate(digit_counts(pl.col("text"))))
    ).row(0)
    dtype = decimal_for(whole, fraction)
    if dtype is not None:
        assert frame.select(exact_decimal(pl.col("text"), dtype)).to_series().to_list() == [
            exact(text) for text in texts
        ]


@given(numbers(), st.integers(0, 38))
def test_decimal_of_any_scale_is_exact_or_null(text, scale):
    """polars would round a digit too many."""
    frame = pl.DataFrame({"text": [text]})
    (value,) = frame.select(exact_decimal(pl.col("text"), pl.Decimal(38, scale))).to_series()
    assert value is None or value == exact(text)


@pytest.mark.parametrize(
    ("whole", "fraction", "scale"), [(38, 0, 0), (0, 38, 38), (20, 18, 18), (38, 1, None), (0, 39, None)]
)
def test_decimal_has_at_most_38_digits(whole, fraction, scale):
    """Readers of Parquet and Arrow have no more."""
    dtype = decimal_for(whole, fraction)
    assert (dtype if dtype is None else dtype.scale) == scale


def test_decimal_constant_is_compared_with_decimals_as_a_number():
    """The digits of a decimal are compared without its trailing zeros."""
    texts = pl.Series(["1.10", "1.1", "-0", "2.555"])
    values = texts.cast(pl.Decimal(38, 2), strict=False)
    assert is_altered(texts, values).to_list() == [False, False, False, True]
    assert values[0] == Decimal("1.1")


@given(st.lists(numbers(), min_size=1, max_size=6), numbers())
def test_type_of_numbers_holds_them_all_or_is_text(texts, late):
    """A number that comes later and does not fit is an error, never another number."""
    series = pl.Series("^a$", texts)
    dtype = exact_type(series)
    if dtype == pl.String:
        return
    values = exact_numbers(series, dtype)
    assert [exact(repr(value) if isinstance(value, float) else value) for value in values] == list(
        map(exact, texts)
    )
    try:
        (value,) = exact_numbers(pl.Series([late]), dtype)
    except pl.exceptions.InvalidOperationError:
        return
    assert exact(repr(value) if isinstance(value, float) else value) == exact(late)


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1.5", "2"], pl.Float64()),
        (["9007199254740993", "1.5"], pl.Decimal(38, 1)),
        (["100000000000000000000", "1"], pl.Decimal(38, 0)),
        (["7587E5", "1"], pl.String()),
        (["7587E5", "-1"], pl.Float64()),
        (["1.5e400"], pl.String()),
    ],
)
def test_type_of_numbers_is_the_simplest_that_holds_them(texts, dtype):
    """Doubles, then decimals, then text."""
    assert exact_type(pl.Series(texts)) == dtype
