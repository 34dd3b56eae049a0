"""The big job: four columns of a CSV file of TPC-H lineitem, from request to result; first, and from a columnar copy.

The bare pass does the same work without a server: it infers the schema, selects the columns, writes Parquet and counts
the rows. It runs in a separate process that has already imported polars, as a warm worker has; only the pass is timed.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from websockets.sync.client import connect

from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_PANDAS, FASTAPI_POLARS, Serving, serving, systems
from benchmarks.turns import in_turns

__all__ = [
    "BARE",
    "BARE_PARQUET",
    "BIG",
    "COPIED",
    "COPYING",
    "COST",
    "MEMORY",
    "SECONDS",
    "await_copy",
    "bare_pass",
    "generate",
    "measure",
    "measure_copy",
    "place",
    "request",
    "uploaded",
]

BIG, COPIED, COPYING = "big job", "big job, the file has a table", "making a table"
SECONDS, COST, MEMORY = "request to result", "CPU", "peak of private memory"
BARE, BARE_PARQUET = "bare polars", "bare polars on that Parquet"
WAIT = 120.0
"""Maximum seconds in which the server makes a columnar copy of a file."""
COLUMNS = (0, 4, 5, 10)
"""Indices of the selected columns of lineitem."""

BARE_PASS = """
import sys, time
import polars as pl
for line in sys.stdin:
    source, target, columns = line.rstrip("\\n").split("|")
    started, used = time.perf_counter(), time.process_time()
    if source.endswith(".parquet"):
        frame = pl.scan_parquet(source)
    else:
        frame = pl.scan_csv(source, try_parse_dates=True)
    names = frame.collect_schema().names()
    frame = frame.select([names[int(index)] for index in columns.split(",")])
    _, count = pl.collect_all(
        [frame.sink_parquet(target, lazy=True), frame.select(pl.len())], engine="streaming"
    )
    print(time.perf_counter() - started, time.process_time() - used, flush=True)
"""
"""The program of the process for bare passes: reads lines `source|target|columns`, prints seconds and CPU seconds."""


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
        work: dict[str, Callable[[], Mapping[str, float]]] = {BARE: lambda: bare(data, COLUMNS)}
        for system in (ours, polars):
            work[system.name] = partial(_once, system, data)
        results += in_turns(work, runs=runs, workload=BIG, units={SECONDS: "s", COST: "s", MEMORY: "MB"})
        slow = {pandas.name: partial(_once, pandas, data)}
        results += in_turns(slow, runs=1, warm_up=0, workload=BIG, units={SECONDS: "s"})
    return results


def _once(system: Serving, data: Path) -> Mapping[str, float]:
    with place(system, data) as name, _watched(system) as watched:
        before = system.cpu()
        seconds = request(system, name, COLUMNS)
        return {SECONDS: seconds, COST: system.cpu() - before, MEMORY: watched.peak / 1e6}


def measure_copy(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Let the server make a columnar copy of the table, and compare jobs on the file that has one with bare passes."""
    data = generate(folder, 0.05 if quick else 1.0)
    with bare_pass(folder) as bare, serving(CREEMSON, folder / "copied") as system:
        everything = tuple(range(16))
        making: dict[str, Callable[[], Mapping[str, float]]] = {
            BARE: lambda: {COST: bare(data, everything)[COST]},
            CREEMSON: partial(_make_copy, system, data),
        }
        results = in_turns(making, runs=min(runs, 3), warm_up=0, workload=COPYING, units={COST: "s"})
        with place(system, data) as name:
            await_copy(system, name)
            copies = (system.folder.parent / "tables").glob("*/rows.parquet")
            copy = max(copies, key=lambda path: path.stat().st_mtime)  # others are of files that are gone
            orders = itertools.permutations(COLUMNS)  # each order is another job
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                CREEMSON: lambda: _copied(system, name, next(orders)),
                BARE: lambda: bare(data, COLUMNS),
                BARE_PARQUET: lambda: bare(copy, COLUMNS),
            }
            return results + in_turns(work, runs=runs, workload=COPIED, units={SECONDS: "s", COST: "s"})


def _copied(system: Serving, name: str, columns: tuple[int, ...]) -> Mapping[str, float]:
    before = system.cpu()
    seconds = request(system, name, columns)
    return {SECONDS: seconds, COST: system.cpu() - before}


def _make_copy(system: Serving, data: Path) -> Mapping[str, float]:
    with place(system, data) as name:
        _use(system, name)
        before = system.cpu()
        await_copy(system, name)
        return {COST: system.cpu() - before}


def _use(system: Serving, name: str) -> None:
    with connect(system.url, compression=None, max_size=None) as socket:
        socket.send(json.dumps({"type": "rows", "id": "r", "filename": name, "offset": 0, "limit": 1}))
        assert json.loads(socket.recv())["type"] == "rows"


def await_copy(system: Serving, name: str) -> None:
    """Use a file, and wait until the server has a columnar copy of it.

    Raises:
        RuntimeError: It has none within :data:`WAIT` seconds.
    """
    _use(system, name)
    with connect(system.url, compression=None, max_size=None) as socket:
        for _ in range(int(WAIT / 0.2)):
            socket.send(json.dumps({"type": "files", "id": "f"}))
            files = json.loads(socket.recv())["files"]
            if any(entry["filename"] == name and entry.get("imported") for entry in files):
                return
            time.sleep(0.2)
    raise RuntimeError(f"there is no copy of {name} after {WAIT:g} s")


class _Watched:
    """The highest private memory of a system's processes together, in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self.is_over = threading.Event()

    def run(self, system: Serving) -> None:
        processes = [system.process, *system.workers()]
        while not self.is_over.wait(0.02):
            self.peak = max(self.peak, sum(_private(process.pid) for process in processes))


@contextmanager
def _watched(system: Serving) -> Iterator[_Watched]:
    watched = _Watched()
    thread = threading.Thread(target=watched.run, args=(system,))
    thread.start()
    try:
        yield watched
    finally:
        watched.is_over.set()
        thread.join()


def _private(process: int) -> int:
    """The private memory of a process in bytes, without the pages of files; 0 if it has ended."""
    with suppress(OSError):
        found = re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


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


@contextmanager
def uploaded(system: Serving, data: Path, name: str | None = None) -> Iterator[str]:
    """Upload the file to a system, by default under a new name: the way into an object store."""
    name = name or f"table-{time.monotonic_ns()}.csv"
    # Without a heartbeat: on a busy machine, the object store may hold the upload up for longer than its 20 s.
    with connect(system.url, compression=None, max_size=None, ping_interval=None) as socket:
        announced = {"type": "upload", "id": "u", "filename": name, "size": data.stat().st_size}
        socket.send(json.dumps(announced))
        assert json.loads(socket.recv())["type"] == "upload_ready"
        with data.open("rb") as stream:
            while piece := stream.read(2**20):
                socket.send(piece)
        while (answer := json.loads(socket.recv(timeout=900)))["type"] != "uploaded":
            if answer["type"] == "error":
                raise RuntimeError(f"{system.name}: {answer}")
    try:
        yield name
    finally:
        with connect(system.url, compression=None, max_size=None) as socket:
            socket.send(json.dumps({"type": "delete", "id": "d", "filename": name}))
            assert json.loads(socket.recv(timeout=60))["type"] == "deleted"


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
def bare_pass(folder: Path) -> Iterator[Callable[[Path, tuple[int, ...]], Mapping[str, float]]]:
    """Start the process for bare passes, and yield a function that runs one pass and returns its figures."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE_PASS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        commands, results = process.stdin, process.stdout
        assert commands is not None
        assert results is not None

        def once(data: Path, columns: tuple[int, ...]) -> Mapping[str, float]:
            commands.write(f"{data}|{folder / 'bare.parquet'}|{','.join(map(str, columns))}\n")
            commands.flush()
            seconds, used = map(float, results.readline().split())
            return {SECONDS: seconds, COST: used}

        yield once
        commands.close()
