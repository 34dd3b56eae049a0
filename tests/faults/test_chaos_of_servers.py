"""Jobs and transfers while three servers, their network and their database fail: each ends once, with the right result.

The seed decides the plans (not the timing). It is always the same, unless ``CHAOS_SEED`` sets another.
"""

import itertools
import os
import random
import signal
import sys
import time
from contextlib import AsyncExitStack

import attrs
import polars as pl
import pytest
import trio

from creemson.client import connect
from tests.faults.fleet import fleet, quantile
from tests.faults.proxy import Plan, proxied
from tests.servers import wait_until

AT_ONCE = 10
CHUNK = 64 * 1024
WORKERS = 2
ROWS = 500_000
QUICK = {"heartbeat_interval": 0.5, "heartbeat_timeout": 0.5, "handshake_timeout": 2.0}
"""Seconds in which a client detects a dead connection."""
STOPPED = 11.5
"""Seconds for which a server is stopped: longer than a lease, so another one takes its jobs."""
RESTARTS = 5
"""How often the database restarts."""


@attrs.define
class Losses:
    """The unfinished jobs of servers when they died or stopped: what happened, when, and the epoch of each job."""

    of: list[tuple[str, str, float, dict[str, int]]] = attrs.field(factory=list)

    def note(self, what, owner, jobs):
        self.of.append((what, owner, time.time(), jobs))


async def run_job(client, table, number, rng):
    """Run a unique job and check its result."""
    least, most = number * 17 + rng.randrange(17), rng.randrange(1, 2000)
    job = client.process(
        "table.csv", columns=["n", "text"], where=[("n", ">=", least)], sort=[("n", "desc")], limit=most
    )
    async for _ in job:
        pass
    result = await job
    expected = table.filter(pl.col("n") >= least).sort("n", descending=True).head(most)
    assert (result.rows, result.columns) == (len(expected), ("n", "text"))
    assert (await result.frame()).equals(expected)


async def run_upload(client, folder, number, rng):
    """A file there, and back."""
    data = rng.randbytes(rng.randrange(1, 8 * CHUNK))
    path = folder / f"{number}.bin"
    path.write_bytes(data)
    done = await client.upload(path)
    assert done.size == len(data)
    await client.download(path.name, folder / f"{number}.back")
    assert (folder / f"{number}.back").read_bytes() == data


def check_leftovers(servers):
    """Check that there is no output beside those of the results, and after a sweep no object without a row."""
    named, present = servers.outputs()
    assert present == named
    for member in servers.members:
        assert member.server.stop() == 0
    servers.pass_hour()
    servers.members[0].revive()  # a start begins with a sweep, which notes what has no row
    wait_until(lambda: servers.leftovers() <= servers.noted())
    assert servers.members[0].server.stop() == 0
    servers.pass_hour()
    servers.members[0].revive()
    wait_until(lambda: not servers.leftovers())


@pytest.mark.slow
async def test_jobs_and_uploads_survive_chaos_of_three_servers(tmp_path):
    """Cuts, silence, killed, terminated and sleeping servers, restarts of the database: each run ends as without.

    There are at least so many runs as asked for, and more if faults are left to come.
    """
    seed, runs = int(os.environ.get("CHAOS_SEED", "1")), int(os.environ.get("SERVER_CHAOS_RUNS", "30"))
    sys.stdout.write(f"{seed=}")
    numbers = pl.int_range(ROWS, eager=True)
    table = pl.DataFrame({"n": numbers, "text": "x" + (numbers * 2654435761 % 1_000_003).cast(pl.String)})
    table.write_csv(tmp_path / "table.csv")
    left = itertools.count()
    over = trio.Event()  # set when all of what is to happen has happened
    files = tmp_path / "files"
    files.mkdir()
    losses, jobs, done = Losses(), 0, 0

    async def work(urls):
        nonlocal jobs, done
        for number in left:
            if number >= runs and over.is_set():
                break
            rng = random.Random(f"{seed}-{number}")
            options = {"wait_for_server": True, "rng": rng, **QUICK, "give_up_after": 600.0}
            async with connect(rng.sample(urls, len(urls)), **options) as client:
                if rng.random() < 0.7:
                    jobs += 1
                    await run_job(client, table, number, rng)
                else:
                    await run_upload(client, files, number, rng)
            done += 1

    async def reap(servers, locks):
        rng = random.Random(f"{seed}-reaper")
        # Clients back off with each failure: without an end, they might never finish on a slow machine.
        for death in range(2 + runs // 8):
            await trio.sleep(rng.uniform(0.5, 4.0 if death else 1.0))
            sign = rng.choice([signal.SIGKILL, signal.SIGTERM])
            free = [n for n, lock in enumerate(locks) if not lock.locked()]
            at = rng.choice(free)
            async with locks[at]:
                member = servers.members[at]
                losses.note(sign.name, member.id, await trio.to_thread.run_sync(servers.owned, member))
                await trio.to_thread.run_sync(member.die, sign)

    async def let_sleep(servers, locks):
        rng = random.Random(f"{seed}-sleep")
        for _ in range(2 + runs // 40):
            await trio.sleep(rng.uniform(0.5, 4.0))
            at = rng.randrange(len(locks))
            async with locks[at]:
                member = servers.members[at]
                losses.note("SIGSTOP", member.id, await trio.to_thread.run_sync(servers.owned, member))
                await trio.to_thread.run_sync(member.stop_for, STOPPED)

    async def restart_database(servers):
        rng = random.Random(f"{seed}-database")
        for restart in range(RESTARTS):
            await trio.sleep(rng.uniform(1.0, 2.0 + runs / 10))
            how = signal.SIGQUIT if restart % 2 else signal.SIGINT
            await trio.to_thread.run_sync(servers.database.stop, how)
            await trio.to_thread.run_sync(servers.database.start)

    with fleet(
        tmp_path / "servers",
        f"limits.chunk_bytes={CHUNK}",
        f"processing.workers={WORKERS}",
        "storage.tables=never",
    ) as servers:
        with trio.fail_after(1200 + 10 * runs):
            async with connect(servers.urls) as client:
                await client.upload(tmp_path / "table.csv")
            async with AsyncExitStack() as stack:
                proxies = []
                for number, member in enumerate(servers.members):
                    plan = random.Random(f"{seed}-plans-{number}")
                    plans = (Plan.restless(plan) for _ in itertools.count())
                    proxies.append(await stack.enter_async_context(proxied(member.port, plans)))
                async with trio.open_nursery() as working:
                    locks = [trio.Lock() for _ in servers.members]
                    for _ in range(AT_ONCE):
                        working.start_soon(work, [proxy.url for proxy in proxies])
                    async with trio.open_nursery() as chaos:
                        chaos.start_soon(reap, servers, locks)
                        chaos.start_soon(let_sleep, servers, locks)
                        chaos.start_soon(restart_database, servers)
                    over.set()
        assert servers.sql("SELECT count(*), count(DISTINCT key) FROM jobs") == [(jobs, jobs)]
        history = servers.check_history()
        assert len(history) == jobs
        claimed = {"SIGKILL": [], "SIGTERM": [], "SIGSTOP": []}
        ended = {what: [] for what in claimed}
        for what, owner, at, owned in losses.of:
            for job, epoch in owned.items():
                end = history[job][-1]
                # It ended before the signal arrived, or another claim than that of the lost server has ended it.
                assert end.owner != owner or what == "SIGSTOP" or end.at < at + 1, (what, at, owned, end)
                later = [change for change in history[job] if change.epoch > epoch]
                if later:
                    claimed[what].append(later[0].at - at)
                    ended[what].append(end.at - at)
        await trio.to_thread.run_sync(check_leftovers, servers)
        servers.check_logs()
    assert done >= runs
    sys.stdout.write(f" {done} runs, {jobs} of them jobs.")
    for what, seconds in claimed.items():
        sys.stdout.write(f" {what}: {len(seconds)} jobs")
        for name, values in (("claimed again", seconds), ("ended", ended[what])):
            p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
            sys.stdout.write(f", {name} after {p50=:.2f} s {p99=:.2f} s")
