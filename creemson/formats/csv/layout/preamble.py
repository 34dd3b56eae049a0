"""Finds where a table begins: below titles, comments, pairs of keys and values, and blank rows."""

from collections.abc import Callable, Sequence

import attrs

from creemson.formats.csv.layout.cells import TYPED, are_names, class_of, is_prose, is_word
from creemson.formats.csv.layout.comments import without_sign
from creemson.formats.csv.layout.header import MAX_HEADER, are_units, are_values, classes_below, header_rows
from creemson.formats.csv.layout.rows import DELIMITERS, Record, mode, records_of, repaired_cells, unescape

__all__ = [
    "Beginning",
    "Shape",
    "beginning_of",
    "below_pairs",
    "lines_above_few_rows",
    "repair_first_records",
    "shape_of",
]

MAX_PREAMBLE = 50
"""Maximum number of records above the table."""
MAX_TITLES = 10
"""Maximum number of records between a title, or what looks like a header, and the header."""
MIN_COLUMNS = 3
"""Minimum number of columns of a table below pairs that are not marked as such by colons."""
MANY_ROWS = 8
"""Number of rows that show, without names above them, that a delimiter ends every line."""


@attrs.frozen
class Shape:
    """The columns of a table.

    Attributes:
        width: Their number.
        trailing: Whether a delimiter ends every row.
    """

    width: int
    trailing: bool


@attrs.frozen
class Beginning:
    """Where a table begins.

    Attributes:
        first: The index of the first record of the header, or of the first row.
        header: The number of rows of names.
    """

    first: int
    header: int


def lines_above_few_rows(lines: Sequence[str], quote: str = '"') -> int:
    """The number of lines of titles above a table that has few rows beside them and its notes; 0 if there are none.

    Where many lines are titles, their number of cells may be the most frequent one. The table is certain if it has
    names and at least two rows with values, ends the file but for notes, and has a delimiter that no line outside of
    it has; titles have more than one word.

    Args:
        lines: All lines of the file.
        quote: The quote around cells.
    """
    if not 0 < len(lines) <= 2 * MAX_PREAMBLE:
        return 0
    for delimiter in DELIMITERS:
        if delimiter in lines[0] or not any(delimiter in line for line in lines):
            continue  # the first line is no title, or no row has the delimiter
        records = list(records_of(lines, delimiter, quote, ""))
        rows = [cells for cells, _, _ in records]
        end = next((at for at in range(len(rows), 0, -1) if len(rows[at - 1]) > 1), 0)  # above notes
        width = len(rows[end - 1]) if end else 1
        first = next((at for at in range(end, 0, -1) if len(rows[at - 1]) != width), 0)
        below = rows[first + 1 : end]
        outside = len(rows) - 1 - len(below)
        if (
            not first
            or len(below) < 2
            or outside * 2 < len(below)
            or not _is_header(rows[:end], first, width)
        ):
            continue
        classes = classes_below(below, width)
        above = [cells[0].strip() for cells in rows[:first] if len(cells) == 1]
        # A list of single words or of values is a table of one column.
        titles = sum(1 for text in above if not TYPED.fullmatch(text) and (" " in text or ":" in text))
        is_sure = width >= MIN_COLUMNS or all(are_values(row, classes) for row in below)
        if is_sure and titles * 2 > len(above) == first:
            return records[first][1]
    return 0


def below_pairs(rows: Sequence[Sequence[str]], is_below_gap: Callable[[int], bool]) -> int:
    """The number of rows with pairs of keys and values above the header of a table; 0 if there are none.

    Pairs are two cells in a row at most, among titles. They are certain if the keys end with colons. Otherwise an empty
    line stands between them and the header, they do not look like a table, and there are fewer of them than rows.

    Args:
        rows: The first rows.
        is_below_gap: Whether something empty stands above the row with an index.
    """
    for index, row in enumerate(rows[: MAX_PREAMBLE + 1]):
        may_be_header = index > 0 and (_filled(row) >= MIN_COLUMNS or _is_certain_pair(rows[index - 1]))
        if may_be_header and _is_wide_header(rows[:index], row, _block(rows, index + 1, is_below_gap)):
            keys = [cells for cells in rows[:index] if _filled(cells) == 2]
            colons = sum(map(_is_certain_pair, keys))
            if colons * 2 > len(keys) and (_filled(row) >= MIN_COLUMNS or colons == len(keys)):
                return index
            is_short = index <= MAX_TITLES and (index < len(rows) - index or _filled(row) > MIN_COLUMNS)
            if keys and is_below_gap(index) and is_short and not _are_table(rows[:index]):
                return index
            break
        if _filled(row) > MIN_COLUMNS or (_filled(row) > 1 and not (is_word(row[0]) and row[1].strip())):
            break  # neither a pair nor a title
    return _certain_pairs(rows)


def _certain_pairs(rows: Sequence[Sequence[str]]) -> int:
    """The number of rows up to the last pair whose key ends with a colon, if the rows of the table have more cells."""
    count = 0
    for index, row in enumerate(rows[:MAX_PREAMBLE]):
        if _is_certain_pair(row):
            count = index + 1
        elif _filled(row) > 1:
            break
    if not count:
        return 0
    below = [filled for filled in map(_filled, rows[count : count + MAX_PREAMBLE]) if filled]
    return count if sum(filled >= MIN_COLUMNS for filled in below) * 2 > len(below) else 0


def _is_certain_pair(cells: Sequence[str]) -> bool:
    """Whether a row is a key with a colon, and a value."""
    return _filled(cells) == 2 and cells[0].rstrip().endswith(":") and bool(cells[1].strip())


def _filled(cells: Sequence[str]) -> int:
    """The number of cells that are not empty."""
    return sum(1 for cell in cells if cell.strip())


def _block(
    rows: Sequence[Sequence[str]], first: int, is_below_gap: Callable[[int], bool]
) -> Sequence[Sequence[str]]:
    """The rows from an index up to the next empty line."""
    end = next((index for index in range(first + 1, len(rows)) if is_below_gap(index)), len(rows))
    return rows[first:end]


def _is_wide_header(
    above: Sequence[Sequence[str]], cells: Sequence[str], below: Sequence[Sequence[str]]
) -> bool:
    """Whether a row has names of more columns than any row above, as many as most rows below, and values there."""
    filled = _filled(cells)
    if filled < 2 or any(cell.rstrip().endswith(":") for cell in cells) or not is_word(cells[0]):
        return False
    if any(_filled(row) >= max(filled, MIN_COLUMNS) for row in above):
        return False
    # A delimiter may end every line; years are names, too.
    names, end = cells[:filled], cells[filled:]
    if any(map(str.strip, end)) or not all(is_word(name) or class_of(name) == "year" for name in names):
        return False
    equal = [row for row in below if len(row) == len(cells)]
    if len(equal) * 2 <= len(below):
        return False
    classes = classes_below(equal, len(cells))
    return any(kind not in ("text", class_of(name)) for kind, name in zip(classes, names, strict=False))


def _are_table(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows look like a table with names: one of its columns has values below a word."""
    body = [cells for cells in rows if _filled(cells) > 1]
    width = len(body[0]) if body else 0
    if not all(map(is_word, body[0] if body else ())) or len(body) < 2:
        return False
    return any(kind != "text" for kind in classes_below(body[1:], width))


def repair_first_records(
    records: list[Record], lines: Sequence[str], delimiter: str, quote: str, escape: str
) -> None:
    """Repair the first records in place, because the columns and their names are detected from them."""
    if not records:
        return
    width = mode(records)[0]
    for index, (cells, start, height) in enumerate(records[:MAX_HEADER]):
        if len(cells) == width:
            continue
        line = unescape("\n".join(lines[start : start + height]), quote, escape)
        repaired = repaired_cells(line, delimiter, quote, width)
        # A title with as many words as there are columns is not a header, if names follow.
        below = records[index + 1][0] if index + 1 < len(records) else []
        if repaired and (quote in line or any(TYPED.fullmatch(cell) for cell in below)):
            records[index] = (repaired, start, height)


def shape_of(records: Sequence[Record], above: Sequence[str], *, has_header: bool | None) -> Shape:
    """Find out how many columns a table has.

    Args:
        records: The first records, without comments.
        above: The cells of the last comment above them, which may be their header.
        has_header: Whether the table has a header; None if that is not known.
    """
    if not records:
        return Shape(1, trailing=False)
    rows = [cells for cells, _, _ in records]
    width, equal = mode(records)
    first = len(rows[0])
    if len(rows) > 1 and not rows[0][-1].strip() and all(len(cells) == first - 1 for cells in rows[1:]):
        return Shape(max(1, first - 1), trailing=False)  # only the header has a delimiter at its end
    if first > 1 and (equal < 3 or equal * 2 < len(rows)):  # too few to decide
        width = first
    below = mode(records[1:])[0] if len(rows) > 1 else 0
    if first == below - 1 > 0:  # only the header has no delimiter at its end
        body = [cells for cells in rows[1:] if len(cells) == below]
        if len(body) > 1 and not any(cells[-1].strip() for cells in body):
            return Shape(below - 1, trailing=True)
        if len(rows) > 2 and len(body) == len(rows) - 1 and has_header is not False:
            width = below  # the first column has the names of the rows, and none itself
    if _ends_with_delimiters(rows, above, width, has_header=has_header):
        return Shape(width - 1, trailing=True)
    if first > width and all(map(str.strip, rows[0])) and _header_below(rows, 0, width) == 0:
        width = first  # the header has names of columns that the rows do not have
    return Shape(width, trailing=False)


def _ends_with_delimiters(
    rows: Sequence[Sequence[str]], above: Sequence[str], width: int, *, has_header: bool | None
) -> bool:
    """Whether a delimiter ends every line, so that the last column has neither a name nor a value."""
    body = [cells for cells in rows if len(cells) == width]
    if width < 2 or len(body) < 2 or any(cells[-1].strip() for cells in body):
        return False
    heads = [cells for cells in (above, *body[:MAX_TITLES]) if len(cells) == width]
    has_names = any(_are_words(cells) for cells in heads)
    return len(body) >= MANY_ROWS or (has_names and has_header is not False)


def _are_words(cells: Sequence[str]) -> bool:
    """Whether a row may be one of names: all of its filled cells are words, or years that are all different."""
    filled = [cell for cell in cells if cell.strip()]
    years = [cell for cell in filled if class_of(cell) == "year"]
    return (
        len(years) < len(filled)
        and len(set(years)) == len(years)
        and all(is_word(cell) or cell in years for cell in filled)
    )


def beginning_of(
    rows: Sequence[Sequence[str]],
    width: int,
    sign: str,
    leading: int,
    blocks: Sequence[int],
    *,
    marked: Sequence[bool],
    header: int | None,
    may_skip: bool,
) -> Beginning:
    """Find the first row of a table, and how many rows of names it has.

    Args:
        rows: The cells of the first records of the file.
        width: The number of columns.
        sign: The character that begins comments; "" if there are none.
        leading: The number of rows up to the last comment above the table.
        blocks: The indexes of rows below an empty line.
        marked: Whether each row begins with the sign; a cell in quotes does not.
        header: The number of rows of names; None if that is not known.
        may_skip: Whether there may be rows above the table.
    """
    first = 0
    if may_skip:
        first = _below_titles(rows, width, marked)
        if leading and _is_commented_header(rows, leading - 1, width, sign):
            first = leading - 1
        elif header in (None, 1):
            first = _header_of_block(rows, first, width, blocks) or _header_below(rows, first, width)
    if header is not None or not rows:
        return Beginning(first, header or 0)
    names = without_sign(rows[first], sign if marked[first] else "", width)
    found = header_rows([names, *rows[first + 1 :]], width)
    if not found and not any(any(map(str.strip, row)) for row in rows[:first]):
        return Beginning(0, 0)  # blank rows are rows, unless they stand above a header
    return Beginning(first, found)


def _below_titles(rows: Sequence[Sequence[str]], width: int, marked: Sequence[bool]) -> int:
    """The number of comments, titles, blank rows, and others with far fewer cells, at the beginning."""

    def is_outside(cells: Sequence[str], *, strict: bool, is_comment: bool) -> bool:
        filled = _filled(cells)
        if len(cells) * 2 <= width or is_comment or not filled:
            return True
        return not strict and filled <= 1 < width - 1

    def leading(*, strict: bool) -> int:
        first = 0
        for index, cells in enumerate(rows[:MAX_PREAMBLE]):
            if not is_outside(cells, strict=strict, is_comment=marked[index]):
                return first
            first = index + 1
        return 0

    first = leading(strict=False)
    # A row with a single name is a title, if names follow.
    if any(TYPED.fullmatch(cell) for cell in rows[first]) if rows else False:
        return leading(strict=True)
    return first


def _is_commented_header(rows: Sequence[Sequence[str]], index: int, width: int, sign: str) -> bool:
    """Whether a record is a header although it begins with the sign of comments: its names fit the rows below.

    In ``#id,name`` the sign is a part of the first name; in ``# x y`` it is not.
    """
    names = without_sign(rows[index], sign, width)
    if len(names) != width or width < 2 or not rows[index][0].startswith(sign):
        return False
    below = classes_below(rows[index + 1 :], width)
    if not are_names([names[0].lstrip(sign) or "sign", *names[1:]]) or names[0].rstrip().endswith(":"):
        return False
    if any(kind != "text" for kind in below):
        return are_values(rows[index + 1], below)
    return names == list(rows[index]) and not any(name.startswith(" ") for name in names)


def _header_of_block(
    rows: Sequence[Sequence[str]], first: int, width: int, blocks: Sequence[int]
) -> int | None:
    """The index of the first header below an empty line, if what stands above that line are pairs and no rows."""
    for index in blocks:
        if first < index <= first + MAX_TITLES and _is_header(rows, index, width):
            below = classes_below(rows[index + 1 :], width)
            is_units = are_units(rows[index])
            return None if is_units or any(are_values(row, below) for row in rows[first:index]) else index
    return None


def _header_below(rows: Sequence[Sequence[str]], first: int, width: int) -> int:
    """The index of the first complete row of names, if what stands above it is neither a row nor a header.

    A title may have as many cells as the table or more: if there are names below it that are all different and none of
    them empty, it names no groups. A sentence with commas is no header either.
    """
    for index in range(first, min(first + MAX_TITLES, len(rows) - 1)):
        cells = rows[index]
        if index > first and _is_header(rows, index, width):
            above = rows[index - 1]  # such as years above quarters, with nothing above the first column
            return index - (len(above) == width > 2 and all(map(str.strip, above[1:])))
        is_complete = len(cells) == width and all(cell.strip() for cell in cells)
        if is_complete or (
            len(cells) <= width and are_values(cells, classes_below(rows[index + 1 :], width))
        ):
            break
        if len(cells) > width and not is_prose(cells) and not _is_header(rows, index + 1, width):
            break
    if first + 1 < len(rows) and len(rows[first]) != width and is_prose(rows[first]):
        return first + (len(rows[first + 1]) == width and not is_prose(rows[first + 1]))
    return first


def _is_header(rows: Sequence[Sequence[str]], index: int, width: int) -> bool:
    """Whether a row has names that are all different and none empty, above at least one column of values."""
    cells = rows[index] if index < len(rows) else ()
    if len(cells) != width or not are_names(cells):
        return False
    return any(kind != "text" for kind in classes_below(rows[index + 1 :], width))
