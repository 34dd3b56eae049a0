"""Writes NDJSON, with values that polars does not write as people would, and numbers of JSON with their digits."""

from pathlib import Path

import polars as pl

from creemson.engine.export.csv import Written, with_texts
from creemson.engine.export.durations import duration_text
from creemson.engine.sinks import sink_to
from creemson.formats.nested import changes

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
        return sink_to(target, values.sink_ndjson)
    schema = values.collect_schema()
    exact = with_texts(values, texts, name, rows) if written.has_texts else values
    numbers = [
        column
        for column, dtype in exact.collect_schema().items()
        if dtype.is_decimal() or (dtype == pl.String and schema[column] != dtype)
    ]
    if not numbers:
        return sink_to(target, values.sink_ndjson)
    marked = changes(
        dict.fromkeys(numbers, pl.String()),
        lambda column, _: pl.concat_str(pl.lit(MARK), column.cast(pl.String), pl.lit(MARK)),
    )
    line = pl.struct(pl.all()).struct.json_encode()
    mark = "".join(f"\\\\u{ord(character):04x}" for character in MARK)
    unmarked = line.str.replace_all(f'"{mark}([-+.0-9eE]+){mark}"', "${1}")
    lines = exact.with_columns(marked.values()).select(unmarked.alias("line"))
    return sink_to(target, lines.sink_csv, include_header=False, quote_style="never")


def _writable(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Write bytes, which polars refuses, durations and datetimes as text, also within lists and structs."""
    return frame.with_columns(changes(frame.collect_schema(), _text_of).values())


def _text_of(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    match dtype:
        case pl.Duration():
            return duration_text(column, dtype)
        case pl.Datetime():  # polars writes those without a time zone with a blank, which is not ISO 8601
            return None if dtype.time_zone else column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
        case pl.Binary():
            return column.bin.encode("base64")
        case _:
            return None
