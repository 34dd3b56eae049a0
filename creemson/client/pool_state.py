"""Decides which task gets which connection of a pool: a sans-IO state machine.

Each method reports an event to the state machine (with the time in seconds of any monotonic clock, if it matters), and
returns a list of effects. The caller must carry them out, and report their outcomes by further calls.

    Open ──> opening ──> idle <──> in use
                │          └───┬────┘
             failed         closing ──> ended      (Discard)

Waiters are served in order of arrival. A connection occupies a slot until it has ended, so there are never
more than ``max_size``; while one is idle, nobody waits.
"""

import math
from collections.abc import Hashable, Mapping
from typing import TypeAlias

import attrs

__all__ = ["Discard", "Effect", "Grant", "Health", "Open", "PoolState", "PoolStatistics", "Refuse"]


@attrs.frozen
class Health:
    """The condition of an idle connection.

    Attributes:
        connected: whether it is connected now, and not reconnecting.
        retry_count: recent attempts to reconnect.
        latency: seconds of a round trip; None if unknown.
    """

    connected: bool = True
    retry_count: int = 0
    latency: float | None = None

    @property
    def order(self) -> tuple[bool, int, float]:
        """Sort key; the healthiest connection sorts first."""
        return not self.connected, self.retry_count, math.inf if self.latency is None else self.latency


@attrs.frozen
class Grant:
    """Effect: the waiter gets this connection, until ``released`` or ``gave_up`` is called."""

    waiter: Hashable
    connection: int


@attrs.frozen
class Open:
    """Effect: open a connection, and report ``opened`` or ``open_failed``."""

    connection: int


@attrs.frozen
class Discard:
    """Effect: close the connection, even if it is in use or being opened, and report ``ended``."""

    connection: int


@attrs.frozen
class Refuse:
    """Effect: the waiter gets no connection because of ``error``; None means that the pool is closed."""

    waiter: Hashable
    error: Exception | None


Effect: TypeAlias = Grant | Open | Discard | Refuse


@attrs.frozen
class PoolStatistics:
    """The connections of a pool, and totals since its start.

    Attributes:
        max_size: maximum number of connections.
        size: current number of connections: the sum of the next four.
        idle: connections that nobody uses.
        in_use: connections that are acquired.
        opening: connections that are being opened.
        closing: connections that are being closed.
        waiting: tasks that wait for a connection.
        opened: connections that were opened so far.
        acquired: times that a connection was acquired so far.
        replaced: connections that were lost; others are opened in their place when they are needed.
        failed: connections that could not be opened.
    """

    max_size: int
    size: int
    idle: int
    in_use: int
    opening: int
    closing: int
    waiting: int
    opened: int
    acquired: int
    replaced: int
    failed: int


class PoolState:
    """The connections of one pool, and the waiters, which the caller identifies by any hashable objects.

    Args:
        max_size: maximum number of connections, from 1.
        idle_timeout: seconds after which an unused connection is closed; None disables this.

    Raises:
        ValueError: an argument is too small.
    """

    def __init__(self, max_size: int, *, idle_timeout: float | None = None) -> None:
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; it must be at least 1")
        if idle_timeout is not None and not idle_timeout > 0:
            raise ValueError(
                f"idle_timeout is {idle_timeout} s; it must be more than 0, or None to disable it"
            )
        self._max_size = max_size
        self._idle_timeout = math.inf if idle_timeout is None else idle_timeout
        self._waiting: dict[Hashable, None] = {}  # an ordered set
        # Every connection is in exactly one of these four.
        self._opening: set[int] = set()
        self._idle: dict[int, float] = {}  # time of release; the most recently used connection is the last
        self._in_use: dict[int, Hashable] = {}  # its waiter
        self._closing: set[int] = set()
        self._closed = False
        self._last = 0  # number of the newest connection
        self._opened = self._acquired = self._replaced = self._failed = 0

    # --- events --------------------------------------------------------------------------------------

    def acquire(self, waiter: Hashable, health: Mapping[int, Health]) -> list[Effect]:
        """A task requests a connection: it gets the healthiest idle one, or else the next available one.

        Args:
            waiter: identifies the request; a new object each time.
            health: the health of all idle connections; lost ones must have been reported by ``lost`` before.
        """
        if self._closed:
            return [Refuse(waiter, None)]
        if self._idle:
            # Of equally healthy connections, the most recently used one: the others can time out.
            best = min(reversed(self._idle), key=lambda connection: health[connection].order)
            del self._idle[best]
            return self._grant(waiter, best)
        self._waiting[waiter] = None
        return self._fill()

    def released(self, now: float, connection: int, *, healthy: bool) -> list[Effect]:
        """A task has released its connection. Ignored if the connection has ended or is being closed."""
        if self._in_use.pop(connection, None) is None:
            return []
        return self._offer(now, connection) if healthy else self._replace(connection)

    def gave_up(self, now: float, waiter: Hashable, *, healthy: bool = True) -> list[Effect]:
        """A waiter was cancelled, possibly just after it was granted a connection.

        Args:
            now: the time.
            waiter: the waiter.
            healthy: whether the granted connection, if any, still works.
        """
        if waiter in self._waiting:
            del self._waiting[waiter]  # a connection that is being opened for it goes to the next waiter
            return []
        granted = [connection for connection, holder in self._in_use.items() if holder == waiter]
        return self.released(now, granted[0], healthy=healthy) if granted else []

    def opened(self, now: float, connection: int) -> list[Effect]:
        """A connection was opened. Ignored if it was discarded meanwhile."""
        if connection not in self._opening:
            return []
        self._opening.remove(connection)
        self._opened += 1
        return self._offer(now, connection)

    def open_failed(self, connection: int, error: Exception) -> list[Effect]:
        """A connection could not be opened: refuse the first waiter, and open another one for the next."""
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

    def lost(self, connection: int) -> list[Effect]:
        """An idle connection was found to be lost."""
        del self._idle[connection]
        return self._replace(connection)

    def ended(self, connection: int) -> list[Effect]:
        """A connection has ended because it was discarded or lost: its slot is free."""
        if connection in self._closing:
            self._closing.remove(connection)
        else:
            if self._in_use.pop(connection, None) is None:
                del self._idle[connection]
            self._replaced += 1
        return self._fill()

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: discard connections that were idle for too long."""
        overdue = [connection for connection in self._idle if self._expiry(connection) <= now]
        for connection in overdue:
            del self._idle[connection]
        self._closing.update(overdue)
        return [Discard(connection) for connection in overdue]

    def next_wake(self) -> float:
        """The time at which ``tick`` must be called; infinity if no connection is idle."""
        return self._expiry(next(iter(self._idle))) if self._idle else math.inf

    def close(self) -> list[Effect]:
        """Refuse all present and future waiters, and discard all connections, including those in use."""
        self._closed = True
        refused: list[Effect] = [Refuse(waiter, None) for waiter in self._waiting]
        discarded = [*self._opening, *self._idle, *self._in_use]
        for container in (self._waiting, self._opening, self._idle, self._in_use):
            container.clear()
        self._closing.update(discarded)
        return refused + [Discard(connection) for connection in discarded]

    # --- queries -------------------------------------------------------------------------------------

    @property
    def idle(self) -> list[int]:
        """The idle connections, the most recently used one last."""
        return list(self._idle)

    def statistics(self) -> PoolStatistics:
        """Count the connections and the waiters."""
        return PoolStatistics(
            max_size=self._max_size,
            size=self._size,
            idle=len(self._idle),
            in_use=len(self._in_use),
            opening=len(self._opening),
            closing=len(self._closing),
            waiting=len(self._waiting),
            opened=self._opened,
            acquired=self._acquired,
            replaced=self._replaced,
            failed=self._failed,
        )

    def validate(self) -> None:
        """Assert the invariants; tests call this after every step."""
        slots = [*self._opening, *self._idle, *self._in_use, *self._closing]
        assert len(slots) == len(set(slots)) == self._size <= self._max_size
        waiters = [*self._waiting, *self._in_use.values()]
        assert len(waiters) == len(set(waiters)), "a waiter waits twice or has two connections"
        assert list(self._idle.values()) == sorted(self._idle.values())
        if self._waiting:
            assert not self._idle, "a waiter waits although a connection is idle"
            assert len(self._opening) >= len(self._waiting) or self._size == self._max_size
        if self._closed:
            assert not self._waiting
            assert len(self._closing) == self._size
        assert self._opened >= len(self._idle) + len(self._in_use)

    # --- transitions ---------------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        return len(self._opening) + len(self._idle) + len(self._in_use) + len(self._closing)

    def _expiry(self, connection: int) -> float:
        return self._idle[connection] + self._idle_timeout

    def _grant(self, waiter: Hashable, connection: int) -> list[Effect]:
        self._in_use[connection] = waiter
        self._acquired += 1
        return [Grant(waiter, connection)]

    def _offer(self, now: float, connection: int) -> list[Effect]:
        """Grant a connection to the first waiter; without waiters it becomes idle."""
        if self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            return self._grant(first, connection)
        self._idle[connection] = now
        return []

    def _replace(self, connection: int) -> list[Effect]:
        """Discard a lost connection; when it has ended, another one is opened if a task waits then."""
        self._replaced += 1
        self._closing.add(connection)
        return [Discard(connection)]

    def _fill(self) -> list[Effect]:
        """Open connections, as many as there are waiters and free slots."""
        effects: list[Effect] = []
        while len(self._opening) < len(self._waiting) and self._size < self._max_size:
            self._last += 1
            self._opening.add(self._last)
            effects.append(Open(self._last))
        return effects
