"""Options of commands that say how a file is read, and what is shown of how it was."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from creemson.wire.messages import TYPES, Issues, Reading

__all__ = ["describe_issues", "describe_reading", "with_reading"]

SHOWN_EXAMPLES = 3
_NAMED_SIGNS = {"tab": "\t", "\\t": "\t", "space": " ", "none": ""}

_OPTIONS = (
    click.option("--delimiter", help="Between cells: a sign, several, or tab."),
    click.option("--quote", help="Around cells: a sign, or none."),
    click.option("--escape", help="Before a quote in a cell: a sign, or none."),
    click.option("--encoding", help="Of the text, such as windows-1252."),
    click.option("--header", metavar="yes|no|ROWS", help="Whether there is a row of names, or how many."),
    click.option("--skip-rows", type=click.IntRange(min=0), help="Lines before the header or the first row."),
    click.option("--null-value", "null_values", multiple=True, help="A word for a missing value."),
    click.option("--decimal", type=click.Choice([".", ","]), help="The sign before fractions."),
    click.option(
        "--widths", metavar="5,10,3", help="Characters of each column, where nothing is between them."
    ),
    click.option(
        "--sheet", help="Of a workbook: its index from 0, or its name; one of digits as '\"2024\"'."
    ),
    click.option("--type", "types", metavar="COLUMN=TYPE", multiple=True, help=f"One of: {' '.join(TYPES)}."),
)


def with_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how a file is read, as one argument ``options``."""

    @functools.wraps(command)
    def collected(
        *arguments: Any,
        delimiter: str | None,
        quote: str | None,
        escape: str | None,
        encoding: str | None,
        header: str | None,
        skip_rows: int | None,
        null_values: Sequence[str],
        decimal: str | None,
        widths: str | None,
        sheet: str | None,
        types: Sequence[str],
        **others: Any,
    ) -> Any:
        asked = {
            "delimiter": _sign(delimiter),
            "quote": _sign(quote),
            "escape": _sign(escape),
            "encoding": encoding,
            "header": _header(header),
            "skip_rows": skip_rows,
            "null_values": list(null_values) or None,
            "decimal": decimal,
            "widths": _widths(widths),
            "sheet": _sheet(sheet),
            "types": pairs(types, "--type") or None,
        }
        options = {name: value for name, value in asked.items() if value is not None}
        return command(*arguments, options=options or None, **others)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected


def _sign(text: str | None) -> str | None:
    return None if text is None else _NAMED_SIGNS.get(text.lower(), text)


def _header(text: str | None) -> bool | int | None:
    if text is None:
        return None
    if text.lower() in ("yes", "true", "no", "false"):
        return text.lower() in ("yes", "true")
    if text.isdecimal():
        return int(text)
    raise click.BadParameter(
        f"{text!r}: expected yes, no or the number of header rows", param_hint="--header"
    )


def _sheet(text: str | None) -> int | str | None:
    """An index; or a name, which may be put in quotes if it consists of digits."""
    if text is None or not text.isdecimal():
        return text if text is None else text.removeprefix('"').removesuffix('"')
    return int(text)


def _widths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected numbers of characters, such as 5,10,3", param_hint="--widths"
        ) from None


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Arguments of the form ``NAME=VALUE``.

    >>> pairs(["a=b=c"], "--type")
    {'a=b': 'c'}

    Raises:
        click.BadParameter: one is not.
    """
    found = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"{text!r}: expected NAME=VALUE", param_hint=option)
        found[name] = value
    return found


def describe_reading(reading: Reading) -> str:
    """How a file was read, in one line."""
    parts = [reading.format.upper() if len(reading.format) < 5 else reading.format]
    if reading.compression is not None:
        parts.append(f"in {reading.compression}")
    if reading.encoding is not None:
        parts.append(reading.encoding)
    if reading.delimiter is not None:
        parts.append(f"delimiter {reading.delimiter!r}")
    if reading.quote not in (None, '"'):
        parts.append(f"quote {reading.quote!r}")
    if reading.escape:
        parts.append(f"escape {reading.escape!r}")
    if reading.sheet is not None:
        parts.append(f"sheet {reading.sheet!r}")
    if reading.header is not None:
        parts.append(
            {0: "no header", 1: "one header row"}.get(reading.header, f"{reading.header} header rows")
        )
    if reading.skip_rows:
        parts.append(f"{reading.skip_rows:,} lines skipped")
    if reading.decimal == ",":
        parts.append("decimal comma")
    return ", ".join(parts)


def describe_issues(issues: Issues) -> list[str]:
    """What was mended or lost, in lines: counts, the first examples, and where all of it is."""
    counts = (
        (issues.padded_rows, "padded"),
        (issues.cut_rows, "cut"),
        (issues.repaired_rows, "repaired"),
        (issues.unparsable_rows, "left out"),
    )
    told = [f"{count:,} {'row' if count == 1 else 'rows'} {word}" for count, word in counts if count]
    if cells := issues.unparsable_cells:
        told.append(f"{cells:,} {'cell' if cells == 1 else 'cells'} not of the column's type")
    lines = [", ".join(told)]
    for issue in issues.examples[:SHOWN_EXAMPLES]:
        place = [] if issue.line is None else [f"line {issue.line:,}"]
        place += [] if issue.column is None else [f"column {issue.column!r}"]
        lines.append(f"  {', '.join(place)}: {(issue.value or '')[:80]!r}: {issue.why}")
    if issues.rejects is not None:
        lines.append(f"  all of them: {issues.rejects}")
    return lines
