"""Finds the table in the first records of a CSV: its header, its columns, and the comments between its rows."""

from collections.abc import Sequence

import attrs

from creemson.formats.columns import default_name
from creemson.formats.csv.layout.comments import (
    COMMENT,
    MAX_ABOVE,
    SIGNS,
    comment_sign,
    comments_above,
    without_sign,
)
from creemson.formats.csv.layout.header import classes_below, names_of
from creemson.formats.csv.layout.preamble import beginning_of, below_pairs, repair_first_records, shape_of
from creemson.formats.csv.layout.rows import Record, mode
from creemson.formats.csv.layout.tables import first_table, header_again, is_below_blank
from creemson.model.query import Options

__all__ = ["FoundTable", "table_of"]

FIRST_ROWS = 100
"""Number of rows that tell whether pairs of keys and values stand above the table."""
TYPED_ROWS = 12
"""Number of rows that tell which columns have values, once the header is known."""


@attrs.frozen(kw_only=True)
class FoundTable:
    """The layout of a table; the attributes are those of :class:`~creemson.formats.csv.dialect.Dialect`.

    Attributes:
        skip_lines: Number of lines above the header or, if there is none, above the first row.
        header: Number of rows of names.
        header_lines: Number of lines of these rows.
        names: The names of the columns as the header has them; empty for a column without a name.
        trailing: Whether each row ends with a delimiter.
        comment: The character that begins comments.
        typed: The columns of values.
        headers_again: The lines and texts of the headers of other tables.
    """

    skip_lines: int
    header: int
    header_lines: int
    names: tuple[str, ...]
    trailing: bool
    comment: str | None
    typed: tuple[int, ...]
    headers_again: tuple[tuple[int, str], ...]


def table_of(
    records: list[Record], lines: Sequence[str], options: Options, dialect: tuple[str, str, str]
) -> FoundTable:
    """Find the table in the first records of a file.

    Args:
        records: The first records.
        lines: The lines of the file, below those that the request skips.
        options: ``comment``, ``header`` and ``skip_rows`` are used.
        dialect: The delimiter, the quote and the escape.
    """
    if options.skip_rows is None and (options.header is None or options.header > 0):
        records = _without_pairs(records, lines)
    sign = COMMENT if options.comment is None else options.comment
    uncommented = _without_comments(records, lines, sign)
    comment = options.comment
    width = mode(uncommented or records or [([""], 0, 1)])[0]
    if comment is None:
        may_be_above = options.skip_rows is None or options.header is None or options.header > 0
        comment = comment_sign(lines, records, width, dialect[0], may_be_above=may_be_above)
        sign = sign if comment is None else comment
    leading = comments_above(lines, records, width, sign)
    if comment:
        records = records[:leading] + _without_comments(records[leading:], lines, sign)
    if leading == len(records):
        leading = 0  # rows whose first cell begins with the sign
    records = records[:leading] + list(first_table(records[leading:], lines))
    below = records[leading:]
    repair_first_records(below, lines, *dialect)
    records[leading:] = below
    shape = shape_of(
        below,
        records[leading - 1][0] if leading else (),
        has_header=None if options.header is None else bool(options.header),
    )
    rows = [_without_end(cells, shape.width, trailing=shape.trailing) for cells, _, _ in records]
    marked = [bool(sign) and lines[at].startswith(sign) for _, at, _ in records]
    beginning = beginning_of(
        rows,
        shape.width,
        sign,
        leading,
        [index for index in range(1, min(len(records), MAX_ABOVE)) if is_below_blank(records[index], lines)],
        marked=marked,
        header=None if options.header is None else int(options.header),
        may_skip=options.skip_rows is None,
    )
    rows, records = rows[beginning.first :], records[beginning.first :]
    header = min(beginning.header, len(rows))
    if header:
        rows[0] = without_sign(rows[0], sign if marked[beginning.first] else "", shape.width)
    typed = _typed(rows[header:], shape.width)
    again = header_again(records[header:], lines, rows[0], shape.width, typed) if header else []
    return FoundTable(
        skip_lines=records[0][1] if records else 0,
        header=header,
        header_lines=_header_lines(records, lines, header),
        names=_names(rows[:header], rows[header : _end_of_block(records, lines, header)], shape.width),
        trailing=shape.trailing,
        comment=comment,
        typed=typed,
        headers_again=tuple(
            (at, "\n".join(lines[at : at + height])) for _, at, height in (records[header + i] for i in again)
        ),
    )


def _without_pairs(records: list[Record], lines: Sequence[str]) -> list[Record]:
    """The records without the pairs of keys and values above the header, but with the comments among them."""
    first = records[:MAX_ABOVE]
    if not any(
        cells[0].rstrip().endswith(":") or not "".join(cells).strip() for cells, _, _ in first
    ) and all(map(str.strip, lines[:MAX_ABOVE])):
        return records  # neither a key with a colon nor an empty line: this takes a hundredth of the time

    def is_below_gap(index: int) -> bool:
        return is_below_blank(records[index], lines) or not any(map(str.strip, records[index - 1][0]))

    signs = tuple(SIGNS)
    is_comment = [lines[at].startswith(signs) for _, at, _ in records[:FIRST_ROWS]]
    rows = [
        [""] if commented else cells for (cells, _, _), commented in zip(records, is_comment, strict=False)
    ]
    pairs = below_pairs(rows, is_below_gap)
    above = zip(records[:pairs], is_comment, strict=False)
    return [record for record, commented in above if commented] + records[pairs:]


def _end_of_block(records: Sequence[Record], lines: Sequence[str], header: int) -> int:
    """The number of records up to the first empty line, or row of empty cells, below the first row."""
    for index in range(header + 1, len(records)):
        if is_below_blank(records[index], lines) or not any(map(str.strip, records[index][0])):
            return index
    return len(records)


def _without_comments(records: Sequence[Record], lines: Sequence[str], sign: str) -> list[Record]:
    return [record for record in records if not (sign and lines[record[1]].startswith(sign))]


def _without_end(cells: list[str], width: int, *, trailing: bool) -> list[str]:
    """The cells of a record without the empty one behind a delimiter that ends every line."""
    return cells[:-1] if trailing and len(cells) == width + 1 and not cells[-1].strip() else cells


def _header_lines(records: Sequence[Record], lines: Sequence[str], header: int) -> int:
    """The number of lines of the header, with the empty lines below it."""
    if not header:
        return 0
    start = records[0][1]
    end = records[header - 1][1] + records[header - 1][2]
    if header < len(records) and not any(map(str.strip, lines[end : records[header][1]])):
        end = records[header][1]
    return end - start


def _names(header: Sequence[list[str]], rows: Sequence[list[str]], width: int) -> tuple[str, ...]:
    """The names of the columns; the first column has none if the header has one cell less than all rows."""
    if not header:
        return tuple(map(default_name, range(width if rows else 0)))
    has_row_names = (
        len(header[0]) == width - 1
        and all(map(str.strip, header[0]))
        and len(rows) > 1
        and all(len(row) == width for row in rows)
    )
    return tuple(names_of(header, width, has_row_names=has_row_names))


def _typed(rows: Sequence[list[str]], width: int) -> tuple[int, ...]:
    classes = classes_below(rows[-TYPED_ROWS:], width)
    return tuple(column for column, kind in enumerate(classes) if kind != "text")
