"""Divides the first characters of a CSV into lines."""

import re
from collections.abc import Sequence
from pathlib import Path

from creemson.formats.csv.layout.delimiter import QUOTES
from creemson.model.query import Options

__all__ = [
    "END_MARK",
    "declared_delimiter",
    "divided_lines",
    "ends_with_mark",
    "last_bytes",
    "line_end_of",
    "lines_of",
    "may_have_notes",
]

END_MARK = "\x1a"
"""The character at the end of files that programs for DOS and CP/M wrote."""
END_BYTES = 1 << 14
"""Number of bytes at the end of a file that are looked at before it is read."""
_DECLARED = re.compile(r'"?sep=(.{1,3}?)"?', re.IGNORECASE)


def lines_of(text: str, line_end: str, *, is_whole: bool) -> list[str]:
    """Divide text into lines, without the empty ones at the end and without a mark of the end.

    Args:
        text: The first characters of a file.
        line_end: The line end of most lines.
        is_whole: Whether this is the whole file; if not, its last line may be incomplete and is left out.
    """
    if "\r" in text:  # to find one character takes a tenth of the time of finding two
        text = text.replace("\r\n", "\n")
        text = text.replace("\r", "\n") if line_end == "\r" else text
    if is_whole:
        text = text.rstrip("\n").removesuffix(END_MARK)
    lines = text.split("\n")
    if not is_whole and len(lines) > 1:
        lines.pop()
    while lines and not lines[-1]:
        lines.pop()
    return lines


def declared_delimiter(lines: Sequence[str]) -> str | None:
    r"""The delimiter in a first line such as ``sep=;``, which Excel follows; ``\t`` may stand for a tab."""
    declared = _DECLARED.fullmatch(lines[0]) if lines else None
    return declared[1].replace("\\t", "\t") if declared else None


def divided_lines(lines: Sequence[str], delimiter: str, quote: str) -> list[str] | None:
    """Divide lines at carriage returns, if all of them end rows.

    Args:
        lines: The first lines of a file, divided at line feeds.
        delimiter: The text between cells.
        quote: The character around cells.

    Returns:
        The lines; None if there are no carriage returns, or if they are parts of cells.
    """
    parts = [part for line in lines if "\r" in line for part in line.split("\r")]
    if not parts or (quote and any(quote in part for part in parts)):
        return None
    others = [line.count(delimiter) for line in lines if "\r" not in line and delimiter in line] or [0]
    count = max(set(others), key=others.count) if any(others) else parts[0].count(delimiter)
    if not count or any(part.count(delimiter) != count for part in parts if part):
        return None
    return [part for line in lines for part in line.split("\r")]


def last_bytes(path: Path) -> bytes:
    """Return the last bytes of a file; they tell whether its end has to be read with care."""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - END_BYTES))
        return stream.read()


def ends_with_mark(end: bytes) -> bool:
    """Whether the last bytes of a file end with :data:`END_MARK`."""
    return end.rstrip(b"\r\n").endswith(END_MARK.encode())


def may_have_notes(end: bytes, delimiter: str, width: int) -> bool:
    """Whether something follows a row of empty cells in the last bytes of a file: it may be a note as wide as the rows.

    Args:
        end: The last bytes.
        delimiter: The text between cells.
        width: The number of cells of a row.
    """
    empty = re.escape(delimiter.encode()) * (width - 1)
    return width > 1 and re.search(rb"\n%b\r?\n[^\r\n]" % empty, end) is not None


def line_end_of(text: str, options: Options) -> str:
    """The end of most lines outside of quotes; cells in quotes may contain others."""
    if "\r" not in text:
        return "\n"
    quotes = QUOTES if options.quote is None else (options.quote,)
    line_end = "\n"
    for quote in quotes:
        outside = _outside(text, quote, escaped=options.escape != "")
        pairs, feeds, returns = outside.count("\r\n"), outside.count("\n"), outside.count("\r")
        if returns - pairs > feeds:  # noqa: SIM108 - a conditional inside a conditional would be harder to read
            line_end = "\r"
        else:
            line_end = "\r\n" if pairs and pairs * 2 >= feeds else "\n"
        if feeds == 0 or returns == pairs:  # all lines have the same end
            break
    return line_end


def _outside(text: str, quote: str, *, escaped: bool) -> str:
    """The text outside of quotes, if their number is even; else all of it."""
    if not quote:
        return text
    if escaped and "\\" + quote in text:
        text = text.replace("\\\\", "").replace("\\" + quote, "")
    return "".join(text.split(quote)[::2]) if text.count(quote) % 2 == 0 else text
