"""The big job: a CSV of TPC-H lineitem, four of its columns, request to result; and what else is possible meanwhile.

The bare pass does the same work: the schema is inferred, the columns are selected, written as Parquet and counted.
It runs in a fresh process of its own that has polars loaded, as a warm worker has; what is timed is the pass alone.
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

BARE_PASS = """
import sys, time
import polars as pl
for line in sys.stdin:
    source, target, columns = line.rstrip("\\n").split("|")
    began = time.perf_counter()
    frame = pl.scan_csv(source, try_parse_dates=True)
    names = frame.collect_schema().names()
    frame = frame.select([names[int(index)] for index in columns.split(",")])
    _, count = pl.collect_all(
        [frame.sink_parquet(target, lazy=True), frame.select(pl.len())], engine="streaming"
    )
    print(time.perf_counter() - began, count.item(), flush=True)
"""


def generate(folder: Path, scale: float) -> Path:
    """Make the table; scale 1 is 766 MB."""
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
    """Against the same pass without a server, and the peers; pandas once, since it takes long."""
    data = generate(folder, 0.05 if quick else 1.0)
    found: list[Series] = []
    with bare_pass(folder) as bare, systems((CREEMSON, FASTAPI_POLARS, FASTAPI_PANDAS), folder) as running:
        ours, polars, pandas = running
        work: dict[str, Callable[[], Mapping[str, float]]] = {BARE: lambda: {SECONDS: bare(data, COLUMNS)}}
        for one in (ours, polars):
            work[one.name] = partial(_once, one, data)
        found += in_turns(work, runs=runs, workload=BIG, units={SECONDS: "s"})
        last = {pandas.name: partial(_once, pandas, data)}
        found += in_turns(last, runs=1, warm_up=0, workload=BIG, units={SECONDS: "s"})
    return found


def _once(system: Serving, data: Path) -> Mapping[str, float]:
    with place(system, data) as name:
        return {SECONDS: request(system, name, COLUMNS)}


@contextmanager
def place(system: Serving, data: Path) -> Iterator[str]:
    """Have the file among a system's, under a new name: then nothing is answered from store."""
    path = system.folder / f"table-{time.monotonic_ns()}.csv"
    try:
        path.hardlink_to(data)
    except OSError:  # another file system
        path.write_bytes(data.read_bytes())
    os.utime(path)
    try:
        yield path.name
    finally:
        path.unlink()


def request(system: Serving, name: str, columns: tuple[int, ...]) -> float:
    """A classic request; seconds until its result."""
    with connect(system.url, compression=None, max_size=None) as socket:
        began = time.perf_counter()
        socket.send(json.dumps({"filename": name, "selectedColumns": columns}))
        answer = json.loads(socket.recv(timeout=900))
        seconds = time.perf_counter() - began
    if answer["type"] != "result":
        raise RuntimeError(f"{system.name}: {answer}")
    return seconds


@contextmanager
def bare_pass(folder: Path) -> Iterator[Callable[[Path, tuple[int, ...]], float]]:
    """Yields what runs one bare pass, and returns its seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE_PASS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        source, answers = process.stdin, process.stdout
        assert source is not None
        assert answers is not None

        def once(data: Path, columns: tuple[int, ...]) -> float:
            source.write(f"{data}|{folder / 'bare.parquet'}|{','.join(map(str, columns))}\n")
            source.flush()
            return float(answers.readline().split()[0])

        yield once
        source.close()
