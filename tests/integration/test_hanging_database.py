"""The database of several servers hangs, or is away: only the requests that need it wait for it, or fail."""

from contextlib import ExitStack

import httpx
import pytest

from tests.databases import postgres
from tests.several import several

pytestmark = pytest.mark.slow  # a database of its own, and a server, start first

TABLE = b"a,b\n" + b"".join(b"%d,x%d\n" % (n, n) for n in range(1000))
AT_ONCE = 5.0
"""Seconds for what does not need the database, also on a busy machine; the database hangs for longer."""
PATIENCE = 60.0
"""Seconds for an answer while the database is away: it may be restarting, for which the server waits."""
REQUESTS = {
    "rows": {"type": "rows", "filename": "a.csv", "offset": 0, "limit": 5},
    "columns": {"type": "columns", "filename": "a.csv"},
    "process": {"type": "process", "filename": "a.csv", "limit": 1},
    "output": {"type": "rows", "filename": "gone.parquet", "offset": 0, "limit": 5},
    "download": {"type": "download", "filename": "a.csv"},
    "rendering": {"type": "download", "filename": "OUTPUT.xlsx"},
    "files": {"type": "files"},
    "jobs": {"type": "jobs"},
    "attach": {"type": "attach", "job": "JOB"},
    "cancel": {"type": "cancel", "job": "JOB"},
    "upload": {"type": "upload", "filename": "new.csv", "size": 8},
    "delete": {"type": "delete", "filename": "b.csv"},
}

REASONS = {"output": "file_not_found", "cancel": "job_not_found"}
"""Why two of them fail: there is no such file, and the job has ended."""


@pytest.fixture(scope="module")
def database():
    """A PostgreSQL that other tests do not need."""
    with postgres() as server:
        yield server


@pytest.mark.parametrize("quota", [0, 10**9])
def test_other_connections_are_served_while_the_database_hangs(database, object_store, tmp_path, quota):
    """Whatever is asked: the event loop never waits for the database. Once it answers, so does the server."""
    limits = ("--set", f"limits.storage_bytes={quota}")
    with (
        several(
            tmp_path / "data", database.url(), object_store.bucket(), object_store, *limits, number=1
        ) as together,
        ExitStack() as stack,
    ):
        server = together.servers[0]
        idle, writer, leaver, *clients = (
            stack.enter_context(server.connect()) for _ in range(3 + len(REQUESTS))
        )
        for name in ("a.csv", "b.csv"):
            assert idle.upload(name, TABLE)["type"] == "uploaded"
        idle.send({"type": "process", "id": "p", "filename": "a.csv"})
        *_, result = idle.until("result")
        names = {"JOB": result["job"], "OUTPUT": result["data"]["output_data"]["filename"].partition(".")[0]}
        assert (
            writer.ask({"type": "upload", "id": "u", "filename": "c.csv", "size": len(TABLE)})["offset"] == 0
        )

        def is_served(what):
            idle.send({"type": "ping"})
            assert idle.receive(AT_ONCE)["type"] == "pong", what
            assert httpx.get(f"{server.base}/healthz", timeout=AT_ONCE).status_code == 200, what

        with database.hanging():
            writer.send(TABLE)
            is_served("the last bytes of an upload")
            leaver.send({"type": "process", "id": "p", "filename": "b.csv", "on_disconnect": "cancel"})
            leaver.cut()
            is_served("a lost connection")
            for (kind, request), client in zip(REQUESTS.items(), clients, strict=True):
                fields = {key: _filled(value, names) for key, value in request.items()}
                client.send({"id": kind, **fields})
                is_served(kind)
            with server.connect() as another:
                another.send({"type": "ping"})
                assert another.receive(AT_ONCE)["type"] == "pong"
            for path in ("/", "/readyz", "/status", "/metrics"):
                assert httpx.get(f"{server.base}{path}", timeout=AT_ONCE).status_code in (200, 503), path
        assert writer.until("uploaded", "error")[-1]["type"] == "uploaded"
        for kind, client in zip(REQUESTS, clients, strict=True):
            first = client.receive()
            assert (first["id"], first.get("reason")) == (kind, REASONS.get(kind)), first


def test_whatever_needs_a_database_that_is_away_is_busy(object_store, tmp_path):
    """Each road tells the peer to try again, over the WebSocket and HTTP; and the server stops as always."""
    with (
        postgres() as database,
        several(tmp_path / "data", database.url(), object_store.bucket(), object_store, number=1) as together,
        ExitStack() as stack,
    ):
        server = together.servers[0]
        writer, *clients = (stack.enter_context(server.connect()) for _ in range(1 + len(REQUESTS)))
        for name in ("a.csv", "b.csv"):
            assert writer.upload(name, TABLE)["type"] == "uploaded"
        writer.send({"type": "process", "id": "p", "filename": "a.csv"})
        *_, result = writer.until("result")
        names = {"JOB": result["job"], "OUTPUT": result["data"]["output_data"]["filename"].partition(".")[0]}
        writer.ask({"type": "upload", "id": "u", "filename": "c.csv", "size": len(TABLE)})
        database.stop()
        writer.send(TABLE)
        for (kind, request), client in zip(REQUESTS.items(), clients, strict=True):
            client.send({"id": kind, **{key: _filled(value, names) for key, value in request.items()}})
        for kind, client in zip([*REQUESTS, "u"], [*clients, writer], strict=True):
            first = client.receive(PATIENCE)
            assert (first["id"], first.get("reason"), first.get("retry_after")) == (kind, "busy", 5.0), first
        for path in ("/columns/a.csv", "/download/a.csv", _filled("/download/OUTPUT.csv", names)):
            answer = httpx.get(f"{server.base}{path}", timeout=PATIENCE)
            assert (answer.status_code, answer.json()["reason"]) == (503, "busy"), path
        answer = httpx.post(f"{server.base}/upload", files={"file": ("d.csv", TABLE)}, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["reason"]) == (503, "busy")


def _filled(value, names):
    for word, name in names.items():
        value = value.replace(word, name) if isinstance(value, str) else value
    return value
