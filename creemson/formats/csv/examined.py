"""What is found out about a CSV before a query is carried out; remembered for the last small files.

For a file of a thousand rows, this takes three quarters of a job's CPU time, and another job on the same file would
find out the same. What is found out about a column is remembered with it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import attrs
import polars as pl

from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.sample import Sample
from creemson.formats.csv.values.columns import SampleColumns
from creemson.formats.imported.record import Record, Told
from creemson.formats.report import Report

__all__ = ["Examined", "KnownFiles"]

MAX_BYTES = 16 << 20
"""Maximum number of bytes that what is remembered takes."""
COPIES = 4
"""How many times the bytes of a file are remembered, about: as read, repaired, and as samples."""
VALUE_BYTES = 8
"""Bytes of the value of a cell, about; most columns of values are numbers or times."""
MAX_TOLD = 1000
"""Maximum number of issues of a file that is remembered."""


@attrs.frozen
class Examined:
    """What is found out about a CSV.

    Attributes:
        dialect: How it is written.
        sample: Its first rows.
        columns: Their columns.
        is_whole: Whether these are all rows.
        is_skipped: Whether more lines are skipped than the head of the file has.
    """

    dialect: Dialect
    sample: Sample
    columns: SampleColumns
    is_whole: bool
    is_skipped: bool


class KnownFiles:
    """Remembers what was found out about the last small files, by their content: no file is taken for another one."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, tuple[Examined, list[Told], int]] = OrderedDict()
        self._bytes = 0

    def examined(
        self, content: bytes, how: Hashable, examine: Callable[[Report], Examined], report: Report
    ) -> Examined:
        """Return what is known about a file, or find it out.

        Args:
            content: All bytes of the file.
            how: What else decides how it is read.
            examine: Finds it out; reports what is repaired.
            report: Receives what is repaired, each time.
        """
        key = (content, how)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            examined, told, _ = known
        else:
            record = Record(MAX_TOLD)
            examined = examine(record)
            told = record.told
            if not record.is_complete:
                return examine(report)
            size = COPIES * len(content) + _size_of(examined.columns.texts)
            self._known[key] = examined, told, size
            self._bytes += size
            while self._bytes > MAX_BYTES:
                self._bytes -= self._known.popitem(last=False)[1][2]
        for issue in told:
            report.add(**issue._asdict())
        return examined


def _size_of(texts: pl.DataFrame) -> int:
    """The bytes that cells take as text, and the most that they take as values."""
    return int(texts.estimated_size()) + VALUE_BYTES * texts.height * texts.width
