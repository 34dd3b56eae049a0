"""Writes NDJSON, with values that polars does not write as people would, and numbers of JSON with their digits."""

from pathlib import Path

import polars as pl

from creemson.engine.export.csv import Written, with_texts
from creemson.engine.export.durations import duration_text
from creemson.engine.export.nested import within
from creemson.formats.columns import exactly

__all__ = ["sink_json_lines"]

MARK = "\x01\x02"
"""Stands at both ends of a number that is text until the line is written."""


def sink_json_lines(
    frame: pl.LazyFrame, target: Path, written: Written, texts: Path | None, *, name: str, rows: int
) -> pl.LazyFrame:
    """Return the sink of an output as NDJSON.

    Args:
        frame: The values.
        target: Path to write to.
        written: How the original is written; numbers of JSON keep their digits.
        texts: Path of the texts; None if there are none.
        name: The output's name in messages.
        rows: Number of rows.

    Raises:
        ProcessingError: ``file_not_found``: the texts are gone, or not those of this output.
    """
    values = _writable(frame)
    if not written.is_json:
        return values.sink_ndjson(target, lazy=True)
    schema = values.collect_schema()
    exact = with_texts(values, texts, name, rows) if written.has_texts else values
    numbers = [
        column
        for column, dtype in exact.collect_schema().items()
        if dtype.is_decimal() or (dtype == pl.String and schema[column] != dtype)
    ]
    if not numbers:
        return values.sink_ndjson(target, lazy=True)
    marked = [
        pl.concat_str(pl.lit(MARK), exactly(column).cast(pl.String), pl.lit(MARK)).alias(column)
        for column in numbers
    ]
    line = pl.struct(pl.all()).struct.json_encode()
    mark = "".join(f"\\\\u{ord(character):04x}" for character in MARK)
    unmarked = line.str.replace_all(f'"{mark}([-+.0-9eE]+){mark}"', "${1}")
    return (
        exact.with_columns(marked)
        .select(unmarked.alias("line"))
        .sink_csv(target, include_header=False, quote_style="never", lazy=True)
    )


def _writable(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Write bytes, which polars refuses, and durations as text, also within lists and structs."""
    changes = {name: within(exactly(name), dtype, _text_of) for name, dtype in frame.collect_schema().items()}
    texts = [changed.alias(name) for name, changed in changes.items() if changed is not None]
    return frame.with_columns(texts) if texts else frame


def _text_of(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if isinstance(dtype, pl.Duration):
        return duration_text(column, dtype)
    return column.bin.encode("base64") if dtype == pl.Binary else None
