"""In a notebook: a real kernel, driven as Jupyter drives it."""

import warnings

import pytest

from tests.servers import SAMPLE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries, about themselves
    import nbformat
    from nbclient import NotebookClient

CODE = f"""
import creemson
result = creemson.process({str(SAMPLE)!r}, columns=["species", "year"], limit=3)
result.frame()
"""
FAILS = "creemson.process('nowhere.csv')"


@pytest.mark.filterwarnings("ignore")
def test_a_notebook(tmp_path):
    """The kernel has an event loop of its own; progress is shown in the cell, and updated; errors are plain."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(CODE),
            nbformat.v4.new_code_cell(FAILS, metadata={"tags": ["raises-exception"]}),
        ]
    )
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    good, bad = notebook.cells
    shown = [output for output in good.outputs if output.output_type == "display_data"]
    assert "done" in shown[0]["data"]["text/html"]  # what was displayed first is what is updated
    [table] = [output for output in good.outputs if output.output_type == "execute_result"]
    assert "Adelie" in table["data"]["text/plain"]
    [error] = [output for output in bad.outputs if output.output_type == "error"]
    assert error["ename"] == "ProcessingError"
    assert any("failed" in output["data"]["text/html"] for output in bad.outputs if "data" in output)
