"""The versions and digests of the files in a data folder, as far as the catalog and the disk tell them.

See :mod:`creemson.storage.versions` for what a version is.
"""

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from creemson.catalog.catalog import Catalog
from creemson.storage.folder.files import Files
from creemson.storage.versions import Versions, digest_in, is_same, stamp_of, stat_version

__all__ = ["FileVersions"]


class FileVersions:
    """The versions and digests of one caller's files. May be used by any thread.

    Args:
        files: the caller's folders.
        catalog: the catalog; its owner opens and closes it.
    """

    def __init__(self, files: Files, catalog: Catalog) -> None:
        self._files = files
        self._catalog = catalog
        self._uploaded = Versions(catalog.digest)
        self._outputs = f"{files.outputs}/"  # beginning of the paths of outputs
        self._within = len(f"{files.data}/")  # length of a path before the relative one of Files.within()

    def of(self, path: str, status: os.stat_result) -> str:
        """Return the version of a file that has this status. Every request needs one."""
        if path.startswith(self._outputs):  # written by workers, without a digest
            return stat_version(status)
        return self._uploaded.of(path[self._within :], status)

    def of_all(self, paths: Iterable[Path]) -> set[str]:
        """Return the versions of those files that exist."""
        found = set()
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                found.add(self.of(str(path), path.lstat()))
        return found

    def having(self, path: Path, versions: Collection[str]) -> list[str]:
        """Return which of these versions a file has."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return []
        present = self.of(str(path), status)
        # Outputs are written only by workers, so one with the same time is the same, though perhaps copied.
        moved = str(path).startswith(self._outputs)
        return [
            version for version in versions if version == present or is_same(version, status, moved=moved)
        ]

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

    def publish(self, path: Path, status: os.stat_result, sha256: str) -> None:
        """Note the digest of a file that is about to get its name; it is recorded with :meth:`published`."""
        self._uploaded.publish(self._files.within(path), status, sha256)

    def published(self, path: Path, status: os.stat_result, sha256: str) -> None:
        """Record the digest of a file that has got its name."""
        self.record_digest(path, stamp_of(status), sha256)

    def forget(self, names: Iterable[str]) -> None:
        """Remove the rows of files, by path in the data folder; if the catalog fails, the next sweep removes them."""
        with contextlib.suppress(OSError):
            self._catalog.forget(names)
