"""Token buckets: so much in the long run, and so much at once. Sans-IO."""

import math

import attrs

__all__ = ["Bucket", "Buckets"]

IDLE_KEPT = 1000
"""Full buckets may be forgotten; they are looked for whenever there are so many more."""


@attrs.define
class Bucket:
    """Holds at most ``burst`` and is filled by ``rate`` a second (https://en.wikipedia.org/wiki/Token_bucket).

    >>> bucket = Bucket(rate=2.0, burst=1)
    >>> bucket.take(10.0), bucket.take(10.0), bucket.take(10.5)
    (0.0, 0.5, 0.0)
    """

    rate: float
    burst: float
    _level: float = attrs.field(init=False, default=0.0)
    _at: float = attrs.field(init=False, default=-math.inf)  # so it is full at first

    def take(self, now: float, count: int = 1) -> float:
        """Take some.

        Args:
            now: seconds of any clock that only goes forward.
            count: how many.

        Returns:
            0, or seconds until there are so many to take; then nothing was taken.
        """
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level >= count:
            self._level -= count
            return 0.0
        return (count - self._level) / self.rate

    def put_back(self, count: int) -> None:
        """Undo a :meth:`take` of so many."""
        self._level += count

    def full(self, now: float) -> bool:
        """Whether it is as if it had never been used."""
        return self._level + (now - self._at) * self.rate >= self.burst


class Buckets:
    """One bucket for each name.

    Args:
        rate, burst: of each.
    """

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, Bucket] = {}
        self._look_at = IDLE_KEPT

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: str, now: float) -> Bucket:
        """The bucket of that name."""
        found = self._buckets.get(name)
        if found is None:
            if len(self._buckets) >= self._look_at:
                self._buckets = {key: one for key, one in self._buckets.items() if not one.full(now)}
                self._look_at = len(self._buckets) + IDLE_KEPT
            found = self._buckets[name] = Bucket(self._rate, self._burst)
        return found
