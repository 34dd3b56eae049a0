"""Where the rows of a CSV begin."""

from bisect import bisect_right
from operator import itemgetter

import attrs

__all__ = ["Lines"]


@attrs.define
class Lines:
    """In which line of the original each row of the repaired file begins.

    Attributes:
        starts: Pairs of a row and its first line, counted from 0; from there to the next pair, each row has one line.
        footer_rows: Number of notes below the table; known when the whole file has been read.
    """

    starts: list[tuple[int, int]] = attrs.field(factory=lambda: [(0, 0)])
    footer_rows: int = 0

    def add(self, row: int, line: int) -> None:
        """Record that a row begins in a line, and that the following rows have one line each."""
        last_row, last_line = self.starts[-1]
        if line - row != last_line - last_row:
            self.starts.append((row, line))

    def of(self, row: int) -> int:
        """Return the line, counted from 1, of a row, counted from 0."""
        first, line = self.starts[bisect_right(self.starts, row, key=itemgetter(0)) - 1]
        return line + row - first + 1
