"""Finds a text in the cells of a table, as a CSV shows them, in any case.

Upper and lower case are the same as Unicode's simple case folding says: one character for one character, so that
``ß`` is ``ẞ``, but not ``ss``.
"""

import re

import polars as pl

__all__ = ["can_show", "has_text"]

_SHOWN = (
    (pl.Boolean, frozenset("truefals")),
    (pl.Date, frozenset("0123456789-")),
    (pl.Datetime, frozenset("0123456789-+:.tz")),
    (pl.Time, frozenset("0123456789:.")),
    (pl.Duration, frozenset("0123456789-:.")),
    (pl.Decimal, frozenset("0123456789-.")),
    (pl.Float64, frozenset("0123456789-+.einfa")),
    (pl.Float32, frozenset("0123456789-+.einfa")),
)
"""The characters with which a CSV shows values, in lower case; dates and times are shown as ISO 8601."""
_INTEGER = frozenset("0123456789-")
_NUMBERS = re.compile(r"%[-_0]?[YymdeHkMSjf]|%[.\d]*f")
"""Matches the parts of a notation that are written as digits."""


def has_text(cell: pl.Expr, text: str) -> pl.Expr:
    """Return the expression that is true if a cell has a text.

    Args:
        cell: A column of texts.
        text: The text, which is no pattern.
    """
    if not _has_cases(text):  # this takes a third of the time
        return cell.str.contains(text, literal=True)
    return cell.str.contains(f"(?i){pl.escape_regex(text)}")


def can_show(dtype: pl.DataType, notation: str | None, text: str) -> bool:
    """Whether values of a type may be shown with a text, so that it is worth the time to write and to search them.

    Args:
        dtype: The type.
        notation: How dates and times are written; None for ISO 8601.
        text: The text.
    """
    if dtype.is_integer():
        return _INTEGER.issuperset(text)
    for known, characters in _SHOWN:
        if dtype == known:
            written = _characters(notation or "")
            return written is None or (characters | written).issuperset(text.casefold())
    return True


def _characters(notation: str) -> frozenset[str] | None:
    """The characters of dates and times in a notation, beside digits, in lower case; None if it has names."""
    signs = _NUMBERS.sub("", notation)
    return None if "%" in signs else frozenset(signs.casefold())


def _has_cases(text: str) -> bool:
    """Whether some characters may have another case; few beyond ASCII have none."""
    return not text.isascii() or text.lower() != text.upper()
