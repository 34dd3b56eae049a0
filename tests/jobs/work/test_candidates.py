"""Which file gets a copy next, and when."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.jobs.work.candidates import (
    IDLE_AGAIN,
    IDLE_ONCE,
    MAX_CANDIDATES,
    PATIENCE,
    REST,
    REST_AFTER_FAILURE,
    Candidates,
)
from creemson.storage.tables.tables import TableKey


def key(number):
    """The key of a file."""
    return TableKey("ann", str(number), "")


def use(candidates, number, now=0.0, times=1):
    """Use a file some times."""
    for _ in range(times):
        candidates.used(now, key(number), f"{number}.csv", None)


def taken(candidates, now):
    """The number of the file whose copy is made now."""
    found = candidates.next(now)
    return None if found is None else int(found.key.version)


def test_file_that_was_used_again_is_copied_first():
    """One that was used once waits until the workers have had nothing to do for longer."""
    candidates = Candidates()
    candidates.jobs_changed(0.0, running=True, has_room=True)
    use(candidates, 1)
    use(candidates, 2, times=2)
    assert taken(candidates, 100.0) is None
    candidates.jobs_changed(100.0, running=False, has_room=True)
    assert taken(candidates, 100.0 + IDLE_AGAIN / 2) is None
    assert taken(candidates, 100.0 + IDLE_AGAIN) == 2
    candidates.ended(101.0, candidates.next(101.0), "done")
    assert taken(candidates, 100.0 + IDLE_ONCE - 0.1) is None
    assert taken(candidates, 100.0 + IDLE_ONCE) == 1


def test_import_stops_for_a_job_until_it_has_lost_patience():
    """Then it runs beside jobs, but not if these need all workers."""
    candidates = Candidates()
    use(candidates, 1, times=2)
    now = 10.0
    for _ in range(PATIENCE):
        candidates.jobs_changed(now, running=False, has_room=True)
        now += 1000.0
        found = candidates.next(now)
        candidates.jobs_changed(now, running=True, has_room=True)
        assert not candidates.may_run(found)
        candidates.ended(now, found, "stopped")
        assert taken(candidates, now) is None
    now += 1000.0
    found = candidates.next(now)
    assert found is not None
    assert candidates.may_run(found)
    candidates.jobs_changed(now, running=True, has_room=False)
    assert not candidates.may_run(found)
    assert taken(candidates, now + 1000.0) is None


@pytest.mark.parametrize(
    ("how", "rest"), [("done", REST), ("refused", math.inf), ("failed", REST_AFTER_FAILURE)]
)
def test_ended_import_is_not_tried_again_for_a_while(how, rest):
    """A copy that was made may have been removed to make room, and one that failed may succeed now."""
    candidates = Candidates()
    use(candidates, 1, times=2)
    candidates.ended(5.0, candidates.next(5.0), how)
    use(candidates, 1, now=6.0, times=5)
    assert not candidates
    use(candidates, 1, now=5.0 + min(rest, 1e9) - 1.0)
    assert not candidates
    use(candidates, 1, now=min(6.0 + rest, 1e9), times=2)
    assert bool(candidates) == (rest < math.inf)


def test_many_files_are_bounded():
    """The oldest candidate is forgotten."""
    candidates = Candidates()
    for number in range(MAX_CANDIDATES + 1):
        use(candidates, number)
    found = set()
    while (candidate := candidates.next(1e9)) is not None:
        found.add(int(candidate.key.version))
        candidates.ended(1e9, candidate, "done")
    assert found == set(range(1, MAX_CANDIDATES + 1))


EVENTS = st.one_of(
    st.tuples(st.just("use"), st.integers(0, 3)),
    st.tuples(st.just("jobs"), st.sampled_from([(False, True), (True, True), (True, False)])),
    st.tuples(st.just("end"), st.sampled_from(["done", "refused", "failed", "stopped"])),
)


@given(st.lists(st.tuples(st.floats(0.0, 50.0), EVENTS), max_size=40))
def test_next_begins_at_the_time_of_next_wake(events):
    """Neither before nor never; and nothing begins that may not run."""
    candidates, now = Candidates(), 0.0
    for wait, (what, value) in events:
        now += wait
        match what:
            case "use":
                use(candidates, value, now)
            case "jobs":
                candidates.jobs_changed(now, running=value[0], has_room=value[1])
            case "end" if (found := candidates.next(now)) is not None:
                candidates.ended(now, found, value)
        found = candidates.next(now)
        if found is None:
            assert candidates.next_wake() > now
            if candidates.next_wake() < math.inf:
                assert candidates.next(candidates.next_wake()) is not None
        else:
            assert candidates.may_run(found)
            assert candidates.next_wake() <= now
