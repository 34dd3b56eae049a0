"""A page of another origin, as the documentation shows it."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers import SAMPLE, serving

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "use-from-a-web-page.md"


@pytest.fixture
def pages():
    """A server of pages; a test sets what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(self.server.content.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_example_of_the_guide(page, pages, tmp_path):
    """It runs as printed, but for the ports."""
    page.expected_errors.append("ERR_CONNECTION_REFUSED")  # the server ends before the page
    origin = f"http://localhost:{pages.server_port}"
    with serving(tmp_path / "data", "--set", f'server.allowed_origins=["{origin}"]') as server:
        example = re.search(r"```html\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
        pages.content = (
            f"<!doctype html><link rel=icon href='data:,'>{example.replace('8000', str(server.port))}"
        )
        page.goto(origin)
        page.wait_for_load_state("networkidle")
        page.set_input_files("#file", str(SAMPLE))
        page.wait_for_selector("#out:has-text('8 columns, 344 rows')")
