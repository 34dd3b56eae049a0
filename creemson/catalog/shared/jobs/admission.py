"""Accepts jobs: whether equal work is already there, whether the queue is full, and whether the job starts at once."""

# ruff: noqa: S608 - statements are put together of constants

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import attrs

from creemson.catalog.catalog import JobRow
from creemson.catalog.columns import COLUMNS
from creemson.catalog.database import Database, Transaction
from creemson.catalog.shared.jobs.rows import OWNED, STORED, UNTIL, WAITS, Stored, stored_of
from creemson.catalog.shared.jobs.turns import GIVE_TURN, SPARE

__all__ = ["Admission", "Candidate", "Full", "Limits", "Outcome", "Submitted"]

_SUBMISSIONS = 0x6A6F6273
"""Key of the advisory lock that submissions take one after the other: "jobs" as a number."""

_CHECK = f"""
WITH there AS (
    -- Locked, so that the bytes are not removed by somebody who does not see this job yet.
    SELECT key FROM objects WHERE caller = ? AND version = ? LIMIT 1 FOR KEY SHARE
)
SELECT (SELECT count(*) FROM there), (SELECT count(*) FROM jobs WHERE {OWNED} AND caller = ?),
    (SELECT count(*) FROM jobs WHERE {OWNED} AND party = ?),
    count(*), count(*) FILTER (WHERE caller = ?),
    coalesce(sum(length(query)), 0)::bigint, coalesce(sum(length(query)) FILTER (WHERE caller = ?), 0)::bigint
FROM jobs WHERE {WAITS}
"""
_INTO_JOBS = f"INSERT INTO jobs ({', '.join(COLUMNS['jobs'])}, party, owner, epoch, until)"
_VALUES = ", ".join("?" * len(COLUMNS["jobs"]))
_INSERT_WAITING = f"{_INTO_JOBS} VALUES ({_VALUES}, ?, NULL, 0, NULL)"
_INSERT_CLAIMED = f"WITH new AS ({_INTO_JOBS} VALUES ({_VALUES}, ?, ?, 1, {UNTIL})) {GIVE_TURN}"


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


class _Waiting(NamedTuple):
    jobs: int
    mine: int
    bytes: int
    my_bytes: int


class Admission:
    """Accepts jobs. All methods block, may be called from any thread, and raise OSError if the database fails.

    Args:
        database: the database, which must be PostgreSQL.
        owner: id of this server.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def submit(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Record jobs, unless there are equal ones; in one transaction, so that no two servers accept the same work."""

        def submit_all(transaction: Transaction) -> list[Outcome]:
            transaction.execute("SELECT pg_advisory_xact_lock(?)", (_SUBMISSIONS,))
            return [self._submit(transaction, candidate) for candidate in candidates]

        return self._database.change(submit_all)

    def _submit(self, transaction: Transaction, candidate: Candidate) -> Outcome:
        row, limits = candidate.row, candidate.limits
        known = transaction.execute(
            f"SELECT {STORED} FROM jobs WHERE caller = ? AND key = ? AND state IN ('queued', 'done') "
            "ORDER BY state, created LIMIT 1 FOR UPDATE",
            (row.caller, row.key),
        ).fetchall()
        if known:
            found = stored_of(known[0])
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
