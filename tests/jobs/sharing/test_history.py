"""Which ended jobs are forgotten: one caller's excess costs that caller."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.jobs.queue.job import Job
from creemson.jobs.sharing.bounds import Bound
from creemson.jobs.sharing.history import History


def ended(number, caller, size_bytes=1):
    return Job(f"j{number}", (caller, number), caller, None, 1.0, 0.0, state="failed", size_bytes=size_bytes)


class Ends:
    """Adds ended jobs and forgets the surplus, as the queue does."""

    def __init__(self, jobs=(3, 6), size=(30, 60)):
        self.history = History(Bound(*jobs), Bound(*size))
        self.count = 0

    def trim(self, caller):
        gone = []
        while (job := self.history.surplus(caller)) is not None:
            gone.append(self.history.pop(job.id))
        self.history.validate()
        return gone

    def add(self, caller, size_bytes=1):
        self.count += 1
        self.history.add(ended(self.count, caller, size_bytes))
        return self.trim(caller)

    def held(self):
        return Counter(job.caller for job in self.history)


def test_caller_over_its_number_forgets_its_oldest():
    """A thousand failing jobs of one caller cost another caller nothing."""
    ends = Ends()
    ends.add("bob")
    gone = [job for _ in range(1000) for job in ends.add("ann")]
    assert {job.caller for job in gone} == {"ann"}
    assert ends.held() == {"ann": 3, "bob": 1}


def test_caller_over_its_bytes_forgets_its_oldest():
    """However large one result is, it stays until the next one: it has just been told."""
    ends = Ends(size=(30, 1000))
    ends.add("bob", 29)
    assert ends.add("ann", 500) == []
    assert [job.size_bytes for job in ends.add("ann", 10)] == [500]
    assert ends.held() == {"ann": 1, "bob": 1}


def test_bound_of_all_is_paid_by_who_holds_the_most():
    """The caller who adds a job does not pay if another one holds more."""
    ends = Ends(jobs=(4, 6))
    for caller in ("ann", "ann", "ann", "ann", "bob", "cat"):
        assert ends.add(caller) == []
    [gone] = ends.add("dan")
    assert (gone.id, gone.caller) == ("j1", "ann")


def test_bytes_of_all_are_paid_by_who_holds_the_most():
    """But not with the job that has just ended."""
    ends = Ends(size=(50, 60))
    ends.add("bob", 20)
    ends.add("cat", 10)
    [gone] = ends.add("ann", 40)
    assert gone.caller == "bob"
    [gone] = ends.add("dan", 20)
    assert gone.caller == "ann"


def test_used_job_is_the_newest():
    """A result that is asked for again is kept."""
    ends = Ends()
    for _ in range(3):
        ends.add("ann")
    ends.history.use(ends.history.get("j1"))
    assert [job.id for job in ends.add("ann")] == ["j2"]
    assert [job.id for job in ends.history.of_caller("ann")] == ["j3", "j1", "j4"]


@pytest.mark.parametrize("size", [0, 100])
def test_single_job_of_any_size_stays(size):
    """There is nobody else to pay."""
    ends = Ends()
    assert ends.add("ann", size) == []


@given(steps=st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 40), st.booleans()), max_size=60))
def test_caller_pays_only_for_itself_or_if_it_holds_the_most(steps):
    """For any sequence of ends, and of sizes that change afterwards."""
    ends = Ends()
    history = ends.history
    for number, (caller, size, is_new) in enumerate(steps):
        if is_new:
            history.add(ended(number, caller, size))
        elif job := next(iter(history.of_caller(caller)), None):
            history.resize(job, size)
        while (lost := history.surplus(caller)) is not None:
            jobs = ends.held()
            sizes = Counter()
            for job in history:
                sizes[job.caller] += job.size_bytes
            newest = list(history)[-1]
            others = [name for name in jobs if name != newest.caller or jobs[name] > 1]
            assert lost is history.of_caller(lost.caller)[0]
            assert lost is not newest
            if lost.caller != caller or (jobs[caller] <= 3 and (sizes[caller] <= 30 or jobs[caller] == 1)):
                held = jobs if len(history) > 6 else sizes
                assert len(history) > 6 or sizes.total() > 60
                assert held[lost.caller] == max(held[name] for name in others)
            history.pop(lost.id)
        history.validate()


def test_work_per_job_does_not_grow_with_the_history():
    """Outdated entries of the rankings are removed now and then."""
    ends = Ends(jobs=(200, 1000), size=(2000, 10_000))
    for number in range(20_000):
        caller = f"caller-{number % 7}"
        ends.count += 1
        ends.history.add(ended(ends.count, caller, 5))
        while (job := ends.history.surplus(caller)) is not None:
            ends.history.pop(job.id)
    ends.history.validate()
    assert len(ends.history._most_jobs._heap) < 200
