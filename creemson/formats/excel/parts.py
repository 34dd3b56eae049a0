"""Reads the XML of a workbook for what fastexcel does not return: merged cells, errors, formulas without a value.

Dates that are text are read, too, because it returns only some of them.
"""

import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import attrs

from creemson.formats.excel.xml import BLOCK_BYTES, FAULTS, Places, column_index, contains, parse, values_of

__all__ = ["Marks", "archive_bytes", "filtered_rows", "find_marks", "sheet_parts"]

MAX_MARKS = 1_000_000
"""Maximum number of cells of each kind, and of merged blocks, that are remembered."""
_SIGNS = (b"mergeCell", b'"e"', b"'e'", b't="d"', b"t='d'", b"f></", b"/></", b"v/>", b"v />", b"v></")
"""Byte strings of which at least one is in each part with merged cells, errors, dates as text or missing values."""
_ON_LOAD = (b'CalcOnLoad="1"', b"CalcOnLoad='1'")
"""What a workbook has that asks for all formulas to be calculated when it is opened."""
_NOT_CALCULATED = (b'"124519"', b"'124519'")
"""The version of the calculation in workbooks of XlsxWriter, its ports and openpyxl, none of which calculates: programs
that do ask for a calculation, too, and their 0 is a value."""
_PLACEHOLDER = b"</f><v>0</v>"
"""How XlsxWriter, which does not calculate, ends each formula."""
_BLOCK = re.compile(r"([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})")

_DIMENSION, _FILTER = (
    re.compile(name + rb' ref="[A-Z]{1,3}\d{1,7}:[A-Z]{1,3}(\d{1,7})"')
    for name in (b"dimension", b"autoFilter")
)
MAX_AREA = 100
"""Maximum number of bytes of what these patterns match."""


@attrs.frozen
class Marks:
    """Special cells of a sheet; rows and columns are counted from 0.

    Attributes:
        errors: Row, column and text of each cell with an error.
        merged: Top, left, bottom and right of each block of merged cells.
        missing: Row, column and text of each formula whose value is not stored: the workbook was written by a program
            that does not calculate.
        dates: Row, column and text of each date that is ISO 8601 text.
        placeholders: Row and column of those missing values in whose place 0 is stored.
    """

    errors: list[tuple[int, int, str]] = attrs.field(factory=list)
    merged: list[tuple[int, int, int, int]] = attrs.field(factory=list)
    missing: list[tuple[int, int, str]] = attrs.field(factory=list)
    dates: list[tuple[int, int, str]] = attrs.field(factory=list)
    placeholders: list[tuple[int, int]] = attrs.field(factory=list)

    @property
    def without_value(self) -> Iterator[tuple[int, int, str]]:
        """The cells that are not empty, but for which fastexcel returns null."""
        return chain(self.errors, self.missing, self.dates)


def archive_bytes(path: Path) -> int:
    """Return the decompressed size that an archive declares; 0 if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except FAULTS:
        return 0


def sheet_parts(path: Path) -> list[str]:
    """Return the path in the archive of each sheet, in the workbook's order; empty if the structure is unusual."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _sheet_parts(archive)
    except FAULTS:
        return []


def find_marks(path: Path, part: str) -> Marks:
    """Find the special cells of a sheet.

    Args:
        path: Path of the workbook.
        part: The path of the sheet in the archive.

    Returns:
        The cells; none if the part is not XML.
    """
    marks = Marks()
    may_have_placeholders = all(contains(path, "xl/workbook.xml", of) for of in (_ON_LOAD, _NOT_CALCULATED))
    signs = (*_SIGNS, _PLACEHOLDER) if may_have_placeholders else _SIGNS
    if not contains(path, part, signs):  # most sheets
        return marks
    try:
        with zipfile.ZipFile(path) as archive, archive.open(part) as stream:
            cells = _Cells(marks)
            parse(stream, cells.on_element)
            cells.end_cell()
            if may_have_placeholders:
                cells.note_placeholders()
    except FAULTS:
        return Marks()
    return marks


def filtered_rows(path: Path, part: str, height: int) -> int:
    """Return the number of rows of a sheet up to which its filter says that it has a table.

    Empty rows are rows of the table there; elsewhere, those at the end may only have a format.

    Args:
        path: Path of the workbook.
        part: The path of the sheet in the archive.
        height: The number of rows up to the last one with a value.

    Returns:
        The number; 0 if there is no filter, or if no row below the last value is in the sheet.
    """
    rest, end = b"", 0
    with suppress(*FAULTS), zipfile.ZipFile(path) as archive, archive.open(part) as stream:
        while block := stream.read(BLOCK_BYTES):
            text = rest + block
            if not end:  # it stands before the rows
                found = _DIMENSION.search(text)
                end = int(found[1]) if found else 0
                if end <= height:
                    return 0
            if found := _FILTER.search(text):
                return min(end, int(found[1]))
            rest = text[-MAX_AREA:]
    return 0


def _sheet_parts(archive: zipfile.ZipFile) -> list[str]:
    ids: list[str] = []
    targets: dict[str, str] = {}

    def on_sheet(name: str, attributes: Sequence[str]) -> None:
        if name == "sheet":
            names = attributes[::2]
            ids.append(
                next((attributes[2 * n + 1] for n, key in enumerate(names) if key.endswith(":id")), "")
            )

    def on_relation(name: str, attributes: Sequence[str]) -> None:
        if name == "Relationship":
            values = values_of(attributes)
            targets.setdefault(values.get("Id", ""), values.get("Target", ""))

    with archive.open("xl/workbook.xml") as stream:
        parse(stream, on_sheet)
    with archive.open("xl/_rels/workbook.xml.rels") as stream:
        parse(stream, on_relation)
    return [posixpath.normpath(posixpath.join("xl", targets.get(id_, ""))).lstrip("/") for id_ in ids]


class _Cells:
    """Collects the special cells while a sheet is parsed."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._places = Places()
        self._attributes: Sequence[str] = ()  # of the cell
        self._is_error = False  # the text of this cell has not been read
        self._is_date = False
        self._formula: str | None = None  # of this cell, as long as no value was found
        self._zeros: list[tuple[int, int, str]] = []  # the formulas with the value 0
        self._has_values = False  # a formula has another value

    def on_element(self, name: str, attributes: Sequence[str]) -> Callable[[str], None] | None:
        """Receive an element; return the receiver of its text."""
        if name == "c":
            self.end_cell()
            self._places.on_cell(attributes)
            self._attributes = attributes
            self._is_error = "e" in attributes and values_of(attributes).get("t") == "e"
            self._is_date = "d" in attributes and values_of(attributes).get("t") == "d"
        elif name == "row":
            self.end_cell()
            self._places.on_row(attributes)
        elif name == "f":
            self._formula = ""
            return self._on_formula
        elif name == "v" and (self._is_error or self._is_date or self._formula is not None):
            return self._on_value
        elif name == "is":
            self._formula = None
        elif name == "mergeCell":
            block = _BLOCK.fullmatch(values_of(attributes).get("ref", ""))
            if block and len(self._marks.merged) < MAX_MARKS:
                left, top, right, bottom = block.groups()
                self._marks.merged.append(
                    (int(top) - 1, column_index(left), int(bottom) - 1, column_index(right))
                )
        return None

    def end_cell(self) -> None:
        """Note a formula that was followed by no value."""
        if self._formula is not None:
            self._note(self._marks.missing, _shown(self._formula))
            self._formula = None

    def note_placeholders(self) -> None:
        """Note the formulas with the value 0 as those without a value, if no formula has another one."""
        if not self._has_values:
            self._marks.missing.extend(self._zeros)
            self._marks.placeholders.extend((row, column) for row, column, _ in self._zeros)

    def _on_formula(self, text: str) -> None:
        self._formula = text

    def _on_value(self, text: str) -> None:
        if self._formula is not None and text == "0":
            self._note(self._zeros, _shown(self._formula))
        elif self._formula is not None and text:
            self._has_values = True
        # The value of a formula may be an empty text.
        if text or self._is_error or values_of(self._attributes).get("t") == "str":
            self._formula = None
        if self._is_error:
            self._is_error = False
            self._note(self._marks.errors, text or "an error")
        elif self._is_date and text:
            self._is_date = False
            self._note(self._marks.dates, text)

    def _note(self, cells: list[tuple[int, int, str]], text: str) -> None:
        place = self._places.place()
        if place is not None and len(cells) < MAX_MARKS:
            cells.append((*place, text))


def _shown(formula: str) -> str:
    return f"={formula}" if formula else "a formula"
