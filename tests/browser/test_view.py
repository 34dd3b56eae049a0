"""What people do with a file in the page, with the number of their actions, counted from the drop on."""

import polars as pl
import pytest

from tests.browser.people import SCREENS, fresh, on_each_screen
from tests.browser.test_grid import GERMAN
from tests.browser.test_page import shows, until, write


def chips(page):
    return page.locator("#chips li span").all_inner_texts()


@on_each_screen
def test_german_file_to_excel_with_three_columns_takes_three_actions(person, tmp_path):
    """Drop it, drag over the three headers, click Excel."""
    path = fresh(tmp_path / "view-german.csv")
    path.write_bytes("".join(f"{line};x;y\n" for line in GERMAN.splitlines()).encode("cp1252"))
    person.drop(path)
    person.drag_over_headers("Artikel", "Datum")
    until(person.page, "document.querySelectorAll('#grid th.selected').length === 3")
    workbook = person.download("Excel")
    assert person.actions <= 3
    assert workbook.suggested_filename == f"{path.stem}.xlsx"
    frame = pl.read_excel(workbook.path())
    assert frame.columns == ["Artikel", "Preis", "Datum"]
    assert frame["Preis"].to_list() == [1.5, 12.25, 100, None]


def test_both_csv_downloads_are_told_apart_by_their_names(person, tmp_path):
    """In a folder of downloads, "(1)" would be their only difference."""
    path = fresh(tmp_path / "view-names.csv")
    path.write_text("n\n1.50\n")
    person.drop(path)
    for label, ending, content in (
        ("CSV, as in the file", "csv", "n\n1.50\n"),
        ("CSV, normalized", "normalized.csv", "n\n1.5\n"),
    ):
        download = person.download(label)
        assert download.suggested_filename == f"{path.stem}.{ending}"
        assert download.path().read_text() == content


@on_each_screen
def test_distribution_of_each_column_is_there_after_the_drop(person, tmp_path):
    """A picture and the share of missing values in each header, without a further action."""
    person.drop(
        write(fresh(tmp_path / "view-pictures.csv"), city=["Oslo", None, "Rome", "Oslo"], n=[1, 2, 3, 4])
    )
    until(person.page, "document.querySelectorAll('#grid thead svg').length === 2")
    assert person.actions <= 1
    assert person.page.locator("#grid thead small").all_inner_texts() == ["text · 25 % missing", "number"]


@on_each_screen
def test_group_and_sum_takes_three_actions(person, tmp_path):
    """Drop, the menu of the column, for each of another; then sorted, undone, and as the address."""
    person.drop(
        write(fresh(tmp_path / "view-sum.csv"), city=["Oslo", "Rome", "Oslo", "Rome"], n=[1, 2, 30, 40])
    )
    person.menu("n")
    person.choose("[aria-label='For each']", "for each city")
    page = person.page
    shows(page, [["Oslo", "31"], ["Rome", "42"]])
    assert person.actions <= 4
    assert chips(page) == ["sum of n for each city"]
    person.menu("sum of n")
    person.click("#column-menu >> text='Sort ↓'")
    shows(page, [["Rome", "42"], ["Oslo", "31"]])
    page.reload()
    shows(page, [["Rome", "42"], ["Oslo", "31"]])
    person.click("#undo")
    shows(page, [["Oslo", "31"], ["Rome", "42"]])
    assert person.download("CSV, normalized").path().read_text() == "city,sum of n\nOslo,31\nRome,42\n"
    person.click("[aria-label^='Remove: sum of n']")
    until(page, "document.querySelectorAll('#grid tbody tr').length === 4")


def test_values_and_conditions_filter_and_their_chips_remove_them(person, tmp_path):
    """A click on a value keeps it, another sign leaves it out; a condition is one line."""
    path = write(tmp_path / "view-filter.csv", city=["Oslo", "Rome", "Bonn", "Oslo", None], n=[1, 2, 3, 4, 5])
    person.drop(path)
    page = person.page
    person.menu("city")
    person.click("#column-menu .value >> text='Oslo'")
    shows(page, [["Oslo", "1"], ["Oslo", "4"]])
    person.click("#column-menu .value >> text='Bonn'")
    shows(page, [["Oslo", "1"], ["Bonn", "3"], ["Oslo", "4"]])
    person.click("[aria-label='Leave out Oslo']")
    shows(page, [["Rome", "2"], ["Bonn", "3"]])
    page.keyboard.press("Escape")
    person.menu("n")
    page.select_option("[aria-label='Comparison']", label="more than")
    person.enter("#column-menu [aria-label='Value']", "2")
    shows(page, [["Bonn", "3"]])
    assert chips(page) == ["city is not Oslo", "n > 2"]
    person.click("[aria-label='Remove: city is not Oslo']")
    shows(page, [["Bonn", "3"], ["Oslo", "4"], ["", "5"]])
    person.enter("#view-limit", "2")
    shows(page, [["Bonn", "3"], ["Oslo", "4"]])
    person.menu("city")
    person.enter("[aria-label='Name of the column']", "town")
    until(page, "document.querySelector('#grid').textContent.includes('town')")
    assert person.download("CSV, as in the file").path().read_text() == "town,n\nBonn,3\nOslo,4\n"
    assert chips(page) == ["n > 2", "first 2 rows", "city is called town"]


@on_each_screen
def test_column_is_read_as_text_or_with_the_month_first(person, tmp_path):
    """Zip codes keep their zeros, and a date becomes another one; both stay in the address."""
    path = fresh(tmp_path / "view-types.csv")
    path.write_text("zip,day\n1234,01/02/2024\n99,03/04/2024\n")
    person.drop(path)
    page = person.page
    assert page.locator("#grid thead small").all_inner_texts()[0] == "number"
    person.menu("zip")
    person.choose("#column-menu label:has-text('Read as') select", "text (keeps 00123)")
    until(page, "document.querySelector('#grid thead small')?.textContent === 'text'")
    assert person.actions <= 3
    page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])")
    person.menu("day")
    person.choose("#column-menu label:has-text('Read as') select", "date: month first, 12/31/2024")
    until(page, "document.querySelectorAll('#grid thead small')[1]?.textContent === 'date'")
    assert person.actions <= 5  # with the drop and the first column
    assert (
        person.download("CSV, normalized").path().read_text() == "zip,day\n1234,2024-01-02\n99,2024-03-04\n"
    )
    page.reload()
    until(page, "document.querySelector('#grid thead small')?.textContent === 'text'")


def test_wide_file_is_described_when_somebody_asks(person, tmp_path):
    """Hundreds of columns are not profiled unasked."""
    path = write(tmp_path / "view-wide.csv", **{f"c{index}": [index, 1] for index in range(301)})
    person.drop(path)
    assert person.page.locator("#grid thead svg").count() == 0
    person.click("#describe")
    person.page.wait_for_selector("#grid thead svg")
    assert person.page.is_hidden("#describe")


def test_without_columns_there_is_nothing_to_download_and_the_page_says_so(person, tmp_path):
    """The server's error, "expected at least one column", came only after a click."""
    person.drop(write(tmp_path / "view-none.csv", a=[1], b=[2]))
    page = person.page
    person.click("#view-columns summary")
    person.click("#view-columns-none")
    page.wait_for_selector("#view-downloads:has-text('All columns are hidden: show at least one.')")
    assert page.locator("#view-downloads button:disabled").count() == 6
    person.click("#view-columns-all")
    until(page, "document.querySelectorAll('#view-downloads button:enabled').length === 6")
    assert page.locator("#view-downloads .hint").count() == 0


def test_text_to_find_is_not_in_downloads_and_groups_and_the_page_says_so(person, tmp_path):
    """Only the rows on the screen are searched."""
    person.drop(write(tmp_path / "view-found.csv", city=["Oslo", "Rome"], note=["abc", "x"], n=[1, 2]))
    page = person.page
    person.type("#find", "abc")
    shows(page, [["Oslo", "abc", "1"]])
    page.wait_for_selector("#view-downloads:has-text('Downloads have filters, but not a text to find')")
    assert page.locator("#view-downloads button:disabled").count() == 6
    person.menu("n")
    assert page.is_visible("#column-menu >> text=also those without the text to find")
    person.choose("[aria-label='For each']", "for each city")
    shows(page, [["Oslo", "1"], ["Rome", "2"]])
    assert chips(page) == ["sum of n for each city"]


@pytest.mark.slow
@pytest.mark.parametrize("person", SCREENS[::3], indirect=True)
def test_one_of_a_million_rows_is_found_with_two_actions(person, tmp_path):
    """Drop and type."""
    n = pl.int_range(1_000_000, eager=True)
    path = write(
        fresh(tmp_path / "view-million.csv"), n=n, code=(n * 2654435761 % 1_000_003).cast(pl.String) + "-x"
    )
    person.drop(path)
    person.type("#find", f"{777_777 * 2654435761 % 1_000_003}-X")
    until(
        person.page,
        "[...document.querySelectorAll('#grid tbody tr')].some(row => row.textContent.includes('777777'))",
    )
    assert person.actions <= 2
