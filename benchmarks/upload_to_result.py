"""From the first byte of an upload to the result of a job on it, for a small and a large CSV."""

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from websockets.sync.client import connect

from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_DURABLE, FASTAPI_POLARS, Serving, systems
from benchmarks.turns import in_turns

__all__ = ["UPLOAD_TO_RESULT", "measure"]

UPLOAD_TO_RESULT = "upload to result"
CHUNK = 1 << 20
LINE = "{},item,12.50,2024-03-11,true\n"
SMALL, LARGE, LARGE_QUICK = 1_000, 100_000_000, 5_000_000
"""Bytes of the tables, about."""
TIMES = 50
"""Number of small files that are uploaded in each run."""


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Upload tables under new names, and ask for two of their columns."""
    results: list[Series] = []
    with systems((CREEMSON, FASTAPI_POLARS, FASTAPI_DURABLE), folder) as running:
        for size, times in ((SMALL, TIMES), (LARGE_QUICK if quick else LARGE, 1)):
            numbers = itertools.count()
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                system.name: partial(_once, system, size, times, numbers) for system in running
            }
            units = {"until the result": "ms", "server CPU": "ms"}
            results += in_turns(work, runs=runs, workload=UPLOAD_TO_RESULT, units=units, at=size)
    return results


def _once(system: Serving, size: int, times: int, numbers: "itertools.count[int]") -> Mapping[str, float]:
    os.sync()  # see benchmarks/transfers.py
    seconds, before = 0.0, system.cpu()
    with connect(system.url, compression=None, max_size=None) as socket:
        for _ in range(times):
            name = f"upload-{size}-{next(numbers)}.csv"
            # Each file has other bytes, so that no work is saved because it was done before.
            first = LINE.format(name)
            data = ("id,name,price,day,flag\n" + first + LINE.format(4711) * (size // len(first))).encode()
            request = {"type": "upload", "id": "u", "filename": name, "size": len(data)}
            started = time.perf_counter()
            socket.send(json.dumps(request))
            assert json.loads(socket.recv())["type"] == "upload_ready"
            for start in range(0, len(data), CHUNK):
                socket.send(data[start : start + CHUNK])
            while json.loads(socket.recv())["type"] != "uploaded":
                pass
            socket.send(json.dumps({"filename": name, "selectedColumns": [0, 3]}))
            answer = json.loads(socket.recv(timeout=300))
            assert answer["type"] == "result", answer
            seconds += time.perf_counter() - started
    return {
        "until the result": seconds / times * 1000,
        "server CPU": (system.cpu() - before) / times * 1000,
    }
