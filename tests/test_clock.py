"""The clock by which files are old: whatever the one on the wall does, nothing is old too soon."""

import pytest

from creemson.storage.clock import AgeClock

DAY = 86_400.0


class World:
    """Two clocks that are turned by hand, and the one under test."""

    def __init__(self):
        self.wall, self.steady, self.jumps = 1_000_000.0, 50.0, []
        self.clock = AgeClock(lambda: self.wall, steady=lambda: self.steady, on_jump=self.jumps.append)

    def wait(self, seconds, *, drift=0.0):
        """Time goes by, with a look every minute."""
        while seconds > 0:
            step = min(60.0, seconds)
            self.steady += step
            self.wall += step * (1 + drift)
            seconds -= step
            self.clock()


@pytest.fixture
def world():
    return World()


def test_without_a_jump_it_is_the_one_on_the_wall(world):
    """Also where a time server turns that one slowly, however far."""
    world.wait(DAY, drift=0.01)
    assert world.clock() == pytest.approx(world.wall)
    world.wait(DAY, drift=-0.01)
    assert world.clock() == pytest.approx(world.wall)
    assert world.jumps == []


def test_a_jump_forward_makes_nothing_old(world):
    """It goes on as if there had been none, and tells of it once."""
    before = world.clock()
    world.wall += 8 * DAY
    assert world.clock() == before
    world.wait(600)
    assert world.clock() == before + 600
    assert world.jumps == [8 * DAY]


def test_a_jump_back_makes_nothing_old_that_comes_after_it(world):
    """A file of the new time would otherwise be a day old when it is made."""
    world.wall -= DAY
    assert world.clock() == world.wall
    world.wait(600)
    assert world.clock() == world.wall
    assert world.jumps == [-DAY]


@pytest.mark.parametrize("first", [DAY, -DAY])
def test_there_and_back_again(world, first):
    """Both are told, and then all is as before."""
    world.wall += first
    world.wait(600)
    world.wall -= first
    world.wait(600)
    assert world.clock() == world.wall
    assert world.jumps == pytest.approx([first, -first])


def test_a_jump_that_lasts_is_believed(world):
    """The clock was wrong before: without this, nothing would ever be removed."""
    world.wall += 10_000 * DAY
    world.wait(DAY - 120)
    assert world.clock() < world.wall
    world.wait(240)
    assert world.clock() == world.wall
    assert world.jumps == [10_000 * DAY]
