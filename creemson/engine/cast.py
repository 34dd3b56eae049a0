"""Casts columns to the types that a query requests.

:mod:`creemson.formats.coerce` converts text and numbers; this module adds dates and times, and says which casts exist.
"""

from collections.abc import Mapping

import attrs
import polars as pl

from creemson.engine.values import representable
from creemson.errors import InvalidFormat
from creemson.formats.coerce import converted
from creemson.formats.columns import unnamed
from creemson.formats.report import Report
from creemson.formats.types import DTYPES, why_not
from creemson.model.query import TYPES

__all__ = ["Cast", "cast_batch", "casting"]


@attrs.frozen
class Cast:
    """Casts a column of one type to another.

    Attributes:
        name: The requested type, one of :data:`creemson.model.query.TYPES`.
        dtype: The requested type in polars.
        source: The type of the column.
    """

    name: str
    dtype: pl.DataType
    source: pl.DataType

    def __call__(self, column: pl.Series) -> pl.Series:
        """Cast the column; null where a value does not fit the requested type."""
        if self.source.is_temporal():
            return column.to_frame().select(self._cast_temporal(pl.first())).to_series()
        if isinstance(self.source, (pl.Categorical, pl.Enum)):  # as text, not by the codes of the categories
            column = column.cast(pl.String)
        return converted(column, self.dtype)

    def _cast_temporal(self, column: pl.Expr) -> pl.Expr:
        """Cast dates and times, in the column's time zone; their text is ISO 8601."""
        source, dtype = self.source, self.dtype
        if not isinstance(source, pl.Datetime):
            if dtype != pl.String:
                return column.cast(dtype, strict=False)
            notation = "%H:%M:%S%.f" if source == pl.Time else "iso"
            return representable(column, source).dt.to_string(notation)
        if dtype == pl.String:
            zone = "" if source.time_zone is None else "%:z"
            return representable(column, source).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
        if dtype == pl.Date:
            return representable(column, source).dt.date() if source.time_zone else column.dt.date()
        if dtype == pl.Time:
            return representable(column, source).dt.time()
        return column


def casting(source: pl.DataType, name: str, path: str) -> Cast:
    """Return the cast from one type to another.

    Args:
        source: The type of the column.
        name: The requested type, one of :data:`creemson.model.query.TYPES`.
        path: Where the request names the type (a JSON path), for the error.

    Raises:
        InvalidFormat: ``invalid_message``: values of the one type make no sense as the other.
    """
    dtype = _dtype(name, source)
    if not _fits(source, dtype):
        others = [other for other in TYPES if _fits(source, _dtype(other, source))]
        hint = (
            f" It can be cast to {', '.join(others)}." if others else " It cannot be cast to any other type."
        )
        detail = f"{path}: {source} cannot be cast to {name}.{hint}"
        raise InvalidFormat(
            "invalid_message", f"The request does not fit the file: {detail}", details=[detail]
        )
    return Cast(name, dtype, source)


def _dtype(name: str, source: pl.DataType) -> pl.DataType:
    if name == "datetime" and isinstance(source, pl.Datetime):  # keeps its time zone and precision
        return source
    return DTYPES[name]


def _fits(source: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether values of one type make sense as another."""
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
    """Cast columns of some rows.

    Args:
        casts: The casts, by column.
        report: Collects the values that do not fit the requested type; None to ignore them.
        batch: The rows.
    """
    columns = []
    for name, cast in casts.items():
        before = unnamed(batch.get_column(name))
        after = cast(before)
        if report is not None and after.null_count() > before.null_count():
            lost = before.filter(after.is_null() & before.is_not_null())
            texts = lost.to_frame().select(representable(pl.first(), cast.source).cast(pl.String)).to_series()
            for value in texts.to_list():
                report.add("unparsable_cells", line=None, column=name, value=value, why=why_not(cast.name))
        columns.append(after.alias(name))
    return batch.with_columns(columns)
