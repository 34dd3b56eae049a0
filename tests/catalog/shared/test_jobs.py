"""The jobs of several servers in a real PostgreSQL."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.catalog.objects import ObjectRow
from creemson.catalog.postgres import PostgresCatalog
from creemson.catalog.shared.claims import Claim
from creemson.catalog.shared.jobs.admission import Candidate, Full, Limits
from creemson.catalog.shared.jobs.rows import LEASE
from tests.catalog.test_rows import JOB
from tests.jobs.servers.rows import Table

FREE = Limits(1e9, 1e9, 1e9, 1e9, 1000)


class Servers:
    """Servers on one database."""

    def __init__(self, url, stack):
        self.url = url
        self._stack = stack
        self.catalog = PostgresCatalog(url, shared=True)
        stack.enter_context(contextlib.closing(self.catalog))
        self.catalog.open()

    def new(self):
        sharing = self.catalog.sharing()
        self._stack.enter_context(contextlib.closing(sharing))
        sharing.open()
        return sharing

    def sql(self, statement, *parameters):
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement, parameters)

    def pass_time(self, seconds):
        """Let the leases be older."""
        self.sql("UPDATE creemson.jobs SET until = until - make_interval(secs => %s)", seconds)
        self.sql("UPDATE creemson.servers SET until = until - make_interval(secs => %s)", seconds)

    def clear(self):
        self.sql("DELETE FROM creemson.jobs")


@pytest.fixture
def servers(postgres_server):
    with contextlib.ExitStack() as stack:
        servers = Servers(postgres_server.url(), stack)
        servers.catalog.objects.record(
            ObjectRow(
                key=f"files/{caller}",
                caller=caller,
                kind="upload",
                name="a.csv",
                version="v",
                size=1,
                piece=0,
            )
            for caller in ("ann", "bob", "cy")
        )
        yield servers


def candidate(number=0, *, caller="ann", claim=False, limits=FREE, party=None, **changes):
    row = attrs.evolve(
        JOB, id=f"{caller}-{number}", key=f"k{number}", caller=caller, version="v", created=float(number)
    )
    return Candidate(attrs.evolve(row, **changes), party or caller, claim, limits)


def submit(sharing, *candidates):
    return sharing.jobs.admission.submit(candidates)


def claimed(sharing, room, running_of_caller=1000, without=(), **options):
    return [
        one.stored.row.id for one in sharing.jobs.turns.claim(room, running_of_caller, without, **options)
    ]


def test_equal_work_is_accepted_once(servers):
    """Whichever server it is submitted to; whoever joins may let it be kept, and wait longer."""
    one, two = servers.new(), servers.new()
    (first,) = submit(one, candidate(kept=False, timeout=5.0))
    (second,) = submit(two, candidate(id="other", kept=True, timeout=7.0))
    assert (first.is_new, second.is_new) == (True, False)
    assert second.stored.row.id == first.stored.row.id
    stored = two.jobs.known.job(first.stored.row.id)
    assert (stored.row.kept, stored.row.timeout, stored.joined) == (True, 7.0, True)


def test_submission_that_is_repeated_has_the_same_answer(servers):
    """The connection may be lost when it has been committed."""
    one = servers.new()
    assert submit(one, candidate(claim=True)) == submit(one, candidate(claim=True))


def test_job_on_a_version_that_is_gone_is_not_accepted(servers):
    """Its bytes may have been removed already."""
    assert submit(servers.new(), candidate(version="old"), candidate(caller="nobody")) == [None, None]


def test_jobs_beyond_the_bounds_are_refused(servers):
    """Of a caller first, and of all second. A job that starts at once does not wait."""
    one = servers.new()
    limits = Limits(2, 3, 1e9, 1e9, 1000)
    found = submit(one, *(candidate(number, limits=limits) for number in range(3)))
    assert found[2] == Full("jobs", mine=True, amount=2, bound=2)
    found = submit(one, *(candidate(number, caller="bob", limits=limits) for number in range(2)))
    assert found[1] == Full("jobs", mine=False, amount=3, bound=3)
    assert submit(one, candidate(9, limits=limits, claim=True))[0].stored.owner == one.owner
    assert [outcome.waiting for outcome in found[:1]] == [2]
    servers.clear()
    small = Limits(9, 9, 3, 5, 1000)
    found = submit(
        one, *(candidate(n, caller=caller, limits=small) for caller in ("ann", "bob") for n in range(2))
    )
    assert found[1] == Full("bytes", mine=True, amount=2, bound=3)
    assert submit(one, candidate(3, caller="cy", limits=small)) == [
        Full("bytes", mine=False, amount=4, bound=5)
    ]


def test_caller_with_many_running_jobs_waits(servers):
    """Counted over all servers: when it submits, and when others claim."""
    one, two = servers.new(), servers.new()
    limits = attrs.evolve(FREE, running_of_caller=2)
    found = submit(one, *(candidate(number, limits=limits, claim=True) for number in range(4)))
    assert [outcome.stored.owner for outcome in found] == [one.owner, one.owner, None, None]
    assert claimed(two, 9, running_of_caller=3) == ["ann-2"]


def test_spare_slot_is_only_for_who_uses_no_slot_anywhere(servers):
    """When a job is submitted, and when it is claimed; beyond the number of running jobs of its caller, too."""
    one, two = servers.new(), servers.new()
    limits = attrs.evolve(FREE, running_of_caller=1)

    def spare(number, caller, party):
        return attrs.evolve(candidate(number, caller=caller, party=party, limits=limits), spare=True)

    found = submit(one, spare(0, "ann", "ann"), spare(1, "ann", "ann"))
    assert [outcome.stored.owner for outcome in found] == [one.owner, None]
    assert claimed(two, 0, spare=True) == []
    submit(one, *(candidate(number, caller="bob", party=f"bob{number // 2}") for number in range(4)))
    assert claimed(two, 0, 1, spare=True) == ["bob-0"]
    assert claimed(one, 0, 1, spare=True) == ["bob-2"]
    assert claimed(one, 0, 1, spare=True) == []
    assert set(claimed(one, 2, spare=True)) == {"ann-1", "bob-1"}
    submit(one, candidate(0, caller="cy"), candidate(1, caller="cy"))
    assert claimed(one, 0, spare=True) == ["cy-0"]
    servers.clear()
    submit(one, *(candidate(number, caller=caller) for caller in ("ann", "bob", "cy") for number in range(2)))
    assert claimed(two, 1, spare=True) == ["ann-0", "bob-0"]


def test_job_that_another_server_is_about_to_claim_is_left_to_it(servers):
    """The next one is claimed at once: a server that got none would believe that none waits."""
    one = servers.new()
    submit(one, *(candidate(number) for number in range(3)))
    with psycopg.connect(servers.url) as other:
        other.execute("SELECT id FROM creemson.jobs WHERE id = 'ann-0' FOR UPDATE")
        assert claimed(one, 1) == ["ann-1"]
        assert claimed(one, 9) == ["ann-2"]
        assert claimed(one, 9) == []  # after some attempts
    assert claimed(one, 9) == ["ann-0"]


def test_parties_take_turns(servers):
    """Who runs the least is next; of those, who waits the longest for a turn."""
    one, two = servers.new(), servers.new()
    submit(one, *(candidate(number) for number in range(20)))
    submit(one, *(candidate(number + 100, caller="bob") for number in range(3)))
    submit(one, candidate(200, caller="cy"))
    order = [job for _ in range(9) for server in (one, two) for job in claimed(server, 1)]
    assert [job.split("-")[0] for job in order] == [
        "ann",
        "bob",
        "cy",
        "ann",
        "bob",
        "ann",
        "bob",
        *["ann"] * 11,
    ]
    assert [int(job.split("-")[1]) for job in order if job.startswith("ann")] == list(range(14))


def test_turns_go_round_while_jobs_end(servers):
    """A party that has run has to wait for the others, though none of its jobs runs any more."""
    one = servers.new()
    submit(one, *(candidate(number) for number in range(6)))
    submit(one, *(candidate(number + 100, caller=caller) for caller in ("bob", "cy") for number in range(2)))
    order = []
    for _ in range(6):
        ((only),) = one.jobs.turns.claim(1, 1000)
        order.append(only.stored.row.caller)
        end(one, only.stored)
    assert order == ["ann", "bob", "cy"] * 2


@pytest.mark.parametrize("how", ["released", "taken over"])
def test_turn_of_a_job_that_waits_again_is_given_back(servers, how):
    """It does not wait for the turns of all others, after its server has left or died."""
    one, two = servers.new(), servers.new()
    submit(one, candidate(0))
    ((first,),) = [one.jobs.turns.claim(1, 1000)]
    submit(one, *(candidate(number, caller=caller) for caller in ("bob", "cy") for number in (1, 2)))
    if how == "released":
        one.jobs.owned.release([Claim(first.stored.row.id, one.owner, first.stored.epoch)])
    else:
        servers.pass_time(LEASE + 1)
        assert [stored.row.id for stored in two.jobs.owned.orphans()] == ["ann-0"]
    assert claimed(two, 1) == ["ann-0"]


def end(sharing, stored, state="done"):
    row = attrs.evolve(stored.row, state=state, outcome="{}", finished=9.0)
    return sharing.jobs.owned.record([(row, Claim(row.id, sharing.owner, stored.epoch))])


def test_job_is_claimed_once(servers):
    """However many servers want it at the same time."""
    sharings = [servers.new() for _ in range(4)]
    submit(sharings[0], *(candidate(number) for number in range(100)))

    def take(sharing):
        found = []
        while jobs := claimed(sharing, 3):
            found += jobs
        return found

    with ThreadPoolExecutor(4) as threads:
        taken = [job for jobs in threads.map(take, sharings) for job in jobs]
    # A server that found every job locked by others has stopped early; the rest is still there.
    taken += take(sharings[0])
    assert sorted(taken) == sorted(f"ann-{number}" for number in range(100))


def test_only_the_owner_records_an_outcome(servers):
    """Twice, if it does not know whether the first time was committed. Nobody who was away."""
    one, two = servers.new(), servers.new()
    submit(one, candidate())
    ((old),) = one.jobs.turns.claim(1, 9)
    servers.pass_time(LEASE + 1)
    assert [stored.row.restarts for stored in two.jobs.owned.orphans()] == [1]
    assert two.jobs.owned.orphans() == []
    ((new),) = two.jobs.turns.claim(1, 9)
    assert new.stored.epoch == 2
    assert end(one, old.stored) == {"ann-0"}
    assert one.jobs.owned.renew(["ann-0"]) == {}
    assert two.jobs.owned.renew(["ann-0"]) == {"ann-0": 2}
    assert end(two, new.stored) == set()
    assert end(two, new.stored) == set()
    assert end(two, new.stored, "failed") == {"ann-0"}
    assert two.jobs.known.job("ann-0").row.state == "done"


def test_earlier_claim_of_the_same_server_records_nothing(servers):
    """What it had begun before it lost the job is not what it runs now."""
    one = servers.new()
    submit(one, candidate())
    ((old),) = one.jobs.turns.claim(1, 9)
    one.jobs.owned.release([Claim("ann-0", one.owner, 1)])
    ((new),) = one.jobs.turns.claim(1, 9)
    assert end(one, old.stored) == {"ann-0"}
    assert end(one, new.stored) == set()


def test_released_job_waits_for_any_server(servers):
    """It does not count as a restart. Others release nothing."""
    one, two = servers.new(), servers.new()
    submit(one, candidate(claim=True))
    two.jobs.owned.release([Claim("ann-0", two.owner, 1), Claim("ann-0", one.owner, 2)])
    assert claimed(two, 1) == []
    one.jobs.owned.release([Claim("ann-0", one.owner, 1)])
    ((again),) = two.jobs.turns.claim(1, 9)
    assert (again.stored.epoch, again.stored.row.restarts) == (2, 0)


def test_anybody_may_cancel(servers):
    """Its owner loses it. A job that has ended stays as it is."""
    one, two = servers.new(), servers.new()
    submit(one, candidate(claim=True), candidate(1))
    assert two.jobs.known.cancel("bob", "ann-0", "{}", 1.0) is None
    assert two.jobs.known.cancel("ann", "ann-0", "{}", 1.0).owner == one.owner
    assert one.jobs.owned.renew(["ann-0"]) == {}
    assert end(one, one.jobs.known.job("ann-0")) == {"ann-0"}
    assert two.jobs.known.cancel("ann", "ann-0", "{}", 2.0).row.state == "cancelled"
    assert two.jobs.known.job("ann-0").row.finished == 1.0
    assert claimed(two, 9) == ["ann-1"]


def test_job_that_others_want_is_not_cancelled_by_one_who_leaves(servers):
    """Nor one that runs."""
    one = servers.new()
    submit(one, candidate(0), candidate(1), candidate(2, claim=True))
    one.jobs.known.join("ann-0")
    for number in range(3):
        one.jobs.known.cancel("ann", f"ann-{number}", "{}", 1.0, only_if_unwanted=True)
    states = {stored.row.id: stored.row.state for stored in one.jobs.known.of_caller("ann")}
    assert states == {"ann-0": "queued", "ann-1": "cancelled", "ann-2": "queued"}


def test_servers_know_who_lives(servers):
    """Until their leases end, or they say goodbye."""
    one, two, three = (servers.new() for _ in range(3))
    for sharing in (one, two, three):
        sharing.jobs.owned.renew(())
    assert one.jobs.owned.others() == 2
    three.jobs.owned.leave()
    assert one.jobs.owned.others() == 1
    servers.pass_time(LEASE + 1)
    two.jobs.owned.renew(())
    assert (one.jobs.owned.others(), two.jobs.owned.others()) == (1, 0)


def test_orphan_that_nobody_shall_run_ends(servers):
    """Unless somebody has claimed it meanwhile."""
    one = servers.new()
    submit(one, candidate(claim=True))
    servers.pass_time(LEASE + 1)
    (orphan,) = one.jobs.owned.orphans()
    assert claimed(one, 1) == ["ann-0"]
    one.jobs.owned.settle("ann-0", orphan.epoch, "{}", 1.0)
    assert one.jobs.known.job("ann-0").row.state == "queued"
    servers.pass_time(LEASE + 1)
    (orphan,) = one.jobs.owned.orphans()
    one.jobs.owned.settle("ann-0", orphan.epoch, "{}", 1.0)
    assert one.jobs.known.job("ann-0").row.state == "failed"
    assert one.jobs.known.counts() == [("ann", "failed", False, 1)]


def test_oldest_jobs_are_forgotten(servers):
    """Of each caller beyond its bounds, and of all; unfinished ones never."""
    one = servers.new()
    for caller in ("ann", "bob"):
        for number in range(4):
            (found,) = submit(one, candidate(number, caller=caller, claim=True))
            row = attrs.evolve(found.stored.row, state="done", outcome="x" * 10, finished=float(number))
            one.jobs.owned.record([(row, Claim(row.id, one.owner, 1))])
    submit(one, candidate(9))
    one.jobs.ended.trim(3, 100, 1e9, 1e9)
    assert [stored.row.id for stored in one.jobs.known.of_caller("ann")] == [
        "ann-9",
        "ann-3",
        "ann-2",
        "ann-1",
    ]
    one.jobs.ended.trim(3, 100, 20, 1e9)
    assert [stored.row.id for stored in one.jobs.known.of_caller("ann")] == ["ann-9", "ann-3", "ann-2"]
    forgotten = one.jobs.ended.trim(3, 1, 1e9, 1e9)
    assert sorted(stored.row.id for stored in forgotten) == ["ann-2", "bob-2", "bob-3"]
    assert [one.jobs.ended.answers("ann", key) for key in ("k2", "k3", "k9")] == [False, True, True]
    assert len(one.jobs.known.of_caller("ann")) + len(one.jobs.known.of_caller("bob")) == 2
    assert [stored.row.id for stored in one.jobs.ended.ended_before(9.0)] == ["ann-3"]


def test_who_has_the_most_jobs_makes_room_for_others(servers):
    """However new they are: nobody loses results by what one other caller does."""
    one = servers.new()
    for caller, number in [("bob", 0), *(("ann", number) for number in range(1, 6))]:
        (found,) = submit(one, candidate(number, caller=caller, claim=True))
        row = attrs.evolve(found.stored.row, state="done", outcome="x", finished=float(number))
        one.jobs.owned.record([(row, Claim(row.id, one.owner, 1))])
    forgotten = one.jobs.ended.trim(9, 3, 1e9, 1e9)
    assert sorted(stored.row.id for stored in forgotten) == ["ann-1", "ann-2", "ann-3"]


def test_hints_reach_the_servers_they_are_for(servers):
    """One for all reaches also the one that has sent it."""
    one, two = servers.new(), servers.new()
    for sharing in (one, two):
        sharing.hints.connect()
    two.hints.send([("", "all"), (one.owner, "one")])
    assert heard(one, 2) == ["all", "one"]
    assert heard(two, 1) == ["all"]


def heard(sharing, number):
    found = []
    while len(found) < number:
        found += sharing.hints.received()
    return found


def test_lost_connection_for_hints_is_told_and_made_again(servers):
    """For listening and for sending."""
    one = servers.new()
    one.hints.connect()
    one.hints.send([("", "1")])
    assert heard(one, 1) == ["1"]
    servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'LISTEN|pg_notify|COMMIT' "
                "AND pid <> pg_backend_pid()")  # fmt: skip
    with pytest.raises(OSError, match="hints of other servers"):
        while True:
            one.hints.received()
    one.hints.connect()
    with contextlib.suppress(OSError):  # the connection for sending may be lost, too
        one.hints.send([("", "2")])
    one.hints.send([("", "3")])
    assert heard(one, 1)[-1] in ("2", "3")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(0, 1), st.integers(1, 2)),
        st.tuples(st.just("renew"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("orphans"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("time"), st.just(0), st.sampled_from([4, 7])),
        st.tuples(st.sampled_from(["record", "release", "cancel"]), st.integers(0, 1), st.integers(0, 1)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_table_in_memory_has_the_same_rules(servers, steps):
    """So what is shown of it, with clocks that drift and late messages, holds for the database."""
    servers.clear()
    table = Table()
    real = [servers.new() for _ in range(2)] if not hasattr(servers, "pair") else servers.pair
    servers.pair = real
    fake = [table.of(sharing.owner) for sharing in real]
    both = list(zip([sharing.jobs for sharing in real], fake, strict=True))
    for jobs in both[0]:
        jobs.admission.submit([candidate(0), candidate(1)])
    epochs = {}
    for what, server, value in steps:
        job, owner = f"ann-{value}", real[server].owner
        claim = Claim(job, owner, epochs.get((owner, job), 1))
        answers = []
        for jobs in both[server]:
            match what:
                case "claim":
                    answer = jobs.turns.claim(value, 9)
                    epochs.update({(owner, one.stored.row.id): one.stored.epoch for one in answer})
                case "renew":
                    answer = jobs.owned.renew(["ann-0", "ann-1"])
                case "orphans":
                    answer = sorted(jobs.owned.orphans(), key=lambda stored: stored.row.id)
                case "time":
                    answer = None
                case "record":
                    answer = jobs.owned.record([(attrs.evolve(candidate(value).row, state="done"), claim)])
                case "release":
                    answer = jobs.owned.release([claim])
                case "cancel":
                    answer = jobs.known.cancel("ann", job, "{}", 1.0)
            answers.append(answer)
        if what == "time":
            table.time += value
            servers.pass_time(value)
        assert answers[0] == answers[1]
        for number in range(2):
            assert both[0][0].known.job(f"ann-{number}") == fake[0].known.job(f"ann-{number}")
