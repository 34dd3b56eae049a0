"""What is done with a table: one streaming pass of polars from the file to the stored output.

The order of work is that of the protocol: cast, where, group_by, distinct, sort, limit, rename.
Runs in a worker process.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import orjson
import polars as pl

from creemson.errors import ProcessingError
from creemson.processing.csv_table import Reread, Workspace
from creemson.processing.issues import Report
from creemson.processing.plan import Plan, columns_of
from creemson.processing.profile import cell, profile_of, sayable
from creemson.processing.progress import Meter, Tick, sink
from creemson.processing.rendering import FORMS, render
from creemson.processing.tables import Table, exactly, faults, open_table
from creemson.storage.files import companion
from creemson.wire.messages import Column, ColumnProfile, Described, Issues, Options, Query, Reading, Window

__all__ = ["Outcome", "Tick", "columns", "render", "run", "window"]


@attrs.frozen
class Outcome:
    """What a query made.

    Attributes:
        rows: of the output.
        columns, dtypes: names and types of its columns.
        preview: its first rows, where asked for.
        profile: of its columns, where asked for.
        reading: how the file was read.
        issues: what had to be mended in it.
    """

    rows: int
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    preview: tuple[tuple[Any, ...], ...] | None
    profile: tuple[ColumnProfile, ...] | None
    reading: Reading | None = None
    issues: Issues | None = None


MAX_OFFSET = 2**62
"""More rows than a table can have; polars takes 64 bits with a sign."""


def columns(source: Path, name: str, options: Options | None = None) -> Described:
    """The columns of a file, and how it is read.

    Args:
        source: path of the file.
        name: what to call it in messages.
        options: how to read it, where that is not to be found out.

    Returns:
        Index, name and type of each; how the file is read, and what had to be mended in its first 64 KiB.

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
    """
    table = open_table(source, name, options=options)
    found = tuple(
        Column(index=index, name=column, dtype=str(dtype))
        for index, (column, dtype) in enumerate(table.schema.items())
    )
    return Described(
        columns=found,
        reading=table.reading() if table.reading is not None else None,
        issues=table.report.issues() if table.report else None,
    )


def window(source: Path, name: str, offset: int, limit: int, options: Options | None = None) -> Window:
    """Some rows of a table.

    Args:
        source: path of the file.
        name: what to call it in messages.
        offset: rows before the first one.
        limit: rows at the most.
        options: how to read it, where that is not to be found out.

    Returns:
        Columns and rows; the total of rows where the file tells it without being read.

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: the disk failed.
    """
    table = open_table(source, name, options=options)
    if table.window is not None:
        with faults(name, source):
            frame = table.window(offset, limit)
            schema = frame.schema
            made = frame.select(sayable(exactly(column), dtype) for column, dtype in schema.items())
        cells = tuple(tuple(map(cell, row)) for row in made.iter_rows())
        return Window(columns=tuple(schema), rows=cells, total=table.rows)
    for reading in table.readings:
        try:
            with faults(name, source):
                scan = reading(list)
                schema = scan.collect_schema()
                some = scan.slice(min(offset, MAX_OFFSET), limit).select(
                    sayable(exactly(column), dtype) for column, dtype in schema.items()
                )
                rows = some.collect(engine="streaming").iter_rows()
                cells = tuple(tuple(map(cell, row)) for row in rows)
            break
        except ProcessingError:
            if reading is table.readings[-1]:
                raise
    return Window(columns=tuple(schema), rows=cells, total=table.rows)


def run(
    query: Query,
    source: Path,
    target: Path,
    tick: Callable[[Tick], None],
    *,
    rejects: Path | None = None,
) -> Outcome:
    """Carry out a query.

    Args:
        query: what is asked for.
        source: path of the file.
        target: path of the Parquet file to write; the caller removes what a failure leaves of it.
        tick: is told how far it is, from any thread; what it raises stops the work and is raised again.
        rejects: path of a CSV to write to what had to be mended, or could not be read; it appears if there is any.

    Returns:
        What the output holds.

    Raises:
        InvalidFormat: ``invalid_columns`` or ``invalid_message``: the query does not fit the file.
        ProcessingError: ``column_not_found``, ``unreadable_file`` or ``unsupported_format``.
        OSError: the disk failed.
        Exception: whatever ``tick`` raised.
    """
    report = Report(rejects)
    workspace = Workspace(companion(target, "mended"))
    table = open_table(
        source, query.filename, columns_of(query), options=query.options, report=report, workspace=workspace
    )
    plan = Plan(query, table.schema)  # whether it fits, before anything is read
    meter = Meter(
        table, tick, after="sorting" if query.sort or query.group_by or query.distinct else "writing"
    )
    workspace.tick = meter.mending
    output = partial(pl.scan_parquet, target, glob=False)
    with report, _removed(workspace.path), faults(query.filename, source):
        if table.small is None:
            _stream(query, table, meter, source, target)
            schema = output().collect_schema()
            rows = output().select(pl.len()).collect().item()
        else:  # to stream it, and to read back what that made, takes 2 ms of CPU more
            made = plan.apply_to(table.small, report)
            content = io.BytesIO()  # into a file, polars writes through threads of its own: 0.1 ms more
            made.write_parquet(content, metadata=_metadata(table, plan))
            target.write_bytes(content.getbuffer())
            meter.tap(table.small)
            schema, rows = made.schema, made.height
        if query.strict and report:
            raise _unclean(query.filename, report.issues())
        preview = None
        if query.preview is not None:
            head = output().select(sayable(exactly(name), dtype) for name, dtype in schema.items())
            preview = tuple(tuple(map(cell, row)) for row in head.head(query.preview).collect().iter_rows())
        profile = profile_of(output(), check=meter.check) if query.profile else None
    meter.finish()
    return Outcome(
        rows=rows,
        columns=tuple(schema),
        dtypes=tuple(map(str, schema.values())),
        preview=preview,
        profile=profile,
        reading=table.reading() if table.reading is not None else None,
        issues=report.issues() if report else None,
    )


def _metadata(table: Table, plan: Plan) -> dict[str, str]:
    """What a stored output says of itself beside its columns."""
    found = table.forms()
    forms = {name: found[old] for name, old in plan.kept.items() if old in found}
    return {FORMS: orjson.dumps(forms).decode()}


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Remove a temporary file in the end."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _unclean(name: str, issues: Issues) -> ProcessingError:
    """The error for a file with issues, where none are allowed."""
    details = [
        ("" if issue.line is None else f"line {issue.line}" + (": " if issue.column is None else ", "))
        + (f"column {issue.column!r}: " if issue.column is not None else "")
        + f"{issue.value!r}: {issue.why}"
        for issue in issues.examples
    ]
    counts = {field.name: getattr(issues, field.name) for field in attrs.fields(Issues)}
    told = ", ".join(
        f"{count:,} {name.replace('_', ' ').removesuffix('s' if count == 1 else '')}"
        for name, count in counts.items()
        if isinstance(count, int) and count
    )
    return ProcessingError(
        "unreadable_file",
        f"{name!r} has {told}, and the request is strict. The first: {details[0] if details else 'not known'}. "
        "Mend the file, tell by options how to read it, or leave out strict.",
        details=details,
    )


def _stream(query: Query, table: Table, meter: Meter, source: Path, target: Path) -> None:
    """Carry out a query in one pass, or in another where a late cell does not fit the types."""
    plan: Plan | None = None

    def needed(schema: pl.Schema) -> Sequence[str]:
        nonlocal plan  # another reading may have found other types
        plan = Plan(query, schema)
        return plan.needed

    for number, reading in enumerate(table.readings, 1):
        last = number == len(table.readings)
        try:
            with faults(query.filename, source), meter.running():
                frame = reading(needed)
                assert plan is not None
                frame = plan.apply(frame, meter.tap, counted=table.rows is not None, report=table.report)
                sink(frame.sink_parquet(target, lazy=True, metadata=_metadata(table, plan)), meter)
                table.check()
            break
        except (ProcessingError, Reread):
            if last or meter.stopped_by is not None:
                raise
