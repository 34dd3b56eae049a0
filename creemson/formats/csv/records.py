"""One record of a CSV into its cells, however it was written.

RFC 4180 says what a quoted cell is, and files say otherwise: a quote stands where none belongs, is not doubled,
or never ends. What follows the RFC is read as it says; of what does not, that reading is taken which has
as many cells as the table has columns.
"""

from collections.abc import Collection

import attrs

__all__ = ["Record", "split_alone", "split_record"]

ATTEMPTS = 8
"""Readings of one record that are tried."""


@attrs.frozen
class Record:
    """The cells of one record.

    Attributes:
        cells: their text.
        proper: whether it follows the RFC.
        open: whether a quoted cell does not end.
        doubtful: where quoted cells begin that hold a stray quote, or do not end.
    """

    cells: list[str]
    proper: bool
    open: bool
    doubtful: list[int]


def split_record(text: str, delimiter: str, quote: str, width: int) -> Record:
    """Split a record.

    Args:
        text: the record, without the end of its line; it may span several lines.
        delimiter: between cells.
        quote: around cells; "" if there is none.
        width: how many cells it should have.

    Returns:
        The reading that has so many cells; if there is none, the one that takes quotes for what they seem to be.
    """
    record = _split(text, delimiter, quote, ())
    if (record.proper or len(record.cells) == width) and not record.open:
        return record
    found = _split(text, delimiter, quote, (), doubling=False)
    if len(found.cells) == width and not found.open:
        return attrs.evolve(found, proper=False)
    literal: set[int] = set()
    found = record
    for _ in range(ATTEMPTS):
        if not found.doubtful:
            break
        literal.add(found.doubtful[0])
        found = _split(text, delimiter, quote, literal)
        if len(found.cells) == width and not found.open:
            return attrs.evolve(found, proper=False)
    return record


def split_alone(text: str, delimiter: str, quote: str, width: int) -> Record:
    """As :func:`split_record`, of a record to which no more lines belong: a quote that does not end a cell is text."""
    record = split_record(text, delimiter, quote, width)
    literal: set[int] = set()
    while record.open:
        literal.add(record.doubtful[-1])
        record = attrs.evolve(_split(text, delimiter, quote, literal), proper=False)
    return record


def _split(
    text: str, delimiter: str, quote: str, literal: Collection[int], *, doubling: bool = True
) -> Record:
    """Split a record.

    Args:
        text: the record.
        delimiter: between cells.
        quote: around cells.
        literal: positions of quotes that are part of their cells.
        doubling: whether a quote in a quoted cell is doubled; if not, the last of two at its end is what ends it.
    """
    cells: list[str] = []
    doubtful: list[int] = []
    proper, at, size, step = True, 0, len(text), len(delimiter)
    while True:
        start = at
        if quote and start not in literal:
            while text.startswith(" ", start) and delimiter != " ":
                start += 1
            if start != at and (not text.startswith(quote, start) or start in literal):
                start = at
        if quote and text.startswith(quote, start) and start not in literal:
            proper &= start == at
            end, stray, after = _end_of_quoted(text, start + 1, delimiter, quote, doubling=doubling)
            if end < 0:
                cells.append(text[start + 1 :].replace(quote * 2, quote))
                return Record(cells, False, True, [*doubtful, start])
            if stray:
                doubtful.append(start)
                proper = False
            proper &= after == end + 1
            cells.append(text[start + 1 : end].replace(quote * 2, quote))
            at = after
        else:
            at = text.find(delimiter, at)
            at = size if at < 0 else at
            cell = text[start:at]
            proper &= not (quote and quote in cell)
            cells.append(cell)
        if at >= size:
            return Record(cells, proper, False, doubtful)
        at += step


def _end_of_quoted(
    text: str, start: int, delimiter: str, quote: str, *, doubling: bool
) -> tuple[int, bool, int]:
    """Where a quoted cell ends (-1: nowhere), whether a stray quote stands in it, and where the cell is over."""
    stray, at, size = False, start, len(text)
    while True:
        end = text.find(quote, at)
        if end < 0:
            return -1, stray, size
        after = end + 1
        if after == size or text.startswith(delimiter, after):
            return end, stray, after
        if text.startswith(quote, after):
            if not doubling and (after + 1 == size or text.startswith(delimiter, after + 1)):
                return after, True, after + 1
            at = after + 1
            continue
        blank = after
        while text.startswith(" ", blank):
            blank += 1
        if blank > after and (blank == size or text.startswith(delimiter, blank)):
            return end, stray, blank
        stray, at = True, after
