"""The types that text of a CSV can be converted to, each with the loss that a conversion may have."""

import re
from collections.abc import Callable
from functools import cache

import attrs
import polars as pl

from creemson.formats.columns import unnamed
from creemson.formats.csv.values.shown import BOOLEAN_SHOWN, fixed_shown, time_shown
from creemson.formats.exact import has_finer_seconds, without_leap_seconds
from creemson.formats.types import RULES

__all__ = [
    "BOOLEAN",
    "TEXT",
    "Kind",
    "nanoseconds",
    "pattern_kind",
    "stripped",
    "temporal_kinds",
    "with_decimals",
]

_DATE, _TIME = RULES["date"], RULES["time"]
_BOOLEANS = RULES["boolean"].inferred_words
_TRUE = tuple(word for word, value in _BOOLEANS.items() if value)
_FALSE = tuple(word for word, value in _BOOLEANS.items() if not value)
_NS_YEARS = (1678, 2261)
"""First and last full year that a datetime in nanoseconds can have; polars would take other years for these."""


@attrs.frozen
class Kind:
    """A type that text can be converted to.

    Attributes:
        name: The type's name in messages.
        dtype: The type of the column.
        convert: Turns an expression of text into one of the type; null where a cell does not have the type.
        notation: How the type is written: a strftime format, ``","`` for a decimal comma, or ``""``.
        is_number: Whether digits become a number, which may lose a leading zero or a plus sign.
        is_integer: Whether it has only digits, with a sign or not, so that few texts are not those of their values.
        day_order: ``"dmy"`` or ``"mdy"`` if the notation begins with the day or the month, else ``""``.
        thousands: The sign that separates thousands.
        plain: Turns an expression of numbers as the column writes them into digits with a decimal point; null where a
            cell is not written so. None if they are.
        loses: Whether cells have more digits than their value, given both; None if that cannot happen.
        may_lose: An expression, given those of text and value, that is false if no cell can; fast.
        shown: Pattern of cells that a CSV shows for their values as they are written; ``""`` if there is none.
        decimals: The number of decimals with which a CSV shows doubles; None for the shortest text.
    """

    name: str
    dtype: pl.DataType
    convert: Callable[[pl.Expr], pl.Expr] = attrs.field(eq=False)
    notation: str = ""
    is_number: bool = False
    is_integer: bool = attrs.field(default=False, eq=False)
    day_order: str = ""
    thousands: str = ""
    plain: Callable[[pl.Expr], pl.Expr] | None = attrs.field(default=None, eq=False)
    loses: Callable[[pl.Series, pl.Series], pl.Series] | None = attrs.field(default=None, eq=False)
    may_lose: Callable[[pl.Expr, pl.Expr], pl.Expr] | None = attrs.field(default=None, eq=False)
    shown: str = attrs.field(default="", eq=False)
    decimals: int | None = attrs.field(default=None, eq=False)

    def converted(self, texts: pl.Series) -> pl.Series:
        """Convert a column of text."""
        return unnamed(texts).to_frame().select(self.convert(pl.first())).to_series()

    def alters(self, texts: pl.Series) -> pl.Series:
        """Whether cells have more digits than their value."""
        texts = unnamed(texts)
        if self.loses is None:
            return pl.repeat(value=False, n=len(texts), dtype=pl.Boolean, eager=True)
        return self.loses(texts, self.converted(texts))


TEXT = Kind("text", pl.String(), lambda text: text)


def stripped(kind: Kind) -> Kind:
    """Return the same kind for cells with blanks around them."""
    loses = kind.loses
    return attrs.evolve(
        kind,
        convert=lambda text: kind.convert(text.str.strip_chars()),
        is_integer=False,
        loses=loses and (lambda texts, values: loses(texts.str.strip_chars(), values)),
    )


def with_decimals(kind: Kind, decimals: int) -> Kind:
    """Return the same kind of doubles, shown with a fixed number of decimals."""
    return attrs.evolve(kind, shown=fixed_shown(decimals), decimals=decimals)


# --- booleans --------------------------------------------------------------------------------------------


def _to_boolean(text: pl.Expr) -> pl.Expr:
    return pl.when(text.is_in(_TRUE)).then(statement=True).when(text.is_in(_FALSE)).then(statement=False)


BOOLEAN = Kind("boolean", pl.Boolean(), _to_boolean, shown=BOOLEAN_SHOWN)


# --- dates and times -------------------------------------------------------------------------------------


def temporal_kinds(cell: str) -> list[Kind]:
    """Return the date and time types that a cell may have."""
    if (time := _TIME.csv.fullmatch(cell)) and not time["zone"]:
        return [_time_kind("%H:%M:%S%.f" if time["seconds"] else "%H:%M")]
    date = _DATE.csv.fullmatch(cell)
    if date is None:
        return []
    dash = date["dash"] or date["dash2"]
    orders = ["ymd"] if date["year"] else ["dmy", "mdy"]
    gap, clock = date["gap"] or date["gap2"], date["time"] or date["time2"]
    tail = ""
    if clock is not None:
        time = _TIME.csv.fullmatch(clock)
        if time is None:
            return []
        tail = f"{gap}%H:%M" + (":%S%.f" if time["seconds"] else "")
        tail += "%#z" if time["zone"] else ""
    notations = {"ymd": f"%Y{dash}%m{dash}%d", "dmy": f"%d{dash}%m{dash}%Y", "mdy": f"%m{dash}%d{dash}%Y"}
    return [_date_kind(notations[order] + tail, order if order != "ymd" else "") for order in orders]


def _time_kind(notation: str) -> Kind:
    return Kind(
        "time",
        pl.Time(),
        lambda text: text.str.to_time(notation, strict=False, cache=False),
        notation,
        loses=lambda texts, _: has_finer_seconds(texts, 9),
        may_lose=lambda text, _: text.str.len_bytes().max() > len("1:00:00.123456789"),
        shown="" if "%Y" in notation else time_shown(notation),
    )


@cache  # there are a few dozen of them, and each sampled cell asks for some
def _date_kind(notation: str, day_order: str = "") -> Kind:
    if "%H" not in notation:
        return _dates(notation, day_order)
    return _datetimes(notation, day_order, has_zone=notation.endswith("z"))


def _dates(notation: str, day_order: str = "") -> Kind:
    return Kind(
        "date",
        pl.Date(),
        lambda text: text.str.to_date(notation, strict=False, cache=False),
        notation,
        day_order=day_order,
        shown="" if "%H" in notation else time_shown(notation),
    )


def _datetimes(notation: str, day_order: str = "", *, has_zone: bool) -> Kind:
    dtype = pl.Datetime("us", "UTC" if has_zone else None)
    return Kind(
        "datetime",
        dtype,
        lambda text: _parsed(text, notation, dtype),
        notation,
        day_order=day_order,
        loses=lambda texts, _: has_finer_seconds(texts, 6),
        may_lose=lambda text, _: text.str.len_bytes().max() >= len("1/1/2024 1:00:00.1234567"),
        shown=time_shown(notation) if "%Y" in notation and "%H" in notation else "",
    )


_CLOCK = frozenset("HIklMSTRspP")
_CALENDAR = frozenset("YyGDFsmbBhdejUWVaAuw")


def pattern_kind(pattern: str, name: str | None = None) -> Kind:
    """Return the kind of dates and times that are written in a strftime pattern.

    Args:
        pattern: The pattern.
        name: ``date``, ``datetime`` or ``time``; None for what the pattern has.
    """
    letters = frozenset(re.findall(r"%[^%a-zA-Z]*([a-zA-Z])", pattern.replace("%%", "")))
    has_clock, has_calendar = bool(letters & _CLOCK), bool(letters & _CALENDAR)
    name = name or ("datetime" if has_clock and has_calendar else "time" if has_clock else "date")
    if name == "time":
        return _time_kind(pattern)
    if name == "date":
        return _dates(pattern)
    return _datetimes(pattern, has_zone="z" in letters)


def nanoseconds(kind: Kind) -> Kind:
    """Return the kind of the same datetimes with nine digits of seconds, in the years that these can have."""
    assert isinstance(kind.dtype, pl.Datetime)
    dtype = pl.Datetime("ns", kind.dtype.time_zone)

    def convert(text: pl.Expr) -> pl.Expr:
        is_in_range = kind.convert(text).dt.year().is_between(*_NS_YEARS)
        return pl.when(is_in_range).then(_parsed(text.str.strip_chars(), kind.notation, dtype))

    return attrs.evolve(
        kind, dtype=dtype, convert=convert, loses=lambda texts, _: has_finer_seconds(texts, 9)
    )


def _parsed(text: pl.Expr, notation: str, dtype: pl.Datetime) -> pl.Expr:
    times = text if notation.endswith("%H:%M") else without_leap_seconds(text)
    return times.str.to_datetime(notation, strict=False, time_unit=dtype.time_unit, cache=False).cast(dtype)
