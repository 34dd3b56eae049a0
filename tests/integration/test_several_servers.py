"""Three real servers on one PostgreSQL and one object store: what happens at one of them is seen at the others."""

import hashlib
import random
import re
import signal
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from creemson.catalog.shared.jobs.rows import LEASE
from tests.integration.test_limits import metric
from tests.objectstores import forwarded
from tests.servers import PATIENCE, SAMPLE, refused_start, serving, wait_until
from tests.several import several

pytestmark = pytest.mark.slow  # the servers start first
MIB = 2**20
PIECE = 8 * MIB
SMALL = b"a,b\n1,x\n2,y\n3,z\n"


@pytest.fixture(scope="module")
def place(postgres_server, object_store):
    """URLs of a database and a bucket."""
    return postgres_server.url(), object_store.bucket()


@pytest.fixture(scope="module")
def servers(place, object_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "data"
    with several(folder, *place, object_store, "--set", "storage.tables=never") as servers:
        yield servers
        assert "Traceback" not in servers.log.read_text()


@pytest.fixture
def clients(servers):
    """A client of each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for server in servers.servers]


def listed(client):
    return client.ask({"type": "jobs", "id": "j"})["jobs"]


def state(client, job):
    return next(one["state"] for one in listed(client) if one["job"] == job)


def begin(client, name, id="p", **fields):
    """Submit a job, and return its id."""
    accepted = client.ask({"type": "process", "id": id, "filename": name, **fields})
    assert accepted["type"] == "accepted", accepted
    return accepted["job"]


def rows(result):
    assert result["type"] == "result", result
    return result["data"]["output_data"]["rows"]


@contextmanager
def busy(servers, clients):
    """Let each server run a job that does not end before the block does; their ids are yielded."""
    clients[0].upload("busy.csv", SMALL, overwrite=True)
    with servers.frozen():
        jobs = []

        def all_run():
            return all(state(clients[0], job) == "running" for job in jobs)

        for number, client in enumerate(clients):
            # Another one for each block, so that none is served from cache.
            values = [["a", "<", 10 + number], ["a", "!=", random.random()]]
            client.send({"type": "process", "id": f"busy{number}", "filename": "busy.csv", "where": values})
            jobs.append(client.receive()["job"])
            wait_until(all_run)
        yield jobs
    for client in clients:
        client.until("result", "error")


def test_progress_and_logs_arrive_live_from_another_server(servers, clients, slow_csv):
    """The same events, with the same numbers, as at the server that runs the job."""
    one, two, three = clients
    one.upload("long.csv", slow_csv.read_bytes())
    with servers.frozen():
        job = begin(one, "long.csv", sort=[["text"]], preview=1)
        two.send({"type": "attach", "id": "a", "job": job})
        assert begin(three, "long.csv", sort=[["text"]], preview=1) == job
        listed(two)  # what was asked before is done
    told = [client.until("progress") for client in clients]
    with servers.servers[0].frozen(), servers.servers[1].connect() as another:
        assert state(another, job) == "running"
        for worker in servers.servers[0].workers():
            worker.kill()
    for number, client in enumerate(clients):
        told[number] += client.until("log")  # the attempt is repeated
        told[number] += client.until("result", "error")
    assert {messages[-1]["type"] for messages in told} == {"result"}
    assert len({str(messages[-1]["data"]) for messages in told}) == 1
    for messages in told:
        numbers = [message["seq"] for message in messages]
        assert numbers == sorted(set(numbers))
    first, *others = [{(message["seq"], message["type"]) for message in messages} for messages in told]
    assert all(seen <= first for seen in others)  # some progress may be missing


def test_equal_jobs_submitted_to_three_servers_at_once_run_once(servers, clients):
    """All get the result, with the same job."""
    clients[0].upload("equal.csv", SMALL)
    before = metric(servers, 'creemson_job_seconds_count{state="done"}')
    with servers.frozen():
        for client in clients:
            client.send({"type": "process", "id": "p", "filename": "equal.csv", "limit": 2})
        accepted = [client.until("accepted")[-1] for client in clients]
    results = [client.until("result", "error")[-1] for client in clients]
    assert [rows(result) for result in results] == [2] * 3
    assert len({message["job"] for message in (*accepted, *results)}) == 1
    assert len({result["data"]["output_data"]["filename"] for result in results}) == 1
    assert metric(servers, 'creemson_job_seconds_count{state="done"}') == before + 1
    for client in clients:
        assert client.run(filename="equal.csv", limit=2)["data"]["output_data"]["cached"]


def test_job_is_cancelled_at_another_server(servers, clients):
    """One that waits, and one that runs; whoever waits for it is told."""
    one, two, three = clients
    one.upload("cancelled.csv", SMALL)
    with busy(servers, clients):
        job = begin(one, "cancelled.csv", limit=1)
        assert state(three, job) == "queued"
        assert two.ask({"type": "cancel", "id": "c", "job": job}) == {
            "type": "cancelled", "id": "c", "job": job,
        }  # fmt: skip
        error = one.until("error")[-1]
        assert (error["id"], error["job"], error["reason"]) == ("p", job, "cancelled")
        assert [state(client, job) for client in clients] == ["cancelled"] * 3
    with servers.frozen():
        job = begin(one, "cancelled.csv", limit=2)
        three.send({"type": "attach", "id": "a", "job": job})
        wait_until(lambda: state(two, job) == "running")
        assert two.ask({"type": "cancel", "id": "c", "job": job})["type"] == "cancelled"
        for client in (one, three):
            assert client.until("error")[-1]["reason"] == "cancelled"
        assert two.ask({"type": "cancel", "id": "c", "job": job})["type"] == "cancelled"  # idempotent
    assert rows(one.run(filename="cancelled.csv", limit=2)) == 2  # its worker is free


@pytest.mark.parametrize("how", ["process", "attach"])
def test_job_ends_with_its_connection_unless_another_server_has_a_request(servers, clients, how):
    """With `on_disconnect: cancel`."""
    name = f"left-{how}.csv"
    _, two, three = clients
    two.upload(name, SMALL)
    with servers.frozen():
        for joined in (False, True):
            with servers.servers[0].connect() as client:
                job = begin(client, name, limit=1 + joined, on_disconnect="cancel")
                wait_until(lambda job=job: state(three, job) == "running")
                if joined and how == "attach":
                    two.send({"type": "attach", "id": "a", "job": job})
                elif joined:
                    assert begin(two, name, limit=2) == job
                listed(two)  # what was asked before is done
            if not joined:
                wait_until(lambda job=job: state(three, job) == "cancelled")
    assert rows(two.until("result", "error")[-1]) == 2


def test_upload_goes_on_at_another_server(servers, clients):
    """Only what was not stored is sent again; the file is the same everywhere."""
    one, two, three = clients
    data = random.Random(1).randbytes(30 * MIB)
    sha256 = hashlib.sha256(data).hexdigest()
    ask = {"type": "upload", "id": "u", "filename": "moved.bin", "size": len(data), "sha256": sha256}
    offset, sent = 0, 0
    for client, until in ((one, 20), (two, 27), (three, 30)):
        ready = client.ask(ask)
        assert ready["type"] == "upload_ready", ready
        offset = ready["offset"]
        assert max(0, sent - PIECE) <= offset <= sent
        for start in range(offset, until * MIB, MIB):
            client.send(data[start : start + MIB])
        sent = until * MIB
        if client is not three:
            client.send({"type": "ping", "id": "p"})
            client.until("pong")
    assert three.until("uploaded", "error")[-1]["sha256"] == sha256
    # The one that was left may go on, and its bytes are in no file. It may know that only when a piece is full.
    for _ in range(PIECE // MIB):
        one.send(b"late" * (MIB // 4))
    assert one.until("error")[-1]["reason"] in ("cancelled", "unexpected_binary", "busy")
    for server in servers.servers:
        with server.connect() as client:
            assert hashlib.sha256(client.download("moved.bin")[1]).hexdigest() == sha256


def test_replaced_and_deleted_files_are_seen_everywhere(servers, clients):
    """At once. A job that was accepted before runs on its version of the file."""
    one, two, three = clients
    one.upload("changing.csv", SMALL)
    assert rows(two.run(filename="changing.csv")) == 3
    three.upload("changing.csv", b"a,b\n1,x\n", overwrite=True)
    assert [rows(client.run(filename="changing.csv")) for client in clients] == [1] * 3
    assert two.download("changing.csv")[1] == b"a,b\n1,x\n"
    with servers.frozen():
        job = begin(one, "changing.csv", limit=1)
        assert two.ask({"type": "delete", "id": "d", "filename": "changing.csv"})["type"] == "deleted"
        for client in clients:
            for ask in (
                {"type": "process"}, {"type": "columns"}, {"type": "download"},
                {"type": "rows", "offset": 0, "limit": 1}, {"type": "delete"},
            ):  # fmt: skip
                error = client.ask({**ask, "id": "x", "filename": "changing.csv"})
                assert error["reason"] == "file_not_found", (ask, error)
            assert "changing.csv" not in [file["filename"] for file in files(client)]
    result = one.until("result", "error")[-1]
    assert (rows(result), result["job"]) == (1, job)
    output = result["data"]["output_data"]["filename"]
    assert three.ask({"type": "rows", "id": "r", "filename": output, "offset": 0, "limit": 5})["rows"] == [
        [1, "x"]
    ]
    assert three.ask({"type": "delete", "id": "d", "filename": output})["type"] == "deleted"
    assert two.ask({"type": "rows", "id": "r", "filename": output, "offset": 0, "limit": 5})["reason"]


def files(client):
    return client.ask({"type": "files", "id": "f"})["files"]


def test_lists_and_counts_are_equal_everywhere(servers, clients):
    """Of files and jobs, in `jobs`, `files`, /status and /metrics; connections are those of each server."""
    one, two, _ = clients
    one.upload("counted.csv", SAMPLE.read_bytes())
    two.run(filename="counted.csv", limit=3)
    two.run(filename="counted.csv", selectedColumns=["none"])
    with busy(servers, clients):
        waiting = [begin(one, "counted.csv", f"p{number}", limit=10 + number) for number in range(4)]
        assert files(one)
        assert all(files(client) == files(one) for client in clients)
        assert all(listed(client) == listed(one) for client in clients)
        states = [job["state"] for job in listed(one)]
        expected = {name: states.count(name) for name in ("queued", "running", "done", "failed", "cancelled")}
        assert (expected["queued"], expected["running"]) == (4, 3)

        def counted(server):
            status = httpx.get(f"{server.base}/status").json()
            return status["jobs"], metric(server, "creemson_queue_depth"), status["connections"]

        wait_until(lambda: [counted(server) for server in servers.servers] == [(expected, 4, 1)] * 3)
    ends = [one.until("result", "error")[-1] for _ in waiting]
    assert {message["job"] for message in ends} == set(waiting)


def test_servers_that_share_and_one_that_does_not_refuse_each_other(servers, place, object_store, tmp_path):
    """Whichever comes first; a server of its own refuses the others."""
    database, bucket = (f"--set=catalog.url={place[0]}", f"--set=storage.url={place[1]}")
    words = refused_start(tmp_path / "alone", database)
    assert "another server uses the catalog" in words
    words = refused_start(tmp_path / "other", bucket, env=object_store.environment)
    assert "belongs to another catalog" in words
    words = refused_start(
        tmp_path / "third",
        database,
        f"--set=storage.url={object_store.bucket()}",
        env=object_store.environment,
    )
    assert "has none of its objects" in words
    assert "the same for all servers" in words
    assert servers.servers[0].process.poll() is None


def test_server_that_shares_is_refused_where_one_does_not(postgres_server, object_store, tmp_path):
    """With words that say what to do."""
    database = f"--set=catalog.url={postgres_server.url()}"
    with serving(tmp_path / "alone", database):
        words = refused_start(
            tmp_path / "other",
            database,
            f"--set=storage.url={object_store.bucket()}",
            env=object_store.environment,
        )
        assert "a server that does not share the catalog" in words
        assert "storage.url" in words


def test_connection_pooler_is_refused(postgres_server, object_store, tmp_path):
    """It gives out another process id than that of the session, and no hint would arrive."""

    def another_process(data):
        return re.sub(rb"K\0\0\0\x0c....", b"K\0\0\0\x0c\x7f\0\0\1", data, count=1, flags=re.DOTALL)

    url = postgres_server.url()
    with forwarded(postgres_server, lambda data: data, another_process) as pooler:
        behind = url.replace(f":{postgres_server.port}/", f":{pooler.port}/")
        words = refused_start(
            tmp_path / "data", f"--set=catalog.url={behind}", f"--set=storage.url={object_store.bucket()}",
            env=object_store.environment,
        )  # fmt: skip
    assert "behind a connection pooler" in words
    assert "Let catalog.url name PostgreSQL itself" in words


def test_request_that_joins_gets_the_time_it_asked_for(servers, clients):
    """Also if another server runs the job, and was asked for less."""
    one, two, _ = clients
    one.upload("time.csv", SMALL)
    with servers.frozen():
        job = begin(one, "time.csv", timeout=4)
        assert begin(two, "time.csv", timeout=60) == job
        time.sleep(6)
    assert rows(two.until("result", "error")[-1]) == 3
    assert rows(one.until("result", "error")[-1]) == 3


def test_job_goes_on_for_who_is_away_if_another_request_leaves(servers, clients):
    """The first client wants it, although its connection is lost."""
    one, two, three = clients
    one.upload("away.csv", SMALL)
    with servers.frozen():
        with servers.servers[0].connect() as lost:
            job = begin(lost, "away.csv")
        assert begin(two, "away.csv", id="joined") == job
        two.send({"type": "cancel", "id": "c", "request": "joined"})
        assert {message["type"] for message in two.until("cancelled")} <= {"cancelled", "error", "log"}
    wait_until(lambda: state(three, job) == "done")


def test_server_that_is_alone_lets_its_jobs_finish(postgres_server, object_store, tmp_path):
    """Its leases are renewed until the job has ended."""
    shared = {"catalog.url": postgres_server.url(), "storage.url": object_store.bucket()}
    arguments = [f"--set={key}={value}" for key, value in shared.items()]
    with (
        serving(
            tmp_path / "data", *arguments, "--set=server.drain_timeout=60", env=object_store.environment
        ) as server,
        server.connect() as client,
    ):
        client.upload("a.csv", SMALL)
        with server.frozen():
            begin(client, "a.csv")
            server.process.send_signal(signal.SIGTERM)
            time.sleep(LEASE + 2)
        assert rows(client.until("result", "error")[-1]) == 3
        assert server.process.wait(PATIENCE) == 0
