"""Reads JSON objects as rows of a table, chunk by chunk; values that do not fit their column are left out and reported.

This module does not depend on how a file contains the objects: it receives chunks of lines with one object each.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import polars as pl
from polars.exceptions import PanicException, PolarsError
from polars.io.plugins import register_io_source

from creemson.errors import ProcessingError
from creemson.formats.coerce import cast_frame, check_types, dtypes_of
from creemson.formats.json.numbers import (
    Digits,
    is_exact,
    is_number_type,
    may_round,
    may_round_in_text,
    number_texts,
    read_exact,
    rounded_within,
)
from creemson.formats.json.parsing import Chunk, Chunks, Number, Rows, dumps, is_strict, loads_exact, parse
from creemson.formats.json.plain import PlainLines, form_of
from creemson.formats.report import Report
from creemson.formats.table import MAX_COLUMNS, Needed, check_empty_cells, reading_of, text_of
from creemson.model.query import ColumnRef, Options

__all__ = [
    "SAMPLE_BYTES",
    "SAMPLE_ROWS",
    "Misfit",
    "Objects",
    "infer",
    "sample_of",
    "with_late_columns",
]

SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 16 << 20
"""Maximum size of the sample from which types are inferred, in rows and in bytes; the limit reached first applies."""
ROWS_AT_ONCE = 1_000
"""Number of rows of the sample from which polars infers types at once."""
MAX_MISFITS = 0.01
"""Maximum share of a column's values that may have another type than the others; above it, the column is text."""
INTEGER_RANGES = {
    pl.Int64: (-(1 << 63), 1 << 63),
    pl.UInt64: (0, 1 << 64),
}
"""Minimum of each integer type, and its maximum plus 1."""
POLARS_ERRORS = (PolarsError, PanicException)
"""Exceptions that polars raises if it cannot read some JSON."""


class Misfit(ProcessingError):  # noqa: N818 - not an error for clients: the engine tries the next reading
    """A value does not fit the types, which must be inferred again from the whole file."""


# --- types -------------------------------------------------------------------------------------------


def sample_of(chunks: Iterator[Chunk]) -> bytes:
    """Return the first lines of a file.

    Args:
        chunks: The chunks of the file.

    Returns:
        Complete lines: about :data:`SAMPLE_ROWS`, and not many more than :data:`SAMPLE_BYTES`.
    """
    sample, rows, size = [], 0, 0
    for chunk in chunks:
        sample.append(chunk.data)
        rows += len(chunk.numbers)
        size += len(chunk.data)
        if rows >= SAMPLE_ROWS or size >= SAMPLE_BYTES:
            break
    return b"".join(sample)


def infer(name: str, sample: bytes, words: Collection[str] | None = None) -> tuple[pl.Schema, bool]:
    """Infer the columns of a sample, and their types.

    Args:
        name: The file's name in messages.
        sample: Lines of the file.
        words: Words for a missing value.

    Returns:
        The types, and whether every line of the sample is an object that fits them.

    Raises:
        ProcessingError: ``unreadable_file``: the sample contains no object that has a key.
    """
    is_clean = not words
    rows: list[dict[str, Any]] = []
    try:
        dtypes = _infer_dtypes(sample) if is_clean else {}
    except POLARS_ERRORS:
        is_clean, dtypes = False, {}
    except RecursionError:  # polars compares types recursively
        raise ProcessingError(
            "unreadable_file", f"{name!r} nests values too deeply. Write such deep values as text."
        ) from None
    if not is_clean:
        rows = [loads_exact(line) for line in _parsed(sample).lines]
        for row in rows:
            _replace_null_words(row, words)
        dtypes = _infer_by_column(rows)
    if not dtypes:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} contains no JSON object that has a key: there is no table in it.{_first_fault(sample)}",
        )
    exact = _exact_dtypes(sample if is_clean else b"\n".join(map(dumps, rows)), dtypes)
    return pl.Schema({column: _without_null(dtype) for column, dtype in exact.items()}), is_clean


def _parsed(lines: bytes, report: Report | None = None) -> Rows:
    """Parse lines that are counted from 1."""
    return parse(Chunk(lines, range(1, lines.count(b"\n") + 2)), report)


def _first_fault(sample: bytes) -> str:
    """What is wrong with the first line that is no object, as a sentence; empty if there is none."""
    report = Report()
    _parsed(sample, report)
    for issue in report.issues().examples:
        if issue.value:
            return f" The first value, which begins with {issue.value[:40]!r}, is {issue.why}."
    return ""


def _exact_dtypes(lines: bytes, dtypes: dict[str, pl.DataType]) -> dict[str, pl.DataType]:
    """Replace the types that may not have all digits of their numbers."""
    doubtful = [name for name, dtype in dtypes.items() if dtype.is_integer() and dtype != pl.Int64]
    doubles = [name for name, dtype in dtypes.items() if dtype == pl.Float64]
    if doubles and not _reads_exactly(lines, dtypes):
        doubtful += doubles
    exact = dict(dtypes)
    for column in doubtful:
        try:
            texts = number_texts(lines, column)
        except POLARS_ERRORS:  # a line is not an object, which polars ignores while it infers types
            lines = _parsed(lines).data
            texts = number_texts(lines, column)
        exact[column] = Digits().add(texts).dtype
    return exact


def _reads_exactly(lines: bytes, dtypes: Mapping[str, pl.DataType]) -> bool:
    """Whether polars reads lines with all digits of their numbers."""
    schema = {column: _without_null(dtype) for column, dtype in dtypes.items()}
    try:
        return form_of(pl.read_ndjson(lines, schema=schema), lines.rstrip(b"\n") + b"\n") is not None
    except POLARS_ERRORS:
        return False


def _infer_dtypes(lines: bytes) -> dict[str, pl.DataType]:
    """Let polars infer types, some lines at a time, because its time grows with the product of lines and keys."""
    rows = [row for row in lines.split(b"\n") if row]
    dtypes: dict[str, pl.DataType] = {}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        try:
            part = _infer_at_once(b"\n".join(rows[start : start + ROWS_AT_ONCE]))
        except POLARS_ERRORS:  # all values together may have a common type
            return _infer_at_once(lines)
        for column, dtype in part.items():
            if dtypes.setdefault(column, dtype) != dtype:  # only all values together have the right type
                return _infer_at_once(lines)
    return dtypes


def _infer_at_once(lines: bytes) -> dict[str, pl.DataType]:
    dtypes: dict[str, pl.DataType] = dict(
        pl.scan_ndjson(io.BytesIO(lines), infer_schema_length=None).collect_schema()
    )
    if any(map(_has_struct_in_list, dtypes.values())):
        rows = _parsed(lines).values
        return {
            column: _in_order(dtype, [row.get(column) for row in rows]) for column, dtype in dtypes.items()
        }
    return dtypes


def _has_struct_in_list(dtype: Any, *, in_list: bool = False) -> bool:
    if isinstance(dtype, pl.List):
        return _has_struct_in_list(dtype.inner, in_list=True)
    if isinstance(dtype, pl.Struct):
        return in_list or any(_has_struct_in_list(field.dtype) for field in dtype.fields)
    return False


def _in_order(dtype: Any, values: Sequence[Any]) -> pl.DataType:
    """Put the fields of structs in the order in which they first appear.

    polars merges the types of a list's elements in hash tables, so that the order would differ from run to run.
    """
    if isinstance(dtype, pl.List):
        return pl.List(
            _in_order(dtype.inner, [one for value in values if isinstance(value, list) for one in value])
        )
    if isinstance(dtype, pl.Struct):
        objects = [value for value in values if isinstance(value, dict)]
        dtypes = dtype.to_schema()
        keys = dict.fromkeys(key for one in objects for key in one if key in dtypes) | dict.fromkeys(dtypes)
        return pl.Struct({key: _in_order(dtypes[key], [one.get(key) for one in objects]) for key in keys})
    result: pl.DataType = dtype
    return result


def _infer_by_column(rows: Sequence[dict[str, Any]]) -> dict[str, pl.DataType]:
    """Infer types; if the values of a column have no common type, only this column becomes text."""
    try:
        return _infer_dtypes(b"\n".join(map(dumps, rows))) if rows else {}
    except POLARS_ERRORS:
        columns: dict[str, list[bytes]] = {}
        for row in rows:
            for column, value in row.items():
                columns.setdefault(column, []).append(dumps({"": value}))
        return {column: _type_of(lines) for column, lines in columns.items()}


def _type_of(lines: list[bytes]) -> pl.DataType:
    try:
        return _infer_dtypes(b"\n".join(lines))[""]
    except POLARS_ERRORS:
        return pl.String()


def _without_null(dtype: Any) -> pl.DataType:
    """Replace types that polars could not write, or would lose later values with, by text.

    These are null types, structs without fields, and within lists and structs integers of 128 bits, whose text has all
    digits.
    """
    if dtype == pl.Null or dtype == pl.Struct({}):
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(_without_wide(_without_null(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _without_wide(_without_null(field.dtype)) for field in dtype.fields})
    result: pl.DataType = dtype
    return result


def _without_wide(dtype: pl.DataType) -> pl.DataType:
    return pl.String() if dtype in (pl.Int128, pl.UInt128) else dtype


def _replace_null_words(row: dict[str, Any], words: Collection[str] | None) -> None:
    """Replace words for a missing value by null, in place."""
    for column, value in row.items():
        if words and isinstance(value, str) and value in words:
            row[column] = None


def _fits(value: Any, dtype: pl.DataType) -> bool:
    """Whether a type has a value, with all its digits if it is a number.

    Args:
        value: A value as :func:`loads_exact` returns it.
        dtype: The type.
    """
    if value is None or dtype == pl.String:
        return True
    if isinstance(value, bool) or dtype == pl.Boolean:
        return isinstance(value, bool) and dtype == pl.Boolean
    for integer, (minimum, end) in INTEGER_RANGES.items():
        if dtype == integer:
            value = int(value.text) if isinstance(value, Number) and value.is_integer else value
            return isinstance(value, int) and minimum <= value < end
    if dtype.is_numeric():
        text = value.text if isinstance(value, Number) else str(value)
        return isinstance(value, (int, Number)) and is_exact(text, dtype)
    try:
        pl.read_ndjson(dumps({"": value}), schema={"": dtype})
    except POLARS_ERRORS:
        return False
    return True


def _fits_surely(value: Any, dtype: pl.DataType) -> bool:
    """Whether a type has a value that orjson has parsed, so that the digits of a fraction are not known."""
    return _fits(value, dtype) if not isinstance(value, float) or dtype == pl.String else False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Number)) and not isinstance(value, bool)


# --- columns whose keys come late ----------------------------------------------------------------------


def with_late_columns(
    name: str, chunks: Chunks, schema: pl.Schema, options: Options, named: Collection[ColumnRef]
) -> pl.Schema:
    """Return all columns of a file if some that are named are not in its sample, but further on; else those known.

    Args:
        name: The file's name in messages.
        chunks: Begins to read the file, and returns its chunks.
        schema: The columns and types of the file's sample.
        options: The columns of ``types`` are named, too.
        named: The columns that a request names.
    """
    late = {ref for ref in (*named, *(options.types or ())) if isinstance(ref, str)} - schema.keys()
    # Searching takes a tenth of the time of parsing, and most of such names are misspelled.
    signs = [sign for key in late for sign in (dumps(key), json.dumps(key).encode(errors="replace"))]
    if not any(sign in chunk.data for chunk in (chunks(Report()) if late else ()) for sign in signs):
        return schema
    return Objects(name, chunks, schema, Report(), attrs.evolve(options, types=None)).infer_from_file()


# --- the whole file ----------------------------------------------------------------------------------


@attrs.define
class Objects:
    """The objects of a file as lazy tables.

    Attributes:
        name: The file's name in messages.
        chunks: Begins to read the file, and returns its chunks.
        schema: The columns and types of the file's sample.
        report: Collects what is left out.
        options: ``types`` and ``null_values`` are used.
        texts: The columns of which the last reading that began also has the texts of numbers, in hidden columns.
    """

    name: str
    chunks: Chunks
    schema: pl.Schema
    report: Report
    options: Options = attrs.field(factory=Options)
    texts: frozenset[str] = attrs.field(default=frozenset(), init=False)

    def __attrs_post_init__(self) -> None:
        check_types(self.name, self.schema, self.options.types)

    def readings(self) -> list[Callable[[Needed], pl.LazyFrame]]:
        """Return the ways to read the objects, the fastest first; see :attr:`texts`."""
        return [
            reading_of(scan, clears=self.report, on_texts=partial(setattr, self, "texts"))
            for scan in (self.lines_left_out, self.cells_left_out)
        ]

    def lines_left_out(self) -> pl.LazyFrame:
        """Return a frame without the lines that are not objects; it fails at the first misfitting value or key."""
        return self._frame(self.schema, leaves_out_cells=False)

    def cells_left_out(self) -> pl.LazyFrame:
        """Return a frame without the values that do not fit, either; its types are those of :meth:`infer_from_file`."""
        return self._frame(self.infer_from_file(), leaves_out_cells=True)

    @property
    def cast_schema(self) -> pl.Schema:
        """The columns and types of the frame that :meth:`lines_left_out` returns."""
        return _cast_schema(self.schema, self.options)

    def infer_from_file(self) -> pl.Schema:
        """Read the whole file, and return all its columns with types that fit all, or nearly all, values."""
        schema = dict(self.schema)
        cells, misfits = Counter[str](), Counter[str]()
        wider: set[str] = set()  # columns whose type does not have all digits of their numbers
        count = size = 0
        for chunk in self.chunks(Report()):
            rows = parse(chunk, None)
            count, size = count + len(rows.lines), size + len(chunk.data)
            if new := set().union(*rows.values) - schema.keys():
                schema |= self._late_columns(rows, new)
                check_empty_cells(self.name, count, len(schema), size)
            try:
                frame = read_exact(rows.data, schema)
            except POLARS_ERRORS:
                for row in rows.values:
                    cells.update(column for column, value in row.items() if value is not None)
                for column, value in self._misfits(rows, schema):
                    if _is_number(value) and schema[column].is_numeric():
                        wider.add(column)
                    else:
                        misfits[column] += 1
            else:
                cells.update({column.name: column.count() for column in frame.iter_columns()})
        texts = {column for column in schema if misfits[column] > MAX_MISFITS * cells[column]}
        schema |= self._exact_types(wider - texts) | dict.fromkeys(texts, pl.String())
        return pl.Schema(schema)

    def _exact_types(self, columns: Collection[str]) -> dict[str, pl.DataType]:
        """Read the whole file for the types that have all digits of the numbers of some columns."""
        digits = {column: Digits() for column in columns}
        if digits:
            for chunk in self.chunks(Report()):
                data = parse(chunk, None).data
                for column in columns:
                    digits[column].add(number_texts(data, column))
        return {column: found.dtype for column, found in digits.items()}

    def _misfits(self, rows: Rows, schema: Mapping[str, pl.DataType]) -> Iterator[tuple[str, Any]]:
        """Yield the values that do not have their column's type, each with its column."""
        words = self.options.null_values or ()
        for line, row in zip(rows.lines, rows.values, strict=True):
            doubtful = [
                column
                for column, value in row.items()
                if not _fits_surely(value, schema[column]) and not (isinstance(value, str) and value in words)
            ]
            exact = loads_exact(line) if doubtful else {}
            for column in doubtful:
                if not _fits(exact[column], schema[column]):
                    yield column, exact[column]

    def _late_columns(self, rows: Rows, new: set[str]) -> dict[str, pl.DataType]:
        if len(self.schema) + len(new) > MAX_COLUMNS:
            raise ProcessingError(
                "unreadable_file",
                f"{self.name!r} has more than {MAX_COLUMNS:,} different keys. "
                "Move what distinguishes them into a column of its own.",
            )
        new_cells = [{key: row[key] for key in row if key in new} for row in rows.values]
        for row in new_cells:
            _replace_null_words(row, self.options.null_values)
        dtypes = _exact_dtypes(rows.data, _infer_by_column(new_cells))
        return {column: _without_null(dtype) for column, dtype in dtypes.items()}

    def _frame(self, schema: pl.Schema, *, leaves_out_cells: bool) -> pl.LazyFrame:
        return register_io_source(
            partial(self._batches, schema, leaves_out_cells),
            schema=_cast_schema(schema, self.options)
            | dict.fromkeys(map(text_of, self._numbers(schema)), pl.String()),
            is_pure=True,
        )

    def _numbers(self, schema: pl.Schema) -> list[str]:
        """The columns whose texts are kept: those of numbers that no other type is requested for."""
        casts = self.options.types or {}
        return [name for name, dtype in schema.items() if is_number_type(dtype) and name not in casts]

    def _batches(
        self,
        schema: pl.Schema,
        leaves_out_cells: bool,
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _: int | None,
    ) -> Iterator[pl.DataFrame]:
        """Yield batches of rows; polars calls it with what it pushes down (see :func:`register_io_source`)."""
        wanted = [*schema, *map(text_of, self._numbers(schema))] if columns is None else columns
        needed = pl.Schema(
            {name: schema[name] for name in schema if name in wanted or text_of(name) in wanted}
        )
        needed_and_hidden = [*needed, *map(text_of, self._numbers(needed))]
        left = n_rows
        plain = PlainLines(schema, self._numbers(needed))
        for chunk in self.chunks(self.report):
            frame = plain.read(chunk.data)
            if frame is not None:
                frame = self._cast(frame[needed_and_hidden], chunk.numbers)
            elif leaves_out_cells:
                frame = self._read_valid(chunk, needed)
            if frame is None:
                rows = parse(chunk, self.report)
                if not leaves_out_cells:
                    self._check_keys(rows, schema)
                frame = self._read_rows(rows, needed, leaves_out_cells=leaves_out_cells)
            frame = frame[list(wanted)] if wanted else frame
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    def _read_valid(self, chunk: Chunk, schema: pl.Schema) -> pl.DataFrame | None:
        """Let polars read a chunk; None if the chunk has errors. The schema already has all keys of the file."""
        if self.options.types or not is_strict(
            chunk.data
        ):  # their issues need line numbers, which polars does not return
            return None
        if _has_nested_doubles(schema) and may_round(chunk.data):
            return None
        try:
            frame = read_exact(chunk.data, schema, self._numbers(schema))
        except POLARS_ERRORS:
            return None
        if may_round_in_text(chunk.data, frame):
            return None
        return self._cast(frame, [])

    def _cast(self, frame: pl.DataFrame, numbers: Sequence[int]) -> pl.DataFrame:
        """Convert the values, but not their texts."""
        hidden = [name for name in frame.columns if name.startswith(text_of(""))]
        values = cast_frame(frame.drop(hidden), numbers, self.options, self.report)
        return values.with_columns(frame.get_column(name) for name in hidden)

    def _check_keys(self, rows: Rows, schema: pl.Schema) -> None:
        if new := set().union(*rows.values) - schema.keys():
            raise self._misfit(f"the key {min(new)[:80]!r} is missing in the first lines")

    def _misfit(self, why: str) -> Misfit:
        return Misfit("unreadable_file", f"{self.name!r} cannot be read in one pass: {why}.")

    def _read_rows(self, rows: Rows, schema: pl.Schema, *, leaves_out_cells: bool) -> pl.DataFrame:
        try:
            frame = read_exact(rows.data, schema, self._numbers(schema))
        except POLARS_ERRORS as error:
            if not leaves_out_cells and not self.options.null_values:
                raise self._misfit(str(error)) from error
            rows = self._without_misfits(rows, schema, leaves_out_cells=leaves_out_cells)
            frame, rows = self._bisect(rows, schema)
        if _has_nested_doubles(schema) or may_round_in_text(rows.data, frame):
            self._tell_rounded(rows, schema)
        return self._cast(frame, rows.numbers)

    def _tell_rounded(self, rows: Rows, schema: pl.Schema) -> None:
        """Report numbers within lists and objects that were rounded; those of columns are not."""
        for number, line in zip(rows.numbers, rows.lines, strict=True):
            for column, text in rounded_within(line, schema):
                why = "rounded, because a double does not have all its digits"
                self.report.add("unparsable_cells", line=number, column=column, value=text, why=why)

    def _without_misfits(self, rows: Rows, schema: pl.Schema, *, leaves_out_cells: bool) -> Rows:
        """Replace each value that does not fit by null, and report it."""
        lines = []
        for number, line, row in zip(rows.numbers, rows.lines, rows.values, strict=True):
            misfits = [
                column
                for column, value in row.items()
                if column in schema and not _fits_surely(value, schema[column])
            ]
            if not misfits:
                lines.append(line)
                continue
            exact = loads_exact(line)
            misfits = [column for column in misfits if not _fits(exact[column], schema[column])]
            for column in misfits:
                value, exact[column] = exact[column], None
                if value in (self.options.null_values or ()):
                    continue
                if not leaves_out_cells:
                    raise self._misfit(f"line {number} has another type")
                text = value if isinstance(value, str) else dumps(value).decode()
                why = f"not of the type {schema[column]} that the column's other values have"
                self.report.add("unparsable_cells", line=number, column=column, value=text, why=why)
            lines.append(dumps(exact) if misfits else line)
        return Rows(rows.numbers, lines, rows.values)

    def _bisect(self, rows: Rows, schema: pl.Schema) -> tuple[pl.DataFrame, Rows]:
        """Find the lines that polars refuses for any reason by halving; leave them out and report them."""
        try:
            return read_exact(rows.data, schema, self._numbers(schema)), rows
        except POLARS_ERRORS as error:
            if len(rows.lines) == 1:
                text, why = rows.lines[0][:1000].decode(errors="replace"), str(error).partition("\n")[0]
                self.report.add("unparsable_rows", line=rows.numbers[0], column=None, value=text, why=why)
                empty = dict.fromkeys(map(text_of, self._numbers(schema)), pl.String())
                return pl.DataFrame(schema={**schema, **empty}), Rows([], [], [])
        middle = len(rows.lines) // 2
        halves = []
        for part in (slice(middle), slice(middle, None)):
            half = Rows(rows.numbers[part], rows.lines[part], rows.values[part])
            halves.append(self._bisect(half, schema))
        (first_frame, first), (second_frame, second) = halves
        both = Rows(first.numbers + second.numbers, first.lines + second.lines, first.values + second.values)
        return pl.concat([first_frame, second_frame]), both


def _cast_schema(schema: pl.Schema, options: Options) -> pl.Schema:
    dtypes = dtypes_of(options.types)
    return pl.Schema({column: dtypes.get(column, dtype) for column, dtype in schema.items()})


def _has_nested_doubles(schema: pl.Schema) -> bool:
    """Whether there are lists or objects that have doubles."""
    return any(dtype.is_nested() and "Float64" in str(dtype) for dtype in schema.values())
