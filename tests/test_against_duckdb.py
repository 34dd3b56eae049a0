"""What a query gives, by another engine: random tables and requests, once by ours and once as SQL by DuckDB."""

import datetime
import math

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.client.jobs import query_of
from creemson.processing.engine import run

DAYS = st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 1, 9))
COLUMNS = {
    "n": (pl.Int64, st.integers(-3, 3)),
    "big": (pl.Int64, st.integers(-(2**40), 2**40)),
    "x": (pl.Float64, st.integers(-8, 8).map(lambda number: number / 4)),
    "t": (pl.String, st.sampled_from(["a", "b", "ab", "Ä", "a%b", "_", "名", "12", "2020-01-02"])),
    "yes": (pl.Boolean, st.booleans()),
    "day": (pl.Date, DAYS),
    "at": (pl.Datetime("us"), st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 3))),
}
NUMBERS = ("n", "big", "x")
ROWS = st.lists(st.tuples(*(st.none() | cells for _, cells in COLUMNS.values())), max_size=25)


def literal(value):
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
    """A condition, and what it is in SQL."""
    column = draw(st.sampled_from(list(COLUMNS)))
    cells = COLUMNS[column][1]
    operators = ["==", "!=", "<", "<=", ">", ">=", "in", "not_in", "is_null", "not_null"]
    operator = draw(st.sampled_from([*operators, *(["contains", "starts_with"] if column == "t" else [])]))
    if operator in ("is_null", "not_null"):
        return [column, operator], f'"{column}" IS {"NOT " * (operator == "not_null")}NULL'
    if operator in ("in", "not_in"):
        values = draw(st.lists(cells, min_size=1, max_size=3))
        listed = ", ".join(map(literal, values))
        return [column, operator, values], f'"{column}" {"NOT " * (operator == "not_in")}IN ({listed})'
    value = draw(cells)
    if operator in ("contains", "starts_with"):
        return [column, operator, value], f'{operator}("{column}", {literal(value)})'
    return [column, operator, value], f'"{column}" {"=" if operator == "==" else operator} {literal(value)}'


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
    "n_unique": "count(DISTINCT {0}) + CAST(count(*) > count({0}) AS INTEGER)",  # null is a value here
}


def alike(ours, theirs):
    if isinstance(ours, float) or isinstance(theirs, float):
        if ours is None or theirs is None:
            return ours is theirs
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    return ours == theirs


def ordered(rows):
    return sorted(rows, key=lambda row: [(value is None, str(type(value)), str(value)) for value in row])


def compare(folder, rows, sql, *, form, in_order, **request):
    """Run both, and compare: with the order of the rows, where it is determined."""
    source, target = folder / f"t.{form}", folder / "out.parquet"
    frame = pl.DataFrame(rows, schema={name: dtype for name, (dtype, _) in COLUMNS.items()}, orient="row")
    if form == "csv":
        frame.write_csv(source, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
        # Of what has no cells, or few, a CSV does not say what it is.
        types = {"n": "int64", "big": "int64", "x": "float64", "t": "string", "yes": "boolean", "day": "date"}
        request["options"] = {"types": types | {"at": "datetime"}, "header": 1, "delimiter": ","}
    else:
        frame.write_parquet(source)
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
        assert all(map(alike, our_row, their_row)), (sql, ours, theirs)


def where(drawn):
    return "WHERE " + " AND ".join(f"coalesce({sql}, false)" for _, sql in drawn) if drawn else ""


FORMS = st.sampled_from(["parquet", "csv"])


@settings(deadline=None, max_examples=120)
@given(ROWS, st.lists(conditions(), max_size=3), st.data(), FORMS, st.none() | st.integers(0, 10))
def test_rows(tmp_path_factory, rows, drawn, data, form, limit):
    """Filters, sorts, limits, distinct rows and new names, in this order; null is last, and equal to nothing."""
    names = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    keys = data.draw(
        st.lists(
            st.tuples(st.sampled_from(list(COLUMNS)), st.sampled_from(["asc", "desc"])),
            max_size=2, unique_by=lambda key: key[0],
        )
    )  # fmt: skip
    distinct = data.draw(st.sampled_from([None, True, "by"]))
    by = (
        names
        if distinct is True
        else data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    )
    renamed = {name: f"new {name}" for name in data.draw(st.sets(st.sampled_from(names)))}
    inner = f"SELECT *, row_number() OVER (ORDER BY row) AS place FROM table {where(drawn)}".replace(
        "FROM table", 'FROM "table"'
    )
    if distinct:
        partition = ", ".join(f'"{name}"' for name in by)
        inner = (
            f"SELECT * FROM ({inner}) QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY row) = 1"
        )
    order = ", ".join([*(f'"{name}" {direction} NULLS LAST' for name, direction in keys), "row"])
    columns = ", ".join(f'"{name}" AS "{renamed.get(name, name)}"' for name in names)
    sql = f"SELECT {columns} FROM ({inner}) ORDER BY {order}" + (
        f" LIMIT {limit}" if limit is not None else ""
    )
    compare(
        tmp_path_factory.mktemp("rows"), rows, sql, form=form, in_order=True,
        selectedColumns=names, where=[condition for condition, _ in drawn] or None,
        sort=keys or None, limit=limit, distinct=by if distinct == "by" else distinct, rename=renamed or None,
    )  # fmt: skip


@settings(deadline=None, max_examples=120)
@given(ROWS, st.lists(conditions(), max_size=2), st.data(), FORMS)
def test_groups(tmp_path_factory, rows, drawn, data, form):
    """Groups and their aggregates; rows without a value in what they are grouped by are a group."""
    groups = data.draw(st.lists(st.sampled_from(list(COLUMNS)), max_size=2, unique=True))
    asked, columns = [], [f'"{name}"' for name in groups]
    for number in range(data.draw(st.integers(1, 3))):
        function = data.draw(st.sampled_from(list(FUNCTIONS)))
        numeric = function in ("sum", "mean", "median", "std")
        column = data.draw(st.sampled_from(NUMBERS if numeric else tuple(COLUMNS)))
        asked.append([column, function, f"made {number}"])
        columns.append(FUNCTIONS[function].format(f'"{column}"') + f' AS "made {number}"')
    by = f"GROUP BY {', '.join(columns[: len(groups)])} ORDER BY min(row)" if groups else ""
    sql = f'SELECT {", ".join(columns)} FROM "table" {where(drawn)} {by}'
    compare(
        tmp_path_factory.mktemp("groups"), rows, sql, form=form, in_order=bool(groups),
        where=[condition for condition, _ in drawn] or None, group_by=groups or None, aggregate=asked,
    )  # fmt: skip


CASTS = [
    ("n", "string", "n::VARCHAR"),
    ("n", "float64", "n::DOUBLE"),
    ("n", "int8", "TRY_CAST(n AS TINYINT)"),
    ("big", "int16", "TRY_CAST(big AS SMALLINT)"),
    ("x", "int64", "CASE WHEN x = floor(x) THEN x::BIGINT END"),
    ("t", "int64", "TRY_CAST(t AS BIGINT)"),
    ("t", "float64", "TRY_CAST(t AS DOUBLE)"),
    ("t", "date", "TRY_CAST(t AS DATE)"),
    ("yes", "int64", "yes::BIGINT"),
    ("yes", "string", "yes::VARCHAR"),
    ("at", "date", '"at"::DATE'),
    ("day", "datetime", "day::TIMESTAMP"),
    ("day", "string", "day::VARCHAR"),
]


@pytest.mark.parametrize(("column", "dtype", "sql"), CASTS)
@settings(deadline=None, max_examples=20)
@given(rows=ROWS)
def test_casts(tmp_path_factory, column, dtype, sql, rows):
    """Other types, and nulls for what is none of them; each is counted."""
    compare(
        tmp_path_factory.mktemp("casts"), rows, f'SELECT {sql} FROM "table" ORDER BY row', form="parquet",
        in_order=True, selectedColumns=[column], cast={column: dtype},
    )  # fmt: skip
