"""A connection that is cut: how long until the client library has an answer again."""

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


class Cable:
    """A TCP connection that can be cut.

    Args:
        port: of the server at its other end.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server))
            self._open += (near, far)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def cut(self) -> None:
        """Both directions, for both sides to see."""
        while self._open:
            self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take it away."""
        self._listener.close()


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass


def measure(folder: Path, *, runs: int) -> list[Series]:
    """From the cut to the answer to what was asked right after it."""
    with serving(CREEMSON, folder / "recovery") as system:
        seconds = trio.run(partial(_cuts, system, runs * CUTS))
    values = [value * 1000 for value in seconds]
    return [
        Series(workload=RECOVERY, system="creemson.client", metric="cut to answer", unit="ms", values=values)
    ]


async def _cuts(system: Serving, count: int) -> list[float]:
    cable, found = Cable(system.port), []
    async with connect(f"ws://127.0.0.1:{cable.port}/ws") as client:
        for _ in range(count):
            await client.files()
            cable.cut()
            began = time.perf_counter()
            await client.files()
            found.append(time.perf_counter() - began)
    cable.close()
    return found
