"""How a CSV is written: found out from its first bytes, in a few milliseconds, or told.

What is found is what explains the most lines: cells of equal number in each, of kinds that cells are of.
(van den Burg, Nazábal, Sutton: *Wrangling messy CSV files by detecting row and type patterns*, 2019, find dialects
by these two as well.)
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import attrs

from creemson.processing.encodings import encoding_of
from creemson.processing.splitting import split_alone, split_record
from creemson.wire.messages import Options

__all__ = ["Dialect", "detect"]

DELIMITERS = (",", ";", "\t", "|")
RARE_DELIMITERS = ("||", "::", ", ", "; ", "~", "^", "\x1f", "\x01", ":", " ")
"""What is tried only where none of the others splits the lines."""
EVEN = 0.9
"""Of a delimiter's score, above which no rarer one is tried."""
WORDY = (":", " ")
"""Of these, those that stand in texts and times."""
QUOTES = ('"', "'")
LOOK_RECORDS = 100
"""Of which the delimiter and the header are found out."""
LOOK_CLASSES = 30
"""Rows of which it is looked what their cells look like."""
HEADER_MOST = 5
"""Rows of names."""
PREAMBLE_MOST = 50
"""Records before the table."""
JOINED_LINES = 1_000
"""That a quoted cell may span."""

_TYPED = re.compile(
    r"\s*(?:[-+]?[$€£]?\s?\d[\d.,' ]*(?:[eE][-+]?\d+)?\s?[%€]?"  # numbers, amounts
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d\d\S*)?"
    r"|\d{1,2}:\d\d(?::\d\d\S*)?"
    r"|(?i:true|false))\s*"
)
_NO_DATE = re.compile(r"[^:/A-Za-z]*")
_DAY = re.compile(r"\d{1,4}([-.])\d{1,2}\1\d{1,4}")
_YEAR = re.compile(r"\s*(?:19|20)\d\d\s*")


@attrs.frozen(kw_only=True)
class Dialect:
    r"""How a CSV is written.

    Attributes:
        encoding: as Python calls it.
        mark: bytes of the byte order mark.
        delimiter: between cells.
        quote: around cells; "" if there is none.
        escape: before a quote in a cell; "" if it is doubled instead.
        line_end: ``\n``, ``\r\n`` or ``\r``.
        skip_lines: lines before the header or, where there is none, the first row.
        header: rows of names.
        header_lines: the lines they take.
        names: of the columns.
        trailing: whether each row ends with a delimiter after which nothing comes.
        nul: whether NUL bytes stand in it.
    """

    encoding: str
    mark: int = 0
    delimiter: str
    quote: str
    escape: str = ""
    line_end: str = "\n"
    skip_lines: int = 0
    header: int = 1
    header_lines: int = 1
    names: tuple[str, ...] = ()
    trailing: bool = False
    nul: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.names)

    @property
    def plain(self) -> bool:
        """Whether polars reads it as it is, where nothing has to be mended."""
        return (
            self.encoding == "utf-8"
            and len(self.delimiter.encode()) == 1
            and len(self.quote.encode()) <= 1
            and not self.escape
            and self.line_end != "\r"
            and not self.nul
        )


def detect(head: bytes, options: Options, *, whole: bool, tabs: bool = False) -> Dialect:
    """Find out how a CSV is written.

    Args:
        head: its first bytes, 64 KiB or so.
        options: what is known already.
        whole: whether that is all of it.
        tabs: whether its name promises tabs.

    Returns:
        The dialect that explains the most of it.

    Raises:
        LookupError, UnicodeDecodeError: it is not of the encoding that ``options`` tell.
    """
    encoding, mark = encoding_of(head, whole=whole)
    if options.encoding is not None and not mark:
        encoding = options.encoding
    text = head[mark:].decode(encoding, errors="replace")
    nul = "\x00" in text
    if nul:
        text = text.replace("\x00", "")
    line_end = _line_end(text, options)
    text = text.replace("\r\n", "\n")
    if line_end == "\r":
        text = text.replace("\r", "\n")
    lines = text.split("\n")
    if not whole and len(lines) > 1:
        lines.pop()  # the last one is cut
    while lines and not lines[-1]:
        lines.pop()
    skip = options.skip_rows or 0
    told = None
    if lines and re.fullmatch(r"sep=.{1,3}", lines[0], re.IGNORECASE):  # as Excel writes it
        told = lines[0][4:]
        skip = max(skip, 1)
    lines = lines[skip:]
    delimiter, quote = _delimiter(lines, options, told, tabs=tabs)
    escape = options.escape if options.escape is not None else _escape(lines, delimiter, quote)
    records = list(islice(records_of(lines, delimiter, quote, escape), LOOK_RECORDS * 3))
    _rescue_head(records, lines, delimiter, quote, escape)
    width, trailing = _width(records)
    first = 0 if options.skip_rows is not None else _preamble(records, width)
    records = records[first:]
    rows = [cells for cells, _, _ in records]
    header = _header(rows, width) if options.header is None else int(options.header)
    header = min(header, len(rows))
    skip += records[0][1] if records else 0
    if header < len(records):
        header_lines = records[header][1] - records[0][1]
    else:
        header_lines = sum(count for _, _, count in records)
    return Dialect(
        encoding=encoding,
        mark=mark,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        line_end=line_end,
        skip_lines=skip,
        header=header,
        header_lines=header_lines,
        names=_names(rows[:header], rows[header:], width),
        trailing=trailing,
        nul=nul,
    )


def _line_end(text: str, options: Options) -> str:
    """What ends most lines; within quotes, other ends may stand."""
    quotes = QUOTES if options.quote is None else (options.quote,)
    ends = "\n"
    for quote in quotes:
        outside = _outside(text, quote, escaped=options.escape != "")
        pairs, feeds, returns = outside.count("\r\n"), outside.count("\n"), outside.count("\r")
        if returns - pairs > feeds:  # noqa: SIM108 - the second is a choice of its own
            ends = "\r"
        else:
            ends = "\r\n" if pairs and pairs * 2 >= feeds else "\n"
        if feeds == 0 or returns == pairs:  # there is one way only
            break
    return ends


def _outside(text: str, quote: str, *, escaped: bool) -> str:
    """What stands outside of quotes, if they come in pairs."""
    if not quote:
        return text
    if escaped and "\\" + quote in text:
        text = text.replace("\\\\", "").replace("\\" + quote, "")
    return "".join(text.split(quote)[::2]) if text.count(quote) % 2 == 0 else text


# --- delimiter, quote, escape ------------------------------------------------------------------------


def _delimiter(lines: Sequence[str], options: Options, told: str | None, *, tabs: bool) -> tuple[str, str]:
    """The delimiter and the quote."""
    quotes = QUOTES if options.quote is None else (options.quote,)
    if options.delimiter is not None:
        told = options.delimiter
    some = lines[: LOOK_RECORDS * 2]
    order = DELIMITERS if not tabs else ("\t", *(one for one in DELIMITERS if one != "\t"))
    if told is not None:
        return told, _quote(some, told, quotes)
    scores = {}
    for candidates in (order, RARE_DELIMITERS):
        for delimiter in candidates:
            if any(delimiter in line for line in some[:20]):
                quote = _quote(some, delimiter, quotes)
                scores[delimiter, quote] = _score(some, delimiter, quote, preferred=delimiter == order[0])
        if scores and max(scores.values())[0] > EVEN:
            break
    else:
        if not scores or max(scores.values())[0] < 0.3:  # one column
            return order[0], _quote(some, order[0], quotes)
    best, _ = max(scores.items(), key=lambda item: item[1])
    # A comma and a blank is more than a comma, if the blank is always there.
    for longer in (f"{best[0]}{best[0]}", f"{best[0]} "):
        if longer in RARE_DELIMITERS and _always(some, best[0], longer, best[1]):
            return longer, best[1]
    return best


def _always(lines: Sequence[str], delimiter: str, longer: str, quote: str) -> bool:
    """Whether the delimiter stands nowhere but in the longer one, outside of quotes."""
    outside = [part for line in lines for part in (line.split(quote)[::2] if quote else (line,))]
    shorter = sum(part.count(delimiter) for part in outside)
    # A cell that is empty, or the end of a line, may have lost its blank.
    return shorter > 0 and shorter == sum(part.count(longer) for part in outside) * len(
        longer.replace(" ", "")
    )


def _quote(lines: Sequence[str], delimiter: str, quotes: Sequence[str]) -> str:
    """The quote around the most cells; the double one if there are none."""

    def cells(quote: str) -> int:
        sign, edge = re.escape(quote), re.escape(delimiter)
        inner = rf"(?:{sign}{sign}|\\{sign}|[^{sign}])*+"
        around = re.compile(rf"(?:^|{edge})\s*{sign}{inner}{sign}\s*(?=$|{edge})", re.MULTILINE)
        return len(around.findall(text))

    if len(quotes) == 1:
        return quotes[0]
    if not any("'" in line for line in lines):
        return '"'
    text = "\n".join(lines)
    double, single = cells('"'), cells("'")
    return "'" if single > double else '"'


def _score(lines: Sequence[str], delimiter: str, quote: str, *, preferred: bool) -> tuple[float, bool, int]:
    """How well it explains the lines, at best with many cells.

    By the share of those that have the most frequent number of cells (more than one), and of their cells those that
    are numbers and the like.
    """
    records = [cells for cells, _, _ in islice(records_of(lines, delimiter, quote, ""), LOOK_RECORDS)]
    if not records:
        return 0.0, preferred, 0
    counts = Counter(len(cells) for cells in records)
    width, alike = max(counts.items(), key=lambda item: (item[1] * (item[0] > 1), item[0]))
    if width == 1:
        return 0.0, preferred, 1
    share = alike / len(records)
    if delimiter in WORDY:
        share *= 0.8
    if len(records[0]) == 1:  # a preamble; or a text that holds the delimiter now and then
        share *= 0.3 if delimiter in WORDY else 0.9
    cells = [cell for record in records[1:30] if len(record) == width for cell in record]
    typed = sum(1 for cell in cells if not cell or _TYPED.fullmatch(cell)) / max(1, len(cells))
    return round(share * (0.85 + 0.15 * typed), 3), preferred, width


def _escape(lines: Sequence[str], delimiter: str, quote: str) -> str:
    r"""A backslash, if one stands before quotes that do not end their cells."""
    if not quote or not any("\\" + quote in line for line in lines):
        return ""
    inner = re.compile(rf"\\{re.escape(quote)}(?!$|{re.escape(delimiter)})")
    doubled = quote * 2
    escaped = sum(len(inner.findall(line)) for line in lines)
    return "\\" if escaped > sum(line.count(doubled) for line in lines) * 0.1 else ""


# --- rows --------------------------------------------------------------------------------------------


def records_of(
    lines: Sequence[str], delimiter: str, quote: str, escape: str
) -> Iterator[tuple[list[str], int, int]]:
    """The cells of each record that is not empty, the line it begins in (0-based), and the lines it takes."""
    at, count = 0, len(lines)
    while at < count:
        line = lines[at]
        used = 1
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
        if record.open:
            for more in range(1, min(JOINED_LINES, count - at)):
                joined = unescape("\n".join(lines[at : at + more + 1]), quote, escape)
                if joined.count(quote) % 2:
                    continue
                longer = split_record(joined, delimiter, quote, -1)
                if longer.proper:
                    record, used = longer, more + 1
                break
            if record.open:
                record = split_alone(line, delimiter, quote, -1)
        yield record.cells, at, used
        at += used


def _rescue_head(
    records: list[tuple[list[str], int, int]], lines: Sequence[str], delimiter: str, quote: str, escape: str
) -> None:
    """Mend the first records: how wide they are, and what stands in them, decides about all others."""
    if not records:
        return
    width = _mode(records)[0]
    for index, (cells, start, used) in enumerate(records[:HEADER_MOST]):
        if len(cells) == width:
            continue
        line = unescape("\n".join(lines[start : start + used]), quote, escape)
        mended = rescued(line, delimiter, quote, width, names=True)
        # A title of so many words is no header, if names come after it.
        below = records[index + 1][0] if index + 1 < len(records) else []
        if mended and (quote in line or any(_TYPED.fullmatch(cell) for cell in below)):
            records[index] = (mended, start, used)


def _mode(records: Sequence[tuple[list[str], int, int]]) -> tuple[int, int]:
    """The most frequent number of cells, and how many records have it."""
    counts = Counter(len(cells) for cells, _, _ in records)
    return max(counts.items(), key=lambda item: (item[1], item[0]))


def rescued(text: str, delimiter: str, quote: str, width: int, *, names: bool = False) -> list[str] | None:
    """The cells of a record that has stray quotes, or another delimiter than all others; None if that is not it."""
    if quote and quote in text:
        cells = split_record(text, delimiter, quote, width).cells
        if len(cells) == width:
            return cells
    for other in (*DELIMITERS, " "):
        if other != delimiter and 2 < width <= text.count(other) + 1 < 4 * width:
            record = split_record(text, other, quote, width)
            # A sentence of so many words is no row: of a row, a third are numbers and the like.
            values = sum(1 for cell in record.cells if _TYPED.fullmatch(cell))
            if (
                len(record.cells) == width
                and not record.open
                and (other != " " or names or values * 3 >= width)
            ):
                return record.cells
    return None


def unescape(text: str, quote: str, escape: str) -> str:
    r"""Escaped quotes as doubled ones.

    >>> unescape(r'"a \"b\" c","\\"', '"', "\\")
    '"a ""b"" c","\\"'
    """
    if not escape or escape not in text:
        return text
    return text.replace(escape * 2, "\ufdd1").replace(escape + quote, quote * 2).replace("\ufdd1", escape)


def _width(records: Sequence[tuple[list[str], int, int]]) -> tuple[int, bool]:
    """The number of columns, and whether every row has a delimiter too many at its end."""
    if not records:
        return 1, False
    width, alike = _mode(records)
    first = len(records[0][0])
    if first > 1 and (alike < 3 or alike * 2 < len(records)):  # too little to be told by
        width = first
    body = [cells for cells, _, _ in records[1:] if len(cells) == width]
    trailing = first == width - 1 > 0 and len(body) > 1 and all(not cells[-1].strip() for cells in body)
    if trailing:
        return width - 1, True
    if first > width and records[0][0][-1].strip() and all(cell.strip() for cell in records[0][0]):
        width = first  # names for columns that the rows leave out at their end
    return width, False


def _preamble(records: Sequence[tuple[list[str], int, int]], width: int) -> int:
    """The number of records before the table: comments, titles, what has far fewer cells."""

    def filled(cells: Sequence[str]) -> int:
        return sum(1 for cell in cells if cell.strip())

    def outside(cells: Sequence[str], *, strictly: bool) -> bool:
        if len(cells) * 2 <= width or cells[0].startswith("#"):
            return True
        return not strictly and filled(cells) <= 1 < width - 1

    def leading(*, strictly: bool) -> int:
        first = 0
        for index, (cells, _, _) in enumerate(records[:PREAMBLE_MOST]):
            if not outside(cells, strictly=strictly):
                return first
            first = index + 1
        return 0

    first = leading(strictly=False)
    # A row of one name and nothing else is a title, if names come after it.
    if any(_TYPED.fullmatch(cell) for cell in records[first][0]) if records else False:
        return leading(strictly=True)
    return first


def _header(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many rows of names there are."""
    if len(rows) < 2:
        # A single row is taken for names: a file of one row without names says nothing about itself.
        return 1 if rows and not any(_TYPED.fullmatch(cell) for cell in rows[0] if cell.strip()) else 0
    body = [row for row in rows[1:] if len(row) == width][-LOOK_CLASSES:]
    below = [_class_below(body, column) for column in range(width if body else 0)]
    typed = [column for column, found in enumerate(below) if found != "text"]
    if not _names_first(rows[0], below):
        return 0
    found = 1
    while found < min(HEADER_MOST, len(rows) - 1) and typed and _is_names(rows[found], typed, width):
        found += 1
    return found


def _class_of(cell: str) -> str:
    """What a cell looks like, roughly."""
    text = cell.strip()
    if not text or not _TYPED.fullmatch(text):
        return "text" if text else ""
    if _YEAR.fullmatch(text):
        return "year"
    return "number" if _NO_DATE.fullmatch(text) and not _DAY.fullmatch(text) else "other"


def _class_below(body: Sequence[Sequence[str]], column: int) -> str:
    """What most cells of a column look like; text, if they differ."""
    classes = Counter(_class_of(row[column]) for row in body)
    del classes[""]
    if not classes:
        return "text"
    if classes["year"] and classes["number"]:
        classes["number"] += classes.pop("year")
    found, count = classes.most_common(1)[0]
    # Where there are few rows, further rows of names are a large part of them.
    return found if count >= (0.8 if len(body) > 10 else 0.6) * classes.total() else "text"


def _names_first(first: Sequence[str], below: Sequence[str]) -> bool:
    """Whether the first row are names: words above numbers and the like, or days above numbers, and so on.

    Where nothing speaks for values, they are names.
    """
    names = values = 0
    for cell, found in zip(first, below, strict=False):
        here = _class_of(cell)
        if here in ("", "text"):
            names += here == "text" and found != "text"
        elif here == found or (here == "number" and found == "text"):
            values += 1
    return names >= values


def _is_names(row: Sequence[str], typed: Sequence[int], width: int) -> bool:
    """Whether a further row stands above the values: it has words where the others have numbers and the like."""
    if len(row) != width:
        return False
    words = [row[column].strip() for column in typed]
    return (
        all(words) and not any(_TYPED.fullmatch(word) or len(word) <= 1 for word in words) and len(typed) > 1
    )


def _names(header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], width: int) -> tuple[str, ...]:
    """The columns' names: each once, none empty; of several rows, joined by blanks."""
    if not header:
        count = width if rows else 0
        return tuple(f"column_{number}" for number in range(1, count + 1))
    parts: list[list[str]] = [[] for _ in range(width)]
    for row in header:
        cells = [cell.strip() for cell in row]
        if len(cells) > width:  # a delimiter too many, if an empty name tells where
            while len(cells) > width and "" in cells:
                cells.remove("")
        for column, cell in enumerate(cells[:width]):
            if cell:
                parts[column].append(cell)
    names: list[str] = []
    seen: set[str] = set()
    for number, words in enumerate(parts, 1):
        name = base = " ".join(words) or f"column_{number}"
        twice = 0
        while name in seen:
            name = f"{base}_duplicated_{twice}"
            twice += 1
        seen.add(name)
        names.append(name)
    return tuple(names)
