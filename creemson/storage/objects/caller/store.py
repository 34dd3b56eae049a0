"""One caller's store in an object store; implements :class:`creemson.storage.store.Store`.

What there is, is in the catalog; only the outputs of an attempt are listed, when it ends. Bytes are written under a key
of the upload's or the attempt's own, and become a file by a row. A file that is replaced or removed becomes ``kept``,
and goes when no job holds its version.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from creemson.catalog.objects import Kind, ObjectRow, Objects
from creemson.errors import ProcessingError
from creemson.model.filenames import check_name
from creemson.model.results import OUTPUT_FORMATS, FileInfo
from creemson.storage.handles import Handles
from creemson.storage.names import names_deleted_with, owner_name
from creemson.storage.objects.bookkeeping import Bookkeeping
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.caller.kept import Kept
from creemson.storage.objects.caller.outputs import ObjectOutputs
from creemson.storage.objects.caller.reader import ObjectStream
from creemson.storage.objects.caller.rows import address_of, counted_bytes, counted_key, found
from creemson.storage.objects.caller.uploads import ObjectUploads
from creemson.storage.store import HINT_CANDIDATES, Found, OpenFile, file_not_found
from creemson.storage.tables.tables import Tables
from creemson.storage.versions import digest_in

__all__ = ["ObjectStore"]


class ObjectStore:
    """The store of one caller.

    Args:
        bucket: the object store.
        rows: the files that there are.
        books: what is in use, what may go, and how much is stored.
        threads: reads ahead for downloads.
        caller: name of the caller.
        piece: bytes of each object of an upload but the last.
        quota: maximum number of bytes that may be stored in total; 0 disables the limit.
        clock: returns seconds since 1970.
        handles: shares out transfers.
        tables: the columnar copies of files.
    """

    def __init__(
        self,
        bucket: ObjectBucket,
        rows: Objects,
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
        self._rows = rows
        self._garbage = books.garbage
        self._row_counts = books.row_counts
        self._threads = threads
        self._caller = caller
        self._clock = clock
        self._downloads = handles.downloads
        self._tables = tables
        self._lock = threading.Lock()  # for the next field
        self._used: dict[str, float] = {}  # by key: times of last use that are not yet in the catalog
        self.quota = books.ledger(caller, quota, functools.partial(counted_bytes, rows, caller))
        self.versions = Kept(
            bucket,
            rows,
            caller=caller,
            holds=books.holds(caller),
            garbage=books.garbage,
            ledger=self.quota,
            look_up=self.look_up,
            named=self._named,
        )
        self.outputs = ObjectOutputs(
            bucket,
            rows,
            caller=caller,
            garbage=books.garbage,
            ledger=self.quota,
            clock=clock,
            kept=self.versions,
        )
        self.uploads = ObjectUploads(
            bucket,
            rows,
            caller=caller,
            piece=piece,
            put=books.put,
            garbage=books.garbage,
            ledger=self.quota,
            share=handles.uploads,
            clock=clock,
            kept=self.versions,
        )
        self._recount()

    def find(self, name: str) -> Path:
        """Find an uploaded file; if no upload has this name, an output. The path is its key."""
        return Path(self._row_named(name).key)

    def look_up(self, name: str) -> Found:
        """Do the same as :meth:`find`, but return what a worker needs."""
        return found(self._bucket, self._row_named(name))

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
        return None if row is None or row.key in self.outputs.doomed else row

    def source(self, path: Path) -> str:
        """Return the address of a file that was found."""
        return address_of(self._bucket, self._row_at(path))

    def _row_at(self, path: Path) -> ObjectRow:
        row = self._rows.row(str(path))
        if row is None:
            raise ProcessingError("file_not_found", "The file has just been removed.")
        return row

    def is_upload(self, found: Found) -> bool:
        """Whether a file was uploaded, and is no output."""
        return digest_in(found.version) is not None

    def open(self, path: Path) -> OpenFile:
        """Open a file for reading; its objects stay until it is closed."""
        share = self._downloads
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
        dropped = self.uploads.remove(name)
        row = self._rows.named(self._caller, name, "upload")
        if row is None:
            if dropped:
                return
            row = self._row_named(name)
            self.versions.unname(self.outputs.named(*names_deleted_with(name, OUTPUT_FORMATS)))
            return
        self.versions.unname([row])
        if row.version not in self.versions.present():
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._tables.forget(self._caller, {row.version})

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

    def _recount(self) -> None:
        """Count all files anew."""
        if not (self.quota.counts and self.quota.scans):
            return
        self.quota.begin_scan()
        sizes = {counted_key(row): row.size for row in self._rows.rows(self._caller)}
        self.quota.end_scan(sizes, claimed=self.uploads.open_keys())

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
                self.versions.forgotten(self._rows.forget_part(row.key, row.version))
        self.versions.unname([row for row in expired if row.kind != "part"])
        self.outputs.remove_doomed()
        self.versions.drop_kept()
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
