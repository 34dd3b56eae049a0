"""Conditional requests and ranges (RFC 9110 sections 13 and 14): decides what of a file is sent. Sans-IO.

Headers that are malformed are ignored, as the RFC says.
"""

import email.utils
import itertools
import math
import re

import attrs
from starlette.datastructures import Headers

__all__ = ["ALL", "Answer", "Validators", "decide"]

MAX_RANGES = 100
"""Maximum number of ranges of one request; if there are more, or if they overlap, the whole file is sent."""
_TAG = re.compile(r'\s*(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*"))?\s*(?:,|\Z)')
"""One element of a list of entity tags, which may be empty (RFC 9110 sections 5.6.1 and 8.8.3)."""
_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
MAX_DIGITS = 18
"""Maximum number of digits of a position."""


@attrs.frozen
class Validators:
    """What identifies the content of a file.

    Attributes:
        tag: the entity tag, in quotes: a strong one.
        modified: when the file was modified, in seconds since 1970.
    """

    tag: str
    modified: float


@attrs.frozen
class Answer:
    """What is sent.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        ranges: for 206, the bytes that are sent: pairs of the first position, and the one behind the last.
    """

    status: int
    ranges: tuple[tuple[int, int], ...] = ()


ALL = Answer(200)
"""The whole file is sent."""


def decide(method: str, headers: Headers, validators: Validators, size: int) -> Answer:
    """Decide on a request for a file, in the order of RFC 9110 section 13.2.2.

    Args:
        method: `GET` or `HEAD`.
        headers: headers of the request.
        validators: what identifies the content of the file.
        size: of the file, in bytes.
    """
    modified = math.floor(validators.modified)
    if match := _list(headers, "if-match"):
        if not _matches(match, validators.tag, weak=False):
            return Answer(412)
    elif (date := _date(headers, "if-unmodified-since")) is not None and modified > date:
        return Answer(412)
    if none_match := _list(headers, "if-none-match"):
        if _matches(none_match, validators.tag, weak=True):
            return Answer(304)
    elif (date := _date(headers, "if-modified-since")) is not None and modified <= date:
        return Answer(304)
    ranges = _list(headers, "range")
    # No range is defined for methods other than GET (section 14.2). A date in If-Range never matches: two versions of
    # one second have the same date, and their bytes must not be mixed (sections 8.8.2.2 and 13.1.5).
    if not ranges or method != "GET" or headers.get("if-range", validators.tag).strip() != validators.tag:
        return ALL
    return _ranges(ranges, size)


def _list(headers: Headers, name: str) -> str:
    """Return all values of a header whose value is a list; empty if there is none."""
    return ", ".join(headers.getlist(name)).strip()


def _date(headers: Headers, name: str) -> float | None:
    """Return the date in a header, in seconds since 1970; None if there is none, or it is malformed."""
    if name not in headers:
        return None
    try:
        return email.utils.parsedate_to_datetime(headers[name]).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _matches(tags: str, tag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags contains this one, by weak or strong comparison (RFC 9110 section 8.8.3.2)."""
    if tags == "*":
        return True
    position = 0
    while position < len(tags) and (found := _TAG.match(tags, position)):
        if found[2] == tag and (weak or not found[1]):
            return True
        position = found.end()
    return False


def _ranges(header: str, size: int) -> Answer:
    unit, equals, listed = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return ALL
    found: list[tuple[int, int]] = []
    parts = [part.strip() for part in listed.split(",") if part.strip()]  # a list may have empty elements
    if len(parts) > MAX_RANGES:
        return ALL
    for text in parts:
        match = _RANGE.fullmatch(text)
        if match is None or text == "-" or len(text) > 2 * MAX_DIGITS:
            return ALL
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return ALL
        start = int(first) if first else max(0, size - int(last))
        end = min(int(last) + 1, size) if first and last else size
        if start < end:
            found.append((start, end))
    if not found:
        return Answer(416) if parts else ALL
    found.sort()
    if any(after[0] < before[1] for before, after in itertools.pairwise(found)):
        return ALL
    return Answer(206, tuple(found))
