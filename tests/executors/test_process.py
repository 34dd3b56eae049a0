"""Worker processes and the end of their server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.servers import PATIENCE, wait_until

SERVER = """
import sys, trio
from creemson.executors.process import WorkerProcess

async def main():
    worker = await WorkerProcess.start(memory_bytes=0, nice=0)
    await worker.wait_ready()
    print(worker.process.pid, flush=True)
    await trio.sleep_forever()

trio.run(main)
"""
"""Stands for a server."""
HOLDER = """
import re, sys, threading, time
from pathlib import Path

def hold():
    begin, began = Path({folder!r}, "begin"), Path({folder!r}, "began")
    while not begin.exists():
        time.sleep(0.01)
    began.touch()
    re.match("(a+)+$", "a" * 60 + "b")

if "creemson.engine.worker" in sys.orig_argv:
    threading.Thread(target=hold, daemon=True).start()
"""
"""A module that Python imports at each start: in a worker, it holds the GIL for years, once a file exists."""


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_worker_that_holds_the_gil_ends_with_its_killed_server(tmp_path):
    """The kernel ends it, as no thread of it can."""
    (tmp_path / "sitecustomize.py").write_text(HOLDER.format(folder=str(tmp_path)))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH"), str(Path.cwd())]))
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    with server:
        worker = int(server.stdout.readline())
        try:
            (tmp_path / "begin").touch()
            wait_until((tmp_path / "began").exists)
            time.sleep(0.1)  # until the regular expression has begun
            server.kill()
            server.wait()
            wait_until(lambda: gone(worker))
        finally:
            if not gone(worker):
                os.kill(worker, signal.SIGKILL)


def test_worker_whose_server_has_ended_before_it_started_ends():
    """Then no signal comes any more."""
    theirs, lifeline = os.pipe()
    command = [sys.executable, "-m", "creemson.engine.worker", f"--lifeline={theirs}"]
    os.close(lifeline)
    # Its input stays open.
    with subprocess.Popen(
        command, pass_fds=[theirs], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        os.close(theirs)
        assert worker.wait(PATIENCE) == 0
        assert worker.stdout.read() == b""
