"""A job: what is known of it, and its events."""

import math
from collections.abc import Hashable
from typing import Any, Literal

import attrs

from creemson.errors import CreemsonError
from creemson.executors.estimate import Estimate
from creemson.jobs.events import Ended, Logged, Progressed, Waiter, events_after
from creemson.jobs.queue.states import ENDED, WAITING, Slot, State

__all__ = ["Job"]


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

    def log(self, level: Literal["info", "warning"], message: str) -> Logged:
        """Add a log message, and return it for the present waiters. Those who attach later get it, too."""
        event = Logged(self.id, self.next_seq(), level, message)
        self.logged.append(event)
        return event

    def events(self, after: int) -> list[Logged | Progressed]:
        """Return the events with a number above ``after``, without ``Ended``."""
        return events_after(after, self.logged, self.latest)
