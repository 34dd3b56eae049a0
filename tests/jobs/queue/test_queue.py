"""The queue's decisions one by one; tests/stateful/test_job_queue_machine.py tries them in any order."""

import math

import attrs
import pytest

from creemson.errors import ProcessingError
from creemson.jobs.events import Accepted, Ended, Logged, Progressed, Waiter
from creemson.jobs.queue.effects import Erase, Forget, Notify, Record, Start, Stop
from creemson.jobs.queue.progress import NOTIFY_SHARE, NOTIFY_TIME, PROGRESS_INTERVAL
from creemson.jobs.queue.queue import BACKOFF, MAX_RESTARTS, SEQ_BLOCK, JobQueue
from creemson.jobs.sharing.bounds import Bound, Bounds

FIGURES = {"phase": "reading", "bytes_read": 50, "bytes_total": 100, "rows": 10, "fraction": 0.5}


def make(slots=1, slots_per_caller=8, retries=1, **bounds):
    """A bound is the one in all, or a pair: that of each caller, and that in all."""
    pairs = {name: bound if isinstance(bound, tuple) else (math.inf, bound) for name, bound in bounds.items()}
    return JobQueue(
        slots=slots,
        slots_per_caller=slots_per_caller,
        retries=retries,
        bounds=Bounds(**{name: Bound(*pair) for name, pair in pairs.items()}),
    )


class Driver:
    """Drives a queue and keeps the recorded jobs as the next server would find them."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.now = 0.0
        self.count = 0
        self.written = {}

    def write(self, effects):
        """Apply the catalog effects and return the others."""
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
        """Start another queue from the recorded jobs."""
        self.jobs = make(**changes)
        effects = []
        for job in list(self.written.values()):
            effects += self.jobs.restore(self.now, attrs.evolve(job, waiters={}, logged=[]))
            self.jobs.validate()
        return self.write(effects)

    def end(self, job, attempt=1, **outcome):
        effects = self.jobs.attempt_ended(self.now, job, attempt, **outcome)
        self.jobs.validate()
        return self.write(effects)


def as_recorded(job):
    """What the catalog keeps of a job."""
    return attrs.evolve(
        job, state=job.state if job.ended else "queued", slot="free", waiters={}, detached=0, attempt=0,
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


def test_job_is_accepted_started_and_done(driver):
    """The life of a job without problems."""
    waiter, effects = driver.submit("a")
    assert effects == [Notify(waiter, Accepted("j1", 0)), Start("j1", 1, "a")]
    assert driver.end("j1", value=42) == [Notify(waiter, Ended("j1", 1, 42))]


def test_job_without_a_free_slot_waits_in_position(driver):
    """`position` counts the jobs that will start first."""
    driver.submit("a")
    assert driver.submit("b")[1][0].event == Accepted("j2", 1)
    assert driver.submit("c")[1][0].event == Accepted("j3", 2)
    assert Start("j2", 1, "b") in driver.end("j1", value=1)


def test_jobs_of_several_callers_start_in_turn(driver):
    """Many jobs of one caller do not delay a single job of another."""
    driver.submit("a1", "ann")
    driver.submit("a2", "ann")
    driver.submit("a3", "ann")
    assert driver.submit("b1", "bob")[1][0].event == Accepted("j4", 0)  # uses the spare slot
    assert driver.submit("b2", "bob")[1][0].event == Accepted("j5", 2)
    started = []
    for job in ("j1", "j4", "j2", "j5"):
        started += [effect.work for effect in driver.end(job, value=1) if isinstance(effect, Start)]
    assert started == ["a2", "b2", "a3"]


def test_jobs_of_one_caller_use_only_its_share_of_slots():
    """`limits.jobs_per_caller` leaves slots for others."""
    driver = Driver(make(slots=2, slots_per_caller=1))
    driver.submit("a1", "ann")
    assert len(driver.submit("a2", "ann")[1]) == 1
    assert Start("j3", 1, "b1") in driver.submit("b1", "bob")[1]


def test_same_request_of_one_caller_joins_the_running_job(driver):
    """Two identical requests share one job, and both get its result."""
    first, _ = driver.submit("a")
    second, effects = driver.submit("a")
    assert effects == [Notify(second, Accepted("j1", 0))]
    assert driver.end("j1", value=1) == [Notify(first, Ended("j1", 1, 1)), Notify(second, Ended("j1", 1, 1))]


def test_same_request_of_another_caller_is_a_new_job(driver):
    """Callers do not see each other's jobs."""
    driver.submit("a", "ann")
    assert driver.submit("a", "bob")[1][0].event == Accepted("j2", 0)


def test_request_for_done_work_is_served_from_cache(driver):
    """The answer is marked as cached."""
    driver.submit("a")
    driver.end("j1", value=1)
    waiter, effects = driver.submit("a")
    assert effects == [Notify(waiter, Accepted("j1", 0)), Notify(waiter, Ended("j1", 1, 1, cached=True))]
    assert driver.jobs.find_done("ann", "a").id == "j1"


def test_request_for_forgotten_work_runs_again(driver):
    """After its output is removed, the same request produces it again."""
    driver.submit("a")
    driver.end("j1", value=1)
    driver.jobs.forget("j1")
    assert driver.jobs.find_done("ann", "a") is None
    assert Start("j2", 1, "a") in driver.submit("a")[1]


def test_request_for_failed_work_runs_again(driver):
    """Forgetting the failed job does not affect the new one."""
    driver.submit("a")
    assert reasons(driver.end("j1", error=ProcessingError("unreadable_file", "No."))) == ["unreadable_file"]
    driver.submit("a")
    driver.end("j2", value=1)
    driver.jobs.forget("j1")
    assert driver.jobs.find_done("ann", "a").id == "j2"


def test_queue_when_full_refuses_new_jobs_as_busy():
    """The error says when to try again."""
    driver = Driver(make(queued=1))
    driver.submit("a")
    driver.submit("b")
    _, effects = driver.submit("c")
    assert reasons(effects) == ["busy"]
    assert effects[0].event.error.retry_after > 0
    assert effects[0].event.job is None


def test_transient_failure_is_retried_after_a_backoff(driver):
    """The waiter gets a warning."""
    waiter, _ = driver.submit("a")
    died = ProcessingError("worker_died", "It died.")
    [reported] = driver.end("j1", error=died, transient=True)
    assert (reported.waiter, reported.event.level) == (waiter, "warning")
    assert driver.jobs.slots.queued == 1
    assert driver.jobs.next_wake() == BACKOFF
    driver.now = BACKOFF / 2
    assert driver.jobs.tick(driver.now) == []
    driver.now = BACKOFF
    assert driver.jobs.tick(driver.now) == [Start("j1", 2, "a")]
    assert driver.end("j1", 2, value=1) == [Notify(waiter, Ended("j1", 2, 1))]


def test_transient_failure_after_the_last_retry_is_reported(driver):
    """At most `retries.job` retries."""
    driver.submit("a")
    died = ProcessingError("worker_died", "It died.")
    driver.end("j1", error=died, transient=True)
    driver.now = 1.0
    driver.jobs.tick(driver.now)
    assert reasons(driver.end("j1", 2, error=died, transient=True)) == ["worker_died"]


def test_permanent_failure_is_not_retried(driver):
    """An error that would occur again is reported at once."""
    driver.submit("a")
    assert reasons(driver.end("j1", error=ProcessingError("column_not_found", "No."))) == ["column_not_found"]


def test_progress_has_rate_and_remaining_time(driver):
    """The rate is computed from the start of the job, the remaining time from its first report."""
    waiter, _ = driver.submit("a")
    driver.jobs.progress(0.0, "j1", 1, {**FIGURES, "fraction": 0.0})
    driver.now = 2.0
    (effect,) = driver.jobs.progress(driver.now, "j1", 1, FIGURES)
    assert effect == Notify(waiter, Progressed("j1", 2, {**FIGURES, "rows_per_s": 5.0, "eta_s": 2.0}))


def test_progress_at_the_end_is_never_dropped(driver):
    """The fraction is 1 before the result, and what remains is 0 s, however soon after another report."""
    driver.submit("a")
    driver.jobs.progress(1.0, "j1", 1, FIGURES)
    (effect,) = driver.jobs.progress(1.01, "j1", 1, {**FIGURES, "fraction": 1.0})
    assert (effect.event.figures["fraction"], effect.event.figures["eta_s"]) == (1.0, 0.0)


def test_progress_of_a_repeated_attempt_does_not_go_back(driver):
    """The fraction stays until the new attempt is as far; its remaining time is unknown at first."""
    driver.submit("a")
    driver.jobs.progress(1.0, "j1", 1, {**FIGURES, "fraction": 0.0})
    driver.jobs.progress(3.0, "j1", 1, {**FIGURES, "fraction": 0.6})
    driver.end("j1", error=ProcessingError("worker_died", "It died."), transient=True)
    driver.jobs.tick(10.0)
    (effect,) = driver.jobs.progress(11.0, "j1", 2, {**FIGURES, "fraction": 0.1})
    assert (effect.event.figures["fraction"], effect.event.figures["eta_s"]) == (0.6, None)
    (effect,) = driver.jobs.progress(13.0, "j1", 2, {**FIGURES, "fraction": 0.8})
    assert effect.event.figures["fraction"] == 0.8
    assert 0 < effect.event.figures["eta_s"] < 1


def test_progress_at_the_start_has_no_remaining_time(driver):
    """No division by zero."""
    driver.submit("a")
    (effect,) = driver.jobs.progress(0.0, "j1", 1, {**FIGURES, "fraction": 0.0, "rows": 0})
    assert effect.event.figures["eta_s"] is None
    assert effect.event.figures["rows_per_s"] == 0.0


def test_progress_is_reported_at_most_ten_times_a_second(driver):
    """Earlier reports are dropped; sequence numbers have no gaps."""
    driver.submit("a")
    reported = []
    for step in range(100):
        reported += driver.jobs.progress(step * PROGRESS_INTERVAL / 10, "j1", 1, FIGURES)
    assert [effect.event.seq for effect in reported] == list(range(1, len(reported) + 1))
    assert 9 <= len(reported) <= 11


def test_progress_of_a_job_with_many_waiters_is_rarer(driver):
    """Ten thousand attached requests would take the whole time of the event loop; their job's end is told anyway."""
    driver.submit("a")
    for number in range(9999):
        driver.jobs.attach("ann", "j1", 0, Waiter("d", number))
    reported = [len(driver.jobs.progress(step / 10, "j1", 1, FIGURES)) for step in range(1000)]
    assert set(reported) == {0, 10_000}
    assert reported.count(10_000) * 10_000 * NOTIFY_TIME <= 100 * NOTIFY_SHARE + 10_000 * NOTIFY_TIME
    assert len(driver.end("j1", value=1)) == 10_000


def test_progress_of_a_stopped_or_unknown_job_is_dropped(driver):
    """It may still arrive after the job has ended."""
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j1")
    assert driver.jobs.progress(1.0, "j1", 1, FIGURES) == []
    assert driver.jobs.progress(1.0, "unknown", 1, FIGURES) == []


def test_cancel_of_a_running_job_stops_it_and_notifies_waiters(driver):
    """The waiters are notified at once; the slot is free once the attempt has stopped."""
    driver.submit("a")
    driver.submit("a")
    driver.submit("b")
    effects = driver.jobs.cancel(0.0, "ann", "j1")
    assert effects[0] == Stop("j1", 1)
    assert reasons(effects) == ["cancelled", "cancelled"]
    assert driver.jobs.slots.running == 1
    assert driver.end("j1") == [Start("j3", 1, "b")]


def test_cancel_of_a_queued_job_removes_it_from_the_queue(driver):
    """There is no attempt to stop."""
    driver.submit("a")
    driver.submit("b")
    assert reasons(driver.jobs.cancel(0.0, "ann", "j2")) == ["cancelled"]
    driver.jobs.validate()
    assert driver.end("j1", value=1)[1:] == []


def test_cancel_is_idempotent(driver):
    """A second cancel has no effect and raises no error."""
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j1")
    assert driver.jobs.cancel(0.0, "ann", "j1") == []


@pytest.mark.parametrize(("caller", "job"), [("ann", "j9"), ("bob", "j1"), ("ann", "j1")])
def test_cancel_of_a_missing_job_is_job_not_found(driver, caller, job):
    """Unknown jobs, other callers' jobs and done jobs."""
    driver.submit("a", "ann")
    if caller == "ann":
        driver.end("j1", value=1)
    with pytest.raises(ProcessingError) as caught:
        driver.jobs.cancel(0.0, caller, job)
    assert caught.value.reason == "job_not_found"


def test_leave_with_other_waiters_keeps_the_job_running(driver):
    """Only the request of the one who leaves ends as cancelled."""
    first, _ = driver.submit("a")
    second, _ = driver.submit("a")
    job, effects = driver.jobs.leave(0.0, first)
    assert job == "j1"
    assert reasons(effects) == ["cancelled"]
    driver.jobs.validate()
    assert driver.end("j1", value=1) == [Notify(second, Ended("j1", 2, 1))]


def test_leave_of_the_last_waiter_stops_the_job(driver):
    """Nobody waits for it any more."""
    waiter, _ = driver.submit("a")
    assert Stop("j1", 1) in driver.jobs.leave(0.0, waiter)[1]
    with pytest.raises(ProcessingError):
        driver.jobs.leave(0.0, waiter)


def test_disconnect_keeps_the_job_for_the_same_request(driver):
    """A job survives its connection and answers the same request from a new one."""
    driver.submit("a", connection="old")
    assert driver.jobs.disconnect(0.0, "old") == []
    driver.jobs.validate()
    waiter, effects = driver.submit("a", connection="new")
    assert effects == [Notify(waiter, Accepted("j1", 0))]
    assert driver.end("j1", value=1) == [Notify(waiter, Ended("j1", 1, 1))]


def test_disconnect_stops_jobs_with_on_disconnect_cancel(driver):
    """Unless others wait for the job."""
    driver.submit("a", keep=False, connection="old")
    driver.submit("b", keep=False, connection="old")
    driver.submit("b", connection="other")
    assert driver.write(driver.jobs.disconnect(0.0, "old")) == [Stop("j1", 1)]
    assert driver.end("j1") == [Start("j2", 1, "b")]


def test_job_over_its_timeout_is_stopped(driver):
    """The timeout runs from the start of the first attempt."""
    driver.submit("a", timeout=5.0)
    driver.submit("b", timeout=1.0)
    assert driver.jobs.next_wake() == 5.0
    driver.now = 5.0
    effects = driver.jobs.tick(driver.now)
    assert effects[0] == Stop("j1", 1)
    assert reasons(effects) == ["job_timeout"]
    assert driver.end("j1") == [Start("j2", 1, "b")]
    assert driver.jobs.next_wake() == 6.0


def test_drain_refuses_new_jobs_and_lets_running_jobs_finish(driver):
    """New and queued jobs get `shutting_down`."""
    running, _ = driver.submit("a")
    driver.submit("b")
    assert reasons(driver.jobs.drain(0.0)) == ["shutting_down"]
    assert reasons(driver.submit("c")[1]) == ["shutting_down"]
    assert reasons(driver.submit("a")[1]) == ["shutting_down"]
    assert driver.end("j1", value=1) == [Notify(running, Ended("j1", 1, 1))]


def test_drain_leaves_retries_to_the_next_server(driver):
    """There is no time for another attempt; the next server makes it."""
    driver.submit("a")
    driver.jobs.drain(0.0)
    died = ProcessingError("worker_died", "It died.")
    assert reasons(driver.end("j1", error=died, transient=True)) == ["shutting_down"]
    assert driver.restart() == [Start("j1", 1, "a")]


def test_drain_fails_a_job_that_is_not_kept(driver):
    """It ends with its own error and is not left for the next server."""
    driver.submit("a", keep=False)
    driver.jobs.drain(0.0)
    died = ProcessingError("worker_died", "It died.")
    assert reasons(driver.end("j1", error=died, transient=True)) == ["worker_died"]


def test_job_still_running_after_the_drain_is_stopped(driver):
    """At the end of the drain, running jobs are stopped."""
    driver.submit("a")
    driver.jobs.drain(0.0)
    effects = driver.jobs.stop_all(10.0)
    assert effects[0] == Stop("j1", 1)
    assert reasons(effects) == ["shutting_down"]
    assert driver.end("j1") == []
    assert driver.jobs.slots.running == 0


def test_history_over_its_limit_forgets_the_oldest_job():
    """The files of the oldest results can then be removed."""
    driver = Driver(make(remembered=1))
    driver.submit("a")
    driver.end("j1", value=1)
    driver.submit("b")
    assert Forget("j1", "a") in driver.end("j2", value=1)
    assert driver.jobs.find_done("ann", "a") is None


def test_queue_over_its_size_limit_refuses_jobs_as_busy():
    """However few jobs; a single job may have any size, and joining a job costs nothing."""
    driver = Driver(make(active_bytes=100, remembered_bytes=100))
    assert reasons(driver.submit("a", size_bytes=500)[1]) == []
    assert reasons(driver.submit("b", size_bytes=1)[1]) == ["busy"]
    assert reasons(driver.submit("a", size_bytes=500)[1]) == []
    driver.end("j1", value=1)
    driver.jobs.set_size(driver.jobs.find_done("ann", "a"), 10)
    assert reasons(driver.submit("b", size_bytes=60)[1]) == []
    assert reasons(driver.submit("c", size_bytes=60)[1]) == ["busy"]
    assert reasons(driver.submit("c", size_bytes=40)[1]) == []


def test_history_over_its_size_limit_forgets_the_oldest_jobs():
    """The latest result is always kept."""
    driver = Driver(make(active_bytes=100, remembered_bytes=100))
    for number, key in enumerate("abc", 1):
        driver.submit(key)
        driver.end(f"j{number}", value=1)
        sized = driver.jobs.set_size(driver.jobs.find_done("ann", key), 45)
    assert sized == [Erase("j1"), Forget("j1", "a")]
    driver.jobs.set_size(driver.jobs.find_done("ann", "c"), 1000)
    driver.jobs.validate()
    assert [job.id for job in driver.jobs.of_caller("ann")] == ["j3"]


def test_refusal_applies_only_to_jobs_that_would_start():
    """Cached results are served and running jobs joined despite the refusal."""
    driver, scarce = Driver(make()), ProcessingError("busy", "Memory is scarce.")
    driver.submit("a")
    assert reasons(driver.submit("a", refusal=scarce)[1]) == []
    assert reasons(driver.submit("b", refusal=scarce)[1]) == ["busy"]
    driver.end("j1", value=1)
    _, effects = driver.submit("a", refusal=scarce)
    assert effects[-1].event.cached


def test_result_of_a_cancelled_job_is_forgotten(driver):
    """Unless the same work was requested again in the meantime."""
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j1")
    assert driver.end("j1", value=1) == [Forget("j1", "a")]
    driver.submit("a")
    driver.jobs.cancel(0.0, "ann", "j2")
    driver.submit("a")
    assert driver.end("j2", value=1) == [Start("j3", 1, "a")]


def test_history_removing_a_failed_job_keeps_the_newer_result():
    """A job leaving the history removes only its own result."""
    driver = Driver(make(remembered=1))
    driver.submit("a")
    driver.end("j1", error=ProcessingError("unreadable_file", "No."))
    driver.submit("a")
    assert driver.end("j2", value=1) == [Notify(Waiter("c", 2), Ended("j2", 1, 1))]


def test_disconnected_keeper_keeps_the_job_running(driver):
    """Even if waiters with `on_disconnect: cancel` disconnect or cancel."""
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


def test_joined_job_has_the_longest_timeout(driver):
    """Nobody gets less time than requested."""
    driver.submit("a", timeout=1.0)
    driver.submit("a", timeout=9.0)
    driver.submit("a", timeout=2.0)
    assert driver.jobs.next_wake() == 9.0


# --- jobs that survive connections and servers -------------------------------------------------------


def test_job_is_recorded_before_it_is_accepted_and_before_its_end(driver):
    """Everything reported to a client survives the server."""
    waiter = Waiter("c", 1)
    accepted = driver.jobs.submit(0.0, job="j1", key="a", caller="ann", work="a", timeout=9.0, waiter=waiter)
    assert [type(effect) for effect in accepted] == [Record, Notify, Start]
    ended = driver.jobs.attempt_ended(1.0, "j1", 1, value=5)
    assert [type(effect) for effect in ended] == [Record, Notify]


def test_attach_replays_later_events(driver):
    """The log messages and the latest progress are replayed; the end is always sent."""
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
def test_attach_to_a_missing_job_is_job_not_found(driver, caller, job):
    """Also if the job belongs to another caller."""
    driver.submit("a")
    with pytest.raises(ProcessingError) as caught:
        driver.jobs.attach(caller, job, 0, Waiter("d", 1))
    assert caught.value.reason == "job_not_found"


def test_leave_after_attaching_again_cancels_the_job(driver):
    """A lost request and its new attachment count as one waiter."""
    driver.submit("a")
    driver.jobs.disconnect(0.0, "c")
    driver.jobs.attach("ann", "j1", 0, Waiter("d", 1))
    _, effects = driver.jobs.leave(0.0, Waiter("d", 1))
    assert reasons(effects) == ["cancelled"]
    assert Stop("j1", 1) in effects


def test_attach_makes_the_job_kept(driver):
    """Also a job that was to end with its connection."""
    driver.submit("a", keep=False)
    driver.write(driver.jobs.attach("ann", "j1", 0, Waiter("d", 1)))
    assert driver.written["j1"].kept
    driver.jobs.disconnect(0.0, "c")
    assert driver.jobs.disconnect(0.0, "d") == []
    assert driver.jobs.slots.running == 1


def test_note_on_a_running_attempt_reaches_all_who_wait(driver):
    """Also those who attach later; notes on other attempts and jobs are dropped."""
    waiter, _ = driver.submit("a")
    event = Logged("j1", 1, "info", "The job runs on x.")
    assert driver.jobs.note("j1", 1, event.message) == [Notify(waiter, event)]
    assert Notify(Waiter("d", 1), event) in driver.jobs.attach("ann", "j1", 0, Waiter("d", 1))
    assert driver.jobs.note("j1", 2, "late") == driver.jobs.note("nowhere", 1, "late") == []


def test_restart_begins_unfinished_jobs_again_in_order(driver):
    """With event numbers that no client has seen."""
    driver.submit("a")
    driver.submit("b")
    driver.jobs.progress(1.0, "j1", 1, FIGURES)
    assert driver.restart() == [Start("j1", 1, "a")]
    waiter = Waiter("d", 1)
    [reported] = driver.jobs.attach("ann", "j1", 1, waiter)
    assert reported.event == Logged(
        "j1", SEQ_BLOCK + 1, "info", "The server was restarted; the job starts again."
    )
    assert driver.end("j1", value=3) == [Notify(waiter, Ended("j1", SEQ_BLOCK + 2, 3)), Start("j2", 1, "b")]


def test_restart_keeps_results_and_errors_of_ended_jobs(driver):
    """Done work is served from cache, and failed jobs keep their error."""
    driver.submit("a")
    driver.end("j1", value=1)
    driver.now = 1.0
    driver.submit("b")
    driver.end("j2", error=ProcessingError("unreadable_file", "It is not a table."))
    driver.restart()
    waiter, effects = driver.submit("a")
    assert effects == [Notify(waiter, Accepted("j1", 0)), Notify(waiter, Ended("j1", 1, 1, cached=True))]
    assert reasons(driver.jobs.attach("ann", "j2", 0, waiter)) == ["unreadable_file"]
    assert [job.id for job in driver.jobs.of_caller("ann")] == ["j2", "j1"]
    assert driver.jobs.of_caller("bob") == []


def test_restart_cancels_jobs_that_are_not_kept(driver):
    """Their connections are gone."""
    driver.submit("a", keep=False)
    assert driver.restart() == []
    assert driver.written["j1"].state == "cancelled"


def test_restart_too_often_with_one_job_fails_it(driver):
    """The job may be what crashes the servers."""
    driver.submit("a")
    for _ in range(MAX_RESTARTS):
        assert driver.restart() == [Start("j1", 1, "a")]
    assert driver.restart() == []
    assert driver.written["j1"].error.reason == "worker_died"


def test_restore_with_an_error_fails_the_job(driver):
    """E.g. its file is gone."""
    driver.submit("a")
    jobs = make()
    effects = jobs.restore(0.0, driver.written["j1"], error=ProcessingError("file_not_found", "It is gone."))
    assert driver.write(effects) == []
    assert reasons(jobs.attach("ann", "j1", 0, Waiter("d", 1))) == ["file_not_found"]


def test_jobs_left_by_a_drain_run_on_the_next_server(driver):
    """The waiters are asked to try again; kept jobs neither end nor get lost."""
    driver.submit("a")
    driver.submit("b")
    driver.submit("c", keep=False)
    effects = driver.write([*driver.jobs.drain(0.0), *driver.jobs.stop_all(0.0)])
    reported = [effect.event for effect in effects if isinstance(effect, Notify)]
    assert [(event.job, event.seq) for event in reported] == [("j2", None), ("j3", 1), ("j1", None)]
    assert reasons(effects) == ["shutting_down"] * 3
    assert reasons(driver.jobs.attach("ann", "j1", 0, Waiter("d", 1))) == ["shutting_down"]
    driver.end("j1")
    assert [job.id for job in driver.jobs.unfinished()] == []
    assert driver.restart(slots=2) == [Start("j1", 1, "a"), Start("j2", 1, "b")]
    assert driver.written["j3"].state == "failed"


def test_job_left_by_a_drain_can_still_be_cancelled_or_finish(driver):
    """A worker may finish before it is stopped."""
    driver.submit("a")
    driver.submit("b")
    driver.write([*driver.jobs.drain(0.0), *driver.jobs.stop_all(0.0)])
    assert driver.write(driver.jobs.cancel(0.0, "ann", "j2")) == []
    driver.end("j1", value=4)
    assert {job: found.state for job, found in driver.written.items()} == {"j1": "done", "j2": "cancelled"}


def test_fail_ends_a_job_with_the_given_error(driver):
    """E.g. it cannot be recorded; an unknown job has no effect."""
    driver.submit("a")
    effects = driver.write(driver.jobs.fail(0.0, "j1", ProcessingError("storage_full", "No room.")))
    assert reasons(effects) == ["storage_full"]
    assert driver.jobs.fail(0.0, "j9", ProcessingError("storage_full", "No room.")) == []


def test_ended_before_lists_jobs_that_ended_earlier(driver):
    """Used to forget old jobs."""
    driver.submit("a")
    driver.now = 5.0
    driver.end("j1", value=1)
    assert driver.jobs.ended_before(5.0) == []
    assert [job.id for job in driver.jobs.ended_before(6.0)] == ["j1"]
