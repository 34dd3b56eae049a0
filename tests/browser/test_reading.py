"""How a file was read, what had to be mended, options to read it otherwise, and the columns at a glance."""

import json
import re

import polars as pl
import pytest

from tests.browser import test_page
from tests.browser.test_page import run, until, visit

READING = {
    "format": "csv", "encoding": "windows-1252", "delimiter": ";", "quote": "'", "header": 2, "skip_rows": 3,
    "decimal": ",", "null_values": ["NA", "-"], "line_end": "\r\n",
}  # fmt: skip
EVIL = "<img src=x onerror=alert(1)>"
ISSUES = {
    "padded_rows": 1,
    "cut_rows": 2000,
    "unparsable_cells": 2,
    "examples": [
        {"line": 1234, "column": "amount", "value": EVIL, "why": "no number"},
        {"line": 7, "column": None, "value": "a;b;c\td", "why": "3 cells where there are 2 columns"},
        {"line": None, "column": "<b>", "value": "", "why": "no date"},
        {"line": 9, "column": "amount", "value": None, "why": "no cell"},
    ],
    "rejects": "rejected & all.csv",
}


class Told:
    """What stands between the page and the server: it adds what a test wants to be told, and keeps what is asked.

    ``columns``: what is put into answers to ``columns``: fields, or a function from the request to fields.
    ``output``: what is put into the output of results. ``held``: whether answers to ``columns`` wait.
    """

    def __init__(self):
        self.columns, self.output = {}, {}
        self.asked = []
        self.waiting = None

    def stand(self, socket):
        server = socket.connect_to_server()
        requests = {}

        def ask(text):
            message = json.loads(text) if isinstance(text, str) else {}
            if message.get("type") in ("columns", "process"):
                self.asked.append(dict(message))
                requests[message["id"]] = dict(message)
                for field in ("options", "strict"):
                    message.pop(field, None)
                text = json.dumps(message)
            server.send(text)

        def answer(text):
            message = json.loads(text) if isinstance(text, str) else {}
            if message.get("type") == "columns":
                added = self.columns
                message |= added(requests[message["id"]]) if callable(added) else added
                text = json.dumps(message)
                if self.waiting is not None:
                    self.waiting.append(lambda: socket.send(text))
                    return
            elif message.get("type") == "result":
                message["data"]["output_data"] |= self.output
                text = json.dumps(message)
            socket.send(text)

        socket.on_message(ask)
        server.on_message(answer)

    def last(self, kind):
        return [message for message in self.asked if message["type"] == kind][-1]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def here(page, server, told):
    """The page, connected to the server by way of ``told``."""
    page.route_web_socket(re.compile(r"/ws$"), told.stand)
    pl.DataFrame({"amount": [1, 2, 3], "city": ["Oslo", None, "Rome"]}).write_csv(
        server.data_dir / "uploads" / "reading.csv"
    )
    visit(page, server)
    return page


def use(page, name):
    """Choose a file, perhaps once more."""
    page.evaluate("document.querySelector('#query').hidden = true")
    test_page.use(page, name)


def open_options(page):
    page.click("#options summary")


def fill(page, name, value):
    page.fill(f"#option-{name}", value)
    page.press(f"#option-{name}", "Enter")
    settled(page)


def settled(page):
    """The answer to a change of options has come."""
    until(page, "!document.querySelector('#run').disabled")


def test_how_a_file_is_read_is_said(here, told):
    """In words, beside the columns and beside the result; where nobody says so, there is no line."""
    told.columns = told.output = {"reading": READING}
    use(here, "reading.csv")
    words = (
        "Read as CSV · windows-1252 · delimiter ; · quote ' · 2 header rows · 3 rows skipped · decimal comma · "
        "NA, - for empty"
    )
    assert here.inner_text("#query-reading") == words
    run(here)
    assert here.inner_text("#result-reading") == words
    told.columns = {"reading": {"format": "xlsx", "header": 0, "sheet": "B", "sheets": ["A", "B"]}}
    use(here, "reading.csv")
    assert here.inner_text("#query-reading") == "Read as Excel · sheet B (one of 2) · no header"
    told.columns = {
        "reading": {"format": "csv", "delimiter": "\t", "quote": "", "compression": "gzip", "header": 1}
    }
    use(here, "reading.csv")
    assert (
        here.inner_text("#query-reading")
        == "Read as CSV · inside gzip · delimiter tab · quote none · 1 header row"
    )
    told.columns = told.output = {"reading": None, "issues": None}
    use(here, "reading.csv")
    assert here.is_hidden("#query-reading")
    run_some(here, 1)
    assert here.is_hidden("#result-reading")
    assert here.is_hidden("#result-issues")


def test_what_was_mended_is_said(here, told, server):
    """Counts in words, the first examples as text and nothing else, and a file of them all to download."""
    here.on("dialog", lambda dialog: pytest.fail(dialog.message))
    (server.data_dir / "uploads" / ISSUES["rejects"]).write_text("line,why\n7,3 cells\n")
    told.columns = {"issues": ISSUES}
    told.output = {"issues": ISSUES}
    use(here, "reading.csv")
    counts = [
        "1 row had too few cells; the missing ones are empty.",
        "2,000 rows had too many cells; those beyond the last column are left out.",
        "2 cells did not fit the type of the column: left empty.",
    ]
    assert here.locator("#query-issues li").all_inner_texts() == counts
    assert here.is_hidden("#query-issues table")
    here.click("#query-issues summary")
    assert here.is_visible("#query-issues table")
    assert here.locator("#query-issues a").count() == 0  # there is no such file before the whole is read
    run(here)
    assert here.locator("#result-issues li").all_inner_texts() == counts
    rows = here.evaluate(
        "[...document.querySelectorAll('#result-issues tr')].map(row => [...row.children].map(cell => cell.textContent))"
    )
    assert rows == [
        ["Line", "Column", "Value", "Why"],
        ["1,234", "amount", EVIL, "no number"],
        ["7", "–", "a;b;c\td", "3 cells where there are 2 columns"],
        ["–", "<b>", "(empty)", "no date"],
        ["9", "amount", "–", "no cell"],
    ]
    assert here.locator("main img").count() == 0
    with here.expect_download() as download:
        here.click("#result-issues >> text=Download all of them")
    assert download.value.path().read_text() == "line,why\n7,3 cells\n"
    told.output = {"issues": {"padded_rows": 0, "examples": []}}
    run_some(here, 2)
    assert here.is_hidden("#result-issues")


def test_options_are_asked_with(here, told):
    """A change asks for the columns again; what is empty is found out; a run sends them, too."""

    def columns(request):
        delimiter = request.get("options", {}).get("delimiter", ";")
        found = [{"index": 0, "name": f"by {delimiter}", "dtype": "String"}]
        return {"columns": found, "reading": {**READING, "delimiter": delimiter}}

    told.columns = columns
    use(here, "reading.csv")
    assert "options" not in told.last("columns")
    open_options(here)
    assert here.get_attribute("#option-delimiter", "placeholder") == ";"
    assert here.get_attribute("#option-encoding", "placeholder") == "windows-1252"
    assert here.get_attribute("#option-header", "placeholder") == "2"
    assert here.locator("#option-quote option").first.inner_text() == "as found: '"
    assert here.is_hidden("#option-sheet")
    fill(here, "delimiter", "tab")
    assert told.last("columns")["options"] == {"delimiter": "\t"}
    assert here.inner_text("#columns label span").strip() == "by"
    fill(here, "encoding", "utf-8")
    fill(here, "header", "0")
    fill(here, "skip_rows", "4")
    fill(here, "null_values", "NA, unknown ,")
    here.select_option("#option-decimal", ",")
    here.select_option("#option-quote", "none")
    settled(here)
    wanted = {
        "delimiter": "\t", "encoding": "utf-8", "header": 0, "skip_rows": 4, "null_values": ["NA", "unknown"],
        "decimal": ",", "quote": "",
    }  # fmt: skip
    assert told.last("columns")["options"] == wanted
    asked = len(told.asked)
    here.check("#option-strict")
    assert len(told.asked) == asked  # whether it is strict changes no column
    run(here)
    assert told.last("process")["options"] == wanted
    assert told.last("process")["strict"] is True
    fill(here, "delimiter", "")
    assert "delimiter" not in told.last("columns")["options"]
    use(here, "reading.csv")
    assert here.input_value("#option-encoding") == ""
    assert not here.is_checked("#option-strict")
    run(here)
    assert "options" not in told.last("process")
    assert "strict" not in told.last("process")


def test_options_fit_the_format(here, told):
    """A workbook has sheets and no delimiter; what says itself how it is read has no options."""
    told.columns = lambda request: {
        "reading": {
            "format": "xlsx", "header": 1, "sheets": ["First", "Second <b>"],
            "sheet": request.get("options", {}).get("sheet", "First"),
        },
    }  # fmt: skip
    use(here, "reading.csv")
    open_options(here)
    assert here.is_hidden("#option-delimiter")
    assert here.is_visible("#option-header")
    assert here.locator("#option-sheet option").all_inner_texts() == [
        "as found: First",
        "First",
        "Second <b>",
    ]
    here.select_option("#option-sheet", "Second <b>")
    settled(here)
    assert told.last("columns")["options"] == {"sheet": "Second <b>"}
    assert here.input_value("#option-sheet") == "Second <b>"
    assert "sheet Second <b>" in here.inner_text("#query-reading")
    told.columns = {"reading": {"format": "parquet"}}
    use(here, "reading.csv")
    assert here.is_hidden("#options")
    told.columns = {"reading": None}
    use(here, "reading.csv")
    assert here.is_visible("#options")


def test_a_change_keeps_what_was_ticked(here, told):
    """Where the columns stay the same, so do ticks and filters; where they do not, all begins anew."""
    use(here, "reading.csv")
    here.click("#columns label:has-text('city')")
    here.click("#refine summary")
    here.click("#add-condition")
    here.fill("#conditions input", "2")
    open_options(here)
    fill(here, "skip_rows", "0")
    assert here.inner_text("#columns-count") == "1 of 2"
    assert here.input_value("#conditions input") == "2"
    told.columns = {"columns": [{"index": 0, "name": "other", "dtype": "Int64"}]}
    fill(here, "skip_rows", "1")
    assert here.inner_text("#columns-count") == "1 of 1"
    assert here.locator("#conditions li").count() == 0
    assert here.evaluate("document.activeElement.id") == "option-skip_rows"


def test_only_the_last_answer_counts(here, told):
    """While it is read again nothing can be run; an answer that was overtaken changes nothing."""
    told.columns = lambda request: {
        "columns": [{"index": 0, "name": json.dumps(request.get("options")), "dtype": "String"}]
    }
    use(here, "reading.csv")
    open_options(here)
    told.waiting = []
    here.fill("#option-skip_rows", "1")
    here.press("#option-skip_rows", "Enter")
    here.fill("#option-skip_rows", "2")
    here.press("#option-skip_rows", "Enter")
    assert here.is_disabled("#run")
    while len(told.waiting) < 2:
        here.wait_for_timeout(10)
    for send in reversed(told.waiting):
        send()
    settled(here)
    here.wait_for_timeout(100)
    assert here.inner_text("#columns label span") == '{"skip_rows": 2}'


def test_an_option_that_cannot_be(here, told):
    """What the server says of it stands beside the options; a number out of its bounds is not sent."""
    use(here, "reading.csv")
    open_options(here)
    asked = len(told.asked)
    here.fill("#option-header", "101")
    here.press("#option-header", "Tab")
    assert here.evaluate("document.activeElement.id") == "option-header"
    assert len(told.asked) == asked
    here.fill("#option-header", "")
    told.columns = {"type": "error", "code": 1003, "reason": "unreadable_file", "retryable": False,
                    "message": "There is no encoding 'klingon'."}  # fmt: skip
    fill(here, "encoding", "klingon")
    assert here.inner_text("#options-error") == "There is no encoding 'klingon'."
    assert here.inner_text("#columns-count") == "2 of 2"
    told.columns = {}
    fill(here, "encoding", "utf-8")
    assert here.is_hidden("#options-error")


def run_some(page, limit):
    """A run that is another one than before."""
    page.evaluate("document.querySelector('#refine').open = true")
    page.fill("#limit", str(limit))
    run(page)


def sales(server):
    n = 200
    pl.DataFrame(
        {
            "price": [0.5 * index for index in range(n)],
            "city": ["Oslo", "Bergen", None, EVIL] * (n // 4),
            "nothing": pl.Series([None] * n, dtype=pl.Int64),
            "odd": [float("nan")] * 10 + [1.0] * (n - 10),
            "tags": [["x"] * (index % 4) for index in range(n)],
            "day": pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 7, 18), eager=True),
        }
    ).write_parquet(server.data_dir / "uploads" / "glance.parquet")


def cards(page):
    """The words of each card."""
    page.wait_for_selector("#profile-columns > li")
    return {
        card.locator("h3").inner_text().split("\n")[0]: card.inner_text()
        for card in page.locator("#profile-columns > li").all()
    }


def test_columns_at_a_glance(here, server):
    """Each column has a card: a picture, how much is empty, figures, the most frequent values with their counts."""
    here.on("dialog", lambda dialog: pytest.fail(dialog.message))
    sales(server)
    here.reload()
    use(here, "glance.parquet")
    run(here)
    assert here.locator("#profile-columns > li").count() == 0
    here.click("#profile summary")
    found = cards(here)
    assert list(found) == ["price", "city", "nothing", "odd", "tags", "day"]
    for words in (
        "0 % empty",
        "Least\n0",
        "Median\n50",
        "Middle half\n25 to 74.5",
        "Greatest\n99.5",
        "Mean\n49.75",
    ):
        assert words in found["price"]
    assert "25 % empty" in found["city"]
    assert f"{EVIL}\n50 · 25 %" in found["city"]
    assert "Distinct\n3" in found["city"]
    assert "100 % empty" in found["nothing"]
    assert "Not finite\n10" in found["odd"]
    assert "Greatest length\n3" in found["tags"]
    assert "2024-07-18" in found["day"]
    bars = here.locator("#profile-columns > li").first.locator("svg rect title").all_text_contents()
    assert len(bars) == 20
    assert bars[0] == "0 to 4.975: 10"
    title = here.locator("#profile-columns > li").first.locator("svg > title").text_content()
    assert "Median: 50" in title
    assert here.locator("main img").count() == 0
    run_some(here, 5)
    assert "Greatest\n2" in cards(here)["price"]  # it stays open, and is of the newer result


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(here, told, server, scheme):
    """At 360 pixels, with all panels open, nothing has to be scrolled sideways."""
    long = "a_column_with_a_rather_long_name" * 3
    told.columns = {
        "reading": {**READING, "encoding": long},
        "issues": {**ISSUES, "examples": ISSUES["examples"] * 5},
    }
    example = {"line": 10**9, "column": long, "value": long * 2, "why": "no date"}
    told.output = {"reading": READING, "issues": {**ISSUES, "examples": [example, *ISSUES["examples"]]}}
    sales(server)
    here.emulate_media(color_scheme=scheme)
    here.set_viewport_size({"width": 360, "height": 780})
    here.reload()
    use(here, "glance.parquet")
    here.click("#query-issues summary")
    open_options(here)
    assert here.evaluate("document.documentElement.scrollWidth") <= 360
    run(here)
    here.click("#profile summary")
    assert here.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_keyboard_is_enough(here, told):
    """Options are unfolded, changed and run, examples and columns looked at, without a mouse; all have names."""
    told.columns = told.output = {"reading": READING, "issues": ISSUES}
    use(here, "reading.csv")

    def tab_to(selector):
        for _ in range(100):
            here.keyboard.press("Tab")
            if here.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(selector)

    tab_to("#query-issues summary")
    here.keyboard.press("Enter")
    tab_to("#query-issues .examples")
    tab_to("#options summary")
    here.keyboard.press("Enter")
    tab_to("#option-delimiter")
    here.keyboard.type(";")
    here.keyboard.press("Enter")
    settled(here)
    assert here.is_hidden("#progress")  # Enter takes the option; it does not run
    assert here.evaluate("document.activeElement.id") == "option-delimiter"
    assert told.last("columns")["options"] == {"delimiter": ";"}
    tab_to("#option-strict")
    here.keyboard.press("Space")
    tab_to("#run")
    here.keyboard.press("Enter")
    here.wait_for_selector("#result:not([hidden])")
    assert told.last("process")["strict"] is True
    tab_to("#profile summary")
    here.keyboard.press("Enter")
    assert len(cards(here)) == 2
    nameless = """[...document.querySelectorAll("button, input, select, a, summary, [role=region], svg")].filter(
        (one) => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length && !one.getAttribute("aria-labelledby")
    ).map((one) => one.outerHTML)"""
    assert here.evaluate(nameless) == []
