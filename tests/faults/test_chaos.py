"""Jobs and transfers while connections and servers die: each ends exactly once, with the right result.

The seed decides the plans (not the timing). It is always the same, unless ``CHAOS_SEED`` sets another.
"""

import itertools
import os
import random
import signal
import statistics
import sys
from contextlib import ExitStack

import attrs
import httpx
import polars as pl
import psutil
import pytest
import trio

from creemson.client import connect
from tests.faults.proxy import Plan, proxied
from tests.servers import serving, wait_until

AT_ONCE = 8
CHUNK = 64 * 1024
ROWS = 500_000
WORKERS = 2
QUICK = {"heartbeat_interval": 0.5, "heartbeat_timeout": 0.5, "handshake_timeout": 1.0}
"""Seconds in which a client detects a dead connection."""
DRAIN = 0.3
"""Seconds that a terminated server may drain: less than many jobs take."""


class Mortal:
    """A server that is killed or terminated, and restarts on the same folder."""

    def __init__(self, data_dir, *settings):
        self._data_dir = data_dir
        self._settings = settings
        self._stack = ExitStack()
        self.server = None
        self.deaths = 0
        self.orphans = []  # workers of dead servers

    def start(self):
        arguments = [
            f"limits.chunk_bytes={CHUNK}",
            f"processing.workers={WORKERS}",
            f"server.drain_timeout={DRAIN}",
            *self._settings,
        ]
        options = itertools.chain.from_iterable(("--set", argument) for argument in arguments)
        self.server = self._stack.enter_context(serving(self._data_dir, *options))

    def die(self, sign):
        self.deaths += 1
        self.orphans += self.server.workers()
        self.server.process.send_signal(sign)
        self.server.process.wait()
        assert "Traceback" not in self.server.log.read_text()
        self._stack.close()
        self.start()

    def close(self):
        self._stack.close()


@attrs.define
class Tally:
    """Totals over all runs."""

    results: int = 0
    connections: int = 0
    recoveries: list[float] = attrs.field(factory=list)  # seconds, only if the server did not die in between


async def watch(client, mortal, tally):
    """Measure how long the client is without a connection."""
    lost = deaths = None
    while True:
        if client.state.phase == "waiting" and lost is None:
            lost, deaths = trio.current_time(), mortal.deaths
        elif client.state.phase == "open" and lost is not None:
            if mortal.deaths == deaths:
                tally.recoveries.append(trio.current_time() - lost)
            lost = None
        await trio.sleep(0.005)


async def run_job(client, table, rng):
    """Run a unique job and check its result."""
    least, most = rng.randrange(ROWS // 2), rng.randrange(1, 2000)
    job = client.process(
        "table.csv", columns=["n", "text"], where=[("n", ">=", least)], sort=[("n", "desc")], limit=most
    )
    seqs = []
    async for _ in job:
        seqs.append(job._seq)
    assert seqs == sorted(seqs)
    result = await job
    expected = table.filter(pl.col("n") >= least).sort("n", descending=True).head(most)
    assert (result.rows, result.columns) == (len(expected), ("n", "text"))
    assert (await result.frame()).equals(expected)


async def run_upload(client, folder, mortal, number, rng):
    """A file there, and back."""
    data = rng.randbytes(rng.randrange(1, 8 * CHUNK))
    path = folder / f"{number}.bin"
    path.write_bytes(data)
    done = await client.upload(path)
    assert done.size == len(data)
    assert (mortal.server.data_dir / "uploads" / path.name).read_bytes() == data
    await client.download(path.name, folder / f"{number}.back")
    assert (folder / f"{number}.back").read_bytes() == data


@pytest.mark.slow
async def test_jobs_and_uploads_survive_chaos(tmp_path):
    """Cuts, silence, delays, reordered connections, killed servers: every run ends as if there were none."""
    seed, runs = int(os.environ.get("CHAOS_SEED", "1")), int(os.environ.get("CHAOS_RUNS", "300"))
    sys.stdout.write(f"{seed=}")
    numbers = pl.int_range(ROWS, eager=True)
    table = pl.DataFrame({"n": numbers, "text": "x" + (numbers * 2654435761 % 1_000_003).cast(pl.String)})
    mortal, tally = Mortal(tmp_path / "data"), Tally()
    before = psutil.Process().num_fds()
    plans = (Plan.restless(random.Random(f"{seed}-plan-{number}")) for number in itertools.count())
    left = iter(range(runs))
    folder = tmp_path / "files"
    folder.mkdir()

    async def work(url):
        for number in left:
            rng = random.Random(f"{seed}-{number}")
            options = {"wait_for_server": True, "rng": rng, **QUICK, "give_up_after": 600.0}
            async with connect(url, **options) as client, trio.open_nursery() as nursery:
                nursery.start_soon(watch, client, mortal, tally)
                if rng.random() < 0.6:
                    await run_job(client, table, rng)
                else:
                    await run_upload(client, folder, mortal, number, rng)
                tally.results += 1
                tally.connections += client.state.connections
                nursery.cancel_scope.cancel()

    async def reap(proxy):
        rng = random.Random(f"{seed}-reaper")
        # Clients back off with each failure: without an end, they might never finish on a slow machine.
        for death in range(2 + runs // 8):
            await trio.sleep(rng.uniform(0.2, 3.0 if death else 0.6))
            await trio.to_thread.run_sync(mortal.die, rng.choice([signal.SIGKILL, signal.SIGTERM]))
            proxy.target = mortal.server.port

    try:
        await trio.to_thread.run_sync(mortal.start)
        table.write_csv(mortal.server.data_dir / "uploads" / "table.csv")
        with trio.fail_after(1200 + 10 * runs):
            async with proxied(mortal.server.port, plans) as proxy, trio.open_nursery() as chaos:
                chaos.start_soon(reap, proxy)
                async with trio.open_nursery() as working:
                    for _ in range(AT_ONCE):
                        working.start_soon(work, proxy.url)
                chaos.cancel_scope.cancel()
        server = mortal.server
        status = f"http://127.0.0.1:{server.port}/status"
        wait_until(lambda: httpx.get(status).json()["connections"] == 0)
        wait_until(lambda: httpx.get(status).json()["jobs"]["running"] == 0)
        wait_until(
            lambda: WORKERS + 1 <= len(server.workers()) <= WORKERS + 3
        )  # two start when they are needed
        wait_until(lambda: not any(worker.is_running() for worker in mortal.orphans))
        assert list((server.data_dir / "parts").iterdir()) == []
        assert [path for path in (server.data_dir / "outputs").iterdir() if path.name.startswith(".")] == []
        assert "Traceback" not in server.log.read_text()
        with server.connect() as client:
            states = {job["state"] for job in client.ask({"type": "jobs", "id": "j"})["jobs"]}
        assert states == {"done"}
    finally:
        await trio.to_thread.run_sync(mortal.close)
    mean = statistics.mean(tally.recoveries or [0.0])
    sys.stdout.write(f" {mortal.deaths=} {tally.connections=} {len(tally.recoveries)=} {mean=:.3f}")
    assert tally.results == runs
    assert mortal.deaths >= 1 + runs // 50
    assert tally.connections > runs, "the network was too kind"
    assert mean < 1.0 or runs < 100, "too few runs for a mean"
    wait_until(lambda: psutil.Process().num_fds() <= before)
