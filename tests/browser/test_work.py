"""What the page does for somebody who waits goes on while something else is shown, and its errors end with their view."""

import polars as pl

from tests.browser.people import fresh
from tests.browser.test_page import keep, opened, saved, shows, until, use, write


def test_downloads_go_on_one_after_the_other_while_other_rows_are_shown(person, server, tmp_path):
    """Neither a text to find, nor another reading, nor another file stops them; each can be cancelled."""
    one, other = (
        write(fresh(tmp_path / f"work-{name}.csv"), city=["Oslo", "Rome", "Bonn"], n=[1, 2, 3])
        for name in ("one", "other")
    )
    person.drop(other)
    person.drop(one)
    page = person.page
    opened(page, one.name)
    keep(page, "n", "at least", "2")
    shows(page, [["Rome", "2"], ["Bonn", "3"]])
    downloads = []
    page.on("download", lambda download: downloads.append(download))  # noqa: PLW0108
    with server.frozen():
        for label in ("CSV, normalized", "Excel", "Parquet"):
            person.click(f"#view-downloads >> text='{label}'")
        page.wait_for_selector("#download-words:has-text('Preparing CSV, normalized · 2 more to come')")
        person.click("#options summary")
        page.select_option("#option-quote", "'")
        person.type("#find", "Bonn")
        person.click(f"[aria-label='Use {other.name}']")
        assert page.inner_text("#download-words").startswith("Preparing CSV, normalized")
        person.click("#download-cancel")
        page.wait_for_selector("#download-words:has-text('Preparing Excel · 1 more to come')")
    opened(page, other.name)
    until(page, "document.querySelector('#download').hidden")
    page.wait_for_timeout(100)
    assert [download.suggested_filename for download in downloads] == [
        f"{one.stem}.{kind}" for kind in ("xlsx", "parquet")
    ]
    assert pl.read_parquet(downloads[1].path()).rows() == [("Rome", 2), ("Bonn", 3)]


def test_error_of_a_download_goes_with_its_view(person, server, tmp_path):
    """What could not be downloaded of one file is not said of another."""
    bad, good = fresh(tmp_path / "work-bad.csv"), fresh(tmp_path / "work-good.csv")
    person.drop(write(good, a=[1]))
    bad.write_text("a,b\n1,2\n3\n")
    person.drop(bad)
    page = person.page
    opened(page, bad.name)
    person.click("#options summary")
    page.check("#option-strict")
    person.click("#view-downloads >> text='Parquet'")
    page.wait_for_selector("#download-error:visible")
    use(page, good.name)
    assert page.is_hidden("#download-error")
    assert pl.read_parquet(saved(page, "Parquet")).rows() == [(1,)]
