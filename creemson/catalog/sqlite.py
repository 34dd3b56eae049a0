"""The catalog: what is known of files besides their bytes, and of jobs, in SQLite.

The folders tell which files there are; the catalog remembers what they do not say: the digest of a file's
content, when it was last used, and how far an unfinished upload is on disk for certain. A row without its
file means nothing and is swept, a file without a row is a file like any other.
"""

import contextlib
import errno
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import attrs

__all__ = ["Catalog", "JobRow", "PartRow"]

T = TypeVar("T")

_STEPS = (
    """
CREATE TABLE files (
    path TEXT PRIMARY KEY,      -- within the data folder
    version TEXT,               -- of the content that the digest is of
    sha256 TEXT,
    used REAL                   -- seconds since 1970
) WITHOUT ROWID;
CREATE TABLE parts (
    path TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    name TEXT NOT NULL,         -- that the file is to have
    size INTEGER NOT NULL,      -- that was announced
    sha256 TEXT,                -- that was announced
    durable INTEGER NOT NULL,   -- bytes that are on the disk for certain
    boot TEXT NOT NULL,         -- of the machine, when they were written
    touched REAL NOT NULL,
    UNIQUE (caller, name)
) WITHOUT ROWID;
""",
    """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,          -- the same for the same work on the same version of a file
    caller TEXT NOT NULL,
    query TEXT NOT NULL,        -- JSON, as it was asked
    timeout REAL NOT NULL,      -- seconds
    kept INTEGER NOT NULL,      -- whether it goes on when nobody waits for it
    state TEXT NOT NULL,        -- queued (begun or not), done, failed, cancelled
    created REAL NOT NULL,      -- seconds since 1970
    finished REAL,
    restarts INTEGER NOT NULL,  -- servers that went down before it was done
    seq INTEGER NOT NULL,       -- of its last event
    outcome TEXT                -- JSON: the result, or the error
) WITHOUT ROWID;
""",
)
"""What leads from each version of the tables to the next; a new catalog goes all the way."""
VERSION = len(_STEPS)
"""Of the tables; kept in ``PRAGMA user_version``."""
TABLES = frozenset({"files", "parts", "jobs"})
PATIENCE = 5.0
"""Seconds to wait for another program (a backup, a curious sqlite3) that has the database locked."""
KEPT = 9
"""Unreadable databases that are kept; then the last of them makes room, and never the first."""
_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
"""By primary result code, which is the lower byte of the one that there is."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_WORDS = {
    errno.EBUSY: "another program holds it; end that program, or wait for it",
    errno.EROFS: "it can only be read; let the server's user write to it",
}


@attrs.frozen
class PartRow:
    """An unfinished upload.

    Attributes:
        path: of its bytes, within the data folder.
        caller, name: who uploads it, and the name that the file is to have.
        size, sha256: as announced.
        durable: bytes that survive also a loss of power.
        boot: the machine's boot in which bytes were written; within the same one, all that was written is there.
        touched: when it was last gone on with, in seconds since 1970.
    """

    path: str
    caller: str
    name: str
    size: int
    sha256: str | None
    durable: int
    boot: str
    touched: float


@attrs.frozen
class JobRow:
    """A job, as the next server has to know it: see the table."""

    id: str
    key: str
    caller: str
    query: str
    timeout: float
    kept: bool
    state: str
    created: float
    finished: float | None
    restarts: int
    seq: int
    outcome: str | None


class Catalog:
    """The tables; every method blocks, and may be called from any thread.

    Args:
        path: of the database; :meth:`open` makes it.
        on_damage: is told where a database was put that turned out to be damaged while in use.
    """

    def __init__(self, path: Path, *, on_damage: Callable[[Path], None] = lambda _: None) -> None:
        self._path = path
        self._on_damage = on_damage
        # Two connections, so that who reads does not wait for who waits for another program's lock.
        self._lock = threading.Lock()  # over the first; taken before the other one where both are
        self._database: sqlite3.Connection | None = None
        self._read_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None

    def open(self) -> Path | None:
        """Open the database; one that cannot be read, or is of another version, is put aside and begun anew.

        Returns:
            Where an unreadable one was put, for the log; None if it was fine.

        Raises:
            OSError: the disk failed.
        """
        try:
            with _faults():
                try:
                    self._connect()
                except sqlite3.DatabaseError as error:
                    # Whatever is operational is the fault of the disk, or of who has locked the file.
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    return self._begin_anew()
        except OSError as error:
            if error.filename is None:
                error.filename = str(self._path)
            raise
        return None

    def _begin_anew(self) -> Path:
        """Put the database aside and begin another one; returns where the old one is."""
        self.close()
        names = itertools.chain(
            ["catalog.unreadable"], (f"catalog.unreadable.{n}" for n in range(2, KEPT + 1))
        )
        for name in names:
            aside = self._path.with_name(name)
            if not aside.exists():
                break
        self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._connect()
        return aside

    def _connect(self) -> None:
        database = self._database = sqlite3.connect(self._path, timeout=PATIENCE, check_same_thread=False)
        # Readers do not wait for the writer, and a killed process costs nothing that was committed.
        database.execute("PRAGMA journal_mode = WAL")
        # What has been committed survives a loss of power too (sqlite.org/pragma.html#pragma_synchronous).
        database.execute("PRAGMA synchronous = FULL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if not 0 <= version <= VERSION:
            raise sqlite3.DatabaseError(f"version {version}, known is {VERSION}")
        for number, step in enumerate(_STEPS[version:], version + 1):
            database.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")
        # A damaged page would otherwise fail every use of its table, after each restart again.
        damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables >= TABLES:
            raise sqlite3.DatabaseError(f"it has no {min(TABLES - tables)}")
        self._reader = sqlite3.connect(self._path, timeout=PATIENCE, check_same_thread=False)

    def close(self) -> None:
        """Close the database; it may be opened again."""
        for database in (self._reader, self._database):  # the last one tidies up
            if database is not None:
                database.close()
        self._reader = self._database = None

    # --- files ---------------------------------------------------------------------------------------

    def digest(self, path: str, version: str) -> str | None:
        """The digest of a file's content, if it is known for this version of it."""
        rows = self._read("SELECT sha256 FROM files WHERE path = ? AND version = ?", (path, version))
        return rows[0][0] if rows else None

    def digests(self, folder: str | None = None) -> Mapping[tuple[str, str], str]:
        """The digests that are known of the files in a folder, or of all, by path and version."""
        rows = self._read(
            "SELECT path, version, sha256 FROM files WHERE path >= ? AND path < ? AND sha256 IS NOT NULL",
            _in_folder(folder),
        )
        return {(path, version): sha256 for path, version, sha256 in rows}

    def record_digest(self, path: str, version: str, sha256: str) -> None:
        """Remember the digest of a file's content."""
        self._write(
            "INSERT INTO files (path, version, sha256) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET version = excluded.version, sha256 = excluded.sha256",
            [(path, version, sha256)],
        )

    def record_use(self, used: Mapping[str, float]) -> None:
        """Remember when files were last used."""
        self._write(
            "INSERT INTO files (path, used) VALUES (?, ?) "
            "ON CONFLICT (path) DO UPDATE SET used = max(coalesce(used, 0), excluded.used)",
            used.items(),
        )

    def uses(self, folder: str | None = None) -> Mapping[str, float]:
        """When the files in a folder, or all, were last used, by path; 0 where it is not known."""
        rows = self._read("SELECT path, used FROM files WHERE path >= ? AND path < ?", _in_folder(folder))
        return {path: used or 0.0 for path, used in rows}

    def forget(self, paths: Iterable[str]) -> None:
        """Forget files."""
        self._write("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    # --- unfinished uploads --------------------------------------------------------------------------

    def part(self, caller: str, name: str) -> PartRow | None:
        """The unfinished upload of that name."""
        rows = self._read("SELECT * FROM parts WHERE caller = ? AND name = ?", (caller, name))
        return PartRow(*rows[0]) if rows else None

    def parts(self, caller: str | None = None) -> list[PartRow]:
        """The unfinished uploads of a caller, or of all."""
        rows = self._read("SELECT * FROM parts WHERE ?1 IS NULL OR caller = ?1", (caller,))
        return [PartRow(*row) for row in rows]

    def record_part(self, row: PartRow) -> None:
        """Remember an unfinished upload, in the place of an earlier one of that caller and name."""
        self._write("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [attrs.astuple(row)])

    def update_part(self, path: str, durable: int, boot: str, touched: float) -> None:
        """Remember how far an unfinished upload has come."""
        self._write(
            "UPDATE parts SET durable = ?, boot = ?, touched = ? WHERE path = ?",
            [(durable, boot, touched, path)],
        )

    def forget_part(self, path: str) -> None:
        """Forget an unfinished upload."""
        self._write("DELETE FROM parts WHERE path = ?", [(path,)])

    # --- jobs ----------------------------------------------------------------------------------------

    def jobs(self) -> list[JobRow]:
        """All jobs, the oldest first."""
        rows = self._read("SELECT * FROM jobs ORDER BY created, id")
        return [JobRow(*row) for row in rows]

    def record_jobs(self, jobs: Iterable[JobRow | str]) -> None:
        """Remember jobs, in the place of what was known of them, or forget those of which only the id is given.

        All of it or nothing, in the order given.
        """
        rows = list(jobs)

        def record(database: sqlite3.Connection) -> None:
            with database:  # one transaction
                for job in rows:
                    if isinstance(job, str):
                        database.execute("DELETE FROM jobs WHERE id = ?", (job,))
                    else:
                        database.execute(
                            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                            attrs.astuple(job),
                        )

        self._use(record)

    # --- the database --------------------------------------------------------------------------------

    def _read(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        with _faults():
            try:
                with self._read_lock:
                    reader = self._reader
                    assert reader is not None
                    return reader.execute(query, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
            with self._lock:
                if self._reader is reader:  # else somebody was faster
                    self._replace()
                assert self._database is not None
                return self._database.execute(query, parameters).fetchall()

    def _write(self, query: str, parameters: Iterable[tuple[object, ...]]) -> None:
        rows = list(parameters)

        def write(database: sqlite3.Connection) -> None:
            with database:  # one transaction
                database.executemany(query, rows)

        self._use(write)

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on the database; on a new one if it turns out to be damaged, which no later try would mend."""
        with self._lock, _faults():
            assert self._database is not None
            try:
                return work(self._database)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
            self._replace()
            return work(self._database)

    def _replace(self) -> None:
        """Begin anew in the middle of work, with the first lock held."""
        with self._read_lock:
            aside = self._begin_anew()
        self._on_damage(aside)


def _in_folder(folder: str | None) -> tuple[str | bytes, str | bytes]:
    """The bounds of the paths in a folder: "0" comes after "/", and to SQLite every blob after every text."""
    return ("", b"") if folder is None else (f"{folder}/", f"{folder}0")


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """To those who use the catalog, a fault of the database is one of the disk."""
    try:
        yield
    except sqlite3.Error as error:
        number = _NUMBERS.get(_code(error), errno.EIO)
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE:
            number = errno.ENOSPC
        advice = f" ({_WORDS[number]})" if number in _WORDS else ""
        raise OSError(number, f"the catalog: {error}{advice}") from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
