"""Decides by the head of an HTTP request whether to refuse it, and whether it asks for a WebSocket. Sans-IO."""

import re
from typing import NamedTuple

import h11

__all__ = [
    "HEAD_TOO_LARGE",
    "MAX_HEAD_BYTES",
    "Fault",
    "fault_of",
    "head_bytes",
    "in_origin_form",
    "origin_in",
    "origin_of",
    "wants_websocket",
]

MAX_HEAD_BYTES = 32 * 1024
"""Maximum bytes of a request's first line and headers."""
HEAD_TOO_LARGE = (
    f"The head of the request has more than {MAX_HEAD_BYTES:,} bytes. Send fewer or shorter headers."
)
"""Text for people."""
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
"""A target in absolute form: authority, and the rest."""
_ORIGIN = re.compile(rb"^origin:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Fault(NamedTuple):
    """Why a request is refused before any app sees it: an HTTP status, and text for people."""

    status: int
    why: str


def fault_of(request: h11.Request) -> Fault | None:
    """Return why a request is refused before any app sees it; None if it is accepted."""
    names = [name for name, _ in request.headers]
    if len(head_bytes(request)) > MAX_HEAD_BYTES:  # h11 limits only incomplete heads
        return Fault(431, HEAD_TOO_LARGE)
    if not request.http_version.startswith(b"1."):  # HTTP/2 with prior knowledge (RFC 9113 section 3.3)
        return Fault(505, "This server speaks HTTP/1.1 only.")
    if request.method == b"CONNECT":  # for proxies (RFC 9110 section 9.3.6)
        return Fault(501, "This server is not a proxy: it does not support CONNECT.")
    # Methods are case-sensitive (section 9.1) for h11, but upper case in ASGI: to "head", the app would send no body,
    # but h11 would wait for one.
    if request.method != b"HEAD" and request.method.upper() == b"HEAD":
        return Fault(501, "Methods are written in upper case: use HEAD.")
    # A proxy in front may find another end of such a body, so that a second request is smuggled in it (RFC 9112
    # sections 6.1 and 6.3).
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            return Fault(400, "A request has either Transfer-Encoding or Content-Length, not both.")
        if request.http_version == b"1.0":
            return Fault(400, "HTTP/1.0 has no Transfer-Encoding: send a Content-Length, or use HTTP/1.1.")
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute and (not absolute[1] or b"@" in absolute[1]):  # RFC 9110 sections 4.2.1 and 4.2.4
        return Fault(400, "The target of the request needs a host, and must not have a user name.")
    length = next((value for name, value in request.headers if name == b"content-length"), b"0")
    if (b"transfer-encoding" in names or int(length)) and wants_websocket(request):
        # Its bytes would be read as frames.
        return Fault(400, "The handshake of a WebSocket has no body.")
    return None


def in_origin_form(request: h11.Request) -> h11.Request:
    """Return a request without a host in its target; that host replaces the `Host` header (RFC 9112 section 3.2.2)."""
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute is None:
        return request
    host, rest = absolute.groups()
    headers = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"host"]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=[(b"Host", host), *headers],
        http_version=request.http_version,
    )


def origin_of(request: h11.Request) -> str | None:
    """Return the origin of the page that sent a request, if a page did."""
    return next((value.decode("latin-1") for name, value in request.headers if name == b"origin"), None)


def origin_in(head: bytes) -> str | None:
    r"""Do the same for a head that is incomplete or cannot be parsed.

    >>> origin_in(b"GET / HTTP/1.1\r\nORIGIN: http://a.example \r\nHo")
    'http://a.example'
    """
    found = _ORIGIN.search(head)
    return found[1].decode("latin-1").strip() if found else None


def wants_websocket(request: h11.Request) -> bool:
    """Return whether a request asks to upgrade to a WebSocket; any other upgrade may be ignored."""

    def tokens(header: bytes) -> set[bytes]:
        values = b",".join(value for name, value in request.headers if name == header)
        return {token.strip() for token in values.lower().split(b",")}

    return (
        request.method == b"GET"
        and request.http_version != b"1.0"
        and b"upgrade" in tokens(b"connection")
        and b"websocket" in tokens(b"upgrade")
    )


def head_bytes(request: h11.Request) -> bytes:
    """Return the bytes of the head of a request, with the names of its headers as they were received."""
    lines = [b"%b %b HTTP/%b" % (request.method, request.target, request.http_version)]
    lines += [b"%b: %b" % header for header in request.headers.raw_items()]
    return b"\r\n".join([*lines, b"", b""])
