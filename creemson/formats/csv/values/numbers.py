"""How the numbers of a CSV are written: decimal and thousands separators, and the signs of amounts."""

import re
from collections.abc import Iterable
from functools import cache

import attrs
import polars as pl

from creemson.formats.csv.values.kinds import Kind
from creemson.formats.csv.values.shown import INTEGER_SHOWN, SHORTEST_SHOWN, fixed_shown
from creemson.formats.exact import MAX_DIGITS, exact_decimal, is_rounded, may_be_rounded
from creemson.model.query import Options

__all__ = [
    "DECIMAL_COMMA",
    "FLOAT",
    "INTEGER",
    "LARGE_INTEGER",
    "MAX_AMOUNT",
    "NUMBER",
    "Notation",
    "certain_notation",
    "decimal_kind",
    "have_decimal_commas",
    "number_kinds",
    "requested_notation",
    "requested_number",
]

NUMBER = r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$"
"""Pattern of a number with a decimal point."""
MAX_AMOUNT = 100
"""A longer cell is no amount; the patterns below would take long for it."""
SPACES = "\u00a0\u202f"
SEPARATORS = f",' {SPACES}"
_CURRENCY = "(?:[A-Z]{0,2}[$€£¥¢₹₽₩₺₫₴₦₱฿₪₡₲₵₸₼₾₿]|[A-Z]{3})"
_SIGN_BEFORE = re.compile(rf"\(?[-+]?\s*({_CURRENCY})\s*[-+]?[\d.,]")
_SIGN_BEHIND = re.compile(rf"({_CURRENCY})\)?$")
_DIGITS_FIRST = re.compile(r"\(?[-+]?[\d.,]")
_GROUPS = re.compile(
    r"\(?-?[1-9]\d{0,2}(?:"
    + "|".join(
        rf"{sign}\d{{3}}(?:{sign}\d{{3}})*(?:{'[.]' if sign == ',' else '[.,]'}\d+)?" for sign in SEPARATORS
    )
    + r")\)?"
)
_TRAILING_MINUS = re.compile(r"\d\s?-$")
_COMMA_AMOUNT = re.compile(
    rf"[<>≤≥~≈]?\s?\(?[-+]?\s?(?:{_CURRENCY})?\s?[-+]?(?:\d{{1,3}}(?:[. '{SPACES}]\d{{3}})+|\d+),(?:\d\d?|\d{{4,8}})"
    rf"\s?-?\s?(?:{_CURRENCY}|[%‰])?\)?"
)
"""Matches an amount that certainly has a decimal comma."""
_ACCOUNTING = re.compile(r"\((?:\d{1,3}(?:,\d{3})+|\d+)\.\d+\)")


@attrs.frozen
class Notation:
    """How numbers are written.

    Attributes:
        decimal: The decimal separator.
        thousands: The sign between groups of digits; ``""`` for none.
        currency: A currency sign before or behind the digits; ``""`` for none.
        has_percent: Whether the numbers are percentages; each of them then ends with the sign, and 5 % is 0.05.
        has_parentheses: Whether parentheses mean a negative number.
        has_trailing_minus: Whether a minus behind the digits does, as SAP writes it.
        in_twos: Whether groups of two digits may precede the last group, as in India.
    """

    decimal: str = "."
    thousands: str = ""
    currency: str = ""
    has_percent: bool = False
    has_parentheses: bool = False
    has_trailing_minus: bool = False
    in_twos: bool = False

    def plain(self, text: pl.Expr) -> pl.Expr:
        """Write numbers with a decimal point and without other signs; null where a cell is not in this notation."""
        if self.has_parentheses:
            text = text.str.replace(r"^\(([^-+()]*)\)$", "-$1")
        if self.has_trailing_minus:
            text = text.str.replace(r"^([^-+()]*\d)\s?-(\D*)$", "-$1$2")
        if self.currency:
            sign = re.escape(self.currency)
            text = text.str.replace(rf"^([-+]?)\s*{sign}\s*([-+]?)", "$1$2").str.replace(rf"\s*{sign}$", "")
        if self.has_percent:
            text = pl.when(text.str.ends_with("%")).then(text.str.replace(r"\s*%$", ""))
        decimal, thousands = re.escape(self.decimal), re.escape(self.thousands)
        groups = (
            rf"(?:{thousands}\d{{2,3}})*{thousands}\d{{3}}" if self.in_twos else rf"(?:{thousands}\d{{3}})+"
        )
        whole = rf"\d+|[1-9]\d{{0,2}}{groups}|" if thousands else r"\d+|"
        is_number = text.str.contains(rf"^[-+]?(?:{whole})(?:{decimal}\d*)?(?:[eE][-+]?\d+)?$")
        if thousands:
            text = text.str.replace_all(self.thousands, "", literal=True)
        if self.decimal != ".":
            text = text.str.replace(self.decimal, ".", literal=True)
        if self.has_percent:
            text += "e-2"  # moves the point without rounding
        return pl.when(is_number).then(text)


def _plain(notation: Notation, texts: pl.Series) -> pl.Series:
    return texts.alias("").to_frame().select(notation.plain(pl.first())).to_series()


# --- kinds -----------------------------------------------------------------------------------------------


def _finite(text: pl.Expr) -> pl.Expr:
    """The doubles of texts; polars reads the words ``inf`` and ``nan``, too, and numbers that are too large as inf."""
    value = text.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _integer(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Int64, strict=False)


def _large_integer(text: pl.Expr) -> pl.Expr:
    # Neither Parquet nor Arrow has integers of 128 bits.
    return text.cast(pl.Int128, strict=False).cast(pl.Decimal(38, 0), strict=False)


def _loses_digits(texts: pl.Series, values: pl.Series) -> pl.Series:
    """Whether a double is another number than its text, or has no value because the text is too large."""
    lost = is_rounded(texts, values)
    if values.null_count() > texts.null_count():
        lost |= (values.is_null() & texts.str.contains(NUMBER)).fill_null(value=False)
    return lost


INTEGER = Kind("int64", pl.Int64(), _integer, is_number=True, is_integer=True, shown=INTEGER_SHOWN)
LARGE_INTEGER = Kind(
    "decimal", pl.Decimal(38, 0), _large_integer, is_number=True, is_integer=True, shown=INTEGER_SHOWN
)
FLOAT = Kind(
    "float64",
    pl.Float64(),
    _finite,
    is_number=True,
    loses=_loses_digits,
    may_lose=may_be_rounded,
    shown=SHORTEST_SHOWN,
)


@cache
def number_kinds(notation: Notation) -> dict[str, Kind]:
    """Return the kinds of numbers in a notation, the narrowest first, each with its own key."""
    plain = notation.plain
    comma = "," if notation.decimal == "," else ""
    key = repr(notation)
    integers = {
        f"{name} {key}": Kind(
            kind.name,
            kind.dtype,
            lambda text, convert=kind.convert: convert(plain(text)),  # type: ignore[misc]
            comma,
            is_number=True,
            plain=plain,
            thousands=notation.thousands,
        )
        for name, kind in (("int", INTEGER), ("large", LARGE_INTEGER))
    }
    fraction = Kind(
        "float64",
        pl.Float64(),
        lambda text: _finite(plain(text)),
        comma,
        is_number=True,
        plain=plain,
        loses=lambda texts, values: _loses_digits(_plain(notation, texts), values),
        may_lose=may_be_rounded,
        thousands=notation.thousands,
    )
    return integers | {f"float {key}": fraction}


*_, DECIMAL_COMMA = number_kinds(Notation(",", ".")).values()


def decimal_kind(kind: Kind, dtype: pl.Decimal) -> Kind:
    """Return the decimals that are written like the numbers of a kind.

    Args:
        kind: A kind of numbers.
        dtype: The type of the decimals.
    """
    plain = kind.plain or (lambda text: text)
    shown = fixed_shown(dtype.scale, MAX_DIGITS) if dtype.scale else INTEGER_SHOWN
    return Kind(
        "decimal",
        dtype,
        lambda text: exact_decimal(plain(text), dtype),
        kind.notation,
        is_number=True,
        plain=kind.plain,
        thousands=kind.thousands,
        shown="" if kind.plain else shown,
    )


def requested_number(name: str, dtype: pl.DataType, notation: Notation) -> Kind:
    """Return the kind of numbers that a request names: any text that polars reads as a number has it.

    Args:
        name: The name of the type.
        dtype: The type.
        notation: How the numbers are written.
    """
    is_plain = notation == Notation()

    def convert(text: pl.Expr) -> pl.Expr:
        plain = text if is_plain else notation.plain(text)
        value = plain.cast(dtype, strict=False)
        if not dtype.is_float():
            return value
        # Digits that are too large for the type have no value; "NaN" is a word for a missing one.
        is_value = value.is_finite() | (value.is_infinite() & ~plain.str.contains(r"\d"))
        return pl.when(is_value).then(value)

    comma = "," if notation.decimal == "," else ""
    shown = INTEGER_SHOWN if dtype.is_integer() else SHORTEST_SHOWN if dtype == pl.Float64 else ""
    return Kind(
        name,
        dtype,
        convert,
        comma,
        is_number=True,
        thousands=notation.thousands,
        shown=shown if is_plain else "",
    )


# --- notations -------------------------------------------------------------------------------------------


def certain_notation(cells: Iterable[str], options: Options) -> Notation | None:
    """Return the notation of numbers with separated thousands, if the request names it or some cells can mean no other.

    Thousands are certain where a decimal separator follows them, and where they are separated by an apostrophe or a
    narrow or protected space. An accountant's ``(5.00)`` is certain beside other numbers. A decimal comma with points
    between thousands is :data:`DECIMAL_COMMA`.

    Args:
        cells: Some cells of a column, without blanks around them.
        options: The options of the request; ``thousands`` and ``decimal`` are used.
    """
    signs: set[str] = set()
    decimals: set[str] = set()
    negatives = 0
    cells = list(cells)
    for cell in cells:
        if _ACCOUNTING.fullmatch(cell):
            negatives += 1
        if not _GROUPS.fullmatch(cell):
            continue
        sign = next(character for character in cell if character in SEPARATORS)
        rest = next((character for character in cell if character in ".," and character != sign), None)
        if rest is not None:
            signs.add(sign)
            decimals.add(rest)
        elif sign in "'" + SPACES:
            signs.add(sign)
    has_parentheses = 0 < negatives < len(cells)
    if options.thousands is not None:
        other = {",": ".", ".": ","}.get(options.thousands)
        commas = [cell for cell in cells if re.search(r"\d,\d+$", cell)]
        decimal = options.decimal or other or ("," if commas else ".")
        return Notation(decimal, options.thousands, has_parentheses=has_parentheses, in_twos=True)
    if len(signs) > 1 or len(decimals) > 1 or not (signs or has_parentheses):
        return None
    sign = signs.pop() if signs else ","
    default = "," if sign in SPACES else "."
    decimal = decimals.pop() if decimals else options.decimal or default
    if decimal == sign or options.decimal not in (None, decimal):
        return None
    return Notation(decimal, sign, has_parentheses=has_parentheses)


def have_decimal_commas(cells: Iterable[str]) -> bool:
    """Whether at least half of some cells are amounts with decimal commas, such as ``12,50 €`` and ``3,00-``."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    amounts = sum(len(cell) <= MAX_AMOUNT and _COMMA_AMOUNT.fullmatch(cell) is not None for cell in filled)
    return amounts > 0 and amounts * 2 >= len(filled)


def requested_notation(
    cells: Iterable[str], options: Options, *, has_comma: bool, is_integer: bool
) -> Notation:
    """Return how the numbers of a column are written that a request names as such.

    Args:
        cells: Some cells of the column.
        options: The options of the request; ``thousands`` and ``decimal`` are used.
        has_comma: Whether the fractions have a decimal comma.
        is_integer: Whether the numbers are requested as integers, so that a comma can only separate thousands.
    """
    bare = [cell.strip() for cell in cells if len(cell) <= MAX_AMOUNT]
    currency = ""
    has_percent = has_parentheses = has_trailing_minus = False
    amounts: list[str] = []
    for cell in bare:
        if cell.startswith("(") and cell.endswith(")"):
            has_parentheses = True
            cell = cell[1:-1]  # noqa: PLW2901
        if cell.endswith("%"):
            has_percent = True
            cell = cell[:-1].rstrip()  # noqa: PLW2901
        sign = _SIGN_BEFORE.match(cell) or (_DIGITS_FIRST.match(cell) and _SIGN_BEHIND.search(cell))
        if sign is not None:
            currency = currency or sign[1]
            cell = cell.replace(sign[1], "").strip()  # noqa: PLW2901
        if _TRAILING_MINUS.search(cell):
            has_trailing_minus = True
            cell = f"-{cell[:-1].rstrip()}"  # noqa: PLW2901
        amounts.append(cell)
    certain = certain_notation(amounts, options)
    if certain is None and is_integer and any(re.fullmatch(r"-?\d{1,3}(,\d{3})+", cell) for cell in amounts):
        certain = Notation(".", ",")
    has_comma = has_comma or any(
        re.fullmatch(r"-?(\d{1,3}(\.\d{3})+|\d+),(\d{1,2}|\d{4,})", cell) for cell in amounts
    )
    if certain is None:
        has_sign = bool(currency or has_percent or has_parentheses or has_trailing_minus)
        certain = Notation(",", ".") if has_comma else Notation(".", "," if has_sign else "")
    return attrs.evolve(
        certain,
        currency=currency,
        has_percent=has_percent,
        has_parentheses=has_parentheses or certain.has_parentheses,
        has_trailing_minus=has_trailing_minus,
    )
