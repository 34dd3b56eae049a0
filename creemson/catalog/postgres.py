"""The catalog in a PostgreSQL database; needs the extra ``postgres``."""

import contextlib
import errno
import functools
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import conninfo, errors

from creemson.catalog.database import Cursor, Tables, Transaction, check_version
from creemson.catalog.shared.objects import SharedObjects
from creemson.catalog.shared.postgres_hints import PostgresHints
from creemson.catalog.shared.sharing import SharedJobs, Sharing
from creemson.catalog.shared.tokens import SharedTokens
from creemson.catalog.statements import DatabaseCatalog
from creemson.errors import DatabaseError

__all__ = ["PostgresCatalog", "PostgresDatabase", "shown"]

T = TypeVar("T")

SCHEMA = "creemson"
"""All tables are in this schema, so that the database may also be used for something else."""
_MIGRATIONS = (
    # Text is compared by code points, as in SQLite: the rows of a folder are found by comparing paths.
    """
CREATE TABLE files (
    path TEXT COLLATE "C" PRIMARY KEY,
    version TEXT,
    sha256 TEXT,
    used DOUBLE PRECISION
);
CREATE TABLE parts (
    path TEXT COLLATE "C" PRIMARY KEY,
    caller TEXT NOT NULL,
    name TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT,
    durable BIGINT NOT NULL,
    boot TEXT NOT NULL,
    touched DOUBLE PRECISION NOT NULL,
    fingerprint TEXT,
    UNIQUE (caller, name)
);
CREATE TABLE jobs (
    id TEXT COLLATE "C" PRIMARY KEY,
    key TEXT NOT NULL,
    caller TEXT NOT NULL,
    query TEXT NOT NULL,
    timeout DOUBLE PRECISION NOT NULL,
    kept BOOLEAN NOT NULL,
    state TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    finished DOUBLE PRECISION,
    restarts INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    outcome TEXT,
    version TEXT
);
CREATE TABLE tables (
    path TEXT COLLATE "C" PRIMARY KEY,
    caller TEXT NOT NULL,
    version TEXT NOT NULL,
    options TEXT NOT NULL,
    reader TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    used DOUBLE PRECISION NOT NULL
);
CREATE TABLE objects (
    key TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    size BIGINT NOT NULL,
    piece BIGINT NOT NULL,
    durable BIGINT NOT NULL,
    tails TEXT NOT NULL,
    sha256 TEXT,
    fingerprint TEXT,
    modified DOUBLE PRECISION NOT NULL,
    used DOUBLE PRECISION NOT NULL
);
CREATE UNIQUE INDEX objects_by_name ON objects (caller, name, kind) WHERE kind <> 'kept';
CREATE INDEX objects_by_version ON objects (caller, version);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
""",
    # For several servers, see `creemson.catalog.shared`: whose a job is, and whose turn is next.
    """
ALTER TABLE jobs
    ADD COLUMN party TEXT COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN owner TEXT,
    ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN until TIMESTAMPTZ,
    ADD COLUMN joined BOOLEAN NOT NULL DEFAULT false;
UPDATE jobs SET party = caller;
CREATE INDEX jobs_by_key ON jobs (caller, key);
CREATE INDEX jobs_by_version ON jobs (caller, version) WHERE state = 'queued';
CREATE INDEX jobs_waiting ON jobs (party, created) WHERE state = 'queued' AND owner IS NULL;
CREATE INDEX jobs_owned ON jobs (owner) WHERE state = 'queued' AND owner IS NOT NULL;
CREATE SEQUENCE turns_given;
CREATE TABLE turns (
    party TEXT COLLATE "C" PRIMARY KEY,
    given BIGINT NOT NULL
);
CREATE TABLE servers (
    id TEXT PRIMARY KEY,
    until TIMESTAMPTZ NOT NULL
);
""",
    # For several servers, see `creemson.catalog.shared.leases` and `usage`.
    """
CREATE TABLE stores (
    id TEXT PRIMARY KEY,
    until TIMESTAMPTZ NOT NULL
);
CREATE TABLE leases (
    prefix TEXT NOT NULL,
    store TEXT NOT NULL REFERENCES stores ON DELETE CASCADE,
    PRIMARY KEY (store, prefix)
);
CREATE TABLE reservations (
    key TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    size BIGINT NOT NULL,
    replaces TEXT,
    store TEXT NOT NULL REFERENCES stores ON DELETE CASCADE
);
CREATE INDEX reservations_by_caller ON reservations (caller);
CREATE INDEX reservations_by_store ON reservations (store);
CREATE TABLE removals (
    key TEXT PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX removals_by_time ON removals (at);
""",
    """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    salt TEXT NOT NULL,
    digest TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
CREATE TABLE token_changes (number BIGINT NOT NULL);
INSERT INTO token_changes VALUES (0);
""",
)
"""The migrations from each version of the tables to the next; a new catalog runs all of them. See
:mod:`creemson.catalog.sqlite` for what the columns are."""
VERSION = len(_MIGRATIONS)
"""Version of the tables, stored in the table ``schema_version``."""
_OPTIONS = {
    "connect_timeout": 5,  # seconds
    "application_name": "creemson",
    # A server that vanished is noticed after 10 s, and not only by TCP's own limits of minutes.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
    "options": f"-c search_path={SCHEMA} -c statement_timeout=30s -c lock_timeout=10s -c synchronous_commit=on "
    # A server that is stopped in a transaction must not keep its locks.
    "-c idle_in_transaction_session_timeout=5s "
    # The database notices a machine that vanished after 25 s, so that another one can take the lock.
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}
"""Parameters of each connection (postgresql.org/docs/current/libpq-connect.html); those in the URL win, except
``options``, which come before those of the URL."""
MAX_COLLISIONS = 100
"""How often a transaction is tried that collides with others."""
RESTART_TIME = 10.0
"""Seconds for which a lost connection is tried again before errors are raised: a restart takes one or two."""
RETRY_INTERVAL = 0.2
"""Seconds between two attempts to connect."""
OWNER_LOCK = 0x637265656D736F6E
"""Key of the advisory lock that the server holds which uses the catalog: "creemson" as a number."""
OWNER_TIMEOUT = 5.0
"""Seconds to wait for that lock: the database may not have noticed yet that the last server has ended."""
_LOST = (psycopg.OperationalError, errors.IdleInTransactionSessionTimeout)
"""The connection may have been lost; the second one is an error of the transaction for psycopg."""
_PASSING = (*_LOST, errors.ReadOnlySqlTransaction)
"""The database cannot be used at the moment; read-only is a standby that has not taken over yet."""
_COLLIDED = (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected)
"""Another transaction was faster; after another attempt, its rows are seen."""


class PostgresCatalog(DatabaseCatalog):
    """A catalog in a PostgreSQL database.

    Args:
        url: ``postgresql://…``, or key and value pairs as libpq takes them.
        shared: whether several servers may use the catalog at once.
    """

    def __init__(self, url: str, *, shared: bool = False) -> None:
        database = PostgresDatabase(url, shared=shared)
        super().__init__(database, SharedObjects(database) if shared else None)
        self._url = url
        self._shared = shared
        self.open = database.open
        self.rehearse = database.rehearse
        self.close = database.close

    def sharing(self) -> Sharing | None:
        """Return what this server shares with others, each time with a new id of the server; None if it is alone."""
        if not self._shared:
            return None
        owner = secrets.token_hex(8)
        database = PostgresDatabase(self._url, shared=True)
        hints = PostgresHints(lambda: psycopg.connect(_with_options(self._url), autocommit=True), owner)
        return Sharing(owner, SharedJobs.of(database, owner), hints, SharedTokens(database), database)


class PostgresDatabase:
    """The database; see :class:`creemson.catalog.database.Database`.

    A connection that was lost is opened again. All statements of the catalog may be run twice, because whether a
    transaction was committed is not known if the connection is lost at that moment.

    Args:
        url, shared: see :class:`PostgresCatalog`.
    """

    def __init__(self, url: str, *, shared: bool = False) -> None:
        self._name = shown(url)
        self._writer = _Line(url, self._share if shared else self._own)
        self._reader = _Line(url)

    def open(self) -> None:
        """Connect, and create or upgrade the tables.

        Raises:
            OSError: the database cannot be reached or used, another server uses the catalog, or a newer version of the
                server has changed the tables.
        """
        with self._as_os_error():
            self._writer.run(_prepare)
            self._reader.run(lambda _: None)

    def rehearse(self) -> Tables:
        """Do what :meth:`open` does, and undo it: the database stays as it is, which servers of other versions may use.

        Returns:
            What tables it has.

        Raises:
            OSError: :meth:`open` would fail.
        """

        def work(connection: psycopg.Connection) -> int:
            with connection.transaction(force_rollback=True):
                return _prepare(connection)

        with self._as_os_error():
            version = self._writer.run(work)
        if version == 0:
            return "none"
        return "current" if version == VERSION else "earlier"

    def close(self) -> None:
        """Close the connections; the catalog can be opened again."""
        self._writer.close()
        self._reader.close()

    def read(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a query; return its rows."""
        with self._as_os_error():
            return self._reader.run(
                lambda connection: connection.execute(
                    _to_psycopg(statement), _storable(parameters)
                ).fetchall()
            )

    def change(self, work: Callable[[Transaction], T]) -> T:
        """Call ``work`` with a transaction; again if it collided with another one, or the connection was lost."""

        def transact(connection: psycopg.Connection) -> T:
            with connection.transaction():
                return work(_Transaction(connection))

        with self._as_os_error():
            return self._writer.run(transact)

    def _own(self, connection: psycopg.Connection) -> None:
        """Take the lock on the catalog; it lasts as long as the connection."""
        self._lock(
            connection,
            "pg_try_advisory_lock",
            f"another server uses the catalog {self._name}. Stop that server, or choose another database",
        )

    def _share(self, connection: psycopg.Connection) -> None:
        """Take the same lock together with other servers that share the catalog."""
        # A pooler gives another process id than that of the session, and each transaction another session
        # (pgbouncer.org/features.html): no lock and no hint would last.
        if connection.execute("SELECT pg_backend_pid()").fetchone() != (connection.info.backend_pid,):
            raise OSError(
                errno.EINVAL,
                f"the catalog {self._name} is behind a connection pooler; several servers need connections of their "
                "own. Let catalog.url name PostgreSQL itself",
            )
        self._lock(
            connection,
            "pg_try_advisory_lock_shared",
            f"a server that does not share the catalog {self._name} uses it. Stop that server, or let it have its "
            "files in the object store, too (storage.url)",
        )

    def _lock(self, connection: psycopg.Connection, function: LiteralString, why: str) -> None:
        """Take the lock by a function of PostgreSQL, which may notice late that its owner has ended."""
        deadline = time.monotonic() + OWNER_TIMEOUT
        while connection.execute(f"SELECT {function}(%s)", (OWNER_LOCK,)).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, why)
            time.sleep(RETRY_INTERVAL)

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            words = re.sub(r"\s+", " ", str(error)).strip()
            message = f"the catalog {self._name}: {words}"
            if isinstance(error, errors.DiskFull):
                raise OSError(errno.ENOSPC, message) from error
            raise DatabaseError(message, passing=isinstance(error, _PASSING)) from error


class _Line:
    """A connection that is opened when it is needed, and again when it was lost; one thread at a time uses it.

    Args:
        url: see :class:`PostgresCatalog`.
        prepare: called with each new connection.
    """

    def __init__(self, url: str, prepare: Callable[[psycopg.Connection], None] = lambda _: None) -> None:
        self._url = url
        self._prepare = prepare
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._opened = False  # whether there has been a connection
        self._lost = math.inf  # when it was lost, by the monotonic clock

    def run(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Call ``work`` with the connection; again if it was lost, or if the work collided with another transaction."""
        with self._lock:
            collisions = 0
            while True:
                try:
                    found = work(self._connected())
                except _COLLIDED:
                    collisions += 1
                    if collisions == MAX_COLLISIONS:
                        raise
                except _LOST:
                    # A first connection that fails has a wrong address. What fails on an open connection, such as a
                    # timeout, would take as long again.
                    if not self._is_lost() or time.monotonic() > self._lost + RESTART_TIME:
                        raise
                    time.sleep(RETRY_INTERVAL)
                else:
                    self._lost = math.inf
                    return found

    def _is_lost(self) -> bool:
        """Return whether there was a connection and now there is none; remember since when."""
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if not self._opened or self._connection is not None:
            return False
        self._lost = min(self._lost, time.monotonic())
        return True

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            connection = psycopg.connect(_with_options(self._url), autocommit=True)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._opened = connection, True
        return self._connection


class _Transaction:
    """A transaction that takes the statements of the catalog; see :class:`creemson.catalog.database.Transaction`."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[object] = (), /) -> Cursor:
        """Run a statement."""
        return self._connection.execute(_to_psycopg(statement), _storable(parameters))

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]], /) -> None:
        """Run a statement for each row of parameters."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_to_psycopg(statement), map(_storable, parameters))


@functools.cache
def _to_psycopg(statement: str) -> Any:
    """Return a statement with psycopg's placeholders; the catalog's statements have no other ``?`` or ``%``."""
    return statement.replace("?", "%s")


def _storable(parameters: Sequence[object]) -> Sequence[object]:
    """Replace NUL characters, which PostgreSQL's texts cannot have, by the symbol for them.

    Names have none; only what a client says of its upload to recognise it may.
    """
    return [value.replace("\0", "\u2400") if isinstance(value, str) else value for value in parameters]


def _with_options(url: str) -> str:
    given = conninfo.conninfo_to_dict(url)
    options: dict[str, Any] = {**_OPTIONS, **given}
    options["options"] = f"{_OPTIONS['options']} {given.get('options', '')}".strip()
    return conninfo.make_conninfo(**options)


def _prepare(connection: psycopg.Connection) -> int:
    """Create or upgrade the tables; return the version that they had."""
    with connection.transaction():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        connection.execute("LOCK TABLE schema_version")
        row = connection.execute("SELECT version FROM schema_version").fetchone()
        version: int = 0 if row is None else row[0]
        check_version(version, VERSION)
        if version == VERSION:
            return version
        for migration in _MIGRATIONS[version:]:
            connection.execute(migration)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (%s)", (VERSION,))
    return version


def shown(url: str) -> str:
    """Return where a database is, without a password, for messages.

    >>> shown("postgresql://ann:secret@db.example.org:5433/tables?sslmode=require")
    'tables on db.example.org:5433'
    """
    given = conninfo.conninfo_to_dict(url)
    host, port = given.get("host") or given.get("hostaddr"), given.get("port")
    name = given.get("dbname") or given.get("user") or "of the current user"
    return f"{name} on {host or 'this machine'}{f':{port}' if port else ''}"
