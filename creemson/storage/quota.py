"""What one caller stores, counted in bytes, so that a quota holds exactly also for many requests at once. Without I/O.

    upload begins     ──> claim()   its announced size, or the bytes that have arrived so far
    upload ends       ──> publish() its file is measured, its claim ends
    output is written ──> admit()   it is measured; if it does not fit, its writer removes it again
    file is removed   ──> settle()  it is measured again: its bytes are free only when they are gone

Bytes count from before they are on the disk until after they are gone. Of a file and the upload that will replace it,
only the larger one counts: so a file can be replaced under any quota, and if the upload is given up, what counted is
still enough. One upload at a time gets this credit for a file. While it runs, the disk may hold both.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from creemson.errors import ProcessingError, storage_full

__all__ = ["Ledger", "Quota"]


class Quota(Protocol):
    """What a caller may still store; of several servers, the database tells that, for which both methods wait."""

    @property
    def left(self) -> int | None:
        """The number of bytes that the caller may still store; None if there is no quota."""

    def check(self, more: int = 1) -> None:
        """Check that ``more`` bytes may be stored.

        Raises:
            ProcessingError: ``storage_full``.
        """


class Ledger:
    """Counts the files of one caller; thread-safe.

    A key is the path of a file in the caller's folder.

    Args:
        quota: maximum number of bytes; 0: there is no limit, and nothing is counted or measured.
        measure: returns the bytes of the file with a key, 0 if there is none. It is called with the lock held, so that
            a file that two threads change is counted as the last one leaves it.
    """

    scans = True
    """Whether the count must be corrected at times."""
    limit_of_rows = 0
    """Number of bytes that the catalog checks when it records a row; 0: :meth:`admit` checks it."""

    def __init__(self, quota: int, measure: Callable[[str], int]) -> None:
        self._quota = quota
        self._measure = measure
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._total = 0
        self._replacing: dict[str, str] = {}  # by key of a file: the claim of the upload that will replace it
        self._changed: set[str] | None = None  # keys that changed since the scan began that runs now

    @property
    def counts(self) -> bool:
        """Whether there is a limit."""
        return self._quota > 0

    @property
    def total(self) -> int:
        """The number of bytes counted."""
        return self._total - self._credit()

    @property
    def left(self) -> int | None:
        """The number of bytes that still fit; None if there is no limit."""
        return max(0, self._quota - self.total) if self.counts else None

    def claim(
        self, key: str, size: int, *, instead_of: str | None = None, replaces: str | None = None
    ) -> None:
        """Count bytes that will be written under a key.

        Args:
            key: the key.
            size: all bytes that the file will have; a smaller claim of the same key is raised, a larger one stays.
            instead_of: another key, whose file the caller removes before it writes any byte; it counts until then, but
                does not keep the claim from fitting.
            replaces: the key of the file that this one will replace.

        Raises:
            ProcessingError: ``storage_full``: they do not fit; nothing has changed.
        """
        if not self.counts:
            return
        with self._lock:
            if replaces is not None and self._replacing.get(replaces) in (None, instead_of):
                self._replacing[replaces] = key
            before = self._sizes.get(key, 0)
            if size <= before:
                return
            counted = self.total - (0 if instead_of is None else self._sizes.get(instead_of, 0))
            self._set(key, size)
            after = self.total - (0 if instead_of is None else self._sizes.get(instead_of, 0))
            if after > max(self._quota, counted):
                self._set(key, before)
                if not before:
                    self._end_credit(key)
                raise self._full(after - counted)

    def check(self, more: int = 1) -> None:
        """Check that ``more`` bytes fit.

        Raises:
            ProcessingError: ``storage_full``.
        """
        if not self.counts:
            return
        with self._lock:
            if self.total + more > self._quota:
                raise self._full(more)

    def check_publication(self, claimed: str, key: str) -> None:
        """Check that a file fits when it gets its name; it may not if the replaced bytes are kept.

        Raises:
            ProcessingError: ``storage_full``.
        """
        if not self.counts:
            return
        with self._lock:
            freed = 0 if self._replacing.get(key) == claimed else self._sizes.get(key, 0)
            if self.total - freed > self._quota:
                raise self._full(self._sizes.get(claimed, 0))

    def release(self, key: str) -> None:
        """End a claim whose file is gone or was never written."""
        if not self.counts:
            return
        with self._lock:
            self._set(key, 0)
            self._end_credit(key)

    def publish(self, claimed: str, key: str) -> None:
        """Count a file that has got the name ``key``, in place of its claim and of the file that it replaced."""
        if not self.counts:
            return
        with self._lock:
            self._set(claimed, 0)
            self._end_credit(claimed)
            self._set(key, self._measure(key))

    def settle(self, *keys: str) -> None:
        """Count files as they are, after they were removed or replaced."""
        if not self.counts:
            return
        with self._lock:
            for key in keys:
                self._set(key, self._measure(key))

    def admit(self, *keys: str) -> None:
        """Count files that somebody else has written, all or none.

        Raises:
            ProcessingError: ``storage_full``: they do not fit and are not counted; the caller removes them.
        """
        if not self.counts:
            return
        with self._lock:
            sizes = {key: self._measure(key) for key in keys}
            more = sum(sizes.values()) - sum(self._sizes.get(key, 0) for key in keys)
            if self.total + more > self._quota:  # even if a scan has counted them already
                raise self._full(more)
            for key, size in sizes.items():
                self._set(key, size)

    def begin_scan(self) -> None:
        """Note from now on which keys change, until :meth:`end_scan`."""
        with self._lock:
            self._changed = set()

    def end_scan(self, found: Mapping[str, int], *, claimed: Collection[str] = ()) -> None:
        """Correct the count by a listing of the folder, for files that somebody has put there or removed by hand.

        Args:
            found: the sizes of all files; of keys that have changed since :meth:`begin_scan`, the count is newer.
            claimed: keys of files that are being written, whose claims stay.
        """
        with self._lock:
            newer = self._changed or set()
            self._changed = None
            for key in [*self._sizes, *found]:
                if key not in newer and key not in claimed:
                    self._set(key, found.get(key, 0))

    def _credit(self) -> int:
        """The bytes in the sum of the sizes that do not count, because an upload will replace them."""
        return sum(
            min(self._sizes.get(key, 0), self._sizes.get(claimed, 0))
            for key, claimed in self._replacing.items()
        )

    def _end_credit(self, claimed: str) -> None:
        for key in [key for key, other in self._replacing.items() if other == claimed]:
            del self._replacing[key]

    def _set(self, key: str, size: int) -> None:
        self._total += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size
        if self._changed is not None:
            self._changed.add(key)

    def _full(self, more: int) -> ProcessingError:
        return storage_full(self._quota, self.total, more)
