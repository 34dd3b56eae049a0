"""Repairs texts in which control characters stand for letters and signs of windows-1252.

Who takes windows-1252 for latin-1 and writes UTF-8 makes control characters (U+0080 to U+009F) of its quotes, dashes
and letters. No text has these characters by intention. A column with such cells has a kind of its own, so that its
cells stay as they are written wherever texts are kept, see :mod:`~creemson.formats.csv.texts`.
"""

import re
from collections.abc import Mapping, Sequence

import polars as pl
import polars.selectors as cs

from creemson.formats.csv.lines import Lines
from creemson.formats.csv.values.kinds import TEXT, Kind
from creemson.formats.csv.values.types import GROUP_COLUMNS
from creemson.formats.report import MAX_REJECTS, Report

__all__ = ["CONTROLS", "CONTROL_BYTES", "REPAIRED", "has_controls", "mark_columns", "report_repairs"]

_MEANT = {
    chr(code): bytes([code]).decode("windows-1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # not assigned in windows-1252
}
"""The control characters, and the characters that are meant."""
CONTROLS = f"[{''.join(_MEANT)}]"
"""Pattern of such a character."""
CONTROL_BYTES = re.compile(b"\xc2[" + b"".join(control.encode()[1:] for control in _MEANT) + b"]")
"""Matches such a character in UTF-8."""
_IN_TEXT = re.compile(CONTROLS)


def _repaired(text: pl.Expr) -> pl.Expr:
    return text.str.replace_many(list(_MEANT), list(_MEANT.values()))


REPAIRED = Kind("text with control characters", pl.String(), _repaired)
"""Text in which control characters are replaced."""


def has_controls(text: str) -> bool:
    """Return whether a text has such control characters; at once, if it is ASCII."""
    return not text.isascii() and _IN_TEXT.search(text) is not None


def mark_columns(kinds: dict[str, Kind], texts: pl.LazyFrame, names: Sequence[str]) -> bool:
    """Give the kind :data:`REPAIRED` to the columns of text that need it.

    Args:
        kinds: The kinds of all columns, which are changed.
        texts: The cells as text.
        names: The columns that are read.

    Returns:
        Whether any kind was changed.
    """
    free = [name for name in names if kinds[name] is TEXT]
    found: list[str] = []
    for start in range(0, len(free), GROUP_COLUMNS):
        group = free[start : start + GROUP_COLUMNS]
        tests = cs.by_name(*group).str.contains(CONTROLS).any()
        row = texts.select(tests).collect(engine="streaming").row(0)
        found += [name for name, has_any in zip(group, row, strict=True) if has_any]
    kinds.update(dict.fromkeys(found, REPAIRED))
    return bool(found)


def report_repairs(
    texts: pl.LazyFrame,
    row: str,
    *,
    kinds: Mapping[str, Kind],
    names: Sequence[str],
    lines: Lines,
    report: Report,
) -> None:
    """Report the cells that have been repaired.

    Args:
        texts: The cells as text, and a column with the numbers of their rows, counted from 0.
        row: The name of this column.
        kinds: The kinds of the columns.
        names: The columns that are read.
        lines: The lines of the file in which its rows begin.
        report: Collects the cells.
    """
    repaired = [name for name in names if kinds[name] is REPAIRED]
    if not repaired:
        return
    cells = cs.by_name(*repaired)
    found = (
        texts.select(row, pl.when(cells.str.contains(CONTROLS)).then(cells))
        .filter(pl.any_horizontal(cells.is_not_null()))
        .head(MAX_REJECTS)
        .collect(engine="streaming")
    )
    for number, *values in found.iter_rows():
        for name, value in zip(repaired, values, strict=True):
            if value is not None:
                meant = " ".join(dict.fromkeys(_MEANT[control] for control in _IN_TEXT.findall(value)))
                report.add(
                    "repaired_cells",
                    line=lines.of(number),
                    column=name,
                    value=value,
                    why=f"has control characters in place of {meant}",
                )
