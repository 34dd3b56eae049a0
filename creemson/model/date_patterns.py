"""Checks patterns of dates and times. polars makes every cell null, silently, if it does not know a directive.

The directives are those of strftime as polars parses them (docs.rs/chrono, module ``format::strftime``).
"""

import re

__all__ = ["MAX_PATTERN", "pattern_fault"]

MAX_PATTERN = 100
"""Maximum number of characters of a pattern."""
YEARS, MONTHS, DAYS = frozenset("YyGDFs"), frozenset("mbBhDFjUWVs"), frozenset("deDFjaAuws")
HOURS = frozenset("HkIlTRs")
TWELVE_HOURS, HALVES = frozenset("Il"), frozenset("pP")
MINUTES = frozenset("MTRs")
OTHERS = frozenset("Sfzpntf%")
KNOWN = YEARS | MONTHS | DAYS | HOURS | HALVES | MINUTES | OTHERS
_DIRECTIVE = re.compile(r"%(?P<flag>[-_0:#]|\.?[0-9]|\.)?(?P<letter>.)?", re.DOTALL)
_PADDINGS = ("", "-", "_", "0")
_FLAGS = dict.fromkeys("YyGmdejUWVuwHkIlMSs", _PADDINGS) | {
    "f": (".", "3", "6", "9", ".3", ".6", ".9"),
    "z": ("", ":", "#"),
}
"""What may stand between the percent sign and each letter; before all others, nothing."""


def pattern_fault(pattern: str) -> str:
    """Check a pattern of dates or times.

    >>> pattern_fault("%d/%m/%Y"), pattern_fault("%H:%M"), pattern_fault("dd.mm.yyyy")
    ('', '', 'expected a strftime pattern such as %d.%m.%Y')

    Args:
        pattern: as a request has it.

    Returns:
        What is wrong with it; empty if it can be used.
    """
    if len(pattern) > MAX_PATTERN:
        return f"expected at most {MAX_PATTERN} characters"
    if any("\ud800" <= character <= "\udfff" or character == "\0" for character in pattern):
        return "expected Unicode without lone surrogates and NUL"
    letters = set()
    for found in _DIRECTIVE.finditer(pattern):
        letter, flag = found["letter"] or "", found["flag"] or ""
        if found[0] == "%f":  # Python's microseconds are other digits than chrono's nanoseconds
            return "expected %.f, which includes the point, for fractions of a second"
        if letter not in KNOWN or flag not in _FLAGS.get(letter, ("",)):
            return f"there is no directive {found[0]}; use those of strftime, such as %d.%m.%Y or %Y-%m-%d %H:%M:%S"
        letters.add(letter)
    letters.discard("%")
    if not letters:
        return "expected a strftime pattern such as %d.%m.%Y"
    if bool(letters & TWELVE_HOURS) != bool(letters & HALVES):
        return "expected %p (AM or PM) together with an hour of 1 to 12 (%I)"
    if letters & HOURS and not letters & MINUTES:
        return "expected minutes (%M) beside the hour"
    if letters & (MONTHS | DAYS) and not letters & YEARS:
        return "expected a year (%Y or %y)"
    if not letters & (YEARS | HOURS):
        return "expected a year (%Y or %y), or an hour and minutes (%H:%M)"
    return ""
