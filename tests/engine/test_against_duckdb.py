"""Query results compared with another engine: each random request also runs as SQL in DuckDB."""

import datetime
import math
import random
import shutil

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.client.arguments import query_of
from creemson.engine.run import run
from tests.examples import examples_of

DAYS = st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 1, 9))
COLUMNS = {
    "n": (pl.Int64, st.integers(-3, 3)),
    "^.*$": (pl.Int64, st.integers(-(2**40), 2**40)),
    "x": (pl.Float64, st.integers(-8, 8).map(lambda number: number / 4)),
    "t": (pl.String, st.sampled_from(["a", "b", "ab", "Ä", "a%b", "_", "名", "12", "2020-01-02"])),
    "*": (pl.Boolean, st.booleans()),
    "day": (pl.Date, DAYS),
    "at": (pl.Datetime("us"), st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 3))),
}
"""Some names would be patterns in polars."""
NUMBERS = ("n", "^.*$", "x")
ROWS = st.lists(st.tuples(*(st.none() | cells for _, cells in COLUMNS.values())), max_size=25)


def sql_literal(value):
    match value:
        case bool() | int() | float():
            return str(value)
        case datetime.datetime():
            return f"TIMESTAMP '{value}'"
        case datetime.date():
            return f"DATE '{value}'"
        case _:
            return "'" + value.replace("'", "''") + "'"


@st.composite
def conditions(draw):
    """A condition and its SQL equivalent."""
    column = draw(st.sampled_from(list(COLUMNS)))
    cells = COLUMNS[column][1]
    operators = ["==", "!=", "<", "<=", ">", ">=", "in", "not_in", "is_null", "not_null"]
    operator = draw(
        st.sampled_from([*operators, *(["contains", "starts_with", "ends_with"] if column == "t" else [])])
    )
    if operator in ("is_null", "not_null"):
        return [column, operator], f'"{column}" IS {"NOT " * (operator == "not_null")}NULL'
    if operator in ("in", "not_in"):
        values = draw(st.lists(cells, min_size=1, max_size=3))
        listed = ", ".join(map(sql_literal, values))
        return [column, operator, values], f'"{column}" {"NOT " * (operator == "not_in")}IN ({listed})'
    value = draw(cells)
    if operator in ("contains", "starts_with", "ends_with"):
        return [column, operator, value], f'{operator}("{column}", {sql_literal(value)})'
    return [
        column,
        operator,
        value,
    ], f'"{column}" {"=" if operator == "==" else operator} {sql_literal(value)}'


FUNCTIONS = {
    "count": "count({})",
    "sum": "coalesce(sum({}), 0)",
    "mean": "avg({})",
    "min": "min({})",
    "max": "max({})",
    "median": "median({})",
    "std": "stddev_samp({})",
    "first": "first({} ORDER BY row)",
    "last": "last({} ORDER BY row)",
    "n_unique": "count(DISTINCT {0}) + CAST(count(*) > count({0}) AS INTEGER)",  # null counts as a value here
}


def cells_equal(ours, theirs):
    if isinstance(ours, float) or isinstance(theirs, float):
        if ours is None or theirs is None:
            return ours is theirs
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    return ours == theirs


def ordered(rows):
    return sorted(rows, key=lambda row: [(value is None, str(type(value)), str(value)) for value in row])


def compare(folder, rows, sql, *, form, in_order, **request):
    """Run both engines and compare the results, including the row order where it is defined."""
    frame = pl.DataFrame(rows, schema={name: dtype for name, (dtype, _) in COLUMNS.items()}, orient="row")
    return compare_frame(folder, frame, sql, form=form, in_order=in_order, **request)


def compare_frame(folder, frame, sql, *, form, in_order, **request):
    source, target = folder / f"t.{form}", folder / "out.parquet"
    if form == "csv":
        frame.write_csv(source, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
        # A CSV with few or no cells does not show the types of its columns.
        types = {"n": "int64", "^.*$": "int64", "x": "float64", "t": "string", "*": "boolean", "day": "date"}
        request["options"] = {"types": types | {"at": "datetime"}, "header": 1, "delimiter": ","}
    else:
        frame.write_parquet(source, row_group_size=10_000)
    outcome = run(query_of(source.name, **request), source, target, lambda _: None)
    ours = pl.read_parquet(target).rows()
    frame.with_row_index("row").write_parquet(folder / "numbered.parquet")
    with duckdb.connect() as other:
        other.read_parquet(str(folder / "numbered.parquet")).create_view("table")
        theirs = other.sql(sql).fetchall()
    assert outcome.rows == len(ours) == len(theirs), sql
    if not in_order:
        ours, theirs = ordered(ours), ordered(theirs)
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert all(map(cells_equal, our_row, their_row)), (sql, our_row, their_row)
    return outcome.issues


def where(drawn):
    return "WHERE " + " AND ".join(f"coalesce({sql}, false)" for _, sql in drawn) if drawn else ""


FORMS = st.sampled_from(["parquet", "csv"])


@st.composite
def row_requests(draw):
    """A request without groups, and its SQL equivalent."""
    conditions_ = draw(st.lists(conditions(), max_size=3))
    limit = draw(st.none() | st.integers(0, 10))
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(list(COLUMNS)), st.sampled_from(["asc", "desc"])),
            max_size=2, unique_by=lambda key: key[0],
        )
    )  # fmt: skip
    by = draw(
        st.none() | st.just(value=True) | st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True)
    )
    renamed = {name: f"new {name}" for name in draw(st.sets(st.sampled_from(names)))}
    inner = f'SELECT * FROM "table" {where(conditions_)}'
    if by:
        partition = ", ".join(f'"{name}"' for name in (names if by is True else by))
        inner = (
            f"SELECT * FROM ({inner}) QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY row) = 1"
        )
    order = ", ".join([*(f'"{name}" {direction} NULLS LAST' for name, direction in keys), "row"])
    columns = ", ".join(f'"{name}" AS "{renamed.get(name, name)}"' for name in names)
    sql = f"SELECT {columns} FROM ({inner}) ORDER BY {order}" + ("" if limit is None else f" LIMIT {limit}")
    request = {
        "selectedColumns": names, "where": [condition for condition, _ in conditions_] or None, "sort": keys or None,
        "limit": limit, "distinct": by, "rename": renamed or None,
    }  # fmt: skip
    return request, sql, True


@st.composite
def group_requests(draw):
    """A request with groups or aggregates, and its SQL equivalent."""
    conditions_ = draw(st.lists(conditions(), max_size=2))
    groups = draw(st.lists(st.sampled_from(list(COLUMNS)), max_size=2, unique=True))
    aggregates, columns = [], [f'"{name}"' for name in groups]
    for number in range(draw(st.integers(1, 3))):
        function = draw(st.sampled_from(list(FUNCTIONS)))
        numeric = function in ("sum", "mean", "median", "std")
        column = draw(st.sampled_from(NUMBERS if numeric else tuple(COLUMNS)))
        aggregates.append([column, function, f"made {number}"])
        counted = "*" if (column, function) == ("*", "count") else f'"{column}"'  # rows, and not a column
        columns.append(FUNCTIONS[function].format(counted) + f' AS "made {number}"')
    by = f"GROUP BY {', '.join(columns[: len(groups)])} ORDER BY min(row)" if groups else ""
    sql = f'SELECT {", ".join(columns)} FROM "table" {where(conditions_)} {by}'
    request = {
        "where": [condition for condition, _ in conditions_] or None, "group_by": groups or None, "aggregate": aggregates,
    }  # fmt: skip
    return request, sql, bool(groups)


@settings(deadline=None, max_examples=examples_of(60))
@given(ROWS, row_requests(), FORMS)
def test_query_without_groups_agrees_with_duckdb(tmp_path_factory, rows, drawn, form):
    """Filter, distinct, sort, limit and rename apply in this order; nulls sort last and equal nothing."""
    request, sql, in_order = drawn
    compare(tmp_path_factory.mktemp("rows"), rows, sql, form=form, in_order=in_order, **request)


@settings(deadline=None, max_examples=examples_of(60))
@given(ROWS, group_requests(), FORMS)
def test_query_with_groups_agrees_with_duckdb(tmp_path_factory, rows, drawn, form):
    """Groups and their aggregates agree; rows with a null group key form one group."""
    request, sql, in_order = drawn
    compare(tmp_path_factory.mktemp("groups"), rows, sql, form=form, in_order=in_order, **request)


@pytest.fixture(scope="module")
def many_rows():
    """Enough rows for many batches; their order must be kept."""
    rng, rows = random.Random(1), 60_000
    day, moment = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)
    cells = {
        "n": lambda: rng.randint(-3, 3),
        "^.*$": lambda: rng.randint(-(2**40), 2**40),
        "x": lambda: rng.randint(-8, 8) / 4,
        "t": lambda: rng.choice(["a", "b", "ab", "Ä", "a%b", "_", "名", "12", "2020-01-02"]),
        "*": lambda: rng.random() < 0.5,
        "day": lambda: day + datetime.timedelta(days=rng.randint(0, 8)),
        "at": lambda: moment + datetime.timedelta(minutes=rng.randint(0, 2880)),
    }
    return pl.DataFrame(
        {name: [cell() if rng.random() < 0.9 else None for _ in range(rows)] for name, cell in cells.items()},
        schema={name: dtype for name, (dtype, _) in COLUMNS.items()},
    )


@pytest.mark.slow
@pytest.mark.parametrize("requests", [row_requests(), group_requests()], ids=["rows", "groups"])
def test_query_over_many_batches_agrees_with_duckdb(tmp_path_factory, many_rows, requests):
    """A table processed in many batches by many threads gives the same result."""

    @settings(deadline=None, max_examples=100, database=None)
    @given(requests, FORMS)
    def agree(drawn, form):
        request, sql, in_order = drawn
        folder = tmp_path_factory.mktemp("many")
        compare_frame(folder, many_rows, sql, form=form, in_order=in_order, **request)
        shutil.rmtree(folder)

    agree()


WHOLE = "CASE WHEN {0} = floor({0}) THEN TRY_CAST({0} AS {1}) END"
ISO = """CASE WHEN microsecond("at") % 1000000 = 0 THEN strftime("at", '%Y-%m-%dT%H:%M:%S')
    WHEN microsecond("at") % 1000 = 0 THEN strftime("at", '%Y-%m-%dT%H:%M:%S.%g')
    ELSE strftime("at", '%Y-%m-%dT%H:%M:%S.%f') END"""
CASTS = [
    ("n", "string", "n::VARCHAR"),
    ("n", "float64", "n::DOUBLE"),
    ("n", "int8", "TRY_CAST(n AS TINYINT)"),
    ("n", "uint16", "TRY_CAST(n AS USMALLINT)"),
    ("n", "boolean", "CASE WHEN n IN (0, 1) THEN n = 1 END"),
    ("^.*$", "int16", 'TRY_CAST("^.*$" AS SMALLINT)'),
    ("^.*$", "uint32", 'TRY_CAST("^.*$" AS UINTEGER)'),
    ("x", "int64", WHOLE.format("x", "BIGINT")),
    ("x", "uint8", WHOLE.format("x", "UTINYINT")),
    ("x", "float32", "x::FLOAT"),
    ("t", "int64", "TRY_CAST(t AS BIGINT)"),
    ("t", "float64", "TRY_CAST(t AS DOUBLE)"),
    ("t", "date", "TRY_CAST(t AS DATE)"),
    ("t", "datetime", "TRY_CAST(t AS TIMESTAMP)"),
    ("*", "int64", '"*"::BIGINT'),
    ("*", "string", '"*"::VARCHAR'),
    ("at", "date", '"at"::DATE'),
    ("at", "time", '"at"::TIME'),
    ("at", "string", ISO),
    ("day", "datetime", "day::TIMESTAMP"),
    ("day", "string", "day::VARCHAR"),
]


@pytest.mark.parametrize(("column", "dtype", "sql"), CASTS)
@settings(deadline=None, max_examples=examples_of(15, least=5))
@given(rows=ROWS)
def test_cast_agrees_with_duckdb_and_counts_lost_cells(tmp_path_factory, column, dtype, sql, rows):
    """Cells that do not fit the new type become null, and each of them is counted."""
    folder = tmp_path_factory.mktemp("casts")
    issues = compare(
        folder, rows, f'SELECT {sql} FROM "table" ORDER BY row', form="parquet", in_order=True,
        selectedColumns=[column], cast={column: dtype},
    )  # fmt: skip
    place = list(COLUMNS).index(column)
    lost = sum(
        row[place] is not None and made is None
        for row, made in zip(rows, pl.read_parquet(folder / "out.parquet")[column], strict=True)
    )
    assert (0 if issues is None else issues.unparsable_cells) == lost


@settings(deadline=None, max_examples=examples_of(40))
@given(ROWS, st.integers(-4, 4), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), FORMS)
def test_clauses_after_a_cast_use_the_new_type(tmp_path_factory, rows, number, operator, form):
    """Conditions, groups and sorts see the new type."""
    sign = "=" if operator == "==" else operator
    sql = f"""
        SELECT n, count(x) AS made FROM (SELECT x, TRY_CAST(t AS BIGINT) AS t, n::VARCHAR AS n, row FROM "table")
        WHERE coalesce(t {sign} {number + 10}, false) GROUP BY n ORDER BY n NULLS LAST
    """
    compare(
        tmp_path_factory.mktemp("after"), rows, sql, form=form, in_order=True, cast={"t": "int64", "n": "string"},
        where=[["t", operator, number + 10]], group_by=["n"], aggregate=[["x", "count", "made"]], sort=[["n", "asc"]],
    )  # fmt: skip
