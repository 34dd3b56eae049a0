"""Reads tables that are drawn with lines: what mysql and psql print, lists of SAP, and tables in Markdown."""

import re
from collections.abc import Sequence

__all__ = ["is_boxed", "unboxed"]

FIRST_LINES = 3
"""Number of lines in which the first line of dashes stands."""
_RULE = re.compile(
    r"\s*+[+|]?\s*+:?[-=]{2,}+:?(?:\s*+[+|]\s*+:?[-=]{2,}+:?)*+\s*+[+|]?\s*+"
)  # such as +----+-----+ or |----|:---:|
"""A line of dashes."""
_LONG_RULE = re.compile(r"\s*+-{5,}+\s*+")
"""A line of dashes without marks between the cells, as SAP draws it."""
LONG_LINES = 12
"""Number of lines in which the first of these stands: there may be titles above it."""


def is_boxed(lines: Sequence[str]) -> bool:
    """Whether lines of dashes and bars are drawn between the rows and the cells."""
    for index, line in enumerate(lines[:FIRST_LINES]):
        if ("+" in line or "|" in line) and _RULE.fullmatch(line):
            return any("|" in other for other in lines[max(0, index - 1) : index + 2] if other != line)
    for index, line in enumerate(lines[:LONG_LINES]):
        if _LONG_RULE.fullmatch(line) and any(map(_is_framed, lines[index + 1 : index + 2])):
            return True
    return False


def _is_framed(line: str) -> bool:
    """Whether bars stand at both ends of a line, and between them."""
    inner = line.strip()
    return inner.count("|") > 2 and inner.startswith("|") and inner.endswith("|")


def unboxed(line: str) -> str:
    """A line without its drawing: cells without the blanks around them, between single bars; empty if it is all drawn.

    >>> unboxed("|  1 | bolt |"), unboxed("+----+------+")
    ('1|bolt', '')
    """
    if _RULE.fullmatch(line):
        return ""
    if "|" not in line:
        return line
    inner = line.strip().removeprefix("|").removesuffix("|")
    return "|".join(cell.strip() for cell in inner.split("|"))
