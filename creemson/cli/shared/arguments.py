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
        return orjson.loads(text) if text.lstrip().startswith(("[", '{"any"')) else read(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint=option) from None


_TEXT = re.compile(r"""'(?:[^']|''|\\')*'|"(?:[^"]|""|\\")*\"""")
"""Text in quotes; a quote in it is doubled, or preceded by a backslash."""
_ITEM = re.compile(rf"\s*({_TEXT.pattern}|[^,]*?)\s*(?:,|$)")
_COLUMN = re.compile(rf"\s*({_TEXT.pattern}|[^,]*?)\s*,")
"""A column and the comma behind it."""


def _unquoted(text: str) -> str | None:
    """Return the text in quotes; None if the text is not in quotes.

    >>> _unquoted("'Zoë'"), _unquoted("'O''Brien'"), _unquoted("Zoë")
    ('Zoë', "O'Brien", None)
    """
    if not _TEXT.fullmatch(text):
        return None
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote).replace(f"\\{quote}", quote)


def _parse_column(text: str) -> int | str:
    """Parse a column: an index, or a name, which may be in quotes."""
    unquoted = _unquoted(text)
    if unquoted is not None:
        return unquoted
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text


def parse_columns(text: str) -> list[int | str]:
    """Parse columns separated by commas.

    >>> parse_columns("0, name"), parse_columns("'2024', 'a, b'")
    ([0, 'name'], ['2024', 'a, b'])
    """
    return [_parse_column(match[1]) for match in _COLUMN.finditer(text + ",")]


def _parse_value(text: str) -> Any:
    """Parse JSON, text in quotes, or anything else as text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    unquoted = _unquoted(text)
    if unquoted is None and text[:1] in ("'", '"'):
        raise ValueError(f"the quote {text[0]} is not closed")
    return text if unquoted is None else unquoted


def _parse_values(text: str) -> list[Any]:
    """Parse a list: JSON, or values separated by commas, which may be in brackets.

    >>> _parse_values("UA, 'A,A'"), _parse_values("('x', 1)"), _parse_values('["x"]')
    (['UA', 'A,A'], ['x', 1], ['x'])
    """
    if text[:1] + text[-1:] in ("[]", "()"):
        try:
            values = orjson.loads(text)
        except orjson.JSONDecodeError:
            text = text[1:-1]
        else:
            return list(values)
    end, values = 0, []
    while end < len(text):
        match = _ITEM.match(text, end)
        if match is None:
            raise ValueError(f"expected values separated by commas, got {text[end:]!r}")
        values.append(_parse_value(match[1]))
        end = match.end()
    return values


_LONGEST_FIRST = sorted(OPERATORS, key=len, reverse=True)
_WORDS = "|".join(word for word in _LONGEST_FIRST if word.isidentifier())
_SYMBOLS = "|".join(symbol for symbol in _LONGEST_FIRST if not symbol.isidentifier())
_CONDITION = re.compile(
    rf"(?P<column>{_TEXT.pattern}|`[^`]+`|.+?)(?:\s*(?P<symbol>{_SYMBOLS})\s*|\s+(?P<word>{_WORDS})(?:\s+|$))(?P<value>.*)",
    re.DOTALL,
)
_FOREIGN = re.compile(r"<>|=[<>]|(?<![=!<>])=(?!=)|\snot\s+in\s", re.IGNORECASE)
"""Operators that do not exist here, but of which a part does."""
_HINTS = (
    (re.compile(r"\sis\s+not\s+null$", re.IGNORECASE), "not_null"),
    (re.compile(r"\sis\s+null$", re.IGNORECASE), "is_null"),
    (re.compile(r"\snot\s+in\s", re.IGNORECASE), "not_in"),
    (re.compile(r"<>"), "!="),
    (re.compile(r"="), "=="),
)
"""What people write in other languages, and the operator here."""

_MORE = re.compile(
    rf"(?:^|\s)(?:and|or|&&|\|\|)\s+(?:''|`[^`]+`|\w+)"
    rf"(?:\s*(?:{_SYMBOLS}|=)|\s+is\s+(?:not\s+)?null\b|\s+(?!in\b)(?:{_WORDS})(?:\s|$))",
    re.IGNORECASE,
)
"""A second condition, as other languages join it to the first one; texts in quotes are empty. *in* is English, too."""
_ONE_EACH = (
    '; for "and", give each condition its own --where, '
    """for "or" use '{"any": [["a", ">", 1], ["b", "==", "x"]]}'"""
)


def parse_condition(text: str) -> list[Any]:
    """Parse a condition.

    >>> parse_condition("dep_delay > 60"), parse_condition("carrier in UA,AA")
    (['dep_delay', '>', 60], ['carrier', 'in', ['UA', 'AA']])
    >>> parse_condition("tailnum is_null"), parse_condition("'first name' == 'Zoë'")
    (['tailnum', 'is_null'], ['first name', '==', 'Zoë'])
    """
    text = text.strip()
    match = _CONDITION.fullmatch(text)
    # The first character of the value, because of <>; a column in quotes may have anything in it.
    start = match.end("column") if match is not None and text[0] in "'\"`" else 0
    if match is None or _FOREIGN.search(text[start : match.start("value") + 1]):
        meant = [operator for pattern, operator in _HINTS if pattern.search(text)]
        hint = f"; did you mean {meant[0]!r}?" if meant else ""
        raise ValueError(f"expected COLUMN OPERATOR VALUE, with one of {' '.join(OPERATORS)}{hint}")
    operator, value = match["symbol"] or match["word"], match["value"].strip()
    column = _condition_column(match["column"].strip())
    if operator in UNARY_OPERATORS and not value:
        return [column, operator]
    has_more = _MORE.search(_TEXT.sub("''", value)) is not None
    if operator in UNARY_OPERATORS:
        raise ValueError(f"expected no value for {operator}, got {value!r}{_ONE_EACH if has_more else ''}")
    if has_more:
        raise ValueError(f"expected one condition, or a value in quotes{_ONE_EACH}")
    return [column, operator, _parse_values(value) if operator in LIST_OPERATORS else _parse_value(value)]


def _condition_column(text: str) -> int | str:
    """Parse a column, which may also be a name in backquotes."""
    if text.startswith("`") and text.endswith("`") and len(text) > 2:
        return text[1:-1]
    return _parse_column(text)


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
