"""Parses the arguments that describe a query."""

import re
from collections.abc import Callable
from typing import Any

import click
import orjson

from creemson.model.query import FUNCTIONS, LIST_OPERATORS, OPERATORS, UNARY_OPERATORS

__all__ = ["parse", "parse_aggregate", "parse_columns", "parse_condition", "parse_sort"]


def parse(text: str | None, option: str, read: Callable[[str], Any]) -> Any:
    """Parse an argument in its short form, or as the JSON of the protocol.

    Args:
        text: the argument; None if it was not given.
        option: name of the option, for the error message.
        read: parses the short form; raises ValueError if it is invalid.

    Returns:
        The value; None if the argument was not given.

    Raises:
        click.BadParameter: the argument is invalid.
    """
    if text is None:
        return None
    try:
        return orjson.loads(text) if text.lstrip().startswith("[") else read(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint=option) from None


def _parse_column(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text


def parse_columns(text: str) -> list[int | str]:
    """Parse columns separated by commas.

    >>> parse_columns("0, name")
    [0, 'name']
    """
    return [_parse_column(part.strip()) for part in text.split(",")]


def _parse_value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


_LONGEST_FIRST = sorted(OPERATORS, key=len, reverse=True)
_WORDS = "|".join(word for word in _LONGEST_FIRST if word.isidentifier())
_SYMBOLS = "|".join(symbol for symbol in _LONGEST_FIRST if not symbol.isidentifier())
_CONDITION = re.compile(rf"(.+?)(?:\s*({_SYMBOLS})\s*|\s+({_WORDS})(?:\s+|$))(.*)", re.DOTALL)


def parse_condition(text: str) -> list[Any]:
    """Parse a condition.

    >>> parse_condition("dep_delay > 60"), parse_condition("carrier in UA,AA")
    (['dep_delay', '>', 60], ['carrier', 'in', ['UA', 'AA']])
    >>> parse_condition("tailnum is_null")
    ['tailnum', 'is_null']
    """
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        hint = "; did you mean '=='?" if "=" in text else ""
        raise ValueError(f"expected COLUMN OPERATOR VALUE, with one of {' '.join(OPERATORS)}{hint}")
    column, operator, value = _parse_column(match[1].strip()), match[2] or match[3], match[4].strip()
    if operator in UNARY_OPERATORS:
        return [column, operator]
    if operator in LIST_OPERATORS and not value.startswith("["):
        return [column, operator, [_parse_value(part.strip()) for part in value.split(",")]]
    return [column, operator, _parse_value(value)]


def parse_aggregate(text: str) -> list[Any]:
    """Parse an aggregate.

    >>> parse_aggregate("dep_delay:mean:avg_delay")
    ['dep_delay', 'mean', 'avg_delay']
    """
    column, *rest = text.split(":")
    if len(rest) not in (1, 2):
        raise ValueError(f"expected COLUMN:FUNCTION[:NAME], with one of {' '.join(FUNCTIONS)}")
    return [_parse_column(column), *rest]


def parse_sort(text: str) -> list[Any]:
    """Parse a sort key.

    >>> parse_sort("dep_delay:desc"), parse_sort("3")
    (['dep_delay', 'desc'], [3, 'asc'])
    """
    column, colon, direction = text.rpartition(":")
    return [_parse_column(column), direction.lower()] if colon else [_parse_column(text), "asc"]
