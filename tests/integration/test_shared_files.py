"""Two real servers that share files: uploads that go on at the other one, and tokens."""

import contextlib
import signal
import subprocess
import sys

import pytest
import websockets

from tests.integration.test_transfers import DATA, MIB, OTHER, begin, finish, send, sha256
from tests.servers import PATIENCE, await_token, serving, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(postgres_server, object_store):
    options = {
        "catalog.url": postgres_server.url(),
        "storage.url": object_store.bucket(),
        "storage.tables": "never",
    }
    return [f"--set={key}={value}" for key, value in options.items()]


@pytest.fixture(scope="module")
def pair(settings, object_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(serving(folder / name, *settings, env=object_store.environment))
            for name in ("one", "two")
        ]


def content(server, name):
    with server.connect() as client:
        return client.download(name)[1]


@pytest.mark.parametrize("rest", [DATA, OTHER], ids=["same", "other"])
def test_upload_of_a_stopped_server_goes_on_at_the_other_one(pair, rest):
    """When it wakes up, it tells its client, and writes nothing; whatever bytes its client still sends."""
    one, two = pair
    name = f"{sha256(rest)[:6]}.bin"
    with one.connect() as slow, two.connect() as client:
        assert begin(slow, name) == 0
        slow.send(DATA[:MIB])
        assert slow.until("upload_progress")[-1]["offset"] == MIB
        one.process.send_signal(signal.SIGSTOP)
        try:
            slow.send(rest[MIB : 2 * MIB])  # waits in the kernel until the server wakes up
            assert begin(client, name) == MIB
            send(client, DATA[MIB : 3 * MIB])
            assert client.until("upload_progress")[-1]["offset"] >= MIB
        finally:
            one.process.send_signal(signal.SIGCONT)
        error = slow.until("error")[-1]
        assert error["reason"] == "cancelled"
        assert error["message"] == f"Another connection has taken over the upload of '{name}'."
        send(client, DATA[3 * MIB :])
        assert finish(client)["sha256"] == sha256(DATA)
    for server in pair:
        assert content(server, name) == DATA


def test_file_that_one_server_deletes_is_gone_at_the_other(pair):
    """A download that the other one has begun is whole."""
    one, two = pair
    one.write("gone.bin", DATA)
    with two.connect() as client:
        client.send({"type": "download", "id": "d", "filename": "gone.bin"})
        assert client.receive()["type"] == "download"
        with one.connect() as other:
            assert other.ask({"type": "delete", "id": "x", "filename": "gone.bin"})["type"] == "deleted"
        data = b""
        while isinstance(message := client.receive(), bytes):
            data += message
        assert data == DATA
        assert message["type"] == "downloaded"
        refused = client.ask({"type": "download", "id": "d2", "filename": "gone.bin"})
        assert refused["reason"] == "file_not_found"


def token(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "creemson", "token", *arguments], capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_token_is_known_to_both_servers_until_it_is_revoked(postgres_server, object_store, tmp_path):
    """Wherever it was created; those of the first server's token file count, too."""
    settings = [f"--set=catalog.url={postgres_server.url()}", f"--set=storage.url={object_store.bucket()}"]
    old = token("create", "old", "--data-dir", str(tmp_path / "one"))
    arguments = [*settings, "--set=auth.mode=token"]
    env = object_store.environment
    with (
        serving(tmp_path / "one", *arguments, env=env) as one,
        serving(tmp_path / "two", *arguments, env=env) as two,
    ):
        ann = token("create", "ann", *settings)
        await_token([one, two], ann)
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(
                    server.connect(additional_headers={"Authorization": f"Bearer {one_token}"})
                )
                for server in (one, two)
                for one_token in (old, ann)
            ]
            for client in clients:
                assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
            assert {line.split('"')[3] for line in token("list", "--json", *settings).splitlines()} == {
                "old", "ann",
            }  # fmt: skip
            token("revoke", "ann", *settings)
            for client in clients[1::2]:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    while True:
                        client.receive()
                assert closed.value.rcvd.code == 4401
            for client in clients[::2]:
                assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
        wait_until(lambda: '"tokens imported into the catalog"' in one.log.read_text())
