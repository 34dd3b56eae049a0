"""Windows of large tables: rows at any offset, and the rows that have a text, as a page asks for them."""

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from websockets.sync.client import ClientConnection, connect

from benchmarks.big_job import await_copy, generate, place
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, Serving, serving
from benchmarks.turns import in_turns

__all__ = ["FIND", "FROM_FILE", "FROM_OUTPUT", "MEDIAN", "OFFSET", "WORDS", "find", "offsets", "write_words"]

OFFSET, FIND = "windows at any offset", "find in 1 M rows"
FROM_OUTPUT, FROM_FILE = f"{CREEMSON}, an output", f"{CREEMSON}, the file"
MEDIAN, COST = "until the answer, p50", "server CPU per answer"
UNITS = {MEDIAN: "ms", "until the answer, p95": "ms", COST: "ms"}
WORDS = (
    "alpha", "Bravo", "charlie", "Delta", "echo", "Foxtrot", "golf", "Hotel", "india", "Juliett", "kilo", "Lima",
    "mike", "November", "oscar", "Papa", "quebec", "Romeo", "sierra", "Tango",
)  # fmt: skip


def offsets(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Ask for 100 rows at random offsets of the big job's table."""
    data = generate(folder, 0.05 if quick else 1.0)
    rows = 290_000 if quick else 6_000_000
    rng = random.Random(1)
    requests = iter(lambda: {"offset": rng.randrange(rows // 2, rows)}, None)
    return _measure(folder, data, requests, OFFSET, runs=runs, count=5 if quick else 50)


def find(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Ask for the first 100 rows that have a text, each time another one: words in other cases, and digits."""
    data = folder / "words.csv"
    write_words(data, 100_000 if quick else 1_000_000)
    rng = random.Random(1)

    def texts() -> Iterator[Mapping[str, Any]]:
        while True:
            yield {
                "offset": 0,
                "find": f"{rng.choice(WORDS)} {rng.choice(WORDS)}{rng.randrange(1000)}".lower(),
            }
            yield {"offset": 0, "find": str(rng.randrange(1000, 100_000))}

    return _measure(folder, data, texts(), FIND, runs=runs, count=4 if quick else 20)


def _measure(
    folder: Path, data: Path, requests: Iterator[Mapping[str, Any]], workload: str, *, runs: int, count: int
) -> list[Series]:
    with (
        serving(CREEMSON, folder / "windows") as system,
        place(system, data) as name,
        connect(system.url, compression=None, max_size=None) as socket,
    ):
        output = _ask(socket, {"type": "process", "filename": name})["data"]["output_data"]["filename"]
        await_copy(system, name)
        work: dict[str, Callable[[], Mapping[str, float]]] = {
            label: partial(_once, system, socket, filename, requests, count)
            for label, filename in ((FROM_OUTPUT, output), (FROM_FILE, name))
        }
        return in_turns(work, runs=runs, workload=workload, units=UNITS)


def _once(
    system: Serving, socket: ClientConnection, name: str, requests: Iterator[Mapping[str, Any]], count: int
) -> Mapping[str, float]:
    seconds, before = [], system.cpu()
    for _ in range(count):
        started = time.perf_counter()
        _ask(socket, {"type": "rows", "filename": name, "limit": 100, "texts": True, **next(requests)})
        seconds.append(time.perf_counter() - started)
    return {
        MEDIAN: statistics.median(seconds) * 1000,
        "until the answer, p95": statistics.quantiles(seconds, n=20, method="inclusive")[-1] * 1000,
        COST: (system.cpu() - before) / count * 1000,
    }


def _ask(socket: ClientConnection, message: Mapping[str, Any]) -> Any:
    """Send a request, and return its last answer."""
    socket.send(json.dumps({"id": "x", **message}))
    while (answer := json.loads(socket.recv(timeout=900)))["type"] in ("accepted", "progress", "log"):
        pass
    if answer["type"] == "error":
        raise RuntimeError(answer)
    return answer


def write_words(target: Path, rows: int) -> None:
    """Write a table of ten columns of all kinds.

    Args:
        target: where to write it, as CSV.
        rows: number of its rows.
    """
    row, words = pl.int_range(rows, eager=True), pl.Series(WORDS)

    def scattered(seed: int, below: int) -> pl.Series:
        return row.hash(seed) % below

    def word(seed: int) -> pl.Series:
        return words[scattered(seed, len(WORDS))]

    price = scattered(1, 100_000).cast(pl.String)
    pl.DataFrame(
        {
            "id": row,
            "price": (price + "." + scattered(2, 100).cast(pl.String).str.zfill(2)),
            "day": scattered(3, 9000).cast(pl.Int32).cast(pl.Date),
            "at": (scattered(4, 1_700_000_000) * 1_000_000).cast(pl.Int64).cast(pl.Datetime("us")),
            "flag": scattered(5, 2) == 1,
            "city": word(6),
            "name": word(7) + " " + word(8) + scattered(9, 1000).cast(pl.String),
            "note": word(10) + " " + word(11) + " " + word(12) + " " + word(13),
            "code": scattered(14, 2**32).cast(pl.String),
            "count": scattered(15, 50),
        }
    ).write_csv(target, datetime_format="%Y-%m-%d %H:%M:%S")
