"""The watch over memory: when nothing new may begin, and when work is stopped."""

import os

import pytest
import structlog

from creemson.processing import memory as module
from creemson.processing.memory import Memory, machine_memory

MIB = 2**20


class Watched(Memory):
    """Memory whose use a test decides."""

    def __init__(self, monkeypatch, limit=100 * MIB):
        self.use = {os.getpid(): 10 * MIB, 5: 20 * MIB, 6: 30 * MIB}
        self.available = 10**12
        self.stopped = 0
        self.logs = structlog.testing.CapturingLogger()
        monkeypatch.setattr(module, "_resident", lambda pid: self.use.get(pid, 0))
        monkeypatch.setattr(
            module.psutil, "virtual_memory",
            lambda: type("Found", (), {"total": 10**10, "available": self.available}),
        )  # fmt: skip
        logger = structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[])
        super().__init__(limit, workers=lambda: [5, 6, 7], shed=self.stop_one, logger=logger)

    def stop_one(self):
        self.stopped += 1
        return True

    def logged(self):
        return [call.kwargs["event"] for call in self.logs.calls]


def test_what_is_used_is_added_up(monkeypatch):
    """The server and its workers; one that has gone counts nothing."""
    memory = Watched(monkeypatch)
    memory.look()
    assert (memory.server, memory.workers, memory.used) == (10 * MIB, 50 * MIB, 60 * MIB)
    assert not memory.scarce
    assert memory.logged() == []


def test_over_the_limit_nothing_begins(monkeypatch):
    """It is told once, and again when there is room; nothing is stopped for a little too much."""
    memory = Watched(monkeypatch)
    memory.use[6] = 75 * MIB
    memory.look()
    memory.look()
    assert memory.scarce
    refusal = memory.refusal()
    assert (refusal.reason, refusal.retryable) == ("busy", True)
    assert "105 MiB of the 100 MiB" in refusal.message
    memory.use[6] = 30 * MIB
    memory.look()
    assert memory.logged() == ["memory is scarce", "memory suffices again"]
    assert memory.stopped == 0


def test_far_over_the_limit_work_is_stopped(monkeypatch):
    """Once for each look, so that it can be seen what that has brought."""
    memory = Watched(monkeypatch)
    memory.use[6] = 90 * MIB
    memory.look()
    assert memory.stopped == 1
    memory.look()
    assert memory.stopped == 2


def test_a_machine_that_runs_out_is_no_better(monkeypatch):
    """Whoever uses it: the kernel would kill somebody soon."""
    memory = Watched(monkeypatch)
    memory.available = 10**8
    memory.look()
    assert memory.scarce
    assert memory.stopped == 1


def test_without_a_file_handle_nothing_can_be_seen(monkeypatch):
    """What was seen last counts, and the watch goes on."""
    memory = Watched(monkeypatch)
    memory.look()

    def fail(pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "_resident", fail)
    memory.look()
    assert memory.used == 60 * MIB


def test_without_a_limit_it_is_a_share_of_the_machine(monkeypatch):
    """Four fifths."""
    assert Watched(monkeypatch, limit=0).limit == pytest.approx(0.8 * 10**10)


def test_a_container_has_less_than_its_machine(tmp_path, monkeypatch):
    """As its control group says; "max" is no limit."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(module, "CGROUP_LIMITS", (tmp_path / "nowhere", limit))
    limit.write_text("1000000\n")
    assert machine_memory() == 1_000_000
    limit.write_text("max\n")
    assert machine_memory() > 1_000_000
