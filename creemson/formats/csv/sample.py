"""Repairs and reads the first rows of a CSV, and says how polars reads any of its rows."""

from collections.abc import Sequence
from typing import Any

import attrs
import polars as pl

from creemson.formats.columns import unused_name
from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.lines import Lines
from creemson.formats.csv.repair import repair, repaired
from creemson.formats.report import Report

__all__ = ["Sample", "names_of", "scan_options"]


@attrs.frozen
class Sample:
    """The first rows of a file.

    Attributes:
        head: The bytes of the file that contain the rows.
        text: The repaired rows, in UTF-8.
        rows: Number of rows.
        lines: The lines of the file in which the rows begin.
        needs_repair: Whether polars needs the repaired rows; it then needs the rest of the file repaired, too.
    """

    head: bytes
    text: bytes
    rows: int
    lines: Lines
    needs_repair: bool

    @classmethod
    def of(cls, head: bytes, dialect: Dialect, report: Report, *, is_whole: bool) -> "Sample":
        """Repair the first bytes of a file."""
        lines = Lines()
        chunks = list(repair((head,), dialect, report, lines, is_whole=is_whole))
        text = "".join(chunk.text for chunk in chunks).encode()
        # Repairing may change more than it reports: it leaves out empty lines silently.
        start = 0
        for _ in range(dialect.skip_lines + dialect.header_lines):
            start = head.find(b"\n", start) + 1
        rows = head[start:]
        # Line ends inside cells stay as they are, those of rows do not.
        read, plain = map(_with_line_feeds, (text, rows))
        needs_repair = bool(report) or not dialect.is_plain or not plain.startswith(read.rstrip(b"\n"))
        needs_repair |= is_whole and len(plain.rstrip(b"\n")) != len(read.rstrip(b"\n"))  # notes at the end
        return cls(head, text, sum(chunk.rows for chunk in chunks), lines, needs_repair)

    def scan(self, dialect: Dialect, null_words: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the cells as text, with null in place of the given words."""
        return pl.scan_csv(self.text, **scan_options(repaired(dialect), null_words)).collect()


def _with_line_feeds(text: bytes) -> bytes:
    # To find one character takes a tenth of the time of finding two.
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text


def scan_options(dialect: Dialect, null_words: Sequence[str] | None = None) -> dict[str, Any]:
    """The arguments with which polars reads all cells as text, with null in place of the given words."""
    return {
        "separator": dialect.delimiter,
        "quote_char": dialect.quote or None,
        "has_header": False,
        "skip_lines": dialect.skip_lines + dialect.header_lines,
        "schema": dict.fromkeys(names_of(dialect), pl.String()),
        "null_values": null_words and list(null_words),
        "missing_columns": "insert",
        "extra_columns": "ignore",
        "glob": False,
    }


def names_of(dialect: Dialect) -> list[str]:
    """The names of the columns, and of one for the first surplus cell."""
    return [*dialect.names, unused_name("surplus", dialect.names)]
