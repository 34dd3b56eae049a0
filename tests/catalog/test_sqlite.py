"""The catalog: what it records about files and jobs, and how it handles damage and disk errors."""

import contextlib
import errno
import shutil
import sqlite3

import attrs
import pytest

from creemson.catalog.catalog import JobRow, PartRow
from creemson.catalog.sqlite import MAX_UNREADABLE, VERSION, SqliteCatalog
from creemson.executors.commands import answer_limits
from creemson.settings.sections import Limits

DIGEST = "ab" * 32
OTHER = "cd" * 32
PART = PartRow(
    path="parts/.1.tmp",
    caller="ann",
    name="a.csv",
    size=100,
    sha256=DIGEST,
    durable=40,
    boot="boot-1",
    touched=1000.5,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.db"


@pytest.fixture
def catalog(path):
    with open_catalog(path) as catalog:
        yield catalog


@contextlib.contextmanager
def open_catalog(path, *, aside=None):
    """An open catalog; ``aside`` is the expected return value of :meth:`SqliteCatalog.open`."""
    catalog = SqliteCatalog(path)
    try:
        assert catalog.open() == aside
        yield catalog
    finally:
        catalog.close()


def fill(path, rows=200):
    """Create a database with several pages for each table, all in the one file."""
    with open_catalog(path) as catalog:
        for number in range(rows):
            catalog.record_digest(f"uploads/{number}", "v", DIGEST)
            catalog.record_part(attrs.evolve(PART, path=f"parts/{number}", name=str(number)))
    assert [child.name for child in path.parent.iterdir()] == [path.name]


JOB = JobRow(
    id="j1", key="k", caller="ann", query="{}", timeout=9.0, kept=True, state="queued", created=5.0, finished=None,
    restarts=0, seq=0, outcome=None,
)  # fmt: skip


def test_catalog_of_an_earlier_version_is_upgraded(path):
    """Existing rows are kept; digests stay valid for files of the same size and time."""
    older = "DROP TABLE objects; DROP TABLE facts; DROP TABLE tables; ALTER TABLE parts DROP COLUMN fingerprint; ALTER TABLE jobs DROP COLUMN version;"
    for version, change in ((1, f"{older} DROP TABLE jobs;"), (2, older)):
        path.unlink(missing_ok=True)
        fill(path, rows=1)
        with open_catalog(path) as catalog:
            catalog.record_jobs([JOB])
            catalog.record_digest("uploads/a.csv", "77-8-1700000000123456789-1700000000999999999", DIGEST)
            catalog.record_digest("uploads/old.csv", "77-8--5-1700000000999999999", DIGEST)
        sql(path, f"{change} PRAGMA user_version = {version};")
        with open_catalog(path) as catalog:
            assert catalog.parts() == [attrs.evolve(PART, path="parts/0", name="0")]
            assert catalog.jobs() == ([JOB] if version == 2 else [])
            assert catalog.digest("uploads/a.csv", "8-1700000000123456789") == DIGEST
            assert catalog.digest("uploads/old.csv", "8--5") == DIGEST
            catalog.record_jobs([JOB])


def sql(path, statement):
    """Change the database as another program would."""
    database = sqlite3.connect(path)
    try:
        database.executescript(statement)
    finally:
        database.close()


# --- the database --------------------------------------------------------------------------------------


def test_catalog_after_reopening_has_all_rows(path):
    """All rows are back, for the same object and for another one; closing is idempotent."""
    catalog = SqliteCatalog(path)
    assert catalog.open() is None
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    catalog.record_use({"uploads/a.csv": 7.0})
    catalog.record_part(PART)
    catalog.close()
    catalog.close()
    assert catalog.open() is None
    assert catalog.digests() == {("uploads/a.csv", "v1"): DIGEST}
    catalog.close()
    with open_catalog(path) as other:
        assert other.digests() == {("uploads/a.csv", "v1"): DIGEST}
        assert other.uses() == {"uploads/a.csv": 7.0}
        assert other.parts() == [PART]


def test_catalog_after_a_crash_has_all_rows(path, catalog):
    """The next process sees the rows although nobody closed the database."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    catalog.record_part(PART)
    with open_catalog(path) as other:
        assert other.digest("uploads/a.csv", "v1") == DIGEST
        assert other.parts() == [PART]


def test_catalog_syncs_each_commit_to_survive_power_loss(catalog):
    """The minimum that makes `durable` true."""
    database = catalog.database._database
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def damage(path, kind):
    """Make the database unreadable in one of the ways seen in practice."""
    whole = path.read_bytes()
    page = 4096
    match kind:
        case "garbage":
            path.write_bytes(b"This was never a database. " * 1000)
        case "truncated in the header":
            path.write_bytes(whole[:50])
        case "truncated in the first page":
            path.write_bytes(whole[: page // 2])
        case "truncated to the first page":
            path.write_bytes(whole[:page])
        case "truncated at the end":
            path.write_bytes(whole[:-page])
        case "truncated within a page":
            path.write_bytes(whole[: -page // 2])
        case "zeros":
            path.write_bytes(bytes(len(whole)))
        case "a negative version":
            sql(path, "PRAGMA user_version = -1")
    return path.read_bytes()


@pytest.mark.parametrize(
    "kind",
    [
        "garbage",
        "truncated in the header",
        "truncated in the first page",
        "truncated to the first page",
        "truncated at the end",
        "truncated within a page",
        "zeros",
        "a negative version",
    ],
)
def test_unreadable_database_is_moved_aside_and_replaced(path, kind):
    """The old file is kept for inspection; the new database works and persists."""
    fill(path)
    unreadable = damage(path, kind)
    aside = path.with_suffix(".unreadable")
    with open_catalog(path, aside=aside) as catalog:
        assert aside.read_bytes() == unreadable
        assert catalog.digests() == {}
        assert catalog.parts() == []
        catalog.record_part(PART)
    with open_catalog(path) as catalog:
        assert catalog.parts() == [PART]


@pytest.mark.parametrize("page", [2, 3, 4, 5])
def test_database_with_a_damaged_page_is_moved_aside(path, page):
    """Also if the first page is intact: otherwise every later use of the catalog would fail."""
    fill(path)
    with path.open("r+b") as stream:
        stream.seek((page - 1) * 4096)
        stream.write(b"\xa5" * 4096)
    aside = path.with_suffix(".unreadable")
    with open_catalog(path, aside=aside) as catalog:
        assert catalog.digests() == {}
        assert catalog.parts() == []


@pytest.mark.parametrize("content", [b"", b"S"])
def test_database_without_a_page_counts_as_new(path, content):
    """A crash may have come before the first page was written: nothing is moved aside."""
    path.write_bytes(content)
    with open_catalog(path) as catalog:
        assert catalog.parts() == []


def test_second_unreadable_database_gets_a_numbered_name(path):
    """Earlier files stay; once there are too many, the last one is overwritten."""
    names = [
        "catalog.unreadable",
        *(f"catalog.unreadable.{number}" for number in range(2, MAX_UNREADABLE + 1)),
    ]
    for name in [*names, names[-1]]:
        path.write_bytes(f"before {name}".encode() * 1000)
        with open_catalog(path, aside=path.with_name(name)):
            pass
    for name in names:
        assert path.with_name(name).read_bytes() == f"before {name}".encode() * 1000
    assert sorted(child.name for child in path.parent.iterdir()) == sorted(["catalog.db", *names])


@pytest.mark.parametrize("table", ["files", "parts", "jobs"])
def test_database_without_a_table_is_moved_aside(path, table):
    """Its version number is right, but every use of that table would fail."""
    fill(path)
    sql(path, f"DROP TABLE {table}")
    with open_catalog(path, aside=path.with_suffix(".unreadable")) as catalog:
        catalog.record_part(PART)
        assert catalog.parts() == [PART]


@pytest.mark.parametrize("use", [lambda catalog: catalog.parts(), lambda catalog: catalog.record_part(PART)])
def test_database_damaged_while_in_use_is_moved_aside(path, use):
    """The operation runs on a new database, and the owner is notified where the old one is."""
    fill(path)
    notified = []
    catalog = SqliteCatalog(path, on_damage=notified.append)
    catalog.open()
    with path.open("r+b") as stream:  # everything but the header
        stream.seek(100)
        stream.write(b"\xa5" * (path.stat().st_size - 100))
    catalog.database._database.execute("PRAGMA shrink_memory")
    try:
        use(catalog)
        assert notified == [path.with_suffix(".unreadable")]
        catalog.record_part(PART)
        assert catalog.parts() == [PART]
    finally:
        catalog.close()


def test_locked_database_is_reported_and_not_moved(path, monkeypatch):
    """The lock will be released at some time; until then both opening and use report `EBUSY`."""
    monkeypatch.setattr("creemson.catalog.sqlite.LOCK_TIMEOUT", 0.05)
    fill(path, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        catalog = SqliteCatalog(path)
        with pytest.raises(OSError, match="another program has locked it") as caught:
            catalog.open()
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, str(path))
        catalog.close()
    with (
        open_catalog(path) as catalog,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="another program has locked it"):
            catalog.record_part(PART)
        assert len(catalog.parts()) == 1
        other.execute("ROLLBACK")
        catalog.record_part(PART)
        assert PART in catalog.parts()
    assert not path.with_suffix(".unreadable").exists()


def test_database_of_a_newer_version_is_refused_and_stays(path):
    """To start with a new one would lose all jobs."""
    fill(path, 1)
    sql(path, f"PRAGMA user_version = {VERSION + 1}")
    catalog = SqliteCatalog(path)
    with pytest.raises(OSError, match=f"version {VERSION + 1} of its tables; this one knows up to {VERSION}"):
        catalog.open()
    catalog.close()
    sql(path, f"PRAGMA user_version = {VERSION}")
    with open_catalog(path) as catalog:
        assert len(catalog.parts()) == 1


def test_journal_of_an_unreadable_database_is_moved_with_it(path, tmp_path):
    """A journal left by a crash must not be applied to the new database."""
    before = tmp_path / "before" / "catalog.db"
    before.parent.mkdir()
    with open_catalog(before) as catalog:
        catalog.record_part(PART)
        catalog.database._database.execute("PRAGMA user_version = -1")
        for suffix in ("", "-wal"):  # the files as a crash leaves them
            shutil.copy(f"{before}{suffix}", f"{path}{suffix}")
    aside = path.with_suffix(".unreadable")
    with open_catalog(path, aside=aside) as catalog:
        assert catalog.parts() == []
        catalog.record_part(attrs.evolve(PART, name="new.csv"))
    with open_catalog(path) as catalog:
        assert [row.name for row in catalog.parts()] == ["new.csv"]
    with contextlib.closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT name FROM parts").fetchall() == [("a.csv",)]


def test_unreadable_journal_of_an_unreadable_database_is_removed(path):
    """A damaged journal does not affect the new database."""
    path.write_bytes(b"garbage" * 1000)
    journals = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    for journal in journals:
        journal.write_bytes(b"garbage" * 1000)
    with open_catalog(path, aside=path.with_suffix(".unreadable")) as catalog:
        catalog.record_part(PART)
    assert not any(journal.exists() for journal in journals)
    with open_catalog(path) as catalog:
        assert catalog.parts() == [PART]


def test_database_that_cannot_be_opened_raises_eio(path):
    """Nothing is moved aside: the catalog itself may be intact."""
    path.mkdir()
    catalog = SqliteCatalog(path)
    with pytest.raises(OSError, match="the catalog: unable to open") as caught:
        catalog.open()
    catalog.close()
    assert caught.value.errno == errno.EIO
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_write_on_a_full_disk_raises_enospc_and_keeps_old_rows(catalog):
    """The store turns `ENOSPC` into `storage_full`; earlier rows are still there."""
    catalog.record_part(PART)
    pages = catalog.database._database.execute("PRAGMA page_count").fetchone()[0]
    catalog.database._database.execute(
        f"PRAGMA max_page_count = {pages}"
    )  # SQLite says "full" there as on a disk
    with pytest.raises(OSError, match=r"the catalog: .*full") as caught:
        catalog.record_use({f"uploads/{number}.csv": 1.0 for number in range(1000)})
    assert caught.value.errno == errno.ENOSPC
    assert catalog.uses() == {}, "all of it or nothing"
    assert catalog.parts() == [PART]
    catalog.database._database.execute(f"PRAGMA max_page_count = {pages + 100}")  # space has been freed
    catalog.record_use({f"uploads/{number}.csv": 1.0 for number in range(1000)})
    assert len(catalog.uses()) == 1000


def test_other_database_error_raises_eio(path, catalog):
    """Any other error is `EIO`, on reads and on writes."""
    sql(path, "DROP TABLE parts")
    for attempt in (catalog.parts, lambda: catalog.record_part(PART), lambda: catalog.forget_part(PART.path)):
        with pytest.raises(OSError, match="the catalog: no such table: parts") as caught:
            attempt()
        assert caught.value.errno == errno.EIO
    catalog.record_use({"uploads/a.csv": 1.0})
    assert catalog.uses() == {"uploads/a.csv": 1.0}


def test_failed_write_leaves_no_open_transaction(path, catalog):
    """The write is rolled back, so another process can write at once."""
    broken = attrs.evolve(PART, name=None)
    with pytest.raises(OSError, match="NOT NULL"):
        catalog.record_part(broken)
    assert not catalog.database._database.in_transaction
    sql(path, "PRAGMA busy_timeout = 0; DELETE FROM parts")


def test_catalog_that_was_never_opened_creates_no_file(path):
    """Only an explicit `open()` touches the disk."""
    SqliteCatalog(path).close()
    assert list(path.parent.iterdir()) == []


def test_the_largest_answer_can_be_recorded(path):
    """Whatever the limits are: what is told of a job must be written down."""
    limits = Limits(outbox_bytes=10**13, message_bytes=10**13)
    largest = max(answer_limits(limits).values())
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert 3 * largest < database.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 0)])
def test_commits_are_synced_unless_nothing_must_survive(tmp_path, durable, level):
    """PRAGMA synchronous: 2 is FULL, 0 is OFF."""
    catalog = SqliteCatalog(tmp_path / "catalog.db", durable=durable)
    catalog.open()
    try:
        assert catalog.database._database.execute("PRAGMA synchronous").fetchone() == (level,)
    finally:
        catalog.close()
