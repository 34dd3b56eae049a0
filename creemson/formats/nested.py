"""Changes values within lists, arrays and structs as well as those outside."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import polars as pl

from creemson.formats.columns import exactly

__all__ = ["Change", "changes", "within"]

Change: TypeAlias = Callable[[pl.Expr, Any], pl.Expr | None]
"""Given a column without parts and its type, returns its values in another form; None if they stay."""


def changes(schema: Mapping[str, pl.DataType], change: Change) -> dict[str, pl.Expr]:
    """Change the values of columns, also those within lists, arrays and structs.

    Args:
        schema: The columns and their types.
        change: What to do with values that have no parts; see :func:`within`.

    Returns:
        The changed columns, by name; a column whose values all stay is missing.
    """
    found = {name: within(exactly(name), dtype, change) for name, dtype in schema.items()}
    return {name: changed.alias(name) for name, changed in found.items() if changed is not None}


def within(column: pl.Expr, dtype: Any, change: Change) -> pl.Expr | None:
    """Change the values of a column, or those within its lists, arrays and structs.

    Args:
        column: The column.
        dtype: Its type.
        change: What to do with values that have no parts; also with structs that have no fields.

    Returns:
        The changed column, perhaps without its name, with lists for arrays; None if all values stay.
    """
    match dtype:
        case pl.List() | pl.Array():
            items = within(pl.element(), dtype.inner, change)
            lists = column if isinstance(dtype, pl.List) else column.cast(pl.List(dtype.inner))
            return None if items is None else lists.list.eval(items)
        case pl.Struct() if dtype.fields:
            # By number, because a name may be a pattern.
            parts = column.struct.rename_fields(list(map(str, range(len(dtype.fields)))))
            fields = [parts.struct.field(str(number)) for number in range(len(dtype.fields))]
            changes = [
                within(field, part.dtype, change) for field, part in zip(fields, dtype.fields, strict=True)
            ]
            if all(changed is None for changed in changes):
                return None
            made = pl.struct(
                (field if changed is None else changed).alias(part.name)
                for field, changed, part in zip(fields, changes, dtype.fields, strict=True)
            )
            return pl.when(column.is_not_null()).then(made)
        case _:
            return change(column, dtype)
