"""The columnar copies of files, ``DATA/tables/NAME``, and what the catalog knows about them.

If workers on other machines share an object store, the copies also become objects there, under the same names.

A worker writes a copy under a temporary name and renames it; then it gets its row. So a crash leaves at most a folder
without a row. A folder without a row, and a row without a folder, are removed at the start and by each sweep.
"""

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, Protocol

import attrs

from creemson.catalog.catalog import TableRow
from creemson.storage import durable
from creemson.storage.names import is_temporary, remove_path
from creemson.storage.tables.bounds import FREE_SHARE, surplus

__all__ = ["SharedTables", "TableKey", "TableRows", "Tables"]

_WITH_OBJECTS = ", with objects"


class TableKey(NamedTuple):
    """What a copy is a copy of.

    Attributes:
        caller: who owns the file.
        version: version of the file.
        options: how it is read, as JSON; empty if everything is detected.
    """

    caller: str
    version: str
    options: str


class TableRows(Protocol):
    """The part of :class:`creemson.catalog.catalog.Catalog` that concerns copies."""

    def tables(self) -> Sequence[TableRow]:
        """Return all copies."""

    def record_table(self, row: TableRow) -> None:
        """Record a copy; it replaces one with the same path."""

    def use_tables(self, used: Mapping[str, float]) -> None:
        """Record when copies were last used, in seconds since 1970, by path."""

    def forget_tables(self, paths: Iterable[str]) -> None:
        """Delete the rows of copies."""


class SharedTables(Protocol):
    """The same copies as objects. No method waits."""

    def open(self, names: Iterable[str]) -> None:
        """Keep the objects of these copies, and let the next sweep remove all others. Before, nothing is removed."""

    def address(self, name: str) -> str:
        """Return the address under which the objects of a copy are, or will be."""

    def keep(self, name: str) -> None:
        """Keep the objects of a copy. Idempotent."""

    def drop(self, name: str) -> None:
        """Let the next sweep remove the objects of a copy."""


class Tables:
    """The copies of all callers. May be used by any thread; only :meth:`find` does not wait for the disk.

    Args:
        folder: folder of the copies.
        catalog: has their rows; its owner opens and closes it.
        clock: returns seconds since 1970.
        objects: the copies as objects; None if there are none.
    """

    def __init__(
        self,
        folder: Path,
        catalog: TableRows,
        *,
        clock: Callable[[], float],
        objects: SharedTables | None = None,
    ) -> None:
        self._objects = objects
        self._folder = folder
        self._catalog = catalog
        self._clock = clock
        self._reader = ""
        self._limit: int | None = 0
        self._is_open = False
        self._changing = threading.Lock()  # held while copies are added or removed
        self._lock = threading.Lock()  # for the next three fields
        self._rows: dict[TableKey, TableRow] = {}
        self._used: dict[str, float] = {}  # times of last use that are not in the catalog yet, by path
        self._making: set[str] = set()  # names of the copies that workers write now

    def open(self, reader: str, limit: int | None) -> None:
        """Find the copies that there are; until then, there are none.

        Args:
            reader: the version of what reads files; copies that another version has made are removed.
            limit: maximum number of bytes of all copies; None: a share of the free disk; 0: there are no copies.

        Raises:
            OSError: the disk failed.
        """
        if self._objects is not None:
            reader += _WITH_OBJECTS  # copies that were made without objects are made again
        self._reader, self._limit = reader, limit
        if limit != 0:
            durable.make_folders([self._folder])
        rows = {_key(row): row for row in self._catalog.tables() if row.reader == reader}
        with self._lock:
            self._rows = rows
        if self._objects is not None:
            self._objects.open(row.path for row in rows.values())
        self._is_open = True
        self._tidy()

    def find(self, key: TableKey) -> str | None:
        """Return the path of a copy; None if there is none. Counts as a use."""
        row = self._rows.get(key)
        if row is None:
            return None
        with self._lock:
            self._used[row.path] = self._clock()
        return f"{self._folder}/{row.path}"

    def shared(self, path: str) -> str | None:
        """Return the address of a copy's objects; None if it has none.

        Args:
            path: what :meth:`find` or :meth:`making` has returned.
        """
        return None if self._objects is None else self._objects.address(PurePath(path).name)

    def rows_of(self, caller: str) -> Mapping[str, int]:
        """Return the numbers of rows of a caller's files, by version, as far as they are known by copies."""
        with self._lock:
            return {key.version: row.rows for key, row in self._rows.items() if key.caller == caller}

    def total(self) -> tuple[int, int]:
        """Return the number of copies, and of their bytes."""
        with self._lock:
            return len(self._rows), sum(row.bytes for row in self._rows.values())

    @contextlib.contextmanager
    def making(self, key: TableKey) -> Iterator[str]:
        """Let a worker write a copy to the path that this returns; call :meth:`add` before the context ends."""
        name = self._name(key)
        with self._lock:
            self._making.add(name)
        if self._objects is not None:
            self._objects.keep(name)
        try:
            yield f"{self._folder}/{name}"
        finally:
            with self._lock:
                self._making.discard(name)
            if key not in self._rows:
                self._drop_objects([name])

    def add(self, key: TableKey, *, rows: int, size: int) -> bool:
        """Record a copy that a worker has written, and remove others if all together take too much room.

        Returns:
            Whether it stays.

        Raises:
            OSError: the disk failed; the next sweep removes the copy.
        """
        row = TableRow(
            path=self._name(key), caller=key.caller, version=key.version, options=key.options,
            reader=self._reader, bytes=size, rows=rows, used=self._clock(),
        )  # fmt: skip
        with self._changing:
            self._catalog.record_table(row)
            with self._lock:
                self._rows[key] = row
        self._bound()
        return key in self._rows

    def discard(self, key: TableKey) -> None:
        """Remove what a worker may have left in place of a copy, before another one writes it."""
        with self._changing:
            if key not in self._rows:
                remove_path(self._folder / self._name(key), ignore_errors=False)

    def forget(self, caller: str, versions: Collection[str]) -> None:
        """Remove the copies of some versions of a caller's files, which are gone."""
        with self._lock:
            gone = [
                row for key, row in self._rows.items() if key.caller == caller and key.version in versions
            ]
        self._remove(gone)

    def sweep(self, versions: Callable[[str], Collection[str]]) -> None:
        """Remove the copies of versions that are gone, and what has no row or no folder; nothing before :meth:`open`.

        Args:
            versions: returns the versions that the files of a caller have.

        Raises:
            OSError: the disk failed.
        """
        if not self._is_open:
            return
        with self._lock:
            used, self._used = self._used, {}
            self._rows = {
                key: attrs.evolve(row, used=used.get(row.path, row.used)) for key, row in self._rows.items()
            }
            rows = list(self._rows.values())
        with contextlib.suppress(OSError):  # a full disk must not keep the sweep from removing files
            self._catalog.use_tables(used)
        present = {caller: versions(caller) for caller in {row.caller for row in rows}}
        self._remove([row for row in rows if row.version not in present[row.caller]])
        self._tidy()

    def _tidy(self) -> None:
        """Remove rows without a folder and folders without a row, and what takes too much room."""
        with self._changing:
            with self._lock:
                making = set(self._making)
            found = {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()
            with self._lock:
                lost = [key for key, row in self._rows.items() if row.path not in found]
                gone = [self._rows.pop(key).path for key in lost]
                known = {row.path for row in self._rows.values()}
            self._catalog.forget_tables([row.path for row in self._catalog.tables() if row.path not in known])
            for name in found - known - making:
                if not (is_temporary(name) and making):
                    remove_path(self._folder / name, ignore_errors=False)
            self._drop_objects(gone)
        self._bound()

    def _bound(self) -> None:
        with self._lock:
            rows = [attrs.evolve(row, used=self._used.get(row.path, row.used)) for row in self._rows.values()]
        if rows:
            limit = self._limit
            if limit is None:
                free = shutil.disk_usage(self._folder).free
                limit = (free + sum(row.bytes for row in rows)) // FREE_SHARE
            self._remove(surplus(rows, limit))

    def _remove(self, rows: Collection[TableRow]) -> None:
        """Remove copies: nobody finds them any more, then they lose their rows, then their bytes."""
        if not rows:
            return
        with self._changing:
            with self._lock:
                for row in rows:
                    self._rows.pop(_key(row), None)
                    self._used.pop(row.path, None)
            with contextlib.suppress(OSError):  # a row without a folder is removed by the next sweep
                self._catalog.forget_tables([row.path for row in rows])
            self._drop_objects([row.path for row in rows])
            for row in rows:
                remove_path(self._folder / row.path, ignore_errors=False)

    def _drop_objects(self, names: Collection[str]) -> None:
        if self._objects is not None:
            for name in names:
                self._objects.drop(name)

    def _name(self, key: TableKey) -> str:
        return hashlib.sha256("\0".join((*key, self._reader)).encode()).hexdigest()[:32]


def _key(row: TableRow) -> TableKey:
    return TableKey(row.caller, row.version, row.options)
