"""Decides which of many similar events get a log line. Sans-IO."""

from collections.abc import Hashable

import attrs

__all__ = ["Line", "LineLimiter"]


@attrs.frozen
class Line:
    """A line that may be written, with the events that got none.

    Attributes:
        same: number of earlier events of the same key without a line.
        others: number of events of other keys that will get no line any more.
    """

    same: int = 0
    others: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that are not 0, as fields of the line."""
        fields = {"not_logged": self.same, "others_not_logged": self.others}
        return {name: count for name, count in fields.items() if count}


@attrs.define
class _Key:
    since: float  # time of its last line
    silent: int = 0  # events since then


@attrs.define
class LineLimiter:
    """One line per key and ``interval``, and in all no more than a token bucket allows.

    Every event is either a line, or in the count of a later line, or still in :attr:`pending`.

    Args:
        interval: seconds.
        rate: lines per second, in all.
        burst: number of lines at once, in all.
        max_keys: number of keys that are remembered.

    >>> limiter = LineLimiter(interval=10.0, rate=1.0, burst=20, max_keys=100)
    >>> limiter.admit("a", 0.0), limiter.admit("a", 1.0), limiter.admit("b", 2.0), limiter.admit("a", 11.0)
    (Line(same=0, others=0), None, Line(same=0, others=0), Line(same=1, others=0))
    """

    interval: float
    rate: float
    burst: int
    max_keys: int
    _tokens: float = attrs.field(init=False)
    _at: float = attrs.field(init=False, default=0.0)
    _keys: dict[Hashable, _Key] = attrs.field(init=False, factory=dict)  # the one with the oldest line first
    _others: int = attrs.field(init=False, default=0)  # events of keys that are no longer remembered

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def admit(self, key: Hashable, now: float) -> Line | None:
        """Decide on an event.

        Args:
            key: what makes events similar, for example their reason and peer.
            now: seconds on a monotonic clock.

        Returns:
            The line to write; None if the event only counts.
        """
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        found = self._keys.get(key)
        if found is not None and now < found.since + self.interval:
            found.silent += 1
            return None
        if self._tokens < 1:
            if found is None:
                self._others += 1
            else:
                found.silent += 1
            return None
        self._tokens -= 1
        if found is not None:
            del self._keys[key]
        self._expire(now)
        line = Line(0 if found is None else found.silent, self._others)
        self._others = 0
        self._keys[key] = _Key(now)
        return line

    @property
    def pending(self) -> int:
        """Number of events that are in no line so far."""
        return self._others + sum(key.silent for key in self._keys.values())

    def _expire(self, now: float) -> None:
        """Forget keys without a line in the last interval, and the oldest ones if there are too many."""
        while self._keys:
            oldest = next(iter(self._keys))
            if len(self._keys) < self.max_keys and now < self._keys[oldest].since + self.interval:
                return
            self._others += self._keys.pop(oldest).silent
