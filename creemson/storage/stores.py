"""The stores of all callers, in one data folder or in one object store.

    DATA/uploads, outputs, parts               without authentication: all callers share them
    DATA/tables                                columnar copies of files of all callers
    DATA/callers/FOLDER/uploads, outputs, …    one folder per caller; FOLDER/caller contains the name of the caller

Two callers never share a folder, so none can name, find, list, replace or measure the files of another.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from creemson.catalog.catalog import Catalog
from creemson.model.callers import ANYONE
from creemson.storage.folder.files import Files
from creemson.storage.folder.stores import FolderStores
from creemson.storage.handles import Handles
from creemson.storage.store import Store
from creemson.storage.tables.tables import SharedTables, TableRows, Tables

__all__ = ["Backend", "Stores", "locked"]


class Backend(Protocol):
    """Where the bytes of all callers are."""

    @property
    def tables(self) -> SharedTables | None:
        """The columnar copies as objects; None if there are none."""

    @property
    def is_shared(self) -> bool:
        """Whether other servers may use it at the same time."""

    def renew(self) -> None:
        """Tell other servers what is in use; called every few seconds if it is shared.

        Raises:
            OSError: the catalog failed.
        """

    def close(self) -> None:
        """Tell other servers that nothing is in use any more."""

    @property
    def table_rows(self) -> TableRows:
        """The rows of the columnar copies that this server has in its data folder."""

    def prepare(self) -> None:
        """Check that it can be used.

        Raises:
            OSError: it cannot; the message says why, and what to do.
        """

    def callers(self) -> Iterable[str]:
        """Return the callers who have files."""

    def open(self, caller: str, *, quota: int, handles: Handles, tables: Tables) -> Store:
        """Return the store of a caller."""

    def sweep(self, now: float) -> list[str]:
        """Remove what is left of files that are gone, and return its names.

        Args:
            now: the time in seconds since 1970.

        Raises:
            OSError: it failed; the next sweep tries again.
        """


class Stores:
    """The stores of all callers.

    Args:
        data: data folder.
        catalog: the catalog; its owner opens and closes it.
        quota: maximum number of bytes that each caller may store; 0 disables the limit.
        clock: returns seconds since 1970.
        handles: shares out file handles; None disables its limits.
        backend: where the bytes are; None: in the data folder.

    Attributes:
        tables: the columnar copies of the files of all callers.
    """

    def __init__(
        self,
        data: Path,
        catalog: Catalog,
        *,
        quota: int,
        clock: Callable[[], float],
        handles: Handles | None = None,
        backend: Backend | None = None,
    ) -> None:
        self._data = Files(data)
        self._quota = quota
        self._clock = clock
        self._handles = handles or Handles.within(math.inf)
        self._backend: Backend = backend or FolderStores(self._data, catalog, clock=clock)
        self.tables = Tables(
            data / "tables", self._backend.table_rows, clock=clock, objects=self._backend.tables
        )
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self._data.root

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other servers out of the data folder; see :func:`locked`."""
        return locked(self.data_dir)

    def is_open(self, caller: str) -> bool:
        """Return whether :meth:`of` returns at once. Otherwise it waits for the disk: call it in a thread."""
        return caller in self._stores

    def of(self, caller: str) -> Store:
        """Return the store of a caller; the first call creates its folders.

        Raises:
            OSError: the folders cannot be created.
        """
        store = self._stores.get(caller)
        if store is None:
            with self._lock:
                store = self._stores.get(caller) or self._backend.open(
                    caller, quota=self._quota, handles=self._handles, tables=self.tables
                )
                self._stores[caller] = store
        return store

    def prepare(self) -> None:
        """Open the stores of all known callers, and remove incomplete outputs of a crashed server.

        Raises:
            OSError: the data folder cannot be used.
        """
        self._backend.prepare()
        for caller in (ANYONE, *self._backend.callers()):
            self.of(caller)

    @property
    def is_shared(self) -> bool:
        """Whether other servers may use the same files, so :meth:`renew` must be called every few seconds."""
        return self._backend.is_shared

    def renew(self) -> None:
        """Tell other servers what is in use.

        Raises:
            OSError: the catalog failed.
        """
        self._backend.renew()

    def close(self) -> None:
        """Tell other servers that nothing is in use any more."""
        self._backend.close()

    def drop_unheld(self) -> None:
        """See :meth:`HeldVersions.drop_unheld`, for all callers.

        Raises:
            OSError: the disk failed.
        """
        for store in list(self._stores.values()):
            store.versions.drop_unheld()

    def sweep(
        self, *, keep_uploads: float, keep_outputs: float, keep_parts: float, now: float | None = None
    ) -> list[str]:
        """Sweep the stores of all callers; see :meth:`Store.sweep`.

        Raises:
            OSError: the disk failed; the stores of some callers may have been swept.
        """
        if self.is_shared:  # other servers may have had callers that this one does not know
            for caller in self._backend.callers():
                self.of(caller)
        removed: list[str] = []
        for store in list(self._stores.values()):
            removed += store.sweep(
                keep_uploads=keep_uploads, keep_outputs=keep_outputs, keep_parts=keep_parts, now=now
            )
        self.tables.sweep(lambda caller: self.of(caller).versions.present())
        return removed + self._backend.sweep(self._clock() if now is None else now)


def locked(data: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other servers out of a data folder while the context is open.

    Raises:
        OSError: another server uses the folder, or it cannot be written to.
    """
    return Files(data).locked()
