"""Several real servers on one port."""

import socket
import threading

import pytest

from tests.databases import postgres
from tests.objectstores import free_port
from tests.servers import PATIENCE, serving, wait_until

SERVERS = 2


@pytest.fixture(scope="module")
def database():
    with postgres() as database:
        yield database


@pytest.fixture
def on_one_port(database, object_store):
    """Return the function that runs a server on a port that it shares with others."""
    options = {
        "server.reuse_port": "true",
        "server.processes": SERVERS,
        "catalog.url": database.url(),
        "storage.url": object_store.bucket(),
    }
    port = free_port()
    arguments = ["--port", str(port), *(f"--set={key}={value}" for key, value in options.items())]
    return lambda folder, **env: serving(folder, *arguments, env=object_store.environment | env)


def accepted(server):
    """The number of connections that a server has had."""
    return server.log.read_text().count('"connected"')


@pytest.mark.slow
def test_servers_share_a_port_and_one_leaves_without_a_failed_connection(on_one_port, tmp_path):
    """New connections reach both; while one server stops, each handshake is answered, by it or the other."""
    with on_one_port(tmp_path / "a") as leaving, on_one_port(tmp_path / "b") as staying:
        assert leaving.port == staying.port
        clients = 0
        while not (accepted(leaving) and accepted(staying)):
            with leaving.connect() as client:
                assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
            clients += 1
            assert clients < 200
        failures, ended = [], threading.Event()

        def ask():
            while not ended.is_set():
                try:
                    with staying.raw() as connection:
                        connection.sendall(
                            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
                        )
                        assert connection.recv(12) == b"HTTP/1.1 200"
                except (OSError, AssertionError) as error:
                    failures.append(error)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        try:
            assert leaving.stop() == 0
        finally:
            ended.set()
            for thread in asking:
                thread.join()
        assert failures == []
        before = accepted(staying)
        for _ in range(10):
            with staying.connect() as client:
                assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
        wait_until(lambda: accepted(staying) == before + 10)


def listening(address):
    """A socket as systemd has it for messages of services."""
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.settimeout(PATIENCE)
    systemd.bind(str(address))
    return systemd


@pytest.mark.slow
def test_each_server_on_a_port_needs_a_folder_of_its_own(on_one_port, tmp_path):
    """The refusal says so. A server tells systemd that it is ready, so that the next one can be restarted."""
    with (
        listening(tmp_path / "socket") as systemd,
        on_one_port(tmp_path / "a", NOTIFY_SOCKET=str(tmp_path / "socket")),
    ):
        assert systemd.recv(100) == b"READY=1"
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "a").symlink_to(tmp_path / "a")
        with (
            pytest.raises(AssertionError, match="each server needs its own"),
            on_one_port(tmp_path / "other" / "a"),
        ):
            pass
