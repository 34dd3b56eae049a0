"""Opens files of all formats as lazy tables, and converts the exceptions of polars into errors for clients.

Parquet and Arrow are opened here; every other format has its own module.
"""

import codecs
import errno
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import attrs
import polars as pl
from polars.exceptions import NoDataError, PanicException, PolarsError

from creemson.errors import CreemsonError, InvalidFormat, ProcessingError
from creemson.formats.coerce import cast, check_types, portable
from creemson.formats.csv.examined import KnownFiles
from creemson.formats.csv.reader import open_csv
from creemson.formats.detection.archive import Member, choose_member
from creemson.formats.detection.contained import Contained, recoded, unpacked
from creemson.formats.detection.signatures import unsupported
from creemson.formats.detection.sniff import sniff
from creemson.formats.fixed.reader import open_fixed_width
from creemson.formats.json.array import open_json_array
from creemson.formats.json.lines import open_json_lines
from creemson.formats.report import Report
from creemson.formats.source import Source
from creemson.formats.table import Reread, Table, Workspace, check_width, reading_of
from creemson.model.query import ColumnRef, Options
from creemson.model.results import Reading

__all__ = ["ALLOWED", "faults", "open_table"]

_ALL_FORMATS = frozenset({"types", "null_values"})
_TEXT = _ALL_FORMATS | {
    "encoding",
    "header",
    "skip_rows",
    "decimal",
    "thousands",
    "date_format",
    "comment",
}
ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "csv": _TEXT | {"delimiter", "quote", "escape"},
        "fixed": _TEXT | {"widths"},
        "ndjson": _ALL_FORMATS,
        "json": _ALL_FORMATS | {"sheet"},
        "parquet": _ALL_FORMATS,
        "arrow": _ALL_FORMATS,
        "arrow_stream": _ALL_FORMATS,
        "xlsx": _ALL_FORMATS | {"header", "skip_rows", "sheet"},
    }
)
"""The options that each format supports."""
_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "csv": "CSV",
        "fixed": "text in columns of fixed width",
        "ndjson": "NDJSON",
        "json": "JSON",
        "parquet": "Parquet",
        "arrow": "Arrow",
        "arrow_stream": "Arrow",
        "xlsx": "an Excel workbook",
    }
)
"""How messages call each format."""
MAX_DEPTH = 50
"""Maximum depth of nested lists and structs. The time of polars grows with its square: at a depth of 100, it needs 10 s
for 64 KiB of short lines; at a depth of 500, a gigabyte for a file of 9 kB."""
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""Matches how polars reports a system error such as a full disk: in the text only, ``errno`` is not set."""
_DESCRIPTOR = re.compile(r"/proc/self/fd/\d+")
"""Matches the path of an open file, which means nothing to clients."""
_WORDS = (
    (
        "invalid utf-8",
        "has bytes that are not UTF-8. Give its encoding in options.encoding; compressed by zstd, only UTF-8 is read: "
        "upload it uncompressed, or compressed by gzip.",
    ),
    ("parquet: ", "is a Parquet file that is damaged or was cut off. Write it again."),
    ("out-of-spec", "is an Arrow file that is damaged or was cut off. Write it again."),
    (
        "incomplete frame",
        "is compressed by zstd, and was cut off. Compress it again, or upload it uncompressed.",
    ),
)
"""Parts of messages of polars, and what they mean."""
_QUOTES_A_CELL = "could not parse"
"""The beginning of an error of polars that quotes a cell, which may look like any error."""
_BAD_OFFSETS = frozenset({errno.EINVAL, errno.EOVERFLOW})
"""The system errors that occur if a file's own metadata has offsets that are negative or too large."""


@contextmanager
def faults(name: str, path: Path) -> Iterator[None]:
    """Turn the exceptions that polars raises for a bad file into errors with a message.

    Args:
        name: The file's name in messages.
        path: Path of the file; removed from messages.

    Raises:
        ProcessingError: ``unreadable_file``.
        OSError: The disk failed; the file may be good.
    """
    try:
        yield
    except (CreemsonError, MemoryError, Reread):
        raise
    except NoDataError:
        raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.") from None
    # A panic of polars is not an Exception, but this file causes it, and the process can continue.
    except (Exception, PanicException) as error:
        if not _is_from_reader(error):
            raise
        line = str(error).partition("\n")[0]
        numbers = [] if line.startswith(_QUOTES_A_CELL) else _SYSTEM_ERROR.findall(line)
        if numbers:
            if int(numbers[-1]) in _BAD_OFFSETS:
                raise ProcessingError(
                    "unreadable_file", f"{name!r} is damaged: it refers to offsets outside of the file."
                ) from None
            raise OSError(int(numbers[-1]), os.strerror(int(numbers[-1]))) from error
        raise _unreadable(name, path, error) from error


_UNSUPPORTED_TYPES = (
    ("*precision <= 38", "decimals of more than 38 digits (decimal256), which are not supported"),
    (
        "precision must be between 1 and 38",
        "decimals of more than 38 digits (decimal256), which are not supported",
    ),
    ("can't decode Decimal128", "decimals of more than 38 digits (decimal256), which are not supported"),
    ("Int256", "decimals of 256 bits (decimal256), which are not supported"),
    ("month_day_", "intervals of months and days, which are not supported"),
    ("not yet implemented", "values of a type that is not supported"),
    ("not supported by Polars", "values of a type that is not supported"),
)
"""What errors of polars have for types that it does not read, and what they are."""
_TWICE = "column with name '", "' has more than one occurrence"
"""What the error of polars for double names has before and behind the name."""
_UNEQUAL = "assertion `left == right` failed"
"""What the error of polars has for an Arrow file with double names, of which it counts the columns of a batch."""
_NO_DATE = "out-of-range date"
"""What the error of polars for a date that it cannot write as text has."""
_WIDE_SUM = "conversion from `i128` to "
"""What the error of polars for a sum of integers has; see :mod:`creemson.engine.expressions`."""


def _unreadable(name: str, path: Path, error: BaseException) -> ProcessingError:
    """Say in words what a reader cannot read; its own words help only those who know the reader."""
    for sign, what in _UNSUPPORTED_TYPES:
        if sign in str(error):
            return ProcessingError(
                "unreadable_file",
                f"{name!r} has a column with {what}. Write the column as decimal(38, s), as another type, or as text.",
            )
    if all(part in str(error) for part in _TWICE):
        twice = str(error).partition(_TWICE[0])[2].partition(_TWICE[1])[0]
        return ProcessingError(
            "unreadable_file",
            f"{name!r} has several columns with the name {twice[:80]!r}. Write it again with other names.",
        )
    if "overflow in decimal" in str(error):
        return ProcessingError(
            "unreadable_file", f"A sum in {name!r} has more than 38 digits. Cast its column to float64."
        )
    if _WIDE_SUM in str(error):
        return ProcessingError(
            "unreadable_file",
            f"A sum in {name!r} does not fit an integer of 64 bits. Cast its column to float64.",
        )
    if _NO_DATE in str(error):
        return ProcessingError(
            "unreadable_file",
            f"{name!r} has a date beyond the year 262142, such as infinity, which cannot be written as text. Leave its "
            "column out, or choose Parquet, Arrow or Excel, which keep the number of days.",
        )
    if _UNEQUAL in str(error):
        return ProcessingError(
            "unreadable_file",
            f"{name!r} is damaged, or has several columns with the same name. Write it again, with different names.",
        )
    text = _DESCRIPTOR.sub(name, str(error).replace(str(path), name)).strip().partition("\n")[0].rstrip(".")
    if type(error).__module__.startswith("_fastexcel"):
        return ProcessingError(
            "unreadable_file",
            f"{name!r} is an Excel workbook that is damaged, was cut off, or lacks parts. Open it in Excel or "
            "LibreOffice, and save it again as .xlsx.",
        )
    if isinstance(error, PanicException):
        return ProcessingError(
            "unreadable_file",
            f"{name!r} is damaged, or was written by a program with an error. Write it again, or save the table as "
            "CSV.",
        )
    for part, words in _WORDS:
        if part in text:
            return ProcessingError("unreadable_file", f"{name!r} {words}")
    return ProcessingError("unreadable_file", f"{name!r} cannot be read: {text[:300]}.")


def _is_from_reader(error: BaseException) -> bool:
    """Whether polars or the Excel reader raised an exception; only polars raises OSErrors without a number."""
    if isinstance(error, OSError):
        return error.errno is None
    return isinstance(error, (PolarsError, PanicException)) or type(error).__module__.startswith("_fastexcel")


def open_table(
    path: Path,
    name: str,
    needed: Collection[ColumnRef] | None = None,
    *,
    named: Collection[ColumnRef] = (),
    options: Options | None = None,
    report: Report | None = None,
    workspace: Workspace | None = None,
    archive: str | None = None,
    known: KnownFiles | None = None,
) -> Table:
    """Determine how a file can be read, and which columns it has.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        needed: The columns whose types matter; inferring the types of the others is skipped. None for all.
        named: The columns that a request names; those of JSON are searched for in the whole file.
        options: How to read the file; empty fields are detected.
        report: Collects what is repaired or lost.
        workspace: Where a repaired copy can be written; None if only some of the rows are read.
        archive: The name of the archive that holds the file, if one does.
        known: Remembers what is found out about small CSV files.

    Returns:
        The table. Only samples and metadata have been read, except for Excel files, which are read completely.

    Raises:
        InvalidFormat: ``invalid_message`` or ``invalid_columns``: the options do not fit the file.
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: The file cannot be read.
    """
    options = Options() if options is None else options
    report = Report() if report is None else report
    source = sniff(path, name, options.encoding)
    folder = workspace.path.parent if workspace is not None else None
    if source.format == "zip":
        if archive is not None:
            inner = name.removeprefix(f"{archive}/")
            what = f"a zip archive in which {inner!r} is another one"
            raise unsupported(archive, what, "Unpack it, and upload the table.")
        member = choose_member(path, name, options)
        contained = unpacked(path, name, member, folder)
        table = open_table(
            contained.path,
            f"{name}/{PurePosixPath(member.name).name}",
            needed,
            named=named,
            options=member.options,
            report=report,
            workspace=workspace,
            archive=name,
        )
        return _table_inside(table, name, contained, member)
    if options.widths and source.format == "csv":
        source = attrs.evolve(source, format="fixed")
    elif options.delimiter and source.format == "fixed":
        source = attrs.evolve(source, format="csv")
    if source.format == "fixed" and source.encoding is None and not _is_utf8(options.encoding):
        source = attrs.evolve(source, encoding=options.encoding)
    if source.encoding is not None:
        contained = recoded(path, name, source, folder)
        table = open_table(
            contained.path,
            name,
            needed,
            named=named,
            options=attrs.evolve(options, encoding=None),
            report=report,
            workspace=workspace,
        )
        return _recoded_table(table, name, contained, source)
    openers: dict[str, Callable[..., Table]] = {
        "csv": partial(open_csv, needed=needed, workspace=workspace, known=known),
        "ndjson": partial(open_json_lines, named=named),
        "fixed": open_fixed_width,
        "json": partial(open_json_array, named=named),
        "parquet": _open_parquet,
        "arrow": _open_arrow,
        "arrow_stream": _open_arrow_stream,
        "xlsx": _open_workbook,
    }
    _check_options(name, source.format, options)
    with faults(name, path):
        table = openers[source.format](path, name, source, options=options, report=report)
    check_width(name, len(table.schema))
    for column, dtype in table.schema.items():
        _check_depth(name, column, dtype)
    return table


def _table_inside(table: Table, name: str, contained: Contained, member: Member) -> Table:
    """The table of an archive, which clients see as if it had been uploaded by itself."""

    def reading() -> Reading:
        assert table.reading is not None
        inner = table.reading()
        if not member.tables:
            return attrs.evolve(inner, member=member.name)
        # The choice of one of several tables, and of a sheet in it, is one option, with a slash between.
        own = {
            member.name: [
                f"{member.name}/{sheet}" for sheet in inner.sheets or () if len(inner.sheets or ()) > 1
            ]
        }
        sheets = [sheet for table in member.tables for sheet in own.get(table) or [table]]
        chosen = f"{member.name}/{inner.sheet}" if own[member.name] else member.name
        return attrs.evolve(inner, member=member.name, sheet=chosen, sheets=tuple(sheets))

    return attrs.evolve(table, name=name, reading=reading, held=(contained, table.held))


def _is_utf8(encoding: str | None) -> bool:
    return encoding is None or codecs.lookup(encoding).name in ("ascii", "utf-8", "utf-8-sig")


def _recoded_table(table: Table, name: str, contained: Contained, source: Source) -> Table:
    """The table of a text that was written in UTF-8 to be read."""

    def reading() -> Reading:
        assert table.reading is not None
        return attrs.evolve(table.reading(), encoding=source.encoding, compression=source.compression)

    return attrs.evolve(table, name=name, reading=reading, held=(contained, table.held))


def _check_depth(name: str, column: str, dtype: pl.DataType) -> None:
    level, depth = [dtype], 0
    while level := [inner for outer in level for inner in _inner_types(outer)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ProcessingError(
                "unreadable_file",
                f"{name!r} nests values more than {MAX_DEPTH} levels deep in the column {column[:80]!r}. "
                "Write such deep values as text.",
            )


def _inner_types(dtype: pl.DataType) -> Iterator[pl.DataType]:
    if isinstance(dtype, (pl.List, pl.Array)):
        yield dtype.inner  # type: ignore[misc]
    elif isinstance(dtype, pl.Struct):
        yield from (field.dtype for field in dtype.fields)  # type: ignore[misc]


# --- formats with their own types ------------------------------------------------------------------------


def _open_parquet(path: Path, name: str, source: Source, *, options: Options, report: Report) -> Table:
    return _typed_table(partial(pl.scan_parquet, path, glob=False), name, source, options, report)


def _open_arrow(path: Path, name: str, source: Source, *, options: Options, report: Report) -> Table:
    return _typed_table(partial(pl.scan_ipc, path, glob=False), name, source, options, report)


def _open_arrow_stream(path: Path, name: str, source: Source, *, options: Options, report: Report) -> Table:
    frame = pl.read_ipc_stream(path)  # polars can only read this format completely
    return _typed_table(frame.lazy, name, source, options, report)


def _open_workbook(path: Path, name: str, source: Source, *, options: Options, report: Report) -> Table:
    # Imported when needed, because it would delay the start of each worker.
    from creemson.formats.excel.reader import open_workbook  # noqa: PLC0415

    return open_workbook(path, name, source, options=options, report=report)


def _typed_table(
    scan: Callable[[], pl.LazyFrame], name: str, source: Source, options: Options, report: Report
) -> Table:
    rows = scan().select(pl.len()).collect().item()
    schema = scan().collect_schema()
    if not schema:
        raise ProcessingError("unreadable_file", f"{name!r} has no columns: there is no table in it.")
    check_types(name, schema, options.types)
    scan = portable(scan, schema)
    return Table(
        name=name,
        schema=cast(scan(), options, report).collect_schema(),
        readings=(reading_of(lambda: cast(scan(), options, report)),),
        source=source,
        rows=rows,
        row_bytes=0.0,
        reading=partial(
            Reading, format=source.format.removesuffix("_stream"), null_values=options.null_values
        ),
        report=report,
    )


def _check_options(name: str, format: str, options: Options | None) -> None:  # noqa: A002
    """Check that the format of a file supports all options of the request.

    Args:
        name: The file's name in messages.
        format: Its format.
        options: The options of the request.

    Raises:
        InvalidFormat: ``invalid_message``, with a detail for each option that the format does not support.
    """
    if options is None:
        return
    given = [field.name for field in attrs.fields(Options) if getattr(options, field.name) is not None]
    if unknown := [option for option in given if option not in ALLOWED[format]]:
        allowed = ", ".join(sorted(ALLOWED[format]))
        raise InvalidFormat(
            "invalid_message",
            f"{name!r} is {_DESCRIPTIONS[format]}, which has no {' and no '.join(unknown)}.",
            details=[
                f"$.options.{option}: the options of {_DESCRIPTIONS[format]} are {allowed}"
                for option in unknown
            ],
        )
