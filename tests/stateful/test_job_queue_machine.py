"""The queue under any sequence of events: its invariants hold, and nobody waits in vain or twice."""

import random

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from creemson.errors import ProcessingError
from creemson.processing.jobs import (
    Accepted,
    Ended,
    Erase,
    Forget,
    Jobs,
    Logged,
    Notify,
    Progressed,
    Record,
    Start,
    Stop,
    Waiter,
)
from tests.test_jobs import as_recorded

KEYS = st.sampled_from("abcde")
CALLERS = st.sampled_from(["ann", "bob", "eve"])
CONNECTIONS = st.sampled_from(["c1", "c2", "c3"])
OUTCOMES = st.sampled_from(["value", "error", "transient"])


class JobsMachine(RuleBasedStateMachine):
    """Drives a queue as the processor does: attempts run until they are ended here."""

    def __init__(self):
        super().__init__()
        self.jobs = self.make()
        self.now = 0.0
        self.count = 0
        self.attempts: dict[str, int] = {}  # running, by job
        self.stopping: set[str] = set()
        self.waiting: dict[Waiter, str | None] = {}  # those who have no end yet, and their job
        self.caller_of: dict[str, str] = {}
        self.seqs: dict[tuple[Waiter, str], int] = {}
        self.drained = False
        self.written: dict[str, object] = {}  # what the catalog knows of each job
        self.last_seq: dict[str, int] = {}  # of each job, however many servers it has seen

    def make(self):
        return Jobs(slots=2, per_caller=1, queue=4, retries=2, history=3, weight=20)

    def apply(self, effects):
        for effect in effects:
            match effect:
                case Record(job):
                    self.written[job.id] = as_recorded(job)
                case Erase(job):
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
                    assert job in self.written, "accepted means written down"
                    self.waiting[waiter] = job
                case Notify(waiter, Logged(job, seq)):
                    assert self.waiting[waiter] == job
                    self.check_seq(waiter, job, seq)
                case Notify(waiter, Progressed(job, seq, _)):
                    assert self.waiting[waiter] == job
                    self.check_seq(waiter, job, seq)
                case Notify(waiter, Ended(job, seq, value, error)):
                    assert self.waiting.pop(waiter) == job, "one end, and of the job that was accepted"
                    assert (value is None) == (error is not None)
                    if seq is not None:
                        self.check_seq(waiter, job, seq)
                    elif job is not None:
                        assert self.drained
                        assert not self.written[job].ended, "the next server has to know it"
                case Forget():
                    pass
                case _:
                    raise AssertionError(effect)

    def check_seq(self, waiter, job, seq):
        assert seq > self.seqs.get((waiter, job), 0), "events are numbered upwards"
        self.seqs[waiter, job] = seq
        self.last_seq[job] = max(seq, self.last_seq.get(job, 0))

    @rule(
        key=KEYS, caller=CALLERS, connection=CONNECTIONS, keep=st.booleans(), timeout=st.floats(1, 20),
        weight=st.integers(0, 30), scarce=st.integers(0, 9),
    )  # fmt: skip
    def submit(self, key, caller, connection, keep, timeout, weight, scarce):
        self.count += 1
        waiter = Waiter(connection, self.count, keep)
        self.waiting[waiter] = None
        job = f"j{self.count}"
        self.caller_of[job] = caller
        self.apply(
            self.jobs.submit(
                self.now,
                job=job,
                key=key,
                caller=caller,
                work=key,
                timeout=timeout,
                waiter=waiter,
                weight=weight,
                refusal=None if scarce else ProcessingError("busy", "Memory is scarce."),
            )
        )

    @rule(data=st.data(), weight=st.integers(0, 30))
    def weigh(self, data, weight):
        known = [job for caller in ("ann", "bob") for job in self.jobs.of_caller(caller) if job.ended]
        if known:
            self.apply(self.jobs.weigh(data.draw(st.sampled_from(known)), weight))

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
        self.apply(self.jobs.attempt_ended(self.now, job, attempt, **outcomes[outcome]))

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
            self.apply(effects)
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
        self.apply(self.jobs.disconnect(self.now, connection))

    @rule(seconds=st.floats(0.01, 10))
    def time_passes(self, seconds):
        self.now += seconds
        self.apply(self.jobs.tick(self.now))
        if self.jobs.next_wake() <= self.now:  # a retry that starts after the job's time is up
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
        told = [effect.event for effect in effects if isinstance(effect, Notify)]
        assert all(event.seq > after for event in told if isinstance(event, Logged | Progressed))
        self.apply(effects)

    @rule(chance=st.integers(0, 10))
    def restart(self, chance):
        """The server dies, or ends after a drain; the next one has nothing but what was written down."""
        if chance:
            return
        kept = {name: job for name, job in self.written.items() if not job.ended and job.kept}
        self.jobs, self.drained = self.make(), False
        self.attempts.clear()
        self.stopping.clear()
        self.waiting.clear()
        self.seqs.clear()
        for job in sorted(self.written.values(), key=lambda job: job.created):
            self.apply(self.jobs.restore(self.now, attrs.evolve(job, waiters=[], logged=[])))
        assert {job.id for job in self.jobs.unfinished()} == set(kept)
        for job in self.jobs.unfinished():
            assert job.seq > self.last_seq.get(job.id, 0), "no number comes twice"

    @precondition(lambda self: not self.drained)
    @rule(chance=st.integers(0, 20))
    def drain(self, chance):
        if chance == 0:
            self.drained = True
            self.apply(self.jobs.drain(self.now))

    @invariant()
    def holds(self):
        self.jobs.validate()
        assert self.jobs.running == len(self.attempts)
        assert all(job is not None for job in self.waiting.values()), "accepted at once, or refused"

    def teardown(self):
        """However it went: when time passes and attempts end, nobody is left waiting."""
        chance = random.Random(0)
        steps = 0
        while self.waiting or self.jobs.queued or self.attempts:
            steps += 1
            assert steps < 1000, (self.waiting, self.attempts, self.jobs.unfinished())
            self.time_passes(chance.uniform(0, 1))
            for job, attempt in list(self.attempts.items()):
                del self.attempts[job]
                self.stopping.discard(job)
                self.apply(self.jobs.attempt_ended(self.now, job, attempt, value=job))
            self.holds()


TestJobs = JobsMachine.TestCase
TestJobs.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
