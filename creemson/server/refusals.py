"""Counts and logs refused connections and requests: a flood of them must not fill the disk with lines."""

from collections.abc import Callable

import trio
from structlog.typing import FilteringBoundLogger

from creemson.logs.limiter import LineLimiter
from creemson.metrics import Metrics

__all__ = ["Refusals"]

INTERVAL = 10.0
"""Minimum seconds between two lines about one address and one reason."""
RATE, BURST = 5.0, 100
"""Lines per second about all addresses, and at once."""
MAX_KEYS = 10_000
"""Number of addresses and reasons that are remembered."""
MAX_TEXT = 200
"""Number of characters of a text from outside, such as a path, that a line contains."""


class Refusals:
    """The refusals of one server.

    Args:
        metrics: counts all of them, by status.
        logger: Logger.
        clock: returns seconds on a monotonic clock.
    """

    def __init__(
        self,
        metrics: Metrics,
        logger: FilteringBoundLogger,
        *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._metrics = metrics
        self._log = logger
        self._clock = clock
        self._limiter = LineLimiter(interval=INTERVAL, rate=RATE, burst=BURST, max_keys=MAX_KEYS)

    def count(self, status: int) -> None:
        """Count a refusal that needs no line."""
        self._metrics.refusals[str(status)] += 1

    def note(self, status: int, peer: str | None, **fields: str | None) -> None:
        """Count a refusal; log it unless there was a similar line about the same address a moment ago.

        Args:
            status: HTTP status.
            peer: address and port.
            fields: more about it, for the log; long texts are cut.
        """
        self.count(status)
        address = peer and peer.rpartition(":")[0]
        line = self._limiter.admit((status, address), self._clock())
        if line is not None:
            shown = {name: text and text[:MAX_TEXT] for name, text in fields.items()}
            self._log.info("refused", status=status, peer=peer, **shown, **line.counts)
