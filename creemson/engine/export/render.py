"""Converts stored outputs to other formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from creemson.engine.export.csv import Written, as_values, as_written, header_line, written_of
from creemson.engine.export.ndjson import sink_json_lines
from creemson.engine.progress import Progress, ProgressMeter, sink
from creemson.engine.sinks import sink_to
from creemson.formats.nested import changes
from creemson.formats.open import faults, open_table

__all__ = ["render"]


def render(
    source: Path,
    target: Path,
    format: str,  # noqa: A002
    on_progress: Callable[[Progress], None],
    *,
    name: str,
    texts: Path | None = None,
) -> None:
    """Write a stored output in another format.

    Args:
        source: Path of the stored output, a Parquet file.
        target: Path to write to.
        format: csv, normalized.csv, xlsx, ndjson, arrow or parquet.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        name: The output's name in messages.
        texts: Path of its texts, if it has any; see :mod:`creemson.engine.export.csv`.

    Raises:
        ProcessingError: ``file_not_found``: there are no texts, and the output needs them.
        ProcessingError: ``unsupported_format``: the output is too large for an Excel sheet.
        OSError: The disk failed.
    """
    table = open_table(source, name)
    meter = ProgressMeter(table, source, on_progress, after="writing")
    frame = table.readings[0](list)
    with faults(name, source), meter.running():
        tapped = frame.map_batches(meter.tap, streamable=True)
        # In a table of one column, a null would be an empty line, which readers skip.
        null = '""' if len(table.schema) == 1 else ""
        match format:
            case "csv":
                written = written_of(source) or Written()
                cells = as_written(tapped, written, texts, name, table.rows or 0)
                header = header_line(list(table.schema), written.headers)
                end = sink_to(target, cells.sink_csv, head=header, null_value=null, include_header=False)
                sink([end], meter)
            case "normalized.csv":
                sink([sink_to(target, as_values(tapped).sink_csv, null_value=null)], meter)
            case "ndjson":
                written = written_of(source) or Written()
                rows = table.rows or 0
                sink([sink_json_lines(tapped, target, written, texts, name=name, rows=rows)], meter)
            case "arrow":
                # Arrow's newer types of text, within lists, and 16 bits are not read by pandas and DuckDB.
                wide = tapped.with_columns(changes(table.schema, _without_16_bits).values())
                sink([sink_to(target, wide.sink_ipc, compat_level=pl.CompatLevel.oldest())], meter)
            case "parquet":
                sink([sink_to(target, tapped.sink_parquet)], meter)
            case "xlsx":
                # Imported when needed, because it would delay the start of each worker.
                from creemson.engine.export.xlsx.sheet import write_xlsx  # noqa: PLC0415

                write_xlsx(frame, target, table.rows or 0, meter)
            case _:
                raise ValueError(format)
    meter.finish()


def _without_16_bits(column: pl.Expr, dtype: Any) -> pl.Expr | None:
    return column.cast(pl.Float32) if dtype == pl.Float16 else None
