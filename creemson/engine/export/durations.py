"""Writes times and durations as text for outputs that have no such types: CSV and NDJSON."""

import polars as pl

__all__ = ["duration_text", "time_text"]

_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Number of units in a second."""


def duration_text(column: pl.Expr, dtype: pl.Duration) -> pl.Expr:
    """Write durations as Excel's format ``[h]:mm:ss`` does: hours of any number, with a fraction if there is one.

    Args:
        column: A column of durations.
        dtype: Its type.

    Returns:
        The texts, in a column without the name.

    >>> import datetime
    >>> frame = pl.DataFrame({"d": [datetime.timedelta(days=1, hours=3, minutes=15), -datetime.timedelta(seconds=1.5)]})
    >>> frame.select(duration_text(pl.col("d"), frame.schema["d"])).to_series().to_list()
    ['27:15:00', '-0:00:01.5']
    """
    per_second = _PER_SECOND[dtype.time_unit]
    units = column.to_physical()
    # The absolute value of the smallest number needs one bit more than it has.
    whole = units.cast(pl.Int128).abs()
    seconds = (whole // per_second).cast(pl.Int64)
    digits = (whole % per_second).cast(pl.String).str.zfill(len(str(per_second)) - 1)
    fraction = pl.concat_str(pl.lit("."), digits.str.strip_chars_end("0"))
    return pl.concat_str(
        pl.when(units < 0).then(pl.lit("-")).otherwise(pl.lit("")),
        (seconds // 3600).cast(pl.String),
        pl.lit(":"),
        (seconds // 60 % 60).cast(pl.String).str.zfill(2),
        pl.lit(":"),
        (seconds % 60).cast(pl.String).str.zfill(2),
        pl.when(whole % per_second == 0).then(pl.lit("")).otherwise(fraction),
    )


def time_text(column: pl.Expr, notation: str = "") -> pl.Expr:
    """Write times of day in a notation, or with seconds, and with a fraction if there is one.

    Args:
        column: A column of times.
        notation: How the original file writes them; a time that has seconds is written with them in any case.
    """
    exact = column.dt.to_string("%H:%M:%S%.f")
    if not notation:
        return exact
    short = column.dt.to_string(notation)
    if "%S" in notation or "%T" in notation:
        return short
    has_seconds = (column.dt.second() != 0) | (column.dt.nanosecond() != 0)
    return pl.when(has_seconds).then(exact).otherwise(short)
