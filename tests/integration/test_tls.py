"""TLS on the one port: HTTP and WebSocket, certificate renewal, and peers that speak other protocols."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager, suppress

import httpx
import pytest
import trio
import trustme
from websockets.exceptions import ConnectionClosed

from creemson.client import connect
from creemson.errors import ConnectionLost
from tests.faults.test_frames import after_upgrade, close_code
from tests.servers import SAMPLE, frame, read_all, serving, upgrade_request, wait_until


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


class Pair:
    """A certificate and its key as files."""

    def __init__(self, folder, authority):
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.renew(authority)

    def renew(self, authority):
        made = authority.issue_cert("localhost", "127.0.0.1")
        self.key.write_bytes(made.private_key_pem.bytes())
        self.chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))

    @property
    def settings(self):
        return ("--set", f"server.tls_cert={self.chain}", "--set", f"server.tls_key={self.key}")


@contextmanager
def serving_tls(folder, authority, *arguments):
    pair = Pair(folder, authority)
    with serving(folder / "data", *pair.settings, *arguments) as server:
        server.pair = pair
        server.secure = True
        yield server


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, authority):
    """A server that speaks TLS."""
    with serving_tls(tmp_path_factory.mktemp("tls"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, authority):
    """Another one, which waits a second for a handshake."""
    with serving_tls(
        tmp_path_factory.mktemp("impatient"), authority, "--set", "timeouts.handshake=1"
    ) as server:
        yield server


@pytest.fixture
def trusting(authority):
    """An SSL context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def served_certificate(server, context):
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as stream,
    ):
        return stream.getpeercert(binary_form=True), stream.version(), stream.selected_alpn_protocol()


def test_http_and_websocket_share_one_tls_port(encrypted, trusting):
    """Uploads, jobs and downloads, also large ones."""
    data = os.urandom(3_000_000).hex().encode()
    with encrypted.connect(ssl=trusting) as client:
        assert client.upload("noise.csv", data, overwrite=True)["size"] == len(data)
        _, back, _ = client.download("noise.csv")
        assert back == data
        client.upload("penguins.csv", SAMPLE.read_bytes(), overwrite=True)
        assert client.run(filename="penguins.csv")["data"]["output_data"]["rows"] == 344
    with httpx.Client(verify=trusting, base_url=encrypted.base) as http:
        assert http.post("/upload", files={"file": ("noise.csv", data)}).json() == {"filename": "noise.csv"}
        assert http.get("/download/noise.csv").content == data
        assert http.get("/columns/penguins.csv").json()[0] == "species"
        asked = {"filename": "penguins.csv", "selectedColumns": [0]}
        assert http.post("/process", json=asked).json()["output_data"]["rows"] == 344
        assert http.get("/", headers={"Connection": "close"}).status_code == 200


def test_page_from_own_https_origin_is_allowed(encrypted, trusting):
    """Other origins are forbidden."""
    with encrypted.connect(ssl=trusting, origin=encrypted.base) as client:
        client.ask({"type": "ping", "id": "p"})
    answer = httpx.get(
        f"{encrypted.base}/status", verify=trusting, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize("command", [["files"], ["top", "--once"]])
def test_address_with_the_wrong_scheme_or_an_unknown_certificate_is_explained(
    encrypted, tmp_path, command, monkeypatch
):
    """Of a server with TLS and of one without; not as a server that is not running."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    def said(url):
        done = subprocess.run(
            [sys.executable, "-m", "creemson", *command, "--url", url],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        return done.stderr

    assert "use https:// or wss://" in said(f"http://127.0.0.1:{encrypted.port}")
    assert "is not trusted" in said(f"https://127.0.0.1:{encrypted.port}")
    with serving(tmp_path / "plain") as server:
        text = said(f"https://127.0.0.1:{server.port}")
    assert re.search(rf"does not use TLS\. Its address is (http|ws)://127\.0\.0\.1:{server.port}", text)


def test_tls_older_than_1_2_is_refused(encrypted, authority):
    """TLS 1.2 is the minimum (RFC 8996); HTTP/2 is not offered."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        assert served_certificate(encrypted, context)[1:] == (version.name.replace("_", "."), "http/1.1")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(old)
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        served_certificate(encrypted, old)


def test_renewed_certificate_is_served_after_sighup(encrypted, trusting, authority):
    """New connections get it, open ones stay open; an unusable one is logged and changes nothing."""
    old = served_certificate(encrypted, trusting)[0]
    with encrypted.connect(ssl=trusting) as client:
        encrypted.pair.renew(authority)
        assert served_certificate(encrypted, trusting)[0] == old
        encrypted.process.send_signal(signal.SIGHUP)
        wait_until(lambda: served_certificate(encrypted, trusting)[0] != old)
        new = served_certificate(encrypted, trusting)[0]
        encrypted.pair.key.write_text("no key")
        encrypted.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was not reloaded" in encrypted.log.read_text())
        assert served_certificate(encrypted, trusting)[0] == new
        assert client.ask({"type": "ping", "id": "p"})["id"] == "p"
    assert "Traceback" not in encrypted.log.read_text()


def test_plain_http_on_tls_port_gets_400(encrypted):
    """The answer is plain HTTP and names https://."""
    with encrypted.raw() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer


@pytest.mark.parametrize(
    "sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01garbage" * 10, b"\x16\x03\x01\xff\xff"]
)
def test_incomplete_handshake_is_closed(impatient, sent):
    """Silence, half a record, garbage: closed after timeouts.handshake, without a traceback."""
    with impatient.raw() as connection:
        with suppress(ConnectionError):  # it has been closed already
            connection.sendall(sent)
        read_all(connection)
    assert impatient.process.poll() is None
    assert "Traceback" not in impatient.log.read_text()


def test_close_frames_work_over_tls(encrypted, trusting):
    """A message too large gets the error, then 1009; a protocol violation gets 1002."""
    with encrypted.connect(ssl=trusting) as client, pytest.raises(ConnectionClosed) as closed:
        client.send("x" * (2**20 + 1))
        assert client.receive()["reason"] == "message_too_large"
        client.receive()
    assert closed.value.rcvd.code == 1009
    with trusting.wrap_socket(encrypted.raw(), server_hostname="localhost") as peer:
        peer.sendall(upgrade_request() + frame(b"x", 3))
        (opcode, payload) = after_upgrade(peer)[-1]
    assert (opcode, close_code(payload)) == (8, 1002)


def test_client_without_trust_fails_at_once(encrypted):
    """The client names the cause and does not retry; the server is unaffected."""

    async def ask():
        async with connect(encrypted.url, give_up_after=600) as client:
            await client.files()

    with pytest.raises(ConnectionLost, match=r"not trusted .* set SSL_CERT_FILE"):
        trio.run(ask)
    assert "Traceback" not in encrypted.log.read_text()


def test_client_without_tls_is_told_to_use_it(encrypted):
    """The error has the server's answer, and comes at once."""

    async def ask():
        plain = encrypted.url.replace("wss:", "ws:")
        async with connect(plain, give_up_after=600, handshake_timeout=600) as client:
            await client.files()

    with pytest.raises(ConnectionLost, match="HTTP 400: This port speaks TLS: use https://"):
        trio.run(ask)


def test_client_and_command_line_work_over_tls(encrypted, trusting, authority, tmp_path):
    """With a custom SSL context; the command line uses OpenSSL's trust store."""

    async def ask():
        async with connect(encrypted.url, ssl_context=trusting) as client:
            result = await client.process(SAMPLE, columns=[0], overwrite=True)
            return (await result.frame()).height

    assert trio.run(ask) == 344
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    listed = subprocess.run(
        [sys.executable, "-m", "creemson", "files", "--url", encrypted.url],
        env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}, capture_output=True, text=True,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert "penguins.csv" in listed.stdout


def test_reset_by_peer_leaves_nothing(encrypted, trusting):
    """During the handshake and after it, with unread bytes: no traceback."""
    for late in (False, True):
        plain = socket.create_connection(("127.0.0.1", encrypted.port))
        if late:
            plain = trusting.wrap_socket(plain, server_hostname="localhost")
            plain.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        else:
            plain.sendall(b"\x16\x03\x01")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        plain.close()
    served_certificate(encrypted, trusting)
    assert "Traceback" not in encrypted.log.read_text()


@pytest.mark.slow
def test_startup_line_shows_https_url(tmp_path, authority):
    """People click on it."""
    pair = Pair(tmp_path, authority)
    command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen([*command, *pair.settings], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.terminate()
    assert "https://127.0.0.1:" in line
    assert "wss://127.0.0.1:" in line
