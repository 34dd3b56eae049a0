"""The page on a server that requires authentication."""

import polars as pl
import pytest

from tests.browser.people import faults, look
from tests.browser.test_page import opened, saved, upload
from tests.integration.test_auth import creemson
from tests.servers import SAMPLE, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def guarded(tmp_path):
    data = tmp_path / "data"
    token = creemson("token", "create", "ann", "--data-dir", data)
    with serving(data, "--set", "auth.mode=token") as server:
        yield server, token


def test_sign_in_with_valid_token_persists_until_revoked(page, guarded, tmp_path):
    """A wrong token is reported; a valid one allows uploads, runs and downloads, also after a reload."""
    server, token = guarded
    page.goto(f"{server.base}/")
    page.wait_for_selector("#sign-in:not([hidden])")
    assert "token" in page.inner_text("#connection-error")
    assert page.evaluate("document.activeElement.id") == "token"
    assert faults(page) == []
    look(page, 390, "dark")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#connection-error:has-text('not known here')")
    assert faults(page) == []
    page.fill("#token", token)
    page.click("#sign-in button")
    page.wait_for_selector("#connection[data-state=open]")
    assert page.is_hidden("#sign-in")
    upload(page, SAMPLE)
    opened(page)
    assert pl.read_csv(saved(page, "CSV, as in the file"), null_values="").height == 344
    assert token not in page.url
    assert token not in page.evaluate("JSON.stringify(localStorage)")
    page.reload()
    page.wait_for_selector("#connection[data-state=open]")
    page.wait_for_selector("#files:has-text('penguins.csv')")
    creemson("token", "revoke", "ann", "--data-dir", server.data_dir)
    page.wait_for_selector("#sign-in:not([hidden])")
    assert "revoked" in page.inner_text("#connection-error")


def test_tabs_share_the_sign_in_and_the_sign_out(page, guarded):
    """A second tab asks the first for the token; signing out in one signs out both."""
    server, token = guarded
    page.goto(f"{server.base}/")
    page.fill("#token", token)
    page.keyboard.press("Enter")
    page.wait_for_selector("#connection[data-state=open]")
    other = page.context.new_page()
    other.goto(f"{server.base}/")
    other.wait_for_selector("#connection[data-state=open]")
    other.click("#sign-out")
    for one in (other, page):
        one.wait_for_selector("#sign-in:not([hidden])")
    other.close()
