"""The job queue under any sequence of events: its invariants hold, and every waiter gets exactly one end."""

import random

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from creemson.errors import CreemsonError, ProcessingError
from creemson.jobs.events import Accepted, Ended, Logged, Progressed, Waiter
from creemson.jobs.queue.effects import Erase, Forget, Grant, Notify, Record, Revoke, Start, Stop
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.queue.slots import Lease
from creemson.jobs.sharing.bounds import Bound, Bounds
from tests.examples import examples_of
from tests.jobs.queue.test_queue import as_recorded

KEYS = st.sampled_from("abcde")
CALLERS = st.sampled_from(["ann", "bob", "eve"])
CONNECTIONS = st.sampled_from(["c1", "c2", "c3"])
OUTCOMES = st.sampled_from(["value", "error", "transient"])


class JobsMachine(RuleBasedStateMachine):
    """Drives a queue as the processor does: attempts run until a rule ends them."""

    def __init__(self):
        super().__init__()
        self.jobs = self.make()
        self.now = 0.0
        self.count = 0
        self.attempts: dict[str, int] = {}  # running, by job
        self.stopping: set[str] = set()
        self.waiting: dict[Waiter, str | None] = {}  # waiters without an end so far, and their job
        self.caller_of: dict[str, str] = {}
        self.seqs: dict[tuple[Waiter, str], int] = {}
        self.drained = False
        self.written: dict[str, object] = {}  # what the catalog holds of each job
        self.last_seq: dict[str, int] = {}  # of each job, across servers
        self.leases: dict[Lease, bool] = {}  # not released, and whether they are granted
        self.revoked: set[Lease] = set()

    def make(self):
        # In all, there is room for what the three callers may hold: so nothing that one of them does affects the others.
        bounds = Bounds(
            queued=Bound(3, 9),
            active_bytes=Bound(30, 999),
            remembered=Bound(3, 9),
            remembered_bytes=Bound(30, 999),
        )
        return JobQueue(slots=2, slots_per_caller=1, retries=2, bounds=bounds)

    def apply(self, effects, actor=None):
        """Carry out effects; ``actor`` is the caller whose request they follow from."""
        ended = {effect.job.caller for effect in effects if isinstance(effect, Record) and effect.job.ended}
        for effect in effects:
            match effect:
                case Grant(lease):
                    assert not self.drained
                    assert not self.leases[lease], "granted once"
                    self.leases[lease] = True
                case Revoke(lease):
                    assert lease in self.leases
                    self.revoked.add(lease)
                case Record(job):
                    self.written[job.id] = as_recorded(job)
                case Erase(job):
                    assert self.caller_of[job] in {actor, *ended}, "another caller's job is forgotten"
                    del self.written[job]
                case Start(job, attempt, _):
                    assert not self.drained
                    assert job not in self.attempts, "one attempt at a time"
                    self.attempts[job] = attempt
                case Stop(job, attempt):
                    assert self.attempts[job] == attempt
                    assert job not in self.stopping
                    self.stopping.add(job)
                case Notify(waiter, Accepted(job, _)):
                    assert self.waiting[waiter] is None, "accepted once"
                    assert job in self.written, "accepted means recorded"
                    self.waiting[waiter] = job
                case Notify(waiter, Logged(job, seq)):
                    assert self.waiting[waiter] == job
                    self.check_seq(waiter, job, seq)
                case Notify(waiter, Progressed(job, seq, _)):
                    assert self.waiting[waiter] == job
                    self.check_seq(waiter, job, seq)
                case Notify(waiter, Ended(job, seq, value, error)):
                    assert self.waiting.pop(waiter) == job, "one end, that of the accepted job"
                    assert (value is None) == (error is not None)
                    if seq is not None:
                        self.check_seq(waiter, job, seq)
                    elif job is not None:
                        assert self.drained
                        assert not self.written[job].ended, "the next server must know it"
                case Forget():
                    pass
                case _:
                    raise AssertionError(effect)

    def check_seq(self, waiter, job, seq):
        assert seq > self.seqs.get((waiter, job), 0), "sequence numbers increase"
        self.seqs[waiter, job] = seq
        self.last_seq[job] = max(seq, self.last_seq.get(job, 0))

    @rule(slots=st.integers(1, 3))
    def resize(self, slots):
        """The number of workers changes."""
        self.apply(self.jobs.resize(self.now, slots))

    @rule(
        key=KEYS, caller=CALLERS, connection=CONNECTIONS, keep=st.booleans(), timeout=st.floats(1, 20),
        size_bytes=st.integers(0, 30), scarce=st.integers(0, 9),
    )  # fmt: skip
    def submit(self, key, caller, connection, keep, timeout, size_bytes, scarce):
        self.count += 1
        waiter = Waiter(connection, self.count, keep)
        self.waiting[waiter] = None
        job = f"j{self.count}"
        self.caller_of[job] = caller
        full = self.is_full(caller, size_bytes)
        effects = self.jobs.submit(
            self.now,
            job=job,
            key=key,
            caller=caller,
            work=key,
            timeout=timeout,
            waiter=waiter,
            party=connection if caller == "eve" else None,  # eve is a caller with several parties
            size_bytes=size_bytes,
            refusal=None if scarce else ProcessingError("busy", "Memory is scarce."),
        )
        errors = [
            effect.event.error
            for effect in effects
            if isinstance(effect, Notify) and effect.event.job is None
        ]
        assert all(error.reason != "busy" or full or not scarce for error in errors), "others cost it a place"
        self.apply(effects, caller)

    def is_full(self, caller, size_bytes=0):
        """Whether a caller's own jobs and leases leave no room for another one."""
        active = [job for job in self.jobs.of_caller(caller) if job.id in self.jobs._active]
        places = sum(job.state in ("queued", "backoff") for job in active)
        places += sum(lease.caller == caller and not granted for lease, granted in self.leases.items())
        held = sum(job.size_bytes for job in active)
        return places >= 3 or (held > 0 and held + size_bytes > 30)

    @rule(caller=CALLERS, connection=CONNECTIONS)
    def request(self, caller, connection):
        lease = Lease(caller, connection if caller == "eve" else caller)
        full = self.is_full(caller)
        self.leases[lease] = False
        try:
            effects = self.jobs.request(self.now, lease)
        except CreemsonError as error:
            del self.leases[lease]
            assert error.reason == ("shutting_down" if self.drained else "busy")
            assert full or self.drained
        else:
            self.apply(effects, caller)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data):
        lease = data.draw(st.sampled_from(list(self.leases)))
        del self.leases[lease]
        self.revoked.discard(lease)
        self.apply(self.jobs.release(self.now, lease))

    @rule(data=st.data(), size_bytes=st.integers(0, 30))
    def set_size(self, data, size_bytes):
        known = [job for caller in ("ann", "bob") for job in self.jobs.of_caller(caller) if job.ended]
        if known:
            job = data.draw(st.sampled_from(known))
            self.apply(self.jobs.set_size(job, size_bytes), job.caller)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=OUTCOMES)
    def end_attempt(self, data, outcome):
        job = data.draw(st.sampled_from(sorted(self.attempts)))
        attempt = self.attempts.pop(job)
        self.stopping.discard(job)
        fault = ProcessingError("worker_died", "It died.")
        outcomes = {
            "value": {"value": job},
            "error": {"error": fault},
            "transient": {"error": fault, "transient": True},
        }
        self.apply(self.jobs.attempt_ended(self.now, job, attempt, **outcomes[outcome]), self.caller_of[job])

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), fraction=st.floats(0, 1))
    def progress(self, data, fraction):
        job = data.draw(st.sampled_from(sorted(self.attempts)))
        figures = {"fraction": fraction, "rows": 5}
        self.apply(self.jobs.progress(self.now, job, self.attempts[job], figures))

    @rule(number=st.integers(1, 60), caller=CALLERS)
    def cancel(self, number, caller):
        job = f"j{number}"
        try:
            effects = self.jobs.cancel(self.now, caller, job)
        except ProcessingError as error:
            assert error.reason == "job_not_found"
        else:
            assert self.caller_of[job] == caller
            self.apply(effects, caller)
            assert job not in self.waiting.values()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        waiter = data.draw(st.sampled_from(sorted(self.waiting, key=lambda waiter: waiter.request)))
        job, effects = self.jobs.leave(self.now, waiter)
        assert job == self.waiting[waiter]
        self.apply(effects)
        assert waiter not in self.waiting

    @rule(connection=CONNECTIONS)
    def disconnect(self, connection):
        for waiter in [waiter for waiter in self.waiting if waiter.connection == connection]:
            del self.waiting[waiter]
        ending = {job.id for job in self.jobs.ending_with(connection)}
        effects = self.jobs.disconnect(self.now, connection)
        ended = {effect.job.id for effect in effects if isinstance(effect, Record) and effect.job.ended}
        assert ended == ending
        self.apply(effects)

    @rule(seconds=st.floats(0.01, 10))
    def time_passes(self, seconds):
        self.now += seconds
        self.apply(self.jobs.tick(self.now))
        if self.jobs.next_wake() <= self.now:  # a retry that starts after the job's timeout
            self.apply(self.jobs.tick(self.now))
        assert self.jobs.next_wake() > self.now

    @rule(number=st.integers(1, 60), caller=CALLERS, connection=CONNECTIONS, after=st.integers(0, 5))
    def attach(self, number, caller, connection, after):
        job = f"j{number}"
        self.count += 1
        waiter = Waiter(connection, self.count)
        try:
            effects = self.jobs.attach(caller, job, after, waiter)
        except ProcessingError as error:
            assert error.reason == "job_not_found"
            assert self.caller_of.get(job) != caller or job not in self.written
            return
        assert self.caller_of[job] == caller
        self.waiting[waiter] = job
        events = [effect.event for effect in effects if isinstance(effect, Notify)]
        assert all(event.seq > after for event in events if isinstance(event, Logged | Progressed))
        self.apply(effects)

    @rule(chance=st.integers(0, 10))
    def restart(self, chance):
        """The server dies, or ends after a drain; the next one has only the recorded jobs."""
        if chance:
            return
        kept = {name: job for name, job in self.written.items() if not job.ended and job.kept}
        self.jobs, self.drained = self.make(), False
        self.attempts.clear()
        self.stopping.clear()
        self.leases.clear()
        self.revoked.clear()
        self.waiting.clear()
        self.seqs.clear()
        for job in sorted(self.written.values(), key=lambda job: job.created):
            restored = attrs.evolve(job, waiters={}, logged=[])
            self.apply(self.jobs.restore(self.now, restored), job.caller)
        assert {job.id for job in self.jobs.unfinished()} == set(kept)
        for job in self.jobs.unfinished():
            assert job.seq > self.last_seq.get(job.id, 0), "no sequence number is used twice"

    @precondition(lambda self: not self.drained)
    @rule(chance=st.integers(0, 20))
    def drain(self, chance):
        if chance == 0:
            self.drained = True
            self.apply(self.jobs.drain(self.now))
            assert self.revoked == {lease for lease, granted in self.leases.items() if not granted}

    @invariant()
    def holds(self):
        self.jobs.validate()
        assert self.jobs.slots.running == len(self.attempts)
        assert self.jobs.slots.used == len(self.attempts) + sum(self.leases.values())
        assert all(job is not None for job in self.waiting.values()), "accepted immediately, or refused"

    def teardown(self):
        """Whatever happened: when time passes and attempts end, nobody is left waiting."""
        for lease in list(self.leases):
            del self.leases[lease]
            self.apply(self.jobs.release(self.now, lease))
        chance = random.Random(0)
        steps = 0
        while self.waiting or self.jobs.slots.queued or self.attempts:
            steps += 1
            assert steps < 1000, (self.waiting, self.attempts, self.jobs.unfinished())
            self.time_passes(chance.uniform(0, 1))
            for job, attempt in list(self.attempts.items()):
                del self.attempts[job]
                self.stopping.discard(job)
                effects = self.jobs.attempt_ended(self.now, job, attempt, value=job)
                self.apply(effects, self.caller_of[job])
            self.holds()


TestJobs = JobsMachine.TestCase
TestJobs.settings = settings(max_examples=examples_of(100), stateful_step_count=60, deadline=None)
