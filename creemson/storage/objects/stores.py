"""The object store of all callers: checked at the start, shared by their stores, and swept."""

import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from creemson.catalog.catalog import Catalog
from creemson.catalog.shared.objects import SharedObjects
from creemson.storage.handles import Handles
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.caller.store import ObjectStore
from creemson.storage.objects.one.bookkeeping import in_memory
from creemson.storage.objects.part import PIECE_BYTES
from creemson.storage.objects.probe import probe
from creemson.storage.objects.several.bookkeeping import in_catalog
from creemson.storage.objects.several.table_rows import OwnTableRows
from creemson.storage.objects.tables import ObjectTables
from creemson.storage.tables.tables import SharedTables, TableRows, Tables

__all__ = ["ObjectStores"]

READ_AHEAD = 16
"""Maximum number of reads ahead at once, for the downloads of all callers; further ones wait."""


class ObjectStores:
    """Implements :class:`creemson.storage.stores.Backend`.

    Args:
        url: ``storage.url``.
        catalog: the catalog; its owner opens and closes it.
        clock: returns seconds since 1970.
        piece: bytes of each object of an upload but the last.
        shares_tables: whether workers on other machines read columnar copies, so that these become objects, too. They
            do not if several servers share the object store.

    Attributes:
        is_shared: whether several servers may use the catalog and the object store, which the catalog knows.
        tables: the columnar copies as objects; None if there are none.
        table_rows: the rows of those in the data folder.

    Raises:
        ObjectStoreError: the environment is not usable.
    """

    def __init__(
        self,
        url: str,
        catalog: Catalog,
        *,
        clock: Callable[[], float],
        piece: int = PIECE_BYTES,
        shares_tables: bool = False,
    ) -> None:
        self._url = url
        self._catalog = catalog
        self._clock = clock
        self._piece = piece
        self._bucket = ObjectBucket(url)
        self._threads = ThreadPoolExecutor(READ_AHEAD, "read-ahead")
        rows = catalog.objects
        self.is_shared = isinstance(rows, SharedObjects)
        self._books = (
            in_catalog(self._bucket, rows, self._threads)
            if isinstance(rows, SharedObjects)
            else in_memory(self._bucket, rows)
        )
        self._garbage = self._books.garbage
        self._opened: list[ObjectStore] = []
        self.tables: SharedTables | None = (
            ObjectTables(self._bucket, self._garbage) if shares_tables and not self.is_shared else None
        )
        self.table_rows: TableRows = OwnTableRows(catalog) if self.is_shared else catalog

    def prepare(self) -> None:
        """Check the object store.

        Raises:
            ObjectStoreError: it cannot be used; the message says why, and what to do.
        """
        self._garbage.open()
        self._garbage.owner = self._catalog.objects.owner(secrets.token_hex(16))
        # Another server may keep files elsewhere, if their settings are not the same.
        has_files = self.is_shared and any(self._catalog.objects.callers())
        probe(self._url, self._garbage.owner, has_files=has_files)

    def callers(self) -> Iterable[str]:
        """Return the callers who have files."""
        return self._catalog.objects.callers()

    def open(self, caller: str, *, quota: int, handles: Handles, tables: Tables) -> ObjectStore:
        """Return the store of a caller."""
        store = ObjectStore(
            self._bucket,
            self._catalog.objects,
            books=self._books,
            threads=self._threads,
            caller=caller,
            piece=self._piece,
            quota=quota,
            clock=self._clock,
            handles=handles,
            tables=tables,
        )
        self._opened.append(store)
        return store

    def renew(self) -> None:
        """Tell other servers what is in use, and was used."""
        self._garbage.renew()
        for store in list(self._opened):
            store.record_uses()

    def close(self) -> None:
        """Tell other servers that nothing is in use any more."""
        self._garbage.close()

    def sweep(self, now: float) -> list[str]:
        """Remove objects that no row names; see :class:`creemson.storage.objects.bookkeeping.Garbage`."""
        return self._garbage.sweep(now)
