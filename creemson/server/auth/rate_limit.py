"""Token buckets: limit the average rate and the size of bursts. Sans-IO."""

import math

import attrs

__all__ = ["TokenBucket", "TokenBuckets"]

IDLE_KEPT = 1000
"""Number of new buckets after which full buckets (of names that are not in use) are removed."""


@attrs.define
class TokenBucket:
    """Holds at most ``burst`` tokens and gains ``rate`` per second (https://en.wikipedia.org/wiki/Token_bucket).

    >>> bucket = TokenBucket(rate=2.0, burst=1)
    >>> bucket.take(10.0), bucket.take(10.0), bucket.take(10.5)
    (0.0, 0.5, 0.0)
    """

    rate: float
    burst: float
    _level: float = attrs.field(init=False, default=0.0)  # tokens at the time `_at`
    _at: float = attrs.field(init=False, default=-math.inf)  # last use; so the bucket is full at first

    def take(self, now: float, count: int = 1) -> float:
        """Take tokens, all or none.

        Args:
            now: seconds on any monotonic clock.
            count: number of tokens.

        Returns:
            0 if they were taken; otherwise the seconds until there are enough.
        """
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level >= count:
            self._level -= count
            return 0.0
        return (count - self._level) / self.rate

    def put_back(self, count: int) -> None:
        """Undo a :meth:`take`."""
        self._level += count

    def is_full(self, now: float) -> bool:
        """Whether the bucket is full, as if it had never been used."""
        return self._level + (now - self._at) * self.rate >= self.burst


class TokenBuckets:
    """One bucket per name.

    Args:
        rate, burst: see :class:`TokenBucket`.
    """

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, TokenBucket] = {}
        self._clean_at = IDLE_KEPT  # number of buckets at which full ones are removed

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: str, now: float) -> TokenBucket:
        """Return the bucket with this name."""
        found = self._buckets.get(name)
        if found is None:
            if len(self._buckets) >= self._clean_at:
                self._buckets = {key: one for key, one in self._buckets.items() if not one.is_full(now)}
                self._clean_at = len(self._buckets) + IDLE_KEPT
            found = self._buckets[name] = TokenBucket(self._rate, self._burst)
        return found
