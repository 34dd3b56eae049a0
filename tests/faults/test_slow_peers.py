"""Peers that dribble, stop or fall silent, at each level, against a real server with short timeouts."""

import itertools
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest
import trio
from websockets.exceptions import ConnectionClosed

from tests.faults.proxy import Plan, proxied
from tests.faults.test_frames import after_upgrade, close_code
from tests.servers import Client, connect, frame, serving, upgrade_request, wait_until

SEND, INTERVAL, TIMEOUT = 1.0, 0.5, 1.0
"""Seconds of the server whose peers are silent."""
PATIENT_SEND, PATIENT_TIMEOUT = 5.0, 5.0
"""Seconds of the server whose peers are slow but must be kept, also if this machine stops them for a moment."""
LARGE = json.dumps({"type": "ping", "id": "large", "pad": "x" * 60_000}).encode()
DOWNLOAD = json.dumps({"type": "download", "id": "d", "filename": "large.bin"}).encode()


@contextmanager
def watchful(data_dir, **timeouts):
    """A server with short timeouts; no peer may cause a traceback."""
    options = itertools.chain.from_iterable(
        ("--set", f"timeouts.{name}={value}") for name, value in timeouts.items()
    )
    with serving(data_dir, *options) as server:
        with (server.data_dir / "uploads" / "large.bin").open("wb") as stream:
            stream.truncate(200 * 2**20)
        yield server
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """For peers that it drops."""
    short = {"send": SEND, "heartbeat_interval": INTERVAL, "heartbeat_timeout": TIMEOUT}
    with watchful(tmp_path_factory.mktemp("hasty") / "data", **short) as server:
        yield server


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """For peers that it keeps."""
    longer = {
        "send": PATIENT_SEND,
        "heartbeat_interval": INTERVAL,
        "heartbeat_timeout": PATIENT_TIMEOUT,
    }
    with watchful(tmp_path_factory.mktemp("patient") / "data", **longer) as server:
        yield server


def open_connections(server):
    return httpx.get(f"http://127.0.0.1:{server.port}/status").json()["connections"]


@contextmanager
def leaving_none(server):
    """Assert that no connection is left at the end."""
    yield
    wait_until(lambda: open_connections(server) == 0)


@contextmanager
def narrow(server, room=4096):
    """A TCP connection with a small receive buffer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)  # before connecting
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        yield connection


def dribble(connection, data, *, piece=1, seconds=0.05):
    """Send a piece at a time; return whether the other side accepted everything."""
    try:
        for start in range(0, len(data), piece):
            connection.sendall(data[start : start + piece])
            time.sleep(seconds)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/ws", "/status"])
def test_dribbling_head_is_cut(tmp_path, path):
    """`timeouts.handshake` applies to the whole head of a request, however its bytes arrive."""
    with watchful(tmp_path / "data", handshake=0.5) as server, server.raw() as connection:
        assert not dribble(connection, upgrade_request(path) * 10, seconds=0.1)  # would take minutes


STOPS = {
    "before": (b"", b""),
    "in a header": (frame(LARGE)[:1], b""),
    "in a length": (frame(LARGE)[:3], b""),
    "after a header": (frame(LARGE)[:8], b""),
    "in a body": (frame(LARGE)[:30_000], b""),
    "in a message": (frame(b"{", final=False), b""),
    "almost, between fragments": (frame(b"{", final=False), 100 * frame(b" ", 0, final=False)),
    "almost, between bytes": (frame(LARGE)[:2], frame(LARGE)[2:102]),
}


def fall_silent(server, sent, then):
    """Send a part, then little or nothing; return the server's frames and the seconds it took."""
    began = time.monotonic()
    with server.upgraded() as connection:
        connection.sendall(sent)
        dribble(connection, then)
        return after_upgrade(connection), time.monotonic() - began


@pytest.fixture(scope="module")
def silent(hasty):
    """Run all of them concurrently, because they take seconds."""
    with ThreadPoolExecutor(len(STOPS)) as pool:
        yield {where: pool.submit(fall_silent, hasty, *parts) for where, parts in STOPS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("where", STOPS)
def test_incomplete_frame_is_dropped_by_heartbeat(silent, where):
    """The peer gets the reason, wherever in a frame it has stopped."""
    frames, seconds = silent[where].result()
    *_, (text, error), (opcode, payload) = frames
    assert text == 1
    assert json.loads(error)["reason"] == "connection_lost"
    assert (opcode, close_code(payload)) == (8, 4408)
    assert seconds > INTERVAL + TIMEOUT


@pytest.mark.slow
def test_slow_frame_is_accepted(patient):
    """10 KiB/s are slow and honest: the message is answered after the heartbeat's timeout."""
    began = time.monotonic()
    with leaving_none(patient), patient.upgraded() as connection:
        assert dribble(connection, frame(LARGE), piece=500)
        assert time.monotonic() - began > INTERVAL + PATIENT_TIMEOUT
        received = b""
        while b'"large"' not in received:
            received += connection.recv(65536)


def test_download_nobody_reads_is_closed(hasty):
    """It ends after `timeouts.send`; memory and file descriptors are freed."""
    process = psutil.Process(hasty.process.pid)
    before = process.memory_info().rss
    with leaving_none(hasty), narrow(hasty) as connection:
        connection.sendall(upgrade_request() + frame(DOWNLOAD))
        wait_until(lambda: "the peer does not read what it is sent" in hasty.log.read_text())
        assert process.memory_info().rss - before < 50 * 2**20
    wait_until(lambda: not [one for one in process.open_files() if one.path.endswith("large.bin")])


@pytest.mark.parametrize(
    ("payload", "stopped"),
    [
        # How many pongs of two bytes the system accepts for a peer that does not read, and whether it drains one
        # now and then, differs: on a busy machine the server was once still answering, slowly, after 30 s.
        pytest.param(b"", OSError, id="small", marks=pytest.mark.slow),
        pytest.param(b"x" * 125, (BrokenPipeError, ConnectionResetError), id="large"),
    ],
)
def test_pings_of_peer_that_does_not_read_use_no_memory(hasty, payload, stopped):
    """The server stops reading and soon closes."""
    process = psutil.Process(hasty.process.pid)
    before = process.memory_info().rss
    with leaving_none(hasty), narrow(hasty) as connection:
        connection.sendall(upgrade_request())
        pings = 10_000 * frame(payload, opcode=9)
        with pytest.raises(stopped):
            while True:
                connection.sendall(pings)
    assert process.memory_info().rss - before < 50 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(("room", "fast"), [(4096, 0), (256 * 1024, 50 * 2**20)], ids=["always", "suddenly"])
def test_download_over_slow_network_goes_on(patient, room, fast):
    """Each piece has `timeouts.send`: a chunk may take longer, and the heartbeat waits for it.

    On a network that was fast, the kernel has also accepted much that the peer has not taken.
    """
    with leaving_none(patient), narrow(patient, room) as connection:
        connection.sendall(upgrade_request() + frame(DOWNLOAD))
        while fast > 0:
            fast -= len(connection.recv(2**20))
        began = time.monotonic()
        received = 0
        while time.monotonic() - began < PATIENT_SEND + INTERVAL + PATIENT_TIMEOUT:
            data = connection.recv(4 * 1024)
            assert data, patient.log.read_text()
            received += len(data)
            time.sleep(0.05)
        assert received < 2**20, "not slow enough to prove anything"


def test_ping_is_answered_during_a_download(hasty):
    """Behind what was queued before: a few megabytes of 200."""
    with leaving_none(hasty), narrow(hasty, 256 * 1024) as connection:
        connection.sendall(upgrade_request() + frame(DOWNLOAD))
        for number in range(5):
            ping = json.dumps({"type": "ping", "id": f"ping {number}"}).encode()
            connection.sendall(frame(ping))
            behind, end, pong = 0, b"", f'"ping {number}"'.encode()
            while pong not in end:
                data = connection.recv(2**20)
                behind += len(data)
                end = end[-len(pong) :] + data
            assert behind < 16 * 2**20


@pytest.mark.slow
async def test_peer_gone_without_fin_is_found_by_heartbeat(patient):
    """The received part of its upload is kept."""

    def upload(url):
        with connect(url) as websocket:
            client = Client(websocket)
            request = {
                "type": "upload",
                "id": "u",
                "filename": "half.bin",
                "fingerprint": "f",
                "size": 300_000,
            }
            assert client.ask(request)["type"] == "upload_ready"
            with suppress(ConnectionClosed):
                for _ in range(300):
                    client.send(bytes(1000))
                while True:
                    client.receive()

    def dropped():
        return patient.log.read_text().count('"event": "no sign of life"')

    before = dropped()
    async with proxied(patient.port, iter([Plan(cut_after=100_000, half_open=True)])) as proxy:
        await trio.to_thread.run_sync(upload, proxy.url)
        await trio.to_thread.run_sync(wait_until, lambda: dropped() > before)
        await trio.to_thread.run_sync(wait_until, lambda: open_connections(patient) == 0)
    [part] = (patient.data_dir / "parts").iterdir()
    assert 90_000 < part.stat().st_size < 100_000
