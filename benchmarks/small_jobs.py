"""Small jobs on tables of 1,000 rows and 16 columns, over 50 connections.

Each file once; other columns of a file that is there; and the same request repeatedly.
"""

import itertools
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.figures import Series
from benchmarks.serving import (
    CREEMSON,
    FASTAPI_DURABLE,
    FASTAPI_PANDAS,
    FASTAPI_POLARS,
    OWN,
    WITHOUT_TABLES,
    Serving,
    systems,
)
from benchmarks.turns import in_turns

__all__ = [
    "COLD",
    "COST",
    "NEW",
    "RATE",
    "REPEATED",
    "make_table",
    "measure",
    "run_new_columns",
    "run_repeated",
]

COLD, REPEATED = "small jobs, each file once", "small jobs, repeated"
NEW = "small jobs, new columns of the same file"
RATE, COST = "jobs a second", "server CPU per job"
ROWS, CONNECTIONS = 1000, 50


def measure(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """Measure the three kinds, and compare with the FastAPI servers."""
    count = 100 if quick else 1000
    fewer = 50 if quick else 300  # there are 1,820 choices of four columns
    results: list[Series] = []
    names = (CREEMSON, WITHOUT_TABLES, FASTAPI_POLARS, FASTAPI_DURABLE, FASTAPI_PANDAS)
    with systems(names, folder) as running:
        table = make_table(random.Random(seed))
        for system in running:
            for number in range(count * (runs + 1)):
                (system.folder / f"small-{number}.csv").write_text(table.replace("4711", str(number), 1))
        firsts = {system.name: itertools.count(0, count) for system in running}
        cold: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(_cold, system, count, firsts[system.name]) for system in running
        }
        units = {RATE: "1/s", COST: "ms", "until the answer, p99": "ms"}
        results += in_turns(cold, runs=runs, workload=COLD, units=units)
        choices = {system.name: itertools.count(0, fewer) for system in running}
        new: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(run_new_columns, system, fewer, choices[system.name]) for system in running
        }
        results += in_turns(new, runs=min(runs, 5), workload=NEW, units=units)
        repeated: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(run_repeated, system, count * (10 if system.name in OWN else 1))
            for system in running
        }
        results += in_turns(repeated, runs=runs, workload=REPEATED, units=units)
    return results


def make_table(rng: random.Random) -> str:
    """A CSV; 4711 occurs in it as a placeholder that makes each file different."""
    lines = ["id,name,price,count,ratio,code,flag,note,day,at,city,share,left,right,level,tag"]
    for row in range(ROWS):
        price, ratio = rng.uniform(1, 1000), rng.random()
        lines.append(
            f"{row or 4711},item {row % 97},{price:.2f},{rng.randrange(500)},{ratio:.6f},{rng.choice('ABCD')},"
            f"{rng.choice(('true', 'false'))},{'x' * rng.randrange(20)},2024-{rng.randrange(1, 13):02}-11,"
            f"2024-03-{rng.randrange(10, 30)} {rng.randrange(10, 24)}:30:00,town {rng.randrange(50)},"
            f"{rng.random():.3f},{rng.randrange(10**6)},{rng.randrange(-99, 99)},"
            f"{rng.choice(('low', 'high'))},t{rng.randrange(9)}"
        )
    return "\n".join(lines) + "\n"


def _cold(system: Serving, count: int, firsts: "itertools.count[int]") -> Mapping[str, float]:
    return _once(system, count, next(firsts), names=count)


def run_new_columns(system: Serving, count: int, choices: "itertools.count[int]") -> Mapping[str, float]:
    """Ask a system for other columns of `small-0.csv`, as often as ``count``."""
    return _once(system, count, 0, names=1, choice=next(choices))


def run_repeated(system: Serving, count: int) -> Mapping[str, float]:
    """Ask a system for the same columns of `small-0.csv`, as often as ``count``."""
    return _once(system, count, 0, names=1)


def _once(system: Serving, count: int, first: int, *, names: int, choice: int = -1) -> Mapping[str, float]:
    before = system.cpu()
    measured = load.run(
        "jobs", system.url, connections=CONNECTIONS, count=count, first=first, names=names, choice=choice
    )
    return {
        RATE: measured["jobs"] / measured["seconds"],
        COST: (system.cpu() - before) / measured["jobs"] * 1000,
        "until the answer, p99": measured["p99"] * 1000,
    }
