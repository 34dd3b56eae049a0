"""The page, used as people do: files, columns, a run, a table of any size, and what goes wrong on the way."""

import json
import random
import re
import signal

import polars as pl
import pytest

from tests.servers import serving, wait_until

MIB = 2**20


@pytest.fixture
def here(page, server):
    """The page, connected to the server."""
    visit(page, server)
    return page


def until(page, expression, arg=None):
    """Wait for an expression; Playwright's own way would need `eval`, which the page forbids."""
    wait_until(lambda: page.evaluate(expression, arg))


def visit(page, server):
    page.goto(f"http://127.0.0.1:{server.port}/")
    until(page, "document.querySelector('#connection').dataset.state === 'open'")


def upload(page, *paths):
    page.set_input_files("#file-input", [str(path) for path in paths])


def run(page):
    page.click("#run")
    page.wait_for_selector("#result:not([hidden])")
    rows_are_here(page)


def rows_are_here(page):
    until(
        page,
        "[...document.querySelectorAll('#table tbody td')].length && "
        "![...document.querySelectorAll('#table tbody td')].some(cell => cell.textContent === '…')",
    )


def cells(page):
    """What the table shows, without the numbers of the rows."""
    return page.evaluate(
        "[...document.querySelectorAll('#table tbody tr')].map("
        "row => [...row.querySelectorAll('td:not(.index):not(.gap)')].map(cell => cell.textContent))"
    )


def write(path, **columns):
    pl.DataFrame(columns).write_csv(path)
    return path


def test_from_a_file_to_an_answer(here, server, tmp_path):
    """Upload, tick columns, filter, sort, run: the table, the pictures, and the downloads are right."""
    path = write(
        tmp_path / "page-sales.csv",
        city=["Oslo", "Bergen", None, "Rome"] * 25,
        amount=range(100),
        price=[0.5, 2.5] * 50,
    )
    upload(here, path)
    here.wait_for_selector("#query:not([hidden])")
    assert here.inner_text("#query-name") == "page-sales.csv"
    assert here.inner_text("#columns-count") == "3 of 3"
    here.click("#columns label:has-text('price')")
    assert here.inner_text("#columns-count") == "2 of 3"
    here.click("#refine summary")
    here.click("#add-condition")
    here.select_option("#conditions select >> nth=0", label="amount")
    here.select_option("#conditions select >> nth=1", value=">=")
    here.fill("#conditions input", "90")
    here.click("#add-key")
    here.select_option("#keys select >> nth=0", label="amount")
    here.select_option("#keys select >> nth=1", value="desc")
    here.fill("#limit", "4")
    run(here)
    assert "4 rows × 2 columns" in here.inner_text("#result-summary")
    assert cells(here) == [["Rome", "99"], ["empty", "98"], ["Bergen", "97"], ["Oslo", "96"]]
    assert here.locator("#table thead svg").count() == 2
    assert "25 % empty" in here.inner_text("#table thead")
    assert "Done" in here.inner_text("#log")
    assert "page-sales.csv" in here.inner_text("#jobs")
    with here.expect_download() as download:
        here.click("#downloads >> text=CSV")
    assert pl.read_csv(download.value.path()).rows() == [
        ("Rome", 99),
        (None, 98),
        ("Bergen", 97),
        ("Oslo", 96),
    ]
    for name, read in (("Excel", pl.read_excel), ("Parquet", pl.read_parquet), ("Arrow", pl.read_ipc)):
        with here.expect_download() as download:
            here.click(f"#downloads >> text={name}")
        assert read(download.value.path()).height == 4
    run(here)
    assert "answered from store" in here.inner_text("#result-summary")


def test_a_table_of_any_size(here, server):
    """It scrolls to the last of 400,000 rows, by keys and by the bar, with few rows in the document."""
    count = 400_000
    write(
        server.data_dir / "uploads" / "page-long.csv",
        n=range(count),
        twice=[2 * index for index in range(count)],
    )
    here.reload()
    here.click("[aria-label='Use page-long.csv']")
    here.wait_for_selector("#query:not([hidden])")
    run(here)
    here.focus("#table")
    for key, first in (("End", None), ("Home", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1)):
        here.keyboard.press(key)
        rows_are_here(here)
        shown = cells(here)
        if first is None:
            assert shown[-1] == [str(count - 1), str(2 * count - 2)]
        else:
            assert shown[0] == [str(first), str(2 * first)]
    assert here.locator("#table tbody tr").count() < 50
    here.evaluate(
        "document.querySelector('#table').scrollTop = document.querySelector('#table').scrollHeight / 2"
    )
    until(
        here,
        "Math.abs(parseInt(document.querySelector('#table tbody td:nth-child(2)').textContent) - 200000) < 2000",
    )
    here.mouse.move(*[here.locator("#table").bounding_box()[key] + 50 for key in ("x", "y")])
    before = here.inner_text("#table-position")
    here.mouse.wheel(0, 300)
    until(here, "before => document.querySelector('#table-position').textContent !== before", arg=before)
    assert re.fullmatch(r"Rows [\d,]+ to [\d,]+ of 400,000", here.inner_text("#table-position"))


def test_thousands_of_columns(here, tmp_path):
    """Some are shown, a search finds the others, and the table draws what is in sight."""
    width = 3000
    path = tmp_path / "page-wide.csv"
    path.write_text(
        ",".join(f"c{index}" for index in range(width))
        + "\n"
        + ",".join(str(index) for index in range(width))
        + "\n"
    )
    upload(here, path)
    here.wait_for_selector("#query:not([hidden])")
    assert here.locator("#columns input").count() <= 300
    here.click("#columns-none")
    here.fill("#columns-search", "c299")
    assert here.locator("#columns input").count() == 11  # c299 and c2990 to c2999
    here.click("#columns-all")
    assert here.inner_text("#columns-count") == "11 of 3,000"
    run(here)
    assert cells(here)[0][:3] == ["299", "2990", "2991"]
    here.fill("#columns-search", "")
    here.click("#columns-all")
    run(here)
    here.evaluate("document.querySelector('#table').scrollLeft = 1e9")
    until(here, "document.querySelector('#table thead').textContent.includes('c2999')")
    assert cells(here)[0][-1] == "2999"
    assert here.locator("#table td").count() < 100


def test_a_reload_in_the_middle_of_an_upload(here, server, tmp_path):
    """The page says what is not complete; the same file, picked again, goes on where it stopped."""
    path = tmp_path / "page-reload.bin"
    path.write_bytes(random.Random(1).randbytes(150 * MIB))
    parts = server.data_dir / "parts"
    upload(here, path)
    wait_until(lambda: any(part.stat().st_size > 8 * MIB for part in parts.iterdir()))
    here.click("#uploads >> text=Pause")
    here.wait_for_selector("#uploads >> text=paused at")
    here.reload()
    here.wait_for_selector("#uploads >> text=Pick it again")
    [part] = parts.iterdir()
    held = part.stat().st_size
    assert 8 * MIB < held < 150 * MIB
    frames = []
    # Playwright keeps a note on its listeners, which a built-in method has no room for.
    here.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))  # noqa: PLW0108
    here.reload()
    here.wait_for_selector("#uploads >> text=Pick it again")
    upload(here, path)
    here.wait_for_selector("#uploads li", state="detached", timeout=60_000)
    ready = [json.loads(frame) for frame in frames if isinstance(frame, str) and "upload_ready" in frame]
    assert [message["offset"] for message in ready] == [held]
    assert (server.data_dir / "uploads" / "page-reload.bin").read_bytes() == path.read_bytes()
    here.reload()
    here.wait_for_selector("[data-file='page-reload.bin']")
    assert here.locator("#uploads li").count() == 0


def test_a_server_that_dies(page, tmp_path):
    """Killed in the middle of an upload, and back again: the page connects, and the upload goes on."""
    path = tmp_path / "page-killed.bin"
    path.write_bytes(random.Random(2).randbytes(150 * MIB))
    page.expected_errors += ["WebSocket connection to", "ERR_CONNECTION_REFUSED"]
    with serving(tmp_path / "data") as server:
        visit(page, server)
        upload(page, path)
        wait_until(
            lambda: any(part.stat().st_size > 8 * MIB for part in (server.data_dir / "parts").iterdir())
        )
        server.stop(signal.SIGKILL)
    page.wait_for_selector("#connection-text:has-text('Connection lost')")
    with serving(tmp_path / "data", "--port", str(server.port)) as server:
        page.wait_for_selector("#uploads li", state="detached", timeout=60_000)
        assert (server.data_dir / "uploads" / "page-killed.bin").read_bytes() == path.read_bytes()
        assert page.inner_text("#connection-text") == "Connected"


def test_data_is_never_markup(here, server, tmp_path):
    """Names of files and columns, cells and errors are text, whatever they say."""
    evil = "<img src=x onerror=alert(1)>"
    path = write(tmp_path / f"{evil.replace('/', '')}.csv", **{"<script>alert(1)</script>": [evil, "b"]})
    here.on("dialog", lambda dialog: pytest.fail(dialog.message))
    upload(here, path)
    here.wait_for_selector("#query:not([hidden])")
    run(here)
    assert cells(here)[0] == [evil]
    assert "<script>alert(1)</script>" in here.inner_text("#table thead")
    assert here.locator("main img").count() == 0


def test_what_goes_wrong_is_told_where_it_belongs(here, server, tmp_path):
    """A taken name can be replaced, no column is no question, a filter that cannot be gets the server's words."""
    path = write(tmp_path / "page-again.csv", a=["x"], b=[1])
    upload(here, path)
    here.wait_for_selector("#query:not([hidden])")
    upload(here, path)
    here.wait_for_selector("#uploads .error:has-text('There is a file')")
    write(path, a=["y"], b=[2])
    upload(here, path)
    here.click("#uploads >> text=Replace it")
    here.wait_for_selector("#uploads li", state="detached")
    assert (server.data_dir / "uploads" / "page-again.csv").read_text() == "a,b\ny,2\n"
    here.click("#columns-none")
    here.click("#run")
    assert "at least one column" in here.inner_text("#query-error")
    here.click("#columns-all")
    here.click("#refine summary")
    here.click("#add-condition")
    here.select_option("#conditions select >> nth=0", label="b")
    here.fill("#conditions input", "many")
    here.click("#run")
    here.wait_for_selector("#run-error:not([hidden])")
    assert "many" in here.inner_text("#run-error")
    here.click("[aria-label='Delete page-again.csv']")
    here.click("[aria-label='Really delete page-again.csv']")
    here.wait_for_selector("[data-file='page-again.csv']", state="detached")
    assert not (server.data_dir / "uploads" / "page-again.csv").exists()
    assert here.is_hidden("#query")


def test_a_run_can_be_cancelled(here, server, slow_csv):
    """Its end is told, and the page goes on."""
    server.put("page-slow.csv", slow_csv)
    here.reload()
    here.click("[aria-label='Use page-slow.csv']")
    here.wait_for_selector("#query:not([hidden])")
    here.click("#run")
    here.wait_for_selector("#progress-figures:has-text('rows')")
    here.click("#cancel")
    here.wait_for_selector("#log:has-text('Cancelled')")
    assert here.is_disabled("#cancel")
    assert "cancelled" in here.inner_text("#jobs")


def test_the_keyboard_is_enough(here, server, tmp_path):
    """From the list of files to the table, without a mouse."""
    write(server.data_dir / "uploads" / "page-keys.csv", a=[1, 2], b=[3, 4])
    here.reload()
    here.wait_for_selector("[aria-label='Use page-keys.csv']")

    def tab_to(selector, key="Tab"):
        for _ in range(100):
            here.keyboard.press(key)
            if here.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(selector)

    tab_to("[aria-label='Use page-keys.csv']")
    here.keyboard.press("Enter")
    here.wait_for_selector("#query:not([hidden])")
    tab_to("#columns input")
    here.keyboard.press("Space")
    assert here.inner_text("#columns-count") == "1 of 2"
    tab_to("#run")
    here.keyboard.press("Enter")
    here.wait_for_selector("#result:not([hidden])")
    rows_are_here(here)
    assert cells(here) == [["3"], ["4"]]
    tab_to("#table")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(here, server, tmp_path, scheme):
    """At 360 pixels nothing has to be scrolled sideways but the table in its own region."""
    here.emulate_media(color_scheme=scheme)
    here.set_viewport_size({"width": 360, "height": 780})
    path = write(
        tmp_path / f"page-phone-{scheme}.csv",
        **{f"a_column_with_a_rather_long_name_{i}": ["x" * 99] for i in range(9)},
    )
    upload(here, path)
    here.wait_for_selector("#query:not([hidden])")
    here.click("#refine summary")
    here.click("#add-condition")
    here.fill("#conditions input", "x" * 99)
    here.click("#add-key")
    run(here)
    assert here.evaluate("document.documentElement.scrollWidth") <= 360
