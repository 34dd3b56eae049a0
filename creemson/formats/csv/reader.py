"""Reads CSV files as lazy tables.

All cells are read as text and converted in the same streaming pass: so a cell that does not have its column's type
becomes null and can be reported, and the reading continues. polars reads the file directly if it supports the file's
dialect. Any other file, and a file in which an error is found later, is first repaired
(:mod:`creemson.formats.csv.repair`) into a temporary file, which polars reads.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import polars as pl
import polars.selectors as cs
from polars.exceptions import PanicException, PolarsError
from polars.io.plugins import register_io_source

from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats.blocks import scan_lines
from creemson.formats.columns import exactly, unused_name
from creemson.formats.csv.dialect import detect
from creemson.formats.csv.examined import Examined, KnownFiles
from creemson.formats.csv.file import CsvFile, RepairedCopy, head_after, line_map
from creemson.formats.csv.integrity.bytes import DelimiterCounter
from creemson.formats.csv.integrity.cells import CellCheck, report_misfits
from creemson.formats.csv.layout.text import ends_with_mark, last_bytes, may_have_notes
from creemson.formats.csv.lines import Lines
from creemson.formats.csv.repair import repaired
from creemson.formats.csv.sample import Sample, names_of, scan_options
from creemson.formats.csv.texts import exceptional, fixed_decimals, hidden_texts, shown_as_written
from creemson.formats.csv.values.columns import SampleColumns, convert
from creemson.formats.csv.values.controls import (
    CONTROL_BYTES,
    REPAIRED,
    mark_columns,
    report_repairs,
)
from creemson.formats.csv.values.inference import ColumnTypes, infer_columns
from creemson.formats.csv.values.kinds import TEXT
from creemson.formats.csv.values.types import null_words
from creemson.formats.imported.facts import Facts
from creemson.formats.report import Report
from creemson.formats.source import Source, named_tabs
from creemson.formats.table import Choose, Reread, Table, Workspace, check_width, text_of
from creemson.model.query import ColumnRef, Options
from creemson.model.results import Reading

__all__ = ["CsvReader", "open_csv"]

MAX_READINGS = 5
"""Maximum number of times that a file is read: unchanged, repaired, and again with other types or texts."""
HEAD_LINES = 1000
"""Number of lines that are read if the head of a file cannot be used."""
CONVERTED = "\0"
"""Prefix for the name of a converted column beside its text; names in files contain no NUL."""


def open_csv(
    path: Path,
    name: str,
    source: Source,
    *,
    needed: Collection[ColumnRef] | None,
    options: Options,
    report: Report,
    workspace: Workspace | None,
    known: KnownFiles | None = None,
) -> Table:
    """Detect the dialect, the columns and the types of a CSV.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        needed: The columns whose types matter; None for all.
        options: How to read the file; empty fields are detected.
        report: Collects what is repaired or lost.
        workspace: Where a repaired copy can be written; None if only the beginning of the file is read.
        known: Remembers small files.

    Returns:
        The table.

    Raises:
        InvalidFormat: ``invalid_message``: the options do not fit the file.
        ProcessingError: ``unreadable_file``.
        OSError: The file cannot be read.
    """
    examine = partial(_examine, path, name, source, options)
    if known is None or source.content is None:
        found = examine(report)
    else:
        found = known.examined(source.content, (repr(options), named_tabs(name)), examine, report)
    dialect, sample, columns, is_whole = found.dialect, found.sample, found.columns, found.is_whole
    names = frozenset(dialect.names) if options.types else frozenset()
    for column in options.types or ():
        if column not in names:
            raise _misfit(f"$.options.types: there is no column {column!r} in {name!r}")
    for column in options.date_format if isinstance(options.date_format, dict) else ():
        if column not in dialect.names:
            raise _misfit(f"$.options.date_format: there is no column {column!r} in {name!r}")
    types = infer_columns(columns, dialect.names, options, needed)
    types.kinds |= fixed_decimals(types.kinds, types.samples)
    reader = CsvReader(
        CsvFile(path, name, source, dialect),
        types,
        sample,
        columns if is_whole else None,
        needs_repair=sample.needs_repair or found.is_skipped,
        with_texts=set()
        if is_whole or workspace is None
        else exceptional(types.kinds, columns.shown_as_written(types.kinds)),
        report=report,
        workspace=workspace,
    )
    return Table(
        name=name,
        schema=types.schema,
        readings=(reader.read,) * MAX_READINGS,
        check=reader.check,
        window=reader.window,
        window_texts=reader.window_texts,
        window_values=reader.window_values,
        source=source,
        rows=None,
        row_bytes=len(sample.text) / max(1, sample.rows) / source.expansion,
        small=reader.small,
        small_texts=reader.small_texts,
        texts=reader.texts,
        headers=dialect.other_names,
        notations=types.notations,
        reading=reader.reading,
        report=report,
        facts=reader.facts,
    )


def _examine(path: Path, name: str, source: Source, options: Options, report: Report) -> Examined:
    """Find out how a CSV is written, and read its first rows."""
    head, is_whole = source.head, False
    if source.content is not None:
        head, is_whole = source.content, True
    # The head of a zstd file is empty; other files may have lines longer than the head.
    elif head.count(b"\n") < 2 and not source.is_whole:
        lines = scan_lines(path, ignore_rest=True, max_lines=HEAD_LINES).collect()
        head = "\n".join(cell or "" for cell in lines.to_series()).encode() + b"\n"
    # This check comes first, because polars takes a second or two and a gigabyte for a million columns.
    first = re.split(rb"[\r\n]", head, maxsplit=1)[0]
    check_width(name, max(first.count(delimiter) for delimiter in (b",", b";", b"\t", b"|")) + 1)
    skipped, has_all = 0, is_whole or source.is_whole
    detected = options
    if (options.skip_rows or 0) > head.count(b"\n") // 2 and not has_all:
        skipped = options.skip_rows or 0
        head, has_all = head_after(path, name, source, skipped), False
        detected = attrs.evolve(options, skip_rows=0)
    try:
        dialect = detect(head, detected, is_whole=has_all, prefers_tabs=named_tabs(name))
    except (LookupError, UnicodeError):
        raise _misfit(f"$.options.encoding: {name!r} is not {options.encoding!r} text") from None
    if source.compression is None and source.content is None:
        end, width = last_bytes(path), dialect.width + dialect.trailing
        if ends_with_mark(end) or may_have_notes(end, dialect.delimiter, width):
            dialect = attrs.evolve(dialect, has_end=True)
    if not dialect.width:
        raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.")
    sample = Sample.of(head, dialect, report, is_whole=has_all)
    if skipped:
        dialect = attrs.evolve(
            dialect,
            skip_lines=dialect.skip_lines + skipped,
            headers_again=tuple((line + skipped, text) for line, text in dialect.headers_again),
        )
    columns = SampleColumns(sample.scan(dialect, options.null_values))
    return Examined(dialect, sample, columns, is_whole=is_whole, is_skipped=skipped > 0)


class CsvReader:
    """Reads one CSV, several times if necessary: a reading may show that other types or repairs are needed.

    Args:
        file: The file.
        types: The types of the columns, inferred from the sample; revised if the file does not fit them.
        sample: The first rows of the file.
        columns: The columns of the sample, if it is the whole file.
        needs_repair: Whether polars cannot read the original file.
        with_texts: Columns of which some cells in the sample are written in another way than a CSV shows their values.
        report: Collects what is repaired or lost.
        workspace: Where a repaired copy can be written; None if only the beginning of the file is read.

    Attributes:
        small: The whole table, if the sample is the whole file.
        small_texts: Its hidden columns; None if none are needed.
    """

    def __init__(
        self,
        file: CsvFile,
        types: ColumnTypes,
        sample: Sample,
        columns: SampleColumns | None,
        *,
        needs_repair: bool,
        with_texts: set[str],
        report: Report,
        workspace: Workspace | None,
    ) -> None:
        self._file, self._types, self._head, self._report = file, types, sample.head, report
        self._reads_copy = needs_repair  # whether polars reads the repaired copy
        self._workspace = workspace
        self._copy = RepairedCopy(
            file, report, workspace, sample.lines, has_encoding=types.options.encoding is not None
        )
        # The names of temporary columns: the first cell beyond the last column, and the number of the row.
        self._surplus = unused_name("surplus", file.dialect.names)
        self._row = unused_name("row", file.dialect.names)
        self._is_unchecked = False  # a reading has begun, and check() has not been called after it
        self._counter: DelimiterCounter | None = None
        self._null_words = null_words(types.options)
        self._headers = dict(zip(file.dialect.names, file.dialect.headers, strict=False))
        self._cells = CellCheck(self._null_words)
        self._small: pl.DataFrame | None = None  # the cells of a small file as it writes them
        self._shown: frozenset[str] = frozenset()  # the columns whose cells an output shows
        # Columns of which a cell was written in another way than a CSV shows its value; others have no hidden column.
        self._exceptional = with_texts
        self._had_texts: frozenset[str] = frozenset()  # the hidden columns of the present reading
        # Whether a reading of some of the columns finds what the readings until now have found about these.
        self._is_exact = True
        self.small: pl.DataFrame | None = None
        self.small_texts: pl.DataFrame | None = None
        if columns is not None:
            cells = columns.texts
            self.small = self._converted(columns)
            if CONTROL_BYTES.search(sample.text) and self._mark_columns(cells.lazy()):
                self.small = columns.values(types.kinds)
            self._small = sample.scan(file.dialect) if types.options.null_values else cells
            if (
                workspace is not None
            ):  # only jobs store texts; without them, columns are described in 0.9 of the time
                shown = (
                    shown_as_written(self._small, self.small, types.kinds)
                    if types.options.null_values
                    else columns.shown_as_written(types.kinds)
                )
                self.small_texts = hidden_texts(
                    self._small, self.small, types.kinds, shown, have_words=bool(types.options.null_values)
                )
            if self._cells.misfits:
                self._report_misfits(cells.lazy().with_row_index(self._row), sample.lines)
            self._report_repairs(cells.lazy().with_row_index(self._row), sample.lines)
        elif CONTROL_BYTES.search(sample.text):
            self._mark_columns(sample.scan(file.dialect).lazy())

    def _converted(self, columns: SampleColumns) -> pl.DataFrame:
        """Convert a whole table; some cells that were not among the sampled ones may need other types."""
        for left in range(MAX_READINGS, 0, -1):
            small = columns.values(self._types.kinds)
            self._cells = CellCheck(self._null_words)
            self._cells.check_sample(columns.texts, small, self._types.kinds)
            misfits = self._cells.misfits
            if not misfits or left == 1 or not self._types.revise(misfits, columns.texts.lazy):
                break
        return small

    def reading(self) -> Reading:
        """Describe to clients how the file is read."""
        dialect, words = self._copy.file.dialect, self._types.null_words
        return Reading(
            format="csv",
            compression=self._file.source.compression,
            encoding=dialect.encoding,
            delimiter=dialect.delimiter,
            quote=dialect.quote,
            escape=dialect.escape,
            line_end=dialect.line_end,
            trailing_delimiter=dialect.trailing or None,
            header=dialect.header,
            skip_rows=dialect.skip_lines,
            null_values=None if words is None else tuple(words),
            comment=dialect.comment,
            footer_rows=self._copy.lines.footer_rows or None,
            decimal="," if self._types.has_decimal_commas() else ".",
            thousands=self._types.thousands(),
            date_format=self._types.options.date_format,
        )

    def texts(self, shown: Collection[str]) -> frozenset[str]:
        """Return, of the columns whose cells are shown, those of which the present reading has the texts."""
        self._shown = frozenset(shown)
        if self.small is not None:
            hidden = frozenset(() if self.small_texts is None else self.small_texts.columns)
            return frozenset(name for name in shown if text_of(name) in hidden)
        has_words = bool(self._types.options.null_values)
        return frozenset(name for name in shown if has_words or self._needs_texts(name))

    def _needs_texts(self, name: str) -> bool:
        kind = self._types.kinds[name]
        return kind is not TEXT and (name in self._exceptional or not kind.shown)

    def read(self, needed: Callable[[pl.Schema], Sequence[str]]) -> pl.LazyFrame:
        """Begin a reading; after the frame has been collected, :meth:`check` must be called.

        Args:
            needed: Chooses the columns that are needed, given those that exist; also hidden columns of texts.

        Returns:
            A lazy frame of the needed columns.

        Raises:
            ProcessingError: ``unreadable_file``: the previous reading has failed, although the file was repaired.
        """
        if self._is_unchecked:  # the previous reading has failed
            if self._copy.failure is not None:
                raise self._copy.failure
            if self._reads_copy:
                raise ProcessingError("unreadable_file", f"{self._file.name!r} cannot be read as a CSV.")
            if self._counter is not None:
                self._counter.join()  # it must not read the file longer than the caller expects
            self._reads_copy = True
            self._is_exact = False  # polars decodes only the columns that it reads
        self._is_unchecked = True
        self._cells = CellCheck(self._null_words)
        if not self._reads_copy:
            self._counter = DelimiterCounter(self._file, self._head)
        kinds = self._types.kinds
        chosen = list(needed(self._types.schema))
        hidden = frozenset(chosen).intersection(map(text_of, kinds))
        names = [name for name in chosen if name not in hidden]
        self._had_texts = frozenset(name for name in names if text_of(name) in hidden)
        frame = self._scan()
        if self._types.options.null_values:
            texts = (exactly(name).alias(text_of(name)) for name in names if text_of(name) in hidden)
            frame = self._blanked(frame.with_columns(texts))
        # polars converts the cells here, and `_checked` only compares: converting there would take 1.5 times as long.
        frame = frame.select(
            *map(exactly, names),
            self._surplus,
            *(map(exactly, hidden) if self._types.options.null_values else ()),
            *(
                kinds[name].convert(exactly(name)).alias(f"{CONVERTED}{name}")
                for name in names
                if kinds[name] is not TEXT
            ),
        )
        return frame.map_batches(
            partial(self._checked, names, hidden),
            streamable=True,
            predicate_pushdown=False,
            projection_pushdown=False,
            schema={name: kinds[name].dtype for name in names}
            | {text_of(name): pl.String() for name in names if text_of(name) in hidden},
        )

    def check(self) -> None:
        """Check that the reading has lost nothing, and report the cells that became null.

        Raises:
            Reread: The file has to be read again.
        """
        self._is_unchecked = False
        found_controls = self._copy.has_controls
        if not self._reads_copy:
            assert self._counter is not None
            count = self._counter.result()
            found_controls = count.has_controls or self._cells.has_controls
            if (
                self._cells.surplus
                or count.has_marks
                or count.has_loose_quotes
                or self._cells.has_marks
                or not count.fit(self._file, self._cells.rows, self._rows)
            ):
                self._reads_copy = True
                self._is_exact &= not self._cells.has_marks  # those of columns that are not read are not seen
                raise Reread
        lacks_texts = self._workspace is not None and any(
            self._needs_texts(name) for name in self._exceptional & self._shown - self._had_texts
        )
        kinds = dict(self._types.kinds)
        if self._types.revise(self._cells.misfits, lambda: self._blanked(self._scan())):
            # Cells that do not fit were written in several ways: a reading that only shows this is saved.
            self._exceptional.update(name for name in kinds if self._types.kinds[name] != kinds[name])
            raise Reread
        if found_controls and self._mark_columns(self._scan()):
            raise Reread
        if lacks_texts:
            raise Reread
        is_repaired = REPAIRED in self._types.kinds.values()
        # Without a workspace, nobody needs the report.
        if (self._cells.misfits or is_repaired) and self._workspace is not None:
            lines = self._copy.lines if self._reads_copy else line_map(self._file, self._cells.rows)
            self._report_misfits(self._blanked(self._scan(row_index_name=self._row)), lines)
            self._report_repairs(self._scan(row_index_name=self._row), lines)

    def facts(self) -> Facts | None:
        """Return what a description of some columns needs; see :attr:`creemson.formats.table.Table.facts`."""
        options, dialect = self._types.options, self._file.dialect
        if (
            not self._is_exact
            or self._types.are_linked
            or options.types
            or isinstance(options.date_format, dict)
        ):
            return None
        return Facts(
            words=self._types.words,
            typed_at_first=self._types.typed_at_first,
            typed=frozenset(name for name, kind in self._types.kinds.items() if kind is not TEXT),
            commas=self._types.commas(),
            thousands={} if options.thousands else self._types.signs(),
            width=dialect.width if dialect.header else 0,
            headers_again=frozenset(line + 1 for line, _ in dialect.headers_again),
        )

    def window(self, choose: Choose) -> pl.DataFrame:
        """Read some rows; all rows before them are read, too.

        Args:
            choose: Chooses rows; called with the cells as texts.

        Returns:
            The rows, with the types of the columns.
        """
        if self.small is not None:
            return choose(self.small.lazy()).collect()
        return self._window(lambda cells: self._convert(choose(cells)))

    def window_texts(self, choose: Choose) -> pl.DataFrame:
        """Return what ``choose`` makes of all cells as the file writes them; if polars fails, it is called again."""
        names = list(map(exactly, self._types.kinds))
        if self._small is not None:
            return choose(self._small.lazy().select(names)).collect()
        return self._window(lambda cells: choose(cells.select(names)).collect(engine="streaming"))

    def window_values(self, choose: Choose) -> pl.DataFrame:
        """Return what ``choose`` makes of all values, of the types that are known by now; see :meth:`window_texts`."""
        if self.small is not None:
            return choose(self.small.lazy()).collect()
        columns = [kind.convert(exactly(name)).alias(name) for name, kind in self._types.kinds.items()]
        return self._window(
            lambda cells: choose(self._blanked(cells).select(columns)).collect(engine="streaming")
        )

    def _window(self, read: Callable[[pl.LazyFrame], pl.DataFrame]) -> pl.DataFrame:
        """Read the original file; if polars cannot read it, read its repaired rows."""
        if not self._reads_copy:
            with suppress(PolarsError, PanicException):
                return read(self._scan())
        return read(self._repaired())

    def _scan(self, **extra_options: Any) -> pl.LazyFrame:
        """Scan all cells as the file writes them; ``extra_options`` are further arguments of ``pl.scan_csv``."""
        if self._reads_copy and self._workspace is None:
            return self._repaired()
        dialect = repaired(self._file.dialect) if self._reads_copy else self._file.dialect
        path = self._copy.path() if self._reads_copy else self._file.path
        return pl.scan_csv(path, **scan_options(dialect), **extra_options)

    def _blanked(self, texts: pl.LazyFrame) -> pl.LazyFrame:
        """Replace the words for a missing value that the request gives by null, but not in hidden columns."""
        words = self._types.options.null_values
        if not words:
            return texts
        cells = cs.string() - cs.starts_with(text_of(""))
        return texts.with_columns(pl.when(~cells.is_in(list(words))).then(cells))

    def _repaired(self) -> pl.LazyFrame:
        """Scan all cells as the file writes them; rows are repaired on the way, so no copy is written."""
        names = names_of(self._file.dialect)
        return register_io_source(
            self._repaired_batches, schema=pl.Schema(dict.fromkeys(names, pl.String())), is_pure=True
        )

    def _repaired_batches(
        self, columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield batches of rows; polars calls it with what it pushes down (see :func:`register_io_source`)."""
        options = scan_options(repaired(self._file.dialect))
        del options["glob"]
        left = n_rows
        with closing(self._copy.chunks(Report())) as chunks:
            for chunk in chunks:
                frame = pl.read_csv(chunk.text.encode(), **options)
                if left is not None:
                    frame = frame.head(left)
                    left -= frame.height
                if predicate is not None:
                    frame = frame.filter(predicate)
                yield frame if columns is None else frame.select(map(exactly, columns))
                if left == 0:
                    return

    def _rows(self) -> int:
        rows: int = self._scan().select(pl.len()).collect().item()
        return rows

    def _checked(self, names: Sequence[str], hidden: Collection[str], batch: pl.DataFrame) -> pl.DataFrame:
        """Compare a batch's texts with its converted columns, and return these; polars calls this from any thread.

        Args:
            names: The columns.
            hidden: The hidden columns that are to be returned, too.
            batch: Texts, converted columns, and the texts with words for missing values if they are others.
        """
        kinds = self._types.kinds
        converted = pl.DataFrame(
            [
                batch.get_column(name)
                if kinds[name] is TEXT
                else batch.get_column(f"{CONVERTED}{name}").alias(name)
                for name in names
            ]
        )
        as_written = shown_as_written(batch, converted, kinds)
        self._cells.check_batch(batch, converted, kinds, self._surplus, intact=as_written)
        if not self._reads_copy:
            dialect = self._file.dialect
            others = [name for name in names if name not in as_written]
            if others:
                cells = batch.select(map(exactly, others))
                if self._file.source.compression:
                    self._cells.check_marks(cells)
                if dialect.quote and dialect.delimiter != " ":
                    self._cells.check_blanks(cells, dialect.quote)
            if dialect.header == 1 and dialect.width > 1:
                self._cells.check_header(batch.select(map(exactly, names)), self._headers)
        shown: list[pl.Series] = []
        for name in names:
            is_needed = kinds[name] is not TEXT and name not in as_written
            if text_of(name) in hidden:
                texts = batch.get_column(text_of(name) if self._types.options.null_values else name)
                is_needed |= texts.null_count() < converted.get_column(name).null_count()
                shown.append((texts if is_needed else texts.clear(len(texts))).alias(text_of(name)))
            elif is_needed and name in self._shown:
                self._exceptional.add(name)
        return converted.hstack(shown) if shown else converted

    def _convert(self, scan: pl.LazyFrame) -> pl.DataFrame:
        texts = self._blanked(scan).collect(engine="streaming")
        values = convert(texts, self._types.kinds)
        self._cells.check_batch(texts, values, self._types.kinds, self._surplus)
        return values

    def _mark_columns(self, texts: pl.LazyFrame) -> bool:
        """Find the needed columns of text in which control characters stand for others; whether there are new ones."""
        return mark_columns(self._types.kinds, texts, self._needed_names())

    def _needed_names(self) -> list[str]:
        """The columns whose types matter."""
        samples, types = self._types.samples, self._types.options.types or {}
        return [name for name in self._types.kinds if name in samples or name in types]

    def _report_repairs(self, texts: pl.LazyFrame, lines: Lines) -> None:
        """Report the cells that were repaired; ``texts`` also has the column of row numbers."""
        report_repairs(
            texts,
            self._row,
            kinds=self._types.kinds,
            names=self._needed_names(),
            lines=lines,
            report=self._report,
        )

    def _report_misfits(self, texts: pl.LazyFrame, lines: Lines) -> None:
        """Report the cells that do not have their column's type; ``texts`` also has the column of row numbers."""
        kinds = {name: kind for name, kind in self._types.kinds.items() if name in self._cells.misfits}
        typed = sum(kind is not TEXT for kind in self._types.kinds.values())
        dialect = self._file.dialect
        report_misfits(
            texts,
            self._row,
            kinds,
            lines,
            self._report,
            null_words=self._null_words,
            typed=typed if dialect.header and (typed > 1 or typed == dialect.width) else 0,
            known=[line for line, _ in dialect.headers_again],
        )


def _misfit(detail: str) -> InvalidFormat:
    return InvalidFormat("invalid_message", f"The request does not fit the file: {detail}.", details=[detail])
