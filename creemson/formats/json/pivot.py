"""Turns JSON with an array or object for each column into rows."""

from collections.abc import Iterator
from typing import Any

from creemson.errors import ProcessingError
from creemson.formats.columns import unused_name
from creemson.formats.json.parsing import Chunk, dumps, loads_exact

__all__ = ["LABEL", "rows_of"]

MAX_COLUMNS_BYTES = 256 << 20
"""Maximum size of such a file in bytes: a row is complete at its end only, so all of it is in memory."""
ROWS_AT_ONCE = 1000
"""Number of rows of a chunk."""
LABEL = "column_1"
"""Name of the column with the names of the rows, as in a CSV whose header has no name for it."""


def rows_of(blocks: Iterator[bytes], name: str) -> Iterator[Chunk]:
    """Yield the rows of a file, each with its number as its line.

    Args:
        blocks: The text: an object whose values are all arrays, or all objects.
        name: The file's name in messages.

    Raises:
        ProcessingError: ``unreadable_file``: the file is too large, or not JSON.
    """
    pieces, size = [], 0
    for block in blocks:
        pieces.append(block)
        size += len(block)
        if size > MAX_COLUMNS_BYTES:
            raise ProcessingError(
                "unreadable_file",
                f"{name!r} has more than {MAX_COLUMNS_BYTES >> 20} MiB of JSON with a list for each column, which "
                "cannot be read in pieces. Save it with an object for each row (orient='records'), or as Parquet.",
            )
    try:
        columns = loads_exact(b"".join(pieces).removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise ProcessingError("unreadable_file", f"{name!r} cannot be read as JSON: {error}.") from None
    rows = _rows(columns)
    number = 1
    while lines := [dumps(row) for _, row in zip(range(ROWS_AT_ONCE), rows, strict=False)]:
        yield Chunk(b"\n".join(lines) + b"\n", range(number, number + len(lines)))
        number += len(lines)


def _rows(columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = list(columns)
    if all(isinstance(values, list) for values in columns.values()):
        for cells in zip(*columns.values(), strict=True):
            yield dict(zip(names, cells, strict=True))
        return
    labels = dict.fromkeys(label for values in columns.values() for label in values)
    is_numbered = all(label == str(number) for number, label in enumerate(labels))
    label_name = unused_name(LABEL, names)
    for label in labels:
        row = {} if is_numbered else {label_name: label}
        for name in names:
            if label in columns[name]:
                row[name] = columns[name][label]
        yield row
