"""Parses and formats durations and sizes."""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

__all__ = ["SettingsError", "format_bytes", "format_seconds", "parse_bytes", "parse_seconds", "to_integer"]


class SettingsError(ValueError):
    """Invalid settings; the message has one line per fault."""


_SECONDS: Mapping[str, Fraction] = MappingProxyType(
    {
        "d": Fraction(86_400),
        "h": Fraction(3_600),
        "min": Fraction(60),
        "m": Fraction(60),
        "s": Fraction(1),
        "": Fraction(1),
        "ms": Fraction(1, 1000),
    }
)


_BYTES: Mapping[str, Fraction] = MappingProxyType(
    {f"{letter}ib": Fraction(1024**power) for power, letter in enumerate("kmgt", start=1)}
    | {f"{letter}b": Fraction(1000**power) for power, letter in enumerate("kmgt", start=1)}
    | {"b": Fraction(1), "": Fraction(1)}
)


_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)")


def _quantity(text: str, units: Mapping[str, Fraction]) -> Fraction:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise SettingsError(
            f"{text!r} is not a number with one of the units {', '.join(filter(None, units))}"
        )
    return Fraction(match[1]) * units[match[2].lower()]


def parse_seconds(value: object) -> float:
    """Parse a duration: seconds, or text with a unit (ms, s, min, h, d).

    >>> parse_seconds(2), parse_seconds("500ms"), parse_seconds("7 d")
    (2.0, 0.5, 604800.0)

    Raises:
        SettingsError: the value is not a finite duration.
    """
    if isinstance(value, str):
        value = _quantity(value, _SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise SettingsError(f"{value!r} is not a duration")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise SettingsError("a duration must be finite")
    return seconds


def parse_bytes(value: object) -> int:
    """Parse a size: bytes, or text with a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB).

    >>> parse_bytes(512), parse_bytes("1 MiB"), parse_bytes("10MB")
    (512, 1048576, 10000000)

    Raises:
        SettingsError: the value is not a size.
    """
    return int(_quantity(value, _BYTES)) if isinstance(value, str) else to_integer(value)


def format_seconds(seconds: float) -> str:
    """Format a duration in the largest unit in which it is an integer.

    >>> format_seconds(86400), format_seconds(300), format_seconds(0.25), format_seconds(0.0001)
    ('1 d', '5 min', '250 ms', '0.0001')
    """
    if seconds == 0:
        return "0"
    for unit in ("d", "h", "min", "s", "ms"):
        count = Fraction(str(seconds)) / _SECONDS[unit]
        if count.denominator == 1:
            return f"{count} {unit}"
    return str(seconds)


def format_bytes(size: int) -> str:
    """Format a size in the largest binary unit in which it is an integer.

    >>> format_bytes(10 * 1024**3), format_bytes(1536), format_bytes(1000)
    ('10 GiB', '1536', '1000')
    """
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        count, rest = divmod(size, 1024**power)
        if count and not rest:
            return f"{count} {unit}"
    return str(size)


def to_integer(value: object) -> int:
    """Accept an integer; a boolean is not accepted."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(f"{value!r} is not an integer")
    return value
