"""Reads Excel workbooks: chooses the sheet, and finds where its table begins and which rows are its header."""

import logging
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import fastexcel
import polars as pl

from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats.coerce import cast_frame, check_types
from creemson.formats.columns import default_name, unique_names, unnamed
from creemson.formats.csv.layout.header import classes_below, header_rows
from creemson.formats.csv.layout.preamble import below_pairs
from creemson.formats.excel.dates import Sheet, corrected, is_date_text
from creemson.formats.excel.iso import corrected_iso
from creemson.formats.excel.numbers import corrected_numbers
from creemson.formats.excel.parts import Marks, archive_bytes, filtered_rows, find_marks, sheet_parts
from creemson.formats.report import Fault, Report
from creemson.formats.source import Source, decompression_bomb_error
from creemson.formats.table import Table, reading_of
from creemson.model.nearest import nearest
from creemson.model.query import Options
from creemson.model.results import Reading

__all__ = ["open_workbook"]

# fastexcel warns of each column without values, which may be thousands of lines in the server's log.
logging.getLogger("fastexcel").setLevel(logging.ERROR)

HEAD_ROWS = 60
"""Number of rows of a sheet in which the header is searched for."""
MAX_HEADER = 5
"""Maximum number of rows of names."""
EPOCH_DAYS = (date(1899, 12, 30), date(1899, 12, 31), date(1904, 1, 1))
"""The dates that Excel stores for a time without a date."""
MAX_NAME = 255
"""Maximum number of characters of a sheet's name that are compared; Excel allows 31."""
MAX_WHOLE = 2.0**53
"""A larger double has digits that nobody has written."""
MAX_EMPTY = 1_000_000
"""Maximum number of cells in empty rows at the end of a table that are kept."""
MAX_SHEETS = 1000
"""Maximum number of sheets that are searched for a table; all are read if the request names them."""


def open_workbook(
    path: Path,
    name: str,
    source: Source,
    *,
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Read a sheet of a workbook.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: The size of the file, and the limit of its decompressed size.
        options: ``sheet``, ``header``, ``skip_rows``, ``null_values`` and ``types`` are used.
        report: Collects what is lost.

    Returns:
        The table of the requested sheet, or of the first visible sheet that is not empty.

    Raises:
        InvalidFormat: A requested type or its column does not exist, or ``skip_rows`` is too large.
        ProcessingError: ``unreadable_file``: the file is damaged, or has no table or no such sheet.
        OSError: The file cannot be read.
    """
    options = options or Options()
    # This is the size that the archive declares; if it is wrong, the worker's memory limit applies.
    if archive_bytes(path) > source.maximum:
        raise decompression_bomb_error(name, source)
    workbook = fastexcel.read_excel(path)
    parts = sheet_parts(path)
    sheet = _choose_sheet(workbook, name, parts, options)
    index = workbook.sheet_names.index(sheet)
    part = parts[index] if index < len(parts) else ""
    marks = find_marks(path, part) if part else Marks()
    xml = Sheet(path, part)
    head_rows = HEAD_ROWS + (options.skip_rows or 0) + int(options.header or 0)
    head = _load(workbook, sheet, dtypes="string", n_rows=head_rows)
    if not head.is_filled:
        raise _empty(name, sheet)
    if (options.skip_rows or 0) > head.frame.height:
        detail = f"$.options.skip_rows: the sheet {sheet!r} of {name!r} has only {head.frame.height} rows"
        raise InvalidFormat(
            "invalid_message", f"The request does not fit the file: {detail}.", details=[detail]
        )
    shape = _find_shape(head, marks, xml, options, lambda row: _has_value(workbook, sheet, row))
    report = Report() if report is None else report
    body = _with_all_rows(_load_body(workbook, sheet, head, shape, xml), marks, shape)
    body, notations = corrected(body, xml, shape.left, shape.first, report)
    body = corrected_iso(body, marks.dates, shape.left, shape.first, report)
    body = corrected_numbers(body, xml, shape.left, shape.first)
    body = _without_placeholders(body, marks, shape)
    body = _without_empty_edges(body, shape, marks)
    body = _lengthened(body, filtered_rows(path, part, shape.first + body.height) - shape.first)
    frame = _narrow_types(body)
    if not frame.width:
        raise _empty(name, sheet)
    _report_errors(frame, marks, shape, report)
    check_types(name, frame.columns, options.types)
    rows = range(shape.first + 1, shape.first + 1 + frame.height)
    frame = cast_frame(frame, rows, options, report)
    return Table(
        name=name,
        schema=frame.schema,
        readings=(reading_of(frame.lazy),),
        source=source,
        rows=frame.height,
        row_bytes=0.0,
        notations=lambda: notations,
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


# --- choice of the sheet -----------------------------------------------------------------------------


def _choose_sheet(workbook: fastexcel.ExcelReader, name: str, parts: Sequence[str], options: Options) -> str:
    names = workbook.sheet_names
    if isinstance(options.sheet, str):
        if options.sheet in names:
            return options.sheet
        lowered = {known[:MAX_NAME].lower(): known for known in reversed(names)}
        close = nearest(options.sheet[:MAX_NAME].lower(), lowered, 0.0)
        hint = f" Did you mean {lowered[close][:80]!r}?" if close is not None else ""
        raise _unknown_sheet(name, f"{options.sheet[:80]!r}", names, hint)
    if options.sheet is not None:
        if 0 <= options.sheet < len(names):
            return names[options.sheet]
        raise _unknown_sheet(name, f"number {options.sheet} (the first is number 0)", names, "")
    hidden = None
    read: set[str] = set()  # several sheets may be the same part of the archive
    for index, known in enumerate(names[:MAX_SHEETS]):
        part = parts[index].lower() if index < len(parts) else str(index)
        if part in read:
            continue
        read.add(part)
        cells = _load(workbook, known, dtypes="string", n_rows=HEAD_ROWS)
        if not cells.is_filled:
            continue
        if cells.is_visible:
            return known
        hidden = hidden or known
    if hidden is None:
        raise ProcessingError("unreadable_file", f"{name!r} is empty: none of its sheets has a table.")
    return hidden


def _unknown_sheet(name: str, sheet: str, names: list[str], hint: str) -> ProcessingError:
    some = ", ".join(repr(known[:80]) for known in names[:20])
    return ProcessingError("unreadable_file", f"{name!r} has no sheet {sheet}; it has {some}.{hint}")


def _empty(name: str, sheet: str) -> ProcessingError:
    return ProcessingError(
        "unreadable_file", f"{name!r} has no table in the sheet {sheet[:80]!r}: it is empty."
    )


@attrs.frozen
class _Cells:
    """Rows of a sheet.

    Attributes:
        frame: The cells.
        left: Number of empty columns of the sheet before the first column of the frame.
        is_visible: Whether the sheet is visible.
    """

    frame: pl.DataFrame
    left: int
    is_visible: bool

    @property
    def is_filled(self) -> bool:
        """Whether the frame has any cells."""
        return self.frame.width > 0 and self.frame.height > 0


def _load(workbook: fastexcel.ExcelReader, sheet: str, **options: Any) -> _Cells:
    loaded = workbook.load_sheet(sheet, header_row=None, **({"skip_rows": 0} | options))
    columns = loaded.selected_columns
    left = columns[0].absolute_index if columns else 0
    return _Cells(loaded.to_polars() if columns else pl.DataFrame(), left or 0, loaded.visible == "visible")


# --- position of the table ---------------------------------------------------------------------------


@attrs.frozen
class _Shape:
    """The position of a table in its sheet.

    Attributes:
        skipped: Number of rows above the header.
        header: Number of rows of names.
        names: The names of the columns; None for a column without a name.
        left: Number of columns of the sheet before the first column of the table.
    """

    skipped: int
    header: int
    names: list[str | None]
    left: int

    @property
    def first(self) -> int:
        """Index of the first row of data."""
        return self.skipped + self.header


def _has_value(workbook: fastexcel.ExcelReader, sheet: str, row: int) -> bool:
    """Whether a row has a number, a date or a boolean that is stored as such."""
    return any(dtype != pl.String for dtype in _load(workbook, sheet, skip_rows=row, n_rows=1).frame.dtypes)


def _find_shape(
    head: _Cells, marks: Marks, xml: Sheet, options: Options, has_value: Callable[[int], bool]
) -> _Shape:
    rows = head.frame.rows()
    skipped = _title_rows(rows, marks) if options.skip_rows is None else options.skip_rows
    if options.header is not None:
        header = int(options.header)
    else:
        header = _header_rows(rows, skipped, marks, head.left)
        # Names that look like values may be names, if they are stored as text, as our own outputs have them.
        texts = [[cell or "" for cell in row] for row in rows[skipped:]]
        if header == 1 and not header_rows(texts, head.frame.width) and has_value(skipped):
            header = 0
    header = min(header, max(0, len(rows) - skipped))
    _correct_dates(rows, range(skipped, skipped + header), head, xml)
    merged = _merged_cells(marks, range(skipped, skipped + header), head)
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


def _correct_dates(rows: list[tuple[str | None, ...]], header: range, head: _Cells, xml: Sheet) -> None:
    """Replace what fastexcel makes of dates in the rows of names by the dates as they are shown."""
    if not any(is_date_text(cell) for row in rows[header.start : header.stop] for cell in row):
        return
    for column, texts in xml.texts(range(head.left, head.left + head.frame.width), header).items():
        for row, text in zip(texts.rows, texts.texts, strict=True):
            cells = list(rows[row])
            cells[column - head.left] = text
            rows[row] = tuple(cells)


def _merged_cells(marks: Marks, rows: range, head: _Cells) -> dict[tuple[int, int], tuple[int, int]]:
    """The top left cell of the block of each merged cell in some rows.

    Merged blocks do not overlap, so together they have at most as many cells as these rows; the rest of a workbook in
    which they do is ignored.
    """
    columns = range(head.left, head.left + head.frame.width)
    merged: dict[tuple[int, int], tuple[int, int]] = {}
    left_over = len(rows) * len(columns)
    for top, left, bottom, right in marks.merged:
        if left_over <= 0:
            break
        for row in range(max(top, rows.start), min(bottom + 1, rows.stop)):
            covered = range(max(left, columns.start), min(right + 1, columns.stop))
            merged |= dict.fromkeys(((row, column) for column in covered), (top, left))
            left_over -= len(covered)
    return merged


def _title_rows(rows: list[tuple[str | None, ...]], marks: Marks) -> int:
    """The number of rows above the header: empty rows, and rows with far fewer cells than those of the table."""
    filled = [sum(cell is not None and bool(cell.strip()) for cell in row) for row in rows]
    if not any(filled):
        return 0
    texts = [[cell or "" for cell in row] for row in rows]
    kept = [index for index, count in enumerate(filled) if count]
    if pairs := below_pairs([texts[index] for index in kept], lambda at: kept[at] - kept[at - 1] > 1):
        return kept[pairs]
    return _first_merged(_below_titles(texts, filled, marks), marks)


def _below_titles(texts: list[list[str]], filled: list[int], marks: Marks) -> int:
    """The index of the first row that is no title; see :func:`_title_rows`."""
    # The median of the rows that are not empty.
    usual = sorted(filter(None, filled))[len(list(filter(None, filled))) // 2]
    for row, (count, following) in enumerate(pairwise([*filled, 0])):
        # Names may stand above an empty row, but then no names are below it.
        if count and following == 0 and _are_names_below(texts[row + 1 :], count, is_narrow=usual <= 2):
            continue
        if count and following == 0 and usual <= 2:
            return row
        # A title has one or two cells; below a row of merged names, there is a row with more names, and below one that
        # does not name all columns, values.
        if count > 2 or count * 2 > usual:
            return row
        if count > 1 and following * 2 > usual and following > count:
            is_merged = any(top <= row <= bottom for top, _, bottom, _ in marks.merged)
            if is_merged or not header_rows(texts[row + 1 :], len(texts[row])):
                return row
    return next(index for index, count in enumerate(filled) if count)


def _first_merged(row: int, marks: Marks) -> int:
    """The first row of names, if a cell that is merged with cells above stands in a row of names."""
    tops = [top for top, _, bottom, _ in marks.merged if row - MAX_HEADER < top < row <= bottom]
    return _first_merged(min(tops), marks) if tops else row


def _are_names_below(rows: list[list[str]], count: int, *, is_narrow: bool) -> bool:
    """Whether the first row that is not empty has more than some number of cells, or is certainly a header.

    It has to be both, unless the table is narrow.
    """
    table = [row for row in rows if any(cell.strip() for cell in row)]
    if not table:
        return False
    has_more = sum(bool(cell.strip()) for cell in table[0]) > count
    has_values = any(kind != "text" for kind in classes_below(table[1:], len(table[0])))
    is_header = has_values and header_rows(table, len(table[0])) > 0
    return has_more or is_header if is_narrow else has_more and is_header


def _header_rows(rows: list[tuple[str | None, ...]], skipped: int, marks: Marks, left: int) -> int:
    """The number of rows of names: one, or as many as merged cells span, and one more below names that span columns."""
    row = last = skipped
    while row <= last and row < len(rows) and row - skipped < MAX_HEADER:
        for top, first, bottom, end in marks.merged:
            if skipped <= top <= row <= bottom and end >= left:
                last = max(last, bottom + 1 if end > first else bottom)
        row += 1
    return max(1, row - skipped)


# --- cells of the table ------------------------------------------------------------------------------


def _load_body(
    workbook: fastexcel.ExcelReader, sheet: str, head: _Cells, shape: _Shape, xml: Sheet
) -> pl.DataFrame:
    """The rows below the header."""
    try:
        body = _load(workbook, sheet, skip_rows=shape.first, schema_sample_rows=None).frame
    except fastexcel.UnsupportedColumnTypeCombinationError:  # durations beside texts or dates
        indices = {column - head.left: "string" for column in xml.durations() if column >= head.left}
        try:
            body = _load(
                workbook, sheet, skip_rows=shape.first, schema_sample_rows=None, dtypes=indices
            ).frame
        except fastexcel.FastExcelError:
            body = _load(workbook, sheet, skip_rows=shape.first, dtypes="string").frame
    if body.width != head.frame.width:  # there are no rows
        body = pl.DataFrame(schema=[(str(index), pl.String) for index in range(len(shape.names))])
    body.columns = _unique(shape.names)
    return body


def _with_all_rows(body: pl.DataFrame, marks: Marks, shape: _Shape) -> pl.DataFrame:
    """Drop empty rows at the end, but none with an error or a formula; fastexcel has null there, or no row."""
    last = body.select((~pl.all_horizontal(pl.all().is_null())).alias("filled")).to_series().arg_true()
    last_marked = max((row for row, _, _ in marks.without_value), default=-1)
    height = max(last[-1] + 1 if len(last) else 0, last_marked + 1 - shape.first)
    return _lengthened(body.head(height), height)


def _without_placeholders(body: pl.DataFrame, marks: Marks, shape: _Shape) -> pl.DataFrame:
    """Replace each 0 that stands in the place of a formula's value by null."""
    rows: dict[int, list[int]] = {}
    for row, column in marks.placeholders:
        if 0 <= row - shape.first < body.height and 0 <= column - shape.left < body.width:
            rows.setdefault(column - shape.left, []).append(row - shape.first)
    columns = [body.to_series(index).scatter(found, None) for index, found in rows.items()]
    return body.with_columns(columns)


def _lengthened(body: pl.DataFrame, height: int) -> pl.DataFrame:
    """Add empty rows up to a number of rows, unless they are too many."""
    if body.height < height <= body.height + MAX_EMPTY // max(1, body.width):
        return pl.concat([body, body.clear(height - body.height)])
    return body


def _without_empty_edges(body: pl.DataFrame, shape: _Shape, marks: Marks) -> pl.DataFrame:
    """Drop empty columns without a name at the edges, but none with an error or a formula."""
    names = body.columns
    marked = {column - shape.left for row, column, _ in marks.without_value if row >= shape.first}
    is_empty = [
        column.null_count() == column.len() and name is None and index not in marked
        for index, (column, name) in enumerate(zip(body, shape.names, strict=True))
    ]
    while is_empty and is_empty[-1]:
        is_empty.pop()
        names.pop()
    while is_empty and is_empty[0]:
        is_empty.pop(0)
        names.pop(0)
    return body[names] if names else pl.DataFrame()


def _unique(names: list[str | None]) -> list[str]:
    """Unique names, as those of a CSV."""
    return unique_names(default_name(index) if name is None else name for index, name in enumerate(names))


def _narrow_types(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert a column of floats that are all integers to integers, and datetimes likewise to dates or times."""
    return frame.with_columns(
        [_narrowed(unnamed(column)).alias(column.name) for column in frame.iter_columns()]
    )


def _narrowed(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Null:
        return column.cast(pl.String)
    if column.dtype.is_float():
        integers = column.cast(pl.Int64, strict=False)
        is_exact = (integers.cast(pl.Float64) == column) & (column.abs() <= MAX_WHOLE)
        return integers if (is_exact | column.is_null()).all() and column.count() else column
    if isinstance(column.dtype, pl.Datetime):
        days = column.dt.date()
        if column.count() and days.drop_nulls().is_in(EPOCH_DAYS).all():
            return column.dt.time()
        if (column.dt.truncate("1d") == column).all():
            return days
    return column


def _report_errors(frame: pl.DataFrame, marks: Marks, shape: _Shape, report: Report) -> None:
    """Report the cells of the table that contain an error, or a formula without a value: fastexcel returns null."""
    names = _unique(shape.names)
    kept = frozenset(frame.columns)

    # There may be too many empty rows above the last one of these cells to have them in the table.
    height = max([frame.height, *(row + 1 - shape.first for row, _, _ in marks.without_value)])

    def add(fault: Fault, row: int, column: int, text: str, why: str) -> None:
        index = column - shape.left
        if 0 <= row - shape.first < height and 0 <= index < len(names) and names[index] in kept:
            report.add(fault, line=row + 1, column=names[index], value=text, why=why)

    for row, column, text in marks.errors:
        add("unparsable_cells", row, column, text, "an error in the workbook")
    for row, column, text in marks.missing:
        why = "a formula whose value the workbook does not have; open it in Excel or LibreOffice and save it"
        add("missing_values", row, column, text, why)
