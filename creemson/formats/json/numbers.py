r"""Reads columns of numbers from JSON with all their digits.

polars makes doubles of numbers with a point, and of all numbers of a column that has one: 60685111400000017 beside 1.5
is rounded. So the numbers of such columns are marked in the text (``"v":1.50`` becomes ``"v":"\u00011.50"``), polars
reads them as text, and they become doubles where these have the same digits, otherwise decimals.
"""

import decimal
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import polars as pl
from polars.exceptions import ComputeError, PanicException, PolarsError

from creemson.formats.exact import decimal_for, digit_counts, exact_decimal, is_rounded
from creemson.formats.json.parsing import Number, dumps, loads_exact
from creemson.formats.table import text_of

__all__ = [
    "Digits",
    "InexactError",
    "is_exact",
    "is_number_type",
    "marked_numbers",
    "may_round",
    "may_round_in_text",
    "number_columns",
    "number_texts",
    "read_exact",
    "rounded_within",
]

MARK = "\x01"
"""Begins a number that is read as text; JSON has this character as an escape only."""
FEW = 30
"""Maximum number of columns whose keys are alternatives of one pattern: Python tries them one after the other."""
_LIKE_NUMBER = r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$"
"""Pattern of what polars makes of a number in a column of texts."""
_NUMBER = rb"(-?\d[^,}\s]*+)"
_LONG = re.compile(rb"\d[\d.]{15}|[eE]-?\d{3}")
"""Matches all numbers that a double may round."""
_LONG_FRACTION = re.compile(rb"[\[,:]\s*+-?(?=\d[\d.]{15})\d++\.")
"""Matches all fractions that a double may round."""
_MEMBER = re.compile(
    rb'("(?:[^"\\]++|\\.)*+")(\s*+:\s*+)' + _NUMBER + rb'|"(?:[^"\\]++|\\.)*+"|[^"]++|".*+', re.DOTALL
)
"""Matches a key and its number, and whatever else there is."""
_HUGE = re.compile(rb"-?\d(?:[\d.]*+[eE]\+?\d{3}|\d{300})")
"""Matches the beginning of a number that may be too large for a double."""


class InexactError(ComputeError):
    """A number does not have the type of its column, or not all its digits in this type."""


def is_number_type(dtype: pl.DataType) -> bool:
    """Whether the numbers of a column of this type are read as text."""
    return dtype == pl.Float64 or dtype.is_decimal()


def marked_numbers(data: bytes, names: Collection[str]) -> bytes:
    r"""Mark the numbers of some columns.

    Args:
        data: Lines of JSON.
        names: The columns.

    >>> marked_numbers(b'{"v":1.50,"w":"x","u":2}', ["v", "w"])
    b'{"v":"\\u00011.50","w":"x","u":2}'
    """
    if len(names) <= FEW:
        # A quote behind a backslash does not begin a key. A pattern that begins with a character is searched fast.
        keys = b"|".join(re.escape(key.encode()[1:]) for key in sorted(_key_texts(names)))
        pattern = rb'("(?<!\\")(?:' + keys + rb")\s*+:\s*+)" + _NUMBER
        parts = re.split(pattern, data)  # twice as fast as a substitution
        parts[2::3] = [b'"\\u0001' + number + b'"' for number in parts[2::3]]
        return b"".join(parts)
    known = frozenset(key.encode() for key in _key_texts(names))
    return _MEMBER.sub(
        lambda found: found[1] + found[2] + b'"\\u0001' + found[3] + b'"' if found[1] in known else found[0],
        data,
    )


def _key_texts(names: Collection[str]) -> set[str]:
    """The JSON of some keys, as it is mostly written."""
    return {text for name in names for text in (dumps(name).decode(), json.dumps(name))}


def read_exact(data: bytes, schema: Mapping[str, pl.DataType], texts: Collection[str] = ()) -> pl.DataFrame:
    """Read lines of JSON; numbers in columns of text keep their digits, too.

    Args:
        data: The lines.
        schema: The columns and their types.
        texts: Columns of numbers for which the frame also has a hidden column of their texts (:func:`text_of`), with
            null where the text is that of the value.

    Raises:
        PolarsError: A line cannot be read, or a value does not fit its type with all its digits.
        PanicException: As before.
    """
    numbers = [name for name, dtype in schema.items() if is_number_type(dtype)]
    strings = [name for name, dtype in schema.items() if dtype == pl.String]
    if not numbers and not strings:
        return _read_marked(data, schema, [])
    try:
        frame = _read_marked(data, schema, numbers)
        # Texts that look like numbers may be numbers, whose digits polars does not keep.
        doubtful = [
            name for name in strings if frame.get_column(name).alias("").str.contains(_LIKE_NUMBER).any()
        ]
        marked = _read_marked(data, dict.fromkeys(doubtful, pl.String()), doubtful) if doubtful else frame
    except (PolarsError, PanicException):  # also numbers of more than 38 digits
        doubtful = strings
        frame = marked = _read_marked(data, schema, [*numbers, *strings])
    # In the rare text that begins with the mark, numbers among texts have the digits that polars writes.
    has_marks = b"\\u0001" in data and marked is not frame
    columns = [] if has_marks else [marked.get_column(name).str.strip_prefix(MARK) for name in doubtful]
    return frame.with_columns(columns + number_columns(frame, schema, texts))


def number_columns(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType], texts: Collection[str]
) -> list[pl.Series]:
    """Return the columns of numbers of a frame that has them as marked text, and hidden columns of their texts.

    Args:
        frame: What polars has read of marked lines.
        schema: The columns and their types.
        texts: The columns whose texts are wanted; they are null where the text is that of the value.

    Raises:
        InexactError: A value is no number, or does not have all its digits in its type.
    """
    columns = []
    for name in [name for name, dtype in schema.items() if is_number_type(dtype)]:
        text = _unmarked(frame.get_column(name))
        value = _numbers(text, schema[name])
        columns.append(value)
        if name in texts:
            is_same = text.alias("") == value.cast(pl.String).alias("")
            columns.append(text.set(is_same.fill_null(value=False), None).alias(text_of(name)))
    return columns


def number_texts(data: bytes, name: str) -> pl.Series:
    """Return the numbers of a column as they are written; null for other values.

    Args:
        data: Lines of JSON.
        name: The column.
    """
    column = _read_marked(data, {name: pl.String()}, [name]).to_series()
    return column.set(~column.alias("").str.starts_with(MARK).fill_null(value=False), None).str.strip_prefix(
        MARK
    )


def _read_marked(data: bytes, schema: Mapping[str, pl.DataType], names: Collection[str]) -> pl.DataFrame:
    """Read lines of JSON, with some columns as text, and their numbers marked."""
    texts = {name: pl.String() if name in names else dtype for name, dtype in schema.items()}
    try:
        return pl.read_ndjson(marked_numbers(data, names) if names else data, schema=texts)
    except PolarsError:  # polars refuses a line for a number that no double has, also one of another column
        others = _keys_of_huge_numbers(data) - schema.keys()
        if not others:
            raise
        return pl.read_ndjson(marked_numbers(data, [*names, *others]), schema=texts)


def _keys_of_huge_numbers(data: bytes) -> set[str]:
    """The keys of numbers that may be too large for a double."""
    found = set()
    for member in _MEMBER.finditer(data):
        if member[3] is not None and _HUGE.match(member[3]):
            with suppress(ValueError):  # a key that is no JSON: polars' error says more
                found.add(json.loads(member[1]))
    return found


def _unmarked(column: pl.Series) -> pl.Series:
    if not column.alias("").str.starts_with(MARK).all():
        raise InexactError(f"the column {column.name!r} has other values than numbers")
    return column.str.slice(1)


def _numbers(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Decimal):
        value = text.to_frame("").select(exact_decimal(pl.col(""), dtype)).to_series().alias(text.name)
        is_wrong = value.is_null() & text.is_not_null()
    else:
        value = text.cast(dtype, strict=False)
        is_wrong = is_rounded(text.alias(""), value.alias("")) | (value.is_null() & text.is_not_null())
        is_wrong |= value.is_infinite().fill_null(value=False)
    if is_wrong.any():
        raise InexactError(f"{text.filter(is_wrong)[0]} has more digits than {dtype}")
    return value


class Digits:
    """Finds the type that has all digits of some numbers.

    >>> Digits().add(pl.Series(["1", "2.50"])).dtype, Digits().add(pl.Series(["60685111400000017", "1.5"])).dtype
    (Float64, Decimal(precision=38, scale=1))
    >>> Digits().add(pl.Series(["1", "18446744073709551615"])).dtype
    UInt64
    """

    def __init__(self) -> None:
        self._has_fractions = self._is_rounded = False
        self._whole, self._fraction = 1, 0
        self._integers: list[pl.DataType] = [pl.Int64(), pl.UInt64()]

    def add(self, texts: pl.Series) -> "Digits":
        """Add numbers as they are written."""
        texts = texts.drop_nulls().alias("")
        if texts.is_empty():
            return self
        self._has_fractions |= bool(texts.str.contains(r"[.eE]").any())
        values = texts.cast(pl.Float64, strict=False)
        is_lost = is_rounded(texts, values) | values.is_infinite() | values.is_null()
        self._is_rounded |= bool(is_lost.any())
        self._integers = [
            dtype for dtype in self._integers if texts.cast(dtype, strict=False).null_count() == 0
        ]
        counts = [count.max().alias(str(n)) for n, count in enumerate(digit_counts(pl.col("")))]
        whole, fraction = texts.to_frame("").select(counts).row(0)
        self._whole, self._fraction = max(self._whole, whole), max(self._fraction, fraction)
        return self

    @property
    def dtype(self) -> pl.DataType:
        """The type; text if no type of numbers has all digits."""
        if not self._has_fractions and self._integers:
            return self._integers[0]
        if self._has_fractions and not self._is_rounded:
            return pl.Float64()
        return decimal_for(self._whole, self._fraction) or pl.String()


def is_exact(text: str, dtype: pl.DataType) -> bool:
    """Whether a type has all digits of a number.

    Args:
        text: The number as it is written.
        dtype: Of doubles, decimals or integers.

    >>> is_exact("1.50", pl.Float64()), is_exact("60685111400000017", pl.Float64()), is_exact("1.5", pl.Int64())
    (True, False, False)
    """
    number = decimal.Decimal(text)
    if dtype.is_float():
        value = float(text)
        return math.isfinite(value) and decimal.Decimal(repr(value)) == number
    exponent = number.normalize(_CONTEXT).as_tuple().exponent
    digits, point = len(number.as_tuple().digits), int(exponent)
    if isinstance(dtype, pl.Decimal):
        return point >= -dtype.scale and number.adjusted() < 38 - dtype.scale and digits < MAX_TEXT
    return False


_CONTEXT = decimal.Context(prec=1000)
MAX_TEXT = 1000
"""Maximum number of digits that are looked at."""


def may_round(data: bytes) -> bool:
    """Whether lines of JSON may have numbers that a double rounds; fast."""
    return _LONG.search(data) is not None


def may_round_in_text(data: bytes, frame: pl.DataFrame) -> bool:
    """Whether a text may have rounded fractions, because it is the JSON of a list or object, or is in a list; fast.

    Args:
        data: Lines of JSON.
        frame: What polars has read of them.
    """
    if not _LONG_FRACTION.search(data):
        return False
    return any(
        bool(column.str.contains(r"^[\[{]").any())
        if column.dtype == pl.String
        else "String" in str(column.dtype)
        for column in frame.iter_columns()
    )


def rounded_within(line: bytes, schema: Mapping[str, pl.DataType]) -> Iterator[tuple[str, str]]:
    """Yield the numbers within lists and objects that their doubles do not hold, each with its column.

    Args:
        line: A line of JSON.
        schema: The columns and their types.

    >>> list(rounded_within(b'{"l":[1.50,60685111400000017]}', {"l": pl.List(pl.Float64)}))
    [('l', '60685111400000017')]
    >>> list(rounded_within(b'{"t":{"a":[0.12345678901234567,60685111400000017]}}', {"t": pl.String()}))
    [('t', '0.12345678901234567')]
    """
    if not may_round(line):
        return
    row = loads_exact(line)
    for name, dtype in schema.items():
        value = row.get(name)
        if isinstance(value, (list, dict)):  # other numbers keep their digits
            for text in _rounded(value, dtype):
                yield name, text


def _rounded(value: Any, dtype: Any) -> Iterator[str]:
    if isinstance(dtype, pl.List) and isinstance(value, list):
        for item in value:
            yield from _rounded(item, dtype.inner)
    elif isinstance(dtype, pl.Struct) and isinstance(value, dict):
        for field in dtype.fields:
            yield from _rounded(value.get(field.name), field.dtype)
    elif dtype == pl.String:
        yield from _rounded_in_text(value)
    elif dtype == pl.Float64 and isinstance(value, (int, Number)):
        text = value.text if isinstance(value, Number) else str(value)
        if not is_exact(text, dtype):
            yield text


def _rounded_in_text(value: Any) -> Iterator[str]:
    """The numbers that polars rounds when it writes a value as text: fractions, because integers keep their digits."""
    if isinstance(value, list):
        for item in value:
            yield from _rounded_in_text(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _rounded_in_text(item)
    elif isinstance(value, Number) and not value.is_integer and not is_exact(value.text, pl.Float64()):
        yield value.text
