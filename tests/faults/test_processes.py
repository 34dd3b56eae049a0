"""Servers that are stopped and killed, workers that die, peers that do not read: on real processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.servers import PATIENCE, frame, serving, upgrade_request, wait_until


def begin_job(server, client):
    """Start a job; on a server whose workers are suspended, it runs until they go on."""
    server.put("a.csv")
    client.send({"type": "process", "id": "job", "filename": "a.csv"})
    client.until("accepted")


def gone(processes):
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.mark.parametrize("sign", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_draining_server_finishes_running_jobs(tmp_path, sign):
    """The result is delivered, new work refused, then close 1001 and exit 0."""
    with (
        serving(tmp_path / "data", "--set", "server.drain_timeout=600") as server,
        server.connect() as client,
        server.connect() as idle,
    ):
        workers = server.workers()
        with server.frozen():
            begin_job(server, client)
            server.process.send_signal(sign)
            wait_until(lambda: "draining" in server.log.read_text())
            assert httpx.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 503
            with pytest.raises(InvalidStatus) as handshake, server.connect():
                pass
            assert handshake.value.response.status_code == 503
            refused = idle.ask({"type": "process", "id": "new", "filename": "a.csv"})
            assert (refused["reason"], refused["code"], refused["retryable"]) == ("shutting_down", 1001, True)
            upload = idle.ask({"type": "upload", "id": "up", "filename": "a.csv", "size": 1})
            assert upload["reason"] == "shutting_down"
        result = client.until("result", "error")[-1]
        assert result["data"]["output_data"]["rows"] == 344
        for each in (client, idle):
            with pytest.raises(ConnectionClosed) as closed:
                each.receive()
            assert closed.value.rcvd.code == 1001
        assert server.process.wait(PATIENCE) == 0
        assert gone(workers)
        assert "Traceback" not in server.log.read_text()


def test_job_over_drain_timeout_is_stopped(tmp_path):
    """It fails with `shutting_down` and leaves no partial output."""
    with (
        serving(tmp_path / "data", "--set", "server.drain_timeout=0.1") as server,
        server.connect() as client,
    ):
        workers = server.workers()
        with server.frozen():
            begin_job(server, client)
            server.process.send_signal(signal.SIGTERM)
            error = client.until("result", "error")[-1]
            assert (error["reason"], error["retryable"]) == ("shutting_down", True)
            assert server.process.wait(PATIENCE) == 0
            assert gone(workers)
    assert list((server.data_dir / "outputs").iterdir()) == []


def test_second_signal_ends_the_server_immediately(tmp_path):
    """Pressing Ctrl-C twice means not waiting for a job that does not end; no worker is left."""
    settings = ("--set", "server.drain_timeout=600")
    with serving(tmp_path / "data", *settings) as server, server.connect() as client:
        workers = server.workers()
        with server.frozen():
            begin_job(server, client)
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: "draining" in server.log.read_text())
            server.process.send_signal(signal.SIGINT)
            server.process.wait(PATIENCE)
            assert gone(workers)
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_workers_of_killed_server_end(tmp_path):
    """After kill -9, before their job ends; the next server sweeps partial files."""
    data = tmp_path / "data"
    with serving(data) as server, server.connect() as client:
        workers = server.workers()
        assert len(workers) >= 2
        with server.frozen():
            begin_job(server, client)
            server.process.kill()
            wait_until(lambda: gone(workers))
    with serving(data) as server, server.connect() as client:
        assert [path.name for path in (data / "outputs").iterdir() if path.name.startswith(".")] == []
        assert client.run(filename="a.csv", limit=1)["type"] == "result"


@pytest.mark.slow
def test_randomly_killed_workers_lose_no_job(tmp_path):
    """However often: every job has its one result."""
    with serving(tmp_path / "data", "--set", "retries.job=20") as server, server.connect() as client:
        rows = "".join(f"{number},{number * 7 % 13}\n" for number in range(200_000))
        client.upload("jobs.csv", f"a,b\n{rows}".encode())
        for number in range(20):
            client.send({"type": "process", "id": str(number), "filename": "jobs.csv", "limit": number + 1})
        ends = {}
        while len(ends) < 20:
            message = client.receive()
            if message["type"] in ("result", "error"):
                assert message["id"] not in ends
                ends[message["id"]] = message
                if len(ends) % 4 == 0:
                    with suppress(IndexError, psutil.NoSuchProcess):  # killed before, and not yet replaced
                        server.workers()[-1].kill()
        assert {end["type"] for end in ends.values()} == {"result"}
        for number in range(20):
            assert ends[str(number)]["data"]["output_data"]["rows"] == number + 1


@pytest.mark.slow
def test_peer_that_does_not_read_is_closed(tmp_path):
    """Its answers fill at most the outbox; others do not notice."""
    with serving(tmp_path / "data", "--set", "limits.outbox_bytes=100000") as server:
        connection = socket.socket()
        # Set before connecting, or else the kernel buffers megabytes of answers.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(upgrade_request())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100_000):  # the system keeps megabytes of them before it blocks
                connection.sendall(frame(b'{"type": "hello", "version": 1, "id": "h"}') * 100)
        connection.close()
        wait_until(lambda: "does not read" in server.log.read_text())
        with server.connect() as client:
            assert client.ask({"type": "ping", "id": "p"})["id"] == "p"


@pytest.mark.slow
def test_slow_download_uses_little_memory(tmp_path):
    """A download waits for its reader, so the server holds a few chunks at most."""
    with serving(tmp_path / "data") as server, server.connect() as client:
        big = server.data_dir / "uploads" / "big.bin"
        with big.open("wb") as stream:
            stream.truncate(200 * 2**20)
        before = psutil.Process(server.process.pid).memory_info().rss
        client.send({"type": "download", "id": "d", "filename": "big.bin"})
        assert client.receive()["size"] == 200 * 2**20
        time.sleep(0.5)
        assert psutil.Process(server.process.pid).memory_info().rss - before < 50 * 2**20
        # Text messages go between the frames.
        client.send({"type": "ping", "id": "p"})
        received = 0
        pong = None
        while received < 200 * 2**20 or pong is None:
            message = client.receive()
            if isinstance(message, bytes):
                received += len(message)
            elif message["type"] == "pong":
                pong = received
        assert pong < 200 * 2**20
        assert client.receive()["type"] == "downloaded"


@pytest.mark.slow
def test_port_in_use_is_reported(tmp_path):
    """In one line and with exit status 1."""
    with serving(tmp_path / "data") as server:
        command = [sys.executable, "-m", "creemson", "serve", "--port", str(server.port), "--data-dir"]
        other = subprocess.run(
            [*command, str(tmp_path / "b")], capture_output=True, text=True, timeout=PATIENCE
        )
    assert other.returncode == 1
    assert "in use" in other.stderr
    assert "Traceback" not in other.stderr


def test_unusable_data_folder_is_reported(tmp_path):
    """A file in its place is named."""
    (tmp_path / "data").write_text("")
    command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert str(tmp_path / "data") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_second_server_on_a_data_folder_is_refused(tmp_path):
    """It would sweep the first one's partial files; after a kill the folder is free."""
    with serving(tmp_path / "data") as server:
        command = [
            sys.executable,
            "-m",
            "creemson",
            "serve",
            "--port",
            "0",
            "--data-dir",
            str(tmp_path / "data"),
        ]
        other = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert other.returncode == 1
        assert "Another server uses this data folder" in other.stderr
        server.process.kill()
        server.process.wait()
    with serving(tmp_path / "data"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_command_leaves_nothing(tmp_path, slow_csv, sign):
    """Neither its embedded server's folder nor a worker; the exit status shows the signal."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "creemson", "process", str(slow_csv), "--sort", "text"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    outputs = None
    deadline = time.monotonic() + PATIENCE
    while not outputs:  # until the job has started writing
        assert time.monotonic() < deadline
        outputs = list(tmp_path.glob("creemson-*/outputs/.*"))
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children()
    for worker in workers:  # so that the job does not end before the signal arrives
        worker.suspend()
    process.send_signal(sign)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + sign
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    assert gone(workers)
