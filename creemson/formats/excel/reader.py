"""Excel workbooks: which sheet, where its table begins, which rows are its header, and what its cells are."""

import difflib
import html
import posixpath
import re
import zipfile
from collections.abc import Iterator
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import fastexcel
import polars as pl

from creemson.errors import ProcessingError
from creemson.processing.casting import cast_frame, check_types
from creemson.processing.formats import Sniffed, bomb
from creemson.processing.issues import Report
from creemson.processing.naming import unnamed
from creemson.processing.table import Table, reading_of
from creemson.wire.messages import Options, Reading

__all__ = ["open_workbook"]

HEAD_ROWS = 60
"""Of a sheet, in which its header is looked for."""
HEADERS_MOST = 5
NO_DAYS = (date(1899, 12, 30), date(1899, 12, 31), date(1904, 1, 1))
"""What Excel has for the date of a time of the day."""
BLOCK_BYTES = 1 << 20

_SHEET = re.compile(rb"<(?:\w+:)?sheet\s([^>]*)>")
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\s([^>]*)>")
_ATTRIBUTE = re.compile(rb"([\w:]+)\s*=\s*\"([^\"]*)\"")
_ERROR = re.compile(rb"<(?:\w+:)?c\s([^>]*\bt=\"e\"[^>]*)>(.{0,400}?)</(?:\w+:)?c>", re.DOTALL)
_VALUE = re.compile(rb"<(?:\w+:)?v>([^<]*)</")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*\bref=\"([A-Z]+)(\d+):([A-Z]+)(\d+)\"")


def open_workbook(
    path: Path,
    name: str,
    sniffed: Sniffed,
    *,
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Read a sheet of a workbook.

    Args:
        path: of the file.
        name: what to call it.
        sniffed: what it is.
        options: ``sheet``, ``header``, ``skip_rows``, ``null_values`` and ``types``.
        report: is told what is left out, or lost.

    Returns:
        The table: of the sheet that was asked for, else the first that is visible and has something in it.

    Raises:
        ProcessingError: ``unreadable_file``: it is damaged, has no table or no such sheet.
        OSError: it cannot be read.
    """
    options = options or Options()
    _check_archive(path, name, sniffed)
    workbook = fastexcel.read_excel(path)
    sheet = _chosen(workbook, name, options)
    marks = _marks(path, workbook.sheet_names.index(sheet))
    head = _load(workbook, sheet, dtypes="string", n_rows=HEAD_ROWS + (options.skip_rows or 0))
    if not head.filled:
        raise _empty(name, sheet)
    shape = _shape(head, marks, options)
    report = Report() if report is None else report
    frame = _typed(_body(workbook, sheet, head, shape))
    if not frame.width:
        raise _empty(name, sheet)
    _tell_errors(frame, marks, shape, report)
    check_types(name, frame.columns, options.types)
    rows = range(shape.first + 1, shape.first + 1 + frame.height)
    frame = cast_frame(frame, rows, options, report)
    return Table(
        name=name,
        schema=frame.schema,
        readings=(reading_of(frame.lazy),),
        sniffed=sniffed,
        rows=frame.height,
        row_bytes=0.0,
        reading=partial(
            Reading,
            format="xlsx",
            header=shape.header,
            skip_rows=shape.skipped,
            null_values=options.null_values,
            sheet=sheet,
            sheets=tuple(workbook.sheet_names),
        ),
        report=report,
    )


def _check_archive(path: Path, name: str, sniffed: Sniffed) -> None:
    """By what it says of itself; one that lies about it meets the limit of the worker's memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # who reads it finds better words
    if size > sniffed.most:
        raise bomb(name, sniffed)


# --- which sheet -------------------------------------------------------------------------------------


def _chosen(workbook: fastexcel.ExcelReader, name: str, options: Options) -> str:
    names = workbook.sheet_names
    if isinstance(options.sheet, str):
        if options.sheet in names:
            return options.sheet
        close = difflib.get_close_matches(options.sheet.lower(), [known.lower() for known in names], 1, 0.0)
        nearest = next((known for known in names if known.lower() in close), None)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        raise _no_sheet(name, f"{options.sheet[:80]!r}", names, hint)
    if options.sheet is not None:
        if 0 <= options.sheet < len(names):
            return names[options.sheet]
        raise _no_sheet(name, f"number {options.sheet} (they are counted from 0)", names, "")
    hidden = None
    for known in names:
        found = _load(workbook, known, dtypes="string", n_rows=HEAD_ROWS)
        if not found.filled:
            continue
        if found.visible:
            return known
        hidden = hidden or known
    if hidden is None:
        raise ProcessingError("unreadable_file", f"{name!r} is empty: no sheet of it has a table.")
    return hidden


def _no_sheet(name: str, wanted: str, names: list[str], hint: str) -> ProcessingError:
    some = ", ".join(map(repr, names[:20]))
    return ProcessingError("unreadable_file", f"{name!r} has no sheet {wanted}, but {some}.{hint}")


def _empty(name: str, sheet: str) -> ProcessingError:
    return ProcessingError("unreadable_file", f"{name!r} has nothing in the sheet {sheet[:80]!r}: no table.")


@attrs.frozen
class _Cells:
    """Some rows of a sheet, from its first row on; the first ``left`` columns of the sheet are empty."""

    frame: pl.DataFrame
    left: int
    visible: bool

    @property
    def filled(self) -> bool:
        return self.frame.width > 0 and self.frame.height > 0


def _load(workbook: fastexcel.ExcelReader, sheet: str, **options: Any) -> _Cells:
    loaded = workbook.load_sheet(sheet, header_row=None, **({"skip_rows": 0} | options))
    columns = loaded.selected_columns
    left = columns[0].absolute_index if columns else 0
    return _Cells(loaded.to_polars() if columns else pl.DataFrame(), left or 0, loaded.visible == "visible")


# --- what its XML says that fastexcel does not -------------------------------------------------------


@attrs.frozen
class _Marks:
    """Cells that hold an error, and blocks of merged cells; rows and columns are counted from 0."""

    errors: list[tuple[int, int, str]]
    merged: list[tuple[int, int, int, int]]


def _marks(path: Path, index: int) -> _Marks:
    """Of a sheet; none where the workbook is no XML or is unusual."""
    marks = _Marks([], [])
    try:
        with zipfile.ZipFile(path) as archive:
            for piece in _pieces(archive, _member(archive, index)):
                for cell in _ERROR.finditer(piece) if b't="e"' in piece else ():
                    attributes = _attributes(cell[1])
                    if place := re.fullmatch(r"([A-Z]+)(\d+)", attributes.get("r", "")):
                        value = _VALUE.search(cell[2])
                        word = value[1].decode(errors="replace") if value else "an error"
                        marks.errors.append((int(place[2]) - 1, _column(place[1]), html.unescape(word)))
                for block in _MERGED.finditer(piece):
                    left, top, right, bottom = (part.decode() for part in block.groups())
                    marks.merged.append((int(top) - 1, _column(left), int(bottom) - 1, _column(right)))
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, NotImplementedError, RuntimeError):
        return _Marks([], [])
    return marks


def _attributes(text: bytes) -> dict[str, str]:
    return {key.decode(): html.unescape(value.decode()) for key, value in _ATTRIBUTE.findall(text)}


def _member(archive: zipfile.ZipFile, index: int) -> str:
    """The path of a sheet in its archive."""
    sheets = [_attributes(found) for found in _SHEET.findall(archive.read("xl/workbook.xml"))]
    relation = next(value for key, value in sheets[index].items() if key.endswith(":id"))
    for found in _RELATION.findall(archive.read("xl/_rels/workbook.xml.rels")):
        attributes = _attributes(found)
        if attributes.get("Id") == relation:
            return posixpath.normpath(posixpath.join("xl", attributes["Target"])).lstrip("/")
    raise KeyError(relation)


def _pieces(archive: zipfile.ZipFile, member: str) -> Iterator[bytes]:
    """A member's text; no tag is cut in two."""
    rest = b""
    with archive.open(member) as stream:
        while block := stream.read(BLOCK_BYTES):
            text = rest + block
            ends = [text.rfind(end) + len(end) for end in (b"</c>", b"</row>", b"/>") if end in text]
            end = max(ends, default=0)
            yield text[:end]
            rest = text[end:]
            if len(rest) > BLOCK_BYTES:
                return


def _column(letters: str) -> int:
    """Of a column's letters its number: A is 0."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


# --- where the table is ------------------------------------------------------------------------------


@attrs.frozen
class _Shape:
    """Where a table stands in its sheet.

    Attributes:
        skipped: rows above its header.
        header: rows of names.
        names: of its columns, None where they have none.
        left: columns of the sheet before its first one.
    """

    skipped: int
    header: int
    names: list[str | None]
    left: int

    @property
    def first(self) -> int:
        """The row of the sheet in which the data begin, counted from 0."""
        return self.skipped + self.header


def _shape(head: _Cells, marks: _Marks, options: Options) -> _Shape:
    rows = head.frame.rows()
    skipped = _title_rows(rows) if options.skip_rows is None else options.skip_rows
    merged = {
        (row, column): (top, left)
        for top, left, bottom, right in marks.merged
        if top < len(rows) and right - left < 20_000
        for row in range(top, min(bottom + 1, len(rows)))
        for column in range(left, right + 1)
    }
    header = _header_rows(rows, skipped, marks, head.left) if options.header is None else int(options.header)
    names: list[str | None] = []
    for column in range(head.frame.width):
        parts: list[str] = []
        for row in range(skipped, min(skipped + header, len(rows))):
            top, left = merged.get((row, column + head.left), (row, column + head.left))
            text = rows[top][left - head.left] if top >= skipped and left >= head.left else rows[row][column]
            if text is not None and text.strip() and text.strip() not in parts[-1:]:
                parts.append(text.strip())
        names.append(" ".join(parts) or None)
    return _Shape(skipped, header, names, head.left)


def _title_rows(rows: list[tuple[str | None, ...]]) -> int:
    """Rows above the header: empty ones, and such as fill far fewer cells than the rows of the table do."""
    filled = [sum(cell is not None and bool(cell.strip()) for cell in row) for row in rows]
    if not any(filled):
        return 0
    usual = sorted(filter(None, filled))[len(list(filter(None, filled))) // 2]
    for row, (count, following) in enumerate(pairwise([*filled, 0])):
        # A title stands in one or two cells; merged cells of a header have a row with more names below them.
        if count > 2 or count * 2 > usual or (count and following == 0 and usual <= 2):
            return row
        if count > 1 and following * 2 > usual and following > count:
            return row
    return next(index for index, count in enumerate(filled) if count)


def _header_rows(rows: list[tuple[str | None, ...]], skipped: int, marks: _Marks, left: int) -> int:
    """One, or as many as merged cells in it span, and the row below those that span columns."""
    row = last = skipped
    while row <= last and row < len(rows) and row - skipped < HEADERS_MOST:
        for top, first, bottom, end in marks.merged:
            if skipped <= top <= row <= bottom and end >= left:
                last = max(last, bottom + 1 if end > first else bottom)
        row += 1
    return max(1, row - skipped)


# --- its cells ---------------------------------------------------------------------------------------


def _body(workbook: fastexcel.ExcelReader, sheet: str, head: _Cells, shape: _Shape) -> pl.DataFrame:
    """The rows below the header, without empty columns and rows at the end."""
    body = _load(workbook, sheet, skip_rows=shape.first, schema_sample_rows=None).frame
    if body.width != head.frame.width:  # no row is left
        body = pl.DataFrame(schema=[(str(index), pl.String) for index in range(len(shape.names))])
    names = _distinct(shape.names)
    body.columns = names
    empty = [
        column.null_count() == column.len() and name is None
        for column, name in zip(body, shape.names, strict=True)
    ]
    while empty and empty[-1]:
        empty.pop()
        names.pop()
    while empty and empty[0]:
        empty.pop(0)
        names.pop(0)
    body = body[names] if names else pl.DataFrame()
    if not names:
        return body
    last = body.select((~pl.all_horizontal(pl.all().is_null())).alias("filled")).to_series().arg_true()
    return body.head(last[-1] + 1 if len(last) else 0)


def _distinct(names: list[str | None]) -> list[str]:
    """As polars names them, where they have no name or one that was there before."""
    distinct: list[str] = []
    taken: set[str] = set()
    for index, name in enumerate(names):
        stem = f"__UNNAMED__{index}" if name is None else name
        unique, number = stem, 0
        while unique in taken:
            number += 1
            unique = f"{stem}_{number}"
        taken.add(unique)
        distinct.append(unique)
    return distinct


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers, dates and times where all cells of a column are such."""
    return frame.with_columns(
        [_narrowed(unnamed(column)).alias(column.name) for column in frame.iter_columns()]
    )


def _narrowed(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Null:
        return column.cast(pl.String)
    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        exact = whole.is_not_null() & (whole.cast(pl.Float64) == column)
        return whole if (exact | column.is_null()).all() and column.count() else column
    if isinstance(column.dtype, pl.Datetime):
        days = column.dt.date()
        if column.count() and days.drop_nulls().is_in(NO_DAYS).all():
            return column.dt.time()
        if (column.dt.truncate("1d") == column).all():
            return days
    return column


def _tell_errors(frame: pl.DataFrame, marks: _Marks, shape: _Shape, report: Report) -> None:
    names = _distinct(shape.names)
    for row, column, word in marks.errors:
        index = column - shape.left
        if (
            0 <= row - shape.first < frame.height
            and 0 <= index < len(names)
            and names[index] in frame.columns
        ):
            report.add(
                "unparsable_cells",
                line=row + 1,
                column=names[index],
                value=word,
                why="an error of the workbook",
            )
