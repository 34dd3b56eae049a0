"""TLS for accepted connections: the certificate, which can be reloaded, and the encrypted stream."""

import contextlib
import ssl
from pathlib import Path

import trio

__all__ = ["Certificate", "TLSStream", "encrypt"]

TLS_RECORD = b"\x16"
"""First byte of every TLS connection: a handshake record (RFC 8446 section 5.1)."""
PLAIN_HINT = b"This port speaks TLS: use https:// or wss:// instead.\n"
PLAIN_RESPONSE = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(PLAIN_HINT), PLAIN_HINT)
)
"""Response to a peer that does not use TLS; without it, the peer would only see the connection end. It has a length,
because trio-websocket does not see the end of a response without one."""
CLOSE_TIMEOUT = 1.0
"""Maximum seconds to send the closing alert of TLS."""


class Certificate:
    """A certificate and its key, in files that are renewed from time to time.

    Args:
        chain: PEM file with the certificate and the intermediate certificates.
        key: PEM file with the private key.

    Attributes:
        context: the context for new connections.

    Raises:
        OSError: the files cannot be used; the message has their names and the reason.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again, for new connections.

        Raises:
            OSError: the files cannot be used; the previous certificate stays in use.
        """
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password, OpenSSL would ask for it on the terminal.
            context.load_cert_chain(self._chain, self._key, password="")
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise OSError(
                f"Cannot use the certificate {self._chain} with the key {self._key}: {why}. Both must be PEM files, "
                "the key without a passphrase."
            ) from error
        return context


class TLSStream(trio.abc.HalfCloseableStream):
    """An encrypted stream that can be half-closed.

    Args:
        stream: the TCP connection.
        context: the context with the certificate.

    Attributes:
        transport_stream: the TCP connection.
    """

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.transport_stream = stream
        self._tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        self._ended = False  # whether we have closed our side

    async def do_handshake(self) -> None:
        """Perform the TLS handshake.

        Raises:
            trio.BrokenResourceError: the peer disconnected, or the handshake failed.
        """
        await self._tls.do_handshake()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._tls.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See :class:`trio.abc.ReceiveStream`. After :meth:`send_eof`, returns bytes that are still encrypted."""
        if self._ended:
            return await self.transport_stream.receive_some(max_bytes)
        return await self._tls.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Send the closing alert (RFC 8446 section 6.1) and close our side; receiving stays possible."""
        # BusyResourceError: another task is receiving and continues; then only our side of the TCP connection ends.
        disconnected = contextlib.suppress(trio.BrokenResourceError, trio.BusyResourceError)
        with trio.move_on_after(CLOSE_TIMEOUT), disconnected:
            await self._tls.unwrap()
        self._ended = True
        await self.transport_stream.send_eof()

    async def aclose(self) -> None:
        """Close both directions, without waiting for a peer that does not read."""
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._tls.aclose()
        await self.transport_stream.aclose()


async def encrypt(stream: trio.SocketStream, context: ssl.SSLContext) -> TLSStream | None:
    """Encrypt a connection that has just been accepted.

    Args:
        stream: the TCP connection. The caller must close it.
        context: the context with the certificate.

    Returns:
        The encrypted stream; None if the peer has disconnected, or does not use TLS and has got an error response.

    Raises:
        trio.BrokenResourceError: the handshake failed; ``__cause__`` has the reason.
    """
    try:
        first = await stream.socket.recv(1, trio.socket.MSG_PEEK)
    except OSError:
        return None
    if first != TLS_RECORD:
        if first:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(PLAIN_RESPONSE)
                await stream.send_eof()
                # Closing with unread bytes would reset the connection, perhaps before the response is read.
                while await stream.receive_some():
                    pass
        return None
    encrypted = TLSStream(stream, context)
    await encrypted.do_handshake()
    return encrypted
