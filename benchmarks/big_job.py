"""The big job: four columns of a CSV file of TPC-H lineitem, from request to result.

The bare pass does the same work without a server: it infers the schema, selects the columns, writes Parquet and counts
the rows. It runs in a separate process that has already imported polars, as a warm worker has; only the pass is timed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from websockets.sync.client import connect

from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_PANDAS, FASTAPI_POLARS, Serving, systems
from benchmarks.turns import in_turns

__all__ = ["BARE", "BIG", "SECONDS", "bare_pass", "generate", "measure", "place", "request"]

BIG, SECONDS = "big job", "request to result"
BARE = "bare polars"
COLUMNS = (0, 4, 5, 10)
"""Indices of the selected columns of lineitem."""

BARE_PASS = """
import sys, time
import polars as pl
for line in sys.stdin:
    source, target, columns = line.rstrip("\\n").split("|")
    started = time.perf_counter()
    frame = pl.scan_csv(source, try_parse_dates=True)
    names = frame.collect_schema().names()
    frame = frame.select([names[int(index)] for index in columns.split(",")])
    _, count = pl.collect_all(
        [frame.sink_parquet(target, lazy=True), frame.select(pl.len())], engine="streaming"
    )
    print(time.perf_counter() - started, count.item(), flush=True)
"""
"""The program of the process for bare passes: reads lines `source|target|columns`, prints seconds and rows."""


def generate(folder: Path, scale: float) -> Path:
    """Generate the table, unless it exists; scale 1 is 766 MB."""
    target = folder / f"scale-{scale:g}"
    if not (target / "lineitem.csv").exists():
        command = [
            "tpchgen-cli",
            "csv",
            f"--scale-factor={scale}",
            "--tables=lineitem",
            f"--output-dir={target}",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target / "lineitem.csv"


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Compare Creemson with the bare pass and the peers; pandas runs only once, because it takes long."""
    data = generate(folder, 0.05 if quick else 1.0)
    results: list[Series] = []
    with bare_pass(folder) as bare, systems((CREEMSON, FASTAPI_POLARS, FASTAPI_PANDAS), folder) as running:
        ours, polars, pandas = running
        work: dict[str, Callable[[], Mapping[str, float]]] = {BARE: lambda: {SECONDS: bare(data, COLUMNS)}}
        for system in (ours, polars):
            work[system.name] = partial(_once, system, data)
        results += in_turns(work, runs=runs, workload=BIG, units={SECONDS: "s"})
        slow = {pandas.name: partial(_once, pandas, data)}
        results += in_turns(slow, runs=1, warm_up=0, workload=BIG, units={SECONDS: "s"})
    return results


def _once(system: Serving, data: Path) -> Mapping[str, float]:
    with place(system, data) as name:
        return {SECONDS: request(system, name, COLUMNS)}


@contextmanager
def place(system: Serving, data: Path) -> Iterator[str]:
    """Provide the file to a system under a new name, so that no result is served from cache."""
    path = system.folder / f"table-{time.monotonic_ns()}.csv"
    try:
        path.hardlink_to(data)
    except OSError:  # on another file system
        path.write_bytes(data.read_bytes())
    os.utime(path)
    try:
        yield path.name
    finally:
        path.unlink()


def request(system: Serving, name: str, columns: tuple[int, ...]) -> float:
    """Send a legacy request, and return the seconds until its result."""
    with connect(system.url, compression=None, max_size=None) as socket:
        started = time.perf_counter()
        socket.send(json.dumps({"filename": name, "selectedColumns": columns}))
        response = json.loads(socket.recv(timeout=900))
        seconds = time.perf_counter() - started
    if response["type"] != "result":
        raise RuntimeError(f"{system.name}: {response}")
    return seconds


@contextmanager
def bare_pass(folder: Path) -> Iterator[Callable[[Path, tuple[int, ...]], float]]:
    """Start the process for bare passes, and yield a function that runs one pass and returns its seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE_PASS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        commands, results = process.stdin, process.stdout
        assert commands is not None
        assert results is not None

        def once(data: Path, columns: tuple[int, ...]) -> float:
            commands.write(f"{data}|{folder / 'bare.parquet'}|{','.join(map(str, columns))}\n")
            commands.flush()
            return float(results.readline().split()[0])

        yield once
        commands.close()
