"""Selects columns by name, and makes the names of columns unique."""

from collections.abc import Callable, Collection, Iterable

import polars as pl
import polars.selectors as cs

__all__ = ["default_name", "exactly", "unique_names", "unnamed", "unused_name"]


def exactly(name: str) -> pl.Expr:
    """Select the column with exactly this name; ``pl.col`` would interpret ``*`` and ``^…$`` as patterns."""
    is_pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return cs.by_name(name).as_expr() if is_pattern else pl.col(name)


def unnamed(column: pl.Series) -> pl.Series:
    """Return the column without its name, because some methods of a series interpret the name ``^…$`` as a pattern."""
    return column.alias("")


def default_name(index: int) -> str:
    """Return the name that polars gives to a column without a name.

    >>> default_name(0)
    'column_1'
    """
    return f"column_{index + 1}"


def unique_names(
    names: Iterable[str],
    suffix: str = "_duplicated_{}",
    *,
    first: int = 0,
    key: Callable[[str], str] = str,
) -> list[str]:
    """Number the names that occur more than once.

    Args:
        names: The names of columns, from left to right.
        suffix: Appended to a repeated name, with a number in place of ``{}``.
        first: The first number.
        key: Two names count as the same if this function returns the same for both.

    >>> unique_names(["a", "b", "a", "a"])
    ['a', 'b', 'a_duplicated_0', 'a_duplicated_1']
    """
    used: set[str] = set()
    numbers: dict[str, int] = {}  # the next number to try for each repeated name: all lower ones are used
    unique: list[str] = []
    for name in names:
        candidate = name
        if (base := key(name)) in used:
            number = numbers.get(base, first)
            while key(candidate) in used:
                candidate = f"{name}{suffix.format(number)}"
                number += 1
            numbers[base] = number
        used.add(key(candidate))
        unique.append(candidate)
    return unique


def unused_name(name: str, names: Collection[str]) -> str:
    """Append underscores to a name until no other column has it.

    >>> unused_name("row", ["row", "row_"])
    'row__'
    """
    used = frozenset(names)
    while name in used:
        name += "_"
    return name
