"""Real servers as separate processes, and independent clients for them."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import h11
import httpx
import psutil
import pytest
from websockets.sync.client import connect

from creemson.server.transport.upgrade import Upgrade

SAMPLE = Path(__file__).parent.parent / "creemson" / "samples" / "penguins.csv"
START_TIMEOUT = 120
PATIENCE = 60
"""Seconds to wait for something immediate, on a busy machine."""
NO_PACE = ("--set", "limits.messages_per_s=1e6", "--set", "limits.messages_burst=1000000")
"""Options without a rate limit, for tests that send as fast as they can."""


class ServerProcess:
    """A ``python -m creemson serve`` process, with helpers for tests."""

    def __init__(self, process, port, data_dir, log):
        self.process = process
        self.port = port
        self.folder = data_dir
        self.place = ("--data-dir", data_dir)  # for commands that read what the server has
        self.log = log
        self.remote = False  # whether its files are in an object store
        self.cluster = None  # the Dask cluster that its jobs run on
        self.servers = [self]  # more, if several answer as one
        self.secure = False  # whether it speaks TLS
        self._most_workers = 2  # one for jobs, one for look-ups; more are started when they are needed

    @property
    def data_dir(self):
        """The data folder. A test that looks into it says nothing about an object store."""
        if self.remote:
            pytest.skip("it looks into the data folder")
        return self.folder

    @property
    def url(self):
        return f"{'wss' if self.secure else 'ws'}://127.0.0.1:{self.port}/ws"

    @property
    def base(self):
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def one(self):
        """Return one of the servers that answer as one: for tests of what belongs to a connection, as the order of answers."""
        return self

    @contextmanager
    def connect(self, **options):
        # Without a heartbeat of the client: it would give up if a busy machine keeps the server from running for 20 s.
        with connect(
            self.url, open_timeout=PATIENCE, ping_interval=None, max_size=2**26, **options
        ) as socket:
            yield Client(socket)

    def raw(self):
        """Return a TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def upgraded(self, *, glued=b""):
        """Return a TCP connection that has sent the WebSocket handshake, and ``glued`` in the same segment."""
        connection = self.raw()
        connection.sendall(upgrade_request() + glued)
        return connection

    def put(self, name, source=SAMPLE):
        if self.remote:
            self.write(name, Path(source).read_bytes())
            return None
        target = self.data_dir / "uploads" / name
        target.write_bytes(Path(source).read_bytes())
        return target

    def write(self, name, data):
        """Let the server have a file, wherever it keeps its files."""
        if not self.remote:
            (self.data_dir / "uploads" / name).write_bytes(data)
            return
        with self.connect() as client:
            assert client.upload(name, data, overwrite=True)["type"] == "uploaded"

    def await_token(self, token, *, known=True):
        """Wait until several servers that answer as one know a token, or none does; one server needs no time."""
        if len(self.servers) > 1:
            await_token(self.servers, token, known=known)

    def workers(self):
        """Return the worker processes that have not ended, here and in the cluster."""
        found = []
        elsewhere = self.cluster.engine_processes() if self.cluster else []
        for child in (*psutil.Process(self.process.pid).children(), *elsewhere):
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    @contextmanager
    def frozen(self):
        """Suspend the workers: jobs started in the block do not end, however fast the machine is."""
        # One that has just ended is being replaced, and the new one would not be suspended.
        wait_until(lambda: len(self.workers()) >= self._most_workers)
        workers = self.workers()
        self._most_workers = len(workers)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
        try:
            yield
        finally:
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.resume()

    def stored(self):
        """Return the sizes of all files, also of unfinished ones, by name."""
        found = {}
        for folder in ("uploads", "outputs", "parts"):
            for path in (self.data_dir / folder).iterdir():
                found[f"{folder}/{path.name}"] = path.stat().st_size
        return found

    def send_signal(self, sign):
        self.process.send_signal(sign)

    def wait(self):
        return self.process.wait(PATIENCE)

    def stop(self, sign=signal.SIGTERM):
        self.send_signal(sign)
        return self.wait()


ONE_WORKER = ("--set", "processing.workers=1")


@contextmanager
def serving(data_dir, *arguments, prefix=(), program=("-m", "creemson"), env=()):
    """Run a server on a free port; if it still runs at the end, it must stop cleanly.

    ``prefix`` is a command that runs another one, ``program`` is what Python runs, ``env`` is added to the environment.
    """
    log = data_dir.with_suffix(".log")
    # Each worker that starts costs half a second of CPU, mostly for the import of polars.
    workers = [] if any("processing.workers" in argument for argument in arguments) else ONE_WORKER
    # Look-ups have 10 s: on a busy machine, the tests themselves must not keep the workers from running.
    nice = (
        () if any("processing.nice" in argument for argument in arguments) else ("--set", "processing.nice=0")
    )
    command = [
        *prefix,
        sys.executable,
        *program,
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
        *workers,
        *nice,
        *arguments,
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CREEMSON_")}
    environment.update(env)
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    too_late = threading.Timer(START_TIMEOUT, process.kill)
    too_late.start()
    try:
        line = process.stdout.readline()
        too_late.cancel()
        assert line, log.read_text()
        server = ServerProcess(process, int(line.split(":")[2].split("/")[0]), data_dir, log)
        server.remote = any("storage.url" in argument for argument in arguments)
        yield server
        if process.poll() is None:
            assert server.stop() == 0, log.read_text()
    finally:
        too_late.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def refused_start(data_dir, *arguments, **options):
    """Return the words with which a server refuses to start."""
    with pytest.raises(AssertionError) as refused, serving(data_dir, *arguments, **options) as server:
        server.stop()
    words = str(refused.value)
    assert "Traceback" not in words
    return words


class Client:
    """A thin wrapper of the independent ``websockets`` client: JSON in, JSON out."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, message):
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def receive(self, timeout=PATIENCE):
        message = self.socket.recv(timeout=timeout)
        return json.loads(message) if isinstance(message, str) else message

    def ask(self, message):
        self.send(message)
        return self.receive()

    def until(self, *types):
        """Return all messages up to the first one of these types."""
        messages = [self.receive()]
        while messages[-1]["type"] not in types:
            messages.append(self.receive())
        return messages

    def until_bytes_end(self):
        """Return the message that ends a download."""
        self.receive()
        while isinstance(message := self.receive(), bytes):
            pass
        return message

    def cut(self):
        """End the connection without a word, as a network does."""
        cut(self.socket)

    def run(self, **fields):
        """Run a job and return its last message."""
        self.send({"type": "process", "id": "job", **fields})
        return self.until("result", "error")[-1]

    def upload(self, name, data, *, chunk=2**20, **fields):
        ready = self.ask({"type": "upload", "id": "upload", "filename": name, "size": len(data), **fields})
        if ready["type"] == "error":
            return ready
        assert ready == {"type": "upload_ready", "id": "upload", "offset": 0}
        for start in range(0, len(data), chunk):
            self.send(data[start : start + chunk])
        return self.until("uploaded", "error")[-1]

    def download(self, name, **fields):
        """Return the first message, the bytes and the last message of a download."""
        first = self.ask({"type": "download", "id": "download", "filename": name, **fields})
        pieces = []
        if first["type"] == "error":
            return first, b"", None
        while isinstance(message := self.receive(), bytes):
            pieces.append(message)
        return first, b"".join(pieces), message


def cut(connection):
    """End a connection of the library `websockets` without a word."""
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def upgrade_request(path="/ws", *headers):
    lines = [
        f"GET {path} HTTP/1.1", "Host: test", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(b'0' * 16).decode()}", "Sec-WebSocket-Version: 13", *headers,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade(head, rest=b""):
    """Return a request as the transports get it: parsed."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(head)
    return Upgrade(parser.next_event(), rest)


def frame(payload, opcode=1, *, final=True, size=None):
    """Return a masked client frame; ``size`` announces a length different from the payload's."""
    size = len(payload) if size is None else size
    mask = b"\x01\x02\x03\x04"
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 2**16:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def read_all(connection, seconds=PATIENCE):
    """Return everything up to the end of the stream."""
    connection.settimeout(seconds)
    received = b""
    while True:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += data


def wait_until(condition, seconds=PATIENCE):
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def await_token(servers, token, *, known=True):
    """Wait until all of several servers know a token, or none does."""
    expected = 200 if known else 401
    headers = {"Authorization": f"Bearer {token}"}
    for server in servers:
        wait_until(
            lambda url=f"{server.base}/status": httpx.get(url, headers=headers).status_code == expected
        )
