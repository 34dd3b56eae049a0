"""One caller's store in a data folder; implements :class:`creemson.storage.store.Store`."""

import contextlib
import functools
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from creemson.catalog.catalog import Catalog
from creemson.errors import ProcessingError
from creemson.model.filenames import check_name, composed
from creemson.model.identity import identity_of
from creemson.model.results import OUTPUT_FORMATS, FileInfo
from creemson.storage.folder.files import Files
from creemson.storage.folder.kept import Kept
from creemson.storage.folder.outputs import FolderOutputs
from creemson.storage.folder.uploads import FolderUploads
from creemson.storage.folder.versions import FileVersions
from creemson.storage.handles import CountedFile, Handles
from creemson.storage.names import is_temporary, names_deleted_with, owner_name
from creemson.storage.quota import Ledger
from creemson.storage.store import Found, OpenFile
from creemson.storage.tables.tables import Tables
from creemson.storage.versions import digest_in, stamp_of, stat_version

__all__ = ["FolderStore"]


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
        handles = handles or Handles.within(math.inf)
        self._files = files
        self._tables = tables
        self._catalog = catalog
        self._caller = caller
        self._clock = clock
        self._downloads = handles.downloads
        self._lock = threading.Lock()  # for the next field
        self._used: dict[str, float] = {}  # times of last use that are not yet in the catalog
        self._uploads = f"{files.uploads}/"  # beginning of the paths of uploaded files
        self._outputs = f"{files.outputs}/"  # the same, of outputs
        self._within = len(f"{files.data}/")  # length of a path before the relative one of Files.within()
        self._file_versions = FileVersions(files, catalog)
        self.quota = Ledger(quota, files.size_of)
        self.versions = Kept(files, self._file_versions, self.quota, self.look_up)
        self.outputs = FolderOutputs(files, self.quota, self.versions)
        self.uploads = FolderUploads(
            files,
            catalog,
            caller=caller,
            ledger=self.quota,
            share=handles.uploads,
            clock=clock,
            versions=self._file_versions,
            kept=self.versions,
        )
        self._recount()

    def find(self, name: str) -> Path:
        """Find an uploaded file; if no upload has this name, an output. Counts as a use of the file."""
        return Path(self.look_up(name)[0])

    def look_up(self, name: str) -> Found:
        """Do the same as :meth:`find`, but return the path as a string, and the version of the file."""
        path, status = self._files.look_up(name)
        if name in self.outputs.sizes and path == self._outputs + name and not self.outputs.has(name):
            raise ProcessingError(
                "file_not_found",
                f"The output {name!r} is damaged, so it is not served. Ask for the same result again.",
            )
        with self._lock:
            self._used[path[self._within :]] = self._clock()
        return Found(path, self._file_versions.of(path, status), identity_of(status))

    def source(self, path: Path) -> str:
        """Return the path as a string."""
        return str(path)

    def is_upload(self, found: Found) -> bool:
        """Whether a file was uploaded, and is no output."""
        return found.path.startswith(self._uploads) or digest_in(found.version) is not None

    def open(self, path: Path) -> OpenFile:
        """Open a file for reading."""
        share = self._downloads
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
        return OpenFile(
            path, stream, status.st_size, self._file_versions.of(str(path), status), status.st_mtime
        )

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
                    version = self._file_versions.of(str(path), status) if rows else ""
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
        dropped = self.uploads.remove(name)
        paths = [path for path in self._files.uploads_named(name) if path.is_file() and not path.is_symlink()]
        if not paths:
            if dropped:
                return
            path = self._files.find(name)
            paths = [path]
            if path.parent == self._files.outputs:
                paths = [path.with_name(one) for one in names_deleted_with(path.name, OUTPUT_FORMATS)]
        versions = self._file_versions.of_all(paths)
        self.versions.remove(*paths)
        if self._tables is not None:
            with contextlib.suppress(OSError):  # the next sweep removes it
                self._tables.forget(self._caller, versions - self.versions.present())

    def digest(self, path: Path, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""
        return self._file_versions.digest(path, version)

    def record_digest(self, path: Path, version: str, sha256: str) -> None:
        """Record the SHA-256 of a version of a file without a digest; it does not change the version."""
        self._file_versions.record_digest(path, version, sha256)

    def _recount(self) -> None:
        """Count all files anew: at the start, and for those that were put there by hand."""
        if not self.quota.counts:
            return
        self.quota.begin_scan()
        listed = self._listed()
        self.quota.end_scan(listed, claimed=self.uploads.open_keys())

    def _listed(self) -> dict[str, int]:
        """Return the bytes of all that is stored by its key in the quota's count."""
        return {**self.uploads.sizes(), **self._files.sizes()}

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
        removed = self.uploads.sweep(now - keep_parts)
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
                    with self.versions.replacing(path):
                        path.unlink(missing_ok=True)
                    removed.append(name)
                else:
                    gone.discard(name)
        self._file_versions.forget(gone)
        self._recount()
        return removed
