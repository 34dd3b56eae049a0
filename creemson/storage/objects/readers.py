"""Counts who reads which file of an object store at the moment."""

import threading
from collections import Counter
from collections.abc import Callable

__all__ = ["Readers"]


class Readers:
    """The downloads that are open on this server. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()  # by key of the file

    def begin(self, key: str) -> Callable[[], None]:
        """Count a reader of a file until the function is called that this returns. Does not wait."""
        with self._lock:
            self._count[key] += 1

        def end() -> None:
            with self._lock:
                self._count[key] -= 1
                if not self._count[key]:
                    del self._count[key]

        return end

    def keys(self) -> set[str]:
        """Return the keys of the files that are read."""
        with self._lock:
            return set(self._count)
