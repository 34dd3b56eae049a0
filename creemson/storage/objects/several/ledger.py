"""The quota of a caller over all servers: counted in the catalog, see :mod:`creemson.catalog.shared.usage`."""

import threading
from collections.abc import Callable, Collection, Mapping

from creemson.catalog.shared.usage import Usage
from creemson.errors import storage_full

__all__ = ["SharedLedger"]


class SharedLedger:
    """Implements :class:`creemson.storage.objects.bookkeeping.Ledger`.

    Files count by their rows, so only what has none yet is claimed. Without a quota, nothing is asked of the catalog.

    Args:
        usage: the count.
        quota: maximum number of bytes; 0: there is no limit.
        store_of: returns which store writes under a key.
    """

    scans = False

    def __init__(self, usage: Usage, quota: int, store_of: Callable[[str], str]) -> None:
        self._usage = usage
        self._quota = quota
        self._store_of = store_of
        self._lock = threading.Lock()
        # By key: size and store of what this server has claimed. So an upload of an announced size asks only once.
        self._claimed: dict[str, tuple[int, str]] = {}

    @property
    def counts(self) -> bool:
        """Whether there is a limit."""
        return self._quota > 0

    @property
    def limit_of_rows(self) -> int:
        """The quota: the rows of outputs are checked when they are recorded."""
        return self._quota

    @property
    def left(self) -> int | None:
        """The number of bytes that still fit; None if there is no limit."""
        return max(0, self._quota - self._usage.total()) if self.counts else None

    def claim(
        self, key: str, size: int, *, instead_of: str | None = None, replaces: str | None = None
    ) -> None:
        """Reserve bytes that will be written under a key.

        Raises:
            ProcessingError: ``storage_full``: they do not fit; or ``worker_died``: this server was away for too long.
        """
        if not self.counts or not size:
            return
        with self._lock:
            claimed, _ = self._claimed.get(key, (0, ""))
        if size <= claimed and replaces is None:
            return
        store = self._store_of(key)
        name = None if replaces is None else replaces.partition(":")[2]
        self._usage.reserve(key, size, store=store, instead_of=instead_of, replaces=name)
        with self._lock:
            self._claimed[key] = max(size, claimed), store

    def check(self, more: int = 1) -> None:
        """Check that ``more`` bytes fit.

        Raises:
            ProcessingError: ``storage_full``.
        """
        if self.counts:
            total = self._usage.total()
            if total + more > self._quota:
                raise storage_full(self._quota, total, more)

    def release(self, key: str) -> None:
        """End a claim."""
        self._free(key)

    def publish(self, claimed: str, key: str) -> None:
        """Forget the claim of a file: the recording of its row has ended it."""
        del key
        with self._lock:
            self._claimed.pop(claimed, None)

    def settle(self, *keys: str) -> None:
        """End the claims of files that have changed: they count by their rows."""
        self._free(*keys)

    def _free(self, *keys: str) -> None:
        with self._lock:
            claims = {key: self._claimed.pop(key)[1] for key in keys if key in self._claimed}
        for store in set(claims.values()):
            self._usage.free([key for key, its in claims.items() if its == store], store)

    def admit(self, *keys: str) -> None:
        """Do nothing: the rows were checked when they were recorded."""

    def begin_scan(self) -> None:
        """Do nothing: what is counted is there."""

    def end_scan(self, found: Mapping[str, int], *, claimed: Collection[str] = ()) -> None:
        """Do nothing."""
