"""One job on a large table by one worker of a Dask cluster, and by two; each has one thread of polars."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from websockets.sync.client import connect

from benchmarks.big_job import COST, SECONDS, await_copy, generate, uploaded
from benchmarks.elsewhere import elsewhere
from benchmarks.figures import Series
from benchmarks.serving import Serving
from benchmarks.turns import in_turns

__all__ = ["CONDITIONS", "GROUPS", "ONE", "TWO", "measure"]

GROUPS, CONDITIONS = "one job on several workers, groups", "one job on several workers, conditions"
ONE, TWO = "one worker", "two workers"
QUERIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        GROUPS: {
            "group_by": ["l_returnflag", "l_linestatus", "l_shipmode"],
            "aggregate": [
                ["l_quantity", "sum"],
                ["l_extendedprice", "mean"],
                ["l_discount", "max"],
                ["l_comment", "min"],
                ["l_orderkey", "first"],
                ["*", "count"],
            ],
        },
        CONDITIONS: {
            "selectedColumns": ["l_orderkey", "l_extendedprice", "l_comment"],
            "where": [["l_comment", "contains", "slyly final"], ["l_shipmode", "==", "AIR"]],
        },
    }
)


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Let one worker and two workers answer the same requests in turns."""
    data = generate(folder, 0.05 if quick else 1.0)
    results: list[Series] = []
    with ExitStack() as stack:
        threads = {"POLARS_MAX_THREADS": "1"}
        parts = stack.enter_context(elsewhere(folder / "parts", workers=2, environment=threads))
        systems = {}
        for name, part_bytes in ((ONE, 0), (TWO, data.stat().st_size // 2)):
            options = (f"processing.dask_part_bytes={part_bytes}", "processing.nice=0")
            system = stack.enter_context(parts.serving(folder / name, *options))
            table = stack.enter_context(uploaded(system, data))
            await_copy(system, table)
            systems[name] = system, table
        numbers = itertools.count()
        for workload, query in QUERIES.items():
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                name: partial(_once, system, table, query, numbers)
                for name, (system, table) in systems.items()
            }
            # Two warm-up runs: one worker may have done nothing in the first one.
            results += in_turns(
                work, runs=runs, workload=workload, units={SECONDS: "s", COST: "s"}, warm_up=2
            )
    return results


def _once(
    system: Serving, name: str, query: Mapping[str, Any], numbers: Iterator[int]
) -> Mapping[str, float]:
    where = [*query.get("where", ()), ["l_orderkey", ">", -next(numbers)]]  # each is another request
    message = {"type": "process", "id": "1", "filename": name, **query, "where": where}
    with connect(system.url, compression=None, max_size=None) as socket:
        before, started = system.cpu(), time.perf_counter()
        socket.send(json.dumps(message))
        while (answer := json.loads(socket.recv(timeout=900)))["type"] not in ("result", "error"):
            pass
        seconds = time.perf_counter() - started
    if answer["type"] == "error":
        raise RuntimeError(f"{system.name}: {answer}")
    return {SECONDS: seconds, COST: system.cpu() - before}
