"""Writes the rows of a table as the only sheet of a workbook."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import polars as pl

from creemson.engine.export.nested import nested_to_json
from creemson.engine.export.xlsx.cells import Cells, cells_of
from creemson.engine.export.xlsx.package import GENERAL, HEADER, TEXT, column_letters, sheet_part, style_of
from creemson.engine.export.xlsx.survey import surveyed
from creemson.engine.export.xlsx.texts import escapes_in_xml, has_escape, in_xml
from creemson.engine.progress import ProgressMeter
from creemson.errors import ProcessingError
from creemson.formats.columns import exactly

__all__ = ["write_xlsx"]

XLSX_ROWS = 1_048_575
"""Maximum number of rows of an Excel sheet below its header."""
XLSX_COLUMNS = 16_384
"""Maximum number of columns of an Excel sheet."""

_CELL_BYTES = 80
"""Bytes of a cell in XML without its text, more or less."""
_BATCH_BYTES = 16 << 20
"""Bytes of texts and XML that are made at once."""
_ZIP_BYTES = (2 << 30) - 2**20
"""Maximum bytes of the cells of a sheet in a zip file of the old format; Excel says that it repairs other ones. Python
has the limit of 2 GiB for an entry; the rest is for what is around the cells."""
_ROW = "row"
"""The column with the numbers of the rows, as text."""


def write_xlsx(frame: pl.LazyFrame, target: Path, rows: int, meter: ProgressMeter) -> None:
    """Write a table as the only sheet of a workbook.

    Args:
        frame: The table.
        target: Path to write to.
        rows: Number of rows of the table.
        meter: Counts the rows, and stops the work if it is told so.

    Raises:
        ProcessingError: ``unsupported_format``: the table is too large for a sheet, or a text for a cell.
    """
    names = frame.collect_schema().names()
    if rows > XLSX_ROWS or len(names) > XLSX_COLUMNS:
        raise ProcessingError(
            "unsupported_format",
            f"The output has {rows:,} rows and {len(names):,} columns, and an Excel sheet has at most "
            f"{XLSX_ROWS:,} and {XLSX_COLUMNS:,}. Choose CSV or Parquet, or set a limit.",
        )
    # Names may look like patterns; and one of them may be that of a temporary column.
    frame = nested_to_json(frame).select(exactly(name).alias(str(index)) for index, name in enumerate(names))
    columns = [cells_of(pl.col(name), dtype) for name, dtype in frame.collect_schema().items()]
    survey = surveyed(frame, names, columns, meter)
    formats = [code for code in dict.fromkeys(survey.formats) if code != GENERAL]
    styles = [style_of(number_format, formats) for number_format in survey.formats]
    written = [_column(index, *column) for index, column in enumerate(zip(columns, styles, strict=True))]
    texts = [cells.text.str.len_bytes() for cells in columns if cells.number is None]
    row_bytes = _CELL_BYTES * len(names) + survey.text_bytes // max(1, rows)
    with sheet_part(
        target,
        widths=survey.widths,
        formats=formats,
        rows=rows + 1,
        may_be_huge=survey.xml_bytes > _ZIP_BYTES,
    ) as stream:
        stream.write(_header_in_xml(names))
        first = 2
        for chunk in frame.collect_batches(chunk_size=max(1, _BATCH_BYTES // row_bytes), engine="streaming"):
            for batch in _light(chunk, texts):
                stream.write(_rows_in_xml(batch, first, written))
                first += batch.height
                meter.tap(batch)


def _light(batch: pl.DataFrame, texts: Sequence[pl.Expr]) -> Iterator[pl.DataFrame]:
    """Divide rows where texts are much longer than elsewhere in the table.

    Args:
        batch: The rows.
        texts: The lengths of their texts.
    """
    half = batch.height // 2
    if half and texts and batch.select(pl.sum_horizontal(*texts).sum()).item() > _BATCH_BYTES:
        yield from _light(batch[:half], texts)
        yield from _light(batch[half:], texts)
    else:
        yield batch


@attrs.frozen
class _Column:
    """Cells of a column as XML.

    Attributes:
        plain: A fast way to write them.
        is_plain: Whether all of a batch of rows can be written in the fast way; None if all can in any batch.
        thorough: The way that is right for all.
    """

    plain: pl.Expr
    is_plain: pl.Expr | None
    thorough: pl.Expr


def _column(index: int, cells: Cells, style: int) -> _Column:
    """Prepare the XML of a column.

    Args:
        index: Its index.
        cells: How its cells are stored.
        style: The style of its numbers.
    """
    start = f'<c r="{column_letters(index)}{{}}"'
    as_text = f'{start} s="{TEXT}" t="inlineStr"><is>{{}}</is></c>'
    text = _element(as_text, in_xml(cells.text))
    if cells.number is None:
        return _Column(text, ~has_escape(cells.text).any(), _element(as_text, escapes_in_xml(cells.text)))
    number = _element(f'{start} s="{style}" t="{cells.kind}"><v>{{}}</v></c>', cells.number)
    if cells.fits is None:
        return _Column(number, None, number)
    return _Column(number, cells.fits.all(), pl.when(cells.fits).then(number).otherwise(text))


def _element(xml: str, content: pl.Expr) -> pl.Expr:
    """A cell as XML, with the number of its row and its content; null for null, so that there is no cell."""
    return pl.format(xml, pl.col(_ROW), content)


def _header_in_xml(names: Sequence[str]) -> bytes:
    texts = pl.select(escapes_in_xml(pl.lit(pl.Series(names, dtype=pl.String)))).to_series()
    cells = (
        f'<c r="{column_letters(index)}1" s="{HEADER}" t="inlineStr"><is>{text}</is></c>'
        for index, text in enumerate(texts)
    )
    return f'<row r="1">{"".join(cells)}</row>'.encode()


def _rows_in_xml(batch: pl.DataFrame, first: int, columns: Sequence[_Column]) -> bytes:
    """The elements ``row`` of some rows.

    Args:
        batch: The rows.
        first: Number of the first row in the sheet.
        columns: Their columns.
    """
    if not batch.height:
        return b""
    conditions = {
        str(index): column.is_plain for index, column in enumerate(columns) if column.is_plain is not None
    }
    is_plain = {name: found for name, (found,) in batch.select(**conditions).to_dict(as_series=False).items()}
    cells = [
        column.plain if is_plain.get(str(index), True) else column.thorough
        for index, column in enumerate(columns)
    ]
    numbers = pl.int_range(first, first + batch.height, eager=True).cast(pl.String).alias(_ROW)
    row = pl.concat_str(pl.format('<row r="{}">', pl.col(_ROW)), *cells, pl.lit("</row>"), ignore_nulls=True)
    content: str = batch.with_columns(numbers).select(row).to_series().str.join("").item()
    return content.encode()
