"""Tables for terminals, limited to the width of the terminal."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from creemson.display.text import visible
from creemson.model.results import OutputData

__all__ = ["CELL_WIDTH", "cell_text", "encodable", "is_ascii_only", "show_result", "show_table"]

CELL_WIDTH = 24
"""Maximum width of a cell in characters."""
PADDING = 3
"""Characters between two columns."""


def show_result(console: Console, data: OutputData) -> None:
    """Print the first rows of an output, with as many columns as fit.

    Args:
        console: the terminal.
        data: the output; its preview has the rows.
    """
    preview = [[cell_text(cell) for cell in row] for row in data.preview or ()]
    widths = [
        min(CELL_WIDTH, max(len(text) for text in (visible(name), *(row[index] for row in preview))))
        for index, name in enumerate(data.columns)
    ]
    shown = _count_fitting(widths, console.width - len("… 99999 more") - 2 * PADDING)
    ascii_only = is_ascii_only(console)
    more = "..." if ascii_only else "…"
    table = _new_table(console)
    for name, dtype in zip(data.columns[:shown], data.dtypes, strict=False):
        is_number = dtype.startswith(("Int", "UInt", "Float", "Decimal"))
        table.add_column(
            Text(encodable(console, name)),
            justify="right" if is_number else "left",
            no_wrap=True,
            overflow="crop" if ascii_only else "ellipsis",
            max_width=CELL_WIDTH,
        )
    if shown < len(data.columns):
        table.add_column(f"{more} {len(data.columns) - shown} more")
    for row in preview:
        table.add_row(*(Text(encodable(console, cell)) for cell in row[:shown]))
    if data.rows > len(preview):
        table.add_row(*[more] * shown)
    console.print(table)


def _count_fitting(widths: Sequence[int], room: int) -> int:
    """Count the columns that fit; the result is at least one.

    >>> _count_fitting([5, 5, 5], 17)
    2
    """
    count = 0
    for width in widths:
        room -= width + PADDING
        if room < 0:
            break
        count += 1
    return max(count, 1)


def is_ascii_only(console: Console) -> bool:
    """Return whether the terminal may support only ASCII."""
    variables = os.environ
    # In the locale C, Python switches to UTF-8, and sets LC_CTYPE to C.UTF-8 (PEP 538).
    ctype = variables.get("LC_CTYPE", "").replace("C.UTF-8", "")
    locale = variables.get("LC_ALL") or ctype or variables.get("LANG")
    return console.options.ascii_only or variables.get("TERM") == "dumb" or locale in ("C", "POSIX")


def encodable(console: Console, value: str) -> str:
    """Replace invisible characters, and characters that the console's encoding lacks."""
    return cell_text(value).encode(console.encoding, "replace").decode(console.encoding)


def show_table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is never wrapped, the others share the remaining width.

    Args:
        console: the terminal.
        titles: titles of the columns.
        rows: texts of the cells.
    """
    table = _new_table(console)
    for index, title in enumerate(titles):
        table.add_column(title, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(encodable(console, cell)) for cell in row))
    console.print(table)


def _new_table(console: Console) -> Table:
    return Table(box=box.ASCII if is_ascii_only(console) else box.HEAVY_HEAD)


def cell_text(value: Any) -> str:
    """Convert a value to text without characters that a terminal would interpret, or that nobody sees."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return visible(text)
