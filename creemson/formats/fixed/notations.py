"""Reads numbers and dates of fixed-width text that are written as the request says, by the rules of a CSV."""

from collections.abc import Mapping
from functools import partial

import attrs
import polars as pl

from creemson.errors import InvalidFormat
from creemson.formats.blocks import LINE
from creemson.formats.csv.values.columns import SampleColumns
from creemson.formats.csv.values.inference import infer_columns
from creemson.formats.csv.values.kinds import TEXT, Kind
from creemson.formats.report import Report
from creemson.formats.types import DTYPES
from creemson.model.query import Options

__all__ = ["Notations", "find_notations"]


@attrs.frozen
class Notations:
    """The columns that are written in a notation of the request.

    Attributes:
        requested: Columns whose type or pattern the request names: a cell that does not fit is null and reported.
        found: Columns of which all cells of a sample fit: a later cell that does not fit is an error.
        options: The options for all other columns.
    """

    requested: Mapping[str, Kind]
    found: Mapping[str, Kind]
    options: Options

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kinds of all these columns."""
        return {**self.found, **self.requested}

    def convert(self, cells: pl.LazyFrame, report: Report, *, has_found: bool) -> pl.LazyFrame:
        """Convert the columns, batch by batch.

        Args:
            cells: Text, and :data:`~creemson.formats.blocks.LINE`.
            report: Collects the cells that do not fit.
            has_found: Whether the columns that were found are converted, too.
        """
        kinds = self.kinds if has_found else dict(self.requested)
        if not kinds:
            return cells
        schema = cells.collect_schema() | {name: kind.dtype for name, kind in kinds.items()}
        return cells.map_batches(
            partial(self._convert_batch, kinds, report),
            schema=schema,
            streamable=True,
            predicate_pushdown=False,
            projection_pushdown=False,
            slice_pushdown=False,
        )

    def _convert_batch(self, kinds: Mapping[str, Kind], report: Report, batch: pl.DataFrame) -> pl.DataFrame:
        columns = []
        for name, kind in kinds.items():
            texts = batch.get_column(name)
            values = kind.converted(texts)
            values = values.set(kind.alters(texts), None)  # a value with fewer digits than its text is none
            is_lost = values.is_null() & texts.is_not_null()
            if is_lost.any():
                if name in self.found:
                    raise pl.exceptions.InvalidOperationError(f"a cell is no {kind.name}")
                why = f"not {'an' if kind.name[0] in 'aeio' else 'a'} {kind.name}"
                lines = batch.get_column(LINE).filter(is_lost)
                for line, value in zip(lines, texts.filter(is_lost), strict=True):
                    report.add("unparsable_cells", line=line, column=name, value=value, why=why)
            columns.append(values.alias(name))
        return batch.with_columns(columns)


def find_notations(name: str, sample: pl.DataFrame, options: Options) -> Notations:
    """Find the columns that are written in a notation of the request.

    Args:
        name: The file's name in messages.
        sample: Some rows as text, with null in place of the words for a missing value.
        options: ``thousands``, ``date_format``, ``decimal`` and ``types`` are used.

    Raises:
        InvalidFormat: ``invalid_message``: ``date_format`` names a column that does not exist.
    """
    types = options.types or {}
    patterns = options.date_format if isinstance(options.date_format, dict) else {}
    for column in patterns:
        if column not in sample.columns:
            detail = f"$.options.date_format: there is no column {column!r} in {name!r}"
            raise InvalidFormat(
                "invalid_message", f"The request does not fit the file: {detail}.", details=[detail]
            )
    if options.thousands is None and options.date_format is None:
        return Notations({}, {}, options)
    columns, options_of_text = SampleColumns(sample), attrs.evolve(options, null_values=())
    kinds = infer_columns(columns, sample.columns, options_of_text, None).kinds
    requested = {
        column: kinds[column]
        for column in sample.columns
        if column in patterns or (column in types and _is_written(DTYPES[types[column]], options))
    }
    found = {
        column: kind
        for column, kind in kinds.items()
        if column not in types
        and column not in patterns
        and kind is not TEXT
        and (kind.thousands or (kind.dtype.is_temporal() and kind.notation == options.date_format))
        and kind.converted(sample.get_column(column)).null_count() == sample.get_column(column).null_count()
    }
    left = {column: dtype for column, dtype in types.items() if column not in requested}
    return Notations(requested, found, attrs.evolve(options, types=left or None))


def _is_written(dtype: pl.DataType, options: Options) -> bool:
    """Whether the options say how values of a requested type are written."""
    if dtype.is_temporal():
        return isinstance(options.date_format, str)
    return dtype.is_numeric() and options.thousands is not None
