"""Any table, written in any dialect, is read back as it was."""

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.processing.engine import run
from creemson.wire.messages import Options, Query

cells = st.text(st.sampled_from("ab ;,|'\"\n1.ä"), min_size=1, max_size=8)


@settings(max_examples=100)
@given(
    rows=st.integers(2, 4).flatmap(
        lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quote=st.sampled_from(['"', "'"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "windows-1252", "utf-16-le"]),
    last=st.booleans(),
)
def test_told_everything(rows, delimiter, quote, end, encoding, last):
    """With options for all of the dialect, every cell comes back, whatever is in it."""
    names = [f"c{index}" for index in range(len(rows[0]))]
    lines = [
        delimiter.join(quote + cell.replace(quote, quote * 2) + quote for cell in row)
        for row in [names, *rows]
    ]
    options = Options(
        delimiter=delimiter,
        quote=quote,
        escape="",
        encoding=encoding,
        header=1,
        skip_rows=0,
        types=dict.fromkeys(names, "string"),
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "t.csv"), Path(folder, "out.parquet")
        source.write_bytes((end.join(lines) + (end if last else "")).encode(encoding))
        run(Query(filename="t.csv", options=options), source, target, lambda tick: None)
        frame = pl.read_parquet(target)
    assert frame.columns == names
    assert [list(row) for row in frame.rows()] == rows
