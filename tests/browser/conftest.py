"""Headless Chromium for the tests of the page and of creemson.js."""

import shutil

import pytest

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


PATIENCE = 90_000
"""Milliseconds to wait for something immediate, on a busy machine."""


@pytest.fixture(scope="session")
def browser():
    """One browser, shared by all tests."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS, timeout=3 * PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page in its own browser context; errors on its console fail the test.

    The browser logs refused connections while a server is down: a test that kills its server appends
    a part of that message to ``page.expected_errors``.
    """
    context = browser.new_context(accept_downloads=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.expected_errors = []
    faults = []

    def note(message):
        # Chromium requests the icon even though the page declares one.
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            faults.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    unexpected = [fault for fault in faults if not any(text in fault for text in page.expected_errors)]
    assert not unexpected


@pytest.fixture
def person(page, server, request):
    """Somebody at the page, which is connected to the server; see ``people.on_each_screen``."""
    from tests.browser.people import Person, look
    from tests.browser.test_page import visit

    look(page, *getattr(request, "param", (1280, "light")))
    visit(page, server)
    return Person(page)
