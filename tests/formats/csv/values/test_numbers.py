"""How numbers with separated thousands, and amounts with signs, are read."""

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.client.arguments import query_of
from creemson.engine.run import run
from creemson.formats.csv.values.kinds import TEXT
from creemson.formats.csv.values.types import infer_kinds, requested_kind, sample_cells
from creemson.model.query import Options
from tests.examples import examples_of


def read(cells, **options):
    """The detected type of a column with these cells, and the values."""
    frame = pl.DataFrame({"a": cells}, schema={"a": pl.String})
    kind = infer_kinds(frame, ["a"], {"a": sample_cells(frame["a"])}, Options(**options))["a"]
    return kind.dtype, kind.converted(frame["a"]).to_list()


def requested(cells, name="float64", **options):
    """The values of a column that is requested as numbers."""
    column = pl.Series("a", cells)
    kind = requested_kind(name, sample_cells(column), Options(**options), column)
    return kind.converted(column).to_list()


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.000", "1.111,11", "2.500"], [1000.0, 1111.11, 2500.0]),
        (["1,234.50", "999", "1,000"], [1234.5, 999.0, 1000.0]),
        (["1,234,567.5", "999"], [1234567.5, 999.0]),
        (["1'234.50", "1'234"], [1234.5, 1234.0]),
        (["1'234", "5"], [1234, 5]),
        (["1 234,50", "0,5"], [1234.5, 0.5]),
        (["1\u00a0234", "5"], [1234, 5]),
        (["1\u202f234,50", "5"], [1234.5, 5.0]),
        (["(1,234.50)", "2.00"], [-1234.5, 2.0]),
        (["(5.00)", "2.00"], [-5.0, 2.0]),
        (["12,345,678,901,234,567.25", "1.5"], [Decimal("12345678901234567.25"), Decimal("1.5")]),
        (["99'999'999'999'999'999'999", "1"], [Decimal(99999999999999999999), Decimal(1)]),
    ],
    ids=str,
)
def test_separated_thousands_are_read_where_they_are_certain(cells, values):
    """Something in the column can mean nothing else."""
    assert read(cells)[1] == values


@pytest.mark.parametrize(
    "cells",
    [
        ["1,000", "2,500"],  # or fractions
        ["1,234,567", "2,345,678"],  # or lists
        ["1 000", "2 500"],
        ["12,34,567"],
        ["1,234.50", "1,5"],  # the comma would be both
        ["1,234.50", "1.234,50"],
        ["0,500.5"],
        ["(5)", "(6)"],  # all: notes
        ["$1,234.50", "$2.00"],
        ["5%", "6%"],
        ["192.168.100.101", "192.168.100.102"],
    ],
    ids=str,
)
def test_signs_that_may_mean_something_else_leave_text(cells):
    """Nothing is lost."""
    assert read(cells) == (TEXT.dtype, cells)


@pytest.mark.parametrize(
    ("sign", "cells", "values"),
    [
        (",", ["1,000", "2,500"], [1000, 2500]),
        (",", ["1,000.5", "2.25"], [1000.5, 2.25]),
        (",", ["12,34,567", "1"], [1234567, 1]),  # lakhs
        (".", ["1.000", "2.500"], [1000, 2500]),
        (".", ["1.000,5", "2,25"], [1000.5, 2.25]),
        (".", ["1.5", "2.25"], ["1.5", "2.25"]),  # no number with such thousands
        ("'", ["1'000", "2.5"], [1000.0, 2.5]),
        (" ", ["1 000", "2,5"], [1000.0, 2.5]),
        ("\u202f", ["1\u202f000"], [1000]),
        (",", ["1E5", "2E5"], ["1E5", "2E5"]),
        (",", ["007", "1,000"], ["007", "1,000"]),
        (",", ["x", "1,000"], ["x", "1,000"]),
    ],
    ids=str,
)
def test_thousands_of_the_request_are_read(sign, cells, values):
    """The other one of comma and point is the decimal separator."""
    assert read(cells, thousands=sign)[1] == values


@given(
    st.lists(st.decimals(-(10**15), 10**15, places=2), min_size=1, max_size=8),
    st.sampled_from([(",", "."), (".", ","), ("'", "."), (" ", ","), ("\u202f", ","), ("\u00a0", ".")]),
)
@settings(max_examples=examples_of(100), deadline=None)
def test_amounts_with_requested_signs_are_exact(amounts, signs):
    """Whatever separates thousands and fractions, each value is the written number."""
    thousands, decimal = signs
    cells = [f"{amount:,.2f}".translate(str.maketrans({",": thousands, ".": decimal})) for amount in amounts]
    dtype, values = read(cells, thousands=thousands, decimal=decimal)
    assert dtype.is_numeric()
    assert [Decimal(repr(value) if isinstance(value, float) else value) for value in values] == amounts


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["$1,234.50", "-$2.00", "$-3"], [1234.5, -2.0, -3.0]),
        (["1.234,50 €", "2,00 €"], [1234.5, 2.0]),
        (["EUR 5.50", "EUR 6"], [5.5, 6.0]),
        (["5.50 USD", None], [5.5, None]),
        (["$5", "€6"], [5.0, None]),  # another currency
        (["5%", "12.345 %"], [0.05, 0.12345]),
        (["5%", "6"], [0.05, None]),  # 6 or 0.06
        (["(1,234.50)", "2.00", "($3.00)"], [-1234.5, 2.0, -3.0]),
        (["(5)"], [-5.0]),
        (["3,00-", "4,50", "1.234,00 -"], [-3.0, 4.5, -1234.0]),  # as SAP writes them
        (["1.50-", "2.00", "1,234.00-"], [-1.5, 2.0, -1234.0]),
        (["5,00- €", "6,00 €", "2-3", "--4-"], [-5.0, 6.0, None, None]),
        (["1'234.50"], [1234.5]),
        (["1.5", "1e3", "+2", "inf"], [1.5, 1000.0, 2.0, float("inf")]),
    ],
    ids=str,
)
def test_requested_amounts_are_numbers(cells, values):
    """Currency signs, percent and parentheses; a cell that does not fit has no value."""
    assert requested(cells) == values


def test_requested_integers_may_have_thousands():
    """Integers have no fractions, so that a comma cannot begin one."""
    assert requested(["1,000", "2"], "int64") == [1000, 2]
    assert requested(["007", "1.5"], "int64") == [7, None]


DAY = dt.date(2024, 2, 1)


@pytest.mark.parametrize(
    ("pattern", "cells", "values"),
    [
        ("%d/%m/%Y", ["01/02/2024"], [DAY]),
        ("%m/%d/%Y", ["02/01/2024"], [DAY]),
        ("%m/%d/%Y", ["soon"], ["soon"]),
        ("%m/%d/%Y", ["2024-02-01"], [DAY]),  # another date column
        ("%d.%m.%y", ["01.02.24"], [DAY]),
        ("%Y%m%d", ["20240201"], [DAY]),
        ("%b %d, %Y", ["Feb 01, 2024"], [DAY]),
        ("%d/%m/%Y %I:%M %p", ["01/02/2024 03:05 PM"], [dt.datetime(2024, 2, 1, 15, 5)]),
        ("%d/%m/%Y %H:%M:%S%.f", ["01/02/2024 03:05:01.5"], [dt.datetime(2024, 2, 1, 3, 5, 1, 500_000)]),
        ("%d/%m/%Y %H:%M%z", ["01/02/2024 03:05+0200"], [dt.datetime(2024, 2, 1, 1, 5, tzinfo=dt.UTC)]),
        ("%I:%M %p", ["03:05 PM"], [dt.time(15, 5)]),
        ("%d/%m/%Y", ["5", "6"], [5, 6]),
    ],
    ids=str,
)
def test_dates_in_the_pattern_of_the_request_are_read(pattern, cells, values):
    """The pattern is for all date columns; others stay what they are."""
    assert read(cells, date_format=pattern)[1] == values


def test_pattern_with_nanoseconds_keeps_them():
    """The type is the one that holds the values, as without a pattern."""
    cells = ["01/02/2024 03:05:01.123456789"]
    assert read(cells, date_format="%d/%m/%Y %H:%M:%S%.f")[0] == pl.Datetime("ns")


@given(
    st.lists(st.dates(dt.date(1000, 1, 1)), min_size=1, max_size=5),
    st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%d %b %Y"]),
)
@settings(max_examples=examples_of(60), deadline=None)
def test_dates_written_in_a_pattern_are_read_in_it(days, pattern):
    """Each date is the one that was written."""
    assert read([day.strftime(pattern) for day in days], date_format=pattern)[1] == days


@pytest.mark.parametrize(
    "amounts", [["1.234,50 €", "3,00 €"], ["12,5 %", "3,0 %"], ["1.234,50-", "3,00"], ["<0,05", "3,0"]]
)
def test_points_are_no_decimal_points_beside_amounts_with_decimal_commas(tmp_path, amounts):
    """Also if those are text because of their signs; a request for numbers reads thousands."""
    path = tmp_path / "t.csv"
    path.write_text(
        "count;amount\n"
        + "".join(f"{count};{amount}\n" for count, amount in zip(["1.234", "2.500"], amounts, strict=True))
    )
    for request, values in (
        ({}, ["1.234", "2.500"]),
        ({"columns": ["count"]}, ["1.234", "2.500"]),
        ({"options": {"decimal": "."}}, ["1.234", "2.500"]),
        ({"options": {"types": {"count": "float64"}}}, [1234.0, 2500.0]),
        ({"options": {"types": {"count": "float64"}, "decimal": "."}}, [1.234, 2.5]),
    ):
        run(query_of("t.csv", **request), path, tmp_path / "out", lambda _: None)
        assert pl.read_parquet(tmp_path / "out")["count"].to_list() == values


def test_thousands_of_a_requested_column_are_not_those_of_the_file(tmp_path):
    """The reading, sent back, read other columns in another way."""
    path = tmp_path / "t.csv"
    path.write_text('a,b\n$10.50,"1,000"\n"$1,234.00","2,500"\n')
    types = {"a": "float64"}
    for options in ({"types": types}, {"types": types, "thousands": ","}):
        outcome = run(query_of("t.csv", options=options), path, tmp_path / "out", lambda _: None)
        told = outcome.reading.thousands
        assert told == options.get("thousands")
        values = pl.read_parquet(tmp_path / "out")["b"].to_list()
        assert values == (["1,000", "2,500"] if told is None else [1000, 2500])
