"""Several servers on one PostgreSQL and one object store: what sharing costs, and how fast jobs go on elsewhere."""

import itertools
import json
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import attrs
import psutil
from websockets.sync.client import connect

from benchmarks import small_jobs
from benchmarks.big_job import uploaded
from benchmarks.database import postgres
from benchmarks.elsewhere import new_bucket, object_store
from benchmarks.figures import Series
from benchmarks.serving import S3, S3_POSTGRES, Serving, serving
from benchmarks.turns import in_turns
from creemson.catalog.catalog import JobRow
from creemson.catalog.database import Transaction
from creemson.catalog.postgres import PostgresDatabase
from creemson.catalog.shared.jobs.turns import Turns

__all__ = [
    "CLAIMS",
    "CLAIM_P99",
    "DRAINED",
    "KILLED",
    "LOST",
    "NEW",
    "REPEATED",
    "UNFAIR",
    "claims",
    "losses",
    "small",
]

NEW, REPEATED = f"{small_jobs.NEW}, in an object store", f"{small_jobs.REPEATED}, in an object store"
CLAIMS, LOST = "claims of waiting jobs", "a lost server"
CLAIM_P50, CLAIM_P99, UNFAIR, CLAIM_RATE = (
    "a claim, p50",
    "a claim, p99",
    "farthest from a fair share",
    "claims a second",
)
KILLED, DRAINED = "killed to result, p99", "terminated to result, p99"
CALLERS, WAITING, CLAIMERS = 50, 10_000, 4
PACE = 200
"""Claims a second of all servers: about as many small jobs as two cores can run."""
FREE = 10**6
"""So many jobs of one caller may run."""


def small(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """Run small jobs on one server, whose catalog is SQLite or PostgreSQL, and whose files are in an object store."""
    fewer = 50 if quick else 300  # there are 1,820 choices of four columns
    folder.mkdir(exist_ok=True)
    data = folder / "small.csv"
    data.write_text(small_jobs.make_table(random.Random(seed)))
    with ExitStack() as stack:
        environment = stack.enter_context(object_store(folder / "store"))
        database = stack.enter_context(postgres())
        options = {S3: (), S3_POSTGRES: (f"catalog.url={database}",)}
        systems = [
            stack.enter_context(
                serving(name, folder / f"system{index}", f"storage.url={new_bucket(environment)}", *more,
                        environment=environment)
            )
            for index, (name, more) in enumerate(options.items())
        ]  # fmt: skip
        for system in systems:
            stack.enter_context(uploaded(system, data, "small-0.csv"))
        choices = {system.name: itertools.count(0, fewer) for system in systems}
        new: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(small_jobs.run_new_columns, system, fewer, choices[system.name])
            for system in systems
        }
        units = {small_jobs.RATE: "1/s", small_jobs.COST: "ms", "until the answer, p99": "ms"}
        results = in_turns(new, runs=min(runs, 5), workload=NEW, units=units)
        repeated: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(small_jobs.run_repeated, system, 10 * fewer) for system in systems
        }
        results += in_turns(repeated, runs=runs, workload=REPEATED, units=units)
    return results


def claims(folder: Path, *, runs: int, quick: bool, seed: int) -> list[Series]:
    """Let four servers claim jobs, one at a time each, while 10,000 of 50 callers wait; half of them are one caller's.

    First at a pace, which shows how long a claim takes; then as fast as they can. Each claimed job ends at once, which
    belongs to the rate only.
    """
    del folder
    waiting = WAITING // 10 if quick else WAITING
    measured = []
    # Processes, as servers are: threads would also wait for each other.
    with (
        postgres() as url,
        ProcessPoolExecutor(CLAIMERS, get_context("spawn")) as pool,
        _opened(url) as database,
    ):
        for run in range(runs + 1):
            _fill(database, waiting, random.Random(f"{seed}-{run}"))
            each = waiting // 10 // CLAIMERS  # so that enough jobs of each caller wait until the end
            owners = [str(number) for number in range(CLAIMERS)]
            calm = list(pool.map(_claim, repeat(url), owners, repeat(each), repeat(CLAIMERS / PACE)))
            began = time.perf_counter()
            busy = list(pool.map(_claim, repeat(url), owners, repeat(each), repeat(0.0)))
            if run:  # the first one starts the processes
                measured.append(_figures(calm, busy, time.perf_counter() - began))
    units = {CLAIM_P50: "ms", CLAIM_P99: "ms", CLAIM_RATE: "1/s", UNFAIR: "%"}
    return [
        Series(
            workload=CLAIMS,
            system=S3_POSTGRES,
            metric=metric,
            unit=unit,
            values=[one[metric] for one in measured],
        )
        for metric, unit in units.items()
    ]


@contextmanager
def _opened(url: str) -> Iterator[PostgresDatabase]:
    database = PostgresDatabase(url, shared=True)
    database.open()
    try:
        yield database
    finally:
        database.close()


def _claim(url: str, owner: str, times: int, interval: float) -> tuple[list[float], Counter[str]]:
    """Claim jobs, with so many seconds between two claims, if they are not slower than that.

    Returns:
        The seconds of each claim, and how many jobs of each caller were claimed.
    """
    seconds: list[float] = []
    served: Counter[str] = Counter()
    with _opened(url) as database:
        turns, rng, first = Turns(database, owner), random.Random(owner), time.perf_counter()
        for number in range(times):
            due = first + (number + rng.random()) * interval
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            claimed = turns.claim(1, FREE)
            seconds.append(time.perf_counter() - began)
            served.update(one.party for one in claimed)
            _end(database, [one.stored.row.id for one in claimed])
    return seconds, served


def _figures(
    calm: Sequence[tuple[list[float], Counter[str]]],
    busy: Sequence[tuple[list[float], Counter[str]]],
    elapsed: float,
) -> Mapping[str, float]:
    cuts = statistics.quantiles([one for seconds, _ in calm for one in seconds], n=100)
    served = sum((served for _, served in [*calm, *busy]), Counter[str]())
    fair = served.total() / CALLERS
    return {
        CLAIM_P50: cuts[49] * 1000,
        CLAIM_P99: cuts[98] * 1000,
        CLAIM_RATE: sum(served.total() for _, served in busy) / elapsed,
        UNFAIR: max(abs(served[f"caller-{number:02}"] - fair) for number in range(CALLERS)) / fair * 100,
    }


def _fill(database: PostgresDatabase, waiting: int, rng: random.Random) -> None:
    """Let jobs wait, half of them the first caller's, in a random order."""
    of = [0] * (waiting // 2) + [number % CALLERS for number in range(waiting - waiting // 2)]
    rng.shuffle(of)
    columns = list(attrs.fields_dict(JobRow))
    rows = [
        {
            "id": f"{rng.getrandbits(64):016x}", "key": f"{rng.getrandbits(256):064x}", "caller": f"caller-{number:02}",
            "query": json.dumps({"filename": "t.csv", "limit": n}), "timeout": 300.0, "kept": True, "state": "queued",
            "created": 1e9 + n, "finished": None, "restarts": 0, "seq": 0, "outcome": None, "version": "v",
        }
        for n, number in enumerate(of)
    ]  # fmt: skip

    def fill(transaction: Transaction) -> None:
        transaction.execute("TRUNCATE jobs, turns")
        places = ", ".join("?" * len(columns))
        transaction.executemany(
            f"INSERT INTO jobs ({', '.join(columns)}, party) VALUES ({places}, ?)",
            [(*(row[name] for name in columns), row["caller"]) for row in rows],
        )

    database.change(fill)
    database.change(
        lambda transaction: transaction.execute("ANALYZE jobs")
    )  # as PostgreSQL does by itself, later


def _end(database: PostgresDatabase, jobs: list[str]) -> None:
    database.change(
        lambda transaction: transaction.execute("UPDATE jobs SET state = 'done' WHERE id = ANY (?)", (jobs,))
    )


def losses(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Kill and terminate servers that have a short job, and measure the time until its result at another server."""
    folder.mkdir(exist_ok=True)
    data = folder / "small.csv"
    data.write_text("id,name\n" + "".join(f"{n},item {n % 97}\n" for n in range(1000)))
    limits = itertools.count(1)
    seconds: dict[str, list[float]] = {KILLED: [], DRAINED: []}
    with object_store(folder / "store") as environment, postgres() as url:
        options = (f"catalog.url={url}", f"storage.url={new_bucket(environment)}")
        start = partial(serving, S3_POSTGRES)
        with (
            start(folder / "survivor", *options, environment=environment) as survivor,
            uploaded(survivor, data, "small.csv"),
        ):
            for metric, sign, times in (
                (KILLED, signal.SIGKILL, 2 if quick else 4 * runs),
                (DRAINED, signal.SIGTERM, 2 if quick else 10 * runs),
            ):
                for number in range(times):
                    place = folder / f"{sign.name}-{number}"
                    with start(place, *options, environment=environment) as victim:
                        seconds[metric].append(_lose(victim, survivor, sign, next(limits)))
    return [
        Series(workload=LOST, system=S3_POSTGRES, metric=metric, unit="s", values=[_p99(values)])
        for metric, values in seconds.items()
    ]


def _lose(victim: Serving, survivor: Serving, sign: signal.Signals, limit: int) -> float:
    """Lose a server that has just claimed a job; return the seconds until the job's result."""
    with (
        connect(victim.url, compression=None) as near,
        connect(survivor.url, compression=None) as far,
        _suspended(victim),  # its workers, so that the job has not ended before
    ):
        near.send(json.dumps({"type": "process", "id": "j", "filename": "small.csv", "limit": limit}))
        accepted = json.loads(near.recv(timeout=60))
        assert (accepted["type"], accepted["position"]) == ("accepted", 0), accepted
        far.send(json.dumps({"type": "attach", "id": "a", "job": accepted["job"]}))
        time.sleep(0.2)
        began = time.perf_counter()
        victim.process.send_signal(sign)
        while (message := json.loads(far.recv(timeout=60)))["type"] != "result":
            assert message["type"] != "error", message
        return time.perf_counter() - began


@contextmanager
def _suspended(system: Serving) -> Iterator[None]:
    workers = system.workers()
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            try:
                worker.resume()
            except psutil.Error:
                continue


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(0.99 * len(values)))]
