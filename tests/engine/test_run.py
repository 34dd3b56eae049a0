"""Running queries on tables: every clause, its errors, progress, and the output formats."""

import csv
import datetime
import errno
import gc
import itertools
import json
import math
import statistics
import tempfile
import threading
import time
from collections import Counter

import attrs
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine import progress
from creemson.engine import run as engine
from creemson.engine.export.render import render
from creemson.engine.export.xlsx import sheet
from creemson.engine.run import columns, run
from creemson.engine.windows.window import window
from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats.open import open_table
from creemson.model.query import FUNCTIONS, TEXT_OPERATORS, Aggregate, AnyOf, Condition, Query, SortKey
from creemson.model.results import Column
from tests.examples import examples_of

UTC = datetime.UTC
TABLE = pl.DataFrame(
    {
        "n": [3, 1, None, 2, 1],
        "x": [0.5, math.nan, 2.5, None, -1.0],
        "text": ["b", "a.c", None, "abc", "a"],
        "day": [datetime.date(2024, 1, day) for day in (5, 4, 3, 2)] + [None],
        "at": [datetime.datetime(2024, 1, day, 12) for day in (5, 4, 3, 2)] + [None],
        "zoned": pl.Series(
            [datetime.datetime(2024, 1, day, 12) for day in (5, 4, 3, 2)] + [None]
        ).dt.replace_time_zone("Europe/Berlin"),
        "time": [datetime.time(hour) for hour in (5, 4, 3, 2)] + [None],
        "span": [datetime.timedelta(hours=hours) for hours in (5, 4, 3, 2)] + [None],
        "yes": [True, False, None, True, False],
        "cat": pl.Series(["u", "v", None, "u", "v"], dtype=pl.Categorical),
        "enum": pl.Series(["lo", "hi", None, "lo", "hi"], dtype=pl.Enum(["lo", "hi"])),
        "price": pl.Series([1, 2, None, 3, 4]).cast(pl.Decimal(10, 2)),
        "list": [[1], [2, 3], None, [], [4]],
        "small": pl.Series([1, 2, None, 3, 4], dtype=pl.Int8),
    }
)


def ignore_progress(on_progress):
    """A progress callback that does nothing."""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.parquet"
    TABLE.write_parquet(path)
    return path


def run_query(path, **query):
    """The output of a query, after checking it against the outcome."""
    target = path.with_name("out.parquet")
    outcome = run(Query(filename=path.name, **query), path, target, ignore_progress)
    frame = pl.read_parquet(target, glob=False)
    assert outcome.rows == frame.height
    assert outcome.columns == tuple(frame.columns)
    assert outcome.dtypes == tuple(map(str, frame.dtypes))
    return frame


def where(path, *condition):
    """The rows that a condition lets pass."""
    return run_query(
        path.with_name(path.name), selectedColumns=("n", "text"), where=(Condition(*condition),)
    ).rows()


def matching_rows(path, *condition):
    frame = TABLE.with_row_index("row")
    source = path.with_name("rows.parquet")
    frame.write_parquet(source)
    return run_query(source, selectedColumns=("row",), where=(Condition(*condition),))["row"].to_list()


# --- columns and selection ---------------------------------------------------------------------------


def test_columns_have_index_name_and_polars_type(table):
    """Each column has its index, its name and its type as polars names it."""
    found = columns(table, "t.parquet").columns
    assert found[:2] == (Column(index=0, name="n", dtype="Int64"), Column(index=1, name="x", dtype="Float64"))
    assert [column.name for column in found] == TABLE.columns


def test_query_without_clauses_gives_the_table(table):
    """Without clauses the output is the table."""
    assert run_query(table).equals(TABLE)


def test_selected_columns_come_in_the_requested_order(table):
    """Indices and names may be mixed."""
    assert run_query(table, selectedColumns=(2, "n", 1)).columns == ["text", "n", "x"]


def test_column_used_only_by_filter_or_sort_is_not_in_output(table):
    """Filters and sorts may use columns that are not selected."""
    frame = run_query(
        table,
        selectedColumns=("text",),
        where=(Condition("n", ">=", 1),),
        sort=(SortKey("day", descending=False),),
    )
    assert frame.to_dict(as_series=False) == {"text": ["abc", "a.c", "b", "a"]}


def test_paths_with_glob_characters_are_taken_literally(tmp_path):
    """Sources and targets with [ * ? in their names are exactly those files."""
    source, target = tmp_path / "a[1]*.csv", tmp_path / "out[?]*.parquet"
    source.write_text("a,b\n1,2\n")
    outcome = run(Query(filename="a.csv", preview=5), source, target, ignore_progress)
    assert (outcome.rows, outcome.preview) == (1, ((1, 2),))
    assert target.exists()


@pytest.mark.parametrize("name", ["*", "^a.*$", "", "a b", 'q"x'])
def test_column_name_that_polars_would_interpret_is_literal(tmp_path, name):
    """A name is a name, even if polars would read it as a pattern."""
    path = tmp_path / "t.parquet"
    day = datetime.date(2024, 1, 1)
    pl.DataFrame({"abc": [1, 1, 2], name: [5, 4, 3], "z": [[1], None, [2]], "day": [day] * 3}).write_parquet(
        path
    )
    assert run_query(
        path, selectedColumns=(1,), where=(Condition(name, ">", 3),), sort=(SortKey(1),)
    ).rows() == [
        (4,),
        (5,),
    ]
    frame = run_query(path, group_by=(name,), aggregate=(Aggregate("abc", "max"), Aggregate(name, "min")))
    assert frame.columns == [name, "abc_max", f"{name}_min"]
    frame = run_query(
        path, group_by=("abc",), aggregate=(Aggregate("abc", "count", name),), sort=(SortKey(name),)
    )
    assert frame.rows() == [(2, 1), (1, 2)]
    outcome = run(Query(filename="t", preview=1, profile=True), path, tmp_path / "o.parquet", ignore_progress)
    assert outcome.preview == ((1, 5, [1], "2024-01-01"),)
    assert [described.min for described in outcome.profile] == [1, 3, 1, "2024-01-01"]
    for kind in ("csv", "xlsx"):
        rendered(path, kind)


# --- where -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (("n", "==", 1), [1, 4]),
        (("n", "==", 1.0), [1, 4]),
        (("n", "==", 1.5), []),
        (("n", "!=", 1), [0, 3]),
        (("n", "<", 2), [1, 4]),
        (("n", "<=", 2), [1, 3, 4]),
        (("n", ">", 1.5), [0, 3]),
        (("n", ">=", 2), [0, 3]),
        (("n", "<", 2**64 - 1), [0, 1, 3, 4]),
        (("small", "<", 1000), [0, 1, 3, 4]),
        (("n", "is_null"), [2]),
        (("n", "not_null"), [0, 1, 3, 4]),
        (("n", "in", (1, 2.0, 2.5)), [1, 3, 4]),
        (("n", "not_in", (1, 2)), [0]),
        (("n", "in", ()), []),
        (("n", "not_in", ()), [0, 1, 3, 4]),
        (("small", "in", (1, 1000, -5)), [0]),
        (("small", "not_in", (1, 1000)), [1, 3, 4]),
        (("x", ">", 0), [0, 2]),
        (("x", "!=", 0.5), [2, 4]),
        (("x", "in", (0.5, 2.5)), [0, 2]),
        (("x", "in", (-1, 2.5)), [2, 4]),
        (("x", "in", (2.5, -1, 2**64 - 1)), [2, 4]),
        (("text", "==", "a"), [4]),
        (("text", ">", "abc"), [0]),
        (("text", "in", ("a", "b", "z")), [0, 4]),
        (("text", "contains", "a.c"), [1]),
        (("text", "contains", ""), [0, 1, 3, 4]),
        (("text", "starts_with", "a"), [1, 3, 4]),
        (("text", "ends_with", "c"), [1, 3]),
        (("text", "icontains", "A.C"), [1]),
        (("text", "icontains", ""), [0, 1, 3, 4]),
        (("text", "istarts_with", "A"), [1, 3, 4]),
        (("text", "iends_with", "C"), [1, 3]),
        (("text", "iequals", "A"), [4]),
        (("day", ">", "2024-01-03"), [0, 1]),
        (("day", "in", ("2024-01-03", "2024-01-05")), [0, 2]),
        (("at", "==", "2024-01-04T12:00:00"), [1]),
        (("at", "<", "2024-01-03"), [3]),
        (("at", "in", ("2024-01-04 12:00",)), [1]),
        (("zoned", "==", "2024-01-04T12:00:00"), [1]),
        (("zoned", "==", "2024-01-04T11:00:00Z"), [1]),
        (("zoned", ">=", "2024-01-04T06:00:00-05:00"), [0, 1]),
        (("zoned", "not_in", ("2024-01-04T11:00:00+00:00",)), [0, 2, 3]),
        (("time", "<=", "03:00"), [2, 3]),
        (("time", "in", ("03:00:00",)), [2]),
        (("span", ">", 4 * 3600), [0]),
        (("span", "==", 7200.0), [3]),
        (("yes", "==", True), [0, 3]),
        (("yes", "!=", True), [1, 4]),
        (("yes", "in", (False,)), [1, 4]),
        (("cat", "==", "u"), [0, 3]),
        (("cat", "contains", "v"), [1, 4]),
        (("enum", "==", "other"), []),
        (("enum", "in", ("hi", "other")), [1, 4]),
        (("enum", "<", "lo"), [1, 4]),
        (("price", ">=", 2.5), [3, 4]),
        (("price", "in", (2, 3.0, 2.001)), [1, 3]),
        (("price", "not_in", (2,)), [0, 3, 4]),
        (("list", "is_null"), [2]),
    ],
)
def test_condition_lets_the_right_rows_pass(table, condition, rows):
    """Each operator with each type. A null cell passes only `is_null`, and NaN passes no comparison."""
    assert matching_rows(table, *condition) == rows


def test_several_conditions_are_joined_by_and(table):
    """A row must satisfy every condition."""
    frame = run_query(table, selectedColumns=("n",), where=(Condition("n", ">", 1), Condition(2, "==", "b")))
    assert frame["n"].to_list() == [3]


def test_one_of_several_conditions_is_enough(table):
    """Also if another one is neither true nor false, because the cell is missing; beside conditions that must hold."""
    either = AnyOf((Condition("text", "==", "a"), Condition("n", ">", 1), Condition("text", "iequals", "B")))
    frame = run_query(table, selectedColumns=("n",), where=(either, Condition("n", "not_null")))
    alone = [set(matching_rows(table, *attrs.astuple(condition))) for condition in either.conditions]
    assert len(frame) == len(set.union(*alone) & set(matching_rows(table, "n", "not_null")))
    with pytest.raises(ProcessingError) as caught:
        run_query(table, where=(AnyOf((Condition("n", ">", 1), Condition("nowhere", ">", 1))),))
    assert caught.value.details[0].startswith("$.where[0].any[1][0]")


@pytest.mark.parametrize(
    ("condition", "path", "word"),
    [
        (("n", "==", "1"), "$.where[0][2]", "Int64"),
        (("n", "==", True), "$.where[0][2]", "true"),
        (("n", "==", None), "$.where[0][2]", "is_null"),
        (("text", "==", 1), "$.where[0][2]", "String"),
        (("yes", "==", 1), "$.where[0][2]", "Boolean"),
        (("n", "in", (1, "x")), "$.where[0][2][1]", "'x'"),
        (("n", "contains", "1"), "$.where[0]", "Int64"),
        (("text", "starts_with", 1), "$.where[0]", "text"),
        (("text", "icontains", "x" * 1001), "$.where[0]", "1000 characters"),
        (("n", "iequals", "1"), "$.where[0]", "Int64"),
        (("day", "==", "yesterday"), "$.where[0][2]", "ISO 8601"),
        (("day", "==", 5), "$.where[0][2]", "ISO 8601"),
        (("day", "in", ("2024-01-01", "x")), "$.where[0][2][1]", "'x'"),
        (("at", "==", "2024-01-04T12:00:00Z"), "$.where[0][2]", "without an offset"),
        (("zoned", "==", "noon"), "$.where[0][2]", "ISO 8601"),
        (("time", "==", "25:00"), "$.where[0][2]", "ISO 8601"),
        (("time", "==", "12:00+01:00"), "$.where[0][2]", "without an offset"),
        (("span", "==", "1h"), "$.where[0][2]", "seconds"),
        (("span", "==", True), "$.where[0][2]", "seconds"),
        (("span", "==", 1e300), "$.where[0][2]", "seconds"),
        (("list", "==", 1), "$.where[0][2]", "List"),
        (("cat", "==", 1), "$.where[0][2]", "String"),
    ],
)
def test_condition_with_a_value_of_another_type_is_refused(table, condition, path, word):
    """`invalid_message`, with the path in the request and what would fit."""
    with pytest.raises(InvalidFormat) as caught:
        matching_rows(table, *condition)
    assert caught.value.reason == "invalid_message"
    (detail,) = caught.value.details
    assert detail.startswith(path + ": ")
    assert word in detail
    assert detail in caught.value.message


# --- group_by, aggregate, sort, limit ----------------------------------------------------------------


def test_aggregate_functions_ignore_nulls(table):
    """Each function on numbers; nulls do not count, except that `n_unique` counts null as a value."""
    query = tuple(Aggregate("n", function) for function in FUNCTIONS)
    (row,) = run_query(table, aggregate=query).rows(named=True)
    assert row == {
        "n_count": 4, "n_sum": 7, "n_mean": 1.75, "n_min": 1, "n_max": 3, "n_median": 1.5,
        "n_std": pytest.approx(statistics.stdev([3, 1, 2, 1])), "n_first": 3, "n_last": 1, "n_n_unique": 4,
    }  # fmt: skip


def test_groups_come_in_the_order_of_their_first_row(table):
    """Group columns come first, then the aggregates."""
    frame = run_query(
        table, group_by=("yes",), aggregate=(Aggregate("n", "sum", "total"), Aggregate("day", "max"))
    )
    assert frame.columns == ["yes", "total", "day_max"]
    assert frame["yes"].to_list() == [True, False, None]
    assert frame["total"].to_list() == [5, 2, 0]


def test_groups_without_aggregates_are_distinct_rows(table):
    """`group_by` alone gives each combination once."""
    assert run_query(table, group_by=("yes",))["yes"].to_list() == [True, False, None]


def test_select_and_sort_after_grouping_use_the_grouped_columns(table):
    """After a grouping, names refer to the grouped output; sort comes before limit."""
    frame = run_query(
        table,
        group_by=(8,),
        aggregate=(Aggregate(0, "sum", "total"), Aggregate("x", "count", "c")),
        selectedColumns=("total", 8),
        sort=(SortKey("c", descending=True), SortKey(8)),
        limit=2,
    )
    assert frame.columns == ["total", "yes"]
    assert frame.height == 2


def test_sort_puts_missing_values_last_and_is_stable(table):
    """Nulls and NaN come last in both directions; the sort column need not be selected."""
    for descending, expected in ((False, [-1.0, 0.5, 2.5]), (True, [2.5, 0.5, -1.0])):
        values = run_query(table, selectedColumns=("x",), sort=(SortKey("x", descending=descending),))[
            "x"
        ].to_list()
        assert values[:3] == expected
        assert math.isnan(values[3])
        assert values[4] is None
    frame = run_query(table, selectedColumns=("text",), sort=(SortKey("n"),))
    assert frame["text"].to_list() == ["a.c", "a", "abc", "b", None]


@pytest.mark.parametrize("limit", [0, 1, 3, 99])
def test_limit_takes_the_first_rows(table, limit):
    """A limit beyond the end gives all rows."""
    assert run_query(table, limit=limit).equals(TABLE.head(limit))


@pytest.mark.parametrize(
    ("query", "reason", "word"),
    [
        ({"selectedColumns": (99,)}, "column_not_found", "0 to 13"),
        ({"selectedColumns": ("dax",)}, "column_not_found", "'day'"),
        ({"selectedColumns": ("2",)}, "column_not_found", "It has: n, x"),
        ({"selectedColumns": (0, "n")}, "invalid_columns", "'n' occurs twice"),
        ({"where": (Condition("zzz", "is_null"),)}, "column_not_found", "t.parquet"),
        ({"sort": (SortKey("zzz"),)}, "column_not_found", "t.parquet"),
        ({"group_by": ("zzz",)}, "column_not_found", "t.parquet"),
        ({"aggregate": (Aggregate("zzz", "sum"),)}, "column_not_found", "t.parquet"),
        ({"group_by": ("n", 0)}, "invalid_columns", "grouped output"),
        ({"group_by": ("n",), "aggregate": (Aggregate("x", "sum", "n"),)}, "invalid_columns", "twice"),
        ({"group_by": ("n",), "selectedColumns": ("x",)}, "invalid_columns", "'x'"),
        ({"group_by": ("n",), "selectedColumns": (1,)}, "invalid_columns", "'x'"),
        ({"group_by": ("n",), "selectedColumns": (99,)}, "invalid_columns", "99"),
        ({"group_by": ("n",), "sort": (SortKey("x"),)}, "column_not_found", "grouped output"),
        ({"group_by": ("n",), "sort": (SortKey(1),)}, "column_not_found", "grouped output"),
        ({"aggregate": (Aggregate("text", "mean"),)}, "invalid_message", "$.aggregate[0]"),
        (
            {"aggregate": (Aggregate("n", "mean"), Aggregate("day", "std"))},
            "invalid_message",
            "$.aggregate[1]",
        ),
    ],
)
def test_query_that_does_not_fit_the_file_is_refused(table, query, reason, word):
    """The error has a reason, the wrong name and what exists; no output is left."""
    with pytest.raises((InvalidFormat, ProcessingError)) as caught:
        run_query(table, **query)
    assert caught.value.reason == reason
    assert word in caught.value.message
    assert str(table) not in caught.value.message
    assert not table.with_name("out.parquet").exists()


@pytest.mark.parametrize("function", ["min", "max"])
@pytest.mark.parametrize("values", [[[1], [2, 3]], [{"a": 1}, {"a": 2}]])
def test_smallest_of_values_without_an_order_is_refused(tmp_path, function, values):
    """The request is wrong; the file can be read."""
    path = tmp_path / "t.parquet"
    pl.DataFrame({"n": values}).write_parquet(path)
    with pytest.raises(InvalidFormat, match=r"\$\.aggregate\[0\]: .* values that have an order"):
        run_query(path, aggregate=(Aggregate("n", function),))


def test_sum_of_booleans_counts_the_true_ones(table):
    """Booleans can be summed."""
    assert run_query(table, aggregate=(Aggregate("yes", "sum"),)).item() == 2


def test_query_without_columns_works(tmp_path):
    """A count alone and an empty selection are allowed."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n2,\n")
    assert run_query(path, aggregate=(Aggregate("b", "count"),)).item() == 1
    assert run_query(path, selectedColumns=()).height in (0, 2)


# --- random tables against a naive implementation ----------------------------------------------------

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.sampled_from(["a", "b", "ab", "ba"]),
        st.none() | st.sampled_from([-1.5, 0.0, 0.25, 2.0]),
    ),
    max_size=25,
)
NUMBER = st.integers(-3, 3)
CONDITION = st.one_of(
        st.builds(Condition, st.sampled_from(["n", 0, 2, "x"]), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), NUMBER),
        st.builds(Condition, st.sampled_from(["t", 1]), st.sampled_from(["==", "<", *TEXT_OPERATORS]), st.sampled_from(["a", "b", "B"])),
        st.builds(Condition, st.sampled_from([0, 2]), st.sampled_from(["in", "not_in"]), st.lists(NUMBER, max_size=3).map(tuple)),
        st.builds(Condition, st.integers(0, 2), st.sampled_from(["is_null", "not_null"])),
)  # fmt: skip
CONDITIONS = st.lists(
    CONDITION | st.builds(AnyOf, st.lists(CONDITION, min_size=1, max_size=3).map(tuple)), max_size=2
)
TESTS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "not_in": lambda a, b: a not in b,
    "contains": lambda a, b: b in a,
    "starts_with": lambda a, b: a.startswith(b),
    "ends_with": lambda a, b: a.endswith(b),
    "icontains": lambda a, b: b.lower() in a.lower(),
    "istarts_with": lambda a, b: a.lower().startswith(b.lower()),
    "iends_with": lambda a, b: a.lower().endswith(b.lower()),
    "iequals": lambda a, b: a.lower() == b.lower(),
}
NAMES = ["n", "t", "x"]


def place(ref):
    return ref if isinstance(ref, int) else NAMES.index(ref)


def passes(row, condition):
    if isinstance(condition, AnyOf):
        return any(passes(row, each) for each in condition.conditions)
    cell = row[place(condition.column)]
    if condition.operator in ("is_null", "not_null"):
        return (cell is None) == (condition.operator == "is_null")
    return cell is not None and TESTS[condition.operator](cell, condition.value)


def naive_sort(rows, keys):
    for key in reversed(keys):
        index = place(key.column)
        present = [row for row in rows if row[index] is not None]
        present.sort(key=lambda row: row[index], reverse=key.descending)
        rows = present + [row for row in rows if row[index] is None]
    return rows


@settings(max_examples=examples_of(60), deadline=None)
@given(
    rows=ROWS,
    conditions=CONDITIONS,
    keys=st.lists(
        st.builds(SortKey, st.sampled_from(["n", 1, "x"]), st.booleans()),
        max_size=2,
        unique_by=lambda key: key.column,
    ),
    limit=st.none() | st.integers(0, 10),
    grouped=st.booleans(),
)
def test_query_on_random_table_agrees_with_plain_python(
    tmp_path_factory, rows, conditions, keys, limit, grouped
):
    """Filter, grouping, sort and limit give what a few lines of Python give."""
    path = tmp_path_factory.mktemp("naive") / "t.parquet"
    pl.DataFrame(rows, schema={"n": pl.Int64, "t": pl.String, "x": pl.Float64}, orient="row").write_parquet(
        path
    )
    query = {"where": tuple(conditions) or None, "limit": limit}
    expected = [row for row in rows if all(passes(row, condition) for condition in conditions)]
    if grouped:
        groups = {}
        for row in expected:
            groups.setdefault(row[1], []).append(row)
        query |= {
            "group_by": ("t",),
            "aggregate": (Aggregate("n", "sum", "s"), Aggregate(2, "max"), Aggregate("x", "count")),
        }
        expected = [
            (
                name,
                sum(row[0] or 0 for row in group),
                max((row[2] for row in group if row[2] is not None), default=None),
                sum(row[2] is not None for row in group),
            )
            for name, group in groups.items()
        ]
    else:
        query["sort"] = tuple(keys) or None
        expected = naive_sort(expected, keys)
    assert run_query(path, **query).rows() == expected[:limit]


@settings(max_examples=examples_of(60), deadline=None)
@given(
    rows=ROWS,
    conditions=CONDITIONS,
    clauses=st.fixed_dictionaries(
        {},
        optional={
            "selectedColumns": st.sampled_from([("x", 0), ("t",), (2, "n", "t")]),
            "sort": st.sampled_from([(SortKey("n"), SortKey("t", True)), (SortKey(2),)]),
            "limit": st.integers(0, 10),
            "preview": st.integers(0, 3),
            "profile": st.booleans(),
        },
    )
    | st.fixed_dictionaries(
        {
            "group_by": st.sampled_from([("t",), ("n", "t")]),
            "aggregate": st.sets(st.sampled_from(FUNCTIONS)).map(
                lambda functions: tuple(Aggregate("x", function) for function in functions)
            ),
        }
    ),
)
def test_query_in_memory_agrees_with_streaming(tmp_path_factory, rows, conditions, clauses):
    """A small file processed in memory gives the same output and outcome as a streaming pass."""
    path = tmp_path_factory.mktemp("small") / "t.csv"
    rows = [(0, "a", 0.5), *rows]  # ensures the types of the columns
    pl.DataFrame(rows, schema={"n": pl.Int64, "t": pl.String, "x": pl.Float64}, orient="row").write_csv(path)
    query = Query(filename="t.csv", where=tuple(conditions) or None, **clauses)
    made = []
    for opener in (open_table, lambda *asked, **more: attrs.evolve(open_table(*asked, **more), small=None)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "open_table", opener)
            outcome = run(query, path, path.with_name("out.parquet"), ignore_progress)
        outcome = attrs.evolve(outcome, size=0, texts_size=None)  # a stream keeps the texts of more columns
        made.append((pl.read_parquet(path.with_name("out.parquet")), outcome))
    (small, small_outcome), (large, large_outcome) = made
    assert small.schema == large.schema
    assert small.equals(large)
    assert small_outcome == large_outcome


def test_empty_clauses_count_as_absent(tmp_path):
    """Dates are then still detected in all columns."""
    path = tmp_path / "x.csv"
    path.write_text("a,day\n1,2024-02-29\n")
    assert run_query(path, group_by=(), aggregate=()).schema == {"a": pl.Int64, "day": pl.Date}


# --- a real table ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_flights_profile_and_query_agree_with_python(flights, tmp_path):
    """Counts, nulls, means and deviations of the 336,776 flights agree with Python's."""
    target = tmp_path / "out.parquet"
    outcome = run(Query(filename="flights.csv", profile=True), flights, target, ignore_progress)
    with flights.open(newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader)
        cells = dict(zip(header, zip(*reader, strict=True), strict=True))
    assert outcome.rows == len(cells["year"]) == 336_776
    assert list(outcome.columns) == header
    numbers = {"dep_delay", "air_time", "distance"}
    for profile in outcome.profile:
        found = cells[profile.column]
        words = () if profile.dtype == "String" else ("NA",)  # in a column of words, NA is one
        assert profile.nulls == found.count("") + sum(map(found.count, words)), profile.column
        if profile.column in numbers:
            values = [float(cell) for cell in found if cell not in ("", "NA")]
            mean = math.fsum(values) / len(values)
            std = math.sqrt(math.fsum([(value - mean) ** 2 for value in values]) / (len(values) - 1))
            assert profile.mean == pytest.approx(mean, rel=1e-9)
            assert profile.std == pytest.approx(std, rel=1e-9)
            assert (profile.min, profile.max) == (min(values), max(values))
            assert sum(profile.histogram.counts) == len(values)
        elif profile.top is not None:
            counts = Counter(cell for cell in found if cell not in ("", *words))
            assert [times for _, times in profile.top] == sorted(counts.values(), reverse=True)[:10]
            assert all(counts[value] == times for value, times in profile.top)
    carriers = run(
        Query(
            filename="flights.csv",
            where=(Condition("dep_delay", ">", 60),),
            group_by=("carrier",),
            aggregate=(Aggregate("dep_delay", "count", "late"),),
            sort=(SortKey("late", descending=True), SortKey("carrier")),
            preview=3,
        ),
        flights,
        target,
        ignore_progress,
    )
    late = Counter(
        carrier
        for carrier, delay in zip(cells["carrier"], cells["dep_delay"], strict=True)
        if delay not in ("", "NA") and float(delay) > 60
    )
    assert carriers.preview == tuple(sorted(late.items(), key=lambda item: (-item[1], item[0]))[:3])
    assert carriers.rows == len(late)


# --- preview, a second reading -----------------------------------------------------------------------


def test_preview_is_json_and_has_at_most_the_requested_rows(table):
    """Preview cells are plain JSON values."""
    target = table.with_name("out.parquet")
    outcome = run(Query(filename="t.parquet", preview=2), table, target, ignore_progress)
    assert len(outcome.preview) == 2
    json.dumps(outcome.preview, allow_nan=False)
    row = dict(zip(outcome.columns, outcome.preview[1], strict=True))
    assert row["x"] is None
    assert (row["day"], row["time"], row["span"]) == ("2024-01-04", "04:00:00", "4:00:00")
    assert (row["zoned"], row["price"], row["list"]) == ("2024-01-04T12:00:00+01:00", "2.00", [2, 3])
    assert run(Query(filename="t.parquet", preview=0), table, target, ignore_progress).preview == ()
    assert run(Query(filename="t.parquet"), table, target, ignore_progress).preview is None


def test_dates_beyond_pythons_range_are_null_in_previews(tmp_path):
    """A Parquet file may hold the year 20,000; preview and profile omit it and do not fail."""
    path = tmp_path / "t.parquet"
    days = pl.Series("d", [0, 6_600_000, -900_000]).cast(pl.Date)
    times = pl.Series("t", [0, 10**18, -(10**17)]).cast(pl.Datetime("us"))
    zoned = times.dt.replace_time_zone("Europe/Berlin").alias("z")
    pl.DataFrame([days, times, zoned]).write_parquet(path)
    outcome = run(Query(filename="t.parquet", preview=5, profile=True), path, tmp_path / "o", ignore_progress)
    assert outcome.preview[0] == ("1970-01-01", "1970-01-01T00:00:00", "1970-01-01T00:00:00+01:00")
    assert outcome.preview[1:] == ((None, None, None), (None, None, None))
    assert [profile.min for profile in outcome.profile] == list(outcome.preview[0])


def test_late_cell_of_another_type_is_null_and_reported(tmp_path):
    """A non-numeric cell at row 100,001 becomes null; the rest of the file stays as it is."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 100_000 + "none of these,3\n")
    outcome = run(
        Query(filename="t.csv", selectedColumns=("b", "a")), path, tmp_path / "out.parquet", ignore_progress
    )
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert frame["a"].to_list()[-2:] == [1, None]
    assert frame["b"].sum() == 200_003
    assert outcome.issues.unparsable_cells == 1
    assert (outcome.issues.examples[0].line, outcome.issues.examples[0].value) == (100_002, "none of these")


def test_late_byte_of_another_encoding_is_repaired_and_reported(tmp_path):
    """A late byte that is not UTF-8 is decoded with the most likely encoding."""
    path = tmp_path / "stored"
    path.write_bytes(b"a\n" + b"x\n" * 200_000 + b"\xe9\n")
    outcome = run(Query(filename="my.csv"), path, tmp_path / "out.parquet", ignore_progress)
    assert pl.read_parquet(tmp_path / "out.parquet")["a"][-1] == "é"
    assert outcome.issues.repaired_rows == 1
    assert outcome.issues.examples[0].line == 200_002


def test_query_on_a_repaired_file_leaves_no_temporary_file(tmp_path):
    """The temporary repaired copy is removed afterwards."""
    path = tmp_path / "stored"
    path.write_bytes(b"a,b\n" + b"x,1\n" * 100_000 + b"x\n")
    run(Query(filename="my.csv"), path, tmp_path / "out.parquet", ignore_progress)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["out.parquet", "stored"]


def test_disk_error_on_the_output_raises_os_error(table, tmp_path):
    """A full disk or a missing folder is an `OSError` with its errno."""
    full = tmp_path / "full"
    full.symlink_to("/dev/full")  # so that not the device itself is at risk
    for target, number in ((full, errno.ENOSPC), (tmp_path / "nowhere" / "out", errno.ENOENT)):
        with pytest.raises(OSError, match=r"No s") as caught:
            run(Query(filename="t.parquet"), table, target, ignore_progress)
        assert caught.value.errno == number


# --- progress ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_csv(tmp_path_factory):
    """A CSV that takes some tenths of a second to read."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    numbers = pl.int_range(1_500_000, eager=True)
    pl.DataFrame(
        {
            "n": numbers,
            "key": numbers * 2654435761 % 1_000_003,
            "text": (numbers * 7919 % 999_983).cast(pl.String),
        }
    ).write_csv(path)
    return path


@pytest.fixture
def every_tick(monkeypatch):
    """Report progress with every batch."""
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)


def check_reports(reports, path):
    fractions = [on_progress.fraction for on_progress in reports]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction < 1 for fraction in fractions[:-1])
    assert all(on_progress.bytes_total == path.stat().st_size for on_progress in reports)
    assert all(0 <= on_progress.bytes_read <= on_progress.bytes_total for on_progress in reports)
    assert reports[-1].fraction == 1.0
    assert reports[-1].bytes_read == reports[-1].bytes_total


def test_progress_grows_monotonically_to_1(large_csv, tmp_path, every_tick):
    """The fraction reaches 1 when all bytes are read and the profile is complete."""
    reports = []
    run(Query(filename="large.csv", profile=True), large_csv, tmp_path / "out", reports.append)
    check_reports(reports, large_csv)
    assert len(reports) > 5
    assert reports[-1].rows == 1_500_000
    reading = [on_progress.fraction for on_progress in reports if on_progress.phase == "reading"]
    assert 0.8 < reading[-1] <= 0.99
    assert {on_progress.phase for on_progress in reports} == {"reading", "writing"}


def test_progress_of_a_second_reading_does_not_go_back(tmp_path, every_tick):
    """A second reading never reports less than the first one."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 200_000 + "x,3\n")
    reports = []
    run(Query(filename="t.csv"), path, tmp_path / "out", reports.append)
    check_reports(reports, path)
    assert reports[-1].rows == 200_001


def test_progress_of_a_file_with_known_rows_counts_rows(table, every_tick):
    """Parquet knows its number of rows, so progress is based on them."""
    reports = []
    run(Query(filename="t.parquet"), table, table.with_name("out"), reports.append)
    check_reports(reports, table)


def test_progress_is_reported_at_most_twenty_times_a_second(large_csv, tmp_path, monkeypatch):
    """Reports have a minimum interval between the times at which they are decided, however late they arrive."""
    clock, monotonic, times = threading.local(), time.monotonic, []

    def tell():
        clock.now = monotonic()
        return clock.now

    monkeypatch.setattr(time, "monotonic", tell)
    run(Query(filename="large.csv"), large_csv, tmp_path / "out", lambda on_progress: times.append(clock.now))
    assert all(
        after - before >= progress.PROGRESS_INTERVAL for before, after in itertools.pairwise(times[:-1])
    )


class StopRequested(Exception):  # noqa: N818
    """The exception that stops the work."""


@pytest.mark.parametrize("query", [{}, {"sort": (SortKey("key"),)}, {"group_by": ("text",)}])
def test_exception_of_the_progress_callback_stops_the_query(large_csv, tmp_path, monkeypatch, query):
    """The scan stops soon: most of the file is not read. Exactly that exception is raised, and only once."""
    stop, called, batches = StopRequested(), [], []
    tap = progress.ProgressMeter.tap
    monkeypatch.setattr(
        progress.ProgressMeter, "tap", lambda self, batch: batches.append(batch.height) or tap(self, batch)
    )

    def on_progress(on_progress):
        called.append(on_progress)
        raise stop

    with pytest.raises(StopRequested) as caught:
        run(Query(filename="large.csv", **query), large_csv, tmp_path / "out", on_progress)
    assert caught.value is stop
    assert len(called) == 1
    assert sum(batches) < 1_500_000  # not all of the rows; polars has begun some batches by then


def test_progress_during_a_sort_reports_the_phase(large_csv, tmp_path, monkeypatch):
    """The phase is reported even while a sort passes no batches."""
    monkeypatch.setattr(progress, "QUIET", 0.02)
    reports = []
    query = Query(filename="large.csv", sort=(SortKey("text"), SortKey("key")))
    run(query, large_csv, tmp_path / "out", reports.append)
    check_reports(reports, large_csv)
    assert "sorting" in {on_progress.phase for on_progress in reports}


def test_exception_during_a_sort_is_raised_when_polars_returns(large_csv, tmp_path, monkeypatch):
    """No batch passes in the meantime, so the exception waits for polars."""
    monkeypatch.setattr(progress, "QUIET", 0.02)
    stop = StopRequested()

    def on_progress(on_progress):
        if on_progress.phase == "sorting":
            raise stop

    with pytest.raises(StopRequested) as caught:
        run(Query(filename="large.csv", sort=(SortKey("text"),)), large_csv, tmp_path / "out", on_progress)
    assert caught.value is stop


def test_exception_without_batches_is_raised_when_polars_returns(table, monkeypatch, every_tick):
    """While polars infers types, progress is reported as reading, and a stop request waits for its return."""
    monkeypatch.setattr(progress, "QUIET", 0.02)
    monkeypatch.setattr(pl, "collect_all", lambda frames, engine: time.sleep(0.2))
    phases, stop = [], StopRequested()

    def on_progress(on_progress):
        phases.append(on_progress.phase)
        raise stop

    with pytest.raises(StopRequested) as caught:
        run(Query(filename="t.parquet", sort=(SortKey("n"),)), table, table.with_name("out"), on_progress)
    assert caught.value is stop
    assert phases == ["reading"]


def test_exception_during_a_profile_stops_it(table, every_tick):
    """Also between the columns of a profile."""

    def on_progress(on_progress):
        if on_progress.phase == "writing":
            raise StopRequested

    with pytest.raises(StopRequested):
        run(Query(filename="t.parquet", profile=True), table, table.with_name("out"), on_progress)


# --- output formats ----------------------------------------------------------------------------------


def rendered(table, name, on_progress=ignore_progress):
    target = table.with_name("rendered[1]*")
    render(table, target, name, on_progress, name=table.name)
    return target


# --- windows -----------------------------------------------------------------------------------------


@given(offset=st.integers(0, 8), limit=st.integers(0, 8))
def test_window_is_a_slice_of_the_rows(tmp_path_factory, offset, limit):
    """Rows keep their order, cells are JSON values; beyond the end it is empty."""
    path = tmp_path_factory.getbasetemp() / "window.parquet"
    if not path.exists():
        TABLE.write_parquet(path)
    found = window(path, path.name, offset, limit)
    whole = window(path, path.name, 0, 1000)
    assert found.rows == whole.rows[offset : offset + limit]
    assert (found.columns, found.total) == (tuple(TABLE.columns), 5)
    assert whole.rows[0][:5] == (3, 0.5, "b", "2024-01-05", "2024-01-05T12:00:00")
    json.dumps(whole.rows)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 1, 99_999, 100_000, 200_001, 200_002, 10**9])
def test_window_of_a_repaired_file_is_a_slice_of_the_table(tmp_path, offset):
    """It has the same rows as the whole table at that offset."""
    path = tmp_path / "stored"
    path.write_bytes(b"a;b\n1;x\n\n" + b"2;y\n" * 100_000 + b"3\n" + b"4;z;\n" * 100_000)
    rows = [(1, "x"), *[(2, "y")] * 100_000, (3, None), *[(4, "z")] * 100_000]
    assert window(path, "t.csv", offset, 3).rows == tuple(rows[offset : offset + 3])


def test_window_of_an_unreadable_file_is_refused(tmp_path):
    """The same error as for any other use of the file."""
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ProcessingError) as caught:
        window(path, "bad.parquet", 0, 1)
    assert caught.value.reason == "unreadable_file"


def test_csv_output_has_empty_nulls_and_json_for_nested_values(table):
    """Cells are quoted where necessary; binary values are base64 in JSON."""
    path = table.with_name("c.parquet")
    frame = pl.DataFrame(
        {
            "a,b": ["x,y", 'say "hi"', None, "two\nlines"],
            "n": [1, None, 3, 4],
            "list": [[1, 2], [], None, [3]],
            "pair": [{"u": 1, "v": "é"}, None, {"u": None, "v": ""}, {"u": 2, "v": "z"}],
            "raw": [b"\xff", b"", None, b"a"],
        }
    )
    frame.write_parquet(path)
    with rendered(path, "csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == frame.columns
    assert [row[:2] for row in rows[1:]] == [["x,y", "1"], ['say "hi"', ""], ["", "3"], ["two\nlines", "4"]]
    assert [row[2] for row in rows[1:]] == ["[1,2]", "[]", "", "[3]"]
    assert json.loads(rows[1][3]) == {"u": 1, "v": "é"}
    assert [row[4] for row in rows[1:]] == ["/w==", "", "", "YQ=="]


def test_ndjson_output_has_an_object_per_line(table):
    """One JSON object per row."""
    lines = [json.loads(line) for line in rendered(table, "ndjson").read_text().splitlines()]
    assert [line["n"] for line in lines] == TABLE["n"].to_list()
    assert [line["text"] for line in lines] == TABLE["text"].to_list()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("arrow", lambda path: pl.read_ipc(path.read_bytes())),
        ("parquet", lambda path: pl.read_parquet(path.read_bytes())),
    ],
)
def test_binary_output_keeps_the_table_unchanged(table, name, read):
    """Arrow and Parquet keep all values and types."""
    assert read(rendered(table, name)).equals(TABLE)


def test_excel_output_has_the_same_cells(table):
    """Read back by another library."""
    import fastexcel

    sheet = fastexcel.read_excel(rendered(table, "xlsx").read_bytes()).load_sheet(0).to_polars()
    assert sheet.columns == TABLE.columns
    assert sheet["n"].to_list() == TABLE["n"].to_list()
    assert sheet["text"].to_list() == TABLE["text"].to_list()
    assert sheet["list"].to_list() == ["[1]", "[2,3]", None, "[]", "[4]"]


def test_excel_output_needs_no_folder_for_temporary_files(table, monkeypatch):
    """``/tmp`` may be small or read-only; and nothing is left beside it."""
    for folder in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(folder, "/dev/null/none")
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/none")
    before = set(table.parent.iterdir())
    target = rendered(table, "xlsx")
    assert set(table.parent.iterdir()) - before == {target}


def test_csv_output_has_durations_in_hours_and_iso_8601_times(table):
    """Durations as hours, minutes and seconds; times in ISO 8601."""
    with rendered(table, "csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["span"] for row in rows] == ["5:00:00", "4:00:00", "3:00:00", "2:00:00", ""]
    assert datetime.datetime.fromisoformat(rows[1]["zoned"]) == TABLE["zoned"][1]
    assert rows[1]["day"] == "2024-01-04"


@pytest.mark.parametrize("bound", ["XLSX_ROWS", "XLSX_COLUMNS"])
def test_excel_output_over_the_sheet_limit_is_refused(table, monkeypatch, bound):
    """More rows or columns than a sheet holds: the error says what to do instead."""
    monkeypatch.setattr(sheet, bound, 4)
    with pytest.raises(ProcessingError) as caught:
        rendered(table, "xlsx")
    assert caught.value.reason == "unsupported_format"
    assert "Choose CSV or Parquet" in caught.value.message


@pytest.mark.parametrize("name", ["csv", "xlsx", "ndjson", "arrow", "parquet"])
def test_render_reports_progress_to_the_end(table, every_tick, name):
    """Rendering in each format reports progress up to 1."""
    reports = []
    rendered(table, name, reports.append)
    check_reports(reports, table)


def test_exception_of_the_progress_callback_stops_rendering(table, every_tick):
    """An exception of the callback stops rendering."""

    def on_progress(on_progress):
        raise StopRequested

    with pytest.raises(StopRequested):
        rendered(table, "csv", on_progress)


def test_failed_run_closes_the_file_of_rejects(tmp_path):
    """Opening the file has reported issues before the query is found not to fit; an open file would warn."""
    source, rejects = tmp_path / "t.csv", tmp_path / "rejects.csv"
    source.write_text("a,b\n1\n2,3\n")
    with pytest.raises(ProcessingError, match="There is no column 'zzz'"):
        run(
            Query(filename="t.csv", selectedColumns=("zzz",)),
            source,
            tmp_path / "out",
            print,
            rejects=rejects,
        )
    gc.collect()
    assert rejects.exists()


@pytest.mark.parametrize(
    "query",
    [
        {"selectedColumns": ("late",)},
        {"where": (Condition("late", "not_null"),)},
        {"sort": (SortKey("late"),), "limit": 1},
        {"rename": {"late": "last"}},
        {"group_by": ("late",), "aggregate": (Aggregate("*", "count", "n"),)},
    ],
)
def test_query_may_name_a_key_that_json_has_only_far_behind(tmp_path, query):
    """The first rows do not have it."""
    path = tmp_path / "x.ndjson"
    path.write_text('{"a": 1}\n' * 20_000 + '{"late": 2}\n')
    output = run_query(path, **query)
    column = output.get_column("last" if "rename" in query else "late")
    assert column.drop_nulls().to_list() == [2]
