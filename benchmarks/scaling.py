"""Scaling with the size of the file, the number of connections, and the number of columns."""

import random
import resource
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.big_job import BARE, SECONDS, bare_pass, generate, place, request
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_POLARS, Serving, serving, systems
from benchmarks.turns import in_turns

__all__ = ["COLUMNS", "CONNECTIONS", "FILES", "columns", "connections", "files"]

FILES, CONNECTIONS, COLUMNS = "by size of the file, MB", "by connections", "by columns"
MB_AT_SCALE_1 = 766
"""Size of the lineitem table of scale 1, in MB."""
OTHER_FILES = 500
"""Number of file descriptors that are reserved for anything but the connections."""
CELLS = 2_000_000
"""Number of cells of each wide table."""


def files(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure the request of the big job with files of 10 MB to 3 GB, and compare it with the bare pass."""
    results: list[Series] = []
    with bare_pass(folder) as bare, serving(CREEMSON, folder / "files") as system:
        for megabytes in (10, 30) if quick else (10, 100, 766, 3000):
            data = generate(folder, megabytes / MB_AT_SCALE_1)
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                BARE: partial(_bare, bare, data, (0, 4, 5, 10)),
                CREEMSON: partial(_served, system, data, (0, 4, 5, 10)),
            }
            results += in_turns(work, runs=runs, workload=FILES, units={SECONDS: "s"}, at=megabytes)
    return results


def connections(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure pings over 10 to 5,000 connections, one in flight on each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results: list[Series] = []
    with systems((CREEMSON, FASTAPI_POLARS), folder) as running:
        for count in (10, 100) if quick else (10, 100, 1000, 5000):
            if count > hard - OTHER_FILES:
                print(f"{count} connections are skipped: ulimit -n is {hard}")
                continue
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                system.name: partial(_pings, system, count, max(5 * count, 2000 if quick else 20_000))
                for system in running
            }
            units = {"pings a second": "1/s", "round trip, p99": "ms"}
            results += in_turns(work, runs=runs, workload=CONNECTIONS, units=units, at=count)
    return results


def _pings(system: Serving, count: int, messages: int) -> Mapping[str, float]:
    measured = load.run("pings", system.url, messages=messages, in_flight=1, batch=1, connections=count)
    return {
        "pings a second": measured["messages"] / measured["seconds"],
        "round trip, p99": measured["p99"] * 1000,
    }


def columns(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """Select three columns of tables with the same number of cells, and compare with the bare pass."""
    rng = random.Random(seed)
    results: list[Series] = []
    with bare_pass(folder) as bare, serving(CREEMSON, folder / "columns") as system:
        for width in (10, 100) if quick else (10, 100, 1000, 5000):
            data = folder / f"wide-{width}.csv"
            with data.open("w") as file:
                file.write(",".join(f"c{index}" for index in range(width)) + "\n")
                for _ in range((CELLS // 10 if quick else CELLS) // width):
                    file.write(",".join(str(rng.randrange(10_000)) for _ in range(width)) + "\n")
            selected = (0, width // 2, width - 1)
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                BARE: partial(_bare, bare, data, selected),
                CREEMSON: partial(_served, system, data, selected),
            }
            results += in_turns(work, runs=runs, workload=COLUMNS, units={SECONDS: "s"}, at=width)
            data.unlink()
    return results


def _bare(
    bare: Callable[[Path, tuple[int, ...]], Mapping[str, float]], data: Path, selected: tuple[int, ...]
) -> Mapping[str, float]:
    return {SECONDS: bare(data, selected)[SECONDS]}


def _served(system: Serving, data: Path, selected: tuple[int, ...]) -> Mapping[str, float]:
    with place(system, data) as name:
        return {SECONDS: request(system, name, selected)}
