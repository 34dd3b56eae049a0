"""The rows of files in an object store, in a database; implements :class:`creemson.catalog.objects.Objects`."""

import contextlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from creemson.catalog.columns import COLUMNS, record, select
from creemson.catalog.database import Database, Transaction
from creemson.catalog.objects import UNGUARDED, Guard, Kind, ObjectRow, PartLostError

__all__ = ["DatabaseObjects", "object_row"]

_SELECT = select("objects")
_NAMED = f"{_SELECT} WHERE caller = ? AND name = ? AND kind = ? AND kind <> 'kept'"
_UPLOADS = f"{_SELECT} WHERE caller = ? AND kind = 'upload'"
_RECORD = record("objects")
_WRITTEN = f"{_SELECT} WHERE key = ? AND kind = 'part' AND version = ?"
_LOCK_PART = "UPDATE objects SET kind = 'part' WHERE key = ? AND kind = 'part' AND version = ?"
"""Changes nothing. SQLite, which has no locks of rows, has no ``SELECT … FOR UPDATE`` either."""
_UPDATE_PART = (
    "UPDATE objects SET durable = ?, tails = ?, modified = ? WHERE key = ? AND kind = 'part' AND version = ?"
)
_TAKE_PART = (
    "UPDATE objects SET version = ?, sha256 = coalesce(?, sha256), fingerprint = coalesce(?, fingerprint), "
    "modified = ? WHERE key = ? AND kind = 'part'"
)
_KEEP = "UPDATE objects SET kind = 'kept' WHERE key = ?"


class DatabaseObjects:
    """The rows; see :class:`creemson.catalog.objects.Objects` for the methods.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def owner(self, proposed: str) -> str:
        """Return the id of this catalog; the first call sets it."""
        self._write("INSERT INTO facts VALUES ('owner', ?) ON CONFLICT DO NOTHING", [(proposed,)])
        return str(self._database.read("SELECT value FROM facts WHERE name = 'owner'")[0][0])

    def callers(self) -> list[str]:
        """Return the callers who have rows."""
        return [caller for (caller,) in self._database.read("SELECT DISTINCT caller FROM objects")]

    def row(self, key: str) -> ObjectRow | None:
        """Return the row with a key."""
        found = self._database.read(f"{_SELECT} WHERE key = ?", (key,))
        return object_row(found[0]) if found else None

    def named(self, caller: str, name: str, *kinds: Kind) -> ObjectRow | None:
        """Return a caller's row of a name, of the first of these kinds that there is."""
        for kind in kinds:
            found = self._database.read(_NAMED, (caller, name, kind))
            if found:
                return object_row(found[0])
        return None

    def has_upload(self, caller: str, names: Sequence[str]) -> bool:
        """Return whether an uploaded file of a caller has one of these names."""
        marks = ", ".join("?" * len(names))
        return bool(self._database.read(f"{_UPLOADS} AND name IN ({marks}) LIMIT 1", (caller, *names)))

    def kept(self, caller: str, version: str) -> list[ObjectRow]:
        """Return a caller's kept rows of a version."""
        query = f"{_SELECT} WHERE caller = ? AND version = ? AND kind = 'kept'"
        return [object_row(found) for found in self._database.read(query, (caller, version))]

    def names(self, caller: str, limit: int) -> list[str]:
        """Return the names of some files and outputs of a caller, uploaded ones first."""
        query = "SELECT name FROM objects WHERE caller = ? AND kind = ? LIMIT ?"
        uploads = [name for (name,) in self._database.read(query, (caller, "upload", limit))]
        outputs = self._database.read(query, (caller, "output", limit - len(uploads)))
        return uploads + [name for (name,) in outputs]

    def rows(self, caller: str | None = None, kind: Kind | None = None) -> list[ObjectRow]:
        """Return the rows of a caller (None: of all) and of a kind (None: of all)."""
        given = {"caller": caller, "kind": kind}
        conditions = {f"{name} = ?": value for name, value in given.items() if value is not None}
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return [
            object_row(found) for found in self._database.read(_SELECT + where, tuple(conditions.values()))
        ]

    def record(self, rows: Iterable[ObjectRow], guard: Guard = UNGUARDED) -> list[ObjectRow]:
        """Record rows; return those with other keys that they replace, which become ``kept``."""
        given = list(rows)

        def record_all(transaction: Transaction) -> list[ObjectRow]:
            with self._guarded(transaction, given, guard) as replaced:
                replaced.extend(old for row in given for old in _record(transaction, row))
            return replaced

        return self._database.change(record_all) if given else []

    def publish(self, row: ObjectRow, *, overwrite: bool, guard: Guard = UNGUARDED) -> list[ObjectRow]:
        """Do the same for one row, unless there is one of its name and kind that it must not replace."""
        attempts = itertools.count()

        def publish(transaction: Transaction) -> list[ObjectRow]:
            with self._guarded(transaction, [row], guard) as replaced:
                if next(attempts) and _is_published(transaction, row.key):
                    return []  # the connection was lost after the commit; somebody may have replaced it since
                if guard.writer and not _written_by(transaction, row.key, guard.writer):
                    raise PartLostError(row.name)
                replaced.extend(_record(transaction, row))
                if replaced and not overwrite:
                    raise FileExistsError(row.name)  # the transaction is rolled back
            return replaced

        return self._database.change(publish)

    def _guarded(
        self, transaction: Transaction, rows: Sequence[ObjectRow], guard: Guard
    ) -> contextlib.AbstractContextManager[list[ObjectRow]]:
        """Check the guard around the recording of rows of one caller; the list is of those that are replaced."""
        del transaction, rows, guard  # one server has nobody to guard against
        return contextlib.nullcontext([])

    def take_part(
        self, key: str, writer: str, *, sha256: str | None, fingerprint: str | None, modified: float
    ) -> ObjectRow | None:
        """Let another one write an unfinished upload."""

        def take(transaction: Transaction) -> ObjectRow | None:
            transaction.execute(_TAKE_PART, (writer, sha256, fingerprint, modified, key))
            found = transaction.execute(_WRITTEN, (key, writer)).fetchall()
            return object_row(found[0]) if found else None

        return self._database.change(take)

    def update_part(self, key: str, writer: str, durable: int, tails: Sequence[int], modified: float) -> None:
        """Record the progress of an unfinished upload."""
        values = (durable, orjson.dumps(list(tails)).decode(), modified, key, writer)

        def update(transaction: Transaction) -> None:
            transaction.execute(_UPDATE_PART, values)
            if not transaction.execute(_WRITTEN, (key, writer)).fetchall():
                raise PartLostError(key)

        self._database.change(update)

    def forget_part(self, key: str, writer: str) -> list[ObjectRow]:
        """Delete the row of an unfinished upload, unless somebody else writes it."""

        def forget(transaction: Transaction) -> list[ObjectRow]:
            if not _written_by(transaction, key, writer):
                return []
            found = transaction.execute(_WRITTEN, (key, writer)).fetchall()
            self._forget(transaction, [key])
            return [object_row(row) for row in found]

        return self._database.change(forget)

    def record_digest(self, key: str, sha256: str) -> None:
        """Record the digest of a file."""
        self._write("UPDATE objects SET sha256 = ? WHERE key = ?", [(sha256, key)])

    def record_use(self, used: Mapping[str, float]) -> None:
        """Record when files were last used, by key."""
        self._write(
            "UPDATE objects SET used = ? WHERE key = ? AND used < ?",
            [(time, key, time) for key, time in used.items()],
        )

    def keep(self, keys: Collection[str]) -> None:
        """Let files lose their names, and stay as ``kept``."""
        self._write(_KEEP, [(key,) for key in keys])

    def forget(self, keys: Iterable[str]) -> None:
        """Delete rows."""
        given = list(keys)
        if given:
            self._database.change(lambda transaction: self._forget(transaction, given))

    def _forget(self, transaction: Transaction, keys: Sequence[str]) -> None:
        transaction.executemany("DELETE FROM objects WHERE key = ?", [(key,) for key in keys])

    def _write(self, statement: str, parameters: Iterable[tuple[object, ...]]) -> None:
        rows = list(parameters)
        if rows:
            self._database.change(lambda transaction: transaction.executemany(statement, rows))


def _is_published(transaction: Transaction, key: str) -> bool:
    return bool(
        transaction.execute("SELECT 1 FROM objects WHERE key = ? AND kind <> 'part'", (key,)).fetchall()
    )


def _written_by(transaction: Transaction, key: str, writer: str) -> bool:
    """Return whether an unfinished upload is written by somebody, and keep it so until the transaction ends."""
    transaction.execute(_LOCK_PART, (key, writer))
    return bool(transaction.execute(_WRITTEN, (key, writer)).fetchall())


def _record(transaction: Transaction, row: ObjectRow) -> list[ObjectRow]:
    """Record one row; return the one that loses its name to it."""
    found = transaction.execute(_NAMED, (row.caller, row.name, row.kind)).fetchall()
    replaced = [old for old in map(object_row, found) if old.key != row.key]
    transaction.executemany(_KEEP, [(old.key,) for old in replaced])
    values = attrs.astuple(attrs.evolve(row, tails=orjson.dumps(row.tails).decode()))  # type: ignore[arg-type]
    transaction.execute(_RECORD, values)
    return replaced


def object_row(found: Sequence[Any]) -> ObjectRow:
    """Return the row of the columns that a query has found."""
    values = dict(zip(COLUMNS["objects"], found, strict=True))
    values["tails"] = () if values["tails"] == "[]" else tuple(orjson.loads(values["tails"]))
    return ObjectRow(**values)
