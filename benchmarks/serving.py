"""Runs the measured systems as separate processes, and measures their CPU time and memory."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs
import psutil

__all__ = [
    "CREEMSON",
    "DASK",
    "DASK_S3",
    "FASTAPI_DURABLE",
    "FASTAPI_PANDAS",
    "FASTAPI_POLARS",
    "OWN",
    "PEERS",
    "S3",
    "S3_POSTGRES",
    "WITHOUT_TABLES",
    "Serving",
    "cpu_of",
    "serving",
    "systems",
]

CREEMSON, WITHOUT_TABLES = "creemson", "creemson, tables = never"
DASK, DASK_S3 = "creemson, Dask", "creemson, Dask + S3"
S3, S3_POSTGRES = "creemson, S3", "creemson, S3 + PostgreSQL"
FASTAPI_DURABLE = "FastAPI + polars, durable"
FASTAPI_POLARS, FASTAPI_PANDAS = "FastAPI + polars", "FastAPI + pandas"
UNLIMITED = (
    "limits.messages_per_s=100000000",
    "limits.messages_burst=100000000",
    "limits.connections_per_address=20000",
    "limits.connections=20000",
    "limits.jobs_per_caller=1000",
    "limits.queue=100000",
)
"""Raised limits: Creemson limits each client, and one client simulates many here."""
OWN = {
    CREEMSON: (),
    WITHOUT_TABLES: ("storage.tables=never",),
    DASK: (),
    DASK_S3: (),
    S3: (),
    S3_POSTGRES: (),
}
"""Settings of Creemson, by name in reports."""
PEERS = {
    FASTAPI_DURABLE: ("benchmarks.peers.fastapi_server", "durable"),
    FASTAPI_POLARS: ("benchmarks.peers.fastapi_server", "polars"),
    FASTAPI_PANDAS: ("benchmarks.peers.fastapi_server", "pandas"),
    "websockets on asyncio": ("benchmarks.peers.bare_websockets", "asyncio"),
    "trio-websocket": ("benchmarks.peers.bare_websockets", "trio"),
    "bare TCP on trio": ("benchmarks.peers.tcp", ""),
}
"""Module and argument of each peer."""


@attrs.frozen
class Serving:
    """A running system.

    Attributes:
        name: Its name in reports.
        port: Its port on 127.0.0.1.
        folder: Folder of its files; a file that is written there counts as uploaded.
        process: The process of the server, which may have children.
        elsewhere: Processes beside it whose children work for it.
    """

    name: str
    port: int
    folder: Path
    process: psutil.Process
    elsewhere: Sequence[psutil.Process] = ()

    @property
    def url(self) -> str:
        """The address of its WebSocket."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def cpu(self) -> float:
        """Return the CPU seconds of the server and its workers; on Linux, the resolution is one nanosecond.

        The time of workers that have ended is not included. Workers end only in the workload `cancel`, which does
        not use this method.
        """
        return sum(map(cpu_of, self._tree()))

    def memory(self) -> int:
        """Return the resident bytes of the server process, without workers."""
        return int(self.process.memory_info().rss)

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""
        others = [child for process in self.elsewhere for child in process.children(recursive=True)]
        return [*self.process.children(recursive=True), *filter(_is_engine, others)]

    def _tree(self) -> list[psutil.Process]:
        roots = (self.process, *self.elsewhere)
        return [*roots, *(child for process in roots for child in process.children(recursive=True))]


def _is_engine(process: psutil.Process) -> bool:
    """Whether a process below those of Dask is one of our worker processes."""
    with suppress(psutil.Error):
        return "creemson.engine.worker" in process.cmdline()
    return False


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds of all threads.

    psutil counts in hundredths of a second; for 10,000 pings, that would be an error of a microsecond per ping.
    """
    total = 0
    with suppress(OSError, psutil.Error):
        for task in os.listdir(f"/proc/{process.pid}/task"):  # noqa: PTH208 - faster than pathlib, and called often
            total += int(Path(f"/proc/{process.pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


@contextmanager
def serving(
    name: str,
    folder: Path,
    *options: str,
    elsewhere: Sequence[psutil.Process] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Serving]:
    """Run a system with an empty folder.

    Args:
        name: A key of :data:`OWN` or :data:`PEERS`.
        folder: Folder for the files of the system, which is created.
        options: Additional settings of Creemson, ``key=value``.
        elsewhere: Processes beside it whose children work for it.
        environment: What is added to its environment.
    """
    if name in OWN:
        command = ["-m", "creemson", "serve", "--port", "0", "--data-dir", str(folder)]
        for option in (*UNLIMITED, *OWN[name], *options):
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
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
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
            yield Serving(name, port, files, psutil.Process(process.pid), elsewhere)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int) -> None:
    """Wait until the port accepts connections: some systems print their port earlier."""
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no server listens on port {port}")


@contextmanager
def systems(names: Sequence[str], folder: Path, *options: str) -> Iterator[list[Serving]]:
    """Run several systems at the same time; the caller gives work to one at a time."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(name, folder / f"system{index}", *options))
            for index, name in enumerate(names)
        ]
