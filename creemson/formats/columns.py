"""Columns by their names."""

import polars as pl
import polars.selectors as cs

__all__ = ["exactly", "unnamed"]


def exactly(name: str) -> pl.Expr:
    """The column of that name; ``pl.col`` would take ``*`` and ``^…$`` for patterns.

    Args:
        name: of a column.

    Returns:
        It as an expression.
    """
    pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return cs.by_name(name).as_expr() if pattern else pl.col(name)


def unnamed(column: pl.Series) -> pl.Series:
    """The column without its name: some methods of a series called ``^…$`` look for that pattern, and find nothing.

    Args:
        column: of any name.

    Returns:
        The same values.
    """
    return column.alias("")
