"""Shares slots fairly: parties take turns, and a party that uses no slot never waits for one other party's long work.

A party is who takes turns: an authenticated caller; without authentication, a connection (:func:`party_of`). Bounds
apply to callers. Both are the same on a server with authentication.

    enqueue ──> waiting, by party ──take──> uses a slot ──give_back──>
                     └──withdraw──>

There are ``slots`` slots, and one spare slot. The spare one is only for a party that uses no slot, so that it need not
wait until the work of others ends.
"""

from collections import Counter, OrderedDict, deque
from typing import Generic, Protocol, TypeVar

from creemson.jobs.commands import HTTP
from creemson.model.callers import ANYONE

__all__ = ["SPARE", "Entrant", "Turns", "party_of"]

SPARE = 1
"""Number of spare slots: for parties that use no slot."""


class Entrant(Protocol):
    """What waits for a slot."""

    @property
    def caller(self) -> str:
        """Whom it belongs to."""

    @property
    def party(self) -> str:
        """Who takes turns."""


E = TypeVar("E", bound=Entrant)


def party_of(caller: str, connection: str) -> str:
    """Return who takes turns for this request: without authentication, each connection does; HTTP requests as one.

    >>> party_of("token:ann", "c1"), party_of("anonymous", "c1"), party_of("anonymous", "http-17")
    ('token:ann', 'c1', 'http-')
    """
    if caller != ANYONE:
        return caller
    return HTTP if connection.startswith(HTTP) else connection


class Turns(Generic[E]):
    """Decides who gets the next free slot.

    Args:
        slots: number of slots, without the spare one.
        slots_per_caller: maximum number of them that one caller uses.

    Attributes:
        waiting: number of entrants that wait.
        used: number of slots in use.
        waiting_of: number of entrants that wait, by caller.
        used_by: number of slots in use, by caller.
    """

    def __init__(self, *, slots: int, slots_per_caller: int) -> None:
        self._slots = slots
        # The most that there ever were: slots in use stay in use when their number is reduced.
        self._most_slots = slots
        self._slots_per_caller = slots_per_caller
        # A party moves to the end when it gets a slot.
        self._queues: OrderedDict[str, deque[E]] = OrderedDict()
        self._used_by_party: Counter[str] = Counter()
        self.used_by: Counter[str] = Counter()
        self.waiting_of: Counter[str] = Counter()
        self.waiting = self.used = 0

    def resize(self, slots: int) -> None:
        """Change the number of slots. If fewer are left than are used, none is given until enough are given back."""
        self._slots = slots
        self._most_slots = max(self._most_slots, slots)

    def enqueue(self, entrant: E, *, first: bool = False) -> None:
        """Let an entrant wait, behind or before the others of its party."""
        queue = self._queues.setdefault(entrant.party, deque())
        if first:
            queue.appendleft(entrant)
        else:
            queue.append(entrant)
        self.waiting += 1
        self.waiting_of[entrant.caller] += 1

    def withdraw(self, entrant: E) -> None:
        """Let an entrant wait no longer."""
        queue = self._queues[entrant.party]
        queue.remove(entrant)
        if not queue:
            del self._queues[entrant.party]
        self.waiting -= 1
        _decrease(self.waiting_of, entrant.caller)

    def next(self) -> E | None:
        """Return the entrant that gets a slot now, if any can be given; :meth:`take` gives it.

        It is one of the party that uses the fewest slots; of equal ones, of that whose last turn is the longest ago.
        The search ends at a party that uses none, so it looks at hardly more parties than there are slots.
        """
        found: E | None = None
        fewest = self._slots + SPARE
        if self.used >= fewest:
            return None
        for party, queue in self._queues.items():
            used = self._used_by_party[party]
            # A party that uses no slot may use the spare one, beyond the slots and beyond those of its caller.
            spare = 0 if used else SPARE
            room = self.used < self._slots + spare
            if room and used < fewest and self.used_by[queue[0].caller] < self._slots_per_caller + spare:
                found, fewest = queue[0], used
                if not used:
                    break
        return found

    def take(self, entrant: E) -> None:
        """Give a slot to an entrant that :meth:`next` has returned."""
        self.withdraw(entrant)
        if entrant.party in self._queues:
            self._queues.move_to_end(entrant.party)
        self.used += 1
        self.used_by[entrant.caller] += 1
        self._used_by_party[entrant.party] += 1

    def give_back(self, entrant: E) -> None:
        """Free the slot of an entrant."""
        self.used -= 1
        _decrease(self.used_by, entrant.caller)
        _decrease(self._used_by_party, entrant.party)

    def position(self, entrant: E) -> int:
        """Return the number of entrants that get a slot until this one has got one."""
        place = self._queues[entrant.party].index(entrant) + 1
        return sum(min(place, len(queue)) for queue in self._queues.values())

    def all_waiting(self) -> list[E]:
        """Return the entrants that wait."""
        return [entrant for queue in self._queues.values() for entrant in queue]

    def validate(self) -> None:
        """Assert the invariants."""
        waiting = self.all_waiting()
        assert all(self._queues.values()), "no party has an empty queue"
        assert all(entrant.party == party for party, queue in self._queues.items() for entrant in queue)
        assert self.waiting == len(waiting)
        assert self.waiting_of == Counter(entrant.caller for entrant in waiting)
        assert self.used == self.used_by.total() == self._used_by_party.total()
        assert self.used <= self._most_slots + SPARE
        assert all(count <= self._slots_per_caller + SPARE for count in self.used_by.values())
        if len(self._used_by_party) == 1:
            assert self.used <= min(self._most_slots, self._slots_per_caller), (
                "a spare slot is only for others"
            )


def _decrease(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
