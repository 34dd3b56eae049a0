"""What the texts of a column mean: numbers, truth values, dates and times; found out and converted.

A column is of a type if its cells are, all but one in a hundred of them; what is not, is lost, and told. What could be
meant in more than one way stays text: days and months that cannot be told apart, and digits that are no number
(a leading zero or plus says so).
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import attrs
import polars as pl

from creemson.processing.naming import exactly, unnamed

__all__ = [
    "NO_NUMBER",
    "TEXT",
    "Kind",
    "choose",
    "grouped",
    "kind_named",
    "look",
    "shapes_in",
    "shapes_of",
    "thousands",
]

LOST_SHARE = 0.01
"""Of a column's cells that may be of another type than the column."""
GROUP = 100
"""Columns that are looked at together."""
SHAPES = 40
"""Cells by whose looks it is decided what a column may be."""
TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
NO_NUMBER = r"^\s*(-?0\d|\+|[-+]?\d{39})"
"""Digits that lose something as a number: a leading zero, a plus, or more of them than an integer has."""


@attrs.frozen
class Kind:
    """A type that texts can be read as.

    Attributes:
        name: told to people.
        dtype: of the column.
        convert: the texts' expression as one of the type; null where a text is none.
        form: how it is written.
        digits: whether digits are read as numbers, which may lose something.
        order: of day and month, where either may come first.
        stripped: whether blanks may stand around it.
    """

    name: str
    dtype: pl.DataType
    convert: Callable[[pl.Expr], pl.Expr] = attrs.field(eq=False)
    form: str = ""
    digits: bool = False
    order: str = ""
    stripped: bool = False


def _cast(name: str, dtype: pl.DataType) -> Kind:
    return Kind(name, dtype, lambda text: text.cast(dtype, strict=False), digits=True)


def _decimal_comma(text: pl.Expr) -> pl.Expr:
    plain = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return plain.cast(pl.Float64, strict=False)


def _boolean(text: pl.Expr) -> pl.Expr:
    return pl.when(text.is_in(TRUE)).then(statement=True).when(text.is_in(FALSE)).then(statement=False)


TEXT = Kind("text", pl.String(), lambda text: text)
BOOLEAN = Kind("boolean", pl.Boolean(), _boolean)
INTEGER, LARGE = _cast("int64", pl.Int64()), _cast("int128", pl.Int128())
FLOAT = _cast("float64", pl.Float64())
COMMA = Kind("float64", pl.Float64(), _decimal_comma, form=",", digits=True)

_INTEGER_LIKE = re.compile(r"-?\d+")
_FLOAT_LIKE = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?i:nan|inf)")
_COMMA_LIKE = re.compile(r"-?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+")
_COMMA_CERTAIN = re.compile(r"-?(?:\d{1,3}(?:\.\d{3})+,\d+|\d{4,},\d+|\d+,(?:\d{1,2}|\d{4,})|0,\d+)")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:\.\d{3})+")
_DATE_LIKE = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-/.])\d{1,2}(?P=dash)\d{1,2}(?:(?P<gap>[T ])(?P<time>.+))?"
    r"|\d{1,2}(?P<dash2>[-/.])\d{1,2}(?P=dash2)\d{4}(?:(?P<gap2>[T ])(?P<time2>.+))?"
)
_TIME_LIKE = re.compile(r"\d{1,2}:\d\d(?P<seconds>:\d\d(?:\.\d+)?)?(?P<zone>Z|[-+]\d\d:?\d\d)?")


def _temporal(shape: str) -> list[Kind]:
    """The types of dates and times that a text of this shape may be of."""
    if (time := _TIME_LIKE.fullmatch(shape)) and not time["zone"]:
        form = "%H:%M:%S%.f" if time["seconds"] else "%H:%M"
        return [Kind("time", pl.Time(), lambda text: text.str.to_time(form, strict=False, cache=False), form)]
    found = _DATE_LIKE.fullmatch(shape)
    if found is None:
        return []
    dash = found["dash"] or found["dash2"]
    orders = ["ymd"] if found["year"] else ["dmy", "mdy"]
    gap, clock = found["gap"] or found["gap2"], found["time"] or found["time2"]
    tail = ""
    if clock is not None:
        time = _TIME_LIKE.fullmatch(clock)
        if time is None:
            return []
        tail = f"{gap}%H:%M" + (":%S%.f" if time["seconds"] else "")
        tail += "%#z" if time["zone"] else ""
    forms = {"ymd": f"%Y{dash}%m{dash}%d", "dmy": f"%d{dash}%m{dash}%Y", "mdy": f"%m{dash}%d{dash}%Y"}
    return [_dated(forms[order] + tail, order, zoned=tail.endswith("z")) for order in orders]


def _dated(form: str, order: str, *, zoned: bool) -> Kind:
    ambiguous = order if order != "ymd" else ""
    if "%H" not in form:
        return Kind(
            "date",
            pl.Date(),
            lambda text: text.str.to_date(form, strict=False, cache=False),
            form,
            order=ambiguous,
        )
    dtype = pl.Datetime("us", "UTC" if zoned else None)
    return Kind(
        "datetime",
        dtype,
        lambda text: text.str.to_datetime(form, strict=False, time_unit="us", cache=False).cast(dtype),
        form,
        order=ambiguous,
    )


def _candidates(shapes: Iterable[str], decimal: str | None) -> dict[str, Kind]:
    """The kinds that a column may be of, the narrowest first, each under a key of its own."""
    found: dict[str, Kind] = {}
    for shape in shapes:
        text = shape.strip()
        if text in TRUE or text in FALSE:
            found["boolean"] = BOOLEAN
        if _INTEGER_LIKE.fullmatch(text):
            found |= {"int": INTEGER, "large": LARGE}
        if decimal != "," and _FLOAT_LIKE.fullmatch(text):
            found["float"] = FLOAT
        if decimal != "." and (_COMMA_CERTAIN.fullmatch(text) or (decimal and _COMMA_LIKE.fullmatch(text))):
            found["comma"] = COMMA
        for kind in _temporal(text):
            found[kind.form] = kind
    if "comma" in found:
        found.pop("float", None)
    order = ("boolean", "int", "large", "float", "comma")
    return {key: found[key] for key in order if key in found} | {
        key: kind for key, kind in found.items() if key not in order
    }


def look(
    frame: pl.LazyFrame | pl.DataFrame,
    names: Collection[str],
    shapes: Mapping[str, Iterable[str]],
    decimal: str | None,
) -> dict[str, Kind]:
    """Find out the kinds of columns of text.

    Args:
        frame: all of their cells, or a sample.
        names: of the columns.
        shapes: some of the cells of each, by which it is decided what it may be.
        decimal: the sign before fractions, where it is known.

    Returns:
        The kind of each column.
    """
    kinds = {name: _candidates(shapes[name], decimal) for name in names}
    found = dict.fromkeys(names, TEXT)
    if isinstance(frame, pl.DataFrame):
        found |= _sure(frame, kinds)
    columns = [name for name in names if kinds[name] and found[name] is TEXT]
    if not columns:
        return found
    parts = [(columns, frame)] if isinstance(frame, pl.LazyFrame) else grouped(frame, columns)
    for group, part in parts:
        found |= _fitting(part, group, kinds)
    return found


def _fitting(
    frame: pl.LazyFrame | pl.DataFrame, columns: Sequence[str], kinds: Mapping[str, Mapping[str, Kind]]
) -> dict[str, Kind]:
    """The kinds that fit the most cells of each column, at one look."""
    found: dict[str, Kind] = {}
    wanted: list[pl.Expr] = []
    for number, name in enumerate(columns):
        text = exactly(name)
        stripped = text.str.strip_chars()
        wanted.append((stripped != "").sum().alias(f"{number}"))
        wanted.append(stripped.str.contains(NO_NUMBER).any().alias(f"{number} none"))
        wanted.append((stripped != text).any().alias(f"{number} blank"))
        for key, kind in kinds[name].items():
            wanted.append(kind.convert(stripped).count().alias(f"{number} {key}"))
    looked = frame.select(wanted)
    if isinstance(looked, pl.LazyFrame):
        looked = looked.collect(engine="streaming")
    row = looked.row(0, named=True)
    for number, name in enumerate(columns):
        counts = {key: row[f"{number} {key}"] for key in kinds[name]}
        kind = choose(kinds[name], counts, row[f"{number}"], digits=bool(row[f"{number} none"]))
        if kind is not TEXT and row[f"{number} blank"]:
            kind = _stripped(kind)
        found[name] = kind
    return found


def grouped(frame: pl.DataFrame, names: Sequence[str]) -> Iterator[tuple[Sequence[str], pl.DataFrame]]:
    """Some columns at a time: the time of a plan grows faster than its columns, and so does its memory.

    Args:
        frame: the table.
        names: of the columns that are wanted.

    Returns:
        The next of the names, and a table of them.
    """
    for start in range(0, len(names), GROUP):
        group = names[start : start + GROUP]
        yield group, pl.DataFrame([frame.get_column(name) for name in group])


def _sure(frame: pl.DataFrame, kinds: Mapping[str, Mapping[str, Kind]]) -> dict[str, Kind]:
    """The columns whose cells are all of the narrowest kind, as they stand: most columns, at one look."""
    sure: dict[str, Kind] = {}
    first = {name: next(iter(some.values())) for name, some in kinds.items() if some}
    for group, part in grouped(frame, list(first)):
        looks = []
        for name in group:
            kind, text = first[name], exactly(name)
            fits = kind.convert(text).null_count() == text.null_count()
            looks.append(fits & ~text.str.contains(NO_NUMBER).any() if kind.digits else fits)
        row = part.select(look.alias(str(number)) for number, look in enumerate(looks)).row(0)
        sure |= {name: first[name] for name, fits in zip(group, row, strict=True) if fits}
    return {name: kind for name, kind in sure.items() if not kind.order}


def choose(kinds: Mapping[str, Kind], counts: Mapping[str, int], cells: int, *, digits: bool) -> Kind:
    """The kind that fits the most cells of a column, if it fits enough.

    Args:
        kinds: those that it may be of, the narrowest first.
        counts: of the cells that are of each.
        cells: how many there are.
        digits: whether some of them are digits that are no number.

    Returns:
        The first of those that fit best; :data:`TEXT` if none fits, or if two do that mean something different.
    """
    best, most = TEXT, 0
    for key, kind in kinds.items():
        if not (digits and kind.digits) and counts[key] > most:
            best, most = kind, counts[key]
    if not cells or cells - most > cells * LOST_SHARE:
        return TEXT
    if best.order and any(
        kind.order not in ("", best.order) and counts[key] == most for key, kind in kinds.items()
    ):
        return TEXT
    return best


def _stripped(kind: Kind) -> Kind:
    return attrs.evolve(kind, convert=lambda text: kind.convert(text.str.strip_chars()), stripped=True)


_DTYPES: dict[str, pl.DataType] = {
    "int8": pl.Int8(), "int16": pl.Int16(), "int32": pl.Int32(), "int64": pl.Int64(),
    "uint8": pl.UInt8(), "uint16": pl.UInt16(), "uint32": pl.UInt32(), "uint64": pl.UInt64(),
    "float32": pl.Float32(), "float64": pl.Float64(),
}  # fmt: skip


def kind_named(name: str, shapes: Iterable[str], decimal: str | None, cells: pl.Series | None = None) -> Kind:
    """The kind for a type that was asked for.

    Args:
        name: one of :data:`creemson.wire.messages.TYPES`.
        shapes: some of the cells, which tell how dates and fractions are written.
        decimal: the sign before fractions, where it is known.
        cells: of a sample, by which the order of day and month is decided; the day is first where both fit.
    """
    if name == "string":
        return TEXT
    if name == "boolean":
        return _stripped(BOOLEAN)
    candidates = _candidates(shapes, decimal)
    if name in _DTYPES:
        dtype = _DTYPES[name]
        if dtype.is_float() and ("comma" in candidates or decimal == ","):
            return _stripped(
                Kind(name, dtype, lambda text: _decimal_comma(text).cast(dtype, strict=False), form=",")
            )
        return _stripped(_cast(name, dtype))
    fitting = [_stripped(kind) for kind in candidates.values() if kind.name == name]
    if len(fitting) > 1 and cells is not None:
        frame = pl.DataFrame({"cells": cells})
        counts = frame.select(
            kind.convert(pl.col("cells")).count().alias(str(number)) for number, kind in enumerate(fitting)
        ).row(0)
        return fitting[counts.index(max(counts))]
    if fitting:
        return fitting[0]
    iso = {"date": "2000-01-01", "datetime": "2000-01-01T00:00:00", "time": "00:00:00"}[name]
    return _stripped(_temporal(iso)[0])


def thousands(shapes: Iterable[str]) -> bool:
    """Whether all of some fractions may be whole numbers, with points between thousands."""
    return all(_THOUSANDS.fullmatch(shape.strip()) for shape in shapes)


def shapes_in(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, Sequence[str]]:
    """Some cells of each of some columns, as :func:`shapes_of` gives them; for most columns, at one look."""
    found: dict[str, Sequence[str]] = {}
    for group, part in grouped(frame, names):
        some = part[_places(part.height)]
        for name in group:
            cells = some.get_column(name).to_list()
            found[name] = shapes_of(part.get_column(name)) if None in cells else list(dict.fromkeys(cells))
    return found


def shapes_of(column: pl.Series) -> Sequence[str]:
    """Some cells of a column: the first ones and, since they may say the least, some from everywhere."""
    cells = unnamed(column).drop_nulls()
    return list(dict.fromkeys(cells[_places(len(cells))].to_list()))


def _places(cells: int) -> list[int]:
    """Which of so many cells are looked at; a choice of numbers takes no plan of polars, at 0.1 ms each."""
    return [*range(min(SHAPES // 2, cells)), *range(0, cells, max(1, 2 * cells // SHAPES))]
