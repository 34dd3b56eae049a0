"""Whose a job is: renews, releases and takes over what servers have, and records what comes of it.

A server that renews its leases lives. What a server has that lives no more, becomes an orphan: it waits again.
"""

# ruff: noqa: S608 - statements are put together of constants

from collections.abc import Collection, Iterable

from creemson.catalog.catalog import JobRow
from creemson.catalog.database import Database, Transaction
from creemson.catalog.shared.claims import Claim
from creemson.catalog.shared.jobs.rows import OWNED, STORED, UNTIL, WAITS, Stored, stored_of
from creemson.catalog.shared.jobs.turns import TURN_BACK

__all__ = ["OwnedJobs"]


class OwnedJobs:
    """The jobs that servers have.

    All methods block, may be called from any thread, and raise OSError if the database fails.

    Args:
        database: the database, which must be PostgreSQL.
        owner: id of this server.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def renew(self, jobs: Collection[str], *, lives: bool = True) -> dict[str, int]:
        """Prolong the leases of jobs.

        Args:
            jobs: their ids.
            lives: say that this server takes jobs.

        Returns:
            The epochs of those that are still its own.
        """

        def renew(transaction: Transaction) -> dict[str, int]:
            if lives:
                transaction.execute(
                    f"INSERT INTO servers VALUES (?, {UNTIL}) ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                    (self._owner,),
                )
            if not jobs:
                return {}
            rows = transaction.execute(
                f"UPDATE jobs SET until = {UNTIL} WHERE owner = ? AND state = 'queued' AND id = ANY (?) "
                "RETURNING id, epoch",
                (self._owner, list(jobs)),
            ).fetchall()
            return dict(rows)

        return self._database.change(renew)

    def release(self, claims: Iterable[Claim]) -> None:
        """Let jobs wait again, for any server."""
        given = list(claims)

        def release(transaction: Transaction) -> None:
            transaction.executemany(
                "UPDATE jobs SET owner = NULL, until = NULL "
                "WHERE id = ? AND owner = ? AND epoch = ? AND state = 'queued'",
                [(claim.job, claim.owner, claim.epoch) for claim in given],
            )
            transaction.execute(TURN_BACK, ([claim.job for claim in given],))

        self._database.change(release)

    def record(self, rows: Iterable[tuple[JobRow, Claim]]) -> set[str]:
        """Record jobs of this server in their present states; return the ids of those that are not its own any more."""
        given = list(rows)

        def record_all(transaction: Transaction) -> set[str]:
            lost = set()
            for row, claim in given:
                # An owner may record an end twice, if the answer to the first time was lost.
                found = transaction.execute(
                    "UPDATE jobs SET key = ?, kept = kept OR ?, timeout = greatest(timeout, ?), state = ?, "
                    "finished = ?, restarts = ?, seq = ?, outcome = ?, version = ? "
                    "WHERE id = ? AND owner = ? AND epoch = ? AND state IN ('queued', ?) RETURNING id",
                    (row.key, row.kept, row.timeout, row.state, row.finished, row.restarts, row.seq, row.outcome,
                     row.version, claim.job, claim.owner, claim.epoch, row.state),
                ).fetchall()  # fmt: skip
                if not found:
                    lost.add(row.id)
            return lost

        return self._database.change(record_all)

    def orphans(self, limit: int = 1000) -> list[Stored]:
        """Let jobs wait again whose lease is over, and return them; each is returned to one server."""

        def adopt(transaction: Transaction) -> list[Stored]:
            rows = transaction.execute(
                f"UPDATE jobs SET owner = NULL, until = NULL, restarts = restarts + 1 WHERE id IN "
                f"(SELECT id FROM jobs WHERE {OWNED} AND until < now() LIMIT ? FOR UPDATE SKIP LOCKED) "
                f"RETURNING {STORED}",
                (limit,),
            ).fetchall()
            if rows:
                transaction.execute(TURN_BACK, ([row[0] for row in rows],))
            return [stored_of(row) for row in rows]

        return self._database.change(adopt)

    def settle(self, job: str, epoch: int, outcome: str, finished: float) -> None:
        """Let an orphan fail that nobody shall run again."""
        self._database.change(
            lambda transaction: transaction.execute(
                "UPDATE jobs SET state = 'failed', outcome = ?, finished = ?, seq = seq + 1 "
                f"WHERE id = ? AND epoch = ? AND {WAITS}",
                (outcome, finished, job, epoch),
            )
        )

    def leave(self) -> None:
        """Say that this server takes no jobs any more."""
        self._database.change(
            lambda transaction: transaction.execute("DELETE FROM servers WHERE id = ?", (self._owner,))
        )

    def others(self) -> int:
        """Return the number of other servers that live."""
        rows = self._database.read(
            "SELECT count(*) FROM servers WHERE id <> ? AND until > now()", (self._owner,)
        )
        return int(rows[0][0])
