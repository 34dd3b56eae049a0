"""Columns as other types, on request."""

from collections.abc import Mapping

import attrs
import polars as pl

from creemson.errors import InvalidFormat
from creemson.processing.conversion import kind_named
from creemson.processing.issues import Report
from creemson.processing.naming import exactly

__all__ = ["Cast", "cast_batch", "casting"]

_COMMON = ("string", "boolean", "int64", "float64", "date", "datetime", "time")
_DTYPES: dict[str, pl.DataType] = {
    "string": pl.String(), "boolean": pl.Boolean(), "date": pl.Date(), "datetime": pl.Datetime("us"),
    "time": pl.Time(),
    "int8": pl.Int8(), "int16": pl.Int16(), "int32": pl.Int32(), "int64": pl.Int64(),
    "uint8": pl.UInt8(), "uint16": pl.UInt16(), "uint32": pl.UInt32(), "uint64": pl.UInt64(),
    "float32": pl.Float32(), "float64": pl.Float64(),
}  # fmt: skip


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

    def __call__(self, column: pl.Expr) -> pl.Expr:
        """The column as that type; null where a value is none of it."""
        name, dtype, source = self.name, self.dtype, self.source
        if source == pl.String:
            return kind_named(name, (), None).convert(column).cast(dtype, strict=False)
        if name == "string":
            return column.dt.to_string("iso") if source.is_temporal() else column.cast(pl.String)
        if dtype == pl.Boolean and source.is_numeric():
            return pl.when(column == 1).then(statement=True).when(column == 0).then(statement=False)
        if dtype.is_integer() and (source.is_float() or source.is_decimal()):
            return pl.when(column == column.floor()).then(column).cast(dtype, strict=False)
        return column.cast(dtype, strict=False)


def casting(source: pl.DataType, name: str, path: str) -> Cast:
    """What makes a type of another.

    Args:
        source: the type that there is.
        name: the type that is wanted, one of :data:`creemson.wire.messages.TYPES`.
        path: of the wish in the request, for the error.

    Raises:
        InvalidFormat: ``invalid_message``: none of the one makes sense as the other.
    """
    if source in (pl.Categorical, pl.Enum):
        source = pl.String()
    dtype = _dtype(name, source)
    if not _fits(source, dtype):
        kinds = {other: _dtype(other, source) for other in _COMMON}
        others = [other for other, kind in kinds.items() if kind != source and _fits(source, kind)]
        hint = f" It can be made {', '.join(others)}." if others else ""
        detail = f"{path}: what is {source} cannot be made {name}.{hint}"
        raise InvalidFormat(
            "invalid_message", f"The request does not fit the file: {detail}", details=[detail]
        )
    return Cast(name, dtype, source)


def _dtype(name: str, source: pl.DataType) -> pl.DataType:
    if name == "datetime" and isinstance(source, pl.Datetime):
        return source
    return _DTYPES[name]


def _fits(source: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether values of the one make sense as the other."""
    if source.is_nested() or source == pl.Binary:
        return False
    return (
        pl.String in (source, dtype)
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
    made = batch.with_columns(cast(_plain(name, cast)).alias(name) for name, cast in casts.items())
    for name, cast in casts.items():
        if report is None or made.get_column(name).null_count() == batch.get_column(name).null_count():
            continue
        lost = batch.get_column(name).filter(
            made.get_column(name).is_null() & batch.get_column(name).is_not_null()
        )
        for value in lost.cast(pl.String).to_list():
            report.add("unparsable_cells", line=None, column=name, value=value, why=f"it is no {cast.name}")
    return made


def _plain(name: str, cast: Cast) -> pl.Expr:
    column = exactly(name)
    return column.cast(pl.String) if cast.source == pl.String else column
