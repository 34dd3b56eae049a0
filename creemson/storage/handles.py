"""File handles: shares out what the system allows, so that transfers and connections leave each other some.

A slow reader keeps the handle of its download as long as it likes to read. So downloads and uploads have a share each,
connections have another, and what jobs, workers and the catalog need is reserved. Within a share, nobody gets more than
are left for all others.
"""

import io
import math
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs

from creemson.errors import ProcessingError
from creemson.model.callers import ANYONE
from creemson.storage.store import OpenFile
from creemson.storage.versions import stat_version

__all__ = ["CountedFile", "Handles", "LocalFile", "Share", "connection_share", "needed_for", "open_local"]

RESERVED = 64
"""Handles that are reserved for jobs, workers, the catalog and the log."""
PART = 8
"""Downloads and uploads have a share of one in so many handles each; the rest is for connections."""
RETRY_AFTER = 5.0
"""Seconds after which a refused transfer may be tried again."""


def connection_share(limit: int) -> int:
    """Return how many connections may be open.

    Args:
        limit: how many handles the system allows (RLIMIT_NOFILE).
    """
    return max(0, limit - RESERVED) - 2 * _transfer_share(limit)  # Linux always has a limit (fs.nr_open)


def needed_for(connections: int) -> int:
    """Return how many handles the system must allow, so that so many connections may be open."""
    return math.ceil(connections * PART / (PART - 2)) + RESERVED + 2 * PART


def _transfer_share(limit: int) -> int:
    return max(1, (limit - RESERVED) // PART)


class Share:
    """The handles of all transfers of one kind; thread-safe.

    Args:
        size: maximum number of handles.
        what: the kind, for people.
    """

    def __init__(self, size: float, what: str) -> None:
        self._size = size
        self._what = what
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()  # by caller

    def take(self, caller: str) -> None:
        """Count a handle that is about to be opened.

        Raises:
            ProcessingError: ``busy``: none is left, or the caller has as many as are left for all others.
        """
        with self._lock:
            held, left = self._held[caller], self._size - self._held.total()
            # Without authentication, there is nobody else.
            if left < 1 or (caller != ANYONE and left <= held):
                raise ProcessingError(
                    "busy",
                    f"You have {held} open {self._what}, and the server has few file handles left. Wait until one has "
                    "ended.",
                    retry_after=RETRY_AFTER,
                )
            self._held[caller] = held + 1

    def give_back(self, caller: str) -> None:
        """Count a handle that is closed."""
        with self._lock:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


@attrs.frozen
class Handles:
    """The shares of downloads and uploads."""

    downloads: Share
    uploads: Share

    @classmethod
    def within(cls, limit: float) -> "Handles":
        """Share out what the system allows; see :func:`connection_share`. Infinity disables all limits."""
        size = math.inf if math.isinf(limit) else _transfer_share(int(limit))
        return cls(Share(size, "downloads"), Share(size, "uploads"))


class LocalFile(io.BufferedReader):
    """A file on the disk that is open for reading; see :class:`creemson.storage.store.Stream`."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset`` on; none at the end of the file."""
        return os.pread(self.fileno(), size, offset)

    def ready(self, offset: int, room: memoryview) -> int:
        """Fill ``room`` if the kernel has all of these bytes in memory; otherwise return 0.

        Starting a thread for each megabyte would take as long as reading it.
        """
        try:
            return len(room) if os.preadv(self.fileno(), [room], offset, os.RWF_NOWAIT) == len(room) else 0
        except OSError:  # EAGAIN, or a file system without RWF_NOWAIT
            return 0


def open_local(path: Path) -> OpenFile:
    """Open a file of the program itself for reading.

    Raises:
        OSError: it cannot be opened.
    """
    stream = LocalFile(io.FileIO(path, "rb"))
    status = os.fstat(stream.fileno())
    return OpenFile(path, stream, status.st_size, stat_version(status), status.st_mtime)


class CountedFile(LocalFile):
    """A file that reports when it is closed.

    Args:
        path: path of the file.
        on_close: called once.

    Raises:
        OSError: the file cannot be opened; then ``on_close`` is not called.
    """

    def __init__(self, path: Path, on_close: Callable[[], None]) -> None:
        self._on_close: Callable[[], None] = lambda: None
        super().__init__(io.FileIO(path, "rb"))
        self._on_close = on_close

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            self._on_close()
