"""The searches of filters are bounded, remembered and stopped."""

import pytest

from creemson.engine.windows import filters as filters_module
from creemson.engine.windows import survey
from creemson.engine.windows import window as window_module
from creemson.engine.windows.filters import Filters
from creemson.engine.windows.survey import Surveys
from creemson.engine.windows.window import window
from creemson.model.query import Condition, SortKey, View

ODD = View(where=(Condition("a", "==", 1),))
VIEWS = (ODD, View(find="1"), View(sort=(SortKey("a", descending=True),)), View(find="1", where=ODD.where))


@pytest.fixture
def table(tmp_path):
    """A file of 600,000 rows, every other of which is 1."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,x\n2,y\n" * 300_000)
    return path


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Progress is reported with each batch."""
    monkeypatch.setattr("creemson.engine.progress.PROGRESS_INTERVAL", 0.0)


class Clock:
    """A clock that goes on by a second whenever it is asked, after some times."""

    def __init__(self, stands=0):
        self.now, self.stands = 0.0, stands

    def __call__(self):
        self.stands -= 1
        if self.stands < 0:
            self.now += 1
        return self.now


@pytest.mark.parametrize("view", VIEWS)
def test_search_that_takes_too_long_has_what_was_found_until_then(table, view):
    """It is no error: the answer says that it is incomplete."""
    surveys = Surveys()
    found = window(table, "t.csv", 0, 10, view=view, surveys=surveys, filters=Filters(Clock()))
    assert (found.total, found.complete) == (None, False)
    expected = 2 if view.sort else 1
    assert all(row[0] == expected for row in found.rows)
    assert found.columns == ("a", "b")
    assert window(table, "t.csv", 0, 10, view=view, surveys=surveys).complete


def test_search_in_a_file_too_large_for_a_survey_is_incomplete(table, monkeypatch):
    """All of its rows were looked at, but a later cell may have another type in a job."""
    monkeypatch.setattr(survey, "SECONDS", -1.0)
    found = window(table, "t.csv", 2, 2, view=ODD)
    assert (found.rows, found.total, found.complete) == (((1, "x"), (1, "x")), None, False)


@pytest.mark.parametrize("view", VIEWS)
def test_search_that_finds_too_much_is_incomplete(table, monkeypatch, view):
    """Its memory is bounded."""
    monkeypatch.setattr(filters_module, "MAX_FOUND_BYTES", 100_000)
    found = window(table, "t.csv", 0, 2, view=view)
    assert (found.total, found.complete) == (None, False)
    assert found.rows


@pytest.mark.parametrize("view", VIEWS)
def test_search_can_be_stopped(table, view):
    """By an exception that the caller's function raises; the next search is complete."""
    surveys, filters = Surveys(), Filters()
    window(table, "t.csv", 0, 1, surveys=surveys)

    def stop(_):
        raise KeyError("stopped")

    with pytest.raises(KeyError):
        window(table, "t.csv", 0, 1, view=view, surveys=surveys, filters=filters, on_progress=stop)
    assert window(table, "t.csv", 0, 1, view=view, surveys=surveys, filters=filters).complete


def passes(monkeypatch):
    """Return a list that gets an element for each search."""
    counted = []
    found = filters_module._Pass.found
    monkeypatch.setattr(filters_module._Pass, "found", lambda *rest: counted.append(1) or found(*rest))
    return counted


def test_rows_of_a_view_are_remembered_until_the_file_changes(table, monkeypatch):
    """Scrolling does not search again."""
    counted = passes(monkeypatch)
    remembered = {"surveys": Surveys(), "filters": Filters()}
    for offset in (0, 5, 299_999):
        assert window(table, "t.csv", offset, 1, view=ODD, **remembered).rows == ((1, "x"),)
    assert len(counted) == 1
    window(table, "t.csv", 0, 1, view=VIEWS[-1], **remembered)
    assert len(counted) == 2  # for the text alone
    table.write_text("a,b\n" + "1,z\n2,y\n" * 300_001)
    assert window(table, "t.csv", 0, 1, view=ODD, **remembered).rows == ((1, "z"),)
    assert len(counted) == 3


def test_equal_values_of_other_types_are_other_conditions(tmp_path):
    """True is 1 in Python, and 1 cannot be compared with a boolean."""
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "true\nfalse\n" * 100)
    remembered = {"surveys": Surveys(), "filters": Filters()}
    assert window(path, "t.csv", 0, 1, view=View(where=(Condition("a", "==", True),)), **remembered).rows
    with pytest.raises(Exception, match="cannot be compared with 1"):
        window(path, "t.csv", 0, 1, view=View(where=(Condition("a", "==", 1),)), **remembered)


def test_incomplete_result_is_remembered_for_some_time(table, monkeypatch):
    """Scrolling in it is fast, and asking again later may find more."""
    counted = passes(monkeypatch)
    clock = Clock()
    remembered = {"surveys": Surveys(), "filters": Filters(clock)}
    assert not window(table, "t.csv", 0, 1, view=ODD, **remembered).complete
    assert not window(table, "t.csv", 1, 1, view=ODD, **remembered).complete
    assert len(counted) == 1
    clock.now += filters_module.REMEMBERED_SECONDS
    clock.stands = 10**9
    assert window(table, "t.csv", 1, 1, view=ODD, **remembered).complete
    assert len(counted) == 2


@pytest.mark.parametrize(
    ("name", "value", "searches"), [("MAX_REMEMBERED", 2, 4), ("MAX_REMEMBERED_BYTES", 1_300_000, 5)]
)
def test_results_that_were_not_used_for_longest_are_forgotten(table, monkeypatch, name, value, searches):
    """Their number and size are bounded."""
    monkeypatch.setattr(filters_module, name, value)
    counted = passes(monkeypatch)
    remembered = {"surveys": Surveys(), "filters": Filters()}
    for view in (ODD, VIEWS[1], ODD, VIEWS[2], ODD, VIEWS[1]):
        window(table, "t.csv", 0, 1, view=view, **remembered)
    assert len(counted) == searches


@pytest.mark.parametrize("as_texts", [False, True])
def test_offset_that_is_not_reached_in_time_has_no_rows(table, monkeypatch, as_texts):
    """It is no error: the answer says that it is incomplete. Rows nearer to the beginning are read."""
    monkeypatch.setattr(survey, "SECONDS", -1.0)
    monkeypatch.setattr(window_module, "MAX_SKIPPED_BYTES", 1000)
    surveys = Surveys()
    reached = window(table, "t.csv", 599_999, 5, surveys=surveys, as_texts=as_texts)
    assert (len(reached.rows), reached.total, reached.complete) == (1, None, False)
    monkeypatch.setattr(filters_module, "SECONDS", -1.0)
    missed = window(table, "t.csv", 599_999, 5, surveys=surveys, as_texts=as_texts)
    assert (missed.columns, missed.rows, missed.total, missed.complete) == (("a", "b"), (), None, False)
    assert len(window(table, "t.csv", 10, 5, surveys=surveys, as_texts=as_texts).rows) == 5


def test_offset_in_large_json_is_reached_or_has_no_rows(tmp_path, monkeypatch):
    """Python may parse it."""
    path = tmp_path / "t.ndjson"
    path.write_text('{"a":1}\n' * 200_000)
    monkeypatch.setattr(survey, "SECONDS", -1.0)
    assert window(path, "t.ndjson", 199_999, 5).rows == ((1,),)
    monkeypatch.setattr(filters_module, "SECONDS", -1.0)
    missed = window(path, "t.ndjson", 199_999, 5)
    assert (missed.columns, missed.rows, missed.complete) == (("a",), (), False)
