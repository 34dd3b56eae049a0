"""What a server shares with other servers."""

from typing import Protocol

import attrs

from creemson.catalog.shared.hints import Hints
from creemson.catalog.shared.jobs import SharedJobs
from creemson.catalog.shared.tokens import SharedTokens

__all__ = ["Openable", "Sharing"]


class Openable(Protocol):
    """A database that is opened before its first use, and closed after its last."""

    def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Close the connections."""


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
