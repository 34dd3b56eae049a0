"""What becomes of it with size: of the file, of the number of connections, of the number of columns."""

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
HANDLES_LEFT = 500
CELLS = 2_000_000


def files(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """The big job's request, from 10 MB to 3 GB, against the bare pass."""
    found: list[Series] = []
    with bare_pass(folder) as bare, serving(CREEMSON, folder / "files") as system:
        for megabytes in (10, 30) if quick else (10, 100, 766, 3000):
            data = generate(folder, megabytes / MB_AT_SCALE_1)
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                BARE: partial(_bare, bare, data, (0, 4, 5, 10)),
                CREEMSON: partial(_served, system, data, (0, 4, 5, 10)),
            }
            found += in_turns(work, runs=runs, workload=FILES, units={SECONDS: "s"}, at=megabytes)
    return found


def connections(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Pings over so many connections, one in flight on each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found: list[Series] = []
    with systems((CREEMSON, FASTAPI_POLARS), folder) as running:
        for count in (10, 100) if quick else (10, 100, 1000, 5000):
            if count > hard - HANDLES_LEFT:
                print(f"{count} connections are left out: ulimit -n is {hard}")
                continue
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                one.name: partial(_pings, one, count, max(5 * count, 2000 if quick else 20_000))
                for one in running
            }
            units = {"pings a second": "1/s", "round trip, p99": "ms"}
            found += in_turns(work, runs=runs, workload=CONNECTIONS, units=units, at=count)
    return found


def _pings(system: Serving, count: int, messages: int) -> Mapping[str, float]:
    seen = load.run("pings", system.url, messages=messages, in_flight=1, batch=1, connections=count)
    return {"pings a second": seen["messages"] / seen["seconds"], "round trip, p99": seen["p99"] * 1000}


def columns(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """The first, a middle and the last column of tables with as many cells, against the bare pass."""
    dice = random.Random(seed)
    found: list[Series] = []
    with bare_pass(folder) as bare, serving(CREEMSON, folder / "columns") as system:
        for width in (10, 100) if quick else (10, 100, 1000, 5000):
            data = folder / f"wide-{width}.csv"
            with data.open("w") as file:
                file.write(",".join(f"c{index}" for index in range(width)) + "\n")
                for _ in range((CELLS // 10 if quick else CELLS) // width):
                    file.write(",".join(str(dice.randrange(10_000)) for _ in range(width)) + "\n")
            wanted = (0, width // 2, width - 1)
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                BARE: partial(_bare, bare, data, wanted),
                CREEMSON: partial(_served, system, data, wanted),
            }
            found += in_turns(work, runs=runs, workload=COLUMNS, units={SECONDS: "s"}, at=width)
            data.unlink()
    return found


def _bare(
    bare: Callable[[Path, tuple[int, ...]], float], data: Path, wanted: tuple[int, ...]
) -> Mapping[str, float]:
    return {SECONDS: bare(data, wanted)}


def _served(system: Serving, data: Path, wanted: tuple[int, ...]) -> Mapping[str, float]:
    with place(system, data) as name:
        return {SECONDS: request(system, name, wanted)}
