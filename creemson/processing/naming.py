"""Columns by their names."""

import polars as pl
import polars.selectors as cs

__all__ = ["exactly"]


def exactly(name: str) -> pl.Expr:
    """The column of that name; ``pl.col`` would take ``*`` and ``^…$`` for patterns.

    Args:
        name: of a column.

    Returns:
        It as an expression.
    """
    pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return cs.by_name(name).as_expr() if pattern else pl.col(name)
