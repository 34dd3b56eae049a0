"""Corrects the dates, times and durations that fastexcel returns.

fastexcel returns a date for any number that is shown as one, and the text ``2024-01-05 00:00:00`` in a column that also
has texts. Excel counts days from 1899-12-31, and has a day 60 (1900-02-29) that never was; what it shows as ``####``
(negative numbers) and as 1900-01-00 (zero) is no date. What fastexcel does not tell is read from the XML of the sheet.
"""

import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import attrs
import polars as pl

from creemson.formats.columns import unnamed
from creemson.formats.excel.styles import Kind, Style, Styles, read_styles
from creemson.formats.excel.xml import FAULTS, PartRead, Places, parse, values_of
from creemson.formats.report import Report

__all__ = ["Cell", "Sheet", "corrected", "is_date_text", "text_of"]

SAMPLE_ROWS = 1000
"""Number of rows in which the style of a column of dates is searched for."""
MAX_CELLS = 1_000_000
"""Maximum number of dates in columns of text, and beside times of day, that are corrected."""
_DATE_TEXT = r"^-?\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d"
"""Pattern of the text that fastexcel makes of a date, a time or a duration."""
_WHY = "shown as a date, but Excel has no such date"


@attrs.frozen
class Cell:
    """A number that is shown as a date, a time or a duration.

    Attributes:
        row, column: Its place in the sheet, counted from 0.
        number: The number.
        style: How it is shown.
    """

    row: int
    column: int
    number: float
    style: Style


@attrs.frozen
class Sheet:
    """A sheet of a workbook, whose XML is read when it is needed.

    Attributes:
        path: Path of the workbook.
        part: The path of the sheet in the archive.
    """

    path: Path
    part: str

    @cached_property
    def styles(self) -> Styles:
        """The styles of the workbook."""
        return read_styles(self.path)

    def visit(self, columns: Collection[int], rows: range, on_cell: Callable[[Cell], None]) -> None:
        """Pass the dates, times and durations in some columns and rows to a function."""
        reader = _Reader(self.styles.by_index, frozenset(columns), rows, on_cell)
        with suppress(*FAULTS), zipfile.ZipFile(self.path) as archive, archive.open(self.part) as stream:
            parse(stream, reader.on_element)

    def texts(self, columns: Collection[int], rows: range) -> dict[int, "_Texts"]:
        """Return the dates, times and durations in some columns and rows as text, by column."""
        found: dict[int, _Texts] = {}
        left = MAX_CELLS

        def on_cell(cell: Cell) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PartRead
            column = found.setdefault(cell.column, _Texts())
            text = text_of(cell, is_1904=self.styles.is_1904)
            column.kinds.add(cell.style.kind)
            column.rows.append(cell.row)
            column.texts.append(text)
            column.milliseconds.append(round(cell.number * 86_400_000))
            if text is None:
                column.bad.append((cell.row, f"{cell.number:.15g}"))

        self.visit(columns, rows, on_cell)
        return found

    def durations(self) -> set[int]:
        """Return the columns that have a duration."""
        found: set[int] = set()

        def on_cell(cell: Cell) -> None:
            if cell.style.kind == "duration":
                found.add(cell.column)

        self.visit(range(MAX_COLUMN), range(MAX_ROW), on_cell)
        return found


MAX_COLUMN, MAX_ROW = 1 << 14, 1 << 20
"""Numbers of columns and rows of a sheet."""


@attrs.frozen
class _Texts:
    """The dates, times and durations of a column.

    Attributes:
        rows: Their rows in the sheet.
        texts: Their texts; None for numbers that are no dates.
        milliseconds: The numbers in milliseconds.
        bad: Row and number of the latter.
        kinds: What they are.
    """

    rows: list[int] = attrs.field(factory=list)
    texts: list[str | None] = attrs.field(factory=list)
    bad: list[tuple[int, str]] = attrs.field(factory=list)
    kinds: set[Kind] = attrs.field(factory=set)
    milliseconds: list[int] = attrs.field(factory=list)

    @property
    def are_durations(self) -> bool:
        """Whether all are times, which do not fit into one day."""
        return self.kinds == {"time"}


class _Reader:
    """Receives the elements of a sheet, and passes on the numbers that are shown as dates, times and durations."""

    def __init__(
        self,
        styles: Mapping[str, Style],
        columns: frozenset[int],
        rows: range,
        on_cell: Callable[[Cell], None],
    ) -> None:
        self._styles = styles
        self._columns = columns
        self._rows = rows
        self._on_cell = on_cell
        self._places = Places()
        self._cell: tuple[int, int, Style] | None = None

    def on_element(self, name: str, attributes: Sequence[str]) -> Callable[[str], None] | None:
        """Receive an element; return the receiver of its text."""
        if name == "c":
            self._cell = None
            self._places.on_cell(attributes)
            values = values_of(attributes)
            style = self._styles.get(values.get("s", "0"))
            if style is not None and values.get("t", "n") == "n":
                place = self._places.place()
                if place is not None and place[0] >= self._rows.stop:
                    raise PartRead
                if place is not None and place[0] in self._rows and place[1] in self._columns:
                    self._cell = (*place, style)
        elif name == "row":
            self._places.on_row(attributes)
        elif name == "v" and self._cell is not None:
            return self._on_value
        return None

    def _on_value(self, text: str) -> None:
        assert self._cell is not None
        row, column, style = self._cell
        self._cell = None
        with suppress(ValueError, OverflowError):
            number = float(text)
            if abs(number) < MAX_NUMBER:
                self._on_cell(Cell(row, column, number, style))


MAX_NUMBER = 1e9
"""Larger numbers are no dates, and no durations either: Excel shows them as ``####``."""


def text_of(cell: Cell, *, is_1904: bool = False) -> str | None:
    """Return a date, time or duration as text; None if Excel has no such date.

    >>> text_of(Cell(0, 0, 45296.0, Style("date")))
    '2024-01-05'
    >>> text_of(Cell(0, 0, 1.135416666666667, Style("duration", True)))
    '27:15:00'
    """
    milliseconds = round(cell.number * 86_400_000)
    if cell.style.kind == "duration":
        hours, rest = divmod(abs(milliseconds), 3_600_000)
        return f"{'-' if milliseconds < 0 else ''}{hours}{_clock(rest)}"
    days, rest = divmod(milliseconds, 86_400_000)
    if cell.style.kind == "time" and (days == 0 or (days == 1 and rest == 0)):
        text = f"{rest // 3_600_000:02}{_clock(rest % 3_600_000)}"
        return text.removesuffix(":00") if not cell.style.has_seconds and text.count(":") == 2 else text
    if is_1904:
        if days < 0:
            return None
        first = datetime(1904, 1, 1)
    else:
        if days < 1 or days == 60:
            return None
        first = datetime(1899, 12, 31 if days < 60 else 30)
    try:
        moment = first + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    if rest == 0 and cell.style.kind == "date":
        return moment.date().isoformat()
    return moment.isoformat(" ", "milliseconds" if moment.microsecond else "seconds")


def _clock(milliseconds: int) -> str:
    """Minutes and seconds, with a fraction if there is one."""
    seconds, fraction = divmod(milliseconds, 1000)
    end = f".{fraction:03}".rstrip("0") if fraction else ""
    return f":{seconds // 60:02}:{seconds % 60:02}{end}"


def is_date_text(text: str | None) -> bool:
    """Whether a text may be what fastexcel makes of a date."""
    return text is not None and re.match(_DATE_TEXT, text) is not None


def corrected(
    frame: pl.DataFrame, sheet: Sheet, left: int, first: int, report: Report
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Correct the dates, times and durations of a table.

    Args:
        frame: The table, as fastexcel returns it.
        sheet: The sheet; its XML is read only if there may be something to correct.
        left: Index in the sheet of the first column of the table.
        first: Index in the sheet of the first row of the table.
        report: Collects the numbers that are no dates.

    Returns:
        The table, and how the times of day of its columns are written, by column.
    """
    columns = dict(enumerate(frame.iter_columns()))
    moments = [index for index, column in columns.items() if isinstance(column.dtype, pl.Datetime)]
    styles: dict[int, Style] = {}
    if moments:

        def on_cell(cell: Cell) -> None:
            styles.setdefault(cell.column - left, cell.style)

        sheet.visit([left + index for index in moments], range(first, first + SAMPLE_ROWS), on_cell)
    examined = [index for index in moments if _needs_look(columns[index], styles.get(index), sheet.styles)]
    examined += [index for index, column in columns.items() if _has_date_text(column)]
    if examined:
        rows = range(first, first + frame.height)
        for index, texts in sheet.texts([left + index for index in examined], rows).items():
            column = columns[index - left]
            for row, number in () if texts.are_durations and column.dtype != pl.String else texts.bad:
                report.add("unparsable_cells", line=row + 1, column=column.name, value=number, why=_WHY)
            columns[index - left] = _with_texts(column, texts, first)
    notations = {}
    for index, style in styles.items():
        if style.kind == "time" and index not in examined:
            columns[index] = columns[index].dt.time()
            if not style.has_seconds:
                notations[columns[index].name] = "%H:%M"
    return frame.with_columns(columns.values()), notations


def _has_date_text(column: pl.Series) -> bool:
    return column.dtype == pl.String and bool(unnamed(column).str.contains(_DATE_TEXT).any())


def _needs_look(column: pl.Series, style: Style | None, styles: Styles) -> bool:
    """Whether a column of dates may have some that Excel does not have, or times of day among them."""
    begin = datetime(1904, 1, 2) if styles.is_1904 else datetime(1900, 1, 1)
    column = unnamed(column)
    if style is not None and style.kind == "time":
        # A time of day is less than one day, and is not negative.
        return bool(((column >= begin) | (column < begin - timedelta(days=1))).any())
    is_day_60 = column.dt.date() == date(1900, 2, 28)  # fastexcel returns this day for the number 59, too
    return bool(((column < begin) | is_day_60).any())


def _with_texts(column: pl.Series, texts: _Texts, first: int) -> pl.Series:
    """Correct a column with what its sheet has."""
    rows = [row - first for row in texts.rows]
    if column.dtype == pl.String:
        return column.scatter(rows, texts.texts)
    if texts.are_durations:  # 25:00 is shown as 01:00
        durations = pl.Series(texts.milliseconds, dtype=pl.Int64).cast(pl.Duration("ms"))
        return (
            pl.Series(column.name, [None], durations.dtype)
            .new_from_index(0, len(column))
            .scatter(rows, durations)
        )
    if texts.kinds & {"time", "duration"} and texts.kinds & {"date", "datetime"}:
        return column.dt.to_string("%Y-%m-%d %H:%M:%S").scatter(rows, texts.texts)
    return column.scatter([row - first for row, _ in texts.bad], None)
