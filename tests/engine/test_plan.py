"""Requests beyond selecting: cast, distinct and rename; and which parts of a file are read for them."""

import datetime as dt
import math

import duckdb
import polars as pl
import pytest

from creemson.client.arguments import query_of
from creemson.engine import progress
from creemson.engine.cast import casting
from creemson.engine.export.render import render
from creemson.engine.plan import Plan
from creemson.engine.run import run
from creemson.errors import CreemsonError
from creemson.formats.csv.file import RepairedCopy
from creemson.model.query import TYPES

DAY, MOMENT, UTC = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 23, 30), dt.UTC
NOON = dt.time(12)
HUGE = pl.Series([0, 200_000_000, -200_000_000]).cast(pl.Date)
"""Dates outside Python's calendar."""


def quiet(on_progress):
    """Ignore progress."""


@pytest.fixture
def ask(tmp_path):
    """Run a request on a table or on CSV text; return the output and the outcome."""

    def ask(table, **request):
        source = tmp_path / ("t.csv" if isinstance(table, str) else "t.parquet")
        if isinstance(table, str):
            source.write_text(table)
        else:
            pl.DataFrame(table).write_parquet(source)
        outcome = run(query_of(source.name, **request), source, tmp_path / "out.parquet", quiet)
        return pl.read_parquet(tmp_path / "out.parquet"), outcome

    return ask


def lost(outcome):
    """Return the reported lost values, sorted, because batches may come in any order."""
    return (
        sorted((issue.value or "", issue.why) for issue in outcome.issues.examples) if outcome.issues else []
    )


# --- cast --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        (["1", " 2 ", "-0", "+5", "007", "1.0", "x", "", None], "int64", [1, 2, 0, 5, 7, None, None, None, None]),
        (["127", "128", "-129"], "int8", [127, None, None]),
        (["1.5", "1e3", " 2 ", "inf", "1e400", "x"], "float64", [1.5, 1000.0, 2.0, math.inf, None, None]),
        (["1e38", "1e39", "-Infinity"], "float32", [pytest.approx(1e38), None, -math.inf]),
        (["true", "False", " TRUE", "1", "0", "yes"], "boolean", [True, False, True, True, False, None]),
        (["2024-02-29", "2024/02/29", "29.02.2024", "2024-02-29 23:30:00", "2024-02-30", "02/29/2024"], "date",
         [DAY, DAY, DAY, DAY, None, None]),
        (["2024-02-29T23:30:00", "2024-02-29 23:30", "2024-02-29T23:30:00Z", "x"], "datetime", [MOMENT] * 3 + [None]),
        (["2024-02-29"], "datetime", [dt.datetime(2024, 2, 29)]),
        (["12:00", "12:00:00", "12:00:00.5", "25:00"], "time", [NOON, NOON, dt.time(12, 0, 0, 500_000), None]),
        ([1, 0, 2, None], "boolean", [True, False, None, None]),
        ([1, 300, -1], "uint8", [1, None, None]),
        ([1.0, 2.5, 1e30, math.nan, math.inf, None], "int64", [1, None, None, None, None, None]),
        ([1.0, 0.0, 0.5], "boolean", [True, False, None]),
        ([1.0, 1e300, math.inf], "float32", [1.0, None, math.inf]),
        ([2.5, 3], "string", ["2.5", "3.0"]),
        ([True, False], "string", ["true", "false"]),
        ([True, False], "int8", [1, 0]),
        ([DAY], "string", ["2024-02-29"]),
        ([DAY], "datetime", [dt.datetime(2024, 2, 29)]),
        ([MOMENT, MOMENT.replace(microsecond=5)], "string", ["2024-02-29T23:30:00", "2024-02-29T23:30:00.000005"]),
        ([MOMENT], "date", [DAY]),
        ([MOMENT], "time", [dt.time(23, 30)]),
        ([NOON], "string", ["12:00:00"]),
        (pl.Series([MOMENT]).dt.replace_time_zone("Asia/Tokyo"), "date", [DAY]),
        (pl.Series([MOMENT]).dt.replace_time_zone("Asia/Tokyo"), "time", [dt.time(23, 30)]),
        (pl.Series([MOMENT]).dt.replace_time_zone("Asia/Tokyo"), "string", ["2024-02-29T23:30:00+09:00"]),
        (pl.Series(["1", "x"], dtype=pl.Categorical), "int8", [1, None]),
        (pl.Series(["b", "1"], dtype=pl.Enum(["1", "b"])), "int8", [None, 1]),
        (pl.Series(["1.00", "1.50"]).cast(pl.Decimal(5, 2)), "int64", [1, None]),
        (pl.Series([2**63, 1], dtype=pl.UInt64), "int64", [None, 1]),
        (HUGE, "datetime", [dt.datetime(1970, 1, 1), None, None]),
        (HUGE, "string", ["1970-01-01", None, None]),
        ([[1, 2], None], "string", ["[1, 2]", None]),
        ([None, None], "date", [None, None]),
        (pl.Series([], dtype=pl.String), "date", []),
    ],
)  # fmt: skip
def test_cast_converts_values_and_counts_lost_ones(ask, cells, dtype, expected):
    """Values that make sense as the new type are converted; all others are null and counted."""
    cells = pl.Series("a", cells)
    frame, outcome = ask({"a": cells}, cast={"a": dtype})
    assert frame["a"].to_list() == expected
    missing = frame["a"].null_count() - cells.null_count()
    assert (outcome.issues.unparsable_cells if outcome.issues else 0) == missing
    assert all(issue.column == "a" for issue in (outcome.issues.examples if outcome.issues else ()))


@pytest.mark.parametrize(
    "cells", [[DAY], [MOMENT], [MOMENT.replace(microsecond=500_000)], [NOON], [True, False], [-5], [0.1, 1e300, math.inf]]
)  # fmt: skip
def test_cast_to_string_can_be_reversed(ask, cells):
    """The text of a value is accepted when cast back."""
    kind = {
        dt.date: "date",
        dt.datetime: "datetime",
        dt.time: "time",
        bool: "boolean",
        int: "int64",
        float: "float64",
    }
    texts, _ = ask({"a": cells}, cast={"a": "string"})
    again, outcome = ask(texts, cast={"a": kind[type(cells[0])]})
    assert again["a"].to_list() == cells
    assert outcome.issues is None


def test_lost_values_are_reported_with_expected_form(ask):
    """The issue has the column, the value and the expected form."""
    _, outcome = ask(
        {"a": ["1", "one", "2"], "b": ["x", "2024-01-01", None]}, cast={"a": "int8", "b": "date"}
    )
    assert outcome.issues.unparsable_cells == 2
    assert lost(outcome) == [("one", "not of the type int8"), ("x", "not a date such as 2024-12-31")]


def test_strict_request_with_lost_value_fails(ask):
    """A cast that loses a value is an error in a strict request."""
    with pytest.raises(CreemsonError, match="1 unparsable cell, and the request is strict") as caught:
        ask({"a": ["1", "one"]}, cast={"a": "int8"}, strict=True)
    assert caught.value.reason == "unreadable_file"
    assert ask({"a": ["1", "2"]}, cast={"a": "int8"}, strict=True)[0]["a"].to_list() == [1, 2]


def test_other_clauses_see_the_cast_type(ask):
    """Conditions, groups, aggregates and sorts use the new type."""
    table = {"t": ["10", "9", "x", "9"], "n": [1, 2, 3, 4]}
    assert ask(table, cast={"t": "int8"}, where=[["t", ">", 9]])[0].rows() == [(10, 1)]
    assert ask(table, cast={"t": "int8"}, sort=[["t", "asc"]])[0]["t"].to_list() == [9, 9, 10, None]
    assert ask(table, cast={"t": "int8"}, aggregate=[["t", "sum"]])[0].item() == 28
    frame, _ = ask(table, cast={"n": "string"}, where=[["n", "contains", "2"]], group_by=["n"])
    assert frame.to_dict(as_series=False) == {"n": ["2"]}


def test_cast_is_limited_to_needed_cells(ask):
    """Lost cells of other rows and of unused columns are not reported."""
    table = {"t": ["1", "x", "y", "z"], "n": [1, 2, 3, 4], "other": ["q"] * 4}
    for request, number in (({}, 3), ({"where": [["n", "<", 3]]}, 1), ({"limit": 2}, 1), ({"limit": 1}, 0)):
        _, outcome = ask(table, selectedColumns=["t"], cast={"t": "int8", "other": "int8"}, **request)
        assert (outcome.issues.unparsable_cells if outcome.issues else 0) == number, request


def test_issues_with_limit_are_deterministic(tmp_path):
    """However many batches are in progress when the limit is reached."""
    source = tmp_path / "t.parquet"
    pl.DataFrame({"t": ["1", "x"] * 200_000}).write_parquet(source, row_group_size=5_000)
    query = query_of("t.parquet", cast={"t": "int8"}, limit=1_000)
    assert {run(query, source, tmp_path / "out", quiet).issues.unparsable_cells for _ in range(5)} == {500}


def test_thousands_of_casts_are_fast(ask):
    """A request with thousands of casts cannot keep a server busy."""
    names = [f"c{number}" for number in range(3_000)]
    frame, _ = ask({name: [1] for name in names}, cast=dict.fromkeys(names, "string"))
    assert set(frame.dtypes) == {pl.String()}


def test_impossible_cast_is_refused_with_alternatives():
    """Each is refused, and the possible types are named."""
    for source in (pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), pl.Datetime("ns", "UTC"), pl.Time(),
                   pl.Duration(), pl.String(), pl.Null(), pl.List(pl.Int8()), pl.Binary(), pl.Decimal(5, 2)):  # fmt: skip
        for dtype in TYPES:
            try:
                casting(source, dtype, "$.cast.a")
            except CreemsonError as error:
                (detail,) = error.details
                named = detail.partition("can be cast to ")[2].rstrip(".").replace(",", "").split()
                assert all(casting(source, other, "").name == other for other in named)
                assert dtype not in named
                assert named or source == pl.Binary


def test_dates_in_csv_output_keep_their_format_unless_cast(tmp_path):
    """A CSV output writes dates as the source file does; a cast column uses the standard format."""
    source, out, text = tmp_path / "t.csv", tmp_path / "out.parquet", tmp_path / "out.csv"
    source.write_text("day,at\n28/01/2018,28/01/2018 10:30\n29/01/2018,29/01/2018 10:30\n")
    for request, lines in (
        ({}, ["day,at", "28/01/2018,28/01/2018 10:30"]),
        ({"cast": {"at": "date"}}, ["day,at", "28/01/2018,2018-01-28"]),
        ({"rename": {"day": "at", "at": "day"}}, ["at,day", "28/01/2018,28/01/2018 10:30"]),
        ({"aggregate": [["at", "min", "day"]]}, ["day", "28/01/2018 10:30"]),
    ):
        run(query_of("t.csv", **request), source, out, quiet)
        render(out, text, "csv", quiet, name=out.name)
        assert text.read_text().splitlines()[:2] == lines


# --- distinct, rename --------------------------------------------------------------------------------

ROWS = {"a": [2, 1, 2, None, None, 1], "b": ["x", "y", "x", "z", "z", "q"], "n": [1, 2, 3, 4, 5, 6]}


def test_distinct_keeps_first_rows_in_order(ask):
    """The first of equal rows stays; nulls are equal."""
    frame, _ = ask(ROWS, selectedColumns=["b", "a"], distinct=True)
    assert frame.rows() == [("x", 2), ("y", 1), ("z", None), ("q", 1)]
    assert ask(ROWS, distinct=False)[0].height == 6


def test_distinct_by_columns_keeps_first_row_of_each(ask):
    """The whole row stays; the columns need not be in the output; the sort follows."""
    assert ask(ROWS, distinct=["a"])[0].rows() == [(2, "x", 1), (1, "y", 2), (None, "z", 4)]
    frame, _ = ask(ROWS, selectedColumns=["n"], distinct=[0], sort=[["n", "desc"]], limit=2)
    assert frame["n"].to_list() == [4, 2]
    assert ask(ROWS, distinct=["a", 0])[0].height == 3


def test_distinct_works_for_any_type(ask):
    """NaN equals NaN; lists and structs are equal if their elements are."""
    table = {
        "x": [math.nan, math.nan, 0.0],
        "l": [[1, None], [1, None], []],
        "s": [{"u": 1}, {"u": 1}, {"u": None}],
    }
    for by in (True, ["x"], ["l"], ["s"]):
        assert ask(table, distinct=by)[0].height == 2


def test_distinct_after_group_by_uses_grouped_columns(ask):
    """It follows the grouping and refers to its columns."""
    frame, _ = ask(ROWS, group_by=["b"], aggregate=[["n", "count", "c"]], distinct=["c"])
    assert frame.rows() == [("x", 2), ("y", 1)]
    frame, _ = ask(
        ROWS, group_by=["b"], aggregate=[["n", "count", "c"]], selectedColumns=["c"], distinct=True
    )
    assert frame["c"].to_list() == [2, 1]


def test_rename_is_applied_last(ask):
    """All other clauses use the old names; names may be swapped."""
    frame, _ = ask(
        ROWS, selectedColumns=["b", "a"], where=[["n", "<", 3]], sort=[["a", "asc"]], distinct=["a"],
        rename={"a": "b", "b": "a"},
    )  # fmt: skip
    assert frame.columns == ["a", "b"]
    assert frame.rows() == [("y", 1), ("x", 2)]
    frame, _ = ask(ROWS, group_by=["b"], aggregate=[["n", "sum"]], rename={"n_sum": "^total$", "b": "*"})
    assert frame.columns == ["*", "^total$"]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (["==", "27:15:00"], [1]), (["==", 98100], [1]), (["<", "-0:00:00.5"], [0]), (["in", ["27:15:00", "0:00:01"]], [1]),
        ([">=", "-0:00:01"], [0, 1]), (["not_in", [98100]], [0]),
    ],
)  # fmt: skip
def test_condition_on_durations_is_written_as_they_are_shown(ask, condition, rows):
    """Or as a number of seconds."""
    table = {"d": [-dt.timedelta(seconds=1), dt.timedelta(hours=27, minutes=15)], "n": [0, 1]}
    assert ask(table, where=[["d", *condition]])[0]["n"].to_list() == rows
    for value in ("27:15", "1:60:00", "soon", "0:00:00.0000001", True, "9999999999999:00:00"):
        with pytest.raises(CreemsonError, match="Write it as 27:15:00, or as a number of seconds"):
            ask(table, where=[["d", "==", value]])


# --- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_", [{"selectedColumns": [2024]}, {"sort": [[2024, "asc"]]}, {"where": [[2024, ">", 1]]}]
)
def test_number_that_is_the_name_of_a_column_is_told_how_to_be_written(ask, request_):
    """A number is an index, and the columns of years are found by their names."""
    with pytest.raises(CreemsonError, match=r"0 to 1\. The name of a column is written in quotes: '2024'\."):
        ask({"a": [1], "2024": [2]}, **request_)


NOT_FOUND = "There is no column {} in {}. {}"
KINDS = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 boolean string date datetime time"


@pytest.mark.parametrize(
    ("request_", "reason", "detail"),
    [
        ({"selectedColumns": ["a", "nme"]}, "column_not_found",
         "$.selectedColumns[1]: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"where": [["nme", "==", 1]]}, "column_not_found",
         "$.where[0][0]: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"where": [[9, "==", 1]]}, "column_not_found",
         "$.where[0][0]: There is no column 9 in 't.parquet': it has 4 columns, 0 to 3. The last one is 'name'."),
        ({"group_by": ["a", "nme"]}, "column_not_found",
         "$.group_by[1]: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"aggregate": [["nme", "sum"]]}, "column_not_found",
         "$.aggregate[0][0]: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"sort": [["a", "asc"], ["nme", "asc"]]}, "column_not_found",
         "$.sort[1][0]: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"distinct": ["nme"]}, "column_not_found",
         "$.distinct[0]: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"cast": {"nme": "int8"}}, "column_not_found",
         "$.cast.nme: There is no column 'nme' in 't.parquet'. Did you mean 'name'?"),
        ({"rename": {"nme": "b"}}, "column_not_found",
         "$.rename.nme: There is no column 'nme' in the output. Did you mean 'name'?"),
        ({"selectedColumns": ["a"], "rename": {"name": "b"}}, "column_not_found",
         "$.rename.name: There is no column 'name' in the output. Did you mean 'a'?"),
        ({"group_by": ["name"], "distinct": ["a"]}, "column_not_found",
         "$.distinct[0]: There is no column 'a' in the grouped output. Did you mean 'name'?"),
        ({"group_by": ["name"], "rename": {"a": "b"}}, "column_not_found",
         "$.rename.a: There is no column 'a' in the output. Did you mean 'name'?"),
        ({"rename": {"a": "name"}}, "invalid_columns",
         "$.rename: The column 'name' occurs twice in the renamed output."),
        ({"cast": {"day": "boolean"}}, "invalid_message",
         "$.cast.day: Date cannot be cast to boolean. It can be cast to string, date, datetime."),
        ({"cast": {"list": "int64"}}, "invalid_message",
         "$.cast.list: List(Int64) cannot be cast to int64. It can be cast to string."),
        ({"where": [["a", "==", "1"]]}, "invalid_message",
         "$.where[0][2]: 'a' is Int64, which cannot be compared with '1'."),
        ({"where": [["a", "==", "1" * 1000]]}, "invalid_message",
         f"$.where[0][2]: 'a' is Int64, which cannot be compared with '{'1' * 60}'."),
        ({"where": [["a", "==", True]]}, "invalid_message",
         "$.where[0][2]: 'a' is Int64, which cannot be compared with true."),
        ({"where": [["day", "==", None]]}, "invalid_message",
         "$.where[0][2]: 'day' is Date, which cannot be compared with null. Use is_null or not_null."),
        ({"where": [["a", "contains", None]]}, "invalid_message",
         "$.where[0]: contains compares text with text; 'a' is Int64, got null"),
        ({"cast": {"a": "string"}, "where": [["a", "==", 1]]}, "invalid_message",
         "$.where[0][2]: 'a' is String, which cannot be compared with 1. Write it in quotes, as text."),
        ({"where": [["a", "like", "1"]]}, "invalid_message",
         "where[0]: expected an operator (== != < <= > >= in not_in is_null not_null contains starts_with ends_with icontains istarts_with iends_with iequals), "
         'got "like"'),
        ({"cast": {"a": "integr"}}, "invalid_message",
         f"cast.a: expected one of ({KINDS}), got \"integr\". Did you mean 'int8'?"),
        ({"cast": {"a": None}}, "invalid_message", f"cast.a: expected one of ({KINDS}), got null"),
        ({"cast": ["a"]}, "invalid_message", 'cast: expected an object, got ["a"]'),
        ({"distinct": "a"}, "invalid_message", 'distinct: expected true, false or a list of columns, got "a"'),
        ({"distinct": []}, "invalid_message", "distinct: expected true, false or a list of columns, got []"),
        ({"distinct": ["a", None]}, "invalid_message", "distinct: expected an index or a name at [1], got null"),
        ({"rename": {"a": ""}}, "invalid_message",
         'rename.a: expected 1 to 1000 characters, got ""'),
        ({"rename": {"a": 1}}, "invalid_message", "rename.a: expected a string, got 1"),
        ({"rename": "a"}, "invalid_message", 'rename: expected an object, got "a"'),
    ],
)  # fmt: skip
def test_invalid_request_is_refused_with_path_and_hint(ask, request_, reason, detail):
    """The details have the path, or the argument of Python; the message does not repeat itself."""
    with pytest.raises(CreemsonError) as caught:
        ask({"a": [1], "day": [DAY], "list": [[1]], "name": ["x"]}, **request_)
    assert caught.value.reason == reason
    assert caught.value.details == (detail,)
    assert detail.partition(": ")[2].rstrip(".") in caught.value.message
    assert not caught.value.message.endswith("?.")


# --- what is read ------------------------------------------------------------------------------------


@pytest.fixture
def groups_of_rows(tmp_path):
    """A Parquet file with ten row groups and four columns, and a function that corrupts parts of it."""
    path = tmp_path / "t.parquet"
    numbers = pl.int_range(100_000, eager=True)
    pl.DataFrame(
        {"n": numbers, "t": numbers.cast(pl.String), "half": numbers / 2, "unused": numbers * 7}
    ).write_parquet(path, row_group_size=10_000)

    def spoil(*, keep, groups):
        """Overwrite all column chunks except those of the kept columns in the kept row groups."""
        with duckdb.connect() as other:
            chunks = other.execute(
                "SELECT path_in_schema, row_group_id, least(dictionary_page_offset, data_page_offset), "
                "total_compressed_size, data_page_offset FROM parquet_metadata(?)",
                [str(path)],
            ).fetchall()
        with path.open("r+b") as stream:
            for column, group, first, size, data in chunks:
                if column not in keep or group not in groups:
                    stream.seek(first or data)
                    stream.write(b"\xff" * size)

    return path, spoil


def test_unneeded_parts_of_parquet_are_not_read(groups_of_rows, tmp_path):
    """Neither unneeded columns nor row groups that a condition excludes by statistics are read."""
    path, spoil = groups_of_rows
    requests = [
        {"selectedColumns": ["t"], "where": [["n", ">=", 35_000], ["n", "<", 40_000]]},
        {"selectedColumns": ["t"], "where": [["n", "in", [35_000, 39_999]]], "sort": [["n", "desc"]]},
        {"where": [["n", "==", 35_000]], "group_by": ["t"], "rename": {"t": "text"}},
        {
            "selectedColumns": ["t"],
            "where": [["n", ">=", 35_000], ["n", "<", 40_000]],
            "cast": {"t": "int64"},
        },
        {"selectedColumns": ["t"], "where": [["n", "<", 40_000], ["n", ">", 30_000]], "distinct": True},
    ]
    target = tmp_path / "out.parquet"
    expected = [run(query_of("t.parquet", **request), path, target, quiet).rows for request in requests]
    assert expected == [5_000, 2, 1, 5_000, 9_999]
    spoil(keep={"n", "t"}, groups={3})
    for request, rows in zip(requests, expected, strict=True):
        assert run(query_of("t.parquet", **request), path, target, quiet).rows == rows
    with pytest.raises(CreemsonError, match="damaged"):
        run(query_of("t.parquet", selectedColumns=["t"]), path, target, quiet)


def test_scan_gets_columns_and_conditions(groups_of_rows):
    """In polars' plan, the scan has columns and conditions, below the row counter."""
    path, _ = groups_of_rows
    frame = pl.scan_parquet(path)
    query = query_of(
        "t.parquet", selectedColumns=["t"], where=[["n", "<", 5], ["t", ">", 1]], cast={"t": "int64"}
    )
    plan = Plan(query, frame.collect_schema())
    asked = plan.apply(frame.select(plan.needed), lambda batch: batch, has_row_count=True).explain()
    scan = asked[asked.index("Parquet SCAN") :]
    assert "PROJECT 2/4 COLUMNS" in scan
    assert 'col("n") < 5' in scan.partition("SELECTION")[2]
    assert 'col("t")' not in scan.partition("SELECTION")[2]


def test_limit_stops_reading_early(tmp_path, monkeypatch):
    """A regular CSV is not taken for a ragged one because rows were not read."""
    source = tmp_path / "t.csv"
    pl.DataFrame({"a": range(300_000), "b": ["x,y"] * 300_000}).write_csv(source)
    monkeypatch.setattr(RepairedCopy, "write", lambda self, workspace: pytest.fail("nothing needs repair"))
    reports = []
    outcome = run(query_of("t.csv", limit=3, preview=3), source, tmp_path / "out", reports.append)
    assert outcome.preview == ((0, "x,y"), (1, "x,y"), (2, "x,y"))
    assert outcome.issues is None


def test_ragged_file_is_repaired_despite_limit(tmp_path):
    """The short row is far below the limit."""
    source = tmp_path / "t.csv"
    source.write_text("a,b\n" + "1,2\n" * 200_000 + "3\n" + "4,5\n" * 100_000)
    outcome = run(query_of("t.csv", limit=3, preview=3), source, tmp_path / "out", quiet)
    assert outcome.preview == ((1, 2),) * 3
    assert outcome.issues.padded_rows == 1


def test_distinct_reports_phase_sorting(tmp_path, monkeypatch):
    """As with a sort, no batch passes while the last ones are collected."""
    monkeypatch.setattr(progress, "QUIET", 0.005)
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    source, phases = tmp_path / "t.parquet", set()
    numbers = pl.int_range(1_500_000, eager=True)
    pl.DataFrame({"n": numbers, "t": (numbers * 2654435761 % 1_000_003).cast(pl.String)}).write_parquet(
        source
    )
    run(
        query_of("t.parquet", distinct=True),
        source,
        tmp_path / "out",
        lambda on_progress: phases.add(on_progress.phase),
    )
    assert phases == {"reading", "sorting", "writing"}
