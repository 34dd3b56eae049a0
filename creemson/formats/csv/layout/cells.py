"""Tells by the form of a cell what it is: a number, a year, another value, a word for a missing value, or words."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = [
    "TYPED",
    "are_names",
    "class_below",
    "class_of",
    "form_of",
    "has_letters_first",
    "is_prose",
    "is_word",
]

TYPED = re.compile(
    r"\s*+(?:[-+]?[$€£]?\s?\d[\d.,' ]*+(?:[eE][-+]?\d++)?\s?[%€]?"  # numbers, amounts
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d\d\S*+)?"
    r"|\d{1,2}:\d\d(?::\d\d\S*+)?"
    r"|(?i:true|false))\s*+"
)
"""A cell that looks like a number, an amount, a date, a time or a boolean; possessive, so that it takes linear time."""
_NO_DATE = re.compile(r"[^:/A-Za-z]*")
"""Text without the characters that only dates, times and words contain."""
_DAY = re.compile(r"\d{1,4}([-.])\d{1,2}\1\d{1,4}")
"""A date that could be mistaken for a number."""
_YEAR = re.compile(r"\s*+(?:19|20)\d\d\s*+")
_MISSING = re.compile(r"(?i:[nk]\.?[ /]?a\.?|nan|nil|none|null|\\n|#n/a|missing|unknown|[-–—.?*_/]++)")
"""A word for a missing value, which is no name of a column of values."""

MAX_FORM = 40
"""Maximum number of characters of a text whose form counts."""
_CODE = re.compile(
    r"(?P<address>[^\s@]++@[^\s@]++)"
    r"|(?P<link>https?://\S++)"
    r"|(?P<uuid>\{?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?)"
    r"|(?P<digest>(?=[A-Fa-f]*+\d)(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}))"
    r"|(?P<hexadecimal>0[xX][0-9A-Fa-f]++)"
)
"""Text that people and programs do not use as a name; possessive, so that it takes linear time."""
_LETTERS = re.compile(r"[^\W\d_]++")
_DIGITS = re.compile(r"\d++")


@lru_cache(maxsize=1024)  # the cells of the first rows are classified several times
def class_of(cell: str) -> str:
    """Classify a cell by its form: number, year, other value, text, or "" if it is empty."""
    text = cell.strip()
    if not text or not TYPED.fullmatch(text):
        return "text" if text else ""
    if _YEAR.fullmatch(text):
        return "year"
    return "number" if _NO_DATE.fullmatch(text) and not _DAY.fullmatch(text) else "other"


def form_of(cell: str) -> str:
    """How a text with digits is written that hardly is a name, but not a number or a date either; "" for others.

    It begins with a digit or has three numbers, or is an address, a link, a UUID, a digest or a hexadecimal number.

    >>> [form_of(text) for text in ("a@b.org", "5-Jan-24", "10 kB", "Fri, 05 Jan 2024 10:00", "Q1 2024", "name")]
    ['address', '9-a-9', '9 a', 'a, 9 a 9 9:9', '', '']
    """
    text = cell.strip()
    code = _CODE.fullmatch(text)
    if code:
        return code.lastgroup or ""
    if len(text) > MAX_FORM or not (text[:1].isdigit() or len(_DIGITS.findall(text)) > 2):
        return ""
    return _DIGITS.sub("9", _LETTERS.sub("a", text)).replace("+", "-")


def class_below(body: Sequence[Sequence[str]], column: int) -> str:
    """The class of most cells of a column; text, if they differ."""
    classes = Counter(class_of(row[column]) for row in body)
    del classes[""]
    if not classes:
        return "text"
    if classes["year"] and classes["number"]:
        classes["number"] += classes.pop("year")
    kind, count = classes.most_common(1)[0]
    # In a table of few rows, further rows of names are a large part of them.
    return kind if count >= (0.8 if len(body) > 10 else 0.6) * classes.total() else "text"


def is_word(cell: str) -> bool:
    """Whether a cell may be a name: neither empty, nor a value, nor a word for a missing value."""
    text = cell.strip()
    return bool(text) and not TYPED.fullmatch(text) and not _MISSING.fullmatch(text)


def are_names(cells: Iterable[str]) -> bool:
    """Whether cells are names as in a complete header: words that are all different.

    >>> are_names(["region", "q1", "q2"]), are_names(["A1", "n.a.", "n.a."]), are_names(["Sales", ""])
    (True, False, False)
    """
    words = [cell.strip() for cell in cells]
    return all(map(is_word, words)) and len(set(words)) == len(words)


def has_letters_first(cells: Iterable[str]) -> bool:
    """Whether a cell begins with a letter, as some name of a header among the rows does.

    Without it, words in columns of numbers are values that do not fit.

    >>> has_letters_first(["region", "%"]), has_letters_first(["<5", "(7)", "5 kg"])
    (True, False)
    """
    return any(cell.strip()[:1].isalpha() for cell in cells)


def is_prose(cells: Sequence[str]) -> bool:
    """Whether the delimiters in a line are those of a sentence: a blank follows each, and no cell is a value."""
    return len(cells) > 1 and all(
        cell.startswith(" ") and cell.strip() and not TYPED.fullmatch(cell) for cell in cells[1:]
    )
