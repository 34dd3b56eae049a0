"""The page instructions of the cookbook work: each control that it names exists and does what it says."""

import itertools
from datetime import date

import polars as pl
import pytest

from tests.browser.test_page import cells, keep, opened, saved, shows, until, upload, visit
from tests.servers import wait_until
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


def types(page):
    return page.locator("#grid thead small").all_inner_texts()


def test_header_rows_set_to_two_joins_the_column_names(begin):
    """Two header rows give column names like "2023 Q4"."""
    page = begin("report.csv")
    page.get_by_label("Header rows").fill("2")
    page.press("#option-header", "Enter")
    shows(page, [["North", "410", "455", "430"], ["South", "380", "390", "402"]])
    until(page, "document.querySelector('#grid thead')?.textContent.includes('2023 Q4')")


def test_sheet_selected_shows_its_rows(begin):
    """The selected sheet is read, and can be downloaded as Parquet."""
    page = begin("plan.xlsx")
    page.get_by_label("Sheet").select_option("Staff 2025")
    until(page, "document.querySelector('#grid').textContent.includes('Starts on')")
    assert pl.read_parquet(saved(page, "Parquet")).row(0) == ("Ada", date(2025, 1, 15), 37.5)


def test_malformed_file_shows_issues_and_fails_if_strict(begin):
    """The page lists the issues; a strict download fails."""
    page = begin("levels.csv")
    assert page.is_visible("text=Problems in the file")
    assert page.is_visible("#view-issues >> text=Download all issues")
    page.get_by_label("Strict").check()
    page.click("#view-downloads >> text=Parquet")
    page.wait_for_selector("#download-error:has-text('nothing may be repaired')")


def test_decimal_comma_selected_reads_fractions(begin):
    """Prices become numbers, and a column with thousands separators stays text."""
    page = begin("prices.csv")
    page.get_by_label("Decimal separator").select_option(label="comma")
    until(page, "document.querySelectorAll('#grid thead small')[3]?.textContent === 'text'")
    page.click("#view-columns summary")
    page.uncheck("#view-columns label:has-text('Größe') input")
    wait_until(lambda: cells(page)[:1] == [["Schraube", "0,12", "1.000"]])
    assert saved(page, "CSV, normalized").read_text().splitlines()[1] == "Schraube,0.12,1.000"


def test_filtered_csv_has_the_texts_of_the_file_or_values(begin):
    """The filter compares values, and each button has its own cells."""
    page = begin("invoices.csv")
    keep(page, "Paid", "is", "no")
    shows(
        page,
        [["00902", "28/02/2024", "1200.00", "FALSE", "NO"], ["01133", "01/03/2024", "n/a", "FALSE", "NP"]],
    )
    for label, line in (
        ("CSV, as in the file", "00902,28/02/2024,1200.00,FALSE,NO"),
        ("CSV, normalized", "00902,2024-02-28,1200.0,false,NO"),
    ):
        assert saved(page, label).read_text().splitlines()[1] == line


def test_thousands_and_date_formats_are_read_as_the_page_says(begin):
    """Points separate thousands."""
    page = begin("prices.csv")
    page.get_by_label("Decimal separator").select_option(label="comma")
    page.get_by_label("Thousands separator").select_option(label="point")
    # A download that is begun before the file has been read again has what was shown then.
    until(page, "document.querySelector('#view-reading').textContent.includes('thousands point')")
    until(page, "document.querySelectorAll('#grid thead small')[3]?.textContent === 'number'")
    assert saved(page, "CSV, normalized").read_text().splitlines()[3].endswith(",12000")


def test_date_format_of_one_column_reads_the_month_first(begin):
    """Without it, the column is text."""
    page = begin("orders.csv")
    page.get_by_label("Date format").fill("ordered=%m/%d/%Y")
    page.press("#option-date_format", "Enter")
    until(page, "document.querySelectorAll('#grid thead small')[1]?.textContent === 'date'")
    assert types(page)[0] == "number"
    assert saved(page, "CSV, normalized").read_text().splitlines()[1] == "1,2024-03-04,2024-04-13"
