"""The rows of jobs that several servers share.

    waits ──claim──> owned ──record──> ended
      ^                │
      └────release─────┘

An unfinished job without an owner waits, and any server may claim it. One with an owner belongs to that server for as
long as its lease lasts, by the clock of the database. Only its owner records what becomes of it; anybody may cancel it.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from creemson.catalog.catalog import JobRow
from creemson.catalog.columns import COLUMNS

__all__ = ["LEASE", "OWNED", "STORED", "UNTIL", "WAITS", "Stored", "stored_of"]

LEASE = 10.0
"""Seconds for which a claim is valid after it was made or renewed."""
UNTIL = f"now() + interval '{LEASE} s'"
"""When a lease ends that begins now."""
WAITS = "state = 'queued' AND owner IS NULL"
OWNED = "state = 'queued' AND owner IS NOT NULL"
"""The conditions of a job that waits, and of one that a server has."""
_JOB = ", ".join(f"jobs.{name}" for name in COLUMNS["jobs"])
STORED = f"{_JOB}, jobs.owner, jobs.epoch, jobs.joined"
"""The columns of :class:`Stored`."""


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


def stored_of(row: Sequence[Any]) -> Stored:
    """Return the job of a row with the columns :data:`STORED`."""
    *job, owner, epoch, joined = row
    return Stored(JobRow(*job), owner, epoch, joined)
