"""Work that is divided has the result of the work in one step, whatever the table, the request and the parts are."""

import datetime
import itertools
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from creemson.engine.division.division import Division, rows_of_part
from creemson.engine.plan import Plan
from creemson.formats.table import text_of
from creemson.model.division import MERGED, may_be_divided
from creemson.model.query import FUNCTIONS, Aggregate, Condition, Query, SortKey

COLUMNS = {
    "n": (pl.Int64, st.integers(-3, 3)),
    "^.*$": (pl.Int64, st.integers(-(2**61), 2**61)),
    "small": (pl.Int8, st.integers(-128, 127)),
    "x": (pl.Float64, st.integers(-8, 8).map(lambda number: number / 4 or 0.0)),
    "t": (pl.String, st.sampled_from(["a", "b", "ab", "", "12"])),
    "*": (pl.Boolean, st.booleans()),
    "day": (pl.Date, st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 1, 4))),
    "price": (pl.Decimal(20, 2), st.integers(-500, 500).map(lambda number: Decimal(number) / 100)),
}
WITH_TEXTS = ("n", "x", "day")
"""The columns whose cells may be written in several ways, as 1.5 and 1.50."""
TEXTS = st.none() | st.sampled_from(["A", "B", "C"])
CELLS = st.tuples(*(st.none() | cells for _, cells in COLUMNS.values()), *(TEXTS for _ in WITH_TEXTS))
NUMBERS = ("n", "small", "x", "price", "*")
SUMMED = (*NUMBERS, "^.*$")
WITH_MEAN = ("n", "small", "x", "*")
"""Their sums are exact, so they do not depend on an order."""
FITTING = {"sum": SUMMED, "mean": WITH_MEAN}
VALUES = {"n": 1, "x": 0.25, "t": "ab", "day": "2020-01-02", "price": "1.25", "small": 5}


@st.composite
def tables(draw):
    """A table with hidden texts, and where it is cut."""
    rows = draw(st.lists(CELLS, max_size=30))
    schema = {name: dtype for name, (dtype, _) in COLUMNS.items()}
    frame = pl.DataFrame(
        rows, schema={**schema, **{text_of(name): pl.String for name in WITH_TEXTS}}, orient="row"
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    return frame, [0, *cuts, len(rows)]


@st.composite
def queries(draw):
    """A query that fits the columns."""
    names = st.sampled_from(list(COLUMNS))
    fields = {}
    if draw(st.booleans()):
        column = draw(st.sampled_from(list(VALUES)))
        operator = draw(st.sampled_from(["==", "!=", "<", ">", "is_null", "not_null"]))
        value = None if operator.endswith("null") else VALUES[column]
        fields["where"] = (Condition(column, operator, value),)
    if draw(st.booleans()):
        groups = draw(st.lists(names, unique=True, max_size=2))
        functions = draw(
            st.lists(st.sampled_from([*sorted(MERGED), "rows"]), min_size=not groups, max_size=4)
        )
        aggregates = [
            Aggregate("*", "count", f"r{index}")
            if function == "rows"
            else Aggregate(
                draw(st.sampled_from(FITTING.get(function, tuple(COLUMNS)))), function, f"r{index}"
            )
            for index, function in enumerate(functions)
        ]
        fields |= {"group_by": tuple(groups) or None, "aggregate": tuple(aggregates) or None}
        columns = [*groups, *(aggregate.name for aggregate in aggregates)]
    else:
        columns = draw(st.lists(names, unique=True, min_size=1))
        fields["selectedColumns"] = tuple(columns)
    if draw(st.booleans()):
        fields["sort"] = (SortKey(draw(st.sampled_from(columns)), draw(st.booleans())),)
    if draw(st.booleans()):
        fields["limit"] = draw(st.integers(0, 12))
    if draw(st.booleans()):
        fields["distinct"] = draw(st.just(value=True) | st.just((columns[0],)))
    if draw(st.booleans()):
        fields["rename"] = {columns[0]: "renamed"}
    return Query(filename="t.csv", **fields)


def planned(query, frame):
    schema = pl.Schema((name, frame.schema[name]) for name in COLUMNS)
    plan = Plan(query, schema, lambda names: [name for name in names if name in WITH_TEXTS])
    return plan, frame[plan.needed]


def in_parts(plan, query, frame, cuts):
    """What the parts make together; None if they may not."""
    division = Division.of(plan, query, frame.schema)
    if division is None:
        return None
    slices = [frame.slice(start, stop - start) for start, stop in itertools.pairwise(cuts)]
    parts = [division.part(piece.lazy()).collect(engine="streaming") for piece in slices]
    return division.whole(pl.concat(parts).lazy()).collect(engine="streaming")


@given(tables(), queries())
def test_parts_make_the_result_of_one_step(table, query):
    """The same rows in the same order, with the same types and the same texts."""
    frame, cuts = table
    plan, needed = planned(query, frame)
    found = in_parts(plan, query, needed, cuts)
    assert (found is not None) == may_be_divided(query)
    if found is not None:
        assert_frame_equal(found, plan.apply(needed.lazy()).collect(engine="streaming"), check_exact=True)


def test_sum_whose_parts_are_too_large_is_right():
    """Only the sum of all rows must fit 64 bits."""
    frame = pl.DataFrame({"n": [2**62, 2**62, -(2**62), -(2**62) + 5]})
    query = Query(filename="t.csv", aggregate=(Aggregate("n", "sum"),))
    assert in_parts(Plan(query, frame.schema), query, frame, [0, 2, 4]).item() == 5


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        *((function, pl.Int64) for function in sorted({*FUNCTIONS} - MERGED)),
        ("mean", pl.Float32),
        ("mean", pl.Decimal(10, 2)),
        ("min", pl.Categorical),
    ],
)
def test_function_that_needs_all_rows_is_not_divided(function, dtype):
    """One worker does it."""
    frame = pl.DataFrame({"a": []}, schema={"a": dtype})
    query = Query(filename="t.csv", aggregate=(Aggregate("a", function),))
    assert in_parts(Plan(query, frame.schema), query, frame, [0, 0]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"selectedColumns": ("a",), "limit": 5},
        {"sort": (SortKey("a"),)},
        {"distinct": True},
        {"where": (Condition("a", "==", 1),), "cast": {"a": "string"}},
        {"distinct": True, "sort": (SortKey("a"),), "limit": 5},
    ],
    ids=["all", "limit", "sort", "distinct", "cast", "distinct, sort, limit"],
)
def test_query_that_leaves_out_too_little_is_not_divided(fields):
    """To put the rows together would take as long as the work."""
    assert not may_be_divided(Query(filename="t.csv", **fields))


@given(st.integers(0, 5000), st.integers(1, 9), st.integers(1, 700))
def test_parts_have_all_rows_once_and_begin_with_blocks(rows, count, block):
    """Some parts are empty if there are fewer blocks."""
    parts = [rows_of_part(rows, number, count, block=block) for number in range(count)]
    edges = [start for start, _ in parts]
    assert edges == [0, *(start + length for start, length in parts)][:-1]
    assert sum(length for _, length in parts) == rows
    assert all(start % block == 0 or start == rows for start in edges)
