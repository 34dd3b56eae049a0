"""The latency of pings while a big job runs; and the time until a cancelled job stops using CPU."""

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Set
from pathlib import Path

from websockets.sync.client import connect

from benchmarks.big_job import generate, place, request, uploaded
from benchmarks.elsewhere import elsewhere
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_PANDAS, FASTAPI_POLARS, Serving, serving, systems

__all__ = ["CANCEL", "LATENCY", "cancel", "cancel_elsewhere", "latency"]

LATENCY, CANCEL = "pings while a big job runs", "cancel"
PAUSE = 0.005
"""Seconds between two pings."""
SAMPLE = 0.002
"""Seconds during which CPU use is measured."""
QUIET = 0.03
"""Seconds without CPU use after which a worker counts as idle."""
ALL_COLUMNS = tuple(range(16))
"""Indices of all columns of lineitem."""


def latency(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Send a ping every 5 ms on one connection while a job runs on another."""
    data = generate(folder, 0.2 if quick else 1.0)
    names = (CREEMSON, FASTAPI_POLARS) if quick else (CREEMSON, FASTAPI_POLARS, FASTAPI_PANDAS)
    values: dict[tuple[str, str], list[float]] = {}
    with systems(names, folder) as running:
        for run in range(runs + 1):
            for system in running:
                seconds = _latencies(system, data)
                if run:
                    for metric, share in (("round trip, p50", 50), ("round trip, p99", 99)):
                        cut = statistics.quantiles(seconds, n=100)[share - 1]
                        values.setdefault((metric, system.name), []).append(cut * 1000)
    return [
        Series(workload=LATENCY, system=name, metric=metric, unit="ms", values=each)
        for (metric, name), each in sorted(values.items(), key=lambda item: item[0][0])
    ]


def _latencies(system: Serving, data: Path) -> list[float]:
    seconds: list[float] = []
    with place(system, data) as name, connect(system.url, compression=None) as socket:
        job = threading.Thread(target=request, args=(system, name, ALL_COLUMNS))
        job.start()
        while job.is_alive():
            started = time.perf_counter()
            socket.send('{"type":"ping"}')
            socket.recv()
            seconds.append(time.perf_counter() - started)
            time.sleep(PAUSE)
        job.join()
    return seconds


def cancel(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure from the `cancel` message until no worker uses CPU; scans and sorts alternate."""
    data = generate(folder, 0.2 if quick else 1.0)
    with serving(CREEMSON, folder / "cancel") as system, place(system, data) as name:
        return cancels(system, name, runs * (2 if quick else 8))


def cancel_elsewhere(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure the same with the file in an object store, and the work on a Dask cluster."""
    data = generate(folder, 0.2 if quick else 0.5)
    with (
        elsewhere(folder / "parts", workers=1) as parts,
        parts.serving_stored(folder / "cancel", "storage.tables=never") as system,
        uploaded(system, data) as name,
    ):
        request(system, name, ALL_COLUMNS[:1])  # the worker has the file
        return cancels(system, name, runs * (2 if quick else 8))


def cancels(system: Serving, name: str, runs: int) -> list[Series]:
    """Cancel scans and sorts of a file."""
    seconds: dict[str, list[float]] = {"scan": [], "sort": []}
    for run in range(runs):
        for kind, each in seconds.items():
            taken = _cancel(system, name, kind, run)
            if taken is not None:
                each.append(taken)
    both = sorted(seconds["scan"] + seconds["sort"])
    worst = statistics.quantiles(both, n=100, method="inclusive")[98]
    results = [
        Series(
            workload=CANCEL,
            system=system.name,
            metric=f"a {kind} to idle CPU",
            unit="ms",
            values=[s * 1000 for s in each],
        )
        for kind, each in seconds.items()
    ]
    results.append(
        Series(
            workload=CANCEL, system=system.name, metric="to idle CPU, p99", unit="ms", values=[worst * 1000]
        )
    )
    return results


def _cancel(system: Serving, name: str, kind: str, run: int) -> float | None:
    """Cancel a job, and return the seconds until the workers are idle; None if the job ended before."""
    message: dict[str, object] = {"type": "process", "id": "j", "filename": name, "limit": 10**9 + run}
    if kind == "sort":
        message["sort"] = [[15, "asc"], [run % 14, "desc"]]
    else:
        message["where"] = [[15, "contains", f"no such comment {run}"]]
    with connect(system.url, compression=None, max_size=None) as socket:
        socket.send(json.dumps(message))
        while json.loads(socket.recv())["type"] != "accepted":
            pass
        _until(lambda: _used(system) > 0)
        time.sleep(0.15)
        there = set(
            _workers(system)
        )  # one that is started in the place of another one does not work for the job
        started = time.perf_counter()
        socket.send(json.dumps({"type": "cancel", "id": "c", "request": "j"}))
        ended = started
        while time.perf_counter() - ended < QUIET:
            if _used(system, there) > SAMPLE / 20:
                ended = time.perf_counter()
        while (end := json.loads(socket.recv(timeout=30)))["type"] not in ("error", "result"):
            pass
    return ended - started if end.get("reason") == "cancelled" else None


def _used(system: Serving, only: Set[int] | None = None) -> float:
    """The CPU seconds that the busiest worker, perhaps only of some, uses during a short sample."""
    before = _workers(system)
    time.sleep(SAMPLE)
    after = _workers(system)
    return max(
        (after[pid] - before.get(pid, after[pid]) for pid in after if only is None or pid in only),
        default=0.0,
    )


def _workers(system: Serving) -> dict[int, float]:
    """The CPU seconds of each worker, by process id."""
    cpu_seconds = {}
    for worker in system.workers():
        with contextlib.suppress(OSError, IndexError):
            tasks = Path(f"/proc/{worker.pid}/task").iterdir()
            cpu_seconds[worker.pid] = (
                sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
            )
    return cpu_seconds


def _until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, at most 5 s."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not condition():
        pass
