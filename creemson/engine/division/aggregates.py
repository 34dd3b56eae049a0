"""Aggregates of parts of the rows, and how they make those of all rows. Without I/O."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs
import polars as pl

from creemson.engine.expressions import wide_sum
from creemson.engine.plan import ROWS, Aggregated

__all__ = ["Divided", "divided"]

_SIMPLE: Mapping[str, Callable[[pl.Expr], pl.Expr]] = MappingProxyType(
    {
        ROWS: pl.Expr.sum,
        "count": pl.Expr.sum,
        "min": pl.Expr.min,
        "max": pl.Expr.max,
        "first": pl.Expr.first,
        "last": pl.Expr.last,
    }
)
"""What makes the value for all rows of those for parts; both have the same type."""
_WITHOUT_MEAN = (pl.Float32, pl.Int128, pl.UInt128)
"""Numbers whose mean is not, in polars, the sum of doubles divided by their number; nor is that of decimals."""


@attrs.frozen
class Divided:
    """An aggregate in two steps.

    Attributes:
        parts: what is computed of each part, by the name of its column.
        whole: what is computed of these columns, one row of each part, in the order of the parts.
    """

    parts: Mapping[str, pl.Expr]
    whole: pl.Expr


def divided(aggregate: Aggregated, schema: Mapping[str, pl.DataType]) -> Divided | None:
    """Return an aggregate in two steps; None if it needs all rows at once.

    Integers, decimals, texts and dates have exactly the same result as in one step. The last digits of sums and means
    of floating-point numbers may differ, as they may between two runs in one step: polars adds in the order in which
    its threads read.

    Args:
        aggregate: the aggregate.
        schema: the types of the file's columns.
    """
    name, function, result = aggregate.result, aggregate.function, aggregate.value
    if aggregate.column is None:
        return Divided({name: aggregate.expression}, result.sum())
    column, dtype = aggregate.values, schema[aggregate.column]
    if function == "sum":
        total = result.sum()
        return Divided(
            {name: wide_sum(column, dtype)}, total.cast(dtype) if dtype in (pl.Int64, pl.UInt64) else total
        )
    if function == "mean" and not dtype.is_decimal() and dtype not in _WITHOUT_MEAN:
        number = f"\x00count {name}"
        total, count = result.sum(), pl.col(number).sum()
        return Divided(
            {name: column.cast(pl.Float64).sum(), number: column.count()},
            pl.when(count > 0).then(total / count),
        )
    # Categories have an order of their own.
    if function in ("min", "max") and isinstance(dtype, pl.Categorical | pl.Enum):
        return None
    merge = _SIMPLE.get(function)
    return None if merge is None else Divided({name: aggregate.expression}, merge(result))
