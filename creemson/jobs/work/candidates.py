"""Decides which file gets a columnar copy next, and when. Without I/O.

A copy is made only while nothing else runs, and stops as soon as a job starts. One that was stopped too often may run
beside jobs, as long as these leave a worker free.
"""

import math
from collections import OrderedDict
from typing import Literal, TypeAlias

import attrs

from creemson.model.query import Options
from creemson.storage.tables.tables import TableKey

__all__ = ["Candidate", "Candidates", "End"]

IDLE_AGAIN, IDLE_ONCE = 0.2, 2.0
"""Seconds without a job after which a copy begins: of a file that was used again, and of one that was used once."""
PATIENCE = 3
"""Number of times that an import is stopped by jobs before it may run beside them."""
BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds before an import that was stopped is tried again, doubled each time; and their maximum."""
REST, REST_AFTER_FAILURE = 600.0, 3600.0
"""Seconds in which a copy that was made is not made again, though it may have been removed to make room; and seconds
after which one is tried again that failed, perhaps because the disk was full."""
MAX_CANDIDATES, MAX_CLOSED = 100, 10_000
"""Maximum number of files that wait for a copy, and of those that are known to need none."""

End: TypeAlias = Literal["done", "refused", "failed", "stopped"]
"""How an import ended; ``refused``: this file gets no copy."""


@attrs.define
class Candidate:
    """A file that may get a copy.

    Attributes:
        key: what is copied.
        filename: name of the file.
        options: how it is read; None if everything is detected.
        uses: number of its uses.
        tries: number of times that its import was stopped.
        earliest: time before which it is not tried again.
    """

    key: TableKey
    filename: str
    options: Options | None
    uses: int = 0
    tries: int = 0
    earliest: float = 0.0

    @property
    def is_patient(self) -> bool:
        """Whether it waits until nothing else runs."""
        return self.tries < PATIENCE


class Candidates:
    """Decides which file gets a copy next. Times are in seconds, of any monotonic clock."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[TableKey, Candidate] = OrderedDict()
        self._closed: OrderedDict[TableKey, float] = OrderedDict()  # until when they are not tried again
        self._idle_since = -math.inf  # infinity while jobs run
        self._has_room = True

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def used(self, now: float, key: TableKey, filename: str, options: Options | None) -> None:
        """Note the use of a file without a copy."""
        if self._closed.get(key, -math.inf) > now:
            return
        candidate = self._waiting.setdefault(key, Candidate(key, filename, options))
        candidate.uses += 1
        if len(self._waiting) > MAX_CANDIDATES:
            self._waiting.popitem(last=False)

    def jobs_changed(self, now: float, *, running: bool, has_room: bool) -> None:
        """Note whether any job runs or waits, and whether the jobs leave a worker free."""
        if running:
            self._idle_since = math.inf
        elif self._idle_since == math.inf:
            self._idle_since = now
        self._has_room = has_room

    def may_run(self, candidate: Candidate) -> bool:
        """Whether an import that runs may go on."""
        return self._idle_since < math.inf if candidate.is_patient else self._has_room

    def next(self, now: float) -> Candidate | None:
        """Return the file whose import must begin now: of those that were used most, the one that waits longest."""
        ready = [one for one in self._waiting.values() if self._due(one) <= now]
        return max(ready, key=lambda one: min(one.uses, 2), default=None)

    def next_wake(self) -> float:
        """Return the time when :meth:`next` may return a file; infinity if only an event can change that."""
        return min(map(self._due, self._waiting.values()), default=math.inf)

    def ended(self, now: float, candidate: Candidate, how: End) -> None:
        """Note the end of an import."""
        if how == "stopped":
            candidate.tries += 1
            candidate.earliest = now + min(BACKOFF * 2 ** (candidate.tries - 1), MAX_BACKOFF)
            return
        self._waiting.pop(candidate.key, None)
        rest = {"done": REST, "failed": REST_AFTER_FAILURE}.get(how, math.inf)
        self._closed[candidate.key] = now + rest
        self._closed.move_to_end(candidate.key)
        if len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)

    def _due(self, candidate: Candidate) -> float:
        if not candidate.is_patient and self._has_room:
            return candidate.earliest
        wait = IDLE_AGAIN if candidate.uses > 1 else IDLE_ONCE
        return max(candidate.earliest, self._idle_since + wait)
