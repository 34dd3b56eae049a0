"""Files as lazy tables: everything between a path and a polars plan that reads it."""

import errno
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import polars as pl
from polars.exceptions import NoDataError, PanicException, PolarsError

from creemson.errors import CreemsonError, ProcessingError
from creemson.processing.casting import cast, check_types
from creemson.processing.csv_table import ATTEMPTS, CsvSource, Reread, Workspace, lines_of
from creemson.processing.fixed_width import open_fixed_width
from creemson.processing.formats import Sniffed, sniff
from creemson.processing.issues import Report
from creemson.processing.json_array import open_json_array
from creemson.processing.json_lines import open_json_lines
from creemson.processing.naming import exactly
from creemson.processing.options import check_options
from creemson.processing.sheets import open_workbook
from creemson.processing.table import Table, reading_of
from creemson.wire.messages import ColumnRef, Options, Reading

__all__ = ["Table", "exactly", "faults", "open_table", "reading_of"]

COLUMNS_MOST = 100_000
"""Of a table. polars takes some 8 kB for each while it reads, and a client is sent the names of all."""
DEPTH_MOST = 100
"""Of lists and structs in each other. At 500, polars takes a gigabyte for a file of 9 kB."""
_SYSTEM_FAULT = re.compile(r"^(?!could not parse).*\(os error (\d+)\)")
"""How polars tells of a full disk and the like; it does not set ``errno``."""
_NOWHERE = frozenset({errno.EINVAL, errno.EOVERFLOW})
"""What the system says when a file's own metadata sends a reader to before its beginning."""


@contextmanager
def faults(name: str, path: Path) -> Iterator[None]:
    """Turn whatever polars raises on a bad file into an error in words.

    Args:
        name: what to call the file.
        path: of the file; not told to anyone.

    Raises:
        ProcessingError: ``unreadable_file``.
        OSError: it is the disk's fault and not the file's.
    """
    try:
        yield
    except (CreemsonError, MemoryError, Reread):
        raise
    except NoDataError:
        raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.") from None
    # A panic of polars is no Exception, but it is a fault of this file and not of the process.
    except (Exception, PanicException) as error:
        if not _foreign(error):
            raise
        if number := _SYSTEM_FAULT.search(str(error).partition("\n")[0]):
            if int(number[1]) in _NOWHERE:
                raise ProcessingError(
                    "unreadable_file", f"{name!r} is damaged: it refers to places that it does not have."
                ) from None
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise _unreadable(name, path, error) from error


def _unreadable(name: str, path: Path, error: BaseException) -> ProcessingError:
    text = str(error).replace(str(path), name).strip().partition("\n")[0].rstrip(".")
    return ProcessingError("unreadable_file", f"{name!r} cannot be read: {text[:300]}.")


def _foreign(error: BaseException) -> bool:
    """Whether it comes from polars or from the Excel reader below it; polars' OSErrors have no number."""
    if isinstance(error, OSError):
        return error.errno is None
    return isinstance(error, (PolarsError, PanicException)) or type(error).__module__.startswith("_fastexcel")


def open_table(
    path: Path,
    name: str,
    wanted: Collection[ColumnRef] | None = None,
    *,
    options: Options | None = None,
    report: Report | None = None,
    workspace: Workspace | None = None,
) -> Table:
    """Find out how to read a file, and what columns it has.

    Args:
        path: of the file.
        name: what to call it.
        wanted: the columns whose types matter: a closer look at the others is spared. None: all.
        options: how to read it, where that is not to be found out.
        report: is told what is mended, or lost.
        workspace: where a file may be mended; None where no more than a window of it is read.

    Returns:
        The table; nothing but samples and metadata has been read (an Excel file as a whole).

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: the file cannot be read.
    """
    options = Options() if options is None else options
    report = Report() if report is None else report
    sniffed = sniff(path, name)
    ways: dict[str, Callable[[Path, str, Sniffed], Table]] = {
        "csv": partial(
            _open_csv,
            wanted=wanted,
            options=options,
            report=report,
            workspace=workspace,
        ),
        "ndjson": partial(open_json_lines, options=options, report=report),
        "fixed": partial(open_fixed_width, options=options, report=report),
        "json": partial(open_json_array, options=options, report=report),
        "parquet": partial(_open_parquet, options=options, report=report),
        "arrow": partial(_open_arrow, options=options, report=report),
        "arrow_stream": partial(_open_stream, options=options, report=report),
        "xlsx": partial(open_workbook, options=options, report=report),
    }
    if options.widths and sniffed.format == "csv":
        sniffed = attrs.evolve(sniffed, format="fixed")
    elif options.delimiter and sniffed.format == "fixed":
        sniffed = attrs.evolve(sniffed, format="csv")
    check_options(name, sniffed.format, options)
    with faults(name, path):
        table = ways[sniffed.format](path, name, sniffed)
    _check_width(name, len(table.schema))
    for column, dtype in table.schema.items():
        _check_depth(name, column, dtype)
    return table


def _check_width(name: str, columns: int) -> None:
    if columns > COLUMNS_MOST:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} has {columns:,} columns, and tables of up to {COLUMNS_MOST:,} are read. "
            "Split it, or put what the columns are named after into a column.",
        )


def _check_depth(name: str, column: str, dtype: pl.DataType) -> None:
    level, depth = [dtype], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > DEPTH_MOST:
            raise ProcessingError(
                "unreadable_file",
                f"{name!r} nests values more than {DEPTH_MOST} levels deep in the column {column[:80]!r}. "
                "Write what is that deep as text.",
            )


def _inside(dtype: pl.DataType) -> Iterator[pl.DataType]:
    if isinstance(dtype, (pl.List, pl.Array)):
        yield dtype.inner  # type: ignore[misc]
    elif isinstance(dtype, pl.Struct):
        yield from (field.dtype for field in dtype.fields)  # type: ignore[misc]


# --- CSV ---------------------------------------------------------------------------------------------


def _open_csv(
    path: Path,
    name: str,
    sniffed: Sniffed,
    *,
    wanted: Collection[ColumnRef] | None,
    options: Options,
    report: Report,
    workspace: Workspace | None,
) -> Table:
    head, whole = sniffed.head, False
    if sniffed.content is not None:
        head, whole = sniffed.content, True
    elif head.count(b"\n") < 2:  # nothing of zstd, or lines longer than the head
        head = _first_lines(path)
    # Before anything else looks: polars takes a second or two and a gigabyte for a million columns.
    _check_width(
        name,
        max(re.split(rb"[\r\n]", head, maxsplit=1)[0].count(sign) for sign in (b",", b";", b"\t", b"|")) + 1,
    )
    source = CsvSource(
        path,
        name,
        sniffed,
        head,
        whole=whole,
        options=options,
        wanted=wanted,
        report=report,
        workspace=workspace,
    )
    return Table(
        name=name,
        schema=source.schema,
        readings=(source.read,) * ATTEMPTS,
        check=source.check,
        window=source.window,
        sniffed=sniffed,
        rows=None,
        row_bytes=len(source.sample) / max(1, source.rows) / sniffed.expansion,
        small=source.small,
        forms=source.forms,
        reading=source.reading,
        report=report,
    )


def _first_lines(path: Path) -> bytes:
    """The first lines of what is compressed, or has long ones: polars reads each line as one cell."""
    lines = lines_of(path, 1000).collect()
    return "\n".join(cell or "" for cell in lines.to_series()).encode() + b"\n"


# --- other formats -----------------------------------------------------------------------------------


def _open_parquet(path: Path, name: str, sniffed: Sniffed, options: Options, report: Report) -> Table:
    return _with_metadata(partial(pl.scan_parquet, path, glob=False), name, sniffed, options, report)


def _open_arrow(path: Path, name: str, sniffed: Sniffed, options: Options, report: Report) -> Table:
    return _with_metadata(partial(pl.scan_ipc, path, glob=False), name, sniffed, options, report)


def _with_metadata(
    scan: Callable[[], pl.LazyFrame], name: str, sniffed: Sniffed, options: Options, report: Report
) -> Table:
    rows = scan().select(pl.len()).collect().item()
    schema = scan().collect_schema()
    check_types(name, schema, options.types)
    return Table(
        name=name,
        schema=cast(scan(), options, report).collect_schema(),
        readings=(reading_of(lambda: cast(scan(), options, report)),),
        sniffed=sniffed,
        rows=rows,
        row_bytes=0.0,
        reading=partial(
            Reading, format=sniffed.format.removesuffix("_stream"), null_values=options.null_values
        ),
        report=report,
    )


def _open_stream(path: Path, name: str, sniffed: Sniffed, options: Options, report: Report) -> Table:
    """A format that can only be read as a whole."""
    frame = pl.read_ipc_stream(path)
    return _with_metadata(frame.lazy, name, sniffed, options, report)
