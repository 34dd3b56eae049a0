"""Authentication over WebSocket and HTTP, on a real server."""

import json
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.faults.test_frames import after_upgrade, close_code
from tests.servers import frame, read_all, wait_until

SECRET = "0123456789abcdef" * 4
JWT = (
    "--set", "auth.mode=jwt", "--set", f"auth.jwt_key={SECRET}",
    "--set", 'auth.jwt_algorithms=["HS256"]', "--set", "auth.jwt_audience=tables",
    "--set", "auth.jwt_leeway=0",
)  # fmt: skip
LEGACY = {"filename": "a.csv", "selectedColumns": [0]}


def creemson(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "creemson", *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout.strip()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def signed(sub="ann", seconds=3600.0, **claims):
    return jwt.encode({"sub": sub, "aud": "tables", "exp": time.time() + seconds, **claims}, SECRET, "HS256")


def closed(client):
    """Return the first error and the close code."""
    error = client.receive()
    with pytest.raises(ConnectionClosed) as end:
        client.receive()
    return error, end.value.rcvd.code


@pytest.fixture(scope="module")
def guarded(start, tmp_path_factory):
    """A server that requires opaque tokens, and ann's token."""
    data = tmp_path_factory.mktemp("guarded") / "data"
    token = creemson("token", "create", "ann", "--data-dir", data)
    with start(data, "--set", "auth.mode=token") as server:
        yield server, token


@pytest.fixture(scope="module")
def impatient(start, tmp_path_factory):
    """Another one, which waits 0.6 s for a token."""
    data = tmp_path_factory.mktemp("impatient") / "data"
    token = creemson("token", "create", "ann", "--data-dir", data)
    with start(data, "--set", "auth.mode=token", "--set", "auth.timeout=0.6") as server:
        yield server, token


def hello(token=None, **fields):
    return {"type": "hello", "version": 1, **({"token": token} if token else {}), **fields}


def test_token_in_header_or_hello_is_accepted(guarded):
    """After that, a second `hello` needs no token."""
    server, token = guarded
    with server.connect(additional_headers=bearer(token)) as client:
        assert client.ask({"type": "ping", "id": "p"})["id"] == "p"
        assert client.ask(hello())["type"] == "welcome"
    with server.one().connect() as client:
        assert client.ask(hello(token))["type"] == "welcome"
        assert client.ask({"type": "files", "id": "f"})["files"] == []
        assert client.ask({"type": "ping", "id": "p"})["id"] == "p"


def test_connection_with_a_token_stays_open_after_auth_timeout(impatient):
    """The token is in the header, so that it is there in time however busy the machine is."""
    server, token = impatient
    with server.connect(additional_headers=bearer(token)) as client:
        time.sleep(1.2)  # longer than auth.timeout
        assert client.ask({"type": "ping", "id": "p"})["id"] == "p"


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic YTpi", "Bearer", "crm_x_y", ""])
def test_invalid_authorization_header_is_401(guarded, header):
    """Before the upgrade, and over HTTP as well."""
    server, _ = guarded
    with (
        pytest.raises(InvalidStatus) as refused,
        server.connect(additional_headers={"Authorization": header}),
    ):
        pass
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"
    answer = httpx.get(f"{server.base}/columns/a.csv", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["reason"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "message",
    [
        hello("wrong"), b"bytes",
        # The server listens for 2 s after each of them.
        *(
            pytest.param(message, marks=pytest.mark.slow)
            for message in (
                hello(), {"type": "ping", "id": "x"}, {"type": "files", "id": "x"}, LEGACY,
                {"type": "batch", "messages": [{"type": "ping"}, hello("wrong")]},
            )
        ),
    ],
)  # fmt: skip
def test_missing_or_invalid_token_is_refused_and_closes(guarded, message):
    """One error `unauthenticated`, then close 4401; everything after it is ignored."""
    server, token = guarded
    first = frame(message, 2) if isinstance(message, bytes) else frame(json.dumps(message).encode())
    with server.upgraded(glued=first + frame(json.dumps(hello(token)).encode())) as connection:
        (_, text), (opcode, payload) = after_upgrade(connection)
    error = json.loads(text)
    assert (error["reason"], error["code"]) == ("unauthenticated", 1002)
    assert (opcode, close_code(payload)) == (8, 4401)
    assert "token" in error["message"].lower()


def test_silent_connection_is_closed_after_auth_timeout(impatient):
    """`auth.timeout` runs from the handshake on, even while the client sends garbage."""
    server, _ = impatient
    began = time.monotonic()
    with server.upgraded(glued=frame(b"garbage")) as connection:
        *errors, (opcode, payload) = after_upgrade(connection)
    assert time.monotonic() - began > 0.5
    reasons = [json.loads(text)["reason"] for _, text in errors]
    assert reasons[-1] == "unauthenticated"
    assert reasons[:-1] in (["invalid_json"], [])  # none if the time was over before the garbage was read
    assert (opcode, close_code(payload)) == (8, 4401)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/columns/a.csv"), ("GET", "/download/a.csv"), ("POST", "/process"), ("POST", "/upload"),
     ("GET", "/status"), ("GET", "/metrics"), ("GET", "/nothing")],
)  # fmt: skip
def test_http_request_without_token_is_401(guarded, method, path):
    """The answer names the header; a token in the URL is ignored."""
    server, token = guarded
    answer = httpx.request(method, f"{server.base}{path}", params={"token": token, "access_token": token})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Bearer" in answer.json()["detail"]
    assert httpx.request(method, f"{server.base}{path}", headers=bearer(token)).status_code not in (401, 403)


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/healthz", "/readyz", "/asyncapi.json"])
def test_public_pages_need_no_token(guarded, path):
    """The web page, health checks and the protocol description."""
    server, _ = guarded
    assert httpx.get(f"{server.base}{path}").status_code == 200


def test_revoked_token_closes_open_connections(guarded):
    """Open connections close within a second, new ones are refused immediately; other callers stay.

    Several servers refuse new ones half a second later.
    """
    server, token = guarded
    doomed = creemson("token", "create", "doomed", *server.place)
    server.await_token(doomed)
    with server.one().connect() as client, server.connect(additional_headers=bearer(token)) as other:
        assert client.ask(hello(doomed))["type"] == "welcome"
        creemson("token", "revoke", "doomed", *server.place)
        server.await_token(doomed, known=False)
        with pytest.raises(InvalidStatus), server.connect(additional_headers=bearer(doomed)):
            pass
        assert httpx.get(f"{server.base}/status", headers=bearer(doomed)).status_code == 401
        error, code = closed(client)
        assert (error["reason"], code) == ("unauthenticated", 4401)
        assert other.ask({"type": "ping", "id": "p"})["id"] == "p"


def test_revoked_token_ends_http_requests_in_flight(guarded):
    """A download is cut, a half-sent upload is not stored, a job is answered with 401."""
    server, _ = guarded
    token = creemson("token", "create", "zoe", *server.place)
    server.await_token(token)
    head = f"HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
    form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n'

    def post(path, kind, body, length=None):
        lines = f"POST {path} {head}Content-Type: {kind}\r\nContent-Length: {length or len(body)}\r\n\r\n"
        connection = server.raw()
        connection.sendall(lines.encode() + body)
        return connection

    multipart = "multipart/form-data; boundary=B"
    with post(
        "/upload", multipart, form % b"a.csv" + b"n\n1\n" + bytes(30_000_000) + b"\r\n--B--"
    ) as sending:
        assert sending.recv(12) == b"HTTP/1.1 200"
    [folder] = [
        path for path in (server.data_dir / "callers").iterdir() if path.name.startswith("token-zoe-")
    ]
    part = form % b"late.csv" + b"n\n" + bytes(2_000_000)
    with (
        server.frozen(),
        post("/process", "application/json", json.dumps(LEGACY).encode()) as job,
        post("/upload", multipart, part, len(part) + 9) as upload,
        server.raw() as download,
    ):
        download.sendall(f"GET /download/a.csv {head}\r\n".encode())
        assert download.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: list((folder / "parts").iterdir()))
        creemson("token", "revoke", "zoe", *server.place)
        assert read_all(job).startswith(b"HTTP/1.1 401")
        assert read_all(upload).startswith(b"HTTP/1.1 401")
        assert len(read_all(download)) < 30_000_000
        assert list((folder / "parts").iterdir()) == []
        assert [path.name for path in (folder / "uploads").iterdir()] == ["a.csv"]
    assert "Traceback" not in server.log.read_text()


def test_token_is_in_no_log_or_file(guarded):
    """This holds for every token sent, valid or not."""
    server, token = guarded
    with server.connect() as client:
        client.ask(hello(token))
    with server.connect() as client:
        client.ask(hello("crm_ab_verysecretindeed"))
    for path in [path for one in server.servers for path in (one.log, *one.folder.rglob("*"))]:
        with suppress(
            FileNotFoundError, IsADirectoryError
        ):  # what other tests have left may be removed meanwhile
            content = path.read_bytes()
            assert token.split("_", 2)[2].encode() not in content, path
            assert b"verysecretindeed" not in content, path


@pytest.mark.slow
def test_expired_jwt_closes_unless_renewed_by_hello(start, tmp_path):
    """Another `hello` on the open connection renews it; otherwise the connection closes at expiry."""
    with start(tmp_path / "data", *JWT, "--set", "auth.jwt_leeway=0") as servers:
        server = servers.one()  # `hello` speaks for one connection
        with server.connect() as client, server.connect() as stale:
            assert client.ask(hello(signed(seconds=15)))["type"] == "welcome"
            assert client.ask(hello(signed(), id="again"))["id"] == "again"
            began = time.time()
            assert stale.ask(hello(signed(seconds=15)))["type"] == "welcome"
            error, code = closed(stale)
            assert (error["reason"], code) == ("unauthenticated", 4401)
            assert "expired" in error["message"]
            assert time.time() - began > 14
            assert client.ask({"type": "ping", "id": "p"})["id"] == "p"
            other = client.ask(hello(signed(sub="bob"), id="bob"))
            assert (other["reason"], other["id"]) == ("forbidden", "bob")
            assert client.ask({"type": "ping", "id": "p"})["id"] == "p"
            client.send(hello(signed(seconds=-5)))
            error, code = closed(client)
            assert (error["reason"], code) == ("unauthenticated", 4401)
        assert httpx.get(f"{server.base}/status", headers=bearer(signed(aud="x"))).status_code == 401
        assert httpx.get(f"{server.base}/status", headers=bearer(signed())).status_code == 200


def test_connections_per_caller_are_limited(start, tmp_path):
    """More are refused, in the handshake with 503 and after `hello` with 4429; other callers are unaffected."""
    with start(tmp_path / "data", *JWT, "--set", "limits.connections_per_caller=2") as servers:
        server = servers.one()  # each counts its own
        ann = {"additional_headers": bearer(signed())}
        with server.connect(**ann) as first, server.connect() as second:
            second.ask(hello(signed()))
            with pytest.raises(InvalidStatus) as refused, server.connect(**ann):
                pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "1"
            with server.connect() as third:
                third.send(hello(signed()))
                error, code = closed(third)
                assert (error["reason"], error["retryable"], code) == ("too_many_connections", True, 4429)
            with server.connect(additional_headers=bearer(signed(sub="bob"))) as bob:
                bob.ask({"type": "ping", "id": "p"})
            first.socket.close()

            def again():
                try:
                    with server.connect(**ann):
                        return True
                except InvalidStatus:
                    return False

            wait_until(again)


def test_damaged_token_file_admits_nobody(start, tmp_path):
    """Open connections stay; the log says what is wrong."""
    data = tmp_path / "data"
    token = creemson("token", "create", "ann", "--data-dir", data)
    with start(data, "--set", "auth.mode=token") as server:
        if len(server.servers) > 1:
            pytest.skip("several servers have their tokens in the catalog")
        with server.connect() as client:
            client.ask(hello(token))
            (data / "tokens").write_text("nonsense\n")
            answer = httpx.get(f"{server.base}/status", headers=bearer(token))
            assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
            assert client.ask({"type": "ping", "id": "p"})["id"] == "p"
        wait_until(lambda: "is invalid in line 1" in server.log.read_text())


def test_command_line_sends_the_token(guarded, tmp_path):
    """Given as an option; an invalid one is reported."""
    server, token = guarded
    (tmp_path / "cli.csv").write_text("a,b\n1,2\n")
    creemson("upload", tmp_path / "cli.csv", "--url", server.url, "--token", token)
    lines = creemson("files", "--json", "--url", server.url, "--token", token).splitlines()
    assert [json.loads(line)["filename"] for line in lines] == ["cli.csv"]
    creemson("delete", "cli.csv", "--url", server.url, "--token", token)
    wrong = subprocess.run(
        [sys.executable, "-m", "creemson", "files", "--url", server.url, "--token", "x"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert wrong.returncode == 1
    assert "The token is not known here" in wrong.stderr
