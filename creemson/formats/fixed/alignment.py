"""Detects the columns of text that is aligned with spaces.

:mod:`~creemson.formats.detection.sniff` uses this to recognize such files, :mod:`~creemson.formats.fixed.reader` to
read them.
"""

import re
from collections.abc import Sequence

import attrs

__all__ = ["Alignment", "find_alignment", "has_names", "is_aligned"]

SEPARATORS = ",;\t|"
"""Delimiters; text that one of them splits evenly is not aligned text."""
MARKS = ":="
"""Marks behind keys; text with two columns and the same mark before the second one in all lines has pairs."""
MIN_LINES = 4
"""Minimum number of aligned lines; two lines of prose may well have spaces in the same two places."""
FEW_LINES = 3
"""Minimum number of aligned lines if they are names and numbers with more than one space between them."""
FIRST_LINES = 20
"""Number of lines that are checked first, because they rule out most files."""
MAX_LINES = 1000
"""Maximum number of lines that are checked."""
MAX_WIDTH = 100_000
"""Maximum number of characters of a line of aligned text."""
_RULE = re.compile(r"[-=_+~]{2,}+(?:[ ]++[-=_+~]{2,}+)*+\s*+")
"""A line of dashes under the names of the columns."""
_NUMBER = re.compile(r"[-+]?[.,]*+\d[\d.,]*+%?")
"""A number in any notation, or a percentage."""


@attrs.frozen
class Alignment:
    """The widths of the columns of aligned text.

    Attributes:
        widths: Number of characters of each column; the last column extends to the end of a line.
        rule: Index of the line of dashes under the names; None if there is none.
    """

    widths: tuple[int, ...]
    rule: int | None = None


def is_aligned(text: str, *, is_cut: bool) -> bool:
    """Whether a text certainly has columns of fixed width.

    Args:
        text: The beginning of a file.
        is_cut: Whether the file continues, so that the last line may be incomplete.
    """
    lines = text.split("\n")
    return find_alignment(lines[:-1] if is_cut else lines) is not None


def find_alignment(lines: Sequence[str]) -> Alignment | None:
    """Detect the columns of a text.

    Args:
        lines: The first lines of the text.

    Returns:
        The columns; None unless at least two columns of spaces run through all lines (one, if there is a line of
        dashes, or if it is wide and all lines have text on both sides), and no delimiter splits the lines into the same
        number of cells.

    >>> find_alignment(["name  n  m", "ab    1  2", "cde  22  3", "f     7  4"])
    Alignment(widths=(5, 4, 1), rule=None)
    """
    if len(lines) > FIRST_LINES and _is_one_block(lines[:FIRST_LINES]):
        return None
    stripped = [line.rstrip() for line in lines[:MAX_LINES]]
    filled = [line for line in stripped if line]
    if len(filled) < FEW_LINES or any("\t" in line for line in filled) or _is_delimited(filled):
        return None
    rule = next((index for index, line in enumerate(stripped[:3]) if index and _RULE.fullmatch(line)), None)
    body = [line for index, line in enumerate(stripped) if line and index != rule]
    width = max(map(len, body))
    if width > MAX_WIDTH or max(map(len, filled)) == 0:
        return None
    starts = (
        [match.start() for match in re.finditer(r"\S+", stripped[rule])]
        if rule is not None
        else _starts(body)
    )
    if rule is None and _has_marks(body, starts, SEPARATORS):
        return None
    has_two = rule is not None or _has_wide_gap(body, starts)
    if len(starts) < (2 if has_two else 3) or not _fits(body, starts):
        return None
    if len(filled) < MIN_LINES and not _are_names_and_numbers(body, starts):
        return None
    starts[0] = 0
    ends = [*starts[1:], max(width, starts[-1] + 1)]
    return Alignment(tuple(end - start for start, end in zip(starts, ends, strict=True)), rule)


def _is_one_block(lines: Sequence[str]) -> bool:
    """Whether no column of spaces runs through the first lines; then none runs through all lines."""
    filled = [line.rstrip() for line in lines if line and not line.isspace()]
    return not any(_RULE.fullmatch(line) for line in filled) and len(_spans(filled)) < 2


def _has_wide_gap(body: Sequence[str], starts: Sequence[int]) -> bool:
    """Whether there are two columns with text in all lines, and more than one space between them everywhere."""
    if len(starts) != 2 or _has_marks(body, starts, MARKS):
        return False
    border = starts[1]
    return all(
        line[:border].strip() and line[border - 2 : border].isspace() and line[border:] for line in body
    )


def _has_marks(body: Sequence[str], starts: Sequence[int], marks: str) -> bool:
    """Whether all lines have the same mark before a column, as a delimited text has that is aligned for its readers."""
    ends = ({line[:start].rstrip()[-1:] for line in body} for start in starts[1:])
    return any(len(end) == 1 and end <= set(marks) for end in ends)


def _is_delimited(lines: Sequence[str]) -> bool:
    """Whether a delimiter splits the lines into the same number of cells."""
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in lines}
        if len(counts) == 1 and counts != {0}:
            return True
    return False


def _spans(lines: Sequence[str]) -> list[tuple[int, int]]:
    """The ranges between the columns of spaces that run through all lines."""
    has_text = [False] * max(map(len, lines), default=0)
    for line in lines:
        for match in re.finditer(r"\S+", line):
            has_text[match.start() : match.end()] = [True] * (match.end() - match.start())
    return [
        match.span() for match in re.finditer("x+", "".join("x" if is_text else " " for is_text in has_text))
    ]


def _starts(body: Sequence[str]) -> list[int]:
    """Where columns begin: after spaces that run through all lines. A column must have a name and text below it."""
    starts: list[int] = []
    for start, end in _spans(body):
        has_name = bool(body[0][start:end].strip())
        if not starts or (has_name and any(line[start:end].strip() for line in body[1:])):
            starts.append(start)
    return starts


def _fits(body: Sequence[str], starts: Sequence[int]) -> bool:
    """Whether each line has a space before each column, and at least half of the lines have text in each column."""
    if any(len(line) >= start and line[start - 1] != " " for line in body for start in starts[1:]):
        return False
    ends = [*starts[1:], None]
    for start, end in zip(starts, ends, strict=True):
        if sum(bool(line[start:end].strip()) for line in body) * 2 < len(body):
            return False
    return True


def _are_names_and_numbers(body: Sequence[str], starts: Sequence[int]) -> bool:
    """Whether few lines are certainly a table: words above a column of numbers, with more than one space somewhere."""
    ends = [*starts[1:], None]
    names, *rows = [
        [line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in body
    ]
    if not rows or not has_names(names) or not any("  " in line.strip() for line in body):
        return False
    return any(all(map(_NUMBER.fullmatch, cells)) for cells in zip(*rows, strict=True))


def has_names(cells: Sequence[str]) -> bool:
    """Whether the cells of a first line are names: none of them is empty or a number."""
    return all(cell and not _NUMBER.fullmatch(cell) for cell in cells)
