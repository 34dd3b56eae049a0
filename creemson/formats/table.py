"""What every way to open a file gives: a table that can be read."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import polars as pl

from creemson.processing.formats import Sniffed
from creemson.processing.issues import Report
from creemson.processing.naming import exactly
from creemson.wire.messages import Reading

__all__ = ["Needed", "Table", "reading_of"]

Needed: TypeAlias = Callable[[pl.Schema], Sequence[str]]


@attrs.frozen
class Table:
    """A file that can be read.

    Attributes:
        name: what to call it in messages.
        schema: its columns and their types.
        readings: ways to read it, the fastest first; each further one is for where the one before fails. They are
            given what tells which columns are needed, of those that there are.
        sniffed: what it is.
        rows: how many it has, where its own metadata says so.
        row_bytes: bytes of the file for each row, as far as the sample shows; 0 where ``rows`` is known.
        small: what the first reading gives, where the file is so small that it is in memory already.
        check: raises ``Reread`` after a reading that is not to be believed.
        window: some rows, by offset and limit; None where a lazy frame gives them as well.
        forms: how the dates and times of its columns are written, for an output that is to look like its input.
        reading: how it is read, as clients are told.
        report: what had to be mended so far; reading the table adds to it.
    """

    name: str
    schema: pl.Schema
    readings: tuple[Callable[[Needed], pl.LazyFrame], ...]
    sniffed: Sniffed
    rows: int | None
    row_bytes: float
    small: pl.DataFrame | None = None
    check: Callable[[], None] = lambda: None
    window: Callable[[int, int], pl.DataFrame] | None = None
    forms: Callable[[], dict[str, str]] = dict
    reading: Callable[[], Reading] | None = None
    report: Report = attrs.field(factory=Report)


def reading_of(
    scan: Callable[[], pl.LazyFrame], *, again: Report | None = None
) -> Callable[[Needed], pl.LazyFrame]:
    """A reading, of a lazy frame of all columns.

    Args:
        scan: gives the frame.
        again: what an earlier reading has reported, which is forgotten.
    """

    def read(needed: Needed) -> pl.LazyFrame:
        if again is not None:
            again.clear()
        frame = scan()
        return frame.select(map(exactly, needed(frame.collect_schema())))

    return read
