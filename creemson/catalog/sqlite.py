"""The catalog in an SQLite database; implements :class:`creemson.catalog.catalog.Catalog`."""

import contextlib
import errno
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import attrs

from creemson.catalog.catalog import JobRow, PartRow, TableRow
from creemson.catalog.sqlite_objects import OBJECTS_SCHEMA, SqliteObjects

__all__ = ["SqliteCatalog"]

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
    OBJECTS_SCHEMA,
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


class SqliteCatalog:
    """The tables; see :class:`creemson.catalog.catalog.Catalog` for the methods.

    Args:
        path: path of the database; :meth:`open` creates it.
        on_damage: called if the database turns out to be damaged during use, with the path to which it was moved.
    """

    def __init__(self, path: Path, *, on_damage: Callable[[Path], None] = lambda _: None) -> None:
        self._path = path
        self._on_damage = on_damage
        # Two connections, so that a read does not wait for a write that waits for another program's lock.
        self._lock = threading.Lock()  # for the first connection; always acquired before the other lock
        self._database: sqlite3.Connection | None = None
        self._read_lock = threading.Lock()  # for the second connection
        self._reader: sqlite3.Connection | None = None
        self.objects = SqliteObjects(self._read, self._use)

    def open(self) -> Path | None:
        """Open the database. If it is unreadable or of a newer version, move it away and create a new one.

        Returns:
            The path to which an unreadable database was moved, for the log; None if it was readable.

        Raises:
            OSError: the disk failed.
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
        # Readers do not wait for the writer, and a killed process loses nothing that was committed.
        database.execute("PRAGMA journal_mode = WAL")
        # Commits survive a loss of power, too (sqlite.org/pragma.html#pragma_synchronous).
        database.execute("PRAGMA synchronous = FULL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if not 0 <= version <= VERSION:
            raise sqlite3.DatabaseError(f"it has version {version}, the server knows up to {VERSION}")
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

    # --- files ---------------------------------------------------------------------------------------

    def digest(self, path: str, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""
        rows = self._read("SELECT sha256 FROM files WHERE path = ? AND version = ?", (path, version))
        return rows[0][0] if rows else None

    def digests(self, folder: str | None = None) -> Mapping[tuple[str, str], str]:
        """Return the known digests of the files in a folder (None: in all), by path and version."""
        rows = self._read(
            "SELECT path, version, sha256 FROM files WHERE path >= ? AND path < ? AND sha256 IS NOT NULL",
            _in_folder(folder),
        )
        return {(path, version): sha256 for path, version, sha256 in rows}

    def record_digest(self, path: str, version: str, sha256: str) -> None:
        """Record the SHA-256 of a version of a file."""
        self._write(
            "INSERT INTO files (path, version, sha256) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET version = excluded.version, sha256 = excluded.sha256",
            [(path, version, sha256)],
        )

    def record_use(self, used: Mapping[str, float]) -> None:
        """Record when files were last used."""
        self._write(
            "INSERT INTO files (path, used) VALUES (?, ?) "
            "ON CONFLICT (path) DO UPDATE SET used = max(coalesce(used, 0), excluded.used)",
            used.items(),
        )

    def uses(self, folder: str | None = None) -> Mapping[str, float]:
        """Return when the files in a folder (None: in all) were last used, by path; 0 if unknown."""
        rows = self._read("SELECT path, used FROM files WHERE path >= ? AND path < ?", _in_folder(folder))
        return {path: used or 0.0 for path, used in rows}

    def forget(self, paths: Iterable[str]) -> None:
        """Delete the rows of files."""
        self._write("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    # --- unfinished uploads --------------------------------------------------------------------------

    def part(self, caller: str, name: str) -> PartRow | None:
        """Return a caller's unfinished upload of this name."""
        rows = self._read("SELECT * FROM parts WHERE caller = ? AND name = ?", (caller, name))
        return PartRow(*rows[0]) if rows else None

    def parts(self, caller: str | None = None) -> list[PartRow]:
        """Return the unfinished uploads of a caller (None: of all)."""
        # Not `?1 IS NULL OR caller = ?1`, for which SQLite reads the whole table.
        if caller is None:
            rows = self._read("SELECT * FROM parts")
        else:
            rows = self._read("SELECT * FROM parts WHERE caller = ?", (caller,))
        return [PartRow(*row) for row in rows]

    def record_part(self, row: PartRow) -> None:
        """Record an unfinished upload; it replaces an earlier one of the same caller and name."""
        self._write("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [attrs.astuple(row)])

    def update_part(self, path: str, durable: int, boot: str, touched: float) -> None:
        """Record the progress of an unfinished upload."""
        self._write(
            "UPDATE parts SET durable = ?, boot = ?, touched = ? WHERE path = ?",
            [(durable, boot, touched, path)],
        )

    def forget_part(self, path: str) -> None:
        """Delete the row of an unfinished upload."""
        self._write("DELETE FROM parts WHERE path = ?", [(path,)])

    # --- jobs ----------------------------------------------------------------------------------------

    def jobs(self) -> list[JobRow]:
        """Return all jobs, oldest first."""
        rows = self._read("SELECT * FROM jobs ORDER BY created, id")
        return [JobRow(*row) for row in rows]

    def record_jobs(self, jobs: Iterable[JobRow | str]) -> None:
        """Record jobs, and delete the jobs that are given by id: in this order, and in one transaction."""
        rows = list(jobs)

        def record(database: sqlite3.Connection) -> None:
            with database:  # one transaction
                for job in rows:
                    if isinstance(job, str):
                        database.execute("DELETE FROM jobs WHERE id = ?", (job,))
                    else:
                        database.execute(
                            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                            attrs.astuple(job),
                        )

        self._use(record)

    # --- columnar copies of files --------------------------------------------------------------------

    def tables(self) -> list[TableRow]:
        """Return all copies."""
        return [TableRow(*row) for row in self._read("SELECT * FROM tables")]

    def record_table(self, row: TableRow) -> None:
        """Record a copy; it replaces one with the same path."""
        self._write("INSERT OR REPLACE INTO tables VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [attrs.astuple(row)])

    def use_tables(self, used: Mapping[str, float]) -> None:
        """Record when copies were last used, by path."""
        self._write("UPDATE tables SET used = max(used, ?2) WHERE path = ?1", used.items())

    def forget_tables(self, paths: Iterable[str]) -> None:
        """Delete the rows of copies."""
        self._write("DELETE FROM tables WHERE path = ?", [(path,) for path in paths])

    # --- the database --------------------------------------------------------------------------------

    def _read(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        with _as_os_error():
            try:
                with self._read_lock:
                    reader = self._reader
                    assert reader is not None
                    return reader.execute(query, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
            with self._lock:
                if self._reader is reader:  # otherwise another thread has replaced it
                    self._replace()
                assert self._database is not None
                return self._database.execute(query, parameters).fetchall()

    def _write(self, query: str, parameters: Iterable[tuple[object, ...]]) -> None:
        rows = list(parameters)
        if not rows:
            return

        def write(database: sqlite3.Connection) -> None:
            with database:  # one transaction
                database.executemany(query, rows)

        self._use(write)

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``work`` with the database; if that turns out to be damaged, replace it and call ``work`` again."""
        with self._lock, _as_os_error():
            assert self._database is not None
            try:
                return work(self._database)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
            self._replace()
            return work(self._database)

    def _replace(self) -> None:
        """Replace a damaged database by a new one. The caller must hold ``_lock``."""
        with self._read_lock:
            backup = self._start_over()
        self._on_damage(backup)


def _in_folder(folder: str | None) -> tuple[str | bytes, str | bytes]:
    """Return the bounds of the paths in a folder: "0" follows "/", and in SQLite, blobs sort after texts."""
    return ("", b"") if folder is None else (f"{folder}/", f"{folder}0")


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
