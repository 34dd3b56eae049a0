"""Child processes in trio, and their start."""

import os
import subprocess
import sys

import psutil
import pytest
import trio

from creemson.executors import spawn as module
from creemson.executors.child import ChildProcess
from creemson.executors.spawn import Spawned, spawn
from tests.servers import PATIENCE


def started(*command):
    """A process with the pipes that `spawn` makes."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    pipes = [os.dup(stream.fileno()) for stream in (process.stdin, process.stdout, process.stderr)]
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    return Spawned(process, *pipes, lifeline=-1)


def no_handle(pid):
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("handles", [True, False])
async def test_end_of_child_is_seen_by_all_who_wait(monkeypatch, handles):
    """Also where the kernel has no handles for processes."""
    if not handles:
        monkeypatch.setattr(os, "pidfd_open", no_handle)
    child = ChildProcess(started("cat"))
    found = []

    async def wait():
        found.append(await child.wait())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            with trio.move_on_after(0.05) as impatient:
                await child.wait()
            assert impatient.cancelled_caught
            assert child.returncode is None
            await child.stdin.send_all(b"a")
            assert await child.stdout.receive_some() == b"a"
            child.kill()
        assert found == [-9, -9]
        child.kill()
        await child.aclose()
        assert await child.wait() == -9


def test_process_that_cannot_be_started_leaves_no_pipe(monkeypatch):
    """All eight ends are closed."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="nowhere"):
        spawn(memory_bytes=0, nice=0)
    assert psutil.Process().num_fds() == before


def test_module_that_starts_workers_imports_little():
    """A worker is started before the modules are imported that take long."""
    code = f"import sys, {module.__name__}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(ran.stdout.split()) & {"trio", "orjson", "ssl", "psutil", "structlog", "rich", "cattrs"}
