"""Carries out queries, each in one streaming pass of polars from the file to the stored output.

The steps have the order that the protocol defines: cast, where, group_by, distinct, sort, limit, rename.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import polars as pl

from creemson.engine.answers import AnswerLimits, Rows, RowTaker, bounded, json_size, row_too_large
from creemson.engine.export.csv import Written, needed_texts, window_texts
from creemson.engine.plan import Plan, columns_of
from creemson.engine.profile import profile_of
from creemson.engine.progress import Progress, ProgressMeter, sink
from creemson.engine.survey import Surveys
from creemson.errors import ProcessingError
from creemson.formats.columns import exactly
from creemson.formats.open import faults, open_table
from creemson.formats.report import Report
from creemson.formats.table import Needed, Reread, Table, Workspace, text_of
from creemson.model.converter import plain
from creemson.model.query import Options, Query
from creemson.model.results import Column, ColumnProfile, Described, Issues, Reading, Window
from creemson.storage.names import companion

__all__ = ["Outcome", "columns", "run", "window"]


@attrs.frozen
class Outcome:
    """The outcome of a query.

    Attributes:
        rows: Number of rows of the output.
        columns: Names of its columns.
        dtypes: Types of its columns.
        size: Its bytes as a file.
        texts_size: Those of its texts; None if there are none.
        preview: Its first rows, if requested.
        preview_complete: Whether the preview has as many rows as requested; False if more would not fit the answer.
        profile: The profile of its columns, if requested.
        reading: How the file was read.
        issues: What was repaired or lost; None if nothing was.
    """

    rows: int
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    size: int
    texts_size: int | None
    preview: tuple[tuple[Any, ...], ...] | None
    profile: tuple[ColumnProfile, ...] | None
    reading: Reading | None = None
    issues: Issues | None = None
    preview_complete: bool = True


MAX_OFFSET = 2**62
"""Larger than the number of rows of any table; polars needs an offset that fits into 64 bits with a sign."""
READ_BYTES = 8 << 20
"""Bytes of a file that are read at once for a window, as estimated from a sample of the file."""


def columns(source: Path, name: str, options: Options | None = None) -> Described:
    """Describe the columns of a file, and how it is read.

    Args:
        source: Path of the file.
        name: The file's name in messages.
        options: How to read the file; empty fields are detected.

    Returns:
        Index, name and type of each column; how the file is read, and the issues in its first 64 KiB.

    Raises:
        InvalidFormat: The options do not fit the file.
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: The disk failed.
    """
    table = open_table(source, name, options=options)
    described = tuple(
        Column(index=index, name=column, dtype=str(dtype))
        for index, (column, dtype) in enumerate(table.schema.items())
    )
    return Described(
        columns=described,
        reading=table.reading() if table.reading is not None else None,
        issues=table.report.issues() if table.report else None,
    )


def window(
    source: Path,
    name: str,
    offset: int,
    limit: int,
    options: Options | None = None,
    *,
    surveys: Surveys | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
    texts: Path | None = None,
) -> Window:
    """Read some rows of a table, as many as fit one answer: those that a job for all columns would store.

    Args:
        source: Path of the file.
        name: The file's name in messages.
        offset: Number of rows before the first one.
        limit: Maximum number of rows.
        options: How to read the file; empty fields are detected.
        surveys: Remembers how files are read, so that not every window reads the whole file.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        limits: How large the answer may be.
        texts: None for values; for cells as the file writes them, where the texts of a stored output are.

    Returns:
        Columns and rows, the number of all rows if it is known, and whether enough of the file was looked at to know
        that these are the rows of a job.

    Raises:
        InvalidFormat: The options do not fit the file; or ``message_too_large``: the first row does not fit, or the
            names of the columns do not.
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: The disk failed.
    """
    surveyed = (surveys or Surveys()).open(source, name, options, on_progress)
    table, is_complete = surveyed.table, surveyed.is_complete
    read, start = table.window, min(offset, MAX_OFFSET)
    for reading in table.readings:
        try:
            with faults(name, source):
                rows = read or partial(_slice, reading)
                if texts is not None:
                    rows = table.window_texts or window_texts(rows, source, texts, name, table)
                schema, taken = _take(table, rows, start, limit, limits.message)
            break
        except ProcessingError:
            if read is not None or reading is table.readings[-1]:
                raise
    if not taken.rows and taken.too_large:
        raise row_too_large(name, offset, taken.too_large, limits.message)
    return Window(
        columns=tuple(schema),
        rows=taken.rows,
        total=table.rows,
        complete=is_complete,
        more=not taken.all_taken,
    )


def _slice(reading: Callable[[Needed], pl.LazyFrame], offset: int, limit: int) -> pl.DataFrame:
    """Read the rows at an offset."""
    scan = reading(list)
    return scan.slice(offset, limit).collect(engine="streaming")


def _take(
    table: Table, read: Callable[[int, int], pl.DataFrame], offset: int, limit: int, size: int
) -> tuple[pl.Schema, Rows]:
    """Read rows in pieces until there are enough, or no more fit, or the table ends."""
    # A piece of a file whose rows are long has few rows; mostly one piece is enough.
    count = min(limit, max(1, int(READ_BYTES / table.row_bytes))) if table.row_bytes else limit
    frame = read(offset, count)
    taker = RowTaker(size - json_size(bounded(frame.columns, size, "The list of the columns")))
    taken = 0
    while True:
        taker.take(frame)
        taken += frame.height
        if taker.is_full or frame.height < count or taken == limit:
            return frame.schema, taker.result()
        count = min(limit - taken, count)
        frame = read(offset + taken, count)


def run(
    query: Query,
    source: Path,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    rejects: Path | None = None,
    limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
) -> Outcome:
    """Carry out a query.

    Args:
        query: The query.
        source: Path of the file.
        target: Path of the Parquet file to write; after a failure, the caller removes it.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        rejects: Path of a CSV file that lists what is repaired or lost; it is created only if there are issues.
        limits: How large the result may be; a preview that does not fit is shortened.

    Returns:
        The description of the output.

    Raises:
        InvalidFormat: ``invalid_columns`` or ``invalid_message``: the query does not fit the file.
        ProcessingError: ``column_not_found``, ``unreadable_file`` or ``unsupported_format``.
        OSError: The disk failed.
        Exception: What ``on_progress`` raised.
    """
    with Report(rejects) as report:  # opening the file may report issues, too
        return _run(query, source, target, on_progress, report=report, limits=limits)


def _run(
    query: Query,
    source: Path,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    report: Report,
    limits: AnswerLimits,
) -> Outcome:
    workspace = Workspace(companion(target, "repaired"))
    table = open_table(
        source, query.filename, columns_of(query), options=query.options, report=report, workspace=workspace
    )
    # This fails before anything is read if the query does not fit.
    plan = Plan(query, table.schema, table.texts)
    meter = ProgressMeter(
        table,
        source,
        on_progress,
        after="sorting" if query.sort or query.group_by or query.distinct else "writing",
    )
    workspace.on_progress = meter.repairing
    output = partial(pl.scan_parquet, target, glob=False)
    with _removed(workspace.path), faults(query.filename, source):
        if table.small is None:
            texts = _stream(query, table, meter, source, target).texts
            schema = output().collect_schema()
            rows, first = output().select(pl.len()).collect().item(), output()
        else:  # streaming and reading back the result would take 3 ms more of CPU time
            small = table.small if table.small_texts is None else table.small.hstack(table.small_texts)
            result = plan.apply_to(small, report)
            written = _written(table, plan)
            texts = needed_texts(result, written) if plan.texts else []
            if texts:
                _write(result.select(_texts(texts)), companion(target, "texts"))
            if plan.texts:
                result = result.drop(map(text_of, plan.texts))
            _write(result, target, attrs.evolve(written, has_texts=bool(texts)))
            meter.tap(table.small)
            schema, rows, first = result.schema, result.height, result.lazy()
        if query.strict and report:
            raise _strict_error(query.filename, report.issues())
        profile = profile_of(output(), check=meter.check) if query.profile else None
        outcome = Outcome(
            rows=rows,
            columns=tuple(schema),
            dtypes=tuple(map(str, schema.values())),
            size=target.stat().st_size,
            texts_size=companion(target, "texts").stat().st_size if texts else None,
            preview=None,
            profile=profile,
            reading=table.reading() if table.reading is not None else None,
            issues=report.issues() if report else None,
        )
        if query.preview is not None:
            taker = RowTaker(limits.message - json_size(plain(outcome)))
            taker.take(first.head(query.preview).collect())
            preview = taker.result()
            outcome = attrs.evolve(outcome, preview=preview.rows, preview_complete=preview.all_taken)
    meter.finish()
    return outcome


def _write(frame: pl.DataFrame, target: Path, written: Written | None = None) -> None:
    content = io.BytesIO()  # polars writes files in other threads, which takes 0.1 ms more
    frame.write_parquet(content, metadata=None if written is None else written.metadata())
    target.write_bytes(content.getbuffer())


def _texts(names: Sequence[str]) -> list[pl.Expr]:
    """The hidden columns of an output under the names of its columns, as they are stored."""
    return [exactly(text_of(name)).alias(name) for name in names]


def _written(table: Table, plan: Plan) -> Written:
    """How the original file writes what the output has as values."""
    notations, headers = table.notations(), table.headers()
    return Written(
        notations={name: notations[old] for name, old in plan.shown.items() if old in notations},
        headers={name: headers[old] for name, old in plan.kept.items() if name == old in headers},
        has_texts=bool(plan.texts),
        is_json=table.source.format in {"json", "ndjson"},
    )


def _sinks(frame: pl.LazyFrame, target: Path, table: Table, plan: Plan) -> list[pl.LazyFrame]:
    """The ends of a plan: the stored output, and its texts."""
    metadata = _written(table, plan).metadata()
    if not plan.texts:
        companion(target, "texts").unlink(missing_ok=True)  # of a reading that has failed
        return [frame.sink_parquet(target, lazy=True, metadata=metadata)]
    values = frame.drop(map(text_of, plan.texts)).sink_parquet(target, lazy=True, metadata=metadata)
    texts = frame.select(_texts(plan.texts)).sink_parquet(
        companion(target, "texts"), lazy=True, compression="lz4", statistics=False
    )
    return [values, texts]


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Remove a temporary file when the context ends."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _strict_error(name: str, issues: Issues) -> ProcessingError:
    """The error for a file with issues if the request is strict."""
    details = [
        ("" if issue.line is None else f"line {issue.line}" + (": " if issue.column is None else ", "))
        + (f"column {issue.column!r}: " if issue.column is not None else "")
        + f"{issue.value!r}: {issue.why}"
        for issue in issues.examples
    ]
    counts = {field.name: getattr(issues, field.name) for field in attrs.fields(Issues)}
    summary = ", ".join(
        f"{count:,} {name.replace('_', ' ').removesuffix('s' if count == 1 else '')}"
        for name, count in counts.items()
        if isinstance(count, int) and count
    )
    return ProcessingError(
        "unreadable_file",
        f"{name!r} has {summary}, and the request is strict. The first: {details[0] if details else 'unknown'}. "
        "Repair the file, set options for how to read it, or leave out strict.",
        details=details,
    )


def _stream(query: Query, table: Table, meter: ProgressMeter, source: Path, target: Path) -> Plan:
    """Carry out a query in one pass; if a late cell does not fit the types, again with the table's next reading.

    Returns:
        The plan for the reading that has succeeded.
    """
    plan: Plan | None = None
    failure = ""

    def needed(schema: pl.Schema) -> Sequence[str]:
        nonlocal plan  # this reading may have inferred other types
        plan = Plan(query, schema, table.texts)
        return plan.needed

    for number, reading in enumerate(table.readings, 1):
        is_last = number == len(table.readings)
        try:
            with faults(query.filename, source), meter.running():
                frame = reading(needed)
                assert plan is not None
                frame = plan.apply(
                    frame, meter.tap, has_row_count=table.rows is not None, report=table.report
                )
                sink(_sinks(frame, target, table, plan), meter)
                table.check()
            break
        except (ProcessingError, Reread) as error:
            # An error that another reading has, too, is that of the request, such as a sum that is too large.
            if is_last or meter.stopped_by is not None or (failure and failure == str(error)):
                raise
            failure = str(error)
    assert plan is not None
    return plan
