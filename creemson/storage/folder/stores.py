"""The data folder of all callers: one folder for those without a name, and one for each of the others."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from creemson.catalog.catalog import Catalog
from creemson.model.callers import ANYONE
from creemson.storage import durable
from creemson.storage.folder.files import Files
from creemson.storage.folder.store import FolderStore
from creemson.storage.handles import Handles
from creemson.storage.tables.tables import Tables

__all__ = ["FolderStores"]

NAME = "caller"
"""Name of the file in a caller's folder that contains the name of the caller."""


class FolderStores:
    """Implements :class:`creemson.storage.stores.Backend`.

    Args:
        data: the data folder.
        catalog: the catalog; its owner opens and closes it.
        clock: returns seconds since 1970.
    """

    tables = None
    """Workers on other machines read the copies in the folder, if they see it."""

    is_shared = False
    """A folder has one server."""

    def __init__(self, data: Files, catalog: Catalog, *, clock: Callable[[], float]) -> None:
        self._data = data
        self._catalog = self.table_rows = catalog
        self._clock = clock

    def prepare(self) -> None:
        """Do nothing: a store checks its folders when it is opened."""

    def renew(self) -> None:
        """Do nothing: there is no other server."""

    def close(self) -> None:
        """Do nothing."""

    def callers(self) -> Iterator[str]:
        """Yield the callers who have a folder of their own."""
        for folder in sorted(self._data.root.glob("callers/*")):
            caller = _label_of(folder)
            # Without its label, it waits for its caller, who has the name of the folder and writes the label again.
            if caller is not None and folder_of(caller) == folder.name:
                yield caller

    def open(self, caller: str, *, quota: int, handles: Handles, tables: Tables) -> FolderStore:
        """Return the store of a caller, after creating its folders.

        Raises:
            OSError: they cannot be created.
        """
        files = self._data
        if caller != ANYONE:
            files = Files(files.root / "callers" / folder_of(caller), files.root)
        files.prepare()
        if caller != ANYONE and _label_of(files.root) != caller:
            durable.write(files.root / NAME, caller.encode())
        return FolderStore(
            files,
            self._catalog,
            caller=caller,
            quota=quota,
            clock=self._clock,
            handles=handles,
            tables=tables,
        )

    def sweep(self, now: float) -> list[str]:
        """Return nothing: the stores have swept their folders themselves."""
        del now
        return []


def _label_of(folder: Path) -> str | None:
    """Return the name of the caller to whom a folder belongs; None if it has no label."""
    try:
        return (folder / NAME).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def folder_of(caller: str) -> str:
    """Return the name of a caller's folder: recognisable and unique.

    >>> folder_of("token:Ann & Bob")
    'token-Ann-Bob-058eaad8f994b2b4'
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", caller).strip("-")[:40]
    return f"{plain}-{hashlib.sha256(caller.encode()).hexdigest()[:16]}"
