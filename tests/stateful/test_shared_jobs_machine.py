"""The job queue of one of several servers: jobs come from elsewhere and are given up, in any order."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from creemson.errors import ProcessingError
from creemson.jobs.events import Ended, Logged, Progressed, Waiter
from creemson.jobs.queue.effects import Erase, Forget, Notify, Record, Start, Stop
from creemson.jobs.queue.job import Job
from creemson.jobs.queue.queue import SEQ_BLOCK, JobQueue
from creemson.jobs.sharing.bounds import Bound, Bounds
from tests.examples import examples_of

CONNECTIONS = st.sampled_from(["c1", "c2", "server-x"])
OUTCOMES = st.sampled_from(["value", "error", "transient"])


class SharedJobsMachine(RuleBasedStateMachine):
    """Drives a queue as the processor of a server does that shares its jobs."""

    def __init__(self):
        super().__init__()
        self.jobs = JobQueue(slots=2, slots_per_caller=9, retries=1, bounds=Bounds(remembered=Bound(0, 0)))
        self.now = 0.0
        self.count = 0
        self.epochs = {}  # of all jobs that there ever were
        self.mine = set()  # unfinished jobs that this server has
        self.attempts = {}  # running, by job
        self.waiting = {}  # waiters without an end, and their job

    def apply(self, effects):
        for effect in effects:
            match effect:
                case Start(job, attempt, _):
                    assert job in self.mine
                    assert job not in self.attempts, (
                        "one attempt at a time, though it was given up and came back"
                    )
                    self.attempts[job] = attempt
                case Stop(job, attempt):
                    assert self.attempts[job] == attempt
                case Record(job):
                    assert job.id in self.mine, "what was given up is not recorded"
                    if job.ended:
                        self.mine.remove(job.id)
                case Notify(waiter, Ended(job)):
                    assert self.waiting.pop(waiter) == job
                case Notify(waiter, (Progressed() | Logged()) as event):
                    assert self.waiting[waiter] == event.job
                    assert (self.epochs[event.job] - 1) * SEQ_BLOCK < event.seq
                    assert event.seq <= self.epochs[event.job] * SEQ_BLOCK
                case Erase() | Forget():
                    pass
                case _:
                    raise AssertionError(effect)

    @rule(
        number=st.integers(0, 9),
        connections=st.lists(CONNECTIONS, max_size=3),
        wanted=st.booleans(),
        keep=st.booleans(),
    )
    def adopt(self, number, connections, wanted, keep):
        """A job is claimed: a new one, or one that this or another server had before."""
        job = f"j{number}"
        if job in self.mine or job in self.jobs.given_up or job in self.attempts:
            return
        self.epochs[job] = self.epochs.get(job, 0) + 1
        self.mine.add(job)
        waiters = []
        for connection in connections:
            self.count += 1
            waiters.append(Waiter(connection, self.count, keep))
        self.waiting.update(dict.fromkeys(waiters, job))
        found = Job(job, ("ann", job), "ann", job, 100.0, self.now, kept=True, restarts=self.epochs[job] - 1)
        self.apply(self.jobs.adopt(self.now, found, self.epochs[job], waiters, wanted=wanted))

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def surrender(self, data):
        job = data.draw(st.sampled_from(sorted(self.mine)))
        self.mine.remove(job)
        effects, waiters = self.jobs.surrender(self.now, job)
        self.apply(effects)
        assert sorted(waiters, key=lambda waiter: waiter.request) == [
            waiter for waiter, its in self.waiting.items() if its == job
        ]
        for waiter in waiters:
            del self.waiting[waiter]
        assert self.jobs.active(job) is None
        assert (job in self.jobs.given_up) == (job in self.attempts)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=OUTCOMES)
    def end_attempt(self, data, outcome):
        job = data.draw(st.sampled_from(sorted(self.attempts)))
        attempt = self.attempts.pop(job)
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
        self.apply(self.jobs.progress(self.now, job, self.attempts[job], {"fraction": fraction, "rows": 5}))

    @precondition(lambda self: self.mine)
    @rule(data=st.data(), connection=CONNECTIONS)
    def attach(self, data, connection):
        job = data.draw(st.sampled_from(sorted(self.mine)))
        self.count += 1
        waiter = Waiter(connection, self.count)
        self.waiting[waiter] = job
        self.apply(self.jobs.attach("ann", job, 0, waiter))

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def cancel(self, data):
        self.apply(self.jobs.cancel(self.now, "ann", data.draw(st.sampled_from(sorted(self.mine)))))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), lost=st.booleans())
    def leave(self, data, lost):
        waiter = data.draw(st.sampled_from(sorted(self.waiting, key=lambda waiter: waiter.request)))
        if lost:
            del self.waiting[waiter]
            self.apply(self.jobs.lose(self.now, waiter))
        else:
            self.apply(self.jobs.leave(self.now, waiter)[1])
            assert waiter not in self.waiting

    @rule(connection=CONNECTIONS)
    def disconnect(self, connection):
        for waiter in [waiter for waiter in self.waiting if waiter.connection == connection]:
            del self.waiting[waiter]
        self.apply(self.jobs.disconnect(self.now, connection))

    @rule(seconds=st.floats(0.01, 60))
    def time_passes(self, seconds):
        self.now += seconds
        self.apply(self.jobs.tick(self.now))

    @invariant()
    def is_valid(self):
        self.jobs.validate()
        assert all(self.jobs.waits(waiter) for waiter in self.waiting)
        assert {job.id for job in self.jobs.unfinished()} == self.mine
        assert self.jobs.of_caller("ann") == [] or all(
            job.id in self.epochs for job in self.jobs.of_caller("ann")
        )
        assert self.jobs.slots.room <= 2
        assert math.isfinite(self.jobs.next_wake()) or not self.attempts.keys() & self.mine


TestSharedJobs = SharedJobsMachine.TestCase
TestSharedJobs.settings = settings(max_examples=examples_of(60), stateful_step_count=40, deadline=None)
