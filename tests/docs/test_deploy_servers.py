"""The files to deploy three servers that share jobs and files: run as printed, with addresses of this machine."""

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from websockets.asyncio.client import connect as connect_in_loop
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from creemson.settings.checks import problems
from creemson.settings.load import load
from tests.databases import postgres
from tests.docs.command_lines import parse
from tests.docs.containers import documents, of_compose
from tests.docs.test_deploy import running_caddy, running_nginx
from tests.objectstores import free_port
from tests.servers import PATIENCE, SAMPLE, serving, wait_until

COMPOSE = of_compose("compose.servers.yaml")
SERVERS = ("creemson1", "creemson2", "creemson3")
PRINTED = [f"10.0.0.{number}:8000" for number in (1, 2, 3)]


def settings_of(name):
    """The settings of a server of the compose file."""
    options = parse(COMPOSE[name].words)
    flags = {"server.host": options["host"], "storage.data_dir": options["data_dir"]}
    return load(config=None, environ=COMPOSE[name].environment, overrides=(), flags=flags).settings


def test_servers_of_the_compose_file_share_what_they_must_and_nothing_else():
    """They have one catalog and object store, each a folder of its own, and the machine is divided."""
    found = [settings_of(name) for name in SERVERS]
    for settings in found:
        assert problems(settings) == []
        assert settings.is_shared
        assert settings.server.processes == len(SERVERS)
    assert len({str(settings.storage.data_dir) for settings in found}) == len(SERVERS)
    for name in SERVERS[1:]:
        assert COMPOSE[name].environment == COMPOSE[SERVERS[0]].environment


def test_addresses_of_the_compose_file_are_those_of_services():
    """Of the servers, the database and the object store."""
    environment = COMPOSE[SERVERS[0]].environment
    assert COMPOSE["caddy"].environment["SERVERS"].split() == [f"{name}:8000" for name in SERVERS]
    assert re.fullmatch(r"http://(\w+):8333", environment["AWS_ENDPOINT_URL"])[1] in COMPOSE
    user, host = re.fullmatch(
        r"postgresql://(\w+)@(\w+)/creemson", environment["CREEMSON_CATALOG__URL"]
    ).groups()
    assert host in COMPOSE
    assert COMPOSE[host].environment["POSTGRES_USER"] == user
    assert COMPOSE[host].environment["POSTGRES_PASSWORD"] == environment["PGPASSWORD"]
    cluster = documents("compose.cluster.yaml")[0]["services"]["store"]
    assert documents("compose.servers.yaml")[0]["services"]["store"] == cluster


@pytest.fixture(scope="module")
def database():
    with postgres() as server:
        yield server


@pytest.fixture
def port():
    """The port of the proxy."""
    return free_port()


@pytest.fixture
def environment(database, object_store, port):
    """The settings of the compose file, but for this machine."""
    return {
        **COMPOSE[SERVERS[0]].environment,
        **object_store.environment,
        "CREEMSON_CATALOG__URL": database.url(),
        "CREEMSON_STORAGE__URL": object_store.bucket(),
        "CREEMSON_SERVER__ALLOWED_ORIGINS": f"https://localhost:{port}",
    }


@pytest.fixture
def token(environment):
    """A token that all servers know: it is in their catalog."""
    done = subprocess.run(
        [sys.executable, "-m", "creemson", "token", "create", "ann"],
        capture_output=True, text=True, check=True, timeout=PATIENCE, env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout.split()[-1]


@pytest.fixture
def servers(token, environment, tmp_path):
    """Run three servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving(tmp_path / name, env=environment)) for name in SERVERS]


class Clients:
    """Clients of the servers behind a proxy."""

    def __init__(self, port, context, token):
        self.port = port
        self.context = context
        self.headers = {"Authorization": f"Bearer {token}"}

    def connect(self, connecting=connect):
        """A page's WebSocket."""
        return connecting(
            f"wss://localhost:{self.port}/ws", ssl=self.context, origin=f"https://localhost:{self.port}",
            additional_headers=self.headers, open_timeout=PATIENCE,
        )  # fmt: skip

    def meet(self):
        """Make a WebSocket, and end it."""

        async def meet():
            async with self.connect(connect_in_loop):
                pass

        # The client with threads may wait forever after a refusal: one of them closes the socket that another one reads
        # (seen with websockets 17.4). Where a browser was driven before, the main thread has a loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, meet()).result(PATIENCE)

    def meet_or_try_again(self):
        """The same, as the client libraries do it: 503 is no reason to give up."""
        try:
            self.meet()
        except InvalidStatus as refused:
            assert refused.response.status_code == 503
            time.sleep(0.1)
            self.meet_or_try_again()

    def get(self, path):
        request = urllib.request.Request(f"https://localhost:{self.port}{path}", headers=self.headers)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=self.context) as response:
            return response.read()

    def upload(self, name):
        with self.connect() as peer:
            data = SAMPLE.read_bytes()
            peer.send(json.dumps({"type": "upload", "id": "u", "filename": name, "size": len(data)}))
            assert json.loads(peer.recv(PATIENCE))["type"] == "upload_ready"
            peer.send(data)
            while (message := json.loads(peer.recv(PATIENCE)))["type"] != "uploaded":
                assert message["type"] == "upload_progress", message


def accepted(server):
    """The number of WebSockets that a server has had."""
    return server.log.read_text().count('"connected"')


def check(clients, servers, ask):
    """What one server got, the others have; all are used; one that stops, and one that is killed, is not noticed.

    ``ask`` makes a new WebSocket, and ends it.
    """
    name = f"{secrets.token_hex(4)}.csv"
    clients.upload(name)
    assert all(clients.get(f"/download/{name}") == SAMPLE.read_bytes() for _ in servers)
    with ExitStack() as held:
        opened = 0
        while not all(map(accepted, servers)):
            held.enter_context(clients.connect())
            opened += 1
            assert opened < 50
        stopped, killed, last = servers
        stopped.process.terminate()
        for _ in range(10):
            ask()
            clients.get("/healthz")
        wait_until(lambda: stopped.process.poll() is not None)
        killed.process.kill()
        killed.process.wait()
        before = accepted(last)
        for _ in range(10):
            ask()
            clients.get("/healthz")
        wait_until(lambda: accepted(last) == before + 10)


@pytest.mark.slow
def test_nginx_file_spreads_clients_over_servers_and_goes_on_without_one(servers, token, tmp_path, port):
    """Without sticky sessions; each handshake succeeds while a server shuts down and after another was killed."""
    replaced = [
        (printed, f"127.0.0.1:{server.port}") for printed, server in zip(PRINTED, servers, strict=True)
    ]
    with running_nginx(tmp_path, "nginx.servers.conf", port, *replaced) as context:
        clients = Clients(port, context, token)
        check(clients, servers, clients.meet)


@pytest.mark.slow
def test_caddy_file_spreads_clients_over_servers_and_goes_on_without_one(servers, token, tmp_path, port):
    """The same; until it has checked the readiness, it may reach a server that shuts down, which refuses with 503."""
    addresses = " ".join(f"127.0.0.1:{server.port}" for server in servers)
    with running_caddy(tmp_path, "Caddyfile.servers", port, SERVERS=addresses) as context:
        clients = Clients(port, context, token)
        check(clients, servers, clients.meet_or_try_again)
