"""What is done with a table: one streaming pass of polars from the file to the stored output.

The order of work is that of the protocol: where, group_by, sort, limit. Runs in a worker process.
"""

import difflib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import orjson
import polars as pl

from creemson.errors import InvalidFormat, ProcessingError
from creemson.processing.profile import cell, profile_of
from creemson.processing.tables import Table, faults, open_table
from creemson.wire.messages import Aggregate, Column, ColumnProfile, ColumnRef, Condition, Query

__all__ = ["Outcome", "Tick", "columns", "render", "run"]

TICK_INTERVAL = 0.05
"""Seconds between two calls of ``tick`` at the least."""
QUIET = 0.3
"""Seconds without a batch of rows after which reading is taken to be over."""
XLSX_ROWS = 1_048_575
"""Rows that an Excel sheet has below its header."""


@attrs.frozen
class Tick:
    """How far the work is: counts of the input's bytes and rows, and the share that is done (0 to 1)."""

    phase: str
    bytes_read: int
    bytes_total: int
    rows: int
    fraction: float


@attrs.frozen
class Outcome:
    """What a query made.

    Attributes:
        rows: of the output.
        columns, dtypes: names and types of its columns.
        preview: its first rows, where asked for.
        profile: of its columns, where asked for.
    """

    rows: int
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    preview: tuple[tuple[Any, ...], ...] | None
    profile: tuple[ColumnProfile, ...] | None


def columns(source: Path, name: str) -> tuple[Column, ...]:
    """The columns of a file.

    Args:
        source: path of the file.
        name: what to call it in messages.

    Returns:
        Index, name and type of each.

    Raises:
        ProcessingError: ``unreadable_file`` or ``unsupported_format``.
    """
    schema = open_table(source, name).schema
    return tuple(
        Column(index=index, name=column, dtype=str(dtype))
        for index, (column, dtype) in enumerate(schema.items())
    )


def run(query: Query, source: Path, target: Path, tick: Callable[[Tick], None]) -> Outcome:
    """Carry out a query.

    Args:
        query: what is asked for.
        source: path of the file.
        target: path of the Parquet file to write; the caller removes what a failure leaves of it.
        tick: is told how far it is, from any thread; what it raises stops the work and is raised again.

    Returns:
        What the output holds.

    Raises:
        InvalidFormat: ``invalid_columns`` or ``invalid_message``: the query does not fit the file.
        ProcessingError: ``column_not_found``, ``unreadable_file`` or ``unsupported_format``.
        OSError: the disk failed.
        Exception: whatever ``tick`` raised.
    """
    table = open_table(source, query.filename)
    plan = _Plan(query, table.schema)
    for last, reading in _with_last(table.readings):
        meter = _Meter(table, tick, after="sorting" if query.sort or query.group_by else "writing")
        try:
            with faults(query.filename, source), meter.running():
                _write(plan, reading, target, meter)
            break
        except ProcessingError:
            if last:
                raise
    meter.finish()
    with faults(query.filename, source):
        output = pl.scan_parquet(target, glob=False)
        schema = output.collect_schema()
        rows = output.select(pl.len()).collect().item()
        preview = None
        if query.preview is not None:
            preview = tuple(tuple(map(cell, row)) for row in output.head(query.preview).collect().iter_rows())
        profile = profile_of(output, check=meter.check) if query.profile else None
    return Outcome(
        rows=rows,
        columns=tuple(schema),
        dtypes=tuple(map(str, schema.values())),
        preview=preview,
        profile=profile,
    )


def _write(plan: "_Plan", reading: Callable[[], pl.LazyFrame], target: Path, meter: "_Meter") -> None:
    frame = plan.apply(reading().select(plan.needed), meter.tap)
    try:
        pl.collect_all([frame.sink_parquet(target, lazy=True)], engine="streaming")
    except Exception:
        if meter.stopped_by is not None:
            raise meter.stopped_by from None
        raise


def _with_last(items: Sequence[Any]) -> Iterator[tuple[bool, Any]]:
    for index, item in enumerate(items, start=1):
        yield index == len(items), item


def render(source: Path, target: Path, format: str, tick: Callable[[Tick], None]) -> None:  # noqa: A002
    """Write a stored output in another format.

    Args:
        source: path of the Parquet file.
        target: path to write to.
        format: csv, xlsx, ndjson, arrow or parquet.
        tick: as for :func:`run`.

    Raises:
        ProcessingError: ``unsupported_format``: Excel has no room for so many rows.
        OSError: the disk failed.
    """
    table = open_table(source, source.name)
    meter = _Meter(table, tick, after="writing")
    frame = table.readings[0]()
    with faults(source.name, source), meter.running():
        if format == "xlsx":
            _write_excel(frame, target, table.rows or 0)
        else:
            tapped = frame.map_batches(meter.tap, streamable=True)
            sinks = {
                "csv": lambda: _flat(tapped).sink_csv(target, lazy=True),
                "ndjson": lambda: tapped.sink_ndjson(target, lazy=True),
                "arrow": lambda: tapped.sink_ipc(target, lazy=True),
                "parquet": lambda: tapped.sink_parquet(target, lazy=True),
            }
            try:
                pl.collect_all([sinks[format]()], engine="streaming")
            except Exception:
                if meter.stopped_by is not None:
                    raise meter.stopped_by from None
                raise


def _write_excel(frame: pl.LazyFrame, target: Path, rows: int) -> None:
    if rows > XLSX_ROWS:
        raise ProcessingError(
            "unsupported_format",
            f"The output has {rows:,} rows, and an Excel sheet holds {XLSX_ROWS:,}. Take CSV or Parquet, or a limit.",
        )
    with target.open("wb") as stream:  # by its name, polars would add an extension
        _flat(frame).collect().write_excel(stream)


def _flat(frame: pl.LazyFrame) -> pl.LazyFrame:
    """CSV and Excel have no lists, structs or bytes: they are written as JSON text."""
    nested = [
        pl.col(name).map_elements(_json, return_dtype=pl.String)
        for name, dtype in frame.collect_schema().items()
        if dtype.is_nested() or dtype == pl.Binary
    ]
    return frame.with_columns(nested) if nested else frame


def _json(value: Any) -> str:
    return orjson.dumps(cell(value.to_list() if isinstance(value, pl.Series) else value)).decode()


# --- progress ----------------------------------------------------------------------------------------


class _Meter:
    """Counts what is read, and is where the work can be stopped.

    polars calls :meth:`tap` with every batch of rows, from its own threads. After the last batch of a
    sort or a grouping it calls nothing more; then a thread of ours tells that it is still at it.
    """

    def __init__(self, table: Table, tick: Callable[[Tick], None], *, after: str) -> None:
        self._table = table
        self._tick = tick
        self._after = after
        self._lock = threading.Lock()
        self._rows = 0
        self._last_batch = self._last_tick = time.monotonic()
        self._ended = threading.Event()
        self.stopped_by: BaseException | None = None

    def tap(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Look at a batch on its way."""
        with self._lock:
            self._rows += batch.height
            self._last_batch = time.monotonic()
            self._tell("reading")
        return batch

    def check(self) -> None:
        """Tick between two steps that read nothing."""
        with self._lock:
            self._tell("writing")

    def finish(self) -> None:
        """All is read and written."""
        total = self._table.sniffed.size
        self._tick(Tick("writing", total, total, self._rows, 1.0))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tell of the phase that comes after reading, too."""
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(QUIET / 2):
            with self._lock:
                if time.monotonic() - self._last_batch > QUIET:
                    try:
                        self._tell(self._after)
                    except Exception:
                        return

    def _tell(self, phase: str) -> None:
        if self.stopped_by is not None:
            raise self.stopped_by
        now = time.monotonic()
        if now - self._last_tick < TICK_INTERVAL:
            return
        self._last_tick = now
        total = self._table.sniffed.size
        if self._table.rows is not None:
            fraction = self._rows / max(1, self._table.rows)
        else:
            fraction = self._rows * self._table.row_bytes / total
        # An estimate never says that it is done.
        fraction = min(fraction, 0.99)
        try:
            self._tick(Tick(phase, int(total * fraction), total, self._rows, round(fraction, 4)))
        except BaseException as error:
            self.stopped_by = error
            raise


# --- the query as a plan -----------------------------------------------------------------------------


class _Plan:
    """A query that fits the columns of a file, or the error that says where it does not."""

    def __init__(self, query: Query, schema: pl.Schema) -> None:
        self._schema = schema
        self._names = list(schema)
        self._query = query
        self._where = [
            self._condition(condition, f"$.where[{index}]")
            for index, condition in enumerate(query.where or ())
        ]
        self._groups = [self._resolve(ref) for ref in query.group_by or ()]
        self._aggregates = [
            self._aggregate(aggregate, f"$.aggregate[{index}]")
            for index, aggregate in enumerate(query.aggregate or ())
        ]
        self._grouping = bool(self._groups or self._aggregates)
        self._made = [*self._groups, *(name for name, _ in self._aggregates)]
        if self._grouping:
            _check_distinct(self._made, "the grouped output")
        self._selected = self._select()
        self._keys = [self._sort_column(key.column) for key in query.sort or ()]
        self.needed = self._needed()

    def apply(self, frame: pl.LazyFrame, tap: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.LazyFrame:
        """The plan, on a frame that has the needed columns."""
        # Filters and limits may be moved below the tap (into a Parquet scan): it only counts.
        frame = frame.map_batches(tap, streamable=True, predicate_pushdown=True, slice_pushdown=True)
        if self._where:
            frame = frame.filter(self._where)
        if self._groups:
            expressions = [expression.alias(name) for name, expression in self._aggregates]
            frame = frame.group_by(self._groups, maintain_order=True).agg(expressions)
        elif self._aggregates:
            frame = frame.select(expression.alias(name) for name, expression in self._aggregates)
        if self._keys:
            descending = [key.descending for key in self._query.sort or ()]
            frame = frame.sort(self._keys, descending=descending, nulls_last=True, maintain_order=True)
        frame = frame.select(self._selected)
        return frame if self._query.limit is None else frame.head(self._query.limit)

    def _needed(self) -> list[str]:
        """Columns of the file that have to be read, in its order; at least one, to count rows by."""
        used = {name for condition in self._where for name in condition.meta.root_names()}
        used.update(self._groups)
        used.update(name for _, expression in self._aggregates for name in expression.meta.root_names())
        if not self._grouping:
            used.update(self._selected, self._keys)
        return [name for name in self._names if name in used] or self._names[:1]

    def _resolve(self, ref: ColumnRef) -> str:
        """The name of a column of the file."""
        if isinstance(ref, int):
            if ref < len(self._names):
                return self._names[ref]
            raise ProcessingError(
                "column_not_found",
                f"There is no column {ref} in {self._query.filename!r}: it has {len(self._names)} columns, "
                f"0 to {len(self._names) - 1}. The last one is {self._names[-1]!r}.",
            )
        if ref in self._schema:
            return ref
        raise _not_found(ref, self._names, repr(self._query.filename))

    def _select(self) -> list[str]:
        refs = self._query.selectedColumns
        if refs is None:
            return self._made if self._grouping else self._names
        if not self._grouping:
            names = [self._resolve(ref) for ref in refs]
        else:
            names = [
                self._made_column(
                    self._names[ref] if isinstance(ref, int) and ref < len(self._names) else ref
                )
                for ref in refs
            ]
        _check_distinct(names, "selectedColumns")
        return names

    def _made_column(self, ref: ColumnRef) -> str:
        if ref in self._made:
            return str(ref)
        raise InvalidFormat(
            "invalid_columns",
            f"The column {ref!r} is not in the grouped output, which has: {', '.join(self._made)}.",
            details=[f"$.selectedColumns: {ref!r} is neither grouped by nor an aggregate"],
        )

    def _sort_column(self, ref: ColumnRef) -> str:
        if not self._grouping:
            return self._resolve(ref)
        name = self._resolve(ref) if isinstance(ref, int) else ref
        if name in self._made:
            return name
        raise _not_found(name, self._made, "the grouped output")

    def _condition(self, condition: Condition, path: str) -> pl.Expr:
        name = self._resolve(condition.column)
        column, dtype, value = pl.col(name), self._schema[name], condition.value
        operator = condition.operator
        if operator == "is_null":
            return column.is_null()
        if operator == "not_null":
            return column.is_not_null()
        if operator in ("contains", "starts_with"):
            if dtype != pl.String or not isinstance(value, str):
                raise _misfit(
                    f"{path}: {operator} compares text with text; {name!r} is {dtype}, got {value!r}"
                )
            return (
                column.str.contains(value, literal=True)
                if operator == "contains"
                else column.str.starts_with(value)
            )
        if operator in ("in", "not_in"):
            literals = [
                _literal(item, dtype, name, f"{path}[2][{index}]") for index, item in enumerate(value)
            ]
            among = (
                pl.any_horizontal([column == literal for literal in literals])
                if literals
                else pl.lit(value=False)
            )
            return among if operator == "in" else ~among
        literal = _literal(value, dtype, name, f"{path}[2]")
        compare: dict[str, Callable[[], pl.Expr]] = {
            "==": lambda: column == literal,
            "!=": lambda: column != literal,
            "<": lambda: column < literal,
            "<=": lambda: column <= literal,
            ">": lambda: column > literal,
            ">=": lambda: column >= literal,
        }
        return compare[operator]()

    def _aggregate(self, aggregate: Aggregate, path: str) -> tuple[str, pl.Expr]:
        name = self._resolve(aggregate.column)
        column, dtype, function = pl.col(name), self._schema[name], aggregate.function
        if function in ("sum", "mean", "median", "std") and not (dtype.is_numeric() or dtype == pl.Boolean):
            raise _misfit(f"{path}: {function} needs numbers, and {name!r} is {dtype}")
        functions: dict[str, Callable[[], pl.Expr]] = {
            "count": column.count,
            "sum": column.sum,
            "mean": column.mean,
            "min": column.min,
            "max": column.max,
            "median": column.median,
            "std": column.std,
            "first": column.first,
            "last": column.last,
            "n_unique": column.n_unique,
        }
        return aggregate.name or f"{name}_{function}", functions[function]()


def _literal(value: Any, dtype: pl.DataType, name: str, path: str) -> pl.Expr:
    """A value of the request as one that the column can be compared with."""
    if isinstance(value, bool):
        fits = dtype == pl.Boolean
    elif isinstance(value, (int, float)):
        fits = dtype.is_numeric()
    elif isinstance(value, str):
        if dtype.is_temporal():
            try:
                return pl.lit(pl.Series([value]).str.strptime(dtype).item())  # type: ignore[arg-type]
            except pl.exceptions.PolarsError:
                raise _misfit(
                    f"{path}: {name!r} is {dtype}, and {value!r} is none. Write it as ISO 8601"
                ) from None
        fits = dtype == pl.String or dtype in (pl.Categorical, pl.Enum)
    else:
        fits = False
    if not fits:
        hint = " Use is_null or not_null." if value is None else ""
        raise _misfit(f"{path}: {name!r} is {dtype}, which cannot be compared with {value!r}.{hint}")
    return pl.lit(value)


def _misfit(detail: str) -> InvalidFormat:
    return InvalidFormat("invalid_message", f"The request does not fit the file: {detail}", details=[detail])


def _not_found(name: str, names: Sequence[str], where: str) -> ProcessingError:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(names[:20])}."
    return ProcessingError("column_not_found", f"There is no column {name[:80]!r} in {where}. {hint}")


def _check_distinct(names: Sequence[str], where: str) -> None:
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise InvalidFormat("invalid_columns", f"The column {twice!r} stands twice in {where}.")
