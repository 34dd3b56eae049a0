"""Files as lazy tables: everything between a path and a polars plan that reads it."""

import errno
import glob
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import attrs
import polars as pl
from polars.exceptions import NoDataError, PanicException, PolarsError

from creemson.errors import CreemsonError, ProcessingError
from creemson.processing.csv_table import ATTEMPTS, CsvSource, Reread, Workspace, lines_of
from creemson.processing.formats import Sniffed, bomb, sniff
from creemson.processing.issues import Report
from creemson.processing.naming import exactly
from creemson.wire.messages import ColumnRef, Options, Reading

__all__ = ["Table", "exactly", "faults", "open_table", "reading_of"]

SAMPLE_ROWS = 10_000
COLUMNS_MOST = 100_000
"""Of a table. polars takes some 8 kB for each while it reads, and a client is sent the names of all."""
DEPTH_MOST = 100
"""Of lists and structs in each other. At 500, polars takes a gigabyte for a file of 9 kB."""
_SYSTEM_FAULT = re.compile(r"^(?!could not parse).*\(os error (\d+)\)")
"""How polars tells of a full disk and the like; it does not set ``errno``."""
_NOWHERE = frozenset({errno.EINVAL, errno.EOVERFLOW})
"""What the system says when a file's own metadata sends a reader to before its beginning."""


Needed: TypeAlias = Callable[[pl.Schema], Sequence[str]]


@attrs.frozen
class Table:
    """A file that can be read.

    Attributes:
        name: what to call it in messages.
        schema: its columns and their types.
        readings: ways to read it, the fastest first; each further one is for where the one before fails. They are
            given what tells which columns are needed, of those that there are.
        sniffed: what it is.
        rows: how many it has, where its own metadata says so.
        row_bytes: bytes of the file for each row, as far as the sample shows; 0 where ``rows`` is known.
        small: what the first reading gives, where the file is so small that it is in memory already.
        check: raises ``Reread`` after a reading that is not to be believed.
        window: some rows, by offset and limit; None where a lazy frame gives them as well.
        forms: how the dates and times of its columns are written, for an output that is to look like its input.
        reading: how it is read, as clients are told.
        report: what had to be mended so far; reading the table adds to it.
    """

    name: str
    schema: pl.Schema
    readings: tuple[Callable[[Needed], pl.LazyFrame], ...]
    sniffed: Sniffed
    rows: int | None
    row_bytes: float
    small: pl.DataFrame | None = None
    check: Callable[[], None] = lambda: None
    window: Callable[[int, int], pl.DataFrame] | None = None
    forms: Callable[[], dict[str, str]] = dict
    reading: Callable[[], Reading] | None = None
    report: Report = attrs.field(factory=Report)


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
        wanted: the columns of a small file whose types matter: a closer look at the others is spared. (In a large
            one, any column may tell how missing values are written in those rows that nobody has seen.) None: all.
        options: how to read it, where that is not to be found out.
        report: is told what is mended, or lost.
        workspace: where a file may be mended; None where no more than a window of it is read.

    Returns:
        The table; nothing but samples and metadata has been read (an Excel file as a whole).

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: the file cannot be read.
    """
    sniffed = sniff(path, name)
    ways: dict[str, Callable[[Path, str, Sniffed], Table]] = {
        "csv": partial(
            _open_csv,
            wanted=wanted,
            options=Options() if options is None else options,
            report=Report() if report is None else report,
            workspace=workspace,
        ),
        "ndjson": _open_ndjson,
        "parquet": _open_parquet,
        "arrow": _open_arrow,
        "arrow_stream": _open_whole,
        "xlsx": _open_whole,
    }
    with faults(name, path):
        table = ways[sniffed.format](path, name, sniffed)
    _check_width(name, len(table.schema))
    for column, dtype in table.schema.items():
        _check_depth(name, column, dtype)
    return table


def reading_of(scan: Callable[[], pl.LazyFrame]) -> Callable[[Needed], pl.LazyFrame]:
    """A reading, of a lazy frame of all columns."""

    def read(needed: Needed) -> pl.LazyFrame:
        frame = scan()
        return frame.select(map(exactly, needed(frame.collect_schema())))

    return read


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
    _check_width(name, max(head.partition(b"\n")[0].count(sign) for sign in (b",", b";", b"\t", b"|")) + 1)
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


def _open_ndjson(path: Path, name: str, sniffed: Sniffed) -> Table:
    scan = partial(pl.scan_ndjson, glob.escape(str(path)))  # unlike its sisters it has no glob=False
    schema = scan(infer_schema_length=SAMPLE_ROWS).collect_schema()
    head = sniffed.head or _first_lines(path)
    return Table(
        name=name,
        schema=schema,
        readings=(
            reading_of(partial(scan, schema=schema)),
            reading_of(partial(scan, infer_schema_length=None)),
        ),
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
        name=name,
        schema=scan().collect_schema(),
        readings=(reading_of(scan),),
        sniffed=sniffed,
        rows=rows,
        row_bytes=0.0,
    )


def _open_whole(path: Path, name: str, sniffed: Sniffed) -> Table:
    """A format that can only be read as a whole."""
    if sniffed.format == "xlsx":
        _check_archive(path, name, sniffed)
    frame = pl.read_excel(path) if sniffed.format == "xlsx" else pl.read_ipc_stream(path)
    return Table(
        name=name,
        schema=frame.schema,
        readings=(reading_of(frame.lazy),),
        sniffed=sniffed,
        rows=frame.height,
        row_bytes=0.0,
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
