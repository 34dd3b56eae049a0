"""The catalog: what is remembered of files, and that its loss or a fault of the disk is bearable."""

import contextlib
import errno
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from creemson.storage.catalog import KEPT, VERSION, Catalog, JobRow, PartRow

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
    with opened(path) as catalog:
        yield catalog


@contextlib.contextmanager
def opened(path, *, aside=None):
    """A catalog that is open; ``aside`` is what :meth:`Catalog.open` must say."""
    catalog = Catalog(path)
    try:
        assert catalog.open() == aside
        yield catalog
    finally:
        catalog.close()


def fill(path, rows=200):
    """A database of several pages of each table, all of it in the one file."""
    with opened(path) as catalog:
        for number in range(rows):
            catalog.record_digest(f"uploads/{number}", "v", DIGEST)
            catalog.record_part(attrs.evolve(PART, path=f"parts/{number}", name=str(number)))
    assert [child.name for child in path.parent.iterdir()] == [path.name]


JOB = JobRow(
    id="j1", key="k", caller="ann", query="{}", timeout=9.0, kept=True, state="queued", created=5.0, finished=None,
    restarts=0, seq=0, outcome=None,
)  # fmt: skip


def test_jobs_are_kept_in_the_order_of_their_creation(path):
    """And survive the program; a later row takes the place of an earlier one, an id alone erases it."""
    old, other = attrs.evolve(JOB, id="j2", created=1.0), attrs.evolve(JOB, id="j3")
    with opened(path) as catalog:
        catalog.record_jobs([JOB, old, other])
        done = attrs.evolve(JOB, kept=False, state="done", finished=6.0, seq=7, outcome='{"rows": 1}')
        catalog.record_jobs([done, "j3", "never was"])
    with opened(path) as catalog:
        assert catalog.jobs() == [old, done]


def test_a_transaction_is_all_or_nothing(catalog):
    """A row that cannot be written takes those beside it along."""
    with pytest.raises(OSError, match="NOT NULL"):
        catalog.record_jobs([JOB, attrs.evolve(JOB, id="j2", query=None)])
    assert catalog.jobs() == []


def test_a_catalog_of_an_earlier_version_is_brought_forward(path):
    """What it knows stays."""
    fill(path, rows=1)
    sql(path, "DROP TABLE jobs")
    sql(path, "PRAGMA user_version = 1")
    with opened(path) as catalog:
        assert len(catalog.parts()) == 1
        assert catalog.jobs() == []
        catalog.record_jobs([JOB])


def sql(path, statement):
    """What a foreign program does to the database."""
    database = sqlite3.connect(path)
    try:
        database.executescript(statement)
    finally:
        database.close()


# --- files ---------------------------------------------------------------------------------------------


def test_a_digest_is_known_for_its_version_only(catalog):
    """Of another version, or another file, nothing is known."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    assert catalog.digest("uploads/a.csv", "v1") == DIGEST
    assert catalog.digest("uploads/a.csv", "v2") is None
    assert catalog.digest("uploads/b.csv", "v1") is None


def test_a_new_version_takes_the_place_of_the_old(catalog):
    """Of each file, the digest of one version is kept."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    catalog.record_digest("uploads/a.csv", "v2", OTHER)
    assert catalog.digest("uploads/a.csv", "v1") is None
    assert catalog.digests() == {("uploads/a.csv", "v2"): OTHER}


def test_a_use_is_no_digest(catalog):
    """A file that was used, but never digested, has no digest; one recorded later is known."""
    catalog.record_use({"uploads/a.csv": 5.0})
    assert catalog.digests() == {}
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    assert catalog.digests() == {("uploads/a.csv", "v1"): DIGEST}
    assert catalog.uses() == {"uploads/a.csv": 5.0}


def test_the_last_use_counts(catalog):
    """Uses may be told in any order; a file that was only digested was used at 0."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    assert catalog.uses() == {"uploads/a.csv": 0.0}
    catalog.record_use({"uploads/a.csv": 7.0, "outputs/b.parquet": 3.0})
    catalog.record_use({"uploads/a.csv": 6.0, "outputs/b.parquet": 4.0})
    assert catalog.uses() == {"uploads/a.csv": 7.0, "outputs/b.parquet": 4.0}
    assert catalog.digest("uploads/a.csv", "v1") == DIGEST


def test_a_forgotten_file_is_unknown(catalog):
    """Digest and use go together; forgetting what is unknown, or nothing at all, is no fault."""
    for name in ("uploads/a.csv", "uploads/b.csv"):
        catalog.record_digest(name, "v1", DIGEST)
        catalog.record_use({name: 7.0})
    catalog.forget(["uploads/a.csv", "uploads/c.csv"])
    catalog.forget([])
    catalog.record_use({})
    assert catalog.digests() == {("uploads/b.csv", "v1"): DIGEST}
    assert catalog.uses() == {"uploads/b.csv": 7.0}


# --- unfinished uploads --------------------------------------------------------------------------------


def test_a_part_is_found_by_caller_and_name(catalog):
    """Both belong together; all that was recorded comes back, also a digest that was not announced."""
    silent = attrs.evolve(PART, path="parts/.2.tmp", caller="bob", sha256=None)
    catalog.record_part(PART)
    catalog.record_part(silent)
    assert catalog.part("ann", "a.csv") == PART
    assert catalog.part("bob", "a.csv") == silent
    assert catalog.part("ann", "b.csv") is None
    assert catalog.part("eve", "a.csv") is None
    assert sorted(catalog.parts(), key=lambda row: row.path) == [PART, silent]


def test_a_part_is_brought_up_to_date(catalog):
    """What was announced stays; of a part that is unknown, no update makes one."""
    catalog.record_part(PART)
    catalog.update_part(PART.path, 90, "boot-2", 2000.25)
    assert catalog.parts() == [attrs.evolve(PART, durable=90, boot="boot-2", touched=2000.25)]
    catalog.update_part("parts/.3.tmp", 1, "boot-2", 1.0)
    assert len(catalog.parts()) == 1


def test_of_each_name_there_is_one_part(catalog):
    """A new one takes the place of an earlier one, whether it has the same path or another."""
    catalog.record_part(PART)
    again = attrs.evolve(PART, size=7)
    catalog.record_part(again)
    assert catalog.parts() == [again]
    elsewhere = attrs.evolve(PART, path="parts/.2.tmp")
    catalog.record_part(elsewhere)
    assert catalog.parts() == [elsewhere]


def test_a_forgotten_part_is_unknown(catalog):
    """Others stay; forgetting what is unknown is no fault."""
    other = attrs.evolve(PART, path="parts/.2.tmp", name="b.csv")
    catalog.record_part(PART)
    catalog.record_part(other)
    catalog.forget_part(PART.path)
    catalog.forget_part(PART.path)
    assert catalog.part("ann", "a.csv") is None
    assert catalog.parts() == [other]


def test_a_size_may_be_large(catalog):
    """Sizes beyond 4 GiB fit."""
    row = attrs.evolve(PART, size=2**53, durable=2**40)
    catalog.record_part(row)
    assert catalog.part("ann", "a.csv") == row


# --- the database --------------------------------------------------------------------------------------


def test_the_catalog_survives_being_reopened(path):
    """Everything is there again, by the same object and by another."""
    catalog = Catalog(path)
    assert catalog.open() is None
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    catalog.record_use({"uploads/a.csv": 7.0})
    catalog.record_part(PART)
    catalog.close()
    catalog.close()
    assert catalog.open() is None
    assert catalog.digests() == {("uploads/a.csv", "v1"): DIGEST}
    catalog.close()
    with opened(path) as other:
        assert other.digests() == {("uploads/a.csv", "v1"): DIGEST}
        assert other.uses() == {"uploads/a.csv": 7.0}
        assert other.parts() == [PART]


def test_the_catalog_survives_a_crash(path, catalog):
    """What was recorded is there for the next process, though nobody closed the database."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    catalog.record_part(PART)
    with opened(path) as other:
        assert other.digest("uploads/a.csv", "v1") == DIGEST
        assert other.parts() == [PART]


def test_what_is_recorded_survives_a_loss_of_power(catalog):
    """Each commit is synced: the least that makes `durable` true."""
    database = catalog._database
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def damaged(path, kind):
    """Make the database unreadable in one of the ways in which it happens."""
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
        case "a newer version":
            sql(path, f"PRAGMA user_version = {VERSION + 1}")
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
        "a newer version",
        "a negative version",
    ],
)
def test_an_unreadable_database_is_put_aside(path, kind):
    """It is kept for whoever wants to look, and a new one is begun, which works and stays."""
    fill(path)
    unreadable = damaged(path, kind)
    aside = path.with_suffix(".unreadable")
    with opened(path, aside=aside) as catalog:
        assert aside.read_bytes() == unreadable
        assert catalog.digests() == {}
        assert catalog.parts() == []
        catalog.record_part(PART)
    with opened(path) as catalog:
        assert catalog.parts() == [PART]


@pytest.mark.parametrize("page", [2, 3, 4, 5])
def test_a_database_with_a_damaged_page_is_put_aside(path, page):
    """Also where the first page is whole: otherwise each use of the catalog would fail, for ever."""
    fill(path)
    with path.open("r+b") as stream:
        stream.seek((page - 1) * 4096)
        stream.write(b"\xa5" * 4096)
    aside = path.with_suffix(".unreadable")
    with opened(path, aside=aside) as catalog:
        assert catalog.digests() == {}
        assert catalog.parts() == []


@pytest.mark.parametrize("content", [b"", b"S"])
def test_a_database_without_a_page_is_a_new_one(path, content):
    """A crash may have come before the first page was written: nothing is put aside for that."""
    path.write_bytes(content)
    with opened(path) as catalog:
        assert catalog.parts() == []


def test_a_second_unreadable_database_is_put_beside_the_first(path):
    """What was put aside stays; of very many, the last makes room for the next, and not one is kept for each start."""
    names = ["catalog.unreadable", *(f"catalog.unreadable.{number}" for number in range(2, KEPT + 1))]
    for name in [*names, names[-1]]:
        path.write_bytes(f"before {name}".encode() * 1000)
        with opened(path, aside=path.with_name(name)):
            pass
    for name in names:
        assert path.with_name(name).read_bytes() == f"before {name}".encode() * 1000
    assert sorted(child.name for child in path.parent.iterdir()) == sorted(["catalog.db", *names])


@pytest.mark.parametrize("table", ["files", "parts", "jobs"])
def test_a_database_without_a_table_is_put_aside(path, table):
    """It says that it is of this version, and every use of that table would fail, for ever."""
    fill(path)
    sql(path, f"DROP TABLE {table}")
    with opened(path, aside=path.with_suffix(".unreadable")) as catalog:
        catalog.record_part(PART)
        assert catalog.parts() == [PART]


@pytest.mark.parametrize("use", [lambda catalog: catalog.parts(), lambda catalog: catalog.record_part(PART)])
def test_a_database_that_is_damaged_in_use_is_put_aside(path, use):
    """The use is carried out on a new one, and the owner is told where the old one is."""
    fill(path)
    told = []
    catalog = Catalog(path, on_damage=told.append)
    catalog.open()
    with path.open("r+b") as stream:  # all but the header
        stream.seek(100)
        stream.write(b"\xa5" * (path.stat().st_size - 100))
    catalog._database.execute("PRAGMA shrink_memory")
    try:
        use(catalog)
        assert told == [path.with_suffix(".unreadable")]
        catalog.record_part(PART)
        assert catalog.parts() == [PART]
    finally:
        catalog.close()


def test_a_locked_database_is_left_where_it_is(path, monkeypatch):
    """Whoever holds it lets go of it some time; until then, that is what is told: at the start and in use."""
    monkeypatch.setattr("creemson.storage.catalog.PATIENCE", 0.05)
    fill(path, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        catalog = Catalog(path)
        with pytest.raises(OSError, match="another program holds it") as caught:
            catalog.open()
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, str(path))
        catalog.close()
    with opened(path) as catalog, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="another program holds it"):
            catalog.record_part(PART)
        assert len(catalog.parts()) == 1
        other.execute("ROLLBACK")
        catalog.record_part(PART)
        assert PART in catalog.parts()
    assert not path.with_suffix(".unreadable").exists()


def test_the_journal_of_an_unreadable_database_goes_with_it(path, tmp_path):
    """What a crash left in the journal is put aside too; it does not find its way into the new database."""
    before = tmp_path / "before" / "catalog.db"
    before.parent.mkdir()
    with opened(before) as catalog:
        catalog.record_part(PART)
        catalog._database.execute(f"PRAGMA user_version = {VERSION + 1}")
        for suffix in ("", "-wal"):  # as they are after a crash
            shutil.copy(f"{before}{suffix}", f"{path}{suffix}")
    aside = path.with_suffix(".unreadable")
    with opened(path, aside=aside) as catalog:
        assert catalog.parts() == []
        catalog.record_part(attrs.evolve(PART, name="new.csv"))
    with opened(path) as catalog:
        assert [row.name for row in catalog.parts()] == ["new.csv"]
    with contextlib.closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT name FROM parts").fetchall() == [("a.csv",)]


def test_a_journal_without_its_database_is_removed(path):
    """One that is as unreadable as its database does no harm to the new one."""
    path.write_bytes(b"garbage" * 1000)
    journals = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    for journal in journals:
        journal.write_bytes(b"garbage" * 1000)
    with opened(path, aside=path.with_suffix(".unreadable")) as catalog:
        catalog.record_part(PART)
    assert not any(journal.exists() for journal in journals)
    with opened(path) as catalog:
        assert catalog.parts() == [PART]


def test_a_database_that_cannot_be_opened_is_a_fault_of_the_disk(path):
    """Nothing is put aside: the catalog may be fine."""
    path.mkdir()
    catalog = Catalog(path)
    with pytest.raises(OSError, match="the catalog: unable to open") as caught:
        catalog.open()
    catalog.close()
    assert caught.value.errno == errno.EIO
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_a_full_disk_is_told(catalog):
    """`ENOSPC`, which the store makes into `storage_full`; what was recorded before is still there."""
    catalog.record_part(PART)
    pages = catalog._database.execute("PRAGMA page_count").fetchone()[0]
    catalog._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite says "full" there as on a disk
    with pytest.raises(OSError, match=r"the catalog: .*full") as caught:
        catalog.record_use({f"uploads/{number}.csv": 1.0 for number in range(1000)})
    assert caught.value.errno == errno.ENOSPC
    assert catalog.uses() == {}, "all of it or nothing"
    assert catalog.parts() == [PART]
    catalog._database.execute(f"PRAGMA max_page_count = {pages + 100}")  # somebody has made room
    catalog.record_use({f"uploads/{number}.csv": 1.0 for number in range(1000)})
    assert len(catalog.uses()) == 1000


def test_another_fault_is_told(path, catalog):
    """Any other is `EIO`, in reading as in writing."""
    sql(path, "DROP TABLE parts")
    for attempt in (catalog.parts, lambda: catalog.record_part(PART), lambda: catalog.forget_part(PART.path)):
        with pytest.raises(OSError, match="the catalog: no such table: parts") as caught:
            attempt()
        assert caught.value.errno == errno.EIO
    catalog.record_use({"uploads/a.csv": 1.0})
    assert catalog.uses() == {"uploads/a.csv": 1.0}


def test_a_use_after_a_fault_finds_no_open_transaction(path, catalog):
    """What fails is taken back: another process can write at once."""
    broken = attrs.evolve(PART, name=None)
    with pytest.raises(OSError, match="NOT NULL"):
        catalog.record_part(broken)
    assert not catalog._database.in_transaction
    sql(path, "PRAGMA busy_timeout = 0; DELETE FROM parts")


def test_several_threads_use_the_catalog_at_once(catalog):
    """Nothing is lost, and nothing raised."""

    def work(thread):
        for number in range(25):
            name = f"{thread}-{number}"
            row = attrs.evolve(PART, path=f"parts/{name}", name=name)
            catalog.record_part(row)
            catalog.record_digest(f"uploads/{name}", "v", DIGEST)
            catalog.record_use({f"uploads/{name}": float(number), "uploads/shared": float(number)})
            assert catalog.part("ann", name) == row
            assert catalog.digest(f"uploads/{name}", "v") == DIGEST
            if number % 2:
                catalog.forget_part(row.path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(catalog.parts()) == 8 * 13
    assert len(catalog.digests()) == 8 * 25
    assert catalog.uses()["uploads/shared"] == 24.0


def test_the_database_is_opened_by_its_owner(path):
    """A catalog that was made, and not opened, touches nothing."""
    Catalog(path).close()
    assert list(path.parent.iterdir()) == []
