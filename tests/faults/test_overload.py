"""More connections than there is room for: those that fit are served, and nothing is left of the others."""

import json
import socket
import struct
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psutil
import pytest

from tests.servers import SAMPLE, frame, serving, upgrade_request, wait_until

QUICK = ("--set", "processing.workers=1")
MANY = ("--set", "limits.connections_per_address=20000", "--set", "limits.connections=20000")
AT_ONCE = 500
"""Connections that a test has open on its side at a time, for the sake of its own file handles."""


def get(server, path):
    """An answer over a connection of its own; None if there was no room for it."""
    try:
        return httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=5)
    except httpx.TransportError:
        return None


def connections(server):
    text = get(server, "/metrics")
    return None if text is None else int(float(text.text.split("\ncreemson_connections ")[1].split()[0]))


def reset(connection):
    """Close it with a RST, as a machine does that has crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def crowd(server, number):
    """Connections of which each asks to be a WebSocket, whether it is heard or not; what each was answered."""
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


def test_more_connections_than_file_handles(tmp_path):
    """With 128 handles, some of 500 are served and can work, the others are refused; then all is as before."""
    prefix = ("prlimit", "--nofile=128:128")
    with serving(tmp_path / "data", *QUICK, *MANY, prefix=prefix) as server, server.connect() as early:
        early.upload("a.csv", SAMPLE.read_bytes())
        process = psutil.Process(server.process.pid)
        with crowd(server, 500) as sockets:
            answers = [answer(connection, 2) for connection in sockets]
            served = [at for at, text in enumerate(answers) if text.endswith(b"101")]
            assert 20 < len(served) < 128
            assert not [text for text in answers if text and not text.endswith((b"101", b"503"))]
            # There is work for who is in, handles and all: a new file, a job, a download.
            assert early.upload("b.csv", SAMPLE.read_bytes())["type"] == "uploaded"
            assert early.run(filename="b.csv", limit=3)["type"] == "result"
            assert early.download("b.csv")[1] == SAMPLE.read_bytes()
            before = sum(process.cpu_times()[:2])
            began = time.monotonic()
            time.sleep(1)
            spent = sum(process.cpu_times()[:2]) - before
            assert spent < 0.5 * (time.monotonic() - began), "a busy loop"
        wait_until(lambda: (found := get(server, "/healthz")) is not None and found.status_code == 200)
        wait_until(lambda: connections(server) == 1)
        assert early.run(filename="b.csv", limit=4)["type"] == "result"
        with server.connect() as late:
            assert late.run(filename="b.csv", limit=5)["type"] == "result"
        log = server.log.read_text()
        assert "Traceback" not in log
        assert "unexpectedly" not in log


@pytest.mark.slow
def test_no_file_handle_at_all(tmp_path):
    """Where even accepting fails, the log has a line now and then, and no traceback; then all is as before."""
    with serving(tmp_path / "data", *QUICK, *MANY) as server, server.connect() as early:
        early.upload("a.csv", SAMPLE.read_bytes())
        process = psutil.Process(server.process.pid)
        limit = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), limit[1]))
        with crowd(server, 20) as sockets:  # the first ones find gaps
            waiting = [connection for connection in sockets if not answer(connection, 0.3)]
            assert len(waiting) >= 5
            assert early.ask({"type": "ping", "id": "p"})["type"] == "pong"
            assert early.ask({"type": "download", "id": "d", "filename": "a.csv"})["type"] == "error"
            assert early.upload("b.csv", b"a\n1\n")["type"] == "error"
            process.rlimit(psutil.RLIMIT_NOFILE, limit)
            assert {answer(connection, 5)[-3:] for connection in waiting} == {b"101"}
        assert early.download("a.csv")[1] == SAMPLE.read_bytes()
        assert early.run(filename="a.csv", limit=4)["type"] == "result"
        lines = server.log.read_text().splitlines()
        assert [json.loads(line)["event"] for line in lines if "ulimit -n" in line] == [
            "connections wait: there are no file handles for more (ulimit -n)"
        ]
        assert "unexpectedly" not in server.log.read_text()


def come_and_go(server, number):
    """Connections that are dropped: at once, in half a request, after the handshake, in half a frame; or reset."""
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


@pytest.mark.parametrize("number", [1000, pytest.param(5000, marks=pytest.mark.slow)])
def test_connections_that_come_and_go(tmp_path, number):
    """Nothing is left of them: no connection, no file handle, no memory, no traceback."""
    with serving(tmp_path / "data", *QUICK, *MANY) as server:
        process = psutil.Process(server.process.pid)
        come_and_go(server, 500)  # what Python keeps for the next ones is no leak
        wait_until(lambda: connections(server) == 0)
        wait_until(lambda: process.num_fds() < 50)
        handles, memory = process.num_fds(), process.memory_info().rss
        come_and_go(server, number)
        wait_until(lambda: (found := get(server, "/healthz")) is not None and found.status_code == 200)
        wait_until(lambda: connections(server) == 0)
        wait_until(lambda: process.num_fds() <= handles + 1)  # the one that asks for the metrics
        assert process.memory_info().rss - memory < 20 * 2**20
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_five_thousand_at_once(tmp_path):
    """All of them open, half of them WebSockets; then all are dropped. The second time takes no more memory.

    (What the first time took, some 35 kB for each connection, Python and libc keep for the next ones.)
    """
    with serving(tmp_path / "data", *QUICK, *MANY) as server:
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
                assert answer(sockets[-1], 30).endswith(b"101")
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
def test_an_address_with_too_many_connections(tmp_path):
    """Those over `limits.connections_per_address` get HTTP 429 and words; others are served as ever."""
    with serving(tmp_path / "data", *QUICK) as server, crowd(server, 1100) as sockets:
        answers = [answer(connection, 30)[-3:] for connection in sockets]
        assert sorted(set(answers)) == [b"101", b"429"]
        assert answers.count(b"101") == 1000
        refused = sockets[answers.index(b"429")].recv(65536)
        assert b"connections from your address already" in refused
        for connection in sockets[:500]:
            connection.close()
        wait_until(lambda: (found := get(server, "/healthz")) is not None and found.status_code == 200)
        with server.connect() as client:
            assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
