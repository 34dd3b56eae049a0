"""What a big job does to others: the round trips of pings meanwhile; and how long it goes on once it is cancelled."""

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from websockets.sync.client import connect

from benchmarks.big_job import generate, place, request
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_PANDAS, FASTAPI_POLARS, Serving, serving, systems

__all__ = ["CANCEL", "LATENCY", "cancelling", "latency"]

LATENCY, CANCEL = "pings while a big job runs", "cancel"
PAUSE = 0.005
LOOK = 0.002
QUIET = 0.03
"""Seconds without any CPU after which a worker counts as idle."""
ALL_COLUMNS = tuple(range(16))


def latency(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """A ping every 5 ms on one connection, a job on another."""
    data = generate(folder, 0.2 if quick else 1.0)
    names = (CREEMSON, FASTAPI_POLARS) if quick else (CREEMSON, FASTAPI_POLARS, FASTAPI_PANDAS)
    values: dict[tuple[str, str], list[float]] = {}
    with systems(names, folder) as running:
        for run in range(runs + 1):
            for one in running:
                found = _latencies(one, data)
                if run:
                    for metric, share in (("round trip, p50", 50), ("round trip, p99", 99)):
                        cut = statistics.quantiles(found, n=100)[share - 1]
                        values.setdefault((metric, one.name), []).append(cut * 1000)
    return [
        Series(workload=LATENCY, system=name, metric=metric, unit="ms", values=each)
        for (metric, name), each in sorted(values.items(), key=lambda item: item[0][0])
    ]


def _latencies(system: Serving, data: Path) -> list[float]:
    found: list[float] = []
    with place(system, data) as name, connect(system.url, compression=None) as socket:
        job = threading.Thread(target=request, args=(system, name, ALL_COLUMNS))
        job.start()
        while job.is_alive():
            began = time.perf_counter()
            socket.send('{"type":"ping"}')
            socket.recv()
            found.append(time.perf_counter() - began)
            time.sleep(PAUSE)
        job.join()
    return found


def cancelling(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """From the message to the moment in which no worker takes CPU any more; scans and sorts in turns."""
    data = generate(folder, 0.2 if quick else 1.0)
    seconds: dict[str, list[float]] = {"scan": [], "sort": []}
    with serving(CREEMSON, folder / "cancelling") as system, place(system, data) as name:
        for run in range(runs * (2 if quick else 8)):
            for kind, each in seconds.items():
                taken = _cancel(system, name, kind, run)
                if taken is not None:
                    each.append(taken)
    both = sorted(seconds["scan"] + seconds["sort"])
    worst = statistics.quantiles(both, n=100, method="inclusive")[98]
    found = [
        Series(
            workload=CANCEL,
            system=CREEMSON,
            metric=f"a {kind} to idle CPU",
            unit="ms",
            values=[s * 1000 for s in each],
        )
        for kind, each in seconds.items()
    ]
    found.append(
        Series(workload=CANCEL, system=CREEMSON, metric="to idle CPU, p99", unit="ms", values=[worst * 1000])
    )
    return found


def _cancel(system: Serving, name: str, kind: str, run: int) -> float | None:
    """Seconds; None if the job was quicker."""
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
        began = time.perf_counter()
        socket.send(json.dumps({"type": "cancel", "id": "c", "request": "j"}))
        ended = began
        while time.perf_counter() - ended < QUIET:
            if _used(system) > LOOK / 20:
                ended = time.perf_counter()
        while (end := json.loads(socket.recv(timeout=30)))["type"] not in ("error", "result"):
            pass
    return ended - began if end.get("reason") == "cancelled" else None


def _used(system: Serving) -> float:
    """Seconds of CPU that workers take in a moment."""
    before = _workers(system)
    time.sleep(LOOK)
    after = _workers(system)
    return max((after[pid] - before.get(pid, after[pid]) for pid in after), default=0.0)


def _workers(system: Serving) -> dict[int, float]:
    found = {}
    for worker in system.workers():
        with contextlib.suppress(OSError, IndexError):
            tasks = Path(f"/proc/{worker.pid}/task").iterdir()
            found[worker.pid] = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    return found


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not condition():
        pass
