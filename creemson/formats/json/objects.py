"""JSON objects as rows: fitted to the columns' types chunk by chunk, with what does not fit left out and told.

Where the objects stand in a file is not known here: they come as chunks of lines with an object each.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias

import attrs
import orjson
import polars as pl
from polars.exceptions import PanicException, PolarsError
from polars.io.plugins import register_io_source

from creemson.errors import ProcessingError
from creemson.processing.casting import cast_frame, check_types, dtypes_of
from creemson.processing.issues import Report
from creemson.wire.messages import Options

__all__ = [
    "SAMPLE_BYTES",
    "SAMPLE_ROWS",
    "Chunk",
    "Chunks",
    "Objects",
    "dumps",
    "infer",
    "loads",
    "sample_of",
]

SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 16 << 20
"""Of the sample whose types a file's columns have, whichever is less."""
ROWS_AT_ONCE = 1_000
"""Of the sample that polars is given to find types."""
ODD_MOST = 0.01
"""Share of a column's values that may be of another type than the others; else the column is text."""
COLUMNS_MOST = 100_000
HUGE = re.compile(rb"\d{19}")
"""What may be an integer of more than 64 bits, which orjson makes a fraction of."""
WIDER = {pl.Int64: (-(1 << 63), 1 << 63), pl.Int128: (-(1 << 127), 1 << 127), pl.UInt64: (0, 1 << 64)}
FAULTS = (PolarsError, PanicException)


@attrs.frozen
class Chunk:
    """Some lines, with a JSON object on each, or nothing.

    Attributes:
        data: the lines, each with a line feed after it.
        numbers: of the lines in the file, 1-based.
    """

    data: bytes
    numbers: Sequence[int]


Chunks: TypeAlias = Callable[[], Iterator[Chunk]]
"""Begins to read a file."""


class Misfit(ProcessingError):  # noqa: N818 - no error to anybody but the engine, which then reads in another way
    """Something does not fit the types, and is to be looked for in the whole file."""


# --- lines -------------------------------------------------------------------------------------------


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def loads(line: bytes) -> Any:
    """The value of a JSON text, with all digits of its integers.

    Args:
        line: the text.

    Returns:
        The value.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is too deep.
    """
    return json.loads(line, parse_constant=_no_constant) if HUGE.search(line) else _loads_most(line)


def _loads_most(line: bytes) -> Any:
    """The same, but integers of more than 64 bits become fractions."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if "surrogate" not in error.msg:  # polars reads half a character as none
            raise
        return json.loads(line, parse_constant=_no_constant)


def dumps(value: Any) -> bytes:
    """The JSON text of a value.

    Args:
        value: as :func:`loads` gives it.

    Returns:
        The text, on one line.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, or half a character
        return json.dumps(value).encode()


def _parsed(line: bytes) -> dict[str, Any] | str:
    """The object of a line, or why it is none."""
    try:
        value = _loads_most(line)
    except json.JSONDecodeError as error:  # orjson's is one, too
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if isinstance(value, dict):
        return value
    return f"not a JSON object, but {_kind(value)}"


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else "a number"


@attrs.frozen
class Rows:
    """The lines of a chunk that hold an object."""

    numbers: list[int]
    lines: list[bytes]
    values: list[dict[str, Any]]

    @property
    def data(self) -> bytes:
        """As NDJSON."""
        return b"\n".join(self.lines) + b"\n"


def _rows(chunk: Chunk, report: Report | None) -> Rows:
    """The good lines; the report is told of the others."""
    if (rows := _all_rows(chunk)) is not None:
        return rows
    rows = Rows([], [], [])
    for number, line in zip(chunk.numbers, chunk.data.split(b"\n"), strict=False):
        if not line or line.isspace():
            continue
        value = _parsed(line)
        if isinstance(value, dict):
            rows.numbers.append(number)
            rows.lines.append(line)
            rows.values.append(value)
        elif report is not None:
            text = line[:1000].decode(errors="replace").strip()
            report.add("unparsable_rows", line=number, column=None, value=text, why=value)
    return rows


def _all_rows(chunk: Chunk) -> Rows | None:
    """The lines, if all of them are good: to look at them as one array takes half the time."""
    lines = chunk.data.removesuffix(b"\n").split(b"\n")
    if len(lines) != len(chunk.numbers):
        return None
    try:
        values = orjson.loads(b"[" + b",".join(lines) + b"]")
    except orjson.JSONDecodeError:
        return None
    # Two faults may make up for each other, but not so that each line begins and ends with a brace.
    if len(values) != len(lines) or set(map(type, values)) != {dict}:
        return None
    if not all(line.startswith(b"{") and line.endswith((b"}", b"}\r")) for line in lines):
        return None
    return Rows(list(chunk.numbers), lines, values)


# --- types -------------------------------------------------------------------------------------------


def sample_of(chunks: Iterator[Chunk]) -> bytes:
    """The first lines of a file.

    Args:
        chunks: of the file.

    Returns:
        Whole lines: up to :data:`SAMPLE_ROWS`, about, and not many more than :data:`SAMPLE_BYTES`.
    """
    taken, rows, size = [], 0, 0
    for chunk in chunks:
        taken.append(chunk.data)
        rows += len(chunk.numbers)
        size += len(chunk.data)
        if rows >= SAMPLE_ROWS or size >= SAMPLE_BYTES:
            break
    return b"".join(taken)


def infer(name: str, sample: bytes, words: Collection[str] | None = None) -> tuple[pl.Schema, bool]:
    """The columns of a sample, and their types.

    Args:
        name: what to call the file.
        sample: lines.
        words: for a missing value.

    Returns:
        The types, and whether every line of the sample is an object that fits them.

    Raises:
        ProcessingError: ``unreadable_file``: there is no object in it, or none that has a key.
    """
    clean = not words
    try:
        found = _inferred(sample) if clean else {}
    except FAULTS:
        clean, found = False, {}
    if not clean:
        rows = [loads(line) for line in _rows(Chunk(sample, range(1, sample.count(b"\n") + 2)), None).lines]
        for row in rows:
            _blank(row, words)
        found = _inferred_by_column(rows)
    if not found:
        raise ProcessingError(
            "unreadable_file", f"{name!r} holds no JSON object that has a key: there is no table in it."
        )
    return pl.Schema({column: _settled(dtype) for column, dtype in found.items()}), clean


def _inferred(lines: bytes) -> dict[str, pl.DataType]:
    """The types that polars finds, some lines at a time: its time grows with their number times that of the keys."""
    rows = [row for row in lines.split(b"\n") if row]
    found: dict[str, pl.DataType] = {}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        for column, dtype in _inferred_at_once(b"\n".join(rows[start : start + ROWS_AT_ONCE])).items():
            if found.setdefault(column, dtype) != dtype:  # only all values together tell which it is
                return _inferred_at_once(lines)
    return found


def _inferred_at_once(lines: bytes) -> dict[str, pl.DataType]:
    return dict(pl.scan_ndjson(io.BytesIO(lines), infer_schema_length=None).collect_schema())


def _inferred_by_column(rows: Sequence[dict[str, Any]]) -> dict[str, pl.DataType]:
    """Where polars finds no type for all values of one column, that is no fault of the others."""
    try:
        return _inferred(b"\n".join(map(dumps, rows))) if rows else {}
    except FAULTS:
        columns: dict[str, list[bytes]] = {}
        for row in rows:
            for column, value in row.items():
                columns.setdefault(column, []).append(dumps({"": value}))
        return {column: _type_of(lines) for column, lines in columns.items()}


def _type_of(lines: list[bytes]) -> pl.DataType:
    try:
        return _inferred(b"\n".join(lines))[""]
    except FAULTS:
        return pl.String()


def _settled(dtype: Any) -> pl.DataType:
    """The type, with text where nothing but null was seen: polars would refuse, or lose, what comes later."""
    if dtype == pl.Null:
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(_settled(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _settled(field.dtype) for field in dtype.fields})
    result: pl.DataType = dtype
    return result


def _blank(row: dict[str, Any], words: Collection[str] | None) -> None:
    """Put null for the words for it."""
    for column, value in row.items():
        if words and isinstance(value, str) and value in words:
            row[column] = None


def _fits(value: Any, dtype: pl.DataType) -> bool:
    """Whether polars takes a value for one of that type."""
    if value is None or dtype == pl.String:
        return True
    if isinstance(value, bool) or dtype == pl.Boolean:
        return isinstance(value, bool) and dtype == pl.Boolean
    if dtype.is_float():
        return isinstance(value, (int, float))
    for kind, (least, end) in WIDER.items():
        if dtype == kind:
            return isinstance(value, int) and least <= value < end
    try:
        pl.read_ndjson(dumps({"": value}), schema={"": dtype})
    except FAULTS:
        return False
    return True


def _widened(dtype: pl.DataType, value: Any) -> pl.DataType | None:
    """A type of number for integers and a number that does not fit them; None if it is something else."""
    if not dtype.is_integer() or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return pl.Int128() if isinstance(value, int) and _fits(value, pl.Int128()) else pl.Float64()


# --- the whole file ----------------------------------------------------------------------------------


@attrs.frozen
class Objects:
    """The objects of a file, as tables.

    Attributes:
        name: what to call the file.
        chunks: begins to read it.
        schema: types as its sample has them.
        report: is told what is left out.
        options: ``types`` and ``null_values``.
    """

    name: str
    chunks: Chunks
    schema: pl.Schema
    report: Report
    options: Options = attrs.field(factory=Options)

    def __attrs_post_init__(self) -> None:
        check_types(self.name, self.schema, self.options.types)

    def lines_left_out(self) -> pl.LazyFrame:
        """Without the lines that are no objects; ends with an error at the first value or key that does not fit."""
        return self._frame(self.schema, lenient=False)

    def cells_left_out(self) -> pl.LazyFrame:
        """Without what fits no type either, after a look at the whole file: see :meth:`census`."""
        return self._frame(self.census(), lenient=True)

    @property
    def cast_schema(self) -> pl.Schema:
        """Types as :meth:`lines_left_out` gives them."""
        return _cast_schema(self.schema, self.options)

    def census(self) -> pl.Schema:
        """The types that fit (nearly) all values of the file, and all its columns."""
        schema = dict(self.schema)
        cells, odd = Counter[str](), Counter[str]()
        wider: dict[str, pl.DataType] = {}
        for chunk in self.chunks():
            rows = _rows(chunk, None)
            if new := set().union(*rows.values) - schema.keys():
                schema |= self._late_columns(rows, new)
            try:
                frame = pl.read_ndjson(rows.data, schema=schema)
            except FAULTS:
                for row in rows.values:
                    cells.update(column for column, value in row.items() if value is not None)
                for column, value in self._misfits(rows, schema):
                    if dtype := _widened(schema[column], value):
                        wider[column] = pl.Float64() if pl.Float64 in {dtype, wider.get(column)} else dtype
                    else:
                        odd[column] += 1
            else:
                cells.update({found.name: found.count() for found in frame.iter_columns()})
        for column in schema:
            if odd[column] > ODD_MOST * cells[column]:
                schema[column] = pl.String()
            elif column in wider:
                schema[column] = wider[column]
        return pl.Schema(schema)

    def _misfits(self, rows: Rows, schema: Mapping[str, pl.DataType]) -> Iterator[tuple[str, Any]]:
        """Columns with values that are not of their types."""
        words = self.options.null_values or ()
        for line, row in zip(rows.lines, rows.values, strict=True):
            for column, value in row.items():
                dtype = schema[column]
                if _fits(value, dtype) or (isinstance(value, str) and value in words):
                    continue
                exact = loads(line)[column]
                if not _fits(exact, dtype):
                    yield column, exact

    def _late_columns(self, rows: Rows, new: set[str]) -> dict[str, pl.DataType]:
        if len(self.schema) + len(new) > COLUMNS_MOST:
            raise ProcessingError(
                "unreadable_file",
                f"{self.name!r} has more than {COLUMNS_MOST:,} different keys. Put what they are named after into "
                "a column.",
            )
        some = [{key: row[key] for key in row if key in new} for row in rows.values]
        for row in some:
            _blank(row, self.options.null_values)
        return {column: _settled(dtype) for column, dtype in _inferred_by_column(some).items()}

    def _frame(self, schema: pl.Schema, *, lenient: bool) -> pl.LazyFrame:
        return register_io_source(
            partial(self._batches, schema, lenient), schema=_cast_schema(schema, self.options), is_pure=True
        )

    def _batches(
        self,
        schema: pl.Schema,
        lenient: bool,
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _: int | None,
    ) -> Iterator[pl.DataFrame]:
        """As :func:`register_io_source` asks for them."""
        wanted = schema if columns is None else pl.Schema({column: schema[column] for column in columns})
        left = n_rows
        for chunk in self.chunks():
            frame = self._simply(chunk, wanted) if lenient else None
            if frame is None:
                rows = _rows(chunk, self.report)
                if not lenient:
                    self._check_keys(rows, schema)
                frame = self._fitted(rows, wanted, lenient=lenient)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    def _simply(self, chunk: Chunk, schema: pl.Schema) -> pl.DataFrame | None:
        """A chunk in which nothing is wrong; its keys are known by now."""
        if self.options.types:  # then line numbers may be asked for
            return None
        try:
            frame = pl.read_ndjson(chunk.data, schema=schema)
        except FAULTS:
            return None
        return cast_frame(frame, [], self.options, self.report)

    def _check_keys(self, rows: Rows, schema: pl.Schema) -> None:
        if new := set().union(*rows.values) - schema.keys():
            raise self._misfit(f"the key {min(new)[:80]!r} comes late")

    def _misfit(self, what: str) -> Misfit:
        return Misfit("unreadable_file", f"{self.name!r} cannot be read in one go: {what}.")

    def _fitted(self, rows: Rows, schema: pl.Schema, *, lenient: bool) -> pl.DataFrame:
        try:
            frame = pl.read_ndjson(rows.data, schema=schema)
        except FAULTS as error:
            if not lenient and not self.options.null_values:
                raise self._misfit(str(error)) from error
            rows = self._mended(rows, schema, lenient=lenient)
            frame, rows = self._halved(rows, schema)
        return cast_frame(frame, rows.numbers, self.options, self.report)

    def _mended(self, rows: Rows, schema: pl.Schema, *, lenient: bool) -> Rows:
        """With null for each value that does not fit."""
        lines = []
        for number, line, row in zip(rows.numbers, rows.lines, rows.values, strict=True):
            odd = [
                column
                for column, value in row.items()
                if column in schema and not _fits(value, schema[column])
            ]
            if not odd:
                lines.append(line)
                continue
            fitting = loads(line)
            odd = [column for column in odd if not _fits(fitting[column], schema[column])]
            for column in odd:
                value, fitting[column] = fitting[column], None
                if value in (self.options.null_values or ()):
                    continue
                if not lenient:
                    raise self._misfit(f"line {number} has another type")
                text = value if isinstance(value, str) else dumps(value).decode()
                why = f"not of the type {schema[column]} that the column's other values have"
                self.report.add("unparsable_cells", line=number, column=column, value=text, why=why)
            lines.append(dumps(fitting) if odd else line)
        return Rows(rows.numbers, lines, rows.values)

    def _halved(self, rows: Rows, schema: pl.Schema) -> tuple[pl.DataFrame, Rows]:
        """Without those lines that polars does not take, whatever the reason."""
        try:
            return pl.read_ndjson(rows.data, schema=schema), rows
        except FAULTS as error:
            if len(rows.lines) == 1:
                text, why = rows.lines[0][:1000].decode(errors="replace"), str(error).partition("\n")[0]
                self.report.add("unparsable_rows", line=rows.numbers[0], column=None, value=text, why=why)
                return pl.DataFrame(schema=schema), Rows([], [], [])
        middle = len(rows.lines) // 2
        halves = []
        for part in (slice(middle), slice(middle, None)):
            half = Rows(rows.numbers[part], rows.lines[part], rows.values[part])
            halves.append(self._halved(half, schema))
        (one, first), (other, second) = halves
        both = Rows(first.numbers + second.numbers, first.lines + second.lines, first.values + second.values)
        return pl.concat([one, other]), both


def _cast_schema(schema: pl.Schema, options: Options) -> pl.Schema:
    wanted = dtypes_of(options.types)
    return pl.Schema({column: wanted.get(column, dtype) for column, dtype in schema.items()})
