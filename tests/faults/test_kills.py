"""Random kill -9 of workers and servers during uploads and jobs: nothing is lost.

The seed decides the plan (not the timing). It is always the same, unless ``CHAOS_SEED`` sets another.
"""

import itertools
import os
import random
import signal
import sys

import polars as pl
import psutil
import pytest
import trio

from creemson.client import connect
from tests.faults.proxy import Plan, proxied
from tests.faults.test_chaos import QUICK, ROWS, Mortal, Tally, run_job, run_upload
from tests.servers import wait_until

AT_ONCE = 4
PATIENT = {**QUICK, "give_up_after": 600.0, "handshake_timeout": 30.0, "heartbeat_timeout": 30.0}
"""For a client whose server is down as often as up, on a busy machine."""


class Reaper:
    """Kills processes and counts them."""

    def __init__(self, mortal, rng):
        self._mortal = mortal
        self._rng = rng
        self.workers = self.servers = 0

    @property
    def kills(self):
        return self.workers + self.servers

    def strike(self):
        """Kill a worker most of the time, or else the server, which restarts on the same folder."""
        if self._rng.random() < 0.15:
            self._mortal.die(signal.SIGKILL)
            self.servers += 1
            return
        workers = self._mortal.server.workers()
        if not workers:
            return
        try:
            self._rng.choice(workers).kill()
        except psutil.NoSuchProcess:  # it has just been replaced
            return
        self.workers += 1


@pytest.mark.parametrize("kills", [3, pytest.param(120, marks=pytest.mark.slow)])
async def test_random_kills_lose_nothing(tmp_path, kills):
    """Every job has its one right result, and every file its bytes, however many processes die."""
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    sys.stdout.write(f"{seed=}")
    numbers = pl.int_range(ROWS, eager=True)
    table = pl.DataFrame({"n": numbers, "text": "x" + (numbers * 2654435761 % 1_000_003).cast(pl.String)})
    mortal, tally = Mortal(tmp_path / "data", "retries.job=50"), Tally()
    folder = tmp_path / "files"
    folder.mkdir()
    reaper = Reaper(mortal, random.Random(f"{seed}-reaper"))
    enough = trio.Event()

    async def reap(proxy):
        rng = random.Random(f"{seed}-pauses")
        while reaper.kills < kills:
            await trio.sleep(rng.uniform(0.05, 0.6))
            servers = reaper.servers
            await trio.to_thread.run_sync(reaper.strike)
            if reaper.servers > servers:  # let clients connect before the next kill
                await trio.sleep(rng.uniform(0, 1.5))
            proxy.target = mortal.server.port
        enough.set()

    async def work(url, number):
        """Run jobs and uploads until enough processes have died, and finish the last one."""
        while not enough.is_set():
            rng = random.Random(f"{seed}-{number}")
            async with connect(url, wait_for_server=True, rng=rng, **PATIENT) as client:
                if rng.random() < 0.6:
                    await run_job(client, table, rng)
                else:
                    await run_upload(client, folder, mortal, number, rng)
            tally.results += 1
            number += AT_ONCE

    try:
        await trio.to_thread.run_sync(mortal.start)
        table.write_csv(mortal.server.data_dir / "uploads" / "table.csv")
        with trio.fail_after(600 + 5 * kills):
            async with (
                proxied(mortal.server.port, itertools.repeat(Plan())) as proxy,
                trio.open_nursery() as all_of_it,
            ):
                all_of_it.start_soon(reap, proxy)
                for number in range(AT_ONCE):
                    all_of_it.start_soon(work, proxy.url, number)
        server = mortal.server
        wait_until(lambda: not any(worker.is_running() for worker in mortal.orphans))
        wait_until(lambda: 3 <= len(server.workers()) <= 5)  # two start when they are needed
        with server.connect() as client:
            wait_until(
                lambda: {job["state"] for job in client.ask({"type": "jobs", "id": "j"})["jobs"]} == {"done"}
            )
        assert list((server.data_dir / "parts").iterdir()) == []
        assert [path for path in (server.data_dir / "outputs").iterdir() if path.name.startswith(".")] == []
        assert "Traceback" not in server.log.read_text()
    finally:
        await trio.to_thread.run_sync(mortal.close)
    sys.stdout.write(f" {reaper.workers=} {reaper.servers=} {tally.results=}")
    assert reaper.kills >= kills
    assert tally.results >= AT_ONCE
