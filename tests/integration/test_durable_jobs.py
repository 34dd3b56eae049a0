"""Jobs that survive their connections and their server: real processes, and an independent client."""

import signal

import pytest

from tests.servers import wait_until

LONG = {"sort": [["text", "asc"]], "selectedColumns": ["text", "half"]}


def begin(client):
    """Start a job that takes seconds, and wait until it is running. While the workers are frozen, it stays so."""
    accepted = client.ask({"type": "process", "id": "p", "filename": "slow.csv", **LONG})
    assert accepted["type"] == "accepted", accepted
    wait_until(lambda: [job["state"] for job in listed(client)] == ["running"])
    return accepted["job"]


def follow(client, job, after=0):
    """Return all messages that `attach` brings."""
    client.send({"type": "attach", "id": "a", "job": job, "after": after})
    events = client.until("result", "error")
    seqs = [message["seq"] for message in events]
    assert seqs == sorted(set(seqs))
    assert seqs[0] > after
    assert {(message["id"], message["job"]) for message in events} == {("a", job)}
    return events


def listed(client):
    return client.ask({"type": "jobs", "id": "j"})["jobs"]


@pytest.fixture
def put(slow_csv):
    return lambda server: server.put("slow.csv", slow_csv)


def test_job_survives_its_connection(start, tmp_path, put):
    """It can be followed from another connection; a repeat is served from cache, by the same job."""
    with start(tmp_path / "data") as server:
        put(server)
        with server.frozen():
            with server.connect() as client:
                job = begin(client)
                client.cut()
            with server.connect() as client:
                [info] = listed(client)
                assert (info["job"], info["state"], info["filename"]) == (job, "running", "slow.csv")
        with server.connect() as client:
            events = follow(client, job)
            assert events[-1]["type"] == "result"
            assert follow(client, job, after=events[-1]["seq"] - 1) == events[-1:]
            assert not events[-1]["data"]["output_data"]["cached"]
            [info] = listed(client)
            assert (info["state"], info["rows"]) == ("done", events[-1]["data"]["output_data"]["rows"])
            client.send({"type": "process", "id": "q", "filename": "slow.csv", **LONG})
            accepted, again = client.until("result", "error")
            assert (accepted["job"], again["data"]["output_data"]["cached"]) == (job, True)
            error = client.ask({"type": "attach", "id": "x", "job": "unheard-of"})
            assert (error["reason"], error["id"]) == ("job_not_found", "x")


@pytest.mark.parametrize("sign", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_job_survives_its_server(start, tmp_path, put, sign):
    """Killed, or shut down with too little time: the next server runs accepted jobs, once."""
    arguments = ["--set", "server.drain_timeout=0.1"]
    with start(tmp_path / "data", *arguments) as server:
        put(server)
        with server.frozen(), server.connect() as client:
            job = begin(client)
            server.send_signal(sign)
            if sign == signal.SIGTERM:
                *_, error = client.until("error")
                assert (error["reason"], error["job"], error["retryable"]) == ("shutting_down", job, True)
                assert "seq" not in error
            server.wait()
    with start(tmp_path / "data", *arguments) as server, server.connect() as client:
        events = follow(client, job)
        # Several servers take it as soon as one of them runs. If it has ended by now, its log is gone.
        if len(server.servers) == 1 or len(events) > 1:
            assert events[0]["type"] == "log"
            assert "starts again" in events[0]["message"]
        assert events[-1]["type"] == "result"
        data = events[-1]["data"]
    with start(tmp_path / "data", *arguments) as server, server.connect() as client:
        assert follow(client, job)[-1]["data"] == data
        client.send({"type": "process", "id": "q", "filename": "slow.csv", **LONG})
        accepted, again = client.until("result", "error")
        assert accepted["job"] == job
        assert again["data"]["output_data"] == data["output_data"] | {"cached": True}
        outputs = [name for name in server.stored() if name.startswith("outputs/") and ".texts." not in name]
        assert len(outputs) == 1
        assert len(listed(client)) == 1


@pytest.mark.slow
def test_jobs_recorded_in_one_batch_survive_a_kill(start, tmp_path):
    """Jobs are in the catalog when they are accepted, so the next server runs all of them."""
    with start(tmp_path / "data") as server:
        server.put("x.csv")
        accepted = {}
        with server.frozen(), server.connect() as client:
            for limit in range(60):
                client.send({"type": "process", "id": str(limit), "filename": "x.csv", "limit": limit})
            while len(accepted) < 60:
                message = client.receive()
                assert message["type"] == "accepted", message
                accepted[message["job"]] = int(message["id"])
            server.send_signal(signal.SIGKILL)
            server.wait()
    with start(tmp_path / "data") as server, server.connect() as client:
        assert len(listed(client)) == 60
        for job, limit in accepted.items():
            assert follow(client, job)[-1]["data"]["output_data"]["rows"] == limit


@pytest.mark.parametrize(
    "request_",
    [{"type": "process", "id": "p", "on_disconnect": "cancel", **LONG}, {"selectedColumns": ["text"]}],
)
def test_job_nobody_waits_for_is_stopped(start, tmp_path, put, request_):
    """This applies to `on_disconnect: cancel` and to legacy requests."""
    with start(tmp_path / "data", "--set", "processing.workers=1") as server:
        put(server)
        with server.frozen(), server.connect() as client, server.connect() as other:
            client.send({"filename": "slow.csv", **request_})
            wait_until(lambda: [job["state"] for job in listed(other)] == ["running"])
            client.cut()
            wait_until(lambda: [job["state"] for job in listed(other)] == ["cancelled"])
