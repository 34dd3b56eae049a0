"""A real server whose files are in an object store."""

import hashlib
import json
import random
import signal
import time
import urllib.request

import pytest

from creemson.storage.objects.bucket import ObjectBucket
from tests.objectstores import Endpoint, forwarded, free_port, seaweedfs, without_conditions
from tests.servers import PATIENCE, refused_start, serving, wait_until

PART = 8 * 2**20
RAGGED = b"a,b\n" + b"".join(b"%d,x%d\n" % (n, n) for n in range(200)) + b"1,2,3\n"


def on(endpoint, url, folder, *arguments):
    """Run a server whose files are under a URL."""
    return serving(folder, "--set", f"storage.url={url}", *arguments, env=endpoint.environment)


@pytest.fixture
def objects(monkeypatch):
    """Return the function that lists the objects under a URL."""

    def listed(endpoint, url):
        for name, value in endpoint.environment.items():
            monkeypatch.setenv(name, value)
        return {name: size for name, size in ObjectBucket(url).sizes() if name != "creemson-owner"}

    return listed


def test_upload_job_and_downloads_work_on_an_object_store(object_store, tmp_path, objects):
    """With rejects, texts, renderings, ranges and removal; no file is in the data folder."""
    url = object_store.bucket()
    with on(object_store, url, tmp_path / "data") as server, server.connect() as client:
        client.upload("ragged.csv", RAGGED)
        result = client.run(filename="ragged.csv")["data"]["output_data"]
        assert result["rows"] == 201
        assert client.run(filename="ragged.csv")["data"]["output_data"]["cached"]
        stem = result["filename"].removesuffix(".parquet")
        assert client.download(f"{stem}.csv")[1].startswith(b"a,b\n0,x0\n")
        assert client.download(f"{stem}.xlsx")[1].startswith(b"PK")
        assert client.download(result["issues"]["rejects"])[1].count(b"\n") >= 2
        assert client.download("ragged.csv", offset=1000)[1] == RAGGED[1000:]
        rows = client.ask(
            {"type": "rows", "id": "r", "filename": result["filename"], "offset": 1, "limit": 1}
        )
        assert rows["rows"] == [[1, "x1"]]
        request = urllib.request.Request(f"{server.base}/download/ragged.csv", headers={"Range": "bytes=4-9"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert (response.status, response.read()) == (206, RAGGED[4:10])
        client.upload("ragged.csv", b"a\n1\n", overwrite=True)
        assert client.download("ragged.csv")[1] == b"a\n1\n"
        assert client.ask({"type": "delete", "id": "d", "filename": "ragged.csv"})["type"] == "deleted"
        assert [name for name in objects(object_store, url) if name.startswith("files/")] == []
        for folder in ("uploads", "outputs", "parts"):
            assert not (tmp_path / "data" / folder).exists()


def upload_elsewhere(server, data):
    """Upload over a connection of its own: what is sent after an error gets errors, too."""
    with server.connect() as client:
        return client.upload("b.csv", data, overwrite=True, sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.slow
def test_dead_and_frozen_object_store_is_told_in_seconds_and_comes_back(object_store, tmp_path):
    """Each request gets an answer; nothing needs a restart, and an upload goes on."""
    url, data = object_store.bucket(), random.Random(1).randbytes(20 * 2**20)
    with (
        forwarded(object_store) as forwarder,
        on(forwarder.endpoint(), url, tmp_path / "data", "--set", "retries.job=1") as server,
        server.connect() as client,
    ):
        client.upload("a.csv", RAGGED)
        for fail in (forwarder.cut, forwarder.freeze):
            fail()
            for ask in (
                lambda: client.run(filename="a.csv", where=[["a", ">", time.time() % 90]]),
                lambda: client.download("a.csv")[2] or client.download("a.csv")[0],
                lambda: upload_elsewhere(server, data),
            ):
                began = time.monotonic()
                answer = ask()
                assert (answer["type"], answer["reason"]) == ("error", "busy"), answer
                assert "object store" in answer["message"]
                assert time.monotonic() - began < 45
            assert client.ask({"type": "files", "id": "f"})["files"][0]["filename"] == "a.csv"
            forwarder.restore()
            assert client.run(filename="a.csv", limit=3 if fail == forwarder.cut else 4)["type"] == "result"
            assert client.download("a.csv")[1] == RAGGED
        uploaded = client.upload("b.csv", data, overwrite=True, sha256=hashlib.sha256(data).hexdigest())
        assert uploaded["type"] == "uploaded"
        assert client.download("b.csv")[1] == data


def refused_on(endpoint, url, folder, **environment):
    """Return the words with which a server refuses to use an object store."""
    given = {**endpoint.environment, **environment}
    words = refused_start(folder, "--set", f"storage.url={url}", env=given)
    assert given["AWS_SECRET_ACCESS_KEY"] not in words
    assert given["AWS_ACCESS_KEY_ID"] not in words
    return words


@pytest.mark.slow
def test_start_on_an_unusable_object_store_is_refused_in_words(object_store, tmp_path):
    """Nobody listens there, or it ignores the conditions of writes."""
    url, folder = object_store.bucket(), tmp_path / "data"
    words = refused_on(Endpoint(free_port()), url, folder)
    assert "it does not answer" in words
    assert "AWS_ENDPOINT_URL" in words
    with forwarded(object_store, without_conditions) as forwarder:
        words = refused_on(forwarder.endpoint(), url, folder)
    assert "does not refuse to create an object that exists" in words
    with on(object_store, url, folder):  # the next start succeeds
        pass


CREDENTIALS = {
    "identities": [
        {
            "name": "creemson",
            "credentials": [{"accessKey": "the-access-key", "secretKey": "the-secret-key"}],
            "actions": ["Read", "Write", "List"],
        },
        {"name": "anonymous", "actions": ["Admin"]},  # makes the bucket
    ]
}


@pytest.mark.slow
def test_start_with_wrong_credentials_is_refused_in_words(tmp_path):
    """By an object store that checks them."""
    (tmp_path / "credentials.json").write_text(json.dumps(CREDENTIALS))
    options = f"-s3.config={tmp_path / 'credentials.json'}"
    with seaweedfs(tmp_path / "store", None, options) as endpoint:
        url, folder = endpoint.bucket(), tmp_path / "data"
        words = refused_on(endpoint, url, folder, AWS_SECRET_ACCESS_KEY="not-the-secret-key")
        assert "the secret key is wrong" in words
        words = refused_on(endpoint, url, folder, AWS_ACCESS_KEY_ID="not-the-access-key")
        assert "it does not know the access key" in words
        with on(endpoint, url, folder):
            pass


@pytest.mark.slow
def test_upload_to_a_killed_server_goes_on_at_another_one(tmp_path, objects):
    """At most one part of 8 MiB is sent again, and the digest is right; nothing is left over.

    The other one has the catalog of the first, and another address.
    """
    data = random.Random(2).randbytes(200 * 2**20)
    sha256 = hashlib.sha256(data).hexdigest()
    announced = {"type": "upload", "id": "u", "filename": "a.bin", "size": len(data), "sha256": sha256}
    with seaweedfs(tmp_path / "store") as endpoint:
        url, sent = endpoint.bucket(), 0
        with on(endpoint, url, tmp_path / "data") as server, server.connect() as client:
            assert client.ask(announced)["offset"] == 0
            for start in range(0, 103 * 2**20, 2**20):  # 12 parts, and nearly another one
                client.send(data[start : start + 2**20])
                sent = start + 2**20
            wait_until(lambda: sum(objects(endpoint, url).values()) >= 12 * PART)
            server.stop(signal.SIGKILL)
        with on(endpoint, url, tmp_path / "data") as server, server.connect() as client:
            offset = client.ask(announced)["offset"]
            assert 0 <= sent - offset <= PART
            for start in range(offset, len(data), 2**20):
                client.send(data[start : start + 2**20])
            assert client.until("uploaded", "error")[-1]["sha256"] == sha256
            assert hashlib.sha256(client.download("a.bin")[1]).hexdigest() == sha256
            assert sum(objects(endpoint, url).values()) == len(data)


@pytest.mark.slow
def test_server_without_the_library_says_what_to_install(tmp_path):
    """And a server without an object store does not import it."""
    program = (
        "-c",
        "import sys; sys.modules['obstore'] = None; from creemson.__main__ import run; run()",
    )
    with (
        pytest.raises(AssertionError, match=r"pip install 'creemson\[s3\]'"),
        serving(tmp_path / "data", "--set", "storage.url=s3://bucket", program=program),
    ):
        pass
    with serving(tmp_path / "other", program=program) as server, server.connect() as client:
        client.upload("a.csv", RAGGED)
        assert client.run(filename="a.csv")["type"] == "result"
