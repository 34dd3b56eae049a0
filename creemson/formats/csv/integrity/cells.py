"""Compares the cells of a CSV, while polars reads it, with the values that they are converted to."""

import re
import threading
from collections.abc import Collection, Mapping, Sequence

import polars as pl

from creemson.formats.columns import exactly, unnamed
from creemson.formats.csv.layout.cells import are_names, has_letters_first
from creemson.formats.csv.layout.tables import HEADER_AGAIN
from creemson.formats.csv.lines import Lines
from creemson.formats.csv.values.controls import CONTROLS
from creemson.formats.csv.values.kinds import TEXT, Kind
from creemson.formats.report import MAX_REJECTS, Report
from creemson.formats.types import LOSSY_DIGITS

__all__ = ["CellCheck", "report_misfits"]

MAX_MISFITS = 100
"""Maximum number of cells of a column that do not have its type; they decide which other types are tried."""


class CellCheck:
    """Compares the text of cells with the values that it was converted to, during one reading of a file.

    Args:
        null_words: The words that mean a missing value in columns of values.

    Attributes:
        rows: Number of rows that were read.
        surplus: Number of rows with more cells than the file has columns.
        misfits: Some cells that do not have their column's type, by column.
        has_marks: Whether a cell of a compressed file contains NUL, a byte order mark, or a mark of the end of a file;
            or whether a cell of any file begins with a blank and a quote, or a row repeats the header.
        has_controls: Whether a cell of a compressed file contains control characters that stand for others.
    """

    def __init__(self, null_words: Sequence[str]) -> None:
        self._null_words = null_words
        self._lock = threading.Lock()
        self.rows = 0
        self.surplus = 0
        self.misfits: dict[str, list[str]] = {}
        self.has_marks = self.has_controls = False

    def check_marks(self, texts: pl.DataFrame) -> None:
        """Check a batch of rows of a compressed file, of which :class:`DelimiterCounter` does not see the bytes."""
        # Never set to false: batches are checked by several threads.
        if not self.has_marks and any(texts.select(pl.all().str.contains("[\\x00\ufeff\\x1a]").any()).row(0)):
            self.has_marks = True
        if not self.has_controls and any(texts.select(pl.all().str.contains(CONTROLS).any()).row(0)):
            self.has_controls = True

    def check_header(self, texts: pl.DataFrame, names: Mapping[str, str]) -> None:
        """Search a batch of rows for one that repeats the header, such as those of files that were joined.

        Args:
            texts: The cells of the columns that are read.
            names: The names in the file, by column.
        """
        if self.has_marks:
            return
        column = next((name for name in texts.columns if names[name]), None)
        # One column rules out most rows; comparing it takes 1 % of reading.
        if column is None or not (alike := unnamed(texts.get_column(column)) == names[column]).any():
            return
        header = tuple(names[name] for name in texts.columns)
        if any(tuple(cell or "" for cell in row) == header for row in texts.filter(alike).iter_rows()):
            self.has_marks = True

    def check_blanks(self, texts: pl.DataFrame, quote: str) -> None:
        """Check that no blanks stand before a quoted cell: polars takes them and the quotes for parts of the cell."""
        if self.has_marks:
            return
        # The first character is in polars' view of a text, so looking at it costs 1 % of reading.
        begins = texts.select(pl.all().str.starts_with(" ").any()).row(0)
        pattern = f"^ +{re.escape(quote)}"
        for name, has_blank in zip(texts.columns, begins, strict=True):
            if has_blank and texts.get_column(name).str.contains(pattern).any():
                self.has_marks = True

    def check_sample(self, texts: pl.DataFrame, converted: pl.DataFrame, kinds: Mapping[str, Kind]) -> None:
        """Check a table that is so small that its types were inferred from all of its cells."""
        for name, kind in kinds.items():
            if kind is not TEXT:
                misfits = self._without_value(
                    unnamed(texts.get_column(name)), unnamed(converted.get_column(name))
                )
                if len(misfits):
                    self.misfits[name] = misfits.head(MAX_MISFITS).to_list()

    def check_batch(
        self,
        texts: pl.DataFrame,
        converted: pl.DataFrame,
        kinds: Mapping[str, Kind],
        surplus: str,
        *,
        intact: Collection[str] = (),
    ) -> None:
        """Check a batch of rows; thread-safe.

        Args:
            texts: The rows as text.
            converted: The same rows with the types of the columns.
            kinds: The kinds of the columns.
            surplus: The name of a column of ``texts`` with the first cell beyond the last column.
            intact: Columns of which it is known that no cell has lost anything.
        """
        batch: dict[str, list[str]] = {}
        names = [name for name in converted.columns if kinds[name] is not TEXT and name not in intact]
        suspects = _suspects(texts, converted, {name: kinds[name] for name in names})
        for name in names:
            kind = kinds[name]
            column, values = unnamed(texts.get_column(name)), unnamed(converted.get_column(name))
            misfits = self._without_value(column, values)
            # A plus, a minus and a zero are less than "1"; this rules out most batches.
            if not len(misfits) and kind.is_number and (column < "1").any():
                misfits = column.filter(column.str.contains(LOSSY_DIGITS))
            if not len(misfits) and name in suspects and kind.loses is not None:
                misfits = column.filter(kind.loses(column, values))
            if len(misfits):
                batch[name] = misfits.head(MAX_MISFITS).to_list()
        with self._lock:
            self.rows += texts.height
            self.surplus += texts.height - texts.get_column(surplus).null_count()
            for name, cells in batch.items():
                known = self.misfits.setdefault(name, [])
                known.extend(cells[: MAX_MISFITS - len(known)])

    def _without_value(self, texts: pl.Series, values: pl.Series) -> pl.Series:
        """The cells that have no value although they are neither empty nor a word for a missing one."""
        if values.null_count() == texts.null_count():
            return texts.clear()
        cells = texts.filter(values.is_null() & texts.is_not_null())
        bare = cells.str.strip_chars()
        return cells.filter((bare != "") & ~bare.is_in(self._null_words))


def _suspects(texts: pl.DataFrame, converted: pl.DataFrame, kinds: Mapping[str, Kind]) -> Collection[str]:
    """The columns in which some cells may have more digits than their values; computed together, which is faster."""
    columns: list[pl.Series] = []
    tests: dict[str, pl.Expr] = {}
    for name, kind in kinds.items():
        if (may_lose := kind.may_lose) is not None:
            text, value = f"text {len(tests)}", f"value {len(tests)}"
            columns += [texts.get_column(name).alias(text), converted.get_column(name).alias(value)]
            tests[name] = may_lose(pl.col(text), pl.col(value)).alias(text)
    if not tests:
        return ()
    row = pl.DataFrame(columns).select(tests.values()).row(0)
    return {name for name, is_suspect in zip(tests, row, strict=True) if is_suspect}


def _is_misfit(kind: Kind, text: pl.Expr, null_words: Sequence[str]) -> pl.Expr:
    """Whether a cell has no value of the kind although it is neither empty nor a word for a missing value."""
    bare = text.str.strip_chars()
    return (bare != "") & ~bare.is_in(null_words) & kind.convert(text).is_null()


def report_misfits(
    texts: pl.LazyFrame,
    row: str,
    kinds: Mapping[str, Kind],
    lines: Lines,
    report: Report,
    *,
    null_words: Sequence[str],
    typed: int,
    known: Collection[int],
) -> None:
    """Report the cells that do not have their column's type, and rows of them that look like the header of a table.

    Args:
        texts: The rows as text, and another column with their numbers, counted from 0.
        row: The name of the column of row numbers.
        kinds: The kinds of the columns that have such cells.
        lines: The lines of the file in which its rows begin.
        report: Collects the cells.
        null_words: The words that mean a missing value in columns of values.
        typed: The number of columns of values; 0 if a row of words may be an ordinary row.
        known: The lines of headers that have been reported, counted from 0.
    """
    if not kinds:
        return
    cells = [
        pl.when(_is_misfit(kind, exactly(name), null_words)).then(exactly(name)).alias(name)
        for name, kind in kinds.items()
    ]
    misfits = (
        texts.select(row, *cells)
        .filter(pl.any_horizontal(exactly(name).is_not_null() for name in kinds))
        .head(MAX_REJECTS)
        .collect(engine="streaming")
    )
    for number, *values in misfits.iter_rows():
        words = [value for value in values if value is not None]
        is_header = len(words) == typed and are_names(words) and has_letters_first(words)
        if is_header and lines.of(number) - 1 not in known:
            report.add(
                "unparsable_rows",
                line=lines.of(number),
                column=None,
                value=", ".join(words),
                why=HEADER_AGAIN,
            )
        for (name, kind), value in zip(kinds.items(), values, strict=True):
            if value is not None:
                report.add(
                    "unparsable_cells",
                    line=lines.of(number),
                    column=name,
                    value=value,
                    why=f"not {'an' if kind.name[0] in 'aeio' else 'a'} {kind.name}",
                )
