"""Files as lazy tables: everything between a path and a polars plan that reads it."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import polars as pl
from polars.exceptions import NoDataError, PanicException, PolarsError

from creemson.errors import CreemsonError, ProcessingError
from creemson.processing.formats import Sniffed, separator_of, sniff

__all__ = ["Table", "faults", "open_table"]

MARKERS = ("NA", "N/A", "n/a", "NULL", "null", "NaN", "nan", "None", "-", "?", ".")
"""Words for a missing value. They count as such in columns whose other cells are no text: in a column of
text, "NA" may be Namibia."""
SAMPLE_ROWS = 10_000


@attrs.frozen
class Table:
    """A file that can be read.

    Attributes:
        name: what to call it in messages.
        schema: its columns and their types.
        readings: ways to read it, the fastest first; each further one is for where the one before fails.
        sniffed: what it is.
        rows: how many it has, where its own metadata says so.
        row_bytes: bytes of the file for each row, as far as the sample shows; 0 where ``rows`` is known.
    """

    name: str
    schema: pl.Schema
    readings: tuple[Callable[[], pl.LazyFrame], ...]
    sniffed: Sniffed
    rows: int | None
    row_bytes: float


@contextmanager
def faults(name: str, path: Path) -> Iterator[None]:
    """Turn whatever polars raises on a bad file into an error in words.

    Args:
        name: what to call the file.
        path: of the file; not told to anyone.

    Raises:
        ProcessingError: ``unreadable_file``.
    """
    try:
        yield
    except (CreemsonError, OSError, MemoryError):
        raise
    except NoDataError:
        raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.") from None
    # A panic of polars is no Exception, but it is a fault of this file and not of the process.
    except (Exception, PanicException) as error:
        if not _foreign(error):
            raise
        text = str(error).replace(str(path), name).strip().partition("\n")[0]
        raise ProcessingError("unreadable_file", f"{name!r} cannot be read: {text[:300]}.") from error


def _foreign(error: BaseException) -> bool:
    """Whether it comes from polars or from the Excel reader below it."""
    return isinstance(error, (PolarsError, PanicException)) or type(error).__module__.startswith("_fastexcel")


def open_table(path: Path, name: str) -> Table:
    """Find out how to read a file, and what columns it has.

    Args:
        path: of the file.
        name: what to call it.

    Returns:
        The table; nothing but samples and metadata has been read (an Excel file as a whole).

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: the file cannot be read.
    """
    sniffed = sniff(path, name)
    opened = {
        "csv": _open_csv,
        "ndjson": _open_ndjson,
        "parquet": _open_parquet,
        "arrow": _open_arrow,
        "arrow_stream": _open_whole,
        "xlsx": _open_whole,
    }[sniffed.format]
    with faults(name, path):
        return opened(path, name, sniffed)


# --- CSV ---------------------------------------------------------------------------------------------


def _open_csv(path: Path, name: str, sniffed: Sniffed) -> Table:
    head = sniffed.head or _zstd_head(path)
    separator = separator_of(head, name)
    options: dict[str, Any] = {"separator": separator, "missing_columns": "insert", "extra_columns": "ignore"}
    sample = _whole_lines(head, whole=len(head) >= sniffed.size)
    schema, markers = _infer(sample, options)
    scan = partial(pl.scan_csv, path, glob=False, **options)
    rows = max(1, sample.count(b"\n"))

    def widely() -> pl.LazyFrame:
        """With types that fit every cell of the file, at the price of reading it twice."""
        inferred = scan(infer_schema_length=None, null_values=markers).collect_schema()
        return scan(schema=dict(zip(schema, inferred.values(), strict=True)), null_values=markers)

    return Table(
        name=name,
        schema=schema,
        readings=(
            lambda: scan(schema=schema, null_values=markers),
            widely,
            lambda: scan(schema=dict.fromkeys(schema, pl.String)),
        ),
        sniffed=sniffed,
        rows=None,
        row_bytes=len(sample) / rows / sniffed.expansion,
    )


def _zstd_head(path: Path) -> bytes:
    """The first lines of what zstd holds: polars can decompress, so each line is read as one cell."""
    lines = pl.scan_csv(
        path, glob=False, separator="\x01", has_header=False, quote_char=None, infer_schema=False, n_rows=1000
    ).collect()
    return "\n".join(cell or "" for cell in lines.to_series()).encode() + b"\n"


def _whole_lines(head: bytes, *, whole: bool) -> bytes:
    """The head up to the last line that is surely complete."""
    return head if whole else head[: head.rfind(b"\n") + 1] or head


def _infer(sample: bytes, options: dict[str, Any]) -> tuple[pl.Schema, dict[str, str]]:
    """The columns' types in a sample, and for each column that is no text the word for a missing value."""

    def read(null_values: dict[str, str] | None) -> pl.DataFrame:
        return pl.read_csv(
            io.BytesIO(sample),
            n_rows=SAMPLE_ROWS,
            infer_schema_length=None,
            try_parse_dates=True,
            null_values=null_values,
            **options,
        )

    frame = read(None)
    suspects = {}
    for column in frame.iter_columns():
        if column.dtype == pl.String:
            marker = next((word for word in MARKERS if (column == word).any()), None)
            if marker is not None:
                suspects[column.name] = marker
    if suspects:
        frame = read(suspects)
    markers = {
        column.name: suspects.get(column.name, MARKERS[0])
        for column in frame.iter_columns()
        if column.dtype != pl.String
    }
    # A column that has nothing but markers in the sample is text until more is known.
    return frame.schema, markers


# --- other formats -----------------------------------------------------------------------------------


def _open_ndjson(path: Path, name: str, sniffed: Sniffed) -> Table:
    scan = partial(pl.scan_ndjson, path)
    schema = scan(infer_schema_length=SAMPLE_ROWS).collect_schema()
    head = _whole_lines(sniffed.head, whole=len(sniffed.head) >= sniffed.size)
    return Table(
        name=name,
        schema=schema,
        readings=(lambda: scan(schema=schema), lambda: scan(infer_schema_length=None)),
        sniffed=sniffed,
        rows=None,
        row_bytes=len(head) / max(1, head.count(b"\n")) / sniffed.expansion,
    )


def _open_parquet(path: Path, name: str, sniffed: Sniffed) -> Table:
    return _with_metadata(partial(pl.scan_parquet, path, glob=False), name, sniffed)


def _open_arrow(path: Path, name: str, sniffed: Sniffed) -> Table:
    return _with_metadata(partial(pl.scan_ipc, path, glob=False), name, sniffed)


def _with_metadata(scan: Callable[[], pl.LazyFrame], name: str, sniffed: Sniffed) -> Table:
    rows = scan().select(pl.len()).collect().item()
    return Table(
        name=name, schema=scan().collect_schema(), readings=(scan,), sniffed=sniffed, rows=rows, row_bytes=0.0
    )


def _open_whole(path: Path, name: str, sniffed: Sniffed) -> Table:
    """A format that can only be read as a whole."""
    frame = pl.read_excel(path) if sniffed.format == "xlsx" else pl.read_ipc_stream(path)
    return Table(
        name=name,
        schema=frame.schema,
        readings=(frame.lazy,),
        sniffed=sniffed,
        rows=frame.height,
        row_bytes=0.0,
    )
