"""Runs five hundred users on a real server for any time; exits 1 if anything was lost, wrong or left over.

The slope of the server's memory is measured after a warm-up, which lasts until all users are connected, the
history of ended jobs is full (the server keeps the last 1000 of them in memory; a burst of small jobs fills
it), and a fifth of the time, but at least 20 seconds, has passed.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from tests.servers import serving
from tests.soak.ledger import Ledger
from tests.soak.measure import Samples
from tests.soak.tables import Query, Table
from tests.soak.user import ACTIONS, User
from tests.soak.wire import Wire

HISTORY = 1000
"""Ended jobs that the server remembers."""
MAX_SLOPE = 1.0
"""MiB per minute."""
LONG = 300
"""Seconds of measurement from which the limit applies unchanged."""
SAWTOOTH = 8.0
"""MiB by which the memory rises and falls between two sweeps and two garbage collections: a shorter measurement
may see only the rise, so a short run finds only large leaks."""
SPARE_WORKERS, WORKER_FDS = 2, 5
"""Workers that start when they are needed; file descriptors of the server for each: three pipes, its lifeline, its pidfd."""
PATIENCE = 180
"""Seconds within which connections and files must be closed at the end."""
OPENED = 120
"""Maximum seconds in which the first user must have done everything once."""


def _say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def status(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/status", timeout=30) as answer:
        return json.load(answer)


def ended_jobs(server):
    jobs = status(server)["jobs"]
    return sum(count for state, count in jobs.items() if state in {"done", "failed", "cancelled"})


async def fill_history(url, ledger, common, rng):
    """Run so many different jobs that the oldest are forgotten from here on."""
    rows = len(common.rows)
    queries = [Query(minimum, rng.randrange(1, 400)) for minimum in rng.sample(range(rows), HISTORY + 100)]
    async with Wire(url, ledger) as wire:
        for start in range(0, len(queries), 50):
            parts = [
                wire.message("process", "result", filename=common.name, preview=1000, **query.fields())
                for query in queries[start : start + 50]
            ]
            await wire.send({"type": "batch", "messages": [message for message, _ in parts]})
            for _, asked in parts:
                await asked.result()
        await wire.drop("clean")


async def soak(server, options, ledger):
    """Run the load; return the samples, the ends of warm-up and load, and figures for the report."""
    process = psutil.Process(server.process.pid)
    common = Table("common.csv", 2000, 1)
    (server.data_dir / "uploads" / common.name).write_bytes(common.data)
    address = ("127.0.0.1", server.port)
    url = f"ws://127.0.0.1:{server.port}/ws"
    # Opens everything that the server opens once and keeps.
    stop = asyncio.Event()
    first = asyncio.create_task(User(address, ledger, common, options.seed, -1, think=0.01).run(stop))
    every, most = {kind.__name__ for kind in ACTIONS}, time.monotonic() + OPENED
    while not every <= set(ledger.actions) and time.monotonic() < most:  # noqa: ASYNC110 - counted by the user
        await asyncio.sleep(0.1)
    stop.set()
    await first
    fds, children = process.num_fds(), len(process.children())

    samples = Samples(process)
    sampling = asyncio.create_task(samples.collect())
    began, stop = time.monotonic(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        filling = group.create_task(fill_history(url, ledger, common, random.Random(options.seed)))
        for number in range(options.connections):
            user = User(address, ledger, common, options.seed, number, think=options.think)
            group.create_task(user.run(stop))
            await asyncio.sleep(0.01)
        await filling
        while await asyncio.to_thread(ended_jobs, server) <= HISTORY:  # noqa: ASYNC110 - the count is in another process
            await asyncio.sleep(0.5)
        await asyncio.sleep(began + max(20, options.seconds / 5) - time.monotonic())
        warm = time.monotonic() - began
        middle = await asyncio.to_thread(status, server)
        # On a busy machine, the warm-up may take longer than the rest.
        await asyncio.sleep(max(began + options.seconds - time.monotonic(), options.seconds / 2))
        over = time.monotonic() - began
        stop.set()
    jobs = await asyncio.to_thread(status, server)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        end = await asyncio.to_thread(status, server)
        idle = end["connections"] == end["jobs"]["queued"] == end["jobs"]["running"] == 0
        more_workers = len(process.children()) - children
        if (
            idle
            and process.num_fds() <= fds + more_workers * WORKER_FDS
            and 0 <= more_workers <= SPARE_WORKERS
        ):
            break
        await asyncio.sleep(0.2)
    sampling.cancel()
    ledger.expect("connections at the end", end["connections"], 0)
    ledger.expect("jobs in progress at the end", (end["jobs"]["queued"], end["jobs"]["running"]), (0, 0))
    if not 0 <= more_workers <= SPARE_WORKERS:
        ledger.fault(f"{more_workers} more worker processes at the end than at the start")
    if process.num_fds() > fds + more_workers * WORKER_FDS:
        ledger.fault(f"{process.num_fds()} file descriptors at the end, {fds} at the start")
    return samples, warm, over, {"fds": (fds, process.num_fds()), "middle": middle, "jobs": jobs["jobs"]}


def report(options, ledger, samples, warm, over, more):
    """Check the memory, print the summary and write the samples."""
    slope = samples.slope(warm, over)
    allowed = MAX_SLOPE if over - warm >= LONG else MAX_SLOPE + SAWTOOTH * 60 / (over - warm)
    if slope >= allowed:
        ledger.fault(f"the server grows by {slope:.2f} MiB per minute")
    pings = sorted(ledger.pings)
    centiles = statistics.quantiles(pings, n=100)
    lines = [
        ("seconds, connections, seed", f"{over:.0f}, {more['middle']['connections']}, {options.seed}"),
        *sorted((name, str(count)) for name, count in ledger.actions.items()),
        ("requests: sent = ended + cut", f"{ledger.opened} = {ledger.ended} + {ledger.cut}"),
        ("jobs followed after a drop", f"{ledger.followed} of {ledger.orphans}"),
        ("jobs of the server", ", ".join(f"{state} {count}" for state, count in more["jobs"].items())),
        ("errors", ", ".join(f"{reason} {count}" for reason, count in ledger.errors.most_common()) or "none"),
        ("uploads resumed", str(ledger.resumed)),
        ("bytes up, down", f"{ledger.bytes_up:,}, {ledger.bytes_down:,}"),
        (
            "ping p50, p99, max (ms)",
            f"{centiles[49] * 1e3:.1f}, {centiles[98] * 1e3:.1f}, {pings[-1] * 1e3:.1f}",
        ),
        ("file descriptors before, after", f"{more['fds'][0]}, {more['fds'][1]}"),
        ("RSS at the start (MiB)", f"{samples.values[0]:.1f}"),
        (f"RSS after a warm-up of {warm:.0f} s", f"{samples.at(warm):.1f}"),
        ("RSS at the end of the load", f"{samples.at(over):.1f}"),
        ("RSS after the load", f"{samples.values[-1]:.1f}"),
        ("slope (MiB per minute)", f"{slope:.2f} over {over - warm:.0f} s, {allowed:.2f} allowed"),
        ("faults", str(len(ledger.faults))),
    ]
    for name, value in lines:
        _say(f"{name:32} {value}")
    for fault in ledger.faults[:20]:
        _say(f"  {fault}")
    if options.samples:
        pairs = zip(samples.times, samples.values, strict=True)
        options.samples.write_text("".join(f"{time:.1f} {value:.2f}\n" for time, value in pairs))


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--think", type=float, default=5.0, help="mean seconds between two actions of a user")
    parser.add_argument("--samples", type=Path, help="write the samples of the server's memory to this file")
    options = parser.parse_args()
    _say(f"seed {options.seed}")
    ledger = Ledger()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "data") as server:
        outcome = asyncio.run(soak(server, options, ledger))
        server.stop()
        ledger.check()
        ledger.expect("tracebacks in the log", server.log.read_text().count("Traceback"), 0)
    report(options, ledger, *outcome)
    sys.exit(1 if ledger.faults else 0)


if __name__ == "__main__":
    main()
