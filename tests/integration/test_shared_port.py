"""Several real servers on one port."""

import socket
import threading
from contextlib import ExitStack

import pytest

import creemson
from tests.databases import postgres
from tests.objectstores import free_port
from tests.servers import PATIENCE, SAMPLE, serving, wait_until

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


@pytest.mark.slow
def test_clients_of_a_shared_port_do_not_notice_a_rolling_restart(on_one_port, tmp_path):
    """Each server is restarted while the other one runs: no call of the client library fails."""
    ended, done, failures = threading.Event(), [], []

    def work(number):
        try:
            with creemson.Client(running["a"][1].base) as client:
                client.upload(SAMPLE, name=f"{number}.csv")
                while not ended.is_set():
                    result = client.process(f"{number}.csv", where=[["year", ">", len(done)]], limit=1)
                    done.append(result.columns)
        except Exception as error:
            failures.append(error)

    with ExitStack() as stack:
        running = {name: start(stack, on_one_port(tmp_path / name)) for name in ("a", "b")}
        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        try:
            for name in running:
                before = len(done)
                wait_until(lambda before=before: len(done) > before + 4 or failures)
                running[name][0].close()
                running[name] = start(stack, on_one_port(tmp_path / name))
            before = len(done)
            wait_until(lambda: len(done) > before + 4 or failures)
        finally:
            ended.set()
            for worker in workers:
                worker.join()
    assert failures == []


def start(stack, server):
    """Run a server that can be stopped alone, and otherwise ends with the stack."""
    own = stack.enter_context(ExitStack())
    return own, own.enter_context(server)


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
