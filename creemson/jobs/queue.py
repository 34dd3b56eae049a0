"""Which job next: the queue as a sans-IO state machine.

Every method takes what happened and the time (seconds of any monotonic clock), changes the state, and
returns the list of effects that its caller has to carry out: start or stop an attempt, tell a waiter.
What the caller then sees (progress, an attempt's end) comes back as the next method call.

    submitted ──> queued ──> running ──> done | failed | cancelled
                     ^           │
                     └─ backoff ─┘  the worker died, or a transient fault: up to ``retries`` times

A job that ends while its attempt still runs (cancelled, timed out) is over for its waiters at once,
but holds its slot until the attempt has been stopped, so that there are never more than ``slots``.

Jobs outlive connections and servers. :class:`Record` asks for a job to be written down before what
follows is told; a job that the next server finds unfinished comes back through :meth:`Jobs.restore`.
"""

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from creemson.errors import ConnectionLost, CreemsonError, ProcessingError

__all__ = [
    "Accepted",
    "Ended",
    "Erase",
    "Event",
    "Forget",
    "Job",
    "Jobs",
    "Logged",
    "Notify",
    "Progressed",
    "Record",
    "Start",
    "Stop",
    "Waiter",
]

PROGRESS_INTERVAL = 0.1
"""Seconds between two progress events of one job at the least."""
BACKOFF = 0.2
"""Seconds before the first retry; each further one waits twice as long."""
BACKOFF_MOST = 30.0
BUSY_RETRY_AFTER = 1.0
"""Seconds that a refused caller is told to wait."""
SEQ_BLOCK = 1_000_000
"""Event numbers that each server has for a job: a day of them. So none comes twice, although only the last is
written down."""
RESTARTS_MOST = 20
"""Servers that may go down before a job is done, and it still is begun again: perhaps it is why they do."""

State: TypeAlias = Literal["queued", "backoff", "running", "suspended", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")


@attrs.frozen
class Waiter:
    """Who waits for a job: a request of a connection.

    Attributes:
        connection: names the connection.
        request: names the request within it.
        keep: whether the job goes on when the connection is lost.
    """

    connection: str
    request: int
    keep: bool = attrs.field(default=True, eq=False)


@attrs.frozen
class Accepted:
    """The job is taken on; ``position`` 0 starts now."""

    job: str
    position: int


@attrs.frozen
class Progressed:
    """How far the job is."""

    job: str
    seq: int
    figures: Mapping[str, Any]


@attrs.frozen
class Logged:
    """Something worth telling about a job."""

    job: str
    seq: int
    level: Literal["info", "warning"]
    message: str


@attrs.frozen
class Ended:
    """The job's end: its value, or an error.

    A request that is refused has no job and no ``seq``; one whose job goes on without it has no ``seq``.
    """

    job: str | None
    seq: int | None
    value: Any = None
    error: CreemsonError | None = None
    cached: bool = False


Event: TypeAlias = Accepted | Progressed | Logged | Ended


@attrs.frozen
class Start:
    """Effect: run this attempt, and report its end by ``attempt_ended``; it has ``waited`` so many seconds."""

    job: str
    attempt: int
    work: Any
    waited: float = attrs.field(default=0.0, eq=False)


@attrs.frozen
class Stop:
    """Effect: stop the running attempt; its end is still to be reported."""

    job: str
    attempt: int


@attrs.frozen
class Notify:
    """Effect: tell a waiter."""

    waiter: Waiter
    event: Event


@attrs.frozen
class Forget:
    """Effect: nobody can be answered with what the job made any more; its output may go."""

    job: str
    work: Any


@attrs.frozen
class Record:
    """Effect: write the job down as it is now, before any effect that follows is carried out."""

    job: "Job"


@attrs.frozen
class Erase:
    """Effect: what was written down of the job may go."""

    job: str


Effect: TypeAlias = Start | Stop | Notify | Forget | Record | Erase


@attrs.define(eq=False)
class Job:
    """One job.

    Attributes:
        id: names it to the clients.
        key: the same for the same work on the same file by the same caller.
        caller: whose it is.
        work: what is to be done; only passed on.
        timeout: seconds from its first start after which it is given up.
        created, started, finished: times.
        weight: bytes of it, while it waits of what was asked, later of what came of it.
        attempt: number of the last attempt, from 1.
        wake: when a backoff ends.
        seq: number of its last event.
        restarts: servers that went down before it was done.
        running: whether an attempt holds a slot.
        kept: whether somebody has asked that it goes on without them.
        waiters: who is told, in the order in which they came.
        detached: how many more want it done although their connections are gone.
        latest: its last progress; older ones are of no use to anybody.
        logged: what was said of it besides.
    """

    id: str
    key: Hashable
    caller: str
    work: Any
    timeout: float
    created: float
    state: State = "queued"
    started: float | None = None
    finished: float | None = None
    weight: int = 0
    attempt: int = 0
    wake: float = 0.0
    seq: int = 0
    restarts: int = 0
    progressed: float = -math.inf
    running: bool = False
    value: Any = None
    error: CreemsonError | None = None
    kept: bool = False
    waiters: list[Waiter] = attrs.field(factory=list)
    detached: int = 0
    latest: Progressed | None = None
    logged: list[Logged] = attrs.field(factory=list)

    @property
    def ended(self) -> bool:
        """Whether there is an outcome."""
        return self.state in ENDED

    @property
    def put_off(self) -> bool:
        """Whether it waits, for whatever reason."""
        return self.state in ("queued", "backoff", "suspended")

    def next_seq(self) -> int:
        """The number of a new event."""
        self.seq += 1
        return self.seq

    def outcome(self, *, cached: bool = False) -> Ended:
        """The event that tells how the job ended."""
        return Ended(self.id, self.seq, self.value, self.error, cached)

    def log(self, level: Literal["info", "warning"], message: str) -> list[Effect]:
        """Tell all who wait, and those who come later, something worth telling."""
        event = Logged(self.id, self.next_seq(), level, message)
        self.logged.append(event)
        return [Notify(waiter, event) for waiter in self.waiters]

    def events(self, after: int) -> list[Event]:
        """The event log without the end: what was told since ``after``."""
        told: list[Logged | Progressed] = [*self.logged, *([self.latest] if self.latest else [])]
        return [event for event in sorted(told, key=lambda event: event.seq) if event.seq > after]


class Jobs:
    """The queue of one server.

    Args:
        slots: attempts that may run at once.
        per_caller: of these, how many may be one caller's.
        queue: jobs that may wait.
        retries: further attempts after a transient fault.
        history: ended jobs that are remembered, to answer the same work again.
        weight: bytes that the jobs which wait may weigh together, and those that are remembered.
    """

    def __init__(
        self,
        *,
        slots: int,
        per_caller: int,
        queue: int,
        retries: int,
        history: int = 1000,
        weight: float = math.inf,
    ) -> None:
        self._slots = slots
        self._per_caller = per_caller
        self._queue = queue
        self._retries = retries
        self._remembered = history
        self._weight = weight
        self._asked = self._kept = 0  # weight of the active ones, and of the history
        # Every job is in one of these two: it is active until it has an outcome and no running attempt.
        self._active: dict[str, Job] = {}
        self._history: OrderedDict[str, Job] = OrderedDict()
        self._by_key: dict[Hashable, Job] = {}
        self._by_waiter: dict[str, dict[Waiter, Job]] = {}  # by connection first
        self._timed: dict[str, Job] = {}  # running or in a backoff: those that tick() has to look at
        self._running: Counter[str] = Counter()  # slots in use by caller
        # Callers take turns: the first in the order is next, and goes to the end when it was served.
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._draining = False
        self._restored = 0
        self._ended: Counter[str] = Counter()  # jobs that have come to each end

    # --- what happens --------------------------------------------------------------------------------

    def submit(
        self,
        now: float,
        *,
        job: str,
        key: Hashable,
        caller: str,
        work: Any,
        timeout: float,
        waiter: Waiter,
        weight: int = 0,
        refusal: CreemsonError | None = None,
    ) -> list[Effect]:
        """Take on a job, join one that does the same work, or answer with what it made.

        Args:
            now: the time.
            job: the name of the job if it is new.
            key: the same for the same work.
            caller: whose it is; the key of another caller's job never matches.
            work: passed on to :class:`Start`.
            timeout: seconds.
            waiter: who is told.
            weight: bytes of it.
            refusal: why nothing new may be taken on.

        Returns:
            ``Accepted`` first, or one ``Ended`` with ``busy`` or ``shutting_down``; and what follows.
        """
        key = (caller, key)
        known = self._by_key.get(key)
        if known is not None and known.state == "done":
            return [Notify(waiter, event) for event in self.again(known)]
        if self._draining:
            return [Notify(waiter, Ended(None, None, error=_shutting_down()))]
        if known is not None:
            known.timeout = max(known.timeout, timeout)  # nobody gets less time than they asked for
            return [*self._join(known, waiter), Notify(waiter, Accepted(known.id, self._position(known)))]
        too_heavy = self._asked > 0 and self._asked + weight > self._weight
        if self.queued >= self._queue or too_heavy:
            refusal = refusal or ProcessingError(
                "busy",
                f"{self.queued} jobs wait already, and no more may. Try again in a moment.",
                retry_after=BUSY_RETRY_AFTER,
            )
        if refusal is not None:
            return [Notify(waiter, Ended(None, None, error=refusal))]
        new = Job(job, key, caller, work, timeout, created=now, kept=waiter.keep, weight=weight)
        self._active[job] = self._by_key[key] = new
        self._asked += weight
        self._wait(new, waiter)
        self._enqueue(new)
        starts = self._fill(now)
        return [Record(new), Notify(waiter, Accepted(job, self._position(new))), *starts]

    def again(self, done: Job) -> tuple[Accepted, Ended]:
        """What is told to whoever asks for work that is done: what it made."""
        self._history.move_to_end(done.id)
        return Accepted(done.id, 0), done.outcome(cached=True)

    def attach(self, caller: str, job: str, after: int, waiter: Waiter) -> list[Effect]:
        """Follow a job: its events since ``after``, those to come, and its end in any case.

        Raises:
            ProcessingError: ``job_not_found``, also where it is another caller's.
        """
        found = self._find(caller, job)
        told: list[Effect] = [Notify(waiter, event) for event in found.events(after)]
        if found.ended:
            return [*told, Notify(waiter, found.outcome())]
        if found.state == "suspended":
            return [Notify(waiter, Ended(found.id, None, error=_shutting_down()))]
        # Whoever follows it now is taken for one who had to leave: their cancel stops it again.
        found.detached = max(0, found.detached - 1)
        return [*self._join(found, waiter), *told]

    def restore(self, now: float, job: Job, *, error: CreemsonError | None = None) -> list[Effect]:
        """Take a job over from an earlier server; oldest first, before anything else happens.

        Args:
            now: the time.
            job: as it was recorded. If it is unfinished, it is begun again, or ended if nobody wanted it kept.
            error: why it cannot be begun again.
        """
        if job.ended:
            if job.state == "done":
                self._by_key[job.key] = job
            self._history[job.id] = job
            self._kept += job.weight
            return self._trim()
        job.restarts += 1
        job.seq = job.restarts * SEQ_BLOCK
        self._active[job.id] = job
        self._asked += job.weight
        self._by_key.setdefault(job.key, job)
        self._enqueue(job)
        self._restored += 1
        if not job.kept:
            return self._abort(now, job, _cancelled("The client has gone, and the work with it."))
        if job.restarts > RESTARTS_MOST:
            error = ProcessingError(
                "worker_died",
                f"The server went down {job.restarts} times before this job was done, so it is given up. "
                "Ask for less, or look into the server's log.",
            )
        if error is not None:
            return self._abort(now, job, error, state="failed")
        job.detached = 1
        return [
            Record(job),
            *job.log("info", "The server was restarted; the job is begun again."),
            *self._fill(now),
        ]

    def progress(self, now: float, job: str, attempt: int, figures: Mapping[str, Any]) -> list[Effect]:
        """An attempt tells how far it is; told on at most every :data:`PROGRESS_INTERVAL`.

        Args:
            now: the time.
            job: which.
            attempt: of a stopped attempt, what is under way is dropped.
            figures: ``phase``, ``bytes_read``, ``bytes_total``, ``rows``, ``fraction``.

        Returns:
            ``Progressed`` for every waiter, with ``rows_per_s`` and ``eta_s`` added.
        """
        found = self._active.get(job)
        if found is None or found.state != "running" or found.attempt != attempt or found.started is None:
            return []
        if now - found.progressed < PROGRESS_INTERVAL:
            return []
        found.progressed = now
        elapsed = now - found.started
        fraction = figures["fraction"]
        rates = {
            "rows_per_s": round(figures["rows"] / elapsed, 1) if elapsed > 0 else 0.0,
            "eta_s": round(elapsed * (1 - fraction) / fraction, 3) if fraction > 0 else None,
        }
        event = found.latest = Progressed(job, found.next_seq(), {**figures, **rates})
        return [Notify(waiter, event) for waiter in found.waiters]

    def attempt_ended(
        self,
        now: float,
        job: str,
        attempt: int,
        *,
        value: Any = None,
        error: CreemsonError | None = None,
        transient: bool = False,
    ) -> list[Effect]:
        """An attempt is over, and its slot free.

        Args:
            now: the time.
            job: which.
            attempt: the one that runs.
            value: what it made, if there is no error.
            error: why it failed.
            transient: whether another attempt may do better.

        Returns:
            The job's end for its waiters, if this was it, and the next starts.
        """
        found = self._active[job]
        assert found.running, job
        assert found.attempt == attempt, job
        found.running = False
        self._running[found.caller] -= 1
        if not self._running[found.caller]:
            del self._running[found.caller]
        self._timed.pop(job, None)
        effects: list[Effect] = []
        if found.ended:
            if value is not None and found.key not in self._by_key:
                effects = [Forget(job, found.work)]  # it was made while the job was being given up
        elif found.state == "suspended" and value is None:
            pass  # the next server begins it again
        elif error is None:
            found.value = value
            effects = self._end(now, found, "done")
        elif transient and found.attempt <= self._retries and self._draining and found.kept:
            effects = self._suspend(now, found)
        elif transient and found.attempt <= self._retries and not self._draining:
            found.state = "backoff"
            found.wake = now + min(BACKOFF * 2 ** (found.attempt - 1), BACKOFF_MOST)
            self._timed[job] = found
            effects = found.log(
                "warning",
                f"Attempt {found.attempt} of {self._retries + 1} failed: {error.message} It is tried again.",
            )
        else:
            effects = self._end(now, found, "failed", error)
        if found.ended:
            self._retire(found)
        return effects + self._fill(now) + self._trim()

    def cancel(self, now: float, caller: str, job: str) -> list[Effect]:
        """Stop a job for everyone who waits for it.

        Raises:
            ProcessingError: ``job_not_found``, also where it is another caller's or has ended otherwise.
        """
        found = self._find(caller, job)
        if found.state in ("done", "failed"):
            raise ProcessingError(
                "job_not_found", f"The job {job!r} has ended already; nothing is left to cancel."
            )
        return self._abort(now, found, _cancelled(f"The job {job!r} was cancelled."))

    def leave(self, now: float, waiter: Waiter) -> tuple[str, list[Effect]]:
        """A waiter cancels its own request; the job goes on if others wait for it.

        Returns:
            The job, and the effects: ``Ended`` with ``cancelled`` for the waiter.

        Raises:
            ProcessingError: ``job_not_found``: this waiter waits for nothing.
        """
        found = self._by_waiter.get(waiter.connection, {}).get(waiter)
        if found is None:
            raise ProcessingError(
                "job_not_found", "That request has no job under way; nothing is left to cancel."
            )
        error = _cancelled("The request was cancelled.")
        if len(found.waiters) == 1 and not found.detached:
            return found.id, self._abort(now, found, error)
        self._forsake(waiter)
        return found.id, [Notify(waiter, Ended(found.id, found.next_seq(), error=error))]

    def disconnect(self, now: float, connection: str) -> list[Effect]:
        """A connection is gone: its waiters are, and the jobs that nobody else wants kept are stopped."""
        effects: list[Effect] = []
        for waiter, found in list(self._by_waiter.get(connection, {}).items()):
            self._forsake(waiter)
            found.detached += waiter.keep
            if not found.waiters and not found.detached:
                effects += self._abort(now, found, _cancelled("The client has gone, and the work with it."))
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: end backoffs, give up what ran too long."""
        effects: list[Effect] = []
        for found in list(self._timed.values()):
            if self._deadline(found) <= now:
                error = ProcessingError(
                    "job_timeout",
                    f"The job took longer than its {found.timeout:g} s. Ask for less, or for more time.",
                )
                effects += self._abort(now, found, error, state="failed")
            elif found.state == "backoff" and found.wake <= now:
                found.state = "queued"
                del self._timed[found.id]
                self._enqueue(found, first=True)
        return effects + self._fill(now)

    def next_wake(self) -> float:
        """When :meth:`tick` is due; infinity if nothing waits for time to pass."""
        times = (
            min(found.wake if found.state == "backoff" else math.inf, self._deadline(found))
            for found in self._timed.values()
        )
        return min(times, default=math.inf)

    def drain(self, now: float) -> list[Effect]:
        """Take on nothing more and start nothing more; what runs may finish, the rest waits for the next server."""
        self._draining = True
        effects: list[Effect] = []
        for found in list(self.unfinished()):
            if not found.running:
                effects += self._suspend(now, found)
        return effects

    def abandon(self, now: float) -> list[Effect]:
        """After :meth:`drain`: the time is up, stop what still runs."""
        effects: list[Effect] = []
        for found in list(self.unfinished()):
            effects += self._suspend(now, found)
        return effects

    def fail(self, now: float, job: str, error: CreemsonError) -> list[Effect]:
        """A job cannot go on; nothing happens if it has ended."""
        found = self._active.get(job)
        return [] if found is None else self._abort(now, found, error, state="failed")

    def forget(self, job: str) -> list[Effect]:
        """What an ended job made is gone; the same work is to be done again."""
        found = self._history.pop(job)
        self._kept -= found.weight
        self._release(found)
        return [Erase(job)]

    # --- what there is -------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Jobs that wait for a slot or for a backoff to end."""
        backoffs = sum(found.state == "backoff" for found in self._timed.values())
        return sum(map(len, self._waiting.values())) + backoffs

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._running.total()

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Jobs that are ``queued`` and ``running``; those that were ``done``, ``failed`` and ``cancelled`` so far.

        Args:
            caller: whose jobs count; of theirs, those that have ended count as long as they are known. None: all.
        """
        if caller is not None:
            states = Counter("queued" if job.put_off else job.state for job in self.of_caller(caller))
            return {state: states[state] for state in ("queued", "running", *ENDED)}
        return {
            "queued": self.queued,
            "running": self.running,
            "done": self._ended["done"],
            "failed": self._ended["failed"],
            "cancelled": self._ended["cancelled"],
        }

    def unfinished(self) -> list[Job]:
        """The jobs without an outcome that are not put off."""
        return [found for found in self._active.values() if not found.ended and found.state != "suspended"]

    def of_caller(self, caller: str) -> list[Job]:
        """The caller's jobs that are known, the newest first."""
        found = [job for job in (*self._history.values(), *self._active.values()) if job.caller == caller]
        return sorted(found, key=lambda job: job.created, reverse=True)

    def ended_before(self, time: float) -> list[Job]:
        """The jobs that have ended before ``time``."""
        return [job for job in self._history.values() if job.finished is not None and job.finished < time]

    def weigh(self, job: Job, weight: int) -> list[Effect]:
        """A job has another weight by now, since it has ended."""
        if job.id in self._history:
            self._kept += weight - job.weight
        else:
            self._asked += weight - job.weight
        job.weight = weight
        return self._trim()

    def find_done(self, caller: str, key: Hashable) -> Job | None:
        """The job that has done this work for this caller, if its result is remembered."""
        found = self._by_key.get((caller, key))
        return found if found is not None and found.state == "done" else None

    # --- how it is done ------------------------------------------------------------------------------

    def _find(self, caller: str, job: str) -> Job:
        found = self._active.get(job) or self._history.get(job)
        if found is None or found.caller != caller:
            raise ProcessingError("job_not_found", f"There is no job {job[:80]!r}.")
        return found

    def _join(self, job: Job, waiter: Waiter) -> list[Effect]:
        """One more waits; what the first of them that wants it kept changes, is written down."""
        self._wait(job, waiter)
        if not waiter.keep or job.kept:
            return []
        job.kept = True
        return [Record(job)]

    def _suspend(self, now: float, job: Job) -> list[Effect]:
        """The job goes on with the next server, if anybody wants it kept; those who wait are told so."""
        if not job.kept:
            return self._abort(now, job, _shutting_down(), state="failed")
        stop: list[Effect] = [Stop(job.id, job.attempt)] if job.running else []
        if job.state == "queued":
            self._dequeue(job)
        self._timed.pop(job.id, None)
        job.state = "suspended"
        return stop + self._dismiss(job, Ended(job.id, None, error=_shutting_down()))

    def _release(self, job: Job) -> None:
        """The same work is another job from now on."""
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def _dismiss(self, job: Job, event: Event) -> list[Effect]:
        """Tell those who wait the last they hear."""
        waiters, job.waiters = job.waiters, []
        for waiter in waiters:
            self._unwait(waiter)
        return [Notify(waiter, event) for waiter in waiters]

    def _wait(self, job: Job, waiter: Waiter) -> None:
        of_connection = self._by_waiter.setdefault(waiter.connection, {})
        assert waiter not in of_connection, waiter
        of_connection[waiter] = job
        job.waiters.append(waiter)

    def _unwait(self, waiter: Waiter) -> Job:
        of_connection = self._by_waiter[waiter.connection]
        job = of_connection.pop(waiter)
        if not of_connection:
            del self._by_waiter[waiter.connection]
        return job

    def _forsake(self, waiter: Waiter) -> None:
        self._unwait(waiter).waiters.remove(waiter)

    def _deadline(self, job: Job) -> float:
        return math.inf if job.started is None else job.started + job.timeout

    def _enqueue(self, job: Job, *, first: bool = False) -> None:
        line = self._waiting.setdefault(job.caller, deque())
        if first:
            line.appendleft(job)
        else:
            line.append(job)

    def _dequeue(self, job: Job) -> None:
        line = self._waiting[job.caller]
        line.remove(job)
        if not line:
            del self._waiting[job.caller]

    def _position(self, job: Job) -> int:
        """How many starts come first, this one included; 0 if it has started."""
        if job.state != "queued":
            return 0
        place = self._waiting[job.caller].index(job) + 1
        return sum(min(place, len(line)) for line in self._waiting.values())

    def _fill(self, now: float) -> list[Effect]:
        """Start queued jobs while there are slots, the callers taking turns."""
        effects: list[Effect] = []
        while self.running < self._slots and not self._draining:
            caller = next((name for name in self._waiting if self._running[name] < self._per_caller), None)
            if caller is None:
                break
            found = self._waiting[caller][0]
            self._dequeue(found)
            if caller in self._waiting:
                self._waiting.move_to_end(caller)
            found.state, found.running, found.attempt = "running", True, found.attempt + 1
            if found.started is None:
                found.started = now
            self._running[caller] += 1
            self._timed[found.id] = found
            effects.append(Start(found.id, found.attempt, found.work, now - found.created))
        return effects

    def _abort(
        self,
        now: float,
        job: Job,
        error: CreemsonError,
        *,
        state: Literal["cancelled", "failed"] = "cancelled",
    ) -> list[Effect]:
        """End a job before its time; nothing happens if it has ended."""
        if job.ended:
            return []
        running = job.running and job.state != "suspended"
        stop: list[Effect] = [Stop(job.id, job.attempt)] if running else []
        if job.state == "queued":
            self._dequeue(job)
        self._timed.pop(job.id, None)
        ended = self._end(now, job, state, error)
        if not job.running:
            self._retire(job)
        return stop + ended + self._trim()

    def _end(
        self,
        now: float,
        job: Job,
        state: Literal["done", "failed", "cancelled"],
        error: CreemsonError | None = None,
    ) -> list[Effect]:
        job.state, job.error, job.finished = state, error, now
        self._ended[state] += 1
        job.next_seq()
        if state != "done":
            self._release(job)  # a failure is not remembered as the answer: the next try may do better
        return [Record(job), *self._dismiss(job, job.outcome())]

    def _retire(self, job: Job) -> None:
        """Nothing runs for an ended job any more: it becomes history."""
        self._history[job.id] = self._active.pop(job.id)
        self._asked -= job.weight
        self._kept += job.weight

    def _trim(self) -> list[Effect]:
        """Let the oldest ended jobs go when the history is full, but for the latest."""
        effects: list[Effect] = []
        while len(self._history) > self._remembered or (self._kept > self._weight and len(self._history) > 1):
            oldest = next(iter(self._history.values()))
            effects += self.forget(oldest.id)
            if oldest.state == "done" and oldest.key not in self._by_key:
                effects.append(Forget(oldest.id, oldest.work))
        return effects

    def validate(self) -> None:
        """Assert what must always hold; tests call this after every step."""
        running = Counter(found.caller for found in self._active.values() if found.running)
        assert running == self._running
        assert self.running <= self._slots
        assert all(count <= self._per_caller for count in running.values())
        # A retry goes back to the queue without asking for room: at most one for every slot.
        assert self.queued <= self._queue + self._slots + self._restored
        states: dict[str, set[str]] = {}
        for found in self._active.values():
            states.setdefault(found.state, set()).add(found.id)
            if found.state != "suspended":
                assert found.running if found.ended else found.running == (found.state == "running")
        for found in self._history.values():
            assert found.ended
            assert not found.running
        assert all(self._waiting.values()), "no caller has an empty line"
        queued = [found.id for line in self._waiting.values() for found in line]
        assert sorted(queued) == sorted(states.get("queued", ()))
        assert set(self._timed) == states.get("running", set()) | states.get("backoff", set())
        assert len(self._history) <= self._remembered
        assert self._asked == sum(found.weight for found in self._active.values())
        assert self._kept == sum(found.weight for found in self._history.values())
        assert self._kept <= self._weight or len(self._history) == 1
        waiting: dict[str, dict[Waiter, Job]] = {}
        for found in (*self._active.values(), *self._history.values()):
            assert (found.state in ("failed", "cancelled")) == (found.error is not None)
            assert (found.finished is not None) == found.ended
            assert found.attempt <= self._retries + 1
            assert not (found.ended and found.waiters)
            for waiter in found.waiters:
                waiting.setdefault(waiter.connection, {})[waiter] = found
        assert waiting == self._by_waiter
        for key, found in self._by_key.items():
            assert key == found.key
            assert found.state not in ("failed", "cancelled")
            assert (found.id in self._history) == found.ended
        if self.running < self._slots and not self._draining:
            assert all(running[caller] >= self._per_caller for caller in self._waiting), "a slot is idle"


def _cancelled(message: str) -> ProcessingError:
    return ProcessingError("cancelled", message)


def _shutting_down() -> ConnectionLost:
    return ConnectionLost("shutting_down", "The server is shutting down. Try again when it is back.")
