"""Pings: one at a time, sixteen in flight, and in batches of 64; and the CPU time that the server needs for them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_POLARS, Serving, systems
from benchmarks.turns import in_turns

__all__ = ["ALONE", "BATCHES", "COST", "IN_FLIGHT", "measure"]

ALONE, IN_FLIGHT, BATCHES = "pings, one at a time", "pings, 16 in flight", "pings, in batches of 64"
COST = "server CPU per ping"
KINDS = {ALONE: (1, 1, 1), IN_FLIGHT: (16, 1, 3), BATCHES: (1, 64, 10)}
"""For each workload: frames in flight, pings in a frame, and a factor for the number of pings."""


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure all three kinds, and compare with the peers."""
    messages = 4000 if quick else 20_000
    names = (CREEMSON, FASTAPI_POLARS, "websockets on asyncio", "trio-websocket")
    results: list[Series] = []
    with systems(names, folder) as running:
        for workload, (in_flight, batch, times) in KINDS.items():
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                system.name: partial(_once, system, messages * times, in_flight, batch) for system in running
            }
            units = {COST: "µs", "pings a second": "1/s", "round trip, p50": "ms", "round trip, p99": "ms"}
            results += in_turns(work, runs=runs, workload=workload, units=units)
    return results


def _once(system: Serving, messages: int, in_flight: int, batch: int) -> Mapping[str, float]:
    before = system.cpu()
    measured = load.run(
        "pings", system.url, messages=messages, in_flight=in_flight, batch=batch, connections=1
    )
    figures = {
        COST: (system.cpu() - before) / measured["messages"] * 1e6,
        "pings a second": measured["messages"] / measured["seconds"],
    }
    if in_flight == batch == 1:
        figures |= {"round trip, p50": measured["p50"] * 1000, "round trip, p99": measured["p99"] * 1000}
    return figures
