"""Carries out the work on a part of a table, and puts the results of all parts together."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import polars as pl

from creemson.engine.division.division import BLOCK_ROWS, Division, rows_of_part
from creemson.engine.plan import Plan, tapped
from creemson.engine.progress import Progress, ProgressMeter
from creemson.engine.run import Compute, stream
from creemson.engine.sinks import sink_to
from creemson.engine.tables.read import open_copy_for
from creemson.formats.imported.place import Place
from creemson.model.query import Query

__all__ = ["IndivisibleError", "merging", "run_part"]


class IndivisibleError(Exception):
    """One worker must do all the work: the types of the columns do not allow parts, or there is no copy."""


def run_part(
    query: Query,
    place: Place,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    number: int,
    count: int,
    block: int = BLOCK_ROWS,
) -> None:
    """Carry out a query on a part of a table, as far as that is possible without the other parts.

    Args:
        query: the query.
        place: where the file's columnar copy is.
        target: path of the Arrow file to write, for :func:`merging`; after a failure, the caller removes it.
        on_progress: called from any thread; an exception that it raises stops the work and is raised again.
        number: number of the part, from 0 on.
        count: number of parts.
        block: see :func:`creemson.engine.division.division.rows_of_part`.

    Raises:
        IndivisibleError: one worker must do all the work.
        CreemsonError: as for the whole query.
        OSError: the disk failed.
        Exception: what ``on_progress`` raised.
    """
    table = open_copy_for(query, place)
    if table is None or table.rows is None:
        raise IndivisibleError
    start, length = rows_of_part(table.rows, number, count, block=block)
    table = attrs.evolve(table, rows=length)
    path = Path(query.filename)  # nobody reads it
    meter = ProgressMeter(table, path, on_progress, after="writing")

    def compute(frame: pl.LazyFrame, plan: Plan, meter: ProgressMeter) -> pl.LazyFrame:
        division = _division(frame, plan, query)
        return division.part(tapped(frame.slice(start, length), meter.tap, has_row_count=True))

    def sinks(frame: pl.LazyFrame, _: Plan) -> list[pl.LazyFrame]:
        return [sink_to(target, frame.sink_ipc, compression="lz4")]  # other machines read it

    stream(query, table, meter, path, sinks, compute=compute)
    meter.finish()


def merging(query: Query, parts: Sequence[str], options: dict[str, Any] | None = None) -> Compute:
    """Return what computes a query from the results of :func:`run_part`.

    Args:
        query: the query.
        parts: paths or addresses of the results, in the order of the parts.
        options: see :class:`creemson.formats.imported.place.Place`.
    """

    def compute(frame: pl.LazyFrame, plan: Plan, meter: ProgressMeter) -> pl.LazyFrame:
        meter.all_read()
        found = [
            pl.scan_ipc(path, glob=False, storage_options=options, credential_provider=None) for path in parts
        ]
        return _division(frame, plan, query).whole(pl.concat(found))

    return compute


def _division(frame: pl.LazyFrame, plan: Plan, query: Query) -> Division:
    division = Division.of(plan, query, frame.collect_schema())
    if division is None:
        raise IndivisibleError
    return division
