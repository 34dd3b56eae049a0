"""The big job: a CSV of TPC-H lineitem, four of its columns to Parquet, request to result.

Both systems do the same work in the same run: the schema is inferred, the columns are selected, written as
Parquet and counted. The bare pass runs in a fresh process of its own that has polars loaded, as a warm worker
has; what is timed in it is the pass alone.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from benchmarks.serving import Peak, serving
from creemson.client import connect
from creemson.wire.messages import Query

COLUMNS = (0, 4, 5, 10)
BARE = "bare polars"
SERVED = "creemson, request to result"

# Runs in a process of its own, so that neither system warms up or burdens the other.
BARE_PASS = """
import sys, time
import polars as pl
source, target, columns = sys.argv[1], sys.argv[2], [int(index) for index in sys.argv[3].split(",")]
for _ in sys.stdin:
    began = time.perf_counter()
    frame = pl.scan_csv(source, try_parse_dates=True)
    names = frame.collect_schema().names()
    frame = frame.select([names[index] for index in columns])
    _, count = pl.collect_all(
        [frame.sink_parquet(target, lazy=True), frame.select(pl.len())], engine="streaming"
    )
    print(time.perf_counter() - began, count.item(), flush=True)
"""


@attrs.frozen
class Figures:
    """What was measured.

    Attributes:
        seconds: of each run, by system.
        peak_rss: bytes resident in the server's process (not its workers) at most, while it ran jobs.
    """

    seconds: dict[str, list[float]]
    peak_rss: int


def generate(folder: Path, scale: float) -> Path:
    """Make the table."""
    command = [
        "tpchgen-cli",
        "csv",
        "--scale-factor",
        str(scale),
        "--tables=lineitem",
        f"--output-dir={folder}",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "lineitem.csv"


def measure(data: Path, folder: Path, runs: int) -> Figures:
    """Run both systems in turns, after one run of each that is not counted."""
    figures: dict[str, list[float]] = {BARE: [], SERVED: []}
    with _bare(data, folder) as bare, serving(folder / "data") as (port, process):
        uploads = folder / "data" / "uploads"
        peak = Peak(process)
        for run in range(runs + 1):
            # A new name is a new file: nothing is answered from store.
            source = uploads / f"lineitem-{run}.csv"
            source.hardlink_to(data) if _same_disk(data, uploads) else source.write_bytes(data.read_bytes())
            seconds = {BARE: bare(), SERVED: trio.run(_request, f"ws://127.0.0.1:{port}/ws", source.name)}
            source.unlink()
            if run:
                for name, taken in seconds.items():
                    figures[name].append(taken)
        return Figures(figures, peak.stop())


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


async def _request(url: str, name: str) -> float:
    async with connect(url) as client:
        began = time.perf_counter()
        await client.submit(Query(filename=name, selectedColumns=COLUMNS))
        return time.perf_counter() - began


@contextmanager
def _bare(data: Path, folder: Path) -> "Iterator[_BarePass]":
    columns = ",".join(map(str, COLUMNS))
    command = [sys.executable, "-c", BARE_PASS, str(data), str(folder / "bare.parquet"), columns]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield _BarePass(process)
        assert process.stdin is not None
        process.stdin.close()


class _BarePass:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self) -> float:
        """Seconds that one pass takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline().split()[0])
