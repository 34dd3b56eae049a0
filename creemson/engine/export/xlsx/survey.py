"""Looks through a table before it is written as a sheet, because widths and formats come before the rows."""

from collections.abc import Sequence

import attrs
import polars as pl

from creemson.engine.export.xlsx.cells import Cells
from creemson.engine.export.xlsx.texts import MAX_UNITS, escapes, units
from creemson.engine.progress import ProgressMeter, collect
from creemson.errors import ProcessingError

__all__ = ["Survey", "surveyed"]

_NAME_EXTRA, _CELL_EXTRA = 4, 2
"""Characters for the button of the filter beside a name, and for the space around a cell."""
_MIN_WIDTH, _MAX_WIDTH = 6, 60
"""Minimum and maximum width of a column, in characters."""

_ROW, _NUMBER_CELL, _TEXT_CELL = 30, 48, 80
"""Maximum bytes of a row without its cells, and of a cell without its number or text, in XML."""
_NUMBER, _ESCAPE = 40, 50
"""Maximum bytes of most numbers, dates and times, and maximum bytes that an escape adds to a text."""


@attrs.frozen
class Survey:
    """What is known of a table before it is written.

    Attributes:
        widths: Widths of the columns, in characters.
        formats: The number formats of the columns.
        text_bytes: Bytes of all texts.
        xml_bytes: Maximum bytes of the cells as XML.
    """

    widths: tuple[int, ...]
    formats: tuple[str, ...]
    text_bytes: int
    xml_bytes: int


def surveyed(
    frame: pl.LazyFrame, names: Sequence[str], columns: Sequence[Cells], meter: ProgressMeter
) -> Survey:
    """Look through a table.

    Args:
        frame: The table; the names of its columns are their indices.
        names: The names that its columns have in the sheet.
        columns: How its cells are stored.
        meter: Stops the work if it is told so.

    Raises:
        ProcessingError: ``unsupported_format``: a text is too long for a cell.
    """
    measures = {"rows": pl.len()}
    for index, cells in enumerate(columns):
        measures[f"{index} width"] = cells.width
        if cells.has_fraction is not None:
            measures[f"{index} fraction"] = cells.has_fraction
        if cells.fits is not None:
            measures[f"{index} fits"] = cells.fits.all()
        if cells.number is None:
            measures[f"{index} bytes"] = cells.text.str.len_bytes().cast(pl.Int64).sum()
            measures[f"{index} escapes"] = escapes(cells.text).cast(pl.Int64).sum()
            measures[f"{index} longest"] = cells.text.str.len_bytes().max()

    def checked(batch: pl.DataFrame) -> pl.DataFrame:
        meter.check("reading")
        return batch

    found = collect(frame.map_batches(checked, streamable=True).select(**measures), meter).row(0, named=True)
    for index, (name, cells) in enumerate(zip(names, columns, strict=True)):
        if _units(name) > MAX_UNITS:
            raise _too_long(f"The name {name[:80]!r}… of a column", _units(name))
        # A text has at least as many bytes as units.
        if (found.get(f"{index} longest") or 0) > MAX_UNITS:
            lengths = frame.select(units(cells.text).alias("units")).with_row_index("row", 1)
            for row, length in collect(lengths.filter(pl.col("units") > MAX_UNITS).head(1), meter).rows():
                raise _too_long(f"The text in row {row:,} of the column {name[:80]!r}", length)
    formats, widths, text_bytes, xml_bytes = [], [], 0, found["rows"] * _ROW
    for index, (name, cells) in enumerate(zip(names, columns, strict=True)):
        fraction = ".000" if found.get(f"{index} fraction") else ""
        formats.append(cells.number_format + fraction)
        widest = max(len(name) + _NAME_EXTRA, (found[f"{index} width"] or 0) + len(fraction) + _CELL_EXTRA)
        widths.append(max(_MIN_WIDTH, min(_MAX_WIDTH, widest)))
        bytes_here = found.get(f"{index} bytes", 0)
        text_bytes += bytes_here
        is_number = cells.number is not None and found.get(f"{index} fits", True)
        each = _NUMBER_CELL if is_number else _TEXT_CELL
        xml_bytes += found["rows"] * (each + (0 if cells.number is None else max(widest, _NUMBER)))
        xml_bytes += _TEXT_CELL + _ESCAPE * len(name)
        xml_bytes += bytes_here + _ESCAPE * found.get(f"{index} escapes", 0)
    return Survey(
        widths=tuple(widths),
        formats=tuple(formats),
        text_bytes=text_bytes,
        xml_bytes=xml_bytes,
    )


def _units(name: str) -> int:
    return len(name.encode("utf-16-le")) // 2


def _too_long(what: str, length: int) -> ProcessingError:
    return ProcessingError(
        "unsupported_format",
        f"{what} has {length:,} characters, and a cell of an Excel sheet has at most {MAX_UNITS:,}. "
        "Choose CSV or Parquet, or leave this column out.",
    )
