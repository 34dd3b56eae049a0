"""Opens a connection to a server: TCP, TLS and the WebSocket handshake."""

import ssl
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from creemson.errors import ConnectionLost, CreemsonError
from creemson.wire import messages

__all__ = ["Unreachable", "open_stream", "open_websocket", "unreachable_error", "websocket_url"]

SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
ENDPOINT = "/ws"
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""What OpenSSL says of a server that answers with something else than TLS."""
DEFAULT_PORTS = {"ws": 80, "wss": 443}
RECEIVE_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Maximum size of a message from the server; the profile of thousands of columns is large."""
MAX_REASON = 200
"""Maximum characters of a response that is quoted in an error."""
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of a refused handshake after which another attempt makes sense (RFC 9110 section 15)."""

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@attrs.frozen
class Unreachable(Exception):  # noqa: N818 - describes the server
    """No connection could be opened.

    Attributes:
        error: the error to raise for the caller.
        final: whether another attempt would fail in the same way.
        retry_after: seconds that the server asked the client to wait.
    """

    error: CreemsonError
    final: bool = False
    retry_after: float = 0.0


def websocket_url(url: str) -> str:
    """Return the address of a server's WebSocket. The address of its page is enough.

    >>> websocket_url("http://127.0.0.1:8000"), websocket_url("wss://example.org/tables/")
    ('ws://127.0.0.1:8000/ws', 'wss://example.org/tables/ws')
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # such as an unfinished IPv6 address; connecting reports it
        return url
    scheme, path = SCHEMES.get(parts.scheme), parts.path.rstrip("/")
    if scheme is None:
        return url
    if not path.endswith(ENDPOINT):
        path += ENDPOINT
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


async def open_stream(url: str, ssl_context: ssl.SSLContext | None = None) -> Stream:
    """Open a byte stream to the server.

    The caller must close it: a WebSocket that the server has closed leaves its stream open.

    Raises:
        Unreachable: no server accepts the connection, or the address is invalid.
    """
    parts = urlsplit(url)
    try:
        port, host = parts.port or DEFAULT_PORTS[parts.scheme], parts.hostname or ""
    except (KeyError, ValueError):
        port, host = 0, ""
    if not host:
        raise Unreachable(unreachable_error(url, "an address looks like http://HOST:PORT"), final=True)
    try:
        if parts.scheme == "wss":
            # A server that crashes does not close TLS properly; WebSocket itself marks the end of messages.
            encrypted = await trio.open_ssl_over_tcp_stream(
                host, port, ssl_context=ssl_context, https_compatible=True
            )
            try:
                await encrypted.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(encrypted)
                raise
            return encrypted
        return await trio.open_tcp_stream(host, port)
    except (OSError, ValueError) as error:  # ValueError: an invalid host name
        raise Unreachable(unreachable_error(url, error)) from error
    except trio.BrokenResourceError as error:  # the TLS handshake failed
        cause: Any = error.__cause__ or error
        is_untrusted = isinstance(cause, ssl.SSLCertVerificationError)
        raise Unreachable(unreachable_error(url, cause), final=is_untrusted) from error


async def open_websocket(nursery: trio.Nursery, stream: Stream, url: str) -> WebSocketConnection:
    """Perform the WebSocket handshake over a stream.

    Raises:
        Unreachable: the server refuses the handshake, or is not a WebSocket server.
    """
    parts = urlsplit(url)
    try:
        return await wrap_client_stream(
            nursery,
            stream,
            parts.netloc,
            parts.path or "/",
            subprotocols=[messages.SUBPROTOCOL],
            max_message_size=MAX_MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
    except ConnectionRejected as error:
        raise Unreachable(
            unreachable_error(url, error),
            final=error.status_code not in RETRYABLE_STATUSES,
            retry_after=_retry_after(error),
        ) from error
    except (HandshakeError, ConnectionClosed) as error:
        raise Unreachable(unreachable_error(url, error)) from error


def unreachable_error(url: str, reason: Exception | str) -> ConnectionLost:
    """Return the error for an address at which no server responds, or which has another certificate or scheme."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _untrusted_error(url, reason.verify_message)
    if isinstance(reason, ssl.SSLError) and reason.reason in NO_TLS:
        plain = url.replace("wss://", "ws://").replace("https://", "http://")
        return ConnectionLost(
            "connection_lost", f"The server at {url} does not use TLS. Its address is {plain} instead."
        )
    if isinstance(reason, ConnectionRejected):
        text = f"it responds with HTTP {reason.status_code}"
        body = (reason.body or b"").decode(errors="replace").strip().rstrip(".")
        if reason.status_code >= 400 and body.isprintable() and 0 < len(body) <= MAX_REASON:
            text += f": {body}"
        if reason.status_code < 400:
            text += " and no WebSocket; a proxy must pass on the header Upgrade"
    else:
        text = str(reason) or type(reason).__name__
    return ConnectionLost("connection_lost", f"There is no Creemson server at {url} ({text}). Is it running?")


def _untrusted_error(url: str, reason: str) -> ConnectionLost:
    """Return the error for a server whose certificate is not trusted."""
    return ConnectionLost(
        "connection_lost",
        f"The certificate of the server at {url} is not trusted ({reason}). If it is your own, set SSL_CERT_FILE "
        "to the file with it or with its authority.",
    )


def _retry_after(rejected: ConnectionRejected) -> float:
    """Return the seconds in ``Retry-After``; 0 if the header is absent or holds a date (RFC 9110 section 10.2.3)."""
    for name, value in rejected.headers or ():
        if name.lower() == b"retry-after" and value.isdigit():
            return float(value)
    return 0.0
