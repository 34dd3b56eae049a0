"""Finds the header of a table: how many rows of names it has, and the names.

Names are words above numbers, dates and the like. A header of several rows has the names of groups above the names of
their columns (a group's name belongs to the empty cells right of it), or units below the names. In doubt, a row is
data: a wrong name can be seen, a lost row cannot.
"""

from collections.abc import Sequence
from itertools import compress
from operator import not_

from creemson.formats.csv.layout.cells import TYPED, class_below, class_of, form_of, is_word

__all__ = ["CLASS_ROWS", "MAX_HEADER", "are_units", "are_values", "classes_below", "header_rows", "names_of"]

CLASS_ROWS = 30
"""Number of rows whose cells are classified as numbers, text and so on."""
MAX_UNIT = 8
"""Maximum number of characters of a unit without brackets, if not all columns of values have one."""
MAX_HEADER = 5
"""Maximum number of rows of names."""


def classes_below(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The class of each column in the last rows of the given ones: number, year, other, or text."""
    body = [row for row in rows if len(row) == width][-CLASS_ROWS:]
    return [class_below(body, column) for column in range(width if body else 0)]


def header_rows(rows: Sequence[Sequence[str]], width: int) -> int:
    """The number of rows of names.

    Args:
        rows: The first rows of the table.
        width: Its number of columns.
    """
    if len(rows) < 2:
        # A single row of text is a header: without it, nothing would be known about the columns.
        return 1 if rows and not any(TYPED.fullmatch(cell) for cell in rows[0] if cell.strip()) else 0
    below = classes_below(rows[1:], width)
    if not _begins_with_names(rows[0], below, rows[1:]):
        return 0
    header = _rows_of_groups(rows, width) or 1
    typed = [column for column, kind in enumerate(below) if kind != "text"]
    while header < min(MAX_HEADER, len(rows) - 1) and typed and _continues(rows, header, typed, width):
        header += 1
    return header


def _begins_with_names(first: Sequence[str], below: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the cells of the first row are names: words above numbers and the like, days above numbers, and so on.

    Codes above codes of the same form are values, as numbers above numbers are.

    If nothing shows that they are values, they are names.
    """
    names = values = 0
    words = [cell.strip() for cell, kind in zip(first, below, strict=False) if kind != "text"]
    for column, (cell, kind) in enumerate(zip(first, below, strict=False)):
        cell_kind = class_of(cell)
        if cell_kind == "text" and kind != "text" and not is_word(cell):
            # A word for a missing value in a column of values, if it is not the only one of its kind.
            names, values = names + (words.count(cell.strip()) == 1), values + 1
        elif cell_kind == kind == "text":
            values += _has_form_below(cell, column, rows)
        elif cell_kind in ("", "text"):
            names += cell_kind == "text" and kind != "text"
        elif cell_kind == kind or (cell_kind == "number" and kind == "text"):
            values += 1
    return names >= values


def _has_form_below(cell: str, column: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether most cells of a column have the form of a cell above them."""
    form = form_of(cell)
    if not form:
        return False
    cells = [row[column] for row in rows[-CLASS_ROWS:] if len(row) > column and row[column].strip()]
    return 0 < len(cells) * 0.8 <= sum(form_of(other) == form for other in cells)


def _rows_of_groups(rows: Sequence[Sequence[str]], width: int) -> int:
    """The number of header rows if the first one names groups of columns; 0 if it does not.

    The rows below it name the columns whose cells it leaves empty; blank rows between them count for nothing.
    """
    first = rows[0]
    if len(first) != width:
        return 0
    gaps = {
        column
        for column in range(1, width)
        if not first[column].strip() and any(cell.strip() for cell in first[:column])
    }
    if not gaps:
        return 0
    for index, row in enumerate(rows[1 : 2 * MAX_HEADER], 1):
        filled = {column for column, cell in enumerate(row) if cell.strip()}
        if len(row) != width or not all(is_word(row[column]) for column in filled):
            return 0
        if gaps <= filled:
            below = classes_below(rows[index + 1 :], width)
            values = sum(below[column] != "text" for column in filled if below)
            if values > 1 or values * 2 >= len(filled) or _lacks_values(row, rows[index + 1 :], below):
                return index + 1
            return 0
    return 0


def _lacks_values(row: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str]) -> bool:
    """Whether a row has none of the values that all rows below have, such as their numbers: it is no such row."""
    typed = [column for column, kind in enumerate(below) if kind != "text"]
    complete = [
        column for column in typed if all(len(other) > column and other[column].strip() for other in rows)
    ]
    return len(rows) > 1 and bool(complete) and not any(row[column].strip() for column in typed)


def _continues(rows: Sequence[Sequence[str]], index: int, typed: Sequence[int], width: int) -> bool:
    """Whether a further row has names: it has words where the rows below have numbers and the like."""
    row = rows[index]
    if len(row) != width:
        return False
    words = [row[column].strip() for column in typed]
    if are_units(words) or _are_units_of_some(row, typed, index):
        return True
    if index > 1 and 0 in typed and is_word(row[0]) and not any(map(str.strip, row[1:])):
        return True  # the name of the first column alone, which pandas writes below those of the others
    if len(typed) < 2 or not all(map(is_word, words)):
        return False
    others = [row[column] for column in range(width) if column not in typed]
    if others and not any(map(str.strip, others)):  # units: words have none
        return True
    if 0 in typed and len(typed) == width > 2 and len(rows) > index + 2:
        return True  # also if the words are the same: not even the first column has a value
    return all(len(word) > 1 for word in words) and len(set(words)) * 2 > len(words)


def _are_units_of_some(row: Sequence[str], typed: Sequence[int], index: int) -> bool:
    """Whether a row has short words for some of the columns of values, such as units, and nothing in the first column.

    Behind names and units, loggers write how each value was made (``Min``, ``Avg``), also for columns without values.
    """
    filled = [column for column, cell in enumerate(row) if cell.strip()]
    named = [column for column in typed if row[column].strip()]
    if row[0].strip() or not named or not all(is_word(row[column]) for column in filled):
        return False
    if any(len(row[column].strip()) > MAX_UNIT for column in filled):
        return False
    return index > 1 or (filled == named and len(named) * 2 >= len(typed))


def are_units(words: Sequence[str]) -> bool:
    """Whether words are units in brackets; a number in parentheses is negative."""
    return all(
        word[:1] + word[-1:] == "[]" or (word[:1] + word[-1:] == "()" and not TYPED.fullmatch(word[1:-1]))
        for word in map(str.strip, words)
    )


def are_values(row: Sequence[str], below: Sequence[str]) -> bool:
    """Whether a row has values of their columns' classes in at least half of the columns of values.

    Args:
        row: The cells of the row.
        below: The class of each column.
    """
    typed = [column for column, kind in enumerate(below) if kind != "text" and column < len(row)]
    same = sum(class_of(row[column]) == below[column] for column in typed)
    return bool(typed) and same * 2 >= len(typed)


def names_of(header: Sequence[Sequence[str]], width: int, *, has_row_names: bool) -> list[str]:
    """The names of the columns, as the header has them; empty for a column without a name.

    Args:
        header: The rows of the header; the names that a column has in several rows are joined by blanks.
        width: The number of columns.
        has_row_names: Whether the first column has no cell in the header.
    """
    rows = [_fitted([*([""] if has_row_names else []), *map(_shown, row)], width) for row in header]
    for index, row in enumerate(rows[:-1]):
        _fill_groups(row, rows[:index], rows[index + 1 :])
    return [" ".join(filter(None, parts)) for parts in zip(*rows, strict=True)] if rows else []


def _shown(name: str) -> str:
    """A name without blanks around it; line ends in it become blanks."""
    lines = name.replace("\r", "\n").split("\n")
    return " ".join(filter(None, map(str.strip, lines)))


def _fitted(cells: list[str], width: int) -> list[str]:
    """The cells of a row of names, as many as the table has columns."""
    surplus = len(cells) - width  # surplus delimiters, which empty names show
    if surplus > 0:
        empty = set(list(compress(range(len(cells)), map(not_, cells)))[:surplus])
        cells = [cell for index, cell in enumerate(cells) if index not in empty]
    return [*cells[:width], *[""] * (width - len(cells))]


def _fill_groups(row: list[str], above: Sequence[Sequence[str]], below: Sequence[Sequence[str]]) -> None:
    """Write the name of each group into the empty cells right of it, up to the next name here or in a row above.

    A column that has no name in the rows below belongs to no group.
    """
    group = ""
    original = list(row)
    for column, name in enumerate(original):
        if name or any(upper[column] != upper[column - 1] for upper in above if column):
            group = name
        if not name and group and any(lower[column] for lower in below):
            row[column] = group
