"""Moving a catalog from one database to another."""

import contextlib

import attrs
import pytest

from creemson.catalog.catalog import TableRow
from creemson.catalog.copying import export_rows, import_rows
from creemson.catalog.objects import ObjectRow
from creemson.catalog.postgres import PostgresCatalog
from creemson.catalog.sqlite import SqliteCatalog
from tests.catalog.test_rows import DIGEST, JOB, PART

OBJECT = ObjectRow(
    key="k", caller="ann", kind="part", name="ä.csv", version="", size=2**40, piece=8, tails=(1, 2)
)


def fill(catalog):
    catalog.record_digest("uploads/a.csv", "v", DIGEST)
    catalog.record_use({"uploads/b.csv": 1.5})
    catalog.record_part(PART)
    catalog.record_jobs([attrs.evolve(JOB, id=f"j{number}", kept=bool(number % 2)) for number in range(2500)])
    catalog.record_table(TableRow("t", "ann", "v", "", "reader", 10, 3, 5.0))
    catalog.objects.record([OBJECT])
    catalog.objects.owner("me")


def content(catalog):
    return [
        catalog.digests(), catalog.uses(), catalog.parts(), [attrs.evolve(job, kept=bool(job.kept)) for job in catalog.jobs()],
        catalog.tables(), catalog.objects.rows(), catalog.objects.owner("other"),
    ]  # fmt: skip


def test_rows_are_the_same_in_the_other_database(catalog, tmp_path, postgres_server):
    """Of each kind to each kind."""
    fill(catalog)
    lines = list(export_rows(catalog.database))
    for other in (SqliteCatalog(tmp_path / "other.db"), PostgresCatalog(postgres_server.url())):
        with contextlib.closing(other):
            other.open()
            counts = import_rows(other.database, lines)
            assert counts == {"files": 2, "parts": 1, "jobs": 2500, "tables": 1, "objects": 1, "facts": 1}
            assert content(other) == content(catalog)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], "was cut off"),
        (lambda lines: lines[1:], "not made by"),
        (lambda lines: [], "not made by"),
        (lambda lines: [lines[0], b'{"table": "others", "row": {}}\n'], "Line 2"),
        (lambda lines: [lines[0], b'{"table": "files", "row": {"path": "a"}}\n'], "Line 2"),
        (lambda lines: [lines[0], b"\xff\n"], "Line 2"),
    ],
)
def test_damaged_export_imports_nothing(catalog, tmp_path, change, words):
    """The message says where, and what to do."""
    with contextlib.closing(SqliteCatalog(tmp_path / "other.db")) as other:
        other.open()
        fill(other)
        lines = list(export_rows(other.database))
    with pytest.raises(ValueError, match=words):
        import_rows(catalog.database, change(lines))
    assert catalog.uses() == {}
    import_rows(catalog.database, lines)
    with pytest.raises(ValueError, match="not empty: it has rows in 'files'"):
        import_rows(catalog.database, lines)
