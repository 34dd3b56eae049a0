"""Who waits for a slot of this server, and who has one: jobs, and leases of work that is not a job. Without I/O.

Turns decide who is next (:mod:`creemson.jobs.sharing.turns`); this module adds what jobs and leases have in common: a
*place* of the queue while they wait, also for the end of a backoff. Places are bounded.
"""

from collections import Counter
from collections.abc import Collection

import attrs

from creemson.jobs.queue.job import Job
from creemson.jobs.queue.states import State
from creemson.jobs.sharing.bounds import Bound, Tally
from creemson.jobs.sharing.turns import SPARE, Turns

__all__ = ["Lease", "Slots"]

PLACED: frozenset[State] = frozenset({"queued", "backoff"})
"""States of jobs that occupy a place of the queue."""


@attrs.define(eq=False)
class Lease:
    """A slot for work that is not a job: the queue neither records it nor tries it again.

    Attributes:
        caller, party: whom it belongs to, and who takes turns for it.
        granted: whether it has a slot.
    """

    caller: str
    party: str
    granted: bool = False


class Slots:
    """The slots, and the places of who waits for one.

    Args:
        slots: number of attempts that run at once; one more for parties without any.
        slots_per_caller: maximum number of these attempts that belong to one caller.
        bound: maximum number of places.

    Attributes:
        places: jobs that are queued or in a backoff, and leases that wait.
        number: number of slots, without the spare one.
    """

    def __init__(self, slots: int, slots_per_caller: int, bound: Bound) -> None:
        self.number = slots
        self.places = Tally(bound)
        self._turns: Turns[Job | Lease] = Turns(slots=slots, slots_per_caller=slots_per_caller)
        self._leases: dict[Lease, None] = {}  # those that wait, and those that are granted
        self._granted = 0  # number of slots that leases use

    def resize(self, slots: int) -> None:
        """Change the number of slots."""
        self.number = slots
        self._turns.resize(slots)

    def next(self) -> Job | Lease | None:
        """Return who gets a slot now, if any can be given; a lease by :meth:`grant`, a job by its start."""
        return self._turns.next()

    def give_back(self, job: Job) -> None:
        """Free the slot of a job whose attempt has ended."""
        self._turns.give_back(job)

    # --- jobs ----------------------------------------------------------------------------------------

    def enqueue(self, job: Job) -> None:
        """Let a new job wait for a slot."""
        self._turns.enqueue(job)
        self.places.add(job.caller, 1)

    def moved(self, job: Job, before: State) -> None:
        """Follow a job that was in another state before."""
        if before == "queued" and job.state == "running":
            self._turns.take(job)
        elif before == "queued":
            self._turns.withdraw(job)
        elif job.state == "queued":
            self._turns.enqueue(job, first=True)
        self.places.add(job.caller, (job.state in PLACED) - (before in PLACED))

    def position(self, job: Job) -> int:
        """Return the number of jobs that start until this one has started; 0 if it has started."""
        return self._turns.position(job) if job.state == "queued" else 0

    # --- leases --------------------------------------------------------------------------------------

    def request(self, lease: Lease) -> None:
        """Let a lease wait for a slot."""
        self._leases[lease] = None
        self.places.add(lease.caller, 1)
        self._turns.enqueue(lease)

    def grant(self, lease: Lease) -> None:
        """Give a slot to a lease that :meth:`next` has returned."""
        self._turns.take(lease)
        self.places.add(lease.caller, -1)
        self._granted += 1
        lease.granted = True

    def release(self, lease: Lease) -> None:
        """Free the slot of a lease, or let it wait no longer."""
        del self._leases[lease]
        if lease.granted:
            self._granted -= 1
            self._turns.give_back(lease)
        else:
            self.places.add(lease.caller, -1)
            self._turns.withdraw(lease)

    @property
    def leases(self) -> list[Lease]:
        """The leases that wait, and those that are granted."""
        return list(self._leases)

    # --- numbers -------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Number of jobs that wait for a slot or for the end of a backoff."""
        return self.places.total - len(self._leases) + self._granted

    @property
    def room(self) -> int:
        """Number of slots that neither work uses nor jobs wait for."""
        return max(0, self.number - self.used - self.places.total)

    @property
    def has_spare(self) -> bool:
        """Whether, beyond that room, there is a slot for a party that uses none."""
        return self.used + self.places.total < self.number + SPARE

    @property
    def running(self) -> int:
        """Number of slots that jobs use."""
        return self.used - self._granted

    @property
    def used(self) -> int:
        """Number of slots in use."""
        return self._turns.used

    def validate(self, jobs: Collection[Job]) -> None:
        """Assert the invariants, for these active jobs."""
        self._turns.validate()
        places = Counter(job.caller for job in jobs if job.state in PLACED)
        slots = Counter(job.caller for job in jobs if job.slot != "free")
        assert self.running == slots.total()
        assert self.queued == places.total()
        for lease in self._leases:
            (slots if lease.granted else places)[lease.caller] += 1
        assert slots == self._turns.used_by
        assert places == self.places.held
        waiting = self._turns.all_waiting()
        queued = {job.id for job in jobs if job.state == "queued"}
        assert {entrant.id for entrant in waiting if isinstance(entrant, Job)} == queued
        assert [lease for lease in self._leases if not lease.granted] == [
            entrant for entrant in self._leases if entrant in waiting
        ]
        for job in jobs:
            assert (job.slot == "working") == (job.state == "running")
            assert not (job.state in PLACED and job.slot != "free")
