"""The states of a job, and the transitions between them.

    queued ──start──> running ──finish──> done
      ^                  │
      │wake              │retry
      └──── backoff <────┘

    queued, running, backoff ─────────────suspend──> suspended ──finish──> done
    queued, running, backoff, suspended ──fail────> failed
    queued, running, backoff, suspended ──cancel──> cancelled

* ``queued``: waits for a slot.
* ``running``: an attempt runs.
* ``backoff``: a transient fault ended the last attempt; the job is queued again after a delay.
* ``suspended``: the server is shutting down; the next server restores the job as ``queued``.
* ``done``, ``failed``, ``cancelled``: final.

(The *next server* is the process that serves the same data folder after this one.)

:data:`TRANSITIONS` is the same diagram as data, and the only source for it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = [
    "ENDED",
    "TIMED",
    "TRANSITIONS",
    "WAITING",
    "IllegalTransitionError",
    "Slot",
    "State",
    "Transition",
    "next_state",
]

State: TypeAlias = Literal["queued", "running", "backoff", "suspended", "done", "failed", "cancelled"]
Slot: TypeAlias = Literal["free", "working", "stopping"]
"""How a job uses a slot of the queue. ``free``: no attempt of it runs. ``working``: an attempt runs, and the job is
``running``. ``stopping``: the job is no longer ``running``, but its attempt has not yet stopped."""
Transition: TypeAlias = Literal["start", "retry", "wake", "suspend", "finish", "fail", "cancel"]

ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})
"""Final states."""
WAITING: frozenset[State] = frozenset({"queued", "backoff", "suspended"})
"""States of a job that has no outcome and does not run; clients see all of them as ``queued``."""
TIMED: frozenset[State] = frozenset({"running", "backoff"})
"""States that a timeout can end."""
TRANSITIONS: Mapping[State, Mapping[Transition, State]] = MappingProxyType(
    {
        "queued": {"start": "running", "suspend": "suspended", "fail": "failed", "cancel": "cancelled"},
        "running": {
            "finish": "done",
            "retry": "backoff",
            "suspend": "suspended",
            "fail": "failed",
            "cancel": "cancelled",
        },
        "backoff": {"wake": "queued", "suspend": "suspended", "fail": "failed", "cancel": "cancelled"},
        # The attempt may finish before it has been stopped.
        "suspended": {"finish": "done", "fail": "failed", "cancel": "cancelled"},
        "done": {},
        "failed": {},
        "cancelled": {},
    }
)
"""The next state, by current state and transition. All other transitions are illegal."""


class IllegalTransitionError(AssertionError):
    """A job cannot make this transition in its current state: a bug in the queue."""


def next_state(state: State, transition: Transition) -> State:
    """Look up a transition.

    Raises:
        IllegalTransitionError: the transition is impossible in this state.

    >>> next_state("running", "retry")
    'backoff'
    """
    try:
        return TRANSITIONS[state][transition]
    except KeyError:
        raise IllegalTransitionError(f"a job that is {state} cannot {transition}") from None
