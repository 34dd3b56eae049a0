"""Numbers of JSON in the outputs: digit for digit in CSV and NDJSON, and exact in the files that others open."""

import decimal
import json

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.model.query import Condition, Query, SortKey
from creemson.storage.names import companion
from tests.examples import examples_of


def outputs_of(folder, data, name="x.ndjson", **query):
    """The cells of the CSV output and the lines of the NDJSON output, of a table with the columns ``k`` and ``v``."""
    (folder / name).write_text(data)
    stored = folder / "stored.parquet"
    run(Query(filename=name, **query), folder / name, stored, lambda _: None)
    for kind in ("csv", "ndjson", "arrow", "parquet"):
        render(
            stored, folder / f"out.{kind}", kind, lambda _: None, name="x", texts=companion(stored, "texts")
        )
    cells = [line.split(",") for line in (folder / "out.csv").read_text().splitlines()[1:]]
    return cells, (folder / "out.ndjson").read_text().splitlines()


def lines_of(numbers):
    """NDJSON with the number of each row in ``k``."""
    return [f'{{"k":{number},"v":{value}}}' for number, value in enumerate(numbers)]


@pytest.mark.parametrize(
    "numbers",
    [
        ["60685111400000017", "1.5"],
        ["10.50", "1.5", "3", "1.0", "0.10", "1E3", "1e-05", "-0.0"],
        ["12345678901234567890.12", "10.50"],
        ["123456789012345678901234567890", "1"],
        ["18446744073709551615", "1"],
        ["0.12345678901234567890123", "2"],
    ],
)
def test_numbers_are_written_digit_for_digit(tmp_path, numbers):
    """Trailing zeros, exponents, integers among fractions; in Parquet and Arrow, the exact values."""
    lines = lines_of(numbers)
    cells, written = outputs_of(tmp_path, "\n".join(lines))
    assert [cell for _, cell in cells] == numbers
    assert written == lines
    wanted = [decimal.Decimal(number) for number in numbers]
    for frame in (pl.read_parquet(tmp_path / "out.parquet"), pl.read_ipc(tmp_path / "out.arrow")):
        assert [decimal.Decimal(str(value)) for value in frame["v"]] == wanted
    found = duckdb.sql(f"select v from '{tmp_path / 'out.parquet'}' order by k").fetchall()
    assert [decimal.Decimal(str(value)) for (value,) in found] == wanted


def test_texts_follow_their_rows_through_a_query(tmp_path):
    """Filtered, sorted and limited; a column of text with what marks a number in a line stays as it is."""
    data = '{"k":1,"v":10.50,"s":"\\u0001\\u00021\\u0001"}\n{"k":2,"v":3,"s":"x"}\n{"k":3,"v":1.10,"s":"y"}\n'
    cells, written = outputs_of(
        tmp_path,
        data,
        selectedColumns=("v", "s"),
        where=(Condition("k", "!=", 3),),
        sort=(SortKey("v", descending=True),),
    )
    assert [row[0] for row in cells] == ["10.50", "3"]
    assert [line[:9] for line in written] == ['{"v":10.5', '{"v":3,"s']
    assert [json.loads(line)["s"] for line in written] == ["\x01\x021\x01", "x"]


NUMBERS = st.one_of(
    st.integers(-(10**28), 10**28).map(str),
    st.integers(-(10**6), 10**6).map(lambda cents: f"{cents / 100:.2f}"),
    st.floats(-1e6, 1e6).map(repr),
    st.decimals(-(10**12), 10**12, places=9).map(lambda value: f"{value:f}"),
)


@settings(max_examples=examples_of(40), deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=10), st.sampled_from(["x.ndjson", "x.json"]))
def test_random_numbers_are_written_digit_for_digit(tmp_path_factory, numbers, name):
    """In lines and in an array, also the form of an exponent."""
    folder = tmp_path_factory.mktemp("x")
    lines = lines_of(numbers)
    data = "\n".join(lines) if name == "x.ndjson" else f"[{','.join(lines)}]"
    cells, written = outputs_of(folder, data, name)

    assert [cell for _, cell in cells] == numbers
    assert written == lines
