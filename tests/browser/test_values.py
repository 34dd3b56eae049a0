"""Values of a column and what is computed of them: missing ones, lists and records, names that are taken."""

import polars as pl
import pytest

from tests.browser.people import fresh
from tests.browser.test_page import menu, shows, until
from tests.browser.test_view import chips


@pytest.fixture
def odd(person, tmp_path):
    """The page with missing values, lists and records, and a column whose name is that of a count."""
    path = fresh(tmp_path / "values-odd.parquet")
    columns = {
        "rows": ["a", None, "a", None, None],
        "n": [1, 2, 3, 4, None],
        "list": [[1, 2], None, [], [1, 2], [3]],
        "record": [{"a": 1}, None, {"a": 2}, {"a": 1}, {"a": 1}],
    }
    pl.DataFrame(columns).write_parquet(path)
    person.drop(path)
    return person.page


def values(page):
    return [text.split("\n")[:2] for text in page.locator("#column-menu .values li").all_inner_texts()]


def test_missing_values_are_counted_like_others(odd):
    """In the menu and as groups; a group without a name is called missing in the chart, too."""
    menu(odd, "n")
    odd.click("#column-menu >> text='Show its values'")
    until(odd, "document.querySelectorAll('#column-menu .values li').length === 5")
    assert ["(missing)", "1 · 20 %"] in values(odd)
    assert odd.evaluate("document.activeElement.matches('#column-menu .value')")
    odd.keyboard.press("Escape")
    menu(odd, "rows")
    odd.click("#column-menu >> text='Count each value'")
    shows(odd, [["a", "2"], ["", "3"]])
    assert chips(odd) == ["rows (computed) for each rows"]
    odd.click("#plot summary")
    odd.wait_for_selector("#plot svg rect")
    assert odd.locator("#plot svg rect title").all_text_contents() == ["a: 2", "(missing): 3"]


def test_lists_and_records_are_listed_but_only_missing_ones_filter(odd):
    """They cannot be compared; a bar of their lengths is no condition on them."""
    for column, listed in (("list", ["[1,2]", "2 · 40 %"]), ("record", ['{"a":1}', "3 · 60 %"])):
        menu(odd, column)
        if odd.locator("#column-menu >> text='Show its values'").count():
            odd.click("#column-menu >> text='Show its values'")
        odd.wait_for_selector("#column-menu .values li")
        until(odd, "document.querySelector('#column-menu .values').textContent.includes('(missing)')")
        assert listed in values(odd)
        assert odd.locator("#column-menu .values button.value").all_inner_texts() == ["(missing)"]
        assert odd.locator("#column-menu .bar-button").count() == 0
        choices = odd.locator("#column-menu [aria-label='Comparison'] option").all_inner_texts()
        assert choices == ["is missing", "is there"]
        odd.click("#column-menu .values button.not")
        until(odd, "document.querySelectorAll('#grid tbody tr').length === 4")
        odd.keyboard.press("Escape")
        odd.click("#undo")
        until(odd, "document.querySelectorAll('#grid tbody tr').length === 5")


def test_only_what_fits_a_column_is_offered_to_be_computed(odd):
    """No sum of texts, and no smallest list."""
    offered = {}
    for column in ("n", "rows", "list"):
        menu(odd, column)
        offered[column] = odd.locator("#column-menu [aria-label='What to compute'] option").all_inner_texts()
        odd.keyboard.press("Escape")
    assert offered == {
        "n": ["sum", "average", "smallest", "largest", "median", "count", "different values"],
        "rows": ["smallest", "largest", "count", "different values"],
        "list": ["count", "different values"],
    }


def test_long_texts_filter_as_they_are(person, tmp_path):
    """The profile has only their beginnings, which no row equals; and they fill neither the menu nor the page."""
    path = fresh(tmp_path / "values-long.csv")
    pl.DataFrame({"text": ["word " * 400, "x" * 3000, "short"], "n": [1, 2, 3]}).write_csv(path)
    person.drop(path)
    page = person.page
    menu(page, "text")
    assert page.locator("#column-menu dd").first.bounding_box()["height"] < 60
    page.click("#column-menu >> text='Show its values'")
    page.click("#column-menu .value >> nth=1")
    until(page, "document.querySelectorAll('#grid tbody tr').length === 1")
    page.keyboard.press("Escape")
    assert page.locator("#chips li").bounding_box()["height"] < 80
    page.reload()
    until(page, "document.querySelectorAll('#grid tbody tr').length === 1")


def test_each_bar_has_its_label_where_there_is_room(person, tmp_path):
    """Also on a phone."""
    path = fresh(tmp_path / "values-bars.csv")
    pl.DataFrame({"city": ["Oslo", "Rome", "Bonn", "Lima"], "n": [1, 2, 3, 4]}).write_csv(path)
    person.drop(path)
    page = person.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#plot summary")
    page.wait_for_selector("#plot svg rect")
    labels = page.locator("#plot svg text").all_text_contents()
    assert [label for label in labels if label in ("Oslo", "Rome", "Bonn", "Lima")] == [
        "Oslo",
        "Rome",
        "Bonn",
        "Lima",
    ]
