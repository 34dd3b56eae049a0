"""Files as lazy tables: everything between a path and a polars plan that reads it."""

import errno
import io
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import attrs
import polars as pl
import polars.selectors as cs
from polars.exceptions import NoDataError, PanicException, PolarsError

from creemson.errors import CreemsonError, ProcessingError
from creemson.processing.casting import cast, check_types
from creemson.processing.fixed_width import open_fixed_width
from creemson.processing.formats import HEAD_BYTES, Sniffed, separator_of, sniff
from creemson.processing.issues import Report
from creemson.processing.json_array import open_json_array
from creemson.processing.json_lines import open_json_lines
from creemson.processing.options import check_options
from creemson.processing.sheets import open_workbook
from creemson.processing.table import Table
from creemson.wire.messages import ColumnRef, Options, Reading

__all__ = ["Table", "exactly", "faults", "open_table"]

MARKERS = ("NA", "N/A", "n/a", "NULL", "null", "NaN", "nan", "None", "-", "?", ".")
"""Words for a missing value. A file means it so if such a word stands in a column whose other cells are
numbers, dates or truth values. A file that does so in one column does so in all of them, its columns of
text included (R writes "NA" everywhere); in a file that does not, "NA" in a column of text is Namibia."""
SAMPLE_ROWS = 10_000
COLUMNS_MOST = 100_000
"""Of a table. polars takes some 8 kB for each while it reads, and a client is sent the names of all."""
DEPTH_MOST = 100
"""Of lists and structs in each other. At 500, polars takes a gigabyte for a file of 9 kB."""
DATE_LIKE = r"^\s*([12]\d{3}[-/.]\d|\d{1,2}[-/.]\d{1,2}[-/.][12]\d{3}|\d{1,2}:\d)"
"""What all cells of a column must look like before its text is tried as dates and times. polars tries many
patterns on each cell of text, which takes ten times as long as all else that is done to open a file; and
it would take the version 1.2.3 for a day of the year 1."""


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
    except (CreemsonError, MemoryError):
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


def exactly(name: str) -> pl.Expr:
    """The column of that name; ``pl.col`` would take ``*`` and ``^…$`` for patterns.

    Args:
        name: of a column.

    Returns:
        It as an expression.
    """
    pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return cs.by_name(name).as_expr() if pattern else pl.col(name)


def open_table(
    path: Path, name: str, wanted: Collection[ColumnRef] | None = None, *, options: Options | None = None
) -> Table:
    """Find out how to read a file, and what columns it has.

    Args:
        path: of the file.
        name: what to call it.
        wanted: the columns of a small file whose types matter: a closer look at the others is spared. (In a large
            one, any column may tell how missing values are written in those rows that nobody has seen.) None: all.
        options: how to read it, where that is not to be found out.

    Returns:
        The table; nothing but samples and metadata has been read (an Excel file as a whole).

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: the file cannot be read.
    """
    sniffed = sniff(path, name)
    ways: dict[str, Callable[[Path, str, Sniffed], Table]] = {
        "csv": partial(_open_csv, wanted=wanted),
        "ndjson": partial(open_json_lines, options=options),
        "fixed": partial(open_fixed_width, options=options),
        "json": partial(open_json_array, options=options),
        "parquet": partial(_open_parquet, options=options),
        "arrow": partial(_open_arrow, options=options),
        "arrow_stream": partial(_open_stream, options=options),
        "xlsx": partial(open_workbook, options=options),
    }
    if options is not None and options.widths and sniffed.format == "csv":
        sniffed = attrs.evolve(sniffed, format="fixed")
    elif options is not None and options.delimiter and sniffed.format == "fixed":
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


HUGE = r"^\s*[+-]?\d{39}"
"""What may be too large for an integer of 128 bits."""


def _open_csv(path: Path, name: str, sniffed: Sniffed, wanted: Collection[ColumnRef] | None) -> Table:
    sample = _whole_lines(sniffed.head)
    lines = sample.count(b"\n")
    if lines < 2:  # nothing of zstd, or lines longer than the head
        sample = _first_lines(path)
        lines = sample.count(b"\n")
    options: dict[str, Any] = {
        "separator": separator_of(sample, name),
        "missing_columns": "insert",
        "extra_columns": "ignore",
    }
    # Before polars looks: it takes a second or two and a gigabyte for a million columns.
    _check_width(name, sample.partition(b"\n")[0].count(options["separator"].encode()) + 1)
    whole = sample == sniffed.content and lines < SAMPLE_ROWS
    schema, markers, frame = _infer(sample, options, wanted if whole else None)
    scan = partial(pl.scan_csv, path, glob=False, null_values=markers, **options)

    def widely(*, dates: bool) -> pl.LazyFrame:
        """With types that fit every cell of the file, at the price of reading it twice."""
        inferred = scan(infer_schema_length=None).collect_schema()
        if len(inferred) != len(schema):
            raise ProcessingError("unreadable_file", f"{name!r} was replaced while it was read. Try again.")
        types = {
            column: known if dates and known.is_temporal() else found
            for (column, known), found in zip(schema.items(), inferred.values(), strict=True)
        }
        return scan(schema=types)

    return Table(
        name=name,
        schema=schema,
        readings=(
            partial(scan, schema=schema),
            partial(widely, dates=True),
            partial(widely, dates=False),
            partial(scan, schema=dict.fromkeys(schema, pl.String)),
        ),
        sniffed=sniffed,
        rows=None,
        row_bytes=len(sample) / max(1, lines) / sniffed.expansion,
        small=frame
        if whole and frame is not None
        else _small(sniffed.content, partial(pl.scan_csv, schema=schema, null_values=markers, **options)),
    )


def _small(content: bytes | None, scan: Callable[..., pl.LazyFrame]) -> pl.DataFrame | None:
    """The whole table, read from memory, if there is so little of it: see :data:`SMALL_BYTES`.

    None as well where that fails, perhaps for a late cell of another type: there are other readings for that.
    """
    if content is None:
        return None
    try:
        return scan(content).collect()
    except (PolarsError, PanicException):
        return None


def _first_lines(path: Path) -> bytes:
    """The first lines of what is compressed, or has long ones: polars reads each line as one cell."""
    lines = pl.scan_csv(
        path, glob=False, separator="\x01", has_header=False, quote_char=None, infer_schema=False, n_rows=1000
    ).collect()
    return "\n".join(cell or "" for cell in lines.to_series()).encode() + b"\n"


def _whole_lines(head: bytes) -> bytes:
    """The head up to the last record that is surely complete: an even number of quotes stands before it."""
    if len(head) < HEAD_BYTES:
        return head
    end = head.rfind(b"\n") + 1
    while end and head.count(b'"', 0, end) % 2:
        end = head.rfind(b"\n", 0, end - 1) + 1
    return head[:end]


def _infer(
    sample: bytes, options: dict[str, Any], wanted: Collection[ColumnRef] | None
) -> tuple[pl.Schema, dict[str, str], pl.DataFrame | None]:
    """The columns' types in a sample, and the word for a missing value in each column that has one.

    The frame is what these make of the sample, where it has been read like that.
    """
    frame = _read(sample, options)
    if wanted is not None:
        wanted = {frame.columns[ref] if isinstance(ref, int) and ref < frame.width else ref for ref in wanted}
    marked, dates = _look(frame, wanted)
    suspects = {
        name: min(set(frame.get_column(name).unique()).intersection(MARKERS), key=MARKERS.index)
        for name in marked
    }
    if suspects:
        # A column that has nothing but markers in the sample becomes text: no more is known.
        frame = _read(sample, options | {"null_values": suspects})
        dates = _look(frame, None)[1]  # a marker in a column of dates counts, whoever wants that
    schema = dict(frame.schema)
    if dates:
        again = io.BytesIO()
        frame.select(map(exactly, dates)).write_csv(again)
        found = pl.scan_csv(again.getvalue(), infer_schema_length=None, try_parse_dates=True).collect_schema()
        schema.update(zip(dates, found.dtypes(), strict=True))
    used = {word for name, word in suspects.items() if schema[name] != pl.String}
    convention = min(used, key=MARKERS.index, default=None)
    markers = {}
    for name, dtype in schema.items():
        if dtype != pl.String:
            markers[name] = suspects.get(name, convention or MARKERS[0])
        elif convention is not None:
            own = suspects.get(name)
            markers[name] = own if own in used else convention
    return pl.Schema(schema), markers, None if suspects or dates else frame


def _look(frame: pl.DataFrame, wanted: Collection[ColumnRef] | None) -> tuple[list[str], list[str]]:
    """The columns of text that have markers in them, and those that are wanted whose cells all look like dates.

    In one go: each expression that is run alone costs 0.1 ms, and a look at those dates which nobody wants 0.6.
    """
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    candidates = texts if wanted is None else [name for name in texts if name in wanted]
    if not candidates:  # what is no text stays what it is, whatever stands in other columns
        return [], []
    looks = [exactly(name).is_in(MARKERS).any() for name in texts]
    looks += [
        (exactly(name).count() > 0) & exactly(name).str.contains(DATE_LIKE).all() for name in candidates
    ]
    found = frame.select(look.alias(str(index)) for index, look in enumerate(looks)).row(0)
    return list(compress(texts, found)), list(compress(candidates, found[len(texts) :]))


def _read(sample: bytes, options: dict[str, Any]) -> pl.DataFrame:
    if sample.count(b"\n") > SAMPLE_ROWS:  # else a limit would cost time, and change nothing
        options = options | {"n_rows": SAMPLE_ROWS}
    scan = partial(pl.scan_csv, sample, **options)

    def read(**more: Any) -> pl.DataFrame:
        # To collect a plan whose types are not known yet finds them out three times over: 2 ms instead of 1.
        schema = scan(**more).collect_schema()
        return scan(schema=schema).collect()

    try:
        return read(infer_schema_length=None)
    except pl.exceptions.ComputeError:
        # polars 2.1 takes any row of digits for an integer, and then cannot read more than 128 bits of it.
        texts = read(infer_schema=False)
        huge = {column.name: pl.String for column in texts.iter_columns() if column.str.contains(HUGE).any()}
        return read(infer_schema_length=None, schema_overrides=huge)


# --- other formats -----------------------------------------------------------------------------------


def _open_parquet(path: Path, name: str, sniffed: Sniffed, options: Options | None) -> Table:
    return _with_metadata(partial(pl.scan_parquet, path, glob=False), name, sniffed, options)


def _open_arrow(path: Path, name: str, sniffed: Sniffed, options: Options | None) -> Table:
    return _with_metadata(partial(pl.scan_ipc, path, glob=False), name, sniffed, options)


def _with_metadata(
    scan: Callable[[], pl.LazyFrame], name: str, sniffed: Sniffed, options: Options | None
) -> Table:
    rows = scan().select(pl.len()).collect().item()
    schema = scan().collect_schema()
    options, report = options or Options(), Report()
    check_types(name, schema, options.types)
    return Table(
        name=name,
        schema=cast(scan(), options, report).collect_schema(),
        readings=(lambda: cast(scan(), options, report),),
        sniffed=sniffed,
        rows=rows,
        row_bytes=0.0,
        reading=Reading(format=sniffed.format.removesuffix("_stream"), null_values=options.null_values),
        report=report,
    )


def _open_stream(path: Path, name: str, sniffed: Sniffed, options: Options | None) -> Table:
    """A format that can only be read as a whole."""
    frame = pl.read_ipc_stream(path)
    return _with_metadata(frame.lazy, name, sniffed, options)
