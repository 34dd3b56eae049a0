"""A server whose jobs run on a Dask cluster: the same as on its own machine, and what it tells about the cluster.

The files are in a folder, or in an object store, from which the workers fetch them with credentials of their own.
"""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import polars as pl
import psutil
import pytest

from tests.executors.dask.clusters import Cluster
from tests.objectstores import free_port, seaweedfs
from tests.servers import SAMPLE, serving, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An object store on the disk."""
    with seaweedfs(tmp_path_factory.mktemp("store") / "objects") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def cluster(store, tmp_path_factory):
    limit = ("--set", "processing.worker_memory_bytes=600MiB")
    with Cluster(tmp_path_factory.mktemp("cluster"), store.environment).running(WORKERS, *limit) as found:
        yield found


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A CSV that takes seconds to sort."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    number = pl.int_range(6_000_000, eager=True)
    pl.DataFrame(
        {"n": number, "t": (number * 2654435761 % 1_000_003).cast(pl.String), "h": number / 2}
    ).write_csv(path)
    return path


@pytest.fixture(scope="module", params=["local", "dask", "dask with an object store"])
def server(request, cluster, store, large, tmp_path_factory):
    """The same server with either engine, and with either store."""
    engine, remote = request.param.split()[0], "store" in request.param
    options = cluster.settings() if engine == "dask" else []
    if remote:
        options += ["--set", f"storage.url={store.bucket()}"]
    limits = ("--set", "processing.worker_memory_bytes=600MiB", "--set", "processing.nice=0")
    others = ("--set", "storage.tables=never", "--set", "retries.job=1")
    folder = tmp_path_factory.mktemp(engine) / "data"
    with serving(folder, *options, *limits, *others, env=store.environment if remote else ()) as found:
        found.engine = engine
        found.cluster = cluster if engine == "dask" else None
        for name, path in (("penguins.csv", SAMPLE), ("large.csv", large)):
            found.put(name, path)
        found.write("ragged.csv", RAGGED)
        yield found


WORKERS = 2
RAGGED = b"a,b\n1,2\n3\n4,5\n"
SORT = {"filename": "large.csv", "sort": [["t"], ["h"]], "limit": 3}


def test_result_is_the_same_as_that_of_polars(server):
    """The output is downloaded from the server."""
    with server.connect() as client:
        result = client.run(filename="penguins.csv", selectedColumns=["species", "year"], limit=5)
        assert result["type"] == "result", result
        _, data, _ = client.download(result["data"]["output_data"]["filename"])
    expected = pl.read_csv(SAMPLE, null_values="NA")
    assert pl.read_parquet(data).equals(expected.select("species", "year").head(5))


def test_upload_is_described_processed_and_rendered(server):
    """And its repaired rows, the rendering and a range of it are downloaded."""
    with server.connect() as client:
        assert client.upload("few.csv", RAGGED)["type"] == "uploaded"
        columns = client.ask({"type": "columns", "id": "c", "filename": "few.csv"})
        assert [column["name"] for column in columns["columns"]] == ["a", "b"]
        result = client.run(filename="few.csv")["data"]["output_data"]
        assert result["rows"] == 3
        rendering = result["filename"].removesuffix("parquet") + "csv"
        assert client.download(rendering)[1] == b"a,b\n1,2\n3,\n4,5\n"
        assert client.download(rendering, offset=4)[1] == b"1,2\n3,\n4,5\n"
        assert client.download(result["issues"]["rejects"])[1].count(b"\n") == 2


def test_progress_is_told_before_the_result(server):
    """Each report has the same fields; a job on the cluster also says on which machine it runs."""
    with server.connect() as client:
        client.send({"type": "process", "id": "1", **SORT, "limit": 4})
        messages = client.until("result", "error")
    assert messages[-1]["type"] == "result", messages[-1]
    reports = [message for message in messages if message["type"] == "progress"]
    assert reports
    assert all({"phase", "fraction"} <= set(report) and "machine" not in report for report in reports)
    logs = [message["message"] for message in messages if message["type"] == "log"]
    assert logs == ([f"The job runs on {os.uname().nodename}."] if server.engine == "dask" else [])


def test_cancelled_job_ends_and_the_worker_takes_the_next_one(server):
    """In the middle of a sort; what does the work uses little more CPU time."""
    workers = server.workers()
    with server.connect() as client:
        client.send({"type": "process", "id": "1", **SORT, "limit": 5})
        while client.receive()["type"] != "progress":
            pass
        before = {worker: cpu_of(worker) for worker in workers}
        client.send({"type": "cancel", "id": "2", "request": "1"})
        messages = client.until("error")
        assert messages[-1]["reason"] == "cancelled"
        wait_until(lambda: not any(map(uses_cpu, workers)))
        used = max(cpu_of(worker) - begin for worker, begin in before.items())
        assert (
            used < 0.5 * 2
        )  # half a second on two cores; the benchmark `cluster-cancel` measures how long it takes
        assert client.run(filename="penguins.csv", limit=6)["type"] == "result"


def cpu_of(process):
    """Return the CPU seconds that a process has used; 0 if it has ended."""
    with suppress(psutil.Error):
        return sum(process.cpu_times()[:2])
    return 0.0


def uses_cpu(process):
    before = cpu_of(process)
    time.sleep(0.2)
    return cpu_of(process) > before


def test_as_many_jobs_run_as_there_are_workers(server):
    """The server learns how many there are in the cluster."""
    count = WORKERS if server.engine == "dask" else 1
    with server.connect() as client:
        for number in range(count):
            client.send({"type": "process", "id": str(number), **SORT, "limit": 20 + number})
        running = set()
        while len(running) < count:
            message = client.receive()
            assert message["type"] in ("accepted", "progress", "log"), message
            if message["type"] == "progress" and message["phase"] != "queued":
                running.add(message["id"])
        for number in range(count):
            client.send({"type": "cancel", "id": f"c{number}", "request": str(number)})
        for _ in range(count):
            client.until("error")


def test_job_that_takes_too_long_fails_with_its_timeout(server):
    """The timeout counts from its start."""
    with server.connect() as client:
        answer = client.run(**SORT, timeout=0.5)
        assert answer["reason"] == "job_timeout"
        assert client.run(filename="penguins.csv", limit=7)["type"] == "result"


def test_job_that_needs_too_much_memory_fails_in_words(server):
    """The limit is that of the worker."""
    with server.connect() as client:
        answer = client.run(filename="large.csv", group_by=["n", "t"], aggregate=[["h", "median", "middle"]])
        assert answer.get("reason") == "out_of_memory", answer
        assert client.run(filename="penguins.csv", limit=8)["type"] == "result"


def test_malformed_file_is_an_error_of_a_strict_job(server):
    """It has the line."""
    with server.connect() as client:
        answer = client.run(filename="ragged.csv", strict=True)
        assert (answer["type"], answer["reason"]) == ("error", "unreadable_file")


def test_identical_jobs_are_run_once(server):
    """Both get the result."""
    with server.connect() as one, server.connect() as other:
        for client in (one, other):
            client.send({"type": "process", "id": "1", **SORT, "limit": 9})
        jobs = {client.until("accepted")[-1]["job"] for client in (one, other)}
        assert len(jobs) == 1
        assert [client.until("result", "error")[-1]["type"] for client in (one, other)] == ["result"] * 2


def test_state_of_the_cluster_is_told(server, cluster):
    """By /status, /readyz and the metrics; not without a cluster."""
    status = httpx.get(f"{server.base}/status").json()
    metrics = httpx.get(f"{server.base}/metrics").text
    assert httpx.get(f"{server.base}/readyz").status_code == 200
    if server.engine == "local":
        assert "cluster" not in status
        assert "creemson_cluster" not in metrics
        return
    assert status["cluster"]["workers"] == WORKERS
    assert status["cluster"]["trouble"] is None
    assert re.search(rf"^creemson_cluster_workers {WORKERS}.0$", metrics, re.MULTILINE)


def doctor(*options):
    command = [sys.executable, "-m", "creemson", "doctor", "--cluster", "--json", "--port", "0", *options]
    ran = subprocess.run(command, capture_output=True, text=True)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(one["verdict"], one["what"]): one["text"] for one in found}


def test_doctor_checks_scheduler_workers_and_folder(cluster, tmp_path):
    """Each with one line; the scheduler of this test is patient with frozen workers, which is told."""
    found = doctor("--data-dir", str(tmp_path / "data"), *cluster.settings())
    assert "notices a frozen worker only after 60 s" in found["warn", "scheduler"]
    assert f"{WORKERS} are connected, and see" in found["ok", "workers"]


def test_dead_scheduler_is_told_by_doctor(cluster, tmp_path):
    """With its address."""
    address = f"tls://127.0.0.1:{free_port()}"
    found = doctor("--data-dir", str(tmp_path / "data"), *cluster.settings(dask_scheduler=address))
    assert address in found["fail", "scheduler"]


def test_readiness_tells_that_there_are_no_workers(cluster, tmp_path):
    """And that they are back. It is the last test with these workers."""
    with serving(tmp_path / "data", *cluster.settings()) as server:
        wait_until(lambda: httpx.get(f"{server.base}/readyz").status_code == 200)
        cluster.stop_workers()
        wait_until(lambda: httpx.get(f"{server.base}/readyz").status_code == 503)
        assert "no worker" in httpx.get(f"{server.base}/readyz").json()["detail"]
        cluster.start_workers(1)
        wait_until(lambda: httpx.get(f"{server.base}/readyz").status_code == 200)
