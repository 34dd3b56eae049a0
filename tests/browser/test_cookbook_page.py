"""The page instructions of the cookbook work: each control that it names exists and does what it says."""

import itertools

import pytest

from tests.browser.test_page import cells, opened, run, until, upload, visit
from tests.test_cookbook import write_files

pytestmark = pytest.mark.slow

NUMBERS = itertools.count(1)


@pytest.fixture
def begin(page, server, tmp_path):
    """Upload a file of the cookbook and open the reading options."""
    write_files(tmp_path)
    visit(page, server)

    def begin(name):
        own = f"{next(NUMBERS)}-{name}"  # the page would ask whether to replace a file of another test
        (tmp_path / name).rename(tmp_path / own)
        upload(page, tmp_path / own)
        opened(page, own)
        page.click("#options summary")
        return page

    return begin


def test_header_rows_set_to_two_joins_the_column_names(begin):
    """Two header rows give column names like "2023 Q4"."""
    page = begin("report.csv")
    page.get_by_label("Header rows").fill("2")
    page.press("#option-header", "Enter")
    until(page, "document.querySelector('#columns').textContent.includes('2023 Q4')")
    run(page)
    assert cells(page)[0] == ["North", "410", "455", "430"]


def test_sheet_selected_shows_its_rows(begin):
    """The selected sheet is read, and the result can be downloaded as Parquet."""
    page = begin("plan.xlsx")
    page.get_by_label("Sheet").select_option("Staff 2025")
    until(page, "document.querySelector('#columns').textContent.includes('Starts on')")
    run(page)
    assert cells(page)[0] == ["Ada", "2025-01-15", "37.5"]
    assert page.is_visible("#downloads >> text=Parquet")


def test_malformed_file_shows_issues_and_fails_if_strict(begin):
    """A normal run lists the issues; a strict run fails."""
    page = begin("levels.csv")
    run(page)
    assert page.is_visible("text=Issues in the file")
    assert page.is_visible("#result-issues >> text=Download all issues")
    page.get_by_label("Strict").check()
    page.click("#run")
    page.wait_for_selector("#run-error:has-text('the request is strict')")


def test_decimal_comma_selected_reads_fractions(begin):
    """Prices become numbers, and a column with thousands separators stays text."""
    page = begin("prices.csv")
    page.get_by_label("Decimal separator").select_option(label="comma")
    until(page, "document.querySelector('label[title^=Anzahl]').title.includes('text')")
    page.click("#columns-none")
    for name in ("Artikel", "Preis", "Anzahl"):
        page.check(f"label[title^={name}] input")
    run(page)
    assert cells(page)[0] == ["Schraube", "0.12", "1.000"]
    assert page.is_visible("text=Column profiles")


def test_filtered_csv_has_the_texts_of_the_file_or_values(begin):
    """The filter compares values, and each button has its own cells."""
    page = begin("invoices.csv")
    page.click("text=Filter, sort, limit")
    page.click("#add-filter")
    page.select_option("#filter-list select >> nth=0", label="Paid")
    page.select_option("#filter-list select >> nth=1", value="==")
    page.fill("#filter-list input", "false")
    run(page)
    for label, line in (
        ("CSV, as in the file", "00902,28/02/2024,1200.00,FALSE,NO"),
        ("CSV, normalized", "00902,2024-02-28,1200.0,false,NO"),
    ):
        with page.expect_download() as download:
            page.click(f"#downloads >> text={label}")
        assert download.value.path().read_text().splitlines()[1] == line


def test_thousands_and_date_formats_are_read_as_the_page_says(begin):
    """Points separate thousands; the month is first in one column."""
    page = begin("prices.csv")
    page.get_by_label("Decimal separator").select_option(label="comma")
    page.get_by_label("Thousands separator").select_option(label="point")
    until(page, "document.querySelector('label[title^=Anzahl]').title.includes('number')")
    run(page)
    assert cells(page)[2][3] == "12000"


def test_date_format_of_one_column_reads_the_month_first(begin):
    """Without it, the column is text."""
    page = begin("orders.csv")
    page.get_by_label("Date format").fill("ordered=%m/%d/%Y")
    page.press("#option-date_format", "Enter")
    until(page, "document.querySelector('label[title^=ordered]').title.includes('date')")
    run(page)
    assert cells(page)[0] == ["1", "2024-03-04", "2024-04-13"]
