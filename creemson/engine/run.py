"""Carries out queries, each in one streaming pass of polars from the file to the stored output.

The steps have the order that the protocol defines: cast, where, group_by, distinct, sort, limit, rename.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import polars as pl

from creemson.engine.answers import AnswerLimits, RowTaker, json_size
from creemson.engine.export.csv import Written, as_written_table, needed_texts
from creemson.engine.plan import Plan, columns_of, named_in
from creemson.engine.profile import profile_of
from creemson.engine.progress import Progress, ProgressMeter, sink
from creemson.engine.sinks import remove_left, sink_parquet_to, sink_to
from creemson.engine.tables.read import may_be_of_copy, open_copy_for
from creemson.errors import ProcessingError
from creemson.formats.columns import exactly
from creemson.formats.csv.examined import KnownFiles
from creemson.formats.imported.place import Place
from creemson.formats.open import faults, open_table
from creemson.formats.report import Report
from creemson.formats.table import Reread, Table, Workspace, text_of
from creemson.model.converter import plain
from creemson.model.query import Options, Query
from creemson.model.results import Column, ColumnProfile, Described, Issues, Reading
from creemson.storage.names import companion

__all__ = ["Compute", "Outcome", "columns", "run", "run_on_copy", "stream"]

Compute: TypeAlias = Callable[[pl.LazyFrame, Plan, ProgressMeter], pl.LazyFrame]
"""Makes a plan of the needed columns of a table."""


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


def run(
    query: Query,
    source: Path,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    rejects: Path | None = None,
    limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
    known: KnownFiles | None = None,
    texts: Path | None = None,
) -> Outcome:
    """Carry out a query.

    Args:
        query: The query.
        source: Path of the file.
        target: Path of the Parquet file to write; after a failure, the caller removes it.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        rejects: Path of a CSV file that lists what is repaired or lost; it is created only if there are issues.
        limits: How large the result may be; a preview that does not fit is shortened.
        known: Remembers small files.
        texts: If the file may be a stored output, the path of its texts, which need not exist if it has none.

    Returns:
        The description of the output.

    Raises:
        InvalidFormat: ``invalid_columns`` or ``invalid_message``: the query does not fit the file.
        ProcessingError: ``column_not_found``, ``unreadable_file`` or ``unsupported_format``; ``file_not_found`` if its
            texts are gone.
        OSError: The disk failed.
        Exception: What ``on_progress`` raised.
    """
    with Report(rejects) as report:  # opening the file may report issues, too
        workspace = Workspace(companion(target, "repaired"))
        table = open_table(
            source,
            query.filename,
            columns_of(query),
            named={*named_in(query), *(query.rename or ())},
            options=query.options,
            report=report,
            workspace=workspace,
            known=known,
        )
        if texts is not None:
            table = as_written_table(table, source, texts)
        with _removed(workspace.path):
            return _run(query, source, target, on_progress, table=table, workspace=workspace, limits=limits)


def run_on_copy(
    query: Query,
    place: Place,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    rejects: Path | None = None,
    limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
    compute: Compute | None = None,
) -> Outcome | None:
    """Carry out a query on the columnar copy of its file.

    Args:
        query: The query.
        place: Where the copy is.
        target: See :func:`run`, as for the other arguments and errors.
        on_progress: See :func:`run`.
        rejects: See :func:`run`.
        limits: See :func:`run`.
        compute: See :func:`stream`.

    Returns:
        The description of the output; None if the query needs the file itself, or if the copy is gone or damaged.
    """
    with Report(rejects) as report:
        table = open_copy_for(query, place, report)
        if table is not None:
            try:
                # The file is not read, so its path is of no use.
                path = Path(query.filename)
                return _run(query, path, target, on_progress, table=table, limits=limits, compute=compute)
            except (ProcessingError, OSError) as error:
                if not may_be_of_copy(error):
                    raise
        report.clear()
    return None


def _run(
    query: Query,
    source: Path,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    table: Table,
    limits: AnswerLimits,
    workspace: Workspace | None = None,
    compute: Compute | None = None,
) -> Outcome:
    report = table.report
    # This fails before anything is read if the query does not fit.
    plan = Plan(query, table.schema, table.texts)
    meter = ProgressMeter(
        table,
        source,
        on_progress,
        after="sorting" if query.sort or query.group_by or query.distinct else "writing",
    )
    if workspace is not None:
        workspace.on_progress = meter.repairing
    output = partial(pl.scan_parquet, target, glob=False)
    with faults(query.filename, source):
        if table.small is None:
            sinks = partial(_sinks, target, table)
            texts = stream(query, table, meter, source, sinks, compute=compute).texts
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
    # Statistics only help to skip parts of large files; they and zstd take a fifth of the time.
    metadata = None if written is None else written.metadata()
    frame.write_parquet(content, compression="snappy", statistics=False, metadata=metadata)
    remove_left(target)
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
        is_json=table.is_json or table.source.format in {"json", "ndjson"},
    )


def _sinks(target: Path, table: Table, frame: pl.LazyFrame, plan: Plan) -> list[pl.LazyFrame]:
    """The ends of a plan: the stored output, and its texts."""
    metadata = _written(table, plan).metadata()
    if not plan.texts:
        companion(target, "texts").unlink(missing_ok=True)  # of a reading that has failed
        return [sink_parquet_to(target, frame, metadata=metadata)]
    values, texts = frame.drop(map(text_of, plan.texts)), frame.select(_texts(plan.texts))
    return [
        sink_parquet_to(target, values, metadata=metadata),
        sink_to(companion(target, "texts"), texts.sink_parquet, compression="lz4", statistics=False),
    ]


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


def stream(
    query: Query,
    table: Table,
    meter: ProgressMeter,
    source: Path,
    sinks: Callable[[pl.LazyFrame, Plan], list[pl.LazyFrame]],
    *,
    compute: Compute | None = None,
) -> Plan:
    """Carry out a query in one pass; if a late cell does not fit the types, again with the table's next reading.

    Args:
        query: The query.
        table: The table.
        meter: Counts the rows that are read.
        source: Path of the file.
        sinks: Returns the ends of the plan, which write its rows.
        compute: Returns what is computed of the table; None: what the plan says.

    Returns:
        The plan for the reading that has succeeded.
    """
    plan: Plan | None = None
    failure = ""

    def needed(schema: pl.Schema) -> Sequence[str]:
        nonlocal plan  # this reading may have inferred other types
        plan = Plan(query, schema, table.texts)
        return plan.needed

    casts = table.report.apart()  # what casts lose in a reading that fails is not told
    for number, reading in enumerate(table.readings, 1):
        is_last = number == len(table.readings)
        try:
            with faults(query.filename, source), meter.running():
                frame = reading(needed)
                assert plan is not None
                if compute is None:
                    frame = plan.apply(frame, meter.tap, has_row_count=table.rows is not None, report=casts)
                else:
                    frame = compute(frame, plan, meter)
                sink(sinks(frame, plan), meter)
                table.check()
            table.report.absorb(casts)
            break
        except (ProcessingError, Reread) as error:
            # An error that another reading has, too, is that of the request, such as a sum that is too large.
            if is_last or meter.stopped_by is not None or (failure and failure == str(error)):
                raise
            failure = str(error)
        finally:
            casts.clear()
    assert plan is not None
    return plan
