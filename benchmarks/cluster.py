"""Jobs on a Dask cluster with files in an object store, all on this machine, beside jobs and files of the server."""

import contextlib
import itertools
import json
import random
import signal
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from websockets.sync.client import ClientConnection, connect

from benchmarks.big_job import COLUMNS, SECONDS, generate, place, request, uploaded
from benchmarks.elsewhere import elsewhere
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, DASK_S3, Serving, cpu_of, serving
from benchmarks.turns import in_turns

__all__ = ["CHILD", "FROZEN", "HOP", "JOB", "KILLED", "LOSS", "SMALL", "hop", "job", "losses"]

JOB, SMALL, LOSS = "big job, elsewhere", "a small job, elsewhere", "a lost worker"
CHILD, CHILD_AGAIN = "CPU of the child", "CPU of the child, the file is known"
AGAIN, ALL = "request to result, the file is known", "CPU with the server and Dask"
HOP = "more than here, p50"
KILLED, FROZEN = "killed to read again, p50", "frozen to read again, longest"
NO_TABLES = "storage.tables=never"
MAX_FROZEN = 60.0
"""Maximum seconds until a frozen worker is noticed."""


def job(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Run the big job on a file that no worker knows, then on the same file for other columns."""
    data = generate(folder, 0.2 if quick else 1.0)
    with (
        elsewhere(folder / "parts", workers=1) as parts,
        serving(CREEMSON, folder / "here", NO_TABLES) as here,
        parts.serving_stored(folder / "there", NO_TABLES) as there,
    ):
        work: dict[str, Callable[[], Mapping[str, float]]] = {
            CREEMSON: lambda: _job(here, place(here, data)),
            DASK_S3: lambda: _job(there, uploaded(there, data)),
        }
        units = {SECONDS: "s", CHILD: "s", ALL: "s", AGAIN: "s", CHILD_AGAIN: "s"}
        return in_turns(work, runs=runs, workload=JOB, units=units)


def _job(system: Serving, given: AbstractContextManager[str]) -> Mapping[str, float]:
    with given as name:
        everything, children = system.cpu(), _children(system)
        first = request(system, name, COLUMNS)
        between, known = system.cpu(), _children(system)
        again = request(system, name, COLUMNS[::-1])
        return {
            SECONDS: first,
            CHILD: _most(children, known),
            ALL: between - everything,
            AGAIN: again,
            CHILD_AGAIN: _most(known, _children(system)),
        }


def _children(system: Serving) -> dict[int, float]:
    """The CPU seconds of each worker process, by process id."""
    return {worker.pid: cpu_of(worker) for worker in system.workers()}


def _most(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """The CPU seconds of the process that has used the most: the one that did the work."""
    return max(used - before.get(pid, used) for pid, used in after.items())


def hop(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Run different small jobs on the same file, one at a time."""
    count = 30 if quick else 200
    rows = "".join(f"{n},item {n % 97},{n * 7919 % 1000 / 8}\n" for n in range(1000))
    limits = itertools.count(1)
    with (
        elsewhere(folder / "parts", workers=1) as parts,
        serving(CREEMSON, folder / "here") as here,
        parts.serving(folder / "there") as there,
        parts.serving_stored(folder / "stored") as stored,
    ):
        systems = (here, there, stored)
        data = folder / "small.csv"
        data.write_text(f"id,name,price\n{rows}")
        with contextlib.ExitStack() as stack:
            names = {
                system.name: stack.enter_context((uploaded if system is stored else place)(system, data))
                for system in systems
            }
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                system.name: partial(_small, system, names[system.name], count, limits) for system in systems
            }
            units = {"until the answer, p50": "ms", "until the answer, p95": "ms"}
            results = in_turns(work, runs=runs, workload=SMALL, units=units)
    ours, *others = results[: len(systems)]
    for other in others:
        more = [far - near for far, near in zip(other.values, ours.values, strict=True)]
        results.append(Series(workload=SMALL, system=other.system, metric=HOP, unit="ms", values=more))
    return results


def _small(system: Serving, name: str, count: int, limits: Iterator[int]) -> Mapping[str, float]:
    seconds = []
    with connect(system.url, compression=None, max_size=None) as socket:
        for _ in range(count):
            started = time.perf_counter()
            message = {"type": "process", "id": "j", "filename": name, "where": [["id", "<", next(limits)]]}
            socket.send(json.dumps(message))
            _until(socket, "result")
            seconds.append(time.perf_counter() - started)
    cuts = statistics.quantiles(seconds, n=100)
    return {"until the answer, p50": cuts[49] * 1000, "until the answer, p95": cuts[94] * 1000}


def losses(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """Kill and freeze what does the work of a job, and measure the time until another attempt reads.

    The time of the attempt is lost, too; it is not counted. Our worker process and Dask's above it are killed in turns.
    """
    rng = random.Random(seed)
    data = generate(folder, 0.05 if quick else 0.2)
    killed: list[float] = []
    frozen: list[float] = []
    with (
        elsewhere(folder / "parts", workers=2) as parts,
        parts.serving_stored(folder / "there", NO_TABLES) as there,
        uploaded(there, data) as name,
    ):
        request(there, name, COLUMNS)  # the machine has the file
        for run in range(4 * runs):
            _wait_for_workers(there)
            killed.append(_lose(there, name, run, rng, partial(_kill, dask=bool(run % 2))))
        for run in range(min(runs, 3)):
            _wait_for_workers(there)
            frozen.append(_lose(there, name, 4 * runs + run, rng, _freeze))
    return [
        Series(workload=LOSS, system=DASK_S3, metric=KILLED, unit="ms", values=[s * 1000 for s in killed]),
        Series(workload=LOSS, system=DASK_S3, metric=FROZEN, unit="s", values=[max(frozen)]),
    ]


def _lose(
    system: Serving,
    name: str,
    run: int,
    rng: random.Random,
    lose: Callable[[psutil.Process], AbstractContextManager[None]],
) -> float:
    """Lose what does the work of a job, and return the seconds until another attempt reads."""
    message = {
        "type": "process",
        "id": "j",
        "filename": name,
        "limit": 10**9 + run,
        "sort": [[15, "desc"], [run % 14]],
    }
    with connect(system.url, compression=None, max_size=None) as socket:
        before = _children(system)
        socket.send(json.dumps(message))
        _until(socket, "progress")
        time.sleep(rng.uniform(0.1, 0.5))
        used = {pid: after - before.get(pid, after) for pid, after in _children(system).items()}
        started = time.perf_counter()
        with lose(psutil.Process(max(used, key=lambda pid: used[pid]))):
            _until(socket, "log", timeout=MAX_FROZEN)
            while _until(socket, "progress")["phase"] == "queued":
                pass
            seconds = time.perf_counter() - started
        _until(socket, "result")
    return seconds


@contextmanager
def _kill(child: psutil.Process, *, dask: bool) -> Iterator[None]:
    (psutil.Process(child.ppid()) if dask else child).kill()
    yield


@contextmanager
def _freeze(child: psutil.Process) -> Iterator[None]:
    processes = (child, psutil.Process(child.ppid()))
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


def _until(socket: ClientConnection, kind: str, timeout: float = 900) -> dict[str, Any]:
    """Return the first message of a kind."""
    while True:
        message: dict[str, Any] = json.loads(socket.recv(timeout=timeout))
        if message["type"] == kind:
            return message
        if message["type"] in ("error", "result"):
            raise RuntimeError(f"expected {kind}: {message}")


def _wait_for_workers(system: Serving, count: int = 2) -> None:
    """Wait until all workers are back."""
    url = f"http://127.0.0.1:{system.port}/status"
    deadline = time.monotonic() + MAX_FROZEN
    while time.monotonic() < deadline:
        with urllib.request.urlopen(url) as response:
            found = json.load(response)["cluster"]["workers"]
        if (
            found == count
            and sum(worker.ppid() != system.process.pid for worker in system.workers()) == count
        ):
            return
        time.sleep(0.1)
    raise RuntimeError(f"there are not {count} workers")
