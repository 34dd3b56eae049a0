"""The queue's decisions, one by one; tests/stateful/test_jobs_machine.py tries them in any order."""

import math

import attrs
import pytest

from creemson.errors import ProcessingError
from creemson.processing.jobs import (
    BACKOFF,
    PROGRESS_INTERVAL,
    RESTARTS_MOST,
    SEQ_BLOCK,
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

FIGURES = {"phase": "reading", "bytes_read": 50, "bytes_total": 100, "rows": 10, "fraction": 0.5}


def make(slots=1, per_caller=8, queue=10, retries=1, history=10, weight=math.inf):
    return Jobs(
        slots=slots, per_caller=per_caller, queue=queue, retries=retries, history=history, weight=weight
    )


class Driver:
    """Feeds a queue. What is to be written down is kept here as the next server would find it."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.now = 0.0
        self.count = 0
        self.written = {}

    def write(self, effects):
        """The effects without those for the catalog."""
        for effect in effects:
            if isinstance(effect, Record):
                self.written[effect.job.id] = as_recorded(effect.job)
            elif isinstance(effect, Erase):
                del self.written[effect.job]
        return [effect for effect in effects if not isinstance(effect, Record | Erase)]

    def submit(self, key, caller="ann", *, keep=True, timeout=100.0, connection="c", **more):
        self.count += 1
        waiter = Waiter(connection, self.count, keep)
        effects = self.jobs.submit(
            self.now, job=f"j{self.count}", key=key, caller=caller, work=key, timeout=timeout, waiter=waiter, **more
        )  # fmt: skip
        self.jobs.validate()
        return waiter, self.write(effects)

    def restart(self, **changes):
        """Another server takes over."""
        self.jobs = make(**changes)
        effects = []
        for job in list(self.written.values()):
            effects += self.jobs.restore(self.now, attrs.evolve(job, waiters=[], logged=[]))
            self.jobs.validate()
        return self.write(effects)

    def end(self, job, attempt=1, **outcome):
        effects = self.jobs.attempt_ended(self.now, job, attempt, **outcome)
        self.jobs.validate()
        return self.write(effects)


def as_recorded(job):
    """What the catalog keeps of a job."""
    return attrs.evolve(
        job, state=job.state if job.ended else "queued", running=False, waiters=[], detached=0, attempt=0,
        started=None, latest=None, logged=[], progressed=-math.inf,
    )  # fmt: skip


@pytest.fixture
def driver():
    return Driver(make())


def reasons(effects):
    return [
        effect.event.error.reason
        for effect in effects
        if isinstance(effect, Notify) and getattr(effect.event, "error", None)
    ]


def test_a_job_is_accepted_started_and_done(driver):
    """The road of a job without trouble."""
    waiter, effects = driver.submit("a")
    assert effects == [Notify(waiter, Accepted("j1", 0)), Start("j1", 1, "a")]
    assert driver.end("j1", value=42) == [Notify(waiter, Ended("j1", 1, 42))]


def test_a_second_job_waits_for_the_slot(driver):
    """`position` counts the starts that come first."""
    driver.submit("a")
    assert driver.submit("b")[1][0].event == Accepted("j2", 1)
    assert driver.submit("c")[1][0].event == Accepted("j3", 2)
    assert Start("j2", 1, "b") in driver.end("j1", value=1)


def test_callers_take_turns(driver):
    """Who sent many jobs does not keep out who sent one."""
    driver.submit("a1", "ann")
    driver.submit("a2", "ann")
    driver.submit("a3", "ann")
    assert driver.submit("b1", "bob")[1][0].event == Accepted("j4", 2)
    started = []
    for job in ("j1", "j2", "j4"):
        started += [effect.work for effect in driver.end(job, value=1) if isinstance(effect, Start)]
    assert started == ["a2", "b1", "a3"]


def test_one_caller_has_a_share_of_the_slots():
    """`limits.jobs_per_caller` leaves slots to others."""
    driver = Driver(make(slots=2, per_caller=1))
    driver.submit("a1", "ann")
    assert len(driver.submit("a2", "ann")[1]) == 1
    assert Start("j3", 1, "b1") in driver.submit("b1", "bob")[1]


def test_the_same_work_is_joined(driver):
    """Two requests for the same work have one job and both its end."""
    first, _ = driver.submit("a")
    second, effects = driver.submit("a")
    assert effects == [Notify(second, Accepted("j1", 0))]
    assert driver.end("j1", value=1) == [Notify(first, Ended("j1", 1, 1)), Notify(second, Ended("j1", 1, 1))]


def test_the_same_work_of_another_caller_is_not_joined(driver):
    """Callers do not see each other's jobs."""
    driver.submit("a", "ann")
    assert driver.submit("a", "bob")[1][0].event == Accepted("j2", 1)


def test_done_work_is_answered_from_store(driver):
    """The same work again costs nothing, and says so."""
    driver.submit("a")
    driver.end("j1", value=1)
    waiter, effects = driver.submit("a")
    assert effects == [Notify(waiter, Accepted("j1", 0)), Notify(waiter, Ended("j1", 1, 1, cached=True))]
    assert driver.jobs.find_done("ann", "a").id == "j1"


def test_forgotten_work_is_done_again(driver):
    """When the output is gone, the same request makes it anew."""
    driver.submit("a")
    driver.end("j1", value=1)
    driver.jobs.forget("j1")
    assert driver.jobs.find_done("ann", "a") is None
    assert Start("j2", 1, "a") in driver.submit("a")[1]


def test_failed_work_is_not_remembered_as_the_answer(driver):
    """A second try may do better, and forgetting the first does not touch the second."""
    driver.submit("a")
    assert reasons(driver.end("j1", error=ProcessingError("unreadable_file", "No."))) == ["unreadable_file"]
    driver.submit("a")
    driver.end("j2", value=1)
    driver.jobs.forget("j1")
    assert driver.jobs.find_done("ann", "a").id == "j2"


def test_a_full_queue_is_busy():
    """`limits.queue` is told with when to try again."""
    driver = Driver(make(queue=1))
    driver.submit("a")
    driver.submit("b")
    _, effects = driver.submit("c")
    assert reasons(effects) == ["busy"]
    assert effects[0].event.error.retry_after > 0
    assert effects[0].event.job is None


def test_a_dead_worker_costs_one_attempt(driver):
    """A transient fault is tried again after a backoff, and the waiter is told so."""
    waiter, _ = driver.submit("a")
    died = ProcessingError("worker_died", "It died.")
    [told] = driver.end("j1", error=died, transient=True)
    assert (told.waiter, told.event.level) == (waiter, "warning")
    assert driver.jobs.queued == 1
    assert driver.jobs.next_wake() == BACKOFF
    driver.now = BACKOFF / 2
    assert driver.jobs.tick(driver.now) == []
    driver.now = BACKOFF
    assert driver.jobs.tick(driver.now) == [Start("j1", 2, "a")]
    assert driver.end("j1", 2, value=1) == [Notify(waiter, Ended("j1", 2, 1))]


def test_retries_come_to_an_end(driver):
    """After `retries.job` further attempts the fault is told."""
    driver.submit("a")
    died = ProcessingError("worker_died", "It died.")
    driver.end("j1", error=died, transient=True)
    driver.now = 1.0
    driver.jobs.tick(driver.now)
    assert reasons(driver.end("j1", 2, error=died, transient=True)) == ["worker_died"]


def test_a_fault_of_the_request_is_not_retried(driver):
    """What will fail again is told at once."""
    driver.submit("a")
    assert reasons(driver.end("j1", error=ProcessingError("column_not_found", "No."))) == ["column_not_found"]


def test_progress_has_rates_and_an_end_in_sight(driver):
    """Rows a second and the time that is left come from the start of the job."""
    waiter, _ = driver.submit("a")
    driver.now = 2.0
    (effect,) = driver.jobs.progress(driver.now, "j1", 1, FIGURES)
    assert effect == Notify(waiter, Progressed("j1", 1, {**FIGURES, "rows_per_s": 5.0, "eta_s": 2.0}))


def test_progress_at_the_very_start_promises_nothing(driver):
    """Nothing is divided by zero."""
    driver.submit("a")
    (effect,) = driver.jobs.progress(0.0, "j1", 1, {**FIGURES, "fraction": 0.0, "rows": 0})
    assert effect.event.figures["eta_s"] is None
    assert effect.event.figures["rows_per_s"] == 0.0


def test_progress_is_told_ten_times_a_second_at_most(driver):
    """What comes sooner is dropped; sequence numbers have no gap."""
    driver.submit("a")
    told = []
    for step in range(100):
        told += driver.jobs.progress(step * PROGRESS_INTERVAL / 10, "j1", 1, FIGURES)
    assert [effect.event.seq for effect in told] == list(range(1, len(told) + 1))
    assert 9 <= len(told) <= 11


def test_progress_of_a_stopped_attempt_is_dropped(driver):
    """What was on its way when the job ended is nobody's business any more."""
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j1")
    assert driver.jobs.progress(1.0, "j1", 1, FIGURES) == []
    assert driver.jobs.progress(1.0, "unknown", 1, FIGURES) == []


def test_cancelling_a_running_job_stops_it_and_tells_all(driver):
    """The waiters hear at once; the slot is free when the attempt has been stopped."""
    driver.submit("a")
    driver.submit("a")
    driver.submit("b")
    effects = driver.jobs.cancel(0.0, "ann", "j1")
    assert effects[0] == Stop("j1", 1)
    assert reasons(effects) == ["cancelled", "cancelled"]
    assert driver.jobs.running == 1
    assert driver.end("j1") == [Start("j3", 1, "b")]


def test_cancelling_a_waiting_job_takes_it_from_the_queue(driver):
    """There is nothing to stop."""
    driver.submit("a")
    driver.submit("b")
    assert reasons(driver.jobs.cancel(0.0, "ann", "j2")) == ["cancelled"]
    driver.jobs.validate()
    assert driver.end("j1", value=1)[1:] == []


def test_cancelling_twice_is_no_fault(driver):
    """A repeated cancel finds what it wants."""
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j1")
    assert driver.jobs.cancel(0.0, "ann", "j1") == []


@pytest.mark.parametrize(("caller", "job"), [("ann", "j9"), ("bob", "j1"), ("ann", "j1")])
def test_cancelling_what_is_not_there(driver, caller, job):
    """An unknown job, another caller's and one that is done all are `job_not_found`."""
    driver.submit("a", "ann")
    if caller == "ann":
        driver.end("j1", value=1)
    with pytest.raises(ProcessingError) as caught:
        driver.jobs.cancel(0.0, caller, job)
    assert caught.value.reason == "job_not_found"


def test_leaving_ends_a_request_and_not_the_job_of_others(driver):
    """Another waiter keeps the job going."""
    first, _ = driver.submit("a")
    second, _ = driver.submit("a")
    job, effects = driver.jobs.leave(0.0, first)
    assert job == "j1"
    assert reasons(effects) == ["cancelled"]
    driver.jobs.validate()
    assert driver.end("j1", value=1) == [Notify(second, Ended("j1", 2, 1))]


def test_the_last_to_leave_stops_the_job(driver):
    """Nobody wants it any more."""
    waiter, _ = driver.submit("a")
    assert Stop("j1", 1) in driver.jobs.leave(0.0, waiter)[1]
    with pytest.raises(ProcessingError):
        driver.jobs.leave(0.0, waiter)


def test_a_lost_connection_detaches(driver):
    """A job outlives its socket, and answers who asks again."""
    driver.submit("a", connection="old")
    assert driver.jobs.disconnect(0.0, "old") == []
    driver.jobs.validate()
    waiter, effects = driver.submit("a", connection="new")
    assert effects == [Notify(waiter, Accepted("j1", 0))]
    assert driver.end("j1", value=1) == [Notify(waiter, Ended("j1", 1, 1))]


def test_a_lost_connection_stops_what_was_not_to_be_kept(driver):
    """`on_disconnect: cancel` stops the work, unless others wait for it."""
    driver.submit("a", keep=False, connection="old")
    driver.submit("b", keep=False, connection="old")
    driver.submit("b", connection="other")
    assert driver.write(driver.jobs.disconnect(0.0, "old")) == [Stop("j1", 1)]
    assert driver.end("j1") == [Start("j2", 1, "b")]


def test_a_job_that_takes_too_long_is_given_up(driver):
    """The time counts from the start of the first attempt."""
    driver.submit("a", timeout=5.0)
    driver.submit("b", timeout=1.0)
    assert driver.jobs.next_wake() == 5.0
    driver.now = 5.0
    effects = driver.jobs.tick(driver.now)
    assert effects[0] == Stop("j1", 1)
    assert reasons(effects) == ["job_timeout"]
    assert driver.end("j1") == [Start("j2", 1, "b")]
    assert driver.jobs.next_wake() == 6.0


def test_draining_refuses_and_lets_running_jobs_finish(driver):
    """New and waiting jobs are told that the server shuts down."""
    running, _ = driver.submit("a")
    driver.submit("b")
    assert reasons(driver.jobs.drain(0.0)) == ["shutting_down"]
    assert reasons(driver.submit("c")[1]) == ["shutting_down"]
    assert reasons(driver.submit("a")[1]) == ["shutting_down"]
    assert driver.end("j1", value=1) == [Notify(running, Ended("j1", 1, 1))]


def test_draining_does_not_retry(driver):
    """There will be no time for another attempt; the next server makes it."""
    driver.submit("a")
    driver.jobs.drain(0.0)
    died = ProcessingError("worker_died", "It died.")
    assert reasons(driver.end("j1", error=died, transient=True)) == ["shutting_down"]
    assert driver.restart() == [Start("j1", 1, "a")]


def test_draining_does_not_put_off_what_nobody_wants_kept(driver):
    """It fails as it did."""
    driver.submit("a", keep=False)
    driver.jobs.drain(0.0)
    died = ProcessingError("worker_died", "It died.")
    assert reasons(driver.end("j1", error=died, transient=True)) == ["worker_died"]


def test_what_runs_on_after_the_drain_is_stopped(driver):
    """The time is up."""
    driver.submit("a")
    driver.jobs.drain(0.0)
    effects = driver.jobs.abandon(10.0)
    assert effects[0] == Stop("j1", 1)
    assert reasons(effects) == ["shutting_down"]
    assert driver.end("j1") == []
    assert driver.jobs.running == 0


def test_the_history_is_bounded():
    """The oldest results are let go, so that their files can be removed."""
    driver = Driver(make(history=1))
    driver.submit("a")
    driver.end("j1", value=1)
    driver.submit("b")
    assert Forget("j1", "a") in driver.end("j2", value=1)
    assert driver.jobs.find_done("ann", "a") is None


def test_what_waits_has_a_weight():
    """Over it: busy, however few they are; one alone may weigh what it likes, and who joins weighs nothing."""
    driver = Driver(make(weight=100))
    assert reasons(driver.submit("a", weight=500)[1]) == []
    assert reasons(driver.submit("b", weight=1)[1]) == ["busy"]
    assert reasons(driver.submit("a", weight=500)[1]) == []
    driver.end("j1", value=1)
    driver.jobs.weigh(driver.jobs.find_done("ann", "a"), 10)
    assert reasons(driver.submit("b", weight=60)[1]) == []
    assert reasons(driver.submit("c", weight=60)[1]) == ["busy"]
    assert reasons(driver.submit("c", weight=40)[1]) == []


def test_what_is_remembered_has_a_weight():
    """The oldest results are let go when they are too heavy together, but the latest stays in any case."""
    driver = Driver(make(weight=100))
    for number, key in enumerate("abc", 1):
        driver.submit(key)
        driver.end(f"j{number}", value=1)
        weighed = driver.jobs.weigh(driver.jobs.find_done("ann", key), 45)
    assert weighed == [Erase("j1"), Forget("j1", "a")]
    driver.jobs.weigh(driver.jobs.find_done("ann", "c"), 1000)
    driver.jobs.validate()
    assert [job.id for job in driver.jobs.of_caller("ann")] == ["j3"]


def test_why_nothing_may_begin():
    """What is known is answered and what runs is joined all the same."""
    driver, scarce = Driver(make()), ProcessingError("busy", "Memory is scarce.")
    driver.submit("a")
    assert reasons(driver.submit("a", refusal=scarce)[1]) == []
    assert reasons(driver.submit("b", refusal=scarce)[1]) == ["busy"]
    driver.end("j1", value=1)
    _, effects = driver.submit("a", refusal=scarce)
    assert effects[-1].event.cached


def test_what_is_made_in_vain_is_let_go(driver):
    """A result that crosses with a cancel has no owner, unless the same work was asked for again."""
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j1")
    assert driver.end("j1", value=1) == [Forget("j1", "a")]
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j2")
    driver.submit("a")
    assert driver.end("j2", value=1) == [Start("j3", 1, "a")]


def test_an_old_failure_takes_no_new_result_with_it():
    """What leaves the history removes only what it made itself."""
    driver = Driver(make(history=1))
    driver.submit("a")
    driver.end("j1", error=ProcessingError("unreadable_file", "No."))
    driver.submit("a")
    assert driver.end("j2", value=1) == [Notify(Waiter("c", 2), Ended("j2", 1, 1))]


def test_a_keeper_that_has_gone_still_counts(driver):
    """The job goes on for it, though another one with `on_disconnect: cancel` goes too, or cancels."""
    driver.submit("a", keep=True, connection="keeper")
    driver.submit("a", keep=False, connection="other")
    last, _ = driver.submit("a", connection="last")
    assert driver.jobs.disconnect(0.0, "keeper") == []
    assert driver.jobs.disconnect(0.0, "other") == []
    assert reasons(driver.jobs.leave(0.0, last)[1]) == ["cancelled"]
    driver.jobs.validate()
    assert driver.jobs.find_done("ann", "a") is None
    driver.end("j1", value=1)
    assert driver.jobs.find_done("ann", "a") is not None


def test_joining_gives_a_job_the_longer_time(driver):
    """Nobody gets less time than they asked for."""
    driver.submit("a", timeout=1.0)
    driver.submit("a", timeout=9.0)
    driver.submit("a", timeout=2.0)
    assert driver.jobs.next_wake() == 9.0


# --- jobs that outlive connections and servers -------------------------------------------------------


def test_a_job_is_written_down_before_it_is_accepted_and_before_its_end_is_told(driver):
    """What a client has been told survives the server."""
    waiter = Waiter("c", 1)
    accepted = driver.jobs.submit(0.0, job="j1", key="a", caller="ann", work="a", timeout=9.0, waiter=waiter)
    assert [type(effect) for effect in accepted] == [Record, Notify, Start]
    ended = driver.jobs.attempt_ended(1.0, "j1", 1, value=5)
    assert [type(effect) for effect in ended] == [Record, Notify]


def test_attaching_replays_what_came_after(driver):
    """The log holds what was said and the last progress; the end comes in any case."""
    driver.submit("a")
    died = ProcessingError("worker_died", "It died.")
    driver.end("j1", error=died, transient=True)
    driver.now = 10.0
    driver.jobs.tick(driver.now)
    for _ in range(3):
        driver.now += 1
        driver.jobs.progress(driver.now, "j1", 2, FIGURES)
    late = Waiter("d", 1)
    events = [effect.event for effect in driver.write(driver.jobs.attach("ann", "j1", 0, late))]
    assert [(type(event), event.seq) for event in events] == [(Logged, 1), (Progressed, 4)]
    assert driver.jobs.attach("ann", "j1", 4, Waiter("d", 2)) == []
    ends = driver.end("j1", attempt=2, value=7)
    assert {(effect.waiter, effect.event.seq) for effect in ends} == {
        (Waiter("c", 1), 5), (late, 5), (Waiter("d", 2), 5)
    }  # fmt: skip
    again = driver.jobs.attach("ann", "j1", 5, Waiter("e", 1))
    assert again == [Notify(Waiter("e", 1), Ended("j1", 5, 7))]


@pytest.mark.parametrize(("caller", "job"), [("ann", "j2"), ("bob", "j1")])
def test_attaching_to_what_is_not_there(driver, caller, job):
    """Or is another caller's."""
    driver.submit("a")
    with pytest.raises(ProcessingError) as caught:
        driver.jobs.attach(caller, job, 0, Waiter("d", 1))
    assert caught.value.reason == "job_not_found"


def test_who_comes_back_can_cancel(driver):
    """A request that was lost and is followed again is one interest and not two."""
    driver.submit("a")
    driver.jobs.disconnect(0.0, "c")
    driver.jobs.attach("ann", "j1", 0, Waiter("d", 1))
    _, effects = driver.jobs.leave(0.0, Waiter("d", 1))
    assert reasons(effects) == ["cancelled"]
    assert Stop("j1", 1) in effects


def test_who_follows_wants_it_kept(driver):
    """Also a job that was to end with its connection."""
    driver.submit("a", keep=False)
    driver.write(driver.jobs.attach("ann", "j1", 0, Waiter("d", 1)))
    assert driver.written["j1"].kept
    driver.jobs.disconnect(0.0, "c")
    assert driver.jobs.disconnect(0.0, "d") == []
    assert driver.jobs.running == 1


def test_the_next_server_begins_unfinished_jobs_again(driver):
    """In their order, with event numbers that nobody has seen."""
    driver.submit("a")
    driver.submit("b")
    driver.jobs.progress(1.0, "j1", 1, FIGURES)
    assert driver.restart() == [Start("j1", 1, "a")]
    waiter = Waiter("d", 1)
    [told] = driver.jobs.attach("ann", "j1", 1, waiter)
    assert told.event == Logged(
        "j1", SEQ_BLOCK + 1, "info", "The server was restarted; the job is begun again."
    )
    assert driver.end("j1", value=3) == [Notify(waiter, Ended("j1", SEQ_BLOCK + 2, 3)), Start("j2", 1, "b")]


def test_the_next_server_answers_from_store(driver):
    """And knows how jobs have ended."""
    driver.submit("a")
    driver.end("j1", value=1)
    driver.now = 1.0
    driver.submit("b")
    driver.end("j2", error=ProcessingError("unreadable_file", "It is none."))
    driver.restart()
    waiter, effects = driver.submit("a")
    assert effects == [Notify(waiter, Accepted("j1", 0)), Notify(waiter, Ended("j1", 1, 1, cached=True))]
    assert reasons(driver.jobs.attach("ann", "j2", 0, waiter)) == ["unreadable_file"]
    assert [job.id for job in driver.jobs.of_caller("ann")] == ["j2", "j1"]
    assert driver.jobs.of_caller("bob") == []


def test_what_was_not_to_be_kept_ends_with_the_server(driver):
    """Its connections have gone."""
    driver.submit("a", keep=False)
    assert driver.restart() == []
    assert driver.written["j1"].state == "cancelled"


def test_a_job_that_takes_servers_down_is_given_up(driver):
    """It may be the reason why they go down."""
    driver.submit("a")
    for _ in range(RESTARTS_MOST):
        assert driver.restart() == [Start("j1", 1, "a")]
    assert driver.restart() == []
    assert driver.written["j1"].error.reason == "worker_died"


def test_a_job_that_cannot_be_begun_again(driver):
    """Its file has gone, for one."""
    driver.submit("a")
    jobs = make()
    effects = jobs.restore(0.0, driver.written["j1"], error=ProcessingError("file_not_found", "It is gone."))
    assert driver.write(effects) == []
    assert reasons(jobs.attach("ann", "j1", 0, Waiter("d", 1))) == ["file_not_found"]


def test_what_a_drain_leaves_is_the_next_servers(driver):
    """Those who wait are told to come again; the job is neither ended nor lost."""
    driver.submit("a")
    driver.submit("b")
    driver.submit("c", keep=False)
    effects = driver.write([*driver.jobs.drain(0.0), *driver.jobs.abandon(0.0)])
    told = [effect.event for effect in effects if isinstance(effect, Notify)]
    assert [(event.job, event.seq) for event in told] == [("j2", None), ("j3", 1), ("j1", None)]
    assert reasons(effects) == ["shutting_down"] * 3
    assert reasons(driver.jobs.attach("ann", "j1", 0, Waiter("d", 1))) == ["shutting_down"]
    driver.end("j1")
    assert [job.id for job in driver.jobs.unfinished()] == []
    assert driver.restart(slots=2) == [Start("j1", 1, "a"), Start("j2", 1, "b")]
    assert driver.written["j3"].state == "failed"


def test_what_is_put_off_can_be_cancelled_or_be_done_in_the_last_moment(driver):
    """A worker that is to be stopped may be faster."""
    driver.submit("a")
    driver.submit("b")
    driver.write([*driver.jobs.drain(0.0), *driver.jobs.abandon(0.0)])
    assert driver.write(driver.jobs.cancel(0.0, "ann", "j2")) == []
    driver.end("j1", value=4)
    assert {job: found.state for job, found in driver.written.items()} == {"j1": "done", "j2": "cancelled"}


def test_a_job_fails_for_a_reason_of_ours(driver):
    """It cannot be written down, for one."""
    driver.submit("a")
    effects = driver.write(driver.jobs.fail(0.0, "j1", ProcessingError("storage_full", "No room.")))
    assert reasons(effects) == ["storage_full"]
    assert driver.jobs.fail(0.0, "j9", ProcessingError("storage_full", "No room.")) == []


def test_old_jobs_are_found(driver):
    """Those that ended before a time, to be forgotten."""
    driver.submit("a")
    driver.now = 5.0
    driver.end("j1", value=1)
    assert driver.jobs.ended_before(5.0) == []
    assert [job.id for job in driver.jobs.ended_before(6.0)] == ["j1"]
