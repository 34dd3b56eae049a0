"""Recognizes where another table begins below the first one."""

from collections.abc import Sequence

from creemson.formats.csv.layout.cells import TYPED, are_names, has_letters_first
from creemson.formats.csv.layout.header import are_values, classes_below
from creemson.formats.csv.layout.rows import Record

__all__ = [
    "HEADER_AGAIN",
    "LOOKAHEAD",
    "MIN_ROWS",
    "begins_table",
    "first_table",
    "header_again",
    "is_below_blank",
]

HEADER_AGAIN = "looks like the header of another table; it is read as a row"
"""Why the header of another table of the same width is reported."""
LOOKAHEAD = 5
"""Number of lines that decide whether another table begins with the first of them."""
MIN_ROWS = 3
"""Minimum number of rows of a table that another one ends; of a shorter one, it is uncertain what it is."""


def begins_table(
    following: Sequence[Sequence[str]], width: int, typed: Sequence[int], *, is_after_blank: bool
) -> int:
    """Tell whether another table begins.

    Args:
        following: The cells of the next lines, up to an empty one, at most :data:`LOOKAHEAD`.
        width: The number of columns of the table above.
        typed: The columns of that table that have numbers, dates and the like.
        is_after_blank: Whether an empty line stands above.

    Returns:
        The number of lines up to the end of its first row of names, such as 1, or 2 if a title stands above the names;
        0 if no table begins.
    """
    title = int(is_after_blank and len(following) > 1 and len(following[0]) == 1 < len(following[1]))
    header, *rows = following[title:] or [[]]
    if len(header) < 2 or not rows or not are_names(header) or any(cell.startswith(" ") for cell in header):
        return 0
    if any(len(row) != len(header) for row in rows):
        return 0
    has_values = any(TYPED.fullmatch(cell) for row in rows for cell in row)
    if len(header) == width:
        # Rows of words in a table of words are rows.
        if not (
            is_after_blank and _are_all(typed, width) and are_values(rows[0], classes_below(rows, width))
        ):
            return 0
    elif not (is_after_blank and (has_values or len(rows) > 1)) and not (has_values and len(rows) > 1):
        return 0
    return title + 1


def _are_all(typed: Sequence[int], width: int) -> bool:
    """Whether so many columns have values that a row of words is a header: two of them, or all."""
    return len(typed) > 1 or len(typed) == width


def first_table(records: Sequence[Record], lines: Sequence[str]) -> Sequence[Record]:
    """The records of the first table, and of what stands above it, if another table of another width follows."""
    count = width = 0
    for index, (cells, _, _) in enumerate(records):
        if len(cells) == width:
            count += 1
            continue
        if width > 1 and count > MIN_ROWS:
            following = [cells for cells, _, _ in records[index : index + LOOKAHEAD]]
            ends = not any(cells[-1].strip() for cells in following)  # a delimiter ends every line
            following = [cells[: len(cells) - ends] for cells in following]
            is_after_blank = is_below_blank(records[index], lines)
            if begins_table(following, width - ends, (), is_after_blank=is_after_blank):
                return records[:index]
        if count <= MIN_ROWS:
            count, width = 1, len(cells)
    return records


def is_below_blank(record: Record, lines: Sequence[str]) -> bool:
    """Whether an empty line stands above a record."""
    return record[1] > 0 and not lines[record[1] - 1].strip()


def header_again(
    records: Sequence[Record], lines: Sequence[str], header: Sequence[str], width: int, typed: Sequence[int]
) -> list[int]:
    """The indexes of the records, but the first, that look like the header of another table of the same width.

    Args:
        records: The records of the table, from its first row.
        lines: The lines of the file.
        header: The cells of its own header, which may be repeated.
        width: The number of columns.
        typed: The columns that have numbers, dates and the like.
    """
    if not _are_all(typed, width):
        return []
    found = []
    for index, (cells, _, _) in enumerate(records[:-1]):
        if index >= MIN_ROWS and is_below_blank(records[index], lines):
            following = [cells for cells, _, _ in records[index : index + LOOKAHEAD]]
            if begins_table(following, width, typed, is_after_blank=True):
                break  # reading ends here
        if len(cells) != width or cells[typed[0]][-1:].isdigit() or not are_names(cells) or cells == header:
            continue
        if not has_letters_first(cells[column] for column in typed):
            continue
        after = records[index + 1][0]
        if len(after) == width and all(TYPED.fullmatch(after[column]) for column in typed):
            found.append(index)
    return found
