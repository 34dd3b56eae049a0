"""The rows of files in an object store that several servers use."""

import contextlib
from collections.abc import Iterator, Sequence

from creemson.catalog.columns import select
from creemson.catalog.database import Database, Transaction
from creemson.catalog.object_statements import DatabaseObjects, object_row
from creemson.catalog.objects import Guard, ObjectRow
from creemson.catalog.shared.claims import Claim, LostClaimError
from creemson.catalog.shared.leases import Leases, note_removal
from creemson.catalog.shared.usage import Usage, check_used, lock, store_lost

__all__ = ["SharedObjects"]

_NEEDED = "SELECT 1 FROM jobs WHERE caller = ? AND version = ? AND state = 'queued' LIMIT 1"
_KEPT = f"{select('objects')} WHERE caller = ? AND version = ? AND kind = 'kept' FOR UPDATE"
_FORGET_COUNTS = """
DELETE FROM tables WHERE NOT EXISTS (
    SELECT 1 FROM objects WHERE objects.caller = tables.caller AND objects.version = tables.version
)
"""
_OF_KEYS = f"{select('objects')} WHERE key = ANY (?)"


class SharedObjects(DatabaseObjects):
    """The rows; see :class:`creemson.catalog.objects.Objects` for the other methods.

    Args:
        database: a PostgreSQL.

    Attributes:
        leases: what the servers use, and what is to be removed.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.leases = Leases(database)

    def usage(self, caller: str, quota: int) -> Usage:
        """Return the count of a caller's bytes."""
        return Usage(self._database, caller, quota)

    def rows_of(self, keys: Sequence[str]) -> list[ObjectRow]:
        """Return the rows that there are of some keys."""
        return [object_row(found) for found in self._database.read(_OF_KEYS, (list(keys),))]

    def row_counts(self, caller: str) -> dict[str, int]:
        """Return the numbers of rows of a caller's files, by version, as far as any server has counted them."""
        query = "SELECT version, rows FROM tables WHERE caller = ? ORDER BY used"
        return dict(self._database.read(query, (caller,)))

    def forget_row_counts(self) -> None:
        """Delete those of files that are gone."""
        self._database.change(lambda transaction: transaction.execute(_FORGET_COUNTS))

    def is_needed(self, caller: str, version: str) -> bool:
        """Return whether an unfinished job of a caller needs a version."""
        return bool(self._database.read(_NEEDED, (caller, version)))

    def forget_kept(self, caller: str, version: str) -> list[ObjectRow]:
        """Delete the kept rows of a version, unless an unfinished job needs it; return them.

        Whoever submits a job locks a row of the version until the job's row is committed. So it is either seen here, or
        does not find the version.
        """

        def forget(transaction: Transaction) -> list[ObjectRow]:
            rows = [object_row(found) for found in transaction.execute(_KEPT, (caller, version)).fetchall()]
            # A statement of its own: it sees what was committed while the one above waited.
            if not rows or transaction.execute(_NEEDED, (caller, version)).fetchall():
                return []
            self._forget(transaction, [row.key for row in rows])
            return rows

        return self._database.change(forget)

    def _forget(self, transaction: Transaction, keys: Sequence[str]) -> None:
        super()._forget(transaction, keys)
        rows = [(key,) for key in keys]
        note_removal(transaction, rows)
        transaction.executemany("DELETE FROM reservations WHERE key = ?", rows)

    @contextlib.contextmanager
    def _guarded(
        self, transaction: Transaction, rows: Sequence[ObjectRow], guard: Guard
    ) -> Iterator[list[ObjectRow]]:
        caller = rows[0].caller
        if guard.quota:
            lock(transaction, caller)
        if guard.store and not _lives(transaction, guard.store):
            raise store_lost()
        if guard.claim is not None and not _is_valid(transaction, guard.claim):
            raise LostClaimError(guard.claim.job)
        replaced: list[ObjectRow] = []
        yield replaced
        if guard.quota:
            added = sum(row.size for row in rows)
            check_used(transaction, caller, guard.quota, added, [row.key for row in replaced])
        # What has become a file counts by its row.
        uploads = [(row.key,) for row in rows if row.kind == "upload"]
        transaction.executemany("DELETE FROM reservations WHERE key = ?", uploads)


def _lives(transaction: Transaction, store: str) -> bool:
    """Return whether a store lives, and keep it so until the transaction ends."""
    return bool(transaction.execute("SELECT 1 FROM stores WHERE id = ? FOR KEY SHARE", (store,)).fetchall())


def _is_valid(transaction: Transaction, claim: Claim) -> bool:
    """Return whether a claim is the one of an unfinished job, and keep it so until the transaction ends."""
    statement = "SELECT 1 FROM jobs WHERE id = ? AND owner = ? AND epoch = ? AND state = 'queued' FOR SHARE"
    return bool(transaction.execute(statement, (claim.job, claim.owner, claim.epoch)).fetchall())
