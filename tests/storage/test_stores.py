"""The stores of all callers together: what their sweep costs."""

import contextlib
import sqlite3
from functools import partial

from creemson.catalog import sqlite
from creemson.catalog.sqlite import SqliteCatalog
from creemson.storage.stores import Stores

KEEP_ALL = {"keep_uploads": 1e9, "keep_outputs": 1e9, "keep_parts": 1e9}
PARTS = 2
"""Unfinished uploads of each caller."""


def steps_of_sweep(folder, callers, monkeypatch):
    """Return the steps of SQLite's virtual machine in one sweep: each row that a query looks at takes some."""
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    class Counting(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.set_progress_handler(count, 1)

    monkeypatch.setattr(sqlite.sqlite3, "connect", partial(sqlite3.dbapi2.connect, factory=Counting))
    folder.mkdir()
    catalog = SqliteCatalog(folder / "catalog.db")
    catalog.open()
    with contextlib.closing(catalog):
        stores = Stores(folder, catalog, quota=0, clock=lambda: 1e9)
        for number in range(callers):
            store = stores.of(f"token:{number}")
            for part in range(PARTS):
                store.uploads.save(
                    store.uploads.begin(f"{part}.csv", size=10, sha256=None, overwrite=False, resume=False)
                )
        steps = 0
        assert stores.sweep(**KEEP_ALL, now=1e9) == []
    return steps


def test_sweep_of_twice_as_many_callers_looks_at_twice_as_many_rows(tmp_path, monkeypatch):
    """Not at four times as many: each store reads the rows of its own caller only."""
    few = steps_of_sweep(tmp_path / "few", 20, monkeypatch)
    many = steps_of_sweep(tmp_path / "many", 40, monkeypatch)
    assert 0 < many < 2.2 * few
