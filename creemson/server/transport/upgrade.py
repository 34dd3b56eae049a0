"""The upgrade of an HTTP connection to a WebSocket (RFC 6455 section 4.2), without parsing the request twice. Sans-IO.

wsproto takes the bytes of a request, which it lets h11 parse once more. Here, a parsed request that is valid is read
and accepted directly. wsproto answers all others, and refuses those that are not welcome.

A test compares both: what they read in a request, and the bytes of the response.
"""

from collections.abc import Sequence
from typing import NamedTuple

import h11
from wsproto.events import Request
from wsproto.utilities import generate_accept_token, normed_header_dict, split_comma_header

from creemson.server.transport.request_head import head_bytes

__all__ = ["Upgrade", "acceptance", "read_upgrade"]

NOT_COPIED = frozenset({b"host", b"sec-websocket-extensions", b"sec-websocket-protocol"})
"""Headers that have fields of their own in wsproto's event."""


class Upgrade(NamedTuple):
    """A parsed request for a WebSocket, and the bytes that arrived after it."""

    request: h11.Request
    rest: bytes

    @property
    def head(self) -> bytes:
        """The bytes of the request."""
        return head_bytes(self.request)


def read_upgrade(request: h11.Request) -> Request | None:
    """Return a valid request for a WebSocket as wsproto's event; None if wsproto must answer it."""
    last = dict(request.headers)  # of several headers with one name, the last one counts for wsproto
    if (
        last.get(b"sec-websocket-version") != b"13"
        or b"sec-websocket-key" not in last
        or b"host" not in last
        or last.get(b"upgrade", b"").lower() != b"websocket"
    ):
        return None
    try:
        connection = split_comma_header(last.get(b"connection", b"").lower())
        if "upgrade" not in connection:
            return None
        return Request(
            host=last[b"host"].decode("idna"),
            target=request.target.decode("ascii"),
            extensions=_listed(request, b"sec-websocket-extensions"),
            extra_headers=[header for header in request.headers if header[0] not in NOT_COPIED],
            subprotocols=_listed(request, b"sec-websocket-protocol"),
        )
    except UnicodeError:
        return None


def _listed(request: h11.Request, wanted: bytes) -> list[str]:
    """Return the values of a header that is a list and may be repeated."""
    return [token for name, value in request.headers if name == wanted for token in split_comma_header(value)]


def acceptance(event: Request, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the response that accepts a request.

    Args:
        event: what :func:`read_upgrade` returned.
        subprotocol: one of its subprotocols, or None.
        headers: additional headers.
    """
    key = normed_header_dict(event.extra_headers)[b"sec-websocket-key"]
    sent = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", generate_accept_token(key)),
    ]
    if subprotocol is not None:
        sent.append((b"Sec-WebSocket-Protocol", subprotocol.encode("ascii")))
    lines = [b"HTTP/1.1 101 Switching Protocols", *(b"%b: %b" % header for header in (*sent, *headers))]
    return b"\r\n".join([*lines, b"", b""])
