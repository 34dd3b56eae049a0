"""What a shutdown calls."""

import pytest

from creemson.server.transport.closing import Draining


def test_draining_calls_those_within_its_context_only():
    """Once each, however often it is set before or after."""
    draining, calls = Draining(), []
    with draining.calling(lambda: calls.append("left")):
        pass
    with draining.calling(lambda: calls.append("within")):
        assert not draining.is_set()
        draining.set()
    draining.set()
    assert (draining.is_set(), calls) == (True, ["within"])


def test_draining_that_is_set_calls_at_once():
    """Nothing would call later."""
    draining, calls = Draining(), []
    draining.set()
    with draining.calling(lambda: calls.append("now")):
        assert calls == ["now"]


def test_draining_during_a_call_that_leaves_calls_the_others():
    """A call may end its own context or another one."""
    draining, calls = Draining(), []
    inner = draining.calling(lambda: calls.append("inner"))
    with pytest.raises(KeyError), draining.calling(lambda: calls.append("outer")), inner:
        raise KeyError
    draining.set()
    assert calls == []
