"""Writes a stored output as a CSV: as the original file is written, or with its values.

The stored output has values. The texts of cells that are written in another way than a CSV shows their values are in a
second file, its *texts*: a column for each column of the output that needs one, null where the value says it all. A job
on an output reads both, so that its own output has the texts, too.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import orjson
import polars as pl

from creemson.engine.export.durations import duration_text, time_text
from creemson.engine.export.nested import nested_to_json
from creemson.errors import ProcessingError
from creemson.formats.columns import exactly, unnamed
from creemson.formats.table import Table, reading_of, text_of

__all__ = [
    "KEY",
    "Written",
    "as_values",
    "as_written",
    "as_written_table",
    "beside",
    "header_line",
    "needed_texts",
    "text_cells",
    "texts_of_output",
    "with_texts",
    "written_of",
]

KEY = "creemson.written"
"""Key of a stored output's Parquet metadata, see :class:`Written`."""


_FIXED = re.compile(r"%\.(\d)f")
_TIME_OF_DAY = re.compile(r"%[-_0:.#\d]*[HIMSpPfTRXsckrlzZ+]")


@attrs.frozen
class Written:
    """How the original file writes what a stored output has as values.

    Attributes:
        notations: Dates and times, by column, in strftime's syntax, and doubles with a fixed number of decimals, in
            printf's: ``%.2f``.
        headers: Names of columns, where they are not those of the output: doubles, and empty ones.
        has_texts: Whether there are texts.
        is_json: Whether the original is JSON, so that the texts are numbers, and decimals were numbers.
    """

    notations: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    has_texts: bool = False
    is_json: bool = False

    def metadata(self) -> dict[str, str]:
        """Return it as metadata of the stored output."""
        return {KEY: orjson.dumps(attrs.asdict(self)).decode()}


def written_of(source: Path) -> Written | None:
    """Return how the original of a stored output is written; None if a file does not tell, because it is none."""
    try:
        metadata = pl.read_parquet_metadata(source)
    except pl.exceptions.PolarsError:  # another format
        return None
    return Written(**orjson.loads(metadata[KEY])) if KEY in metadata else None


def as_values(frame: pl.LazyFrame, notations: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Write values of types that CSV does not support as text.

    Args:
        frame: The values.
        notations: How dates, times and doubles are written; dates and times as ISO 8601 where it says nothing.
    """
    notations = notations or {}
    columns = [
        _rendered(exactly(name), dtype, notations.get(name, "")).alias(name)
        for name, dtype in frame.collect_schema().items()
        if dtype.is_temporal() or (dtype == pl.Float64 and name in notations)
    ]
    return nested_to_json(frame.with_columns(columns) if columns else frame)


def _rendered(column: pl.Expr, dtype: pl.DataType, notation: str) -> pl.Expr:
    """Write dates and times as the original file does, or as ISO 8601 without trailing zeros; durations as 27:15:00."""
    if isinstance(dtype, pl.Duration):
        return duration_text(column, dtype)
    if dtype == pl.Float64:
        return _with_decimals(column, notation)
    if dtype == pl.Time:
        return time_text(column, "" if "%Y" in notation or "z" in notation else notation)
    if dtype == pl.Date and _TIME_OF_DAY.search(notation):
        return column
    if "%Y" in notation and "z" not in notation:
        return column.dt.to_string(notation)
    if isinstance(dtype, pl.Datetime):
        zone = {None: "", "UTC": "Z"}.get(dtype.time_zone, "%:z")
        return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
    return column


def _with_decimals(column: pl.Expr, notation: str) -> pl.Expr:
    """Write doubles with a fixed number of decimals; null if that has more than the 15 digits which are exact."""
    fixed = _FIXED.fullmatch(notation)
    if fixed is None:
        return column
    return column.cast(pl.Decimal(38, int(fixed[1])), strict=False).cast(pl.String)


def as_written(
    frame: pl.LazyFrame, written: Written, texts: Path | None, name: str, rows: int
) -> pl.LazyFrame:
    """Write all cells as the original file does.

    Args:
        frame: The values.
        written: How the original is written.
        texts: Path of the texts; None if there are none.
        name: The output's name in messages.
        rows: Number of rows.

    Raises:
        ProcessingError: ``file_not_found``: the texts are gone, or not those of this output.
    """
    values = as_values(frame, written.notations)
    return with_texts(values, texts, name, rows) if written.has_texts else values


def with_texts(values: pl.LazyFrame, texts: Path | None, name: str, rows: int) -> pl.LazyFrame:
    """Show the text of each cell that has one, and its value if not; the arguments are those of :func:`as_written`.

    Raises:
        ProcessingError: ``file_not_found``: the texts are gone, or not those of this output.
    """
    return _merged(values, texts_of_output(texts, name, rows))


def text_cells(frame: pl.LazyFrame, notations: Mapping[str, str]) -> pl.LazyFrame:
    """Return all cells as text, as a CSV shows them.

    Args:
        frame: The values, and texts in hidden columns; see :func:`~creemson.formats.table.text_of`.
        notations: How dates and times are written.
    """
    names = frame.collect_schema().names()
    known = frozenset(names)
    return as_values(frame, notations).select(
        pl.coalesce(exactly(text_of(name)), exactly(name).cast(pl.String)).alias(name)
        if text_of(name) in known
        else exactly(name).cast(pl.String)
        for name in names
        if not name.startswith(text_of(""))
    )


def beside(values: pl.LazyFrame, texts: pl.LazyFrame) -> pl.LazyFrame:
    """Put the texts of an output beside its values, in hidden columns."""
    known = texts.collect_schema().names()
    hidden = texts.select(exactly(column).alias(text_of(column)) for column in known)
    return pl.concat([values, hidden], how="horizontal")


def texts_of_output(texts: Path | None, name: str, rows: int) -> pl.LazyFrame:
    """Scan the texts of an output, after checking that they are there; see :func:`as_written`."""
    try:
        scan = pl.scan_parquet(texts or Path(), glob=False)
        found = scan.select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError):
        found = -1
    if found != rows:
        raise ProcessingError(
            "file_not_found",
            f"The output {name!r} is damaged: how its cells were written is gone. Ask for the same result again.",
        )
    return scan


def _merged(values: pl.LazyFrame, texts: pl.LazyFrame) -> pl.LazyFrame:
    """Show the text of each cell that has one, and its value if not."""
    known = frozenset(texts.collect_schema().names())
    return beside(values, texts).select(
        pl.coalesce(exactly(text_of(column)), exactly(column).cast(pl.String)).alias(column)
        if column in known
        else exactly(column)
        for column in values.collect_schema().names()
    )


def as_written_table(table: Table, source: Path, texts: Path) -> Table:
    """Return the table of a stored output with the texts of its cells; that of another file as it is.

    Args:
        table: The table of its values.
        source: Path of the output.
        texts: Path of its texts, which need not exist if it has none.

    Raises:
        ProcessingError: ``file_not_found``: the texts are gone, or not those of this output.
    """
    written = written_of(source)
    if written is None:
        return table
    table = attrs.evolve(
        table,
        notations=lambda: dict(written.notations),
        headers=lambda: written.headers,
        is_json=written.is_json,
    )
    if not written.has_texts:
        return table
    found = texts_of_output(texts, table.name, table.rows or 0)
    (read,) = table.readings
    return attrs.evolve(
        table,
        readings=(reading_of(lambda: beside(read(list), found)),),
        texts=frozenset(found.collect_schema().names()).intersection,
    )


def needed_texts(frame: pl.DataFrame, written: Written) -> list[str]:
    """Return the columns of which some values would be written in another way than their texts.

    Args:
        frame: The values, and texts in hidden columns; see :func:`~creemson.formats.table.text_of`.
        written: How the original is written.
    """
    names = [name for name in frame.columns if text_of(name) in frame.columns]
    cells = as_values(frame.lazy().select(map(exactly, names)), written.notations).collect()
    return [
        name
        for name in names
        if not unnamed(cells.get_column(name).cast(pl.String)).equals(
            unnamed(frame.get_column(text_of(name))), null_equal=True
        )
    ]


def header_line(names: Sequence[str], headers: Mapping[str, str]) -> bytes:
    r"""Return the first line of a CSV, quoted like its cells.

    Args:
        names: The names of the columns.
        headers: What is written instead of some of them.

    >>> header_line(["a", "a_duplicated_0", "column_3"], {"a_duplicated_0": "a", "column_3": ""})
    b'a,a,""\n'
    """
    cells = [headers.get(name, name) for name in names]
    line = pl.DataFrame({"": cells}).write_csv(include_header=False, line_terminator=",")
    return line.removesuffix(",").encode() + b"\n"
