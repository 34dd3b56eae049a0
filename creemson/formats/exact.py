"""Finds numbers that a double cannot hold as they are written, the decimals that hold them, and times with many digits.

A double holds a number as it is written if its shortest text has the same digits: 0.1 does, 1.1234567890123456789 and
9007199254740993 do not. A number that is rounded would merge with its neighbours, so its column becomes a decimal of up
to 38 digits, the most that Parquet, Arrow and their readers have; and if that is not enough, text.
"""

import polars as pl

__all__ = [
    "MAX_DIGITS",
    "decimal_for",
    "digit_counts",
    "exact_decimal",
    "has_finer_seconds",
    "is_altered",
    "is_rounded",
    "may_be_rounded",
    "without_leap_seconds",
]

MAX_DIGITS = 38
"""Maximum number of digits of a decimal."""
INTEGER_DIGITS = 18
"""An integer of so many digits has 64 bits."""
SAFE_LENGTH = 15
"""A double holds every number of so many digits."""
NORMAL = 1e-290
"""Smaller numbers may have fewer digits in a double, or none."""
_NO_DIGITS = r"^[-+]|\.|[eE].*$"


def may_be_rounded(text: pl.Expr, value: pl.Expr) -> pl.Expr:
    """Return an expression that is false if :func:`is_rounded` is for all texts; fast, for short numbers."""
    return (text.str.len_bytes().max() > SAFE_LENGTH) | (value.abs().min() < NORMAL)


def is_rounded(texts: pl.Series, values: pl.Series) -> pl.Series:
    """Whether the nearest double is another number than the text says.

    Args:
        texts: Numbers with a decimal point.
        values: The same numbers as doubles; null where a text is no finite number.
    """
    suspects = (texts.str.len_bytes() > SAFE_LENGTH).fill_null(value=False)
    tiny = (values.abs() < NORMAL).arg_true()  # mostly zeros
    tiny = tiny.filter(texts.gather(tiny).str.contains("[eE]"))
    return _where(suspects if tiny.is_empty() else suspects.scatter(tiny, values=True), texts, values)


def is_altered(texts: pl.Series, values: pl.Series) -> pl.Series:
    """Whether a number has other digits than its text, so that it was rounded; False where the number is null.

    The magnitudes need no comparison: a rounded number is close to its text.

    Args:
        texts: Numbers with a decimal point.
        values: The same numbers, as doubles or decimals.
    """
    return _where(values.is_not_null(), texts, values)


def _where(suspects: pl.Series, texts: pl.Series, values: pl.Series) -> pl.Series:
    """Whether a number is altered, for the suspects; False for all others."""
    rows = (suspects & values.is_not_null()).arg_true()
    altered = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(texts))
    if rows.is_empty():
        return altered
    written, shown = texts.gather(rows), values.gather(rows).cast(pl.String)
    differ = (written != shown).arg_true()  # programs write doubles as polars does; comparing is fast
    if differ.is_empty():
        return altered
    differ = differ.filter(_digits(written.gather(differ)) != _digits(shown.gather(differ)))
    return altered.scatter(rows.gather(differ), values=True)


def _digits(texts: pl.Series) -> pl.Series:
    """The digits of numbers without sign, point, exponent, and zeros at both ends."""
    return texts.str.replace_all(_NO_DIGITS, "").str.strip_chars("0")


def digit_counts(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the number of digits before and behind the decimal point, with the exponent applied.

    Args:
        text: Numbers with a decimal point; anything else counts as no digits.
    """
    exponent = text.str.extract(r"[eE]([-+]?\d{1,9})$").cast(pl.Int64).fill_null(0)
    whole = text.str.extract(r"^[-+]?0*(\d*)").str.len_bytes().cast(pl.Int64).fill_null(0)
    fraction = (
        text.str.extract(r"\.(\d*)").str.strip_chars_end("0").str.len_bytes().cast(pl.Int64).fill_null(0)
    )
    return (whole + exponent).clip(0), (fraction - exponent).clip(0)


def decimal_for(whole: int, fraction: int) -> pl.Decimal | None:
    """Return the decimal type for so many digits before and behind the point; None if there are too many.

    >>> decimal_for(16, 1)
    Decimal(precision=38, scale=1)
    >>> decimal_for(30, 9) is None
    True
    """
    return pl.Decimal(MAX_DIGITS, fraction) if whole + fraction <= MAX_DIGITS else None


def exact_decimal(text: pl.Expr, dtype: pl.Decimal) -> pl.Expr:
    """Convert text to a decimal; null where it would be rounded, which polars does silently, or is no number."""
    value = text.cast(dtype, strict=False)
    fits = digit_counts(text)[1] <= dtype.scale
    return pl.when(fits).then(value)


def exact_type(texts: pl.Series) -> pl.DataType:
    """Return a type that holds numbers as they are written: doubles, decimals, or text if these are too short.

    Digits with an ``E`` are text if none of the numbers has a sign or a point: they are more often codes.

    Args:
        texts: Numbers with a decimal point.
    """
    texts = texts.alias("text").drop_nulls()
    is_code = texts.str.contains(r"^\d+[eE]\d+$").any() and not texts.str.contains("[-+.]").any()
    values = texts.cast(pl.Float64, strict=False)
    if is_code or not values.is_finite().all():
        return pl.String()
    counts = (count.max().alias(str(place)) for place, count in enumerate(digit_counts(pl.col("text"))))
    whole, fraction = texts.to_frame().select(counts).row(0)
    if is_rounded(texts, values).any() or (fraction == 0 and whole > INTEGER_DIGITS):
        return decimal_for(whole, fraction) or pl.String()
    return pl.Float64()


def exact_numbers(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Convert numbers to the type of a sample of them.

    Args:
        texts: Numbers with a decimal point.
        dtype: A type from :func:`exact_type`.

    Raises:
        polars.exceptions.InvalidOperationError: The type does not hold all of them as they are written.
    """
    texts = texts.alias("text")
    if isinstance(dtype, pl.Decimal):
        values = texts.to_frame().select(exact_decimal(pl.col("text"), dtype)).to_series()
        is_lost = values.null_count() > texts.null_count()
    else:
        values = texts.cast(pl.Float64, strict=True)
        is_lost = not values.drop_nulls().is_finite().all() or is_rounded(texts, values).any()
    if is_lost:
        raise pl.exceptions.InvalidOperationError(f"a number does not fit {dtype}")
    return values


def has_finer_seconds(texts: pl.Series, digits: int) -> pl.Series:
    """Whether times have digits other than zero behind so many digits of a second; False where the text is null."""
    return texts.str.contains(rf"\.\d{{{digits}}}\d*[1-9]").fill_null(value=False)


def without_leap_seconds(text: pl.Expr) -> pl.Expr:
    """Times as text, null where they have a second 60: polars would take it for the first one of the next minute."""
    return pl.when(~text.str.contains(":60", literal=True)).then(text)
