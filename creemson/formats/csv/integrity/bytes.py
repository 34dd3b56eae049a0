"""Looks through the bytes of a CSV while polars reads it.

polars pads short rows silently, drops surplus cells and quotes that are not doubled, and treats NUL bytes as
characters.
"""

import codecs
import re
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import reduce
from operator import or_

import attrs
import polars as pl
from polars.exceptions import PanicException, PolarsError

from creemson.errors import ProcessingError
from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.file import CsvFile, count_lines
from creemson.formats.csv.values.controls import CONTROL_BYTES

__all__ = ["DelimiterCount", "DelimiterCounter"]

PIECE_BYTES = 1 << 21
"""Number of bytes that are looked through at once: for half of it, quotes take a third longer because of more calls of
polars, and four times as much takes longer because it does not fit into a processor's cache."""
MAX_CELL = 1 << 23
"""Number of bytes without the end of a row after which a file is no longer searched for quotes in quoted cells."""
MAX_DECOMPRESSED = 1 << 28
"""Number of decompressed bytes in which that is searched: decompressing alone takes a second for them."""


@attrs.frozen
class DelimiterCount:
    """What is counted in a file while it is read.

    Attributes:
        delimiters: Number of delimiters below the header, outside of quotes.
        has_marks: Whether the file contains NUL bytes, or a byte order mark behind its beginning.
        has_controls: Whether it contains control characters that stand for others.
        has_loose_quotes: Whether a quoted cell contains quotes that are not doubled: polars drops them.
    """

    delimiters: int
    has_marks: bool = False
    has_controls: bool = False
    has_loose_quotes: bool = False

    def fit(self, file: CsvFile, rows: int, count_rows: Callable[[], int]) -> bool:
        """Whether the number of delimiters is that of full rows.

        Args:
            file: The file in which they were counted.
            rows: Number of rows that were read.
            count_rows: Counts all rows of the file; called if a limit may have ended the reading early.
        """
        delimiters = file.dialect.width - 1 + file.dialect.trailing
        if self.delimiters == delimiters * rows:
            return True
        counted = count_rows()
        return counted > rows and self.delimiters == delimiters * counted


class DelimiterCounter(threading.Thread):
    """Counts in parallel with the reading, which does not use all processors; this adds 5 % to its time.

    Args:
        file: The file to count in.
        head: The first bytes of the file, which contain the header.
    """

    def __init__(self, file: CsvFile, head: bytes) -> None:
        super().__init__(daemon=True)
        self._file, self._head = file, head
        self._count = DelimiterCount(-1)
        self.start()

    def run(self) -> None:
        """Count; called by the thread."""
        # If this fails, the reading fails as well, or the file is repaired.
        with suppress(PolarsError, PanicException, OSError):
            dialect = self._file.dialect
            delimiters = count_lines(self._file, dialect.delimiter, dialect.quote)
            delimiters -= _delimiters_in_header(self._file, self._head)
            has_marks, has_controls, may_be_loose = _look_through(self._file)
            has_loose = may_be_loose and not has_marks and _has_loose_quotes(self._file)
            self._count = DelimiterCount(delimiters, has_marks, has_controls, has_loose)

    def result(self) -> DelimiterCount:
        """Wait for the count; if counting failed, it fits no number of rows."""
        self.join()
        return self._count


def _delimiters_in_header(file: CsvFile, head: bytes) -> int:
    """Count the delimiters above the first row."""
    dialect = file.dialect
    text = b"\n".join(head.split(b"\n", dialect.skip_lines + dialect.header_lines)[:-1])
    parts = text.split(dialect.quote.encode())[::2] if dialect.quote else [text]
    return sum(part.count(dialect.delimiter.encode()) for part in parts)


def _look_through(file: CsvFile) -> tuple[bool, bool, bool]:
    """Search for NUL bytes and late byte order marks, for control characters that stand for others, and for quotes.

    Of compressed files, :meth:`CellCheck.check_marks` sees the first two.

    Returns:
        Whether there are marks; if there are none, whether there are control characters, and whether quotes may be
        loose.
    """
    mark, has_controls, end = codecs.BOM_UTF8, False, b""
    quotes = _Quotes(file.dialect)
    is_plain, start, total = not file.source.compression, file.dialect.mark, 0
    if not is_plain and not quotes.may_be_there:
        return False, False, False
    # A file that is damaged, or expands to too much, is refused by whoever reads all of it.
    with suppress(ProcessingError), closing(file.blocks(PIECE_BYTES)) as pieces:
        for piece in pieces:
            if is_plain:  # for one character, this searches 15 GB/s
                border = end + piece[start : start + len(mark)]
                if piece.find(0, start) >= 0 or mark in border:
                    return True, False, False
                if piece.find(mark[0], start) >= 0 and piece.find(mark, start) >= 0:
                    return True, False, False
                if not has_controls and (0xC2 in piece or 0xC2 in end):
                    has_controls = any(map(CONTROL_BYTES.search, (piece, border)))
                end, start = (end + piece[1 - len(mark) :])[1 - len(mark) :], 0
            elif (total := total + len(piece)) > MAX_DECOMPRESSED:
                break
            quotes.add(piece)
            if not is_plain and quotes.may_be_loose:
                break
    return False, has_controls, quotes.may_be_loose


class _Quotes:
    """Whether something else than a delimiter or a line end follows each second quote, if it is not doubled.

    Comparing all bytes of a piece at once takes 0.3 ns a byte; splitting it at its quotes takes 1.2 where each line has
    two.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._quote = dialect.quote.encode()
        self._ends = self._quote + dialect.delimiter.encode()[:1] + b"\r\n"
        self._is_outside = True
        self._is_after_quote = False
        self.may_be_there, self.may_be_loose = bool(self._quote), False

    def add(self, piece: bytes) -> None:
        """Look through the next bytes of the file, unless some of those before are loose."""
        if not self.may_be_there or self.may_be_loose:
            return
        if self._is_after_quote and self._is_outside and piece[0] not in self._ends:
            self.may_be_loose = True
        self._is_after_quote = piece.endswith(self._quote)
        if self._quote not in piece:
            return
        content = pl.Series([piece]).cast(pl.List(pl.UInt8)).item()
        is_quote = content == self._quote[0]
        after = content.slice(1).filter(is_quote.head(-1)).gather_every(2, 1 if self._is_outside else 0)
        # Comparing four times takes half the time of is_in().
        if not reduce(or_, (after == end for end in self._ends)).all():
            self.may_be_loose = True
        self._is_outside ^= bool(is_quote.sum() % 2)


def _has_loose_quotes(file: CsvFile) -> bool:
    """Search quoted cells for quotes that are not doubled, such as those of ``"say "hi" now"``.

    Blocks with some take 4 ns a byte. Where a quoted cell ends with a delimiter, this may find one where there is none.
    """
    dialect, rest, total = file.dialect, b"", 0
    quote, (q, delimiter) = dialect.quote.encode(), map(re.escape, (dialect.quote, dialect.delimiter))
    # The Rust engine takes linear time, and a tenth of that of Python's.
    pattern = f"(?:^|[{delimiter}\n]){q}(?:[^{q}]|{q}{q})*{q}(?: *[^{delimiter}{q}\r\n ]| +{q})"
    # A file that is damaged, or expands to too much, is refused by whoever reads all of it.
    with suppress(ProcessingError), closing(file.blocks()) as pieces:
        for piece in pieces:
            total += len(piece)
            if file.source.compression and total > MAX_DECOMPRESSED:
                return False
            if not rest and quote not in piece:
                continue
            block = rest + piece
            end = _last_row_end(block, quote)
            if end < 0 and len(block) > MAX_CELL:
                return True  # a cell that long is looked at more closely
            # Latin-1 has a character for each byte; those of the pattern are ASCII.
            text = block[: end + 1].decode("latin-1")
            if text and pl.Series([text]).str.contains(pattern).item():
                return True
            rest = block[end + 1 :]
    return bool(rest) and bool(pl.Series([rest.decode("latin-1")]).str.contains(pattern).item())


def _last_row_end(block: bytes, quote: bytes) -> int:
    """Return where the last row ends in a block that begins with a row; -1 if none does."""
    end = block.rfind(b"\n")
    quotes = block.count(quote, 0, max(end, 0))
    while end >= 0 and quotes % 2:  # this line ends within quotes
        before = block.rfind(b"\n", 0, end)
        quotes -= block.count(quote, max(before, 0), end)
        end = before
    return end
