"""Writes values with parts as JSON text, for formats whose cells have no parts."""

import datetime
from typing import Any

import orjson
import polars as pl

from creemson.engine.values import to_json
from creemson.formats.columns import exactly

__all__ = ["json_text", "nested_to_json"]


def nested_to_json(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Write lists and structs as JSON text, and bytes in base64, because CSV and Excel do not support them."""
    nested = [
        exactly(name).bin.encode("base64") if dtype == pl.Binary else json_text(name, dtype)
        for name, dtype in frame.collect_schema().items()
        if dtype.is_nested() or dtype == pl.Binary
    ]
    return frame.with_columns(nested) if nested else frame


def json_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Write the values of a column as JSON; dates, times and durations as in a CSV.

    Args:
        name: The column.
        dtype: Its type.
    """
    column = exactly(name)
    if isinstance(dtype, pl.Array):  # polars passes such a value as an object without methods
        column = column.arr.to_list()
    return column.map_elements(_json, return_dtype=pl.String)


def _json(value: Any) -> str:
    return orjson.dumps(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, with durations as text."""
    match value:
        case pl.Series():
            return [_plain(item) for item in value.to_list()]
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case datetime.timedelta():
            seconds, fraction = divmod(abs(value), datetime.timedelta(seconds=1))
            end = f".{fraction.microseconds:06}".rstrip("0") if fraction else ""
            sign = "-" if value < datetime.timedelta(0) else ""
            return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}{end}"
        case _:
            return to_json(value)
