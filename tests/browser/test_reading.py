"""How a file was read, its issues, the reading options, and the figures of columns."""

import json
import re
import zipfile
from pathlib import Path

import polars as pl
import pytest

import creemson
from creemson.formats.open import ALLOWED
from tests.browser import test_page
from tests.browser.test_page import cells, keep, menu, opened, saved, shows, until, visit
from tests.servers import wait_until

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


class Proxy:
    """A proxy between the page and the server; it adds fields to responses and records requests.

    ``columns``: fields for responses to ``columns``, or a function from the request to fields.
    ``output``: fields for the output of results. ``held``: None, or a list that collects responses to ``columns``.
    ``surveys``: None, or a list that collects the page's own requests to describe a file.
    """

    def __init__(self):
        self.columns, self.output = {}, {}
        self.requests = []
        self.held = self.surveys = None

    def route(self, socket):
        server = socket.connect_to_server()
        by_id = {}

        def ask(text):
            message = json.loads(text) if isinstance(text, str) else {}
            if message.get("type") in ("columns", "process"):
                if message.get("on_disconnect") != "cancel":  # the page's own description of the file
                    self.requests.append(dict(message))
                by_id[message["id"]] = dict(message)
            if message.get("type") in ("columns", "process", "rows"):
                for field in ("options", "strict"):
                    message.pop(field, None)
                text = json.dumps(message)
            if message.get("on_disconnect") == "cancel" and self.surveys is not None:
                self.surveys.append(lambda: server.send(text))
                return
            server.send(text)

        def answer(text):
            message = json.loads(text) if isinstance(text, str) else {}
            if message.get("type") == "columns":
                added = self.columns
                message |= added(by_id[message["id"]]) if callable(added) else added
                text = json.dumps(message)
                if self.held is not None:
                    self.held.append(lambda: socket.send(text))
                    return
            elif message.get("type") == "result":
                message["data"]["output_data"] |= self.output
                text = json.dumps(message)
            socket.send(text)

        socket.on_message(ask)
        server.on_message(answer)

    def last(self, kind):
        return [message for message in self.requests if message["type"] == kind][-1]


@pytest.fixture
def proxy():
    return Proxy()


@pytest.fixture
def here(page, server, proxy):
    """The page, connected to the server through ``proxy``."""
    page.route_web_socket(re.compile(r"/ws$"), proxy.route)
    pl.DataFrame({"amount": [1, 2, 3], "city": ["Oslo", None, "Rome"]}).write_csv(
        server.data_dir / "uploads" / "reading.csv"
    )
    visit(page, server)
    return page


def use(page, name):
    """Choose a file, even if it is already shown."""
    page.evaluate("document.querySelector('#view').hidden = true")
    test_page.use(page, name)


def open_options(page):
    page.click("#options summary")


def fill(page, name, value):
    page.fill(f"#option-{name}", value)
    page.press(f"#option-{name}", "Enter")
    settled(page)


def settled(page):
    """Wait until the response to a change of options has arrived."""
    until(page, "document.querySelector('#options').ariaBusy !== 'true'")


def asks_for_a_job(page, proxy):
    """Click a download. It does not get through the proxy, as Playwright may deliver its bytes after its end."""
    page.click("#view-downloads >> text='Parquet'")
    wait_until(lambda: page.evaluate("true") and proxy.requests[-1]["type"] == "process")


def test_reading_known_is_shown_in_words(here, proxy):
    """How the file was read stands beside the options that change it."""
    proxy.columns = {"reading": READING}
    use(here, "reading.csv")
    assert here.inner_text("#view-reading") == (
        "CSV · windows-1252 · delimiter ; · quote ' · 2 header rows · 3 rows skipped · decimal comma · "
        "words for a missing value: NA, -"
    )
    proxy.columns = {"reading": {"format": "xlsx", "header": 0, "sheet": "B", "sheets": ["A", "B"]}}
    use(here, "reading.csv")
    assert here.inner_text("#view-reading") == "Excel · sheet B (one of 2) · no header"
    proxy.columns = {
        "reading": {"format": "csv", "delimiter": "\t", "quote": "", "compression": "gzip", "header": 1}
    }
    use(here, "reading.csv")
    assert (
        here.inner_text("#view-reading")
        == "CSV · compressed with gzip · delimiter tab · quote none · 1 header row"
    )
    proxy.columns = {"reading": None, "issues": None}
    use(here, "reading.csv")
    assert here.inner_text("#view-reading") == ""
    assert here.is_hidden("#view-issues")


def test_issues_found_are_listed_with_examples(here, proxy):
    """Counts, examples as plain text, and a download of all issues."""
    here.on("dialog", lambda dialog: pytest.fail(dialog.message))
    proxy.columns = {"issues": ISSUES}
    proxy.output = {"issues": ISSUES}
    proxy.surveys = []
    here.click("[aria-label='Use reading.csv']")
    counts = [
        "1 row had too few cells; the missing cells are empty.",
        "2,000 rows had too many cells; the extra cells were dropped.",
        "2 cells did not match the column type (left empty).",
    ]
    here.wait_for_selector("#view-issues h3:text-is('Problems in the first 64 KiB')")
    assert here.locator("#view-issues li").all_inner_texts() == counts
    assert here.is_hidden("#view-issues table")
    assert here.locator("#view-issues button").count() == 0  # the file of all issues exists only after a job
    wait_until(lambda: here.evaluate("true") and proxy.surveys)
    proxy.surveys.pop()()
    here.wait_for_selector("#view-issues h3:text-is('Problems in the file')")
    assert here.locator("#view-issues li").all_inner_texts() == counts
    here.click("#view-issues summary")
    assert here.is_visible("#view-issues table")
    rows = here.evaluate(
        "[...document.querySelectorAll('#view-issues tr')].map(row => [...row.children].map(cell => cell.textContent))"
    )
    assert rows == [
        ["Line", "Column", "Value", "Reason"],
        ["1,234", "amount", EVIL, "no number"],
        ["7", "–", "a;b;c\td", "3 cells where there are 2 columns"],
        ["–", "<b>", "(empty)", "no date"],
        ["9", "amount", "–", "no cell"],
    ]
    assert here.locator("main img").count() == 0
    assert here.is_visible("#view-issues >> text=Download all issues")
    proxy.surveys = None
    proxy.columns = {}
    proxy.output = {"issues": {"padded_rows": 0, "examples": []}}
    use(here, "reading.csv")
    assert here.is_hidden("#view-issues")


def test_options_changed_are_sent_with_requests(here, proxy):
    """A change requests the columns again; empty fields are not sent; a job has the options, too."""

    def columns(request):
        delimiter = request.get("options", {}).get("delimiter", ";")
        found = [{"index": 0, "name": f"by {delimiter}", "dtype": "String"}]
        return {"columns": found, "reading": {**READING, "delimiter": delimiter}}

    proxy.columns = columns
    use(here, "reading.csv")
    assert "options" not in proxy.last("columns")
    open_options(here)
    assert here.get_attribute("#option-delimiter", "placeholder") == ";"
    assert here.get_attribute("#option-encoding", "placeholder") == "windows-1252"
    assert here.get_attribute("#option-header", "placeholder") == "2"
    assert here.locator("#option-quote option").first.inner_text() == "detected: '"
    assert here.is_hidden("#option-sheet")
    fill(here, "delimiter", "tab")
    assert proxy.last("columns")["options"] == {"delimiter": "\t"}
    assert here.inner_text("#grid th .name").strip() == "by"
    fill(here, "encoding", "utf-8")
    fill(here, "header", "0")
    fill(here, "skip_rows", "4")
    fill(here, "null_values", "NA, unknown ,")
    here.select_option("#option-decimal", ",")
    here.select_option("#option-quote", "none")
    here.select_option("#option-thousands", "\u202f")
    fill(here, "date_format", "%d/%m/%Y")
    fill(here, "comment", "none")
    settled(here)
    expected = {
        "delimiter": "\t", "encoding": "utf-8", "header": 0, "skip_rows": 4, "null_values": ["NA", "unknown"],
        "decimal": ",", "quote": "", "thousands": "\u202f", "date_format": "%d/%m/%Y", "comment": "",
    }  # fmt: skip
    assert proxy.last("columns")["options"] == expected
    asked = len(proxy.requests)
    here.check("#option-strict")
    assert len(proxy.requests) == asked  # strictness does not affect the columns
    asks_for_a_job(here, proxy)
    assert proxy.last("process")["options"] == expected
    assert proxy.last("process")["strict"] is True
    fill(here, "delimiter", "")
    assert "delimiter" not in proxy.last("columns")["options"]
    use(here, "reading.csv")
    assert here.input_value("#option-encoding") == ""
    assert not here.is_checked("#option-strict")
    asks_for_a_job(here, proxy)
    assert "options" not in proxy.last("process")
    assert "strict" not in proxy.last("process")


def test_date_formats_of_single_columns_are_an_object(here, proxy):
    """Each column has its own pattern; the detected patterns have the same notation."""
    patterns = {"born = when": "%b %d, %Y", "seen": "%H:%M"}
    proxy.columns = {"reading": {"format": "csv", "date_format": patterns, "thousands": "'", "comment": "#"}}
    use(here, "reading.csv")
    text = "born = when=%b %d, %Y; seen=%H:%M"
    assert f"thousands apostrophe · dates {text} · comments after #" in here.inner_text("#view-reading")
    open_options(here)
    assert here.get_attribute("#option-date_format", "placeholder") == text
    assert here.get_attribute("#option-comment", "placeholder") == "#"
    assert here.locator("#option-thousands option").first.inner_text() == "detected: apostrophe"
    fill(here, "date_format", text)
    assert proxy.last("columns")["options"] == {"date_format": patterns}


def test_page_offers_only_options_that_the_format_has():
    """Regression: the encoding of a JSON was offered, and refused by the server."""
    script = (Path(creemson.__file__).parent / "page" / "reading" / "options.js").read_text("utf-8")
    table = re.search(r"const FIELDS = \{(.*?)\n\};", script, re.DOTALL)[1].replace(
        "...TEXT_FORMATS", '"csv", "fixed"'
    )
    fields = re.findall(r"(\w+): (TEXT_FORMATS|\[[^]]*\])", table)
    assert len(fields) > 10
    for name, formats in fields:
        for format_ in ["csv", "fixed"] if formats == "TEXT_FORMATS" else json.loads(formats):
            assert name in ALLOWED[format_], (name, format_)


def test_tables_of_a_zip_archive_can_be_chosen(page, server):
    """The first one is shown, and the others are in a select without an empty choice."""
    with zipfile.ZipFile(server.data_dir / "uploads" / "tables.zip", "w") as archive:
        archive.writestr("a.csv", "k\nv\n")
        archive.writestr("b.csv", "n\n7\n")
    visit(page, server)
    use(page, "tables.zip")
    assert "a.csv in the archive" in page.inner_text("#view-reading")
    open_options(page)
    assert page.inner_text("label:has(#option-sheet)").startswith("Table")
    assert page.locator("#option-sheet option").all_inner_texts() == ["a.csv", "b.csv"]
    assert cells(page) == [["v"]]
    page.select_option("#option-sheet", "b.csv")
    shows(page, [["7"]])
    assert "b.csv in the archive" in page.inner_text("#view-reading")


def test_arrays_of_a_json_can_be_chosen(page, server):
    """A JSON with several arrays has the select of a workbook, with another label."""
    text = '{"meta": [{"k": "v"}], "rows": [{"a": 1}, {"a": 2}]}'
    (server.data_dir / "uploads" / "arrays.json").write_text(text)
    visit(page, server)
    use(page, "arrays.json")
    assert "JSON · array rows (one of 2)" in page.inner_text("#view-reading")
    open_options(page)
    assert page.inner_text("label:has(#option-sheet)").startswith("Array")
    page.select_option("#option-sheet", "meta")
    shows(page, [["v"]])


def test_csv_is_downloaded_as_in_the_file_or_normalized(page, server):
    """Two buttons for a text; one for a typed file, which has no other texts."""
    uploads = server.data_dir / "uploads"
    (uploads / "two ways.csv").write_text("due;amount\n13/02/2024;10.50\n14/02/2024;NA\n")
    pl.DataFrame({"amount": [10.5]}).write_parquet(uploads / "one way.parquet")
    visit(page, server)
    use(page, "two ways.csv")
    expected = {
        "CSV, as in the file": "due,amount\n13/02/2024,10.50\n14/02/2024,NA\n",
        "CSV, normalized": "due,amount\n2024-02-13,10.5\n2024-02-14,\n",
    }
    for label, content in expected.items():
        assert saved(page, label).read_text() == content
    use(page, "one way.parquet")
    assert page.inner_text("#view-downloads").split()[:3] == ["Download", "CSV", "Excel"]


def test_options_not_applicable_to_the_format_are_hidden(here, proxy):
    """A workbook has sheets but no delimiter; a self-describing format has no options."""
    proxy.columns = lambda request: {
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
        "detected: First",
        "First",
        "Second <b>",
    ]
    here.select_option("#option-sheet", "Second <b>")
    settled(here)
    assert proxy.last("columns")["options"] == {"sheet": "Second <b>"}
    assert here.input_value("#option-sheet") == "Second <b>"
    assert "sheet Second <b>" in here.inner_text("#view-reading")
    proxy.columns = {"reading": {"format": "parquet"}}
    use(here, "reading.csv")
    assert here.is_hidden("#options")
    proxy.columns = {"reading": None}
    use(here, "reading.csv")
    assert here.is_visible("#options")


def test_options_changed_keep_filters_and_the_focus(here, proxy):
    """What was chosen stays, also if the columns are others then."""
    use(here, "reading.csv")
    keep(here, "amount", "is", "2")
    shows(here, [["2", ""]])
    open_options(here)
    proxy.columns = {"columns": [{"index": 0, "name": "other", "dtype": "Int64"}]}
    fill(here, "skip_rows", "1")
    until(here, "document.querySelector('#grid th .name')?.textContent === 'other'")
    assert here.locator("#chips li span").all_inner_texts() == ["amount is 2"]
    assert here.evaluate("document.activeElement.id") == "option-skip_rows"


def test_file_of_the_address_does_not_take_the_focus_when_it_opens(here, proxy):
    """Somebody may be in the list of files by then; only what is chosen there moves the focus."""
    use(here, "reading.csv")
    assert here.evaluate("document.activeElement.id") == "view-title"
    proxy.held = []
    here.reload()
    here.focus("[aria-label='Use reading.csv']")
    until(here, "document.querySelector('#view').hidden")
    while not proxy.held:
        here.wait_for_timeout(10)
    proxy.held[0]()
    opened(here, "reading.csv")
    assert here.evaluate("document.activeElement.ariaLabel") == "Use reading.csv"
    proxy.held = None
    here.keyboard.press("Enter")
    until(here, "document.activeElement.id === 'view-title'")


def test_descriptions_out_of_order_only_the_latest_is_shown(here, proxy):
    """An outdated description is ignored."""
    proxy.columns = lambda request: {
        "columns": [{"index": 0, "name": json.dumps(request.get("options")), "dtype": "String"}]
    }
    use(here, "reading.csv")
    open_options(here)
    proxy.held = []
    here.fill("#option-skip_rows", "1")
    here.press("#option-skip_rows", "Enter")
    here.fill("#option-skip_rows", "2")
    here.press("#option-skip_rows", "Enter")
    while len(proxy.held) < 2:
        here.wait_for_timeout(10)
    for send in reversed(proxy.held):
        send()
    settled(here)
    here.wait_for_timeout(100)
    assert here.inner_text("#grid th .name") == '{"skip_rows": 2}'


def test_invalid_option_shows_error_beside_the_options(here, proxy):
    """The server's error is shown there; a number out of range is not sent."""
    use(here, "reading.csv")
    open_options(here)
    asked = len(proxy.requests)
    here.fill("#option-header", "101")
    here.press("#option-header", "Tab")
    assert here.evaluate("document.activeElement.id") == "option-header"
    assert len(proxy.requests) == asked
    here.fill("#option-header", "")
    proxy.columns = {"type": "error", "code": 1003, "reason": "unreadable_file", "retryable": False,
                    "message": "There is no encoding 'klingon'."}  # fmt: skip
    fill(here, "encoding", "klingon")
    assert here.inner_text("#options-error") == "There is no encoding 'klingon'."
    assert here.locator("#grid th").count() == 2
    proxy.columns = {}
    fill(here, "encoding", "utf-8")
    assert here.is_hidden("#options-error")


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


@pytest.mark.slow
def test_menu_of_each_column_has_its_figures(here, server):
    """The share of missing values, figures, the most frequent values, and a bar for each part of the numbers."""
    here.on("dialog", lambda dialog: pytest.fail(dialog.message))
    sales(server)
    here.reload()
    use(here, "glance.parquet")
    found = {}
    for column in ("price", "city", "nothing", "odd", "tags", "day"):
        menu(here, column)
        found[column] = here.inner_text("#column-menu")
        if column == "price":
            bars = here.locator("#column-menu .bar-button").evaluate_all("bars => bars.map(bar => bar.title)")
        here.keyboard.press("Escape")
    for words in ("Min\n0", "Median\n50", "Quartiles\n25 to 74.5", "Max\n99.5", "Mean\n49.75"):
        assert words in found["price"]
    assert len(bars) == 20
    assert bars[0] == "0 to 4.975: 10 rows"
    assert "25 % missing" in found["city"]
    assert f"{EVIL}\n50 · 25 %" in found["city"]
    assert "Distinct\n3" in found["city"]
    assert "100 % missing" in found["nothing"]
    assert "Not finite\n10" in found["odd"]
    assert "Max length\n3" in found["tags"]
    assert "2024-07-18" in found["day"]
    title = here.locator("#grid th svg > title").first.text_content()
    assert "Median: 50" in title
    assert here.locator("main img").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_with_all_panels_open_fits(here, proxy, server, scheme):
    """At 360 pixels, with all panels open, the page does not scroll sideways."""
    long = "a_column_with_a_rather_long_name" * 3
    proxy.columns = {
        "reading": {**READING, "encoding": long},
        "issues": {**ISSUES, "examples": ISSUES["examples"] * 5},
    }
    example = {"line": 10**9, "column": long, "value": long * 2, "why": "no date"}
    proxy.output = {"reading": READING, "issues": {**ISSUES, "examples": [example, *ISSUES["examples"]]}}
    sales(server)
    here.emulate_media(color_scheme=scheme)
    here.set_viewport_size({"width": 360, "height": 780})
    here.reload()
    use(here, "glance.parquet")
    here.click("#view-issues summary")
    open_options(here)
    here.click("#view-columns summary")
    assert here.evaluate("document.documentElement.scrollWidth") <= 360
    here.click("#view-columns summary")
    menu(here, "city")
    assert here.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
def test_keyboard_alone_changes_options_and_opens_panels(here, proxy):
    """Options, examples and profiles work without a mouse, and all controls have accessible names."""
    proxy.columns = proxy.output = {"reading": READING, "issues": ISSUES}
    use(here, "reading.csv")

    def tab_to(selector):
        for _ in range(100):
            here.keyboard.press("Tab")
            if here.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(selector)

    tab_to("#options summary")
    here.keyboard.press("Enter")
    tab_to("#option-delimiter")
    here.keyboard.type(";")
    here.keyboard.press("Enter")
    settled(here)
    assert here.evaluate("document.activeElement.id") == "option-delimiter"
    assert proxy.last("columns")["options"] == {"delimiter": ";"}
    tab_to("#option-strict")
    here.keyboard.press("Space")
    tab_to("#view-downloads button")
    here.keyboard.press("Enter")
    wait_until(lambda: here.evaluate("true") and proxy.requests[-1]["type"] == "process")
    assert proxy.last("process")["strict"] is True
    tab_to("#grid")
    tab_to("#view-issues summary")
    here.keyboard.press("Enter")
    tab_to("#view-issues .examples")
    nameless = """[...document.querySelectorAll("button, input, select, a, summary, [role=region], svg")].filter(
        (one) => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length && !one.getAttribute("aria-labelledby")
    ).map((one) => one.outerHTML)"""
    assert here.evaluate(nameless) == []
