"""Estimates how long a command still takes, from the fractions of its work that it has reported. Without I/O.

A number that is wrong is worse than none. So there is no estimate until the command has worked for a while and has done
a part that says something about its pace. What it does first (opening the file, finding the types) has no fraction and
does not count. An estimate is never followed by a larger one; if the work turns out to be much slower, there is none.
"""

import attrs

__all__ = ["Estimate"]

LEAST_SECONDS, LEAST_FRACTION = 1.0, 0.05
"""How long and how far the work must have gone on, since it began to advance, before there is an estimate."""
MUCH_SLOWER, SLOWER_SECONDS = 2.0, 2.0
"""If the work takes this many times what was told, and this many seconds more, it is not told any longer."""


@attrs.define
class Estimate:
    """The remaining time of one job.

    Attributes:
        fraction: the largest fraction that was reported.
        eta: the remaining seconds; None if nobody can tell.
    """

    fraction: float = 0.0
    eta: float | None = None
    _attempt: int = 0
    _began: float = 0.0  # time of the last report before the attempt began to advance
    _first: float = 0.0  # its fraction then
    _last: float = 0.0  # its fraction now
    _told: float | None = None  # the last estimate that was not None

    def update(self, now: float, attempt: int, fraction: float) -> None:
        """Take a report.

        Args:
            now: the time, in seconds.
            attempt: number of the attempt; the next one starts the same work again, at its own pace.
            fraction: the share of the work that is done, from 0 to 1.
        """
        if attempt != self._attempt:
            self._attempt, self._first, self._last, self._told = attempt, fraction, fraction, None
        fraction = self._last = max(self._last, fraction)
        if fraction == self._first:  # nothing is done yet
            self._began = now
        self.fraction = max(self.fraction, fraction)
        self.eta = self._estimate(now - self._began, fraction)
        if self.eta is not None:
            self._told = self.eta

    def _estimate(self, elapsed: float, fraction: float) -> float | None:
        if fraction >= 1:
            return 0.0
        done = fraction - self._first
        if elapsed < LEAST_SECONDS or done < LEAST_FRACTION:
            return None
        eta = elapsed * (1 - fraction) / done
        if self._told is None:
            return eta
        if eta > self._told * MUCH_SLOWER + SLOWER_SECONDS:
            return None
        return min(eta, self._told)
