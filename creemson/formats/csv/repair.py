"""A CSV, however it is written and whatever is wrong with it, as one that anything reads.

What comes out is UTF-8, has one row of cells of equal number a line, properly quoted, and neither header nor
preamble. Blocks in which nothing is wrong are handed on as they are, at the speed of counting characters; only a line
that has to be looked at is. Memory holds a block, and the longest record.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

import attrs

from creemson.processing.dialect import JOINED_LINES, Dialect, rescued, unescape
from creemson.processing.issues import Fault, Report
from creemson.processing.splitting import split_alone

__all__ = ["Chunk", "Lines", "mend", "mended"]

JOINED_CHARACTERS = 8 << 20
"""That a quoted cell over several lines may have; a quote that would open a longer one is a stray one."""
SURE_LINES = 3
"""Rows as they should be, one after the other, that are no part of a cell."""
SAFE_DELIMITER = "\x1f"
"""The unit separator of ASCII, for files whose own delimiter has more than one character."""
MARK = "\ufdd0"
"""A noncharacter of Unicode (section 23.7) before a character that had to be guessed."""
NEWLINE = "\n"
FALLBACK = "windows-1252"
"""In which bytes that are not of the file's encoding are read; latin-1 where it has no character either."""


@attrs.frozen
class Chunk:
    """A part of the mended file.

    Attributes:
        text: whole rows.
        rows: how many.
        read: bytes of the original that have been read.
    """

    text: str
    rows: int
    read: int


@attrs.define
class Lines:
    """In which line of the original each row of the mended file begins.

    Attributes:
        starts: pairs of a row and its line (both 0-based) from which on each row has one line.
    """

    starts: list[tuple[int, int]] = attrs.field(factory=lambda: [(0, 0)])

    def add(self, row: int, line: int) -> None:
        """Row ``row`` begins in ``line``, and so it goes on."""
        last_row, last_line = self.starts[-1]
        if line - row != last_line - last_row:
            self.starts.append((row, line))

    def of(self, row: int) -> int:
        """The 1-based line of a 0-based row."""
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            if self.starts[middle][0] <= row:
                low = middle
            else:
                high = middle
        first, line = self.starts[low]
        return line + row - first + 1


def mended(dialect: Dialect) -> Dialect:
    """The dialect of what :func:`mend` makes."""
    single = len(dialect.delimiter.encode()) == 1
    return attrs.evolve(
        dialect,
        encoding="utf-8",
        mark=0,
        delimiter=dialect.delimiter if single else SAFE_DELIMITER,
        quote=dialect.quote or '"',
        escape="",
        line_end="\n",
        skip_lines=0,
        header_lines=0,
        trailing=False,
        nul=False,
    )


def mend(
    blocks: Iterable[bytes],
    dialect: Dialect,
    report: Report,
    lines: Lines | None = None,
    *,
    final: bool = True,
) -> Iterator[Chunk]:
    """Mend a CSV.

    Args:
        blocks: the bytes of the file, from the first one on.
        dialect: how it is written.
        report: is told what was mended.
        lines: is told in which line each row begins.
        final: whether the blocks are the whole file; if not, the last record may be cut, and is left out.

    Returns:
        Its rows, in chunks.
    """
    return _Mender(dialect, report, lines).run(blocks, final=final)


class _Mender:
    def __init__(self, dialect: Dialect, report: Report, lines: Lines | None) -> None:
        self._out = mended(dialect)
        self._swapped = dialect.delimiter if dialect.delimiter != self._out.delimiter else ""
        dialect = attrs.evolve(dialect, delimiter=self._out.delimiter)
        self._dialect = dialect
        self._report = report
        self._lines = lines
        self._line = 0  # of the original, that the next one is
        self._rows = 0
        self._over = False  # another table has begun
        self._width = dialect.width + dialect.trailing
        self._header = (
            "\0" if dialect.width < 2 or not dialect.header else dialect.delimiter.join(dialect.names)
        )
        self._proper, self._proper_over_lines = _patterns(dialect, self._width)
        sign = re.escape(dialect.quote or '"')
        self._quoted = re.compile(f"{sign}[^{sign}]*+{sign}")

    def run(self, blocks: Iterable[bytes], *, final: bool) -> Iterator[Chunk]:
        skip = self._dialect.skip_lines + self._dialect.header_lines
        kept, cut, read = "", "", 0
        for more, count, last in self._decoded(blocks, final=final):
            read += count
            text = cut + more
            if last:
                text += "" if text.endswith("\n") else "\n"
                cut = ""
            else:
                end = text.rfind("\n") + 1
                text, cut = text[:end], text[end:]
            start = 0
            while skip and start < len(text):
                start = text.index("\n", start) + 1
                self._line += 1
                skip -= 1
            text = text[start:]
            if self._dialect.escape:
                text = unescape(text, self._dialect.quote, self._dialect.escape)
            if self._swapped:
                text = self._swap(text)
            text = kept + text
            if not text:
                continue
            rows = self._rows
            made, kept = self._chunk(text, last=last)
            if self._rows > rows:
                yield Chunk(made, self._rows - rows, read)
            if self._over:
                return
        # What is left of a sample may be a cell of many lines, or all there is behind a stray quote.
        if kept and self._proper_lines(kept[kept.index("\n") + 1 :]) >= SURE_LINES:
            rows = self._rows
            made, _ = self._chunk(kept, last=True)
            yield Chunk(made, self._rows - rows, read)

    def _proper_lines(self, text: str) -> int:
        """How many of the first lines are as they should be."""
        run = self._proper.match(text)
        return 0 if run is None else run[0].count("\n")

    def _decoded(self, blocks: Iterable[bytes], *, final: bool) -> Iterator[tuple[str, int, bool]]:
        """Text, with line feeds between lines and without what is no text; the bytes it took; whether it ends."""
        dialect = self._dialect
        decoder = codecs.getincrementaldecoder(dialect.encoding)("creemson-fallback")
        mark, held = dialect.mark, ""
        stream = iter(blocks)
        block = next(stream, b"")
        while True:
            following = next(stream, b"")
            last = final and not following
            count = len(block)
            text = held + decoder.decode(block[mark:], final=last)
            mark, held = 0, ""
            if not last and text.endswith("\r"):  # perhaps the first half of an end
                text, held = text[:-1], "\r"
            if "\r" in text:
                text = text.replace("\r\n", "\n")
                if dialect.line_end == "\r":
                    text = text.replace("\r", "\n")
            yield text, count, last
            if not following:
                return
            block = following

    # --- lines ---------------------------------------------------------------------------------------

    def _chunk(self, text: str, *, last: bool) -> tuple[str, str]:
        """Rows of some lines; and the text of a record at their end that may go on."""
        made: list[str] = []
        at, size = 0, len(text)
        again = self._find_header(text, 0)
        last_lines = 0 if last else _last_lines(text)
        while at < size and not self._over:
            # What is as it should be, is taken as a whole.
            run = self._proper.match(text, at, again)
            if run is not None and run.end() > at:
                self._take(made, text[at : run.end()], text.count("\n", at, run.end()))
                at = run.end()
                continue
            if again == at:
                again = self._find_header(text, at + 1)
            end = text.index("\n", at)
            if self._dialect.quote and text.find(self._dialect.quote, at, end) >= 0:
                over = self._proper_over_lines.match(text, at)
                if over is not None and over.end() > end + 1:
                    self._take(made, over[0], 1, lines=over[0].count("\n"))
                    at = over.end()
                    continue
                if not last and at >= last_lines and text.count(self._dialect.quote, at) % 2:
                    return "".join(made), text[at:]  # its last lines may not have been read yet
            line = text[at:end]
            at = end + 1
            if line.strip() or (line and self._dialect.delimiter.isspace()):
                self._single(made, line)
            self._line += 1
        return "".join(made), ""

    def _find_header(self, text: str, start: int) -> int:
        """Where a line begins that is the header again; if there is none, the end."""
        while (found := text.find(self._header + "\n", start)) >= 0:
            if found == 0 or text[found - 1] == "\n":
                return found
            start = found + 1
        return len(text)

    def _take(self, made: list[str], text: str, rows: int, lines: int | None = None) -> None:
        """Rows in which nothing is wrong."""
        if self._lines is not None:
            self._lines.add(self._rows, self._line)
        made.append(text)
        self._rows += rows
        self._line += rows if lines is None else lines

    def _swap(self, text: str) -> str:
        """One sign for a delimiter of several, outside of quotes."""
        several, one = self._swapped, self._out.delimiter
        text = text.replace(several, one)
        if not self._dialect.quote or self._dialect.quote not in text:
            return text
        return self._quoted.sub(lambda found: found[0].replace(one, several), text)

    def _single(self, made: list[str], line: str) -> None:
        """A line with which something is wrong."""
        dialect = self._dialect
        if "\x00" in line or MARK in line:
            line = self._purified(line)
        if dialect.header and line == self._header:
            self._tell("unparsable_rows", line, "the header stands here again; it is left out")
            return
        record = split_alone(line, dialect.delimiter, dialect.quote, self._width)
        cells = record.cells
        if len(cells) == self._width:
            if tuple(cells) == dialect.names and dialect.header and dialect.width > 1:
                self._tell("unparsable_rows", line, "the header stands here again; it is left out")
                return
            if not record.proper:
                self._tell("repaired_rows", line, "a quote stands where none belongs")
            self._keep(made, cells)
        else:
            self._odd(made, line, cells)

    def _keep(self, made: list[str], cells: list[str]) -> None:
        if self._lines is not None:
            self._lines.add(self._rows, self._line)
        out = self._out
        made.append(
            out.delimiter.join(
                f"{out.quote}{cell.replace(out.quote, out.quote * 2)}{out.quote}"
                if out.delimiter in cell or out.quote in cell or "\n" in cell
                else cell
                for cell in cells
            )
            + "\n"
        )
        self._rows += 1

    def _odd(self, made: list[str], line: str, cells: list[str]) -> None:
        """A record that has not as many cells as there are columns."""
        dialect = self._dialect
        width = dialect.width
        if dialect.trailing and len(cells) == width:  # this row ends without the delimiter
            self._keep(made, cells)
            return
        if dialect.trailing and len(cells) == width + 1 and not cells[-1].strip():
            self._keep(made, cells[:-1])
            return
        names = dialect.names
        shared = min(len(cells), width)
        if dialect.header and shared > 2 and tuple(cells[:shared]) == names[:shared]:
            self._over = True
            self._tell(
                "unparsable_rows",
                line,
                f"another table of {len(cells)} columns begins here, and is left out; with skip_rows "
                f"{self._line} it is read",
            )
            return
        other = rescued(line, dialect.delimiter, dialect.quote, width)
        if other is not None:
            self._tell("repaired_rows", line, "it has another delimiter than the others, or stray quotes")
            self._keep(made, other)
            return
        if len(cells) < width:
            self._tell("padded_rows", line, f"it has {len(cells)} of {width} cells")
            cells = [*cells, *[""] * (width - len(cells))]
        else:
            self._tell("cut_rows", line, f"it has {len(cells)} cells, and there are {width} columns")
        self._keep(made, cells[:width])

    def _tell(self, fault: Fault, line: str, why: str) -> None:
        value = line.replace(self._out.delimiter, self._swapped) if self._swapped else line
        self._report.add(fault, line=self._line + 1, column=None, value=value, why=why)

    def _purified(self, line: str) -> str:
        """Without NUL, and without the sign for characters that had to be guessed."""
        why = []
        if "\x00" in line:
            why.append("it holds NUL bytes, which are left out")
        if MARK in line:
            why.append(f"it holds bytes that are no {self._dialect.encoding}, and are read as {FALLBACK}")
        line = line.replace("\x00", "").replace(MARK, "")
        self._tell("repaired_rows", line, "; ".join(why))
        return line


def _last_lines(text: str) -> int:
    """Where the last lines begin that a quoted cell may span."""
    start = len(text)
    for _ in range(JOINED_LINES):
        start = text.rfind("\n", 0, start)
        if start < 0:
            return max(0, len(text) - JOINED_CHARACTERS)
    return max(start + 1, len(text) - JOINED_CHARACTERS)


def _patterns(dialect: Dialect, width: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What matches lines that are as they should be; and one record that may span lines.

    Possessive quantifiers make this as fast as counting characters: 290 MB/s, where to split each line with a quote
    in it takes 19 MB/s.
    """
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
    bad = f"\\x00{MARK}"
    bare = f"[^{quote}{delimiter}\n{bad}]*+"

    def record(inner: str) -> str:
        cell = f"(?:{quote}{inner}*+(?:{quote}{quote}{inner}*+)*+{quote}|{bare})" if quote else bare
        return f"{cell}(?:{delimiter}{cell}){{{width - 1}}}+\n"

    return re.compile(f"(?:{record(f'[^{quote}{NEWLINE}{bad}]')})*+"), re.compile(record(f"[^{quote}{bad}]"))


def _fallback(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are not of an encoding, as characters; marked by a noncharacter of Unicode, so that it is told."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start : error.start + 1]
    try:
        return MARK + byte.decode(FALLBACK), error.start + 1
    except UnicodeDecodeError:
        return MARK + byte.decode("latin-1"), error.start + 1


codecs.register_error("creemson-fallback", _fallback)
