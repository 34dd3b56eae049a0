"""Jobs of a server with a cluster and an object store while all parts are killed: each ends once, with the right result.

The seed decides the kills and the queries, not the timing. It is always the same, unless ``CHAOS_SEED`` sets another.
"""

import itertools
import os
import random
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress

import polars as pl
import psutil
import pytest
import trio

from creemson.catalog.sqlite import SqliteCatalog
from creemson.client import connect
from creemson.errors import CreemsonError
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.part import objects_of
from creemson.storage.objects.probe import OWNER
from creemson.storage.objects.stores import ObjectStores
from creemson.storage.stores import Stores
from tests.executors.dask.clusters import PATIENCE, Cluster, is_engine
from tests.objectstores import free_port, seaweedfs
from tests.servers import serving, wait_until

KINDS = ("process", "worker", "nannies", "scheduler", "store", "server")
"""What is killed: a worker process, its Dask worker, all nannies of the machine, and the parts of which there is one."""
CLIENTS = 3
WORKERS = 2
ROWS = 300_000
YEARS = 1e9  # in seconds
TOLD = 2.0
"""Seconds in which a job is told of a killed worker; a failure that is told later has another cause."""
LIMIT = 600
"""Seconds until the test gives up, and 30 for each kill: a busy machine takes many to start a part."""


class Parts:
    """The server, the cluster and the object store, all of which are killed and started again."""

    def __init__(self, folder):
        self._store_folder, self._data = folder / "objects", folder / "data"
        self._store_port, self.port = free_port(), free_port()
        self._temporary = folder / "temporary"
        self._temporary.mkdir()
        (folder / "cluster").mkdir()
        self.cluster = Cluster(folder / "cluster", {"TMPDIR": str(self._temporary)}, ttl="10s")
        self._store, self._server = ExitStack(), ExitStack()
        self.killed = []  # processes of the cluster
        self.kill_times = []  # when one of the workers was killed

    def start(self):
        self.start_store()
        self.url = self.endpoint.bucket()
        self.cluster.environment.update(self.endpoint.environment)
        self.cluster.start_scheduler()
        self.cluster.start_workers(WORKERS)
        self.start_server()

    def start_store(self):
        self.endpoint = self._store.enter_context(seaweedfs(self._store_folder, self._store_port))
        if self.killed:
            wait_until(self._store_works, PATIENCE)

    def _store_works(self):
        """Return whether objects can be written, which is some time after the first answer."""
        bucket = self.url.removeprefix("s3://").partition("/")[0]
        request = urllib.request.Request(f"{self.endpoint.url}/{bucket}/ready", method="PUT", data=b"ready")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def start_server(self):
        settings = {
            "storage.url": self.url, "storage.tables": "never", "retries.job": 50, "server.drain_timeout": 0.3,
        }  # fmt: skip
        options = itertools.chain.from_iterable(
            ("--set", f"{key}={value}") for key, value in settings.items()
        )
        for tries_left in (2, 1, 0):
            try:
                self.server = self._server.enter_context(
                    serving(
                        self._data, *options, *self.cluster.settings(), "--port", str(self.port),
                        env=self.endpoint.environment,
                    )
                )  # fmt: skip
            except AssertionError:  # it refuses to start if the other parts do not answer within 10 s
                if not tries_left:
                    raise
            else:
                return

    def kill(self, kind, rng):
        """Kill a part, and start it again if nobody else does."""
        match kind:
            case "process" | "worker":
                self._kill_one(kind, rng)
            case "nannies":
                self.killed += psutil.Process(self.cluster.workers.pid).children(recursive=True)
                self.cluster.kill_workers()
                self.cluster.start_workers(WORKERS)
            case "scheduler":
                self.cluster.kill_scheduler()
                self.cluster.start_scheduler()
            case "store":
                self._store.close()
                self.start_store()
            case "server":
                self.server.process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
                self.server.process.wait()
                self.close_server()
                self.start_server()

    def _kill_one(self, kind, rng):
        """Kill a worker process, or the Dask worker above one; if there is none, one is being started."""
        deadline = time.monotonic() + PATIENCE
        while True:
            family = psutil.Process(self.cluster.workers.pid).children(recursive=True)
            found = [process for process in family if is_engine(process)]
            if kind == "worker":
                parents = {process.ppid() for process in found if process.is_running()}
                found = [process for process in family if process.pid in parents]
            if found:
                victim = rng.choice(found)
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    self.killed.append(victim)
                    self.kill_times.append(time.monotonic())
                    return
            assert time.monotonic() < deadline, f"no {kind} to kill"
            time.sleep(0.05)

    def close_server(self):
        self._server.close()
        assert "Traceback" not in self.server.log.read_text()

    def sweep(self):
        """Sweep, as a server does at its start; return the objects that there are, and those that rows name."""
        catalog = SqliteCatalog(self._data / "catalog.db")
        catalog.open()
        try:
            backend = ObjectStores(self.url, catalog, clock=time.time)
            stores = Stores(self._data, catalog, quota=0, clock=time.time, backend=backend)
            stores.prepare()
            stores.drop_unheld()
            stores.sweep(now=time.time(), keep_uploads=YEARS, keep_outputs=YEARS, keep_parts=YEARS)
            named = [one for row in catalog.objects.rows() for one in objects_of(row)]
        finally:
            catalog.close()
        return sorted(one for one in ObjectBucket(self.url).sizes() if one[0] != OWNER), sorted(named)

    def close(self):
        with self._store:
            try:
                self._server.close()
            finally:
                self.cluster.stop()


def lives(process):
    """Return whether a process runs; nobody may have asked how a killed one has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def tables():
    """Return the tables by name."""
    number = pl.int_range(ROWS, eager=True)
    return {
        f"{factor}.csv": pl.DataFrame({"n": number, "t": "x" + (number * factor % 1_000_003).cast(pl.String)})
        for factor in (2654435761, 40503, 69069)
    }


async def patiently(call, *arguments):
    """Call, and try again while the object store is away."""
    while True:
        try:
            return await call(*arguments)
        except CreemsonError as error:
            if not error.retryable:
                raise
            await trio.sleep(0.2)


def added(kill_times, restarts):
    """Return the seconds from each kill of a worker that ended an attempt until the next attempt reads."""
    found = {}
    for told, read in restarts:
        kill = max((time for time in kill_times if time <= told), default=None)
        if kill is not None and told - kill < TOLD:
            found.setdefault(kill, read - kill)  # the next one may be that of another kill
    return sorted(found.values())


async def run_job(client, name, table, rng, restarts):
    """Run a unique job, and check its result; note when an attempt has ended and when the next one reads."""
    least, most = rng.randrange(ROWS // 2), rng.randrange(1, 2000)
    job = client.process(
        name, columns=["n", "t"], where=[("n", ">=", least)], sort=[("t", "desc"), "n"], limit=most
    )
    told, known = None, 0
    async for progress in job:
        if len(job.logs) > known:
            known, told = len(job.logs), time.monotonic()
        if told is not None and progress.phase == "reading":
            restarts.append((told, time.monotonic()))
            told = None
    result = await job
    expected = table.filter(pl.col("n") >= least).sort("t", "n", descending=[True, False]).head(most)
    assert (result.rows, result.columns) == (len(expected), ("n", "t"))
    assert (await patiently(result.frame)).equals(expected)


@pytest.mark.slow
async def test_jobs_survive_kills_of_all_parts(tmp_path, monkeypatch):
    """Each has exactly one right result, and the store has nothing that no row names."""
    seed, kills = int(os.environ.get("CHAOS_SEED", "1")), int(os.environ.get("CLUSTER_KILLS", "6"))
    sys.stdout.write(f"{seed=} {kills=}")
    rng = random.Random(seed)
    plan = [kind for _ in range(-(-kills // len(KINDS))) for kind in rng.sample(KINDS, len(KINDS))][:kills]
    parts, files = Parts(tmp_path), tables()
    over = trio.Event()
    results, restarts = 0, []

    async def work(number):
        nonlocal results
        rng = random.Random(f"{seed}-{number}")
        url = f"ws://127.0.0.1:{parts.port}/ws"
        async with connect(url, wait_for_server=True, rng=rng, give_up_after=float(LIMIT)) as client:
            while not over.is_set():
                name = rng.choice(list(files))
                await run_job(client, name, files[name], rng, restarts)
                results += 1

    try:
        await trio.to_thread.run_sync(parts.start)
        for name, value in parts.endpoint.environment.items():
            monkeypatch.setenv(name, value)
        for name, table in files.items():
            await trio.to_thread.run_sync(parts.server.write, name, table.write_csv().encode())
        began = time.monotonic()
        with trio.fail_after(LIMIT + 30 * kills):
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    nursery.start_soon(work, number)
                for kind in plan:
                    await trio.sleep(rng.uniform(0.1, 1.5))
                    await trio.to_thread.run_sync(parts.kill, kind, rng)
                over.set()
        times = added(parts.kill_times, restarts)
        sys.stdout.write(
            f" {results=} seconds={time.monotonic() - began:.0f} jobs that met the kill of a worker: {len(times)}"
        )
        if times:
            sys.stdout.write(f", read again after {times[len(times) // 2]:.2f} s (median) of {times}")
        with parts.server.connect() as client:
            jobs = client.ask({"type": "jobs", "id": "j"})["jobs"]
        assert {job["state"] for job in jobs} == {"done"}
        await trio.to_thread.run_sync(parts.close_server)
        there, named = await trio.to_thread.run_sync(parts.sweep)
        assert there == named
        await trio.to_thread.run_sync(wait_until, lambda: not any(map(lives, parts.killed)), PATIENCE)
        assert len(list((tmp_path / "temporary").glob("creemson-worker-*"))) == 1  # of the workers that run
    finally:
        await trio.to_thread.run_sync(parts.close)
    assert results >= max(CLIENTS, kills // 2)
