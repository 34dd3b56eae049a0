"""An upload under way: bytes in a temporary file that become a file, or are gone on with later."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from creemson.errors import ProcessingError
from creemson.storage import writeback
from creemson.storage.files import disk_faults, exists_already, version_of

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Part"]

READ_BYTES = 1024 * 1024
BEGIN_BYTES = 8 * 1024 * 1024
"""Bytes after which the disk gets something to do."""


@attrs.define
class Part:
    """A file under way. All methods block.

    Made by :meth:`create` or :meth:`resume`; its owner ends it with :meth:`finish`, :meth:`save` or
    :meth:`discard`.

    Attributes:
        name: under which the file will appear.
        path: of the temporary file.
        target: path under which it will appear.
        overwrite: whether a file that is there may be replaced.
        size: bytes written.
        durable: of these, bytes that survive a loss of power.
        version: of the file, once it has appeared.
    """

    name: str
    path: Path
    target: Path
    overwrite: bool
    size: int
    durable: int
    _file: int
    _digest: "_Hash"
    version: str | None = None
    _begun: int = attrs.field(init=False, default=0)  # bytes that the system has begun to write to the disk

    @classmethod
    def create(cls, path: Path, target: Path, *, overwrite: bool) -> "Part":
        """Begin with nothing.

        Raises:
            ProcessingError: ``storage_full``.
        """
        with disk_faults(target.name):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        return cls(target.name, path, target, overwrite, 0, 0, file, hashlib.sha256())

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
        """Go on with what is there.

        Args:
            path: of the temporary file.
            target: path under which the file will appear.
            overwrite: whether a file that is there may be replaced.
            size: bytes to go on from; what is there beyond is cut off.
            digest: of these bytes, if it is known; they are read for it if it is not.

        Raises:
            OSError: it is not there any more, or cannot be read.
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
        except OSError:
            os.close(file)
            raise
        return cls(target.name, path, target, overwrite, size, size, file, digest)

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            ProcessingError: ``storage_full``; what was written of ``data`` does not count.
        """
        with disk_faults(self.name):
            os.lseek(self._file, self.size, os.SEEK_SET)  # over what a full disk took of the last one
            view = memoryview(data)
            while view:  # a write may be short, as at a quota's edge
                view = view[os.write(self._file, view) :]
        self._digest.update(data)
        self.size += len(data)
        if self.size - self._begun >= BEGIN_BYTES:
            writeback.begin(self._file, self._begun, self.size - self._begun)
            self._begun = self.size

    def sync(self) -> None:
        """Let what was written survive a loss of power.

        Raises:
            ProcessingError: ``storage_full``.
        """
        with disk_faults(self.name):
            os.fdatasync(self._file)
        self.durable = self.size

    def save(self) -> "_Hash":
        """Let go of it, to be gone on with later; returns the digest so far."""
        try:
            os.ftruncate(self._file, self.size)
            self.sync()
        finally:
            self._close()
        return self._digest

    def finish(self, sha256: str | None = None) -> str:
        """Let the file appear under its name, durably.

        Args:
            sha256: the digest that the bytes must have, in hexadecimal; None accepts any.

        Returns:
            The digest that they have.

        Raises:
            ProcessingError: ``checksum_mismatch``, ``file_exists`` or ``storage_full``; the part is gone.
        """
        digest = self._digest.hexdigest()
        try:
            if sha256 is not None and sha256.lower() != digest:
                raise ProcessingError(
                    "checksum_mismatch",
                    f"The bytes of {self.name!r} have SHA-256 {digest}, announced was {sha256}. Try again.",
                )
            with disk_faults(self.name):
                os.ftruncate(self._file, self.size)
                self.sync()
                self._appear()
            self.path.unlink(missing_ok=True)
            # Of this very file: another may have taken its place by now.
            self.version = version_of(os.fstat(self._file))
        finally:
            self.discard()
        return digest

    def _appear(self) -> None:
        if self.overwrite:
            self.path.replace(self.target)
        else:
            try:
                # Unlike a rename, it fails if the name has been taken meanwhile.
                os.link(self.path, self.target)
            except FileExistsError:
                raise exists_already(self.name) from None
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Close the part and remove what there is of it; also after ``finish``, then nothing happens."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)
