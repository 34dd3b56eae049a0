"""Checks that polars has read every row and every cell of a CSV.

polars pads short rows silently, drops surplus cells, and treats NUL bytes as characters. So the delimiters of the file
are counted while it is read, and every batch of text is compared with the values that it was converted to.
"""

import codecs
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from functools import reduce
from operator import or_

import attrs
import polars as pl
from polars.exceptions import PanicException, PolarsError

from creemson.errors import ProcessingError
from creemson.formats.blocks import scan_lines
from creemson.formats.columns import exactly, unnamed
from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.file import CsvFile
from creemson.formats.csv.layout.cells import are_names
from creemson.formats.csv.layout.tables import HEADER_AGAIN
from creemson.formats.csv.repair import Lines, repair
from creemson.formats.csv.values.controls import CONTROL_BYTES, CONTROLS
from creemson.formats.csv.values.kinds import TEXT, Kind
from creemson.formats.report import MAX_REJECTS, Report
from creemson.formats.types import LOSSY_DIGITS

__all__ = ["CellCheck", "DelimiterCount", "DelimiterCounter", "line_map", "report_misfits"]

PIECE_BYTES = 1 << 21
"""Number of bytes that are looked through at once: for half of it, quotes take a third longer because of more calls of
polars, and four times as much takes longer because it does not fit into a processor's cache."""
MAX_CELL = 1 << 23
"""Number of bytes without the end of a row after which a file is no longer searched for quotes in quoted cells."""
MAX_DECOMPRESSED = 1 << 28
"""Number of decompressed bytes in which that is searched: decompressing alone takes a second for them."""
MAX_MISFITS = 100
"""Maximum number of cells of a column that do not have its type; they decide which other types are tried."""


# --- rows ------------------------------------------------------------------------------------------------


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
            delimiters = _count_lines(self._file, dialect.delimiter, dialect.quote)
            delimiters -= _delimiters_in_header(self._file, self._head)
            has_marks, has_controls, may_be_loose = _look_through(self._file)
            has_loose = may_be_loose and not has_marks and _has_loose_quotes(self._file)
            self._count = DelimiterCount(delimiters, has_marks, has_controls, has_loose)

    def result(self) -> DelimiterCount:
        """Wait for the count; if counting failed, it fits no number of rows."""
        self.join()
        return self._count


def _count_lines(file: CsvFile, line_end: str, quote: str) -> int:
    """Count the lines outside of quotes as if ``line_end`` ended them: polars counts ten times as fast as it reads."""
    counted = scan_lines(file.path, line_end=line_end, quote=quote or None)
    lines: int = counted.select(pl.len()).collect().item()
    if file.source.compression:  # the last byte is assumed to be a line feed
        return lines - (line_end != "\n")
    with file.path.open("rb") as stream:
        stream.seek(-1, 2)
        return lines - (stream.read() != line_end.encode())


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


# --- cells -----------------------------------------------------------------------------------------------


class CellCheck:
    """Compares the text of cells with the values that it was converted to, during one reading of a file.

    Args:
        null_words: The words that mean a missing value in columns of values.

    Attributes:
        rows: Number of rows that were read.
        surplus: Number of rows with more cells than the file has columns.
        misfits: Some cells that do not have their column's type, by column.
        has_marks: Whether a cell of a compressed file contains NUL, a byte order mark, or a mark of the end of a file;
            or whether a cell of any file begins with a blank and a quote, or a row repeats the header.
        has_controls: Whether a cell of a compressed file contains control characters that stand for others.
    """

    def __init__(self, null_words: Sequence[str]) -> None:
        self._null_words = null_words
        self._lock = threading.Lock()
        self.rows = 0
        self.surplus = 0
        self.misfits: dict[str, list[str]] = {}
        self.has_marks = self.has_controls = False

    def check_marks(self, texts: pl.DataFrame) -> None:
        """Check a batch of rows of a compressed file, of which :class:`DelimiterCounter` does not see the bytes."""
        # Never set to false: batches are checked by several threads.
        if not self.has_marks and any(texts.select(pl.all().str.contains("[\\x00\ufeff\\x1a]").any()).row(0)):
            self.has_marks = True
        if not self.has_controls and any(texts.select(pl.all().str.contains(CONTROLS).any()).row(0)):
            self.has_controls = True

    def check_header(self, texts: pl.DataFrame, names: Mapping[str, str]) -> None:
        """Search a batch of rows for one that repeats the header, such as those of files that were joined.

        Args:
            texts: The cells of the columns that are read.
            names: The names in the file, by column.
        """
        if self.has_marks:
            return
        column = next((name for name in texts.columns if names[name]), None)
        # One column rules out most rows; comparing it takes 1 % of reading.
        if column is None or not (alike := unnamed(texts.get_column(column)) == names[column]).any():
            return
        header = tuple(names[name] for name in texts.columns)
        if any(tuple(cell or "" for cell in row) == header for row in texts.filter(alike).iter_rows()):
            self.has_marks = True

    def check_blanks(self, texts: pl.DataFrame, quote: str) -> None:
        """Check that no blanks stand before a quoted cell: polars takes them and the quotes for parts of the cell."""
        if self.has_marks:
            return
        # The first character is in polars' view of a text, so looking at it costs 1 % of reading.
        begins = texts.select(pl.all().str.starts_with(" ").any()).row(0)
        pattern = f"^ +{re.escape(quote)}"
        for name, has_blank in zip(texts.columns, begins, strict=True):
            if has_blank and texts.get_column(name).str.contains(pattern).any():
                self.has_marks = True

    def check_sample(self, texts: pl.DataFrame, converted: pl.DataFrame, kinds: Mapping[str, Kind]) -> None:
        """Check a table that is so small that its types were inferred from all of its cells."""
        for name, kind in kinds.items():
            if kind is not TEXT:
                misfits = self._without_value(
                    unnamed(texts.get_column(name)), unnamed(converted.get_column(name))
                )
                if len(misfits):
                    self.misfits[name] = misfits.head(MAX_MISFITS).to_list()

    def check_batch(
        self,
        texts: pl.DataFrame,
        converted: pl.DataFrame,
        kinds: Mapping[str, Kind],
        surplus: str,
        *,
        intact: Collection[str] = (),
    ) -> None:
        """Check a batch of rows; thread-safe.

        Args:
            texts: The rows as text.
            converted: The same rows with the types of the columns.
            kinds: The kinds of the columns.
            surplus: The name of a column of ``texts`` with the first cell beyond the last column.
            intact: Columns of which it is known that no cell has lost anything.
        """
        batch: dict[str, list[str]] = {}
        names = [name for name in converted.columns if kinds[name] is not TEXT and name not in intact]
        suspects = _suspects(texts, converted, {name: kinds[name] for name in names})
        for name in names:
            kind = kinds[name]
            column, values = unnamed(texts.get_column(name)), unnamed(converted.get_column(name))
            misfits = self._without_value(column, values)
            # A plus, a minus and a zero are less than "1"; this rules out most batches.
            if not len(misfits) and kind.is_number and (column < "1").any():
                misfits = column.filter(column.str.contains(LOSSY_DIGITS))
            if not len(misfits) and name in suspects and kind.loses is not None:
                misfits = column.filter(kind.loses(column, values))
            if len(misfits):
                batch[name] = misfits.head(MAX_MISFITS).to_list()
        with self._lock:
            self.rows += texts.height
            self.surplus += texts.height - texts.get_column(surplus).null_count()
            for name, cells in batch.items():
                known = self.misfits.setdefault(name, [])
                known.extend(cells[: MAX_MISFITS - len(known)])

    def _without_value(self, texts: pl.Series, values: pl.Series) -> pl.Series:
        """The cells that have no value although they are neither empty nor a word for a missing one."""
        if values.null_count() == texts.null_count():
            return texts.clear()
        cells = texts.filter(values.is_null() & texts.is_not_null())
        bare = cells.str.strip_chars()
        return cells.filter((bare != "") & ~bare.is_in(self._null_words))


def _suspects(texts: pl.DataFrame, converted: pl.DataFrame, kinds: Mapping[str, Kind]) -> Collection[str]:
    """The columns in which some cells may have more digits than their values; computed together, which is faster."""
    columns: list[pl.Series] = []
    tests: dict[str, pl.Expr] = {}
    for name, kind in kinds.items():
        if (may_lose := kind.may_lose) is not None:
            text, value = f"text {len(tests)}", f"value {len(tests)}"
            columns += [texts.get_column(name).alias(text), converted.get_column(name).alias(value)]
            tests[name] = may_lose(pl.col(text), pl.col(value)).alias(text)
    if not tests:
        return ()
    row = pl.DataFrame(columns).select(tests.values()).row(0)
    return {name for name, is_suspect in zip(tests, row, strict=True) if is_suspect}


def _is_misfit(kind: Kind, text: pl.Expr, null_words: Sequence[str]) -> pl.Expr:
    """Whether a cell has no value of the kind although it is neither empty nor a word for a missing value."""
    bare = text.str.strip_chars()
    return (bare != "") & ~bare.is_in(null_words) & kind.convert(text).is_null()


def report_misfits(
    texts: pl.LazyFrame,
    row: str,
    kinds: Mapping[str, Kind],
    lines: Lines,
    report: Report,
    *,
    null_words: Sequence[str],
    typed: int,
    known: Collection[int],
) -> None:
    """Report the cells that do not have their column's type, and rows of them that look like the header of a table.

    Args:
        texts: The rows as text, and another column with their numbers, counted from 0.
        row: The name of the column of row numbers.
        kinds: The kinds of the columns that have such cells.
        lines: The lines of the file in which its rows begin.
        report: Collects the cells.
        null_words: The words that mean a missing value in columns of values.
        typed: The number of columns of values; 0 if a row of words may be an ordinary row.
        known: The lines of headers that have been reported, counted from 0.
    """
    if not kinds:
        return
    cells = [
        pl.when(_is_misfit(kind, exactly(name), null_words)).then(exactly(name)).alias(name)
        for name, kind in kinds.items()
    ]
    misfits = (
        texts.select(row, *cells)
        .filter(pl.any_horizontal(exactly(name).is_not_null() for name in kinds))
        .head(MAX_REJECTS)
        .collect(engine="streaming")
    )
    for number, *values in misfits.iter_rows():
        words = [value for value in values if value is not None]
        if len(words) == typed and are_names(words) and lines.of(number) - 1 not in known:
            report.add(
                "unparsable_rows",
                line=lines.of(number),
                column=None,
                value=", ".join(words),
                why=HEADER_AGAIN,
            )
        for (name, kind), value in zip(kinds.items(), values, strict=True):
            if value is not None:
                report.add(
                    "unparsable_cells",
                    line=lines.of(number),
                    column=name,
                    value=value,
                    why=f"not {'an' if kind.name[0] in 'aeio' else 'a'} {kind.name}",
                )


def line_map(file: CsvFile, rows: int) -> Lines:
    """Determine in which lines of an unrepaired file its rows begin.

    Args:
        file: The file.
        rows: The number of its rows.
    """
    first = file.dialect.skip_lines + file.dialect.header_lines
    if _count_lines(file, "\n", "") - first == rows:  # each row is one line
        return Lines([(0, first)])
    lines = Lines()
    with closing(file.blocks()) as pieces:
        for _ in repair(pieces, file.dialect, Report(), lines):
            pass
    return lines
