"""The connection actor: reader, writer and heartbeat of one connection, and what it has open.

It alone owns its :class:`~creemson.server.protocol.ConnectionState`. The protocol decides, this module
carries out. When :meth:`Connection.run` returns, everything of the connection is gone: its tasks, its
part of an upload, its place among the processor's ports.
"""

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias
from typing import Protocol as Interface

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CloseCode, ConnectionLost, CreemsonError, ProcessingError
from creemson.processing import mailbox
from creemson.processing.jobs import Accepted, Ended, Progressed
from creemson.server import effects as wanted
from creemson.server.effects import Effect
from creemson.server.protocol import ConnectionState, Protocol
from creemson.server.transport import Closed, TooLarge
from creemson.server.uploads import Uploads
from creemson.settings import Settings
from creemson.storage.files import version_of
from creemson.storage.parts import Part
from creemson.storage.store import Store
from creemson.wire import codec
from creemson.wire.codec import error_message

__all__ = ["Connection", "Outbox", "Transport"]

DOWNLOAD_CHUNK = 1024 * 1024
"""Bytes of a binary frame of a download."""
DOWNLOAD_AHEAD = 2 * DOWNLOAD_CHUNK
"""Bytes that may wait in the outbox before a download waits for the peer."""


Storing: TypeAlias = (
    wanted.OpenUpload
    | wanted.WriteChunk
    | wanted.FinishUpload
    | wanted.DropUpload
    | wanted.RemoveUpload
    | wanted.ListFiles
    | wanted.DeleteFile
)
Asking: TypeAlias = (
    wanted.Submit
    | wanted.CancelJob
    | wanted.CancelRequest
    | wanted.ReadColumns
    | wanted.ReadRows
    | wanted.OpenDownload
)
GOODBYE = 3.0
"""Seconds in which a peer that seems gone can be told so."""
SIGN_OF_LIFE = 1.0
"""Seconds in which a peer whose upload somebody else wants can show that it lives."""


class Transport(Interface):
    """What a connection needs of :class:`~creemson.server.transport.ServerSocket`."""

    last_activity: float

    async def receive(self) -> str | bytes:
        """The next message; raises ``Closed`` or ``TooLarge``."""

    async def send(self, message: str | bytes) -> None:
        """Send a message; raises ``Closed``."""

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye."""

    async def probe(self) -> None:
        """Ask for a sign of life; raises ``Closed``."""


class Outbox:
    """What is to be sent: bounded in bytes, and filled without waiting.

    A message may replace an unsent older one (progress). What does not fit is not dropped: the peer is.

    Args:
        limit: bytes that may wait.
        on_overflow: is called when there are more.
    """

    def __init__(self, limit: int, *, on_overflow: Callable[[], object]) -> None:
        self._limit = limit
        self._on_overflow = on_overflow
        self._items: deque[list[str | bytes]] = deque()
        self._replaceable: dict[int, list[str | bytes]] = {}
        self._size = 0
        self._filled = trio.Event()
        self._emptied = trio.Event()
        self._overflowed = False
        self.closing: tuple[int, str] | None = None

    def put(self, message: str | bytes, *, replaces: int | None = None) -> None:
        """Append a message, or put it in the place of the unsent one with the same ``replaces``."""
        if self.closing is not None or self._overflowed:
            return
        alone = self._size == 0  # one large answer to a peer that reads is no overflow
        old = self._replaceable.get(replaces) if replaces is not None else None
        self._size += len(message)
        if old is not None:
            self._size -= len(old[0])
            old[0] = message
        else:
            item = [message]
            self._items.append(item)
            if replaces is not None:
                self._replaceable[replaces] = item
        self._filled.set()
        if self._size > self._limit and not alone:
            self._overflowed = True
            self._on_overflow()

    def close(self, code: int, reason: str) -> None:
        """Nothing more is taken; after what waits comes the close frame."""
        if self.closing is None:
            self.closing = (code, reason)
            self._filled.set()

    async def room(self) -> None:
        """Wait until so little waits that a download may go on."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._size > min(DOWNLOAD_AHEAD, self._limit // 2):
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def take(self) -> list[str | bytes]:
        """All that waits, in order; empty if the connection is to be closed."""
        while not self._items and self.closing is None:
            self._filled = trio.Event()
            await self._filled.wait()
        taken = [item[0] for item in self._items]
        self._items.clear()
        self._replaceable.clear()
        return taken

    def sent(self, size: int) -> None:
        """So many bytes of what was taken are on their way."""
        self._size -= size
        self._emptied.set()


class Connection:
    """One connection from the accepted handshake to its end.

    Args:
        transport: the messages' way; whoever made it runs it.
        protocol: of this connection.
        processor: the processor's inbox.
        store: the caller's.
        uploads: who has which upload open.
        settings: in force.
        logger: bound to the connection's id.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        protocol: Protocol,
        processor: trio.MemorySendChannel[mailbox.Command],
        store: Store,
        uploads: Uploads,
        settings: Settings,
        logger: FilteringBoundLogger,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._processor = processor
        self._store = store
        self._uploads = uploads
        self._settings = settings
        self._log = logger
        self._outbox = Outbox(settings.limits.outbox_bytes, on_overflow=self._drop)
        self._chunk = min(DOWNLOAD_CHUNK, settings.limits.outbox_bytes // 2)
        self._part: Part | None = None
        self._storing = trio.Lock()  # held while the part is worked on
        self._ended = False
        self._digests: dict[int, str] = {}  # of finished uploads whose columns are being read
        self._void: set[int] = set()  # uploads taken back while their columns are being read
        self._offsets: dict[int, int] = {}  # of downloads whose file is being found
        self._download_scope = trio.CancelScope()
        self._found, self._downloads = trio.open_memory_channel[tuple[int, Path, int]](1)
        self._nursery: trio.Nursery | None = None

    @property
    def state(self) -> ConnectionState:
        """The state, to look at."""
        return self._protocol.state

    async def run(self) -> None:
        """Serve the peer until one side closes."""
        try:
            await self._processor.send(mailbox.Connect(self.state.id, self))
        except trio.BrokenResourceError:  # the server is ending
            await self._transport.close(CloseCode.GOING_AWAY, "the server is shutting down")
            return
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._write)
                self._nursery.start_soon(self._heartbeat)
                self._nursery.start_soon(self._send_files)
                self._nursery.start_soon(self._read)
        finally:
            self._ended = True
            with trio.CancelScope(shield=True):
                await self._save_part()
                await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the processor has ended first
            await self._processor.send(mailbox.Disconnect(self.state.id))

    def close(self, code: CloseCode, reason: str) -> None:
        """Send what is waiting, then close."""
        self._outbox.close(code, reason)

    def drain(self) -> None:
        """Refuse new work from now on."""
        self._protocol.drain()

    # --- tasks ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._nursery is not None
        try:
            while True:
                message = await self._transport.receive()
                now = trio.current_time()
                if isinstance(message, str):
                    effects = self._protocol.text(now, message)
                else:
                    effects = self._protocol.binary(now, message)
                await self._perform(effects)
        except TooLarge as fault:
            await self._perform(
                self._protocol.too_large(binary=fault.binary, size=fault.size, limit=fault.limit)
            )
        except Closed as closed:
            self._log.info("closed", code=int(closed.code))
            self._nursery.cancel_scope.cancel()
        except trio.BrokenResourceError:  # the processor has ended, and the server is about to
            self.close(CloseCode.GOING_AWAY, "the server is shutting down")

    async def _write(self) -> None:
        assert self._nursery is not None
        try:
            while messages := await self._outbox.take():
                for message in self._batched(messages):
                    with trio.fail_after(self._settings.timeouts.send):
                        await self._transport.send(message)
                self._outbox.sent(sum(map(len, messages)))
            assert self._outbox.closing is not None
            code, reason = self._outbox.closing
            self._log.info("closing", code=int(code), reason=reason)
            await self._transport.close(code, reason)
        except Closed as closed:
            self._log.info("closed while sending", code=int(closed.code))
        except trio.TooSlowError:
            self._drop()
        self._nursery.cancel_scope.cancel()

    def _drop(self) -> None:
        """End the connection of a peer that does not read; so a close frame would be in vain."""
        self._log.warning("the peer does not read what it is sent")
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def _batched(self, messages: Sequence[str | bytes]) -> Sequence[str | bytes]:
        """Join neighbouring text messages into batches, where the peer understands them."""
        if not self.state.batching or len(messages) == 1:
            return messages
        limits = self._settings.limits
        joined: list[str | bytes] = []
        run: list[str] = []
        size = 0

        def flush() -> None:
            joined.extend([codec.encode_batch(run)] if len(run) > 1 else run)

        for message in messages:
            fits = len(run) < limits.batch_messages and size + len(message) < limits.message_bytes // 2
            if isinstance(message, bytes) or not fits:
                flush()
                run, size = [], 0
            if isinstance(message, bytes):
                joined.append(message)
            else:
                run.append(message)
                size += len(message)
        flush()
        return joined

    async def _heartbeat(self) -> None:
        """Ask for a sign of life when there was none for a while, and drop the peer without one."""
        timeouts = self._settings.timeouts
        try:
            while True:
                await trio.sleep_until(self._transport.last_activity + timeouts.heartbeat_interval)
                asked = trio.current_time()
                if asked < self._transport.last_activity + timeouts.heartbeat_interval:
                    continue
                with trio.move_on_after(timeouts.heartbeat_timeout):
                    await self._transport.probe()
                    await trio.sleep_forever()
                if self._transport.last_activity < asked:
                    break
        except Closed:
            return  # the reader sees it too
        silence = timeouts.heartbeat_interval + timeouts.heartbeat_timeout
        self._log.info("no sign of life", seconds=silence)
        fault = ConnectionLost(
            "connection_lost", f"There was no sign of life for {silence:g} s. Connect again."
        )
        self._send(wanted.Send(error_message(fault)))
        self.close(CloseCode.TIMED_OUT, "no sign of life")
        await trio.sleep(GOODBYE)
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    # --- effects -------------------------------------------------------------------------------------

    async def _perform(self, effects: Sequence[Effect]) -> None:
        """Carry out what the protocol decided, in its order, with what follows from it."""
        todo = deque(effects)
        while todo:
            effect = todo.popleft()
            if isinstance(effect, wanted.Send):
                self._send(effect)
            elif isinstance(effect, wanted.Close):
                self._outbox.close(effect.code, effect.reason)
            elif isinstance(effect, wanted.StopDownload):
                if self._offsets.pop(effect.request, None) is None:
                    self._download_scope.cancel()
            elif isinstance(effect, Storing):
                todo.extendleft(reversed(await self._keep(effect)))
            else:
                await self._processor.send(self._command(effect))

    def _send(self, effect: wanted.Send) -> None:
        self._outbox.put(codec.encode(effect.message), replaces=effect.replaces)

    def _command(self, effect: Asking) -> mailbox.Command:
        connection, caller = self.state.id, self.state.caller
        match effect:
            case wanted.Submit(request, query, timeout, keep):
                return mailbox.Submit(connection, request, caller, query, timeout, keep)
            case wanted.CancelJob(request, job):
                return mailbox.CancelJob(connection, request, caller, job)
            case wanted.CancelRequest(request, other):
                return mailbox.CancelRequest(connection, request, other)
            case wanted.ReadColumns(request, filename):
                return mailbox.ReadColumns(connection, request, caller, filename)
            case wanted.ReadRows(request, filename, offset, limit):
                return mailbox.ReadRows(connection, request, caller, filename, offset, limit)
            case wanted.OpenDownload(request, filename, offset):
                self._offsets[request] = offset
                return mailbox.FindFile(connection, request, caller, filename)

    async def _keep(self, effect: Storing) -> list[Effect]:
        """Do what is asked of the store, in a thread; tell the protocol how it went."""
        try:
            match effect:
                case wanted.ListFiles(request):
                    listing = await trio.to_thread.run_sync(self._store.listing)
                    return self._protocol.files(request, listing)
                case wanted.DeleteFile(request, filename):
                    async with self._uploads.without((self.state.caller, filename)):
                        await trio.to_thread.run_sync(self._store.delete, filename)
                    return self._protocol.deleted(request)
                case wanted.RemoveUpload(request, filename):
                    del self._digests[request]
                    self._void.add(request)
                    with contextlib.suppress(ProcessingError):  # somebody else has removed it
                        await trio.to_thread.run_sync(self._store.delete, filename)
                    return []
                case _:
                    async with self._storing:
                        return await self._upload(effect)
        except CreemsonError as error:
            fault = error
        except OSError as error:
            self._log.error("the disk failed", error=str(error))
            fault = _disk_error(error)
        if isinstance(effect, wanted.DropUpload):  # answered already
            return []
        return self._protocol.fail(effect.request, fault)

    # --- uploads -------------------------------------------------------------------------------------

    async def _upload(
        self, effect: wanted.OpenUpload | wanted.WriteChunk | wanted.FinishUpload | wanted.DropUpload
    ) -> list[Effect]:
        match effect, self._part:
            case wanted.OpenUpload(_, filename, size, sha256, overwrite), None:
                key = (self.state.caller, filename)
                proof = None if sha256 is None else (size, sha256.lower())
                resume = await self._uploads.claim(key, self, proof=proof)
                try:
                    self._part = await trio.to_thread.run_sync(
                        lambda: self._store.begin(
                            filename, size=size, sha256=sha256, overwrite=overwrite, resume=resume
                        )
                    )
                except BaseException:
                    self._uploads.release(key, self)
                    raise
                return self._protocol.upload_opened(self._part.size)
            case wanted.WriteChunk(request, data), Part() as part:
                durable = await trio.to_thread.run_sync(self._store.write, part, data)
                return self._protocol.chunk_written(request, durable)
            case wanted.FinishUpload(request, filename, sha256), Part() as part:
                try:
                    digest = await trio.to_thread.run_sync(self._store.finish, part, sha256)
                finally:
                    self._release(part)
                self._digests[request] = digest
                self._protocol.upload_finished()
                return [wanted.ReadColumns(request, filename)]
            case wanted.DropUpload(), Part() as part:
                try:
                    await trio.to_thread.run_sync(self._store.discard, part)
                finally:
                    self._release(part)
        return []  # somebody else has taken it over in the meantime

    def _release(self, part: Part) -> None:
        self._part = None
        self._uploads.release((self.state.caller, part.name), self)

    async def _save_part(self) -> None:
        """Keep what there is of the open upload, to be gone on with later."""
        async with self._storing:
            if self._part is None:
                return
            part = self._part
            try:
                await trio.to_thread.run_sync(self._store.save, part)
            except (CreemsonError, OSError) as error:
                self._log.error("an unfinished upload could not be saved", error=str(error))
            finally:
                self._release(part)

    async def is_alive(self) -> bool:
        """Whether the peer shows a sign of life: see :class:`creemson.server.uploads.Holder`."""
        asked = trio.current_time()
        if not self._ended:
            assert self._nursery is not None
            self._nursery.start_soon(self._probe)  # not cancelled in the middle of a frame
            while trio.current_time() < asked + SIGN_OF_LIFE and not self._ended:
                await trio.sleep(SIGN_OF_LIFE / 50)
                if self._transport.last_activity > asked:
                    return True
        return False

    async def _probe(self) -> None:
        with contextlib.suppress(Closed):  # the reader sees it too
            await self._transport.probe()

    async def let_go(self) -> None:
        """Close the open upload in favour of another: see :class:`creemson.server.uploads.Holder`."""
        part = self._part
        await self._save_part()
        if part is not None and not self._ended:
            for effect in self._protocol.upload_taken():
                if isinstance(effect, wanted.Send):
                    self._send(effect)

    # --- what the processor says ---------------------------------------------------------------------

    def deliver(self, request: int, reply: mailbox.Reply) -> None:
        """Take a reply of the processor's: see :class:`creemson.processing.mailbox.Port`."""
        if request in self._void:  # it was answered by an error in the meantime
            self._void.discard(request)
            return
        if request in self._digests:
            columns = reply.columns if isinstance(reply, mailbox.ColumnsRead) else ()
            effects = self._protocol.uploaded(request, self._digests.pop(request), columns)
        elif isinstance(reply, mailbox.FileReady):
            if request in self._offsets:  # or else it is not wanted any more
                # A channel takes it also while the nursery is ending; the protocol allows one at a time.
                self._found.send_nowait((request, reply.path, self._offsets.pop(request)))
            return
        else:
            self._offsets.pop(request, None)
            effects = self._told(request, reply)
        for effect in effects:
            assert isinstance(effect, wanted.Send), effect
            self._send(effect)

    def _told(
        self,
        request: int,
        reply: Accepted | Progressed | Ended | mailbox.Cancelled | mailbox.ColumnsRead | mailbox.RowsRead,
    ) -> list[Effect]:
        match reply:
            case Accepted(job, position):
                return self._protocol.accepted(request, job, position)
            case Progressed(job, seq, figures):
                return self._protocol.progress(request, job, seq, figures)
            case mailbox.Cancelled(job):
                return self._protocol.cancelled(request, job)
            case mailbox.ColumnsRead(columns):
                return self._protocol.columns(request, columns)
            case mailbox.RowsRead(window):
                return self._protocol.rows(request, window)
            case Ended(job, seq, error=error) if error is not None:
                return self._protocol.fail(request, error, job=job, seq=seq)
            case Ended(job, seq):
                assert job is not None
                assert seq is not None
                return self._protocol.result(request, job, seq, mailbox.result_of(reply))

    # --- downloads -----------------------------------------------------------------------------------

    async def _send_files(self) -> None:
        async for request, path, offset in self._downloads:
            with trio.CancelScope() as self._download_scope:
                await self._download(request, path, offset)

    async def _download(self, request: int, path: Path, offset: int) -> None:
        """Send a file's bytes from ``offset`` on, no faster than the peer reads them."""
        try:
            stream = await trio.to_thread.run_sync(path.open, "rb")
            try:
                status = os.fstat(stream.fileno())
                version = version_of(status)
                digest = await trio.to_thread.run_sync(self._store.digest, path, version)
                await self._perform(
                    self._protocol.download_started(request, size=status.st_size, sha256=digest)
                )
                if digest is not None:
                    stream.seek(offset)
                    await self._send_bytes(stream)
                else:
                    digest = await self._send_digesting(stream, offset)
                    await trio.to_thread.run_sync(self._store.record_digest, path, version, digest)
            finally:
                stream.close()
            effects = self._protocol.downloaded(request, size=status.st_size, sha256=digest)
        except CreemsonError as error:
            effects = self._protocol.fail(request, error)
        except OSError as error:
            self._log.error("download failed", error=str(error))
            effects = self._protocol.fail(request, _disk_error(error))
        await self._perform(effects)

    async def _send_bytes(self, stream: BinaryIO) -> None:
        while data := await trio.to_thread.run_sync(stream.read, self._chunk):
            await self._outbox.room()
            self._outbox.put(data)

    async def _send_digesting(self, stream: BinaryIO, offset: int) -> str:
        """The same, for a file whose digest is not known: what comes before ``offset`` counts for that only."""
        digest = hashlib.sha256()

        def read(size: int) -> bytes:
            data = stream.read(size)
            digest.update(data)
            return data

        position = 0
        while data := await trio.to_thread.run_sync(read, _step(offset - position, self._chunk)):
            position += len(data)
            if position > offset:
                await self._outbox.room()
                self._outbox.put(data)
        return digest.hexdigest()


def _step(before_offset: int, chunk: int) -> int:
    return min(chunk, before_offset) if before_offset > 0 else chunk


def _disk_error(error: OSError) -> ProcessingError:
    return ProcessingError(
        "internal", f"The server could not reach its disk ({error.strerror}). It is logged; try again later."
    )
