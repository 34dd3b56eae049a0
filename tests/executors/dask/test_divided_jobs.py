"""Jobs that several workers of a cluster do together, on a real server with its files in a folder or an object store."""

import itertools

import pytest

from creemson.storage.objects.bucket import ObjectBucket
from tests.executors.dask.clusters import Cluster
from tests.servers import serving, wait_until

pytestmark = pytest.mark.slow

ROWS = 400_000
DATA = b"n,name,price,day\n" + b"".join(
    b"%d,name %d,%d.%02d,%02d/03/2024\n" % (n, n % 50, n % 90, n % 100, n % 28 + 1) for n in range(ROWS)
)
"""Cells such as 7.50, whose texts an output keeps."""
QUERIES = (
    {
        "group_by": ["name"],
        "aggregate": [
            ["n", "sum"],
            ["n", "mean"],
            ["price", "max"],
            ["price", "first"],
            ["day", "min"],
            ["*", "count"],
        ],
        "sort": [["n_sum", "desc"]],
    },
    {"where": [["name", "contains", "7"], ["n", ">", 200_000]], "selectedColumns": ["price", "day", "n"]},
    {"sort": [["price", "desc"]], "limit": 1000, "profile": True},
)
TABLES = ("--set", "storage.tables=auto", "--set", "processing.nice=0", "--set", "log.level=debug")


def answers(server):
    """What the server answers and writes for each query, once the file has a copy."""
    found = []
    with server.connect() as client:
        client.upload("t.csv", DATA)
        client.run(filename="t.csv", limit=1)
        ids = itertools.count()
        wait_until(
            lambda: client.ask({"type": "files", "id": f"f{next(ids)}"})["files"][0].get("imported") is True
        )
        for query in QUERIES:
            result = client.run(filename="t.csv", preview=5, **query)
            assert result["type"] == "result", result
            output = result["data"]["output_data"]
            csv = client.download(output["filename"].replace(".parquet", ".csv"))[1]
            found.append(({key: output.get(key) for key in ("rows", "columns", "preview", "profile")}, csv))
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The answers of a server without a cluster."""
    with serving(tmp_path_factory.mktemp("local") / "data", *TABLES) as server:
        return answers(server)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "object store"])
def test_divided_jobs_answer_and_write_what_one_worker_does(
    object_store, expected, remote, tmp_path, monkeypatch
):
    """The same CSV, to the byte; no objects are left of the parts."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(tmp_path, object_store.environment)
    options = ["--set", f"storage.url={(url := object_store.bucket())}"] if remote else []
    try:
        cluster.start_scheduler()
        cluster.start_workers(2)
        with serving(
            tmp_path / "data", *options, *TABLES, *cluster.settings(dask_part_bytes="1MiB"),
            env=object_store.environment,
        ) as server:  # fmt: skip
            found = answers(server)
            log = server.log.read_text()
    finally:
        cluster.stop()
    assert found == expected
    assert log.count("command divided") == len(QUERIES)
    # For each query two parts, their merge, and the CSV: no part was done again by one worker.
    begun = log.partition("command divided")[2].count("command begun on the cluster")
    assert begun == 4 * len(QUERIES)
    if remote:
        names = [name for name, _ in ObjectBucket(url).sizes()]
        assert not [name for name in names if ".part" in name]
        assert any(name.startswith("tables/") for name in names)
