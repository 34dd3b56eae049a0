"""One timer for all heartbeats: each callback runs when it is due."""

import math

import pytest
import trio

from creemson.server.heartbeats import Heartbeats


@pytest.fixture
async def heartbeats(nursery):
    beats = Heartbeats()
    nursery.start_soon(beats.run)
    return beats


async def test_callback_runs_when_due_and_again_when_it_says(heartbeats, autojump_clock):
    """In any order of registration; the return value is the next time."""
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


async def test_removed_callback_is_neither_called_nor_kept(heartbeats, autojump_clock):
    """Only its number is kept until it would have been due."""
    numbers = [heartbeats.add(1.0 + n, pytest.fail) for n in range(3)]
    for number in numbers:
        heartbeats.remove(number)
    await trio.sleep(10)
    assert not heartbeats._beats
    assert not heartbeats._due
