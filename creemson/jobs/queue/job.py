"""A job: its states and the transitions between them, its fields, and the effects that the queue returns.

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

import math
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

from creemson.errors import CreemsonError
from creemson.executors.estimate import Estimate
from creemson.jobs.events import Ended, Event, Logged, Progressed, Waiter

__all__ = [
    "ENDED",
    "TIMED",
    "TRANSITIONS",
    "WAITING",
    "Effect",
    "Erase",
    "Forget",
    "IllegalTransitionError",
    "Job",
    "Notify",
    "Record",
    "Revoke",
    "Slot",
    "Start",
    "State",
    "Stop",
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


@attrs.frozen
class Start:
    """Effect: run this attempt, and report its end to ``attempt_ended``.

    Attributes:
        waited: seconds since the job was created.
    """

    job: str
    attempt: int
    work: Any
    waited: float = attrs.field(default=0.0, eq=False)


@attrs.frozen
class Stop:
    """Effect: stop the running attempt; its end must still be reported to ``attempt_ended``."""

    job: str
    attempt: int


@attrs.frozen
class Notify:
    """Effect: send an event to a waiter."""

    waiter: Waiter
    event: Event


@attrs.frozen
class Forget:
    """Effect: remove the output of the job, because its result will not be served again."""

    job: str
    work: Any


@attrs.frozen
class Record:
    """Effect: record the job in its current state before carrying out the effects that follow."""

    job: "Job"


@attrs.frozen
class Erase:
    """Effect: delete the record of the job."""

    job: str


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


@attrs.frozen
class Grant:
    """Effect: the lease has a slot until it is given to ``release``."""

    lease: Lease


@attrs.frozen
class Revoke:
    """Effect: the server is shutting down; stop waiting or working, and give the lease to ``release``."""

    lease: Lease


Effect: TypeAlias = Start | Stop | Notify | Forget | Record | Erase | Grant | Revoke


@attrs.define(eq=False)
class Job:
    """One job.

    Attributes:
        id: identifies the job to clients.
        key: equal for the same work on the same file by the same caller.
        caller: the caller who owns the job.
        work: what to do; opaque to the queue.
        timeout: seconds from its first start until the job fails.
        party: who takes turns for it, see :mod:`creemson.jobs.sharing.turns`.
        created, started, finished: times in seconds, on the queue's clock; ``started`` is that of the first attempt.
        state: see :data:`TRANSITIONS`; only the queue changes it.
        slot: whether it occupies a slot, see :data:`Slot`.
        size_bytes: size of the request while the job is unfinished; size of the outcome afterwards.
        attempt: number of the last attempt, from 1; 0 before the first.
        wake: time when the backoff ends.
        seq: number of the last event.
        restarts: number of times that the server stopped before the job had an outcome.
        progressed: time of the last progress event.
        estimate: how far it is, and how long it still takes.
        value: the result, if the job is done.
        error: the reason, if the job failed or was cancelled.
        kept: whether any waiter has requested that the job continues without its connection.
        surrendered: whether another server may have it by now, so that nothing of it counts here.
        waiters: the requests to notify, in the order in which they arrived (a dict, because there may be thousands).
        detached: number of waiters whose connection was lost and for which the job continues.
        latest: the last progress event; earlier ones are not replayed.
        logged: all log messages.
    """

    id: str
    key: Hashable
    caller: str
    work: Any
    timeout: float
    created: float
    party: str = attrs.field(default=attrs.Factory(lambda self: self.caller, takes_self=True))
    state: State = "queued"
    slot: Slot = "free"
    started: float | None = None
    finished: float | None = None
    size_bytes: int = 0
    attempt: int = 0
    wake: float = 0.0
    seq: int = 0
    restarts: int = 0
    progressed: float = -math.inf
    estimate: Estimate = attrs.field(factory=Estimate)
    value: Any = None
    error: CreemsonError | None = None
    kept: bool = False
    surrendered: bool = False
    waiters: dict[Waiter, None] = attrs.field(factory=dict)
    detached: int = 0
    latest: Progressed | None = None
    logged: list[Logged] = attrs.field(factory=list)

    @property
    def ended(self) -> bool:
        """Whether the job has an outcome."""
        return self.state in ENDED

    @property
    def is_waiting(self) -> bool:
        """Whether the job has no outcome and does not run."""
        return self.state in WAITING

    @property
    def deadline(self) -> float:
        """The time when the job fails if it has no outcome by then."""
        return math.inf if self.started is None else self.started + self.timeout

    def next_seq(self) -> int:
        """Return the number of a new event."""
        self.seq += 1
        return self.seq

    def outcome(self, *, cached: bool = False) -> Ended:
        """Return the event that reports how the job ended."""
        return Ended(self.id, self.seq, self.value, self.error, cached)

    def log(self, level: Literal["info", "warning"], message: str) -> list[Effect]:
        """Add a log message; notify the present waiters. Those who attach later get it, too."""
        event = Logged(self.id, self.next_seq(), level, message)
        self.logged.append(event)
        return [Notify(waiter, event) for waiter in self.waiters]

    def events(self, after: int) -> list[Event]:
        """Return the events with a number above ``after``, without ``Ended``."""
        events: list[Logged | Progressed] = [*self.logged, *([self.latest] if self.latest else [])]
        return [event for event in sorted(events, key=lambda event: event.seq) if event.seq > after]
