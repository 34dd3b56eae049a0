"""Writes tables in memory as Parquet, the format in which they are uploaded."""

from typing import Any, BinaryIO

from creemson.errors import ProcessingError

__all__ = ["write_table"]


def write_table(table: Any, stream: BinaryIO) -> None:
    """Write a table as Parquet; this blocks.

    Args:
        table: a lazy table of polars, or any object with Arrow's PyCapsule interface.
        stream: takes the bytes.

    Raises:
        ProcessingError: ``unreadable_file``: the table cannot be converted.
    """
    import polars as pl  # noqa: PLC0415 - the import takes half a second; only tables need it

    try:
        if hasattr(table, "sink_parquet"):
            table.sink_parquet(stream)
        else:
            pl.DataFrame(table).write_parquet(stream)
    except Exception as error:  # of any library
        kind = type(table)
        raise ProcessingError(
            "unreadable_file",
            f"This {kind.__module__}.{kind.__qualname__} cannot be written as Parquet: {error}",
        ) from error
