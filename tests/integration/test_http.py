"""HTTP on the same port: an old front end's flow, uploads, downloads, errors, and the web page."""

import hashlib
import json
import random
import socket
import threading
import time
from contextlib import suppress

import httpx
import polars as pl
import psutil
import pytest

from tests.servers import SAMPLE, frame, read_all, serving, upgrade_request, wait_until

ORIGIN = "http://localhost:3000"
DATA = random.Random(1).randbytes(3 * 2**20 + 5)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that allows one other origin."""
    data_dir = tmp_path_factory.mktemp("http") / "data"
    with serving(
        data_dir,
        "--set", f'server.allowed_origins=["{ORIGIN}"]',
        "--set", "limits.upload_bytes=20000000",
        "--set", "limits.message_bytes=1000",
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.base) as client:
        yield client


def the_error(response, status, reason):
    body = response.json()
    assert (response.status_code, body["reason"]) == (status, reason), body
    assert body["detail"]
    assert body["code"] in (1001, 1002, 1003)
    return body


# --- flow of an old front end ----------------------------------------------------------------------


def test_old_front_end_flow_works_from_another_origin(server, http):
    """Status, upload, columns, the legacy request over a WebSocket, download."""
    http.headers["origin"] = ORIGIN
    status = http.get("/status")
    assert status.headers["access-control-allow-origin"] == ORIGIN
    assert status.json().keys() == {"version", "uptime_s", "connections", "jobs"}
    assert status.json()["jobs"].keys() >= {"queued", "running", "done", "failed"}

    preflight = http.options(
        "/upload",
        headers={"access-control-request-method": "POST", "access-control-request-headers": "authorization"},
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()

    uploaded = http.post("/upload", files={"file": ("penguins.csv", SAMPLE.read_bytes(), "text/csv")})
    assert uploaded.json() == {"filename": "penguins.csv"}
    assert uploaded.headers["access-control-allow-origin"] == ORIGIN
    names = http.get("/columns/penguins.csv").json()
    assert names[:3] == ["species", "island", "bill_length_mm"]

    request = {"filename": "penguins.csv", "selectedColumns": [1, 2, 3]}
    with server.connect(origin=ORIGIN) as client:
        answer = client.ask(request)
    assert answer["type"] == "result"
    data = answer["data"]
    assert data["summary"] == "File processed successfully"
    assert data["output_data"]["rows"] == 344
    assert data["output_data"]["columns"] == names[1:4]

    csv = http.get(f"/download/{data['output_data']['final_filename_csv']}")
    assert csv.headers["access-control-allow-origin"] == ORIGIN
    assert 'attachment; filename="penguins-' in csv.headers["content-disposition"]
    assert pl.read_csv(csv.content).columns == names[1:4]
    excel = http.get(f"/download/{data['output_data']['final_filename_excel']}")
    assert excel.content[:2] == b"PK"

    posted = http.post("/process", json=request).json()
    assert posted["output_data"].pop("cached") is True
    data["output_data"].pop("cached")
    assert posted == data


# --- uploads ----------------------------------------------------------------------------------------


def test_upload_replaces_a_file_of_the_same_name(server, http):
    """The bytes are stored unchanged; other form fields are ignored."""
    for data in (b"old", DATA):
        files = {"file": ("replaced.bin", data)}
        assert http.post("/upload", files=files, data={"comment": "x" * 1000}).status_code == 200
    assert (server.data_dir / "uploads" / "replaced.bin").read_bytes() == DATA
    assert list((server.data_dir / "parts").iterdir()) == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("C:\\my data\\a b.csv", "a b.csv"), ("/etc/x/Größe.csv", "Größe.csv"), ("empty.csv", "empty.csv")],
)
def test_upload_with_a_path_keeps_the_last_component(server, http, sent, kept):
    """Some clients send a path; an empty file is valid."""
    assert http.post("/upload", files={"file": (sent, b"")}).json() == {"filename": kept}
    assert (server.data_dir / "uploads" / kept).read_bytes() == b""


def test_upload_of_unknown_length_is_read_to_its_end(server, http):
    """There is no Content-Length."""
    form = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="chunked.bin"\r\n\r\n%b\r\n--B--\r\n'
        % DATA
    )
    pieces = (form[start : start + 100_000] for start in range(0, len(form), 100_000))
    response = http.post(
        "/upload", content=pieces, headers={"content-type": "multipart/form-data; boundary=B"}
    )
    assert response.json() == {"filename": "chunked.bin"}
    assert (server.data_dir / "uploads" / "chunked.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"files": {"file": ("../..", b"x")}}, 400, "invalid_filename"),
        ({"files": {"file": (".hidden", b"x")}}, 400, "invalid_filename"),
        ({"files": {"other": ("a.csv", b"x")}}, 400, "invalid_message"),
        ({"data": {"file": "no file"}}, 400, "invalid_message"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "invalid_message"),
        ({"content": b"--B\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=B"}}, 400,
         "invalid_message"),
        ({"content": b'--B\r\nContent-Disposition: form-data; name="file"; filename="cut.csv"\r\n\r\nabc',
          "headers": {"content-type": "multipart/form-data; boundary=B"}}, 400, "invalid_message"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=B"}}, 400, "invalid_message"),
    ],
)  # fmt: skip
def test_invalid_upload_is_refused_and_leaves_nothing(server, http, request_, status, reason):
    """The error has a reason, and no file or part is left."""
    before = sorted((server.data_dir / "uploads").iterdir())
    the_error(http.post("/upload", **request_), status, reason)
    assert sorted((server.data_dir / "uploads").iterdir()) == before
    assert list((server.data_dir / "parts").iterdir()) == []


def test_upload_over_limit_is_413(server, http):
    """With or without a Content-Length, and nothing is left."""
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    with server.raw() as connection:
        connection.sendall(
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
            b"Content-Length: 21000000\r\n\r\n" + head
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "upload_too_large"
    assert b"20,000,000" in answer
    pieces = (piece for piece in [head, *[b"x" * 1_000_000] * 21, b"\r\n--B--\r\n"])
    try:
        response = http.post(
            "/upload", content=pieces, headers={"content-type": "multipart/form-data; boundary=B"}
        )
        the_error(response, 413, "upload_too_large")
    except httpx.TransportError:
        pass  # httpx does not look for an early response, and the server reads on for only 2 s
    wait_until(lambda: list((server.data_dir / "parts").iterdir()) == [])
    assert not (server.data_dir / "uploads" / "big.bin").exists()


def test_interrupted_upload_leaves_nothing(server):
    """No part is left, and nothing is logged as an error."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
            b"Content-Length: 10000000\r\n\r\n"
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="broken.bin"\r\n\r\n'
            + b"x"
            * 2_000_000
        )
        wait_until(lambda: list((server.data_dir / "parts").iterdir()))
    wait_until(lambda: not list((server.data_dir / "parts").iterdir()))
    assert not (server.data_dir / "uploads" / "broken.bin").exists()
    assert "Traceback" not in server.log.read_text()


# --- downloads ---------------------------------------------------------------------------------------


def test_range_request_gets_206_or_416(server, http):
    """206 with the requested bytes, 416 beyond the end."""
    server.write("ranges.bin", DATA)
    whole = http.get("/download/ranges.bin")
    assert whole.content == DATA
    assert whole.headers["accept-ranges"] == "bytes"
    some = http.get("/download/ranges.bin", headers={"range": "bytes=1000-2999"})
    assert (some.status_code, some.content) == (206, DATA[1000:3000])
    assert some.headers["content-range"] == f"bytes 1000-2999/{len(DATA)}"
    last = http.get("/download/ranges.bin", headers={"range": "bytes=-10", "if-range": whole.headers["etag"]})
    assert (last.status_code, last.content) == (206, DATA[-10:])
    assert http.get("/download/ranges.bin", headers={"range": f"bytes={len(DATA)}-"}).status_code == 416
    head = http.head("/download/ranges.bin")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))


def test_download_is_an_attachment_without_scripts(server, http):
    """An uploaded page must not run scripts in this server's origin."""
    (server.data_dir / "uploads" / "evil.html").write_text("<script>alert(1)</script>")
    answer = http.get("/download/evil.html")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("format", ["csv", "xlsx", "ndjson", "arrow", "parquet"])
def test_output_is_downloaded_in_every_format(http, format):
    """It is rendered when first requested."""
    http.post("/upload", files={"file": ("formats.csv", b"a,b\n1,x\n2,y\n")})
    done = http.post("/process", json={"filename": "formats.csv", "selectedColumns": ["b", "a"]}).json()
    name = done["output_data"]["filename"].removesuffix("parquet") + format
    content = http.get(f"/download/{name}").content
    read = {"csv": pl.read_csv, "xlsx": pl.read_excel, "ndjson": pl.read_ndjson, "arrow": pl.read_ipc,
            "parquet": pl.read_parquet}[format]  # fmt: skip
    assert read(content).rows() == [("x", 1), ("y", 2)]


# --- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "reason"),
    [
        ("GET", "/nothing", {}, 404, "invalid_message"),
        ("DELETE", "/upload", {}, 405, "invalid_message"),
        ("GET", "/process", {}, 405, "invalid_message"),
        ("GET", "/ws", {}, 426, "invalid_message"),
        ("GET", "/columns/none.csv", {}, 404, "file_not_found"),
        ("GET", "/columns/..%2f..%2fetc%2fpasswd", {}, 400, "invalid_filename"),
        ("GET", "/download/none.csv", {}, 404, "file_not_found"),
        ("GET", "/download/%2e%2e%2fcatalog.db", {}, 400, "invalid_filename"),
        ("GET", "/download/", {}, 400, "invalid_filename"),
        ("GET", "/static/../../../../etc/passwd", {}, 404, "invalid_message"),
        ("GET", "/static/%2e%2e/errors.py", {}, 404, "invalid_message"),
        ("POST", "/process", {"content": b"{"}, 400, "invalid_json"),
        ("POST", "/process", {"json": []}, 400, "invalid_message"),
        ("POST", "/process", {"json": {"type": "ping"}}, 400, "invalid_message"),
        ("POST", "/process", {"json": {"filename": "none.csv", "selectedColumns": [0]}}, 404, "file_not_found"),
        ("POST", "/process", {"json": {"filename": "x", "selectedColumns": []}}, 400, "invalid_columns"),
        ("POST", "/process", {"json": {"filename": "x" * 1000, "selectedColumns": [0]}}, 413, "message_too_large"),
        ("GET", "/status", {"headers": {"origin": "http://evil.example"}}, 403, "forbidden"),
        ("GET", "/status", {"headers": {"origin": "null"}}, 403, "forbidden"),
        ("POST", "/upload", {"headers": {"origin": "http://evil.example"}}, 403, "forbidden"),
    ],
)  # fmt: skip
def test_invalid_request_gets_status_and_reason(http, method, path, options, status, reason):
    """The status fits, and the reason is that of the protocol."""
    request = http.build_request(method, path, **options)
    request.url = request.url.copy_with(raw_path=path.encode())
    the_error(http.send(request), status, reason)


def test_unsupported_method_is_refused_with_those_that_are_supported(http):
    """In the text as in the header ``Allow``."""
    answer = http.put("/upload")
    assert answer.headers["allow"] == "POST"
    assert answer.json()["detail"] == "This path does not support this method; it takes POST."


def test_unreadable_file_is_refused_as_over_websocket(http):
    """The errors are the same as over a WebSocket."""
    http.post("/upload", files={"file": ("broken.parquet", b"PAR1 and nothing more")})
    the_error(http.get("/columns/broken.parquet"), 400, "unreadable_file")
    http.post("/upload", files={"file": ("one.csv", b"a\n1\n")})
    error = http.post("/process", json={"filename": "one.csv", "selectedColumns": ["b"]})
    assert the_error(error, 400, "column_not_found")["detail"]


def test_own_origin_is_allowed(server, http):
    """A page of this server need not be listed."""
    assert http.get("/status", headers={"origin": f"http://127.0.0.1:{server.port}"}).status_code == 200


def test_operator_endpoints_answer(http):
    """Liveness, readiness, metrics, and the protocol description."""
    http.post("/upload", files={"file": ("figures.csv", b"a\n1\n")})
    http.post("/process", json={"filename": "figures.csv", "selectedColumns": [0]})
    metrics = http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    figures = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in metrics.text.splitlines()
        if line[0] != "#"
    }
    assert figures['creemson_jobs_ended_total{state="done"}'] >= 1
    assert figures['creemson_jobs{state="running"}'] == 0
    assert figures.keys() >= {"creemson_uptime_seconds", "creemson_connections"}
    assert all(name.startswith("creemson_") for name in figures)
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").status_code == 200
    assert http.get("/asyncapi.json").json()["asyncapi"] == "3.0.0"


def test_page_is_served_with_strict_csp(http):
    """The page can load nothing from other origins."""
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert http.get("/static/creemson.js").headers["content-type"].startswith("text/javascript")


# --- jobs and sockets --------------------------------------------------------------------------------


@pytest.mark.slow
def test_client_that_disconnects_stops_its_job(tmp_path, slow_csv):
    """As with a legacy request over a WebSocket."""
    with serving(tmp_path / "data") as server, server.frozen():
        server.put("slow.csv", slow_csv)
        body = json.dumps({"filename": "slow.csv", "selectedColumns": [0, 1]}).encode()
        with server.raw() as connection:
            head = f"POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            wait_until(lambda: status(server)["running"] == 1)
        wait_until(lambda: status(server).items() >= {"cancelled": 1, "running": 0}.items())


def status(server):
    return httpx.get(f"{server.base}/status").json()["jobs"]


def test_upgrade_on_kept_alive_connection_works(server):
    """It follows an HTTP response and has a frame in the same segment."""

    def receive(connection, end):
        received = b""
        while end not in received:
            received += connection.recv(65536) or pytest.fail(f"{received} is all that came")
        return received

    with server.raw() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        assert receive(connection, b"}").startswith(b"HTTP/1.1 200")
        connection.sendall(upgrade_request() + frame(b'{"type":"ping","id":"p"}'))
        assert receive(connection, b'"pong"').startswith(b"HTTP/1.1 101")


def test_h2c_upgrade_is_ignored_and_http2_refused(server):
    """The upgrade is ignored; HTTP/2 without an upgrade is an error."""
    with server.raw() as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    with server.raw() as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert read_all(connection)[:12] in (b"HTTP/1.1 505", b"HTTP/1.1 400")


def test_slow_or_stalled_request_is_408(tmp_path):
    """Headers after `timeouts.handshake`, stalled bodies after `timeouts.send`."""
    settings = ("--set", "timeouts.handshake=0.3", "--set", "timeouts.send=0.3")
    with serving(tmp_path / "data", *settings) as server:

        def slowly(connection):
            for byte in b"GET /status":
                connection.sendall(bytes([byte]))
                time.sleep(0.01)

        def stalled(connection):
            connection.sendall(b"POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

        for send in (slowly, stalled):

            def answered(send=send):
                with server.raw() as connection:
                    with suppress(ConnectionError):  # the answer was earlier
                        send(connection)
                    answer = read_all(connection)
                # A connection on which nothing has come in time, because this process had to wait, gets no answer.
                assert answer.startswith(b"HTTP/1.1 408") or not answer
                return answer

            wait_until(answered)


def test_download_without_reader_is_closed(tmp_path):
    """It ends after `timeouts.send`, and the file is closed."""
    with serving(tmp_path / "data", "--set", "timeouts.send=0.3") as server:
        server.write("large.bin", bytes(30_000_000))
        with server.raw() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /download/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            process = psutil.Process(server.process.pid)
            own = connection.getsockname()
            wait_until(lambda: own not in [one.raddr for one in process.net_connections()])
            wait_until(lambda: not [one for one in process.open_files() if one.path.endswith("large.bin")])
            assert len(read_all(connection)) < 30_000_000


def test_large_upload_uses_little_memory(server, http):
    """Only a few megabytes are buffered, however large the file is."""
    process = psutil.Process(server.process.pid)
    http.post("/upload", files={"file": ("warm.bin", DATA)})
    before = process.memory_info().rss
    peak = before
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            assert http.post("/upload", files={"file": ("large.bin", bytes(19_000_000))}).status_code == 200
    finally:
        done.set()
        watcher.join()
    assert peak - before < 50_000_000
    assert (
        hashlib.sha256((server.data_dir / "uploads" / "large.bin").read_bytes()).hexdigest()
        == hashlib.sha256(bytes(19_000_000)).hexdigest()
    )
