"""People at the page, on screens of both widths and in both themes."""

import itertools

import pytest

from tests.browser.test_page import PATIENCE

NUMBERS = itertools.count(1)


class Person:
    """Somebody at the page; each method is one action."""

    def __init__(self, page):
        self.page = page
        self.actions = 0

    def upload(self, *paths):
        self._act()
        self.page.set_input_files("#file-input", [str(path) for path in paths])

    def drop(self, path):
        self.upload(path)
        self.page.wait_for_selector("#grid[data-state=ready]", timeout=PATIENCE)
        self.page.wait_for_selector("#view:is([data-survey=done], [data-survey=offered])", timeout=PATIENCE)

    def click(self, selector):
        self._act()
        self.page.click(selector)

    def menu(self, column):
        self.click(f"#grid [aria-label='Menu of {column}']")

    def type(self, selector, text):
        self._act()
        self.page.locator(selector).press_sequentially(text)

    def enter(self, selector, text):
        self._act()
        self.page.fill(selector, text)
        self.page.press(selector, "Enter")

    def choose(self, selector, label):
        self._act()
        self.page.select_option(selector, label=label)

    def drag_over_headers(self, first, last):
        self._act()
        for column, do in ((first, "down"), (last, "up")):
            x, y = place_of(self.page, f"#grid th:has([aria-label='Menu of {column}'])")
            self.page.mouse.move(x + 20, y + 12)
            getattr(self.page.mouse, do)()

    def download(self, label):
        with self.page.expect_download() as download:
            self.click(f"#view-downloads >> text='{label}'")
        return download.value

    def _act(self):
        self.actions += 1


SCREENS = [
    pytest.param((width, scheme), id=f"{width}-{scheme}")
    for width in (1280, 390)
    for scheme in ("light", "dark")
]
SCREENS[1:] = [pytest.param(*screen.values, id=screen.id, marks=pytest.mark.slow) for screen in SCREENS[1:]]
on_each_screen = pytest.mark.parametrize("person", SCREENS, indirect=True)
"""Runs a test with ``person`` at both widths and in both themes; only the first of the four is not slow."""


def look(page, width, scheme):
    """Look at the page on another screen; colors change at once, and are not checked on the way."""
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")


def fresh(path):
    """Another name for a file, as one that a test with another screen has uploaded would have to be replaced."""
    return path.with_stem(f"{path.stem}-{next(NUMBERS)}")


def place_of(page, selector):
    """The left upper corner of an element, in one step: the grid makes its elements anew."""
    return page.evaluate(
        "selector => { const { x, y } = document.querySelector(selector).getBoundingClientRect(); return [x, y]; }",
        selector,
    )


def faults(page):
    """What axe-core finds on the page as it is now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    found = axe.Axe().run(page)
    return [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in found.response["violations"]
    ]
