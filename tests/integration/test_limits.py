"""Limits of a real server: excessive clients are refused with a reason and do not disturb others."""

import json
import re
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import read_all, upgrade_request, wait_until

PING = {"type": "ping"}


@pytest.fixture(scope="module")
def rate_limited(start, tmp_path_factory):
    """A server that accepts 5 messages at once, and then one in 100 seconds."""
    pace = ("--set", "limits.messages_per_s=0.01", "--set", "limits.messages_burst=5")
    with start(tmp_path_factory.mktemp("paced") / "data", *pace) as server:
        server.put("example.csv")
        yield server.one()


def metric(server, name, of=sum):
    """Return the value of a line of /metrics; of several servers, their sum or another figure."""
    texts = [httpx.get(f"{one.base}/metrics").text for one in server.servers]
    pattern = re.compile(rf"^{re.escape(name)} (\S+)$", re.MULTILINE)
    return of(sum(map(float, pattern.findall(text))) for text in texts)


def test_messages_over_rate_are_refused_with_retry_after(rate_limited):
    """`rate_limited` with the waiting time and the id; other connections are unaffected."""
    with rate_limited.connect() as client:
        answers = [client.ask({**PING, "id": str(number)}) for number in range(8)]
        assert [answer["type"] for answer in answers] == ["pong"] * 5 + ["error"] * 3
        refused = answers[-1]
        assert (refused["reason"], refused["code"], refused["retryable"]) == ("rate_limited", 1002, True)
        assert refused["id"] == "7"
        assert 50 < refused["retry_after"] <= 100
    with rate_limited.connect() as other:
        assert other.ask(PING)["type"] == "pong"


@pytest.mark.slow
def test_client_that_waits_retry_after_is_served_again(start, tmp_path):
    """After `retry_after` seconds the next message is accepted."""
    pace = ("--set", "limits.messages_per_s=1", "--set", "limits.messages_burst=1")
    with start(tmp_path / "data", *pace) as server, server.one().connect() as client:
        while (answer := client.ask(PING))["type"] == "pong":
            pass
        time.sleep(answer["retry_after"] + 0.01)
        assert client.ask(PING)["type"] == "pong"


def test_batch_members_count_as_messages(rate_limited):
    """Each counts as if it were sent alone."""
    with rate_limited.connect() as client:
        client.send({"type": "batch", "messages": [{**PING, "id": str(number)} for number in range(7)]})
        answers = []
        while len(answers) < 7:
            message = client.receive()
            answers += message["messages"] if message["type"] == "batch" else [message]
        assert [answer["type"] for answer in answers] == ["pong"] * 5 + ["error"] * 2


def test_legacy_requests_over_rate_are_answered_in_order(rate_limited):
    """Each gets one answer, even if it is a refusal."""
    with rate_limited.connect() as client:
        for _ in range(7):
            client.send({"filename": "example.csv", "selectedColumns": [0]})
        answers = [client.receive() for _ in range(7)]
    assert [answer["type"] for answer in answers] == ["result"] * 5 + ["error"] * 2


def test_garbage_counts_as_messages(rate_limited):
    """Otherwise garbage could be sent without limit."""
    with rate_limited.connect() as client:
        reasons = [client.ask("garbage")["reason"] for _ in range(7)]
    assert reasons == ["invalid_json"] * 5 + ["rate_limited"] * 2


def test_http_requests_over_rate_are_429(rate_limited):
    """429 with Retry-After, per connection; a new connection starts afresh."""
    with httpx.Client(base_url=rate_limited.base) as http:
        answers = [http.get("/healthz") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert 50 < int(answers[-1].headers["Retry-After"]) <= 100
    assert answers[-1].json()["reason"] == "rate_limited"


def test_client_that_ignores_refusals_is_closed(start, tmp_path):
    """After ten thousand refusals in a row: close 4429, and one line in the log."""
    with start(
        tmp_path / "data", "--set", "limits.messages_per_s=1", "--set", "limits.messages_burst=1"
    ) as servers:
        server = servers.one()
        with server.connect() as client:
            batch = json.dumps({"type": "batch", "messages": [PING] * 1000})
            with pytest.raises(ConnectionClosed) as closed:
                for _ in range(20):
                    client.send(batch)
                while True:
                    client.receive()
            assert closed.value.rcvd.code == 4429
        wait_until(lambda: "refused repeatedly" in server.log.read_text())
        log = server.log.read_text()
        assert log.count('"event": "refused"') == 1  # before that line, so that it has been written
        assert len(log.splitlines()) < 10
        assert metric(server, 'creemson_errors_total{reason="rate_limited"}') > 10_000


def states(client):
    return [job["state"] for job in client.ask({"type": "jobs", "id": "j"})["jobs"]]


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


def test_deeply_nested_message_is_refused(server):
    """`invalid_message` with the limit; an unknown field may have that depth."""
    with server.connect() as client:
        assert client.ask({**PING, "id": "a", "extra": nested(31)})["type"] == "pong"
        refused = client.ask({**PING, "id": "b", "extra": nested(32)})
        assert (refused["reason"], refused["id"]) == ("invalid_message", "b")
        assert "32" in refused["message"]
        assert client.ask('{"a":' * 5000 + "1" + "}" * 5000)["reason"] in ("invalid_json", "invalid_message")


def test_requests_in_flight_are_limited_by_size(start, tmp_path):
    """Not only by number: too much in total is `busy` until some are answered."""
    with start(tmp_path / "data", "--set", "limits.message_bytes=64KiB") as server:
        server.put("example.csv")
        with server.one().connect() as client:
            with server.frozen():
                for number in range(10):
                    values = [[0, "in", list(range(number * 10_000, number * 10_000 + 9_000))]]
                    client.send(
                        {"type": "process", "id": str(number), "filename": "example.csv", "where": values}
                    )
                answers = [client.receive() for _ in range(10)]
                outcomes = [answer.get("reason", answer["type"]) for answer in answers]
                assert set(outcomes) == {"accepted", "busy"}
                assert outcomes.count("busy") >= 5
            for _ in range(outcomes.count("accepted")):
                client.until("error", "result")
            assert client.run(filename="example.csv", limit=1)["type"] == "result"


def test_scarce_memory_refuses_new_jobs_as_busy(start, tmp_path):
    """/readyz is 503; lookups are still served, and /healthz is 200."""
    with start(tmp_path / "data", "--set", "limits.memory_bytes=1") as server:
        server.put("example.csv")
        with server.connect() as client:
            refused = client.ask({"type": "process", "id": "p", "filename": "example.csv"})
            assert (refused["reason"], refused["code"], refused["retryable"]) == ("busy", 1003, True)
            assert "memory" in refused["message"]
            assert refused["retry_after"] > 0
            refused = client.ask({"filename": "example.csv", "selectedColumns": [0]})
            assert refused["reason"] == "busy"
            assert client.ask({"type": "columns", "id": "c", "filename": "example.csv"})["type"] == "columns"
        ready = httpx.get(f"{server.base}/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "busy")
        assert ready.headers["Retry-After"]
        asked = httpx.post(f"{server.base}/process", json={"filename": "example.csv", "selectedColumns": [0]})
        assert asked.status_code == 503
        assert httpx.get(f"{server.base}/healthz").status_code == 200
        assert metric(server, 'creemson_memory_bytes{of="limit"}', max) == 1
        assert metric(server, 'creemson_memory_bytes{of="server"}') > 10_000_000
        wait_until(lambda: "memory is scarce" in server.log.read_text())


def test_full_queue_refuses_jobs_as_busy(start, tmp_path):
    """Beyond limits.queue; refusals are counted by reason. Another connection could use the spare slot."""
    with (
        start(tmp_path / "data", "--set", "limits.queue=2", "--set", "processing.workers=1") as server,
        server.one().connect() as client,
    ):
        server.put("example.csv")
        busy = len(server.servers)  # each has one worker for jobs
        with server.frozen():
            for number in range(busy + 5):
                if number == busy:
                    wait_until(lambda: states(client) == ["running"] * busy)
                client.send(
                    {"type": "process", "id": str(number), "filename": "example.csv", "limit": number + 1}
                )
                if number < busy:
                    assert client.receive()["type"] == "accepted"
            refused = [
                message for message in (client.receive() for _ in range(5)) if message["type"] == "error"
            ]
            assert [message["reason"] for message in refused] == ["busy"] * 3
            wait_until(lambda: metric(server, "creemson_queue_depth", max) == 2)
        ends = 0
        while ends < busy + 2:
            ends += client.receive()["type"] == "result"
        assert metric(server, 'creemson_errors_total{reason="busy"}') == 3
        assert metric(server, 'creemson_job_seconds_count{state="done"}') == busy + 2
        assert metric(server, 'creemson_messages_received_total{type="process"}') == busy + 5
        assert metric(server, 'creemson_messages_sent_total{type="result"}') == busy + 2


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:8000", "127.0.0.1.attacker.example", "a.b."]
)
def test_foreign_host_name_is_forbidden(server, host):
    """DNS rebinding: a page of that name would be same-origin; it gets nothing, by HTTP or WebSocket."""
    for path in ("/download/example.csv", "/columns/example.csv", "/status", "/"):
        answer = httpx.get(f"{server.base}{path}", headers={"Host": host})
        assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")
        assert host in answer.json()["detail"]
    assert httpx.get(f"{server.base}/healthz", headers={"Host": host}).status_code == 200
    request = upgrade_request("/ws", f"Origin: http://{host}").replace(
        b"Host: test", f"Host: {host}".encode()
    )
    with server.raw() as connection:
        connection.sendall(request)
        assert read_all(connection).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8000", "app.localhost", "laptop"]
)
def test_local_host_name_is_accepted(server, host):
    """Addresses, and names that cannot be registered."""
    assert httpx.get(f"{server.base}/columns/example.csv", headers={"Host": host}).status_code == 200


def test_host_of_allowed_origin_is_accepted(start, tmp_path):
    """For a proxy that keeps the Host header."""
    listed = 'server.allowed_origins=["https://tables.example.org"]'
    with start(tmp_path / "data", "--set", listed) as server:
        for host, status in (("tables.example.org", 200), ("other.example.org", 403)):
            assert httpx.get(f"{server.base}/status", headers={"Host": host}).status_code == status
