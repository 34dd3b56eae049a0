"""TLS on the listening socket: the certificate, which can be read anew, and the stream that a peer gets."""

import contextlib
import ssl
from pathlib import Path

import trio

__all__ = ["Certificate", "TLSStream", "secured"]

TLS_RECORD = b"\x16"
"""First byte of every TLS connection: a handshake record (RFC 8446 section 5.1)."""
PLAIN = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS: use https:// or wss:// instead.\n"
)
"""What somebody gets who does not speak TLS, and else would see a connection that just ends."""
FAREWELL = 1.0
"""Seconds in which a peer can take the end of the encryption."""


class Certificate:
    """A certificate and its key, as files that somebody renews now and then.

    Args:
        chain: PEM file with the certificate and those that lead to its authority.
        key: PEM file with the private key.

    Raises:
        OSError: they cannot be used; the message names them and says why.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = self._load()

    def reload(self) -> None:
        """Read the files anew, for the connections to come.

        Raises:
            OSError: they cannot be used; what was read before stays in use.
        """
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._chain, self._key, password="")
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise OSError(
                f"Cannot use the certificate {self._chain} with the key {self._key}: {why}. Both have to be PEM files, "
                "the key without a passphrase."
            ) from error
        return context


class TLSStream(trio.abc.HalfCloseableStream):
    """What a peer says and hears, encrypted on its way.

    Args:
        stream: the TCP connection.
        context: with the certificate.
    """

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.transport_stream = stream
        self._tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        self._ended = False

    async def do_handshake(self) -> None:
        """Agree on keys.

        Raises:
            trio.BrokenResourceError: the peer left, or wants something else.
        """
        await self._tls.do_handshake()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes: see trio."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio."""
        await self._tls.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive bytes: see trio. After our own end, what comes is worth nothing but its arrival."""
        if self._ended:
            return await self.transport_stream.receive_some(max_bytes)
        return await self._tls.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say that nothing more comes (RFC 8446 section 6.1), and go on receiving."""
        # Busy: somebody is receiving, and goes on with it; then, there is only the end of the TCP connection.
        gone = contextlib.suppress(trio.BrokenResourceError, trio.BusyResourceError)
        with trio.move_on_after(FAREWELL), gone:
            await self._tls.unwrap()
        self._ended = True
        await self.transport_stream.send_eof()

    async def aclose(self) -> None:
        """Close; a peer that does not read does not keep us."""
        with trio.move_on_after(FAREWELL):
            await self._tls.aclose()
        await self.transport_stream.aclose()


async def secured(stream: trio.SocketStream, context: ssl.SSLContext) -> TLSStream | None:
    """Encrypt a connection that has just been accepted.

    Args:
        stream: the TCP connection; it is not closed here.
        context: with the certificate.

    Returns:
        The encrypted stream; None if the peer does not speak TLS, and was told to, or has left.

    Raises:
        trio.BrokenResourceError: there was no agreement; its cause says why.
    """
    try:
        first = await stream.socket.recv(1, trio.socket.MSG_PEEK)
    except OSError:
        return None
    if first != TLS_RECORD:
        if first:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(PLAIN)
                await stream.send_eof()
                # Closing with unread bytes would reset the connection, perhaps before the answer is read.
                while await stream.receive_some():
                    pass
        return None
    encrypted = TLSStream(stream, context)
    await encrypted.do_handshake()
    return encrypted
