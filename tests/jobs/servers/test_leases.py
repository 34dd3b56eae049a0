"""How long a server may believe that a job is its own, whatever clocks and networks do."""

import copy

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from creemson.catalog.shared.claims import Claim
from creemson.catalog.shared.jobs.admission import Candidate, Limits
from creemson.catalog.shared.jobs.rows import LEASE
from creemson.jobs.servers.leases import MARGIN, RENEW, Leases
from tests.catalog.test_rows import JOB
from tests.jobs.servers.rows import Table

ONE, TWO = Claim("1", "me", 1), Claim("2", "me", 4)
NO_LIMITS = Limits(9, 9, 9e9, 9e9, 9)


def test_claim_is_believed_until_shortly_before_its_lease_ends():
    """Counted from when the request was sent."""
    leases = Leases()
    leases.claimed(5.0, ONE)
    assert leases.next_wake() == 5 + LEASE - MARGIN
    assert leases.expire(leases.next_wake() - 0.1) == []
    assert leases.claim_of("1") == ONE
    assert leases.expire(leases.next_wake()) == [ONE]
    assert leases.claim_of("1") is None


def test_renewal_prolongs_what_is_still_owned():
    """What the database did not name belongs to somebody else, or has ended."""
    leases = Leases()
    leases.claimed(0.0, ONE)
    leases.claimed(0.0, TWO)
    assert leases.renewed(RENEW, leases.claims(), {"1": 1}) == [TWO]
    assert leases.claims() == [ONE]
    assert leases.next_wake() == RENEW + LEASE - MARGIN


def test_renewal_of_another_epoch_is_lost():
    """The job went to another server and came back; what runs here belongs to the old claim."""
    leases = Leases()
    leases.claimed(0.0, ONE)
    assert leases.renewed(1.0, [ONE], {"1": 2}) == [ONE]


def test_claim_made_during_a_renewal_is_not_lost():
    """The renewal did not name it. An older one of the same job is none of its business either."""
    leases = Leases()
    leases.claimed(0.0, ONE)
    asked = leases.claims()
    assert leases.ended("1") == ONE
    leases.claimed(1.0, attrs.evolve(ONE, epoch=2))
    leases.claimed(1.0, TWO)
    assert leases.renewed(0.5, asked, {}) == []
    assert len(leases) == 2


def test_late_answer_does_not_shorten_a_lease():
    """Answers may overtake each other."""
    leases = Leases()
    leases.claimed(4.0, ONE)
    leases.renewed(1.0, [ONE], {"1": 1})
    assert leases.next_wake() == 4 + LEASE - MARGIN


JOBS = 8
DELAYS = st.sampled_from(["none", "none", "none", "request", "answer", "lost"])


@attrs.define
class Server:
    """A server whose clock runs at a pace of its own; while it is stopped, it notices nothing."""

    jobs: object
    name: str
    pace: float
    leases: Leases = attrs.field(factory=Leases)
    stopped: bool = False


@attrs.define
class Message:
    """A request on its way to the database, or its answer on the way back."""

    server: Server
    sent: float
    act: object
    note: object
    answer: object = None


class Servers(RuleBasedStateMachine):
    """Three servers, one table: messages are late or lost, clocks drift by a tenth, servers stop and wake up."""

    @initialize(paces=st.tuples(*[st.floats(0.91, 1.1)] * 3))
    def start(self, paces):
        self.table = Table()
        self.servers = [Server(self.table.of(f"s{n}"), f"s{n}", pace) for n, pace in enumerate(paces)]
        rows = [attrs.evolve(JOB, id=str(n), key=str(n)) for n in range(JOBS)]
        self.servers[0].jobs.submit([Candidate(row, "p", claim=False, limits=NO_LIMITS) for row in rows])
        self.requests, self.answers = [], []

    def now(self, server):
        return self.table.time * server.pace

    def ask(self, delay, server, act, note=lambda sent, answer: None):
        message = Message(server, self.now(server), act, note)
        if delay == "request":
            self.requests.append(message)
            return
        message.answer = message.act()
        if delay == "answer":
            self.answers.append(message)
        elif delay != "lost":
            message.note(message.sent, message.answer)

    @rule(seconds=st.sampled_from([0.1, 2.5, 5.0, 9.5, 11.0]))
    def time_passes(self, seconds):
        self.table.time += seconds
        for server in self.servers:
            if not server.stopped:
                server.leases.expire(self.now(server))

    @rule(n=st.integers(0, 2))
    def stop_or_wake(self, n):
        self.servers[n].stopped ^= True

    @rule(n=st.integers(0, 2), room=st.integers(1, 2), delay=DELAYS)
    def claim(self, n, room, delay):
        server = self.servers[n]

        def note(sent, claimed):
            for one in claimed:
                server.leases.claimed(sent, Claim(one.stored.row.id, server.name, one.stored.epoch))
            server.leases.expire(self.now(server))

        self.ask(delay, server, lambda: server.jobs.claim(room, 9), note)

    @rule(n=st.integers(0, 2), delay=DELAYS)
    def renew(self, n, delay):
        server = self.servers[n]
        asked = server.leases.claims()
        self.ask(
            delay,
            server,
            lambda: server.jobs.renew([claim.job for claim in asked]),
            lambda sent, found: server.leases.renewed(sent, asked, found),
        )

    @rule(n=st.integers(0, 2), delay=DELAYS)
    def look_for_orphans(self, n, delay):
        self.ask(delay, self.servers[n], self.servers[n].jobs.orphans)

    @rule(n=st.integers(0, 2), which=st.integers(0, JOBS), release=st.booleans(), delay=DELAYS)
    def end(self, n, which, release, delay):
        """A server records what it believes to be its own, also if it has been away meanwhile."""
        server = self.servers[n]
        claims = server.leases.claims()
        if not claims:
            return
        claim = claims[which % len(claims)]
        job = claim.job
        if release:
            server.leases.ended(job)
            self.ask(delay, server, lambda: server.jobs.release([claim]))
            return
        done = attrs.evolve(JOB, id=job, key=job, state="done", outcome=f"{claim.owner} {claim.epoch}")
        self.ask(
            delay, server, lambda: server.jobs.record([(done, claim)]), lambda *_: server.leases.ended(job)
        )

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), delay=DELAYS)
    def request_arrives(self, data, delay):
        message = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        message.answer = message.act()
        if delay == "none":
            message.note(message.sent, message.answer)
        elif delay != "lost":
            self.answers.append(message)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_arrives(self, data):
        message = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        message.note(message.sent, message.answer)

    @invariant()
    def one_owner_at_a_time(self):
        """Of the servers that look at their clocks, at most one believes that a job is its own."""
        believed = []
        for server in self.servers:
            leases = copy.deepcopy(server.leases)
            leases.expire(self.now(server))
            believed += [claim.job for claim in leases.claims()]
        unfinished = [job for job in believed if self.table.rows[job].stored.row.state == "queued"]
        assert len(unfinished) == len(set(unfinished))

    @invariant()
    def one_outcome(self):
        """And it is that of the latest claim, even if a server that has been away tries to record its own."""
        jobs = [job for job, *_ in self.table.outcomes]
        assert len(jobs) == len(set(jobs))
        for job, outcome, owner, epoch in self.table.outcomes:
            assert outcome == f"{owner} {epoch}"
            assert self.table.rows[job].stored.epoch == epoch
            assert self.table.rows[job].stored.row.outcome == outcome


TestServers = Servers.TestCase
TestServers.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
