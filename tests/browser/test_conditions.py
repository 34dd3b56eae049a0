"""Conditions that people write in the menu of a column."""

import pytest

from tests.browser.people import fresh
from tests.browser.test_manners import PROTOCOL_WORDS
from tests.browser.test_page import cells, keep, menu, opened, shows, until, write
from tests.browser.test_view import chips


@pytest.fixture
def texts(person, tmp_path):
    """The page with a column of texts in upper and lower case."""
    path = fresh(tmp_path / "conditions-texts.csv")
    person.drop(write(path, city=["OSLO", "Oslo east", "Rome", "east"]))
    return person.page


def test_text_is_compared_as_the_words_of_the_condition_say(texts, subtests):
    """In any case as the search does, unless the words say otherwise; the chip has the same words."""
    rows, address = cells(texts), texts.url
    for comparison, text, kept in (
        ("contains", "oslo", ["OSLO", "Oslo east"]),
        ("contains (same case)", "Oslo", ["Oslo east"]),
        ("starts with", "oSLO", ["OSLO", "Oslo east"]),
        ("ends with", "EAST", ["Oslo east", "east"]),
        ("is", "OSLO", ["OSLO"]),
    ):
        with subtests.test(comparison):
            keep(texts, "city", comparison, text)
            shows(texts, [[city] for city in kept])
            assert chips(texts) == [f"city {comparison} {text}"]
            texts.reload()
            shows(texts, [[city] for city in kept])
        go_back(texts, address, rows)


@pytest.fixture
def german(person, tmp_path):
    """The page with a column of each type, as a German file writes them."""
    path = fresh(tmp_path / "conditions-german.csv")
    path.write_text(
        "preis;tag;um;seit;ok\n9.500,50;31.12.2024;2024-12-31 10:00;9:30:00;true\n1,25;01.02.2024;2024-02-01 23:30;10:30:00;false\n"
    )
    person.drop(path)
    return person.page


def test_value_is_taken_as_people_write_it(german, subtests):
    """Numbers as the file writes them or with a decimal point; dates are picked."""
    rows, address = cells(german), german.url
    for column, comparison, text, kept in (
        ("preis", "is", "9.500,50", 0),
        ("preis", "is", "9 500,5", 0),
        ("preis", "is", "9500.5", 0),
        ("preis", "less than", "9.500", 1),
        ("tag", "at least", "2024-12-31", 0),
        ("um", "at most", "2024-02-01 23:30", 1),
        ("seit", "is", "9:30", 0),
    ):
        with subtests.test(f"{column} {comparison} {text}"):
            keep(german, column, comparison, text)
            shows(german, [rows[kept]])
        go_back(german, address, rows)


def test_value_that_does_not_fit_is_told_at_its_field_with_an_example(german):
    """Nothing is asked of the server, and what has been written stays until it is corrected."""
    for column, text, hint in (
        ("preis", "many", "Write a number such as 1234,5"),
        ("preis", "1e400", "Write a number such as 1234,5"),
        ("um", "31.12.2024", "Write a date and time such as 2024-12-31 13:45"),
        ("um", "2024-13-01", "Write a date and time such as 2024-12-31 13:45"),
        ("seit", "noon", "Write a time such as 13:45"),
    ):
        keep(german, column, "is", text)
        field = german.locator("#column-menu [aria-label='Value']")
        assert field.evaluate("field => field.validationMessage") == hint
        field.press("Backspace")
        assert field.evaluate("field => field.validationMessage") == ""
        german.keyboard.press("Escape")
    assert chips(german) == []
    menu(german, "ok")
    choices = german.locator("#column-menu [aria-label='Comparison'] option").all_inner_texts()
    assert choices == ["is", "is not", "is missing", "is there"]
    german.keyboard.press("Escape")
    keep(german, "ok", "is", "no")
    shows(german, [["1,25", "01.02.2024", "2024-02-01 23:30", "10:30:00", "false"]])


def test_condition_goes_when_its_column_is_read_as_another_type(german):
    """A number would not fit the texts; undo brings both back."""
    keep(german, "preis", "more than", "2")
    until(german, "document.querySelectorAll('#grid tbody tr').length === 1")
    menu(german, "preis")
    german.select_option("#column-menu label:has-text('Read as') select", label="text (keeps 00123)")
    until(german, "document.querySelectorAll('#grid tbody tr').length === 2")
    assert chips(german) == []
    german.click("#undo")
    until(german, "document.querySelectorAll('#grid tbody tr').length === 1")
    assert chips(german) == ["preis > 2"]


def test_errors_are_in_plain_words(german, subtests):
    """No type of the engine, no path of a request, and nothing twice; an address may ask for anything."""
    rows, address = cells(german), german.url
    for field, words in (
        ('where=[["preis","icontains","x"]]', "Only texts can be compared so: 'preis' is of type number"),
        ('where=[["ok","==",5]]', "'ok' is of type yes or no, which cannot be compared with 5."),
        ('where=[["gone","==",5]]', "There is no column 'gone' in"),
        ('sort=[["gone","asc"]]', "There is no column 'gone' in"),
        ('group=["ok"]&aggregate=[["tag","sum"]]', "Sum needs numbers, and 'tag' is of type date"),
    ):
        with subtests.test(field):
            german.evaluate("field => { location.hash += `&${field}`; }", field)
            found = german.locator("[role=alert]:visible")
            found.wait_for()
            assert found.inner_text().startswith(words)
            assert PROTOCOL_WORDS.findall(found.inner_text()) == []
            assert len(found.inner_text().splitlines()) == 1
        go_back(german, address, rows)


def test_reading_options_say_what_is_wrong_in_plain_words(german):
    """A date format that is none, and an encoding that nobody has heard of."""
    german.click("#options summary")
    for option, text, words in (
        ("date_format", "xx", "Expected a date format such as"),
        ("encoding", "foo", "There is no encoding"),
    ):
        german.fill(f"#option-{option}", text)
        german.press(f"#option-{option}", "Enter")
        german.wait_for_selector("#options-error:visible")
        assert german.inner_text("#options-error").startswith(words)
        german.fill(f"#option-{option}", "")
        german.press(f"#option-{option}", "Enter")


def test_malformed_part_of_an_address_is_ignored(german, subtests):
    """The rest of it is shown."""
    rows, address = cells(german), german.url
    for field in (
        "where=[1]", 'where=[["preis"]]', 'where=[["preis","in",5]]', 'where=[["preis","regex","x"]]', 'where=[{"any":[]}]',
        'sort=["preis"]', 'sort=[["preis","up"]]', "group=[1]", 'aggregate=["preis"]', 'aggregate=[["preis","constructor"]]',
        'rename={"preis":5}', 'options="x"', "options=[]", "limit=-1", "selected=[1]", "hidden={}", "strict=1",
    ):  # fmt: skip
        with subtests.test(field):
            german.goto(f"{address}&{field}")
            german.keyboard.press("Escape")
            german.reload()
            shows(german, rows)
            assert chips(german) == []
            assert german.locator("[role=alert]:visible").count() == 0


def go_back(page, address, rows):
    """Show all rows again, as after an address has been opened."""
    page.goto(address)
    page.reload()  # an address that differs only behind the `#` does not load the page
    opened(page)
    shows(page, rows)
