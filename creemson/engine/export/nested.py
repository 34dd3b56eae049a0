"""Writes values with parts as JSON text, for formats whose cells have no parts."""

from typing import Any

import orjson
import polars as pl

from creemson.engine.export.durations import duration_text
from creemson.engine.values import to_json
from creemson.formats.columns import exactly
from creemson.formats.nested import within

__all__ = ["json_values", "nested_to_json"]


def nested_to_json(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Write lists and structs as JSON text, and bytes in base64, because CSV and Excel do not support them."""
    nested = [
        exactly(name).bin.encode("base64") if dtype == pl.Binary else _json_text(name, dtype)
        for name, dtype in frame.collect_schema().items()
        if dtype.is_nested() or dtype == pl.Binary
    ]
    return frame.with_columns(nested) if nested else frame


def _json_text(name: str, dtype: pl.DataType) -> pl.Expr:
    column = exactly(name)
    if isinstance(dtype, pl.Array):  # polars passes such a value as an object without methods
        dtype = pl.List(dtype.inner)
        column = column.cast(dtype)
    return json_values(column, dtype).map_elements(_json, return_dtype=pl.String).alias(name)


def _json(value: Any) -> str:
    return orjson.dumps(to_json(value)).decode()


def json_values(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Write, also within lists and structs, what Python would cut or cannot represent, as a CSV shows it.

    Python has times with six digits and years from 1 to 9999, and fractions of double precision, of which the nearest
    one to 0.1 in single precision has 17 digits.

    Args:
        column: A column of any type.
        dtype: Its type.

    Returns:
        The column, perhaps without its name.
    """
    changed = within(column, dtype, _json_value)
    return column if changed is None else changed


def _json_value(column: pl.Expr, dtype: Any) -> pl.Expr | None:
    match dtype:
        case pl.Float32():
            return column.cast(pl.String).cast(pl.Float64)
        case pl.Duration():
            return duration_text(column, dtype)
        case pl.Date():
            return column.dt.to_string("%Y-%m-%d")
        case pl.Time():
            return column.dt.to_string("%H:%M:%S%.f")
        case pl.Datetime():
            return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
        case _:
            return None
