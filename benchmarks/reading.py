"""Reading a CSV without being told anything, against polars that is told everything; and files that have to be mended.

Both run in this process: the work of a worker, without server and socket.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from benchmarks.big_job import generate
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON
from benchmarks.turns import in_turns
from creemson.client.jobs import query_of
from creemson.processing import engine

__all__ = ["MENDED", "READING", "SECONDS", "SPEED", "TOLD", "measure"]

READING, MENDED = "reading", "reading what has to be mended"
TOLD = "scan_csv, told everything"
SECONDS, SPEED = "file to Parquet", "file to Parquet, speed"
COLUMNS = (0, 4, 8, 10)
MENDED_BYTES = 100_000_000


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Four columns of the big table; then a tenth of it in three ways that polars does not read."""
    data = generate(folder, 0.05 if quick else 1.0)
    schema = pl.scan_csv(data, try_parse_dates=True).collect_schema()
    found = in_turns(
        {
            TOLD: lambda: {SECONDS: _seconds(lambda: _told(data, schema, folder))},
            CREEMSON: lambda: {SECONDS: _seconds(lambda: _ours(data, folder))},
        },
        runs=runs,
        workload=READING,
        units={SECONDS: "s"},
    )
    for name, mess in _MESSES.items():
        messy = folder / "messy.csv"
        _write(messy, data, mess, MENDED_BYTES // (20 if quick else 1))
        size = messy.stat().st_size
        work: Mapping[str, Callable[[], Mapping[str, float]]] = {
            name: lambda path=messy, size=size: {SPEED: size / 1e6 / _seconds(lambda: _ours(path, folder))}  # type: ignore[misc]
        }
        found += in_turns(work, runs=runs, workload=MENDED, units={SPEED: "MB/s"})
    return found


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _told(data: Path, schema: pl.Schema, folder: Path) -> None:
    names = list(schema)
    frame = pl.scan_csv(data, schema=schema).select([names[index] for index in COLUMNS])
    pl.collect_all([frame.sink_parquet(folder / "told.parquet", lazy=True)], engine="streaming")


def _ours(data: Path, folder: Path) -> None:
    query = query_of(data.name, selectedColumns=COLUMNS)
    engine.run(query, data, folder / "ours.parquet", lambda _: None)


_MESSES: Mapping[str, Callable[[str], bytes]] = {
    "stray quotes, one line in 100": lambda text: _every(text, 100, lambda line: line.replace(",", ',"', 1)),
    "short rows, one line in 100": lambda text: _every(text, 100, lambda line: line.rpartition(",")[0]),
    "delimiter ||, windows-1252": lambda text: (
        text.replace(",", "||").replace("DELIVER", "LIVRÉ").encode("cp1252")
    ),
}


def _every(text: str, step: int, change: Callable[[str], str]) -> bytes:
    lines = text.split("\n")
    lines[step::step] = map(change, lines[step::step])
    return "\n".join(lines).encode()


def _write(target: Path, data: Path, mess: Callable[[str], bytes], size: int) -> None:
    with data.open("rb") as stream:
        text = stream.read(size).rpartition(b"\n")[0].decode() + "\n"
    target.write_bytes(mess(text))
