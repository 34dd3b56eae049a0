"""Carries out the uploads of one connection in the store, one at a time.

    OpenUpload    ──> begin a part, or continue one ──> Protocol.upload_opened()
    WriteChunk    ──> append to the part            ──> Protocol.chunk_written()
    FinishUpload  ──> put the file in place         ──> Protocol.upload_finished(), then read its columns
    its columns   ──> columns_read()                ──> Protocol.uploaded()
    silence       ──> sync the part                 ──> Protocol.upload_synced()

A part is an unfinished file: see :class:`creemson.storage.uploads.Part`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError, disk_error
from creemson.jobs import commands
from creemson.server.connection.effects import (
    AskProcessor,
    DropUpload,
    Effect,
    FinishUpload,
    OpenUpload,
    RemoveUpload,
    WriteChunk,
)
from creemson.server.connection.protocol import Protocol
from creemson.server.connection.upload_registry import Holder, UploadRegistry
from creemson.storage.store import Store
from creemson.storage.uploads import Part

__all__ = ["Uploads"]

SYNC_AFTER = 0.3
"""Seconds without a chunk after which what has arrived is synced and reported: nothing else would report it before
the next chunk arrives."""

Uploading: TypeAlias = OpenUpload | WriteChunk | FinishUpload | DropUpload | RemoveUpload


class Uploads:
    """Carries out the effects that concern uploads.

    Args:
        holder: the connection, as the registry sees it.
        protocol: protocol of the connection.
        store: returns the caller's store.
        registry: the open uploads of all connections.
        start: starts a task that ends with the connection.
        perform: sends messages.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        holder: Holder,
        protocol: Protocol,
        store: Callable[[], Store],
        registry: UploadRegistry,
        start: Callable[[Callable[[], Awaitable[None]]], None],
        perform: Callable[[Sequence[Effect]], None],
        logger: FilteringBoundLogger,
    ) -> None:
        self._holder = holder
        self._protocol = protocol
        self._store = store
        self._registry = registry
        self._start = start
        self._perform = perform
        self._log = logger
        self._part: Part | None = None  # of the open upload
        self._is_whole = True  # whether the last chunk was written; if not, the upload is about to end
        self._turn = trio.Lock()  # held while the part is in use
        self._written, self._written_at = 0, 0.0  # request and time of the last chunk
        self._timed = False  # whether _sync_when_quiet() runs
        # By request: complete uploads whose columns are being read, with their digests.
        self._complete: dict[int, tuple[Part, str]] = {}
        self._void: set[int] = set()  # those of these requests whose file was removed again

    async def handle(self, effect: Uploading) -> list[Effect]:
        """Carry out an effect in a thread; return the effects that follow.

        Raises:
            CreemsonError: the effect failed.
            OSError: the disk failed.
        """
        if isinstance(effect, RemoveUpload):
            self._void.add(effect.request)
            part, _ = self._complete[effect.request]
            await trio.to_thread.run_sync(self._store().uploads.take_back, part)
            return []
        if isinstance(effect, OpenUpload):
            return await self._open(effect)
        async with self._turn:
            return await self._handle(effect)

    async def _handle(self, effect: WriteChunk | FinishUpload | DropUpload) -> list[Effect]:
        match effect, self._part:
            case WriteChunk(request, data), part if part is not None:
                self._is_whole = False
                durable = await trio.to_thread.run_sync(self._store().uploads.write, part, data)
                self._is_whole = True
                self._written, self._written_at = request, trio.current_time()
                if durable < part.size and not self._timed:
                    self._timed = True
                    self._start(self._sync_when_quiet)
                return self._protocol.chunk_written(request, durable)
            case FinishUpload(request, filename, sha256), part if part is not None:
                try:
                    digest = await trio.to_thread.run_sync(self._store().uploads.finish, part, sha256)
                finally:
                    self._release(part)
                self._complete[request] = part, digest
                self._protocol.upload_finished()
                return [AskProcessor(request, commands.ReadColumns(filename, of_upload=True))]
            case DropUpload(), part if part is not None:
                try:
                    await trio.to_thread.run_sync(self._store().uploads.discard, part)
                finally:
                    self._release(part)
        return []  # another connection has taken the upload over in the meantime

    async def _sync_when_quiet(self) -> None:
        """Wait until no chunk arrives for a while, then sync what has arrived, and report it."""
        try:
            while (due := self._written_at + SYNC_AFTER) > trio.current_time():  # noqa: ASYNC110 - chunks move it
                await trio.sleep_until(due)
            async with self._turn:
                if self._part is not None and self._is_whole and self._part.durable < self._part.size:
                    self._perform(await self._sync(self._written, self._part))
        finally:
            self._timed = False

    async def _sync(self, request: int, part: Part) -> list[Effect]:
        try:
            durable = await trio.to_thread.run_sync(self._store().uploads.sync, part)
        except (CreemsonError, OSError) as error:
            # The upload ends: a later sync may succeed although these bytes are lost (fsync(2), "ERRORS").
            self._log.error("an upload could not be synced", error=str(error))
            fault = disk_error(error) if isinstance(error, OSError) else error
            effects = self._protocol.fail(request, fault)
            for effect in effects:
                if isinstance(effect, DropUpload):
                    await self._handle(effect)
            return [effect for effect in effects if not isinstance(effect, DropUpload)]
        return self._protocol.upload_synced(request, durable)

    async def _open(self, effect: OpenUpload) -> list[Effect]:
        key = (self._protocol.state.caller, effect.filename)
        sha256, fingerprint = effect.sha256 and effect.sha256.lower(), effect.fingerprint
        proof = None if sha256 is None and fingerprint is None else (effect.size, sha256, fingerprint)
        # In this order: who takes an upload over from this connection waits for the part, too.
        async with self._registry.claim(key, self._holder, proof=proof) as resume, self._turn:
            self._part = await trio.to_thread.run_sync(
                lambda: self._store().uploads.begin(
                    effect.filename,
                    size=effect.size,
                    sha256=sha256,
                    fingerprint=fingerprint,
                    overwrite=effect.overwrite,
                    resume=resume,
                )
            )
            return self._protocol.upload_opened(self._part.size)

    def _release(self, part: Part) -> None:
        self._part = None
        self._registry.release((self._protocol.state.caller, part.name), self._holder)

    def has_open(self, filename: str) -> bool:
        """Return whether the upload of a file is open on this connection."""
        return self._part is not None and self._part.name == filename

    async def save(self, filename: str | None = None) -> bool:
        """Save and close the open upload, to be continued later; return whether one was open.

        Args:
            filename: only if it is the upload of this file; None for any.
        """
        async with self._turn:
            part = self._part
            if part is None or filename not in (None, part.name):
                return False
            try:
                await trio.to_thread.run_sync(self._store().uploads.save, part)
            except (CreemsonError, OSError) as error:
                self._log.error("an unfinished upload could not be saved", error=str(error))
            finally:
                self._release(part)
            return True

    def awaits_columns(self, request: int) -> bool:
        """Return whether a reply to ``request`` has the columns of a complete upload."""
        return request in self._complete

    def columns_read(self, request: int, reply: commands.Reply) -> list[Effect]:
        """Answer a complete upload; without columns if the file cannot be read."""
        _, digest = self._complete.pop(request)
        if request in self._void:  # it was answered with an error in the meantime
            self._void.discard(request)
            return []
        columns = reply.described.columns if isinstance(reply, commands.ColumnsRead) else ()
        return self._protocol.uploaded(request, digest, columns)
