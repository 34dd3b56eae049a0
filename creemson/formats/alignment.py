"""Text whose columns are aligned with blanks: where they begin. No polars here."""

import re
from collections.abc import Sequence

import attrs

__all__ = ["Alignment", "find_alignment", "has_names", "is_aligned"]

SEPARATORS = ",;\t|"
LINES_LEAST = 4
"""That have to be aligned to be taken for columns; two lines of prose may well have two blanks in the same places."""
LINES_FIRST = 20
"""That rule most files out."""
LINES_MOST = 1000
_RULE = re.compile(r"[-=_+~]{2,}([ ]+[-=_+~]{2,})*\s*")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*%?")


@attrs.frozen
class Alignment:
    """How the lines of a text are divided.

    Attributes:
        widths: characters of each column; the last one goes on to the end of a line.
        rule: the number of the line, counted from 0, that is nothing but dashes under the names; None if there is none.
    """

    widths: tuple[int, ...]
    rule: int | None = None


def is_aligned(text: str, *, cut: bool) -> bool:
    """Whether a text is certainly in columns of fixed width.

    Args:
        text: the beginning of a file.
        cut: whether it goes on, so that its last line is not whole.
    """
    lines = text.split("\n")
    return find_alignment(lines[:-1] if cut else lines) is not None


def find_alignment(lines: Sequence[str]) -> Alignment | None:
    """The columns of a text.

    Args:
        lines: its first ones.

    Returns:
        The columns; None unless two columns of blanks at the least run through all lines (one where there is a line
        of dashes), and no delimiter divides the lines evenly.

    >>> find_alignment(["name  n  m", "ab    1  2", "cde  22  3", "f     7  4"])
    Alignment(widths=(5, 4, 1), rule=None)
    """
    if len(lines) > LINES_FIRST and _one_block(lines[:LINES_FIRST]):
        return None
    kept = [line.rstrip() for line in lines[:LINES_MOST]]
    some = [line for line in kept if line]
    if len(some) < LINES_LEAST or any("\t" in line for line in some) or _divided(some):
        return None
    rule = next((index for index, line in enumerate(kept[:3]) if index and _RULE.fullmatch(line)), None)
    body = [line for index, line in enumerate(kept) if line and index != rule]
    width = max(map(len, body))
    if width > 100_000 or max(map(len, some)) == 0:
        return None
    starts = (
        [match.start() for match in re.finditer(r"\S+", kept[rule])] if rule is not None else _starts(body)
    )
    if len(starts) < (2 if rule is not None else 3) or not _clean(body, starts):
        return None
    starts[0] = 0
    ends = [*starts[1:], max(width, starts[-1] + 1)]
    return Alignment(tuple(end - start for start, end in zip(starts, ends, strict=True)), rule)


def _one_block(lines: Sequence[str]) -> bool:
    """Whether no column of blanks runs through the first lines: then none does through all of them."""
    some = [line.rstrip() for line in lines if line and not line.isspace()]
    return not any(_RULE.fullmatch(line) for line in some) and len(_spans(some)) < 2


def _divided(lines: Sequence[str]) -> bool:
    """Whether a delimiter splits the lines into the same number of cells."""
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in lines}
        if len(counts) == 1 and counts != {0}:
            return True
    return False


def _spans(lines: Sequence[str]) -> list[tuple[int, int]]:
    """What lies between the blanks that run through all lines."""
    filled = [False] * max(map(len, lines), default=0)
    for line in lines:
        for match in re.finditer(r"\S+", line):
            filled[match.start() : match.end()] = [True] * (match.end() - match.start())
    return [match.span() for match in re.finditer("x+", "".join(" x"[cell] for cell in filled))]


def _starts(body: Sequence[str]) -> list[int]:
    """Where columns begin: behind blanks that run through all lines. Each has a name, and something below it."""
    starts: list[int] = []
    for start, end in _spans(body):
        named = bool(body[0][start:end].strip())
        if not starts or (named and any(line[start:end].strip() for line in body[1:])):
            starts.append(start)
    return starts


def _clean(body: Sequence[str], starts: Sequence[int]) -> bool:
    """Whether each line has a blank before each column, and most lines have something in each."""
    if any(len(line) >= start and line[start - 1] != " " for line in body for start in starts[1:]):
        return False
    ends = [*starts[1:], None]
    for start, end in zip(starts, ends, strict=True):
        if sum(bool(line[start:end].strip()) for line in body) * 2 < len(body):
            return False
    return True


def has_names(cells: Sequence[str]) -> bool:
    """Whether the cells of a first line are names: none is empty, and none is a number."""
    return all(cell and not _NUMBER.fullmatch(cell) for cell in cells)
