"""The maximum memory that one connection can use: on a real server, with raw frames."""

import json
import threading
import time

import polars as pl
import psutil
import pytest

from creemson.settings.sections import Limits
from creemson.settings.units import parse_bytes
from tests.servers import PATIENCE, serving, wait_until

PEERS = 16
SMALL = {"message_bytes": "512KiB", "chunk_bytes": "512KiB", "outbox_bytes": "2MiB"}
LIMITS = Limits(**{name: parse_bytes(value) for name, value in SMALL.items()})
MORE = 40 * 2**20
"""Bytes that the server may use in addition: the job queue, and what its allocator keeps."""


def unmasked(payload, opcode=1, *, size=None):
    """Return a frame with a zero mask, which is cheap to make."""
    size = len(payload) if size is None else size
    head = b"\xff" + size.to_bytes(8, "big") if size >= 2**16 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + head + bytes(4) + payload


def attack(server, number):
    """Do everything at once: requests in flight, unread answers, and the largest frame without its last byte."""
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
    except OSError:  # closed as a slow peer: the limit works
        pass
    return peer


@pytest.mark.slow
def test_connection_memory_is_bounded(tmp_path):
    """At most `Limits.connection_bytes` per connection, and the server works on when the peers have gone."""
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
            # Then a second more for what is on its way.
            deadline = time.monotonic() + PATIENCE
            while worst - before <= 2 * MORE and time.monotonic() < deadline:
                time.sleep(0.1)
                worst = max(worst, process.memory_info().rss)
            for _ in range(10):
                time.sleep(0.1)
                worst = max(worst, process.memory_info().rss)
        assert worst - before > 2 * MORE, "this is not an attack"
        assert worst - before < PEERS * LIMITS.connection_bytes + MORE
        for peer in peers:
            peer.close()
        with server.connect() as client:
            wait_until(lambda: client.run(filename="example.csv", limit=2)["type"] == "result")
        assert "Traceback" not in server.log.read_text()


def hostile_files(folder):
    """Small files whose answers would be large: long shared texts, many columns, long names, many faults."""
    text = pl.DataFrame({"a": ["\n" * 2**20]})
    text.select(pl.col("a").repeat_by(100).explode()).write_ipc(folder / "texts.arrow", compression="zstd")
    pl.DataFrame({"a": [1]}).select(a=pl.lit(7, pl.Int8).repeat_by(3_000_000)).write_parquet(
        folder / "list.parquet"
    )
    pl.DataFrame({"a": pl.zeros(1000, dtype=pl.Int8, eager=True)}).select(
        pl.col("a").alias(f"{number:05}") for number in range(1000)
    ).write_parquet(folder / "cells.parquet")
    names = ",".join(f"{number}" for number in range(4_000))
    (folder / "columns.csv").write_text(f"{names}\n{names}\n")
    (folder / "names.csv").write_text(
        ",".join("n" * 30_000 + str(number) for number in range(100)) + "\n" + "1," * 99 + "1\n"
    )
    (folder / "faults.csv").write_text(f"{'n' * 100_000},b\n" + "1,2\n" * 1000 + f"{'x' * 100_000},3\n" * 100)


HOSTILE = ("texts.arrow", "list.parquet", "cells.parquet", "columns.csv", "names.csv", "faults.csv")


def worst_requests(filename):
    return [
        {"type": "rows", "filename": filename, "offset": 0, "limit": 1000},
        {"type": "columns", "filename": filename},
        {"type": "process", "filename": filename, "preview": 1000, "profile": True, "timeout": 20},
        {"type": "process", "filename": filename, "strict": True, "timeout": 20},
        {"filename": filename, "selectedColumns": [0]},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("filename", HOSTILE)
def test_memory_of_the_server_is_bounded_with_any_file(tmp_path, filename):
    """Whatever is asked of a hostile file, the server stays within the memory of one connection, and says why not."""
    with serving(
        tmp_path / "data", *[f"--set=limits.{name}={value}" for name, value in SMALL.items()]
    ) as server:
        hostile_files(server.data_dir / "uploads")
        server.put("example.csv")
        process = psutil.Process(server.process.pid)
        with server.connect() as client:
            client.run(filename="example.csv", limit=1)
            before, worst, ended = process.memory_info().rss, [0], threading.Event()

            def watch():
                while not ended.wait(0.005):
                    worst[0] = max(worst[0], process.memory_info().rss)

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                for number, ask in enumerate(worst_requests(filename)):
                    client.send(ask if "type" not in ask else {**ask, "id": str(number)})
                    answer = client.receive()
                    while answer["type"] in ("accepted", "progress", "log"):
                        answer = client.receive()
                    # Other answers cannot be shortened; with the limits of this server, they are small, too.
                    assert len(json.dumps(answer)) < 3 * LIMITS.outbox_bytes
                    if answer["type"] == "rows" or "preview" in str(answer)[:10_000]:
                        assert (
                            len(json.dumps(answer, separators=(",", ":"), ensure_ascii=False))
                            <= LIMITS.outbox_bytes
                        )
                    assert answer.get("reason") not in ("internal", "worker_died"), (ask, answer)
                    assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
            finally:
                ended.set()
                watcher.join()
        assert worst[0] - before < LIMITS.connection_bytes + MORE, (worst[0] - before) // 2**20
        assert "Traceback" not in server.log.read_text()
