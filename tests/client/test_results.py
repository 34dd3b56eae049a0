"""Results in Python: other libraries read them, notebooks show them, and they are iterated over in windows."""

import datetime
import io

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import creemson
from creemson.errors import ProcessingError
from tests.servers import SAMPLE

CONTENT = b"day,name,n\n2024-02-13,<b>Zo\xc3\xab</b>,1\n2024-02-14,,2\n2024-02-15,Ada,\n"


@pytest.fixture(scope="module")
def client(server):
    with creemson.Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def result(client):
    return client.process(CONTENT, progress=False)


def test_libraries_read_a_result_as_it_is(result):
    """DuckDB, pyarrow, pandas and polars use Arrow's PyCapsule interface; no copy is written in between."""
    assert duckdb.sql("select n, name from result where day > '2024-02-13' order by n").fetchall() == [
        (2, None),
        (None, "Ada"),
    ]
    table = pa.table(result)
    assert (table.num_rows, table.column_names) == (3, ["day", "name", "n"])
    assert pl.DataFrame(result).equals(result.frame())
    assert pd.DataFrame.from_arrow(result)["n"].sum() == 3
    frame = result.to_pandas()
    assert (frame.shape, list(frame.columns)) == ((3, 3), ["day", "name", "n"])


def test_missing_pandas_is_told_with_what_to_install(result, monkeypatch):
    """Neither pandas nor pyarrow is a requirement of Creemson."""

    def fail(_):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(pl.DataFrame, "to_pandas", fail)
    with pytest.raises(ImportError, match="pip install pandas pyarrow") as caught:
        result.to_pandas()
    assert caught.value.name == "pyarrow"


def test_export_to_arrow_shares_the_memory_of_the_frame(result, monkeypatch):
    """Two exports of one frame have their numbers at the same address."""
    frame = result.frame()
    monkeypatch.setattr(result, "frame", lambda: frame)
    one, other = (pa.table(result)["n"].chunk(0).buffers()[1].address for _ in range(2))
    assert one == other


def test_rows_are_iterated_over_in_windows(client, monkeypatch):
    """As many requests as windows; an empty result is true, too."""
    result = client.process(SAMPLE, name="windows.csv", columns=["year", "species"], progress=False)
    monkeypatch.setattr("creemson.client.sync.result.MAX_ROWS", 100)
    limits = []
    window = result._window
    monkeypatch.setattr(
        result, "_window", lambda offset, limit: limits.append(offset) or window(offset, limit)
    )
    rows = list(result)
    assert (len(rows), len(result), rows[0], limits) == (344, 344, (2007, "Adelie"), [0, 100, 200, 300])
    empty = client.process("windows.csv", where=[("year", ">", 3000)], progress=False)
    assert (list(empty), bool(empty)) == ([], True)


def test_notebook_gets_the_first_rows_as_html(client, result):
    """Cells and names are escaped; further rows are counted."""
    html = result._repr_html_()
    assert "&lt;b&gt;Zoë&lt;/b&gt;" in html
    assert "3 rows × 3 columns" in html
    assert html.count("<tr>") == 4
    assert '<td style="opacity: 0.5">null</td>' in html
    many = client.process(SAMPLE, name="html.csv", preview=2, progress=False)._repr_html_()
    assert "344 rows × 8 columns; the first 10 are shown" in many
    assert many.count("<tr>") == 11


def test_result_is_saved_as_tsv_and_into_streams(result, tmp_path):
    """In a format that is given by name, or by the ending of a path."""
    stream = io.BytesIO()
    result.save(stream, format="tsv")
    expected = CONTENT.replace(b",", b"\t")
    assert stream.getvalue() == expected
    result.save(str(tmp_path / "out.tsv"))
    assert (tmp_path / "out.tsv").read_bytes() == expected
    result.save(tmp_path / "data", format="parquet")
    assert pl.read_parquet(tmp_path / "data")["day"].to_list()[0] == datetime.date(2024, 2, 13)
    for (target, kind), words in (
        ((io.BytesIO(), None), "pass format="),
        ((io.BytesIO(), "doc"), "There is no format 'doc'"),
    ):
        with pytest.raises(ProcessingError, match=words):
            result.save(target, format=kind)


def test_rejects_are_saved(client, tmp_path):
    """The file of all issues; without issues, none is written."""
    messy = client.process(b"id;x\n1;2,5\n2\n3;4,5\n", progress=False)
    assert messy.save_rejects(tmp_path / "rejects.csv") is True
    assert "has 1 of 2 cells" in (tmp_path / "rejects.csv").read_text()
    clean = client.process(b"id;x\n1;2,5\n", progress=False)
    assert clean.save_rejects(tmp_path / "none.csv") is False
    assert not (tmp_path / "none.csv").exists()
