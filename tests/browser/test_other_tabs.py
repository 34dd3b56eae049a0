"""Files that change while they are shown, and files that cannot be opened."""

from tests.browser.people import fresh
from tests.browser.test_page import keep, shows, until, upload, use, visit, write
from tests.browser.test_view import chips


def test_file_replaced_in_another_tab_is_read_again(person, server, tmp_path):
    """With the filters that were chosen; the rows of two versions are never mixed."""
    path = write(fresh(tmp_path / "tabs-replaced.csv"), n=[1, 2, 3], word=["old"] * 3)
    person.drop(path)
    page = person.page
    keep(page, "n", "at least", "2")
    shows(page, [["2", "old"], ["3", "old"]])
    other = page.context.new_page()
    visit(other, server)
    upload(other, write(path, x=["y"] * 4, n=[1, 2, 3, 4], word=["new"] * 4))
    other.click("#uploads >> text='Replace it'")
    shows(page, [["y", str(n), "new"] for n in (2, 3, 4)])
    assert chips(page) == ["n ≥ 2"]
    other.close()


def test_file_that_cannot_be_opened_takes_the_place_of_the_one_before(person, server, tmp_path):
    """Its name is in the address, so that rows of another file would mislead; back leads to them."""
    good = write(fresh(tmp_path / "tabs-good.csv"), n=[1])
    bad = fresh(tmp_path / "tabs-bad.parquet")
    bad.write_bytes(b"PAR1 and nothing else PAR1")
    person.drop(good)
    page = person.page
    upload(page, bad)
    page.wait_for_selector(f"[data-file='{bad.name}']")
    page.click(f"[aria-label='Use {bad.name}']")
    page.wait_for_selector("#files-error:has-text('damaged')")
    assert page.is_hidden("#view")
    page.go_back()
    shows(page, [["1"]])
    assert page.is_hidden("#files-error")
    use(page, good.name)
    until(page, "document.title.startsWith('tabs-good')")
