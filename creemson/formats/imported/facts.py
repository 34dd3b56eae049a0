"""What has to be known of a reading of all columns to describe a reading of some of them.

A request reads the columns that it needs. How the file is read, and what is repaired or lost, is told for these columns
only: words for a missing value count in the columns that are read, and a cell that does not fit its column's type is
an issue of the requests that read the column.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Self

import attrs

from creemson.formats.csv.layout.cells import are_names, has_letters_first
from creemson.formats.csv.layout.tables import HEADER_AGAIN
from creemson.formats.imported.record import Told
from creemson.formats.types import NULL_WORDS
from creemson.model.results import Reading

__all__ = ["Facts", "words_for_missing"]


@attrs.frozen
class Facts:
    """What is known about the columns of a file after all of them were read; for a CSV, unless a default is given.

    Attributes:
        words: The words for a missing value in the sample, by column; None if the request gives them, or if the format
            has none.
        typed_at_first: The columns that have values other than texts, according to the sample.
        typed: The same, after the whole file was read.
        commas: The columns with decimal commas.
        thousands: The signs between thousands, by column.
        width: The number of columns, if a row of names may be the header of another table; else 0.
        headers_again: The lines of such headers that are reported for all requests.
    """

    words: Mapping[str, Sequence[str]] | None = None
    typed_at_first: frozenset[str] = frozenset()
    typed: frozenset[str] = frozenset()
    commas: frozenset[str] | None = None
    thousands: Mapping[str, str] = attrs.field(factory=dict)
    width: int = 0
    headers_again: frozenset[int] = frozenset()

    def stored(self) -> dict[str, Any]:
        """Return a value of JSON types, for :meth:`restored`."""
        return {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in attrs.asdict(self, recurse=False).items()
        }

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Self:
        """Return what :meth:`stored` has stored."""
        fields: dict[str, Any] = {
            key: frozenset(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        return cls(**fields)

    def describe(self, reading: Reading, read: Collection[str]) -> Reading:
        """Describe how some columns are read.

        Args:
            reading: How all columns are read.
            read: The columns whose types matter.
        """
        if self.words is not None:
            typed = self.typed_at_first.intersection(read)
            words = words_for_missing(self.words, typed) if typed else ()
            reading = attrs.evolve(reading, null_values=None if words is None else tuple(words))
        if self.commas is not None:
            reading = attrs.evolve(reading, decimal="." if self.commas.isdisjoint(read) else ",")
        if self.thousands:
            signs = {sign for name, sign in self.thousands.items() if name in read}
            reading = attrs.evolve(reading, thousands=signs.pop() if len(signs) == 1 else None)
        return reading

    def of_rows(self, told: Iterable[Told]) -> Iterator[Told]:
        """Yield the issues that concern whole rows: every request has them, before any other."""
        return (issue for issue in told if issue.column is None and not self._is_of_cells(issue))

    def of_cells(
        self, told: Iterable[Told], read: Collection[str], inferred: Collection[str]
    ) -> Iterator[Told]:
        """Yield the issues of some columns.

        Args:
            told: The issues of all columns.
            read: The columns that are read; only their cells are compared with their types.
            inferred: The columns whose types matter.
        """
        chosen = (
            issue
            for issue in told
            if issue.column in (read if issue.fault == "unparsable_cells" else inferred)
        )
        typed = len(self.typed.intersection(inferred))
        for (line, fault), cells in groupby(chosen, lambda issue: (issue.line, issue.fault)):
            issues = list(cells)
            words = [issue.value or "" for issue in issues]
            if (
                fault == "unparsable_cells"
                and len(words) == typed
                and self.width
                and (typed > 1 or typed == self.width)
                and line not in self.headers_again
                and are_names(words)
                and has_letters_first(words)
            ):
                yield Told("unparsable_rows", line, None, ", ".join(words), HEADER_AGAIN)
            yield from issues

    def _is_of_cells(self, issue: Told) -> bool:
        """Whether an issue without a column follows from those of cells, so that it depends on what is read."""
        return issue.why == HEADER_AGAIN and issue.line not in self.headers_again


def words_for_missing(words: Mapping[str, Sequence[str]], typed: Collection[str]) -> Sequence[str] | None:
    """Return the words for a missing value; None if some are also text in other columns.

    A client may send them back as ``null_values``, which count in all columns.

    Args:
        words: The words that columns contain.
        typed: The columns with other values than texts.
    """
    missing = {word for name, found in words.items() if name in typed for word in found}
    written = {word for name, found in words.items() if name not in typed for word in found}
    return None if missing & written else sorted(missing, key=NULL_WORDS.index)
