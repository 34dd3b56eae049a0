"""Splits one record of a CSV into its cells, even if its quotes are wrong.

RFC 4180 defines quoted cells, but many files violate it: a quote is in the wrong place, is not doubled, or never ends.
A record that follows the RFC is split as the RFC says. Any other record can be split in several ways; the way that
results in as many cells as the table has columns is chosen.

Splitting takes linear time: each way looks at each character a few times, and the number of ways is limited.
"""

from collections.abc import Collection

import attrs

__all__ = ["Record", "split_alone", "split_record"]

MAX_ATTEMPTS = 8
"""Maximum number of ways to split a record that are tried."""
MAX_TRIED = 128 * 1024
"""Maximum number of characters that are split in these attempts; one attempt is always made."""


@attrs.frozen
class Record:
    """The cells of one record.

    Attributes:
        cells: The texts of the cells.
        is_proper: Whether the record follows the RFC.
        is_spaced: Whether it does, but for blanks around quoted cells; they are no part of the cells.
        is_open: Whether a quoted cell does not end.
        doubtful: Offsets of the quoted cells that contain a stray quote or do not end.
    """

    cells: list[str]
    is_proper: bool
    is_open: bool
    doubtful: list[int]
    is_spaced: bool = False


def split_record(text: str, delimiter: str, quote: str, width: int) -> Record:
    """Split a record.

    Args:
        text: The record, without the end of its line; it may span several lines.
        delimiter: The text between cells.
        quote: The character around cells; "" if there is none.
        width: The number of cells that the record should have; -1 for any.

    Returns:
        The record split into this number of cells; if that is impossible, split as its quotes suggest.
    """
    record = _split(text, delimiter, quote, ())
    if width < 0 or ((record.is_proper or len(record.cells) == width) and not record.is_open):
        return record
    other = _split(text, delimiter, quote, (), is_doubled=False)
    if len(other.cells) == width and not other.is_open:
        return attrs.evolve(other, is_proper=False, is_spaced=False)
    literal: set[int] = set()
    other = record
    for _ in range(max(1, min(MAX_ATTEMPTS, MAX_TRIED // max(1, len(text))))):
        if not other.doubtful:
            break
        literal.add(other.doubtful[0])
        other = _split(text, delimiter, quote, literal)
        if len(other.cells) == width and not other.is_open:
            return attrs.evolve(other, is_proper=False, is_spaced=False)
    return record


def split_alone(text: str, delimiter: str, quote: str, width: int) -> Record:
    """Split a record that does not continue on the next line, so that a quote that opens an unclosed cell is text."""
    record = split_record(text, delimiter, quote, width)
    if record.is_open:
        record = attrs.evolve(
            _split(text, delimiter, quote, (), is_alone=True), is_proper=False, is_spaced=False
        )
    return record


def _split(
    text: str,
    delimiter: str,
    quote: str,
    literal: Collection[int],
    *,
    is_doubled: bool = True,
    is_alone: bool = False,
) -> Record:
    """Split a record.

    Args:
        text: The record.
        delimiter: The text between cells.
        quote: The character around cells.
        literal: Offsets of quotes that are part of their cells' text.
        is_doubled: Whether quotes inside quoted cells are doubled; if not, the second of two quotes ends a cell.
        is_alone: Whether a quote that would open a cell without an end is part of the cell's text.
    """
    cells: list[str] = []
    doubtful: list[int] = []
    is_proper, at, size, step = True, 0, len(text), len(delimiter)
    has_blanks = False
    may_skip = not delimiter.startswith(" ")
    # One open cell has shown that no later quotes end a cell, but for those in the run of quotes that opens it.
    is_hopeless = False
    while True:
        start = at
        if quote and start not in literal:
            while may_skip and text.startswith(" ", start):
                start += 1
            if start != at and (not text.startswith(quote, start) or start in literal):
                start = at
        end, stray, after = -1, False, size
        is_quoted = bool(quote) and text.startswith(quote, start) and start not in literal
        if is_quoted:
            limit = _end_of_run(text, start, quote) if is_hopeless else size
            end, stray, after = _end_of_quoted(
                text, start + 1, limit, delimiter, quote, is_doubled=is_doubled
            )
            if end < 0 and is_alone:
                is_hopeless, is_quoted, start = True, False, at
        if is_quoted:
            has_blanks |= start != at
            if end < 0:
                cells.append(text[start + 1 :].replace(quote * 2, quote))
                return Record(cells, False, True, [*doubtful, start])
            if stray:
                doubtful.append(start)
                is_proper = False
            has_blanks |= after != end + 1
            cells.append(text[start + 1 : end].replace(quote * 2, quote))
            at = after
        else:
            at = text.find(delimiter, at)
            at = size if at < 0 else at
            cell = text[start:at]
            is_proper &= not (quote and quote in cell)
            cells.append(cell)
        if at >= size:
            return Record(cells, is_proper and not has_blanks, False, doubtful, is_proper and has_blanks)
        at += step


def _end_of_run(text: str, start: int, quote: str) -> int:
    """Where a sequence of quotes ends."""
    while text.startswith(quote, start):
        start += 1
    return start


def _end_of_quoted(
    text: str, start: int, limit: int, delimiter: str, quote: str, *, is_doubled: bool
) -> tuple[int, bool, int]:
    """Find the end of a quoted cell.

    Args:
        text: The record.
        start: Where the cell's text begins.
        limit: The quote that ends it is before this offset.
        delimiter: The text between cells.
        quote: The character around cells.
        is_doubled: Whether quotes inside quoted cells are doubled.

    Returns:
        Where its text ends (-1 if it does not), whether it has a stray quote, and where the cell ends.
    """
    stray, at, size = False, start, len(text)
    while True:
        end = text.find(quote, at, limit)
        if end < 0:
            return -1, stray, size
        after = end + 1
        if after == size or text.startswith(delimiter, after):
            return end, stray, after
        if text.startswith(quote, after):
            if not is_doubled and (after + 1 == size or text.startswith(delimiter, after + 1)):
                return after, True, after + 1
            at = after + 1
            continue
        spaces = after
        while text.startswith(" ", spaces):
            spaces += 1
        if spaces > after and (spaces == size or text.startswith(delimiter, spaces)):
            return end, stray, spaces
        stray, at = True, after
