"""Columns as other types, on request."""

from collections.abc import Mapping

import attrs
import polars as pl

from creemson.errors import InvalidFormat
from creemson.processing.casting import DTYPES, converted
from creemson.processing.issues import Report
from creemson.processing.naming import unnamed
from creemson.processing.profile import sayable
from creemson.wire.messages import TYPES

__all__ = ["Cast", "cast_batch", "casting"]

_WORDS = {
    "boolean": "true, false, 1 or 0",
    "date": "a date such as 2024-12-31",
    "datetime": "a date and time such as 2024-12-31T23:59:00",
    "time": "a time such as 23:59:00",
}


@attrs.frozen
class Cast:
    """How to make one type of another.

    Attributes:
        name: of the type that is made, as it was asked for.
        dtype: of polars.
        source: the type that the column has.
    """

    name: str
    dtype: pl.DataType
    source: pl.DataType

    def __call__(self, column: pl.Series) -> pl.Series:
        """The column as that type; null where a value is none of it."""
        if self.source.is_temporal():
            return column.to_frame().select(self._of_moments(pl.first())).to_series()
        if isinstance(self.source, (pl.Categorical, pl.Enum)):  # as the text that it shows, not by its codes
            column = column.cast(pl.String)
        return converted(column, self.dtype)

    def _of_moments(self, column: pl.Expr) -> pl.Expr:
        """What is made of dates and times: in their own time zone, and ISO 8601 as text."""
        source, dtype = self.source, self.dtype
        if not isinstance(source, pl.Datetime):
            if dtype != pl.String:
                return column.cast(dtype, strict=False)
            form = "%H:%M:%S%.f" if source == pl.Time else "iso"
            return sayable(column, source).dt.to_string(form)
        if dtype == pl.String:
            zone = "" if source.time_zone is None else "%:z"
            return sayable(column, source).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
        if dtype == pl.Date:
            return sayable(column, source).dt.date() if source.time_zone else column.dt.date()
        if dtype == pl.Time:
            return sayable(column, source).dt.time()
        return column


def casting(source: pl.DataType, name: str, path: str) -> Cast:
    """What makes a type of another.

    Args:
        source: the type that there is.
        name: the type that is wanted, one of :data:`creemson.wire.messages.TYPES`.
        path: of the wish in the request, for the error.

    Raises:
        InvalidFormat: ``invalid_message``: none of the one makes sense as the other.
    """
    dtype = _dtype(name, source)
    if not _fits(source, dtype):
        others = [other for other in TYPES if _fits(source, _dtype(other, source))]
        hint = f" It can be made {' '.join(others)}." if others else " It cannot be made anything else."
        detail = f"{path}: what is {source} cannot be made {name}.{hint}"
        raise InvalidFormat(
            "invalid_message", f"The request does not fit the file: {detail}", details=[detail]
        )
    return Cast(name, dtype, source)


def _dtype(name: str, source: pl.DataType) -> pl.DataType:
    if name == "datetime" and isinstance(source, pl.Datetime):  # with its time zone and precision
        return source
    return DTYPES[name]


def _fits(source: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether values of the one make sense as the other."""
    if source in (pl.Binary, pl.Object):
        return False
    return (
        source in (pl.String, pl.Categorical, pl.Enum, pl.Null)
        or pl.String in (source, dtype)
        or source == dtype
        or (source.is_numeric() and (dtype.is_numeric() or dtype == pl.Boolean))
        or (source == pl.Boolean and dtype.is_numeric())
        or (isinstance(source, pl.Datetime) and dtype in (pl.Date, pl.Time))
        or (source == pl.Date and isinstance(dtype, pl.Datetime))
    )


def cast_batch(casts: Mapping[str, Cast], report: Report | None, batch: pl.DataFrame) -> pl.DataFrame:
    """Some rows with the columns as they are wanted; what is lost on the way is told.

    Args:
        casts: by column.
        report: is told of each value that is none of the wanted type.
        batch: the rows.
    """
    made = []
    for name, cast in casts.items():
        before = unnamed(batch.get_column(name))
        after = cast(before)
        if report is not None and after.null_count() > before.null_count():
            why = f"not {_WORDS.get(cast.name, f'of the type {cast.name}')}"
            lost = before.filter(after.is_null() & before.is_not_null())
            texts = lost.to_frame().select(sayable(pl.first(), cast.source).cast(pl.String)).to_series()
            for value in texts.to_list():
                report.add("unparsable_cells", line=None, column=name, value=value, why=why)
        made.append(after.alias(name))
    return batch.with_columns(made)
