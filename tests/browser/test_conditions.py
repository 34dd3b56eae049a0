"""Conditions that people write in the menu of a column."""

import pytest

from tests.browser.people import fresh
from tests.browser.test_page import keep, shows, write
from tests.browser.test_view import chips


@pytest.fixture
def texts(person, tmp_path):
    """The page with a column of texts in upper and lower case."""
    path = fresh(tmp_path / "conditions-texts.csv")
    person.drop(write(path, city=["OSLO", "Oslo east", "Rome", "east"]))
    return person.page


@pytest.mark.parametrize(
    ("comparison", "text", "kept"),
    [
        ("contains", "oslo", ["OSLO", "Oslo east"]),
        ("contains (same case)", "Oslo", ["Oslo east"]),
        ("starts with", "oSLO", ["OSLO", "Oslo east"]),
        ("ends with", "EAST", ["Oslo east", "east"]),
        ("is", "OSLO", ["OSLO"]),
    ],
)
def test_text_is_compared_as_the_words_of_the_condition_say(texts, comparison, text, kept):
    """In any case as the search does, unless the words say otherwise; the chip has the same words."""
    keep(texts, "city", comparison, text)
    shows(texts, [[city] for city in kept])
    assert chips(texts) == [f"city {comparison} {text}"]
    texts.reload()
    shows(texts, [[city] for city in kept])
