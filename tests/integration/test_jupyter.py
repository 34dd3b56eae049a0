"""The client in a notebook: a real kernel, driven the way Jupyter does it."""

import warnings

import pytest

from tests.servers import SAMPLE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the libraries' own warnings
    import nbformat
    from nbclient import NotebookClient

CODE = f"""
import creemson
result = creemson.process({str(SAMPLE)!r}, columns=["species", "year"], limit=3)
result.frame()
"""
SHOWN = "result"
FAILS = "creemson.process('nowhere.csv')"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_shows_progress_and_plain_errors(tmp_path):
    """The kernel has its own event loop; progress is shown and updated in the cell; errors are plain."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(CODE),
            nbformat.v4.new_code_cell(SHOWN),
            nbformat.v4.new_code_cell(FAILS, metadata={"tags": ["raises-exception"]}),
        ]
    )
    client = NotebookClient(
        notebook,
        timeout=300,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path}},
    )
    client.execute()
    good, result, bad = notebook.cells
    [output] = result.outputs
    assert "<td>Adelie</td>" in output["data"]["text/html"]
    assert "3 rows × 2 columns" in output["data"]["text/html"]
    shown = [output for output in good.outputs if output.output_type == "display_data"]
    assert "done" in shown[0]["data"]["text/html"]  # the first display is updated in place
    [table] = [output for output in good.outputs if output.output_type == "execute_result"]
    assert "Adelie" in table["data"]["text/plain"]
    [error] = [output for output in bad.outputs if output.output_type == "error"]
    assert error["ename"] == "ProcessingError"
    assert any("failed" in output["data"]["text/html"] for output in bad.outputs if "data" in output)
