"""Removes objects that no server needs.

What is to be removed is noted in the catalog, in the transaction that deletes the row, and removed by the next sweep of
any server after :data:`creemson.catalog.shared.leases.GRACE`, unless somebody uses it. Objects without a row are noted
when they are found by a listing, and so get the same time. To remove something twice does no harm.
"""

import contextlib
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor

from creemson.catalog.objects import ObjectRow
from creemson.catalog.shared.leases import LEASE
from creemson.catalog.shared.objects import SharedObjects
from creemson.errors import ObjectStoreError
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.part import objects_of
from creemson.storage.objects.probe import OWNER, check_owner
from creemson.storage.objects.readers import Readers

__all__ = ["SharedGarbage"]

LIST_SECONDS = 3600.0
"""Seconds between two listings of all objects by any server: each is paid for."""


class SharedGarbage:
    """Implements :class:`creemson.storage.objects.bookkeeping.Garbage`.

    Args:
        bucket: the object store.
        rows: the files that there are.
        threads: does what nobody waits for.

    Attributes:
        owner: id of the catalog.
    """

    knows_holders = True
    """They are in the catalog."""
    grace = LEASE

    def __init__(self, bucket: ObjectBucket, rows: SharedObjects, threads: Executor) -> None:
        self._bucket = bucket
        self._rows = rows
        self._leases = rows.leases
        self._threads = threads
        self.owner = ""
        self._renewing = threading.Lock()  # held during a renewal
        self._listed: set[str] = set()  # what the store uses by the catalog; for renewals only
        self._readers = Readers()
        self._lock = threading.Lock()  # for the next three fields
        self._store = ""
        self._writing: dict[str, str] = {}  # by beginning of keys: the store that has begun to write there
        self._discarded: set[str] = set()  # beginnings of keys under which there may be objects to remove

    def open(self) -> None:
        """Record a store."""
        store = secrets.token_hex(8)
        self._leases.begin(store)
        with self._lock:
            self._store = store
        self._listed = set()

    def close(self) -> None:
        """Remove the store."""
        with self._lock:
            store, self._store = self._store, ""
        if store:
            with contextlib.suppress(OSError):  # it expires
                self._leases.end(store)

    def renew(self) -> None:
        """Renew the store, and list what is in use; if it was renewed too late, begin a new one."""
        with self._renewing:
            if not self._renew():
                self.open()
                self._renew()

    def _renew(self) -> bool:
        with self._lock:
            store, used = self._store, {*self._readers.keys(), *self._writing}
        lives = self._leases.renew(store, used - self._listed, self._listed - used)
        self._listed = used if lives else set()
        return lives

    def remove(self, rows: Iterable[ObjectRow]) -> None:
        """Do nothing: the transaction that deleted the rows has noted that."""

    def remove_objects(self, key: str, objects: Collection[str]) -> None:
        """Remove parts of pieces that are whole now. If that fails, a listing finds them.

        Nobody needs them: whoever takes the upload over does so by its row, which has the whole piece.
        """
        del key
        with contextlib.suppress(ObjectStoreError):
            self._bucket.remove(objects)

    def begin_writing(self, key: str) -> None:
        """Note that somebody writes under a beginning of keys."""
        with self._lock:
            self._writing[key] = self._store

    def end_writing(self, key: str, *, discard: bool) -> None:
        """End :meth:`begin_writing`; with ``discard``, the next sweep removes what was written."""
        with self._lock:
            self._writing.pop(key, None)
            if discard:
                self._discarded.add(key)

    def store_of(self, key: str) -> str:
        """Return the store that has begun to write under a key; for others, the one of now."""
        with self._lock:
            return self._writing.get(key, self._store)

    def written(self) -> set[str]:
        """Return the beginnings of keys under which any server writes."""
        with self._lock:
            own = set(self._writing)
        return own | self._leases.used()

    def begin_reading(self, key: str) -> Callable[[], None]:
        """Keep the objects of a file until the function is called that this returns."""
        return self._readers.begin(key)

    def soon(self, work: Callable[[], None]) -> None:
        """Do some work in a thread."""

        def attempt() -> None:
            with contextlib.suppress(OSError):  # the next sweep tries again
                work()

        self._threads.submit(attempt)

    def sweep(self, now: float) -> list[str]:
        """Remove what was discarded here, and what was noted long enough ago."""
        del now  # the clock of the database counts
        self.renew()
        all_live = self._leases.expire()
        with self._lock:
            discarded = set(self._discarded)
        found = self._without_row(
            name for beginning in discarded for name, _ in self._bucket.sizes(beginning)
        )
        self._bucket.remove(found)
        with self._lock:
            self._discarded -= discarded
        if self._leases.may_list(LIST_SECONDS):
            check_owner(self._rows, self.owner, self._bucket.url)
            self._leases.remove(self._without_row(name for name, _ in self._bucket.sizes()))
            self._rows.forget_row_counts()
        return found + self._remove_noted() if all_live else found

    def _without_row(self, names: Iterable[str]) -> list[str]:
        """Return the objects that no row names, and that nobody writes."""
        listed = [name for name in names if name != OWNER]
        # In this order: an object that is listed gets its row before its writer ends.
        used = self.written()
        rows = self._rows_of(listed)
        return [name for name in listed if not (_is_used(name, used) or _is_named(name, rows))]

    def _remove_noted(self) -> list[str]:
        """Remove what was noted long enough ago, unless somebody uses it. The stores have expired that do not live.

        A row may have been recorded since; and leftovers of an upload lie beside the objects of its file.
        """
        keys = self._leases.removable()
        if not keys:
            return []
        used = self.written() | self._readers.keys()
        rows = self._rows_of(keys)
        done = [key for key in keys if not _is_used(key, used)]
        gone = [key for key in done if not _is_named(key, rows)]
        names = []
        for key in gone:
            names += [key, *(name for name, _ in self._bucket.sizes(key) if not _is_named(name, rows))]
        self._bucket.remove(names)
        self._leases.removed(done)
        return gone

    def _rows_of(self, names: Collection[str]) -> Mapping[str, ObjectRow]:
        """Return the rows to which objects may belong, by key."""
        keys = {key for name in names for key in _beginnings(name)}
        return {row.key: row for row in self._rows.rows_of(sorted(keys))} if keys else {}


def _beginnings(name: str) -> Iterator[str]:
    """Yield the name of an object, and what may be the key of a file that has it.

    >>> list(_beginnings("files/01ab/000002"))
    ['files/01ab/000002', 'files/01ab', 'files']
    """
    while name:
        yield name
        name = name.rpartition("/")[0]


def _is_used(name: str, used: Collection[str]) -> bool:
    return any(key in used for key in _beginnings(name))


def _is_named(name: str, rows: Mapping[str, ObjectRow]) -> bool:
    """Return whether a row has an object. An unfinished upload has all under its key: it may have got more since."""
    row = next((rows[key] for key in _beginnings(name) if key in rows), None)
    return row is not None and (
        row.kind == "part" or name == row.key or name in (key for key, _ in objects_of(row))
    )
