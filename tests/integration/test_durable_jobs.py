"""Jobs that outlive their sockets and their server: real processes, and an independent client."""

import signal

import pytest

from tests.servers import serving, wait_until

LONG = {"sort": [["text", "asc"]], "selectedColumns": ["text", "half"]}


def begin(client, **fields):
    """Ask for a job that takes seconds, and wait until it is under way."""
    client.send({"type": "process", "id": "p", "filename": "slow.csv", **LONG, **fields})
    *_, progress = client.until("progress", "error")
    assert progress["type"] == "progress", progress
    return progress["job"], progress["seq"]


def follow(client, job, after=0):
    """Everything that `attach` brings."""
    client.send({"type": "attach", "id": "a", "job": job, "after": after})
    told = client.until("result", "error")
    seqs = [message["seq"] for message in told]
    assert seqs == sorted(set(seqs))
    assert seqs[0] > after
    assert {(message["id"], message["job"]) for message in told} == {("a", job)}
    return told


def listed(client):
    return client.ask({"type": "jobs", "id": "j"})["jobs"]


@pytest.fixture
def put(slow_csv):
    return lambda server: (server.data_dir / "uploads" / "slow.csv").hardlink_to(slow_csv)


def test_a_job_survives_its_socket(tmp_path, put):
    """It is followed from another one; a repeat is answered from store, by the same job."""
    with serving(tmp_path / "data") as server:
        put(server)
        with server.connect() as client:
            job, seq = begin(client)
            client.socket.socket.close()
        with server.connect() as client:
            [info] = listed(client)
            assert (info["job"], info["state"], info["filename"]) == (job, "running", "slow.csv")
            told = follow(client, job, after=seq)
            assert told[-1]["type"] == "result"
            assert not told[-1]["data"]["output_data"]["cached"]
            [info] = listed(client)
            assert (info["state"], info["rows"]) == ("done", told[-1]["data"]["output_data"]["rows"])
            client.send({"type": "process", "id": "q", "filename": "slow.csv", **LONG})
            accepted, again = client.until("result", "error")
            assert (accepted["job"], again["data"]["output_data"]["cached"]) == (job, True)
            error = client.ask({"type": "attach", "id": "x", "job": "unheard-of"})
            assert (error["reason"], error["id"]) == ("job_not_found", "x")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_survives_its_server(tmp_path, put, sign):
    """Killed, or shut down with too little time: the next server does what was accepted, once."""
    arguments = ["--set", "server.drain_timeout=0.1"]
    with serving(tmp_path / "data", *arguments) as server:
        put(server)
        with server.connect() as client:
            job, seq = begin(client)
            server.process.send_signal(sign)
            if sign == signal.SIGTERM:
                *_, error = client.until("error")
                assert (error["reason"], error["job"], error["retryable"]) == ("shutting_down", job, True)
                assert "seq" not in error
            server.process.wait()
    with serving(tmp_path / "data", *arguments) as server, server.connect() as client:
        told = follow(client, job, after=seq)
        assert told[0]["type"] == "log"
        assert "restarted" in told[0]["message"]
        assert told[-1]["type"] == "result"
        data = told[-1]["data"]
    with serving(tmp_path / "data", *arguments) as server, server.connect() as client:
        assert follow(client, job)[-1]["data"] == data
        client.send({"type": "process", "id": "q", "filename": "slow.csv", **LONG})
        accepted, again = client.until("result", "error")
        assert accepted["job"] == job
        assert again["data"]["output_data"] == data["output_data"] | {"cached": True}
        assert len(list((server.data_dir / "outputs").iterdir())) == 1
        assert len(listed(client)) == 1


def test_what_was_accepted_together_survives(tmp_path):
    """Jobs that are written down in one go are in the catalog when they are accepted: the next server does them all."""
    with serving(tmp_path / "data") as server:
        server.put("x.csv")
        accepted = {}
        with server.frozen(), server.connect() as client:
            for limit in range(60):
                client.send({"type": "process", "id": str(limit), "filename": "x.csv", "limit": limit})
            while len(accepted) < 60:
                message = client.receive()
                assert message["type"] == "accepted", message
                accepted[message["job"]] = int(message["id"])
            server.process.kill()
            server.process.wait()
    with serving(tmp_path / "data") as server, server.connect() as client:
        assert len(listed(client)) == 60
        for job, limit in accepted.items():
            assert follow(client, job)[-1]["data"]["output_data"]["rows"] == limit


@pytest.mark.parametrize(
    "request_",
    [{"type": "process", "id": "p", "on_disconnect": "cancel", **LONG}, {"selectedColumns": ["text"]}],
)
def test_work_that_nobody_waits_for_is_stopped(tmp_path, put, request_):
    """`on_disconnect: cancel`, and classic requests."""
    with serving(tmp_path / "data", "--set", "processing.workers=1") as server:
        put(server)
        with server.connect() as client, server.connect() as other:
            client.send({"filename": "slow.csv", **request_})
            wait_until(lambda: [job["state"] for job in listed(other)] == ["running"])
            client.socket.socket.close()
            wait_until(lambda: [job["state"] for job in listed(other)] == ["cancelled"])
