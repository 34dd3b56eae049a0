"""The states of a job: the table of transitions, and the queue's use of it in every state and for every event."""

import inspect
import itertools
import re
from typing import get_args

import pytest

from creemson.errors import ProcessingError
from creemson.jobs.events import Waiter
from creemson.jobs.queue import queue as queue_module
from creemson.jobs.queue import states as states_module
from creemson.jobs.queue.effects import Forget, Start, Stop
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.queue.states import (
    ENDED,
    TIMED,
    TRANSITIONS,
    WAITING,
    IllegalTransitionError,
    State,
    Transition,
    next_state,
)

STATES, MOVES = get_args(State), get_args(Transition)
FAULT = ProcessingError("worker_died", "It died.")


@pytest.mark.parametrize(("state", "transition"), list(itertools.product(STATES, MOVES)))
def test_transition_is_in_the_table_or_illegal(state, transition):
    """For every state and every transition."""
    if transition in TRANSITIONS[state]:
        assert next_state(state, transition) in STATES
    else:
        with pytest.raises(IllegalTransitionError, match=f"{state} cannot {transition}"):
            next_state(state, transition)


def test_transitions_have_no_dead_end():
    """Every state leads to each end or is one, and every state can be reached."""
    reached = {state: set(TRANSITIONS[state].values()) for state in STATES}
    for _ in STATES:
        reached = {
            state: found.union(*(reached[other] for other in found)) for state, found in reached.items()
        }
    assert reached["queued"] == set(STATES)
    for state in STATES:
        assert reached[state] == set() if state in ENDED else reached[state] >= ENDED


def test_sets_of_states_are_complete():
    """A job has ended, waits or runs."""
    assert ENDED | WAITING | {"running"} == set(STATES)
    assert not ENDED & WAITING
    assert set(STATES) - ENDED > TIMED


def test_diagram_shows_every_state_and_transition():
    """The docstring of the module cannot fall behind the table."""
    assert all(f"``{state}``" in states_module.__doc__ for state in STATES)
    assert set(re.findall(r"[─│]([a-z]+)", states_module.__doc__)) == set(MOVES)


class Case:
    """A queue with one job in one state; ``events`` are all that can happen to it."""

    def __init__(self, state, slot, keep):
        self.queue = JobQueue(slots=1, slots_per_caller=1, retries=1)
        self.keep = keep
        self.blocker = None
        self.reach(state, slot)
        self.job = next(job for job in self.queue.of_caller("ann") if job.id == "j1")
        assert (self.job.state, self.job.slot) == (state, slot)
        self.queue.validate()

    def submit(self, job="j1", connection="c", key="j1"):
        return self.queue.submit(
            0.0,
            job=job,
            key=key,
            caller="ann",
            work=job,
            timeout=100.0,
            waiter=Waiter(connection, 1, self.keep),
        )

    def end(self, **outcome):
        return self.queue.attempt_ended(1.0, "j1", self.attempt, **outcome)

    @property
    def attempt(self):
        return next(job.attempt for job in self.queue.of_caller("ann") if job.id == "j1")

    def reach(self, state, slot):
        if state == "queued" or (state != "running" and slot == "free" and state in ("cancelled", "failed")):
            self.submit("blocker", "b", "another")  # takes the slot
        self.submit()
        match state:
            case "backoff":
                self.end(error=FAULT, transient=True)
            case "suspended":
                self.queue.drain(0.0)
                self.queue.stop_all(0.0)
                if slot == "free":
                    self.end()
            case "done":
                self.end(value=1)
            case "failed":
                self.queue.fail(0.0, "j1", FAULT)
            case "cancelled":
                self.queue.cancel(0.0, "ann", "j1")

    @property
    def waiting(self):
        return bool(self.job.waiters)


def attempt_ends(**outcome):
    def happen(case):
        if case.job.slot == "free":  # an attempt that does not run cannot end
            with pytest.raises((AssertionError, KeyError)):
                case.end(**outcome)
            return None
        return case.end(**outcome)

    return happen


def refused(method):
    """The event, which may be refused in some states."""

    def happen(case):
        try:
            found = method(case)
        except ProcessingError as error:
            assert error.reason == "job_not_found"
            return None
        return found[1] if isinstance(found, tuple) else found

    return happen


EVENTS = {
    "same work": lambda case: case.submit("j2", "other"),
    "attach": refused(lambda case: case.queue.attach("ann", "j1", 0, Waiter("d", 1))),
    "progress": lambda case: case.queue.progress(1.0, "j1", case.job.attempt, {"fraction": 0.5, "rows": 1}),
    "attempt done": attempt_ends(value=1),
    "attempt stopped": attempt_ends(),
    "attempt failed": attempt_ends(error=FAULT),
    "attempt failed for now": attempt_ends(error=FAULT, transient=True),
    "cancel": refused(lambda case: case.queue.cancel(1.0, "ann", "j1")),
    "leave": refused(lambda case: case.queue.leave(1.0, Waiter("c", 1))),
    "disconnect": lambda case: case.queue.disconnect(1.0, "c"),
    "tick": lambda case: case.queue.tick(5.0),
    "timeout": lambda case: case.queue.tick(500.0),
    "fail": lambda case: case.queue.fail(1.0, "j1", FAULT),
    "drain": lambda case: case.queue.drain(1.0),
    "drain and stop": lambda case: case.queue.drain(1.0) + case.queue.stop_all(1.0),
}
PLACES = [
    ("queued", "free"), ("running", "working"), ("backoff", "free"),
    ("suspended", "stopping"), ("suspended", "free"), ("done", "free"),
    ("failed", "stopping"), ("failed", "free"), ("cancelled", "stopping"), ("cancelled", "free"),
]  # fmt: skip
CASES = [
    pytest.param(state, slot, keep, id=f"{state}-{slot}-{'kept' if keep else 'dropped'}")
    for state, slot in PLACES
    for keep in (True, False)
    if keep or state != "suspended"  # only jobs that are kept are suspended
]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("state", "slot", "keep"), CASES)
def test_event_in_any_state_keeps_the_invariants(state, slot, keep, event):
    """The state stays, or changes along transitions of the table; attempts are started and stopped to match."""
    case = Case(state, slot, keep)
    effects = EVENTS[event](case)
    case.queue.validate()
    after = case.job.state
    # An event can make two transitions, for example from a backoff by way of the queue to another attempt.
    direct = set(TRANSITIONS[state].values())
    assert after in {state} | direct | {third for other in direct for third in TRANSITIONS[other].values()}
    assert not (state in ENDED and after != state), "an end is final"
    own = [effect for effect in effects or () if isinstance(effect, Start | Stop) and effect.job == "j1"]
    if state == "running" and case.job.slot == "stopping":
        assert own == [Stop("j1", 1)]
    elif state != "running" and after == "running":
        assert own == [Start("j1", case.job.attempt, "j1")]
    else:
        assert own == []
    assert not case.waiting or after not in ENDED
    if slot == "stopping" and event == "attempt done" and state in ENDED:
        assert effects == [Forget("j1", "j1")]


def test_job_changes_state_only_through_the_table():
    """The queue assigns a state in one place."""
    assert inspect.getsource(queue_module).count(".state = ") == 1
