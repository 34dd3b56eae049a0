"""The jobs as clients see them: reads them, and lets requests join and cancel them, whichever server has them."""

# ruff: noqa: S608 - statements are put together of constants

from collections.abc import Collection
from typing import Any

from creemson.catalog.database import Database, Transaction
from creemson.catalog.shared.jobs.rows import STORED, Stored, stored_of

__all__ = ["KnownJobs"]


class KnownJobs:
    """All jobs. All methods block, may be called from any thread, and raise OSError if the database fails.

    Args:
        database: the database, which must be PostgreSQL.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def job(self, job: str) -> Stored | None:
        """Return a job."""
        found = self.some([job])
        return found[0] if found else None

    def some(self, jobs: Collection[str]) -> list[Stored]:
        """Return those of these jobs that there are."""
        rows = self._database.read(f"SELECT {STORED} FROM jobs WHERE id = ANY (?)", (list(jobs),))
        return [stored_of(row) for row in rows]

    def states(self, jobs: Collection[str]) -> list[tuple[str, str, str | None]]:
        """Return ids, states and owners of those of these jobs that there are."""
        found: list[Any] = self._database.read(
            "SELECT id, state, owner FROM jobs WHERE id = ANY (?)", (list(jobs),)
        )
        return found

    def of_caller(self, caller: str) -> list[Stored]:
        """Return the jobs of a caller, the newest first."""
        query = f"SELECT {STORED} FROM jobs WHERE caller = ? ORDER BY created DESC, id"
        return [stored_of(row) for row in self._database.read(query, (caller,))]

    def join(self, job: str) -> None:
        """Note that another request waits for a job, so it goes on when the one that brought it leaves."""
        self._database.change(
            lambda transaction: transaction.execute(
                "UPDATE jobs SET joined = true WHERE id = ? AND NOT joined AND state = 'queued'", (job,)
            )
        )

    def cancel(
        self, caller: str, job: str, outcome: str, finished: float, *, only_if_unwanted: bool = False
    ) -> Stored | None:
        """Let an unfinished job end as cancelled.

        Args:
            caller: the caller who owns it.
            job: its id.
            outcome: the error, as JSON.
            finished: the time in seconds since 1970.
            only_if_unwanted: leave it if it runs, or if more than one request has asked for it.

        Returns:
            The job as it was before; None if there is none.
        """

        def cancel(transaction: Transaction) -> Stored | None:
            found = transaction.execute(
                f"SELECT {STORED} FROM jobs WHERE caller = ? AND id = ? FOR UPDATE",
                (caller, job),
            ).fetchall()
            if not found:
                return None
            stored = stored_of(found[0])
            wanted = only_if_unwanted and (stored.owner is not None or stored.joined)
            if stored.row.state == "queued" and not wanted:
                transaction.execute(
                    "UPDATE jobs SET state = 'cancelled', outcome = ?, finished = ?, seq = seq + 1, owner = NULL, "
                    "until = NULL WHERE id = ?",
                    (outcome, finished, job),
                )
            return stored

        return self._database.change(cancel)

    def counts(self) -> list[tuple[str, str, bool, int]]:
        """Count the jobs: by caller, state, and whether they have an owner."""
        found: list[Any] = self._database.read(
            "SELECT caller, state, owner IS NOT NULL, count(*) FROM jobs GROUP BY 1, 2, 3"
        )
        return found
