"""Following the jobs of other servers."""

import pytest

from creemson.jobs.events import Logged, Progressed, Waiter
from creemson.jobs.servers.following import Following

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


def test_owner_is_asked_once(following):
    """And again only if the job has another one."""
    assert following.owned_by("j", "x")
    assert not following.owned_by("j", "x")
    assert not following.owned_by("j", None)
    assert following.owned_by("j", "x")
    assert not following.owned_by("unknown", "x")


def test_job_without_waiters_is_not_followed(following):
    """Whether they leave one by one, or with their connection."""
    following.add("j", "ann", B, 0)
    following.add("j", "ann", C, 0)
    followed, last = following.leave(C)
    assert (followed.job, last) == ("j", False)
    assert [one.job for one in following.disconnect("c1")] == ["j"]
    assert not following.has(A)
    assert (len(following), list(following)) == (0, [])


def test_job_that_is_taken_takes_its_waiters_along(following):
    """They wait for a job of this server from then on."""
    following.add("j", "ann", C, 7)
    assert following.take("j").waiters == {A: 0, C: 7}
    assert following.take("j") is None
    assert following.disconnect("c1") == []
