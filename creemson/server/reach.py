"""Whether a server reaches the database that it shares with others: a proxy asks, and an operator wants to know.

A database that is away fails, which each part of the server notices for itself. One that accepts connections and does
not answer, because its disk or its machine hangs, does not fail.
"""

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import ProcessingError, database_away

__all__ = ["Reach"]

SILENCE = 15
"""Seconds without an answer: the leases of the stores are renewed every five, and a restart may take ten."""


class Reach:
    """Counts the seconds since the database has answered.

    Seconds in which this server was suspended do not count: it has not asked.

    Args:
        logger: Logger.
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._log = logger
        self._silent = 0

    def answered(self) -> None:
        """Note that the database has answered."""
        if self._silent >= SILENCE:
            self._log.info("the database answers again", seconds=self._silent)
        self._silent = 0

    async def watch(self) -> None:
        """Count, until cancelled; log once that the database does not answer."""
        while True:
            await trio.sleep(1)
            self._silent += 1
            if self._silent == SILENCE:
                self._log.error(
                    "the database does not answer; requests that need it wait or fail", seconds=SILENCE
                )

    def refusal(self) -> ProcessingError | None:
        """Return the error for new work; None if the database can be reached."""
        return database_away() if self._silent >= SILENCE else None
