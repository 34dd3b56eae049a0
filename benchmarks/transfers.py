"""Uploads and downloads over the WebSocket, compared with the peers and with bare TCP."""

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_DURABLE, FASTAPI_POLARS, Serving, systems
from benchmarks.turns import in_turns

__all__ = ["COST", "DOWNLOAD", "SPEED", "TCP", "UPLOAD", "measure"]

MIB = 2**20
UPLOAD, DOWNLOAD = "upload", "download"
SPEED, COST = "speed", "server CPU per GB"
TCP = "bare TCP on trio"


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure both directions."""
    megabytes = 50 if quick else 500
    names = (CREEMSON, FASTAPI_POLARS, FASTAPI_DURABLE, "websockets on asyncio", TCP)
    with systems(names, folder) as running:
        # A new file each time: who overwrites a file in place gets its memory back, which is not so for other files.
        numbers = {system.name: itertools.count() for system in running}
        uploads: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(_upload, system, megabytes, numbers[system.name]) for system in running
        }
        units = {SPEED: "MB/s", COST: "s"}
        results = in_turns(uploads, runs=runs, workload=UPLOAD, units=units)
        downloads: dict[str, Callable[[], Mapping[str, float]]] = {
            system.name: partial(_once, system, DOWNLOAD, megabytes, next(numbers[system.name]) - 1)
            for system in running
        }
        return results + in_turns(downloads, runs=runs, workload=DOWNLOAD, units=units)


def _upload(system: Serving, megabytes: int, numbers: Iterator[int]) -> Mapping[str, float]:
    number = next(numbers)
    (system.folder / f"transfer-{number - 1}.bin").unlink(missing_ok=True)
    return _once(system, UPLOAD, megabytes, number)


def _once(system: Serving, direction: str, megabytes: int, number: int) -> Mapping[str, float]:
    os.sync()  # otherwise, a system that syncs would also wait for what the ones before have left unwritten
    before = system.cpu()
    if system.name == TCP:
        seconds = (_send if direction == UPLOAD else _receive)(system.port, megabytes)
    else:
        seconds = load.run(direction, system.url, megabytes=megabytes, number=number)["seconds"]
    size = megabytes * MIB
    return {SPEED: size / 1e6 / seconds, COST: (system.cpu() - before) / (size / 1e9)}


def _send(port: int, megabytes: int) -> float:
    data = bytes(range(256)) * (MIB // 256)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        started = time.perf_counter()
        connection.sendall(b"u")
        for _ in range(megabytes):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"x"
        return time.perf_counter() - started


def _receive(port: int, megabytes: int) -> float:
    buffer, received = bytearray(MIB), 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        started = time.perf_counter()
        connection.sendall(b"d")
        while count := connection.recv_into(buffer):
            received += count
        assert received == megabytes * MIB
        return time.perf_counter() - started
