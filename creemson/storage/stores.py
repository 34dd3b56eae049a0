"""The stores of all callers in one data folder.

    DATA/uploads, outputs, parts               whose callers are not told apart
    DATA/callers/FOLDER/uploads, outputs, …    one caller's each; FOLDER/caller says whose

Callers never share a folder, so none can name, find, list, replace or measure another's files.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from creemson.storage.catalog import Catalog
from creemson.storage.files import Files, temporary_name
from creemson.storage.store import Store

__all__ = ["ANYONE", "Stores"]

ANYONE = "anonymous"
"""The one caller where nobody has to say who they are."""
NAME = "caller"
"""The file in a caller's folder that says whose it is."""


class Stores:
    """Every caller's store.

    Args:
        data: the data folder.
        catalog: opened and closed by its owner.
        quota: bytes that each caller may store; 0 is no bound.
        clock: seconds since 1970.
    """

    def __init__(self, data: Path, catalog: Catalog, *, quota: int, clock: Callable[[], float]) -> None:
        self._data = Files(data)
        self._catalog = catalog
        self._quota = quota
        self._clock = clock
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}

    @property
    def data(self) -> Files:
        """The data folder itself."""
        return self._data

    def of(self, caller: str) -> Store:
        """The store of a caller; its folders are made when it is first asked for.

        Raises:
            OSError: they cannot be made.
        """
        store = self._stores.get(caller)
        if store is None:
            with self._lock:
                store = self._stores.get(caller) or self._open(caller)
                self._stores[caller] = store
        return store

    def _open(self, caller: str) -> Store:
        files = self._data
        if caller != ANYONE:
            files = Files(files.root / "callers" / folder_of(caller), files.root)
        files.prepare()
        label = files.root / NAME
        if caller != ANYONE and not label.exists():
            part = label.with_name(temporary_name(NAME, "new"))
            part.write_text(caller)
            part.replace(label)
        return Store(files, self._catalog, caller=caller, quota=self._quota, clock=self._clock)

    def prepare(self) -> None:
        """Open the stores of all callers there are, and remove what a crashed server's jobs left half-written.

        Raises:
            OSError: the data folder cannot be used.
        """
        for caller in self._callers():
            self.of(caller)

    def sweep(
        self, *, keep_uploads: float, keep_outputs: float, keep_parts: float, now: float | None = None
    ) -> list[str]:
        """See :meth:`Store.sweep`; of all callers.

        Raises:
            OSError: the disk failed, perhaps not for all callers.
        """
        removed: list[str] = []
        for store in list(self._stores.values()):
            removed += store.sweep(
                keep_uploads=keep_uploads, keep_outputs=keep_outputs, keep_parts=keep_parts, now=now
            )
        return removed

    def _callers(self) -> Iterator[str]:
        yield ANYONE
        for path in sorted(self._data.root.glob(f"callers/*/{NAME}")):
            yield path.read_text()


def folder_of(caller: str) -> str:
    """The name of a caller's folder: recognisable, and no two callers' the same.

    >>> folder_of("token:Ann & Bob")
    'token-Ann-Bob-058eaad8f994b2b4'
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", caller).strip("-")[:40]
    return f"{plain}-{hashlib.sha256(caller.encode()).hexdigest()[:16]}"
