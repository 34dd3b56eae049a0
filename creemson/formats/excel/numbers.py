"""Corrects numbers that fastexcel returns: rounded if they have many digits, and 1 and 0 for booleans among them.

Excel itself has no more than 15 digits, but other programs write ids into workbooks with all of them. What fastexcel
does not return is read from the XML of the sheet, if the values show that there may be something to correct.
"""

import zipfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import attrs
import polars as pl

from creemson.formats.exact import exact_decimal, exact_numbers, exact_type, is_rounded
from creemson.formats.excel.dates import Sheet
from creemson.formats.excel.xml import FAULTS, PartRead, Places, contains, parse, values_of

__all__ = ["corrected_numbers"]

EXACT = 2.0**53
"""Doubles have each integer up to this one."""
MAX_CELLS = 1_000_000
"""Maximum number of cells that are looked at."""
_LONG = r"^-?\d{16,}$"
"""Pattern of the text of a number that may have been rounded, in a column that also has texts."""
_BOOLEANS = (b't="b"', b"t='b'")


def corrected_numbers(frame: pl.DataFrame, sheet: Sheet, left: int, first: int) -> pl.DataFrame:
    """Correct the numbers of a table.

    Args:
        frame: The table, as fastexcel returns it.
        sheet: The sheet; its XML is read only if there may be something to correct.
        left: Index in the sheet of the first column of the table.
        first: Index in the sheet of the first row of the table.

    Returns:
        The table. Numbers that were rounded have all their digits, as integers, decimals or text; a column of numbers
        and booleans is text.
    """
    columns = dict(enumerate(column.alias("") for column in frame.iter_columns()))
    examined = {index for index, column in columns.items() if _has_long(column)}
    mixed = {index for index, column in columns.items() if _may_have_booleans(column)}
    if mixed and contains(sheet.path, sheet.part, _BOOLEANS):
        examined |= mixed
    if not examined:
        return frame
    reader = _Reader(left, examined, range(first, first + frame.height))
    with suppress(*FAULTS), zipfile.ZipFile(sheet.path) as archive, archive.open(sheet.part) as stream:
        parse(stream, reader.on_element)
    for index in examined:
        columns[index] = _corrected(columns[index], reader.numbers[index], reader.booleans[index])
    return frame.with_columns(column.alias(frame.columns[index]) for index, column in columns.items())


def _has_long(column: pl.Series) -> bool:
    """Whether a column may have numbers that were rounded."""
    if column.dtype == pl.String:
        return bool(column.str.contains(_LONG).any())
    return column.dtype.is_float() and bool((column.abs() >= EXACT).any())


def _may_have_booleans(column: pl.Series) -> bool:
    return column.dtype.is_float() and bool(column.is_in([0.0, 1.0]).any())


@attrs.define
class _Cells:
    """Cells of a column: their rows in the table, and the texts of their values."""

    rows: list[int] = attrs.field(factory=list)
    texts: list[str] = attrs.field(factory=list)


class _Reader:
    """Receives the elements of a sheet, and collects the numbers and booleans of some columns.

    Args:
        left: Index of the first column of the table.
        columns: The columns, counted from there.
        rows: The rows of the table.
    """

    def __init__(self, left: int, columns: Collection[int], rows: range) -> None:
        self.numbers = {index: _Cells() for index in columns}
        self.booleans = {index: _Cells() for index in columns}
        self._left = left
        self._rows = rows
        self._count = 0
        self._places = Places()
        self._row = 0
        self._cells: _Cells | None = None  # to which the cell belongs

    def on_element(self, name: str, attributes: Sequence[str]) -> Callable[[str], None] | None:
        """Receive an element; return the receiver of its text."""
        if name == "c":
            self._cells = None
            self._places.on_cell(attributes)
            values = values_of(attributes)
            kinds = {"n": self.numbers, "b": self.booleans}.get(values.get("t", "n"))
            place = self._places.place()
            if kinds is not None and place is not None and place[0] in self._rows:
                self._row = place[0] - self._rows.start
                self._cells = kinds.get(place[1] - self._left)
        elif name == "row":
            self._places.on_row(attributes)
        elif name == "v" and self._cells is not None:
            return self._on_value
        return None

    def _on_value(self, text: str) -> None:
        assert self._cells is not None
        self._count += 1
        if self._count > MAX_CELLS:
            raise PartRead
        self._cells.rows.append(self._row)
        self._cells.texts.append(text.strip())
        self._cells = None


def _corrected(column: pl.Series, numbers: _Cells, booleans: _Cells) -> pl.Series:
    if column.dtype == pl.String:
        return _with_digits(column, numbers)
    if _has_long(column):
        column = _exact(column, numbers)
    if not booleans.rows:
        return column
    words = ["true" if text == "1" else "false" for text in booleans.texts]
    return column.cast(pl.String).str.strip_suffix(".0").scatter(booleans.rows, words)


def _with_digits(column: pl.Series, numbers: _Cells) -> pl.Series:
    """Correct the numbers in a column of texts."""
    found = pl.DataFrame(
        {"row": numbers.rows, "text": numbers.texts}, schema={"row": pl.UInt32, "text": pl.String}
    )
    found = found.filter(pl.col("text").str.contains(_LONG))
    return column.scatter(found.get_column("row"), found.get_column("text"))


def _exact(column: pl.Series, numbers: _Cells) -> pl.Series:
    """The numbers of a column as they are written, in the smallest type that has all their digits."""
    written = column.cast(pl.String).scatter(numbers.rows, numbers.texts)
    # A double of 1.4E+18 has other digits behind these, which nobody has written.
    whole = written.to_frame("").select(exact_decimal(pl.col(""), pl.Decimal(38, 0))).to_series()
    integers = whole.cast(pl.Int64, strict=False)
    if integers.null_count() == written.null_count():
        return integers
    if not is_rounded(written, column).any():
        return column
    dtype = exact_type(written)
    return written if dtype == pl.String else exact_numbers(written, dtype)
