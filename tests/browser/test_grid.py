"""The rows of a file in the grid: at once, while people type, with keys and mouse, and by the address."""

import polars as pl
import pytest

from tests.browser.people import fresh, on_each_screen, place_of
from tests.browser.test_page import shows, until, upload, visit, write

GERMAN = (
    "Artikel;Preis;Datum\nSchraube;1,5;31.12.2024\nMutter groß;12,25;01.02.2024\n;100;\nBohrer;;03.02.2024\n"
)


@pytest.fixture
def here(page, server):
    """The page, connected to the server."""
    visit(page, server)
    return page


def active(page):
    """The text of the active cell, which the grid names for assistive technology."""
    return page.evaluate(
        "document.getElementById(document.querySelector('#grid').getAttribute('aria-activedescendant'))?.textContent"
    )


def test_dropped_file_shows_its_rows_as_written(here, tmp_path):
    """One action: cells as in the file, types in plain words, numbers with their signs below each other."""
    path = tmp_path / "grid-german.csv"
    path.write_bytes(GERMAN.encode("cp1252"))
    upload(here, path)
    shows(
        here,
        [
            ["Schraube", "1,5", "31.12.2024"],
            ["Mutter groß", "12,25", "01.02.2024"],
            ["", "100", ""],
            ["Bohrer", "", "03.02.2024"],
        ],
    )
    here.wait_for_selector("#view[data-survey=done]")
    words = [f"{word} · 25 % missing" for word in ("text", "number", "date")]
    assert here.locator("#grid thead small").all_inner_texts() == words
    assert here.inner_text("#view-facts") == "4 rows · 3 columns"
    assert here.title() == "grid-german.csv – Creemson"
    sides = here.evaluate(
        "[...document.querySelectorAll('#grid td.number .fraction')].map(part => part.getBoundingClientRect().left)"
    )
    assert len(sides) == 3
    assert len(set(sides)) == 1


@on_each_screen
def test_text_typed_into_find_narrows_the_rows_and_is_the_address(person, tmp_path):
    """Each letter narrows the rows; reload and back show the same; a sent address works in another tab."""
    here = person.page
    person.drop(
        write(fresh(tmp_path / "grid-find.csv"), city=["Oslo", "Rome", "Bergen", "Bonn"], n=[1, 2, 3, 4])
    )
    person.type("#find", "BER")
    assert person.actions <= 2
    shows(here, [["Bergen", "3"]])
    assert here.inner_text("#view-facts") == "1 row matches · 2 columns"
    address = here.url
    here.reload()
    shows(here, [["Bergen", "3"]])
    assert here.input_value("#find") == "BER"
    other = here.context.new_page()
    other.goto(address)
    shows(other, [["Bergen", "3"]])
    other.close()
    here.go_back()
    until(here, "document.querySelectorAll('#grid tbody tr').length === 4")
    assert here.input_value("#find") == ""


def test_rows_that_cannot_be_had_are_not_those_from_before(here, tmp_path):
    """An error takes their place; it says what to do, and a removed filter brings the rows back."""
    upload(here, write(tmp_path / "grid-error.csv", a=[1, 2]))
    shows(here, [["1"], ["2"]])
    here.goto(f"{here.url}&where=[[%22gone%22,%22==%22,1]]")
    here.wait_for_selector("#grid-error:has-text('gone')")
    assert here.locator("#grid tr").count() == 0
    here.click("#chips button")
    shows(here, [["1"], ["2"]])
    assert here.is_hidden("#grid-error")


def test_grid_keys_move_the_active_cell(here, server):
    """Arrows, Home, End and the page keys, as the ARIA grid pattern has them."""
    n = pl.int_range(1000, eager=True)
    pl.DataFrame({"n": n, "twice": 2 * n}).write_parquet(server.data_dir / "uploads" / "grid-keys.parquet")
    here.goto(f"http://127.0.0.1:{server.port}/#file=grid-keys.parquet")
    here.wait_for_selector("#grid[data-state=ready]")
    here.focus("#grid")
    until(here, "document.querySelector('#grid').getAttribute('aria-rowcount') === '1001'")
    for key, expected in (
        ("ArrowDown", "0"),
        ("ArrowRight", "0"),
        ("ArrowDown", "2"),
        ("Home", "1"),
        ("End", "2"),
        ("Control+End", "1998"),
        ("Control+Home", "0"),
    ):
        here.keyboard.press(key)
        until(here, f"document.querySelector('#grid-active')?.textContent === '{expected}'")
        assert active(here) == expected
    assert here.locator("#grid tbody tr").count() < 50


def test_column_border_dragged_changes_its_width(here, tmp_path):
    """Dragging widens, a double click fits the column to its cells again."""
    upload(here, write(tmp_path / "grid-drag.csv", a=["x"], b=["y"]))
    here.wait_for_selector("#grid[data-state=ready]")
    width = "document.querySelector('#grid th').getBoundingClientRect().width"
    here.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])")
    before = here.evaluate(width)
    x, y = place_of(here, "#grid .grip")
    here.mouse.move(x + 4, y + 20)
    here.mouse.down()
    here.mouse.move(x + 104, y + 20)
    here.mouse.up()
    assert here.evaluate(width) == before + 100
    here.locator("#grid .grip").first.dblclick()
    until(here, f"{width} === {before}")


@on_each_screen
def test_row_numbers_and_header_stay_while_scrolling(person, server):
    """Five hundred columns: few cells in the document, and what names them is always visible."""
    here = person.page
    pl.DataFrame({f"c{index}": range(300) for index in range(500)}).write_parquet(
        server.data_dir / "uploads" / "grid-wide.parquet"
    )
    here.goto(f"http://127.0.0.1:{server.port}/#file=grid-wide.parquet")
    here.wait_for_selector("#grid[data-state=ready]")
    here.evaluate("document.querySelector('#grid').scrollTo(1e6, 5000)")
    until(here, "document.querySelector('#grid').textContent.includes('c499')")
    sides = here.evaluate(
        "['#grid', '#grid tbody .index', '#grid thead'].map(name => document.querySelector(name).getBoundingClientRect()).map(({x, y}) => [x, y])"
    )
    assert abs(sides[1][0] - sides[0][0]) < 3
    assert abs(sides[2][1] - sides[0][1]) < 3
    assert here.locator("#grid td").count() < 800


def test_text_from_right_to_left_has_its_full_stop_on_the_left(here, tmp_path):
    """Each cell has the direction of its own text."""
    upload(here, write(tmp_path / "grid-rtl.csv", a=["\u05e9\u05dc\u05d5\u05dd.", "Hello."]))
    shows(here, [["\u05e9\u05dc\u05d5\u05dd."], ["Hello."]])
    lefts = here.evaluate(
        """[...document.querySelectorAll("#grid tbody td:not(.index)")].map(cell => {
            const text = cell.firstChild;
            return [0, text.length - 1].map(at => {
                const range = new Range();
                range.setStart(text, at);
                range.setEnd(text, at + 1);
                return range.getBoundingClientRect().left;
            });
        })"""
    )
    (first, stop), (letter, full_stop) = lefts
    assert stop < first
    assert letter < full_stop
