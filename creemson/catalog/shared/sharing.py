"""What a server shares with other servers."""

from typing import Protocol

import attrs

from creemson.catalog.database import Database
from creemson.catalog.shared.hints import Hints
from creemson.catalog.shared.jobs.admission import Admission
from creemson.catalog.shared.jobs.ended import EndedJobs
from creemson.catalog.shared.jobs.known import KnownJobs
from creemson.catalog.shared.jobs.owned import OwnedJobs
from creemson.catalog.shared.jobs.turns import Turns
from creemson.catalog.shared.tokens import SharedTokens

__all__ = ["Openable", "SharedJobs", "Sharing"]


class Openable(Protocol):
    """A database that is opened before its first use, and closed after its last."""

    def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Close the connections."""


@attrs.frozen
class SharedJobs:
    """The jobs of all servers, by what is done with them.

    Attributes:
        admission: accepts them.
        turns: gives those that wait to servers.
        owned: those that servers have.
        known: all of them, as clients see them.
        ended: those that have ended.
    """

    admission: Admission
    turns: Turns
    owned: OwnedJobs
    known: KnownJobs
    ended: EndedJobs

    @classmethod
    def of(cls, database: Database, owner: str) -> "SharedJobs":
        """Return the jobs in a database, as the server with this id uses them."""
        return cls(
            Admission(database, owner),
            Turns(database, owner),
            OwnedJobs(database, owner),
            KnownJobs(database),
            EndedJobs(database),
        )


@attrs.frozen
class Sharing:
    """What all servers have together.

    Attributes:
        owner: id of this server process.
        jobs: the jobs.
        hints: the hints.
        tokens: the tokens of callers.
        database: has connections of its own, so that a lease is renewed while the rows of files are written.
    """

    owner: str
    jobs: SharedJobs
    hints: Hints
    tokens: SharedTokens
    database: Openable

    def open(self) -> None:
        """Connect; hints are connected by whoever listens.

        Raises:
            OSError: the database cannot be reached.
        """
        self.database.open()

    def close(self) -> None:
        """Close all connections."""
        self.hints.close()
        self.database.close()
