"""Removes the objects of files that have lost their rows, and those that never had one.

Nobody waits for it, and nothing is lost if it fails: what could not be removed is tried again with the next sweep, and
after a restart it is found by a listing.
"""

import threading
from collections.abc import Callable, Collection, Iterable

from creemson.catalog.objects import ObjectRow, Objects
from creemson.errors import ObjectStoreError
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.part import objects_of
from creemson.storage.objects.probe import OWNER, check_owner
from creemson.storage.objects.readers import Readers

__all__ = ["MemoryGarbage"]

LIST_SECONDS = 3600.0
"""Seconds between two listings of all objects: each is paid for."""


class MemoryGarbage:
    """Implements :class:`creemson.storage.objects.bookkeeping.Garbage`.

    Args:
        bucket: the object store.
        rows: the files that there are.

    Attributes:
        owner: id of the catalog; until it is set, nothing is removed for want of a row.
        knows_holders: whether the jobs of an earlier server hold what they need; until then, nothing kept is removed.
    """

    grace = 0.0

    def __init__(self, bucket: ObjectBucket, rows: Objects) -> None:
        self._bucket = bucket
        self._rows = rows
        self._readers = Readers()
        self._lock = threading.Lock()  # for the next three fields
        self._waiting: dict[str, list[str]] = {}  # by key of a file: objects to remove
        self._discarded: set[str] = set()  # beginnings of keys under which there may be objects to remove
        self._writing: set[str] = set()  # beginnings of keys under which somebody writes
        self._listed_at: float | None = None
        self.knows_holders = False
        self.owner = ""

    def open(self) -> None:
        """Do nothing: there is no other server."""

    def close(self) -> None:
        """Do nothing."""

    def renew(self) -> None:
        """Do nothing."""

    def soon(self, work: Callable[[], None]) -> None:
        """Do nothing: nobody but the next sweep needs it."""

    def remove(self, rows: Iterable[ObjectRow]) -> None:
        """Remove the objects of files without a row, as soon as no download reads them."""
        with self._lock:
            for row in rows:
                self._waiting.setdefault(row.key, []).extend(key for key, _ in objects_of(row))
        self.collect()

    def remove_objects(self, key: str, objects: Collection[str]) -> None:
        """Remove objects of a file that it does not need any more."""
        if objects:
            with self._lock:
                self._waiting.setdefault(key, []).extend(objects)
            self.collect()

    def begin_writing(self, key: str) -> None:
        """Note that objects whose names begin with ``key`` and a slash are being written, so they get a row later."""
        with self._lock:
            self._writing.add(key)

    def end_writing(self, key: str, *, discard: bool) -> None:
        """End :meth:`begin_writing`; with ``discard``, the next sweep removes what was written. Does not wait."""
        with self._lock:
            self._writing.discard(key)
            if discard:
                self._discarded.add(key)

    def store_of(self, key: str) -> str:
        """Return nothing: there is one store."""
        del key
        return ""

    def written(self) -> Collection[str]:
        """Return the beginnings of keys under which somebody writes."""
        with self._lock:
            return set(self._writing)

    def begin_reading(self, key: str) -> Callable[[], None]:
        """Keep the objects of a file until the function is called that this returns. Does not wait."""
        return self._readers.begin(key)

    def collect(self) -> None:
        """Remove what can be removed now; the rest stays for later."""
        with self._lock:
            reading = self._readers.keys()
            ready = {key: names for key, names in self._waiting.items() if key not in reading}
            for key in ready:
                del self._waiting[key]
        try:
            self._bucket.remove([name for names in ready.values() for name in names])
        except ObjectStoreError:
            with self._lock:
                for key, names in ready.items():
                    self._waiting.setdefault(key, []).extend(names)

    def sweep(self, now: float) -> list[str]:
        """Remove what was left: by failed attempts since the last sweep; at times, whatever no row names.

        Args:
            now: the time in seconds since 1970.

        Returns:
            The names of the objects.

        Raises:
            OSError: the object store or the catalog failed; the next sweep tries again.
        """
        self.collect()
        with self._lock:
            discarded = set(self._discarded)
        if self._listed_at is None or not 0 <= now - self._listed_at < LIST_SECONDS:
            check_owner(self._rows, self.owner, self._bucket.url)
            found = self._without_row("")
            self._listed_at = now
        else:
            found = [name for beginning in discarded for name in self._without_row(beginning)]
        self._bucket.remove(found)
        with self._lock:
            self._discarded -= discarded
        return found

    def _without_row(self, beginning: str) -> list[str]:
        """List the objects under a beginning of keys that no row names, and that nobody reads or writes."""
        # In this order: an object that is listed gets its row before its writer ends.
        listed = [name for name, _ in self._bucket.sizes(beginning)]
        with self._lock:
            busy = self._writing | self._readers.keys()
            waiting = {name for names in self._waiting.values() for name in names}
        if beginning:
            rows = [row for row in map(self._rows.row, {beginning, *listed}) if row is not None]
        else:
            rows = list(self._rows.rows()) if listed else []
        known = {name for row in rows for name, _ in objects_of(row)} | waiting | {OWNER}
        return [
            name
            for name in listed
            if name not in known and not any(name == key or name.startswith(f"{key}/") for key in busy)
        ]
