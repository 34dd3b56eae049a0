"""Following the jobs of other servers."""

import pytest

from creemson.jobs.events import Logged, Progressed, Waiter
from creemson.jobs.servers.following.following import ASK_AGAIN, Following

A, B, C = Waiter("c1", 1), Waiter("c1", 2), Waiter("c2", 1)


def progressed(seq):
    return Progressed("j", seq, {"fraction": seq / 100})


def logged(seq):
    return Logged("j", seq, "info", f"message {seq}")


@pytest.fixture
def following():
    following = Following()
    following.add("j", "ann", A, 0)
    return following


def test_events_are_told_once_and_in_order(following):
    """Hints may be repeated, or late."""
    assert following.heard(progressed(2)) == [A]
    assert following.heard(progressed(2)) == []
    assert following.heard(progressed(1)) == []
    assert following.heard(Progressed("other", 3, {})) == []


def test_who_comes_later_is_told_what_was_heard(following):
    """All log messages, and the last progress; nothing that it has seen."""
    for event in (logged(1), progressed(2), logged(3), progressed(4)):
        following.heard(event)
    assert following.add("j", "ann", C, 1) == [logged(3), progressed(4)]


def test_waiter_that_joins_is_told_what_comes_from_then_on(following):
    """Also the first one of a server."""
    following.heard(progressed(4))
    assert following.add("j", "ann", C, None) == []
    assert following.heard(progressed(5)) == [A, C]
    assert following.add("other", "ann", C, None) == []
    assert following.heard(Progressed("other", 1, {})) == [C]


def test_waiter_that_has_seen_events_is_told_later_ones_only(following):
    """It was connected elsewhere before."""
    following.add("j", "ann", B, 5)
    assert following.heard(progressed(5)) == [A]
    assert following.heard(progressed(6)) == [A, B]


def test_owner_is_asked_at_once_and_at_times(following):
    """If the job has another one; and again after some seconds, because a hint may be lost."""
    assert following.owned_by(0.0, "j", "x").job == "j"
    assert following.owned_by(ASK_AGAIN - 0.1, "j", "x") is None
    assert following.owned_by(ASK_AGAIN, "j", "x").job == "j"
    assert following.owned_by(ASK_AGAIN, "j", "y").owner == "y"
    assert following.owned_by(ASK_AGAIN, "j", None) is None
    assert following.owned_by(ASK_AGAIN, "j", "y").owner == "y"
    assert following.owned_by(0.0, "unknown", "x") is None


def test_owner_is_asked_for_the_most_that_requests_want(following):
    """The longest timeout; whether any of them lets the job go on, and whether any has waited elsewhere."""
    following.add("k", "ann", Waiter("c1", 8, keep=False), 0, timeout=5.0)
    followed = following.owned_by(0.0, "k", "x")
    assert (followed.timeout, followed.keep, followed.is_back) == (5.0, False, False)
    following.add("k", "ann", Waiter("c1", 9, keep=True), 0, timeout=3.0, is_back=True)
    assert (followed.timeout, followed.keep, followed.is_back) == (5.0, True, True)


def test_job_without_waiters_is_not_followed(following):
    """Whether they leave one by one, or with their connection."""
    following.add("j", "ann", B, 0)
    following.add("j", "ann", C, 0)
    followed, last = following.leave(C)
    assert (followed.job, last) == ("j", False)
    assert [one.job for one in following.disconnect("c1")] == ["j"]
    assert following.job_of(A) is None
    assert (len(following), list(following)) == (0, [])


def test_job_that_is_taken_takes_its_waiters_along(following):
    """They wait for a job of this server from then on."""
    following.add("j", "ann", C, 7)
    assert following.take("j").waiters == {A: 0, C: 7}
    assert following.take("j") is None
    assert following.disconnect("c1") == []
