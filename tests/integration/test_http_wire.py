"""HTTP as foreign clients write it, byte by byte, and what a browser says about its pages."""

import json
import shutil
import socket
import subprocess
import unicodedata
from urllib.parse import quote

import httpx
import pytest

from tests.servers import frame, read_all, serving, upgrade_request, wait_until

ORIGIN = "http://localhost:3000"
CONTINUE = b"HTTP/1.1 100 \r\n\r\n"
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n--B--\r\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that allows one other origin."""
    data_dir = tmp_path_factory.mktemp("wire") / "data"
    with serving(
        data_dir,
        "--set", f'server.allowed_origins=["{ORIGIN}"]',
        "--set", "limits.upload_bytes=1000000",
        "--set", "limits.message_bytes=1000",
    ) as server:  # fmt: skip
        server.put("a.csv")
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """Another one, which waits half a second for requests."""
    with serving(
        tmp_path_factory.mktemp("impatient") / "data",
        "--set", f'server.allowed_origins=["{ORIGIN}"]',
        "--set", "timeouts.handshake=0.5",
        "--set", "timeouts.send=0.5",
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.base) as client:
        yield client


def talk(server, *pieces, half_close=False):
    """Send pieces; return what the server sends until it ends the connection."""
    with server.raw() as connection:
        for piece in pieces:
            connection.sendall(piece)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def request(line, *headers, body=None):
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, *length, "", ""]).encode() + (body or b"")


def head_and_json(response):
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), json.loads(body)


# --- requests that are refused before any route sees them ------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (request("GET /status", f"Origin: {ORIGIN}", "X: " + "x" * 40_000), 431, "message_too_large"),
        (request("CONNECT x:1", f"Origin: {ORIGIN}"), 501, "invalid_message"),
        (request("GET /status", f"Origin: {ORIGIN}").replace(b"/1.1", b"/2.0"), 505, "invalid_message"),
        (request("GET /a b", f"Origin: {ORIGIN}"), 400, "invalid_message"),
        (request("POST /process", f"Origin: {ORIGIN}", "Transfer-Encoding: chunked") + b"2\r\n{}}\r\n", 400,
         "invalid_message"),
        (request("POST /process", f"Origin: {ORIGIN}", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400,
         "invalid_message"),
        (upgrade_request("/ws", f"Origin: {ORIGIN}", "Content-Length: 20") + frame(b'{"type":"ping"}')[:20], 400,
         "invalid_message"),
    ],
    ids=["431", "501", "505", "400", "chunk", "both lengths", "handshake with body"],
)  # fmt: skip
def test_refusal_says_why_to_an_allowed_page(server, sent, status, reason):
    """In the usual JSON, with the headers that let the page read it and keep others from embedding it."""
    check_refusal(talk(server, sent), status, reason)


@pytest.mark.parametrize(
    "sent",
    [
        request("GET /status", f"Origin: {ORIGIN}")[:-4],
        request("POST /process", f"Origin: {ORIGIN}", "Content-Length: 9") + b"{",
    ],
    ids=["head", "body"],
)
def test_request_that_stalls_is_told_so_to_an_allowed_page(impatient, sent):
    """In the same way."""
    answers = []
    # If this process had to wait before it sent a byte, the connection has ended without an answer.
    wait_until(lambda: answers.append(talk(impatient, sent)) or answers[-1])
    check_refusal(answers[-1], 408, "invalid_message")


def check_refusal(answer, status, reason):
    got, headers, body = head_and_json(answer)
    assert (got, body["reason"], body["code"]) == (status, reason, 1002)
    assert body["detail"].endswith(".")
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["connection"] == "close"


def test_refusal_does_not_let_another_page_read_it(server):
    """Only the listed origins may."""
    sent = request("GET /status", "Origin: http://evil.example", "X: " + "x" * 40_000)
    status, headers, _ = head_and_json(talk(server, sent))
    assert status == 431
    assert "access-control-allow-origin" not in headers
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/upload", "/process"])
def test_announced_body_over_the_limit_is_413_without_continue(server, path):
    """A client that asks first never sends it."""
    kind = "Content-Type: multipart/form-data; boundary=B"
    sent = request(
        f"POST {path}", kind, "Expect: 100-continue", "Content-Length: 99000000000", "Connection: close"
    )
    assert talk(server, sent).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/upload", "/process"])
def test_compressed_body_is_415_with_words(http, path):
    """It is not taken for a broken one."""
    response = http.post(path, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (response.status_code, response.json()["reason"]) == (415, "unsupported_format")
    assert "gzip" in response.json()["detail"]


def test_refused_request_leaves_its_reason_in_the_log(server, http):
    """Whatever refuses it: here a limit, elsewhere a token or an origin."""
    response = http.post("/process", content=b" " * 2**16)
    assert response.status_code == 413

    def whys():
        lines = [
            json.loads(line) for line in server.log.read_text().splitlines(keepends=True) if line[-1] == "\n"
        ]
        return [line["why"] for line in lines if line["event"] == "refused" and line["status"] == 413]

    wait_until(whys)
    assert all(whys())


# --- requests that are served ----------------------------------------------------------------------------


def test_target_in_absolute_form_is_served(server):
    """As a proxy sends it."""
    assert talk(server, request("GET http://x/healthz", "Connection: close")).startswith(b"HTTP/1.1 200")
    with server.raw() as connection:
        connection.sendall(upgrade_request(f"http://127.0.0.1:{server.port}/ws"))
        assert connection.recv(12) == b"HTTP/1.1 101"


def test_empty_lines_before_a_request_are_ignored(server):
    """Some clients send one behind a body (RFC 9112 section 2.2)."""
    assert talk(server, b"\r\n\r\n", request("GET /healthz", "Connection: close")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/upload/", "/status/", "/columns", "/static"])
def test_path_with_another_slash_is_not_redirected(http, path):
    """The redirect would lead to http:// behind a proxy that terminates TLS."""
    response = http.get(path)
    assert (response.status_code, response.json()["reason"]) == (404, "invalid_message")


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (request("GET /download/a.csv"), b"bill_length_mm"),
        (request("GET /download/a.csv").replace(b"/1.1", b"/1.0"), b"bill_length_mm"),
        (request("POST /process", body=b'{"filename": "a.csv", "selectedColumns": [0]}'), b"output_data"),
        (request("POST /upload", "Content-Type: multipart/form-data; boundary=B", body=FORM % (b"half.csv", b"a\n")),
         b"half.csv"),
    ],
    ids=["download", "download 1.0", "process", "upload"],
)  # fmt: skip
def test_half_closed_client_gets_its_answer(server, sent, found):
    """It closes its sending side behind the request (RFC 9112 section 9.6)."""
    answer = talk(server, sent, half_close=True).replace(CONTINUE, b"")  # which is sent if it takes long
    assert answer.split()[1] == b"200"
    assert found in answer


def test_half_closed_client_waits_and_one_that_disconnects_stops_its_job(server, http):
    """Both look the same until the server sends something: an informational response."""
    body = json.dumps({"filename": "a.csv", "selectedColumns": [0, 1]}).encode()
    with server.frozen(), server.raw() as connection:
        connection.sendall(request("POST /process", "Connection: close", body=body))
        connection.shutdown(socket.SHUT_WR)
        wait_until(lambda: http.get("/status").json()["jobs"]["running"] == 1)
        assert connection.recv(len(CONTINUE)) == CONTINUE
        assert http.get("/status").json()["jobs"]["running"] == 1
        connection.close()
        wait_until(
            lambda: http.get("/status").json()["jobs"].items() >= {"cancelled": 1, "running": 0}.items()
        )


# --- uploads ---------------------------------------------------------------------------------------------


def test_several_files_of_a_form_are_all_stored(server, http):
    """The answer names the first one as before, and all of them."""
    files = [
        ("file", ("one.csv", b"a\n1\n")),
        ("file", ("two.csv", b"b\n2\n")),
        ("other", ("three.csv", b"c\n")),
    ]
    answer = http.post("/upload", files=files)
    assert answer.json() == {"filename": "one.csv", "filenames": ["one.csv", "two.csv"]}
    assert http.get("/columns/two.csv").json() == ["b"]
    assert not (server.data_dir / "uploads" / "three.csv").exists()


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([("first.csv", b"a\n"), ("../..", b"b\n")], 400),
        ([("first.csv", b"a\n"), ("first.csv", b"b\n")], 400),
        ([("first.csv", b"a\n"), ("second.csv", bytes(1_000_001))], 413),
        ([("first.csv", b"a\n"), *((f"{number}.csv", b"a\n") for number in range(20))], 400),
    ],
    ids=["name", "twice", "too large", "too many"],
)  # fmt: skip
def test_none_of_the_files_is_stored_if_one_is_refused(server, http, files, status):
    """A form is stored as a whole, or not at all."""
    try:
        assert http.post("/upload", files=[("file", file) for file in files]).status_code == status
    except httpx.TransportError:  # httpx does not look for a response while it sends
        assert status == 413
    wait_until(lambda: list((server.data_dir / "parts").iterdir()) == [])
    assert not (server.data_dir / "uploads" / "first.csv").exists()


@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_name_in_another_spelling_is_the_same_file(server, http, stored, asked):
    """macOS sends decomposed names; over a WebSocket and over HTTP (unicode.org/reports/tr15)."""
    stored, asked = (unicodedata.normalize(form, f"Übersicht {stored}.csv") for form in (stored, asked))
    shown = unicodedata.normalize("NFC", stored)
    assert http.post("/upload", files={"file": (stored, b"a\n1\n")}).json() == {"filename": shown}
    assert http.get(f"/columns/{quote(asked)}").json() == ["a"]
    with server.connect() as client:
        assert client.upload(asked, b"a\n2\n", overwrite=True)["filename"] == shown
        assert client.run(filename=stored, selectedColumns=[0])["type"] == "result"
        names = [file["filename"] for file in client.ask({"type": "files", "id": "f"})["files"]]
        assert names.count(shown) == 1
    answer = http.get(f"/download/{quote(stored)}")
    assert answer.content == b"a\n2\n"
    assert quote(shown) in answer.headers["content-disposition"]


# --- downloads -------------------------------------------------------------------------------------------


def test_download_is_validated_and_a_replaced_file_is_sent_again(server, http):
    """A browser may keep a file, but asks each time; a resumed download never mixes two versions."""
    http.post("/upload", files={"file": ("cached.csv", b"a\n1\n")})
    first = http.get("/download/cached.csv")
    assert first.headers["cache-control"] == "private, no-cache"
    tag, modified = first.headers["etag"], first.headers["last-modified"]
    assert tag[0] == tag[-1] == '"'
    for condition in ({"if-none-match": tag}, {"if-modified-since": modified}):
        same = http.get("/download/cached.csv", headers=condition)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        assert same.headers["cache-control"] == "private, no-cache"
    assert http.head("/download/cached.csv", headers={"if-none-match": tag}).status_code == 304
    assert http.get("/download/cached.csv", headers={"if-match": tag}).status_code == 200
    resumed = {"range": "bytes=2-", "if-range": tag}
    part = http.get("/download/cached.csv", headers=resumed)
    assert (part.status_code, part.content) == (206, b"1\n")

    http.post("/upload", files={"file": ("cached.csv", b"a\n2\n")})
    again = http.get("/download/cached.csv", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (200, b"a\n2\n")
    failed = http.get("/download/cached.csv", headers={"if-match": tag})
    assert (failed.status_code, failed.json()["code"]) == (412, 1002)
    whole = http.get("/download/cached.csv", headers=resumed)
    assert (whole.status_code, whole.content) == (200, b"a\n2\n")


@pytest.mark.parametrize("wanted", ["bytes=abc", "items=0-5", "bytes=9-2"])
def test_range_that_makes_no_sense_is_ignored(http, wanted):
    """The whole file is sent (RFC 9110 section 14.2)."""
    response = http.get("/download/a.csv", headers={"range": wanted})
    assert (response.status_code, response.content) == (200, http.get("/download/a.csv").content)


def test_range_beyond_the_end_says_how_long_the_file_is(http):
    """In the usual JSON and in its header."""
    size = len(http.get("/download/a.csv").content)
    response = http.get("/download/a.csv", headers={"range": f"bytes={size}-"})
    assert (response.status_code, response.json()["reason"]) == (416, "offset_mismatch")
    assert response.headers["content-range"] == f"bytes */{size}"


def test_several_ranges_are_sent_as_multipart(http):
    """With the length that was announced."""
    whole = http.get("/download/a.csv").content
    response = http.get("/download/a.csv", headers={"range": "bytes=-3,0-4"})
    kind, _, boundary = response.headers["content-type"].partition("; boundary=")
    assert (response.status_code, kind) == (206, "multipart/byteranges")
    _, first, second, end = response.content.split(f"--{boundary}".encode())
    assert first.endswith(b"\r\n\r\n" + whole[:5] + b"\r\n")
    assert second.endswith(b"\r\n\r\n" + whole[-3:] + b"\r\n")
    assert end == b"--\r\n"


@pytest.mark.parametrize("path", ["/", "/static/creemson.js"])
def test_file_of_the_page_is_validated(http, path):
    """A browser asks each time, and gets it only if it has changed."""
    tag = http.get(path).headers["etag"]
    assert http.get(path).headers["cache-control"] == "no-cache"
    assert http.get(path, headers={"if-none-match": tag}).status_code == 304
    assert http.get(path, headers={"if-none-match": '"other"'}).status_code == 200


# --- pages of other sites --------------------------------------------------------------------------------


def fetch(site, mode="no-cors", dest="empty", **headers):
    return {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest, **headers}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/columns/a.csv", fetch("cross-site"), 403),
        ("/columns/a.csv", fetch("same-site"), 403),
        ("/download/a.csv", fetch("cross-site", "navigate", "document"), 403),
        ("/download/a.csv", fetch("cross-site", "navigate", "iframe"), 403),
        ("/", fetch("cross-site", "navigate", "iframe"), 403),
        ("/", fetch("cross-site", "no-cors", "document"), 403),
        ("/static/style.css", fetch("cross-site", "no-cors", "style"), 403),
        ("/columns/a.csv", fetch("cross-site", "cors", origin="http://evil.example"), 403),
        ("/columns/a.csv", fetch("cross-site", referer="http://evil.example/x"), 403),
        ("/", fetch("cross-site", "navigate", "document"), 200),
        ("/columns/a.csv", fetch("same-origin"), 200),
        ("/download/a.csv", fetch("none", "navigate", "document"), 200),
        ("/columns/a.csv", fetch("same-site", "cors", origin=ORIGIN), 200),
        ("/download/a.csv", fetch("same-site", "navigate", "document", referer=f"{ORIGIN}/page"), 200),
    ],
)
def test_page_of_another_site_learns_nothing(http, path, headers, status):
    """Neither from a status nor from a duration: only links to the page work, and pages of allowed origins."""
    response = http.get(path, headers=headers)
    assert response.status_code == status
    listed = ORIGIN in (headers.get("origin") or headers.get("referer", ""))
    assert response.headers["cross-origin-resource-policy"] == ("cross-origin" if listed else "same-origin")
    if status == 403:
        assert "server.allowed_origins" in response.json()["detail"]


# --- foreign clients -------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    ("name", "saved"),
    [("größe.csv", "grosse.csv"), ("日本.csv", "download.csv"), ("a%22b c.csv", "a_22b c.csv")],
)
def test_curl_saves_a_download_under_a_sensible_name(server, tmp_path, name, saved):
    """It does not know `filename*`."""
    server.put(name)
    url = f"{server.base}/download/{quote(name)}"
    subprocess.run(["curl", "-sSOJ", url], cwd=tmp_path, check=True)
    assert [path.name for path in tmp_path.iterdir()] == [saved]
    assert quote(name, safe="") in httpx.get(url).headers["content-disposition"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_uploads_two_files_with_odd_names(server, tmp_path):
    """It escapes or encodes what a quoted string cannot contain."""
    for name in ("a;b=c.csv", "größe 2.csv"):
        (tmp_path / name).write_bytes(b"a\n1\n")
    forms = [option for path in sorted(tmp_path.iterdir()) for option in ("-F", f'file=@"{path}"')]
    ran = subprocess.run(["curl", "-sS", *forms, f"{server.base}/upload"], capture_output=True, check=True)
    assert json.loads(ran.stdout)["filenames"] == ["a;b=c.csv", "größe 2.csv"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_413_before_it_sends_a_large_file(server, tmp_path):
    """It asks with Expect: 100-continue."""
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(3_000_000))
    ran = subprocess.run(
        ["curl", "-sS", "-w", "%{http_code} %{size_upload}", "-H", "Expect: 100-continue", "--expect100-timeout", "60",
         "-F", f"file=@{large}", f"{server.base}/upload"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.endswith("413 0"), ran
