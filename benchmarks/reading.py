"""Reading a CSV file without options, compared with polars given all options; and reading files that must be repaired.

Both run in this process: the work of a worker, without a server and sockets.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from benchmarks.big_job import generate
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON
from benchmarks.turns import in_turns
from creemson.client.arguments import query_of
from creemson.engine import run

__all__ = ["READING", "REPAIRED", "SECONDS", "SPECIFIED", "SPEED", "measure"]

READING, REPAIRED = "reading", "reading files that must be repaired"
SPECIFIED = "scan_csv with everything specified"
SECONDS, SPEED = "file to Parquet", "file to Parquet, speed"
COLUMNS = (0, 4, 8, 10)
"""Indices of the selected columns of lineitem."""
REPAIRED_BYTES = 100_000_000
"""Size of each file that must be repaired."""


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Read four columns of the big table, and then of a part of it in three variants that polars cannot read."""
    data = generate(folder, 0.05 if quick else 1.0)
    schema = pl.scan_csv(data, try_parse_dates=True).collect_schema()
    results = in_turns(
        {
            SPECIFIED: lambda: {SECONDS: _seconds(lambda: _specified(data, schema, folder))},
            CREEMSON: lambda: {SECONDS: _seconds(lambda: _ours(data, folder))},
        },
        runs=runs,
        workload=READING,
        units={SECONDS: "s"},
    )
    for name, change in _VARIANTS.items():
        messy = folder / "messy.csv"
        _write(messy, data, change, REPAIRED_BYTES // (20 if quick else 1))
        size = messy.stat().st_size
        work: Mapping[str, Callable[[], Mapping[str, float]]] = {
            name: lambda path=messy, size=size: {SPEED: size / 1e6 / _seconds(lambda: _ours(path, folder))}  # type: ignore[misc]
        }
        results += in_turns(work, runs=runs, workload=REPAIRED, units={SPEED: "MB/s"})
    return results


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _specified(data: Path, schema: pl.Schema, folder: Path) -> None:
    names = list(schema)
    frame = pl.scan_csv(data, schema=schema).select([names[index] for index in COLUMNS])
    pl.collect_all([frame.sink_parquet(folder / "specified.parquet", lazy=True)], engine="streaming")


def _ours(data: Path, folder: Path) -> None:
    query = query_of(data.name, selectedColumns=COLUMNS)
    run.run(query, data, folder / "ours.parquet", lambda _: None)


_VARIANTS: Mapping[str, Callable[[str], bytes]] = {
    "stray quotes, one line in 100": lambda text: _every(text, 100, lambda line: line.replace(",", ',"', 1)),
    "short rows, one line in 100": lambda text: _every(text, 100, lambda line: line.rpartition(",")[0]),
    "delimiter ||, windows-1252": lambda text: (
        text.replace(",", "||").replace("DELIVER", "LIVRÉ").encode("cp1252")
    ),
}


def _every(text: str, step: int, change: Callable[[str], str]) -> bytes:
    """Change one line of every ``step`` lines."""
    lines = text.split("\n")
    lines[step::step] = map(change, lines[step::step])
    return "\n".join(lines).encode()


def _write(target: Path, data: Path, change: Callable[[str], bytes], size: int) -> None:
    with data.open("rb") as stream:
        text = stream.read(size).rpartition(b"\n")[0].decode() + "\n"
    target.write_bytes(change(text))
