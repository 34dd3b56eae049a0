"""More connections than there is room for: those that fit are served, and the others leave nothing behind."""

import json
import socket
import struct
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psutil
import pytest

from tests.servers import PATIENCE, SAMPLE, frame, read_all, serving, upgrade_request, wait_until

QUICK = ("--set", "processing.workers=1")
MANY = ("--set", "limits.connections_per_address=20000", "--set", "limits.connections=20000")
AT_ONCE = 500
"""Connections that a test has open at a time, to save its own file descriptors."""


def get(server, path):
    """Return a response over a separate connection; None if there was no room for it."""
    try:
        return httpx.get(f"http://127.0.0.1:{server.port}{path}")
    except httpx.TransportError:
        return None


def connections(server):
    text = get(server, "/metrics")
    return None if text is None else int(float(text.text.split("\ncreemson_connections ")[1].split()[0]))


def reset(connection):
    """Close it with a RST, as a crashed machine does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def crowd(server, number):
    """Open connections that each request a WebSocket upgrade, whether it is answered or not."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(number):
            try:
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=2)
            except OSError:
                continue
            stack.callback(connection.close)
            with suppress(OSError):
                connection.sendall(upgrade_request())
            sockets.append(connection)
        yield sockets


def answer(connection, seconds):
    connection.settimeout(seconds)
    try:
        return connection.recv(12)
    except OSError:
        return b""


def load(process):
    """Return the share of a second that a process uses."""
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(1)
    return (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)


@pytest.mark.slow
def test_connections_beyond_file_descriptors_are_refused(tmp_path):
    """With 128 descriptors, some of 500 are served and can work, the others are refused; then all recovers."""
    prefix = ("prlimit", "--nofile=128:128")
    with serving(tmp_path / "data", *QUICK, *MANY, prefix=prefix) as server, server.connect() as early:
        early.upload("a.csv", SAMPLE.read_bytes())
        process = psutil.Process(server.process.pid)
        with crowd(server, 500) as sockets:
            answers = [answer(connection, 2) for connection in sockets]
            served = [at for at, text in enumerate(answers) if text.endswith(b"101")]
            assert 20 < len(served) < 128
            assert not [text for text in answers if text and not text.endswith((b"101", b"503"))]
            # A connected client can still work and get descriptors: a new file, a job, a download.
            assert early.upload("b.csv", SAMPLE.read_bytes())["type"] == "uploaded"
            assert early.run(filename="b.csv", limit=3)["type"] == "result"
            assert early.download("b.csv")[1] == SAMPLE.read_bytes()
            assert min(load(process) for _ in range(5)) < 0.5, "a busy loop"
        wait_until(lambda: (found := get(server, "/healthz")) is not None and found.status_code == 200)
        wait_until(lambda: connections(server) == 1)
        assert early.run(filename="b.csv", limit=4)["type"] == "result"
        with server.connect() as late:
            assert late.run(filename="b.csv", limit=5)["type"] == "result"
        log = server.log.read_text()
        assert "Traceback" not in log
        assert "unexpectedly" not in log


@pytest.mark.slow
def test_server_without_file_descriptors_recovers(tmp_path):
    """While accepting fails, the log has a line now and then and no traceback; then all recovers."""
    with serving(tmp_path / "data", *QUICK, *MANY) as server, server.connect() as early:
        early.upload("a.csv", SAMPLE.read_bytes())
        process = psutil.Process(server.process.pid)
        limit = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), limit[1]))
        with crowd(server, 20) as sockets:  # the first ones find free descriptors
            waiting = [connection for connection in sockets if not answer(connection, 0.3)]
            assert len(waiting) >= 5
            assert early.ask({"type": "ping", "id": "p"})["type"] == "pong"
            assert early.ask({"type": "download", "id": "d", "filename": "a.csv"})["type"] == "error"
            assert early.upload("b.csv", b"a\n1\n")["type"] == "error"
            process.rlimit(psutil.RLIMIT_NOFILE, limit)
            assert {answer(connection, PATIENCE)[-3:] for connection in waiting} == {b"101"}
        assert early.download("a.csv")[1] == SAMPLE.read_bytes()
        assert early.run(filename="a.csv", limit=4)["type"] == "result"
        lines = server.log.read_text().splitlines()
        assert [json.loads(line)["event"] for line in lines if "ulimit -n" in line] == [
            "no file handles left: new connections wait (raise ulimit -n)"
        ]
        assert "unexpectedly" not in server.log.read_text()


def come_and_go(server, number):
    """Open and drop connections: immediately, inside a request, after the handshake, inside a frame; or reset them."""
    for start in range(0, number, AT_ONCE):
        sockets = [server.raw() for _ in range(min(AT_ONCE, number - start))]
        for index, connection in enumerate(sockets):
            say = [
                b"",
                b"GET /status HT",
                upgrade_request(),
                upgrade_request() + frame(b'{"type": "ping"', size=100),
                b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
            ][index % 6]
            with suppress(OSError):  # refused in the meantime
                connection.sendall(say)
        for index, connection in enumerate(sockets):
            (reset if index // 6 % 2 else socket.socket.close)(connection)


@pytest.mark.parametrize("number", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_dropped_connections_leave_nothing(tmp_path, number):
    """No connection, file descriptor, memory or traceback is left."""
    with serving(tmp_path / "data", *QUICK, *MANY) as server:
        process = psutil.Process(server.process.pid)
        come_and_go(server, 500)  # what Python keeps for later connections is not a leak
        wait_until(lambda: connections(server) == 0)
        wait_until(lambda: process.num_fds() < 50)
        handles, memory = process.num_fds(), process.memory_info().rss
        come_and_go(server, number)
        wait_until(lambda: (found := get(server, "/healthz")) is not None and found.status_code == 200)
        wait_until(lambda: connections(server) == 0)
        wait_until(lambda: process.num_fds() <= handles + 1)  # the one that requests the metrics
        assert process.memory_info().rss - memory < 20 * 2**20
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_five_thousand_connections_leave_no_memory(tmp_path):
    """Half of them are WebSockets; then all are dropped, and a second round uses no more memory.

    (Python and libc keep the memory of the first round, some 35 kB per connection, for later ones.)
    """
    # All must be open at the same time, although none of them answers pings.
    late = ("--set", "timeouts.heartbeat_interval=600")
    with serving(tmp_path / "data", *QUICK, *MANY, *late) as server:
        process = psutil.Process(server.process.pid)
        handles = process.num_fds()
        used = []
        for _ in range(2):
            with ExitStack() as stack:
                sockets = []
                for index in range(5000):
                    connection = server.raw()
                    stack.callback(connection.close)
                    connection.sendall(upgrade_request() if index % 2 else b"GET /status HT")
                    sockets.append(connection)
                assert answer(sockets[-1], PATIENCE).endswith(b"101")
                wait_until(lambda: process.num_fds() >= handles + 2500)
                with server.connect() as client:
                    assert client.upload("a.csv", SAMPLE.read_bytes(), overwrite=True)["type"] == "uploaded"
                    assert client.run(filename="a.csv", limit=1)["type"] == "result"
                for index, connection in enumerate(sockets):
                    (reset if index % 3 else socket.socket.close)(connection)
            wait_until(lambda: connections(server) == 0)
            wait_until(lambda: process.num_fds() <= handles + 1)
            used.append(process.memory_info().rss)
        assert used[1] - used[0] < 20 * 2**20, used
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_connections_per_address_over_limit_get_429(tmp_path):
    """The response explains it; other connections are served as usual."""
    with serving(tmp_path / "data", *QUICK) as server, crowd(server, 1100) as sockets:
        answers = [answer(connection, PATIENCE)[-3:] for connection in sockets]
        assert sorted(set(answers)) == [b"101", b"429"]
        assert answers.count(b"101") == 1000
        refused = sockets[answers.index(b"429")]
        refused.shutdown(socket.SHUT_WR)
        assert b"connections from your address already" in read_all(refused)
        for connection in sockets[:500]:
            connection.close()
        wait_until(lambda: (found := get(server, "/healthz")) is not None and found.status_code == 200)
        with server.connect() as client:
            assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"


@pytest.mark.slow
def test_slow_downloads_leave_file_handles_for_everybody_else(tmp_path):
    """With 192 handles, most of 90 downloads that nobody reads are refused in words; then all recovers."""
    prefix = ("prlimit", "--nofile=192:192")
    late = ("--set", "timeouts.send=600")  # until then, a download that nobody reads keeps its file open
    with serving(tmp_path / "data", *QUICK, *MANY, *late, prefix=prefix) as server:
        (server.data_dir / "uploads" / "large.bin").write_bytes(bytes(8_000_000))
        server.put("a.csv")
        with ExitStack() as stack:
            answers = Counter()
            for _ in range(90):
                connection = stack.enter_context(server.raw())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(b"GET /download/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
                answers[connection.recv(12)[-3:]] += 1
            assert answers == {b"200": 16, b"503": 74}
            refused = httpx.get(f"{server.base}/download/large.bin")
            assert (refused.status_code, refused.json()["reason"]) == (503, "busy")
            assert "16 open downloads" in refused.json()["detail"]
            assert (
                httpx.post(f"{server.base}/upload", files={"file": ("b.csv", b"a\n1\n")}).status_code == 200
            )
            with server.connect() as client:
                assert client.upload("c.csv", SAMPLE.read_bytes())["type"] == "uploaded"
                assert client.run(filename="a.csv", limit=3)["type"] == "result"
        wait_until(lambda: httpx.get(f"{server.base}/download/a.csv").status_code == 200)
        assert "Traceback" not in server.log.read_text()
