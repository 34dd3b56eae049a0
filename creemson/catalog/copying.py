"""Copies of all rows of a catalog, as lines of JSON: to move from one database to another."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from creemson.catalog.columns import COLUMNS, insert, select
from creemson.catalog.database import Database, Transaction

__all__ = ["export_rows", "import_rows"]

HEAD = b'{"creemson_catalog":1}\n'
"""The first line, with the version of the format."""
END = b'{"end":true}\n'
"""The last line, by which a whole export is recognised."""
BATCH = 1000
"""Rows that are inserted by one call."""


def export_rows(database: Database) -> Iterator[bytes]:
    """Return all rows, one line each, after a line that names the format.

    Raises:
        OSError: the database failed.
    """
    yield HEAD
    for table, columns in COLUMNS.items():
        for row in database.read(select(table)):
            values = dict(zip(columns, row, strict=True))
            if "kept" in values:
                values["kept"] = bool(values["kept"])  # SQLite has numbers for truth values
            yield orjson.dumps({"table": table, "row": values}, option=orjson.OPT_APPEND_NEWLINE)
    yield END


def import_rows(database: Database, lines: Iterable[bytes]) -> dict[str, int]:
    """Insert rows into an empty catalog, all or none.

    Args:
        database: of the catalog.
        lines: what :func:`export_rows` returned.

    Returns:
        The number of rows of each table.

    Raises:
        ValueError: a line is not understood, the last one is missing, or the catalog is not empty.
        OSError: the database failed.
    """
    rows = _parsed(lines)

    def insert_all(transaction: Transaction) -> None:
        for table in COLUMNS:
            if transaction.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall():  # noqa: S608 - of constants
                raise ValueError(
                    f"The catalog is not empty: it has rows in {table!r}. Import into a new one."
                )
        for table in COLUMNS:
            found = rows[table]
            for first in range(0, len(found), BATCH):
                transaction.executemany(insert(table), found[first : first + BATCH])

    database.change(insert_all)
    return {table: len(found) for table, found in rows.items()}


def _parsed(lines: Iterable[bytes]) -> dict[str, list[tuple[Any, ...]]]:
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
    given = iter(lines)
    first = next(given, b"")
    if first != HEAD:
        raise ValueError(
            f"This was not made by `creemson catalog export` of this version: it begins with {first[:80]!r}."
        )
    for number, line in enumerate(given, 2):
        if line == END:
            return rows
        try:
            value = orjson.loads(line)
            table = value["table"]
            rows[table].append(tuple(value["row"][name] for name in COLUMNS[table]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"Line {number} is not from `creemson catalog export`: {error!r}.") from None
    raise ValueError("The end is missing: the export was cut off. Export again.")
