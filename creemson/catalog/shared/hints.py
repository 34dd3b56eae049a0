"""Hints from one server to the others.

A hint saves a server from waiting until it looks by itself. It may be lost, and what it says is read from the rows
again.
"""

from collections.abc import Iterable
from typing import Protocol

__all__ = ["ALL", "MAX_HINT", "Hints"]

ALL = ""
"""Receiver of hints for all servers."""
MAX_HINT = 7900
"""Maximum bytes of a hint: PostgreSQL takes less than 8000 (postgresql.org/docs/current/sql-notify.html)."""


class Hints(Protocol):
    """Sends and receives hints. Every method but :meth:`received` may wait for the database: call them in threads."""

    def connect(self) -> int:
        """Begin to listen, also again; return the descriptor that becomes readable with each hint.

        Raises:
            OSError: the database cannot be reached.
        """

    def received(self) -> list[str]:
        """Return the hints that have arrived. It does not wait.

        Raises:
            OSError: the connection is lost.
        """

    def send(self, hints: Iterable[tuple[str, str]]) -> None:
        """Send hints to servers, given by id, or to :data:`ALL`.

        Raises:
            OSError: the database failed; some may have been sent.
        """

    def close(self) -> None:
        """Close the connections."""
