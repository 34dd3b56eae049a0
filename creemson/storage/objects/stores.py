"""The object store of all callers: checked at the start, shared by their stores, and swept."""

import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from creemson.catalog.catalog import Catalog
from creemson.storage.handles import Handles
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.garbage import Garbage
from creemson.storage.objects.part import PIECE_BYTES
from creemson.storage.objects.probe import probe
from creemson.storage.objects.store import ObjectStore
from creemson.storage.objects.tables import ObjectTables
from creemson.storage.tables.tables import SharedTables, Tables

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
        shares_tables: whether workers on other machines read columnar copies, so that these become objects, too.

    Attributes:
        tables: the columnar copies as objects; None if there are none.

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
        self._garbage = Garbage(self._bucket, catalog.objects)
        self.tables: SharedTables | None = (
            ObjectTables(self._bucket, self._garbage) if shares_tables else None
        )
        self._threads = ThreadPoolExecutor(READ_AHEAD, "read-ahead")

    def prepare(self) -> None:
        """Check the object store.

        Raises:
            ObjectStoreError: it cannot be used; the message says why, and what to do.
        """
        self._garbage.owner = self._catalog.objects.owner(secrets.token_hex(16))
        probe(self._url, self._garbage.owner)

    def callers(self) -> Iterable[str]:
        """Return the callers who have files."""
        return self._catalog.objects.callers()

    def open(self, caller: str, *, quota: int, handles: Handles, tables: Tables) -> ObjectStore:
        """Return the store of a caller."""
        return ObjectStore(
            self._bucket,
            self._catalog,
            garbage=self._garbage,
            threads=self._threads,
            caller=caller,
            piece=self._piece,
            quota=quota,
            clock=self._clock,
            handles=handles,
            tables=tables,
        )

    def sweep(self, now: float) -> list[str]:
        """Remove objects that no row names; see :meth:`Garbage.sweep`."""
        return self._garbage.sweep(now)
