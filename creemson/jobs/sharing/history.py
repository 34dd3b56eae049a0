"""The ended jobs that are remembered: their outcomes are told on request, and equal requests are served from cache.

Each caller may have a number of them, and a number of bytes; beyond that, the caller's oldest are forgotten. All
callers together have a bound, too. If it is exceeded, the caller who holds the most forgets its oldest. So no caller
loses jobs by what one other caller does, however much that is. Every operation takes logarithmic time.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterator

from creemson.jobs.queue.job import Job
from creemson.jobs.sharing.bounds import Bound, Tally

__all__ = ["History"]

STALE = 64
"""Number of outdated entries in a ranking above which it is made again, if they are also more than half of it."""


class _Ranking:
    """Finds the caller who holds the most: a heap in which outdated entries stay until they come up."""

    def __init__(self, held: Counter[str]) -> None:
        self._held = held
        self._heap: list[tuple[int, str]] = []

    def changed(self, caller: str) -> None:
        """Note that a caller holds another amount than before."""
        heapq.heappush(self._heap, (-self._held[caller], caller))
        if len(self._heap) > 2 * len(self._held) + STALE:
            self._heap = [(-amount, name) for name, amount in self._held.items()]
            heapq.heapify(self._heap)

    def first(self, *, without: str | None = None) -> str | None:
        """Return the caller who holds the most, or None; ``without`` is left out."""
        left_out: tuple[int, str] | None = None
        found = None
        while self._heap and found is None:
            amount, caller = self._heap[0]
            if -amount != self._held[caller] or not amount:
                heapq.heappop(self._heap)
            elif caller == without:
                left_out = heapq.heappop(self._heap)
            else:
                found = caller
        if left_out is not None:
            heapq.heappush(self._heap, left_out)
        return found


class History:
    """The ended jobs of all callers.

    Args:
        jobs: maximum numbers of jobs.
        size: maximum numbers of bytes. The newest job of a caller always stays within the caller's bound.
    """

    def __init__(self, jobs: Bound, size: Bound) -> None:
        self._by_id: OrderedDict[str, Job] = (
            OrderedDict()
        )  # the one that ended or was used last is the last one
        self._by_caller: dict[str, OrderedDict[str, Job]] = {}
        self._jobs = Tally(jobs)
        self._bytes = Tally(size)
        self._most_jobs = _Ranking(self._jobs.held)
        self._most_bytes = _Ranking(self._bytes.held)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, job: str) -> bool:
        return job in self._by_id

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_id.values())

    def get(self, job: str) -> Job | None:
        """Return the job with this id, if it is remembered."""
        return self._by_id.get(job)

    def of_caller(self, caller: str) -> list[Job]:
        """Return a caller's jobs; those that ended or were used last are the last ones."""
        return list(self._by_caller.get(caller, {}).values())

    def add(self, job: Job) -> None:
        """Remember a job; :meth:`surplus` then says what must be forgotten."""
        self._by_id[job.id] = self._by_caller.setdefault(job.caller, OrderedDict())[job.id] = job
        self._count(job.caller, 1, job.size_bytes)

    def pop(self, job: str) -> Job:
        """Forget a job."""
        found = self._by_id.pop(job)
        of_caller = self._by_caller[found.caller]
        del of_caller[job]
        if not of_caller:
            del self._by_caller[found.caller]
        self._count(found.caller, -1, -found.size_bytes)
        return found

    def use(self, job: Job) -> None:
        """Make a job the newest one of its caller."""
        self._by_id.move_to_end(job.id)
        self._by_caller[job.caller].move_to_end(job.id)

    def resize(self, job: Job, size_bytes: int) -> None:
        """Change the size of a job."""
        self._count(job.caller, 0, size_bytes - job.size_bytes)
        job.size_bytes = size_bytes

    def surplus(self, caller: str) -> Job | None:
        """Return the job that must be forgotten next, if any, after jobs of this caller were added or have grown."""
        jobs, size = self._jobs, self._bytes
        held = jobs.held[caller]
        if held > jobs.bound.per_caller or (size.held[caller] > size.bound.per_caller and held > 1):
            return self._oldest_of(caller)
        newest = next(reversed(self._by_id.values()), None)
        too_many, too_large = jobs.total > jobs.bound.total, size.total > size.bound.total
        if newest is None or not (too_many or (too_large and jobs.total > 1)):
            return None
        ranking = self._most_jobs if too_many else self._most_bytes
        payer = ranking.first()
        # The job that has just ended is not forgotten: then its output could not be downloaded.
        if payer == newest.caller and jobs.held[payer] == 1:
            payer = ranking.first(without=payer)
        return None if payer is None else self._oldest_of(payer)

    def _oldest_of(self, caller: str) -> Job:
        return next(iter(self._by_caller[caller].values()))

    def _count(self, caller: str, jobs: int, size_bytes: int) -> None:
        self._jobs.add(caller, jobs)
        self._bytes.add(caller, size_bytes)
        self._most_jobs.changed(caller)
        self._most_bytes.changed(caller)

    def validate(self) -> None:
        """Assert the invariants."""
        assert self._jobs.held == Counter(job.caller for job in self)
        assert self._jobs.total == len(self)
        size: Counter[str] = Counter()
        for job in self:
            assert self._by_caller[job.caller][job.id] is job
            size[job.caller] += job.size_bytes
        assert +size == +self._bytes.held
        assert self._bytes.total == size.total()
        for caller, jobs in self._by_caller.items():
            assert 0 < len(jobs) <= self._jobs.bound.per_caller
            assert size[caller] <= self._bytes.bound.per_caller or len(jobs) == 1
        assert len(self) <= self._jobs.bound.total
        assert size.total() <= self._bytes.bound.total or len(self) == 1
