"""Infers the types of text columns, and converts text to them, by the rules of :mod:`creemson.formats.types`.

A column has a type if at least 99 % of its cells have it; the other cells become null and are reported. A column
stays text if its cells may mean two things: dates whose day and month cannot be distinguished, and digits that may
not be a number (as a leading zero or a plus sign shows).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from creemson.formats.columns import exactly, unnamed
from creemson.formats.csv.values.kinds import (
    BOOLEAN,
    TEXT,
    Kind,
    nanoseconds,
    pattern_kind,
    stripped,
    temporal_kinds,
)
from creemson.formats.csv.values.numbers import (
    DECIMAL_COMMA,
    FLOAT,
    INTEGER,
    LARGE_INTEGER,
    MAX_AMOUNT,
    NUMBER,
    certain_notation,
    decimal_kind,
    number_kinds,
    requested_notation,
    requested_number,
)
from creemson.formats.exact import decimal_for, digit_counts
from creemson.formats.types import DTYPES, LOSSY_DIGITS, NULL_WORDS, RULES
from creemson.model.query import Options

__all__ = [
    "FEW_ROWS",
    "GROUP_COLUMNS",
    "choose_kind",
    "column_groups",
    "infer_kinds",
    "may_be_thousands",
    "needs_nanoseconds",
    "null_words",
    "requested_kind",
    "sample_cells",
    "sample_columns",
]

MAX_MISFITS = 0.01
"""Maximum share of a column's cells that may be of another type than the column."""
GROUP_COLUMNS = 100
"""Maximum number of columns in one polars plan."""
FEW_ROWS = 1000
"""Number of cells that Python searches in the time that polars takes for a plan."""
SAMPLE_CELLS = 40
"""Approximate number of cells of a column that decide which types are tried."""
_INTEGER, _FLOAT, _COMMA = RULES["integer"], RULES["float"], RULES["float with decimal comma"]
_BOOLEANS = RULES["boolean"].inferred_words
_CODE = r"^\d+[eE]\d+$"
_THOUSANDS = frozenset(",' ()\u00a0\u202f")
"""A cell with none of these has no separated thousands other than points with a decimal comma."""
_FIRST = frozenset("0123456789-(")
_SIGNS = ("-", "+", ".")


def _candidates(cells: Iterable[str], options: Options, rows: float = math.inf) -> dict[str, Kind]:
    """The kinds that a column with these cells may have, the narrowest first, each with its own key.

    Args:
        cells: Some cells of the column.
        options: How the request says that numbers, dates and missing values are written.
        rows: Number of its cells; if too many of them are words, the column is text, and no kind needs to be tried.
    """
    bare = [cell.strip() for cell in cells]
    kinds: dict[str, Kind] = {}
    times: dict[str, Kind] = {}
    decimal: str | None = options.decimal
    notation = None
    digits = [text for text in bare if text[:1] in _FIRST and len(text) <= MAX_AMOUNT]
    if options.thousands is not None or not _THOUSANDS.isdisjoint("".join(digits)):
        notation = certain_notation(digits, options)
    if options.thousands is not None and notation is not None:
        decimal = notation.decimal
    missing, words = null_words(options), 0
    for text in bare:
        if text in _BOOLEANS:
            kinds["boolean"] = BOOLEAN
        elif text[:1] in _SIGNS or text[:1].isdecimal():  # most cells of most files are words
            numbers = _plain_numbers(text, decimal, has_thousands=options.thousands is not None)
            kinds |= numbers
            if "int" not in numbers:
                times |= {kind.notation: kind for kind in temporal_kinds(text)}
        elif text and text not in missing:
            words += 1
    if words > rows * MAX_MISFITS and notation is None and options.date_format is None:
        return {}
    if "comma" in kinds:
        kinds.pop("float", None)
    found: dict[str, Kind] = {
        key: kinds[key] for key in ("boolean", "int", "large", "float", "comma") if key in kinds
    }
    if notation is not None:
        found |= number_kinds(notation)
    if isinstance(options.date_format, str):
        dates = pattern_kind(options.date_format)
        if dates.converted(pl.Series(bare, dtype=pl.String)).count():
            # The request decides between day and month, and for digits that may be a number.
            return (
                {options.date_format: dates}
                | found
                | {key: kind for key, kind in times.items() if not kind.day_order}
            )
    return found | times


def _plain_numbers(text: str, decimal: str | None, *, has_thousands: bool) -> dict[str, Kind]:
    """The kinds of numbers without separated thousands that a cell may have."""
    kinds: dict[str, Kind] = {}
    if _INTEGER.csv.fullmatch(text):
        kinds |= {"int": INTEGER, "large": LARGE_INTEGER}
    if decimal != "," and _FLOAT.csv.fullmatch(text):
        kinds["float"] = FLOAT
    if (
        not has_thousands
        and decimal != "."
        and (_COMMA.csv.fullmatch(text) or (decimal and _COMMA.ambiguous.fullmatch(text)))
    ):
        kinds["comma"] = DECIMAL_COMMA
    return kinds


def infer_kinds(
    texts: pl.LazyFrame | pl.DataFrame,
    names: Collection[str],
    samples: Mapping[str, Iterable[str]],
    options: Options,
    values: dict[str, pl.Series] | None = None,
) -> dict[str, Kind]:
    """Infer the kinds of columns of text.

    Args:
        texts: All cells of the columns, or a sample.
        names: The columns' names.
        samples: Some cells of each column, which decide which kinds are tried.
        options: How the request says that numbers and missing values are written.
        values: Receives the values of the columns that were converted on the way, in their kinds.

    Returns:
        The kind of each column.
    """
    rows = texts.height if isinstance(texts, pl.DataFrame) else math.inf
    candidates = {name: _candidates(samples[name], options, rows) for name in names}
    kinds = dict.fromkeys(names, TEXT)
    if isinstance(texts, pl.DataFrame):
        kinds |= _certain_kinds(texts, candidates, {} if values is None else values)
    columns = [name for name in names if candidates[name] and kinds[name] is TEXT]
    if not columns:
        return kinds
    groups = [(columns, texts)] if isinstance(texts, pl.LazyFrame) else column_groups(texts, columns)
    for group, part in groups:
        kinds |= _best_kinds(part, group, candidates, null_words(options))
    return kinds


def null_words(options: Options) -> Sequence[str]:
    """Return the words that mean a missing value among other values; none if the request has its own words."""
    return NULL_WORDS if options.null_values is None else ()


def _best_kinds(
    texts: pl.LazyFrame | pl.DataFrame,
    columns: Sequence[str],
    candidates: Mapping[str, Mapping[str, Kind]],
    words: Sequence[str],
) -> dict[str, Kind]:
    """The kinds that most cells of each column have, computed in one pass, and one more if numbers were rounded."""
    kinds: dict[str, Kind] = {}
    counts: list[pl.Expr] = []
    for number, name in enumerate(columns):
        text = exactly(name)
        bare = text.str.strip_chars()
        counts.append(((bare != "") & ~bare.is_in(words)).sum().alias(f"{number}"))
        counts.append(bare.str.contains(LOSSY_DIGITS).any().alias(f"{number} lossy"))
        counts.append((bare != text).any().alias(f"{number} spaces"))
        for key, kind in candidates[name].items():
            counts.append(kind.convert(bare).count().alias(f"{number} {key}"))
            if kind.loses is not None:
                counts.append(_loses(kind, bare).alias(f"{number} {key} loses"))
        if any(kind.is_number for kind in candidates[name].values()):
            counts.append(bare.str.contains(_CODE).any().alias(f"{number} code"))
            is_number = bare.str.contains(NUMBER) & bare.str.contains("[-+.]")
            counts.append(is_number.any().alias(f"{number} signs"))
    row = _row(texts.select(counts))
    finer: dict[str, tuple[Kind, int]] = {}
    for number, name in enumerate(columns):
        tried = candidates[name]
        fitting = {key: row[f"{number} {key}"] for key in tried}
        # Digits with an E are more often codes; beside them, other digits are codes, too.
        has_codes = bool(row.get(f"{number} code")) and not row[f"{number} signs"]
        lossy = bool(row[f"{number} lossy"]) or has_codes
        kind = choose_kind(tried, fitting, row[f"{number}"], has_lossy_digits=lossy)
        key = next((key for key, candidate in tried.items() if candidate is kind), "")
        if row.get(f"{number} {key} loses"):
            finer[name] = kind, fitting[key]
        kinds[name] = kind
    if finer:
        kinds |= _finer_kinds(texts, finer)
    return {
        name: stripped(kinds[name]) if kinds[name] is not TEXT and row[f"{number} spaces"] else kinds[name]
        for number, name in enumerate(columns)
    }


def _row(result: pl.LazyFrame | pl.DataFrame) -> dict[str, Any]:
    if isinstance(result, pl.LazyFrame):
        result = result.collect(engine="streaming")
    return result.row(0, named=True)


def _loses(kind: Kind, text: pl.Expr) -> pl.Expr:
    """Whether any cell has more digits than its value."""
    return text.map_batches(kind.alters, return_dtype=pl.Boolean, is_elementwise=True).any()


def _finer_kinds(
    texts: pl.LazyFrame | pl.DataFrame, kinds: Mapping[str, tuple[Kind, int]]
) -> dict[str, Kind]:
    """Kinds with more digits, for columns whose kind has too few; text if no kind has enough.

    Args:
        texts: The cells.
        kinds: The kind of each column, and the number of cells that have it.
    """
    counts: list[pl.Expr] = []
    for number, (name, (kind, _)) in enumerate(kinds.items()):
        text = exactly(name).str.strip_chars()
        if kind.is_number:
            plain = kind.plain(text) if kind.plain is not None else text
            is_number = plain.str.contains(NUMBER)
            for part, digits in zip(("whole", "fraction"), digit_counts(plain), strict=True):
                counts.append(digits.filter(is_number).max().alias(f"{number} {part}"))
        elif isinstance(kind.dtype, pl.Datetime):
            counts.append(nanoseconds(kind).convert(text).count().alias(f"{number}"))
            counts.append(_loses(nanoseconds(kind), text).alias(f"{number} loses"))
    row = _row(texts.select(counts)) if counts else {}
    finer = dict.fromkeys(kinds, TEXT)
    for number, (name, (kind, fitting)) in enumerate(kinds.items()):
        if kind.is_number:
            dtype = decimal_for(row[f"{number} whole"], row[f"{number} fraction"])
            if dtype is not None:
                finer[name] = decimal_kind(kind, dtype)
        elif (
            isinstance(kind.dtype, pl.Datetime) and row[f"{number}"] == fitting and not row[f"{number} loses"]
        ):
            finer[name] = nanoseconds(kind)
    return finer


def column_groups(frame: pl.DataFrame, names: Sequence[str]) -> Iterator[tuple[Sequence[str], pl.DataFrame]]:
    """Divide columns into groups, because the time and memory of a plan grow faster than its number of columns.

    Args:
        frame: The table.
        names: The columns to divide.

    Yields:
        Some of the names, and a table of these columns.
    """
    for start in range(0, len(names), GROUP_COLUMNS):
        group = names[start : start + GROUP_COLUMNS]
        yield group, pl.DataFrame([frame.get_column(name) for name in group])


def _certain_kinds(
    texts: pl.DataFrame, candidates: Mapping[str, Mapping[str, Kind]], values: dict[str, pl.Series]
) -> dict[str, Kind]:
    """The kinds of columns (usually most) whose cells all have the narrowest kind unchanged; computed in one pass.

    Args:
        texts: The cells.
        candidates: The kinds that each column may have, the narrowest first.
        values: Receives the values of these columns.
    """
    certain: dict[str, Kind] = {}
    if texts.is_empty():
        return certain  # without cells, nothing is certain
    narrowest = {name: next(iter(kinds.values())) for name, kinds in candidates.items() if kinds}
    # If a column has a second kind with another order of day and month, it is not certain.
    narrowest = {name: kind for name, kind in narrowest.items() if not kind.day_order}
    for group, part in column_groups(texts, list(narrowest)):
        plan: list[pl.Expr] = []
        for number, name in enumerate(group):
            kind, text = narrowest[name], exactly(name)
            loses = pl.lit(value=False)
            if kind.is_number:
                loses = text.str.contains(LOSSY_DIGITS).any()
            if kind.may_lose is not None:
                # Short and without an exponent, a number is a double as it is, and no code; a time has few digits.
                loses |= text.str.contains("[eE]|^.{16}" if kind.is_number else r"\.\d{7}").any()
            plan += [kind.convert(text).alias(f"{number}"), loses.alias(f"{number} loses")]
        found = part.select(plan)
        for number, name in enumerate(group):
            series, loses_any = found.get_column(f"{number}"), found.get_column(f"{number} loses")
            if series.null_count() == part.get_column(name).null_count() and not loses_any[0]:
                certain[name] = narrowest[name]
                values[name] = series.alias(name)
    return certain


def choose_kind(
    kinds: Mapping[str, Kind], counts: Mapping[str, int], cells: int, *, has_lossy_digits: bool
) -> Kind:
    """Choose the kind that most cells of a column have, if enough of them do.

    Args:
        kinds: The candidates, the narrowest first.
        counts: The number of cells that have each kind, by its key.
        cells: The number of all cells.
        has_lossy_digits: Whether some cells match :data:`~creemson.formats.types.LOSSY_DIGITS`.

    Returns:
        The first of the kinds with the highest count; :data:`TEXT` if too few cells have it, or if as many cells have
        a kind with another meaning.
    """
    best, maximum = TEXT, 0
    for key, kind in kinds.items():
        if not (has_lossy_digits and kind.is_number) and counts[key] > maximum:
            best, maximum = kind, counts[key]
    if not cells or cells - maximum > cells * MAX_MISFITS:
        return TEXT
    if best.day_order and any(
        kind.day_order not in ("", best.day_order) and counts[key] == maximum for key, kind in kinds.items()
    ):
        return TEXT
    return best


def requested_kind(
    name: str,
    samples: Iterable[str],
    options: Options,
    cells: pl.Series | None = None,
    *,
    pattern: str | None = None,
) -> Kind:
    """Return the kind for a type that the request names.

    Args:
        name: One of :data:`creemson.model.query.TYPES`.
        samples: Some cells, which show how dates and fractions are written.
        options: How the request says that numbers are written.
        pattern: How dates and times are written, if the request says it for this column.
        cells: The cells of a sample, which decide the order of day and month; if both orders fit, the day is first.
    """
    if name == "string":
        return TEXT
    if name == "boolean":
        return stripped(BOOLEAN)
    samples = list(samples)
    candidates = _candidates(samples, options)
    dtype = DTYPES[name]
    if dtype.is_numeric():
        has_comma = dtype.is_float() and ("comma" in candidates or options.decimal == ",")
        notation = requested_notation(samples, options, has_comma=has_comma, is_integer=not dtype.is_float())
        return stripped(requested_number(name, dtype, notation))
    bare = pl.Series([cell.strip() for cell in samples], dtype=pl.String)
    if pattern is None and isinstance(options.date_format, str):
        pattern = (
            options.date_format if pattern_kind(options.date_format, name).converted(bare).count() else None
        )
    if pattern is not None:
        fitting = [pattern_kind(pattern, name)]
    else:
        fitting = [kind for kind in candidates.values() if kind.name == name]
    if not fitting and name == "datetime":  # a date is its midnight
        fitting = [pattern_kind(kind.notation, name) for kind in candidates.values() if kind.name == "date"]
    if not fitting:
        iso = {"date": "2000-01-01", "datetime": "2000-01-01T00:00:00", "time": "00:00:00"}[name]
        fitting = temporal_kinds(iso)
    if cells is not None and len(fitting) > 1:
        counts = [stripped(kind).converted(cells).count() for kind in fitting]
        fitting = [fitting[counts.index(max(counts))]]
    kind = stripped(fitting[0])
    return nanoseconds(kind) if cells is not None and needs_nanoseconds(kind, cells) else kind


def needs_nanoseconds(kind: Kind, cells: pl.Series) -> bool:
    """Whether any of some cells is a datetime with more than six digits of seconds."""
    if not isinstance(kind.dtype, pl.Datetime) or kind.dtype.time_unit == "ns":
        return False
    return bool((kind.alters(cells) & kind.converted(cells).is_not_null()).any())


def may_be_thousands(cells: Iterable[str]) -> bool:
    """Whether all of these numbers may be integers with points that separate thousands."""
    return all(_FLOAT.ambiguous.fullmatch(cell.strip()) for cell in cells)


def sample_columns(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return some cells of each of these columns, as :func:`sample_cells` does, but faster for many columns."""
    samples: dict[str, Sequence[str]] = {}
    if not frame.height:
        return dict.fromkeys(names, ())
    for group, part in column_groups(frame, names):
        rows = part[_sample_rows(part.height)]
        for name in group:
            cells = rows.get_column(name).to_list()
            if None not in cells:
                samples[name] = list(dict.fromkeys(cells))
            elif part.height > FEW_ROWS:
                samples[name] = sample_cells(part.get_column(name))
            else:
                filled = [cell for cell in part.get_column(name).to_list() if cell is not None]
                samples[name] = list(dict.fromkeys(filled[row] for row in _sample_rows(len(filled))))
    return samples


def sample_cells(column: pl.Series) -> Sequence[str]:
    """Return distinct cells of a column: the first ones and, as these may be untypical, some from the whole column."""
    cells = unnamed(column).drop_nulls()
    return list(dict.fromkeys(cells[_sample_rows(len(cells))].to_list()))


def _sample_rows(rows: int) -> list[int]:
    """The numbers of the sampled rows; selecting rows by number needs no polars plan, which would take 0.1 ms."""
    return [*range(min(SAMPLE_CELLS // 2, rows)), *range(0, rows, max(1, 2 * rows // SAMPLE_CELLS))]
