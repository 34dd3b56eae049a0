"""Patterns of the texts that a CSV shows for values, so that a cell which matches needs no text beside its value.

A cell that matches has also lost nothing: neither a zero or a plus in front, nor digits. To match a pattern takes a
third of the time of storing a text (20 ns a cell), to render a value and compare it as long as to store it.
"""

import re
from collections.abc import Iterable

__all__ = ["BOOLEAN_SHOWN", "INTEGER_SHOWN", "SHORTEST_SHOWN", "decimals_of", "fixed_shown", "time_shown"]

BOOLEAN_SHOWN = "true|false"
INTEGER_SHOWN = "0|-?[1-9][0-9]*"
SHORTEST_SHOWN = "|".join(
    (
        r"-?0\.0",
        r"-?0\.0{0,3}[1-9](?:[0-9]{0,9}[1-9])?",  # below 0.0001, an exponent may be shown
        r"-?[1-9][0-9]{0,8}\.(?:0|[0-9]{0,5}[1-9])",
        r"-?[1-9][0-9]{0,2}\.[0-9]{0,11}[1-9]",
    )
)
"""Doubles with a point and no needless zero, in at most 15 digits: of these, no two have the same double."""
MAX_DIGITS = 15
"""A double holds every number of so many digits."""
_DECIMALS = range(2, 10)
"""Numbers of decimals that all cells of a column may have; with one decimal, they are the shortest texts."""
_DIRECTIVES = {
    "%Y": "[0-9]{4}",
    "%m": "[0-9]{2}",
    "%d": "[0-9]{2}",
    "%H": "[0-9]{2}",
    "%M": "[0-9]{2}",
    "%S": "[0-5][0-9]",  # second 60 would be shown as the next minute
    "%.f": "",  # of fractions, trailing zeros are not shown
}
_ISO_WITH_ZONE = "%Y-%m-%dT%H:%M:%S%.f%#z"
"""The notation of datetimes with a zone whose values are shown with a ``Z``."""


def fixed_shown(decimals: int, digits: int = MAX_DIGITS) -> str:
    """Return the pattern of numbers with a fixed number of decimals, at least one; there is no negative zero.

    Args:
        decimals: The number of decimals.
        digits: Maximum number of digits.
    """
    whole = digits - decimals - 1
    zeros = (f"[0-9]{{{before}}}[1-9]0{{{decimals - before - 1}}}" for before in range(decimals))
    return rf"-?[1-9][0-9]{{0,{whole}}}\.[0-9]{{{decimals}}}|0\.[0-9]{{{decimals}}}|-0\.(?:{'|'.join(zeros)})"


def decimals_of(cells: Iterable[str]) -> int | None:
    """Return the number of decimals that all cells have, if they all have the same, and more than one.

    >>> decimals_of(["1.50", "20.00"]), decimals_of(["1.50", "2.5"])
    (2, None)
    """
    counts = {len(cell.partition(".")[2]) for cell in cells}
    count = counts.pop() if len(counts) == 1 else 0
    return count if count in _DECIMALS else None


def time_shown(notation: str) -> str:
    """Return the pattern of dates and times that are shown in a notation; empty if they may be shown in another way.

    Args:
        notation: The notation, in strftime's syntax.
    """
    if notation == _ISO_WITH_ZONE:
        return time_shown(_ISO_WITH_ZONE.removesuffix("%#z")) + "Z"
    pieces = re.split(r"(%(?:\.f|.))", notation)
    directives = pieces[1::2]
    has_date, has_time = {"%Y", "%m", "%d"}.issubset(directives), {"%H", "%M"}.issubset(directives)
    known = (has_date or has_time) and all(directive in _DIRECTIVES for directive in directives)
    if not known or (not has_date and not {"%Y", "%m", "%d"}.isdisjoint(directives)):
        return ""
    return "".join(_DIRECTIVES.get(piece, re.escape(piece)) for piece in pieces)
