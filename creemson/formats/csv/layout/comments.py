"""Finds the sign that begins the comments of a CSV."""

from collections.abc import Sequence

from creemson.formats.csv.layout.cells import is_prose
from creemson.formats.csv.layout.rows import Record

__all__ = ["COMMENT", "MAX_ABOVE", "SIGNS", "comment_sign", "comments_above", "without_sign"]

COMMENT = "#"
"""The character that begins comments if nothing else is known: lines that begin with it and do not fit the columns."""
MAX_ABOVE = 50
"""Maximum number of records above the table."""
SIGNS = "#%!;*"
"""Characters that begin comments if they begin lines above the table and again among its rows."""


def comment_sign(
    lines: Sequence[str], records: Sequence[Record], width: int, delimiter: str, *, may_be_above: bool
) -> str | None:
    """Find the sign of comments.

    Args:
        lines: The first lines of the file.
        records: The records of these lines.
        width: The number of columns.
        delimiter: The text between cells.
        may_be_above: Whether the first lines may be above the rows; if not, they are rows.

    Returns:
        The sign if it plainly begins comments: it begins lines above the table, and again among the rows, and those do
        not look like rows; or it is ``#``, and begins lines among the rows that have not as many cells. "" if it begins
        rows. None if nothing is known.
    """
    above = next((lines[at][0] for _, at, _ in records if lines[at]), "")
    is_above = may_be_above and above in SIGNS and above != delimiter[:1]
    sign = above if is_above else COMMENT
    marked = [cells for cells, at, _ in records if lines[at].startswith(sign)]
    if _begins_rows(lines, records, width, sign):
        return ""
    leading = comments_above(lines, records, width, sign)
    among = [cells for cells, at, _ in records[leading:] if lines[at].startswith(sign)]
    if not among or len(marked) == len(records):
        return None
    return sign if is_above or any(len(cells) != width for cells in among) else None


def _begins_rows(lines: Sequence[str], records: Sequence[Record], width: int, sign: str) -> bool:
    """Whether a sign is a part of the first cell of rows: below other rows, it begins one that fits the columns."""
    is_among = False
    for cells, at, _ in records:
        if len(cells) != width:
            continue
        if not lines[at].startswith(sign):
            is_among = is_among or sum(1 for cell in cells if cell.strip()) > 1
        elif is_among and cells[0][1:2].strip() and not cells[0].rstrip().endswith(":"):
            return True
    return False


def comments_above(lines: Sequence[str], records: Sequence[Record], width: int, sign: str) -> int:
    """The number of records above the table up to its last comment, which may be its header; 0 without comments."""
    found = 0
    for index, (cells, at, _) in enumerate(records[:MAX_ABOVE]):
        if sign and lines[at].startswith(sign):
            found = index + 1
        elif len(cells) == width and sum(1 for cell in cells if cell.strip()) > 1 and not is_prose(cells):
            break
    return found


def without_sign(cells: Sequence[str], sign: str, width: int) -> list[str]:
    """The names of a header that begins with the sign of comments.

    A sign with a blank behind it is no part of the first name; the blank may be the delimiter.

    >>> without_sign(["# x", "y"], "#", 2), without_sign(["#", "x", "y"], "#", 2), without_sign(["#x", "y"], "#", 2)
    (['x', 'y'], ['x', 'y'], ['#x', 'y'])
    """
    names = list(cells)
    if not sign or not names or not names[0].startswith(sign):
        return names
    bare = names[0].lstrip(sign)
    if not bare and len(names) == width + 1:
        return names[1:]
    if bare.startswith(" ") and bare.strip():
        names[0] = bare.strip()
    return names
