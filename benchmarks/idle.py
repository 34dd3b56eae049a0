"""Idle connections: the memory that each connection takes, and how fast the server accepts connections."""

import contextlib
import resource
import socket
import time
from pathlib import Path

from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, FASTAPI_POLARS, Serving, serving

__all__ = ["ACCEPTING", "IDLE", "MEMORY", "measure"]

IDLE, MEMORY, ACCEPTING = "idle connections", "memory of each", "server CPU to accept one"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""A complete opening handshake of a client (RFC 6455)."""
AT_ONCE = 100
"""Number of handshakes at the same time."""
WARM_UP = 500
"""Connections that are opened before the measurement: memory allocated for the first ones is reused later."""
SETTLE = 0.5
"""Seconds to wait before the memory is measured."""


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure with a new server for each run, because a server does not return all memory to the system."""
    count = 500 if quick else 3000
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    names = (CREEMSON, FASTAPI_POLARS, "websockets on asyncio", "trio-websocket")
    values: dict[tuple[str, str], list[float]] = {}
    for run in range(min(runs, 3)):
        for index, name in enumerate(names):
            with serving(name, folder / f"idle{run}-{index}") as system:
                for metric, value in _once(system, count).items():
                    values.setdefault((metric, name), []).append(value)
    units = {MEMORY: "KiB", "accepted": "1/s", ACCEPTING: "µs"}
    return [
        Series(workload=IDLE, system=name, metric=metric, unit=units[metric], values=values[metric, name])
        for metric in units
        for name in names
    ]


def _once(system: Serving, count: int) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        _open(system.port, WARM_UP, stack)
        time.sleep(SETTLE)
        memory, cpu, started = system.memory(), system.cpu(), time.perf_counter()
        _open(system.port, count, stack)
        seconds, cpu = time.perf_counter() - started, system.cpu() - cpu
        time.sleep(SETTLE)
        return {
            MEMORY: (system.memory() - memory) / count / 1024,
            "accepted": count / seconds,
            ACCEPTING: cpu / count * 1e6,
        }


def _open(port: int, count: int, stack: contextlib.ExitStack) -> None:
    """Open connections, up to :data:`AT_ONCE` at the same time, and complete their handshakes."""
    for start in range(0, count, AT_ONCE):
        opened = []
        for _ in range(min(AT_ONCE, count - start)):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(HANDSHAKE)
            opened.append(connection)
        for connection in opened:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(4096)
