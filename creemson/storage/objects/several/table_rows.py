"""The rows of the columnar copies of one of several servers.

Each server has copies in its own data folder, of the files that its jobs read; it makes them again after a restart.
What they have shown of a file, the number of its rows, is in the catalog for all servers, until the file is gone.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence

from creemson.catalog.catalog import Catalog, TableRow

__all__ = ["OwnTableRows"]


class OwnTableRows:
    """Implements :class:`creemson.storage.tables.tables.TableRows`.

    Args:
        catalog: the catalog of all servers.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._rows: dict[str, TableRow] = {}  # by path

    def tables(self) -> Sequence[TableRow]:
        """Return the copies of this server."""
        with self._lock:
            return list(self._rows.values())

    def record_table(self, row: TableRow) -> None:
        """Record a copy, and the number of its rows for all servers."""
        self._catalog.record_table(row)
        with self._lock:
            self._rows[row.path] = row

    def use_tables(self, used: Mapping[str, float]) -> None:
        """Do nothing: the copies do not survive the server."""

    def forget_tables(self, paths: Iterable[str]) -> None:
        """Forget copies; what they have shown remains."""
        with self._lock:
            for path in paths:
                self._rows.pop(path, None)
