"""The page in a browser: files, columns, runs, large tables and errors."""

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
    """Wait until a file is open, and described; then show the form below it."""
    page.wait_for_selector("#query:not([hidden])", timeout=PATIENCE)
    page.evaluate("document.querySelector('#more').open = true")
    if name is not None:
        page.wait_for_selector(f"#query-name:text-is('{name}')")
    page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])", timeout=PATIENCE)
    page.wait_for_selector("#grid:not([data-state=waiting])", timeout=PATIENCE)


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
    """The visible cells of the table, without the row numbers."""
    return page.evaluate(
        "[...document.querySelectorAll('#table tbody tr')].map("
        "row => [...row.querySelectorAll('td:not(.index):not(.gap)')].map(cell => cell.textContent))"
    )


def write(path, **columns):
    pl.DataFrame(columns).write_csv(path)
    return path


def test_query_with_filter_sort_and_limit_shows_table_and_downloads(here, server, tmp_path):
    """Table, charts, job list and download formats are correct; a repeat is served from cache."""
    path = write(
        tmp_path / "page-sales.csv",
        city=["Oslo", "Bergen", None, "Rome"] * 25,
        amount=range(100),
        price=[0.5, 2.5] * 50,
    )
    upload(here, path)
    opened(here)
    assert here.inner_text("#query-name") == "page-sales.csv"
    assert here.inner_text("#columns-count") == "3 of 3"
    here.click("#columns label:has-text('price')")
    assert here.inner_text("#columns-count") == "2 of 3"
    here.click("#filters summary")
    here.click("#add-filter")
    here.select_option("#filter-list select >> nth=0", label="amount")
    here.select_option("#filter-list select >> nth=1", value=">=")
    here.fill("#filter-list input", "90")
    here.click("#add-sort")
    here.select_option("#sort-list select >> nth=0", label="amount")
    here.select_option("#sort-list select >> nth=1", value="desc")
    here.fill("#limit", "4")
    run(here)
    assert "4 rows × 2 columns" in here.inner_text("#result-summary")
    assert cells(here) == [["Rome", "99"], ["", "98"], ["Bergen", "97"], ["Oslo", "96"]]
    assert here.locator("#table thead svg").count() == 2
    assert "25 % missing" in here.inner_text("#table thead")
    assert "Done" in here.inner_text("#log")
    here.wait_for_selector("#jobs li:has-text('page-sales.csv'):has-text('done · 4 rows')")
    with here.expect_download() as download:
        here.click("#downloads >> text=CSV")
    assert download.value.path().read_bytes() == b"city,amount\nRome,99\n,98\nBergen,97\nOslo,96\n"
    for name, read in (("Excel", pl.read_excel), ("Parquet", pl.read_parquet), ("Arrow", pl.read_ipc)):
        with here.expect_download() as download:
            here.click(f"#downloads >> text={name}")
        assert read(download.value.path()).height == 4
    run(here)
    assert "served from cache" in here.inner_text("#result-summary")


@pytest.mark.slow
@pytest.mark.parametrize("count", [300_000, 10_000_000])
def test_large_table_scrolls_to_every_row(here, server, count):
    """Keys, scroll bar and wheel reach any row, with few rows in the document."""
    name = f"page-{count}.parquet"
    n = pl.int_range(count, eager=True)
    pl.DataFrame({"n": n, "twice": 2 * n}).write_parquet(server.data_dir / "uploads" / name)
    here.reload()
    use(here, name)
    run(here)
    here.focus("#table")
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
    assert here.locator("#table tbody tr").count() < 50
    here.evaluate(
        "document.querySelector('#table').scrollTop = document.querySelector('#table').scrollHeight / 2"
    )
    until(
        here,
        "half => Math.abs(parseInt(document.querySelector('#table tbody td:nth-child(2)').textContent) - half) < half / 100",
        count // 2,
    )
    here.mouse.move(*[here.locator("#table").bounding_box()[key] + 50 for key in ("x", "y")])
    before = here.inner_text("#table-position")
    here.mouse.wheel(0, 300)
    until(here, "before => document.querySelector('#table-position').textContent !== before", arg=before)
    assert re.fullmatch(rf"Rows [\d,]+ to [\d,]+ of {count:,}", here.inner_text("#table-position"))
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
    here.click("#filters summary")
    here.click("#add-filter")
    here.fill("#filter-list .column", "c29")
    assert 1 < here.locator("#column-names option").count() <= 50
    here.fill("#filter-list .column", "c2998x")
    here.click("#run")
    assert here.evaluate("document.activeElement.validationMessage") == "No column has this name."
    here.fill("#filter-list .column", "c2998")
    here.fill("#filter-list input >> nth=1", "2998")
    run(here)
    here.evaluate("document.querySelector('#table').scrollLeft = 1e9")
    until(here, "document.querySelector('#table thead').textContent.includes('c2999')")
    until(here, "document.querySelector('#table tbody tr').lastChild.textContent === '2999'")
    assert here.locator("#table td").count() < 100


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
def test_late_rows_of_earlier_result_are_ignored(here, server):
    """Rows that are in flight when the next run starts do not appear in its table."""
    rows = 5_000
    write(server.data_dir / "uploads" / "page-late.csv", a=["old"] * rows, b=["new"] * rows)
    here.reload()
    use(here, "page-late.csv")
    here.click("#columns label:has-text('b')")
    run(here)
    here.evaluate(
        """() => {
            const table = document.querySelector("#table");
            table.scrollTop = table.scrollHeight;
            table.dispatchEvent(new Event("scroll"));
            document.querySelector("#columns-none").click();
            document.querySelectorAll("#columns input")[1].click();
            document.querySelector("#run").click();
        }"""
    )
    here.wait_for_selector("#result:not([hidden])")
    rows_are_here(here)
    here.wait_for_timeout(500)
    assert cells(here)[0] == ["new"]
    assert here.inner_text("#table-position").startswith("Rows 1 to ")


def test_form_in_use_is_not_replaced_by_new_upload(here, tmp_path):
    """A new upload replaces an untouched form, but only joins the list while the user fills in the form."""
    upload(here, write(tmp_path / "page-first.csv", a=[1], b=[2]))
    opened(here, "page-first.csv")
    upload(here, write(tmp_path / "page-second.csv", c=[1]))
    opened(here, "page-second.csv")
    here.click("#filters summary")
    here.click("#add-filter")
    here.fill("#filter-list input", "7")
    upload(here, write(tmp_path / "page-third.csv", d=[1]))
    here.wait_for_selector("[data-file='page-third.csv']")
    assert here.inner_text("#query-name") == "page-second.csv"
    assert here.input_value("#filter-list input") == "7"
    assert here.evaluate("document.activeElement.matches('#filter-list input')")


def test_integers_beyond_53_bits_stay_exact(here, server):
    """Filters send all digits and cells show them, although JavaScript numbers would round them."""
    (server.data_dir / "uploads" / "page-big.csv").write_text("n\n9007199254740992\n9007199254740993\n5\n")
    here.reload()
    use(here, "page-big.csv")
    here.click("#filters summary")
    here.click("#add-filter")
    here.fill("#filter-list input", "9007199254740993")
    run(here)
    assert "1 row × 1 column" in here.inner_text("#result-summary")
    assert cells(here) == [["9007199254740993"]]
    with here.expect_download() as download:
        here.click("#downloads >> text=CSV")
    assert download.value.path().read_text() == "n\n9007199254740993\n"


def test_all_controls_have_accessible_names(here, server, tmp_path):
    """Screen readers can name every control."""
    upload(here, write(tmp_path / "page-names.csv", a=[1], b=[2]))
    opened(here)
    here.click("#filters summary")
    here.click("#add-filter")
    here.click("#add-sort")
    here.fill("#filter-list input", "1")
    run(here)
    nameless = """[...document.querySelectorAll("button, input, select, a, [role=region], [role=grid], progress")].filter(
        (one) => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length && !one.getAttribute("aria-labelledby")
    ).map((one) => one.outerHTML)"""
    assert here.evaluate(nameless) == []


@pytest.mark.slow
def test_filters_of_each_type_keep_matching_rows(here, server):
    """Booleans, lists, dates and nulls; an empty number is reported, even in collapsed details."""
    (server.data_dir / "uploads" / "page-types.csv").write_text(
        "b,n,d,t\ntrue,1,2024-01-01,x\nfalse,2,2024-01-02,y\n,3,2024-01-03,\ntrue,4,2024-01-04,z\n"
    )
    here.reload()
    use(here, "page-types.csv")
    here.click("#filters summary")
    here.click("#add-filter")

    def kept(column, operator, value):
        here.select_option("#filter-list select >> nth=0", label=column)
        here.select_option("#filter-list select >> nth=1", value=operator)
        if value is not None:
            here.fill("#filter-list input", value)
        run(here)
        return [row[1] for row in cells(here)]

    assert kept("b", "==", "true") == ["1", "4"]
    assert kept("n", "in", "1, 3") == ["1", "3"]
    assert kept("n", "not_in", "1,3") == ["2", "4"]
    assert kept("d", ">=", "2024-01-03") == ["3", "4"]
    assert kept("t", "is_null", None) == ["3"]
    assert kept("t", "not_null", None) == ["1", "2", "4"]
    assert kept("t", "in", "x, z") == ["1", "4"]
    here.select_option("#filter-list select >> nth=0", label="n")
    here.fill("#filter-list input", "")
    here.click("#filters summary")
    here.click("#run")
    here.wait_for_selector("#filters[open]")
    assert here.evaluate("document.activeElement.matches('#filter-list input:invalid')")
    here.click("[aria-label='Remove this filter']")
    run(here)
    assert len(cells(here)) == 4


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
    run(here)
    assert cells(here)[0] == [evil]
    assert "<script>alert(1)</script>" in here.inner_text("#table thead")
    assert here.locator("main img").count() == 0


def test_invisible_characters_are_shown_and_stay_in_the_data(here, server, tmp_path):
    """A name, a column and a cell that are shown backwards; filters and downloads use them as they are."""
    path = write(tmp_path / "gpj.\u202eexe.csv", **{"a\u202eb": ["x\u200by", "z"], "n": [1, 2]})
    upload(here, path)
    opened(here)
    assert here.inner_text("#query-name") == r"gpj.\u202eexe.csv"
    assert r"gpj.\u202eexe.csv" in here.inner_text("#files")
    assert r"a\u202eb" in here.inner_text("#columns")
    here.click("#filters summary")
    here.click("#add-sort")
    assert here.eval_on_selector("#sort-list select", "select => select.value") == "a\u202eb"
    run(here)
    assert cells(here) == [[r"x\u200by", "1"], ["z", "2"]]
    assert r"a\u202eb" in here.inner_text("#table")
    assert "\u202e" not in here.inner_text("body")


def test_errors_appear_beside_their_controls(here, server, tmp_path):
    """An existing file can be replaced, a run needs a column, and an invalid filter shows the server's message."""
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

    def run_without_columns():
        here.click("#columns-none")
        here.click("#run")
        return "at least one column" in here.inner_text("#query-error")

    wait_until(run_without_columns)  # the columns of the replaced file may still be arriving
    here.click("#columns-all")
    here.click("#filters summary")
    here.click("#add-filter")
    here.select_option("#filter-list select >> nth=0", label="b")
    here.fill("#filter-list input", "many")
    here.click("#run")
    here.wait_for_selector("#run-error:not([hidden])")
    assert "many" in here.inner_text("#run-error")
    here.click("[aria-label='Delete page-again.csv']")
    here.click("[aria-label='Really delete page-again.csv']")
    here.wait_for_selector("[data-file='page-again.csv']", state="detached")
    assert not (server.data_dir / "uploads" / "page-again.csv").exists()
    assert here.is_hidden("#query")


def test_cancelled_run_shows_its_end(here, server):
    """The page shows that the job was cancelled and moves the focus."""
    server.put("page-slow.csv")
    here.reload()
    use(here, "page-slow.csv")
    with server.frozen():
        here.click("#run")
        here.wait_for_selector("#jobs li:has-text('page-slow.csv'):has-text('running')")
        here.reload()
        here.wait_for_selector("#log:has-text('Attached to page-slow.csv')")
        here.focus("#cancel")
        here.keyboard.press("Enter")
        here.wait_for_selector("#log:has-text('Cancelled')")
    assert here.is_hidden("#cancel")
    assert here.evaluate("document.activeElement.id") == "progress-title"
    here.wait_for_selector("#jobs li:has-text('page-slow.csv'):has-text('cancelled')")
    here.reload()
    here.wait_for_selector("#jobs li")
    assert here.is_hidden("#progress")


@pytest.mark.slow
def test_reload_during_run_attaches_to_the_job(here, server):
    """The page attaches to the same job and shows its result, which can be shown again later."""
    write(server.data_dir / "uploads" / "page-rejoined.csv", a=[1, 2], b=[3, 4])
    here.reload()
    use(here, "page-rejoined.csv")
    job = "#jobs li:has-text('page-rejoined.csv')"
    with server.frozen():
        here.click("#run")
        here.wait_for_selector(f"{job}:has-text('running')")
        here.reload()
        here.wait_for_selector("#log:has-text('Attached to page-rejoined.csv')")
        here.wait_for_selector(f"{job}:has-text('running')")
    here.wait_for_selector("#result:not([hidden])")
    rows_are_here(here)
    assert cells(here) == [["1", "3"], ["2", "4"]]
    here.wait_for_selector(f"{job}:has-text('done · 2 rows')")
    here.reload()
    here.wait_for_selector(job)
    assert here.locator(job).count() == 1
    assert here.is_hidden("#progress")
    here.focus(f"{job} >> text=Show")
    here.keyboard.press("Enter")
    here.wait_for_selector("#result:not([hidden])")
    rows_are_here(here)
    assert cells(here) == [["1", "3"], ["2", "4"]]
    assert here.evaluate("document.activeElement.id") == "result-title"


@pytest.mark.slow
def test_jobs_of_other_clients_are_listed_and_followed(page, server):
    """They can be cancelled and shown, runs of this page do not cancel them, and their end appears in the list."""
    names = ["page-mine.csv", "page-theirs.csv", "page-unwanted.csv", "page-withdrawn.csv"]
    for name in names:
        write(server.data_dir / "uploads" / name, a=[1, 2])
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
            page.wait_for_selector("#log:has-text('Attached to page-theirs.csv')")
            page.click("#run")
            page.wait_for_selector("#log:has-text('Accepted')")
        assert other.until("result", "error")[-1]["type"] == "result"
    for row in mine, theirs:
        page.wait_for_selector(f"{row}:has-text('done')")


@pytest.mark.slow
def test_keyboard_alone_runs_a_query_and_deletes_a_file(here, server, tmp_path):
    """Every step from the list of files to the table works without a mouse."""
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
    opened(here)
    tab_to("#columns input")
    here.keyboard.press("Space")
    assert here.inner_text("#columns-count") == "1 of 2"
    tab_to("#run")
    here.keyboard.press("Enter")
    here.wait_for_selector("#result:not([hidden])")
    rows_are_here(here)
    assert cells(here) == [["3"], ["4"]]
    tab_to("#table")
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
    here.click("#filters summary")
    here.click("#add-filter")
    here.fill("#filter-list input", "x" * 99)
    here.click("#add-sort")
    run(here)
    assert here.evaluate("document.documentElement.scrollWidth") <= 360
