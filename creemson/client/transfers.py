"""Uploads and downloads that resume where they stopped after the connection was lost."""

import hashlib
import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs
import trio

from creemson.client.arguments import request_of
from creemson.client.connection import Connection, Disconnected
from creemson.client.local.output import Output
from creemson.client.local.source import Content, digest_of, open_source, read_some
from creemson.client.session import Session
from creemson.errors import CreemsonError, ProcessingError
from creemson.wire import messages

__all__ = ["Report", "Transfers", "ignore"]

Report = Callable[[int, int], object]
"""Callback for the progress: gets the bytes transferred so far, and the size of the file."""


class Transfers:
    """The uploads and downloads of one client: at most one of each at a time, others wait for their turn.

    Args:
        session: runs the requests.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._upload_lock = trio.Lock()
        self._download_lock = trio.Lock()

    async def upload(
        self, source: Path | Content, name: str, *, overwrite: bool, report: Report, accept_same: bool = False
    ) -> messages.Uploaded:
        """Upload a file; see :meth:`creemson.client.Client.upload`.

        Args:
            source: the local file, or content.
            name: name of the file on the server.
            overwrite: whether the upload may replace a file of that name.
            report: called with the progress.
            accept_same: whether to succeed if the server already has this content under this name.
        """
        announced = request_of(messages.Upload, id="upload", filename=name, size=0, overwrite=overwrite)
        all_sent = False  # once True, the server may have the whole file, even if its answer was lost

        def before_sending(total: int) -> None:
            nonlocal all_sent
            all_sent = all_sent or total == size

        stream, size = await _opened(source)
        with stream, _guarded(report) as tell:
            # The digest lets the server resume an unfinished upload if the content is the same.
            sha256 = await trio.to_thread.run_sync(digest_of, stream, size, name)

            async def attempt(connection: Connection) -> messages.Uploaded:
                request = attrs.evolve(
                    announced,
                    id=self._session.new_id(),
                    size=size,
                    sha256=sha256,
                    # Not the time of modification: a file that was only touched or copied has the same content.
                    fingerprint=f"sha256:{sha256}",
                )
                return await self._send(connection, request, stream, tell, before_sending)

            async with self._upload_lock:
                try:
                    return await self._session.persist(attempt)
                except ProcessingError as error:
                    # An earlier attempt of this very upload may have succeeded, and only its answer was lost.
                    if error.reason != "file_exists" or not (all_sent or accept_same):
                        raise
                    existing = await self._find_same(name, size, sha256)
                    if existing is None:
                        raise
                    tell(size, size)
                    return existing

    async def _send(
        self,
        connection: Connection,
        request: messages.Upload,
        stream: BinaryIO,
        report: Report,
        before_sending: Callable[[int], None],
    ) -> messages.Uploaded:
        assert self._session.welcome is not None
        chunk_bytes = self._session.welcome.limits.chunk_bytes
        async with connection.exchange(request) as answers:
            try:
                sent = (await answers.expect(messages.UploadReady)).offset
                stream.seek(sent)
                before_sending(sent)
                report(sent, request.size)
                while sent < request.size:
                    data = await trio.to_thread.run_sync(
                        read_some, stream, min(chunk_bytes, request.size - sent), request.filename
                    )
                    before_sending(sent + len(data))
                    await connection.send(data)
                    sent += len(data)
                    report(sent, request.size)
                    answers.check()
                return await answers.expect(messages.Uploaded)
            except Disconnected:
                raise
            except BaseException:
                if not answers.refused:
                    self._cancel(connection, request.id)
                raise

    async def _find_same(self, name: str, size: int, sha256: str) -> messages.Uploaded | None:
        """Return the file of that name on the server if it has this content, else None."""
        listing = messages.ListFiles(id=self._session.new_id())
        for info in (await self._session.ask(listing, messages.Files)).files:
            if info.filename != name or info.size != size:
                continue
            # After a crash, the server may not know the digest.
            if (info.sha256 or await self._digest(name, size)) == sha256:
                try:
                    request = messages.ListColumns(id=self._session.new_id(), filename=name)
                    columns = (await self._session.ask(request, messages.Columns)).columns
                except ProcessingError:  # the file is not a table
                    columns = ()
                return messages.Uploaded(
                    id=self._session.new_id(), filename=name, size=size, sha256=sha256, columns=columns
                )
        return None

    async def _digest(self, name: str, size: int) -> str:
        """Let the server compute a file's digest: a download that starts at the end sends only the digest."""

        async def attempt(connection: Connection) -> str:
            request = messages.Download(id=self._session.new_id(), filename=name, offset=size)
            async with connection.exchange(request) as answers:
                return (await answers.expect(messages.Downloaded)).sha256

        async with self._download_lock:
            return await self._session.persist(attempt)

    async def download(
        self,
        filename: str,
        target: Path | BinaryIO,
        report: Report,
        *,
        convert: Callable[[BinaryIO, BinaryIO], None] | None = None,
    ) -> messages.Downloaded:
        """Download a file; see :meth:`creemson.client.Client.download`.

        Args:
            filename: name of the file on the server.
            target: the local file, or an open stream.
            report: called with the progress.
            convert: called in a thread to convert what was downloaded to what is written; None to write it as it is.
        """
        request_of(messages.Download, id="download", filename=filename)
        output = await trio.to_thread.run_sync(Output.open, target)
        try:
            with _guarded(report) as tell:
                if convert is None:
                    downloaded = await self._fetch(filename, output.stream, tell)
                else:
                    with tempfile.TemporaryFile() as stream:
                        downloaded = await self._fetch(filename, stream, tell)
                        stream.seek(0)
                        await trio.to_thread.run_sync(convert, stream, output.stream)
            publish = output.publisher()
            if output.may_block:
                # In a thread outside of trio's limit: it stays blocked if this task is cancelled.
                await trio.to_thread.run_sync(
                    publish, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
                )
            else:
                await trio.to_thread.run_sync(publish)
        finally:
            output.close()
        return downloaded

    async def read(self, filename: str) -> bytes:
        """Download a file into memory; see :meth:`creemson.client.Client.read`."""
        stream = io.BytesIO()
        await self._fetch(filename, stream, ignore)
        return stream.getvalue()

    async def _fetch(self, filename: str, stream: BinaryIO, report: Report) -> messages.Downloaded:
        received = _Received(stream)

        async def attempt(connection: Connection) -> messages.Downloaded:
            while True:
                offset = received.size
                try:
                    return await self._receive(connection, filename, received, report)
                except _FileChanged:
                    pass
                except CreemsonError as error:
                    if not (offset and error.reason in ("offset_mismatch", "checksum_mismatch")):
                        raise
                await trio.to_thread.run_sync(received.clear)

        async with self._download_lock:
            return await self._session.persist(attempt)

    async def _receive(
        self, connection: Connection, filename: str, received: "_Received", report: Report
    ) -> messages.Downloaded:
        request = request_of(
            messages.Download, id=self._session.new_id(), filename=filename, offset=received.size
        )
        # A small buffer, so that a slow local disk slows down the server.
        async with connection.exchange(request, buffer=1) as answers:
            try:
                started = await answers.expect(messages.DownloadStarted)
                received.check(started)
                report(received.size, started.size)
                while not isinstance(answer := await answers.next(), messages.Downloaded):
                    if isinstance(answer, bytes):
                        await trio.to_thread.run_sync(received.write, answer)
                        report(received.size, started.size)
            except Disconnected:
                raise
            except BaseException:
                if not answers.refused:
                    self._cancel(connection, request.id)
                raise
        if answer.sha256 != received.hexdigest:
            message = f"The bytes of {filename!r} were damaged during the download. Try again."
            raise ProcessingError("checksum_mismatch", message)
        return answer

    def _cancel(self, connection: Connection, request_id: str) -> None:
        """Request the server to stop a transfer that the client has given up."""
        connection.post(messages.Cancel(id=self._session.new_id(), request=request_id))


async def _opened(source: Path | Content) -> tuple[BinaryIO, int]:
    """Open what is to be uploaded. Reading a pipe may take for ever, which must not keep a cancelled task waiting."""
    hand_over = threading.Lock()
    opened: list[tuple[BinaryIO, int]] = []
    abandoned = False

    def open_here() -> None:
        found = open_source(source)
        with hand_over:
            if not abandoned:
                opened.append(found)
                return
        found[0].close()

    try:
        await trio.to_thread.run_sync(open_here, abandon_on_cancel=True)
    except trio.Cancelled:
        # The thread may have ended in the meantime: whoever is second closes the stream.
        with hand_over:
            abandoned = True
        for stream, _ in opened:
            stream.close()
        raise
    return opened[0]


def ignore(done: int, size: int) -> None:
    """Ignore progress; the default callback."""


class _CallbackFailed(Exception):  # noqa: N818 - describes an event
    """The caller's callback has raised ``error``, which says nothing about the connection."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _guarded(report: Report) -> Iterator[Report]:
    """Provide a callback whose exceptions end the transfer, whatever they are, and leave the block as they are."""

    def guarded(done: int, size: int) -> None:
        try:
            report(done, size)
        except Exception as error:
            raise _CallbackFailed(error) from error

    failure: Exception | None = None
    try:
        yield guarded
    except _CallbackFailed as failed:
        failure = failed.error
    if failure is not None:
        raise failure


class _FileChanged(Exception):  # noqa: N818 - describes an event
    """The file on the server has changed since the download was started."""


class _Received:
    """The received part of a file.

    Args:
        stream: gets the bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._announced: tuple[int, str | None] | None = None  # size and digest
        self.size = 0

    @property
    def hexdigest(self) -> str:
        """SHA-256 of the received bytes."""
        return self._digest.hexdigest()

    def check(self, started: messages.DownloadStarted) -> None:
        """Check that a resumed download is of the same file.

        Raises:
            _FileChanged: it is not.
        """
        if self._announced is not None and self.size:
            size, sha256 = self._announced
            both_known = sha256 is not None and started.sha256 is not None
            if size != started.size or (both_known and sha256 != started.sha256):
                raise _FileChanged
        self._announced = (started.size, started.sha256)

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def clear(self) -> None:
        """Discard the received bytes, to start again."""
        self._stream.seek(0)
        self._stream.truncate()
        self._digest = hashlib.sha256()
        self._announced = None
        self.size = 0
