"""What catalogs record about files and jobs, in each kind of database."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from creemson.catalog.catalog import JobRow, PartRow, TableRow

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
JOB = JobRow(
    id="j1", key="k", caller="ann", query="{}", timeout=9.0, kept=True, state="queued", created=5.0, finished=None,
    restarts=0, seq=0, outcome=None,
)  # fmt: skip


@contextlib.contextmanager
def opened(make):
    with contextlib.closing(make()) as catalog:
        catalog.open()
        yield catalog


# --- files ---------------------------------------------------------------------------------------------


def test_digest_is_known_only_for_its_file_and_version(catalog):
    """Other versions and other files have no digest."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    assert catalog.digest("uploads/a.csv", "v1") == DIGEST
    assert catalog.digest("uploads/a.csv", "v2") is None
    assert catalog.digest("uploads/b.csv", "v1") is None


def test_digest_of_new_version_replaces_the_old_one(catalog):
    """Only one version's digest is kept per file."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    catalog.record_digest("uploads/a.csv", "v2", OTHER)
    assert catalog.digest("uploads/a.csv", "v1") is None
    assert catalog.digests() == {("uploads/a.csv", "v2"): OTHER}


def test_file_that_was_only_used_has_no_digest(catalog):
    """A digest recorded later is known."""
    catalog.record_use({"uploads/a.csv": 5.0})
    assert catalog.digests() == {}
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    assert catalog.digests() == {("uploads/a.csv", "v1"): DIGEST}
    assert catalog.uses() == {"uploads/a.csv": 5.0}


def test_use_recorded_out_of_order_keeps_the_latest_time(catalog):
    """A file that has only a digest was last used at 0."""
    catalog.record_digest("uploads/a.csv", "v1", DIGEST)
    assert catalog.uses() == {"uploads/a.csv": 0.0}
    catalog.record_use({"uploads/a.csv": 7.0, "outputs/b.parquet": 3.0})
    catalog.record_use({"uploads/a.csv": 6.0, "outputs/b.parquet": 4.0})
    assert catalog.uses() == {"uploads/a.csv": 7.0, "outputs/b.parquet": 4.0}
    assert catalog.digest("uploads/a.csv", "v1") == DIGEST


def test_forget_removes_digest_and_use_of_a_file(catalog):
    """Forgetting unknown files, or none at all, is no error."""
    for name in ("uploads/a.csv", "uploads/b.csv"):
        catalog.record_digest(name, "v1", DIGEST)
        catalog.record_use({name: 7.0})
    catalog.forget(["uploads/a.csv", "uploads/c.csv"])
    catalog.forget([])
    catalog.record_use({})
    assert catalog.digests() == {("uploads/b.csv", "v1"): DIGEST}
    assert catalog.uses() == {"uploads/b.csv": 7.0}


# --- unfinished uploads --------------------------------------------------------------------------------


def test_part_is_found_by_caller_and_name_together(catalog):
    """All recorded fields come back, including a missing digest."""
    silent = attrs.evolve(PART, path="parts/.2.tmp", caller="bob", sha256=None)
    catalog.record_part(PART)
    catalog.record_part(silent)
    assert catalog.part("ann", "a.csv") == PART
    assert catalog.part("bob", "a.csv") == silent
    assert catalog.part("ann", "b.csv") is None
    assert catalog.part("eve", "a.csv") is None
    assert sorted(catalog.parts(), key=lambda row: row.path) == [PART, silent]


def test_update_of_a_part_keeps_its_announced_fields(catalog):
    """An update of an unknown part does not create one."""
    catalog.record_part(PART)
    catalog.update_part(PART.path, 90, "boot-2", 2000.25)
    assert catalog.parts() == [attrs.evolve(PART, durable=90, boot="boot-2", touched=2000.25)]
    catalog.update_part("parts/.3.tmp", 1, "boot-2", 1.0)
    assert len(catalog.parts()) == 1


def test_new_part_replaces_the_earlier_one_of_that_name(catalog):
    """The new part may have the same path or another one."""
    catalog.record_part(PART)
    again = attrs.evolve(PART, size=7)
    catalog.record_part(again)
    assert catalog.parts() == [again]
    elsewhere = attrs.evolve(PART, path="parts/.2.tmp")
    catalog.record_part(elsewhere)
    assert catalog.parts() == [elsewhere]


def test_forget_part_removes_only_that_part(catalog):
    """Idempotent; other parts stay."""
    other = attrs.evolve(PART, path="parts/.2.tmp", name="b.csv")
    catalog.record_part(PART)
    catalog.record_part(other)
    catalog.forget_part(PART.path)
    catalog.forget_part(PART.path)
    assert catalog.part("ann", "a.csv") is None
    assert catalog.parts() == [other]


def test_part_of_more_than_4_gib_is_recorded(catalog):
    """Sizes up to 2**53 are kept exactly."""
    row = attrs.evolve(PART, size=2**53, durable=2**40)
    catalog.record_part(row)
    assert catalog.part("ann", "a.csv") == row


# --- jobs, and copies of files ---------------------------------------------------------------------


def test_jobs_after_reopening_come_in_order_of_creation(make):
    """Jobs survive a restart; a later row replaces an earlier one, and a bare id deletes it."""
    old, other = attrs.evolve(JOB, id="j2", created=1.0), attrs.evolve(JOB, id="j3")
    with opened(make) as catalog:
        catalog.record_jobs([JOB, old, other])
        done = attrs.evolve(JOB, kept=False, state="done", finished=6.0, seq=7, outcome='{"rows": 1}')
        catalog.record_jobs([done, "j3", "never was"])
    with opened(make) as catalog:
        assert catalog.jobs() == [old, done]


def test_transaction_with_one_bad_row_writes_nothing(catalog):
    """A row that cannot be written rolls back the others."""
    with pytest.raises(OSError, match=r"(?i)not[ -]null"):
        catalog.record_jobs([JOB, attrs.evolve(JOB, id="j2", query=None)])
    assert catalog.jobs() == []


def test_copies_of_files_are_recorded_used_and_forgotten(catalog):
    """The time of the last use never goes back."""
    row = TableRow("p", "ann", "v", "", "reader", 10, 3, 5.0)
    catalog.record_table(row)
    catalog.record_table(attrs.evolve(row, path="q"))
    catalog.use_tables({"p": 7.0, "q": 1.0, "unknown": 9.0})
    catalog.forget_tables(["unknown"])
    assert sorted(catalog.tables(), key=lambda found: found.path) == [
        attrs.evolve(row, used=7.0), attrs.evolve(row, path="q"),
    ]  # fmt: skip
    catalog.forget_tables(["p", "q"])
    assert catalog.tables() == []


def test_catalog_used_by_several_threads_loses_nothing(catalog):
    """No row is lost and no thread gets an error."""

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
