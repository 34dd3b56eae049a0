"""What the cookbook says of the page: each name of a control is where it says."""

import pytest

from tests.browser.test_page import cells, run, until, upload, visit
from tests.test_cookbook import write_files


@pytest.fixture
def begin(page, server, tmp_path):
    """Upload a file of the cookbook, and open the options."""
    write_files(tmp_path)
    visit(page, server)

    def begin(name):
        upload(page, tmp_path / name)
        page.wait_for_selector(f"#query:not([hidden]) #query-name:text-is('{name}')")
        page.click("text=Reading options")
        return page

    return begin


def test_header_rows(begin):
    page = begin("report.csv")
    page.get_by_label("Header rows").fill("2")
    page.press("#option-header", "Enter")
    until(page, "document.querySelector('#columns').textContent.includes('2023 Q4')")
    run(page)
    assert cells(page)[0] == ["North", "410", "455", "430"]


def test_a_sheet(begin):
    page = begin("plan.xlsx")
    page.get_by_label("Sheet").select_option("Staff 2025")
    until(page, "document.querySelector('#columns').textContent.includes('Starts on')")
    run(page)
    assert cells(page)[0] == ["Ada", "2025-01-15", "37.5"]
    assert page.is_visible("#downloads >> text=Parquet")


def test_mended_and_strict(begin):
    page = begin("levels.csv")
    run(page)
    assert page.is_visible("text=Mended in the file")
    assert page.is_visible("#result-issues >> text=Download all of them")
    page.get_by_label("Strict").check()
    page.click("#run")
    page.wait_for_selector("#run-error:has-text('the request is strict')")


def test_a_decimal_comma(begin):
    page = begin("prices.csv")
    page.get_by_label("Decimal sign").select_option(label="comma")
    until(page, "document.querySelector('label[title^=Anzahl]').title.includes('String')")
    page.click("#columns-none")
    for name in ("Artikel", "Preis", "Anzahl"):
        page.check(f"label[title^={name}] input")
    run(page)
    assert cells(page)[0] == ["Schraube", "0.12", "1.000"]
    assert page.is_visible("text=Columns at a glance")
