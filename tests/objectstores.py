"""Real object stores on this machine: moto in the memory of a process, SeaweedFS on the disk."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PATIENCE = 60
PORTS = iter(range(12000 + secrets.randbelow(8000), 32000))
MOTO = """
import logging
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
server._thread.join()
"""


class Endpoint:
    """An object store that runs: where it is, and the environment of programs that use it."""

    def __init__(self, port, process=None):
        self.port = port
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "the-access-key",
            "AWS_SECRET_ACCESS_KEY": "the-secret-key",
        }

    def bucket(self):
        """Make a bucket, and return the URL of a prefix in it."""
        name = f"b-{secrets.token_hex(6)}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=PATIENCE).close()
        return f"s3://{name}/a/prefix"


@contextmanager
def moto():
    """Run an object store without a disk."""
    process = subprocess.Popen(
        [sys.executable, "-c", MOTO], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        while line and not line.strip().isdigit():  # it greets
            line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Endpoint(int(line), process)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def seaweedfs(folder, port=None, *options):
    """Run an object store on the disk."""
    port = port or free_port()
    endpoint = Endpoint(port)
    ports = [free_port() for _ in range(3)]
    log = (folder.parent / f"{folder.name}.log").open("ab")
    folder.mkdir(exist_ok=True)
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # With credentials in its environment, it would refuse requests that are not signed.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [
            program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={port}",
            "-s3.port.iceberg=0", "-s3.port.lance=0",  # fixed ports: a second store on the machine would end
            f"-master.port={ports[0]}", f"-volume.port={ports[1]}", f"-filer.port={ports[2]}",
            "-master.volumeSizeLimitMB=64", "-volume.max=20", *options,
        ],
        stdout=log, stderr=log, start_new_session=True, env=environment,
    )  # fmt: skip
    endpoint.process = process
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                endpoint.bucket()
                break
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline and process.poll() is None, log.name
                time.sleep(0.2)
        yield endpoint
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def free_port():
    """Return a free port; no other call returns it.

    It stays free while its server is away, because it is below those that the system gives to clients. SeaweedFS also
    uses the one 10000 above.
    """
    for port in PORTS:
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
    raise OSError("no free port")


class Forwarder:
    """A port that leads to an object store or another server, and can be cut, frozen and restored.

    ``tamper`` gets the request as bytes up to the end of its head, and returns what is sent in its place; ``answer``
    does the same with what comes back.
    """

    def __init__(self, target, tamper=lambda head: head, answer=lambda data: data):
        self._target = target
        self._tamper = tamper
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._open = set()
        self._frozen = threading.Event()
        self._cut = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def endpoint(self):
        return Endpoint(self.port)

    def cut(self):
        """Refuse connections, and end those that are open."""
        with self._lock:
            self._cut = True
            self._end_all()

    def freeze(self):
        """Accept connections, and do nothing more with them."""
        self._frozen.set()

    def restore(self):
        with self._lock:
            self._cut = False
            self._frozen.clear()
            self._end_all()

    def close(self):
        self.cut()
        self._socket.close()

    def _end_all(self):
        for connection in self._open:
            _end(connection)
        self._open.clear()

    def _accept(self):
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                if self._cut:
                    near.close()
                    continue
                self._open.add(near)
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            _end(near)
            return
        with self._lock:
            self._open.add(far)
        threading.Thread(target=self._copy, args=(far, near, self._answer), daemon=True).start()
        self._copy(near, far, self._tamper)

    def _copy(self, source, target, change):
        try:
            with suppress(OSError):
                while data := source.recv(65536):
                    while self._frozen.is_set():
                        time.sleep(0.05)
                    target.sendall(change(data))
        finally:
            _end(source)
            _end(target)


def _end(connection):
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def forwarded(endpoint, *changes):
    """Lead a port to an object store, or to another server."""
    forwarder = Forwarder(endpoint.port, *changes)
    try:
        yield forwarder
    finally:
        forwarder.close()


def without_conditions(head):
    """Remove the condition of a request, as a store does that does not know it; the length of the name stays."""
    return re.sub(rb"(?i)if-none-match", b"x-none-match1", head)


@contextmanager
def refusing(status, code):
    """Run an object store that answers each request with an error."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.rfile.read(int(self.headers.get("content-length", "0")))
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815 - names of the library

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Endpoint(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
