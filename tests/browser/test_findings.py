"""Charts of what is shown, and what is wrong in a file."""

from tests.browser.people import fresh, on_each_screen
from tests.browser.test_page import until, write


@on_each_screen
def test_groups_are_drawn_and_saved(person, tmp_path):
    """Drop, group, and open the chart; it is saved as SVG and PNG."""
    person.drop(write(fresh(tmp_path / "chart-sum.csv"), city=["Oslo", "Rome", "Oslo"], n=[1, 2, 30]))
    person.menu("n")
    person.choose("[aria-label='For each']", "for each city")
    person.click("#plot summary")
    page = person.page
    until(page, "document.querySelectorAll('#plot svg rect').length === 2")
    assert person.actions <= 4
    assert page.locator("#plot svg rect title").all_text_contents() == ["Oslo: 31", "Rome: 2"]
    page.select_option("#plot-kind", label="a line")
    page.wait_for_selector("#plot svg path")
    for button, start in (("Save as SVG", b"<svg"), ("Save as PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.click(f"text={button}")
        assert download.value.path().read_bytes().startswith(start)


def test_bars_of_a_distribution_filter(person, tmp_path):
    """A bar keeps the rows that it stands for."""
    person.drop(write(tmp_path / "chart-bars.csv", n=[0, 1, 2, 3, 100]))
    person.menu("n")
    person.click("#column-menu .bar-button >> nth=-1")
    page = person.page
    until(page, "document.querySelectorAll('#grid tbody tr').length === 1")
    assert page.inner_text("#grid tbody [role=gridcell]") == "100"


@on_each_screen
def test_bad_rows_are_listed_and_a_corrected_file_says_what_has_become_of_them(person, tmp_path):
    """Reasons with line numbers, a download of all, and the same filter on the corrected file."""
    path = fresh(tmp_path / "bad-rows.csv")
    path.write_text("a,b\n1,2\n3\n4,5,6\n7,8\n")
    person.drop(path)
    page = person.page
    assert "2 problems in the file" in page.inner_text("#view-repaired")
    page.click("#view-issues summary")
    assert page.locator("#view-issues tbody td:first-child").all_inner_texts() == ["3", "4"]
    with page.expect_download() as download:
        page.click("#view-issues >> text=Download all issues")
    assert download.value.suggested_filename == f"{path.name}.problems.csv"
    assert len(download.value.path().read_text().splitlines()) == 3
    person.menu("a")
    page.select_option("[aria-label='Comparison']", label="more than")
    person.enter("#column-menu [aria-label='Value']", "1")
    until(page, "document.querySelectorAll('#grid tbody tr').length === 3")
    path.write_text("a,b\n1,2\n3,3\n4,5\n7,8\n")
    person.upload(path)
    person.click("#uploads >> text=Replace it")
    page.wait_for_selector("#view-repaired:has-text('No problem in the file. Before: 2.')")
    assert person.actions <= 5  # two uploads and the confirmation; the others are the filter
    assert page.locator("#chips li span").all_inner_texts() == ["a > 1"]
    page.wait_for_selector("#view-issues", state="hidden")
