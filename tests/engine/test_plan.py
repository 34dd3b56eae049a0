"""What a request makes of a table beyond picking: other types, rows once only, other names; and what it reads for that."""

import datetime as dt
import math

import duckdb
import polars as pl
import pytest

from creemson.client.jobs import query_of
from creemson.errors import CreemsonError
from creemson.processing import csv_table, progress
from creemson.processing.casts import casting
from creemson.processing.engine import render, run
from creemson.processing.plan import Plan
from creemson.wire.messages import TYPES

DAY, MOMENT, UTC = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 23, 30), dt.UTC
NOON = dt.time(12)
HUGE = pl.Series([0, 200_000_000, -200_000_000]).cast(pl.Date)
"""Days that no calendar has."""


def quiet(tick):
    """A tick that nobody listens to."""


@pytest.fixture
def ask(tmp_path):
    """Runs a request on a table, or on the text of a CSV; gives the output and the outcome."""

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
    """The values that were lost, as far as they are told; batches may come in any order."""
    return (
        sorted((issue.value or "", issue.why) for issue in outcome.issues.examples) if outcome.issues else []
    )


# --- cast --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "wanted", "expected"),
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
def test_casts(ask, cells, wanted, expected):
    """What makes sense as the other type is converted; all else is null, and counted."""
    cells = pl.Series("a", cells)
    frame, outcome = ask({"a": cells}, cast={"a": wanted})
    assert frame["a"].to_list() == expected
    missing = frame["a"].null_count() - cells.null_count()
    assert (outcome.issues.unparsable_cells if outcome.issues else 0) == missing
    assert all(issue.column == "a" for issue in (outcome.issues.examples if outcome.issues else ()))


@pytest.mark.parametrize(
    "cells", [[DAY], [MOMENT], [MOMENT.replace(microsecond=500_000)], [NOON], [True, False], [-5], [0.1, 1e300, math.inf]]
)  # fmt: skip
def test_what_was_made_text_can_be_made_itself_again(ask, cells):
    """The text of a value is one that the other way round is understood."""
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


def test_what_is_lost_is_told(ask):
    """With the column, the value and what would be right."""
    _, outcome = ask(
        {"a": ["1", "one", "2"], "b": ["x", "2024-01-01", None]}, cast={"a": "int8", "b": "date"}
    )
    assert outcome.issues.unparsable_cells == 2
    assert lost(outcome) == [("one", "not of the type int8"), ("x", "not a date such as 2024-12-31")]


def test_strict_requests_lose_nothing(ask):
    """What a cast would lose is an error then."""
    with pytest.raises(CreemsonError, match="1 unparsable cell, and the request is strict") as caught:
        ask({"a": ["1", "one"]}, cast={"a": "int8"}, strict=True)
    assert caught.value.reason == "unreadable_file"
    assert ask({"a": ["1", "2"]}, cast={"a": "int8"}, strict=True)[0]["a"].to_list() == [1, 2]


def test_all_else_sees_the_new_type(ask):
    """Conditions, groups, aggregates and sorts."""
    table = {"t": ["10", "9", "x", "9"], "n": [1, 2, 3, 4]}
    assert ask(table, cast={"t": "int8"}, where=[["t", ">", 9]])[0].rows() == [(10, 1)]
    assert ask(table, cast={"t": "int8"}, sort=[["t", "asc"]])[0]["t"].to_list() == [9, 9, 10, None]
    assert ask(table, cast={"t": "int8"}, aggregate=[["t", "sum"]])[0].item() == 28
    frame, _ = ask(table, cast={"n": "string"}, where=[["n", "contains", "2"]], group_by=["n"])
    assert frame.to_dict(as_series=False) == {"n": ["2"]}


def test_only_what_is_wanted_is_cast(ask):
    """Cells of other rows, and of columns that play no part, are not told."""
    table = {"t": ["1", "x", "y", "z"], "n": [1, 2, 3, 4], "other": ["q"] * 4}
    for request, number in (({}, 3), ({"where": [["n", "<", 3]]}, 1), ({"limit": 2}, 1), ({"limit": 1}, 0)):
        _, outcome = ask(table, selectedColumns=["t"], cast={"t": "int8", "other": "int8"}, **request)
        assert (outcome.issues.unparsable_cells if outcome.issues else 0) == number, request


def test_a_limit_has_the_same_issues_each_time(tmp_path):
    """However many batches are under way when it is reached."""
    source = tmp_path / "t.parquet"
    pl.DataFrame({"t": ["1", "x"] * 200_000}).write_parquet(source, row_group_size=5_000)
    query = query_of("t.parquet", cast={"t": "int8"}, limit=1_000)
    assert {run(query, source, tmp_path / "out", quiet).issues.unparsable_cells for _ in range(5)} == {500}


def test_many_columns_are_cast_in_no_time(ask):
    """A request of thousands of casts is no way to keep a server busy."""
    names = [f"c{number}" for number in range(3_000)]
    frame, _ = ask({name: [1] for name in names}, cast=dict.fromkeys(names, "string"))
    assert set(frame.dtypes) == {pl.String()}


def test_types_that_make_no_sense():
    """Each of them is refused, and what would be right is named."""
    for source in (pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), pl.Datetime("ns", "UTC"), pl.Time(),
                   pl.Duration(), pl.String(), pl.Null(), pl.List(pl.Int8()), pl.Binary(), pl.Decimal(5, 2)):  # fmt: skip
        for wanted in TYPES:
            try:
                casting(source, wanted, "$.cast.a")
            except CreemsonError as error:
                (detail,) = error.details
                named = detail.partition("can be made ")[2].rstrip(".").split()
                assert all(casting(source, other, "").name == other for other in named)
                assert wanted not in named
                assert named or source == pl.Binary


def test_dates_of_another_type_in_csv(tmp_path):
    """A CSV output writes dates as the file does; a column that is cast has no form of the file's any more."""
    source, out, text = tmp_path / "t.csv", tmp_path / "out.parquet", tmp_path / "out.csv"
    source.write_text("day,at\n28/01/2018,28/01/2018 10:30\n29/01/2018,29/01/2018 10:30\n")
    for request, lines in (
        ({}, ["day,at", "28/01/2018,28/01/2018 10:30"]),
        ({"cast": {"at": "date"}}, ["day,at", "28/01/2018,2018-01-28"]),
        ({"rename": {"day": "at", "at": "day"}}, ["at,day", "28/01/2018,28/01/2018 10:30"]),
        ({"aggregate": [["at", "min", "day"]]}, ["day", "2018-01-28T10:30:00"]),
    ):
        run(query_of("t.csv", **request), source, out, quiet)
        render(out, text, "csv", quiet)
        assert text.read_text().splitlines()[:2] == lines


# --- distinct, rename --------------------------------------------------------------------------------

ROWS = {"a": [2, 1, 2, None, None, 1], "b": ["x", "y", "x", "z", "z", "q"], "n": [1, 2, 3, 4, 5, 6]}


def test_distinct_rows_keep_their_order(ask):
    """The first of each stays; nulls are alike."""
    frame, _ = ask(ROWS, selectedColumns=["b", "a"], distinct=True)
    assert frame.rows() == [("x", 2), ("y", 1), ("z", None), ("q", 1)]
    assert ask(ROWS, distinct=False)[0].height == 6


def test_distinct_by_some_columns(ask):
    """The first row of the file of each stays, whole; the columns need not be in the output. Then comes the sort."""
    assert ask(ROWS, distinct=["a"])[0].rows() == [(2, "x", 1), (1, "y", 2), (None, "z", 4)]
    frame, _ = ask(ROWS, selectedColumns=["n"], distinct=[0], sort=[["n", "desc"]], limit=2)
    assert frame["n"].to_list() == [4, 2]
    assert ask(ROWS, distinct=["a", 0])[0].height == 3


def test_distinct_of_any_type(ask):
    """NaN is NaN, lists are alike if their elements are, and so are structs."""
    table = {
        "x": [math.nan, math.nan, 0.0],
        "l": [[1, None], [1, None], []],
        "s": [{"u": 1}, {"u": 1}, {"u": None}],
    }
    for by in (True, ["x"], ["l"], ["s"]):
        assert ask(table, distinct=by)[0].height == 2


def test_distinct_groups(ask):
    """It comes after the grouping, and by its columns."""
    frame, _ = ask(ROWS, group_by=["b"], aggregate=[["n", "count", "c"]], distinct=["c"])
    assert frame.rows() == [("x", 2), ("y", 1)]
    frame, _ = ask(
        ROWS, group_by=["b"], aggregate=[["n", "count", "c"]], selectedColumns=["c"], distinct=True
    )
    assert frame["c"].to_list() == [2, 1]


def test_new_names_come_last(ask):
    """All else in a request uses the old ones; names may be swapped."""
    frame, _ = ask(
        ROWS, selectedColumns=["b", "a"], where=[["n", "<", 3]], sort=[["a", "asc"]], distinct=["a"],
        rename={"a": "b", "b": "a"},
    )  # fmt: skip
    assert frame.columns == ["a", "b"]
    assert frame.rows() == [("y", 1), ("x", 2)]
    frame, _ = ask(ROWS, group_by=["b"], aggregate=[["n", "sum"]], rename={"n_sum": "^total$", "b": "*"})
    assert frame.columns == ["*", "^total$"]


# --- faults ------------------------------------------------------------------------------------------

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
         "$.rename: The column 'name' stands twice in the renamed output."),
        ({"cast": {"day": "boolean"}}, "invalid_message",
         "$.cast.day: what is Date cannot be made boolean. It can be made string date datetime."),
        ({"cast": {"list": "int64"}}, "invalid_message",
         "$.cast.list: what is List(Int64) cannot be made int64. It can be made string."),
        ({"where": [["a", "==", "1"]]}, "invalid_message",
         "$.where[0][2]: 'a' is Int64, which cannot be compared with '1'."),
        ({"cast": {"a": "string"}, "where": [["a", "==", 1]]}, "invalid_message",
         "$.where[0][2]: 'a' is String, which cannot be compared with 1."),
        ({"where": [["a", "like", "1"]]}, "invalid_message",
         "$.where[0]: expected an operator (== != < <= > >= in not_in is_null not_null contains starts_with), "
         'got "like"'),
        ({"cast": {"a": "integr"}}, "invalid_message",
         f"$.cast.a: expected one of ({KINDS}), got \"integr\". Did you mean 'int8'?"),
        ({"cast": {"a": None}}, "invalid_message", f"$.cast.a: expected one of ({KINDS}), got null"),
        ({"cast": ["a"]}, "invalid_message", '$.cast: expected an object, got ["a"]'),
        ({"distinct": "a"}, "invalid_message", '$.distinct: expected true, false or a list of columns, got "a"'),
        ({"distinct": []}, "invalid_message", "$.distinct: expected true, false or a list of columns, got []"),
        ({"distinct": ["a", None]}, "invalid_message", "$.distinct: expected an index or a name at [1], got null"),
        ({"rename": {"a": ""}}, "invalid_message",
         '$.rename.a: expected at least 1 and at most 1000 characters, got ""'),
        ({"rename": {"a": 1}}, "invalid_message", "$.rename.a: expected a text, got 1"),
        ({"rename": "a"}, "invalid_message", '$.rename: expected an object, got "a"'),
    ],
)  # fmt: skip
def test_faults_name_the_field_and_what_would_be_right(ask, request_, reason, detail):
    """In the details with the path, and in the message without repeating itself."""
    with pytest.raises(CreemsonError) as caught:
        ask({"a": [1], "day": [DAY], "list": [[1]], "name": ["x"]}, **request_)
    assert caught.value.reason == reason
    assert caught.value.details == (detail,)
    assert detail.partition(": ")[2].rstrip(".") in caught.value.message
    assert not caught.value.message.endswith("?.")


# --- what is read ------------------------------------------------------------------------------------


@pytest.fixture
def groups_of_rows(tmp_path):
    """A Parquet file of ten row groups and four columns, and a way to make some parts of it unreadable."""
    path = tmp_path / "t.parquet"
    numbers = pl.int_range(100_000, eager=True)
    pl.DataFrame(
        {"n": numbers, "t": numbers.cast(pl.String), "half": numbers / 2, "unused": numbers * 7}
    ).write_parquet(path, row_group_size=10_000)

    def spoil(*, keep, groups):
        """Overwrite all chunks of columns but those of the kept columns in the kept row groups."""
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


def test_what_is_not_needed_is_not_read(groups_of_rows, tmp_path):
    """Of a Parquet file, neither other columns nor row groups that a condition excludes by their statistics."""
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
    with pytest.raises(CreemsonError, match="cannot be read"):
        run(query_of("t.parquet", selectedColumns=["t"]), path, target, quiet)


def test_the_scan_knows_what_is_wanted(groups_of_rows):
    """The plan of polars has columns and conditions in the scan, below what counts the rows."""
    path, _ = groups_of_rows
    frame = pl.scan_parquet(path)
    query = query_of(
        "t.parquet", selectedColumns=["t"], where=[["n", "<", 5], ["t", ">", 1]], cast={"t": "int64"}
    )
    plan = Plan(query, frame.collect_schema())
    asked = plan.apply(frame.select(plan.needed), lambda batch: batch, counted=True).explain()
    scan = asked[asked.index("Parquet SCAN") :]
    assert "PROJECT 2/4 COLUMNS" in scan
    assert 'col("n") < 5' in scan.partition("SELECTION")[2]
    assert 'col("t")' not in scan.partition("SELECTION")[2]


def test_a_limit_ends_the_reading(tmp_path, monkeypatch):
    """Of a CSV that is as it should be, too: it is not taken for a ragged one because rows were not read."""
    source = tmp_path / "t.csv"
    pl.DataFrame({"a": range(300_000), "b": ["x,y"] * 300_000}).write_csv(source)
    monkeypatch.setattr(csv_table.CsvSource, "_mend", lambda self: pytest.fail("there is nothing to mend"))
    ticks = []
    outcome = run(query_of("t.csv", limit=3, preview=3), source, tmp_path / "out", ticks.append)
    assert outcome.preview == ((0, "x,y"), (1, "x,y"), (2, "x,y"))
    assert outcome.issues is None


def test_a_ragged_file_is_mended_for_a_limit_too(tmp_path):
    """Though the short row is far below."""
    source = tmp_path / "t.csv"
    source.write_text("a,b\n" + "1,2\n" * 200_000 + "3\n" + "4,5\n" * 100_000)
    outcome = run(query_of("t.csv", limit=3, preview=3), source, tmp_path / "out", quiet)
    assert outcome.preview == ((1, 2),) * 3
    assert outcome.issues.padded_rows == 1


def test_looking_for_equal_rows_is_told(tmp_path, monkeypatch):
    """As sorting: no batch passes while the last of them are gathered."""
    monkeypatch.setattr(progress, "QUIET", 0.005)
    monkeypatch.setattr(progress, "TICK_INTERVAL", 0.0)
    source, phases = tmp_path / "t.parquet", set()
    numbers = pl.int_range(1_500_000, eager=True)
    pl.DataFrame({"n": numbers, "t": (numbers * 2654435761 % 1_000_003).cast(pl.String)}).write_parquet(
        source
    )
    run(query_of("t.parquet", distinct=True), source, tmp_path / "out", lambda tick: phases.add(tick.phase))
    assert phases == {"reading", "sorting", "writing"}
