"""Two servers on one catalog and one object store, as far as their stores are concerned."""

import contextlib
import itertools

import attrs
import psycopg
import pytest

from creemson.catalog.catalog import JobRow
from creemson.catalog.postgres import PostgresCatalog
from creemson.catalog.shared.claims import Claim
from tests.storage.objects.conftest import World


class Server(World):
    """The stores of one server, with what a test needs of the database."""

    def __init__(self, folder, url, database, **options):
        self.database = database
        super().__init__(folder, url, **options)

    def make_catalog(self):
        return PostgresCatalog(self.database, shared=True)

    @property
    def garbage(self):
        return self.backend._garbage

    def wait(self):
        """Let the time pass after which objects may be removed; servers that live renew their stores."""
        self.sql("UPDATE removals SET at = at - interval '61 s'")

    def vanish(self):
        """Let the store expire, as of a server that is stopped."""
        self.sql("UPDATE stores SET until = now() - interval '1 s' WHERE id = %s", self.garbage._store)

    def list_again(self):
        """Let the time pass after which all objects are listed."""
        self.sql("DELETE FROM facts WHERE name = 'listed'")

    def close(self):
        self.catalog.close()

    def sql(self, statement, *parameters):
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("SET search_path = creemson")
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


JOB = JobRow(
    id="", key="k", caller="ann", query="{}", timeout=1.0, kept=False, state="queued", created=1.0, finished=None,
    restarts=0, seq=0, outcome=None,
)  # fmt: skip
_ids = itertools.count()


def submit(server, version, owner="one"):
    """Record an unfinished job that needs a version; return the claim of a server that runs it."""
    row = attrs.evolve(JOB, id=f"job-{next(_ids)}", version=version)
    server.catalog.record_jobs([row])
    server.sql("UPDATE jobs SET owner = %s, epoch = 1 WHERE id = %s", owner, row.id)
    return Claim(row.id, owner, 1)


def end(server, claim):
    """Record that a job has ended."""
    server.sql("UPDATE jobs SET state = 'done' WHERE id = %s", claim.job)


@pytest.fixture(scope="session")
def database(postgres_server):
    """A database for all tests: to make one takes longer than most of them."""
    url = postgres_server.url()
    with contextlib.closing(PostgresCatalog(url)) as catalog:
        catalog.open()
    return url


@pytest.fixture(autouse=True)
def _settled(monkeypatch):
    """The database of the tests has just started."""
    monkeypatch.setattr("creemson.catalog.shared.leases.RESTART_TIME", 0.0)


TABLES = "files, parts, jobs, tables, objects, facts, stores, leases, reservations, removals"


@pytest.fixture
def make(tmp_path, url, database):
    """A function that starts a server; all share the catalog, which is empty, and the object store."""
    numbers = itertools.count()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET search_path = creemson")
        connection.execute(f"TRUNCATE {TABLES}")
    with contextlib.ExitStack() as stack:

        def make(**options):
            server = Server(tmp_path / f"data-{next(numbers)}", url, database, **options)
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture
def one(make):
    return make()


@pytest.fixture
def two(one, make):
    return make()
