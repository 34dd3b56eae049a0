"""One caller's unfinished uploads in the object store; implements :class:`creemson.storage.uploads.Uploads`.

Bytes are written under a key of the upload's own, and become a file by a row.
"""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from creemson.catalog.objects import Guard, ObjectRow, Objects, PartLostError
from creemson.errors import ProcessingError
from creemson.model.filenames import check_name
from creemson.storage.handles import Share
from creemson.storage.objects.bookkeeping import Garbage, Ledger, PutPiece
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.caller.kept import Kept
from creemson.storage.objects.part import ObjectPart, PieceTakenError
from creemson.storage.uploads import check_digest, file_exists, same_content, upload_taken
from creemson.storage.versions import digest_version

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ObjectUploads"]

SYNC_SECONDS = 1.0
"""Seconds after which what a slow upload has sent is written, so that its client gets a progress report."""


class ObjectUploads:
    """The unfinished uploads of one caller; see :class:`creemson.storage.uploads.Uploads` for the methods.

    Args:
        bucket: the object store.
        rows: the files that there are.
        caller: name of the caller.
        piece: bytes of each object of an upload but the last.
        put: writes the pieces.
        garbage: knows what is being written, and removes objects.
        ledger: counts the bytes of uploads, and of the files that they become.
        share: shares out transfers.
        clock: returns seconds since 1970.
        kept: keeps what is held of the files that uploads replace.
    """

    def __init__(
        self,
        bucket: ObjectBucket,
        rows: Objects,
        *,
        caller: str,
        piece: int,
        put: PutPiece,
        garbage: Garbage,
        ledger: Ledger,
        share: Share,
        clock: Callable[[], float],
        kept: Kept,
    ) -> None:
        self._bucket = bucket
        self._rows = rows
        self._caller = caller
        self._piece = piece
        self._put = put
        self._garbage = garbage
        self._ledger = ledger
        self._share = share
        self._clock = clock
        self._kept = kept
        self._publication = threading.Lock()  # held while a file gets its name
        self._lock = threading.Lock()  # for the next two fields
        self._open: dict[str, float] = {}  # by key: parts that are being written, time of the last sync
        self._digests: dict[str, tuple[int, _Hash]] = {}  # by key: size and digest of parts that are not open

    def begin(
        self,
        name: str,
        *,
        size: int,
        sha256: str | None,
        fingerprint: str | None = None,
        overwrite: bool,
        resume: bool,
    ) -> ObjectPart:
        """Open an upload: resume an unfinished one of the same name, size and content, or begin a new one."""
        name = self._check_target(name, overwrite=overwrite)
        sha256 = sha256 and sha256.lower()
        old = self._rows.named(self._caller, name, "part")
        if resume and old is not None and old.size == size and same_content(old, sha256, fingerprint):
            part = self._resume(old, sha256, fingerprint, overwrite=overwrite)
            if part is not None:
                return part
            old = self._rows.named(self._caller, name, "part")
            self._check_target(name, overwrite=overwrite)
        part = self._create(name, size, overwrite=overwrite, resumable=True, instead_of=old)
        row = ObjectRow(
            key=part.key, caller=self._caller, kind="part", name=name, version=part.writer, size=size,
            piece=self._piece, sha256=sha256, fingerprint=fingerprint, modified=self._clock(),
        )  # fmt: skip
        try:
            replaced = self._rows.record([row])
        except BaseException:
            self._close(part, discard=True)
            raise
        self._kept.forget(replaced)
        return part

    def begin_unannounced(self, name: str, *, least: int) -> ObjectPart:
        """Open an upload of unknown size that replaces a file of the same name and cannot be resumed."""
        name = self._check_target(name, overwrite=True)
        return self._create(name, least, overwrite=True, resumable=False)

    def _check_target(self, name: str, *, overwrite: bool) -> str:
        name = check_name(name)
        if not overwrite and self._rows.named(self._caller, name, "upload") is not None:
            raise file_exists(name)
        return name

    def _create(
        self, name: str, size: int, *, overwrite: bool, resumable: bool, instead_of: ObjectRow | None = None
    ) -> ObjectPart:
        key = f"files/{secrets.token_hex(16)}"
        with self._writing(key):
            old = None if instead_of is None else instead_of.key
            self._ledger.claim(key, size, instead_of=old, replaces=f"upload:{name}")
        writer = secrets.token_hex(8) if resumable else ""
        return ObjectPart(name, key, self._piece, overwrite, resumable, writer, put_piece=self._put)

    def _resume(
        self, old: ObjectRow, sha256: str | None, fingerprint: str | None, *, overwrite: bool
    ) -> ObjectPart | None:
        """Continue an upload; whoever has written it finds out. A later one must agree with all that was announced."""
        try:
            with self._writing(old.key):
                self._ledger.claim(old.key, old.size, replaces=f"upload:{old.name}")
                row = self._take(old, sha256, fingerprint)
                with self._lock:
                    size, digest = self._digests.pop(row.key, (-1, None))
                known = digest if size == row.durable else None
                return ObjectPart.resume(row, self._bucket, self._put, overwrite=overwrite, digest=known)
        except FileNotFoundError:  # it has ended, or somebody has removed an object
            return None

    def _take(self, old: ObjectRow, sha256: str | None, fingerprint: str | None) -> ObjectRow:
        row = self._rows.take_part(
            old.key, secrets.token_hex(8), sha256=sha256, fingerprint=fingerprint, modified=self._clock()
        )
        if row is None:
            raise FileNotFoundError(old.key)
        return row

    def settle(self, part: ObjectPart) -> None:
        """Count an upload whose bytes have all arrived as large as it is, if it was claimed to be larger."""
        self._ledger.release(part.key)
        self._ledger.claim(part.key, part.size, replaces=f"upload:{part.name}")

    def write(self, part: ObjectPart, data: bytes) -> int:
        """Append to an upload; return the number of its bytes that are durable."""
        self._ledger.claim(part.key, part.size + len(data))
        before = part.durable
        with self._own(part):
            needless = part.write(data)
            if part.resumable:
                if part.durable > before:
                    self._update(part)
                    self._garbage.remove_objects(part.key, needless)
                # The clock may have been set back.
                elif abs(self._clock() - self._open[part.key]) >= SYNC_SECONDS:
                    return self.sync(part)
        return part.durable

    def sync(self, part: ObjectPart) -> int:
        """Make the bytes of a resumable upload durable, and remember how many they are; return their number."""
        with self._own(part):
            part.sync()
            self._update(part)
        return part.durable

    def _update(self, part: ObjectPart) -> None:
        self._open[part.key] = self._clock()
        self._rows.update_part(part.key, part.writer, part.durable, part.tails, self._clock())

    @contextlib.contextmanager
    def _own(self, part: ObjectPart) -> Iterator[None]:
        """Turn the end of an upload by another server into an error.

        Raises:
            ProcessingError: ``cancelled``.
        """
        try:
            yield
        except PartLostError:
            part.lost = True
            deleted = self._rows.named(self._caller, part.name, "part", "upload") is None
            raise upload_taken(part.name, deleted=deleted) from None
        except PieceTakenError:
            raise ProcessingError(
                "checksum_mismatch",
                f"Other bytes of {part.name!r} have arrived at another server. Try again.",
            ) from None

    def finish(self, part: ObjectPart, sha256: str | None) -> str:
        """Turn an upload into a file under its name; return the digest of its bytes."""
        done = False
        try:
            digest = part.sha256
            check_digest(part.name, digest, sha256)
            with self._own(part):
                needless = part.complete()
                self._publish(part, digest)
            done = True
        finally:
            self._close(part, discard=not done and not (part.resumable and part.interrupted))
        self._garbage.remove_objects(part.key, needless)
        return digest

    def _publish(self, part: ObjectPart, digest: str) -> None:
        now = self._clock()
        row = ObjectRow(
            key=part.key, caller=self._caller, kind="upload", name=part.name, version=digest_version(digest),
            size=part.size, piece=self._piece, modified=now, used=now,
        )  # fmt: skip
        with self._publication:  # so that of two with the same name, the later one counts
            old = self._rows.named(self._caller, part.name, "upload")
            if old is not None and self._kept.is_held(old.version):
                self._ledger.claim(old.key, old.size)  # bytes that are kept count
            try:
                # The row of a part keeps its objects; without one, only those who live keep them.
                store = "" if part.resumable else self._garbage.store_of(part.key)
                guard = Guard(writer=part.writer, store=store)
                replaced = self._rows.publish(row, overwrite=part.overwrite, guard=guard)
            except BaseException as error:
                if old is not None:
                    self._ledger.settle(old.key)
                if isinstance(error, FileExistsError):
                    raise file_exists(part.name) from None
                raise
            part.published = row
            self._ledger.publish(part.key, f"upload:{part.name}")
        self._kept.lost_name(replaced)

    def save(self, part: ObjectPart) -> None:
        """Close an upload so that it can be resumed later; if it is not resumable, remove it."""
        if not part.resumable:
            self.discard(part)
            return
        try:
            self.sync(part)
            with self._lock:
                self._digests[part.key] = part.size, part.digest
        except ProcessingError:
            if not part.lost:
                raise
        finally:
            self._close(part, discard=False)

    def take_back(self, part: ObjectPart) -> None:
        """Remove the file that an upload has become; a later file of the same name stays, even with the same bytes."""
        row = part.published and self._rows.row(part.published.key)
        if row is not None and row.kind == "upload":
            self._kept.unname([row])

    def discard(self, part: ObjectPart) -> None:
        """Close an upload and remove its bytes; if the object store has failed, the upload can be resumed later."""
        self._close(part, discard=not (part.resumable and part.interrupted))

    def remove(self, name: str) -> bool:
        """Remove an unfinished upload that is not open; return whether there was one."""
        row = self._rows.named(self._caller, name, "part")
        if row is not None:
            self._kept.forget([row])
            self._ledger.release(row.key)
        return row is not None

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Mark a part as open, so that a sweep keeps it; undo this if it cannot be opened."""
        self._share.take(self._caller)
        self._garbage.begin_writing(key)
        with self._lock:
            self._open[key] = self._clock()
        try:
            yield
        except BaseException:
            self._closed(key, discard=True)
            raise

    def _close(self, part: ObjectPart, *, discard: bool) -> None:
        """Close a part; with ``discard``, remove it, unless it has become a file."""
        self._closed(part.key, discard=discard or part.lost)
        if discard and part.published is None:
            self._ledger.release(part.key)
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._kept.forgotten(self._rows.forget_part(part.key, part.writer) if part.resumable else [])

    def _closed(self, key: str, *, discard: bool) -> None:
        with self._lock:
            was_open = self._open.pop(key, None) is not None
            if discard:
                self._digests.pop(key, None)
        if was_open:
            self._garbage.end_writing(key, discard=discard)
            self._share.give_back(self._caller)

    def open_keys(self) -> set[str]:
        """Return the keys of the uploads that are being written."""
        with self._lock:
            return set(self._open)
