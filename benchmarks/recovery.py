"""The time from a lost connection to the next response, with the client library."""

import socket
import threading
import time
from functools import partial
from pathlib import Path

import trio

from benchmarks.figures import Series
from benchmarks.serving import CREEMSON, Serving, serving
from creemson.client import connect

__all__ = ["RECOVERY", "measure"]

RECOVERY = "recovery after a cut"
CUTS = 10
"""Number of cuts in each run."""


class Proxy:
    """A TCP proxy whose connections can be cut.

    Args:
        port: Port of the server.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []  # both ends of all connections
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server_port))
            self._open += (near, far)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()

    def cut(self) -> None:
        """Close all connections, in both directions."""
        while self._open:
            self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes in one direction until one of the sockets is closed."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass


def measure(folder: Path, *, runs: int) -> list[Series]:
    """Measure from the cut to the response to a request that is sent immediately after the cut."""
    with serving(CREEMSON, folder / "recovery") as system:
        seconds = trio.run(partial(_cuts, system, runs * CUTS))
    values = [value * 1000 for value in seconds]
    return [
        Series(workload=RECOVERY, system="creemson.client", metric="cut to answer", unit="ms", values=values)
    ]


async def _cuts(system: Serving, count: int) -> list[float]:
    proxy, seconds = Proxy(system.port), []
    async with connect(f"ws://127.0.0.1:{proxy.port}/ws") as client:
        for _ in range(count):
            await client.files()
            proxy.cut()
            started = time.perf_counter()
            await client.files()
            seconds.append(time.perf_counter() - started)
    proxy.close()
    return seconds
