"""Opens the columnar copy of a file in place of the file."""

import io
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import orjson
import polars as pl

from creemson.formats.imported.facts import Facts
from creemson.formats.imported.place import ABOUT, ISSUES, Place
from creemson.formats.imported.record import Told
from creemson.formats.report import Report
from creemson.formats.source import Source
from creemson.formats.table import Table, reading_of, text_of
from creemson.model.converter import plain, structure
from creemson.model.query import ColumnRef
from creemson.model.results import Reading

__all__ = ["About", "open_imported"]


@attrs.frozen
class About:
    """What is stored about a file beside its rows.

    Attributes:
        source: Format, compression and size of the file; without its bytes.
        rows: Number of rows.
        schema: The columns and their types, as the first bytes of the file show them. A request that does not fit them
            is refused before anything is read, so it is refused with the copy, too.
        reading: How the file is read if all columns are.
        facts: What a description of some columns needs.
        headers: How the file writes the names of columns, where it is not the name.
        notations: How the file writes dates and times.
        is_steady: Whether the first reading has found all types, and nothing was repaired or lost: then it does not
            matter how much of the file is read.
        told: What was repaired or lost.
    """

    source: Source
    rows: int
    schema: pl.Schema
    reading: Reading
    facts: Facts
    headers: Mapping[str, str]
    notations: Mapping[str, str]
    is_steady: bool
    told: Sequence[Told]

    def write(self, folder: Path) -> None:
        """Write it to the folder of the copy."""
        schema = io.BytesIO()
        pl.DataFrame(schema=self.schema).write_ipc(schema)
        content = {
            "source": {name: getattr(self.source, name) for name in _OF_SOURCE},
            "rows": self.rows,
            "schema": b64encode(schema.getvalue()).decode(),
            "reading": plain(self.reading),
            "facts": self.facts.stored(),
            "headers": self.headers,
            "notations": self.notations,
            "is_steady": self.is_steady,
        }
        (folder / ABOUT).write_bytes(orjson.dumps(content))
        if self.told:
            (folder / ISSUES).write_bytes(orjson.dumps(list(map(list, self.told))))

    @classmethod
    def read(cls, place: Place) -> Self:
        """Read what :meth:`write` has written.

        Raises:
            OSError: The copy is gone.
        """
        content: dict[str, Any] = orjson.loads(place.about.read_bytes())
        issues = place.issues
        return cls(
            source=Source(head=b"", **content["source"]),
            rows=content["rows"],
            schema=pl.read_ipc(io.BytesIO(b64decode(content["schema"]))).schema,
            reading=structure(content["reading"], Reading),
            facts=Facts.restored(content["facts"]),
            headers=content["headers"],
            notations=content["notations"],
            is_steady=content["is_steady"],
            told=[Told(*told) for told in orjson.loads(issues.read_bytes())] if issues.exists() else (),
        )


_OF_SOURCE = ("format", "compression", "size", "expansion")


def open_imported(
    place: Place,
    name: str,
    needed: Collection[ColumnRef] | None = None,
    *,
    report: Report | None = None,
    reads_all: bool = True,
) -> Table | None:
    """Open the columnar copy of a file.

    Args:
        place: Where the copy is.
        name: The file's name in messages.
        needed: The columns whose types matter; None for all.
        report: Collects what was repaired or lost in these columns.
        reads_all: Whether a reading of the file itself would certainly read all rows.

    Returns:
        The table; what it tells is what the file's own table tells. None if a part of the file might be read in
        another way than the whole file.

    Raises:
        OSError: The copy is gone.
    """
    about = About.read(place)
    if not (reads_all or about.is_steady):
        return None
    report = Report() if report is None else report
    for told in about.facts.of_rows(about.told):
        report.add(**told._asdict())
    copy = _Copy(about, _inferred(list(about.schema), needed), report)
    found = place.scan().collect_schema()
    texts = frozenset(column for column in about.schema if text_of(column) in found)
    reading = reading_of(place.scan)
    return Table(
        name=name,
        schema=about.schema,
        readings=(lambda chosen: reading(copy.noting(chosen)),),
        source=about.source,
        rows=about.rows,
        row_bytes=0.0,
        check=copy.check,
        texts=texts.intersection,
        headers=lambda: about.headers,
        notations=lambda: dict(about.notations),
        reading=copy.reading,
        report=report,
    )


class _Copy:
    """A reading of some columns of a copy."""

    def __init__(self, about: About, inferred: frozenset[str], report: Report) -> None:
        self._about, self._inferred, self._report = about, inferred, report
        self._read: frozenset[str] = frozenset()

    def noting(self, needed: Callable[[pl.Schema], Sequence[str]]) -> Callable[[pl.Schema], Sequence[str]]:
        """Return a function that does what ``needed`` does, and notes which columns are read."""

        def choose(schema: pl.Schema) -> Sequence[str]:
            chosen = needed(schema)
            self._read = self._inferred.intersection(chosen)
            return chosen

        return choose

    def check(self) -> None:
        """Report what was lost in the columns that have been read."""
        about = self._about
        for told in about.facts.of_cells(about.told, self._read, self._inferred):
            self._report.add(**told._asdict())

    def reading(self) -> Reading:
        """Describe how the columns are read."""
        return self._about.facts.describe(self._about.reading, self._inferred)


def _inferred(names: Sequence[str], needed: Collection[ColumnRef] | None) -> frozenset[str]:
    """The names of the columns whose types matter."""
    if needed is None:
        return frozenset(names)
    return frozenset(names[ref] if isinstance(ref, int) and ref < len(names) else str(ref) for ref in needed)
