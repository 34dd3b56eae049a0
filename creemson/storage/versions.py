"""Versions: which content a file has at one time.

    sha256:DIGEST                      an uploaded file: the digest that was computed while its bytes arrived
    stat:INODE-SIZE-MTIME-CTIME        any other file: copied into the folder by hand, or an output

The digest of an uploaded file is valid while the file has the size and the modification time with which it was
published; the server sets that time itself, to the nanosecond. So a copied or moved data folder keeps its versions, as
do hard links of a backup: both change the inode or the status-change time (ctime), which therefore do not count.

A file that somebody changes by hand gets another version by its modification time. A digest of its bytes would take
longer than many jobs.
"""

import os
from collections.abc import Callable

__all__ = [
    "Versions",
    "digest_in",
    "digest_version",
    "is_same",
    "stamp_of",
    "stat_version",
]

MAX_KNOWN = 4096
"""Maximum number of files of one store whose version is kept in memory; some 200 bytes each."""


def stamp_of(status: os.stat_result) -> str:
    """Return what the catalog stores with the digest of an uploaded file, to recognise the file later."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def stat_version(status: os.stat_result) -> str:
    """Return the version of a file whose digest is unknown.

    A rewrite within one tick of the file system's clock that keeps inode and size is not detected.
    """
    return f"stat:{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def digest_version(sha256: str) -> str:
    """Return the version of an uploaded file."""
    return f"sha256:{sha256}"


def digest_in(version: str) -> str | None:
    """Return the digest, if the version is one.

    >>> digest_in("sha256:ab"), digest_in("stat:1-2-3-4")
    ('ab', None)
    """
    kind, _, rest = version.partition(":")
    return rest if kind == "sha256" else None


def is_same(version: str, status: os.stat_result, *, moved: bool = False) -> bool:
    """Return whether a file with this status still is the one that had a ``stat:`` version.

    Its status-change time may differ: hard links and permissions change it, not the bytes. (Cached results are more
    careful, because for them a wrong "no" costs little: they compare the whole version.)

    Args:
        version: a version.
        status: the file's status.
        moved: whether the inode may differ, too.
    """
    kind, _, rest = version.partition(":")
    if kind != "stat":
        return False
    # The time may be before 1970 and so begin with a minus sign.
    inode, _, rest = rest.partition("-")
    return rest.startswith(f"{stamp_of(status)}-") and (moved or inode == str(status.st_ino))


class Versions:
    """The versions of the files of one store, in memory as far as they are needed often. May be used by any thread.

    Args:
        read: returns the digest that the catalog has for a path and a stamp; raises OSError if the database fails.
    """

    def __init__(self, read: Callable[[str, str], str | None]) -> None:
        self._read = read
        # By path, size and time of modification: the digest; None if the catalog has none. Published files are entered
        # before they get their name, so that no file is ever taken for one without a digest.
        self._known: dict[tuple[str, int, int], str | None] = {}

    def of(self, path: str, status: os.stat_result) -> str:
        """Return the version of an uploaded file. Every request needs it, so only the first one reads the catalog.

        Args:
            path: path relative to the data folder.
            status: the file's status.
        """
        key = (path, status.st_size, status.st_mtime_ns)
        try:
            sha256 = self._known[key]
        except KeyError:
            try:
                sha256 = self._read(path, stamp_of(status))
            except OSError:  # the file has a version without the catalog, too
                return stat_version(status)
            # An upload may have been published meanwhile; what it has entered stays.
            sha256 = self._known.setdefault(key, sha256)
            self._trim()
        return stat_version(status) if sha256 is None else digest_version(sha256)

    def publish(self, path: str, status: os.stat_result, sha256: str) -> None:
        """Note the digest of a file that is about to get its name."""
        self._known[path, status.st_size, status.st_mtime_ns] = sha256
        self._trim()

    def _trim(self) -> None:
        while len(self._known) > MAX_KNOWN:
            try:
                self._known.pop(next(iter(self._known)), None)
            except (StopIteration, RuntimeError):  # another thread does the same
                return
