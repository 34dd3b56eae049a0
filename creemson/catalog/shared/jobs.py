"""The jobs of several servers, in one PostgreSQL database.

An unfinished job without an owner waits, and any server may claim it. One with an owner belongs to that server for as
long as its lease lasts, by the clock of the database. Only its owner records what becomes of it; anybody may cancel it.
"""

# ruff: noqa: S608 - statements are put together of constants

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import attrs

from creemson.catalog.catalog import JobRow
from creemson.catalog.columns import COLUMNS
from creemson.catalog.database import Database, Transaction
from creemson.catalog.shared.claims import Claim

__all__ = ["Candidate", "Claimed", "Full", "Limits", "Outcome", "SharedJobs", "Stored", "Submitted"]

LEASE = 10.0
"""Seconds for which a claim is valid after it was made or renewed."""
_UNTIL = f"now() + interval '{LEASE} s'"
_JOB = ", ".join(f"jobs.{name}" for name in COLUMNS["jobs"])
_STORED = f"{_JOB}, jobs.owner, jobs.epoch, jobs.joined"
_WAITS = "state = 'queued' AND owner IS NULL"
_OWNED = "state = 'queued' AND owner IS NOT NULL"
_SUBMISSIONS = 0x6A6F6273
"""Key of the advisory lock that submissions take one after the other: "jobs" as a number."""
OTHER_CHOICES = 4
"""How many more jobs a claim looks at than it takes: others may claim the same ones at this moment."""
MAX_CHOICES = 5
"""How often a claim chooses jobs, if others have claimed all that it has chosen."""
SPARE = 1
"""Number of slots of each server, and of each caller, that are only for parties that use no slot."""
MAX_SERVED = 10_000
"""Number of parties above which those without jobs lose their turns."""

_CHECK = f"""
WITH there AS (
    -- Locked, so that the bytes are not removed by somebody who does not see this job yet.
    SELECT key FROM objects WHERE caller = ? AND version = ? LIMIT 1 FOR KEY SHARE
)
SELECT (SELECT count(*) FROM there), (SELECT count(*) FROM jobs WHERE {_OWNED} AND caller = ?),
    (SELECT count(*) FROM jobs WHERE {_OWNED} AND party = ?),
    count(*), count(*) FILTER (WHERE caller = ?),
    coalesce(sum(length(query)), 0)::bigint, coalesce(sum(length(query)) FILTER (WHERE caller = ?), 0)::bigint
FROM jobs WHERE {_WAITS}
"""
_INTO_JOBS = f"INSERT INTO jobs ({', '.join(COLUMNS['jobs'])}, party, owner, epoch, until)"
_VALUES = ", ".join("?" * len(COLUMNS["jobs"]))
_INSERT_WAITING = f"{_INTO_JOBS} VALUES ({_VALUES}, ?, NULL, 0, NULL)"
_GIVE_TURN = (
    "INSERT INTO turns VALUES (?, nextval('turns_given')) "
    "ON CONFLICT (party) DO UPDATE SET given = excluded.given"
)
_TURN_BACK = (
    f"UPDATE turns SET given = 0 WHERE party IN (SELECT party FROM jobs WHERE id = ANY (?) AND {_WAITS})"
)
"""A job that waits again has had its turn for nothing: it must not wait for the turns of all others."""
_INSERT_CLAIMED = f"WITH new AS ({_INTO_JOBS} VALUES ({_VALUES}, ?, ?, 1, {_UNTIL})) {_GIVE_TURN}"
_CLAIM = f"""
WITH RECURSIVE parties AS (
    (SELECT party FROM jobs WHERE {_WAITS} ORDER BY party LIMIT 1)
    UNION ALL
    SELECT (SELECT party FROM jobs WHERE {_WAITS} AND party > parties.party ORDER BY party LIMIT 1)
    FROM parties WHERE party IS NOT NULL
), running AS MATERIALIZED (
    SELECT caller, party FROM jobs WHERE {_OWNED}
), used AS (
    SELECT party, count(*) AS jobs FROM running GROUP BY party
), used_by_caller AS (
    SELECT caller, count(*) AS jobs FROM running GROUP BY caller
), first AS (
    SELECT found.id, found.caller, parties.party, found.created, coalesce(turns.given, 0) AS given,
        coalesce(used.jobs, 0) + row_number() OVER (PARTITION BY parties.party ORDER BY found.created) AS turn
    FROM parties
    CROSS JOIN LATERAL (
        SELECT id, caller, created FROM jobs WHERE {_WAITS} AND party = parties.party AND id <> ALL (?)
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
    SELECT jobs.id, chosen.turn, chosen.place FROM jobs JOIN chosen ON chosen.id = jobs.id WHERE {_WAITS}
    ORDER BY chosen.place LIMIT ? FOR UPDATE OF jobs SKIP LOCKED
), taken AS (
    SELECT id FROM (SELECT id, turn, row_number() OVER (ORDER BY place) AS number FROM locked) AS numbered
    WHERE number <= ? OR turn = 1
), claimed AS (
    UPDATE jobs SET owner = ?, epoch = epoch + 1, until = {_UNTIL} WHERE id IN (SELECT id FROM taken)
    RETURNING {_STORED}, jobs.party
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
) RETURNING {_STORED}
"""
"""Forgets the oldest jobs of each caller beyond its bounds; beyond those of all, of the callers who have the most."""


@attrs.frozen
class Stored:
    """A job in the database.

    Attributes:
        row: the job.
        owner: id of the server that has it; None: it waits, or a client has cancelled it.
        epoch: how often it was claimed.
        joined: whether more requests than the one that brought it have asked for it.
    """

    row: JobRow
    owner: str | None
    epoch: int
    joined: bool


@attrs.frozen
class Limits:
    """What may wait, of one caller and of all; and how many jobs of a caller may run at once."""

    waiting_of_caller: float
    waiting: float
    bytes_of_caller: float
    bytes: float
    running_of_caller: int


@attrs.frozen
class Candidate:
    """A job that a client submits.

    Attributes:
        row: the job, if it is a new one.
        party: who takes turns for it.
        claim: whether the server has room to start it at once, or must keep it because its connection owns it.
        limits: what holds if it is a new one.
        spare: whether the server has room for it if its party uses no slot of any server.
    """

    row: JobRow
    party: str
    claim: bool
    limits: Limits
    spare: bool = False


@attrs.frozen
class Full:
    """The job was refused, because as many jobs or bytes wait.

    Attributes:
        what: ``jobs`` or ``bytes``.
        mine: whether it is the caller's own bound that does not allow more.
        amount, bound: what waits already, and the bound.
    """

    what: Literal["jobs", "bytes"]
    mine: bool
    amount: int
    bound: float


@attrs.frozen
class Submitted:
    """What came of a candidate.

    Attributes:
        stored: the job: the new one, or an older one that does or has done the same work.
        is_new: which of them.
        waiting: number of jobs that wait before a new one.
    """

    stored: Stored
    is_new: bool
    waiting: int = 0


Outcome: TypeAlias = Submitted | Full | None
"""None: there is no such version of the file any more."""


@attrs.frozen
class Claimed:
    """A job that a server has just claimed."""

    stored: Stored
    party: str


class _Waiting(NamedTuple):
    jobs: int
    mine: int
    bytes: int
    my_bytes: int


class SharedJobs:
    """All methods block, may be called from any thread, and raise OSError if the database fails.

    Args:
        database: the database, which must be PostgreSQL.
        owner: id of this server.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    # --- what clients ask for ------------------------------------------------------------------------

    def submit(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Record jobs, unless there are equal ones; in one transaction, so that no two servers accept the same work."""

        def submit_all(transaction: Transaction) -> list[Outcome]:
            transaction.execute("SELECT pg_advisory_xact_lock(?)", (_SUBMISSIONS,))
            return [self._submit(transaction, candidate) for candidate in candidates]

        return self._database.change(submit_all)

    def _submit(self, transaction: Transaction, candidate: Candidate) -> Outcome:
        row, limits = candidate.row, candidate.limits
        known = transaction.execute(
            f"SELECT {_STORED} FROM jobs WHERE caller = ? AND key = ? AND state IN ('queued', 'done') "
            "ORDER BY state, created LIMIT 1 FOR UPDATE",
            (row.caller, row.key),
        ).fetchall()
        if known:
            found = _stored(known[0])
            if found.row.id == row.id:  # the answer to the same transaction was lost
                return Submitted(found, is_new=found.owner in (None, self._owner))
            if found.row.state == "queued":
                transaction.execute(
                    "UPDATE jobs SET joined = true, kept = kept OR ?, timeout = greatest(timeout, ?) WHERE id = ?",
                    (row.kept, row.timeout, found.row.id),
                )
            return Submitted(found, is_new=False)
        (there, running, used, *waiting), *_ = transaction.execute(
            _CHECK, (row.caller, row.version, row.caller, candidate.party, row.caller, row.caller)
        ).fetchall()
        if not there:
            return None
        waits = _Waiting(*waiting)
        if row.kept:
            may_run = running < limits.running_of_caller + (0 if used else SPARE)
            claims = may_run and (candidate.claim or (candidate.spare and not used))
        else:
            claims = candidate.claim
        if not claims:
            full = _excess(limits, waits, len(row.query))
            if full is not None:
                return full
        values = attrs.astuple(row)
        if claims:
            transaction.execute(_INSERT_CLAIMED, (*values, candidate.party, self._owner, candidate.party))
        else:
            transaction.execute(_INSERT_WAITING, (*values, candidate.party))
        stored = Stored(row, self._owner if claims else None, int(claims), joined=False)
        return Submitted(stored, is_new=True, waiting=waits.jobs)

    def job(self, job: str) -> Stored | None:
        """Return a job."""
        found = self.some([job])
        return found[0] if found else None

    def some(self, jobs: Collection[str]) -> list[Stored]:
        """Return those of these jobs that there are."""
        rows = self._database.read(f"SELECT {_STORED} FROM jobs WHERE id = ANY (?)", (list(jobs),))
        return [_stored(row) for row in rows]

    def states(self, jobs: Collection[str]) -> list[tuple[str, str, str | None]]:
        """Return ids, states and owners of those of these jobs that there are."""
        found: list[Any] = self._database.read(
            "SELECT id, state, owner FROM jobs WHERE id = ANY (?)", (list(jobs),)
        )
        return found

    def of_caller(self, caller: str) -> list[Stored]:
        """Return the jobs of a caller, the newest first."""
        query = f"SELECT {_STORED} FROM jobs WHERE caller = ? ORDER BY created DESC, id"
        return [_stored(row) for row in self._database.read(query, (caller,))]

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
                f"SELECT {_STORED} FROM jobs WHERE caller = ? AND id = ? FOR UPDATE",
                (caller, job),
            ).fetchall()
            if not found:
                return None
            stored = _stored(found[0])
            wanted = only_if_unwanted and (stored.owner is not None or stored.joined)
            if stored.row.state == "queued" and not wanted:
                transaction.execute(
                    "UPDATE jobs SET state = 'cancelled', outcome = ?, finished = ?, seq = seq + 1, owner = NULL, "
                    "until = NULL WHERE id = ?",
                    (outcome, finished, job),
                )
            return stored

        return self._database.change(cancel)

    # --- whose a job is ------------------------------------------------------------------------------

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
            claimed = [Claimed(_stored(row), party) for _, *row, party in rows if party is not None]
            [is_any_chosen, *_], *_ = rows
            if claimed or not is_any_chosen:
                return sorted(claimed, key=lambda one: one.stored.row.created)
        return []

    def waits(self) -> bool:
        """Whether any job waits."""
        return bool(self._database.read(f"SELECT id FROM jobs WHERE {_WAITS} LIMIT 1"))

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
                    f"INSERT INTO servers VALUES (?, {_UNTIL}) ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                    (self._owner,),
                )
            if not jobs:
                return {}
            rows = transaction.execute(
                f"UPDATE jobs SET until = {_UNTIL} WHERE owner = ? AND state = 'queued' AND id = ANY (?) "
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
            transaction.execute(_TURN_BACK, ([claim.job for claim in given],))

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
                f"(SELECT id FROM jobs WHERE {_OWNED} AND until < now() LIMIT ? FOR UPDATE SKIP LOCKED) "
                f"RETURNING {_STORED}",
                (limit,),
            ).fetchall()
            if rows:
                transaction.execute(_TURN_BACK, ([row[0] for row in rows],))
            return [_stored(row) for row in rows]

        return self._database.change(adopt)

    def settle(self, job: str, epoch: int, outcome: str, finished: float) -> None:
        """Let an orphan fail that nobody shall run again."""
        self._database.change(
            lambda transaction: transaction.execute(
                "UPDATE jobs SET state = 'failed', outcome = ?, finished = ?, seq = seq + 1 "
                f"WHERE id = ? AND epoch = ? AND {_WAITS}",
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

    # --- what is remembered --------------------------------------------------------------------------

    def counts(self) -> list[tuple[str, str, bool, int]]:
        """Count the jobs: by caller, state, and whether they have an owner."""
        found: list[Any] = self._database.read(
            "SELECT caller, state, owner IS NOT NULL, count(*) FROM jobs GROUP BY 1, 2, 3"
        )
        return found

    def forget(self, jobs: Collection[str]) -> None:
        """Delete jobs that have ended."""
        self._database.change(
            lambda transaction: transaction.execute(
                "DELETE FROM jobs WHERE id = ANY (?) AND state <> 'queued'", (list(jobs),)
            )
        )

    def ended_before(self, time: float) -> list[Stored]:
        """Return the jobs that ended before a time, in seconds since 1970."""
        query = f"SELECT {_STORED} FROM jobs WHERE state <> 'queued' AND finished < ?"
        return [_stored(row) for row in self._database.read(query, (time,))]

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
            return [_stored(row) for row in forgotten]

        return self._database.change(trim)

    def answers(self, caller: str, key: str) -> bool:
        """Whether any job does, or has done, this work."""
        query = "SELECT id FROM jobs WHERE caller = ? AND key = ? AND state IN ('queued', 'done') LIMIT 1"
        return bool(self._database.read(query, (caller, key)))


def _stored(row: Sequence[Any]) -> Stored:
    *job, owner, epoch, joined = row
    return Stored(JobRow(*job), owner, epoch, joined)


def _excess(limits: Limits, waiting: _Waiting, more: int) -> Full | None:
    """Return why one more job may not wait, if so; as the queue of one server does."""
    if limits.waiting_of_caller <= waiting.mine < limits.waiting:
        return Full("jobs", mine=True, amount=waiting.mine, bound=limits.waiting_of_caller)
    if waiting.jobs >= limits.waiting:
        return Full("jobs", mine=False, amount=waiting.jobs, bound=limits.waiting)
    if waiting.my_bytes and waiting.my_bytes + more > limits.bytes_of_caller:
        return Full("bytes", mine=True, amount=waiting.my_bytes, bound=limits.bytes_of_caller)
    if waiting.bytes and waiting.bytes + more > limits.bytes:
        return Full("bytes", mine=False, amount=waiting.bytes, bound=limits.bytes)
    return None
