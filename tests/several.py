"""Several real servers that share files and jobs, and clients whose every request goes to any of them."""

import json
import queue
import random
import signal
import threading
from collections import deque
from contextlib import ExitStack, contextmanager, suppress

import psycopg
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.client import connect

from tests.servers import PATIENCE, Client, ServerProcess, cut, serving

SEED = 1
NUMBER = 3


@contextmanager
def several(folder, database, bucket, endpoint, *arguments, number=NUMBER, env=()):
    """Run servers that share a database and a bucket; they must stop cleanly at the end.

    Args:
        folder: tokens are in it; each server has a data folder next to it.
        database: URL of the database.
        bucket: URL in the object store.
        endpoint: the object store.
        number: how many servers.
        arguments, env: as those of :func:`serving`.
    """
    shared = {"catalog.url": database, "storage.url": bucket, "auth.token_file": folder / "tokens"}
    options = [f"--set={key}={value}" for key, value in shared.items()]
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serving(
                    folder.with_name(f"{folder.name}-{index}"), *options, *arguments,
                    env={**endpoint.environment, **dict(env)},
                )
            )
            for index in range(number)
        ]  # fmt: skip
        together = Servers(servers, folder, database, options)
        yield together
        # All at once: one after the other takes longer.
        running = [server for server in servers if server.process.poll() is None]
        for server in running:
            server.send_signal(signal.SIGTERM)
        assert [server.wait() for server in running] == [0] * len(running), together.log.read_text()


class Servers(ServerProcess):
    """Several servers, with what tests want of one: each connection and each request reaches one of them at random."""

    def __init__(self, servers, folder, database, options):
        self.servers = servers
        self.folder = folder
        self.place = ("--data-dir", folder, *options)
        self.remote = True
        self.cluster = None
        self.secure = False
        self.log = _Logs([server.log for server in servers])
        self._database = database
        self._random = random.Random(SEED)

    @property
    def port(self):
        """The port of one of them, each time of another one."""
        return self.one().port

    def one(self):
        """Return one of those that run."""
        return self._random.choice([server for server in self.servers if server.process.poll() is None])

    @contextmanager
    def connect(self, **options):
        """Connect to all; each request goes to one of them at random."""
        with ExitStack() as stack:
            running = [server for server in self.servers if server.process.poll() is None]
            sockets = [
                stack.enter_context(
                    connect(server.url, open_timeout=PATIENCE, ping_interval=None, max_size=2**26, **options)
                )
                for server in running
            ]
            yield AnyServerClient(sockets, self._random)

    def stored(self):
        # Objects go some time after their rows. A row of an unfinished upload tells how much of it is stored.
        with psycopg.connect(self._database) as connection:
            rows = connection.execute(
                "SELECT kind || 's/' || name, CASE kind WHEN 'part' THEN durable ELSE size END FROM creemson.objects"
            )
            return dict(rows.fetchall())

    def workers(self):
        return [worker for server in self.servers for worker in server.workers()]

    @contextmanager
    def frozen(self):
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server.frozen())
            yield

    def send_signal(self, sign):
        for server in self.servers:
            server.send_signal(sign)

    def wait(self):
        return max(server.wait() for server in self.servers)

    def stop(self, sign=signal.SIGTERM):
        self.send_signal(sign)
        return self.wait()


class AnyServerClient(Client):
    """A client with a connection to each server, whose every request goes to one of them at random.

    What belongs to a connection stays there: the bytes of an upload, and the cancelling of a request. Answers come in
    the order in which they arrive, those to :meth:`ask` from the server that was asked.
    """

    def __init__(self, sockets, rng):
        self._sockets = list(sockets)  # those that are open
        self._rng = rng
        self._arrived = queue.SimpleQueue()
        self._kept = deque()  # what arrived while an answer of another server was awaited
        self._asked = {}  # by id of a request: where it went
        self._uploads = None  # where the last upload was announced
        for socket in sockets:
            threading.Thread(target=self._pump, args=(socket,), daemon=True).start()

    def _pump(self, socket):
        with suppress(ConnectionClosed):
            for message in socket:
                self._arrived.put((socket, message))
        self._arrived.put((socket, None))

    def send(self, message):
        self._send(message)

    def receive(self, timeout=PATIENCE):
        return self._receive(timeout)

    def ask(self, message):
        socket = self._send(message)
        return self._receive(PATIENCE, socket)

    def cut(self):
        for socket in self._sockets:
            cut(socket)

    def _send(self, message):
        socket = self._place(message)
        socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
        return socket

    def _place(self, message):
        """Return the connection for a message."""
        open_ones = [socket for socket in self._sockets if socket.state is State.OPEN]
        socket = self._rng.choice(open_ones or self._sockets)
        if isinstance(message, bytes):
            return self._uploads or socket
        if isinstance(message, dict):
            if message.get("type") == "cancel" and "request" in message:
                socket = self._asked.get(message["request"], socket)
            if message.get("type") == "upload":
                self._uploads = socket
            self._asked[message.get("id")] = socket
        return socket

    def _receive(self, timeout, only=None):
        for index, (socket, message) in enumerate(self._kept):
            if only in (None, socket):
                del self._kept[index]
                return _decoded(message)
        while True:
            try:
                socket, message = self._arrived.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError from None
            if message is None:
                self._sockets.remove(socket)
                if not self._sockets or socket is only:
                    raise socket.protocol.close_exc
            elif only in (None, socket):
                return _decoded(message)
            else:
                self._kept.append((socket, message))


class _Logs:
    """The logs of several servers, as if they were one file."""

    def __init__(self, paths):
        self._paths = paths

    def read_text(self):
        return "".join(path.read_text() for path in self._paths)

    def read_bytes(self):
        return self.read_text().encode()


def _decoded(message):
    return json.loads(message) if isinstance(message, str) else message
