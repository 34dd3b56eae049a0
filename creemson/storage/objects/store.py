"""One caller's store in an object store; implements :class:`creemson.storage.store.Store`.

What there is, is in the catalog; only the outputs of an attempt are listed, when it ends. Bytes are written under a key
of the upload's or the attempt's own, and become a file by a row. A file that is replaced or removed becomes ``kept``,
and goes when no job holds its version.
"""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from creemson.catalog.catalog import Catalog
from creemson.catalog.objects import Guard, Kind, ObjectRow, PartLostError
from creemson.catalog.shared.claims import Claim
from creemson.errors import CreemsonError, ProcessingError
from creemson.model.filenames import check_name, composed
from creemson.model.identity import Identity
from creemson.model.results import OUTPUT_FORMATS, FileInfo
from creemson.storage.handles import Handles
from creemson.storage.names import (
    names_deleted_with,
    output_names,
    owner_name,
    rejects_name,
    rendering_of,
    texts_name,
)
from creemson.storage.objects.address import Address
from creemson.storage.objects.bookkeeping import Bookkeeping
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.part import ObjectPart, PieceTakenError
from creemson.storage.objects.reader import ObjectStream
from creemson.storage.store import (
    HINT_CANDIDATES,
    Found,
    OpenFile,
    check_digest,
    file_changed,
    file_exists,
    file_not_found,
    same_content,
    upload_taken,
)
from creemson.storage.tables.tables import Tables
from creemson.storage.versions import digest_in, digest_version

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ObjectStore"]

SYNC_SECONDS = 1.0
"""Seconds after which what a slow upload has sent is written, so that its client gets a progress report."""


class ObjectStore:
    """The store of one caller.

    Args:
        bucket: the object store.
        catalog: the catalog; its owner opens and closes it.
        books: what is in use, what may go, and how much is stored.
        threads: reads ahead for downloads.
        caller: name of the caller.
        piece: bytes of each object of an upload but the last.
        quota: maximum number of bytes that may be stored in total; 0 disables the limit.
        clock: returns seconds since 1970.
        handles: shares out transfers.
        tables: the columnar copies of files.
    """

    is_remote = True

    def __init__(
        self,
        bucket: ObjectBucket,
        catalog: Catalog,
        *,
        books: Bookkeeping,
        threads: Executor,
        caller: str,
        piece: int,
        quota: int,
        clock: Callable[[], float],
        handles: Handles,
        tables: Tables,
    ) -> None:
        self._bucket = bucket
        self._rows = catalog.objects
        self._garbage = books.garbage
        self._put = books.put
        self._row_counts = books.row_counts
        self._threads = threads
        self._caller = caller
        self._piece = piece
        self._ledger = books.ledger(caller, quota, self._size_of)
        self._clock = clock
        self._handles = handles
        self._tables = tables
        self._holds = books.holds(caller)
        self._publication = threading.Lock()  # held while a file gets its name
        self._lock = threading.Lock()  # for the next four fields
        self._open: dict[str, float] = {}  # by key: parts that are being written, time of the last sync
        self._used: dict[str, float] = {}  # by key: times of last use that are not yet in the catalog
        self._digests: dict[str, tuple[int, _Hash]] = {}  # by key: size and digest of parts that are not open
        self._doomed: set[str] = set()  # keys of outputs that the next sweep removes
        self._recount()

    # --- files ---------------------------------------------------------------------------------------

    def find(self, name: str) -> Path:
        """Find an uploaded file; if no upload has this name, an output. The path is its key."""
        return Path(self._row_named(name).key)

    def look_up(self, name: str) -> Found:
        """Do the same as :meth:`find`, but return what a worker needs."""
        return self._found(self._row_named(name))

    def _row_named(self, name: str) -> ObjectRow:
        name = check_name(name)
        row = self._named(name)
        if row is None:
            raise file_not_found(name, self._rows.names(self._caller, HINT_CANDIDATES))
        with self._lock:
            self._used[row.key] = self._clock()
        return row

    def _named(self, name: str) -> ObjectRow | None:
        """Return the row of an upload; if there is none of this name, of an output that is not removed."""
        row = self._rows.named(self._caller, name, "upload", "output")
        return None if row is None or row.key in self._doomed else row

    def _found(self, row: ObjectRow) -> Found:
        # The key belongs to these bytes only, so a worker need not compare anything else.
        return Found(self._address(row), row.version, Identity(0, row.size, 0))

    def _address(self, row: ObjectRow) -> str:
        return str(Address(self._bucket.name, self._bucket.prefix + row.key, row.name, row.size, row.piece))

    def source(self, path: Path) -> str:
        """Return the address of a file that was found."""
        return self._address(self._row_at(path))

    def _row_at(self, path: Path) -> ObjectRow:
        row = self._rows.row(str(path))
        if row is None:
            raise ProcessingError("file_not_found", "The file has just been removed.")
        return row

    def find_version(self, name: str, version: str) -> Found:
        """Find a version of a file that was looked up earlier, also if the file was replaced or removed since."""
        with contextlib.suppress(CreemsonError):
            row = self._row_named(name)
            if row.version == version:
                return self._found(row)
        kept = self._holds.kept(version)
        if kept is None:
            raise file_changed(name)
        return self._found(kept)

    def hold(self, name: str, version: str) -> bool:
        """Keep the bytes of a version until :meth:`release`, even if the file is replaced or removed."""
        return self._holds.hold(version, lambda: self._has_version(name, version))

    def _has_version(self, name: str, version: str) -> bool:
        row = self._named(composed(name))
        return row is not None and row.version == version

    def release(self, version: str) -> bool:
        """End :meth:`hold`; return whether :meth:`drop` must be called."""
        return self._holds.release(version)

    def drop(self, version: str) -> None:
        """Remove kept bytes that nobody holds."""
        if not self._garbage.knows_holders:
            return
        self._forgotten(self._holds.remove_unheld(version))

    def drop_unheld(self) -> None:
        """Remove what an earlier server has kept; call this after the jobs have held what they need."""
        self._garbage.knows_holders = True
        self._drop_kept()

    def _drop_kept(self) -> None:
        for version in {row.version for row in self._rows.rows(self._caller, "kept")}:
            self.drop(version)

    def recognise(self, name: str, version: str) -> bool:
        """Return False: an object has its version from its row."""
        del name, version
        return False

    def versions(self) -> set[str]:
        """Return the versions of the uploaded files, and of bytes that are kept."""
        kinds: tuple[Kind, ...] = ("upload", "kept")
        return {row.version for kind in kinds for row in self._rows.rows(self._caller, kind)}

    def is_upload(self, found: Found) -> bool:
        """Whether a file was uploaded, and is no output."""
        return digest_in(found.version) is not None

    def open(self, path: Path) -> OpenFile:
        """Open a file for reading; its objects stay until it is closed."""
        share = self._handles.downloads
        share.take(self._caller)
        # In this order, so that a file which is removed meanwhile keeps its objects.
        end_reading = self._garbage.begin_reading(str(path))

        def end() -> None:
            end_reading()
            share.give_back(self._caller)

        try:
            row = self._row_at(path)
        except BaseException:
            end()
            raise
        stream = ObjectStream(self._bucket, row, self._threads, end)
        return OpenFile(path, stream, row.size, row.version, row.modified)

    def listing(self) -> tuple[FileInfo, ...]:
        """Return the uploaded files, sorted by name."""
        rows = {**self._row_counts(self._caller), **self._tables.rows_of(self._caller)}
        return tuple(
            FileInfo(
                filename=row.name,
                size=row.size,
                modified=row.modified,
                sha256=digest_in(row.version),
                imported=row.version in rows,
                rows=rows.get(row.version),
            )
            for row in sorted(self._rows.rows(self._caller, "upload"), key=lambda row: row.name)
        )

    def delete(self, name: str) -> None:
        """Remove an uploaded file and an unfinished upload of this name; if there is neither, an output.

        A stored output goes with all that belongs to it.
        """
        name = check_name(name)
        dropped = self.drop_part(name)
        row = self._rows.named(self._caller, name, "upload")
        if row is None:
            if dropped:
                return
            row = self._row_named(name)
            self._unname(self._output_rows(*names_deleted_with(name, OUTPUT_FORMATS)))
            return
        self._unname([row])
        if row.version not in self.versions():
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._tables.forget(self._caller, {row.version})

    def take_back(self, part: ObjectPart) -> None:
        """Remove the file that an upload has become; a later file of the same name stays, even with the same bytes."""
        row = part.published and self._rows.row(part.published.key)
        if row is not None and row.kind == "upload":
            self._unname([row])

    def digest(self, path: Path, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""
        if sha256 := digest_in(version):
            return sha256
        with contextlib.suppress(OSError):
            row = self._rows.row(str(path))
            return None if row is None else row.sha256
        return None

    def record_digest(self, path: Path, version: str, sha256: str) -> None:
        """Record the SHA-256 of an output; it does not change the version."""
        del version  # a key has one
        with contextlib.suppress(OSError):  # it can be computed again
            self._rows.record_digest(str(path), sha256)

    # --- rows that go --------------------------------------------------------------------------------

    def _unname(self, rows: Sequence[ObjectRow]) -> None:
        """Let files lose their names; what nobody holds of them goes."""
        if rows:
            self._rows.keep([row.key for row in rows])
            self._lost_name(rows)

    def _lost_name(self, rows: Iterable[ObjectRow]) -> None:
        """Count files anew that have become ``kept``, and remove those that nobody holds."""
        rows = list(rows)
        self._settle(*(_key_of(row) for row in rows), *(row.key for row in rows))
        for version in {row.version for row in rows}:
            with contextlib.suppress(OSError):  # the next start removes them
                self.drop(version)

    def _forget(self, rows: Sequence[ObjectRow]) -> None:
        """Remove rows, and then their objects."""
        if rows:
            self._rows.forget([row.key for row in rows])
            self._forgotten(rows)

    def _forgotten(self, rows: Sequence[ObjectRow]) -> None:
        """Count files without the rows that were removed, and remove their objects."""
        if rows:
            self._settle(*(_key_of(row) for row in rows), *(row.key for row in rows))
            self._garbage.remove(rows)

    # --- quota ---------------------------------------------------------------------------------------

    def room(self) -> int | None:
        """Return the number of bytes that the caller may still store; None if there is no quota."""
        return self._ledger.left

    def check_quota(self, more: int = 1) -> None:
        """Check that ``more`` bytes may be stored."""
        self._ledger.check(more)

    def _recount(self) -> None:
        if not (self._ledger.counts and self._ledger.scans):
            return
        self._ledger.begin_scan()
        sizes = {_key_of(row): row.size for row in self._rows.rows(self._caller)}
        with self._lock:
            claimed = set(self._open)
        self._ledger.end_scan(sizes, claimed=claimed)

    def _size_of(self, key: str) -> int:
        """Return the bytes of what has a key in the ledger."""
        kind, _, name = key.partition(":")
        if kind in ("upload", "output"):
            row = self._rows.named(self._caller, name, kind)  # type: ignore[arg-type] # checked above
        else:
            row = self._rows.row(key)
            if row is not None and row.kind not in ("part", "kept"):
                row = None
        return 0 if row is None else row.size

    def _settle(self, *keys: str) -> None:
        self._ledger.settle(*keys)

    # --- uploads -------------------------------------------------------------------------------------

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
        self._forget(replaced)
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
            if old is not None and self._holds.is_held(old.version):
                self._ledger.claim(old.key, old.size)  # bytes that are kept count
            try:
                # The row of a part keeps its objects; without one, only those who live keep them.
                store = "" if part.resumable else self._garbage.store_of(part.key)
                guard = Guard(writer=part.writer, store=store)
                replaced = self._rows.publish(row, overwrite=part.overwrite, guard=guard)
            except BaseException as error:
                if old is not None:
                    self._settle(old.key)
                if isinstance(error, FileExistsError):
                    raise file_exists(part.name) from None
                raise
            part.published = row
            self._ledger.publish(part.key, f"upload:{part.name}")
        self._lost_name(replaced)

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

    def discard(self, part: ObjectPart) -> None:
        """Close an upload and remove its bytes; if the object store has failed, the upload can be resumed later."""
        self._close(part, discard=not (part.resumable and part.interrupted))

    def drop_part(self, name: str) -> bool:
        """Remove an unfinished upload that is not open; return whether there was one."""
        row = self._rows.named(self._caller, name, "part")
        if row is not None:
            self._forget([row])
            self._release(row.key)
        return row is not None

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Mark a part as open, so that a sweep keeps it; undo this if it cannot be opened."""
        self._handles.uploads.take(self._caller)
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
            self._release(part.key)
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._forgotten(self._rows.forget_part(part.key, part.writer) if part.resumable else [])

    def _closed(self, key: str, *, discard: bool) -> None:
        with self._lock:
            was_open = self._open.pop(key, None) is not None
            if discard:
                self._digests.pop(key, None)
        if was_open:
            self._garbage.end_writing(key, discard=discard)
            self._handles.uploads.give_back(self._caller)

    def _release(self, key: str) -> None:
        self._ledger.release(key)

    # --- outputs -------------------------------------------------------------------------------------

    def output_path(self, name: str) -> str:
        """Return the address to which a worker writes an output, under a key of the attempt's own."""
        folder = f"outputs/{secrets.token_hex(16)}"
        self._garbage.begin_writing(folder)
        key = f"{folder}/output.{name.partition('.')[2]}"
        return str(Address(self._bucket.name, self._bucket.prefix + key, name))

    def publish_output(self, name: str, target: str, claim: Claim | None = None) -> None:
        """Count and publish an output, or a rendering of one, with what belongs to it."""
        key = Address.parse(target).path.removeprefix(self._bucket.prefix)
        folder = key.rpartition("/")[0]
        found = dict(self._bucket.sizes(folder))
        now = self._clock()
        names = {key: name, texts_name(key): texts_name(name), rejects_name(key): rejects_name(name)}
        rows = [
            ObjectRow(
                key=one, caller=self._caller, kind="output", name=its_name, version=f"object:{one}", size=found[one],
                piece=0, modified=now, used=now,
            )
            for one, its_name in names.items() if one in found
        ]  # fmt: skip
        if key not in found:
            raise ProcessingError(
                "worker_died", f"The output {name!r} is not in the object store. Try again."
            )
        guard = Guard(claim=claim, store=self._garbage.store_of(folder), quota=self._ledger.limit_of_rows)
        replaced = self._rows.record(rows, guard)
        self._garbage.end_writing(folder, discard=False)
        self._garbage.remove_objects(
            folder, found.keys() - names.keys()
        )  # of those who did a part of the work
        self._lost_name(replaced)
        try:
            self._ledger.admit(*map(_key_of, rows))
        except ProcessingError:
            self._forget(rows)
            raise

    def discard_output(self, target: str) -> None:
        """Let the next sweep remove what a worker may have written."""
        key = Address.parse(target).path.removeprefix(self._bucket.prefix)
        self._garbage.end_writing(key.rpartition("/")[0], discard=True)

    def expect_output(self, name: str, size: int, texts_size: int | None = None) -> None:
        """Do nothing: the row of an output has the size that its object had."""

    def has_output(self, name: str) -> bool:
        """Return whether there is an output of this name."""
        return bool(self._output_rows(name))

    def is_hidden(self, output: str) -> bool:
        """Return whether an upload has the name of an output, or of another file of it, and is found in its place."""
        return self._rows.has_upload(self._caller, output_names(output, OUTPUT_FORMATS))

    def find_output_of(self, name: str) -> Path | None:
        """Return the stored output of which ``name`` is a rendering in another format, if it exists."""
        found = rendering_of(check_name(name), OUTPUT_FORMATS)
        rows = [] if found is None else self._output_rows(found[0])
        return Path(rows[0].key) if rows else None

    def remove_output(self, name: str) -> None:
        """Remove an output with its renderings, texts and file of rejects; no effect if it does not exist.

        They are not found any more; rows and objects go with the next sweep, because nobody may wait here.
        """
        rows = self._output_rows(*output_names(name, OUTPUT_FORMATS))
        with self._lock:
            self._doomed.update(row.key for row in rows)
        self._garbage.soon(self._remove_doomed)

    def _remove_doomed(self) -> None:
        with self._lock:
            doomed = list(self._doomed)
        self._rows.keep(doomed)
        with self._lock:
            self._doomed.difference_update(doomed)

    def _output_rows(self, *names: str) -> list[ObjectRow]:
        rows = (self._rows.named(self._caller, name, "output") for name in names)
        return [row for row in rows if row is not None and row.key not in self._doomed]

    # --- sweeping ------------------------------------------------------------------------------------

    def sweep(
        self, *, keep_uploads: float, keep_outputs: float, keep_parts: float, now: float | None = None
    ) -> Sequence[str]:
        """Remove files that have not been used for long; see :meth:`creemson.storage.store.Store.sweep`."""
        now = self._clock() if now is None else now
        used = self.record_uses()
        keep: Mapping[Kind, float] = {"upload": keep_uploads, "output": keep_outputs, "part": keep_parts}
        rows = self._rows.rows(self._caller)
        last = {row.key: max(row.modified, row.used, used.get(row.key, 0.0)) for row in rows}
        owners = {row.name: last[row.key] for row in rows if row.kind == "output"}
        before = now - self._garbage.grace
        expired = []
        for row in rows:
            if row.kind == "kept":
                continue
            owner = owner_name(row.name, OUTPUT_FORMATS[0]) if row.kind == "output" else ""
            if max(last[row.key], owners.get(owner, 0.0)) < before - keep[row.kind]:
                expired.append(row)
        if any(row.kind == "part" for row in expired):
            written = self._garbage.written()
            expired = [row for row in expired if row.kind != "part" or row.key not in written]
        for row in expired:
            if row.kind == "part":
                self._forgotten(self._rows.forget_part(row.key, row.version))
        self._unname([row for row in expired if row.kind != "part"])
        self._remove_doomed()
        self._drop_kept()
        self._recount()
        return [row.name for row in expired]

    def record_uses(self) -> Mapping[str, float]:
        """Record when files were used, and return that: times by key."""
        with self._lock:
            used, self._used = self._used, {}
        try:
            self._rows.record_use(used)
        except OSError:  # the next call tries again
            with self._lock:
                self._used = {**used, **self._used}
        return used


def _key_of(row: ObjectRow) -> str:
    """Return the key of a row in the ledger: a file that replaces another one has the same."""
    return f"{row.kind}:{row.name}" if row.kind in ("upload", "output") else row.key
