"""Real Dask clusters on this machine: a scheduler and workers as processes, with TLS."""

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import psutil

from creemson.executors.dask.tls import create_certificates
from tests.objectstores import free_port

PATIENCE = 120
"""Seconds to wait for the start of a process, on a busy machine."""


class Cluster:
    """A scheduler and the workers of one machine; both can be stopped and started again.

    ``environment`` is added to that of the workers: the credentials of an object store. ``ttl`` is after how long the
    scheduler gives up a worker that says nothing: 10 s is what users are told to set, but on a busy machine a worker
    may only be slow, so tests that freeze none use more.
    """

    def __init__(self, folder, environment=(), ttl="60s"):
        self.folder = folder
        self.ttl = ttl
        self.environment = {**os.environ, **dict(environment)}
        self.files = create_certificates(folder / "tls")
        self.scheduler = self.workers = None
        self.port = free_port()
        self.address = None

    def start_scheduler(self):
        """Start the scheduler, at the same address as before."""
        command = [
            sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port),
            "--protocol", "tls", "--tls-ca-file", self.files.ca, "--tls-cert", self.files.cert,
            "--tls-key", self.files.key, "--no-dashboard", "--no-show",
        ]  # fmt: skip
        environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": self.ttl}
        self.scheduler = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, process_group=0
        )
        line = read_until(self.scheduler, self.scheduler.stderr, "Scheduler at:")
        self.address = re.search(r"tls://\S+", line)[0]
        drain(self.scheduler.stderr)

    def start_workers(self, count=1, *options, folder=None):
        """Start the workers of a machine, and wait until they are connected."""
        command = [
            sys.executable, "-m", "creemson", "worker", "--scheduler", self.address, "--tls", self.files.ca.parent,
            "--workers", str(count), "--set", "processing.nice=0", *options,
        ]  # fmt: skip
        with (self.folder / "workers.log").open("ab") as log:
            self.workers = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0, cwd=folder,
                env=self.environment,
            )  # fmt: skip
        read_until(self.workers, self.workers.stdout, "connected")

    def worker_pids(self):
        """Ids of the processes of Dask's workers, which have our worker processes as children."""
        return [parent(process).pid for process in self.engine_processes()]

    def engine_processes(self):
        """Our worker processes."""
        children = psutil.Process(self.workers.pid).children(recursive=True)
        return [process for process in children if is_engine(process)]

    def settings(self, **others):
        """Return options of ``creemson serve``; ``others`` are settings of ``processing``."""
        values = {
            "engine": "dask", "dask_scheduler": self.address, "dask_least_bytes": 0, "dask_ca": self.files.ca,
            "dask_cert": self.files.cert, "dask_key": self.files.key, **others,
        }  # fmt: skip
        return [word for name, value in values.items() for word in ("--set", f"processing.{name}={value}")]

    def kill_scheduler(self):
        self.scheduler.kill()
        self.scheduler.wait()

    def kill_workers(self):
        """Kill the process with the nannies; Dask's workers and their processes notice that."""
        self.workers.kill()
        self.workers.wait()
        self.workers.stdout.close()

    def stop_workers(self):
        end(self.workers)

    @contextmanager
    def running(self, count=1, *options):
        """Run the scheduler and a number of workers."""
        try:
            self.start_scheduler()
            self.start_workers(count, *options)
            yield self
        finally:
            self.stop()

    def stop(self):
        for process in (self.workers, self.scheduler):
            if process is not None:
                end(process)


def is_engine(process):
    try:
        return "creemson.engine.worker" in process.cmdline()
    except psutil.Error:
        return False


def parent(process):
    return psutil.Process(process.ppid())


def end(process):
    """End a process of ours, with the processes that it has started."""
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in family:
            with suppress(psutil.Error):
                child.kill()
    for stream in (process.stdout, process.stderr):
        if stream is not None and not stream.closed:
            with suppress(RuntimeError):  # another thread reads it
                stream.close()


def read_until(process, stream, text):
    """Return the first line with a text; the process is killed if it takes too long."""
    too_late = threading.Timer(PATIENCE, process.kill)
    too_late.start()
    lines = []
    try:
        for line in stream:
            lines.append(line)
            if text in line:
                return line
    finally:
        too_late.cancel()
    raise AssertionError("".join(lines))


def drain(stream):
    """Read the rest of a stream, so that its process never waits."""

    def read():
        with stream:
            for _ in stream:
                pass

    threading.Thread(target=read, daemon=True).start()


@contextmanager
def cluster(folder, count=1, **options):
    """Run a cluster with a number of workers."""
    with Cluster(folder, **options).running(count) as found:
        yield found
