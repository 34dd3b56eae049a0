"""Repairs a CSV of any dialect, with any errors, so that every CSV reader can read it.

The result is UTF-8 without a header or preamble; all rows have the same number of cells and are properly quoted. Parts
without errors are copied as fast as characters can be counted; only lines with errors are parsed. The memory that this
needs is that of one block and the longest record.
"""

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import methodcaller

import attrs

from creemson.formats.csv.decoding import BOM, MARKS, decode, has_marks, why_marked, without_marks
from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.layout.below import MAX_NOTES, Below, has_lookahead
from creemson.formats.csv.layout.boxes import unboxed
from creemson.formats.csv.layout.rows import MAX_RECORD_LINES, repaired_cells, unescape
from creemson.formats.csv.layout.tables import HEADER_AGAIN
from creemson.formats.csv.layout.text import END_MARK
from creemson.formats.csv.line_ends import LineEnds
from creemson.formats.csv.lines import Lines
from creemson.formats.csv.records import split_alone, split_record
from creemson.formats.report import Fault, Report
from creemson.formats.table import check_empty_cells

__all__ = ["Chunk", "repair", "repaired"]

MAX_RECORD_CHARACTERS = 8 << 20
"""Maximum number of characters of a quoted cell that spans lines; a quote that would open a longer cell is stray."""
SURE_LINES = 3
"""Number of consecutive correct rows after which text is certainly not part of a quoted cell."""
SAFE_DELIMITER = "\x1f"
"""The delimiter of the repaired file if that of the original has several bytes: ASCII's unit separator."""
_ENDS = (END_MARK, f"{END_MARK}\n")
REPEATED = "repeats the header and is left out"
COMMENT = "is a comment and is left out"
NEWLINE = "\n"  # f-strings of Python 3.11 contain no backslash


@attrs.frozen
class Chunk:
    """A part of the repaired file.

    Attributes:
        text: Complete rows.
        rows: Number of rows.
        bytes_read: Number of bytes of the original that have been read.
    """

    text: str
    rows: int
    bytes_read: int


def repaired(dialect: Dialect) -> Dialect:
    """Return the dialect of the repaired file."""
    single = len(dialect.delimiter.encode()) == 1
    return attrs.evolve(
        dialect,
        encoding="utf-8",
        mark=0,
        delimiter=dialect.delimiter if single else SAFE_DELIMITER,
        quote=dialect.quote or ("'" if dialect.delimiter == '"' else '"'),
        escape="",
        line_end="\n",
        skip_lines=0,
        header_lines=0,
        trailing=False,
        comment="",
        headers_again=(),
        is_boxed=False,
        has_end=False,
        has_returns=False,
        has_nul=False,
    )


def repair(
    blocks: Iterable[bytes],
    dialect: Dialect,
    report: Report,
    lines: Lines | None = None,
    *,
    is_whole: bool = True,
) -> Iterator[Chunk]:
    """Repair a CSV.

    Args:
        blocks: The bytes of the file, from its beginning.
        dialect: How the file is written.
        report: Collects what is repaired.
        lines: Records in which lines the rows begin.
        is_whole: Whether the blocks are the whole file; if not, the last record may be incomplete and is left out.

    Returns:
        The rows, in chunks.
    """
    return _Repairer(dialect, report, lines).run(blocks, is_whole=is_whole)


class _Repairer:
    """The state of repairing one file."""

    def __init__(self, dialect: Dialect, report: Report, lines: Lines | None) -> None:
        self._out = repaired(dialect)
        # The delimiter of the original if the repaired file has another one; else empty.
        self._swapped = dialect.delimiter if dialect.delimiter != self._out.delimiter else ""
        dialect = attrs.evolve(dialect, delimiter=self._out.delimiter)
        self._dialect = dialect
        self._report = report
        self._lines = lines
        self._line = 0  # index of the next line of the original
        self._rows = 0  # number of repaired rows
        self._has_ended = False  # another table has begun
        self._bytes_read = 0
        self._marked: deque[tuple[int, str, str]] = deque()  # index, text and fault of lines with marks
        self._padded = 0  # number of cells that short rows did not have
        self._width = dialect.width + dialect.trailing  # number of cells of a row
        self._below = Below(dialect, self._width)
        self._headers = _header_lines(dialect)
        self._ends = LineEnds(has_returns=dialect.line_end == "\r" or dialect.has_returns)
        self._correct_lines, self._correct_record, self._any_record = _patterns(dialect, self._width)
        quote = re.escape(self._out.quote)
        self._quoted = re.compile(f"{quote}[^{quote}]*+{quote}")

    def run(self, blocks: Iterable[bytes], *, is_whole: bool) -> Iterator[Chunk]:
        """Yield the repaired rows."""
        skip = self._dialect.skip_lines + self._dialect.header_lines
        for line, names in self._dialect.headers_again:
            self._line = line
            self._add_issue("unparsable_rows", names, HEADER_AGAIN)
        self._line = 0
        open_record, partial_line = "", ""
        for decoded, is_last in self._texts(blocks, is_whole=is_whole):
            text = partial_line + decoded
            if is_last:
                text = text.removesuffix("\n").removesuffix(END_MARK) if text.endswith(_ENDS) else text
                text += "" if text.endswith("\n") else "\n"
                partial_line = ""
            else:
                end = text.rfind("\n") + 1
                text, partial_line = text[:end], text[end:]
            start = 0
            while skip and start < len(text):
                start = text.index("\n", start) + 1
                self._line += 1
                skip -= 1
            text = text[start:]
            text = open_record + self._transformed(text)
            if not text:
                continue
            rows = self._rows
            result, open_record = self._repair_lines(text, is_last=is_last)
            self._report_marks(self._line)
            if self._rows > rows:
                yield Chunk(result, self._rows - rows, self._bytes_read)
            if self._has_ended:
                break
        if self._lines is not None and is_whole:
            self._lines.footer_rows = self._below.count
        # The rest of a sample may be a cell of many lines, or all the text after a stray quote.
        if open_record and self._count_correct(open_record[open_record.index("\n") + 1 :]) >= SURE_LINES:
            rows = self._rows
            result, _ = self._repair_lines(open_record, is_last=True)
            self._report_marks(self._line)
            yield Chunk(result, self._rows - rows, self._bytes_read)

    def _transformed(self, text: str) -> str:
        """Complete lines without drawings, escapes and delimiters of several characters."""
        if self._dialect.is_boxed:
            text = "\n".join(map(unboxed, text.split("\n")))
        if self._dialect.escape:
            text = unescape(text, self._dialect.quote, self._dialect.escape)
        return self._swap(text) if self._swapped else text

    def _count_correct(self, text: str) -> int:
        """The number of correct lines at the beginning of a text."""
        lines = self._correct_lines.match(text)
        return 0 if lines is None else lines[0].count("\n")

    def _texts(self, blocks: Iterable[bytes], *, is_whole: bool) -> Iterator[tuple[str, bool]]:
        """Yield text with line feeds as line ends, and whether the file ends after it."""
        dialect = self._dialect
        pieces = decode(
            blocks, dialect.encoding, mark=dialect.mark, fallback=dialect.fallback, is_whole=is_whole
        )
        for piece in pieces:
            self._bytes_read += piece.bytes
            line = self._ends.lines
            text = self._ends.normalized(piece.text)
            if has_marks(text):
                self._remember_marks(text, line)
                text = without_marks(text)
            yield text, piece.is_last

    def _remember_marks(self, text: str, line: int) -> None:
        """Remember the lines of a decoded text that have marks, until they are repaired; ``line`` is its first line."""
        dialect, counted = self._dialect, 0
        found = MARKS.search(text)
        while found:
            at = found.start()
            line += text.count("\n", counted, at)
            start, end = text.rfind("\n", counted, at) + 1 or counted, text.find("\n", at)
            counted = end = len(text) if end < 0 else end
            marked = text[start:end]
            value = without_marks(marked)
            is_row = line >= dialect.skip_lines + dialect.header_lines
            if not (
                is_row and BOM in marked and value in self._headers
            ):  # reported because it repeats the header
                self._marked.append((line, value, why_marked(marked, dialect.encoding, dialect.fallback)))
            found = MARKS.search(text, end)

    def _report_marks(self, before: int) -> None:
        """Report the lines with marks before a line."""
        while self._marked and self._marked[0][0] < before:
            line, value, why = self._marked.popleft()
            self._report.add("repaired_rows", line=line + 1, column=None, value=value, why=why)

    # --- lines ---------------------------------------------------------------------------------------

    def _repair_lines(self, text: str, *, is_last: bool) -> tuple[str, str]:
        """Repair complete lines; return the rows, and the text of a last record that may continue in the next block."""
        rows: list[str] = []
        at, size = 0, len(text)
        next_header = self._find_header(text, 0)
        if self._are_correct(text, next_header):
            at = next_header
            self._copy(rows, text[:at], text.count("\n", 0, at))
        last_lines = 0 if is_last else _last_lines(text)
        quotes = _QuotesToEnd(text, self._dialect.quote)
        while at < size and not self._has_ended:
            if self._below.is_uncertain(text, at):
                if not is_last and (
                    not has_lookahead(text, at) or (at >= last_lines and self._may_go_on(text, at, quotes))
                ):
                    return "".join(rows), text[at:]
                below = self._read_below(rows, text, at)
                if below > at:
                    at = below
                    continue
            # Copy all correct lines at once.
            correct = self._correct_lines.match(text, at, next_header)
            if correct is not None and correct.end() > at:
                self._copy(rows, text[at : correct.end()], text.count("\n", at, correct.end()))
                at = correct.end()
                continue
            if next_header == at:
                next_header = self._find_header(text, at + 1)
            end = text.index("\n", at)
            if self._dialect.quote and text.find(self._dialect.quote, at, end) >= 0:
                if (after := self._read_lines(rows, text, at)) > at:
                    at = after
                    continue
                if not is_last and at >= last_lines and quotes.after(at) % 2:
                    return "".join(rows), text[at:]  # the end of the record may not have been read yet
            if not (is_last or has_lookahead(text, at)):
                return "".join(rows), text[at:]
            self._repair_line(rows, text, at)
            at = end + 1
            self._line += 1
        if is_last and not self._below.count:
            self._restore_notes(rows)
        return "".join(rows), ""

    def _are_correct(self, text: str, end: int) -> bool:
        """Whether all lines up to an offset are certainly correct: what the patterns say, in a fifth of their time.

        That needs lines without quotes, none of which could be something else than a row.
        """
        dialect = self._dialect
        if (
            self._out.quote in text
            or dialect.is_boxed
            or dialect.comment
            or self._below.is_uncertain(text, 0)
        ):
            return False
        if f"\n{self._below.empty_row}\n" in text:
            return False
        lines = text[:end].split("\n")
        count = methodcaller("count", dialect.delimiter)
        return set(map(count, lines[:-1])) == {self._width - 1}

    def _may_go_on(self, text: str, at: int, quotes: "_QuotesToEnd") -> bool:
        """Whether a line has a quoted cell of which the end may not have been read yet."""
        quote = self._dialect.quote
        return bool(quote) and text.find(quote, at, text.index("\n", at)) >= 0 and quotes.after(at) % 2 == 1

    def _read_lines(self, rows: list[str], text: str, at: int) -> int:
        """Append a row with a quoted cell that spans lines, if it begins at an offset; return where it ends."""
        record = self._correct_record.match(text, at)
        if record is not None and (height := record[0].count("\n")) > 1:
            restored = self._ends.restored(record[0][:-1], self._line)
            self._copy(rows, f"{restored}\n", 1, lines=height)
            return record.end()
        # There may be blanks around its quoted cells.
        record = self._any_record.match(text, at)
        if record is not None and (height := record[0].count("\n")) > 1:
            restored = self._ends.restored(record[0][:-1], self._line)
            split = split_record(restored, self._dialect.delimiter, self._dialect.quote, self._width)
            is_row = split.is_spaced and len(split.cells) == self._width
            if is_row or (len(split.cells) == 1 and (split.is_proper or split.is_spaced)):
                if is_row:
                    self._append(rows, split.cells)
                else:  # a title or note: certainly one cell, because quotes enclose it as a whole
                    self._pad(rows, restored, split.cells)
                self._line += height
                return record.end()
        return at

    # --- what stands below the table -----------------------------------------------------------------

    def _read_below(self, rows: list[str], text: str, at: int) -> int:
        """Read a comment, or a line below an empty line or among notes, if it is no row; return where it ends."""
        below = self._below
        end = text.index("\n", at) + 1
        line = text[at : end - 1]
        if below.is_blank(line):
            self._line += 1
            return end
        if line == below.empty_row and self._rows and len(below.notes) < MAX_NOTES:
            below.notes.append((self._line, line))
            self._line += 1
            return end
        cells = split_alone(line, self._dialect.delimiter, self._dialect.quote, self._width).cells
        if below.is_comment(line, cells):
            self._add_issue("unparsable_rows", line, COMMENT)
            self._line += 1
            return end
        if below.is_after_blank and (header := below.begins_table(text, at, cells, self._rows)):
            self._line += len(header) - 1
            self._end_with_table(line if len(header) == 1 else text[end : text.index("\n", end)], header[-1])
            return end
        if self._dialect.quote and line.count(self._dialect.quote) % 2:
            record = self._any_record.match(text, at)
            if record is not None and record.end() > end:
                end, line = record.end(), record[0][:-1]
                cells = split_record(line, self._dialect.delimiter, self._dialect.quote, -1).cells
        is_note = self._rows > 0 and below.may_be_note(line, cells)
        below.is_after_blank = False
        if is_note:
            below.notes.append((self._line, line))
            self._line += line.count("\n") + 1
            return end
        self._restore_notes(rows)
        return at

    def _restore_notes(self, rows: list[str]) -> None:
        """Append the lines that were no notes, because a row follows."""
        notes, line = self._below.notes, self._line
        self._below.notes = []
        for first, note in notes:
            self._line = first
            text = f"{note}\n"
            at = self._read_lines(rows, text, 0) if "\n" in note else 0
            while at < len(text):
                self._repair_line(rows, text, at)
                at = text.index("\n", at) + 1
                self._line += 1
        self._line = line

    def _end_with_table(self, line: str, names: Sequence[str]) -> None:
        """Stop reading, and report how to read the table that begins."""
        self._has_ended = True
        self._add_issue(
            "unparsable_rows",
            line,
            f"another table of {len(names)} columns begins here and is left out; skip_rows={self._line} "
            "reads it instead",
        )

    # --- rows ----------------------------------------------------------------------------------------

    def _find_header(self, text: str, start: int) -> int:
        """The offset at which the header is repeated; the length of the text if it is not."""
        return min((_find_line(text, line, start) for line in self._headers), default=len(text))

    def _copy(self, rows: list[str], text: str, count: int, lines: int | None = None) -> None:
        """Append correct rows; ``lines`` is the number of their lines if it is not equal to the number of rows."""
        if self._lines is not None:
            self._lines.add(self._rows, self._line)
        rows.append(text)
        self._rows += count
        self._line += count if lines is None else lines

    def _swap(self, text: str) -> str:
        """Replace a delimiter of several characters by one character, outside of quotes."""
        long, short = self._swapped, self._out.delimiter
        text = text.replace(long, short)
        if not self._dialect.quote or self._dialect.quote not in text:
            return text
        return self._quoted.sub(lambda match: match[0].replace(short, long), text)

    def _repair_line(self, rows: list[str], text: str, at: int) -> None:
        """Repair the line with an error that begins at an offset, and append it; an empty line is no row."""
        dialect = self._dialect
        line = text[at : text.index("\n", at)]
        if self._below.is_blank(line):
            return
        if line in self._headers:
            self._add_issue("unparsable_rows", line, REPEATED)
            return
        record = split_alone(line, dialect.delimiter, dialect.quote, self._width)
        cells = record.cells
        if len(cells) == self._width:
            if tuple(cells) == dialect.names and dialect.header and dialect.width > 1:
                self._add_issue("unparsable_rows", line, REPEATED)
                return
            if not (record.is_proper or record.is_spaced):
                self._add_issue("repaired_rows", line, "has a quote in the wrong place")
            self._append(rows, cells)
        elif self._below.is_comment(line, cells):
            self._add_issue("unparsable_rows", line, COMMENT)
        elif dialect.header and tuple(cells) == dialect.names:
            self._add_issue("unparsable_rows", line, REPEATED)
        elif self._repeats_names(cells) or self._below.begins_table(text, at, cells, self._rows):
            self._end_with_table(line, cells)
        else:
            self._repair_width(rows, line, cells)

    def _append(self, rows: list[str], cells: list[str]) -> None:
        """Append a row of cells, quoted where necessary."""
        if self._lines is not None:
            self._lines.add(self._rows, self._line)
        out = self._out
        rows.append(
            out.delimiter.join(
                f"{out.quote}{cell.replace(out.quote, out.quote * 2)}{out.quote}"
                if out.delimiter in cell or out.quote in cell or "\n" in cell or "\r" in cell
                else cell
                for cell in cells
            )
            + "\n"
        )
        self._rows += 1

    def _repeats_names(self, cells: list[str]) -> bool:
        """Whether a line begins with the names of the header, or has the first of them."""
        shared = min(len(cells), self._dialect.width)
        return (
            self._dialect.header > 0 and shared > 2 and tuple(cells[:shared]) == self._dialect.names[:shared]
        )

    def _repair_width(self, rows: list[str], line: str, cells: list[str]) -> None:
        """Repair a record with too few or too many cells, and append it."""
        dialect = self._dialect
        width = dialect.width
        if dialect.trailing and len(cells) == width:  # this row does not end with a delimiter
            self._append(rows, cells)
            return
        if dialect.trailing and len(cells) == width + 1 and not cells[-1].strip():
            self._append(rows, cells[:-1])
            return
        if "\r" in line and self._append_divided(rows, line):
            return
        other = repaired_cells(line, dialect.delimiter, dialect.quote, width)
        if other is not None:
            self._add_issue(
                "repaired_rows", line, "has another delimiter than the other rows, or stray quotes"
            )
            self._append(rows, other)
            return
        if len(cells) < width:
            self._pad(rows, line, cells)
            return
        self._add_issue("cut_rows", line, f"has {len(cells)} cells for {width} columns")
        self._append(rows, cells[:width])

    def _pad(self, rows: list[str], line: str, cells: list[str]) -> None:
        """Append a record with too few cells."""
        width = self._dialect.width
        self._add_issue("padded_rows", line, f"has {len(cells)} of {width} cells")
        self._padded += width - len(cells)
        check_empty_cells("The file", self._rows, width, self._bytes_read, empty=self._padded)
        self._append(rows, [*cells, *[""] * (width - len(cells))])

    def _append_divided(self, rows: list[str], line: str) -> bool:
        """Append the rows of a line that carriage returns end, in a file in which line feeds end most lines."""
        dialect = self._dialect
        records = [
            split_alone(part, dialect.delimiter, dialect.quote, self._width)
            for part in line.split("\r")
            if part
        ]
        if not all(len(record.cells) == self._width and record.is_proper for record in records):
            return False
        for record in records:
            self._append(rows, record.cells)
        return True

    def _add_issue(self, fault: Fault, line: str, why: str) -> None:
        self._report_marks(self._line + 1)
        value = line.replace(self._out.delimiter, self._swapped) if self._swapped else line
        self._report.add(fault, line=self._line + 1, column=None, value=value, why=why)


class _QuotesToEnd:
    """Counts the quotes between an offset, which only grows, and the end of a text."""

    def __init__(self, text: str, quote: str) -> None:
        self._text, self._quote = text, quote
        self._from, self._count = -1, 0

    def after(self, at: int) -> int:
        """The number of quotes from an offset on."""
        if self._from < 0:
            self._count = self._text.count(self._quote, at)
        else:
            self._count -= self._text.count(self._quote, self._from, at)
        self._from = at
        return self._count


def _last_lines(text: str) -> int:
    """The offset of the last lines of a text: a quoted cell that begins earlier is longer than the maximum."""
    start = len(text)
    for _ in range(MAX_RECORD_LINES):
        start = text.rfind("\n", 0, start)
        if start < 0:
            return max(0, len(text) - MAX_RECORD_CHARACTERS)
    return max(start + 1, len(text) - MAX_RECORD_CHARACTERS)


def _header_lines(dialect: Dialect) -> Collection[str]:
    """The lines that repeat the header: its names as they are, all in quotes, or some; none if there is no header."""
    if dialect.width < 2 or dialect.header != 1:
        return ()
    delimiter, quote = dialect.delimiter, dialect.quote
    names = dialect.headers or dialect.names
    spellings = [list(names)]
    if quote:
        quoted = [f"{quote}{name.replace(quote, quote * 2)}{quote}" for name in names]
        needed = [
            inside if delimiter in name or quote in name else name
            for name, inside in zip(names, quoted, strict=True)
        ]
        spellings += [quoted, needed]
    end = delimiter if dialect.trailing else ""
    lines = {delimiter.join(spelling) + end for spelling in spellings}
    if dialect.width > 2 and not names[0]:  # as R writes names of rows
        lines |= {delimiter.join(spelling[1:]) + end for spelling in spellings}
    return lines


def _find_line(text: str, line: str, start: int) -> int:
    """The offset of a line in a text; the length of the text if it is not there."""
    while (at := text.find(line + "\n", start)) >= 0:
        if at == 0 or text[at - 1] == "\n":
            return at
        start = at + 1
    return len(text)


def _patterns(dialect: Dialect, width: int) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """The patterns of any number of correct lines, of one correct record, and of one with any number of cells.

    Records may span lines; in the last pattern, there may be blanks around quoted cells.

    Possessive quantifiers make matching as fast as counting characters: 290 MB/s, compared with 19 MB/s for splitting
    each line that contains a quote.
    """
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
    # Even if the original has no quotes, the repaired file has: cells that contain its quote character are quoted.
    bare = f"[^{quote or re.escape(repaired(dialect).quote)}{delimiter}\n]*+"

    start = f"(?!{re.escape(dialect.comment)})" if dialect.comment else ""
    if dialect.is_boxed:
        start += r"(?!\n)"  # what is left of a line of dashes
    elif width > 1:
        start += f"(?!{delimiter}{{{width - 1}}}\n)"  # notes may follow a row of empty cells

    def record(inner: str) -> str:
        cell = f"(?:{quote}{inner}*+(?:{quote}{quote}{inner}*+)*+{quote}|{bare})" if quote else bare
        return f"{start}{cell}(?:{delimiter}{cell}){{{width - 1}}}+\n"

    blanks = "" if not quote or dialect.delimiter.startswith(" ") else " *+"
    spaced = f"{quote}[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+{quote}{blanks}|" if quote else ""
    cell = f"{blanks}(?:{spaced}{bare})"
    return (
        re.compile(f"(?:{record(f'[^{quote}{NEWLINE}]')})*+"),
        re.compile(record(f"[^{quote}]")),
        re.compile(f"{cell}(?:{delimiter}{cell})*+\n"),
    )
