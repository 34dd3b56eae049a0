"""Limits of a real server: who sends too much, too often, too deep or too many is told so, and hurts nobody."""

import json
import re
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import read_all, serving, upgrade_request, wait_until

PING = {"type": "ping"}


@pytest.fixture(scope="module")
def slow_paced(tmp_path_factory):
    """A server that takes 5 messages at once, and then one in 100 seconds."""
    pace = ("--set", "limits.messages_per_s=0.01", "--set", "limits.messages_burst=5")
    with serving(tmp_path_factory.mktemp("paced") / "data", *pace) as server:
        server.put("example.csv")
        yield server


def metric(server, name):
    """The value of a line of /metrics."""
    text = httpx.get(f"{server.base}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE))


def test_messages_that_come_too_soon(slow_paced):
    """`rate_limited` with the time to wait, and the id; other connections are not concerned."""
    with slow_paced.connect() as client:
        answers = [client.ask({**PING, "id": str(number)}) for number in range(8)]
        assert [answer["type"] for answer in answers] == ["pong"] * 5 + ["error"] * 3
        refused = answers[-1]
        assert (refused["reason"], refused["code"], refused["retryable"]) == ("rate_limited", 1002, True)
        assert refused["id"] == "7"
        assert 50 < refused["retry_after"] <= 100
    with slow_paced.connect() as other:
        assert other.ask(PING)["type"] == "pong"


def test_who_waits_as_told_is_heard_again(tmp_path):
    """After `retry_after` seconds."""
    pace = ("--set", "limits.messages_per_s=1", "--set", "limits.messages_burst=1")
    with serving(tmp_path / "data", *pace) as server, server.connect() as client:
        while (answer := client.ask(PING))["type"] == "pong":
            pass
        time.sleep(answer["retry_after"] + 0.01)
        assert client.ask(PING)["type"] == "pong"


def test_members_of_a_batch_count(slow_paced):
    """Each as if it were sent alone."""
    with slow_paced.connect() as client:
        client.send({"type": "batch", "messages": [{**PING, "id": str(number)} for number in range(7)]})
        answers = []
        while len(answers) < 7:
            message = client.receive()
            answers += message["messages"] if message["type"] == "batch" else [message]
        assert [answer["type"] for answer in answers] == ["pong"] * 5 + ["error"] * 2


def test_classic_requests_keep_their_order(slow_paced):
    """One answer each, also where it is a refusal."""
    with slow_paced.connect() as client:
        for _ in range(7):
            client.send({"filename": "example.csv", "selectedColumns": [0]})
        answers = [client.receive() for _ in range(7)]
    assert [answer["type"] for answer in answers] == ["result"] * 5 + ["error"] * 2


def test_garbage_counts_too(slow_paced):
    """Else it would be the way to send more."""
    with slow_paced.connect() as client:
        reasons = [client.ask("garbage")["reason"] for _ in range(7)]
    assert reasons == ["invalid_json"] * 5 + ["rate_limited"] * 2


def test_http_requests_that_come_too_soon(slow_paced):
    """429 with Retry-After, on one connection; the next connection is a new one."""
    with httpx.Client(base_url=slow_paced.base) as http:
        answers = [http.get("/healthz") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "100"
    assert answers[-1].json()["reason"] == "rate_limited"


def test_who_does_not_listen_is_not_listened_to(tmp_path):
    """After ten thousand refusals without a pause: close 4429. One line in the log, not ten thousand."""
    with serving(
        tmp_path / "data", "--set", "limits.messages_per_s=1", "--set", "limits.messages_burst=1"
    ) as server:
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
        assert log.count('"event": "refused"') == 1
        assert len(log.splitlines()) < 10
        assert metric(server, 'creemson_errors_total{reason="rate_limited"}') > 10_000


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


def test_what_is_nested_too_deeply(server):
    """`invalid_message` with the limit; an unknown field may be as deep as that."""
    with server.connect() as client:
        assert client.ask({**PING, "id": "a", "extra": nested(31)})["type"] == "pong"
        refused = client.ask({**PING, "id": "b", "extra": nested(32)})
        assert (refused["reason"], refused["id"]) == ("invalid_message", "b")
        assert "32" in refused["message"]
        assert client.ask('{"a":' * 5000 + "1" + "}" * 5000)["reason"] in ("invalid_json", "invalid_message")


def test_requests_in_flight_have_a_size(tmp_path):
    """Not only a number: what is too much together is `busy`; when some are answered, there is room."""
    with serving(tmp_path / "data", "--set", "limits.message_bytes=64KiB") as server:
        server.put("example.csv")
        with server.connect() as client:
            with server.frozen():
                for number in range(10):
                    values = [[0, "in", list(range(number * 10_000, number * 10_000 + 9_000))]]
                    client.send(
                        {"type": "process", "id": str(number), "filename": "example.csv", "where": values}
                    )
                reasons = []
                while len(reasons) < 5:
                    message = client.receive()
                    if message["type"] == "error":
                        reasons.append(message["reason"])
                assert set(reasons) == {"busy"}
            client.until("error", "result")
            wait_until(lambda: client.run(filename="example.csv", limit=1)["type"] == "result")


def test_memory_that_is_used_up(tmp_path):
    """New jobs are `busy`, /readyz is 503; what is done already is answered, and /healthz is well."""
    with serving(tmp_path / "data", "--set", "limits.memory_bytes=1") as server:
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
        assert metric(server, 'creemson_memory_bytes{of="limit"}') == 1
        assert metric(server, 'creemson_memory_bytes{of="server"}') > 10_000_000
        assert "memory is scarce" in server.log.read_text()


def test_the_queue_is_bounded(tmp_path):
    """Over limits.queue: `busy`; each refusal is counted by its reason."""
    with (
        serving(tmp_path / "data", "--set", "limits.queue=2", "--set", "processing.workers=1") as server,
        server.connect() as client,
    ):
        server.put("example.csv")
        with server.frozen():
            for number in range(6):
                client.send(
                    {"type": "process", "id": str(number), "filename": "example.csv", "limit": number + 1}
                )
            refused = [
                message for message in (client.receive() for _ in range(6)) if message["type"] == "error"
            ]
            assert [message["reason"] for message in refused] == ["busy"] * 3
            assert metric(server, "creemson_queue_depth") == 2
        ends = 0
        while ends < 3:
            ends += client.receive()["type"] == "result"
        assert metric(server, 'creemson_errors_total{reason="busy"}') == 3
        assert metric(server, 'creemson_job_seconds_count{state="done"}') == 3
        assert metric(server, 'creemson_messages_received_total{type="process"}') == 6
        assert metric(server, 'creemson_messages_sent_total{type="result"}') == 3


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:8000", "127.0.0.1.attacker.example", "a.b."]
)
def test_a_name_that_somebody_let_point_to_us(server, host):
    """DNS rebinding: a page of that name would be of our own origin; it gets nothing, by HTTP or WebSocket."""
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
def test_our_own_names(server, host):
    """Addresses, and names that nobody can buy."""
    assert httpx.get(f"{server.base}/columns/example.csv", headers={"Host": host}).status_code == 200


def test_a_listed_origin_is_a_name_of_ours(tmp_path):
    """Behind a proxy that keeps the Host header."""
    listed = 'server.allowed_origins=["https://tables.example.org"]'
    with serving(tmp_path / "data", "--set", listed) as server:
        for host, status in (("tables.example.org", 200), ("other.example.org", 403)):
            assert httpx.get(f"{server.base}/status", headers={"Host": host}).status_code == status
