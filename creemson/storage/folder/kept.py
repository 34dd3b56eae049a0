"""The versions that accepted jobs still need, and their bytes after the file was replaced or removed.

    a job is accepted           ──> hold()       counts it; nothing happens on the disk
    the file loses its name     ──> replacing()  links bytes that are held under ``kept/VERSION`` first
    the last job has ended      ──> release(), then drop() removes them

So a version that nobody replaces costs nothing, and one that somebody replaces costs one hard link.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from creemson.storage import durable

__all__ = ["Kept"]


class Kept:
    """The held versions of one store. May be used by any thread; no method waits for the disk while others wait for it.

    Args:
        folder: folder of the kept bytes; on the same file system as the files.
        having: returns which of some versions the file with a path has now.
        settle: called with the paths in ``folder`` that were created or removed.
    """

    def __init__(
        self,
        folder: Path,
        having: Callable[[Path, Collection[str]], Sequence[str]],
        settle: Callable[[Path], None],
    ) -> None:
        self._folder = folder
        self._having = having
        self._settle = settle
        self._lock = threading.Lock()  # for the next three fields; held while a file loses its name
        self._holders: Counter[str] = Counter()
        self._kept = {_version_of(path.name) for path in folder.iterdir()}
        self._lost: set[str] = set()  # held versions that could not be linked

    def hold(self, version: str, is_there: Callable[[], bool]) -> bool:
        """Count a holder, so that the bytes of this version stay.

        Args:
            version: the version.
            is_there: returns whether the bytes can be found now.

        Returns:
            Whether they can; if not, nobody was counted.
        """
        with self._lock:
            there = version in self._kept or is_there()
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
        """Remove the bytes of a version, unless somebody has held it again.

        Raises:
            OSError: the disk failed.
        """
        path = self.path(version)
        with _opened([path]), self._lock:
            if version in self._holders or version not in self._kept:
                return
            path.unlink(missing_ok=True)
            self._kept.discard(version)
        self._settle(path)

    def drop_unheld(self) -> None:
        """Remove what an earlier server has kept for jobs that have ended.

        Raises:
            OSError: the disk failed.
        """
        for version in list(self._kept):
            self.drop(version)

    def versions(self) -> set[str]:
        """Return the versions whose bytes are kept."""
        with self._lock:
            return set(self._kept)

    def path(self, version: str) -> Path:
        """Return where the bytes of a version are, if they are kept."""
        return self._folder / version.replace(":", "-", 1)

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
            kept = self.path(version)
            with contextlib.suppress(OSError):  # then the link stays until the last job has ended
                with self._lock:
                    if version not in self._kept or not self._having(path, [version]):
                        continue
                    kept.unlink(missing_ok=True)
                    self._kept.discard(version)
                self._settle(kept)

    def _missing(self, paths: Sequence[Path]) -> list[tuple[Path, str]]:
        """The held versions of files that are not kept."""
        held = self._holders.keys() - self._kept - self._lost
        return [(path, version) for path in paths for version in self._having(path, held)] if held else []

    def _keep(self, path: Path, version: str) -> None:
        kept = self.path(version)
        try:
            inode = os.lstat(path).st_ino
            is_right = bool(self._having(path, [version]))
            with contextlib.suppress(FileExistsError):
                os.link(path, kept, follow_symlinks=False)
            is_right = (
                is_right and os.lstat(kept).st_ino == inode
            )  # another file may get this name at any time
            if not is_right:
                kept.unlink(missing_ok=True)
                return
            durable.sync_folder(self._folder)
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
