"""How the page behaves towards people: words, several files, tabs, a silent server, small screens, accessibility, size."""

import re
import signal

import polars as pl
import pytest

from creemson.server.http.page_files import PAGE_FILES
from tests.browser.people import Person, faults, fresh, look, on_each_screen
from tests.browser.test_page import keep, opened, shows, until, visit, write
from tests.servers import serving

PROTOCOL_WORDS = re.compile(
    r"\$\.|\b(U?Int\d+|Float\d+|Decimal\(|Utf8|Struct\(|Datetime\(|null|calamine|polars|dtype)\b"
)
MAX_SCRIPTS = 150_000
"""Maximum bytes of all scripts, as they are sent."""
SHOWN_OF_LAST_FILE = """() => {
  const end = document.querySelector("#files-list").getBoundingClientRect().bottom;
  const rows = [...document.querySelectorAll("#files tbody tr")].map((row) => row.getBoundingClientRect());
  const { top, bottom } = rows.find((row) => row.bottom > end);
  return (end - top) / (bottom - top);
}"""
"""The share of the last file of the list that can be seen without scrolling."""


def test_scripts_have_a_bounded_size(page, server, tmp_path):
    """The page loads fast over a slow line: what rows need is loaded first, what stands around them later."""
    sizes = {}

    def note(response):
        if response.url.endswith(".js"):
            sizes[response.url.rpartition("/static/")[2]] = len(response.body())

    page.on("response", note)
    visit(page, server)
    first = set(sizes)
    Person(page).drop(write(tmp_path / "manners-size.csv", a=[1]))
    assert first < set(sizes) == {name for name in PAGE_FILES if name.endswith(".js")}
    assert sum(sizes.values()) <= MAX_SCRIPTS


@on_each_screen
def test_several_files_each_have_their_own_word(person, tmp_path):
    """The first readable one is shown, and one that is no table is told so beside its name."""
    photo = fresh(tmp_path / "manners-photo.png")
    photo.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    one = write(fresh(tmp_path / "manners-one.csv"), a=[1], b=[2])
    two = write(fresh(tmp_path / "manners-two.csv"), c=[3])
    person.upload(photo, one, two)
    for path, word in ((photo, "not a table that can be read"), (one, "2 columns"), (two, "1 column")):
        person.page.wait_for_selector(f"[data-file='{path.name}']:has-text('{word}')")
    assert person.actions <= 1
    shows(person.page, [["1", "2"]])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("touch", [False, True])
def test_end_of_the_list_of_files_cuts_a_row(browser, server, tmp_path, width, touch):
    """Scroll bars are hidden on many systems, and whole rows look like the whole list."""
    files = [write(fresh(tmp_path / f"manners-list-{number}.csv"), a=[1]) for number in range(9)]
    context = browser.new_context(
        viewport={"width": width, "height": 844}, has_touch=touch, is_mobile=touch, reduced_motion="reduce"
    )
    page = context.new_page()
    try:
        visit(page, server)
        page.set_input_files("#file-input", files)
        page.wait_for_selector("#grid[data-state=ready]")
        page.wait_for_selector(f"[data-file='{files[-1].name}']:has-text('1 column')")
        assert 0.2 < page.evaluate(SHOWN_OF_LAST_FILE) < 0.8  # beside a table
        page.goto("about:blank")
        visit(page, server)
        page.wait_for_selector(f"[data-file='{files[-1].name}']")
        assert page.is_hidden("#view")
        assert 0.2 < page.evaluate(SHOWN_OF_LAST_FILE) < 0.8
    finally:
        context.close()


@pytest.mark.slow
def test_sample_is_shown_with_one_action_to_who_comes_first(page, tmp_path):
    """An empty server offers it; another tab hears of the new file and of its end."""
    page.expected_errors.append("ERR_CONNECTION_REFUSED")  # the server ends before the page
    look(page, 390, "dark")
    with serving(tmp_path / "data") as server:
        visit(page, server)
        other = page.context.new_page()
        visit(other, server)
        page.click("#sample")
        until(page, "document.querySelectorAll('#grid tbody tr').length > 5")
        other.wait_for_selector("[data-file='sample.csv']")
        page.click("[aria-label='Delete sample.csv']")
        page.click("[aria-label='Really delete sample.csv']")
        other.wait_for_selector("[data-file='sample.csv']", state="detached")
        assert page.is_hidden("#view")
        other.close()


@pytest.mark.slow
def test_silent_server_is_reported_and_its_return(page, tmp_path):
    """A server that does not answer is reported long before the connection is given up."""
    page.expected_errors.append("ERR_CONNECTION_REFUSED")  # the server ends before the page
    with serving(tmp_path / "data") as server:
        visit(page, server)
        server.process.send_signal(signal.SIGSTOP)
        try:
            page.wait_for_selector("#connection-text:has-text('does not answer')")
        finally:
            server.process.send_signal(signal.SIGCONT)
        page.wait_for_selector("#connection-text:text-is('Connected')")


@pytest.mark.slow
def test_lost_server_is_told_once_and_the_view_goes_on_when_it_is_back(page, tmp_path):
    """For 20 s the server is gone: what is shown stays, and a text typed meanwhile is found afterwards."""
    page.expected_errors += ["WebSocket connection to", "ERR_CONNECTION_REFUSED"]
    look(page, 390, "dark")
    with serving(tmp_path / "data") as server:
        visit(page, server)
        Person(page).drop(write(tmp_path / "manners-gone.csv", city=["Oslo", "Rome", "Bonn"], n=[1, 2, 3]))
        keep(page, "n", "at least", "2")
        shows(page, [["Rome", "2"], ["Bonn", "3"]])
        page.evaluate(
            """() => {
                globalThis.said = [];
                const note = () => said.push(document.querySelector("#connection-text").textContent);
                const parts = { childList: true, characterData: true, subtree: true };
                new MutationObserver(note).observe(document.querySelector("#connection-text"), parts);
            }"""
        )
        server.stop(signal.SIGKILL)
    page.wait_for_selector("#connection-text:has-text('Connection lost')")
    page.locator("#find").press_sequentially("ro")
    assert faults(page) == []
    page.wait_for_timeout(20_000)
    assert page.locator("text=/connection (is|was)? ?lost/i").count() == 1
    assert page.locator("#chips li span").all_inner_texts() == ["n ≥ 2", "has “ro”"]
    assert page.locator("[role=alert]:visible").count() == 0
    with serving(tmp_path / "data", "--port", str(server.port)):
        shows(page, [["Rome", "2"]])
        assert page.evaluate("said") == ["Connection lost; reconnecting", "Connected"]


def test_no_protocol_words_are_shown(person, tmp_path):
    """Types, conditions, reading and problems are in plain words, also in titles and names of controls."""
    path = tmp_path / "manners-words.csv"
    path.write_text("id,day,price,ok\n1,2024-01-01,1.5,true\n2,2024-01-02,,false\n3,x,2.5\n" * 30)
    person.drop(path)
    page = person.page
    opened(page, "manners-words.csv")
    person.menu("price")
    person.enter("#column-menu [aria-label='Value']", "1.5")
    until(page, "document.querySelectorAll('#chips li').length === 1")
    person.menu("day")
    texts = page.evaluate(
        "[document.body.innerText, ...[...document.querySelectorAll('[title], [aria-label]')].flatMap("
        "element => [element.title, element.ariaLabel])].join('\\n')"
    )
    assert PROTOCOL_WORDS.findall(texts) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 640, 1280])  # 640: a screen of 1280 pixels at 200 %
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_state_of_the_page_has_a_fault_that_axe_finds(person, tmp_path, width, scheme):
    """Empty, with rows, a menu, groups and a chart, options, problems and errors; only the rows scroll sideways."""
    page = person.page
    look(page, width, scheme)

    def is_fit():
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    is_fit()
    path = tmp_path / f"manners-axe-{width}-{scheme}.csv"
    path.write_text("city,n,day\n" + "Oslo,1,2024-01-01\nRome,2,2024-01-02\n,3\n" * 20)
    person.drop(path)
    is_fit()
    person.menu("city")
    assert faults(page) == []
    person.click("#column-menu >> text='Count each value'")
    person.click("#plot summary")
    page.wait_for_selector("#plot svg rect")
    is_fit()
    person.click("#chips button")
    page.wait_for_selector("#chips li", state="detached")
    for part in ("#options", "#view-columns", "#view-issues"):
        person.click(f"{part} summary")
    person.upload(path)
    page.wait_for_selector("#uploads .error")
    person.click(f"[aria-label='Delete {path.name}']")
    is_fit()
    person.type("#find", "os")
    page.goto(f"{page.url}&where=[[%22gone%22,%22==%22,1]]")
    page.wait_for_selector("#grid-error:has-text('gone')")
    is_fit()


@on_each_screen
def test_keyboard_alone_filters_groups_and_downloads(person, tmp_path):
    """From the grid to a menu and back to the grid, without a mouse."""
    person.drop(write(fresh(tmp_path / "manners-keys.csv"), city=["Oslo", "Rome", "Oslo"], n=[1, 2, 3]))
    page = person.page
    page.focus("#grid")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#column-menu[open]:has-text('n')")
    page.focus("[aria-label='For each']")
    page.keyboard.press("ArrowDown")
    shows(page, [["Oslo", "4"], ["Rome", "2"]])
    until(page, "document.activeElement.id === 'grid'")
    page.keyboard.press("Shift+ArrowRight")
    until(page, "document.querySelectorAll('#grid th.selected').length === 2")
    page.focus("#view-downloads >> text='CSV, normalized'")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert pl.read_csv(download.value.path()).rows() == [("Oslo", 4), ("Rome", 2)]
