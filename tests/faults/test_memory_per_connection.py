"""What one connection can cost at the worst: on a real server, by raw frames."""

import json
import time

import psutil

from creemson.settings import Limits, parse_bytes
from tests.servers import serving, wait_until

PEERS = 16
SMALL = {"message_bytes": "512KiB", "chunk_bytes": "512KiB", "outbox_bytes": "2MiB"}
LIMITS = Limits(**{name: parse_bytes(value) for name, value in SMALL.items()})
MORE = 40 * 2**20
"""Bytes that the server may need besides: the queue of jobs, and what its allocator keeps."""


def unmasked(payload, opcode=1, *, size=None):
    """A frame whose mask is zero, which costs nothing to make."""
    size = len(payload) if size is None else size
    head = b"\xff" + size.to_bytes(8, "big") if size >= 2**16 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + head + bytes(4) + payload


def attack(server, number):
    """Everything at once: requests in flight, answers that are not read, and the largest frame but its last byte."""
    peer = server.upgraded()
    peer.settimeout(2)
    values = ",".join(["1.5"] * (LIMITS.message_bytes // 4 - 100))
    try:
        for index in range(4):
            request = {"type": "process", "id": f"{number}-{index}", "filename": "example.csv"}
            text = json.dumps(request)[:-1] + f', "where": [[{index}, "in", [{values}]]]}}'
            peer.sendall(unmasked(text.encode()))
        for index in range(60):
            rows = {"type": "rows", "id": f"r{index}", "filename": "wide.csv", "offset": 0, "limit": 200}
            peer.sendall(unmasked(json.dumps(rows).encode().ljust(200)))
        peer.sendall(unmasked("😀".encode() + b"x" * (LIMITS.message_bytes - 10), size=LIMITS.message_bytes))
    except OSError:  # it was closed as a slow peer, which is the limit at work
        pass
    return peer


def test_what_a_connection_costs_at_the_worst(tmp_path):
    """No more than `Limits.connection_bytes`, and most of it is given back when the peers have gone."""
    settings = [f"--set=limits.{name}={value}" for name, value in SMALL.items()]
    with serving(tmp_path / "data", *settings, "--set", "timeouts.send=60") as server:
        server.put("example.csv")
        (server.data_dir / "uploads" / "wide.csv").write_text("a\n" + f"{'x' * 1000}\n" * 400)
        with server.connect() as client:
            client.run(filename="example.csv", limit=1)
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        peers, worst = [], 0
        with server.frozen():
            for number in range(PEERS):
                peers.append(attack(server, number))
                worst = max(worst, process.memory_info().rss)
            for _ in range(10):
                time.sleep(0.1)
                worst = max(worst, process.memory_info().rss)
        assert worst - before > 2 * MORE, "this is no attack"
        assert worst - before < PEERS * LIMITS.connection_bytes + MORE
        for peer in peers:
            peer.close()
        with server.connect() as client:
            wait_until(lambda: client.run(filename="example.csv", limit=2)["type"] == "result")
        assert "Traceback" not in server.log.read_text()
