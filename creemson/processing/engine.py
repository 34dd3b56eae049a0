"""What is done with a table: one streaming pass of polars from the file to the stored output.

The order of work is that of the protocol: where, group_by, sort, limit. Runs in a worker process.
"""

import datetime
import difflib
import threading
import time
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import orjson
import polars as pl

from creemson.errors import InvalidFormat, ProcessingError
from creemson.processing.profile import cell, profile_of, sayable
from creemson.processing.tables import Table, exactly, faults, open_table
from creemson.wire.messages import Aggregate, Column, ColumnProfile, ColumnRef, Condition, Query

__all__ = ["Outcome", "Tick", "columns", "render", "run"]

TICK_INTERVAL = 0.05
"""Seconds between two calls of ``tick`` at the least."""
QUIET = 0.3
"""Seconds without a batch of rows after which reading is taken to be over."""
XLSX_ROWS = 1_048_575
"""Rows that an Excel sheet has below its header."""
XLSX_COLUMNS = 16_384


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
    meter = _Meter(table, tick, after="sorting" if query.sort or query.group_by else "writing")
    for reading in table.readings:
        try:
            with faults(query.filename, source), meter.running():
                frame = reading()
                if reading is not table.readings[0]:  # it may have found other types
                    plan = _Plan(query, frame.collect_schema())
                frame = plan.apply(
                    frame.select(map(exactly, plan.needed)), meter.tap, counted=table.rows is not None
                )
                _sink(frame.sink_parquet(target, lazy=True), meter)
            break
        except ProcessingError:
            if reading is table.readings[-1] or meter.stopped_by is not None:
                raise
    with faults(query.filename, source):
        output = pl.scan_parquet(target, glob=False)
        schema = output.collect_schema()
        rows = output.select(pl.len()).collect().item()
        preview = None
        if query.preview is not None:
            head = output.select(sayable(exactly(name), dtype) for name, dtype in schema.items())
            preview = tuple(tuple(map(cell, row)) for row in head.head(query.preview).collect().iter_rows())
        profile = profile_of(output, check=meter.check) if query.profile else None
    meter.finish()
    return Outcome(
        rows=rows,
        columns=tuple(schema),
        dtypes=tuple(map(str, schema.values())),
        preview=preview,
        profile=profile,
    )


def _sink(frame: pl.LazyFrame, meter: "_Meter") -> None:
    """Let the streaming engine run a plan that ends in a file."""
    try:
        pl.collect_all([frame], engine="streaming")
    except (Exception, pl.exceptions.PanicException):
        if meter.stopped_by is not None:
            raise meter.stopped_by from None
        raise
    if meter.stopped_by is not None:  # while no batch passed that could have stopped the engine
        raise meter.stopped_by


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
                "csv": lambda: _csv(tapped).sink_csv(target, lazy=True),
                "ndjson": lambda: tapped.sink_ndjson(target, lazy=True),
                "arrow": lambda: tapped.sink_ipc(target, lazy=True),
                "parquet": lambda: tapped.sink_parquet(target, lazy=True),
            }
            _sink(sinks[format](), meter)
    meter.finish()


def _write_excel(frame: pl.LazyFrame, target: Path, rows: int) -> None:
    schema = frame.collect_schema()
    if rows > XLSX_ROWS or len(schema) > XLSX_COLUMNS:
        raise ProcessingError(
            "unsupported_format",
            f"The output has {rows:,} rows and {len(schema):,} columns, and an Excel sheet holds {XLSX_ROWS:,} and "
            f"{XLSX_COLUMNS:,}. Take CSV or Parquet, or a limit.",
        )
    # Excel knows neither time zones (their clock's time remains) nor days before the year 1.
    dates = [
        sayable(exactly(name), dtype).dt.replace_time_zone(None).alias(name)
        if isinstance(dtype, pl.Datetime)
        else sayable(exactly(name), dtype).alias(name)
        for name, dtype in schema.items()
        if dtype == pl.Date or isinstance(dtype, pl.Datetime)
    ]
    content = _flat(frame.with_columns(dates)).collect()
    content.columns = _excel_names(content.columns)
    with target.open("wb") as stream:  # by its name, polars would add an extension
        content.write_excel(stream)


def _excel_names(names: Sequence[str]) -> list[str]:
    """Excel takes names for equal that differ in case, and then shows no table at all."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        number, new = 1, name
        while new.lower() in seen:
            number += 1
            new = f"{name}_{number}"
        seen.add(new.lower())
        distinct.append(new)
    return distinct


def _flat(frame: pl.LazyFrame) -> pl.LazyFrame:
    """CSV and Excel have no lists, structs or bytes: they are written as JSON text."""
    nested = [
        exactly(name).map_elements(_json, return_dtype=pl.String)
        for name, dtype in frame.collect_schema().items()
        if dtype.is_nested() or dtype == pl.Binary
    ]
    return frame.with_columns(nested) if nested else frame


def _csv(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Nor has CSV types: times are written as ISO 8601, without idle zeros, and durations in seconds."""
    texts = []
    for name, dtype in frame.collect_schema().items():
        if isinstance(dtype, pl.Duration):
            texts.append(exactly(name).dt.total_seconds(fractional=True))
        elif isinstance(dtype, pl.Datetime):
            zone = {None: "", "UTC": "Z"}.get(dtype.time_zone, "%:z")
            texts.append(exactly(name).dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}"))
    return _flat(frame.with_columns(texts))


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
        self._fraction = 0.0
        self._last_batch = self._last_tick = time.monotonic()
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
        """One reading of the file, from its first row on; tell of the phase that comes after it, too."""
        self._rows = 0
        self._last_batch = time.monotonic()
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(QUIET / 2):
            with self._lock:
                if time.monotonic() - self._last_batch > QUIET:
                    try:  # before the first row, types are being looked for in the whole file
                        self._tell(self._after if self._rows else "reading")
                    except Exception:  # it is kept, and raised where somebody waits for it
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
        # An estimate never says that it is done, and a second reading not that less is done than before.
        fraction = self._fraction = max(self._fraction, min(round(fraction, 4), 0.99))
        try:
            self._tick(Tick(phase, int(total * fraction), total, self._rows, fraction))
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

    def apply(
        self, frame: pl.LazyFrame, tap: Callable[[pl.DataFrame], pl.DataFrame], *, counted: bool
    ) -> pl.LazyFrame:
        """The plan, on a frame that has the needed columns.

        Args:
            frame: as read.
            tap: is shown every batch that is read.
            counted: the file knows its rows. Then filters may be moved below the tap, into the scan, which
                skips what they exclude; in a CSV every row has to be read anyway, and is to be counted.
        """
        frame = frame.map_batches(tap, streamable=True, predicate_pushdown=counted, slice_pushdown=True)
        if self._where:
            frame = frame.filter(self._where)
        if self._groups:
            expressions = [expression.alias(name) for name, expression in self._aggregates]
            frame = frame.group_by(map(exactly, self._groups), maintain_order=True).agg(expressions)
        elif self._aggregates:
            frame = frame.select(expression.alias(name) for name, expression in self._aggregates)
        if self._keys:
            made = frame.collect_schema() if self._grouping else self._schema
            descending = [key.descending for key in self._query.sort or ()]
            keys = [_number_or_null(exactly(key), made[key]) for key in self._keys]
            frame = frame.sort(keys, descending=descending, nulls_last=True, maintain_order=True)
        frame = frame.select(map(exactly, self._selected))
        return frame if self._query.limit is None else frame.head(self._query.limit)

    def _needed(self) -> list[str]:
        """Columns of the file that have to be read, in its order; at least one, to count rows by."""
        used = {self._resolve(condition.column) for condition in self._query.where or ()}
        used.update(self._resolve(aggregate.column) for aggregate in self._query.aggregate or ())
        used.update(self._groups)
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
        column, dtype, value = exactly(name), self._schema[name], condition.value
        operator = condition.operator
        if operator == "is_null":
            return column.is_null()
        if operator == "not_null":
            return column.is_not_null()
        if isinstance(dtype, (pl.Categorical, pl.Enum)):  # as the text that it shows, not by its codes
            column, dtype = column.cast(pl.String), pl.String()
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
        column = _number_or_null(column, dtype)
        if operator in ("in", "not_in"):
            literals = [
                _literal(item, dtype, name, f"{path}[2][{index}]") for index, item in enumerate(value)
            ]
            among = _among(column, dtype, literals)
            return among if operator == "in" else ~among
        literal = pl.lit(_literal(value, dtype, name, f"{path}[2]"))
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
        column, dtype, function = exactly(name), self._schema[name], aggregate.function
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
        made = f"{name}_{function}" if aggregate.name is None else aggregate.name
        return made, functions[function]()


def _number_or_null(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """NaN counts as no value in comparisons and sorts: for polars it is equal to itself, above all else."""
    return column.fill_nan(None) if dtype.is_float() else column


def _among(column: pl.Expr, dtype: pl.DataType, values: list[Any]) -> pl.Expr:
    """Whether a column is one of some values; as for the other comparisons, null where it is null."""
    if dtype.is_decimal():  # floats would be rounded on their way into a list of decimals
        return pl.any_horizontal(pl.lit(value=False), *(column == value for value in values))
    if dtype.is_integer():  # what does not fit into the column is equal to nothing in it
        whole = pl.Series([value for value in values if isinstance(value, int)], dtype=pl.Int128)
        series = whole.cast(dtype, strict=False).drop_nulls()
    else:
        series = pl.Series(values, dtype=dtype)
    return column.is_in(series.implode())


def _literal(value: Any, dtype: pl.DataType, name: str, path: str) -> Any:
    """A value of the request as one that the column can be compared with."""
    if dtype.is_temporal():
        try:
            return _TEMPORAL[dtype.base_type()](value, dtype)
        except (TypeError, ValueError):
            hint = "seconds as a number" if dtype == pl.Duration else "ISO 8601 text"
            raise _misfit(
                f"{path}: {name!r} is {dtype}, and {value!r} is none. Write it as {hint}"
                + (" without an offset" if dtype in (pl.Datetime(), pl.Time) else "")
            ) from None
    if isinstance(value, bool):
        fits = dtype == pl.Boolean
    elif isinstance(value, (int, float)):
        fits = dtype.is_numeric()
        if dtype.is_integer() and value == int(value):
            value = int(value)  # 5.0 is 5, and no reason to compare large integers as floats
    else:
        fits = isinstance(value, str) and dtype == pl.String
    if not fits:
        hint = " Use is_null or not_null." if value is None else ""
        raise _misfit(f"{path}: {name!r} is {dtype}, which cannot be compared with {value!r}.{hint}")
    return value


def _datetime(text: str, dtype: pl.Datetime) -> datetime.datetime:
    """Without an offset, it is meant in the time zone of the column; with one, the column must have a zone."""
    value = datetime.datetime.fromisoformat(text)
    if dtype.time_zone is not None:
        zone = zoneinfo.ZoneInfo(dtype.time_zone)
        return value.astimezone(zone) if value.tzinfo else value.replace(tzinfo=zone)
    if value.tzinfo is not None:
        raise ValueError(text)
    return value


def _time(text: str, _dtype: pl.DataType) -> datetime.time:
    value = datetime.time.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError(text)
    return value


def _duration(seconds: float, _dtype: pl.DataType) -> datetime.timedelta:
    if isinstance(seconds, bool):
        raise TypeError(seconds)
    try:
        return datetime.timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(seconds) from error


_TEMPORAL: dict[Any, Callable[[Any, Any], Any]] = {
    pl.Date: lambda text, _dtype: datetime.date.fromisoformat(text),
    pl.Datetime: _datetime,
    pl.Time: _time,
    pl.Duration: _duration,
}


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
