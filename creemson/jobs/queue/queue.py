"""Decides which job runs next: the job queue as a sans-IO state machine.

Every method takes what happened and the time (in seconds, of any monotonic clock), changes the state of the queue, and
returns the list of effects that its caller must carry out, such as to start or stop an attempt or to notify a waiter.
The caller reports what happens afterwards (progress, the end of an attempt) by the next method call.

:mod:`creemson.jobs.queue.states` shows the states of a job. A job whose attempt fails by a dead worker or another
transient fault is tried again, up to ``retries`` times. A job that ends while its attempt still runs (it was cancelled,
or timed out) is over for its waiters at once, but occupies its slot until the attempt has stopped, so that there are
never more than the slots that there are. Callers take turns for them: see :mod:`creemson.jobs.sharing.turns`. Work that
is not a job uses the same slots, by a :class:`~creemson.jobs.queue.slots.Lease`.

Jobs outlive connections and restarts of the server. The effect :class:`Record` requests that a job is recorded before
the effects that follow are carried out; :meth:`JobQueue.restore` takes over a job that an earlier server process has
recorded. What a caller may hold is bounded: see :mod:`creemson.jobs.sharing.bounds`, and
:mod:`creemson.jobs.sharing.history` for the jobs that have ended.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal

from creemson.errors import CreemsonError, shutting_down
from creemson.jobs.events import Accepted, Ended, Event, Waiter
from creemson.jobs.queue.effects import Effect, Erase, Forget, Grant, Notify, Record, Revoke, Start, Stop
from creemson.jobs.queue.errors import (
    already_ended,
    cancelled,
    disconnected,
    job_not_found,
    nothing_to_cancel,
    timed_out,
    too_many_restarts,
)
from creemson.jobs.queue.job import Job
from creemson.jobs.queue.progress import progressed
from creemson.jobs.queue.slots import Lease, Slots
from creemson.jobs.queue.states import ENDED, TIMED, State, Transition, next_state
from creemson.jobs.queue.waiters import Waiters
from creemson.jobs.sharing.bounds import Bounds, Tally, bytes_excess, jobs_excess
from creemson.jobs.sharing.history import History

__all__ = ["COUNTED", "MAX_RESTARTS", "JobQueue"]

BACKOFF = 0.2
"""Seconds before the first retry; the delay doubles with each further one."""
MAX_BACKOFF = 30.0
"""Maximum seconds before a retry."""
SEQ_BLOCK = 1_000_000
"""Number of event numbers that each server process reserves for a job, enough for a day. So no number is used again
after a restart, although the number of the last event is recorded only when the job ends."""
MAX_RESTARTS = 20
"""Maximum number of times that the server stops before a job is done; then the job fails, for it may be the cause."""
COUNTED: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
"""States in the counts of jobs, in this order."""
NO_BOUNDS = Bounds()


class JobQueue:
    """The queue of one server.

    Args:
        slots: number of attempts that run at once; one more for parties without any.
        slots_per_caller: maximum number of these attempts that belong to one caller.
        retries: maximum number of further attempts after a transient fault.
        bounds: what each caller and all together may hold.

    Attributes:
        slots: who waits for a slot, and who has one; only the queue changes it.
    """

    def __init__(
        self, *, slots: int, slots_per_caller: int, retries: int, bounds: Bounds = NO_BOUNDS
    ) -> None:
        self._retries = retries
        # Every job is in one of these two: it is active until it has an outcome and no running attempt.
        self._active: dict[str, Job] = {}
        self._history = History(bounds.remembered, bounds.remembered_bytes)
        self._by_key: dict[Hashable, Job] = {}  # jobs that the same request joins, or is answered from
        self._waiters = Waiters()
        self._timed: dict[str, Job] = {}  # jobs in one of the states TIMED, which tick() checks
        self.slots = Slots(slots, slots_per_caller, bounds.queued)
        self._bytes = Tally(bounds.active_bytes)  # of the requests of active jobs
        self._draining = False
        self._restored = 0  # number of unfinished jobs that were restored; they may exceed the bounds
        self._ended: Counter[State] = Counter()  # number of ended jobs by final state

    # --- inputs --------------------------------------------------------------------------------------

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
        party: str | None = None,
        size_bytes: int = 0,
        refusal: CreemsonError | None = None,
    ) -> list[Effect]:
        """Accept a job, join a job that does the same work, or answer with the result of a job that has done it.

        Args:
            now: the time.
            job: id of the job, if a new one is created.
            key: equal for the same work.
            caller: name of the caller; jobs of other callers never match.
            work: passed on to :class:`Start`.
            timeout: maximum seconds for the job.
            waiter: the request to notify.
            party: who takes turns for the job; None: its caller.
            size_bytes: size of the request.
            refusal: the error if no new job can be accepted now.

        Returns:
            ``Accepted`` and the effects that follow from it, or one ``Ended`` with ``busy``, ``shutting_down`` or the
            refusal.
        """
        key = (caller, key)
        known = self._by_key.get(key)
        if known is not None and known.state == "done":
            return [Notify(waiter, event) for event in self.again(known)]
        if self._draining:
            return [Notify(waiter, Ended(None, None, error=shutting_down()))]
        if known is not None:
            known.timeout = max(known.timeout, timeout)  # nobody gets less time than requested
            return [
                *self._join(known, waiter),
                Notify(waiter, Accepted(known.id, self.slots.position(known))),
            ]
        refusal = refusal or self._excess(caller, size_bytes)
        if refusal is not None:
            return [Notify(waiter, Ended(None, None, error=refusal))]
        new = Job(
            job, key, caller, work, timeout, created=now, party=party or caller, kept=waiter.keep,
            size_bytes=size_bytes,
        )  # fmt: skip
        self._active[job] = self._by_key[key] = new
        self._bytes.add(caller, size_bytes)
        self._waiters.add(new, waiter)
        self.slots.enqueue(new)
        starts = self._fill(now)
        return [Record(new), Notify(waiter, Accepted(job, self.slots.position(new))), *starts]

    def again(self, done: Job) -> tuple[Accepted, Ended]:
        """Return the answer to a request for work that this job has done."""
        self._history.use(done)
        return Accepted(done.id, 0), done.outcome(cached=True)

    def attach(
        self, caller: str, job: str, after: int, waiter: Waiter, *, is_back: bool = True
    ) -> list[Effect]:
        """Follow a job: the waiter gets the events after number ``after``, then new ones, and in any case its end.

        Args:
            caller: who asks.
            job: its id.
            after: number of the last event that the waiter has seen.
            waiter: the request to notify.
            is_back: whether the waiter is taken for one whose connection was lost: if it cancels now, the job stops.

        Raises:
            ProcessingError: ``job_not_found``: it does not exist, or belongs to another caller.
        """
        found = self._find(caller, job)
        replayed: list[Effect] = [Notify(waiter, event) for event in found.events(after)]
        if found.ended:
            return [*replayed, Notify(waiter, found.outcome())]
        if found.state == "suspended":
            return [Notify(waiter, Ended(found.id, None, error=shutting_down()))]
        found.detached = max(0, found.detached - is_back)
        return [*self._join(found, waiter), *replayed]

    def restore(self, now: float, job: Job, *, error: CreemsonError | None = None) -> list[Effect]:
        """Take over a job of an earlier server process. Call this for the oldest job first, and before other methods.

        Args:
            now: the time.
            job: the job as recorded. An unfinished job is queued again, or ends if no request wanted to keep it.
            error: the reason why it cannot be queued again, if any.
        """
        if job.ended:
            if job.state == "done":
                self._by_key[job.key] = job
            self._history.add(job)
            return self._trim(job.caller)
        job.restarts += 1
        self._take_over(job, job.restarts)
        if not job.kept:
            return self._abort(now, job, disconnected())
        if job.restarts > MAX_RESTARTS:
            error = too_many_restarts(job.restarts)
        if error is not None:
            return self._abort(now, job, error, "fail")
        job.detached = 1
        return [
            Record(job),
            *_log(job, "info", "The server was restarted; the job starts again."),
            *self._fill(now),
        ]

    def adopt(
        self, now: float, job: Job, epoch: int, waiters: Iterable[Waiter], *, wanted: bool
    ) -> list[Effect]:
        """Take a job that several servers share, and that is this server's from now on.

        Args:
            now: the time.
            job: the job as recorded. It is not recorded again.
            epoch: how often it has been claimed; its events have higher numbers than those of earlier epochs.
            waiters: the requests of this server that wait for it; they have been told that it is accepted.
            wanted: whether others may come back to it, so that it goes on if all of these leave.
        """
        self._take_over(job, epoch - 1)
        job.detached = int(wanted)
        for waiter in waiters:
            self._waiters.add(job, waiter)
        goes_on = _log(job, "info", "Another server takes the job; it starts again.") if epoch > 1 else []
        return [*goes_on, *self._fill(now)]

    def surrender(self, now: float, job: str) -> tuple[list[Effect], list[Waiter]]:
        """Give up a job that is another server's by now: its attempt stops, and whatever comes of it is dropped.

        Returns:
            The effects, and the requests that waited for it; they are told nothing.
        """
        found = self._active.get(job)
        if found is None or found.surrendered:
            return [], []
        found.surrendered = True
        waiters = list(self._waiters.clear(found))
        self._release(found)
        effects = [] if found.ended else self._move(found, "suspend") if found.state != "suspended" else []
        if found.slot == "free":
            self._drop(found)
        return effects + self._fill(now), waiters

    def note(self, job: str, attempt: int, message: str) -> list[Effect]:
        """Tell the waiters something about a running attempt; they get it as a ``log`` message.

        Args:
            job: its id.
            attempt: its number; what concerns a stopped attempt is dropped.
            message: the text.
        """
        found = self._active.get(job)
        if found is None or found.state != "running" or found.attempt != attempt:
            return []
        return _log(found, "info", message)

    def progress(self, now: float, job: str, attempt: int, figures: Mapping[str, Any]) -> list[Effect]:
        """Report the progress of an attempt; see :func:`creemson.jobs.queue.progress.progressed`.

        Args:
            now: the time.
            job: its id.
            attempt: its number; late progress of a stopped attempt is dropped.
            figures: ``phase``, ``bytes_read``, ``bytes_total``, ``rows``, ``fraction``.

        Returns:
            ``Progressed`` for every waiter, with ``rows_per_s`` and ``eta_s`` added. The fraction never decreases, and
            the report that the work is done is never dropped.
        """
        found = self._active.get(job)
        if found is None or found.state != "running" or found.attempt != attempt or found.started is None:
            return []
        event = progressed(now, found, self.slots.number, figures)
        return [] if event is None else [Notify(waiter, event) for waiter in found.waiters]

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
        """Report the end of an attempt, which frees its slot.

        Args:
            now: the time.
            job: its id.
            attempt: its number; it must be the one that runs.
            value: the result; None without ``error``: the attempt was stopped.
            error: the reason why it failed.
            transient: whether another attempt may succeed.

        Returns:
            The effects of the job's end, if this ends it, and the next starts.
        """
        found = self._active[job]
        assert found.slot != "free", job
        assert found.attempt == attempt, job
        found.slot = "free"
        self.slots.give_back(found)
        effects: list[Effect] = []
        retry = transient and found.attempt <= self._retries
        if found.surrendered:
            self._drop(found)
            return self._fill(now)
        if found.ended:
            if value is not None and found.key not in self._by_key:
                effects = [Forget(job, found.work)]  # the attempt ended before it could be stopped
        elif found.state == "suspended" and value is None:
            pass  # the next server starts it again
        elif error is None:
            found.value = value
            effects = self._end(now, found, "finish")
        elif retry and not self._draining:
            self._move(found, "retry")
            found.wake = now + min(BACKOFF * 2 ** (found.attempt - 1), MAX_BACKOFF)
            effects = _log(
                found,
                "warning",
                f"Attempt {found.attempt} of {self._retries + 1} failed: {error.message} It is tried again.",
            )
        elif retry and found.kept:
            effects = self._suspend(now, found)
        else:
            effects = self._end(now, found, "fail", error)
        if found.ended:
            self._retire(found)
        return effects + self._fill(now) + self._trim(found.caller)

    def cancel(self, now: float, caller: str, job: str) -> list[Effect]:
        """Cancel a job for all its waiters. Idempotent.

        Raises:
            ProcessingError: ``job_not_found``: it does not exist, belongs to another caller, or is done or failed.
        """
        found = self._find(caller, job)
        if found.state in ("done", "failed"):
            raise already_ended(job)
        return self._abort(now, found, cancelled(f"The job {job!r} was cancelled."))

    def leave(self, now: float, waiter: Waiter) -> tuple[str, list[Effect]]:
        """Cancel one request; the job continues if others wait for it.

        Returns:
            The job's id, and the effects: ``Ended`` with ``cancelled`` for the waiter.

        Raises:
            ProcessingError: ``job_not_found``: the waiter waits for no job.
        """
        found = self._waiters.job_of(waiter)
        if found is None:
            raise nothing_to_cancel()
        error = cancelled("The request was cancelled.")
        if len(found.waiters) == 1 and not found.detached:
            return found.id, self._abort(now, found, error)
        self._waiters.remove(waiter)
        return found.id, [Notify(waiter, Ended(found.id, found.next_seq(), error=error))]

    def disconnect(self, now: float, connection: str) -> list[Effect]:
        """Remove the waiters of a lost connection, and cancel the jobs that no other request waits for or keeps."""
        effects: list[Effect] = []
        for waiter in self._waiters.of_connection(connection):
            effects += self.lose(now, waiter)
        return effects

    def ending_with(self, connection: str) -> list[Job]:
        """Return the jobs that :meth:`disconnect` would cancel."""
        found = dict.fromkeys(self._waiters.of_connection(connection).values())
        return [
            job
            for job in found
            if not job.detached
            and all(waiter.connection == connection and not waiter.keep for waiter in job.waiters)
        ]

    def lose(self, now: float, waiter: Waiter) -> list[Effect]:
        """Do the same for one of the waiters of a connection."""
        found = self._waiters.remove(waiter)
        found.detached += waiter.keep
        if found.waiters or found.detached:
            return []
        return self._abort(now, found, disconnected())

    def request(self, now: float, lease: Lease) -> list[Effect]:
        """Ask for a slot for work that is not a job.

        Returns:
            ``Grant``, if there is a slot now.

        Raises:
            ProcessingError: ``busy`` or ``shutting_down``.
        """
        if self._draining:
            raise shutting_down()
        refusal = self._excess(lease.caller)
        if refusal is not None:
            raise refusal
        self.slots.request(lease)
        return self._fill(now)

    def release(self, now: float, lease: Lease) -> list[Effect]:
        """Give back the slot of a lease, or stop waiting for it."""
        self.slots.release(lease)
        return self._fill(now)

    def resize(self, now: float, slots: int) -> list[Effect]:
        """Change the number of attempts that run at once; if there are more, some may start now."""
        self.slots.resize(slots)
        return self._fill(now)

    def tick(self, now: float) -> list[Effect]:
        """Report that time has passed: end backoffs, and fail the jobs whose timeout is over."""
        effects: list[Effect] = []
        for found in list(self._timed.values()):
            if found.deadline <= now:
                effects += self._abort(now, found, timed_out(found.timeout), "fail")
            elif found.state == "backoff" and found.wake <= now:
                self._move(found, "wake")
        return effects + self._fill(now)

    def next_wake(self) -> float:
        """Return the time when :meth:`tick` is due; infinity if no job has a timeout or backoff."""
        times = (
            min(found.wake if found.state == "backoff" else math.inf, found.deadline)
            for found in self._timed.values()
        )
        return min(times, default=math.inf)

    def drain(self, now: float) -> list[Effect]:
        """Stop accepting and starting jobs. Running attempts may finish; the other jobs wait for the next server."""
        self._draining = True
        effects: list[Effect] = [Revoke(lease) for lease in self.slots.leases if not lease.granted]
        for found in list(self.unfinished()):
            if found.slot == "free":
                effects += self._suspend(now, found)
        return effects

    def stop_all(self, now: float) -> list[Effect]:
        """Stop the attempts that still run after :meth:`drain`; their jobs wait for the next server."""
        effects: list[Effect] = [Revoke(lease) for lease in self.slots.leases]
        for found in list(self.unfinished()):
            effects += self._suspend(now, found)
        return effects

    def fail(self, now: float, job: str, error: CreemsonError) -> list[Effect]:
        """Fail a job; no effect if it has ended."""
        found = self._active.get(job)
        return [] if found is None else self._abort(now, found, error, "fail")

    def forget(self, job: str) -> list[Effect]:
        """Remove an ended job, for example because its output is gone; a request for the same work then runs again."""
        self._release(self._history.pop(job))
        return [Erase(job)]

    # --- queries -------------------------------------------------------------------------------------

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Count the jobs that are queued and running, and those that became done, failed or cancelled.

        Args:
            caller: counts only jobs of this caller, and only ended jobs that are in the history. None counts all jobs.
        """
        if caller is not None:
            states = Counter("queued" if job.is_waiting else job.state for job in self.of_caller(caller))
            return {state: states[state] for state in COUNTED}
        return {
            "queued": self.slots.queued,
            "running": self.slots.running,
            "done": self._ended["done"],
            "failed": self._ended["failed"],
            "cancelled": self._ended["cancelled"],
        }

    def active(self, job: str) -> Job | None:
        """Return a job that has no outcome, or whose attempt still runs; not one that was given up."""
        found = self._active.get(job)
        return None if found is None or found.surrendered else found

    @property
    def given_up(self) -> list[str]:
        """The ids of the jobs that were given up, and whose attempts still run."""
        return [found.id for found in self._active.values() if found.surrendered]

    def waits(self, waiter: Waiter) -> bool:
        """Whether a request waits for a job of this queue."""
        return self._waiters.job_of(waiter) is not None

    def unfinished(self) -> list[Job]:
        """Return the jobs without an outcome that are not suspended."""
        return [found for found in self._active.values() if not found.ended and found.state != "suspended"]

    def of_caller(self, caller: str) -> list[Job]:
        """Return the caller's jobs, the newest first."""
        active = [job for job in self._active.values() if job.caller == caller]
        found = self._history.of_caller(caller) + active
        return sorted(found, key=lambda job: job.created, reverse=True)

    def ended_before(self, time: float) -> list[Job]:
        """Return the jobs that ended before ``time``."""
        return [job for job in self._history if job.finished is not None and job.finished < time]

    def set_size(self, job: Job, size_bytes: int) -> list[Effect]:
        """Change the size of a job: after its end, that of its outcome."""
        if job.id in self._history:
            self._history.resize(job, size_bytes)
        else:
            self._bytes.add(job.caller, size_bytes - job.size_bytes)
            job.size_bytes = size_bytes
        return self._trim(job.caller)

    def find_done(self, caller: str, key: Hashable) -> Job | None:
        """Return the job that has done this work for this caller, if it is in the history."""
        found = self._by_key.get((caller, key))
        return found if found is not None and found.state == "done" else None

    # --- internals -----------------------------------------------------------------------------------

    def _find(self, caller: str, job: str) -> Job:
        found = self._active.get(job) or self._history.get(job)
        if found is None or found.caller != caller:
            raise job_not_found(job)
        return found

    def _excess(self, caller: str, size_bytes: int = 0) -> CreemsonError | None:
        """Return the error if one more job or lease would exceed a bound: of the caller, or of all callers."""
        refusal = jobs_excess(self.slots.places, caller)
        if refusal is None and size_bytes:
            refusal = bytes_excess(self._bytes, caller, size_bytes)
        return refusal

    def _join(self, job: Job, waiter: Waiter) -> list[Effect]:
        """Add a waiter to an existing job; if this makes it a kept job, record that."""
        self._waiters.add(job, waiter)
        if not waiter.keep or job.kept:
            return []
        job.kept = True
        return [Record(job)]

    def _suspend(self, now: float, job: Job) -> list[Effect]:
        """Leave a job to the next server if any request wanted to keep it, and notify its waiters."""
        if not job.kept:
            return self._abort(now, job, shutting_down(), "fail")
        return [*self._move(job, "suspend"), *self._dismiss(job, Ended(job.id, None, error=shutting_down()))]

    def _release(self, job: Job) -> None:
        """Stop using a job for requests for the same work: the next such request gets a new job."""
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def _dismiss(self, job: Job, event: Event) -> list[Effect]:
        """Send the last event to all waiters and remove them."""
        return [Notify(waiter, event) for waiter in self._waiters.clear(job)]

    def _move(self, job: Job, transition: Transition) -> list[Effect]:
        """Change the state of a job, and update the indexes by state. No other method does this.

        Returns:
            ``Stop`` if the job leaves ``running`` while its attempt runs; no effect otherwise.
        """
        before, job.state = job.state, next_state(job.state, transition)
        self.slots.moved(job, before)
        if before in TIMED:
            del self._timed[job.id]
        if job.state in TIMED:
            self._timed[job.id] = job
        elif job.state in ENDED:
            self._ended[job.state] += 1
        if before == "running" and job.slot == "working":
            job.slot = "stopping"
            return [Stop(job.id, job.attempt)]
        return []

    def _take_over(self, job: Job, restarts: int) -> None:
        """Queue a job that was recorded earlier."""
        job.seq = restarts * SEQ_BLOCK
        self._active[job.id] = job
        self._bytes.add(job.caller, job.size_bytes)
        self._by_key.setdefault(job.key, job)
        self.slots.enqueue(job)
        self._restored += 1

    def _drop(self, job: Job) -> None:
        """Forget a job that is another server's, once no attempt of it runs here."""
        del self._active[job.id]
        self._bytes.add(job.caller, -job.size_bytes)

    def _fill(self, now: float) -> list[Effect]:
        """Start queued jobs, and grant leases, while slots are free; parties take turns."""
        effects: list[Effect] = []
        while not self._draining and (found := self.slots.next()) is not None:
            if isinstance(found, Lease):
                self.slots.grant(found)
                effects.append(Grant(found))
                continue
            self._move(found, "start")
            found.slot = "working"
            found.attempt += 1
            if found.started is None:
                found.started = now
            effects.append(Start(found.id, found.attempt, found.work, now - found.created))
        return effects

    def _abort(
        self, now: float, job: Job, error: CreemsonError, transition: Transition = "cancel"
    ) -> list[Effect]:
        """End a job before its attempt has ended; no effect if it has ended."""
        if job.ended:
            return []
        effects = self._end(now, job, transition, error)
        if job.slot == "free":
            self._retire(job)
        return effects + self._trim(job.caller)

    def _end(
        self, now: float, job: Job, transition: Transition, error: CreemsonError | None = None
    ) -> list[Effect]:
        stop = self._move(job, transition)
        job.error, job.finished = error, now
        job.next_seq()
        if error is not None:
            self._release(job)  # a failure does not answer later requests: the next attempt may succeed
        return [*stop, Record(job), *self._dismiss(job, job.outcome())]

    def _retire(self, job: Job) -> None:
        """Move an ended job to the history once no attempt of it runs."""
        self._history.add(self._active.pop(job.id))
        self._bytes.add(job.caller, -job.size_bytes)

    def _trim(self, caller: str) -> list[Effect]:
        """Forget jobs while the history is too large, after this caller's part of it has grown."""
        effects: list[Effect] = []
        while (oldest := self._history.surplus(caller)) is not None:
            effects += self.forget(oldest.id)
            if oldest.state == "done" and oldest.key not in self._by_key:
                effects.append(Forget(oldest.id, oldest.work))
        return effects

    def validate(self) -> None:
        """Assert the invariants; tests call this after every step."""
        self.slots.validate(self._active.values())
        self._history.validate()
        self._waiters.validate((*self._active.values(), *self._history))
        assert self._draining or self.slots.next() is None, "a slot is unused"
        for found in self._active.values():
            assert not (found.ended and found.slot == "free"), "it belongs to the history"
            assert not (found.surrendered and (found.slot == "free" or found.waiters))
        size: Counter[str] = Counter()
        for found in self._active.values():
            size[found.caller] += found.size_bytes
        assert +size == self._bytes.held
        # A retry returns to the queue even if it is full: at most one per slot.
        extra = self._restored + sum(
            found.state == "backoff" or found.attempt > 0 for found in self._active.values()
        )
        places = self.slots.places
        assert places.total <= places.bound.total + extra
        assert all(count <= places.bound.per_caller + extra for count in places.held.values())
        for found in self._history:
            assert found.ended
            assert found.slot == "free"
        timed = {found.id for found in self._active.values() if found.state in TIMED}
        assert set(self._timed) == timed
        for found in (*self._active.values(), *self._history):
            assert (found.state in ("failed", "cancelled")) == (found.error is not None)
            assert (found.finished is not None) == found.ended
            assert found.attempt <= self._retries + 1
            assert not (found.ended and found.waiters)
        for key, found in self._by_key.items():
            assert key == found.key
            assert found.state not in ("failed", "cancelled")
            assert (found.id in self._history) == found.ended


def _log(job: Job, level: Literal["info", "warning"], message: str) -> list[Effect]:
    """Add a log message to a job, and notify its present waiters."""
    event = job.log(level, message)
    return [Notify(waiter, event) for waiter in job.waiters]
