"""How many bytes a caller has stored, or is about to, on all servers: computed from the rows each time.

All files have rows with their sizes, and so has an upload that was announced. What has no row yet is *reserved*, for as
long as the store lives that writes it, see :mod:`creemson.catalog.shared.leases`. Of a file and the uploads that may
replace it, the smaller of the file and the largest of these does not count; see :mod:`creemson.storage.quota`.

Whatever makes the number grow takes a lock of the caller first, which lasts until the transaction ends.
"""

from collections.abc import Sequence

from creemson.catalog.database import Database, Transaction
from creemson.errors import ProcessingError, storage_full

__all__ = ["Usage", "check_used", "lock", "store_lost"]

_LOCKS = 0x71756F74
"""First key of the advisory locks: "quot" as a number; the second one is a hash of the caller's name."""
_USED = """
WITH stored AS (
    SELECT key, kind, name, size FROM objects WHERE caller = ? AND key <> ALL (?)
), reserved AS (
    SELECT reservations.key, reservations.replaces, reservations.size, stored.kind, coalesce(stored.size, 0) AS counted
    FROM reservations LEFT JOIN stored ON stored.key = reservations.key
    WHERE reservations.caller = ? AND reservations.key <> ALL (?)
), replacing AS (
    SELECT name, max(size) AS size FROM (
        SELECT name, size FROM stored WHERE kind = 'part'
        UNION ALL SELECT replaces, size FROM reserved WHERE kind IS NULL OR kind = 'part'
    ) AS uploads GROUP BY name
)
SELECT
    (SELECT coalesce(sum(size), 0) FROM stored)
    + (SELECT coalesce(sum(CASE WHEN kind = 'upload' THEN size ELSE greatest(size - counted, 0) END), 0) FROM reserved)
    - (SELECT coalesce(sum(least(stored.size, replacing.size)), 0)
        FROM stored JOIN replacing ON replacing.name = stored.name WHERE stored.kind = 'upload')
"""
"""A reservation for an uploaded file is for its bytes after it was replaced, which come in addition."""


def lock(transaction: Transaction, caller: str) -> None:
    """Let nobody else make the number grow until the transaction ends."""
    transaction.execute("SELECT pg_advisory_xact_lock(?, hashtext(?))", (_LOCKS, caller))


def used_bytes(transaction: Transaction, caller: str, without: Sequence[str] = ()) -> int:
    """Return the number of bytes that count.

    Args:
        transaction: the transaction.
        caller: the caller.
        without: keys that do not count.
    """
    keys = list(without)
    return int(transaction.execute(_USED, (caller, keys, caller, keys)).fetchall()[0][0])


def check_used(transaction: Transaction, caller: str, quota: int, added: int, without: Sequence[str]) -> None:
    """Check that what a transaction has added fits; if not, the transaction must not be committed.

    Args:
        transaction: the transaction, which has the lock.
        caller: the caller.
        quota: maximum number of bytes.
        added: the number of bytes that were added, for the message.
        without: keys that do not count.

    Raises:
        ProcessingError: ``storage_full``.
    """
    total = used_bytes(transaction, caller, without)
    if total > quota:
        raise storage_full(quota, total - added, added)


def store_lost() -> ProcessingError:
    """Return the error for what was begun by a store that does not live any more."""
    return ProcessingError(
        "worker_died",
        "The server was cut off for so long that others have removed what it had written. Try again.",
    )


class Usage:
    """The bytes of one caller. All methods block, and raise OSError if the database fails.

    Args:
        database: a PostgreSQL that has the catalog.
        caller: the caller.
        quota: maximum number of bytes.
    """

    def __init__(self, database: Database, caller: str, quota: int) -> None:
        self._database = database
        self._caller = caller
        self._quota = quota

    def total(self) -> int:
        """Return the number of bytes that count."""
        return int(self._database.read(_USED, (self._caller, [], self._caller, []))[0][0])

    def reserve(
        self, key: str, size: int, *, store: str, instead_of: str | None, replaces: str | None
    ) -> None:
        """Count bytes that will be written under a key.

        Args:
            key: the key.
            size: all bytes that it will have; a smaller reservation is raised, a larger one stays.
            store: who writes them.
            instead_of: a key whose bytes the caller removes before it writes any; they do not keep these from fitting.
            replaces: name of the file that these bytes will replace.

        Raises:
            ProcessingError: ``storage_full``: they do not fit; or ``worker_died``: the store does not live any more.
        """
        without = [] if instead_of is None else [instead_of]

        def reserve(transaction: Transaction) -> None:
            lock(transaction, self._caller)
            transaction.execute("SAVEPOINT before")
            record(transaction)
            after = used_bytes(transaction, self._caller, without)
            if after <= self._quota:
                return
            # Others may end reservations at any time. Counted in this order, that never makes room for this one.
            transaction.execute("ROLLBACK TO SAVEPOINT before")
            before = used_bytes(transaction, self._caller, without)
            if after > before:
                raise storage_full(self._quota, used_bytes(transaction, self._caller), after - before)
            record(transaction)

        def record(transaction: Transaction) -> None:
            found = transaction.execute(
                "INSERT INTO reservations (key, caller, size, replaces, store) "
                "SELECT ?, ?, ?, ?::text, id FROM stores WHERE id = ? FOR KEY SHARE "
                "ON CONFLICT (key) DO UPDATE SET size = greatest(reservations.size, excluded.size), "
                "replaces = coalesce(excluded.replaces, reservations.replaces), store = excluded.store RETURNING key",
                (key, self._caller, size, replaces, store),
            ).fetchall()
            if not found:
                raise store_lost()

        self._database.change(reserve)

    def free(self, keys: Sequence[str], store: str) -> None:
        """End reservations that a store has made."""
        rows = [(key, store) for key in keys]
        self._database.change(
            lambda transaction: transaction.executemany(
                "DELETE FROM reservations WHERE key = ? AND store = ?", rows
            )
        )
