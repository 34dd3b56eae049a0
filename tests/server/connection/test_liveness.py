"""The heartbeat's decisions, without a connection."""

import math

import pytest

from creemson.server.connection.liveness import MIN_RATE, Action, Liveness, Probe


def probed(*, at=20.0, listening_since=0.0, received=0):
    """A heartbeat whose probe was sent at a time."""
    liveness = Liveness(20.0, 10.0, listening_since=listening_since)
    action, _ = liveness.check(at, last_activity=0.0, received=received)
    assert action is Action.PROBE
    liveness.probe_sent(at)
    return liveness


def test_recent_activity_postpones_the_probe():
    """The next check is one interval after the activity."""
    assert Liveness(20.0, 10.0).check(19.0, last_activity=5.0, received=0) == (Action.WAIT, 25.0)


def test_silence_for_the_interval_asks_for_a_probe():
    """The probe is requested once."""
    liveness = Liveness(20.0, 10.0)
    assert liveness.check(20.0, last_activity=0.0, received=0) == (Action.PROBE, 30.0)
    assert liveness.check(30.0, last_activity=0.0, received=0) == (Action.WAIT, 31.0)


def test_timeout_starts_when_the_probe_is_sent():
    """A ping may wait behind other messages."""
    liveness = Liveness(20.0, 10.0, listening_since=0.0)
    liveness.check(20.0, last_activity=0.0, received=0)
    assert liveness.check(500.0, last_activity=0.0, received=0)[0] is Action.WAIT
    liveness.probe_sent(500.0)
    assert liveness.check(505.0, last_activity=0.0, received=0) == (Action.WAIT, 510.0)
    assert liveness.check(510.0, last_activity=0.0, received=0) == (Action.DEAD, math.inf)


def test_activity_after_the_probe_is_an_answer():
    """The next probe is due one interval after it."""
    assert probed().check(30.0, last_activity=21.0, received=0) == (Action.ALIVE, 41.0)


@pytest.mark.parametrize(
    ("received", "action"), [(10 * MIN_RATE, Action.ALIVE), (10 * MIN_RATE - 1, Action.DEAD)]
)
def test_bytes_are_an_answer_from_the_minimum_rate_on(received, action):
    """A large message may arrive over a slow network; a trickle is no sign of life."""
    liveness = probed(received=5)
    assert liveness.check(30.0, last_activity=0.0, received=5 + received)[0] is action


@pytest.mark.parametrize("listening_since", [None, 25.0])
def test_silence_means_nothing_while_the_reader_is_busy(listening_since):
    """The disk or the processor may block the reader, at the end of the timeout or at its start."""
    liveness = probed()
    liveness.listening_since = listening_since
    assert liveness.check(30.0, last_activity=0.0, received=0) == (Action.ALIVE, 30.0)


def test_answered_probe_is_followed_by_another_one():
    """The heartbeat starts over."""
    liveness = probed()
    liveness.check(30.0, last_activity=25.0, received=0)
    assert liveness.check(45.0, last_activity=25.0, received=0)[0] is Action.PROBE


def test_probe_is_answered_by_a_message_or_by_bytes():
    """Either of them is enough."""
    probe = Probe(asked=10.0, had=100)
    assert not probe.is_answered(11.0, last_activity=9.0, received=100)
    assert probe.is_answered(11.0, last_activity=10.0, received=100)
    assert probe.is_answered(11.0, last_activity=9.0, received=100 + MIN_RATE)
