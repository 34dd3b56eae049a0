"""The rows of files in an object store, in an SQLite database; implements :class:`creemson.catalog.objects.Objects`."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import orjson

from creemson.catalog.objects import Kind, ObjectRow

__all__ = ["OBJECTS_SCHEMA", "SqliteObjects"]

OBJECTS_SCHEMA = """
CREATE TABLE objects (
    key TEXT PRIMARY KEY,       -- what the names of its objects begin with
    caller TEXT NOT NULL,
    kind TEXT NOT NULL,         -- part, upload, output, kept
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    size INTEGER NOT NULL,
    piece INTEGER NOT NULL,     -- bytes of each object but the last; 0: it is one object
    durable INTEGER NOT NULL,
    tails TEXT NOT NULL,        -- JSON: sizes of the objects behind the last whole piece
    sha256 TEXT,
    fingerprint TEXT,
    modified REAL NOT NULL,     -- seconds since 1970
    used REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX objects_by_name ON objects (caller, name, kind) WHERE kind <> 'kept';
CREATE INDEX objects_by_version ON objects (caller, version);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""
_NAMED = "SELECT * FROM objects WHERE caller = ? AND name = ? AND kind = ? AND kind <> 'kept'"
_INSERT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = tuple(field.name for field in attrs.fields(ObjectRow))
_KEEP = "UPDATE objects SET kind = 'kept' WHERE key = ?"

Read: TypeAlias = Callable[..., Sequence[tuple[Any, ...]]]
Use: TypeAlias = Callable[[Callable[[sqlite3.Connection], Any]], Any]


class SqliteObjects:
    """The rows; see :class:`creemson.catalog.objects.Objects` for the methods.

    Args:
        read: runs a query with parameters, and returns its rows.
        use: calls a function with the database, and returns what it returns.
    """

    def __init__(self, read: Read, use: Use) -> None:
        self._read = read
        self._use = use

    def owner(self, proposed: str) -> str:
        """Return the id of this catalog; the first call sets it."""
        self._write("INSERT OR IGNORE INTO facts VALUES ('owner', ?)", [(proposed,)])
        return str(self._read("SELECT value FROM facts WHERE name = 'owner'")[0][0])

    def callers(self) -> list[str]:
        """Return the callers who have rows."""
        return [caller for (caller,) in self._read("SELECT DISTINCT caller FROM objects")]

    def row(self, key: str) -> ObjectRow | None:
        """Return the row with a key."""
        found = self._read("SELECT * FROM objects WHERE key = ?", (key,))
        return _row(found[0]) if found else None

    def named(self, caller: str, name: str, *kinds: Kind) -> ObjectRow | None:
        """Return a caller's row of a name, of the first of these kinds that there is."""
        for kind in kinds:
            found = self._read(_NAMED, (caller, name, kind))
            if found:
                return _row(found[0])
        return None

    def kept(self, caller: str, version: str) -> list[ObjectRow]:
        """Return a caller's kept rows of a version."""
        query = "SELECT * FROM objects WHERE caller = ? AND version = ? AND kind = 'kept'"
        return [_row(found) for found in self._read(query, (caller, version))]

    def names(self, caller: str, limit: int) -> list[str]:
        """Return the names of some files and outputs of a caller, uploaded ones first."""
        query = "SELECT name FROM objects WHERE caller = ? AND kind = ? LIMIT ?"
        uploads = [name for (name,) in self._read(query, (caller, "upload", limit))]
        outputs = [name for (name,) in self._read(query, (caller, "output", limit - len(uploads)))]
        return uploads + outputs

    def rows(self, caller: str | None = None, kind: Kind | None = None) -> list[ObjectRow]:
        """Return the rows of a caller (None: of all) and of a kind (None: of all)."""
        given = {"caller": caller, "kind": kind}
        conditions = {f"{name} = ?": value for name, value in given.items() if value is not None}
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT * FROM objects{where}"  # noqa: S608 - of constants
        return [_row(found) for found in self._read(query, tuple(conditions.values()))]

    def record(self, rows: Iterable[ObjectRow]) -> list[ObjectRow]:
        """Record rows; return those with other keys that they replace, which become ``kept``."""
        rows = list(rows)

        def record(database: sqlite3.Connection) -> list[ObjectRow]:
            with database:  # one transaction
                return [old for row in rows for old in _record(database, row)]

        replaced: list[ObjectRow] = self._use(record)
        return replaced

    def publish(self, row: ObjectRow, *, overwrite: bool) -> list[ObjectRow]:
        """Do the same for one row, unless there is one of its name and kind that it must not replace."""

        def publish(database: sqlite3.Connection) -> list[ObjectRow]:
            with database:
                replaced = _record(database, row)
                if replaced and not overwrite:
                    raise FileExistsError(row.name)  # the transaction is rolled back
                return replaced

        published: list[ObjectRow] = self._use(publish)
        return published

    def update_part(self, key: str, durable: int, tails: Sequence[int], modified: float) -> None:
        """Record the progress of an unfinished upload."""
        self._write(
            "UPDATE objects SET durable = ?, tails = ?, modified = ? WHERE key = ?",
            [(durable, orjson.dumps(list(tails)).decode(), modified, key)],
        )

    def record_digest(self, key: str, sha256: str) -> None:
        """Record the digest of a file."""
        self._write("UPDATE objects SET sha256 = ? WHERE key = ?", [(sha256, key)])

    def record_use(self, used: Mapping[str, float]) -> None:
        """Record when files were last used, by key."""
        self._write("UPDATE objects SET used = max(used, ?2) WHERE key = ?1", used.items())

    def keep(self, keys: Collection[str]) -> None:
        """Let files lose their names, and stay as ``kept``."""
        self._write(_KEEP, [(key,) for key in keys])

    def forget(self, keys: Iterable[str]) -> None:
        """Delete rows."""
        self._write("DELETE FROM objects WHERE key = ?", [(key,) for key in keys])

    def _write(self, query: str, parameters: Iterable[tuple[object, ...]]) -> None:
        given = list(parameters)

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.executemany(query, given)

        if given:
            self._use(write)


def _record(database: sqlite3.Connection, row: ObjectRow) -> list[ObjectRow]:
    """Record one row; return the one that loses its name to it."""
    found = database.execute(_NAMED, (row.caller, row.name, row.kind)).fetchall()
    replaced = [old for old in map(_row, found) if old.key != row.key]
    database.executemany(_KEEP, [(old.key,) for old in replaced])
    values = attrs.astuple(attrs.evolve(row, tails=orjson.dumps(row.tails).decode()))  # type: ignore[arg-type]
    database.execute(_INSERT, values)
    return replaced


def _row(found: tuple[Any, ...]) -> ObjectRow:
    values = dict(zip(_COLUMNS, found, strict=True))
    values["tails"] = () if values["tails"] == "[]" else tuple(orjson.loads(values["tails"]))
    return ObjectRow(**values)
