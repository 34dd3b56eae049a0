"""A page of another origin, as in the documentation."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers import SAMPLE, serving

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "use-from-a-web-page.md"


@pytest.fixture
def pages():
    """An HTTP server for pages; each test sets its content."""

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


@pytest.mark.slow
def test_guide_example_on_another_origin_runs_as_printed(page, pages, tmp_path):
    """The HTML of the guide runs unchanged, except for the port."""
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
