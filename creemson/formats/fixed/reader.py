"""Reads text in columns of fixed width.

:mod:`~creemson.formats.fixed.alignment` detects the columns; polars reads each line as one cell, and slices it.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import polars as pl
import polars.selectors as cs

from creemson.errors import ProcessingError
from creemson.formats.blocks import LINE, scan_lines
from creemson.formats.coerce import cast, check_types
from creemson.formats.columns import default_name, exactly, unique_names
from creemson.formats.csv.layout.header import CLASS_ROWS, MAX_HEADER, classes_below, header_rows
from creemson.formats.exact import exact_numbers, exact_type
from creemson.formats.fixed.alignment import find_alignment
from creemson.formats.fixed.notations import find_notations
from creemson.formats.report import Report
from creemson.formats.source import Source
from creemson.formats.table import Table, reading_of, text_of
from creemson.formats.types import DTYPES, RULES
from creemson.model.query import Options
from creemson.model.results import Reading

__all__ = ["fixed_width_frame", "open_fixed_width"]

SAMPLE_ROWS = 10_000
"""Number of rows from which types are inferred."""
SAMPLE_LINES = 1000
"""Number of lines from which the columns are detected."""
MAX_SLICED = 100
"""Maximum number of columns that polars slices, and of columns in one plan."""
TEXT = "\x00text"
"""The name of the temporary column of lines; no column of a file has this name."""
_TYPES = ((RULES["integer"], pl.Int64()), (RULES["float"], pl.Float64()), (RULES["date"], pl.Date()))
"""The types that are inferred, the narrowest first."""
_WITH_COMMA = r"^[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d*)?$"
"""Pattern of a number with a decimal comma, and points between thousands or none."""
_SURELY_WITH_COMMA = r"^[-+]?(\d+(,\d*)?|\d{1,3}(\.\d{3})+,\d*)$"
"""The same without whole numbers that have points, which may be something else."""


def open_fixed_width(
    path: Path,
    name: str,
    source: Source,
    *,
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Open text that is aligned with spaces: detect its columns and their types.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        options: ``widths``, ``header``, ``skip_rows``, ``comment``, ``decimal``, ``thousands``, ``date_format``,
            ``null_values`` and ``types`` are used.
        report: Collects what is lost.

    Returns:
        The table.

    Raises:
        InvalidFormat: A requested type or its column does not exist.
        ProcessingError: ``unreadable_file``: no columns can be detected.
        OSError: The file cannot be read.
    """
    options = options or Options()
    report = Report() if report is None else report
    skipped = options.skip_rows or 0
    comment = options.comment or ""
    head = _scan(path).slice(skipped, SAMPLE_LINES).collect().rows()
    if options.skip_rows is None:  # empty lines have no names
        skipped = next((index for index, (_, text) in enumerate(head) if (text or "").strip()), 0)
        head = head[skipped:]
    numbered = [
        (line, text or "") for line, text in head if not (comment and (text or "").startswith(comment))
    ]
    lines = [text for _, text in numbered]
    alignment = find_alignment(lines)
    widths = options.widths or (alignment.widths if alignment else None)
    if widths is None:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} has no columns that are aligned with spaces. Give their widths in options.widths.",
        )
    rule = alignment.rule if alignment else None
    lines_above = _lines_above(lines, widths, rule, options)
    header = lines_above if rule is None or rule >= lines_above else lines_above - 1
    headers = _headers(lines[:header], widths)
    names = unique_names(text or default_name(index) for index, text in enumerate(headers))
    first = numbered[lines_above - 1][0] if 0 < lines_above <= len(numbered) else skipped + lines_above
    scan = partial(fixed_width_frame, path, widths, names, first=first, comment=comment)
    sample = scan().drop(LINE).head(SAMPLE_ROWS).collect()
    dtypes = _infer_types(sample, options)
    check_types(name, names, options.types)
    if options.null_values:
        sample = sample.with_columns(pl.when(~pl.all().is_in(list(options.null_values))).then(pl.all()))
    notations = find_notations(name, sample, options)
    dtypes |= dict.fromkeys(notations.kinds, pl.String())

    with_texts = frozenset(
        name
        for name, dtype in dtypes.items()
        if options.null_values
        or dtype != pl.String
        or name in (options.types or {})
        or name in notations.kinds
    )

    def scan_cells() -> pl.LazyFrame:
        cells = scan(report=report, has_overruns=options.widths is None)
        hidden = [exactly(name).alias(text_of(name)) for name in names if name in with_texts]
        if options.null_values:
            words = cs.string() - cs.starts_with(text_of(""))
            cells = cells.with_columns(hidden)
            return cells.with_columns(pl.when(~words.is_in(list(options.null_values))).then(words))
        return cells.with_columns(hidden)

    def scan_typed() -> pl.LazyFrame:
        cells = scan_cells().with_columns(_convert(name, dtypes[name], options) for name in names)
        cells = notations.convert(cells, report, has_found=True)
        return cast(cells, notations.options, report, line=LINE)

    def scan_text() -> pl.LazyFrame:
        cells = notations.convert(scan_cells(), report, has_found=False)
        return cast(cells, notations.options, report, line=LINE)

    size = sum(len(line.encode()) + 1 for line in lines)
    return Table(
        name=name,
        schema=pl.Schema(
            {
                column: dtype
                for column, dtype in scan_typed().collect_schema().items()
                if not column.startswith(text_of(""))
            }
        ),
        readings=(reading_of(scan_typed), reading_of(scan_text, clears=report)),
        source=source,
        rows=None,
        row_bytes=size / max(1, len(lines)) / source.expansion,
        texts=with_texts.intersection,
        window_texts=lambda choose: choose(scan().drop(LINE)).collect(engine="streaming"),
        headers=lambda: (
            {column: text for column, text in zip(names, headers, strict=True) if column != text}
            if header
            else {}
        ),
        reading=partial(
            Reading,
            format="fixed",
            compression=source.compression,
            header=header,
            skip_rows=skipped,
            null_values=options.null_values,
            decimal=options.decimal,
            thousands=options.thousands,
            date_format=options.date_format,
            comment=options.comment,
            widths=tuple(widths),
        ),
        report=report,
    )


def fixed_width_frame(
    path: Path,
    widths: Sequence[int],
    names: Sequence[str],
    *,
    first: int = 0,
    comment: str = "",
    report: Report | None = None,
    has_overruns: bool = False,
) -> pl.LazyFrame:
    """Scan the cells of fixed-width text.

    Args:
        path: Path of the file.
        widths: Number of characters of each column; the last column extends to the end of a line.
        names: The names of the columns.
        first: Number of lines above the first row.
        comment: The character that begins lines that are no rows; "" if there is none.
        report: Collects these lines, and rows whose text crosses the border of two columns.
        has_overruns: Whether columns need a space between them, because the request does not give the widths.

    Returns:
        A column of line numbers, :data:`~creemson.formats.blocks.LINE`, and the columns of text without the spaces
        around it; null where there are only spaces. Empty lines are not rows.
    """
    lines = _scan(path).filter(pl.col(LINE) > first, pl.col(TEXT).str.strip_chars() != "")
    if comment:
        lines = lines.map_batches(partial(_without_comments, comment, report), streamable=True)
    if report is not None and has_overruns:
        lines = lines.map_batches(partial(_report_overruns, _starts(widths)[1:], report), streamable=True)
    if len(widths) > MAX_SLICED:
        schema = pl.Schema({LINE: lines.collect_schema()[LINE]} | dict.fromkeys(names, pl.String()))
        return lines.map_batches(
            partial(_split_batch, widths, names), schema=schema, streamable=True, projection_pushdown=False
        )
    return lines.select(pl.col(LINE), *_cells(widths, names))


def _scan(path: Path) -> pl.LazyFrame:
    return scan_lines(path, column=TEXT, has_numbers=True)


def _convert(name: str, dtype: pl.DataType, options: Options) -> pl.Expr:
    cells = exactly(name)
    if dtype == pl.Date:
        return cells.str.to_date("%Y-%m-%d")
    requested = (options.types or {}).get(name, "")
    is_fraction = dtype.is_float() or dtype.is_decimal()
    if options.decimal == "," and (is_fraction or DTYPES.get(requested, dtype).is_numeric()):
        cells = _with_point(cells).alias(name)
    if is_fraction:
        return cells.map_batches(partial(exact_numbers, dtype=dtype), return_dtype=dtype, is_elementwise=True)
    return cells.cast(dtype)


def _with_point(cells: pl.Expr) -> pl.Expr:
    """Write numbers that have a decimal comma with a point."""
    plain = cells.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return pl.when(cells.str.contains(_WITH_COMMA)).then(plain).otherwise(cells)


def _without_comments(sign: str, report: Report | None, batch: pl.DataFrame) -> pl.DataFrame:
    """Leave out the lines that begin with a sign, and report them."""
    is_comment = batch.get_column(TEXT).str.starts_with(sign)
    if report is not None and is_comment.any():
        for line, text in batch.filter(is_comment).iter_rows():
            report.add(
                "unparsable_rows", line=line, column=None, value=text, why="is a comment and is left out"
            )
    return batch.filter(~is_comment)


def _report_overruns(starts: Sequence[int], report: Report, batch: pl.DataFrame) -> pl.DataFrame:
    """Report rows without a space before a column: one of their cells is too long, or in the wrong place."""
    if starts:
        if len(starts) < MAX_SLICED:
            has_overrun = pl.any_horizontal(
                (pl.col(TEXT).str.slice(start - 1, 1) != " ")
                & (pl.col(TEXT).str.slice(start, 1).str.strip_chars() != "")
                for start in starts
            )
            overruns = batch.filter(has_overrun).rows()
        else:
            overruns = [
                (line, text)
                for line, text in batch.iter_rows()
                if any(
                    text[start - 1 : start] not in (" ", "") and text[start : start + 1].strip()
                    for start in starts
                )
            ]
        for line, text in overruns:
            why = "text crosses the border of two columns and is split there"
            report.add("repaired_rows", line=line, column=None, value=text, why=why)
    return batch


def _starts(widths: Sequence[int]) -> list[int]:
    return list(accumulate(widths[:-1], initial=0))


def _cells(widths: Sequence[int], names: Sequence[str]) -> list[pl.Expr]:
    """The expressions of all columns."""
    cells = []
    for index, (start, width, name) in enumerate(zip(_starts(widths), widths, names, strict=True)):
        cell = pl.col(TEXT).str.slice(start, width if index < len(widths) - 1 else None).str.strip_chars()
        cells.append(pl.when(cell != "").then(cell).alias(name))
    return cells


def _split_batch(widths: Sequence[int], names: Sequence[str], batch: pl.DataFrame) -> pl.DataFrame:
    """Split lines into many columns; the time of :func:`_cells` grows with the product of columns and characters."""
    rows = [[cell or None for cell in _split(line, widths)] for line in batch.get_column(TEXT).to_list()]
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    cells = [pl.Series(name, column, pl.String) for name, column in zip(names, columns, strict=True)]
    return pl.DataFrame([batch.get_column(LINE), *cells])


def _split(line: str, widths: Sequence[int]) -> list[str]:
    """The cells of one line."""
    starts = _starts(widths)
    return [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]


def _lines_above(lines: Sequence[str], widths: Sequence[int], rule: int | None, options: Options) -> int:
    """The number of lines above the first row, including a line of dashes; ``rule`` is the index of that line."""
    if options.header is not None:
        header = int(options.header)
        return header + (rule is not None and rule == header)
    if rule is not None:
        return rule + 1
    rows = [_split(line, widths) for line in lines[: MAX_HEADER + CLASS_ROWS]]
    header = header_rows(rows, len(widths))
    # A first line that leaves columns without a name is one of names only if values below show it.
    has_values = any(kind != "text" for kind in classes_below(rows[header:], len(widths)))
    return header if rows and (all(rows[0]) or has_values) else 0


def _headers(header: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The names of the columns as the file writes them; words in several lines are joined by spaces."""
    rows = [_split(line, widths) for line in header]
    return [" ".join(filter(None, (row[index] for row in rows))) for index in range(len(widths))]


def _infer_types(sample: pl.DataFrame, options: Options) -> dict[str, pl.DataType]:
    """The type of each column that all of its cells in a sample have; see :mod:`creemson.formats.types`."""
    dtypes: dict[str, pl.DataType] = {}
    ignored = list(options.null_values or ())
    for start in range(
        0, sample.width, MAX_SLICED
    ):  # the time of a plan grows faster than its number of columns
        group = sample.columns[start : start + MAX_SLICED]
        tests = []
        for number, name in enumerate(group):
            cells = exactly(name).drop_nulls()
            cells = cells.filter(~cells.is_in(ignored))
            tests.append((cells.len() > 0).alias(f"{number}"))
            for index, (rule, dtype) in enumerate(_TYPES):
                has_comma = options.decimal == "," and dtype.is_float()
                pattern = _SURELY_WITH_COMMA if has_comma else rule.fixed_width
                tests.append(cells.str.contains(pattern).all().alias(f"{number} {index}"))
                if rule.fixed_width_lossy:
                    lossy = cells.str.contains(rule.fixed_width_lossy).any()
                    tests.append(lossy.alias(f"{number} {index} lossy"))
        row = sample.select(tests).row(0, named=True)
        for number, name in enumerate(group):
            fitting = [index for index in range(len(_TYPES)) if row[f"{number}"] and row[f"{number} {index}"]]
            is_text = not fitting or row.get(f"{number} {fitting[0]} lossy")
            dtype = pl.String() if is_text else _TYPES[fitting[0]][1]
            if dtype == pl.Float64:
                cells = exactly(name).filter(~exactly(name).is_in(ignored))
                plain = _with_point(cells) if options.decimal == "," else cells
                dtype = exact_type(sample.select(plain).to_series())
            dtypes[name] = dtype
    return dtypes
