"""Two callers on one server, one of whom asks for everything at once: the other does not notice."""

import pytest

from tests.integration.test_auth import bearer, creemson
from tests.servers import SAMPLE, wait_until

LIMITS = {"queue_per_caller": 3, "lookups_per_caller": 4, "results_per_caller": 5, "messages_per_s": 1e6}


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    data = tmp_path_factory.mktemp("fairness") / "data"
    tokens = {name: creemson("token", "create", name, "--data-dir", data) for name in ("ann", "bob")}
    limits = [word for name, value in LIMITS.items() for word in ("--set", f"limits.{name}={value}")]
    with start(data, "--set", "auth.mode=token", *limits) as server:
        server.tokens = tokens
        yield server


@pytest.fixture
def ann(server):
    with server.connect(additional_headers=bearer(server.tokens["ann"])) as client:
        yield client


@pytest.fixture
def bob(server):
    with server.connect(additional_headers=bearer(server.tokens["bob"])) as client:
        yield client


def outputs(client, number):
    """The names of the outputs of some jobs, without their ending."""
    done = [client.run(filename="a.csv", limit=limit + 1) for limit in range(number)]
    return [result["data"]["output_data"]["filename"].removesuffix(".parquet") for result in done]


def test_flooding_caller_takes_only_its_own_share(server, ann, bob):
    """Jobs, renderings, look-ups, attached requests: the other's work does not wait for any, though no worker of theirs ends."""
    ann.upload("a.csv", SAMPLE.read_bytes())
    names = outputs(ann, 2)
    bob.upload("b.csv", SAMPLE.read_bytes())
    with server.frozen():
        # Two connections ask, so that the limits are those of the caller.
        with server.connect(additional_headers=bearer(server.tokens["ann"])) as second:
            for number in range(8):
                for client in (ann, second):
                    client.send({"type": "columns", "id": f"c{number}", "filename": "a.csv"})
                    client.send(
                        {"type": "rows", "id": f"r{number}", "filename": "a.csv", "offset": 0, "limit": 5}
                    )
            ann.send({"type": "download", "id": "d", "filename": f"{names[0]}.csv"})
            second.send({"type": "download", "id": "d", "filename": f"{names[1]}.csv"})
            for number in range(8):
                ann.send({"type": "process", "id": f"p{number}", "filename": "a.csv", "limit": 50 + number})
            accepted, refused = [], {}
            jobs = {f"p{number}" for number in range(8)}
            while not jobs <= {*accepted, *refused}:
                message = ann.receive()
                if message["type"] == "accepted":
                    accepted.append(message["id"])
                    job = message["job"]
                else:
                    refused[message["id"]] = message
            for number in range(100):
                second.send({"type": "attach", "id": f"a{number}", "job": job})

            # One job or rendering runs on each server, and three wait. Files of downloads are looked up in threads, and
            # so may ask for their places after the jobs.
            assert 2 <= len(accepted) <= 3 + len(server.servers)
            last = [name for name in refused if name in jobs]
            if len(server.servers) == 1:
                assert last == [f"p{number}" for number in range(len(accepted), 8)]
            assert {message["reason"] for message in refused.values()} == {"busy"}
            assert "3 of your jobs wait" in refused[last[-1]]["message"]
            assert refused[last[-1]]["retryable"]

            # Nothing of Bob's waits, is refused, or comes without what it should have.
            assert len(bob.ask({"type": "columns", "id": "c", "filename": "b.csv"})["columns"]) == 8
            assert len(bob.upload("c.csv", SAMPLE.read_bytes())["columns"]) == 8
            result = bob.run(filename="b.csv", limit=7)
            assert (result["type"], result["data"]["output_data"]["rows"]) == ("result", 7)
            output = result["data"]["output_data"]["filename"]
            assert bob.download(output.replace(".parquet", ".csv"))[1].count(b"\n") == 8

            # What is cancelled or abandoned frees its worker at once, though that does not react.
            ann.send({"type": "cancel", "id": "x", "request": "d"})
        ann.send({"type": "cancel", "id": "y", "job": job})
    ends = set()
    while not {"x", "y", *accepted} <= ends:
        message = ann.receive()
        if message["type"] in ("result", "error", "cancelled"):
            ends.add(message["id"])


def test_excess_of_one_caller_leaves_the_results_of_others(ann, bob):
    """Neither failing jobs nor large previews remove what is remembered for another caller."""
    ann.upload("a.csv", SAMPLE.read_bytes(), overwrite=True)
    bob.upload("b.csv", SAMPLE.read_bytes(), overwrite=True)
    output = bob.run(filename="b.csv", limit=3)["data"]["output_data"]["filename"]
    mine = {job["job"] for job in bob.ask({"type": "jobs", "id": "j"})["jobs"]}
    for number in range(15):
        assert ann.run(filename="a.csv", selectedColumns=[f"none-{number}"])["reason"] == "column_not_found"
    for number in range(8):
        assert ann.run(filename="a.csv", limit=300 + number, preview=300)["type"] == "result"
    assert {job["job"] for job in bob.ask({"type": "jobs", "id": "j"})["jobs"]} == mine
    assert bob.run(filename="b.csv", limit=3)["data"]["output_data"]["cached"]
    assert bob.download(output)[0]["type"] == "download"
    # Several servers forget at times.
    wait_until(lambda: len(ann.ask({"type": "jobs", "id": "j"})["jobs"]) == LIMITS["results_per_caller"])
