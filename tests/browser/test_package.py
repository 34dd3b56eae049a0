"""The packed package in a page of another origin, from its `node_modules`."""

import functools
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests import node
from tests.page.test_guide import BLOCKS
from tests.servers import SAMPLE, serving

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script type="importmap">{ "imports": { "creemson": "./node_modules/creemson/creemson.js" } }</script>
<input type="file" id="file">
<script type="module">
  import { connect } from "creemson";
  const client = connect("SERVER");
  globalThis.run = async () => {
    const [file] = document.querySelector("#file").files;
    const { filename } = await client.upload(file, { overwrite: true }).promise;
    const { output_data: output } = await client.process({ filename, selectedColumns: ["species"], limit: 2 }).promise;
    const blob = await client.download(output.final_filename_csv).promise;
    SAVE
    return [await blob.text(), (await client.rows(filename, 0, 1, { where: [["year", ">", 2007n]] })).rows.length];
  };
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path):
    """An HTTP server for an empty project with the package; its page is the project's index.html."""
    project = node.project(tmp_path / "npm")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=project)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield project, f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_package_on_another_origin_uploads_processes_and_saves(page, site, tmp_path):
    """Upload, job, download and the guide's way to save a file; a BigInt is sent."""
    page.expected_errors.append("ERR_CONNECTION_REFUSED")  # the server ends before the page
    project, origin = site
    (save,) = (text for _, info, text in BLOCKS if info == "browser")
    with serving(tmp_path / "data", "--set", f'server.allowed_origins=["{origin}"]') as server:
        (project / "index.html").write_text(PAGE.replace("SERVER", server.base).replace("SAVE", save))
        page.goto(origin)
        page.wait_for_load_state("networkidle")
        page.set_input_files("#file", str(SAMPLE))
        with page.expect_download() as download:
            text, rows = page.evaluate("run()")
        assert re.split("\n", text)[:3] == ["species", "Adelie", "Adelie"]
        assert rows == 1
        assert download.value.suggested_filename == "mass.csv"
        assert download.value.path().read_text() == text
