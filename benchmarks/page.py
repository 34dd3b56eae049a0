"""The page in a browser: from the drop of a file to its rows on the screen, and changes of what is shown."""

import random
import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from benchmarks.big_job import await_copy, place
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, Serving, serving
from benchmarks.turns import in_turns
from benchmarks.windows import WORDS, write_words

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["CHANGES", "DROP", "KINDS", "P95", "SHOWN", "changes", "drop"]

DROP, CHANGES = "a file of 10 MB dropped on the page", "changes on the page of 1 M rows"
SHOWN, P95 = "until the rows are shown, p50", "until the rows are shown, p95"
COST = "server CPU for each"
UNITS = {SHOWN: "ms", P95: "ms", COST: "ms"}
KINDS = FIND, FILTER, SORT_NUMBERS, SORT_TEXTS = ("find", "filter", "sort by numbers", "sort by texts")
"""Changes of what is shown."""
PATIENCE = 60_000
"""Milliseconds to wait for something in the browser."""

# The milliseconds from an action to the frame that shows the rows after it; the page's script marks the grid.
MEASURE = """
globalThis.untilShown = (act) => new Promise((resolve) => {
  const view = document.querySelector("#view");
  const grid = document.querySelector("#grid");
  let isWaiting = false;
  const observer = new MutationObserver(() => {
    if (grid.dataset.state === "waiting") isWaiting = true;
    else if (isWaiting && !view.hidden) {
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
    }
  });
  observer.observe(grid, { attributes: true, attributeFilter: ["data-state"] });
  const started = performance.now();
  act();
});
"""
DROPPING = """
async ([name, rows]) => {
  const lines = ["id,price,day,city,name,note"];
  for (let row = 0; row < rows; row += 1) {
    const day = new Date(1e12 + row * 864e5).toISOString().slice(0, 10);
    const texts = `city ${row % 97},name ${row * 31 % 9973},a longer note ${row * 17 % 5003}`;
    lines.push(`${row},${(row * 7919 % 100000) / 100},${day},${texts}`);
  }
  const data = new DataTransfer();
  data.items.add(new File([lines.join("\\n") + "\\n"], name));
  const event = new DragEvent("drop", { dataTransfer: data, cancelable: true, bubbles: true });
  return await untilShown(() => document.body.dispatchEvent(event));
}
"""
TYPING = """
(text) => untilShown(() => {
  const field = document.querySelector("#find");
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})
"""
GOING = "(hash) => untilShown(() => (location.hash = hash))"


def drop(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Drop a file of 10 MB, again and again under another name."""
    rows = 10_000 if quick else 165_000
    with serving(CREEMSON, folder / "page") as system, _browsing(system) as page:
        numbers = iter(range(10**6))

        def one() -> float:
            return _dropped(page, f"dropped-{next(numbers)}.csv", rows)

        once = partial(_figures, system, one, 2 if quick else 6)
        return in_turns({CREEMSON: once}, runs=runs, workload=DROP, units=UNITS)


def changes(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Type a text to find, filter and sort, each time in another way; the file has its columnar copy."""
    data = folder / "words.csv"
    write_words(data, 100_000 if quick else 1_000_000)
    count = 3 if quick else 20
    rng = random.Random(1)

    def word() -> str:
        return rng.choice(WORDS)

    with serving(CREEMSON, folder / "page") as system, place(system, data) as name, _browsing(system) as page:
        await_copy(system, name)

        def go(where: str, sort: str = "[]") -> float:
            return _shown(page, GOING, f"#file={name}&where={quote(where)}&sort={quote(sort)}")

        def narrow() -> float:
            return go(f'[["price", ">", {rng.randrange(1000, 90_000)}], ["city", "==", "{word()}"]]')

        def sort(column: str) -> float:  # of nearly all rows, so that no answer is known already
            return go(
                f'[["id", ">", {rng.randrange(1000)}]]', f'[["{column}", "{rng.choice(("asc", "desc"))}"]]'
            )

        def find() -> float:
            return _shown(page, TYPING, f"{word()} {word()}{rng.randrange(1000)}".lower())

        def find_in_all_rows() -> dict[str, float]:
            _shown(page, GOING, f"#file={name}")
            return _figures(system, find, count)

        kinds: dict[str, Callable[[], float]] = {
            FILTER: narrow,
            SORT_NUMBERS: partial(sort, "price"),
            SORT_TEXTS: partial(sort, "name"),
        }
        work: dict[str, Callable[[], dict[str, float]]] = {FIND: find_in_all_rows}
        for kind, change in kinds.items():
            work[kind] = partial(_figures, system, change, count)
        return in_turns(work, runs=runs, workload=CHANGES, units=UNITS)


def _figures(system: Serving, change: Callable[[], float], count: int) -> dict[str, float]:
    before = system.cpu()
    milliseconds = [change() for _ in range(count)]
    return {
        SHOWN: statistics.median(milliseconds),
        P95: statistics.quantiles(milliseconds, n=20, method="inclusive")[-1],
        COST: (system.cpu() - before) / count * 1000,
    }


def _dropped(page: "Page", name: str, rows: int) -> float:
    milliseconds = float(page.evaluate(DROPPING, [name, rows]))
    page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])", timeout=PATIENCE)
    return milliseconds


def _shown(page: "Page", script: str, argument: str) -> float:
    milliseconds = float(page.evaluate(script, argument))
    page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])", timeout=PATIENCE)
    return milliseconds


@contextmanager
def _browsing(system: Serving) -> Iterator["Page"]:
    """The page of a server in headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("Install Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.add_init_script(MEASURE)
            page.goto(f"http://127.0.0.1:{system.port}/")
            page.wait_for_selector("#connection[data-state=open]", timeout=PATIENCE)
            yield page
        finally:
            browser.close()
