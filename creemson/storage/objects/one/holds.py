"""The versions that accepted jobs still need. Bytes whose file was replaced or removed stay until the last job ends.

A file that loses its name always gets a row of the kind ``kept`` first; if nobody holds its version, that row goes at
once. So a crash loses nothing that a job needs.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from creemson.catalog.objects import ObjectRow, Objects

__all__ = ["MemoryHolds"]


class MemoryHolds:
    """Implements :class:`creemson.storage.objects.bookkeeping.Holds`.

    Args:
        rows: the files that there are.
        caller: name of the caller.
    """

    def __init__(self, rows: Objects, caller: str) -> None:
        self._rows = rows
        self._caller = caller
        self._lock = threading.Lock()  # for the next two fields; never held during a write to the catalog
        self._holders: Counter[str] = Counter()
        self._dropping: set[str] = set()  # keys of kept rows that are about to go

    def hold(self, version: str, is_there: Callable[[], bool]) -> bool:
        """Count a holder, so that the bytes of this version stay.

        Args:
            version: the version.
            is_there: returns whether a file has it now.

        Returns:
            Whether the bytes can be found; if not, nobody was counted.
        """
        with self._lock:
            self._holders[version] += 1  # before looking, so that a file which is replaced now stays as kept
        there = is_there() or self.kept(version) is not None
        if not there:
            self.release(version)
        return there

    def release(self, version: str) -> bool:
        """Remove a holder; return whether there are kept rows."""
        with self._lock:
            self._holders[version] -= 1
            if self._holders[version] > 0:
                return False
            del self._holders[version]
        return bool(self._rows.kept(self._caller, version))

    def is_held(self, version: str) -> bool:
        """Return whether somebody holds a version."""
        with self._lock:
            return version in self._holders

    def kept(self, version: str) -> ObjectRow | None:
        """Return a row with the kept bytes of a version, if there is one that stays."""
        with self._lock:
            found = self._rows.kept(self._caller, version)
            return next((row for row in found if row.key not in self._dropping), None)

    def remove_unheld(self, version: str) -> Sequence[ObjectRow]:
        """Delete the kept rows of a version that nobody holds, and return them."""
        with self._lock:
            if version in self._holders:
                return []
            rows = [row for row in self._rows.kept(self._caller, version) if row.key not in self._dropping]
            self._dropping.update(row.key for row in rows)
        keys = [row.key for row in rows]
        try:
            self._rows.forget(keys)
        finally:
            with self._lock:
                self._dropping.difference_update(keys)
        return rows
