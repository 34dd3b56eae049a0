"""Pings: alone, sixteen in flight, and in batches of 64; what they cost the server."""

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
"""In flight, in a batch, and times as many messages."""


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """All three, against the others."""
    messages = 4000 if quick else 20_000
    names = (CREEMSON, FASTAPI_POLARS, "websockets on asyncio", "trio-websocket")
    found: list[Series] = []
    with systems(names, folder) as running:
        for workload, (in_flight, batch, times) in KINDS.items():
            work: dict[str, Callable[[], Mapping[str, float]]] = {
                one.name: partial(_once, one, messages * times, in_flight, batch) for one in running
            }
            units = {COST: "µs", "pings a second": "1/s", "round trip, p50": "ms", "round trip, p99": "ms"}
            found += in_turns(work, runs=runs, workload=workload, units=units)
    return found


def _once(system: Serving, messages: int, in_flight: int, batch: int) -> Mapping[str, float]:
    before = system.cpu()
    seen = load.run("pings", system.url, messages=messages, in_flight=in_flight, batch=batch, connections=1)
    figures = {
        COST: (system.cpu() - before) / seen["messages"] * 1e6,
        "pings a second": seen["messages"] / seen["seconds"],
    }
    if in_flight == batch == 1:
        figures |= {"round trip, p50": seen["p50"] * 1000, "round trip, p99": seen["p99"] * 1000}
    return figures
