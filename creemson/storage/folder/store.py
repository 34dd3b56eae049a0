"""One caller's store in a data folder; implements :class:`creemson.storage.store.Store`."""

import contextlib
import functools
import hashlib
import math
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from creemson.catalog.catalog import Catalog, PartRow
from creemson.catalog.shared.claims import Claim
from creemson.errors import CreemsonError, InvalidFormat, ProcessingError
from creemson.model.filenames import check_name, composed
from creemson.model.identity import identity_of
from creemson.model.results import OUTPUT_FORMATS, FileInfo
from creemson.storage import durable
from creemson.storage.folder.files import Files, disk_faults
from creemson.storage.folder.kept import Kept
from creemson.storage.folder.partial import Part
from creemson.storage.handles import CountedFile, Handles
from creemson.storage.names import (
    is_stored,
    is_temporary,
    names_deleted_with,
    output_names,
    owner_name,
    rejects_name,
    temporary_name,
    texts_name,
)
from creemson.storage.quota import Ledger
from creemson.storage.store import Found, OpenFile, file_changed, file_exists, same_content
from creemson.storage.tables.tables import Tables
from creemson.storage.versions import Versions, digest_in, is_same, stamp_of, stat_version

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FolderStore"]

SYNC_BYTES, MAX_SYNC = 8 * 1024 * 1024, 64 * 1024 * 1024
"""Bounds, in bytes: an upload is synced to the disk each time its size has doubled, but after at least the first and at
most the second number of bytes. Each sync waits for the disk, however little is left to be written (see
:func:`creemson.storage.durable.begin_writing`)."""
SYNC_SECONDS = 0.5
"""Seconds after which a slow upload is synced, so that its client gets a progress report."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""File with an id that changes at each boot of the machine."""


class FolderStore:
    """The store of one caller; see :class:`creemson.storage.store.Store` for the methods.

    Args:
        files: the caller's folders.
        catalog: the catalog; its owner opens and closes it.
        caller: name of the caller.
        quota: maximum number of bytes that may be stored in total; 0 disables the limit.
        clock: returns seconds since 1970.
        handles: shares out file handles; None disables its limits.
        tables: the columnar copies of files; None if there are none.
    """

    is_remote = False

    def __init__(
        self,
        files: Files,
        catalog: Catalog,
        *,
        caller: str,
        quota: int,
        clock: Callable[[], float],
        handles: Handles | None = None,
        tables: Tables | None = None,
    ) -> None:
        self._files = files
        self._tables = tables
        self._catalog = catalog
        self._caller = caller
        self._ledger = Ledger(quota, self._size_of)
        self._clock = clock
        self._handles = handles or Handles.within(math.inf)
        self._sizes: dict[str, int] = {}  # of outputs whose jobs are done, by name
        self._lock = threading.Lock()  # for the next four fields
        self._open: dict[Path, float] = {}  # parts that are being written, and the time of the last sync
        self._resumable: set[Path] = set()  # those of these parts that are in the catalog
        self._digests: dict[Path, tuple[int, _Hash]] = {}  # size and digest of parts that are not open
        self._used: dict[str, float] = {}  # times of last use that are not yet in the catalog
        self._versions = Versions(catalog.digest)
        self._uploads = f"{files.uploads}/"  # beginning of the paths of uploaded files
        self._outputs = f"{files.outputs}/"  # the same, of outputs
        self._kept = Kept(files.kept, self._having, self._settle)
        self._publication = threading.Lock()  # held while a file gets its name
        self._within = len(f"{files.data}/")  # length of a path before the relative one of Files.within()
        self._boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else secrets.token_hex(8)
        self._recount()

    # --- files ---------------------------------------------------------------------------------------

    def find(self, name: str) -> Path:
        """Find an uploaded file; if no upload has this name, an output. Counts as a use of the file."""
        return Path(self.look_up(name)[0])

    def look_up(self, name: str) -> Found:
        """Do the same as :meth:`find`, but return the path as a string, and the version of the file."""
        path, status = self._files.look_up(name)
        if name in self._sizes and path == self.output_path(name) and not self.has_output(name):
            raise ProcessingError(
                "file_not_found",
                f"The output {name!r} is damaged, so it is not served. Ask for the same result again.",
            )
        with self._lock:
            self._used[path[self._within :]] = self._clock()
        return Found(path, self._version(path, status), identity_of(status))

    def source(self, path: Path) -> str:
        """Return the path as a string."""
        return str(path)

    def find_version(self, name: str, version: str) -> Found:
        """Find a version of a file that was looked up earlier, also if the file was replaced or removed since."""
        found = self._find_present(name, version)
        if found is not None:
            return found
        kept = str(self._kept.path(version))
        try:
            return Found(kept, version, identity_of(os.lstat(kept)))
        except FileNotFoundError:
            raise file_changed(name) from None

    def _find_present(self, name: str, version: str) -> Found | None:
        """Find a file if it still has this version."""
        try:
            found = self.look_up(name)
        except CreemsonError:
            return None
        if found.version == version:
            return found
        return found._replace(version=version) if self._having(Path(found.path), [version]) else None

    def hold(self, name: str, version: str) -> bool:
        """Keep the bytes of a version until :meth:`release`, even if the file is replaced or removed."""
        return self._kept.hold(version, lambda: self._find_present(name, version) is not None)

    def release(self, version: str) -> bool:
        """End :meth:`hold`; return whether :meth:`drop` must be called."""
        return self._kept.release(version)

    def drop(self, version: str) -> None:
        """Remove kept bytes that nobody holds."""
        self._kept.drop(version)

    def drop_unheld(self) -> None:
        """Remove what an earlier server has kept; call this after the jobs have held what they need."""
        self._kept.drop_unheld()

    def recognise(self, name: str, version: str) -> bool:
        """Compute the digest of an uploaded file whose time does not tell its version, for example after ``cp -r``."""
        try:
            path = Path(self._files.look_up(name)[0])
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        except (CreemsonError, FileNotFoundError):
            return False
        if digest_in(version) != sha256:
            return False
        self._versions.publish(self._files.within(path), status, sha256)
        self.record_digest(path, stamp_of(status), sha256)
        return True

    def versions(self) -> set[str]:
        """Return the versions of the uploaded files, and of bytes that are kept."""
        return self._kept.versions() | self._versions_of(self._files.uploads.iterdir())

    def _version(self, path: str, status: os.stat_result) -> str:
        if self._is_output(path):  # written by workers, without a digest
            return stat_version(status)
        return self._versions.of(path[self._within :], status)

    def _having(self, path: Path, versions: Collection[str]) -> list[str]:
        """Return which of these versions a file has."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return []
        present = self._version(str(path), status)
        # Outputs are written only by workers, so one with the same time is the same, though perhaps copied.
        moved = self._is_output(str(path))
        return [
            version for version in versions if version == present or is_same(version, status, moved=moved)
        ]

    def is_upload(self, found: Found) -> bool:
        """Whether a file was uploaded, and is no output."""
        return found.path.startswith(self._uploads) or digest_in(found.version) is not None

    def _is_output(self, path: str) -> bool:
        return path.startswith(self._outputs)

    def open(self, path: Path) -> OpenFile:
        """Open a file for reading."""
        share = self._handles.downloads
        share.take(self._caller)
        try:
            stream = CountedFile(path, functools.partial(share.give_back, self._caller))
        except BaseException as error:
            share.give_back(self._caller)
            if isinstance(error, FileNotFoundError):
                raise ProcessingError(
                    "file_not_found", f"The file {path.name!r} has just been removed."
                ) from None
            raise
        status = os.fstat(stream.fileno())
        return OpenFile(path, stream, status.st_size, self._version(str(path), status), status.st_mtime)

    def listing(self) -> tuple[FileInfo, ...]:
        """Return the uploaded files, sorted by name."""
        digests: Mapping[tuple[str, str], str] = {}
        with contextlib.suppress(OSError):  # only the digests are missing then
            digests = self._catalog.digests(self._files.within(self._files.uploads))
        rows = {} if self._tables is None else self._tables.rows_of(self._caller)
        found: dict[str, FileInfo] = {}
        for path in self._files.uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                if path.is_symlink() or not path.is_file() or is_temporary(path.name):
                    continue
                status = path.stat()
                versions = stamp_of(status), stat_version(status)
                within = self._files.within(path)
                sha256 = next(
                    (digests[within, known] for known in versions if (within, known) in digests), None
                )
                name = composed(path.name)
                if name not in found or name == path.name:  # as look_up: the composed spelling counts
                    version = self._version(str(path), status) if rows else ""
                    found[name] = FileInfo(
                        filename=name, size=status.st_size, modified=status.st_mtime, sha256=sha256,
                        imported=version in rows, rows=rows.get(version),
                    )  # fmt: skip
        return tuple(sorted(found.values(), key=lambda info: info.filename))

    def delete(self, name: str) -> None:
        """Remove an uploaded file and an unfinished upload of this name; if there is neither, an output.

        A stored output goes with all that belongs to it.
        """
        name = check_name(name)
        dropped = self.drop_part(name)
        paths = [path for path in self._files.uploads_named(name) if path.is_file() and not path.is_symlink()]
        if not paths:
            if dropped:
                return
            path = self._files.find(name)
            paths = [path]
            if path.parent == self._files.outputs:
                paths = [path.with_name(one) for one in names_deleted_with(path.name, OUTPUT_FORMATS)]
        versions = self._versions_of(paths)
        self._remove(*paths)
        self._forget_files([self._files.within(path) for path in paths])
        if self._tables is not None:
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._tables.forget(self._caller, versions - self.versions())

    def _versions_of(self, paths: Iterable[Path]) -> set[str]:
        found = set()
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                found.add(self._version(str(path), path.lstat()))
        return found

    def _remove(self, *paths: Path) -> None:
        """Remove files, durably; what is held of them is kept."""
        durable.remove(paths, within=self._kept.replacing(*paths))
        self._settle(*paths)

    def take_back(self, part: Part) -> None:
        """Remove the file that an upload has become; a later file of the same name stays, even with the same bytes."""
        with contextlib.suppress(FileNotFoundError):
            if part.published is not None and identity_of(part.target.lstat()) == identity_of(part.published):
                self._remove(part.target)
                self._forget_files([self._files.within(part.target)])

    def _forget_files(self, names: Iterable[str]) -> None:
        """Remove rows of files; if the catalog fails, the next sweep removes them."""
        with contextlib.suppress(OSError):
            self._catalog.forget(names)

    def digest(self, path: Path, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""
        if sha256 := digest_in(version):
            return sha256
        with contextlib.suppress(OSError):  # see record_digest
            return self._catalog.digest(self._files.within(path), version)
        return None

    def record_digest(self, path: Path, version: str, sha256: str) -> None:
        """Record the SHA-256 of a version of a file without a digest; it does not change the version."""
        # The digest can be computed again, so an error of the catalog must not make the transfer fail.
        with contextlib.suppress(OSError):
            self._catalog.record_digest(self._files.within(path), version, sha256)

    # --- quota ---------------------------------------------------------------------------------------

    def room(self) -> int | None:
        """Return the number of bytes that the caller may still store; None if there is no quota."""
        return self._ledger.left

    def check_quota(self, more: int = 1) -> None:
        """Check that ``more`` bytes may be stored."""
        self._ledger.check(more)

    def _listed(self) -> dict[str, int]:
        """Return the sizes of all stored files by their path in the caller's folder; takes a second for 10^5 files."""
        sizes = {
            self._key(self._files.data / row.path): row.size for row in self._catalog.parts(self._caller)
        }
        for folder in (self._files.uploads, self._files.outputs, self._files.kept):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                        if entry.is_file(follow_symlinks=False) and not is_temporary(entry.name):
                            sizes[f"{folder.name}/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def _recount(self) -> None:
        """Count all files anew: at the start, and for those that were put there by hand."""
        if not self._ledger.counts:
            return
        self._ledger.begin_scan()
        listed = self._listed()
        with self._lock:
            claimed = {self._key(path) for path in self._open}
        self._ledger.end_scan(listed, claimed=claimed)

    def _key(self, path: Path) -> str:
        return str(path.relative_to(self._files.root))

    def _size_of(self, key: str) -> int:
        try:
            found = os.lstat(f"{self._files.root}/{key}")
        except FileNotFoundError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _settle(self, *paths: Path) -> None:
        """Count files as they are, after they were removed."""
        self._ledger.settle(*map(self._key, paths))

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
    ) -> Part:
        """Open an upload: resume an unfinished one of the same name, size and content, or begin a new one."""
        target = self._target(name, overwrite=overwrite)
        sha256 = sha256 and sha256.lower()
        row = self._catalog.part(self._caller, composed(name)) if resume else None
        part = None
        if row is not None and row.size == size and same_content(row, sha256, fingerprint):
            part = self._resume(row, target, overwrite=overwrite)
        if (
            part is not None and row is not None
        ):  # a later upload must agree with all that was given for these bytes
            sha256, fingerprint = sha256 or row.sha256, fingerprint or row.fingerprint
        else:
            self._check_disk(target, size)
            part = self._replace_part(target, size, overwrite=overwrite)
            with self._lock:
                self._resumable.add(part.path)
        try:
            self._record(part, size, sha256, fingerprint)
        except BaseException:
            self.discard(part)
            raise
        return part

    def begin_unannounced(self, name: str, *, least: int) -> Part:
        """Open an upload of unknown size that replaces a file of the same name and cannot be resumed."""
        target = self._target(name, overwrite=True)
        self._check_disk(target, least)
        return self._create(target, least, overwrite=True)

    def settle(self, part: Part) -> None:
        """Count an upload whose bytes have all arrived as large as it is, if it was claimed to be larger."""
        self._settle(part.path)

    def write(self, part: Part, data: bytes) -> int:
        """Append to an upload, and sync it from time to time."""
        self._ledger.claim(self._key(part.path), part.size + len(data))
        part.write(data)
        now = self._clock()
        late = abs(now - self._open[part.path]) >= SYNC_SECONDS  # the clock may have been set back
        enough = part.size - part.durable >= min(max(SYNC_BYTES, part.durable), MAX_SYNC)
        if part.path in self._resumable and (late or enough):
            return self.sync(part)
        return part.durable

    def sync(self, part: Part) -> int:
        """Make the bytes of a resumable upload survive a loss of power, and remember how many they are."""
        self._open[part.path] = self._clock()
        part.sync()
        self._update(part)
        return part.durable

    def finish(self, part: Part, sha256: str | None) -> str:
        """Turn an upload into a file; see :meth:`Part.finish`."""
        try:
            return part.finish(sha256, around=lambda digest, status: self._publishing(part, digest, status))
        finally:
            # The new file counts in place of its upload; a file that it replaced counts until now.
            self._ledger.publish(self._key(part.path), self._key(part.target))
            self._forget(part)

    @contextlib.contextmanager
    def _publishing(self, part: Part, digest: str, status: os.stat_result) -> Iterator[None]:
        """Note the digest of a file that gets its name in this context.

        Other uploads of this caller wait meanwhile: of two with the same name, the catalog must get the digest of the
        one that is published last.
        """
        with self._publication:
            with self._kept.replacing(part.target):
                # Bytes that are kept count.
                self._ledger.check_publication(self._key(part.path), self._key(part.target))
                self._versions.publish(self._files.within(part.target), status, digest)
                yield
            self.record_digest(part.target, stamp_of(status), digest)

    def save(self, part: Part) -> None:
        """Close an upload so that it can be resumed later; if it is not resumable, remove it."""
        if part.path not in self._resumable:
            self.discard(part)
            return
        try:
            digest = part.save()
            self._update(part)
            with self._lock:
                self._digests[part.path] = part.size, digest
        finally:
            self._closed(part.path)

    def discard(self, part: Part) -> None:
        """Close an upload and remove its bytes."""
        part.discard()
        self._release(part.path)
        self._forget(part)

    def drop_part(self, name: str) -> bool:
        """Remove an unfinished upload that is not open; return whether there was one."""
        row = self._catalog.part(self._caller, name)
        if row is None:
            return False
        self._remove_part(self._files.data / row.path)
        self._catalog.forget_part(row.path)
        return True

    def _remove_part(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with self._lock:
            self._digests.pop(path, None)
            self._resumable.discard(path)
        self._release(path)

    def _replace_part(self, target: Path, size: int, *, overwrite: bool) -> Part:
        """Create the part of an upload; it replaces an unfinished one of the same name, if that is how it fits."""
        row = self._catalog.part(self._caller, composed(target.name))
        old = None if row is None else self._files.data / row.path
        part = self._create(target, size, overwrite=overwrite, instead_of=old)
        if old is not None:
            self._remove_part(old)
        return part

    def _release(self, path: Path) -> None:
        """Stop counting an unfinished upload that is gone."""
        self._ledger.release(self._key(path))

    def _target(self, name: str, *, overwrite: bool) -> Path:
        name = check_name(name)
        target = next(iter(self._files.uploads_named(name)), self._files.uploads / name)
        if target.is_symlink():
            raise InvalidFormat("invalid_filename", f"{name!r} is a link on the server; choose another name.")
        if target.is_dir():
            raise InvalidFormat(
                "invalid_filename", f"{name!r} is a folder on the server; choose another name."
            )
        if target.exists() and not overwrite:
            raise file_exists(name)
        return target

    def _create(self, target: Path, size: int, *, overwrite: bool, instead_of: Path | None = None) -> Part:
        path = self._files.parts / temporary_name(target.name, secrets.token_hex(8))
        with self._writing(path):
            old = None if instead_of is None else self._key(instead_of)
            self._ledger.claim(self._key(path), size, instead_of=old, replaces=self._key(target))
            try:
                return Part.create(path, target, overwrite=overwrite)
            except BaseException:
                self._release(path)
                raise

    def _resume(self, row: PartRow, target: Path, *, overwrite: bool) -> Part | None:
        path = self._files.data / row.path
        with self._lock:
            known, digest = self._digests.pop(path, (-1, None))
            self._resumable.add(path)
        try:
            if _is_link(path, target):  # it has also become a file already, which must not be cut off
                return None
            with self._writing(path):
                self._ledger.claim(self._key(path), row.size, replaces=self._key(target))
                present = path.stat().st_size
                start = min(present if row.boot == self._boot else min(present, row.durable), row.size)
                return Part.resume(
                    path, target, overwrite=overwrite, size=start, digest=digest if known == start else None
                )
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Mark a part as open, so that a sweep keeps it; undo this if it cannot be opened."""
        self._handles.uploads.take(self._caller)
        with self._lock:
            self._open[path] = self._clock()
        try:
            yield
        except BaseException:
            self._closed(path)
            raise

    def _closed(self, path: Path) -> None:
        """Note that a part is no longer open."""
        with self._lock:
            was_open = self._open.pop(path, None) is not None
        if was_open:
            self._handles.uploads.give_back(self._caller)

    def _check_disk(self, target: Path, size: int) -> None:
        """Refuse a file that does not fit the disk before its bytes are sent."""
        free = shutil.disk_usage(self._files.parts).free
        if size > free:
            raise ProcessingError(
                "storage_full",
                f"{target.name!r} has {size:,} bytes, but the server's disk has space for only {free:,}. "
                "Delete files, or ask the operator for more space.",
            )

    def _record(self, part: Part, size: int, sha256: str | None, fingerprint: str | None) -> None:
        row = PartRow(
            path=self._files.within(part.path),
            caller=self._caller,
            name=part.name,
            size=size,
            sha256=sha256,
            durable=part.durable,
            boot=self._boot,
            touched=self._clock(),
            fingerprint=fingerprint,
        )
        with disk_faults(part.name):
            self._catalog.record_part(row)

    def _update(self, part: Part) -> None:
        with disk_faults(part.name):
            self._catalog.update_part(self._files.within(part.path), part.durable, self._boot, self._clock())

    def _forget(self, part: Part) -> None:
        self._closed(part.path)
        with self._lock:
            resumable = part.path in self._resumable
            self._resumable.discard(part.path)
        if resumable:
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._catalog.forget_part(self._files.within(part.path))

    # --- outputs -------------------------------------------------------------------------------------

    def output_path(self, name: str) -> str:
        """Return the path to which a worker writes an output of this name, or a rendering of an output."""
        return f"{self._files.root}/outputs/{name}"

    def discard_output(self, target: str) -> None:
        """Do nothing: a worker writes an output as a whole or not at all."""

    def expect_output(self, name: str, size: int, texts_size: int | None = None) -> None:
        """Note the size of a complete output: from now on, a file of another size is not served in its place.

        The worker syncs an output before it has its name, so this finds what somebody else has done to it: a repair of
        the file system, a backup that was incomplete.

        Args:
            name: name of the output.
            size: its size in bytes.
            texts_size: that of its texts; None if it has none.
        """
        self._sizes[name] = size
        if texts_size is not None:
            self._sizes[texts_name(name)] = texts_size

    def has_output(self, name: str) -> bool:
        """Return whether there is an output of this name that can be served, with its texts."""
        size = self._output_size(name)
        texts = texts_name(name)
        if size is None:
            self._forget_size(name)
            return False
        return self._sizes.get(name, size) == size and (
            texts not in self._sizes or self._output_size(texts) == self._sizes[texts]
        )

    def _output_size(self, name: str) -> int | None:
        try:
            return os.stat(self.output_path(name)).st_size  # noqa: PTH116 - 2 µs instead of 9 per cached answer
        except OSError:
            return None

    def _forget_size(self, name: str) -> None:
        self._sizes.pop(name, None)
        self._sizes.pop(texts_name(name), None)

    def is_hidden(self, output: str) -> bool:
        """Return whether an upload has the name of an output, or of another file of it, and is found in its place."""
        return self._files.has_upload(output_names(output, OUTPUT_FORMATS))

    def find_output_of(self, name: str) -> Path | None:
        """Return the stored output of which ``name`` is a rendering in another format, if it exists."""
        stored = self._files.find_output_of(name, OUTPUT_FORMATS)
        return stored if stored is not None and self.has_output(stored.name) else None

    def remove_output(self, name: str) -> None:
        """Remove an output with its renderings, texts and file of rejects; no effect if it does not exist."""
        self._forget_size(name)
        paths = self._files.output_files(name, OUTPUT_FORMATS)
        with self._kept.replacing(*paths):
            for path in paths:
                path.unlink(missing_ok=True)
        self._settle(*paths)

    def publish_output(self, name: str, target: str, claim: Claim | None = None) -> None:
        """Count an output, or a rendering of one, that a worker has written, with its texts and file of rejects."""
        del target, claim  # the worker has given it its name; a folder has one server
        names = (name, texts_name(name), rejects_name(name)) if is_stored(name, OUTPUT_FORMATS) else (name,)
        paths = [self._files.outputs / one for one in names]
        try:
            self._ledger.admit(*map(self._key, paths))
        except ProcessingError:
            for path in paths:
                path.unlink(missing_ok=True)
            self._settle(*paths)
            raise

    # --- sweeping ------------------------------------------------------------------------------------

    def sweep(
        self, *, keep_uploads: float, keep_outputs: float, keep_parts: float, now: float | None = None
    ) -> Sequence[str]:
        """Remove files that have not been used for long, and leftovers of a crash."""
        now = self._clock() if now is None else now
        with self._lock:
            used = dict(self._used)
        try:
            self._catalog.record_use(used)
        except OSError:
            pass  # a full disk must not keep the sweep from removing files; the next sweep tries again
        else:
            with self._lock:
                self._used = {name: when for name, when in self._used.items() if used.get(name) != when}
        folders = ((self._files.uploads, keep_uploads), (self._files.outputs, keep_outputs))
        uses = {
            name: when
            for folder, _ in folders
            for name, when in self._catalog.uses(self._files.within(folder)).items()
        }
        for name, when in used.items():
            uses[name] = max(when, uses.get(name, 0.0))
        removed = self._sweep_parts(now - keep_parts)
        gone = set(uses)  # becomes the set of rows without a file
        for folder, keep in folders:
            for path in folder.iterdir():
                name = self._files.within(path)
                try:
                    status = path.lstat()
                except FileNotFoundError:  # deleted in the meantime
                    continue
                # Not st_mtime: a file may have been years old when it was copied into the folder.
                owner = self._files.within(path.with_name(owner_name(path.name, OUTPUT_FORMATS[0])))
                if (
                    max(status.st_ctime, uses.get(name, 0.0), uses.get(owner, 0.0)) < now - keep
                    and path.is_file()
                ):
                    with self._kept.replacing(path):
                        path.unlink(missing_ok=True)
                    removed.append(name)
                else:
                    gone.discard(name)
        self._forget_files(gone)
        self._recount()
        return removed

    def _sweep_parts(self, expired: float) -> list[str]:
        """Remove expired parts, rows without a part and parts without a row."""
        removed = []
        # List first: a part that is created later is not in the list; one that is closed later was open.
        listed = list(self._files.parts.iterdir())
        with self._lock:
            known = set(self._open)
        for row in self._catalog.parts(self._caller):
            path = self._files.data / row.path
            if path in known or path in self._open:
                known.add(path)
                continue
            # A link: the part has become a file, and the server crashed before it removed the part.
            if row.touched < expired or not path.exists() or _is_link(path, self._files.uploads / row.name):
                self._remove_part(path)
                self._catalog.forget_part(row.path)
                removed.append(row.path)
            else:
                known.add(path)
        for path in listed:
            if path not in known and path not in self._open and path.exists():
                path.unlink(missing_ok=True)
                removed.append(self._files.within(path))
        return removed


def _is_link(path: Path, target: Path) -> bool:
    """Return whether two paths lead to the same file; a part that only a backup has linked is still a part."""
    try:
        return path.stat().st_nlink > 1 and target.lstat().st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
