"""Corrects the dates that a workbook has as ISO 8601 text and not as numbers.

Excel writes them into a *Strict Open XML* workbook, and openpyxl on request. fastexcel returns null, without a word,
for times of day and for what it cannot parse, and text for a column of dates and datetimes.
"""

from collections.abc import Iterable
from datetime import date, datetime, time
from itertools import groupby
from operator import itemgetter

import polars as pl

from creemson.formats.report import Report

__all__ = ["corrected_iso"]

_FIRST_DAY = date(1899, 12, 31)
"""The day of a time of day, as fastexcel has it."""


def corrected_iso(
    frame: pl.DataFrame, cells: Iterable[tuple[int, int, str]], left: int, first: int, report: Report
) -> pl.DataFrame:
    """Correct the dates of a table that are ISO 8601 text.

    Args:
        frame: The table, as fastexcel returns it.
        cells: Row and column in the sheet, and text, of each such date.
        left: Index in the sheet of the first column of the table.
        first: Index in the sheet of the first row of the table.
        report: Collects what is no date.

    Returns:
        The table. A column that has only such dates has datetimes, or times on the day before 1900; if it has dates
        and times of day, it has texts.
    """
    inside = ((column - left, row - first, text) for row, column, text in cells)
    height, width = frame.shape
    ours = sorted(cell for cell in inside if 0 <= cell[0] < width and 0 <= cell[1] < height)
    for index, group in groupby(ours, key=itemgetter(0)):
        column = frame.to_series(index)
        found = [(row, text) for _, row, text in group]
        # Text beside such dates stays as it is.
        if column.count() > len(found) or not (column.dtype.is_temporal() or column.dtype == pl.String):
            continue
        frame = frame.with_columns(_column(column.name, height, found, first, report))
    return frame


def _column(name: str, height: int, cells: list[tuple[int, str]], first: int, report: Report) -> pl.Series:
    rows, moments, texts = [], [], []
    kinds: set[bool] = set()
    for row, text in cells:
        moment = _moment(text)
        if moment is None:
            why = "no date in ISO 8601, although the workbook says that it is one"
            report.add("unparsable_cells", line=first + row + 1, column=name, value=text, why=why)
            continue
        rows.append(row)
        kinds.add(isinstance(moment, time))
        is_day = isinstance(moment, datetime) and moment.time() == time()
        texts.append((moment.date() if is_day else moment).isoformat())  # type: ignore[union-attr]
        moments.append(datetime.combine(_FIRST_DAY, moment) if isinstance(moment, time) else moment)
    if len(kinds) > 1:
        return pl.Series(name, [None], dtype=pl.String).new_from_index(0, height).scatter(rows, texts)
    empty = pl.Series(name, [None], dtype=pl.Datetime("ms")).new_from_index(0, height)
    return empty.scatter(rows, pl.Series(moments, dtype=pl.Datetime("ms")))


def _moment(text: str) -> datetime | time | None:
    """The date, the datetime at midnight, or the time of day of a text; None if it is none, or has another offset."""
    text = text.strip()
    for parse in (datetime.fromisoformat, time.fromisoformat):
        try:
            moment = parse(text)
        except ValueError:
            continue
        if not moment.utcoffset():
            return moment.replace(tzinfo=None)
    return None
