"""Small jobs: tables of 1,000 rows, fifty connections; each file once, and the same request again and again."""

import itertools
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_PANDAS, FASTAPI_POLARS, Serving, systems
from benchmarks.turns import in_turns

__all__ = ["COLD", "COST", "RATE", "REPEATED", "measure"]

COLD, REPEATED = "small jobs, each file once", "small jobs, repeated"
RATE, COST = "jobs a second", "server CPU per job"
ROWS, CONNECTIONS = 1000, 50


def measure(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """Both kinds, against both FastAPI servers."""
    count = 100 if quick else 1000
    found: list[Series] = []
    names = (CREEMSON, FASTAPI_POLARS, FASTAPI_PANDAS)
    with systems(names, folder) as running:
        table = _table(random.Random(seed))
        for one in running:
            for number in range(count * (runs + 1)):
                (one.folder / f"small-{number}.csv").write_text(table.replace("4711", str(number), 1))
        firsts = {one.name: itertools.count(0, count) for one in running}
        cold: dict[str, Callable[[], Mapping[str, float]]] = {
            one.name: partial(_cold, one, count, firsts[one.name]) for one in running
        }
        units = {RATE: "1/s", COST: "ms", "until the answer, p99": "ms"}
        found += in_turns(cold, runs=runs, workload=COLD, units=units)
        again: dict[str, Callable[[], Mapping[str, float]]] = {
            one.name: partial(_repeated, one, count * (10 if one.name == CREEMSON else 1)) for one in running
        }
        found += in_turns(again, runs=runs, workload=REPEATED, units=units)
    return found


def _table(dice: random.Random) -> str:
    lines = ["id,name,price,count,ratio,code,flag,note"]
    for row in range(ROWS):
        price, ratio = dice.uniform(1, 1000), dice.random()
        lines.append(
            f"{row or 4711},item {row % 97},{price:.2f},{dice.randrange(500)},{ratio:.6f},{dice.choice('ABCD')},"
            f"{dice.choice(('true', 'false'))},{'x' * dice.randrange(20)}"
        )
    return "\n".join(lines) + "\n"


def _cold(system: Serving, count: int, firsts: "itertools.count[int]") -> Mapping[str, float]:
    return _once(system, count, next(firsts), names=count)


def _repeated(system: Serving, count: int) -> Mapping[str, float]:
    return _once(system, count, 0, names=1)


def _once(system: Serving, count: int, first: int, *, names: int) -> Mapping[str, float]:
    before = system.cpu()
    seen = load.run("jobs", system.url, connections=CONNECTIONS, count=count, first=first, names=names)
    return {
        RATE: seen["jobs"] / seen["seconds"],
        COST: (system.cpu() - before) / seen["jobs"] * 1000,
        "until the answer, p99": seen["p99"] * 1000,
    }
