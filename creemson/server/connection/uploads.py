"""The uploads of one connection: one at a time, whose bytes go into a part of the store."""

from collections.abc import Callable
from typing import TypeAlias

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError
from creemson.processing import mailbox
from creemson.server import effects as wanted
from creemson.server.effects import Effect
from creemson.server.protocol import Protocol
from creemson.server.uploads import Holder, Uploads
from creemson.storage.parts import Part
from creemson.storage.store import Store

__all__ = ["Receiving"]

Uploading: TypeAlias = (
    wanted.OpenUpload | wanted.WriteChunk | wanted.FinishUpload | wanted.DropUpload | wanted.RemoveUpload
)


class Receiving:
    """Carries out what the protocol wants done with an upload.

    Args:
        holder: the connection, to those who want to take its upload over.
        protocol: the connection's.
        store: gives the caller's.
        uploads: who has which upload open.
        logger: for what the operator should know.
    """

    def __init__(
        self,
        *,
        holder: Holder,
        protocol: Protocol,
        store: Callable[[], Store],
        uploads: Uploads,
        logger: FilteringBoundLogger,
    ) -> None:
        self._holder = holder
        self._protocol = protocol
        self._store = store
        self._uploads = uploads
        self._log = logger
        self._part: Part | None = None
        self._turn = trio.Lock()  # held while the part is worked on
        self._digests: dict[int, str] = {}  # of finished uploads whose columns are being read
        self._void: set[int] = set()  # of these, those that were taken back

    async def handle(self, effect: Uploading) -> list[Effect]:
        """Carry out an effect, in a thread; returns what follows from it.

        Raises:
            CreemsonError: it failed.
            OSError: the disk failed.
        """
        if isinstance(effect, wanted.RemoveUpload):
            self._void.add(effect.request)
            digest = self._digests[effect.request]
            await trio.to_thread.run_sync(self._store().take_back, effect.filename, digest)
            return []
        async with self._turn:
            return await self._handle(effect)

    async def _handle(
        self, effect: wanted.OpenUpload | wanted.WriteChunk | wanted.FinishUpload | wanted.DropUpload
    ) -> list[Effect]:
        match effect, self._part:
            case wanted.OpenUpload(), None:
                self._part = await self._open(effect)
                return self._protocol.upload_opened(self._part.size)
            case wanted.WriteChunk(request, data), Part() as part:
                durable = await trio.to_thread.run_sync(self._store().write, part, data)
                return self._protocol.chunk_written(request, durable)
            case wanted.FinishUpload(request, filename, sha256), Part() as part:
                try:
                    digest = await trio.to_thread.run_sync(self._store().finish, part, sha256)
                finally:
                    self._release(part)
                self._digests[request] = digest
                self._protocol.upload_finished()
                return [wanted.ReadColumns(request, filename)]
            case wanted.DropUpload(), Part() as part:
                try:
                    await trio.to_thread.run_sync(self._store().discard, part)
                finally:
                    self._release(part)
        return []  # somebody else has taken it over in the meantime

    async def _open(self, effect: wanted.OpenUpload) -> Part:
        key = (self._protocol.state.caller, effect.filename)
        proof = None if effect.sha256 is None else (effect.size, effect.sha256.lower())
        resume = await self._uploads.claim(key, self._holder, proof=proof)
        try:
            return await trio.to_thread.run_sync(
                lambda: self._store().begin(
                    effect.filename,
                    size=effect.size,
                    sha256=effect.sha256,
                    overwrite=effect.overwrite,
                    resume=resume,
                )
            )
        except BaseException:
            self._uploads.release(key, self._holder)
            raise

    def _release(self, part: Part) -> None:
        self._part = None
        self._uploads.release((self._protocol.state.caller, part.name), self._holder)

    async def save(self) -> bool:
        """Keep what there is of the open upload, to be gone on with later; returns whether one was open."""
        async with self._turn:
            part = self._part
            if part is None:
                return False
            try:
                await trio.to_thread.run_sync(self._store().save, part)
            except (CreemsonError, OSError) as error:
                self._log.error("an unfinished upload could not be saved", error=str(error))
            finally:
                self._release(part)
            return True

    def awaits_columns(self, request: int) -> bool:
        """Whether a reply to ``request`` is about the columns of a finished upload."""
        return request in self._digests

    def columns_read(self, request: int, reply: mailbox.Reply) -> list[Effect]:
        """The columns of a finished upload are known, or cannot be."""
        digest = self._digests.pop(request)
        if request in self._void:  # it was answered by an error in the meantime
            self._void.discard(request)
            return []
        columns = reply.described.columns if isinstance(reply, mailbox.ColumnsRead) else ()
        return self._protocol.uploaded(request, digest, columns)
