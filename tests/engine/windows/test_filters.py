"""Views: the rows of a job with the same conditions and sort keys, and those that have a text."""

import datetime
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.run import run
from creemson.engine.windows import filters as filters_module
from creemson.engine.windows.filters import Filters
from creemson.engine.windows.survey import Surveys
from creemson.engine.windows.window import window
from creemson.errors import InvalidFormat, ProcessingError
from creemson.model.query import Condition, Query, SortKey, View
from creemson.storage.names import companion
from tests.engine.windows.test_find import folded
from tests.examples import examples_of

ROWS = 3000
COLUMNS = ("n", "price", "day", "flag", "word", "city")
CONDITIONS = (
    Condition("n", ">", 1500), Condition("n", "in", [1, 5, 7, 2999]), Condition(0, "!=", 3), Condition("price", "<", 20.5),
    Condition("price", "is_null"), Condition("day", ">=", "2001-01-05"), Condition("flag", "==", True),
    Condition("word", "contains", "ä"), Condition("city", "==", "Oslo"), Condition("word", "not_null"),
)  # fmt: skip
TEXTS = ("oslo", "7", "10.5", "1.50", "2001-01", "true", "Ä", ",", "\n", "x" * 50, "e", "-", " 0")


def rows_of(seed):
    """Rows with repeated, missing and oddly written cells; the last ones are unlike the first."""
    rng = random.Random(seed)
    rows = []
    for number in range(ROWS):
        price = rng.choice(["10.50", "1.5", "7", "", "-0.25", "20.5"])
        if number > ROWS - 5 and rng.random() < 0.3:
            price = "what"
        day = (datetime.date(2000, 1, 1) + datetime.timedelta(days=rng.randrange(800))).isoformat()
        word = rng.choice(["ähnlich", "ÄRGER", "two\nlines", 'a "b"', "x,y", "", "007", " 0"])
        city = rng.choice(["Oslo", "OSLO", "Bergen"])
        rows.append((str(number % 2000), price, day, rng.choice(["true", "false"]), word, city))
    return rows


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in ',"\n') else cell


@pytest.fixture(
    scope="module",
    params=["csv", "repaired.csv", "csv.gz", "parquet", "ndjson", "txt", "output", "small.csv"],
)
def source(request, tmp_path_factory):
    """Return the path of a table in a format, and the number of its rows."""
    folder = tmp_path_factory.mktemp("views")
    rows = rows_of(request.param)
    if request.param == "small.csv":
        rows = rows[:50]
    lines = [",".join(COLUMNS), *(",".join(map(quoted, row)) for row in rows)]
    path = folder / f"t.{request.param}"
    match request.param:
        case "repaired.csv":
            lines[-20] += ",surplus"
        case "txt":
            lines = [
                "".join(cell.replace("\n", " ").ljust(12) for cell in row).rstrip() or "x"
                for row in [COLUMNS, *rows]
            ]
        case "parquet" | "ndjson":
            frame = pl.read_csv("\n".join(lines).encode(), try_parse_dates=True, infer_schema_length=None)
            if request.param == "parquet":
                frame.write_parquet(path, row_group_size=700)
            else:
                frame.write_ndjson(path)
            return path
        case "output":
            text, path = folder / "t.csv", folder / "out.parquet"
            text.write_text("\n".join(lines))
            run(Query(filename="t.csv"), text, path, lambda _: None)
            return path
    content = ("\n".join(lines) + "\n").encode()
    if request.param == "csv.gz":
        import gzip

        content = gzip.compress(content)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def remembered():
    """Surveys and filters, as a worker keeps them."""
    return {"surveys": Surveys(), "filters": Filters()}


def all_rows(path, **arguments):
    """Return all rows of a view, read in windows, and its number of rows."""
    rows, total = [], None
    while True:
        found = window(path, path.name, len(rows), 700, **arguments)
        assert found.complete
        assert total in (None, found.total)
        total = found.total
        rows += found.rows
        if not found.rows:
            return rows, total


where = st.none() | st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=2).map(tuple)
sort = st.none() | st.lists(
    st.builds(SortKey, st.sampled_from([*COLUMNS, 0, 5]), st.booleans()), min_size=1, max_size=2
).map(tuple)


@pytest.fixture(scope="module")
def first_sorted():
    """Let some windows need more rows than those that are sorted first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters_module, "FIRST_SORTED", 1000)
        yield


@given(where=where, sort=sort)
@settings(max_examples=examples_of(15, least=5))
def test_view_has_the_rows_of_a_job(source, remembered, first_sorted, tmp_path_factory, where, sort):
    """With the same conditions and sort keys: values and texts, in the same order."""
    target = tmp_path_factory.mktemp("job") / "out.parquet"
    view = View(where=where, sort=sort)
    try:
        outcome = run(Query(filename=source.name, where=where, sort=sort), source, target, lambda _: None)
    except (InvalidFormat, ProcessingError) as expected:
        with pytest.raises(type(expected)) as caught:
            window(source, source.name, 0, 5, view=view, **remembered)
        assert (caught.value.reason, caught.value.message, caught.value.details) == (
            expected.reason, expected.message, expected.details,
        )  # fmt: skip
        return
    stored, _ = all_rows(target)
    found, total = all_rows(source, view=view, **remembered)
    assert found == stored
    assert total == outcome.rows
    if source.name != "out.parquet":  # a job of an output has no texts of the original
        expected, _ = all_rows(target, as_texts=True, texts=companion(target, "texts"))
        assert all_rows(source, view=view, as_texts=True, **remembered)[0] == expected


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_found_where_a_csv_shows_it(source, remembered, text):
    """In any column and any case, in the cells as texts."""
    texts = companion(source, "texts")
    shown, _ = all_rows(source, as_texts=True, texts=texts, **remembered)
    values, _ = all_rows(source, **remembered)
    places = [
        place for place, row in enumerate(shown) if any(cell and folded(text) in folded(cell) for cell in row)
    ]
    view = View(find=text)
    found, total = all_rows(source, view=view, as_texts=True, texts=texts, **remembered)
    assert found == [shown[place] for place in places]
    assert total == len(places)
    searched = {"surveys": remembered["surveys"], "filters": Filters()}  # not what the first search has found
    assert all_rows(source, view=view, texts=texts, **searched)[0] == [values[place] for place in places]


def test_text_conditions_and_sort_hold_together(source, remembered):
    """The text is searched in the rows that meet the conditions; then they are sorted."""
    conditions, keys = (Condition("n", "<", 900),), (SortKey("day", descending=True),)
    sorted_rows, _ = all_rows(source, view=View(where=conditions, sort=keys), **remembered)
    expected = [row for row in sorted_rows if any("oslo" in str(cell).lower() for cell in row)]
    found, total = all_rows(source, view=View(where=conditions, sort=keys, find="oslo"), **remembered)
    assert (found, total) == (expected, len(expected))


@pytest.mark.parametrize("where", [None, (Condition("n", "<", 9),)])
def test_empty_text_is_in_every_row(source, remembered, where):
    """A page whose search field is empty shows all rows."""
    found = all_rows(source, view=View(where=where, find=""), **remembered)
    assert found == all_rows(source, view=View(where=where), **remembered)


@pytest.mark.parametrize(
    ("view", "reason", "detail"),
    [
        (View(where=(Condition("n", "==", "x"),)), "invalid_message", "$.where[0][2]"),
        (View(where=(Condition("n", ">", 1), Condition("m", "==", 1))), "column_not_found", "$.where[1][0]"),
        (View(sort=(SortKey(6),)), "column_not_found", "$.sort[0][0]"),
    ],
)
def test_view_that_does_not_fit_is_refused_with_its_path(source, view, reason, detail):
    """As a job is."""
    with pytest.raises((InvalidFormat, ProcessingError)) as caught:
        window(source, source.name, 0, 5, view=view)
    assert caught.value.reason == reason
    assert caught.value.details[0].startswith(f"{detail}: ")
