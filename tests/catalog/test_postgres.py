"""What is different with PostgreSQL: connections are lost, and several programs write."""

import contextlib
import errno
import secrets
from concurrent.futures import ThreadPoolExecutor

import attrs
import psycopg
import pytest

from creemson.catalog.objects import ObjectRow
from creemson.catalog.postgres import VERSION, PostgresCatalog, PostgresDatabase, shown
from creemson.errors import DatabaseError, disk_error
from tests.catalog.test_rows import JOB, PART
from tests.databases import PATIENCE, free_port, postgres
from tests.servers import wait_until


@pytest.fixture
def url(postgres_server):
    return postgres_server.url()


@contextlib.contextmanager
def opened(url):
    with contextlib.closing(PostgresCatalog(url)) as catalog:
        catalog.open()
        yield catalog


def sql(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement)


def test_catalog_of_a_newer_version_is_refused_and_stays(url):
    """As with SQLite."""
    with opened(url) as catalog:
        catalog.record_jobs([JOB])
    sql(url, f"UPDATE creemson.schema_version SET version = {VERSION + 1}")
    with (
        contextlib.closing(PostgresCatalog(url)) as catalog,
        pytest.raises(OSError, match="changed by a newer version of Creemson"),
    ):
        catalog.open()
    sql(url, f"UPDATE creemson.schema_version SET version = {VERSION}")
    with opened(url) as catalog:
        assert catalog.jobs() == [JOB]


def test_rehearsal_tells_the_version_of_the_tables_and_changes_nothing(url):
    """`creemson doctor` may run while servers of an earlier version use the database."""

    def rehearsed():
        with contextlib.closing(PostgresCatalog(url)) as catalog:
            return catalog.rehearse()

    assert rehearsed() == "none"
    assert sql(url, "SELECT to_regnamespace('creemson')").fetchone() == (None,)
    with opened(url) as catalog:
        catalog.record_jobs([JOB])
    assert rehearsed() == "current"
    sql(
        url,
        f"DROP TABLE creemson.tokens, creemson.token_changes; UPDATE creemson.schema_version SET version = {VERSION - 1}",
    )
    assert rehearsed() == "earlier"
    assert sql(url, "SELECT to_regclass('creemson.tokens')").fetchone() == (None,)
    assert sql(url, "SELECT version FROM creemson.schema_version").fetchone() == (VERSION - 1,)
    sql(url, f"UPDATE creemson.schema_version SET version = {VERSION + 1}")
    with pytest.raises(OSError, match="changed by a newer version of Creemson"):
        rehearsed()


@pytest.fixture
def refuse(monkeypatch):
    """A function that expects another server to be refused."""

    def refuse(url):
        with (
            monkeypatch.context() as patched,
            contextlib.closing(PostgresCatalog(url)) as other,
            pytest.raises(OSError, match=r"another server uses the catalog d.* on 127.0.0.1") as caught,
        ):
            patched.setattr("creemson.catalog.postgres.OWNER_TIMEOUT", 0.3)
            other.open()
        assert caught.value.errno == errno.EBUSY

    return refuse


def test_second_server_is_refused_until_the_first_has_stopped(url, refuse):
    """The message names the database."""
    with opened(url):
        refuse(url)
    with opened(url):
        pass


def test_servers_that_share_wait_until_the_owner_has_ended(url):
    """PostgreSQL may notice late that a server has ended that used the catalog alone."""
    refused = "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock_shared%' AND state = 'idle'"
    with contextlib.closing(PostgresCatalog(url, shared=True)) as sharing, ThreadPoolExecutor(1) as threads:
        with opened(url):
            opening = threads.submit(sharing.open)
            wait_until(lambda: sql(url, refused).fetchone() is not None)
        opening.result(PATIENCE)
        assert sharing.jobs() == []


def test_lost_connections_are_opened_again(url, refuse):
    """Whoever has ended them; the lock on the catalog is taken again, too."""
    with opened(url) as catalog:
        catalog.record_jobs([JOB])
        sql(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'creemson'")
        assert catalog.jobs() == [JOB]
        catalog.record_part(PART)
        refuse(url)
    with opened(url) as catalog:
        assert catalog.parts() == [PART]


@pytest.mark.slow
def test_crash_of_the_database_loses_nothing_that_was_recorded(monkeypatch):
    """While it is down, each use is an error in words after a time; afterwards, all goes on."""
    monkeypatch.setattr("creemson.catalog.postgres.RESTART_TIME", 0.5)
    with postgres() as server, opened(server.url()) as catalog:
        for number in range(3):
            catalog.record_jobs([attrs.evolve(JOB, id=f"j{number}")])
            server.stop()
            with pytest.raises(OSError, match=r"^the catalog d.*: connection") as caught:
                catalog.record_part(PART)
            assert told(caught.value) == ("busy", True)
            server.start()
            assert len(catalog.jobs()) == number + 1


def told(error):
    """What a peer is told of an error, which names neither hosts nor rows: its reason, and whether it may try again."""
    answer = disk_error(error)
    assert "catalog" not in answer.message
    assert "database" in answer.message
    return answer.reason, answer.retryable


@pytest.mark.parametrize(
    ("statement", "reconnects", "expected"),
    [
        ("ALTER ROLE {role} SET default_transaction_read_only = on", True, ("busy", True)),
        ("ALTER ROLE {role} NOLOGIN", True, ("busy", True)),
        ("ALTER TABLE creemson.jobs RENAME TO old", False, ("internal", False)),
    ],
    ids=["standby", "refused", "changed"],
)
def test_peer_may_try_again_unless_waiting_does_not_help(url, statement, reconnects, expected, monkeypatch):
    """Whatever keeps the database from being used for a while; the tables of somebody else's making are no such thing."""
    monkeypatch.setattr("creemson.catalog.postgres.RESTART_TIME", 0.0)
    role = f"r{secrets.token_hex(6)}"
    sql(url, f"CREATE ROLE {role} SUPERUSER LOGIN")
    with opened(url.replace("postgres@", f"{role}@")) as catalog:
        sql(url, statement.format(role=role))
        if reconnects:
            sql(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        with pytest.raises(DatabaseError) as caught:
            catalog.record_jobs([JOB])
        assert told(caught.value) == expected


def test_database_that_cannot_be_reached_is_an_error_in_words(url):
    """A wrong port, a wrong name, a wrong user."""
    for wrong, words in (
        (f"postgresql://postgres:secret@127.0.0.1:{free_port()}/d", "Connection refused"),
        (f"{url}x", "does not exist"),
        (url.replace("postgres@", "nobody:secret@"), "does not exist"),
    ):
        with (
            contextlib.closing(PostgresCatalog(wrong)) as catalog,
            pytest.raises(OSError, match=words) as caught,
        ):
            catalog.open()
        assert "secret" not in str(caught.value)


def test_names_are_published_once_although_many_try(url):
    """Without a lock of the whole table: who comes second sees the row of the first."""
    row = ObjectRow(key="", caller="ann", kind="upload", name="a.csv", version="v", size=1, piece=0)
    with opened(url) as catalog, contextlib.ExitStack() as stack:
        catalogs = [catalog]
        for _ in range(3):  # as servers that share the catalog
            other = PostgresDatabase(url)
            other._writer._prepare = lambda _: None
            stack.callback(other.close)
            catalogs.append(
                attrs.make_class("Other", {"objects": attrs.field()})(type(catalog.objects)(other))
            )

        def publish(number):
            try:
                catalogs[number % 4].objects.publish(attrs.evolve(row, key=f"k{number}"), overwrite=False)
            except FileExistsError:
                return 0
            return 1

        def replace(number):
            replaced = catalogs[number % 4].objects.publish(
                attrs.evolve(row, key=f"r{number}"), overwrite=True
            )
            return [old.key for old in replaced]

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(publish, range(40))) == 1
            replaced = [key for keys in threads.map(replace, range(40)) for key in keys]
        # Each row loses its name to exactly one other, but for the last one.
        assert len(replaced) == len(set(replaced)) == 40
        assert len(catalog.objects.rows(kind="upload")) == 1
        assert len(catalog.objects.rows(kind="kept")) == 40


def test_text_that_postgresql_cannot_store_is_no_error(url):
    """It has no NUL character; a client may send one as a fingerprint."""
    with opened(url) as catalog:
        catalog.record_part(attrs.evolve(PART, fingerprint="a\0b"))
        assert catalog.part("ann", "a.csv").fingerprint == "a\u2400b"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "postgresql://ann:secret@db.example.org:5433/tables?sslmode=require",
            "tables on db.example.org:5433",
        ),
        ("postgresql:///tables", "tables on this machine"),
        ("postgresql://ann@/?host=/run/pg", "ann on /run/pg"),
    ],
)
def test_database_is_shown_without_a_password(url, words):
    """In messages and in the log."""
    assert shown(url) == words
