"""Stored outputs in other formats."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from creemson.errors import ProcessingError
from creemson.processing.profile import cell, sayable
from creemson.processing.progress import Meter, Tick, sink
from creemson.processing.tables import exactly, faults, open_table

__all__ = ["render"]

FORMS = "creemson.forms"
"""Under which a stored output says how the file that it was made from writes its dates and times."""
XLSX_ROWS = 1_048_575
"""Rows that an Excel sheet has below its header."""
XLSX_COLUMNS = 16_384


def render(source: Path, target: Path, format: str, tick: Callable[[Tick], None]) -> None:  # noqa: A002
    """Write a stored output in another format.

    Args:
        source: path of the Parquet file.
        target: path to write to.
        format: csv, xlsx, ndjson, arrow or parquet.
        tick: as for :func:`run`.

    Raises:
        ProcessingError: ``unsupported_format``: Excel has no room for so many rows.
        OSError: the disk failed.
    """
    table = open_table(source, source.name)
    meter = Meter(table, tick, after="writing")
    frame = table.readings[0](list)
    with faults(source.name, source), meter.running():
        if format == "xlsx":
            _write_excel(frame, target, table.rows or 0)
        else:
            # In a table of one column, an empty line would be taken for no row at all.
            null = '""' if len(table.schema) == 1 else ""
            tapped = frame.map_batches(meter.tap, streamable=True)
            sinks = {
                "csv": lambda: _csv(tapped, _forms(source)).sink_csv(target, lazy=True, null_value=null),
                "ndjson": lambda: tapped.sink_ndjson(target, lazy=True),
                "arrow": lambda: tapped.sink_ipc(target, lazy=True),
                "parquet": lambda: tapped.sink_parquet(target, lazy=True),
            }
            sink(sinks[format](), meter)
    meter.finish()


def _write_excel(frame: pl.LazyFrame, target: Path, rows: int) -> None:
    schema = frame.collect_schema()
    if rows > XLSX_ROWS or len(schema) > XLSX_COLUMNS:
        raise ProcessingError(
            "unsupported_format",
            f"The output has {rows:,} rows and {len(schema):,} columns, and an Excel sheet holds {XLSX_ROWS:,} and "
            f"{XLSX_COLUMNS:,}. Take CSV or Parquet, or a limit.",
        )
    # Excel knows neither time zones (their clock's time remains) nor days before the year 1.
    dates = [
        sayable(exactly(name), dtype).dt.replace_time_zone(None).alias(name)
        if isinstance(dtype, pl.Datetime)
        else sayable(exactly(name), dtype).alias(name)
        for name, dtype in schema.items()
        if dtype == pl.Date or isinstance(dtype, pl.Datetime)
    ]
    content = _flat(frame.with_columns(dates)).collect()
    content.columns = _excel_names(content.columns)
    with target.open("wb") as stream:  # by its name, polars would add an extension
        content.write_excel(stream)


def _excel_names(names: Sequence[str]) -> list[str]:
    """Excel takes names for equal that differ in case, and then shows no table at all."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        number, new = 1, name
        while new.lower() in seen:
            number += 1
            new = f"{name}_{number}"
        seen.add(new.lower())
        distinct.append(new)
    return distinct


def _flat(frame: pl.LazyFrame) -> pl.LazyFrame:
    """CSV and Excel have no lists, structs or bytes: they are written as JSON text."""
    nested = [
        exactly(name).map_elements(_json, return_dtype=pl.String)
        for name, dtype in frame.collect_schema().items()
        if dtype.is_nested() or dtype == pl.Binary
    ]
    return frame.with_columns(nested) if nested else frame


def _forms(source: Path) -> dict[str, str]:
    """How dates and times were written where a stored output comes from, by column."""
    forms: dict[str, str] = orjson.loads(pl.read_parquet_metadata(source).get(FORMS, "{}"))
    return forms


def _csv(frame: pl.LazyFrame, forms: Mapping[str, str]) -> pl.LazyFrame:
    """Nor has CSV types: times are written as they were in the file that they come from, or as ISO 8601.

    Without idle zeros; and durations in seconds.
    """
    texts = []
    for name, dtype in frame.collect_schema().items():
        form = forms.get(name, "")
        if dtype.is_temporal() and form and "z" not in form and ("%Y" in form) == (dtype != pl.Time):
            texts.append(exactly(name).dt.to_string(form))
        elif isinstance(dtype, pl.Duration):
            texts.append(exactly(name).dt.total_seconds(fractional=True))
        elif isinstance(dtype, pl.Datetime):
            zone = {None: "", "UTC": "Z"}.get(dtype.time_zone, "%:z")
            texts.append(exactly(name).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}"))
    return _flat(frame.with_columns(texts))


def _json(value: Any) -> str:
    return orjson.dumps(cell(value.to_list() if isinstance(value, pl.Series) else value)).decode()
