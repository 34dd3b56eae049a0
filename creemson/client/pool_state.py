"""Who gets which connection: the pool's decisions as a sans-IO state machine.

Every method takes what happened (and the time in seconds of any monotonic clock, where it matters), changes
the state, and returns the list of effects that its caller has to carry out. What comes of them is the next
method call.

    Open ──> opening ──> idle <──> lent
                │          └───┬────┘
             failed         closing ──> ended      (Discard)

First come, first served. A connection holds its place until it has ended, so that there are never more than
``max_size``; while one is idle, nobody waits.
"""

import math
from collections.abc import Hashable, Mapping
from typing import TypeAlias

import attrs

__all__ = ["Discard", "Effect", "Health", "Lend", "Lending", "Open", "PoolStatistics", "Refuse"]


@attrs.frozen
class Health:
    """How well an idle connection does.

    Attributes:
        connected: whether it is connected now; one that reconnects is not.
        retry_count: recent reconnects.
        latency: seconds of a round trip; None where it is not known.
    """

    connected: bool = True
    retry_count: int = 0
    latency: float | None = None

    @property
    def order(self) -> tuple[bool, int, float]:
        """The less, the better."""
        return not self.connected, self.retry_count, math.inf if self.latency is None else self.latency


@attrs.frozen
class Lend:
    """Effect: the borrower gets this connection, until ``returned`` or ``gave_up``."""

    borrower: Hashable
    connection: int


@attrs.frozen
class Open:
    """Effect: open a connection, and report ``opened`` or ``open_failed``."""

    connection: int


@attrs.frozen
class Discard:
    """Effect: close the connection, even if it is lent or still being opened; report ``ended``."""

    connection: int


@attrs.frozen
class Refuse:
    """Effect: the borrower gets none, because of ``error``; None means that the pool is closed."""

    borrower: Hashable
    error: Exception | None


Effect: TypeAlias = Lend | Open | Discard | Refuse


@attrs.frozen
class PoolStatistics:
    """What a pool has, and what it has done so far.

    Attributes:
        max_size: connections that it may have.
        size: connections that it has: the sum of the next four.
        idle: those that nobody uses.
        lent: those that somebody uses.
        opening: those that are being opened.
        closing: those that are being closed.
        waiting: borrowers that wait.
        opened: connections that were opened so far.
        lent_total: times that one was lent.
        replaced: connections that died; others take their places when they are needed.
        failed: connections that could not be opened.
    """

    max_size: int
    size: int
    idle: int
    lent: int
    opening: int
    closing: int
    waiting: int
    opened: int
    lent_total: int
    replaced: int
    failed: int


class Lending:
    """The connections of one pool, and who waits for them. What names the borrowers is the caller's choice.

    Args:
        max_size: connections that there may be, from 1.
        idle_timeout: seconds after which a connection that nobody uses is closed; None keeps it.

    Raises:
        ValueError: one of them is too small.
    """

    def __init__(self, max_size: int, *, idle_timeout: float | None = None) -> None:
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; a pool has at least 1 connection")
        if idle_timeout is not None and not idle_timeout > 0:
            raise ValueError(f"idle_timeout is {idle_timeout} s; it must be more than 0, or None for no end")
        self._max_size = max_size
        self._idle_timeout = math.inf if idle_timeout is None else idle_timeout
        self._waiting: dict[Hashable, None] = {}  # a set that keeps the order
        # Every connection is in one of these four.
        self._opening: set[int] = set()
        self._idle: dict[int, float] = {}  # since when; the most recently used one is the last
        self._lent: dict[int, Hashable] = {}  # to whom
        self._closing: set[int] = set()
        self._closed = False
        self._last = 0  # number of the newest connection
        self._opened = self._lent_total = self._replaced = self._failed = 0

    # --- what happens --------------------------------------------------------------------------------

    def ask(self, borrower: Hashable, health: Mapping[int, Health]) -> list[Effect]:
        """Somebody wants a connection: the healthiest idle one, or the next that there is.

        Args:
            borrower: who asks; another one each time.
            health: of all idle connections; dead ones must have been reported by ``died`` before.
        """
        if self._closed:
            return [Refuse(borrower, None)]
        if self._idle:
            # Of equals the most recently used: so the others can time out.
            best = min(reversed(self._idle), key=lambda connection: health[connection].order)
            del self._idle[best]
            return self._lend(borrower, best)
        self._waiting[borrower] = None
        return self._fill()

    def returned(self, now: float, connection: int, *, healthy: bool) -> list[Effect]:
        """A borrower needs its connection no more; nothing happens if that has ended or is being closed."""
        if self._lent.pop(connection, None) is None:
            return []
        return self._offer(now, connection) if healthy else self._replace(connection)

    def gave_up(self, now: float, borrower: Hashable, *, healthy: bool = True) -> list[Effect]:
        """A borrower does not wait any longer, perhaps in the moment in which it was given a connection.

        Args:
            now: the time.
            borrower: who.
            healthy: whether that connection, if any, is.
        """
        if borrower in self._waiting:
            del self._waiting[borrower]  # what is being opened for it is there for the next one
            return []
        given = [connection for connection, holder in self._lent.items() if holder == borrower]
        return self.returned(now, given[0], healthy=healthy) if given else []

    def opened(self, now: float, connection: int) -> list[Effect]:
        """A connection is open; nothing happens if it was discarded meanwhile."""
        if connection not in self._opening:
            return []
        self._opening.remove(connection)
        self._opened += 1
        return self._offer(now, connection)

    def open_failed(self, connection: int, error: Exception) -> list[Effect]:
        """A connection could not be opened: who has waited longest is told, the others get another try."""
        if connection not in self._opening:
            return self.ended(connection)
        self._opening.remove(connection)
        self._failed += 1
        refused: list[Effect] = []
        if self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            refused = [Refuse(first, error)]
        return refused + self._fill()

    def died(self, connection: int) -> list[Effect]:
        """An idle connection was found dead."""
        del self._idle[connection]
        return self._replace(connection)

    def ended(self, connection: int) -> list[Effect]:
        """Nothing is left of a connection, whether it was discarded or ended by itself: its place is free."""
        if connection in self._closing:
            self._closing.remove(connection)
        else:
            if self._lent.pop(connection, None) is None:
                del self._idle[connection]
            self._replaced += 1
        return self._fill()

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: discard what was idle for too long."""
        overdue = [connection for connection in self._idle if self._expiry(connection) <= now]
        for connection in overdue:
            del self._idle[connection]
        self._closing.update(overdue)
        return [Discard(connection) for connection in overdue]

    def next_wake(self) -> float:
        """When ``tick`` has something to do; infinity if nothing is idle."""
        return self._expiry(next(iter(self._idle))) if self._idle else math.inf

    def close(self) -> list[Effect]:
        """Refuse all who wait and all who come, discard every connection, lent or not."""
        self._closed = True
        refused: list[Effect] = [Refuse(borrower, None) for borrower in self._waiting]
        discarded = [*self._opening, *self._idle, *self._lent]
        for container in (self._waiting, self._opening, self._idle, self._lent):
            container.clear()
        self._closing.update(discarded)
        return refused + [Discard(connection) for connection in discarded]

    # --- what there is -------------------------------------------------------------------------------

    @property
    def idle(self) -> list[int]:
        """The connections that nobody uses, the most recently used one last."""
        return list(self._idle)

    def statistics(self) -> PoolStatistics:
        """Count what there is and what was done."""
        return PoolStatistics(
            max_size=self._max_size,
            size=self._size,
            idle=len(self._idle),
            lent=len(self._lent),
            opening=len(self._opening),
            closing=len(self._closing),
            waiting=len(self._waiting),
            opened=self._opened,
            lent_total=self._lent_total,
            replaced=self._replaced,
            failed=self._failed,
        )

    def validate(self) -> None:
        """Assert what must always hold; tests call this after every step."""
        places = [*self._opening, *self._idle, *self._lent, *self._closing]
        assert len(places) == len(set(places)) == self._size <= self._max_size
        borrowers = [*self._waiting, *self._lent.values()]
        assert len(borrowers) == len(set(borrowers)), "nobody waits or has one twice"
        assert list(self._idle.values()) == sorted(self._idle.values())
        if self._waiting:
            assert not self._idle, "somebody waits in vain"
            assert len(self._opening) >= len(self._waiting) or self._size == self._max_size
        if self._closed:
            assert not self._waiting
            assert len(self._closing) == self._size
        assert self._opened >= len(self._idle) + len(self._lent)

    # --- how it is done ------------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        return len(self._opening) + len(self._idle) + len(self._lent) + len(self._closing)

    def _expiry(self, connection: int) -> float:
        return self._idle[connection] + self._idle_timeout

    def _lend(self, borrower: Hashable, connection: int) -> list[Effect]:
        self._lent[connection] = borrower
        self._lent_total += 1
        return [Lend(borrower, connection)]

    def _offer(self, now: float, connection: int) -> list[Effect]:
        """Lend it to who has waited longest, if anybody waits."""
        if self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            return self._lend(first, connection)
        self._idle[connection] = now
        return []

    def _replace(self, connection: int) -> list[Effect]:
        """Drop a dead one; another is opened when it has ended, if anybody waits then."""
        self._replaced += 1
        self._closing.add(connection)
        return [Discard(connection)]

    def _fill(self) -> list[Effect]:
        """Open as many as there are borrowers waiting, and places."""
        effects: list[Effect] = []
        while len(self._opening) < len(self._waiting) and self._size < self._max_size:
            self._last += 1
            self._opening.add(self._last)
            effects.append(Open(self._last))
        return effects
