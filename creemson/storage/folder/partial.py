"""An unfinished upload: bytes in a temporary file, which is renamed when complete, or resumed later."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from creemson.model.filenames import composed
from creemson.storage import durable
from creemson.storage.folder.files import disk_faults
from creemson.storage.uploads import check_digest, file_exists

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Part"]

READ_BYTES = 1024 * 1024
"""Bytes per read when a digest is computed."""
BEGIN_BYTES = 8 * 1024 * 1024
"""Number of bytes after which the kernel is asked to start writing them to the disk."""


@attrs.define
class Part:
    """An unfinished file. All methods block.

    Made by :meth:`create` or :meth:`resume`; its owner ends it with :meth:`finish`, :meth:`save` or :meth:`discard`.

    Attributes:
        name: name that the file will have.
        path: path of the temporary file.
        target: path that the file will have.
        overwrite: whether the file may replace an existing one.
        size: number of bytes written.
        durable: number of these that survive a loss of power.
        published: status of the file, once it is finished.
    """

    name: str
    path: Path
    target: Path
    overwrite: bool
    size: int
    durable: int
    _file: int  # descriptor; -1 when closed
    _digest: "_Hash"  # of the bytes written
    published: os.stat_result | None = None
    # Whether the name of the temporary file is on the disk, too; small uploads are finished without it.
    _has_durable_name: bool = False
    _begun: int = attrs.field(init=False, default=0)  # bytes that the kernel has started to write to the disk

    @classmethod
    def create(cls, path: Path, target: Path, *, overwrite: bool) -> "Part":
        """Create an empty part.

        Raises:
            ProcessingError: ``storage_full``.
        """
        with disk_faults(target.name):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        return cls(composed(target.name), path, target, overwrite, 0, 0, file, hashlib.sha256())

    @classmethod
    def resume(
        cls,
        path: Path,
        target: Path,
        *,
        overwrite: bool,
        size: int,
        digest: "_Hash | None" = None,
    ) -> "Part":
        """Open an existing part again.

        Args:
            path: path of the temporary file.
            target: path that the file will have.
            overwrite: whether the file may replace an existing one.
            size: number of bytes to keep; the rest is cut off.
            digest: digest of these bytes, if known; otherwise it is computed.

        Raises:
            OSError: the part no longer exists, or cannot be read.
        """
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(file, size)
            if digest is None:
                digest = hashlib.sha256()
                while data := os.read(file, READ_BYTES):
                    digest.update(data)
            os.lseek(file, size, os.SEEK_SET)
            os.fdatasync(file)
            durable.sync_folder(path.parent)
        except OSError:
            os.close(file)
            raise
        return cls(
            composed(target.name), path, target, overwrite, size, size, file, digest, has_durable_name=True
        )

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            ProcessingError: ``storage_full``; none of ``data`` counts as written.
        """
        with disk_faults(self.name):
            os.lseek(self._file, self.size, os.SEEK_SET)  # may overwrite data of a write that failed
            view = memoryview(data)
            while view:  # a write may be short, for example at the limit of a quota
                view = view[os.write(self._file, view) :]
        self._digest.update(data)
        self.size += len(data)
        if self.size - self._begun >= BEGIN_BYTES:
            durable.begin_writing(self._file, self._begun, self.size - self._begun)
            self._begun = self.size

    def sync(self) -> None:
        """Make the written bytes survive a loss of power.

        Raises:
            ProcessingError: ``storage_full``.
        """
        with disk_faults(self.name):
            os.fdatasync(self._file)
            if not self._has_durable_name:
                durable.sync_folder(self.path.parent)
                self._has_durable_name = True
        self.durable = self.size

    def save(self) -> "_Hash":
        """Close the part so that it can be resumed later; return the digest so far."""
        try:
            os.ftruncate(self._file, self.size)
            self.sync()
        finally:
            self._close()
        return self._digest

    def finish(
        self,
        sha256: str | None = None,
        *,
        around: Callable[[str, os.stat_result], AbstractContextManager[None]] = lambda *_: (
            contextlib.nullcontext()
        ),
    ) -> str:
        """Turn the part into a file under its name, durably.

        Args:
            sha256: digest that the bytes must have, in hexadecimal; None accepts any digest.
            around: called with the digest and the status of the file; the file gets its name within this context.

        Returns:
            The digest of the bytes.

        Raises:
            ProcessingError: ``checksum_mismatch``, ``file_exists`` or ``storage_full``; the part is gone.
        """
        digest = self._digest.hexdigest()
        try:
            check_digest(self.name, digest, sha256)
            with disk_faults(self.name):
                os.ftruncate(self._file, self.size)
                with contextlib.suppress(OSError):  # not every file system lets times be set
                    # The time of the last write has the granularity of the kernel's clock, some milliseconds: two
                    # small uploads of one name could not be told apart.
                    os.utime(self._file, ns=(time.time_ns(),) * 2)
                os.fsync(self._file)  # fdatasync(2) would not write the time
                # The status of the open file: another one may soon have its name.
                self.published = os.fstat(self._file)
                with around(digest, self.published):
                    self._publish()
                durable.sync_folder(self.target.parent)
            self.path.unlink(missing_ok=True)
        finally:
            self.discard()
        return digest

    def _publish(self) -> None:
        if self.overwrite:
            self.path.replace(self.target)
        else:
            try:
                # Unlike a rename, this fails if a file of that name has appeared in the meantime.
                os.link(self.path, self.target)
            except FileExistsError:
                raise file_exists(self.name) from None

    def discard(self) -> None:
        """Close the part and remove its bytes; no effect after ``finish``."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)
