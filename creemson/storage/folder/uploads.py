"""One caller's unfinished uploads in a data folder; implements :class:`creemson.storage.uploads.Uploads`."""

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from creemson.catalog.catalog import Catalog, PartRow
from creemson.errors import InvalidFormat, ProcessingError
from creemson.model.filenames import check_name, composed
from creemson.model.identity import identity_of
from creemson.storage.folder.files import Files, disk_faults
from creemson.storage.folder.kept import Kept
from creemson.storage.folder.partial import Part
from creemson.storage.folder.versions import FileVersions
from creemson.storage.handles import Share
from creemson.storage.names import temporary_name
from creemson.storage.quota import Ledger
from creemson.storage.uploads import file_exists, same_content

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FolderUploads"]

SYNC_BYTES, MAX_SYNC = 8 * 1024 * 1024, 64 * 1024 * 1024
"""Bounds, in bytes: an upload is synced to the disk each time its size has doubled, but after at least the first and at
most the second number of bytes. Each sync waits for the disk, however little is left to be written (see
:func:`creemson.storage.durable.begin_writing`)."""
SYNC_SECONDS = 0.5
"""Seconds after which a slow upload is synced, so that its client gets a progress report."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""File with an id that changes at each boot of the machine."""


class FolderUploads:
    """The unfinished uploads of one caller; see :class:`creemson.storage.uploads.Uploads` for the methods.

    Args:
        files: the caller's folders.
        catalog: the catalog; its owner opens and closes it.
        caller: name of the caller.
        ledger: counts the bytes of uploads, and of the files that they become.
        share: shares out file handles.
        clock: returns seconds since 1970.
        versions: gets the digests of the files that uploads become.
        kept: keeps what is held of the files that uploads replace.
    """

    def __init__(
        self,
        files: Files,
        catalog: Catalog,
        *,
        caller: str,
        ledger: Ledger,
        share: Share,
        clock: Callable[[], float],
        versions: FileVersions,
        kept: Kept,
    ) -> None:
        self._files = files
        self._catalog = catalog
        self._caller = caller
        self._ledger = ledger
        self._share = share
        self._clock = clock
        self._versions = versions
        self._kept = kept
        self._publication = threading.Lock()  # held while a file gets its name
        self._boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else secrets.token_hex(8)
        self._lock = threading.Lock()  # for the next three fields
        self._open: dict[Path, float] = {}  # parts that are being written, and the time of the last sync
        self._resumable: set[Path] = set()  # those of these parts that are in the catalog
        self._digests: dict[Path, tuple[int, _Hash]] = {}  # size and digest of parts that are not open

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
        self._ledger.settle(self._files.key(part.path))

    def write(self, part: Part, data: bytes) -> int:
        """Append to an upload, and sync it from time to time."""
        self._ledger.claim(self._files.key(part.path), part.size + len(data))
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
            self._ledger.publish(self._files.key(part.path), self._files.key(part.target))
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
                self._ledger.check_publication(self._files.key(part.path), self._files.key(part.target))
                self._versions.publish(part.target, status, digest)
                yield
            self._versions.published(part.target, status, digest)

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

    def take_back(self, part: Part) -> None:
        """Remove the file that an upload has become; a later file of the same name stays, even with the same bytes."""
        with contextlib.suppress(FileNotFoundError):
            if part.published is not None and identity_of(part.target.lstat()) == identity_of(part.published):
                self._kept.remove(part.target)

    def discard(self, part: Part) -> None:
        """Close an upload and remove its bytes."""
        part.discard()
        self._release(part.path)
        self._forget(part)

    def remove(self, name: str) -> bool:
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
        self._ledger.release(self._files.key(path))

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
            old = None if instead_of is None else self._files.key(instead_of)
            self._ledger.claim(self._files.key(path), size, instead_of=old, replaces=self._files.key(target))
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
                self._ledger.claim(self._files.key(path), row.size, replaces=self._files.key(target))
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
        self._share.take(self._caller)
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
            self._share.give_back(self._caller)

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

    def sizes(self) -> dict[str, int]:
        """Return the announced bytes of the unfinished uploads by their keys in the quota's count."""
        return {
            self._files.key(self._files.data / row.path): row.size
            for row in self._catalog.parts(self._caller)
        }

    def open_keys(self) -> set[str]:
        """Return the keys of the uploads that are being written."""
        with self._lock:
            return {self._files.key(path) for path in self._open}

    def sweep(self, expired: float) -> list[str]:
        """Remove expired parts, rows without a part and parts without a row.

        Args:
            expired: time before which a part that is removed was last written, in seconds since 1970.

        Returns:
            The paths of these parts in the data folder.
        """
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
