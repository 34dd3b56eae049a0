"""Steps back, and what lies above the rows meanwhile."""

import pytest

from tests.browser.people import faults, fresh, look
from tests.browser.test_page import cells, keep, menu, saved, shows, until, write
from tests.browser.test_view import chips


@pytest.fixture
def cities(person, tmp_path):
    """The page with a small table."""
    path = fresh(tmp_path / "steps-cities.csv")
    person.drop(write(path, city=["Oslo", "Rome", "Bonn"], n=[1, 2, 3]))
    return person.page


def test_undo_takes_back_one_step_also_between_letters_to_find(cities):
    """A text that is typed is one step, but not together with what was done in between."""
    field = cities.locator("#find")
    field.press_sequentially("o")
    shows(cities, [["Oslo", "1"], ["Rome", "2"], ["Bonn", "3"]])
    menu(cities, "n")
    cities.click("#column-menu >> text='Sort ↓'")
    shows(cities, [["Bonn", "3"], ["Rome", "2"], ["Oslo", "1"]])
    field.press("End")
    field.press_sequentially("nn")
    shows(cities, [["Bonn", "3"]])
    cities.click("#undo")
    shows(cities, [["Bonn", "3"], ["Rome", "2"], ["Oslo", "1"]])
    assert chips(cities) == ["has “o”", "sorted by n ↓"]
    cities.click("#undo")
    shows(cities, [["Oslo", "1"], ["Rome", "2"], ["Bonn", "3"]])
    cities.click("#undo")
    until(cities, "document.querySelector('#find').value === ''")
    assert cities.is_hidden("#undo")


def test_menu_closes_when_its_view_is_left(cities):
    """Back, with the menu open, shows the view before and nothing above it."""
    cities.locator("#find").press_sequentially("bo")
    shows(cities, [["Bonn", "3"]])
    menu(cities, "n")
    cities.go_back()
    shows(cities, [["Oslo", "1"], ["Rome", "2"], ["Bonn", "3"]])
    assert cities.is_hidden("#column-menu")


@pytest.mark.parametrize("height", [500, 900])
def test_menu_stays_on_the_screen_when_its_values_come(cities, height):
    """All of it can be reached."""
    cities.set_viewport_size({"width": 1280, "height": height})
    menu(cities, "n")
    cities.click("#column-menu >> text='Show its values'")
    cities.wait_for_selector("#column-menu .values")
    until(
        cities,
        "(box => box.top >= 0 && box.bottom <= innerHeight)(document.querySelector('#column-menu').getBoundingClientRect())",
    )
    cities.fill("[aria-label='Name of the column']", "city")
    cities.press("[aria-label='Name of the column']", "Enter")
    assert (
        cities.evaluate("document.activeElement.validationMessage") == "Another column has this name"
    )  # a download would fail


def test_text_of_a_cell_is_selected_and_copied(cities):
    """With the mouse, a part of it; with the keys, all of the active cell."""
    box = cities.locator("#grid tbody td:not(.index)").first.bounding_box()
    cities.mouse.dblclick(box["x"] + 20, box["y"] + box["height"] / 2)
    assert cities.evaluate("getSelection().toString().trim()") == "Oslo"
    cities.evaluate("getSelection().empty()")
    cities.evaluate(
        "document.addEventListener('copy', event => { globalThis.copied = event.clipboardData.getData('text/plain'); })"
    )
    cities.focus("#grid")
    cities.keyboard.press("Control+End")
    cities.keyboard.press("Control+c")
    until(cities, "globalThis.copied === '3'")


def test_text_that_its_column_cuts_is_shown_whole_below_the_rows(person, tmp_path):
    """Of the cell that was clicked, or moved to with the keys; also on a phone, which shows no tooltips."""
    path = fresh(tmp_path / "steps-cut.csv")
    write(path, text=["word " * 100 + "end", "two\nlines", "short"], n=[1, 2, 3])
    person.drop(path)
    page = person.page
    look(page, 390, "dark")
    page.click("#grid tbody td:has-text('word')")
    page.wait_for_selector("#grid-cell:has-text('end')")
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('#grid-cell').innerText === 'two\\nlines'")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#grid-cell", state="hidden")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("#grid-cell:visible")
    page.fill("#find", "short")
    page.wait_for_selector("#grid-cell", state="hidden")


def test_selected_column_that_is_hidden_leaves_the_others_to_download(cities):
    """Words count one as one."""
    cities.focus("#grid")
    cities.keyboard.press("ArrowRight")
    cities.keyboard.press("Shift+ArrowRight")
    until(cities, "document.querySelector('#chips').textContent.includes('1 column selected')")
    menu(cities, "n")
    cities.click("#column-menu button:text-is('Hide')")
    cities.fill("#view-limit", "1")
    cities.press("#view-limit", "Enter")
    shows(cities, [["Oslo"]])
    assert chips(cities) == ["first 1 row", "1 column selected", "hidden: n"]
    assert saved(cities, "CSV, normalized").read_text() == "city\nOslo\n"


def test_rows_that_are_replaced_tell_no_error(cities, tmp_path, server):
    """Requests of the rows before are cancelled, which is nobody's concern."""
    path = fresh(tmp_path / "steps-wide.csv")
    line = ",".join(str(index) for index in range(400))
    path.write_text(",".join(f"c{index}" for index in range(400)) + "\n" + f"{line}\n" * 900)
    look(cities, 1280, "light")
    cities.set_input_files("#file-input", str(path))
    cities.wait_for_selector(f"#view-name:text-is('{path.name}')")
    cities.wait_for_selector("#grid[data-state=ready]")
    cities.evaluate(
        """() => {
            globalThis.told = [];
            const place = document.querySelector("#grid-error");
            const parts = { childList: true, characterData: true, subtree: true };
            new MutationObserver(() => told.push(place.textContent)).observe(place, parts);
        }"""
    )
    for text in ("1", "12", "123"):
        cities.focus("#grid")
        cities.keyboard.press("Control+End")  # asks for rows
        cities.wait_for_timeout(60)
        cities.fill("#find", text)
        cities.wait_for_selector("#grid[data-state=ready]")
    assert len(cells(cities)) > 5
    assert [text for text in cities.evaluate("told") if text] == []


def test_column_is_called_by_its_new_name_everywhere(cities):
    """In conditions, orders and groups, as in its header."""
    menu(cities, "city")
    cities.fill("[aria-label='Name of the column']", "town")
    cities.press("[aria-label='Name of the column']", "Enter")
    keep(cities, "town", "contains", "o")
    shows(cities, [["Oslo", "1"], ["Rome", "2"], ["Bonn", "3"]])
    menu(cities, "town")
    cities.click("#column-menu >> text='Sort ↓'")
    shows(cities, [["Rome", "2"], ["Oslo", "1"], ["Bonn", "3"]])
    assert chips(cities) == ["town contains o", "sorted by town ↓", "city is called town"]
    menu(cities, "town")
    cities.click("#column-menu >> text='Count each value'")
    until(cities, "document.querySelector('#chips').textContent.includes('rows for each town')")


def test_columns_may_have_any_name(person, tmp_path):
    """Also that of a property of each object of the page."""
    names = ["constructor", "toString", "__proto__", "hasOwnProperty"]
    person.drop(write(fresh(tmp_path / "steps-names.csv"), **{name: ["1", "2"] for name in names}))
    page = person.page
    header = page.locator("#grid thead .name")
    assert header.all_inner_texts() == names
    for name in names:
        menu(page, name)
        page.select_option("#column-menu label:has-text('Read as') select", label="text (keeps 00123)")
        page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])")
        until(
            page,
            "place => document.querySelectorAll('#grid thead small')[place]?.textContent === 'text'",
            names.index(name),
        )
        menu(page, name)
        page.fill("[aria-label='Name of the column']", f"my {name}")
        page.press("[aria-label='Name of the column']", "Enter")
        page.wait_for_selector(f"#chips li:has-text('{name} is called my {name}')")
    page.reload()
    until(page, "document.querySelectorAll('#grid thead .name').length === 4")
    assert header.all_inner_texts() == [f"my {name}" for name in names]
    assert saved(page, "CSV, as in the file").read_text().splitlines()[0] == ",".join(
        f"my {name}" for name in names
    )
