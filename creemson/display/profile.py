"""Column profiles for the terminal."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from creemson.display.tables import CELL_WIDTH, cell_text, encodable, is_ascii_only
from creemson.model.results import ColumnProfile

__all__ = ["show_profile"]

WIDE = 100
"""Minimum width of a terminal, in characters, for larger charts and bars."""
MAX_NAME_WIDTH, MIN_NAME_WIDTH = 36, 8
MIN_VALUES_WIDTH = 24
"""Width that long names must leave for the values."""
GAP = 2
TITLES = ("column", "type", "empty", "chart")
BINS_WIDE, BINS_NARROW = 20, 10
BAR_WIDTH = 5
LEVELS = " ▁▂▃▄▅▆▇█"
ASCII_LEVELS = " .:-=+*#@"


def show_profile(console: Console, profile: Sequence[ColumnProfile], rows: int) -> None:
    """Print a line for each column: the share of empty cells, a small chart, and as many statistics as fit.

    Args:
        console: the terminal; if it has at least 100 characters per line, the charts are larger.
        profile: statistics of the columns.
        rows: number of rows of the output.
    """
    ascii_only, wide = is_ascii_only(console), console.width >= WIDE
    max_name_width = MAX_NAME_WIDTH if wide else MAX_NAME_WIDTH // 2
    lines = []
    for column in profile:
        empty = _share(column.nulls, rows)
        if wide:
            empty += f" {_bar(column.nulls, rows, ascii_only)}"
        name, dtype = encodable(console, column.column), column.dtype.partition("(")[0]
        lines.append((name, dtype, empty, _chart(column, BINS_WIDE if wide else BINS_NARROW, ascii_only)))
    widths = [max([len(title), *(cell_len(line[at]) for line in lines)]) for at, title in enumerate(TITLES)]
    left = console.width - sum(widths[1:]) - len(widths) * GAP  # for the name and the values
    widths[0] = min(widths[0], max_name_width, max(left - MIN_VALUES_WIDTH, MIN_NAME_WIDTH))
    room = left - widths[0]
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    overflow: OverflowMethod = "crop" if ascii_only else "ellipsis"
    for title, width in zip(TITLES, widths, strict=True):
        table.add_column(title, width=width, no_wrap=True, overflow=overflow)
    table.add_column("values", max_width=max(room, 1), no_wrap=True, overflow=overflow)
    for column, line in zip(profile, lines, strict=True):
        figures = ""
        for phrase in _phrases(column, rows, room):
            longer = f"{figures}, {phrase}" if figures else phrase
            if figures and cell_len(longer) > room:
                continue  # a shorter phrase may still fit
            figures = longer
        name = _shortened(line[0], widths[0], ".." if ascii_only else "…")
        table.add_row(*map(Text, (name, *line[1:])), Text(encodable(console, figures)))
    console.print(table)


def _shortened(name: str, width: int, gap: str) -> str:
    """Shorten a name in its middle: names of a table often differ at their ends only.

    >>> _shortened("arrival_delay_minutes_2", 14, "…"), _shortened("year", 14, "…")
    ('arrival_…tes_2', 'year')
    """
    if cell_len(name) <= width:
        return name
    kept = max(width - len(gap), 2)
    tail = kept * 2 // 5
    while cell_len(f"{name[: kept - tail]}{gap}{name[-tail:]}") > width and kept > 2:  # of wide characters
        kept -= 1
        tail = kept * 2 // 5
    return f"{name[: kept - tail]}{gap}{name[-tail:]}"


def _range(column: ColumnProfile, room: int) -> str:
    """Describe the values between the minimum and the maximum; times of day are left out if they do not fit."""
    first, last = _figure(column.min), _figure(column.max)
    text = f"{first} to {last}"
    if cell_len(text) > room and column.dtype.startswith("Datetime"):
        return f"{first[:10]} to {last[:10]}"
    return text


def _phrases(column: ColumnProfile, rows: int, room: int) -> Iterator[str]:
    """Describe a column in phrases for a number of characters, the most important first."""
    present = rows - column.nulls
    prefix = "lengths " if column.dtype.startswith(("List", "Binary")) else ""
    unit = " s" if column.dtype.startswith("Duration") else ""
    if column.top and not _all_different(column):
        yield from (f"{_figure(value)} {_share(times, rows).strip()}" for value, times in column.top)
    elif column.min is not None:
        yield f"{prefix}{_range(column, room)}{unit}"
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
    """Return whether even the most frequent value occurs only once."""
    return column.top is not None and len(column.top) > 1 and column.top[0][1] == 1


def _chart(column: ColumnProfile, width: int, ascii_only: bool) -> str:
    """Draw a bar for each bin of the histogram, or for each of the most frequent values.

    >>> from creemson.model.results import Histogram
    >>> histogram = Histogram(edges=(0, 1, 2, 3, 4), counts=(0, 1, 4, 8))
    >>> figures = dict.fromkeys(("min", "max", "mean", "std", "quantiles", "distinct"))
    >>> column = ColumnProfile(column="a", dtype="Int64", nulls=0, **figures, histogram=histogram)
    >>> _chart(column, 4, False), _chart(column, 2, False), _chart(column, 4, True)
    (' ▁▄█', '▁█', ' .=@')
    """
    if column.histogram is not None:
        counts = list(column.histogram.counts)
        merged = -(-len(counts) // width)  # bins per bar
        counts = [sum(counts[at : at + merged]) for at in range(0, len(counts), merged)]
    else:
        counts = [] if _all_different(column) else [times for _, times in column.top or ()][:width]
    maximum = max(counts, default=0)
    levels = ASCII_LEVELS if ascii_only else LEVELS
    return "".join(levels[math.ceil(count / maximum * (len(levels) - 1))] for count in counts)


def _bar(part: int, whole: int, ascii_only: bool) -> str:
    """Draw a horizontal bar for a share.

    >>> _bar(1, 2, False), _bar(1, 2, True), _bar(0, 0, True)
    ('██▌  ', '###  ', '     ')
    """
    eighths = math.ceil(BAR_WIDTH * 8 * part / whole) if whole else 0
    full, rest = divmod(eighths, 8)
    text = "#" * (full + bool(rest)) if ascii_only else "█" * full + " ▏▎▍▌▋▊▉"[rest].strip()
    return text.ljust(BAR_WIDTH)


def _share(part: int, whole: int) -> str:
    """Format a share in percent; 0 % and 100 % only if they are exact.

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
    """Format a value of a column.

    >>> _figure(3.14159265), _figure(1234567.8), _figure("2024-05-01T00:00:00"), _figure("2024-05-01T10:30:00")
    ('3.1416', '1234568', '2024-05-01', '2024-05-01 10:30:00')
    """
    if isinstance(value, float):
        return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"
    text = cell_text(value)
    if re.match(r"\d{4}-\d\d-\d\dT", text):
        text = text.replace("T00:00:00", "").replace("T", " ")
    return text if len(text) <= CELL_WIDTH else f"{text[: CELL_WIDTH - 3]}..."
