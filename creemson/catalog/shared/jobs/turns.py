"""Gives the jobs that wait to servers with free slots; parties take turns over all servers."""

# ruff: noqa: S608 - statements are put together of constants

from collections.abc import Iterable

import attrs

from creemson.catalog.database import Database
from creemson.catalog.shared.jobs.rows import OWNED, STORED, UNTIL, WAITS, Stored, stored_of

__all__ = ["GIVE_TURN", "SPARE", "TURN_BACK", "Claimed", "Turns"]

OTHER_CHOICES = 4
"""How many more jobs a claim looks at than it takes: others may claim the same ones at this moment."""
MAX_CHOICES = 5
"""How often a claim chooses jobs, if others have claimed all that it has chosen."""
SPARE = 1
"""Number of slots of each server, and of each caller, that are only for parties that use no slot."""

GIVE_TURN = (
    "INSERT INTO turns VALUES (?, nextval('turns_given')) "
    "ON CONFLICT (party) DO UPDATE SET given = excluded.given"
)
TURN_BACK = (
    f"UPDATE turns SET given = 0 WHERE party IN (SELECT party FROM jobs WHERE id = ANY (?) AND {WAITS})"
)
"""A job that waits again has had its turn for nothing: it must not wait for the turns of all others."""
_CLAIM = f"""
WITH RECURSIVE parties AS (
    (SELECT party FROM jobs WHERE {WAITS} ORDER BY party LIMIT 1)
    UNION ALL
    SELECT (SELECT party FROM jobs WHERE {WAITS} AND party > parties.party ORDER BY party LIMIT 1)
    FROM parties WHERE party IS NOT NULL
), running AS MATERIALIZED (
    SELECT caller, party FROM jobs WHERE {OWNED}
), used AS (
    SELECT party, count(*) AS jobs FROM running GROUP BY party
), used_by_caller AS (
    SELECT caller, count(*) AS jobs FROM running GROUP BY caller
), first AS (
    SELECT found.id, found.caller, parties.party, found.created, coalesce(turns.given, 0) AS given,
        coalesce(used.jobs, 0) + row_number() OVER (PARTITION BY parties.party ORDER BY found.created) AS turn
    FROM parties
    CROSS JOIN LATERAL (
        SELECT id, caller, created FROM jobs WHERE {WAITS} AND party = parties.party AND id <> ALL (?)
        ORDER BY created LIMIT ?
    ) AS found
    LEFT JOIN used ON used.party = parties.party
    LEFT JOIN turns ON turns.party = parties.party
), allowed AS (
    SELECT first.*, coalesce(used_by_caller.jobs, 0)
        + row_number() OVER (PARTITION BY first.caller ORDER BY turn, given, first.created) AS of_caller
    FROM first LEFT JOIN used_by_caller ON used_by_caller.caller = first.caller
), chosen AS (
    SELECT id, turn, row_number() OVER (ORDER BY turn, given, created) AS place FROM allowed
    WHERE of_caller <= CASE turn WHEN 1 THEN ? + {SPARE} ELSE ? END AND (turn = 1 OR ?)
    ORDER BY place LIMIT ?
), locked AS MATERIALIZED (
    SELECT jobs.id, chosen.turn, chosen.place FROM jobs JOIN chosen ON chosen.id = jobs.id WHERE {WAITS}
    ORDER BY chosen.place LIMIT ? FOR UPDATE OF jobs SKIP LOCKED
), taken AS (
    SELECT id FROM (SELECT id, turn, row_number() OVER (ORDER BY place) AS number FROM locked) AS numbered
    WHERE number <= ? OR turn = 1
), claimed AS (
    UPDATE jobs SET owner = ?, epoch = epoch + 1, until = {UNTIL} WHERE id IN (SELECT id FROM taken)
    RETURNING {STORED}, jobs.party
), served AS (
    INSERT INTO turns
    SELECT party, nextval('turns_given') FROM (SELECT DISTINCT party FROM claimed ORDER BY party) AS parties
    ON CONFLICT (party) DO UPDATE SET given = excluded.given
)
SELECT EXISTS (SELECT FROM chosen), claimed.* FROM (SELECT set_config('synchronous_commit', 'off', true)) AS always
LEFT JOIN claimed ON true
"""
"""Claims the jobs whose turn it is: of the parties with the fewest running jobs, of equal ones of those whose last turn
is the longest ago. For each party it visits some rows of the index, and not all that wait
(wiki.postgresql.org/wiki/Loose_indexscan). Other servers may choose the same jobs at this moment: who locks a job
first, gets it. It is one statement, because each takes a round trip to the database, for which the locks are held.
Turns are given in the same order everywhere, so that no two servers wait for each other.

It does not wait for the disk: if the database crashes at once, the job waits again. Its server does not know that until
it renews its leases, but can neither record nor publish anything, because the row does not name it."""


@attrs.frozen
class Claimed:
    """A job that a server has just claimed."""

    stored: Stored
    party: str


class Turns:
    """Claims jobs in turn. All methods block, may be called from any thread, and raise OSError if the database fails.

    Args:
        database: the database, which must be PostgreSQL.
        owner: id of this server.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def claim(
        self, room: int, running_of_caller: int, without: Iterable[str] = (), *, spare: bool = False
    ) -> list[Claimed]:
        """Take jobs that wait, as many as ``room``; parties take turns over all servers.

        Args:
            room: number of jobs that can start here now.
            running_of_caller: maximum number of jobs of one caller that run at once.
            without: ids of jobs that this server cannot take now.
            spare: whether one more can start, of a party that uses no slot of any server; see
                :mod:`creemson.jobs.sharing.turns`.
        """
        left_out, limit = list(without), running_of_caller

        choices = room + spare + OTHER_CHOICES
        parameters = (
            left_out, choices, limit, limit, room > 0, choices, room + spare, room, self._owner,
        )  # fmt: skip
        for _ in range(MAX_CHOICES):
            rows = self._database.change(
                lambda transaction: transaction.execute(_CLAIM, parameters).fetchall()
            )
            claimed = [Claimed(stored_of(row), party) for _, *row, party in rows if party is not None]
            [is_any_chosen, *_], *_ = rows
            if claimed or not is_any_chosen:
                return sorted(claimed, key=lambda one: one.stored.row.created)
        return []

    def waits(self) -> bool:
        """Whether any job waits."""
        return bool(self._database.read(f"SELECT id FROM jobs WHERE {WAITS} LIMIT 1"))
