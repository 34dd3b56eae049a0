"""What the command line shows: tables and progress bars, as wide as the terminal is."""

import html
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from creemson.wire.messages import ColumnProfile, OutputData

__all__ = ["following", "progress_bar", "show_profile", "show_result", "show_table"]

CELL_WIDTH = 24
"""Characters of a cell that are shown at the most."""
PADDING = 3
"""Characters between two columns."""


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, if that is a terminal.

    Args:
        title: what is being done.

    Yields:
        How to move it: ``(bytes done, bytes in all, another title)``, the title being optional.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, phase: str = title) -> None:
            # What comes after reading has no measure: the bar only shows that it lives.
            bar.update(task, completed=done, total=total if phase == title else None, description=phase)

        yield update


class Step(Protocol):
    """How far a job is: see :class:`creemson.client.Progress`."""

    phase: str
    bytes_read: int
    bytes_total: int
    fraction: float
    rows: int


@contextmanager
def following(title: str) -> Iterator[Callable[[Any], None]]:
    """Show how far a job is: in a notebook, on a terminal, and nowhere else.

    Args:
        title: what is being processed.

    Yields:
        What is called with each :class:`Step`.
    """
    if _in_notebook():
        with _notebook_bar(title) as show:
            yield show
        return
    with progress_bar(title) as update:
        yield lambda step: update(step.bytes_read, step.bytes_total, step.phase.capitalize())


def _in_notebook() -> bool:
    """Whether there is a notebook's kernel: nothing is imported for the question."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and hasattr(running, "kernel")


@contextmanager
def _notebook_bar(title: str) -> Iterator[Callable[[Step], None]]:
    from IPython.display import HTML, display  # noqa: PLC0415 - it is there, and only there

    def content(step: Step | None) -> Any:
        text, value = "waiting", ""
        if step is not None:
            text = f"{step.phase}, {step.rows:,} rows"
            # What comes after reading has no measure: the bar only shows that it lives.
            value = f' value="{step.fraction:.3f}"' if step.phase in ("uploading", "reading") else ""
        return HTML(f'<progress max="1"{value}></progress> {html.escape(f"{title}: {text}")}')

    handle = display(content(None), display_id=True)
    try:
        yield lambda step: handle.update(content(step))
    except BaseException:
        handle.update(HTML(html.escape(f"{title}: failed")))
        raise
    handle.update(HTML(html.escape(f"{title}: done")))


def show_result(console: Console, data: OutputData) -> None:
    """Print the first rows, with as many columns as fit."""
    preview = [[_cell(cell) for cell in row] for row in data.preview or ()]
    widths = [
        min(CELL_WIDTH, max(len(text) for text in (name, *(row[index] for row in preview))))
        for index, name in enumerate(data.columns)
    ]
    shown = _fitting(widths, console.width - len("… 99999 more") - 2 * PADDING)
    table = Table()
    for name, dtype in zip(data.columns[:shown], data.dtypes, strict=False):
        number = dtype.startswith(("Int", "UInt", "Float", "Decimal"))
        table.add_column(
            Text(name),
            justify="right" if number else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=CELL_WIDTH,
        )
    if shown < len(data.columns):
        table.add_column(f"… {len(data.columns) - shown} more")
    for row in preview:
        table.add_row(*map(Text, row[:shown]))
    if data.rows > len(preview):
        table.add_row(*["…"] * shown)
    console.print(table)


def _fitting(widths: Sequence[int], room: int) -> int:
    """How many columns fit; at least one.

    >>> _fitting([5, 5, 5], 17)
    2
    """
    count = 0
    for width in widths:
        room -= width + PADDING
        if room < 0:
            break
        count += 1
    return max(count, 1)


def show_profile(console: Console, profile: Sequence[ColumnProfile]) -> None:
    """Print a line of figures for each column."""
    titles = ["column", "type", "nulls", "distinct", "min", "median", "max", "mean", "std"]
    rows = []
    for column in profile:
        median = (column.quantiles or {}).get("0.5")
        figures = (column.nulls, column.distinct, column.min, median, column.max, column.mean, column.std)
        texts = [f"{figure:.5g}" if isinstance(figure, float) else _cell(figure) for figure in figures]
        rows.append((column.column, column.dtype, *texts))
    show_table(console, titles, rows)


def show_table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print texts as a table; the first column is never cut, the last one gets what room is left."""
    table = Table()
    for index, title in enumerate(titles):
        table.add_column(title, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _cell(value: Any) -> str:
    """A cell as text, without what would drive the terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text)
