"""Splits the first lines of a CSV into records."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from creemson.formats.csv.layout.cells import TYPED
from creemson.formats.csv.records import split_alone, split_record

__all__ = ["DELIMITERS", "MAX_RECORD_LINES", "Record", "mode", "records_of", "repaired_cells", "unescape"]

Record: TypeAlias = tuple[list[str], int, int]
"""The cells of a record, the index of its first line, and its number of lines."""
DELIMITERS = (",", ";", "\t", "|")
"""Common delimiters."""
MAX_RECORD_LINES = 1_000
"""Maximum number of lines of a quoted cell."""


def records_of(lines: Sequence[str], delimiter: str, quote: str, escape: str) -> Iterator[Record]:
    """Yield the cells of each record that is not empty, the index of its first line, and its number of lines."""
    at, count = 0, len(lines)
    while at < count:
        line = lines[at]
        height = 1
        if not line.strip():
            at += 1
            continue
        if escape:
            line = unescape(line, quote, escape)
        if not quote or quote not in line:
            yield line.split(delimiter), at, 1
            at += 1
            continue
        record = split_record(line, delimiter, quote, -1)
        if record.is_open:
            quotes = line.count(quote)
            for extra_lines in range(1, min(MAX_RECORD_LINES, count - at)):
                quotes += unescape(lines[at + extra_lines], quote, escape).count(quote)
                if quotes % 2:
                    continue
                joined = unescape("\n".join(lines[at : at + extra_lines + 1]), quote, escape)
                longer = split_record(joined, delimiter, quote, -1)
                if longer.is_proper or longer.is_spaced:
                    record, height = longer, extra_lines + 1
                break
            if record.is_open:
                record = split_alone(line, delimiter, quote, -1)
        yield record.cells, at, height
        at += height


def mode(records: Sequence[Record]) -> tuple[int, int]:
    """The most frequent number of cells (the statistical mode), and the number of records that have it."""
    counts = Counter([len(cells) for cells, _, _ in records])
    return max(counts.items(), key=lambda item: (item[1], item[0]))


def repaired_cells(text: str, delimiter: str, quote: str, width: int) -> list[str] | None:
    """Return the cells of a record with stray quotes or a delimiter unlike the others'; None if it has neither."""
    if quote and quote in text:
        cells = split_record(text, delimiter, quote, width).cells
        if len(cells) == width:
            return cells
    for other in (*DELIMITERS, " "):
        if other != delimiter and 2 < width <= text.count(other) + 1 < 4 * width:
            record = split_record(text, other, quote, width)
            # A sentence with as many words is no row or header: of a row, a third are numbers and the like.
            values = sum(1 for cell in record.cells if TYPED.fullmatch(cell))
            if len(record.cells) == width and not record.is_open and (other != " " or values * 3 >= width):
                return record.cells
    return None


def unescape(text: str, quote: str, escape: str) -> str:
    r"""Replace escaped quotes by doubled ones.

    >>> unescape(r'"a \"b\" c","\\"', '"', "\\")
    '"a ""b"" c","\\"'
    """
    if not escape or escape not in text:
        return text
    # No decoded text contains a lone surrogate.
    return text.replace(escape * 2, "\udcd1").replace(escape + quote, quote * 2).replace("\udcd1", escape)
