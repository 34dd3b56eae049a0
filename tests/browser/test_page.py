"""The page in a browser: files, uploads, jobs, large tables and errors."""

import json
import random
import re
import signal

import polars as pl
import pytest

from tests.servers import serving, wait_until

MIB = 2**20
PATIENCE = 120_000
"""Milliseconds in which a file is opened and described, on a busy machine."""


@pytest.fixture
def here(page, server):
    """The page, connected to the server."""
    visit(page, server)
    return page


def until(page, expression, arg=None):
    """Wait for an expression; Playwright's own function needs `eval`, which the page's CSP forbids."""
    wait_until(lambda: page.evaluate(expression, arg))


def visit(page, server):
    page.goto(f"http://127.0.0.1:{server.port}/")
    until(page, "document.querySelector('#connection').dataset.state === 'open'")


def upload(page, *paths):
    page.set_input_files("#file-input", [str(path) for path in paths])


def use(page, name):
    page.click(f"[aria-label='Use {name}']")
    opened(page, name)


def opened(page, name=None):
    """Wait until a file is open, described, and shown."""
    page.wait_for_selector("#view:not([hidden])", timeout=PATIENCE)
    if name is not None:
        page.wait_for_selector(f"#view-name:text-is('{name}')")
    page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])", timeout=PATIENCE)
    page.wait_for_selector("#grid:not([data-state=waiting])", timeout=PATIENCE)


def rows_are_here(page):
    until(
        page,
        "document.querySelectorAll('#grid tbody td').length && "
        "![...document.querySelectorAll('#grid tbody td')].some(cell => cell.textContent === '…')",
    )


def cells(page):
    """The visible cells of the table, without the row numbers."""
    return page.evaluate(
        "[...document.querySelectorAll('#grid tbody tr')].map("
        "row => [...row.querySelectorAll('td:not(.index):not(.gap)')].map(cell => cell.textContent))"
    )


def menu(page, column):
    page.click(f"#grid [aria-label='Menu of {column}']")


def keep(page, column, comparison, value):
    """Filter by a condition in the menu of a column."""
    menu(page, column)
    page.select_option("[aria-label='Comparison']", label=comparison)
    field = page.locator("#column-menu [aria-label='Value']")
    if field.evaluate("field => field.matches('select')"):
        field.select_option(label=value)
    else:
        field.fill(value)
    page.click("#column-menu button:text-is('Filter')")


def shows(page, rows):
    """Wait until the grid shows these rows."""
    wait_until(lambda: cells(page) == rows)


def saved(page, label):
    """Download what is shown; returns the path of the file."""
    with page.expect_download() as download:
        page.click(f"#view-downloads >> text='{label}'")
    return download.value.path()


def write(path, **columns):
    pl.DataFrame(columns).write_csv(path)
    return path


def test_filtered_and_sorted_rows_are_downloaded_in_each_format(here, tmp_path):
    """The downloads have what is shown, and the list of jobs says in words what was asked."""
    path = write(
        tmp_path / "page-sales.csv",
        city=["Oslo", "Bergen", None, "Rome"] * 25,
        amount=range(100),
        price=[0.5, 2.5] * 50,
    )
    upload(here, path)
    opened(here, "page-sales.csv")
    here.click("#view-columns summary")
    here.uncheck("#view-columns label:has-text('price') input")
    assert here.inner_text("#view-columns-count") == "2 of 3"
    here.click("#view-columns summary")
    keep(here, "amount", "at least", "90")
    menu(here, "amount")
    here.click("#column-menu >> text='Sort ↓'")
    here.fill("#view-limit", "4")
    here.press("#view-limit", "Enter")
    shows(here, [["Rome", "99"], ["", "98"], ["Bergen", "97"], ["Oslo", "96"]])
    assert here.locator("#grid thead svg").count() == 2
    assert "25 % missing" in here.inner_text("#grid thead")
    assert (
        saved(here, "CSV, as in the file").read_bytes() == b"city,amount\nRome,99\n,98\nBergen,97\nOslo,96\n"
    )
    for label, read in (("Excel", pl.read_excel), ("Parquet", pl.read_parquet), ("Arrow", pl.read_ipc)):
        assert read(saved(here, label)).height == 4
    here.wait_for_selector(
        "#jobs li:has-text('page-sales.csv'):has-text('amount ≥ 90, sorted by amount ↓'):has-text('done · 4 rows')"
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [300_000, 10_000_000])
def test_large_table_scrolls_to_every_row(here, server, count):
    """Keys, scroll bar and wheel reach any row, with few rows in the document."""
    name = f"page-{count}.parquet"
    n = pl.int_range(count, eager=True)
    pl.DataFrame({"n": n, "twice": 2 * n}).write_parquet(server.data_dir / "uploads" / name)
    here.reload()
    use(here, name)
    until(here, f"document.querySelector('#grid').getAttribute('aria-rowcount') === '{count + 1}'")
    here.focus("#grid")
    for key, first in (
        ("Control+End", None),
        ("Control+Home", 0),
        ("PageDown", 1),
        ("ArrowDown", 2),
        ("ArrowUp", 2),
    ):
        here.keyboard.press(key)
        rows_are_here(here)
        shown = cells(here)
        if first is None:
            assert shown[-1] == [str(count - 1), str(2 * count - 2)]
        else:
            assert shown[0] == [str(first), str(2 * first)]
    assert here.locator("#grid tbody tr").count() < 50
    here.evaluate(
        "document.querySelector('#grid').scrollTop = document.querySelector('#grid').scrollHeight / 2"
    )
    until(
        here,
        "half => Math.abs(parseInt(document.querySelector('#grid tbody td:nth-child(2)').textContent) - half) < half / 100",
        count // 2,
    )
    here.mouse.move(*[here.locator("#grid").bounding_box()[key] + 50 for key in ("x", "y")])
    before = here.inner_text("#grid-position")
    here.mouse.wheel(0, 300)
    until(here, "before => document.querySelector('#grid-position').textContent !== before", arg=before)
    assert re.fullmatch(r"Rows [\d,]+ to [\d,]+", here.inner_text("#grid-position"))
    rows_are_here(here)
    start = int(cells(here)[0][0])
    assert abs(start - count / 2) < count / 100
    assert cells(here) == [[str(n), str(2 * n)] for n in range(start, start + len(cells(here)))]


@pytest.mark.slow
def test_wide_file_shows_some_columns_and_finds_all(here, tmp_path):
    """Some columns are listed, the search finds the others, and the table draws only visible columns."""
    width = 3000
    path = tmp_path / "page-wide.csv"
    path.write_text(
        ",".join(f"c{index}" for index in range(width))
        + "\n"
        + ",".join(str(index) for index in range(width))
        + "\n"
    )
    upload(here, path)
    opened(here)
    here.click("#view-columns summary")
    assert here.locator("#view-columns-list input").count() <= 300
    here.click("#view-columns-none")
    assert here.inner_text("#view-columns-count") == "0 of 3,000"
    here.fill("#view-columns-search", "c299")
    assert here.locator("#view-columns-list input").count() == 11  # c299 and c2990 to c2999
    here.click("#view-columns-all")
    assert here.inner_text("#view-columns-count") == "11 of 3,000"
    here.click("#view-columns summary")
    until(here, "document.querySelector('#grid').getAttribute('aria-colcount') === '11'")
    wait_until(lambda: cells(here)[0][:3] == ["299", "2990", "2991"])
    here.go_back()  # none are hidden by their own step
    here.go_back()
    until(here, "document.querySelector('#view-columns-count').textContent === '3,000 of 3,000'")
    here.evaluate("document.querySelector('#grid').scrollLeft = 1e9")
    until(here, "document.querySelector('#grid').textContent.includes('c2999')")
    until(here, "document.querySelector('#grid tbody tr').lastChild.textContent === '2999'")
    assert here.locator("#grid td").count() < 100


@pytest.mark.slow
def test_upload_after_reload_resumes_at_stored_offset(here, server, tmp_path):
    """The page lists the incomplete upload; selecting the same file again resumes it."""
    path = tmp_path / "page-reload.bin"
    path.write_bytes(random.Random(1).randbytes(150 * MIB))
    part = begin_and_pause(here, server, path)
    here.reload()
    here.wait_for_selector("#uploads >> text=select the file again")
    held = part.stat().st_size
    assert 8 * MIB < held < 150 * MIB
    frames = []
    # Playwright sets an attribute on its listeners, which built-in methods do not accept.
    here.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))  # noqa: PLW0108
    here.reload()
    here.wait_for_selector("#uploads >> text=select the file again")
    upload(here, path)
    here.wait_for_selector("#uploads li", state="detached", timeout=180_000)
    ready = [json.loads(frame) for frame in frames if isinstance(frame, str) and "upload_ready" in frame]
    assert [message["offset"] for message in ready] == [held]
    assert (server.data_dir / "uploads" / "page-reload.bin").read_bytes() == path.read_bytes()
    here.reload()
    here.wait_for_selector("[data-file='page-reload.bin']")
    assert here.locator("#uploads li").count() == 0


def big_file(path, seed):
    """A file too large for a digest, so that the server compares only name and size."""
    path.write_bytes(random.Random(seed).randbytes(100 * MIB))
    return path


def begin_and_pause(page, server, path):
    """Upload a part of a file and pause; returns the part on the server's disk."""
    parts = server.data_dir / "parts"
    before = set(parts.iterdir())
    # The page itself clicks: on a busy machine the upload would be complete before a click from here arrives.
    page.evaluate(
        """sent => {
            const timer = setInterval(() => {
                if (!(document.querySelector("#uploads progress")?.value > sent)) return;
                clearInterval(timer);
                document.querySelector("#uploads [aria-label^=Pause]").click();
            });
        }""",
        16 * MIB,
    )
    upload(page, path)
    page.wait_for_selector("#uploads >> text=paused at")
    wait_until(lambda: any(part.stat().st_size > 8 * MIB for part in set(parts.iterdir()) - before))
    [part] = set(parts.iterdir()) - before
    return part


@pytest.mark.slow
def test_upload_after_file_changed_starts_again(here, server, tmp_path):
    """After a reload, a part of the earlier content is not used for a changed file of the same name and size."""
    path = big_file(tmp_path / "page-changed.bin", 3)
    begin_and_pause(here, server, path)
    here.reload()
    here.wait_for_selector("#uploads >> text=page-changed.bin is incomplete")
    big_file(path, 4)
    upload(here, path)
    here.wait_for_selector("[data-upload='page-changed.bin']")
    here.wait_for_selector("[data-upload='page-changed.bin']", state="detached", timeout=180_000)
    assert (server.data_dir / "uploads" / "page-changed.bin").read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_paused_upload_selected_again_resumes(here, server, tmp_path):
    """The same upload resumes, no second one waits behind it, and the next file is uploaded."""
    path = big_file(tmp_path / "page-twice.bin", 5)
    begin_and_pause(here, server, path)
    upload(here, path, write(tmp_path / "page-next.csv", a=[1]))
    here.wait_for_selector("#uploads li", state="detached", timeout=180_000)
    assert (server.data_dir / "uploads" / "page-twice.bin").read_bytes() == path.read_bytes()
    here.wait_for_selector("[data-file='page-next.csv']")


@pytest.mark.slow
def test_cancelled_upload_leaves_nothing(here, server, tmp_path):
    """Neither the page nor the server keeps a part of it."""
    part = begin_and_pause(here, server, big_file(tmp_path / "page-unwanted.bin", 6))
    # In one step, as on a busy machine the upload would be complete before the second click.
    here.evaluate(
        """() => {
            for (const name of ["Resume", "Cancel"]) document.querySelector(`#uploads [aria-label^=${name}]`).click();
        }"""
    )
    here.wait_for_selector("#uploads >> text=cancelled")
    here.click("#uploads >> text=Dismiss")
    wait_until(lambda: not part.exists())
    here.reload()
    here.wait_for_selector("#connection[data-state=open]")
    assert here.locator("#uploads li").count() == 0


def test_files_dropped_outside_the_box_are_uploaded(here, server):
    """Several files at once; the browser does not navigate to them."""
    here.evaluate(
        """() => {
            const data = new DataTransfer();
            for (const name of ["page-drop-1.csv", "page-drop-2.csv"]) data.items.add(new File(["a\\n1\\n"], name));
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            document.querySelector("h1").dispatchEvent(new DragEvent("drop", options));
        }"""
    )
    for name in ("page-drop-1.csv", "page-drop-2.csv"):
        here.wait_for_selector(f"[data-file='{name}']")
        assert (server.data_dir / "uploads" / name).read_text() == "a\n1\n"


@pytest.mark.slow
def test_late_rows_of_earlier_view_are_ignored(here, server):
    """Rows that are in flight when the view changes do not appear in its table."""
    rows = 5_000
    write(server.data_dir / "uploads" / "page-late.csv", a=["old"] * rows, b=["new"] * rows)
    here.reload()
    use(here, "page-late.csv")
    here.click("#view-columns summary")
    here.evaluate(
        """() => {
            const table = document.querySelector("#grid");
            table.scrollTop = table.scrollHeight;
            table.dispatchEvent(new Event("scroll"));
            document.querySelector("#view-columns-list input").click();
        }"""
    )
    until(here, "document.querySelectorAll('#grid th').length === 1")
    rows_are_here(here)
    here.wait_for_timeout(500)
    assert cells(here)[0] == ["new"]
    assert here.inner_text("#grid-position").startswith("Rows 1 to ")


def test_view_in_use_is_not_replaced_by_new_upload(here, tmp_path):
    """A dropped file is shown, but only joins the list if somebody goes on with another one before it has arrived."""
    upload(here, write(tmp_path / "page-first.csv", a=[1], b=[2]))
    opened(here, "page-first.csv")
    upload(here, write(tmp_path / "page-second.csv", c=[1, 2]))
    opened(here, "page-second.csv")
    here.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["d\\n1\\n"], "page-third.csv"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
            document.querySelector("#find").value = "2";
            document.querySelector("#find").dispatchEvent(new Event("input"));
        }"""
    )
    here.wait_for_selector("[data-file='page-third.csv']")
    shows(here, [["2"]])
    assert here.inner_text("#view-name") == "page-second.csv"


def test_integers_beyond_53_bits_stay_exact(here, server):
    """Filters send all digits and cells show them, although JavaScript numbers would round them."""
    (server.data_dir / "uploads" / "page-big.csv").write_text("n\n9007199254740992\n9007199254740993\n5\n")
    here.reload()
    use(here, "page-big.csv")
    keep(here, "n", "is", "9007199254740993")
    shows(here, [["9007199254740993"]])
    here.reload()
    shows(here, [["9007199254740993"]])
    assert here.locator("#chips li span").all_inner_texts() == ["n is 9007199254740993"]
    assert saved(here, "CSV, as in the file").read_text() == "n\n9007199254740993\n"


def test_all_controls_have_accessible_names(here, server, tmp_path):
    """Screen readers can name every control."""
    upload(here, write(tmp_path / "page-names.csv", a=[1], b=[2]))
    opened(here)
    keep(here, "a", "is", "1")
    here.click("#options summary")
    here.click("#view-columns summary")
    here.click("#plot summary")
    menu(here, "b")
    nameless = """[...document.querySelectorAll("button, input, select, a, [role=region], [role=grid], progress")].filter(
        (one) => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length && !one.getAttribute("aria-labelledby")
    ).map((one) => one.outerHTML)"""
    assert here.evaluate(nameless) == []


@pytest.mark.slow
def test_filters_of_each_type_keep_matching_rows(here, server):
    """Booleans, dates and missing values; an empty number is reported."""
    (server.data_dir / "uploads" / "page-types.csv").write_text(
        "b,n,d,t\ntrue,1,2024-01-01,x\nfalse,2,2024-01-02,y\n,3,2024-01-03,\ntrue,4,2024-01-04,z\n"
    )
    here.reload()
    use(here, "page-types.csv")

    def keeps(column, comparison, value, expected):
        menu(here, column)
        here.select_option("[aria-label='Comparison']", label=comparison)
        if column == "b":
            here.select_option("#column-menu [aria-label='Value']", label=value)
        elif value is not None:
            here.fill("#column-menu [aria-label='Value']", value)
        here.click("#column-menu button:text-is('Filter')")
        here.wait_for_selector("#chips li")
        wait_until(lambda: [row[1] for row in cells(here)] == expected)
        here.click("#chips button")
        shows(here, everything)

    everything = cells(here)
    keeps("b", "is", "yes", ["1", "4"])
    keeps("n", "at most", "2", ["1", "2"])
    keeps("d", "at least", "2024-01-03", ["3", "4"])
    keeps("t", "is missing", None, ["3"])
    keeps("t", "is there", None, ["1", "2", "4"])
    keeps("t", "contains", "Y", ["2"])
    menu(here, "n")
    here.click("#column-menu button:text-is('Filter')")
    assert here.evaluate("document.activeElement.matches('#column-menu input:invalid')")


@pytest.mark.slow
def test_server_killed_during_upload_page_reconnects_and_resumes(page, tmp_path):
    """After the server restarts, the page reconnects and completes the upload."""
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
    page.wait_for_selector("#uploads >> text=resumes when the connection is restored")
    with serving(tmp_path / "data", "--port", str(server.port)) as server:
        page.wait_for_selector("#uploads li", state="detached", timeout=180_000)
        assert (server.data_dir / "uploads" / "page-killed.bin").read_bytes() == path.read_bytes()
        assert page.inner_text("#connection-text") == "Connected"


def test_markup_in_data_is_shown_as_text(here, server, tmp_path):
    """Filenames, column names, cells and errors are inserted as text."""
    evil = "<img src=x onerror=alert(1)>"
    path = write(tmp_path / f"{evil.replace('/', '')}.csv", **{"<script>alert(1)</script>": [evil, "b"]})
    here.on("dialog", lambda dialog: pytest.fail(dialog.message))
    upload(here, path)
    opened(here)
    assert cells(here)[0] == [evil]
    assert "<script>alert(1)</script>" in here.inner_text("#grid thead")
    assert here.locator("main img").count() == 0


def test_invisible_characters_are_shown_and_stay_in_the_data(here, server, tmp_path):
    """A name, a column and a cell that are shown backwards; filters and downloads use them as they are."""
    path = write(tmp_path / "gpj.\u202eexe.csv", **{"a\u202eb": ["x\u200by", "z"], "n": [1, 2]})
    upload(here, path)
    opened(here)
    assert here.inner_text("#view-name") == r"gpj.\u202eexe.csv"
    assert r"gpj.\u202eexe.csv" in here.inner_text("#files")
    assert r"a\u202eb" in here.inner_text("#grid")
    assert cells(here) == [[r"x\u200by", "1"], ["z", "2"]]
    menu(here, r"a\\u202eb")
    here.click("#column-menu >> text='Sort ↓'")
    shows(here, [["z", "2"], [r"x\u200by", "1"]])
    assert saved(here, "CSV, as in the file").read_text() == "a\u202eb,n\nz,2\nx\u200by,1\n"
    assert "\u202e" not in here.inner_text("body")


def test_errors_appear_beside_their_controls(here, server, tmp_path):
    """An existing file can be replaced, and a filter of a column that is gone shows the server's message."""
    path = write(tmp_path / "page-again.csv", a=["x"], b=[1])
    upload(here, path)
    opened(here)
    upload(here, path)
    here.wait_for_selector("#uploads .error:has-text('already exists')")
    write(path, a=["y"], b=[2])
    upload(here, path)
    here.click("#uploads >> text=Replace it")
    here.wait_for_selector("#uploads li", state="detached")
    assert (server.data_dir / "uploads" / "page-again.csv").read_text() == "a,b\ny,2\n"
    shows(here, [["y", "2"]])
    opened(here)
    here.evaluate("""location.hash += '&where=[["gone","==",1]]'""")
    here.wait_for_selector("#grid-error:has-text('gone')")
    here.click("[aria-label='Delete page-again.csv']")
    here.click("[aria-label='Really delete page-again.csv']")
    here.wait_for_selector("[data-file='page-again.csv']", state="detached")
    assert not (server.data_dir / "uploads" / "page-again.csv").exists()
    assert here.is_hidden("#view")


def sum_up(page):
    """Group by b and sum a."""
    menu(page, "a")
    page.select_option("[aria-label='For each']", label="for each b")


def test_cancelled_groups_leave_no_rows_and_can_be_tried_again(here, server, tmp_path):
    """The rows from before would mislead."""
    upload(here, write(tmp_path / "page-cancelled.csv", a=[1, 2], b=[3, 3]))
    opened(here, "page-cancelled.csv")
    with server.frozen():
        sum_up(here)
        here.wait_for_selector("#work:has-text('Computing groups')")
        here.wait_for_selector("#jobs li:has-text('page-cancelled.csv'):has-text('running')")
        here.click("#work-cancel")
        here.wait_for_selector("#jobs li:has-text('page-cancelled.csv'):has-text('cancelled')")
    here.wait_for_selector("#grid[data-state=failed]")
    assert cells(here) == []
    here.click("#grid-retry")
    shows(here, [["3", "3"]])


@pytest.mark.slow
def test_reload_while_groups_are_computed_waits_for_the_same_job(here, server):
    """The job can be shown again later; what is not known of it is its output."""
    write(server.data_dir / "uploads" / "page-rejoined.csv", a=[1, 2], b=[3, 3])
    here.reload()
    use(here, "page-rejoined.csv")
    job = "#jobs li:has-text('page-rejoined.csv')"
    with server.frozen():
        sum_up(here)
        here.wait_for_selector(f"{job}:has-text('running')")
        here.reload()
        here.wait_for_selector(f"{job}:has-text('running')")
    shows(here, [["3", "3"]])
    here.wait_for_selector(f"{job}:has-text('sum of a for each b'):has-text('done · 1 row')")
    assert here.locator(job).count() == 1
    here.evaluate("location.hash = ''")
    here.wait_for_selector("#view", state="hidden")
    here.focus(f"{job} >> text=Show")
    here.keyboard.press("Enter")
    shows(here, [["3", "3"]])
    assert here.locator("#chips li span").all_inner_texts() == ["sum of a for each b"]
    assert here.evaluate("document.activeElement.id") == "view-title"
    here.evaluate("localStorage.clear()")
    here.reload()
    here.focus(f"{job} >> text=Show")
    here.keyboard.press("Enter")
    until(here, "document.querySelector('#view-name').textContent.endsWith('.parquet')")
    shows(here, [["3", "3"]])


@pytest.mark.slow
def test_jobs_of_other_clients_are_listed_and_followed(page, server):
    """They can be cancelled and shown, jobs of this page do not cancel them, and their end appears in the list."""
    names = ["page-mine.csv", "page-theirs.csv", "page-unwanted.csv", "page-withdrawn.csv"]
    for name in names:
        write(server.data_dir / "uploads" / name, a=[1, 2], b=[3, 3])
    mine, theirs, unwanted, withdrawn = (f"#jobs li:has-text('{name}')" for name in names)
    page.clock.install()
    visit(page, server)
    use(page, "page-mine.csv")
    with server.connect() as other:
        with server.frozen():
            for name in names[1:]:
                other.ask({"type": "process", "id": name, "filename": name})
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for_selector(withdrawn)
            other.send({"type": "cancel", "id": "cancel", "request": "page-withdrawn.csv"})
            other.until("error")
            page.clock.run_for(5_000)
            page.wait_for_selector(f"{withdrawn}:has-text('cancelled')")
            page.focus(f"{unwanted} >> text=Cancel")
            page.keyboard.press("Enter")
            page.wait_for_selector(f"{unwanted}:has-text('cancelled')")
            assert page.evaluate("document.activeElement.id") == "jobs-title"
            assert other.until("error")[-1]["id"] == "page-unwanted.csv"
            page.click(f"{theirs} >> text=Show")
            page.wait_for_selector("#job:has-text('Waiting for the job')")
            sum_up(page)
            page.wait_for_selector(f"{mine}:has-text('sum of a for each b')")
        assert other.until("result", "error")[-1]["type"] == "result"
    for row in mine, theirs:
        page.wait_for_selector(f"{row}:has-text('done')")
    assert page.inner_text("#view-name") == "page-mine.csv"  # what was asked later stays


@pytest.mark.slow
def test_keyboard_alone_opens_hides_a_column_and_deletes_a_file(here, server, tmp_path):
    """Every step from the list of files to the table works without a mouse."""
    write(server.data_dir / "uploads" / "page-keys.csv", a=[1, 2], b=[3, 4])
    here.reload()
    here.wait_for_selector("[aria-label='Use page-keys.csv']")

    def tab_to(selector, key="Tab"):
        # The server has files of other tests, and each adds to the elements that take the focus.
        for _ in range(here.evaluate("document.querySelectorAll('*').length")):
            here.keyboard.press(key)
            if here.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(selector)

    tab_to("[aria-label='Use page-keys.csv']")
    here.keyboard.press("Enter")
    opened(here)
    assert here.evaluate("document.activeElement.id") == "view-title"
    tab_to("#view-columns summary")
    here.keyboard.press("Enter")
    tab_to("#view-columns-list input")
    here.keyboard.press("Space")
    shows(here, [["3"], ["4"]])
    assert here.evaluate("document.activeElement.value") == "a"
    tab_to("#grid")
    here.keyboard.press("Control+End")
    tab_to("[aria-label='Delete page-keys.csv']", "Shift+Tab")
    here.keyboard.press("Enter")
    here.keyboard.press("Enter")  # an accidental second Enter keeps the file
    assert here.evaluate("document.activeElement.ariaLabel") == "Delete page-keys.csv"
    here.keyboard.press("Enter")
    tab_to("[aria-label='Really delete page-keys.csv']", "Shift+Tab")
    here.keyboard.press("Enter")
    here.wait_for_selector("[data-file='page-keys.csv']", state="detached")
    assert here.evaluate("document.activeElement.id") == "file-input"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_needs_no_horizontal_scrolling(here, server, tmp_path, scheme):
    """At 360 pixels only the table scrolls sideways, in its own region."""
    here.emulate_media(color_scheme=scheme)
    here.set_viewport_size({"width": 360, "height": 780})
    path = write(
        tmp_path / f"page-phone-{scheme}.csv",
        **{f"a_column_with_a_rather_long_name_{i}": ["x" * 99] for i in range(9)},
    )
    upload(here, path)
    opened(here)
    here.click("#options summary")
    assert here.evaluate("document.documentElement.scrollWidth") <= 360
    keep(here, "a_column_with_a_rather_long_name_0", "is", "x" * 99)
    here.wait_for_selector("#chips li")
    assert here.evaluate("document.documentElement.scrollWidth") <= 360
