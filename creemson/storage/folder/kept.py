"""The versions that accepted jobs still need, and their bytes after the file was replaced or removed.

    a job is accepted           ──> hold()       counts it; nothing happens on the disk
    the file loses its name     ──> replacing()  links bytes that are held under ``kept/VERSION`` first
    the last job has ended      ──> release(), then drop() removes them

So a version that nobody replaces costs nothing, and one that somebody replaces costs one hard link.
"""

import contextlib
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from creemson.errors import CreemsonError
from creemson.model.identity import identity_of
from creemson.storage import durable
from creemson.storage.folder.files import Files
from creemson.storage.folder.versions import FileVersions
from creemson.storage.quota import Ledger
from creemson.storage.store import Found, file_changed
from creemson.storage.versions import digest_in

__all__ = ["Kept"]


class Kept:
    """The held versions of one store; implements :class:`creemson.storage.store.HeldVersions`.

    May be used by any thread; no method waits for the disk while others wait for it.

    Args:
        files: the caller's folders, all on one file system.
        versions: the versions of the files in them.
        ledger: counts the bytes that are kept.
        look_up: finds the file that has a name now, see :meth:`creemson.storage.store.Store.look_up`.
    """

    def __init__(
        self, files: Files, versions: FileVersions, ledger: Ledger, look_up: Callable[[str], Found]
    ) -> None:
        self._files = files
        self._versions = versions
        self._ledger = ledger
        self._look_up = look_up
        self._lock = threading.Lock()  # for the next three fields; held while a file loses its name
        self._holders: Counter[str] = Counter()
        self._kept = {_version_of(path.name) for path in files.kept.iterdir()}
        self._lost: set[str] = set()  # held versions that could not be linked

    def find(self, name: str, version: str) -> Found:
        """Find a version of a file that was looked up earlier, also if the file was replaced or removed since."""
        found = self._find_present(name, version)
        if found is not None:
            return found
        kept = str(self._path(version))
        try:
            return Found(kept, version, identity_of(os.lstat(kept)))
        except FileNotFoundError:
            raise file_changed(name) from None

    def _find_present(self, name: str, version: str) -> Found | None:
        """Find a file if it still has this version."""
        try:
            found = self._look_up(name)
        except CreemsonError:
            return None
        if found.version == version:
            return found
        return found._replace(version=version) if self._versions.having(Path(found.path), [version]) else None

    def hold(self, name: str, version: str) -> bool:
        """Count a holder, so that the bytes of this version stay; if they cannot be found now, nobody is counted."""
        with self._lock:
            there = version in self._kept or self._find_present(name, version) is not None
            if there:
                self._holders[version] += 1
        return there

    def release(self, version: str) -> bool:
        """Remove a holder; return whether :meth:`drop` must be called, because it was the last one."""
        with self._lock:
            self._holders[version] -= 1
            if self._holders[version] > 0:
                return False
            del self._holders[version]
            self._lost.discard(version)
            return version in self._kept

    def drop(self, version: str) -> None:
        """Remove the bytes of a version, unless somebody has held it again."""
        path = self._path(version)
        with _opened([path]), self._lock:
            if version in self._holders or version not in self._kept:
                return
            path.unlink(missing_ok=True)
            self._kept.discard(version)
        self._settle(path)

    def drop_unheld(self) -> None:
        """Remove what an earlier server has kept for jobs that have ended."""
        for version in list(self._kept):
            self.drop(version)

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
        self._versions.publish(path, status, sha256)
        self._versions.published(path, status, sha256)
        return True

    def present(self) -> set[str]:
        """Return the versions of the uploaded files, and of bytes that are kept."""
        with self._lock:
            kept = set(self._kept)
        return kept | self._versions.of_all(self._files.uploads.iterdir())

    def _path(self, version: str) -> Path:
        """Return where the bytes of a version are, if they are kept."""
        return self._files.kept / version.replace(":", "-", 1)

    def _settle(self, *paths: Path) -> None:
        """Count files as they are, after they were created or removed."""
        self._ledger.settle(*map(self._files.key, paths))

    def remove(self, *paths: Path) -> None:
        """Remove files, durably, and their rows; what is held of them is kept.

        Raises:
            OSError: the disk failed.
        """
        durable.remove(paths, within=self.replacing(*paths))
        self._settle(*paths)
        self._versions.forget([self._files.within(path) for path in paths])

    @contextlib.contextmanager
    def replacing(self, *paths: Path) -> Iterator[None]:
        """Keep the bytes of the files which are replaced or removed in this context, as far as they are held.

        The links are on the disk before the context begins, so a loss of power does not lose them. The context must be
        short: nobody can hold a version meanwhile.

        Raises:
            OSError: the disk failed.
        """
        linked: list[tuple[Path, str]] = []
        with _opened(paths):
            try:
                while True:
                    with self._lock:
                        missing = self._missing(paths)
                        if not missing:
                            yield
                            return
                    for path, version in missing:
                        self._keep(path, version)
                    linked += missing
            except BaseException:
                self._remove_links(linked)
                raise

    def _remove_links(self, linked: Sequence[tuple[Path, str]]) -> None:
        """Remove the links to files that have their names after all: their bytes would count twice."""
        for path, version in linked:
            kept = self._path(version)
            with contextlib.suppress(OSError):  # then the link stays until the last job has ended
                with self._lock:
                    if version not in self._kept or not self._versions.having(path, [version]):
                        continue
                    kept.unlink(missing_ok=True)
                    self._kept.discard(version)
                self._settle(kept)

    def _missing(self, paths: Sequence[Path]) -> list[tuple[Path, str]]:
        """The held versions of files that are not kept."""
        held = self._holders.keys() - self._kept - self._lost
        if not held:
            return []
        return [(path, version) for path in paths for version in self._versions.having(path, held)]

    def _keep(self, path: Path, version: str) -> None:
        kept = self._path(version)
        try:
            inode = os.lstat(path).st_ino
            is_right = bool(self._versions.having(path, [version]))
            with contextlib.suppress(FileExistsError):
                os.link(path, kept, follow_symlinks=False)
            is_right = (
                is_right and os.lstat(kept).st_ino == inode
            )  # another file may get this name at any time
            if not is_right:
                kept.unlink(missing_ok=True)
                return
            durable.sync_folder(self._files.kept)
        except FileNotFoundError:  # somebody else has removed it
            return
        except OSError:  # for example a file system without hard links: the jobs end in file_changed
            with self._lock:
                self._lost.add(version)
            return
        with self._lock:
            self._kept.add(version)
        self._settle(kept)


@contextlib.contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[None]:
    """Keep files open, so that gigabytes are freed when they are closed, and not when they lose their name."""
    with contextlib.ExitStack() as stack:
        for path in paths:
            with contextlib.suppress(OSError):
                stack.callback(
                    os.close, os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                )
        yield


def _version_of(name: str) -> str:
    return name.replace("-", ":", 1)
