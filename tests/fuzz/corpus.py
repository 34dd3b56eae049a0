"""Valid inputs to mutate: messages from the strategies, HTTP requests from a list."""

import hypothesis
from hypothesis import Phase, given

from creemson.wire import codec
from creemson.wire.messages import CLIENT_TYPES, LegacyRequest
from tests import strategies
from tests.servers import upgrade_request

MESSAGES_PER_CLASS = 40
REAL = "example.csv"
NAMES = [
    REAL,
    "none.csv",
    "a",
    "b.parquet",
    "ü.csv",
    "x.xlsx",
    ".hidden",
    "../x",
    "con",
    "C:x",
    "a/b",
    "",
    "a\0b",
    "x" * 256,
    "a.",
]
"""One file that exists, names of missing files, and invalid names."""
UPLOAD_PREFIX = "passing-"
"""Prefix of the names of uploaded files, which are removed again."""


def messages(seed):
    """Return the JSON of valid messages of every class, by the name of the class."""
    return {kind.__name__: _of(kind, seed) for kind in (*CLIENT_TYPES.values(), LegacyRequest)}


def _of(kind, seed):
    found = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=MESSAGES_PER_CLASS,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @given(strategies.instances(kind))
    def collect(message):
        found.append(codec.encode(message).encode())

    collect()
    return found


FORM = (
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="form.csv"\r\n'
    b"Content-Type: text/csv\r\n\r\na,b\n1,2\n\r\n--B--\r\n"
)
_JSON = b'{"filename": "example.csv", "selectedColumns": [0, "species"]}'
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
CLIENT_HELLO = bytes.fromhex(
    "16030100c6010000c203034b3f6c1b3f9a6a5b2e1f0d8c7b6a59483726150413"
    "00020304050607080920aabbccddeeff00112233445566778899"
)


def _post(path, body, *headers, length=True):
    lines = [f"POST {path} HTTP/1.1", "Host: test", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _get(path, *headers, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


REQUESTS = [
    upgrade_request(),
    upgrade_request("/ws?x=1"),
    upgrade_request("/ws", "Sec-WebSocket-Protocol: creemson.v1, other"),
    upgrade_request("/ws", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    upgrade_request("/ws", "Origin: http://test"),
    upgrade_request("/elsewhere"),
    _get("/"),
    _get("/", "Accept-Encoding: gzip", "If-None-Match: x"),
    _get("/status", method="HEAD"),
    _get("/status"),
    _get("/healthz", "Connection: close"),
    _get("/metrics"),
    _get("/columns/example.csv"),
    _get("/columns/..%2f..%2fetc%2fpasswd"),
    _get("/download/example.csv", "Range: bytes=0-9,20-29"),
    _get("/download/example.csv", "Range: bytes=-5", "If-Range: x"),
    _get("/download/nothing.csv"),
    _get("/static/../../../etc/passwd"),
    _get("/status", "Origin: http://test", "Access-Control-Request-Method: POST", method="OPTIONS"),
    _post("/process", _JSON, "Content-Type: application/json"),
    _post(
        "/process", b"%x\r\n%b\r\n0\r\n\r\n" % (len(_JSON), _JSON), "Transfer-Encoding: chunked", length=False
    ),
    _post("/upload", FORM, "Content-Type: multipart/form-data; boundary=B"),
    _post(
        "/upload",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(FORM), FORM),
        "Content-Type: multipart/form-data; boundary=B",
        "Transfer-Encoding: chunked",
        length=False,
    ),
    PREFACE,
    CLIENT_HELLO,
]
