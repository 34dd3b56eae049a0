"""Converts Python values to values that JSON has, or says which one cannot be sent and where it is."""

import datetime
import enum
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import attrs

from creemson.client.values.words import PUBLIC_NAMES
from creemson.errors import InvalidFormat
from creemson.model.converter import plain
from creemson.model.excerpt import MAX_EXCERPT

__all__ = ["is_unicode", "shown", "to_argument"]

MAX_NESTING = 100
"""Maximum nesting of lists and mappings in an argument; the server accepts fewer, and says how many."""
MAX_ITEMS = 10_000_000
"""Maximum items of an iterable: an endless one must not fill the memory. No server accepts a message with so many."""


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: it has no half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


class _Unsendable(Exception):  # noqa: N818 - the state of a value
    """A value that JSON does not have; ``path`` is its place in the argument, from the outside."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []


def to_argument(name: str, value: Any) -> Any:
    """Convert an argument.

    Args:
        name: the field of the message that it becomes.
        value: any value.

    Returns:
        A value that JSON has.

    Raises:
        InvalidFormat: it has a value that cannot be sent.
    """
    try:
        return _to_json(value, MAX_NESTING)
    except _Unsendable as fault:
        place = PUBLIC_NAMES.get(name, name) + "".join(reversed(fault.path))
        text = f"{place} cannot be sent: {fault.why}."
        reason = "invalid_filename" if name == "filename" else "invalid_message"
        raise InvalidFormat(reason, text, details=[f"{place}: {fault.why}"]) from None


def _to_json(value: Any, depth: int) -> Any:
    """Convert a value to one that JSON has; a :class:`~decimal.Decimal` is one."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if depth < 0:
        raise _Unsendable(f"it is nested more than {MAX_NESTING} levels deep")
    if isinstance(value, enum.Enum):  # first: it may be text or a number as well
        return _to_json(value.value, depth - 1)
    for base, convert in _SCALARS:
        if isinstance(value, base):
            return convert(value)
    if attrs.has(kind):  # options, a condition, a sort key …
        return _to_json(plain(value), depth - 1)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if getattr(value, "ndim", 1) == 0:  # a scalar or an array of numpy without dimensions
        return _numpy_scalar(value, depth)
    if hasattr(kind, "__iter__"):
        return _list(value, depth)
    raise _Unsendable(f"{shown(value)} is of type {kind.__name__}, which JSON does not have")


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    items = {}
    for key, member in value.items():
        if not isinstance(key, str):
            raise _Unsendable(f"the key {shown(key)} is not text")
        name = _text(key)
        try:
            items[name] = _to_json(member, depth - 1)
        except _Unsendable as fault:
            fault.path.append(f".{name}")
            raise
    return items


def _list(values: Iterable[Any], depth: int) -> list[Any]:
    items: list[Any] = []
    for member in itertools.islice(values, MAX_ITEMS):
        try:
            items.append(_to_json(member, depth - 1))
        except _Unsendable as fault:
            fault.path.append(f"[{len(items)}]")
            raise
    if len(items) == MAX_ITEMS:
        raise _Unsendable(f"it has {MAX_ITEMS:,} values or more")
    return items


def _text(value: str) -> str:
    text = str.__str__(value)  # without the class of a subclass
    if is_unicode(text):
        return text
    raise _Unsendable(f"{shown(text)} is not valid Unicode")


def _float(value: float) -> float:
    if math.isfinite(value):
        return float(value)
    raise _Unsendable(f"{value} is not a number that JSON has; for missing values, use is_null or not_null")


def _integer(value: int) -> int:
    number = int(value)
    if abs(number) >= 2**64:
        _check_range(number)
    return number


def _decimal(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise _Unsendable(f"{value} is not a number that JSON has")
    _check_range(value)
    return value


def _check_range(value: Decimal | int) -> None:
    """Refuse a number beyond the range of 64-bit floats: the server cannot parse a message with one."""
    try:
        finite = math.isfinite(float(value))
    except OverflowError:
        finite = False
    if not finite:
        raise _Unsendable(f"{shown(value)} is beyond the range of 64-bit floats")


def _moment(value: datetime.date | datetime.time) -> str:
    if str(value) == "NaT":  # of pandas, which is a datetime
        raise _Unsendable(f"{value} is not a time; for missing values, use is_null or not_null")
    return value.isoformat()


def _refuse_bytes(value: Any) -> Any:
    raise _Unsendable(f"{shown(value)} is {type(value).__name__}; decode it to text first")


_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, _text),
    (int, _integer),
    (float, _float),
    (Decimal, _decimal),
    ((datetime.date, datetime.time), _moment),
    (datetime.timedelta, datetime.timedelta.total_seconds),
    ((bytes, bytearray, memoryview), _refuse_bytes),
)


def _numpy_scalar(value: Any, depth: int) -> Any:
    """Convert a scalar of numpy, without importing numpy."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("M", "m") and str(value) == "NaT":
        raise _Unsendable("NaT is not a time; for missing values, use is_null or not_null")
    if kind == "M":  # item() would turn nanoseconds into an integer
        return str(value)
    item = value.astype("m8[us]").item() if kind == "m" else value.item()
    if type(item) is type(value):  # longdouble
        raise _Unsendable(f"{shown(value)} is of type {type(value).__name__}, which JSON does not have")
    return _to_json(item, depth - 1)


def shown(value: Any) -> str:
    """Return a value for an error message, whatever its ``repr`` does."""
    try:
        text = repr(value)
    except Exception:  # for example an integer of more than 4300 digits
        return f"this {type(value).__name__}"
    return text if len(text) <= MAX_EXCERPT else f"{text[: MAX_EXCERPT - 1]}…"
