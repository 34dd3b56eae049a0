"""Finds conditions that can never hold, whatever the file has: for a command that has found no rows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from creemson.model.query import AnyOf, Clause, Condition

__all__ = ["impossible"]

_INTEGER = re.compile(r"(U?)Int(\d+)")


def impossible(
    conditions: Sequence[Clause], columns: Mapping[int | str, tuple[str, str]]
) -> list[tuple[int, str]]:
    """Return the conditions that can never hold, by their index, each with the reason.

    Args:
        conditions: the conditions, which must all hold.
        columns: name and type of each column, by name and by index.

    >>> impossible([Condition("year", "==", 2007.5)], {"year": ("year", "Int64")})
    [(0, "'year' has whole numbers only (Int64)")]
    """
    found = []
    known: dict[str, list[Condition]] = {}
    for index, condition in enumerate(conditions):
        if isinstance(condition, AnyOf) or condition.column not in columns:
            continue
        name, dtype = columns[condition.column]
        earlier = known.setdefault(name, [])
        reason = _alone(condition, name, dtype) or next(_together(earlier, condition, name), None)
        if reason is not None:
            found.append((index, reason))
        earlier.append(condition)
    return found


def _alone(condition: Condition, name: str, dtype: str) -> str | None:
    """Return why a condition can never hold for a column of a type; None if it can."""
    operator, value = condition.operator, condition.value
    if operator == "in" and not value:
        return "the list is empty"
    match = _INTEGER.fullmatch(dtype)
    if match is None or operator not in ("==", "in", "<", "<=", ">", ">="):
        return None
    bits = int(match[2])
    lowest, highest = (0, 2**bits - 1) if match[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = value if operator == "in" else [value]
    if not all(_is_number(one) for one in values):
        return None
    if operator in ("==", "in"):
        if all(one != int(one) for one in values):
            return f"{name!r} has whole numbers only ({dtype})"
        outside = all(not lowest <= one <= highest for one in values)
    else:
        outside = {"<": value <= lowest, "<=": value < lowest, ">": value >= highest, ">=": value > highest}[
            operator
        ]
    return f"{name!r} is {dtype}: {lowest} to {highest}" if outside else None


def _together(earlier: Sequence[Condition], condition: Condition, name: str) -> Iterator[str]:
    """Yield why a condition cannot hold together with an earlier one on the same column."""
    for other in earlier:
        operators = {condition.operator, other.operator}
        if "is_null" in operators and operators != {"is_null"}:
            yield f"another condition needs a value of {name!r}, and this one needs none"
        elif _excludes(condition, other) or _excludes(other, condition):
            yield f"another condition on {name!r} excludes it: {other.operator} {other.value!r}"


def _excludes(one: Condition, other: Condition) -> bool:
    """Return whether no value meets both conditions; the first one is a value or a lower bound."""
    first, second = one.value, other.value
    if not (_is_number(first) and _is_number(second)) and not (
        isinstance(first, str) and isinstance(second, str)
    ):
        return False
    if one.operator == "==":
        holds = {
            "==": first == second, "!=": first != second, "<": first < second, "<=": first <= second,
            ">": first > second, ">=": first >= second,
        }  # fmt: skip
        if isinstance(first, str) and other.operator not in ("==", "!="):
            return False  # dates and times are not ordered as their texts
        return not holds.get(other.operator, True)
    if isinstance(first, str) or one.operator not in (">", ">=") or other.operator not in ("<", "<="):
        return False
    return first > second or (first == second and (one.operator, other.operator) != (">=", "<="))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
