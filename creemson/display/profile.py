"""What the command line shows: tables and progress bars, as wide as the terminal is."""

import html
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console, OverflowMethod
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from creemson.wire.messages import ColumnProfile, OutputData

__all__ = ["following", "progress_bar", "show_profile", "show_result", "show_table"]

CELL_WIDTH = 24
"""Characters of a cell that are shown at the most."""
PADDING = 3
"""Characters between two columns."""
WIDE = 100
"""Characters of a terminal that has room for more."""
NAME_WIDTH, NAME_LEAST = 36, 8
VALUES_WIDTH = 24
"""Characters of the figures that a name leaves."""
GAP = 2
TITLES = ("column", "type", "empty", "picture")
BINS_WIDE, BINS_NARROW = 20, 10
METER = 5
LEVELS = " ▁▂▃▄▅▆▇█"
PLAIN_LEVELS = " .:-=+*#@"


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
    plain = _is_plain(console)
    more = "..." if plain else "…"
    table = _boxed(console)
    for name, dtype in zip(data.columns[:shown], data.dtypes, strict=False):
        number = dtype.startswith(("Int", "UInt", "Float", "Decimal"))
        table.add_column(
            Text(_text(console, name)),
            justify="right" if number else "left",
            no_wrap=True,
            overflow="crop" if plain else "ellipsis",
            max_width=CELL_WIDTH,
        )
    if shown < len(data.columns):
        table.add_column(f"{more} {len(data.columns) - shown} more")
    for row in preview:
        table.add_row(*(Text(_text(console, cell)) for cell in row[:shown]))
    if data.rows > len(preview):
        table.add_row(*[more] * shown)
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


def show_profile(console: Console, profile: Sequence[ColumnProfile], rows: int) -> None:
    """Print a line for each column: how much is empty, a small picture, and figures in words, as many as fit.

    Args:
        console: to print to; one that is 100 characters wide has larger pictures.
        profile: of the columns.
        rows: of the output.
    """
    plain, wide = _is_plain(console), console.width >= WIDE
    cap = NAME_WIDTH if wide else NAME_WIDTH // 2
    lines = []
    for column in profile:
        empty = _share(column.nulls, rows)
        if wide:
            empty += f" {_meter(column.nulls, rows, plain)}"
        name, dtype = _text(console, column.column), column.dtype.partition("(")[0]
        lines.append((name, dtype, empty, _picture(column, BINS_WIDE if wide else BINS_NARROW, plain)))
    taken = [max([len(title), *(cell_len(line[at]) for line in lines)]) for at, title in enumerate(TITLES)]
    left = console.width - sum(taken[1:]) - len(taken) * GAP  # for the name and the values
    taken[0] = min(taken[0], cap, max(left - VALUES_WIDTH, NAME_LEAST))
    room = left - taken[0]
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for title, width in zip(TITLES, taken, strict=True):
        overflow: OverflowMethod = "crop" if plain else "ellipsis"
        table.add_column(title, width=width, no_wrap=True, overflow=overflow)
    table.add_column("values", max_width=max(room, 1), no_wrap=True, overflow="crop" if plain else "ellipsis")
    for column, line in zip(profile, lines, strict=True):
        words = ""
        for phrase in _phrases(column, rows):
            longer = f"{words}, {phrase}" if words else phrase
            if words and cell_len(longer) > room:
                continue  # a shorter one may still fit
            words = longer
        table.add_row(*map(Text, line), Text(_text(console, words)))
    console.print(table)


def _phrases(column: ColumnProfile, rows: int) -> Iterator[str]:
    """What is known of a column, the most telling first."""
    present = rows - column.nulls
    lengths = "lengths " if column.dtype.startswith(("List", "Binary")) else ""
    unit = " s" if column.dtype.startswith("Duration") else ""
    if column.top and not _all_different(column):
        yield from (f"{_figure(value)} {_share(times, rows).strip()}" for value, times in column.top)
    elif column.min is not None:
        yield f"{lengths}{_figure(column.min)} to {_figure(column.max)}{unit}"
    if column.quantiles is not None:
        yield f"median {_figure(column.quantiles['0.5'])}{unit}"
    described = sum(column.histogram.counts) if column.histogram else 0 if column.top is None else present
    if column.distinct is not None and described < present:
        yield (
            f"{present - described} not finite"
            if "Float" in column.dtype
            else f"{present - described} out of range"
        )
    if column.mean is not None:
        yield f"mean {_figure(column.mean)}"
    if column.std is not None:
        yield f"std {_figure(column.std)}"
    if column.distinct:
        yield f"{column.distinct} distinct"


def _all_different(column: ColumnProfile) -> bool:
    return column.top is not None and len(column.top) > 1 and column.top[0][1] == 1


def _picture(column: ColumnProfile, width: int, plain: bool) -> str:
    """A bar for each bin or for each of the most frequent values, the highest one being full.

    >>> from creemson.wire.messages import Histogram
    >>> histogram = Histogram(edges=(0, 1, 2, 3, 4), counts=(0, 1, 4, 8))
    >>> figures = dict.fromkeys(("min", "max", "mean", "std", "quantiles", "distinct"))
    >>> column = ColumnProfile(column="a", dtype="Int64", nulls=0, **figures, histogram=histogram)
    >>> _picture(column, 4, False), _picture(column, 2, False), _picture(column, 4, True)
    (' ▁▄█', '▁█', ' .=@')
    """
    if column.histogram is not None:
        counts = list(column.histogram.counts)
        together = -(-len(counts) // width)
        counts = [sum(counts[at : at + together]) for at in range(0, len(counts), together)]
    else:
        counts = [] if _all_different(column) else [times for _, times in column.top or ()][:width]
    most = max(counts, default=0)
    levels = PLAIN_LEVELS if plain else LEVELS
    return "".join(levels[math.ceil(count / most * (len(levels) - 1))] for count in counts)


def _meter(part: int, whole: int, plain: bool) -> str:
    """A bar that is as full as the part is of the whole.

    >>> _meter(1, 2, False), _meter(1, 2, True), _meter(0, 0, True)
    ('██▌  ', '###  ', '     ')
    """
    eighths = math.ceil(METER * 8 * part / whole) if whole else 0
    full, rest = divmod(eighths, 8)
    text = "#" * (full + bool(rest)) if plain else "█" * full + " ▏▎▍▌▋▊▉"[rest].strip()
    return text.ljust(METER)


def _share(part: int, whole: int) -> str:
    """Never 0 % of some, nor 100 % of not all.

    >>> _share(0, 0), _share(1, 3), _share(1, 1000), _share(999, 1000), _share(3, 3)
    ('  0 %', ' 33 %', ' <1 %', '>99 %', '100 %')
    """
    percent = 100 * part / whole if whole else 0
    if 0 < percent < 1:
        return " <1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:3.0f} %"


def _figure(value: Any) -> str:
    """A value of a column as people read it.

    >>> _figure(3.14159265), _figure(1234567.8), _figure("2024-05-01T00:00:00"), _figure("2024-05-01T10:30:00")
    ('3.1416', '1234568', '2024-05-01', '2024-05-01 10:30:00')
    """
    if isinstance(value, float):
        return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"
    text = _cell(value)
    if re.match(r"\d{4}-\d\d-\d\dT", text):
        text = text.replace("T00:00:00", "").replace("T", " ")
    return text if len(text) <= CELL_WIDTH else f"{text[: CELL_WIDTH - 3]}..."


def _is_plain(console: Console) -> bool:
    """Whether the terminal is one that may not know more than ASCII."""
    words = os.environ
    # In such a locale, Python itself speaks UTF-8, and says so in LC_CTYPE.
    ctype = words.get("LC_CTYPE", "").replace("C.UTF-8", "")
    locale = words.get("LC_ALL") or ctype or words.get("LANG")
    return console.options.ascii_only or words.get("TERM") == "dumb" or locale in ("C", "POSIX")


def _text(console: Console, value: str) -> str:
    """Text that the console's encoding has."""
    return _cell(value).encode(console.encoding, "replace").decode(console.encoding)


def show_table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print texts as a table; the first column is never cut, the last one gets what room is left."""
    table = _boxed(console)
    for index, title in enumerate(titles):
        table.add_column(title, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(console, cell)) for cell in row))
    console.print(table)


def _boxed(console: Console) -> Table:
    return Table(box=box.ASCII if _is_plain(console) else box.HEAVY_HEAD)


def _cell(value: Any) -> str:
    """A cell as text, without what would drive the terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text)
