"""The jobs that have ended: how many are remembered."""

# ruff: noqa: S608 - statements are put together of constants

from collections.abc import Collection

from creemson.catalog.database import Database, Transaction
from creemson.catalog.shared.jobs.rows import STORED, Stored, stored_of

__all__ = ["EndedJobs"]

MAX_SERVED = 10_000
"""Number of parties above which those without jobs lose their turns."""
_TRIM = f"""
DELETE FROM jobs WHERE id IN (
    SELECT id FROM (
        SELECT *, row_number() OVER everyones AS number_in_all, sum(size) OVER everyones AS bytes_in_all FROM (
            SELECT id, finished, length(outcome) AS size,
                row_number() OVER mine AS number, sum(length(outcome)) OVER mine AS bytes
            FROM jobs WHERE state <> 'queued' WINDOW mine AS (PARTITION BY caller ORDER BY finished DESC, id)
        ) AS ended WINDOW everyones AS (ORDER BY number, finished DESC, id)
    ) AS ranked
    WHERE number > ? OR number_in_all > ? OR number > 1 AND (bytes > ? OR bytes_in_all > ?)
) RETURNING {STORED}
"""
"""Forgets the oldest jobs of each caller beyond its bounds; beyond those of all, of the callers who have the most."""


class EndedJobs:
    """The ended jobs. All methods block, may be called from any thread, and raise OSError if the database fails.

    Args:
        database: the database, which must be PostgreSQL.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def forget(self, jobs: Collection[str]) -> None:
        """Delete jobs that have ended."""
        self._database.change(
            lambda transaction: transaction.execute(
                "DELETE FROM jobs WHERE id = ANY (?) AND state <> 'queued'", (list(jobs),)
            )
        )

    def ended_before(self, time: float) -> list[Stored]:
        """Return the jobs that ended before a time, in seconds since 1970."""
        query = f"SELECT {STORED} FROM jobs WHERE state <> 'queued' AND finished < ?"
        return [stored_of(row) for row in self._database.read(query, (time,))]

    def trim(
        self, per_caller: float, in_all: float, bytes_per_caller: float, bytes_in_all: float
    ) -> list[Stored]:
        """Forget the oldest ended jobs beyond these numbers, and turns of parties that have no jobs.

        Returns:
            The jobs that are forgotten.
        """

        def trim(transaction: Transaction) -> list[Stored]:
            forgotten = transaction.execute(
                _TRIM, (per_caller, in_all, bytes_per_caller, bytes_in_all)
            ).fetchall()
            transaction.execute(
                "DELETE FROM turns WHERE (SELECT count(*) FROM turns) > ? AND NOT EXISTS "
                "(SELECT FROM jobs WHERE jobs.party = turns.party AND state = 'queued')",
                (MAX_SERVED,),
            )
            transaction.execute("DELETE FROM servers WHERE until < now() - interval '1 hour'")
            return [stored_of(row) for row in forgotten]

        return self._database.change(trim)

    def answers(self, caller: str, key: str) -> bool:
        """Whether any job does, or has done, this work."""
        query = "SELECT id FROM jobs WHERE caller = ? AND key = ? AND state IN ('queued', 'done') LIMIT 1"
        return bool(self._database.read(query, (caller, key)))
