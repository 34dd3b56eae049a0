"""Detects the dialect of a CSV from its first bytes, in a few milliseconds.

The best dialect is the one that explains most lines: they have the same number of cells, which look like values.
(van den Burg, Nazábal, Sutton: *Wrangling messy CSV files by detecting row and type patterns*, 2019, use the same two
criteria.)
"""

import codecs
from itertools import islice

import attrs

from creemson.formats.columns import default_name, unique_names
from creemson.formats.csv.decoding import decode_head
from creemson.formats.csv.layout.boxes import is_boxed, unboxed
from creemson.formats.csv.layout.delimiter import SAMPLE_RECORDS, delimiter_and_quote, escape_before
from creemson.formats.csv.layout.preamble import lines_above_few_rows
from creemson.formats.csv.layout.rows import records_of
from creemson.formats.csv.layout.table import table_of
from creemson.formats.csv.layout.text import declared_delimiter, divided_lines, line_end_of, lines_of
from creemson.formats.detection.encodings import encoding_of, fallback_of
from creemson.model.query import Options

__all__ = ["Dialect", "detect"]

MAX_RECORDS = SAMPLE_RECORDS * 3
"""Number of records from which the header is detected."""


@attrs.frozen(kw_only=True)
class Dialect:
    r"""How a CSV is written.

    Attributes:
        encoding: Python's name of the encoding.
        mark: Number of bytes of the byte order mark.
        fallback: The encoding of lines that are not valid UTF-8; None if the first bytes have none.
        delimiter: The text between cells.
        quote: The character around cells; "" if there is none.
        escape: The character before a quote inside a cell; "" if such quotes are doubled instead.
        line_end: ``\n``, ``\r\n`` or ``\r``.
        skip_lines: Number of lines above the header or, if there is none, above the first row.
        header: Number of rows of names.
        header_lines: Number of lines of these rows.
        names: The names of the columns, unique and not empty.
        headers: The names as the file writes them; empty if it has no names.
        trailing: Whether each row ends with a delimiter.
        comment: The character that begins lines that are no rows; "" if there is none; None if that is not known: then
            lines that begin with ``#`` are comments if they have not as many cells as the table.
        typed: The columns whose cells are numbers, dates and the like in the first rows.
        headers_again: The headers of other tables among the first rows: their lines, counted from 0, and their texts.
        is_boxed: Whether the table is drawn with lines of dashes and bars.
        has_returns: Whether carriage returns end some lines, and line feeds the others.
        has_end: Whether the file ends with :data:`~creemson.formats.csv.layout.text.END_MARK`, or perhaps with notes
            that are as wide as the rows.
        has_nul: Whether the file contains NUL bytes.
    """

    encoding: str
    mark: int = 0
    fallback: str | None = None
    delimiter: str
    quote: str
    escape: str = ""
    line_end: str = "\n"
    skip_lines: int = 0
    header: int = 1
    header_lines: int = 1
    names: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    trailing: bool = False
    comment: str | None = None
    typed: tuple[int, ...] = ()
    headers_again: tuple[tuple[int, str], ...] = ()
    is_boxed: bool = False
    has_returns: bool = False
    has_end: bool = False
    has_nul: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.names)

    def other_names(self) -> dict[str, str]:
        """Return how the file writes the names of columns, where it is not the name."""
        pairs = zip(self.names, self.headers, strict=False)  # a file without names has no headers
        return {name: header for name, header in pairs if name != header}

    @property
    def is_plain(self) -> bool:
        """Whether polars supports the dialect, so that only files with errors have to be repaired."""
        return (
            self.encoding == "utf-8"
            and len(self.delimiter.encode()) == 1
            and len(self.quote.encode()) <= 1
            and not self.escape
            and self.line_end != "\r"
            and not (self.has_nul or self.has_returns or self.has_end or self.is_boxed or self.comment)
        )


def detect(head: bytes, options: Options, *, is_whole: bool, prefers_tabs: bool = False) -> Dialect:
    """Detect the dialect of a CSV.

    Args:
        head: Its first bytes, about 64 KiB.
        options: The options of the request; what they give is not detected.
        is_whole: Whether these are all bytes of the file.
        prefers_tabs: Whether the file's name means tab-separated values.

    Returns:
        The dialect that explains most of the lines.

    Raises:
        LookupError: The encoding in ``options`` does not exist.
        UnicodeDecodeError: The file does not have this encoding.
    """
    encoding, mark = encoding_of(head, is_whole=is_whole)
    if options.encoding is not None and not mark:
        encoding = _with_byte_order(options.encoding, encoding)
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    fallback = fallback_of(head, is_whole=is_whole) if is_utf8 else None
    text, has_nul = decode_head(head, encoding, mark=mark, fallback=fallback, is_whole=is_whole)
    line_end = line_end_of(text, options)
    lines = lines_of(text, line_end, is_whole=is_whole)
    declared = declared_delimiter(lines)
    skip = max(options.skip_rows or 0, declared is not None)
    if is_whole and options.skip_rows is None and (options.header is None or options.header > 0):
        skip += lines_above_few_rows(lines[skip:])
    lines = lines[skip:]
    boxed = options.delimiter in (None, "|") and is_boxed(lines)
    if boxed:
        lines = list(map(unboxed, lines))
        delimiter, quote, escape = "|", options.quote or "", ""
    else:
        delimiter, quote = delimiter_and_quote(lines, options, declared, prefers_tabs=prefers_tabs)
        escape = options.escape if options.escape is not None else escape_before(lines, delimiter, quote)
        if escape == quote:
            escape = ""  # an escape that is the quote itself means doubled quotes
    divided = divided_lines(lines, delimiter, quote) if "\r" in text else None
    lines = divided or lines
    records = list(islice(records_of(lines, delimiter, quote, escape), MAX_RECORDS))
    table = table_of(records, lines, options, (delimiter, quote, escape))
    return Dialect(
        encoding=encoding,
        mark=mark,
        fallback=fallback,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        line_end=line_end,
        skip_lines=skip + table.skip_lines,
        header=table.header,
        header_lines=table.header_lines,
        names=tuple(unique_names(name or default_name(index) for index, name in enumerate(table.names))),
        headers=tuple(table.names) if table.header else (),
        trailing=table.trailing,
        comment=table.comment,
        typed=table.typed,
        headers_again=tuple((skip + line, text) for line, text in table.headers_again),
        is_boxed=boxed,
        has_returns=divided is not None,
        has_nul=has_nul,
    )


def _with_byte_order(requested: str, detected: str) -> str:
    """A requested encoding with a byte order, which Python's decoders of UTF-16 and UTF-32 need if there is no mark."""
    name = codecs.lookup(requested).name
    if name not in ("utf-16", "utf-32"):
        return requested
    return detected if detected.startswith(name) else f"{name}-le"
