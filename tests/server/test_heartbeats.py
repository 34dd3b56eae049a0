"""One timer for all: each is called when it wants to be."""

import math

import pytest
import trio

from creemson.server.heartbeats import Heartbeats


@pytest.fixture
async def heartbeats(nursery):
    beats = Heartbeats()
    nursery.start_soon(beats.run)
    return beats


async def test_each_is_called_when_it_is_due(heartbeats, autojump_clock):
    """Whatever the order in which they came, and again when they say so."""
    called = []

    def beat(name, pause):
        def call(now):
            called.append((name, now))
            return now + pause

        return call

    await trio.testing.wait_all_tasks_blocked()
    heartbeats.add(5.0, beat("a", 10.0))
    heartbeats.add(3.0, beat("b", math.inf))
    await trio.sleep(4.0)
    heartbeats.add(trio.current_time() + 0.5, beat("c", 100.0))
    await trio.sleep(21.5)
    assert called == [("b", 3.0), ("c", 4.5), ("a", 5.0), ("a", 15.0), ("a", 25.0)]


async def test_who_is_removed_is_not_called(heartbeats, autojump_clock):
    """Nor kept: only its number waits until it would have been due."""
    numbers = [heartbeats.add(1.0 + n, pytest.fail) for n in range(3)]
    for number in numbers:
        heartbeats.remove(number)
    await trio.sleep(10)
    assert not heartbeats._beats
    assert not heartbeats._due
