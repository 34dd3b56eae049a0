"""CSV files as lazy tables.

All cells are read as text, in one streaming pass, and converted on their way: so a cell that is not of its column's
type is a null that can be told, and no failure. polars reads files itself that are written as it likes; any other file,
and one in which it turns out later that something is wrong, is mended first (:mod:`creemson.processing.mending`),
into a temporary file that polars reads.
"""

import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import polars as pl
from polars.exceptions import PanicException, PolarsError

from creemson.errors import InvalidFormat, ProcessingError
from creemson.processing.conversion import (
    NO_NUMBER,
    TEXT,
    Kind,
    grouped,
    kind_named,
    look,
    shapes_in,
    shapes_of,
    thousands,
)
from creemson.processing.dialect import Dialect, detect
from creemson.processing.formats import HEAD_BYTES, Sniffed, named_tabs
from creemson.processing.issues import REJECTS_MOST, Report
from creemson.processing.mending import Lines, mend, mended
from creemson.processing.naming import exactly, unnamed
from creemson.processing.unpacking import blocks
from creemson.wire.messages import ColumnRef, Options, Reading

__all__ = ["ATTEMPTS", "CsvSource", "Reread", "Workspace", "lines_of"]

MARKERS = ("NA", "N/A", "n/a", "NULL", "null", "NaN", "nan", "None", "-", "?", ".")
"""Words for a missing value. A file means it so if such a word stands in a column whose other cells are
numbers, dates or truth values. A file that does so in one column does so in all of them, its columns of
text included (R writes "NA" everywhere); in a file that does not, "NA" in a column of text is Namibia."""
Nulls: TypeAlias = Sequence[str] | Mapping[str, str] | None
"""Words for a missing value: of all columns, or one of each."""
CACHED_BYTES = 1 << 18
"""Of a buffer that stays in a processor's cache."""
ATTEMPTS = 4
"""Readings of a file: as it is; mended; and again with other types."""
LOST_SHAPES = 100
"""Cells of a column that are not of its type, by which it is decided what it may be instead."""
CONVERTED = "\0"
"""Before the name of a column that has been converted, beside the one that it was made of; no name has NUL in it."""
SURPLUS, ROW = "surplus", "row"
"""Names of columns of ours: the cell beyond the last column; the number of the row."""


class Reread(Exception):  # noqa: N818 - nothing went wrong
    """What was read is not what the file says: it is read again, in another way."""


@attrs.define
class Workspace:
    """Where a file can be mended, and who is told how far that is.

    Attributes:
        path: of a temporary file, which its owner removes.
        tick: is told the bytes that were read; what it raises stops the work.
    """

    path: Path
    tick: Callable[[int], None] = lambda _: None


class CsvSource:
    """One CSV file, and all that is known about it; more is known after each reading.

    Args:
        path: of the file.
        name: what to call it in messages.
        sniffed: what it is.
        head: its first lines.
        whole: whether that is all of it.
        options: what is known of it.
        wanted: the columns whose types matter; None: all.
        report: is told what is mended, or lost.
        workspace: for mending; None where only the beginning is read.

    Raises:
        InvalidFormat: ``invalid_message``: the options do not fit the file.
        ProcessingError: ``unreadable_file``.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        sniffed: Sniffed,
        head: bytes,
        *,
        whole: bool,
        options: Options,
        wanted: Collection[ColumnRef] | None,
        report: Report,
        workspace: Workspace | None,
    ) -> None:
        self._path, self._name, self._sniffed = path, name, sniffed
        self._options, self._report, self._workspace = options, report, workspace
        skipped = 0
        if (options.skip_rows or 0) > head.count(b"\n") // 2 and not whole:
            skipped = options.skip_rows or 0
            head = self._after(skipped)
            options = attrs.evolve(options, skip_rows=0)
        try:
            found = detect(head, options, whole=whole, tabs=named_tabs(name))
        except (LookupError, UnicodeError):
            raise _misfit(f"$.options.encoding: {name!r} is not {options.encoding!r} text") from None
        if not found.width:
            raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.")
        self.dialect = attrs.evolve(found, skip_lines=found.skip_lines + skipped)
        self._head = head
        self._lines = Lines()
        chunks = list(mend((head,), found, report, self._lines, final=whole))
        self.sample = "".join(chunk.text for chunk in chunks).encode()
        self.rows = sum(chunk.rows for chunk in chunks)
        self.small: pl.DataFrame | None = None
        self.kinds: dict[str, Kind] = dict.fromkeys(self.dialect.names, TEXT)
        self._nulls: Nulls = options.null_values
        # What is wrong at the beginning is wrong further on.
        self._mended = bool(report) or not found.plain or skipped > 0 or not self._untouched(head)
        self._made = False
        self._trying = False
        self._count: _Count | None = None
        self._watch = _Watch()
        self._learn(whole=whole, wanted=wanted)

    # --- what is known -------------------------------------------------------------------------------

    @property
    def schema(self) -> pl.Schema:
        """The columns and their types, as far as they are known."""
        return pl.Schema({name: kind.dtype for name, kind in self.kinds.items()})

    def forms(self) -> dict[str, str]:
        """How the dates and times of the columns are written, in the signs of strftime."""
        return {
            name: kind.form for name, kind in self.kinds.items() if kind.dtype.is_temporal() and kind.form
        }

    def reading(self) -> Reading:
        """How the file is read, as clients are told."""
        dialect = self.dialect
        nulls = self._nulls or ()
        words = dict.fromkeys(nulls.values() if isinstance(nulls, Mapping) else nulls)
        return Reading(
            format="csv",
            compression=self._sniffed.compression,
            encoding=dialect.encoding,
            delimiter=dialect.delimiter,
            quote=dialect.quote,
            escape=dialect.escape,
            line_end=dialect.line_end,
            header=dialect.header,
            skip_rows=dialect.skip_lines,
            null_values=tuple(words),
            decimal="," if any(kind.form == "," for kind in self.kinds.values()) else ".",
        )

    def _untouched(self, head: bytes) -> bool:
        """Whether mending leaves the sample as it is, but for returns: empty lines are left out without a word."""
        start = 0
        for _ in range(self.dialect.skip_lines + self.dialect.header_lines):
            start = head.find(b"\n", start) + 1
        return head[start:].replace(b"\r\n", b"\n").startswith(self.sample.rstrip(b"\n"))

    def _learn(self, *, whole: bool, wanted: Collection[ColumnRef] | None) -> None:
        """The types of the columns, by the sample; if that is all there is, the table."""
        names, options = self.dialect.names, self._options
        given = options.types or {}
        for name in given:
            if name not in names:
                raise _misfit(f"$.options.types: there is no column {name!r} in {self._name!r}")
        looked = list(names)
        if wanted is not None:
            asked = {names[ref] if isinstance(ref, int) and ref < len(names) else ref for ref in wanted}
            looked = [name for name in names if name in asked]
        frame = self._texts()
        if self._nulls is None and (found := self._markers(frame)):
            self._nulls = found
            frame = self._texts()
        shapes = self._shapes = shapes_in(frame, looked)
        free = [name for name in looked if name not in given]
        self.kinds |= look(frame, free, shapes, options.decimal)
        points = [name for name in free if self.kinds[name].name == "float64" and thousands(shapes[name])]
        if points and self._decimal_commas(frame, [name for name in names if name not in looked]):
            self.kinds |= dict.fromkeys(points, TEXT)
        self.kinds |= {
            name: kind_named(dtype, shapes_of(cells := frame.get_column(name)), options.decimal, cells)
            for name, dtype in given.items()
        }
        if whole:
            self.small = frame.select(self.kinds[name].convert(exactly(name)).alias(name) for name in names)
            self._watch.see_all(frame, self.small, self.kinds)
            if self._watch.lost:
                self._tell_lost(frame.lazy().with_row_index(_free_name(ROW, names)), self._lines)

    def _decimal_commas(self, frame: pl.DataFrame, others: Sequence[str]) -> bool:
        """Whether a column has decimal commas, be it one whose type nobody needs; then 1.000 may be a thousand."""
        shapes = shapes_in(frame, others)
        kinds = [*self.kinds.values(), *look(frame, others, shapes, self._options.decimal).values()]
        return any(kind.form == "," for kind in kinds)

    def _texts(self) -> pl.DataFrame:
        """The sample, as it stands there."""
        return pl.scan_csv(self.sample, **self._format(mended(self.dialect))).collect()

    def _markers(self, frame: pl.DataFrame) -> dict[str, str]:
        """The word for a missing value in each column."""
        given = self._options.types or {}
        names = [
            name for name in self.dialect.names if given.get(name) != "string"
        ]  # whose cells are to be kept
        suspects: list[str] = []
        for group, part in grouped(frame, names):
            found = part.select(pl.all().is_in(MARKERS).any()).row(0)
            suspects += compress(group, found)
        if not suspects:
            return {}
        words = {
            name: min(set(unnamed(frame.get_column(name)).unique()).intersection(MARKERS), key=MARKERS.index)
            for name in suspects
        }
        rest = frame.select(
            pl.when(exactly(name) != words[name]).then(exactly(name)).alias(name) for name in suspects
        )
        shapes = shapes_in(rest, suspects)
        kinds = look(rest, suspects, shapes, self._options.decimal)
        used = {words[name] for name in suspects if kinds[name] is not TEXT}
        convention = min(used, key=MARKERS.index, default=None)
        if convention is None:
            return {}
        return {name: words[name] if words.get(name) in used else convention for name in names}

    def _format(self, dialect: Dialect) -> dict[str, Any]:
        """How polars is to read all cells as texts."""
        names = [*dialect.names, _free_name(SURPLUS, dialect.names)]
        return {
            "separator": dialect.delimiter,
            "quote_char": dialect.quote or None,
            "has_header": False,
            "skip_lines": dialect.skip_lines + dialect.header_lines,
            "schema": dict.fromkeys(names, pl.String()),
            "null_values": dict(self._nulls)
            if isinstance(self._nulls, Mapping)
            else self._nulls and list(self._nulls),
            "missing_columns": "insert",
            "extra_columns": "ignore",
            "glob": False,
        }

    # --- readings ------------------------------------------------------------------------------------

    def read(self, needed: Callable[[pl.Schema], Sequence[str]]) -> pl.LazyFrame:
        """A lazy frame of some columns; when it was used, :meth:`check` tells whether it is to be believed.

        Args:
            needed: the columns that are needed, of those that there are.
        """
        if self._trying:  # the last one has failed
            if self._mended:
                raise ProcessingError("unreadable_file", f"{self._name!r} cannot be read as a CSV.")
            if self._count is not None:
                self._count.join()  # it would go on reading a file that its owner may change when this has ended
            self._mended = True
        self._trying = True
        self._watch = _Watch()
        if not self._mended:
            self._count = _Count(self._count_signs)
        names = list(needed(self.schema))
        surplus = _free_name(SURPLUS, self.dialect.names)
        # The engine converts, and a tap compares: to convert in the tap costs half as much again.
        frame = self._scan().select(
            *map(exactly, names),
            surplus,
            *(
                self.kinds[name].convert(exactly(name)).alias(f"{CONVERTED}{name}")
                for name in names
                if self.kinds[name] is not TEXT
            ),
        )
        return frame.map_batches(
            partial(self._seen, names),
            streamable=True,
            predicate_pushdown=False,
            projection_pushdown=False,
            schema={name: self.kinds[name].dtype for name in names},
        )

    def check(self) -> None:
        """Look at what the reading has met; tell what was lost.

        Raises:
            Reread: the file has to be read again.
        """
        self._trying = False
        watch = self._watch
        if not self._mended:
            # polars fills short rows without a word, and takes NUL for a character.
            assert self._count is not None
            delimiters, nul = self._count.result()
            if watch.surplus or nul or not self._even(delimiters, watch.rows):
                self._mended = True
                raise Reread
        given = self._options.types or {}
        doubtful = [name for name in watch.lost if name not in given]
        if doubtful:
            texts = self._scan().select(map(exactly, doubtful))
            shapes = {name: [*self._shapes[name], *watch.lost[name]] for name in doubtful}
            kinds = look(texts, doubtful, shapes, self._options.decimal)
            changed = {name: kind for name, kind in kinds.items() if kind != self.kinds[name]}
            if changed:
                self.kinds |= changed
                raise Reread
        if watch.lost:
            row = _free_name(ROW, self.dialect.names)
            self._tell_lost(self._scan(row_index_name=row), self._line_map())

    def window(self, offset: int, limit: int) -> pl.DataFrame:
        """Some rows, read from the first one on."""
        names = list(self.dialect.names)
        if self.small is not None:
            return self.small.slice(offset, limit)
        if not self._mended:
            with suppress(PolarsError, PanicException):
                return self._convert(names, self._scan().slice(offset, limit).collect(engine="streaming"))
        found: list[pl.DataFrame] = []
        before, form = 0, self._format(mended(self.dialect))
        with closing(self._blocks()) as pieces:
            for chunk in mend(pieces, self.dialect, self._report):
                after = before + chunk.rows
                if after > offset:
                    part = pl.read_csv(
                        chunk.text.encode(), **{key: form[key] for key in form if key != "glob"}
                    )
                    found.append(part.slice(max(0, offset - before), offset + limit - max(before, offset)))
                before = after
                if before >= offset + limit:
                    break
        return self._convert(names, pl.concat(found)) if found else pl.DataFrame(schema=self.schema)

    def _scan(self, **more: Any) -> pl.LazyFrame:
        """All cells as texts."""
        if not self._mended:
            return pl.scan_csv(self._path, **self._format(self.dialect), **more)
        if not self._made:
            self._mend()
        assert self._workspace is not None
        return pl.scan_csv(self._workspace.path, **self._format(mended(self.dialect)), **more)

    def _seen(self, names: Sequence[str], batch: pl.DataFrame) -> pl.DataFrame:
        """The converted columns of a batch, which is shown to the watch. Called by polars, from any thread."""
        made = pl.DataFrame(
            [
                batch.get_column(name)
                if self.kinds[name] is TEXT
                else batch.get_column(f"{CONVERTED}{name}").alias(name)
                for name in names
            ]
        )
        self._watch.see(batch, made, self.kinds, _free_name(SURPLUS, self.dialect.names))
        return made

    def _convert(self, names: Sequence[str], batch: pl.DataFrame) -> pl.DataFrame:
        """Texts to what they mean, and what they do not mean to the watch. Called by polars, from any thread."""
        made = batch.select(self.kinds[name].convert(exactly(name)).alias(name) for name in names)
        self._watch.see(batch, made, self.kinds, _free_name(SURPLUS, self.dialect.names))
        return made

    def _mend(self) -> None:
        """Write the mended file."""
        assert self._workspace is not None
        self._report.clear()
        self._lines = Lines()
        with self._workspace.path.open("wb") as stream, closing(self._blocks()) as pieces:
            for chunk in mend(pieces, self.dialect, self._report, self._lines):
                stream.write(chunk.text.encode())
                self._workspace.tick(min(self._sniffed.size, int(chunk.read / self._sniffed.expansion)))
        self._made = True

    def _blocks(self) -> Generator[bytes]:
        """The bytes of the file, unpacked."""
        yield from blocks(self._path, self._name, self._sniffed)

    def _after(self, lines: int) -> bytes:
        """What comes after so many lines: as much as is looked at of the beginning of a file."""
        found = b""
        with closing(self._blocks()) as pieces:
            for piece in pieces:
                if lines and (ends := piece.count(b"\n")) < lines:
                    lines -= ends
                    continue
                found += piece.split(b"\n", lines)[lines] if lines else piece
                lines = 0
                if len(found) >= HEAD_BYTES:
                    break
        return found[:HEAD_BYTES]

    # --- checks --------------------------------------------------------------------------------------

    def _even(self, delimiters: int, rows: int) -> bool:
        """Whether there are as many delimiters as so many full rows have."""
        full = self.dialect.width - 1 + self.dialect.trailing
        if delimiters == full * rows:
            return True
        counted: int = self._scan().select(pl.len()).collect().item()  # a limit may have ended the reading
        return counted > rows and delimiters == full * counted

    def _count_signs(self) -> tuple[int, bool]:
        """The delimiters behind the header, outside of quotes; and whether there are NUL bytes.

        polars counts the ends of lines outside of quotes, whatever ends a line, in a tenth of the time in which it
        reads them.
        """
        return self._ends(self.dialect.delimiter, self.dialect.quote) - self._before(), self._holds_nul()

    def _holds_nul(self) -> bool:
        """Whether NUL bytes stand in the file, which polars takes for characters; 15 GB/s."""
        if self._sniffed.compression:
            return False
        buffer = bytearray(CACHED_BYTES)
        with self._path.open("rb", buffering=0) as stream:
            while size := stream.readinto(buffer):
                if buffer.find(0, 0, size) >= 0:
                    return True
        return False

    def _ends(self, end: str, quote: str) -> int:
        """How often a sign stands in the file, outside of quotes, if it is taken for the end of a line."""
        counted = pl.scan_csv(
            self._path,
            glob=False,
            eol_char=end,
            separator="\x01",
            has_header=False,
            quote_char=quote or None,
            schema={"line": pl.String()},
        )
        lines: int = counted.select(pl.len()).collect().item()
        if self._sniffed.compression:  # then it is taken to end as files do
            return lines - (end != "\n")
        with self._path.open("rb") as stream:
            stream.seek(-1, 2)
            return lines - (stream.read() != end.encode())

    def _before(self) -> int:
        """Delimiters before the first row."""
        lines = self._head.split(b"\n", self.dialect.skip_lines + self.dialect.header_lines)[:-1]
        text = b"\n".join(lines)
        parts = text.split(self.dialect.quote.encode())[::2] if self.dialect.quote else [text]
        return sum(part.count(self.dialect.delimiter.encode()) for part in parts)

    def _line_map(self) -> Lines:
        """In which lines of the file its rows begin."""
        if self._mended:
            return self._lines
        first = self.dialect.skip_lines + self.dialect.header_lines
        if self._ends("\n", "") - first == self._watch.rows:
            return Lines([(0, first)])
        lines = Lines()
        with closing(self._blocks()) as pieces:
            for _ in mend(pieces, self.dialect, Report(), lines):
                pass
        return lines

    def _tell_lost(self, texts: pl.LazyFrame, lines: Lines) -> None:
        """Report the cells that are not of their column's type; ``texts`` has the number of each row, too."""
        row = _free_name(ROW, self.dialect.names)
        names = [name for name in self.dialect.names if name in self._watch.lost]
        if not names:
            return
        lost = [_lost(self.kinds[name], exactly(name)).alias(name) for name in names]
        found = (
            texts.select(
                row,
                *(
                    pl.when(mask).then(exactly(name)).alias(name)
                    for name, mask in zip(names, lost, strict=True)
                ),
            )
            .filter(pl.any_horizontal(exactly(name).is_not_null() for name in names))
            .head(REJECTS_MOST)
            .collect(engine="streaming")
        )
        for number, *cells in found.iter_rows():
            for name, value in zip(names, cells, strict=True):
                if value is not None:
                    why = f"it is no {self.kinds[name].name}"
                    self._report.add(
                        "unparsable_cells", line=lines.of(number), column=name, value=value, why=why
                    )


class _Count(threading.Thread):
    """Counts beside the pass, which leaves a part of the processors idle: a twentieth of its time."""

    def __init__(self, count: Callable[[], tuple[int, bool]]) -> None:
        super().__init__(daemon=True)
        self._what = count
        self._found: tuple[int, bool] | None = None
        self.start()

    def run(self) -> None:
        with suppress(
            PolarsError, PanicException, OSError
        ):  # then the pass fails as well, or the file is mended
            self._found = self._what()

    def result(self) -> tuple[int, bool]:
        """What was counted; what cannot be true, where that failed."""
        self.join()
        return self._found or (-1, False)


class _Watch:
    """What is seen of a file while it is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows = 0
        self.surplus = 0
        self.lost: dict[str, list[str]] = {}

    def see_all(self, texts: pl.DataFrame, made: pl.DataFrame, kinds: Mapping[str, Kind]) -> None:
        """Look for lost cells in a table of which all cells have been looked at before their kinds were chosen."""
        for name in made.columns:
            column = texts.get_column(name)
            if kinds[name] is not TEXT and made.get_column(name).null_count() > column.null_count():
                found = texts.select(exactly(name).filter(_lost(kinds[name], exactly(name)))).to_series()
                if len(found):
                    self.lost[name] = found.head(LOST_SHAPES).to_list()

    def see(self, texts: pl.DataFrame, made: pl.DataFrame, kinds: Mapping[str, Kind], surplus: str) -> None:
        """Count a batch; keep some of the cells of those columns that do not fit their type."""
        lost = {}
        for name in made.columns:
            kind = kinds[name]
            if kind is TEXT:
                continue
            column = texts.get_column(name)
            if made.get_column(name).null_count() > column.null_count():
                found = texts.select(exactly(name).filter(_lost(kind, exactly(name)))).to_series()
            elif kind.digits and (column < "1").any():  # a plus, a minus or a zero: one look at most batches
                found = texts.select(exactly(name).filter(exactly(name).str.contains(NO_NUMBER))).to_series()
            else:
                continue
            if len(found):
                lost[name] = found.head(LOST_SHAPES).to_list()
        with self._lock:
            self.rows += texts.height
            self.surplus += texts.height - texts.get_column(surplus).null_count()
            for name, cells in lost.items():
                known = self.lost.setdefault(name, [])
                known.extend(cells[: LOST_SHAPES - len(known)])


def _lost(kind: Kind, text: pl.Expr) -> pl.Expr:
    """Whether a text that says something is none of the kind."""
    return text.is_not_null() & (text.str.strip_chars() != "") & kind.convert(text).is_null()


def lines_of(path: Path, most: int | None = None) -> pl.LazyFrame:
    """The lines of a file, which may be packed, as the cells of one column.

    Args:
        path: of the file.
        most: lines at the most.
    """
    return pl.scan_csv(
        path,
        glob=False,
        separator="\x01",
        has_header=False,
        quote_char=None,
        schema={"line": pl.String()},
        extra_columns="ignore",
        n_rows=most,
    )


def _free_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _misfit(detail: str) -> InvalidFormat:
    return InvalidFormat("invalid_message", f"The request does not fit the file: {detail}.", details=[detail])
