"""The catalog in an SQLite database."""

import contextlib
import errno
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from creemson.catalog.database import Transaction, check_version
from creemson.catalog.statements import DatabaseCatalog

__all__ = ["SqliteCatalog", "SqliteDatabase"]

T = TypeVar("T")

_MIGRATIONS = (
    """
CREATE TABLE files (
    path TEXT PRIMARY KEY,      -- relative to the data folder
    version TEXT,               -- of the file, for the digest
    sha256 TEXT,
    used REAL                   -- seconds since 1970
) WITHOUT ROWID;
CREATE TABLE parts (
    path TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    name TEXT NOT NULL,         -- name that the file will have
    size INTEGER NOT NULL,      -- as announced
    sha256 TEXT,                -- as announced
    durable INTEGER NOT NULL,   -- bytes that survive a loss of power
    boot TEXT NOT NULL,         -- id of the boot in which they were written
    touched REAL NOT NULL,
    UNIQUE (caller, name)
) WITHOUT ROWID;
""",
    """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,          -- equal for the same work on the same version of a file
    caller TEXT NOT NULL,
    query TEXT NOT NULL,        -- JSON, as requested
    timeout REAL NOT NULL,      -- seconds
    kept INTEGER NOT NULL,      -- whether it continues when no request waits for it
    state TEXT NOT NULL,        -- queued (also if it has started), done, failed, cancelled
    created REAL NOT NULL,      -- seconds since 1970
    finished REAL,
    restarts INTEGER NOT NULL,  -- number of times that the server stopped before it was done
    seq INTEGER NOT NULL,       -- of its last event
    outcome TEXT                -- JSON: the result or the error
) WITHOUT ROWID;
""",
    # Until here, the version of an uploaded file was inode-size-mtime-ctime; now it is size-mtime.
    """
ALTER TABLE jobs ADD COLUMN version TEXT;       -- of the file for which it was accepted
ALTER TABLE parts ADD COLUMN fingerprint TEXT;  -- as announced
UPDATE files
SET version = rtrim(rtrim(substr(version, instr(version, '-') + 1), '0123456789'), '-')
WHERE version IS NOT NULL;
""",
    """
CREATE TABLE tables (
    path TEXT PRIMARY KEY,      -- name of the folder
    caller TEXT NOT NULL,
    version TEXT NOT NULL,      -- of the file
    options TEXT NOT NULL,      -- JSON; empty if everything is detected
    reader TEXT NOT NULL,       -- version of what has read the file
    bytes INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    used REAL NOT NULL          -- seconds since 1970
) WITHOUT ROWID;
""",
    """
CREATE TABLE objects (
    key TEXT PRIMARY KEY,       -- what the names of its objects begin with
    caller TEXT NOT NULL,
    kind TEXT NOT NULL,         -- part, upload, output, kept
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    size INTEGER NOT NULL,
    piece INTEGER NOT NULL,     -- bytes of each object but the last; 0: it is one object
    durable INTEGER NOT NULL,
    tails TEXT NOT NULL,        -- JSON: sizes of the objects behind the last whole piece
    sha256 TEXT,
    fingerprint TEXT,
    modified REAL NOT NULL,     -- seconds since 1970
    used REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX objects_by_name ON objects (caller, name, kind) WHERE kind <> 'kept';
CREATE INDEX objects_by_version ON objects (caller, version);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
""",
)
"""The migrations from each version of the tables to the next; a new catalog runs all of them."""
VERSION = len(_MIGRATIONS)
"""Version of the tables, stored in ``PRAGMA user_version``."""
TABLES = frozenset({"files", "parts", "jobs", "tables", "objects", "facts"})
LOCK_TIMEOUT = 5.0
"""Seconds to wait for another program (a backup, or a sqlite3 shell) that has locked the database."""
MAX_UNREADABLE = 9
"""Maximum number of unreadable databases that are kept; a further one replaces the last one, never the first."""
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
"""``errno`` by primary result code, which is the lower byte of the extended one."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Result codes of a database that must be replaced."""
_ADVICE = {
    errno.EBUSY: "another program has locked it; end that program, or wait for it",
    errno.EROFS: "it is read-only; let the server's user write to it",
}
"""What the operator can do, by ``errno``."""


class SqliteCatalog(DatabaseCatalog):
    """A catalog in an SQLite database.

    Args:
        path: path of the database; :meth:`open` creates it.
        on_damage: called if the database turns out to be damaged during use, with the path to which it was moved.
        durable: whether commits survive a loss of power.
    """

    def __init__(
        self, path: Path, *, on_damage: Callable[[Path], None] = lambda _: None, durable: bool = True
    ) -> None:
        database = SqliteDatabase(path, on_damage=on_damage, durable=durable)
        super().__init__(database)
        self.open = database.open
        self.close = database.close

    def sharing(self) -> None:
        """Return None: one server at a time uses it."""


class SqliteDatabase:
    """The database; see :class:`creemson.catalog.database.Database`.

    Args:
        path: path of the database; :meth:`open` creates it.
        on_damage: called if the database turns out to be damaged during use, with the path to which it was moved.
        durable: whether commits survive a loss of power.
    """

    def __init__(
        self, path: Path, *, on_damage: Callable[[Path], None] = lambda _: None, durable: bool = True
    ) -> None:
        self._path = path
        self._durable = durable
        self._on_damage = on_damage
        # Two connections, so that a read does not wait for a write that waits for another program's lock.
        self._lock = threading.Lock()  # for the first connection; always acquired before the other lock
        self._database: sqlite3.Connection | None = None
        self._read_lock = threading.Lock()  # for the second connection
        self._reader: sqlite3.Connection | None = None

    def open(self) -> Path | None:
        """Open the database. If it is unreadable, move it away and create a new one.

        Returns:
            The path to which an unreadable database was moved, for the log; None if it was readable.

        Raises:
            OSError: the disk failed, or a newer version of the server has changed the tables.
        """
        try:
            with _as_os_error():
                try:
                    self._connect()
                except sqlite3.DatabaseError as error:
                    # An operational error comes from the disk, or from a program that has locked the file.
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    return self._start_over()
        except OSError as error:
            if error.filename is None:
                error.filename = str(self._path)
            raise
        return None

    def _start_over(self) -> Path:
        """Move the database away and create a new one; return the path of the old one."""
        self.close()
        names = itertools.chain(
            ["catalog.unreadable"], (f"catalog.unreadable.{n}" for n in range(2, MAX_UNREADABLE + 1))
        )
        for name in names:
            backup = self._path.with_name(name)
            if not backup.exists():
                break
        self._path.replace(backup)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._connect()
        return backup

    def _connect(self) -> None:
        database = self._database = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT, check_same_thread=False)
        # With FULL, commits survive a loss of power (sqlite.org/pragma.html#pragma_synchronous).
        database.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        # Readers do not wait for the writer, and a killed process loses nothing that was committed.
        database.execute("PRAGMA journal_mode = WAL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version < 0:
            raise sqlite3.DatabaseError(f"it has version {version}")
        check_version(version, VERSION)
        for number, migration in enumerate(_MIGRATIONS[version:], version + 1):
            database.executescript(f"BEGIN; {migration} PRAGMA user_version = {number}; COMMIT;")
        # Without this check, a damaged page would make every use of its table fail, even after a restart.
        damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables >= TABLES:
            raise sqlite3.DatabaseError(f"it has no table {min(TABLES - tables)}")
        self._reader = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT, check_same_thread=False)

    def close(self) -> None:
        """Close the database; it can be opened again."""
        for database in (self._reader, self._database):  # closing the last one truncates the write-ahead log
            if database is not None:
                database.close()
        self._reader = self._database = None

    def read(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a query; return its rows."""
        with _as_os_error():
            try:
                with self._read_lock:
                    reader = self._reader
                    assert reader is not None
                    return reader.execute(statement, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
            with self._lock:
                if self._reader is reader:  # otherwise another thread has replaced it
                    self._replace()
                assert self._database is not None
                return self._database.execute(statement, parameters).fetchall()

    def change(self, work: Callable[[Transaction], T]) -> T:
        """Call ``work`` with a transaction; if the database turns out to be damaged, replace it and call it again."""
        with self._lock, _as_os_error():
            assert self._database is not None
            try:
                with self._database:
                    return work(self._database)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
            self._replace()
            with self._database:
                return work(self._database)

    def _replace(self) -> None:
        """Replace a damaged database by a new one. The caller must hold ``_lock``."""
        with self._read_lock:
            backup = self._start_over()
        self._on_damage(backup)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn errors of SQLite into OSError, with advice if there is any."""
    try:
        yield
    except sqlite3.Error as error:
        number = _ERRNO.get(_code(error), errno.EIO)
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE:
            number = errno.ENOSPC
        advice = f" ({_ADVICE[number]})" if number in _ADVICE else ""
        raise OSError(number, f"the catalog: {error}{advice}") from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
