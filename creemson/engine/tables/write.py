"""Makes the columnar copy of a file: what a job for all columns would store, and what it would tell."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import polars as pl

from creemson.engine.progress import Progress, ProgressMeter
from creemson.engine.run import stream
from creemson.engine.sinks import sink_parquet_to
from creemson.formats.imported.facts import Facts
from creemson.formats.imported.place import ROWS
from creemson.formats.imported.record import Record
from creemson.formats.imported.table import About
from creemson.formats.open import faults, open_table
from creemson.formats.table import Needed, Table, Workspace
from creemson.model.query import Options, Query

__all__ = ["Copied", "copy_table"]

MAX_TOLD = 100_000
"""Maximum number of issues of a file that gets a copy: each job reads them, in 50 ms."""
COLUMNAR = frozenset({"parquet", "arrow", "arrow_stream"})
"""Formats that need no copy."""
WHOLE = frozenset({"csv", "json", "ndjson"})
"""Formats of which a later reading finds the same about some columns as about all of them."""


@attrs.frozen
class Copied:
    """The copy of a file.

    Attributes:
        rows: Number of its rows.
        bytes: Size of its files.
    """

    rows: int
    bytes: int


def copy_table(
    source: Path,
    name: str,
    folder: Path,
    on_progress: Callable[[Progress], None],
    options: Options | None = None,
) -> Copied | None:
    """Make the columnar copy of a file.

    Args:
        source: Path of the file.
        name: The file's name in messages.
        folder: An empty folder for the copy; after a failure, the caller removes it.
        on_progress: Called from any thread; an exception that it raises stops the work and is raised again.
        options: How to read the file; empty fields are detected.

    Returns:
        The copy; None if this file gets none, because it needs none, or because the copy could not tell exactly what
        the file tells.

    Raises:
        InvalidFormat: The options do not fit the file.
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
        OSError: The disk failed.
        Exception: What ``on_progress`` raised.
    """
    if options is not None and (options.types or isinstance(options.date_format, dict)):
        return None
    report, query = Record(MAX_TOLD), Query(filename=name, options=options)
    workspace = Workspace(folder / "repaired")
    table = open_table(source, name, options=options, report=report, workspace=workspace)
    if table.small is not None or table.source.format in COLUMNAR:
        return None
    first = table.schema
    attempts = _Attempts()
    table = attrs.evolve(table, readings=attempts.counted(table.readings))
    meter = ProgressMeter(table, source, on_progress, after="writing")
    workspace.on_progress = meter.repairing
    rows = folder / ROWS
    with faults(name, source):
        # Readers skip row groups by their statistics.
        stream(query, table, meter, source, lambda frame, _: [sink_parquet_to(rows, frame, statistics=True)])
    workspace.path.unlink(missing_ok=True)
    facts = _facts(table, report, attempts.number)
    if facts is None or table.reading is None:
        return None
    about = About(
        source=attrs.evolve(table.source, head=b"", content=None),
        rows=pl.scan_parquet(rows, glob=False).select(pl.len()).collect().item(),
        schema=first,
        reading=table.reading(),
        facts=facts,
        headers=table.headers(),
        notations=table.notations(),
        is_steady=attempts.number == 1 and not report,
        told=report.told,
    )
    about.write(folder)
    meter.finish()
    return Copied(about.rows, sum(path.stat().st_size for path in folder.iterdir()))


class _Attempts:
    """Counts the readings that are begun."""

    def __init__(self) -> None:
        self.number = 0

    def counted(
        self, readings: Sequence[Callable[[Needed], pl.LazyFrame]]
    ) -> tuple[Callable[[Needed], pl.LazyFrame], ...]:
        return tuple(map(self._counted, readings))

    def _counted(self, reading: Callable[[Needed], pl.LazyFrame]) -> Callable[[Needed], pl.LazyFrame]:
        def read(needed: Needed) -> pl.LazyFrame:
            self.number += 1
            return reading(needed)

        return read


def _facts(table: Table, report: Record, attempts: int) -> Facts | None:
    """What tells how some columns are read; None if the reading of all columns does not tell that."""
    if not report.is_complete:
        return None
    if table.source.format == "csv":
        return table.facts()
    # The other formats tell no facts: if nothing is wrong with all columns, nothing is with some of them.
    return Facts() if not report and (attempts == 1 or table.source.format in WHOLE) else None
