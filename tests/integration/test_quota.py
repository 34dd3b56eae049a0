"""The quota of a real server holds exactly, over every way to store bytes, for many requests at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import polars as pl
import pytest

from tests.servers import wait_until

QUOTA = 1_000_000


@pytest.fixture(scope="module")
def served(start, tmp_path_factory):
    with start(tmp_path_factory.mktemp("quota") / "data", "--set", f"limits.storage_bytes={QUOTA}") as server:
        yield server


@pytest.fixture
def server(served):
    """The server, whose folder is empty at the end of each test."""
    yield served
    with served.connect() as client:
        for file in client.ask({"type": "files", "id": "f"})["files"]:
            client.ask({"type": "delete", "id": "d", "filename": file["filename"]})
    wait_until(lambda: stored(served) == 0)


def stored(server):
    """Return the bytes of all files, including unfinished ones."""
    return sum(server.stored().values())


def post(server, name, size, *, chunked=False):
    """Upload a file by HTTP; return the status."""
    if not chunked:
        return httpx.post(
            f"{server.base}/upload", files={"file": (name, bytes(size))}, timeout=60
        ).status_code

    def form():
        yield f'--B\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        for start in range(0, size, 50_000):
            yield bytes(min(50_000, size - start))
        yield b"\r\n--B--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=B"}
    return httpx.post(f"{server.base}/upload", content=form(), headers=headers, timeout=60).status_code


def upload(server, name, size):
    """Upload a file over a WebSocket; return the reason of a refusal."""
    with server.connect() as client:
        return client.upload(name, bytes(size)).get("reason", "uploaded")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "status"), [(500_000, 560_000, 507), (400_000, 600_000, 200), (400_000, 600_001, 507)]
)
def test_upload_by_http_is_refused_exactly(server, first, second, status, chunked):
    """The boundaries of the form do not count, whether the size is announced or not."""
    assert post(server, "a.csv", first, chunked=chunked) == 200
    assert post(server, "b.csv", second, chunked=chunked) == status
    wait_until(lambda: stored(server) == first + (second if status == 200 else 0))


@pytest.mark.parametrize("way", ["announced", "chunked", "socket"])
def test_of_twelve_parallel_uploads_as_large_as_the_quota_one_is_stored(server, way):
    """At most; and what was refused leaves nothing that counts."""

    def one(number):
        if way == "socket":
            return upload(server, f"{number}.csv", QUOTA)
        return post(server, f"{number}.csv", QUOTA, chunked=way == "chunked")

    with ThreadPoolExecutor(12) as pool:
        ends = list(pool.map(one, range(12)))
    good = 200 if way != "socket" else "uploaded"
    assert set(ends) <= {good, 507, "storage_full"}
    assert ends.count(good) <= 1
    wait_until(lambda: stored(server) == QUOTA * ends.count(good))
    if not ends.count(good):  # nobody won, because all were there at once
        assert post(server, "late.csv", QUOTA) == 200


def test_outputs_and_renderings_count_and_are_removed_if_they_do_not_fit(server):
    """Renderings store no more than the quota; the source and the first outputs are still there."""
    frame = pl.DataFrame({"n": range(12_000)}).with_columns(text=pl.col("n").hash().cast(pl.String))
    content = frame.write_csv().encode()
    with server.connect() as client:
        assert client.upload("t.csv", content)["type"] == "uploaded"
        names = []
        for limit in range(11_997, 12_000):
            end = client.run(filename="t.csv", limit=limit)
            if end["type"] == "result":
                names.append(end["data"]["output_data"]["filename"])
            else:
                assert end["reason"] == "storage_full"
        assert names
    asks = [f"{name.rpartition('.')[0]}.{suffix}" for name in names for suffix in ("csv", "ndjson", "arrow")]

    def ask(name):
        answer = httpx.get(f"{server.base}/download/{name}", timeout=60)
        return answer.status_code if answer.status_code == 200 else answer.json()["reason"]

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(ask, asks))
    assert set(ends) <= {200, "storage_full"}
    assert "storage_full" in ends
    wait_until(lambda: stored(server) <= QUOTA)  # what did not fit is removed in the background
    with server.connect() as client:
        refused = client.run(filename="t.csv", sort=[["n", "desc"]])
        assert refused["reason"] == "storage_full"
        assert "Delete files" in json.dumps(refused)
    wait_until(lambda: stored(server) <= QUOTA)
    with server.connect() as client:
        for name in (*names, *asks):
            client.ask({"type": "delete", "id": "d", "filename": name})
    assert "Traceback" not in server.log.read_text()
