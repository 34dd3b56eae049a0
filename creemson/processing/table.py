"""What every way to open a file gives: a table that can be read."""

from collections.abc import Callable

import attrs
import polars as pl

from creemson.processing.formats import Sniffed
from creemson.processing.issues import Report
from creemson.wire.messages import Reading

__all__ = ["Table"]


@attrs.frozen
class Table:
    """A file that can be read.

    Attributes:
        name: what to call it in messages.
        schema: its columns and their types.
        readings: ways to read it, the fastest first; each further one is for where the one before fails.
        sniffed: what it is.
        rows: how many it has, where its own metadata says so.
        row_bytes: bytes of the file for each row, as far as the sample shows; 0 where ``rows`` is known.
        small: what the first reading gives, where the file is so small that it is in memory already.
        reading: how it is read, as clients are told.
        report: what had to be mended so far; reading the table adds to it.
    """

    name: str
    schema: pl.Schema
    readings: tuple[Callable[[], pl.LazyFrame], ...]
    sniffed: Sniffed
    rows: int | None
    row_bytes: float
    small: pl.DataFrame | None = None
    reading: Reading | None = None
    report: Report = attrs.field(factory=Report)
