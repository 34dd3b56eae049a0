"""A trio client for one connection.

::

    async with connect("ws://127.0.0.1:8000/ws") as client:
        await client.upload(Path("flights.csv"))
        data = await client.process(Query(filename="flights.csv", selectedColumns=("carrier", 5)))
"""

import contextlib
import hashlib
import itertools
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from creemson.errors import ConnectionLost, ProcessingError, error_for
from creemson.wire import codec, messages
from creemson.wire.messages import ClientMessage, Query, ResultData, ServerMessage

__all__ = ["Client", "connect"]

RECEIVE_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Of what a server may send: the profile of thousands of columns is large."""
HANDSHAKE_TIMEOUT = 10.0
DEFAULT_PORTS = {"ws": 80, "wss": 443}
CLOSE_TIMEOUT = 2.0

Answer = TypeVar("Answer")
Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Answers: TypeAlias = trio.MemoryReceiveChannel[ServerMessage | bytes]


@asynccontextmanager
async def connect(url: str, *, token: str | None = None) -> AsyncIterator["Client"]:
    """Open a connection and say hello; it is closed on leaving.

    Args:
        url: ``ws://HOST:PORT/ws``.
        token: proves who asks, where the server wants to know.

    Yields:
        The client.

    Raises:
        ConnectionLost: there is no server at ``url``, or it went away.
    """
    failure: Exception | None = None
    async with await _reach(url) as stream:
        try:
            async with trio.open_nursery() as nursery:
                # An exception that left the nursery would leave it wrapped in a group.
                try:
                    client = Client(await _shake_hands(nursery, stream, url))
                    nursery.start_soon(client._route)
                    try:
                        await client.hello(token)
                        yield client
                    finally:
                        await client._close()
                except Exception as error:
                    failure = error
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:  # of trio-websocket's reader: the handshake was refused
            failure = failure or _nobody(url, group.exceptions[0])
    if failure is not None:
        raise failure


async def _reach(url: str) -> Stream:
    """A byte stream to the server. It is ours to close: a WebSocket that its peer has closed leaves it open."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or parts.hostname is None:
        raise _nobody(url, ValueError("an address looks like ws://HOST:PORT/ws"))
    try:
        open_stream = trio.open_ssl_over_tcp_stream if parts.scheme == "wss" else trio.open_tcp_stream
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            return await open_stream(parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme])
    except (OSError, trio.TooSlowError, ValueError) as error:
        raise _nobody(url, error) from error


async def _shake_hands(nursery: trio.Nursery, stream: Stream, url: str) -> WebSocketConnection:
    parts = urlsplit(url)
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            return await wrap_client_stream(
                nursery,
                stream,
                parts.netloc,
                parts.path or "/",
                subprotocols=[messages.SUBPROTOCOL],
                max_message_size=MAX_MESSAGE_BYTES,
                receive_buffer_size=RECEIVE_BYTES,
            )
    except (HandshakeError, ConnectionClosed, trio.TooSlowError) as error:
        raise _nobody(url, error) from error


def _nobody(url: str, error: Exception) -> ConnectionLost:
    why = str(error) or type(error).__name__
    return ConnectionLost("connection_lost", f"There is no Creemson server at {url} ({why}). Is it running?")


class Client:
    """One connection to a server; made by :func:`connect`."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._ids = map(str, itertools.count(1))
        self._waiting: dict[str, trio.MemorySendChannel[ServerMessage | bytes]] = {}
        self._download: str | None = None  # id of the request whose bytes are coming
        self.welcome: messages.Welcome | None = None

    # --- requests ------------------------------------------------------------------------------------

    async def hello(self, token: str | None = None) -> messages.Welcome:
        """Introduce this client and learn the server's limits.

        Raises:
            CreemsonError: the server refuses.
        """
        hello = messages.Hello(id=self._new_id(), version=messages.PROTOCOL_VERSION, token=token)
        self.welcome = await self._ask(hello, messages.Welcome)
        return self.welcome

    async def process(
        self,
        query: Query,
        *,
        on_accepted: Callable[[str], None] | None = None,
        on_progress: Callable[[messages.Progress], None] | None = None,
    ) -> ResultData:
        """Have a query run, and wait for its result.

        Args:
            query: what to do with which file of the server's.
            on_accepted: is told the job.
            on_progress: is told how far it is.

        Returns:
            The result.

        Raises:
            CreemsonError: with the server's reason.
        """
        request = messages.Process(id=self._new_id(), **attrs.asdict(query, recurse=False))
        async with self._answers(request) as answers:
            async for answer in answers:
                _raise_error(answer)
                match answer:
                    case messages.Accepted() if on_accepted is not None:
                        on_accepted(answer.job)
                    case messages.Progress() if on_progress is not None:
                        on_progress(answer)
                    case messages.Result():
                        return answer.data
                    case _:
                        pass
        raise _lost()

    async def cancel(self, job: str) -> None:
        """Stop a job.

        Raises:
            ProcessingError: ``job_not_found``.
        """
        await self._ask(messages.Cancel(id=self._new_id(), job=job), messages.Cancelled)

    async def columns(self, filename: str) -> tuple[messages.Column, ...]:
        """The columns of a file of the server's.

        Raises:
            CreemsonError: with the server's reason.
        """
        request = messages.ListColumns(id=self._new_id(), filename=filename)
        return (await self._ask(request, messages.Columns)).columns

    async def files(self) -> tuple[messages.FileInfo, ...]:
        """The files that have been uploaded.

        Raises:
            CreemsonError: with the server's reason.
        """
        return (await self._ask(messages.ListFiles(id=self._new_id()), messages.Files)).files

    async def delete(self, filename: str) -> None:
        """Remove a file of the server's.

        Raises:
            CreemsonError: with the server's reason.
        """
        await self._ask(messages.Delete(id=self._new_id(), filename=filename), messages.Deleted)

    async def rows(self, filename: str, *, offset: int = 0, limit: int = 100) -> messages.Rows:
        """Some rows of a file of the server's.

        Args:
            filename: an output or an uploaded file.
            offset: rows before the first one.
            limit: rows at the most; the server gives 1,000 at once.

        Raises:
            CreemsonError: with the server's reason.
        """
        request = messages.ReadRows(id=self._new_id(), filename=filename, offset=offset, limit=limit)
        return await self._ask(request, messages.Rows)

    async def upload(
        self,
        path: Path,
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> messages.Uploaded:
        """Send a file, or what the server does not have of it yet.

        Args:
            path: of the file here.
            name: for it on the server; None takes its own.
            overwrite: whether it may replace a file of that name.
            on_progress: is told the bytes that the server has or was sent, and the size; at first, where it begins.

        Returns:
            What the server has: size, digest, columns.

        Raises:
            OSError: the file cannot be read.
            CreemsonError: with the server's reason.
        """
        stream = await trio.to_thread.run_sync(path.open, "rb")
        with stream:
            size = os.fstat(stream.fileno()).st_size
            # With the digest, the server goes on with what it has of the same content, and of no other.
            digest = await trio.to_thread.run_sync(hashlib.file_digest, stream, "sha256")
            request = messages.Upload(
                id=self._new_id(),
                filename=name or path.name,
                size=size,
                sha256=digest.hexdigest(),
                overwrite=overwrite,
            )
            chunk = self.welcome.limits.chunk_bytes if self.welcome else 2**20
            async with self._answers(request) as answers:
                sent = (await _expect(answers, messages.UploadReady)).offset
                stream.seek(sent)
                if on_progress is not None:
                    on_progress(sent, size)
                while sent < size:
                    data = await trio.to_thread.run_sync(stream.read, min(chunk, size - sent))
                    if not data:
                        raise ProcessingError("unreadable_file", f"{path.name!r} shrank while it was sent.")
                    await self._send(data)
                    sent += len(data)
                    if on_progress is not None:
                        on_progress(sent, size)
                    _check(answers)
                return await _expect(answers, messages.Uploaded)

    async def download(
        self, filename: str, target: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> messages.Downloaded:
        """Fetch a file; it appears under ``target`` when it is complete, and its digest right.

        Args:
            filename: an uploaded file or an output.
            target: path of the file to write here.
            on_progress: is told the bytes received, and the size.

        Returns:
            Size and digest.

        Raises:
            OSError: the file cannot be written.
            CreemsonError: with the server's reason.
        """
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as stream:
                done = await self._download_to(stream.write, filename, on_progress)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return done

    async def _download_to(
        self,
        write: Callable[[bytes], object],
        filename: str,
        on_progress: Callable[[int, int], None] | None,
    ) -> messages.Downloaded:
        request = messages.Download(id=self._new_id(), filename=filename)
        digest = hashlib.sha256()
        # Little buffer: a disk that is slow here makes the server wait.
        async with self._answers(request, buffer=1) as answers:
            self._download = request.id
            try:
                size = (await _expect(answers, messages.DownloadStarted)).size
                received = 0
                async for answer in answers:
                    _raise_error(answer)
                    if isinstance(answer, messages.Downloaded):
                        break
                    if isinstance(answer, bytes):
                        digest.update(answer)
                        await trio.to_thread.run_sync(write, answer)
                        received += len(answer)
                        if on_progress is not None:
                            on_progress(received, size)
                else:
                    raise _lost()
            finally:
                self._download = None
        if answer.sha256 != digest.hexdigest():
            raise ProcessingError("checksum_mismatch", f"The bytes of {filename!r} came damaged. Try again.")
        return answer

    # --- the way of the messages ---------------------------------------------------------------------

    def _new_id(self) -> str:
        return next(self._ids)

    async def _ask(self, request: ClientMessage, answer: type[Answer]) -> Answer:
        async with self._answers(request) as answers:
            return await _expect(answers, answer)

    @asynccontextmanager
    async def _answers(self, request: ClientMessage, *, buffer: float = math.inf) -> AsyncIterator[Answers]:
        """Send a request; its answers come through the channel."""
        assert request.id is not None
        send, receive = trio.open_memory_channel[ServerMessage | bytes](buffer)
        self._waiting[request.id] = send
        try:
            await self._send(codec.encode(request))
            with receive:
                yield receive
        finally:
            del self._waiting[request.id]

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send_message(message)
        except ConnectionClosed:
            raise _lost() from None

    async def _route(self) -> None:
        """Bring each message to the request that waits for it."""
        try:
            while True:
                message = await self._socket.get_message()
                if isinstance(message, bytes):
                    await self._deliver(self._download, message)
                    continue
                try:
                    answer = codec.decode_answer(message)
                except codec.Rejected as rejected:
                    if rejected.error.reason != "unknown_type":  # a newer server may say more than we know
                        break
                else:
                    await self._deliver(answer.id, answer)
        except ConnectionClosed:
            pass
        for waiting in self._waiting.values():
            waiting.close()
        await self._close()

    async def _deliver(self, request: str | None, message: ServerMessage | bytes) -> None:
        """Hand it to who waits for it; what nobody waits for any more is dropped."""
        waiting = self._waiting.get(request) if request is not None else None
        if waiting is not None:
            with contextlib.suppress(trio.BrokenResourceError):
                await waiting.send(message)

    async def _close(self) -> None:
        # Not shielded: who cancels does not want to wait; the stream is closed in any case.
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._socket.aclose()


def _lost() -> ConnectionLost:
    return ConnectionLost("connection_lost", "The connection to the server was lost.")


def _raise_error(message: ServerMessage | bytes) -> None:
    if isinstance(message, messages.Error):
        raise error_for(
            message.reason, message.message, details=message.details, retry_after=message.retry_after
        )


async def _expect(answers: Answers, kind: type[Answer]) -> Answer:
    """The next answer of this kind; what comes before it is news of the way there."""
    async for answer in answers:
        _raise_error(answer)
        if isinstance(answer, kind):
            return answer
    raise _lost()


def _check(answers: Answers) -> None:
    """Look whether an error has come in the meantime."""
    try:
        while True:
            _raise_error(answers.receive_nowait())
    except trio.WouldBlock:
        pass
    except trio.EndOfChannel:
        raise _lost() from None
