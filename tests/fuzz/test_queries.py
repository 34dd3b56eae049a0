"""Random queries on a table with columns of every type: each has a result, or an error with the cause."""

import datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from creemson.engine import run
from creemson.engine.windows.window import window
from creemson.errors import CreemsonError, InvalidFormat
from creemson.model.converter import structure
from creemson.model.query import FUNCTIONS, LIST_OPERATORS, OPERATORS, UNARY_OPERATORS, Query, View

TYPES = {
    "i8": ([1, None, -3], pl.Int8),
    "i64": ([1, None, -(2**63)], pl.Int64),
    "u64": ([1, None, 2**64 - 1], pl.UInt64),
    "i128": ([1, None, 2**100], pl.Int128),
    "f32": ([1.5, None, float("nan")], pl.Float32),
    "f64": ([1.5, float("inf"), float("nan")], pl.Float64),
    "decimal": ([Decimal("1.50"), None, Decimal("-2.25")], pl.Decimal(10, 2)),
    "bool": ([True, None, False], pl.Boolean),
    "text": (["a", None, "ü"], pl.String),
    "category": (["a", None, "b"], pl.Categorical),
    "date": ([datetime.date(2024, 1, 1), None, datetime.date(1, 1, 1)], pl.Date),
    "moment": ([datetime.datetime(2024, 1, 1), None, datetime.datetime(1, 1, 1)], pl.Datetime("us")),
    "nanos": ([datetime.datetime(2024, 1, 1), None, None], pl.Datetime("ns")),
    "zoned": ([datetime.datetime(2024, 1, 1), None, None], pl.Datetime("us", "America/New_York")),
    "time": ([datetime.time(1, 2), None, datetime.time(23, 59)], pl.Time),
    "span": ([datetime.timedelta(1), None, datetime.timedelta(-1)], pl.Duration("us")),
    "spanns": ([datetime.timedelta(1), None, datetime.timedelta(-1)], pl.Duration("ns")),
    "list": ([[1], None, []], pl.List(pl.Int64)),
    "struct": ([{"a": 1}, None, {"a": None}], pl.Struct({"a": pl.Int64})),
    "binary": ([b"\xff", None, b""], pl.Binary),
    "null": ([None, None, None], pl.Null),
}

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from(
        [2**53, 2**63, -(2**63), 2**64 - 1, 1e19, -1e39, 1e308, 5e-324, 1e13, 9.3e12, 8.64e13, 1e10]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            "0001-01-01",
            "9999-12-31",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "2024-01-01T00:00:00Z",
            "0001-01-01T00:00:00",
            "1677-01-01",
            "2262-12-31T00:00",
            "2024-03-31T02:30",
            "23:59:59.999999",
            "24:00",
            "a",
            "",
        ]
    ),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.just({}),
)
columns = st.sampled_from([*TYPES, "nothing", ""]) | st.integers(0, 30)


@st.composite
def conditions(draw):
    operator = draw(st.sampled_from(OPERATORS))
    if operator in UNARY_OPERATORS:
        return [draw(columns), operator]
    return [
        draw(columns),
        operator,
        draw(st.lists(values, max_size=3) if operator in LIST_OPERATORS else values),
    ]


clauses = conditions() | st.lists(conditions(), min_size=1, max_size=3).map(lambda found: {"any": found})
queries = st.fixed_dictionaries(
    {"filename": st.just("all.parquet")},
    optional={
        "selectedColumns": st.lists(columns, min_size=1, max_size=3),
        "where": st.lists(clauses, min_size=1, max_size=2),
        "group_by": st.lists(columns, max_size=2),
        "aggregate": st.lists(
            st.tuples(columns, st.sampled_from(FUNCTIONS)).map(list)
            | st.tuples(columns, st.sampled_from(FUNCTIONS), st.sampled_from(["x", "i8", "\0"])).map(list),
            max_size=2,
        ),
        "sort": st.lists(st.tuples(columns, st.sampled_from(["asc", "desc"])).map(list), max_size=2),
        "limit": st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1]),
        "preview": st.sampled_from([0, 5, 1000]),
        "profile": st.booleans(),
    },
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    path = tmp_path_factory.mktemp("all") / "all.parquet"
    pl.DataFrame(
        {name: pl.Series(cells, dtype=dtype) for name, (cells, dtype) in TYPES.items()}
    ).write_parquet(path)
    return path


def attempt(value, source):
    """Run a query as a worker does; only Creemson errors are allowed, and none of them `internal`."""
    try:
        query = structure(value, Query)
        run.run(query, source, source.with_name("out.parquet"), lambda on_progress: None)
    except CreemsonError as error:
        assert error.reason != "internal"


@settings(max_examples=150)
@given(queries)
@example({"filename": "all.parquet", "where": [["spanns", "in", [9_223_372_037]]]})  # more than fits
def test_query_has_a_result_or_a_reason(everything, value):
    """Types that CSV lacks, extreme values of each, in every clause."""
    attempt(value, everything)


@pytest.mark.slow
@settings(max_examples=5000)
@given(queries)
def test_many_queries_have_a_result_or_a_reason(everything, value):
    """The same, for longer."""
    attempt(value, everything)


views = st.fixed_dictionaries(
    {},
    optional={
        "where": st.lists(clauses, min_size=1, max_size=2),
        "sort": st.lists(st.tuples(columns, st.sampled_from(["asc", "desc"])).map(list), max_size=2),
        "find": st.text(min_size=1, max_size=3) | st.sampled_from(["1", "e", "-", "nan", "2", "T0"]),
    },
)


def rows_or_error(read):
    """The rows that a function reads, or the reason and the message of its error."""
    try:
        return read()
    except CreemsonError as error:
        assert error.reason != "internal"
        return error.reason, error.message


@settings(max_examples=150)
@given(views, st.booleans())
def test_view_has_the_rows_of_a_query_or_its_error(everything, value, as_texts):
    """Values of all types, extreme ones, in conditions and sort keys; a text leaves some of these rows."""
    shown = {"as_texts": as_texts, "texts": everything.with_name("none")}
    target = everything.with_name("view.parquet")

    def job():
        query = structure(
            {key: value[key] for key in value if key != "find"} | {"filename": "all.parquet"}, Query
        )
        run.run(query, everything, target, lambda on_progress: None)
        return window(target, "view.parquet", 0, 1000, **shown).rows

    def view():
        return window(everything, "all.parquet", 0, 1000, view=structure(value, View), **shown).rows

    expected, found = rows_or_error(job), rows_or_error(view)
    if "find" not in value or (expected and isinstance(expected[0], str)):
        assert found == expected
    else:
        left = iter(expected)
        assert all(row in left for row in found)


@pytest.mark.parametrize("offset", [2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_rows_beyond_any_table_are_empty(everything, offset):
    """No offset is too large."""
    assert window(everything, "all.parquet", offset, 5).rows == ()


@pytest.mark.parametrize("value", [1e39, -1e308, 2.0**127])
def test_integers_compare_with_unreachable_floats(everything, value):
    """Regression: these were converted to integers that polars cannot hold."""
    for operator, count in (("==", 0), ("<", 2 if value > 0 else 0), ("in", 0)):
        query = {"filename": "x", "where": [["i8", operator, [value] if operator == "in" else value]]}
        target = everything.with_name("out.parquet")
        assert run.run(structure(query, Query), everything, target, lambda on_progress: None).rows == count


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_moment_outside_calendar_in_another_zone_is_refused(everything, moment):
    """Regression: it was an error of the server."""
    query = structure({"filename": "x", "where": [["zoned", "==", moment]]}, Query)
    with pytest.raises(InvalidFormat) as caught:
        run.run(query, everything, everything.with_name("out.parquet"), lambda on_progress: None)
    assert caught.value.reason == "invalid_message"
