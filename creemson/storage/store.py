"""One caller's store: files, outputs and unfinished uploads, with what the catalog knows of them.

Every method blocks, and may be called from any thread.
"""

import contextlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from creemson.errors import InvalidFormat, ProcessingError
from creemson.storage.catalog import Catalog, PartRow
from creemson.storage.files import (
    Files,
    check_name,
    disk_faults,
    exists_already,
    is_temporary,
    owner_name,
    rejects_name,
    temporary_name,
    version_of,
)
from creemson.storage.parts import Part
from creemson.wire.messages import OUTPUT_FORMATS, FileInfo

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Store"]

SYNC_BYTES, SYNC_MOST = 8 * 1024 * 1024, 64 * 1024 * 1024
"""Bytes of an upload after which they are synced to the disk: as many as there are already, within these bounds.

Each sync waits for the disk, however little is left to be written (see :mod:`creemson.storage.writeback`).
"""
SYNC_SECONDS = 0.5
"""Seconds after which they are synced when it is slow, so that its client hears of them."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Store:
    """What one caller stores.

    Args:
        files: the folders.
        catalog: opened and closed by its owner.
        caller: whose store it is.
        quota: bytes that may be stored in all; 0 is no bound.
        clock: seconds since 1970.
    """

    def __init__(
        self, files: Files, catalog: Catalog, *, caller: str, quota: int, clock: Callable[[], float]
    ) -> None:
        self.files = files
        self._catalog = catalog
        self._caller = caller
        self._quota = quota
        self._clock = clock
        self._lock = threading.Lock()  # over the four below
        self._open: dict[Path, float] = {}  # parts that are being written, and when each was synced
        self._resumable: set[Path] = set()  # those of them that the catalog knows
        self._digests: dict[Path, tuple[int, _Hash]] = {}  # of so many bytes of parts that wait
        self._used: dict[str, float] = {}  # not yet in the catalog
        self._within = len(f"{files.data}/")  # of a path, before what Files.within() gives
        self._boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else secrets.token_hex(8)

    # --- files ---------------------------------------------------------------------------------------

    def find(self, name: str) -> Path:
        """The path of an uploaded file or, if there is none of that name, of an output; it counts as used.

        Args:
            name: as the client gave it.

        Returns:
            The path of a regular file.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``file_not_found``.
        """
        return Path(self.look_up(name)[0])

    def look_up(self, name: str) -> tuple[str, str]:
        """As :meth:`find`; the path as text, and the version of the file."""
        path, found = self.files.look_up(name)
        with self._lock:
            self._used[path[self._within :]] = self._clock()
        return path, version_of(found)

    def listing(self) -> tuple[FileInfo, ...]:
        """The uploaded files, by name."""
        digests: Mapping[tuple[str, str], str] = {}
        with contextlib.suppress(OSError):  # the folder tells which files there are
            digests = self._catalog.digests(self.files.within(self.files.uploads))
        found = []
        for path in self.files.uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):  # deleted in this moment
                if path.is_symlink() or not path.is_file() or is_temporary(path.name):
                    continue
                status = path.stat()
                version = self.files.version(path)
                sha256 = digests.get((self.files.within(path), version))
                found.append(
                    FileInfo(filename=path.name, size=status.st_size, modified=status.st_mtime, sha256=sha256)
                )
        return tuple(sorted(found, key=lambda info: info.filename))

    def delete(self, name: str) -> None:
        """Remove an uploaded file and what there is of an unfinished upload, or else an output.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``file_not_found``.
        """
        dropped = self.drop_part(check_name(name))
        path = self.files.uploads / name
        if path.is_symlink() or not path.is_file():
            if dropped:
                return
            path = self.files.find(name)
        path.unlink(missing_ok=True)
        if path.parent == self.files.outputs:
            path.with_name(rejects_name(path.name)).unlink(missing_ok=True)
        self._forget_files([self.files.within(path)])

    def take_back(self, name: str, sha256: str) -> None:
        """Remove an uploaded file if it is there and still has this digest; nobody else's is removed."""
        path = self.files.uploads / check_name(name)
        with contextlib.suppress(FileNotFoundError):
            if self.digest(path, self.files.version(path)) == sha256:
                path.unlink()
                self._forget_files([self.files.within(path)])

    def _forget_files(self, names: Iterable[str]) -> None:
        """A row without its file means nothing, and the next sweep finds it if the catalog fails now."""
        with contextlib.suppress(OSError):
            self._catalog.forget(names)

    def digest(self, path: Path, version: str) -> str | None:
        """The SHA-256 of that version of a file's content, if it is known."""
        with contextlib.suppress(OSError):  # see record_digest
            return self._catalog.digest(self.files.within(path), version)
        return None

    def record_digest(self, path: Path, version: str, sha256: str) -> None:
        """Remember the SHA-256 of that version of a file's content."""
        # It can be found out again, and the file is no worse without: no reason for its transfer to fail.
        with contextlib.suppress(OSError):
            self._catalog.record_digest(self.files.within(path), version, sha256)

    def usage(self) -> int:
        """Bytes that are stored: files, outputs, and unfinished uploads in the size that they will have."""
        stored = 0
        for path in self.files.regular_files():
            with contextlib.suppress(FileNotFoundError):  # deleted in this moment
                stored += path.stat().st_size
        return stored + sum(row.size for row in self._catalog.parts(self._caller))

    def check_quota(self, more: int = 1) -> None:
        """Whether ``more`` bytes may be stored.

        Raises:
            ProcessingError: ``storage_full``.
        """
        if self._quota and self.usage() + more > self._quota:
            raise ProcessingError(
                "storage_full",
                f"You may store {self._quota:,} bytes here, {self.usage():,} are stored, and {more:,} more do not fit. "
                "Delete files that you no longer need.",
            )

    # --- uploads -------------------------------------------------------------------------------------

    def begin(self, name: str, *, size: int, sha256: str | None, overwrite: bool, resume: bool) -> Part:
        """Open an upload: go on with an unfinished one of the same name, size and digest, or begin afresh.

        Args:
            name: under which the file is to appear.
            size: bytes that it will have.
            sha256: of its content, where it is known beforehand.
            overwrite: whether it may replace a file of that name.
            resume: whether what there is may be gone on with; False removes it.

        Returns:
            The part, which holds ``part.size`` bytes already. It is ended by :meth:`finish`, :meth:`save` or
            :meth:`discard` of this store.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``file_exists`` or ``storage_full``.
        """
        target = self._target(name, overwrite=overwrite)
        sha256 = sha256 and sha256.lower()
        part = self._resume(target, size, sha256, overwrite=overwrite) if resume else None
        if part is None:
            self._check_room(target, size)
            self.drop_part(name)
            part = self._create(target, overwrite=overwrite)
            with self._lock:
                self._resumable.add(part.path)
        try:
            self._record(part, size, sha256)
        except BaseException:
            self.discard(part)
            raise
        return part

    def begin_unannounced(self, name: str, *, most: int) -> Part:
        """Open an upload which replaces a file of that name and cannot be gone on with.

        Args:
            name: under which the file is to appear.
            most: bytes that it can have at the most.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``storage_full``.
        """
        target = self._target(name, overwrite=True)
        self._check_room(target, most)
        return self._create(target, overwrite=True)

    def write(self, part: Part, data: bytes) -> int:
        """Append to an upload; now and then, what was written is synced.

        Returns:
            Bytes of it that survive a loss of power.

        Raises:
            ProcessingError: ``storage_full``.
        """
        part.write(data)
        now = self._clock()
        late = abs(now - self._open[part.path]) >= SYNC_SECONDS  # the clock may have been set back
        enough = part.size - part.durable >= min(max(SYNC_BYTES, part.durable), SYNC_MOST)
        if part.path in self._resumable and (late or enough):
            self._open[part.path] = now
            part.sync()
            self._update(part)
        return part.durable

    def finish(self, part: Part, sha256: str | None) -> str:
        """Let the file appear; see :meth:`Part.finish`."""
        try:
            digest = part.finish(sha256)
        finally:
            self._forget(part)
        if part.version is not None:
            self.record_digest(part.target, part.version, digest)
        return digest

    def save(self, part: Part) -> None:
        """Let go of an upload, to be gone on with later; one that cannot be is removed."""
        if part.path not in self._resumable:
            self.discard(part)
            return
        try:
            digest = part.save()
            self._update(part)
            with self._lock:
                self._digests[part.path] = part.size, digest
        finally:
            with self._lock:
                del self._open[part.path]

    def discard(self, part: Part) -> None:
        """Remove what there is of an upload."""
        part.discard()
        self._forget(part)

    def drop_part(self, name: str) -> bool:
        """Remove an unfinished upload that nobody has open; returns whether there was one."""
        row = self._catalog.part(self._caller, name)
        if row is None:
            return False
        path = self.files.data / row.path
        path.unlink(missing_ok=True)
        with self._lock:
            self._digests.pop(path, None)
            self._resumable.discard(path)
        self._catalog.forget_part(row.path)
        return True

    def _target(self, name: str, *, overwrite: bool) -> Path:
        target = self.files.uploads / check_name(name)
        if target.is_symlink():
            raise InvalidFormat("invalid_filename", f"{name!r} is a link on the server; choose another name.")
        if target.is_dir():
            raise InvalidFormat(
                "invalid_filename", f"{name!r} is a folder on the server; choose another name."
            )
        if target.exists() and not overwrite:
            raise exists_already(name)
        return target

    def _create(self, target: Path, *, overwrite: bool) -> Part:
        path = self.files.parts / temporary_name(target.name, secrets.token_hex(8))
        with self._writing(path):
            return Part.create(path, target, overwrite=overwrite)

    def _resume(self, target: Path, size: int, sha256: str | None, *, overwrite: bool) -> Part | None:
        row = self._catalog.part(self._caller, target.name)
        if row is None or (row.size, row.sha256) != (size, sha256):
            return None
        path = self.files.data / row.path
        with self._lock:
            known, digest = self._digests.pop(path, (-1, None))
            self._resumable.add(path)
        try:
            if path.stat().st_nlink > 1:  # the file has appeared: to cut the part would cut the file
                return None
            with self._writing(path):
                there = path.stat().st_size
                start = min(there if row.boot == self._boot else min(there, row.durable), size)
                return Part.resume(
                    path, target, overwrite=overwrite, size=start, digest=digest if known == start else None
                )
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Keep the sweep away from a part, before it can be seen; if it cannot be opened, no longer."""
        with self._lock:
            self._open[path] = self._clock()
        try:
            yield
        except BaseException:
            with self._lock:
                del self._open[path]
            raise

    def check_share(self, target: Path, size: int) -> None:
        """Whether a file of ``size`` bytes may be stored in the place of what is there.

        Raises:
            ProcessingError: ``storage_full``: it is over the quota.
        """
        replaced = target.stat().st_size if target.exists() else 0
        row = self._catalog.part(self._caller, target.name)
        self.check_quota(size - replaced - (row.size if row is not None else 0))

    def _check_room(self, target: Path, size: int) -> None:
        """A store that is too small is told of before the bytes are sent and not after."""
        self.check_share(target, size)
        free = shutil.disk_usage(self.files.parts).free
        if size > free:
            raise ProcessingError(
                "storage_full",
                f"{target.name!r} has {size:,} bytes, and the server's disk has room for {free:,}. "
                "Delete files or ask for room.",
            )

    def _record(self, part: Part, size: int, sha256: str | None) -> None:
        row = PartRow(
            path=self.files.within(part.path),
            caller=self._caller,
            name=part.name,
            size=size,
            sha256=sha256,
            durable=part.durable,
            boot=self._boot,
            touched=self._clock(),
        )
        with disk_faults(part.name):
            self._catalog.record_part(row)

    def _update(self, part: Part) -> None:
        with disk_faults(part.name):
            self._catalog.update_part(self.files.within(part.path), part.durable, self._boot, self._clock())

    def _forget(self, part: Part) -> None:
        with self._lock:
            self._open.pop(part.path, None)
            resumable = part.path in self._resumable
            self._resumable.discard(part.path)
        if resumable:
            with contextlib.suppress(OSError):  # a row without its bytes is swept
                self._catalog.forget_part(self.files.within(part.path))

    # --- keeping order -------------------------------------------------------------------------------

    def sweep(
        self, *, keep_uploads: float, keep_outputs: float, keep_parts: float, now: float | None = None
    ) -> Sequence[str]:
        """Remove what nobody has used for long, and what a crash has left.

        Args:
            keep_uploads: seconds that an uploaded file is kept after its last use.
            keep_outputs: the same of an output.
            keep_parts: seconds after which an unfinished upload is given up.
            now: seconds since 1970 by which ages are told; what the clock says if it is left out.

        Returns:
            What was removed, as paths within the data folder.

        Raises:
            OSError: the catalog cannot be read, so that nothing is removed, or the disk failed.
        """
        now = self._clock() if now is None else now
        with self._lock:
            used = dict(self._used)
        try:
            self._catalog.record_use(used)
        except OSError:
            pass  # a full disk must not keep us from making room on it; it is tried again the next time
        else:
            with self._lock:
                self._used = {name: when for name, when in self._used.items() if used.get(name) != when}
        folders = ((self.files.uploads, keep_uploads), (self.files.outputs, keep_outputs))
        uses = {
            name: when
            for folder, _ in folders
            for name, when in self._catalog.uses(self.files.within(folder)).items()
        }
        for name, when in used.items():
            uses[name] = max(when, uses.get(name, 0.0))
        removed = self._sweep_parts(now - keep_parts)
        gone = set(uses)
        for folder, keep in folders:
            for path in folder.iterdir():
                name = self.files.within(path)
                try:
                    status = path.lstat()
                except FileNotFoundError:  # deleted in this moment
                    continue
                # Not the time of modification: a file that was copied into the folder may be years old.
                owner = self.files.within(path.with_name(owner_name(path.name, OUTPUT_FORMATS[0])))
                if (
                    max(status.st_ctime, uses.get(name, 0.0), uses.get(owner, 0.0)) < now - keep
                    and path.is_file()
                ):
                    path.unlink(missing_ok=True)
                    removed.append(name)
                else:
                    gone.discard(name)
        self._forget_files(gone)
        return removed

    def _sweep_parts(self, expired: float) -> list[str]:
        """Expired parts, rows without bytes and bytes without rows."""
        removed = []
        # In this order: a part that is begun later is not in the list, one that is let go of later was open.
        there = list(self.files.parts.iterdir())
        with self._lock:
            known = set(self._open)
        for row in self._catalog.parts(self._caller):
            path = self.files.data / row.path
            if path in known or path in self._open:
                known.add(path)
                continue
            # Two names: the file has appeared, and the crash came before the part was removed.
            if row.touched < expired or not path.exists() or path.stat().st_nlink > 1:
                path.unlink(missing_ok=True)
                self._catalog.forget_part(row.path)
                with self._lock:
                    self._digests.pop(path, None)
                removed.append(row.path)
            else:
                known.add(path)
        for path in there:
            if path not in known and path not in self._open and path.exists():
                path.unlink(missing_ok=True)
                removed.append(self.files.within(path))
        return removed
