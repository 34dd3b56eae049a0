"""The columns of the catalog's tables, and the statements that follow from them."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from creemson.catalog.catalog import JobRow, PartRow, TableRow
from creemson.catalog.objects import ObjectRow

__all__ = ["COLUMNS", "insert", "record", "select"]


def _names(row: type) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(row))


COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "files": ("path", "version", "sha256", "used"),
        "parts": _names(PartRow),
        "jobs": _names(JobRow),
        "tables": _names(TableRow),
        "objects": _names(ObjectRow),
        "facts": ("name", "value"),
    }
)
"""The columns of each table; those of rows in the order of their attributes."""


def select(table: str) -> str:
    """Return the query for all rows of a table, to which a condition may be appended."""
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table}"  # noqa: S608 - of constants


def insert(table: str) -> str:
    """Return the statement that inserts a row."""
    columns = COLUMNS[table]
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - of constants


def record(table: str) -> str:
    """Return a statement that inserts a row, or replaces the one with the same first column."""
    key, *others = COLUMNS[table]
    values = ", ".join(f"{name} = excluded.{name}" for name in others)
    return f"{insert(table)} ON CONFLICT ({key}) DO UPDATE SET {values}"
