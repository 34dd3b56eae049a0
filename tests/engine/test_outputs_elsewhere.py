"""Outputs of every kind of table have equal values in other programs, and texts that are those of the source."""

import csv
import datetime as dt
import gzip
import io
import json
import math
from collections import Counter
from decimal import Decimal

import attrs
import duckdb
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creemson.client.arguments import query_of
from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.engine.windows.window import window
from creemson.errors import ProcessingError
from creemson.storage.names import companion
from tests.cases import CASES, REFUSED

SHARE = 5
"""Of the cases whose rows are chosen in many ways, one of this number is not slow."""
NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
DAY = 86_400 * 1_000_000_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def quiet(on_progress):
    """Ignore progress."""


def processed(source, target, **request):
    """Carry out a request."""
    return run(query_of(source.name, **request), source, target, quiet)


def rendered(stored, kind):
    """Convert an output, and return the path."""
    target = stored.with_name(f"rendered.{kind}")
    render(stored, target, kind, quiet, name="out.parquet", texts=companion(stored, "texts"))
    return target


def records(stored):
    """The names and the rows of the CSV output."""
    text = rendered(stored, "csv").read_bytes().decode()
    names, *rows = csv.reader(io.StringIO(text, newline=""))
    return tuple(names), tuple(map(tuple, rows))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The file of a case, the output of all its columns, and its outcome."""
    done = {}

    def whole(key):
        if key not in done:
            folder = tmp_path_factory.mktemp("whole")
            source, stored = CASES[key].write(folder), folder / "out.parquet"
            done[key] = source, stored, processed(source, stored)
        return done[key]

    return whole


@pytest.fixture(scope="module")
def database():
    """DuckDB in memory."""
    with duckdb.connect() as connection:
        yield connection


def cases(function):
    """Run a test with each case."""
    return pytest.mark.parametrize("key", CASES)(function)


# --- values in one form, whatever program has them --------------------------------------------------------


def plain(value):
    """A value in one form: times as nanoseconds, numbers as Python has them."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return value


def arrow_values(column):
    """The values of a column of Arrow."""
    kind = column.type
    if pa.types.is_interval(kind):  # DuckDB has these for durations
        return [
            None if value is None else value.days * DAY + value.nanoseconds for value in column.to_pylist()
        ]
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        whole = column.cast(pa.int32()) if pa.types.is_time32(kind) else column
        counts = whole.cast(pa.int64()).to_pylist()
        return [None if count is None else count * NANOSECONDS[kind.unit] for count in counts]
    return list(map(plain, column.to_pylist()))


def table_values(table):
    """The columns of a table of Arrow, by name."""
    return {name: arrow_values(table[name]) for name in table.column_names}


def duckdb_values(table, like):
    """The columns of a table from DuckDB; Parquet has no durations, so they are integers there."""
    found = table_values(table)
    for name, field in zip(like.names, like, strict=True):
        if pa.types.is_duration(field.type) and pa.types.is_integer(table[name].type):
            found[name] = [None if n is None else n * NANOSECONDS[field.type.unit] for n in found[name]]
    return found


def pandas_value(value):
    """A value of pandas."""
    if isinstance(value, dict):
        return {name: pandas_value(item) for name, item in value.items()}
    if hasattr(value, "tolist") and not isinstance(value, str):
        return [pandas_value(item) for item in value.tolist()] if value.ndim else pandas_value(value.item())
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, pd.Timedelta):
        return value.value if value.unit == "ns" else value // pd.Timedelta(microseconds=1) * 1000
    if isinstance(value, pd.Timestamp):
        moment = value.to_pydatetime(warn=False)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return (moment - EPOCH) // dt.timedelta(microseconds=1) * 1000 + value.nanosecond
    if isinstance(value, dt.time):
        since = dt.datetime.combine(EPOCH, value, dt.UTC) - EPOCH
        return since // dt.timedelta(microseconds=1) * 1000
    return value


def pandas_values(frame):
    """The columns of a frame of pandas, by name."""
    return {name: list(map(pandas_value, frame[name])) for name in frame.columns}


def in_pandas(column, kind):
    """What pandas has of a column: integers beside nulls are fractions there."""
    if None in column and pa.types.is_integer(kind):
        return [None if value is None else float(value) for value in column]
    return column


@cases
def test_parquet_and_arrow_have_equal_values_elsewhere(whole, database, key):
    """In pyarrow, pandas and DuckDB."""
    _, stored, outcome = whole(key)
    table = pq.read_table(stored)
    expected = table_values(table)
    assert [len(column) for column in expected.values()] == [outcome.rows] * len(outcome.columns)
    assert table_values(pl.read_parquet(stored).to_arrow()) == expected
    in_frames = {name: in_pandas(column, table[name].type) for name, column in expected.items()}
    assert pandas_values(pd.read_parquet(stored)) == in_frames
    assert duckdb_values(database.read_parquet(str(stored)).to_arrow_table(), table.schema) == expected

    assert table_values(pq.read_table(rendered(stored, "parquet"))) == expected
    path = rendered(stored, "arrow")
    with pa.ipc.open_file(path) as file:
        table = file.read_all()
    assert table_values(table) == expected
    assert pandas_values(pd.read_feather(path)) == in_frames
    assert duckdb_values(database.from_arrow(table).to_arrow_table(), table.schema) == expected


@cases
def test_csv_has_the_cells_of_the_source(whole, key):
    """And its names; what is repaired or lost is counted."""
    _, stored, outcome = whole(key)
    assert_written(CASES[key], stored, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.is_text])
def test_csv_of_a_stream_has_the_cells_of_the_source(tmp_path, key):
    """Compressed files are not read at once, however small they are."""
    case = CASES[key]
    source, stored = tmp_path / f"{case.name}.gz", tmp_path / "out.parquet"
    source.write_bytes(gzip.compress(case.content))
    assert_written(case, stored, processed(source, stored))


@cases
def test_windows_of_texts_show_the_cells_of_the_csv(whole, key):
    """Of the output, and of the file."""
    source, stored, _ = whole(key)
    for path in (source, stored):
        shown = window(path, path.name, 0, 1000, as_texts=True, texts=companion(path, "texts"))
        cells = tuple(tuple("" if cell is None else cell for cell in row) for row in shown.rows)
        assert cells == CASES[key].rows[:1000]


def assert_written(case, stored, outcome):
    """The CSV output has the cells, and the outcome the issues, of a case."""
    assert records(stored) == (case.names, case.rows)
    counts = {} if outcome.issues is None else attrs.asdict(outcome.issues, recurse=False)
    assert {kind: count for kind, count in counts.items() if isinstance(count, int) and count} == case.issues


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "key",
    [
        key if number % SHARE == 0 else pytest.param(key, marks=pytest.mark.slow)
        for number, key in enumerate(CASES)
    ],
)
def test_chosen_rows_agree_with_duckdb_and_have_texts_of_the_source(tmp_path, whole, database, key):
    """With conditions, sorted, distinct, limited and grouped."""
    case = CASES[key]
    source, stored, _ = whole(key)
    target = tmp_path / "out.parquet"
    schema = pl.read_parquet_schema(stored)
    database.read_parquet(str(stored), file_row_number=True).to_table("t")
    try:
        every = ", ".join(map(quoted, schema))

        def agreed(sql, **request):
            """The CSV output of a request, whose values are those of DuckDB."""
            processed(source, target, **request)
            ours = table_values(pq.read_table(target))
            assert list(ours.values()) == list(
                duckdb_values(database.sql(sql).to_arrow_table(), pq.read_schema(target)).values()
            )
            return records(target)[1]

        for sql, request in requests(every, schema):
            rows = agreed(sql, **request)
            if "rename" in request:
                assert_other_formats(target, rows)
            if "group_by" in request:
                place = list(schema).index(request["group_by"][0])
                assert Counter(row[0] for row in rows) <= Counter(row[place] for row in case.rows)
            elif "sort" in request and "where" not in request:
                assert Counter(rows) == Counter(case.rows)
            else:
                assert Counter(rows) <= Counter(case.rows)
    finally:
        database.sql("DROP TABLE t")


def assert_other_formats(stored, rows):
    """NDJSON, Arrow and the workbook have the rows of a stored output, and the normalized CSV has its values."""
    frame = pl.read_parquet(stored)
    with pa.ipc.open_file(rendered(stored, "arrow")) as file:
        assert table_values(file.read_all()) == table_values(pq.read_table(stored))
    assert_lines(rendered(stored, "ndjson"), frame)
    sheet = list(openpyxl.load_workbook(rendered(stored, "xlsx")).active.iter_rows(values_only=True))
    assert (len(sheet), sheet[0]) == (1 + frame.height, tuple(frame.columns))
    text = rendered(stored, "normalized.csv").read_bytes().decode()
    names, *values = csv.reader(io.StringIO(text, newline=""))
    assert (tuple(names), len(values)) == (tuple(frame.columns), len(rows))
    for name, column in zip(names, zip(*values, strict=True), strict=False):
        if frame.schema[name].is_integer() or frame.schema[name] in (pl.String, pl.Boolean):
            shown = ("" if value is None else str(value) for value in frame.get_column(name).to_list())
            is_boolean = frame.schema[name] == pl.Boolean
            assert list(column) == [value.lower() if is_boolean else value for value in shown]


def requests(every, schema):
    """Requests for a table, with the same in SQL."""
    in_order = "ORDER BY file_row_number"
    yield f"SELECT {every} FROM t {in_order} LIMIT 2", {"limit": 2}
    comparable = [
        name
        for name, dtype in schema.items()
        if not dtype.is_nested() and dtype not in (pl.Categorical, pl.Enum)
    ]
    if len(comparable) == len(schema):
        first = f"QUALIFY row_number() OVER (PARTITION BY {every} {in_order}) = 1"
        yield f"SELECT {every} FROM t {first} {in_order}", {"distinct": True}
    for name in comparable:
        column = quoted(name)
        yield f"SELECT {every} FROM t WHERE {column} IS NOT NULL {in_order}", {"where": [[name, "not_null"]]}
        yield (
            f"SELECT {every} FROM t ORDER BY {column} NULLS LAST, file_row_number",
            {"sort": [[name, "asc"]]},
        )
        yield (
            f"SELECT {column}, count({column}) AS made FROM t GROUP BY {column} ORDER BY min(file_row_number)",
            {"group_by": [name], "aggregate": [[name, "count", "made"]]},
        )
        shown = ", ".join(f"{quoted(old)} AS renamed" if old == name else quoted(old) for old in schema)
        yield (
            f"SELECT {shown} FROM t WHERE {column} IS NOT NULL ORDER BY {column} DESC, file_row_number LIMIT 5",
            {
                "where": [[name, "not_null"]],
                "sort": [[name, "desc"]],
                "limit": 5,
                "rename": {name: "renamed"},
            },
        )


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def assert_lines(path, frame):
    """The file has an object for each row of a table, with its values."""
    lines = path.read_bytes().decode().splitlines() if frame.height else []
    found = [json.loads(line, parse_constant=refuse, parse_float=Decimal) for line in lines]
    assert len(found) == frame.height
    assert all(list(row) == frame.columns for row in found)
    for name, dtype in frame.schema.items():
        values = [row[name] for row in found]
        if dtype.is_decimal():  # as text, or with the digits of JSON
            values = [None if value is None else Decimal(value) for value in values]
        elif dtype.is_float():
            values = pl.Series(
                [None if value is None else float(value) for value in values], dtype=dtype
            ).to_list()
        elif dtype not in (pl.String, pl.Boolean) and not dtype.is_integer():
            continue
        assert values == frame.get_column(name).to_list()


@cases
def test_ndjson_and_workbook_have_the_rows(whole, key):
    """JSON of the standard library, and openpyxl."""
    _, stored, outcome = whole(key)
    assert_lines(rendered(stored, "ndjson"), pl.read_parquet(stored))
    book = openpyxl.load_workbook(rendered(stored, "xlsx"))
    sheet = list(book.active.iter_rows(values_only=True))
    assert len(sheet) == 1 + outcome.rows
    assert sheet[0] == outcome.columns


@pytest.mark.parametrize(("name", "content", "word"), REFUSED.values(), ids=REFUSED)
def test_other_files_are_refused_by_name(tmp_path, name, content, word):
    """And the message says what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProcessingError, match=word):
        processed(tmp_path / name, tmp_path / "out.parquet")
