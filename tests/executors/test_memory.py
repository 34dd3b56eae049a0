"""The memory monitor: when new work is refused and when running work is stopped."""

import os

import structlog

from creemson.executors import machine
from creemson.executors import memory as module
from creemson.executors.machine import machine_memory
from creemson.executors.memory import Memory

MIB = 2**20


class Watched(Memory):
    """A memory monitor whose measurements are set by the test."""

    def __init__(self, monkeypatch, limit=100 * MIB):
        self.use = {os.getpid(): 10 * MIB, 5: 20 * MIB, 6: 30 * MIB}
        self.available = 10**12
        self.stopped = 0
        self.logs = structlog.testing.CapturingLogger()
        monkeypatch.setattr(module, "_resident", lambda pid: self.use.get(pid, 0))
        monkeypatch.setattr(module, "machine_memory", lambda: 10**10)
        monkeypatch.setattr(
            module.psutil, "virtual_memory", lambda: type("Found", (), {"available": self.available})
        )
        logger = structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[])
        super().__init__(limit, workers=lambda: [5, 6, 7], shed=self.stop_one, logger=logger)

    def stop_one(self):
        self.stopped += 1
        return True

    def logged(self):
        return [call.kwargs["event"] for call in self.logs.calls]


def test_memory_use_is_sum_of_server_and_workers(monkeypatch):
    """Adds up the server and its workers; a worker that has ended counts as 0."""
    memory = Watched(monkeypatch)
    memory.check()
    assert (memory.server, memory.workers, memory.used) == (10 * MIB, 50 * MIB, 60 * MIB)
    assert not memory.scarce
    assert memory.logged() == []


def test_memory_over_limit_refuses_new_work(monkeypatch):
    """Scarcity is logged once, and once more when it ends; a small excess stops nothing."""
    memory = Watched(monkeypatch)
    memory.use[6] = 75 * MIB
    memory.check()
    memory.check()
    assert memory.scarce
    refusal = memory.refusal()
    assert (refusal.reason, refusal.retryable) == ("busy", True)
    assert "105 MiB of its 100 MiB" in refusal.message
    memory.use[6] = 30 * MIB
    memory.check()
    assert memory.logged() == ["memory is scarce", "memory is no longer scarce"]
    assert memory.stopped == 0


def test_memory_far_over_limit_stops_one_job_per_check(monkeypatch):
    """Stops one job per check, so that the next check sees the effect."""
    memory = Watched(monkeypatch)
    memory.use[6] = 90 * MIB
    memory.check()
    assert memory.stopped == 1
    memory.check()
    assert memory.stopped == 2


def test_machine_low_on_memory_counts_as_scarce(monkeypatch):
    """Whoever uses the memory: the kernel would soon kill a process."""
    memory = Watched(monkeypatch)
    memory.available = 10**8
    memory.check()
    assert memory.scarce
    assert memory.stopped == 1


def test_memory_when_reading_fails_keeps_last_value(monkeypatch):
    """Without a free file descriptor, the last measurement stays valid and monitoring continues."""
    memory = Watched(monkeypatch)
    memory.check()

    def fail(pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "_resident", fail)
    memory.check()
    assert memory.used == 60 * MIB


def test_machine_memory_in_container_is_cgroup_limit(tmp_path, monkeypatch):
    """The control group's limit counts; "max" means no limit."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (tmp_path / "nowhere", limit))
    limit.write_text("1000000\n")
    assert machine_memory() == 1_000_000
    limit.write_text("max\n")
    assert machine_memory() > 1_000_000
