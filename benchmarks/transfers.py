"""Files up and down: 500 MB over the WebSocket and over HTTP, against the same bytes over bare TCP.

The bare server is trio's: a socket and a file, a megabyte at a time. The client is the same blocking socket
for all; over the WebSocket it is that of `websockets`, whose masking is written in C.
"""

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs
from websockets.sync.client import connect

from benchmarks.serving import Peak, serving

MIB = 2**20
NAME = "transfer.bin"

BARE_SERVER = """
import sys, trio
from functools import partial
MIB = 2**20
async def serve(target, stream):
    head = await stream.receive_some(1)
    if head == b"u":
        with open(target, "wb", buffering=0) as file:
            while data := await stream.receive_some(MIB):
                await trio.to_thread.run_sync(file.write, data)
        await stream.send_all(b"x")
    else:
        with open(target, "rb", buffering=0) as file:
            while data := await trio.to_thread.run_sync(file.read, MIB):
                await stream.send_all(data)
    await stream.aclose()
async def main():
    async with trio.open_nursery() as nursery:
        serve_tcp = partial(trio.serve_tcp, partial(serve, sys.argv[1]), 0, host="127.0.0.1")
        [listener] = await nursery.start(serve_tcp)
        print(listener.socket.getsockname()[1], flush=True)
trio.run(main)
"""


@attrs.frozen
class Figures:
    """What was measured: seconds of each run by system, and bytes by which the server's memory grew."""

    seconds: dict[str, list[float]]
    growth: int


def measure(folder: Path, size: int, runs: int) -> dict[str, Figures]:
    """Run all systems in turns, after one run of each that is not counted.

    Args:
        folder: for the files.
        size: bytes of the file.
        runs: counted runs of each system.

    Returns:
        Figures of "upload" and "download".
    """
    folder.mkdir()
    data = hashlib.shake_128(b"creemson").digest(MIB)
    command = [sys.executable, "-c", BARE_SERVER, str(folder / "bare.bin")]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bare,
        serving(folder / "data") as (port, process),
    ):
        assert bare.stdout is not None
        bare_port = int(bare.stdout.readline())
        systems: dict[str, dict[str, Callable[[], None]]] = {
            "upload": {
                "bare TCP": lambda: _bare_upload(bare_port, data, size),
                "creemson, WebSocket": lambda: _upload(port, data, size),
                "creemson, HTTP": lambda: _post(port, data, size),
            },
            "download": {
                "bare TCP": lambda: _receive(bare_port, b"d", size),
                "creemson, WebSocket": lambda: _download(port, size),
                "creemson, HTTP": lambda: _get(port, size),
            },
        }
        try:
            return {what: _in_turns(each, runs, Peak(process)) for what, each in systems.items()}
        finally:
            bare.terminate()


def _in_turns(systems: dict[str, Callable[[], None]], runs: int, peak: Peak) -> Figures:
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    try:
        for run in range(runs + 1):
            for name, transfer in systems.items():
                began = time.perf_counter()
                transfer()
                if run:
                    seconds[name].append(time.perf_counter() - began)
    finally:
        most = peak.stop()
    return Figures(seconds, most - peak.first)


def _bare_upload(port: int, data: bytes, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"u")
        for _ in range(size // MIB):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"x"


def _receive(port: int, request: bytes, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        received = 0
        buffer = bytearray(MIB)
        while received < size and (count := connection.recv_into(buffer)):
            received += count
        assert received >= size


def _upload(port: int, data: bytes, size: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/ws", compression=None) as websocket:
        upload = {"type": "upload", "id": "u", "filename": NAME, "size": size, "overwrite": True}
        websocket.send(json.dumps(upload))
        assert json.loads(websocket.recv())["offset"] == 0
        for _ in range(size // MIB):
            websocket.send(data)
        while (message := json.loads(websocket.recv()))["type"] != "uploaded":
            assert message["type"] == "upload_progress", message


def _download(port: int, size: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/ws", compression=None, max_size=None) as websocket:
        websocket.send(json.dumps({"type": "download", "id": "d", "filename": NAME}))
        received = 0
        while isinstance(message := websocket.recv(), bytes) or '"downloaded"' not in message:
            received += len(message) if isinstance(message, bytes) else 0
        assert received == size


def _post(port: int, data: bytes, size: int) -> None:
    head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{NAME}"\r\n\r\n'.encode()
    tail = b"\r\n--B--\r\n"
    request = (
        "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        f"Content-Length: {len(head) + size + len(tail)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode() + head)
        for _ in range(size // MIB):
            connection.sendall(data)
        connection.sendall(tail)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def _get(port: int, size: int) -> None:
    request = f"GET /download/{NAME} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    _receive(port, request.encode(), size)
