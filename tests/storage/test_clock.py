"""The clock that measures file ages: jumps of the wall clock must not make files old too soon."""

import pytest

from creemson.storage.clock import AgeClock

DAY = 86_400.0


class Clocks:
    """Two clocks controlled by the test, and the clock under test."""

    def __init__(self):
        self.wall, self.steady, self.jumps = 1_000_000.0, 50.0, []
        self.clock = AgeClock(lambda: self.wall, steady=lambda: self.steady, on_jump=self.jumps.append)

    def wait(self, seconds, *, drift=0.0):
        """Advance the time and read the clock every minute."""
        while seconds > 0:
            step = min(60.0, seconds)
            self.steady += step
            self.wall += step * (1 + drift)
            seconds -= step
            self.clock()


@pytest.fixture
def clocks():
    return Clocks()


def test_clock_without_a_jump_follows_the_wall_clock(clocks):
    """Also if a time server slows it down or speeds it up gradually, however far."""
    clocks.wait(DAY, drift=0.01)
    assert clocks.clock() == pytest.approx(clocks.wall)
    clocks.wait(DAY, drift=-0.01)
    assert clocks.clock() == pytest.approx(clocks.wall)
    assert clocks.jumps == []


def test_clock_after_a_jump_forward_goes_on_as_before(clocks):
    """It ignores the jump and reports it once."""
    before = clocks.clock()
    clocks.wall += 8 * DAY
    assert clocks.clock() == before
    clocks.wait(600)
    assert clocks.clock() == before + 600
    assert clocks.jumps == [8 * DAY]


def test_clock_after_a_jump_back_follows_the_wall_clock(clocks):
    """Otherwise a new file would be a day old when it is created."""
    clocks.wall -= DAY
    assert clocks.clock() == clocks.wall
    clocks.wait(600)
    assert clocks.clock() == clocks.wall
    assert clocks.jumps == [-DAY]


@pytest.mark.parametrize("first", [DAY, -DAY])
def test_clock_after_a_jump_and_its_reversal_is_unchanged(clocks, first):
    """Both jumps are reported, then the clock is as before."""
    clocks.wall += first
    clocks.wait(600)
    clocks.wall -= first
    clocks.wait(600)
    assert clocks.clock() == clocks.wall
    assert clocks.jumps == pytest.approx([first, -first])


def test_clock_after_a_jump_of_a_day_adopts_the_wall_clock(clocks):
    """The clock was wrong before the jump: otherwise nothing would ever be removed."""
    clocks.wall += 10_000 * DAY
    clocks.wait(DAY - 120)
    assert clocks.clock() < clocks.wall
    clocks.wait(240)
    assert clocks.clock() == clocks.wall
    assert clocks.jumps == [10_000 * DAY]
