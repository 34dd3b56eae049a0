"""Windows of sorted views: rows beside those of a window are read with them."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from creemson.engine.windows import scattered
from creemson.engine.windows.cells import Cells
from creemson.engine.windows.filters import Filters
from creemson.engine.windows.survey import Surveys
from creemson.engine.windows.window import window
from creemson.model.query import Condition, SortKey, View

ROWS = 20_000
SORTED = View(sort=(SortKey("b"),))
EDGES = (1, 249, 250, 251, 749, 750, 751, 999, 1000)
"""Where a window or the rows before it begin or end with the rows that are read at once."""

near = st.sampled_from(EDGES) | st.sampled_from(EDGES).map(lambda rows: ROWS - rows)
offsets = near | st.integers(0, ROWS + 1000)
limits = st.sampled_from(EDGES) | st.integers(1, 1000)
steps = st.lists(st.sampled_from((0, 1, -1)) | st.integers(-1000, 1000), max_size=5)
"""How far is scrolled from one window to the next: not at all, by a row, or further in either direction."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return the path of a table that is not small, and its second column, in which all values differ."""
    path = tmp_path_factory.mktemp("scattered") / "t.csv"
    values = random.Random(1).sample(range(10**6), ROWS)
    padding = "x" * 20
    path.write_text("a,b,c\n" + "".join(f"{row},{value},{padding}\n" for row, value in enumerate(values)))
    return path, values


@pytest.fixture
def read(table, monkeypatch):
    """Return a function that reads a window of the table, and the list to which each reading of rows is added."""
    path, _ = table
    readings, remembered = [], {"surveys": Surveys(), "filters": Filters()}
    rows = Cells.rows
    monkeypatch.setattr(Cells, "rows", lambda *rest: readings.append(1) or rows(*rest))

    def read(offset, limit, view=SORTED, **arguments):
        found = window(path, path.name, offset, limit, view=view, **remembered, **arguments)
        return [row[1] for row in found.rows]

    return read, readings


def test_scrolling_in_a_sorted_view_seldom_reads_the_table(table, read):
    """Down and up, wherever it begins, at the end and behind it."""
    window_of, readings = read
    expected = sorted(table[1])
    for offset in (5000, 5200, 5400, 5600, 4800, 4900):
        assert window_of(offset, 100) == expected[offset : offset + 100]
    assert len(readings) == 1
    for offset in (0, 19_950, 20_000, 30_000, 19_900, 700):
        assert window_of(offset, 100) == expected[offset : offset + 100]
    assert len(readings) < 6
    assert window_of(0, 3000) == expected[:3000]


@settings(max_examples=30)
@given(offset=offsets, limit=limits, steps=steps)
@example(offset=1000, limit=900, steps=[0])
@example(offset=5000, limit=800, steps=[100, -300])
@example(offset=200, limit=900, steps=[-200])
@example(offset=5000, limit=750, steps=[1, -250, -1])
@example(offset=5000, limit=751, steps=[0])
def test_any_windows_of_a_sorted_view_have_all_of_their_rows(table, offset, limit, steps):
    """Also windows that are larger than what is left of the rows that are read at once."""
    path, values = table
    expected = sorted(values)
    remembered = {"surveys": Surveys(), "filters": Filters()}
    for step in (0, *steps):
        offset = max(0, offset + step)
        found = window(path, path.name, offset, limit, view=SORTED, **remembered)
        assert [row[1] for row in found.rows] == expected[offset : offset + limit]
        assert not found.more


def test_other_views_and_texts_are_read_anew(table, read):
    """What is remembered are rows with the same numbers, of values or of texts."""
    window_of, readings = read
    expected = sorted(table[1])
    descending = View(sort=(SortKey("b", descending=True),))
    assert window_of(0, 10) == expected[:10]
    assert window_of(0, 10, descending) == expected[:-11:-1]
    assert window_of(0, 10, as_texts=True) == list(map(str, expected[:10]))
    assert window_of(0, 10) == expected[:10]
    assert len(readings) == 3


def test_few_rows_are_read_if_others_are_far_away_or_large(table, read, monkeypatch):
    """The rows of a condition ascend, so more of them mean that more of the table is read."""
    window_of, readings = read
    odd = View(where=(Condition("b", "<", 500_000),))
    expected = [value for value in table[1] if value < 500_000]
    for number, offset in enumerate((0, 10, 20), 1):
        assert window_of(offset, 10, odd) == expected[offset : offset + 10]
        assert len(readings) == number
    monkeypatch.setattr(scattered, "BLOCK_BYTES", 1000)
    for number, offset in enumerate((0, 10), 4):
        assert window_of(offset, 10) == sorted(table[1])[offset : offset + 10]
        assert len(readings) == number
