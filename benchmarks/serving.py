"""Servers in processes of their own, with a look at what they take of the machine."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs
import psutil

__all__ = ["CREEMSON", "FASTAPI_PANDAS", "FASTAPI_POLARS", "PEERS", "Serving", "serving", "systems"]

CREEMSON = "creemson"
FASTAPI_POLARS, FASTAPI_PANDAS = "FastAPI + polars", "FastAPI + pandas"
UNLIMITED = (
    "limits.messages_per_s=100000000",
    "limits.messages_burst=100000000",
    "limits.connections_per_address=20000",
    "limits.connections=20000",
    "limits.jobs_per_caller=1000",
    "limits.queue=100000",
)
"""One client stands for many here, and Creemson has limits for each."""
PEERS = {
    FASTAPI_POLARS: ("benchmarks.peers.fastapi_server", "polars"),
    FASTAPI_PANDAS: ("benchmarks.peers.fastapi_server", "pandas"),
    "websockets on asyncio": ("benchmarks.peers.bare_websockets", "asyncio"),
    "trio-websocket": ("benchmarks.peers.bare_websockets", "trio"),
    "bare TCP on trio": ("benchmarks.peers.tcp", ""),
}


@attrs.frozen
class Serving:
    """A system that serves.

    Attributes:
        name: what it is called in reports.
        port: on 127.0.0.1.
        folder: of its files; what is put there counts as uploaded.
        process: of the server itself; it may have children.
    """

    name: str
    port: int
    folder: Path
    process: psutil.Process

    @property
    def url(self) -> str:
        """Of its WebSocket."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def cpu(self) -> float:
        """Seconds of CPU that it and its workers have taken, to the nanosecond where Linux says so.

        Nothing is lost of a worker that ends meanwhile only where none does: none of the workloads makes one end
        but cancelling, of which this is not asked.
        """
        return sum(map(_cpu, self._tree()))

    def memory(self) -> int:
        """Bytes resident in the server's own process."""
        return int(self.process.memory_info().rss)

    def workers(self) -> list[psutil.Process]:
        """Its children."""
        return list(self.process.children(recursive=True))

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def peak(self, work: Callable[[], None]) -> int:
        """Do something; bytes that were resident at most meanwhile."""
        most, ended = self.memory(), threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.02):
                most = max(most, self.memory())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            work()
        finally:
            ended.set()
            thread.join()
        return most


def _cpu(process: psutil.Process) -> float:
    """Of all threads; psutil counts in hundredths of a second, which is a microsecond for each of 10,000 pings."""
    total = 0
    with suppress(OSError, psutil.Error):
        for task in os.listdir(f"/proc/{process.pid}/task"):  # noqa: PTH208 - it is asked often
            total += int(Path(f"/proc/{process.pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


@contextmanager
def serving(name: str, folder: Path, *options: str) -> Iterator[Serving]:
    """Run a system, with nothing in its folder.

    Args:
        name: :data:`CREEMSON` or a key of :data:`PEERS`.
        folder: made for its files.
        options: further settings of Creemson, ``key=value``.
    """
    if name == CREEMSON:
        command = ["-m", "creemson", "serve", "--port", "0", "--data-dir", str(folder)]
        for option in (*UNLIMITED, *options):
            command += ["--set", option]
        files = folder / "uploads"
    else:
        module, argument = PEERS[name]
        command = ["-m", module, str(folder), argument]
        files = folder
    files.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if ":" not in line:
                errors.seek(0)
                raise RuntimeError(f"{name} does not start: {errors.read().decode()[-2000:]}")
            port = int(line.split(":")[2].split("/")[0])
            _wait_for(port)
            yield Serving(name, port, files, psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int) -> None:
    """Until somebody listens: some say their port before they do."""
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


@contextmanager
def systems(names: Sequence[str], folder: Path, *options: str) -> Iterator[list[Serving]]:
    """Run several of them at the same time, of which one at a time is given something to do."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(name, folder / f"system{index}", *options))
            for index, name in enumerate(names)
        ]
