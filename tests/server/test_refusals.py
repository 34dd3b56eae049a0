"""Refusals in the log: seen, with their reason, but not a line each."""

import structlog

from creemson.metrics import Metrics
from creemson.server.refusals import BURST, MAX_TEXT, RATE, Refusals


class World:
    def __init__(self):
        self.now = 0.0
        self.metrics = Metrics()
        self.logs = structlog.testing.CapturingLogger()
        logger = structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[])
        self.refusals = Refusals(self.metrics, logger, clock=lambda: self.now)

    @property
    def lines(self):
        return [call.kwargs for call in self.logs.calls]


def test_flood_of_one_peer_is_one_line_and_a_count():
    """From any of its ports, with texts of any length."""
    world = World()
    for port in range(10_000):
        world.refusals.note(401, f"10.0.0.1:{port}", path="/" + "x" * 5000, why=None)
    [line] = world.lines
    assert len(line["path"]) == MAX_TEXT
    assert line["peer"] == "10.0.0.1:0"
    assert world.metrics.refusals["401"] == 10_000
    world.now = 10.0
    world.refusals.note(401, "10.0.0.1:1", path="/", why=None)
    assert world.lines[-1]["not_logged"] == 9_999


def test_other_status_and_other_address_have_lines_of_their_own():
    """A flood does not hide them."""
    world = World()
    for status, peer in [(401, "10.0.0.1:1"), (403, "10.0.0.1:1"), (401, "10.0.0.2:1"), (401, "::1:1")]:
        world.refusals.note(status, peer, why="")
    assert len(world.lines) == 4


def test_flood_from_many_addresses_is_bounded():
    """An attacker with a network of addresses gets some lines a second in all."""
    world = World()
    for number in range(5_000):
        world.now = number / 100
        world.refusals.note(401, f"10.0.{number // 250}.{number % 250}:1", why="")
    assert len(world.lines) <= BURST + 50 * RATE
    assert world.metrics.refusals["401"] == 5_000
