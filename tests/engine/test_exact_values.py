"""Numbers and times that a double and a microsecond cannot tell apart: from a CSV to the answer, against DuckDB."""

import datetime
import decimal
import gzip
import importlib.util

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.client.arguments import query_of
from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.errors import InvalidFormat, ProcessingError
from creemson.storage.names import companion
from tests.examples import examples_of

IDS = ["9007199254740993", "9007199254740992", "9007199254740992.5", "1.5", "1.50", "-1.5", "0", ""]
STAMPS = [
    f"2024-03-01 10:00:00.{digits}" for digits in ("123456789", "123456788", "123456", "5", "000000001")
]
TIMES = [*STAMPS, "2024-03-01 10:00:00", ""]
NUMBERS = [*filter(None, IDS), "9007199254740992.25", "123456789012345678901234567890", "-1e60", "1e-30"]
MOMENTS = [
    *filter(None, TIMES),
    "2024-03-01 10:00:00.1234567",
    "1200-01-01 00:00:00",
    "9000-01-01 00:00:00.5",
]
OPERATORS = {"==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def processed(folder, rows, **request):
    """The rows that a request selects from a CSV, as text."""
    source, target = folder / "t.csv", folder / "out.parquet"
    source.write_text("k,id,moment\n" + "".join(f"{key},{one},{at}\n" for key, (one, at) in enumerate(rows)))
    outcome = run(
        query_of("t.csv", options={"header": 1, "delimiter": ","}, **request), source, target, lambda _: None
    )
    assert outcome.issues is None
    frame = pl.read_parquet(target)
    assert frame.select(pl.selectors.by_name("id", require_all=False)).dtypes in ([], [pl.Decimal(38, 1)])
    shown = [
        pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S%.9f")
        if dtype == pl.Datetime("ns")
        else pl.col(name).cast(pl.String)
        for name, dtype in frame.schema.items()
    ]
    return frame.select(shown).rows()


def queried(rows, sql):
    """The same from DuckDB."""
    with duckdb.connect() as other:
        other.sql('CREATE TABLE "table" (k INTEGER, id DECIMAL(38, 1), moment TIMESTAMP_NS)')
        values = [(key, one or None, at or None) for key, (one, at) in enumerate(rows)]
        other.executemany('INSERT INTO "table" VALUES (?, ?, ?)', values)
        return other.sql(sql).fetchall()


ID, AT = "id::VARCHAR", "CASE WHEN moment IS NULL THEN NULL ELSE strftime(moment, '%Y-%m-%d %H:%M:%S.%n') END"
# The first rows need all digits, so that the columns have the same types in each example.
FIRST = [(IDS[0], TIMES[0]), (IDS[2], TIMES[1])]
ROWS = st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(TIMES)), max_size=12).map(
    lambda rows: FIRST + rows
)


@settings(deadline=None, max_examples=examples_of(60))
@given(ROWS, st.sampled_from(NUMBERS), st.sampled_from(list(OPERATORS)), st.sampled_from([str, float, int]))
def test_condition_on_decimals_is_exact(tmp_path_factory, rows, number, operator, kind):
    """With text, a float, which has the digits of its text, or an integer."""
    value = kind(decimal.Decimal(number))
    other = decimal.Decimal(repr(value) if kind is float else value)
    expected = [
        (str(key), cell)
        for key, (cell, _) in enumerate(rows)
        if cell and compared(decimal.Decimal(cell), operator, other)
    ]
    folder = tmp_path_factory.mktemp("numbers")
    found = processed(folder, rows, selectedColumns=["k", "id"], where=[["id", operator, value]])
    assert [(key, decimal.Decimal(cell)) for key, cell in found] == [
        (key, decimal.Decimal(cell)) for key, cell in expected
    ]
    if operator in ("==", "!="):
        negated = "in" if operator == "==" else "not_in"
        assert processed(folder, rows, selectedColumns=["k", "id"], where=[["id", negated, [value]]]) == found


def compared(left, operator, right):
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[operator]


@settings(deadline=None, max_examples=examples_of(60))
@given(ROWS, st.sampled_from(MOMENTS), st.sampled_from(list(OPERATORS)))
def test_condition_on_nanoseconds_is_exact(tmp_path_factory, rows, moment, operator):
    """Also where it has fewer digits than the column, and where the column has no such years."""
    expected = [
        (str(key),)
        for key, (_, cell) in enumerate(rows)
        if cell and compared(written(cell), operator, written(moment))
    ]
    folder = tmp_path_factory.mktemp("times")
    assert processed(folder, rows, selectedColumns=["k"], where=[["moment", operator, moment]]) == expected
    if operator in ("==", "!="):
        negated = "in" if operator == "==" else "not_in"
        assert (
            processed(folder, rows, selectedColumns=["k"], where=[["moment", negated, [moment]]]) == expected
        )


def written(moment):
    """A text that is ordered as the moment is."""
    return (moment if "." in moment else moment + ".").ljust(29, "0")


@settings(deadline=None, max_examples=examples_of(30))
@given(ROWS, st.sampled_from(["id", "moment"]), st.sampled_from(["asc", "desc"]))
def test_sorts_groups_and_distinct_rows_tell_neighbours_apart(tmp_path_factory, rows, column, direction):
    """Equal are only equal values: 1.5 and 1.50, not what a double or a microsecond would round to the same."""
    shown = ID if column == "id" else AT
    folder = tmp_path_factory.mktemp("order")
    assert processed(folder, rows, selectedColumns=["k", column], sort=[[column, direction]]) == queried(
        rows, f'SELECT k::VARCHAR, {shown} FROM "table" ORDER BY {column} {direction} NULLS LAST, k'
    )
    assert processed(folder, rows, group_by=[column], aggregate=[["k", "count", "n"]]) == queried(
        rows, f'SELECT {shown}, count(k)::VARCHAR FROM "table" GROUP BY {column} ORDER BY min(k)'
    )
    assert processed(folder, rows, selectedColumns=[column], distinct=True) == queried(
        rows, f'SELECT {shown} FROM "table" GROUP BY {column} ORDER BY min(k)'
    )
    for function in ("min", "max", "first", "last"):
        sql = f'SELECT {function}({column} ORDER BY k) AS {column} FROM "table"'
        assert processed(folder, rows, aggregate=[[column, function, column]]) == queried(
            rows, f"SELECT {shown} FROM ({sql})"
        )


def test_sum_of_decimals_is_exact(tmp_path):
    """The mean is a double, as that of other numbers."""
    rows = [("9007199254740993", ""), ("0.5", ""), ("1", TIMES[0])]
    assert processed(tmp_path, rows, aggregate=[["id", "sum", "id"]]) == [("9007199254740994.5",)]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize(
    ("number", "words"), [("9" * 38, "more than 38 digits"), (str(2**63 - 1), "64 bits")]
)
def test_sum_that_does_not_fit_is_an_error_in_words(tmp_path, name, number, words):
    """Also if the file is read as a stream, and then again; a double is on offer."""
    content = f"a\n{number}\n{number}\n".encode()
    source, target = tmp_path / name, tmp_path / "o"
    source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ProcessingError, match=rf"A sum in .* {words}. Cast its column to float64"):
        run(query_of(name, aggregate=[["a", "sum", "s"]]), source, target, lambda _: None)
    query = query_of(name, cast={"a": "float64"}, aggregate=[["a", "sum", "s"]])
    run(query, source, target, lambda _: None)
    assert pl.read_parquet(target).item() == 2.0 * int(number)


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.Int64, pl.UInt64]
)
@pytest.mark.parametrize("groups", [None, ["k"]], ids=["all", "groups"])
def test_sum_of_the_largest_integers_is_exact(tmp_path, dtype, groups):
    """Where polars would begin anew at zero, there are 64 bits, or an error."""
    highest = (
        pl.Series([0], dtype=dtype)
        .to_frame("n")
        .select(pl.lit(pl.Series([0], dtype=dtype)).upper_bound())
        .item()
    )
    for values in ([highest, highest, 1], [highest, None], []):
        frame = pl.DataFrame({"k": ["x"] * len(values), "n": pl.Series(values, dtype=dtype)})
        source, target = tmp_path / "t.parquet", tmp_path / "o"
        frame.write_parquet(source)
        query = query_of("t.parquet", group_by=groups, aggregate=[["n", "sum", "s"]])
        if len(values) > 2 and dtype in (pl.Int64, pl.UInt64):
            with pytest.raises(ProcessingError, match="does not fit an integer of 64 bits"):
                run(query, source, target, lambda _: None)
            continue
        run(query, source, target, lambda _: None)
        expected = [] if groups and not values else [sum(filter(None, values))]
        assert pl.read_parquet(target)["s"].to_list() == expected


@pytest.mark.parametrize("value", ["much", "NaN", "inf", True, None])
def test_condition_on_decimals_with_something_else_is_refused(tmp_path, value):
    """The error says what the column is."""
    with pytest.raises(InvalidFormat, match=r"Decimal.* cannot be compared"):
        processed(tmp_path, FIRST, where=[["id", "==", value]])


def test_rows_are_sorted_by_instant_whatever_the_offset(tmp_path):
    """c is 07:00 UTC, a 08:00 and b 09:30."""
    source, target = tmp_path / "t.csv", tmp_path / "out.parquet"
    source.write_text(
        "k,at\na,2024-03-01T10:00:00+02:00\nb,2024-03-01T09:30:00+00:00\nc,2024-03-01T12:00:00+05:00\n"
    )
    run(query_of("t.csv", sort=[["at", "asc"]]), source, target, lambda _: None)
    frame = pl.read_parquet(target)
    assert frame["k"].to_list() == ["c", "a", "b"]
    assert frame["at"][0] == datetime.datetime(2024, 3, 1, 7, tzinfo=datetime.UTC)


def test_condition_sees_a_word_among_words_as_text(tmp_path):
    """Namibia is found by its code, and nobody's number is NA."""
    source, target = tmp_path / "n.csv", tmp_path / "out.parquet"
    source.write_text("country,iso,people\nNamibia,NA,2604\nNorway,NO,NA\nNepal,NP,30548\n")
    run(query_of("n.csv", where=[["iso", "==", "NA"]]), source, target, lambda _: None)
    assert pl.read_parquet(target).rows() == [("Namibia", "NA", 2604)]
    run(query_of("n.csv", where=[["people", "is_null"]]), source, target, lambda _: None)
    assert pl.read_parquet(target)["country"].to_list() == ["Norway"]


@pytest.mark.parametrize("format", ["parquet", "arrow", "ndjson", "csv"])
def test_outputs_have_all_digits_for_other_readers(tmp_path, format):
    """DuckDB, pyarrow and pandas read the values of Parquet and Arrow outputs."""
    source, stored, target = tmp_path / "t.csv", tmp_path / "stored", tmp_path / f"out.{format}"
    source.write_text(
        "id,big,moment\n9007199254740993,18446744073709551616,2024-03-01 10:00:00.123456789\n1.5,-1,2024-03-01 10:00:00\n"
    )
    outcome = run(query_of("t.csv", preview=5, profile=True), source, stored, lambda _: None)
    assert outcome.preview[0] == (
        "9007199254740993.0",
        "18446744073709551616",
        "2024-03-01T10:00:00.123456789",
    )
    assert outcome.profile[2].max == "2024-03-01T10:00:00.123456789"
    assert outcome.profile[1].max == "18446744073709551616"
    render(stored, target, format, lambda _: None, name="out", texts=companion(stored, "texts"))
    if format in ("parquet", "arrow"):
        frame = pl.read_parquet(target) if format == "parquet" else pl.read_ipc(target)
        assert frame.dtypes == [pl.Decimal(38, 1), pl.Decimal(38, 0), pl.Datetime("ns")]
        if format == "parquet":
            with duckdb.connect() as other:
                other.read_parquet(str(target)).create_view("table")
                sql = 'SELECT id::VARCHAR, big::VARCHAR, epoch_ns(moment) % 1000 FROM "table"'
                assert other.sql(sql).fetchall()[0] == ("9007199254740993.0", "18446744073709551616", 789)
        if importlib.util.find_spec("pyarrow") is None:
            return
        import pandas

        table = pandas.read_parquet(target) if format == "parquet" else pandas.read_feather(target)
        assert table["big"][0] == 2**64
        assert table["id"][0] == decimal.Decimal("9007199254740993.0")
        assert table["moment"][0].nanosecond == 789
    else:
        text = target.read_text()
        assert "9007199254740993" in text
        assert "18446744073709551616" in text
        assert "123456789" in text
