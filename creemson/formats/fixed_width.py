"""Text in columns of fixed width: each line is one cell to polars, and is cut into pieces by it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl
import polars.selectors as cs

from creemson.errors import ProcessingError
from creemson.processing.alignment import find_alignment, has_names
from creemson.processing.casting import LINE, cast, check_types
from creemson.processing.formats import Sniffed
from creemson.processing.issues import Report
from creemson.processing.naming import unnamed
from creemson.processing.table import Table, reading_of
from creemson.wire.messages import Options, Reading

__all__ = ["fixed_width_frame", "open_fixed_width"]

SAMPLE_ROWS = 10_000
SAMPLE_LINES = 1000
"""In which the columns are looked for."""
TEXT = "\x00text"
_TYPES: tuple[tuple[str, pl.DataType], ...] = (
    (r"^[-+]?(0|[1-9]\d{0,17})$", pl.Int64()),
    (r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$", pl.Float64()),
    (r"^[12]\d{3}-[01]\d-[0-3]\d$", pl.Date()),
)


def open_fixed_width(
    path: Path,
    name: str,
    sniffed: Sniffed,
    *,
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Find out the columns of a text that is aligned with blanks.

    Args:
        path: of the file.
        name: what to call it.
        sniffed: what it is.
        options: ``widths``, ``header``, ``skip_rows``, ``null_values`` and ``types``.
        report: is told what is left out, or lost.

    Returns:
        The table.

    Raises:
        ProcessingError: ``unreadable_file``: there are no columns to be seen in it.
        OSError: it cannot be read.
    """
    options = options or Options()
    report = Report() if report is None else report
    skipped = options.skip_rows or 0
    lines = [text or "" for text in _lines(path).slice(skipped, SAMPLE_LINES).collect().get_column(TEXT)]
    found = find_alignment(lines)
    widths = options.widths or (found.widths if found else None)
    if widths is None:
        raise ProcessingError(
            "unreadable_file", f"{name!r} has no columns that are aligned with blanks. Say their widths."
        )
    rule = found.rule if found else None
    above = _header_lines(lines, widths, rule, options)
    header = above if rule is None or rule >= above else above - 1
    names = _names(lines[:header], widths)
    first = skipped + above
    frame = partial(fixed_width_frame, path, widths, names, first=first)
    watching = report if options.widths is None else None
    types = _types(frame().drop(LINE).head(SAMPLE_ROWS).collect(), options)
    check_types(name, names, options.types)

    def typed() -> pl.LazyFrame:
        texts = frame(report=watching)
        for word in options.null_values or ():
            texts = texts.with_columns(pl.when(cs.string() != word).then(cs.string()))
        return cast(texts.with_columns(map(_as, types, types.values())), options, report, line=LINE)

    def text() -> pl.LazyFrame:
        return cast(frame(report=watching), options, report, line=LINE)

    size = sum(len(line.encode()) + 1 for line in lines)
    return Table(
        name=name,
        schema=typed().collect_schema(),
        readings=(reading_of(typed), reading_of(text, again=report)),
        sniffed=sniffed,
        rows=None,
        row_bytes=size / max(1, len(lines)) / sniffed.expansion,
        reading=partial(
            Reading,
            format="fixed",
            compression=sniffed.compression,
            header=header,
            skip_rows=skipped,
            null_values=options.null_values,
            widths=tuple(widths),
        ),
        report=report,
    )


def fixed_width_frame(
    path: Path, widths: Sequence[int], names: Sequence[str], *, first: int = 0, report: Report | None = None
) -> pl.LazyFrame:
    """The cells of a text.

    Args:
        path: of the file.
        widths: characters of each column; the last one goes on to the end of a line.
        names: of the columns.
        first: lines before the first row.
        report: is told of rows whose text runs over the border of two columns; None if blanks are not expected there.

    Returns:
        A column of text for each, without the blanks around; null where there is nothing else. The column ``LINE``
        before them has the line of the file. Empty lines are no rows.
    """
    lines = _lines(path).filter(pl.col(LINE) > first, pl.col(TEXT).str.strip_chars() != "")
    if report is not None:
        lines = lines.map_batches(partial(_watched, _starts(widths)[1:], report), streamable=True)
    return lines.select(pl.col(LINE), *_cells(widths, names))


def _as(name: str, dtype: pl.DataType) -> pl.Expr:
    cells = cs.by_name(name).as_expr()
    return cells.str.to_date("%Y-%m-%d") if dtype == pl.Date else cells.cast(dtype)


def _watched(starts: Sequence[int], report: Report, batch: pl.DataFrame) -> pl.DataFrame:
    """Tell of rows in which there is no blank before a column: a cell is too long, or stands elsewhere."""
    if starts:
        runs = pl.any_horizontal(
            (pl.col(TEXT).str.slice(start - 1, 1) != " ")
            & (pl.col(TEXT).str.slice(start, 1).str.strip_chars() != "")
            for start in starts
        )
        for line, text in batch.filter(runs).iter_rows():
            why = "text runs over the border of two columns, and is cut there"
            report.add("repaired_rows", line=line, column=None, value=text, why=why)
    return batch


def _lines(path: Path) -> pl.LazyFrame:
    return pl.scan_csv(
        path,
        glob=False,
        separator="\x01",
        has_header=False,
        quote_char=None,
        schema={TEXT: pl.String},
        row_index_name=LINE,
        row_index_offset=1,
    )


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:index]) for index in range(len(widths))]


def _cells(widths: Sequence[int], names: Sequence[str]) -> list[pl.Expr]:
    cells = []
    for index, (start, width, name) in enumerate(zip(_starts(widths), widths, names, strict=True)):
        cell = pl.col(TEXT).str.slice(start, width if index < len(widths) - 1 else None).str.strip_chars()
        cells.append(pl.when(cell != "").then(cell).alias(name))
    return cells


def _pieces(line: str, widths: Sequence[int]) -> list[str]:
    starts = _starts(widths)
    return [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]


def _header_lines(lines: Sequence[str], widths: Sequence[int], rule: int | None, options: Options) -> int:
    """Lines above the first row, the one of dashes among them."""
    if options.header is not None:
        header = int(options.header)
        return header + (rule is not None and rule == header)
    if rule is not None:
        return rule + 1
    return int(bool(lines) and has_names(_pieces(lines[0], widths)))


def _names(header: Sequence[str], widths: Sequence[int]) -> list[str]:
    names: list[str] = []
    for index in range(len(widths)):
        parts = [_pieces(line, widths)[index] for line in header]
        name = " ".join(filter(None, parts)) or f"column_{index + 1}"
        stem, number = name, 0
        while name in names:
            name, number = f"{stem}_duplicated_{number}", number + 1
        names.append(name)
    return names


def _types(sample: pl.DataFrame, options: Options) -> dict[str, pl.DataType]:
    """Types that all cells of the sample have; numbers with zeros before them are text."""
    found: dict[str, pl.DataType] = {}
    for column in sample.iter_columns():
        cells = unnamed(column).drop_nulls()
        cells = cells.filter(~cells.is_in(list(options.null_values or ())))
        fitting = (dtype for pattern, dtype in _TYPES if len(cells) and cells.str.contains(pattern).all())
        dtype = next(fitting, None)
        zeros = dtype == pl.Float64 and cells.str.contains(r"^[-+]?0\d").any()
        found[column.name] = pl.String() if dtype is None or zeros else dtype
    return found
