"""Which objects the servers that live read or write now, and the removal of objects that nobody uses.

Each server has a *store*, which lives until a time by the clock of the database. The server moves that time on every
few seconds, and lists what it uses; what it uses for less than that is never listed. So nothing is removed before a
time has passed in which each server that lives has renewed its store: :data:`GRACE`.

A server that was stopped for longer may wake up. Its store is gone then: what it has begun before cannot be published.
"""

from collections.abc import Collection, Iterable, Sequence

from creemson.catalog.database import Database, Transaction

__all__ = ["GRACE", "LEASE", "Leases"]

LEASE = 30.0
"""Seconds for which a store lives after it was renewed."""
GRACE = 60.0
"""Seconds after which objects are removed of which nobody has known anything since."""
RESTART_TIME = 30.0
"""Seconds after the start of the database in which no store expires."""
BATCH = 1000
"""Maximum number of removals at once."""
_UNTIL = f"now() + interval '{LEASE} s'"
_IS_NEW = "SELECT pg_postmaster_start_time() > now() - make_interval(secs => ?)"


class Leases:
    """The stores of all servers, and what is to be removed. All methods block, and raise OSError if the database fails.

    Args:
        database: a PostgreSQL that has the catalog.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, store: str) -> None:
        """Record a new store.

        Args:
            store: an id that was never used before.
        """
        self._database.change(
            lambda transaction: transaction.execute(
                f"INSERT INTO stores VALUES (?, {_UNTIL}) ON CONFLICT DO NOTHING",  # noqa: S608 - of constants
                (store,),
            )
        )

    def renew(self, store: str, used: Collection[str], unused: Collection[str]) -> bool:
        """Let a store live on, and change what it uses.

        Args:
            store: its id.
            used: beginnings of keys that it uses.
            unused: those that it does not use any more.

        Returns:
            Whether it still lived; if not, it is gone with all that it used.
        """

        def renew(transaction: Transaction) -> bool:
            lives = transaction.execute(
                f"UPDATE stores SET until = {_UNTIL} WHERE id = ? RETURNING id",  # noqa: S608 - of constants
                (store,),
            ).fetchall()
            if lives:
                transaction.executemany(
                    "INSERT INTO leases VALUES (?, ?) ON CONFLICT DO NOTHING", [(key, store) for key in used]
                )
                transaction.executemany(
                    "DELETE FROM leases WHERE prefix = ? AND store = ?", [(key, store) for key in unused]
                )
            return bool(lives)

        return self._database.change(renew)

    def end(self, store: str) -> None:
        """Remove a store with all that it uses."""
        self._database.change(
            lambda transaction: transaction.execute("DELETE FROM stores WHERE id = ?", (store,))
        )

    def expire(self) -> bool:
        """Remove the stores of servers that do not live any more; what they publish meanwhile is waited for.

        Returns:
            Whether it was done: while the database was away, nobody could renew a store, so all get time for that.
        """
        if self._database.read(_IS_NEW, (RESTART_TIME,))[0][0]:
            return False
        self._database.change(
            lambda transaction: transaction.execute("DELETE FROM stores WHERE until < now()")
        )
        return True

    def used(self) -> set[str]:
        """Return the beginnings of keys that are used by any server."""
        return {key for (key,) in self._database.read("SELECT DISTINCT prefix FROM leases")}

    # --- removal -------------------------------------------------------------------------------------

    def remove(self, keys: Iterable[str]) -> None:
        """Note that the objects under some keys are to be removed, from now on after :data:`GRACE`."""
        rows = [(key,) for key in keys]
        if rows:
            self._database.change(lambda transaction: note_removal(transaction, rows))

    def removable(self) -> list[str]:
        """Return the keys whose time has come, the oldest first."""
        rows = self._database.read(
            f"SELECT key FROM removals WHERE at < now() - interval '{GRACE} s' ORDER BY at LIMIT {BATCH}"  # noqa: S608 - of constants
        )
        return [key for (key,) in rows]

    def removed(self, keys: Collection[str]) -> None:
        """Note that nothing remains to be removed under some keys."""
        rows = [(key,) for key in keys]
        if rows:
            self._database.change(
                lambda transaction: transaction.executemany("DELETE FROM removals WHERE key = ?", rows)
            )

    def may_list(self, seconds: float) -> bool:
        """Return whether no server has listed all objects for so long; then it is the caller's turn."""
        rows = self._database.change(
            lambda transaction: transaction.execute(
                "INSERT INTO facts VALUES ('listed', extract(epoch FROM now())) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value "
                "WHERE abs(facts.value::float8 - excluded.value::float8) >= ? RETURNING name",
                (seconds,),
            ).fetchall()
        )
        return bool(rows)


def note_removal(transaction: Transaction, keys: Sequence[tuple[str]]) -> None:
    """Note, as a part of a transaction, that the objects under some keys are to be removed."""
    transaction.executemany("INSERT INTO removals (key) VALUES (?) ON CONFLICT DO NOTHING", keys)
