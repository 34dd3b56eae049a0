"""The columnar copies on disk and in the catalog."""

import pytest

from creemson.catalog.sqlite import SqliteCatalog
from creemson.storage.names import temporary_name
from creemson.storage.stores import Stores
from creemson.storage.tables.tables import TableKey
from tests.stored import usage

KEEP_ALL = {"keep_uploads": 1e9, "keep_outputs": 1e9, "keep_parts": 1e9}


class World:
    """A data folder with an uploaded file of `ann`, and its server, which may start again."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 1000.0
        self.start()
        self.upload("a.csv")

    def start(self, reader="1", limit=1000):
        self.catalog = SqliteCatalog(self.folder / "catalog.db")
        self.catalog.open()
        self.stores = Stores(self.folder, self.catalog, quota=0, clock=lambda: self.now)
        self.store, self.tables = self.stores.of("ann"), self.stores.tables
        self.stores.sweep(**KEEP_ALL)
        self.tables.open(reader, limit)

    def restart(self, **changes):
        """The sweep may come before the copies are opened."""
        self.catalog.close()
        self.start(**changes)

    def upload(self, name, caller="ann", content=b"a\n1\n"):
        (self.stores.of(caller)._files.uploads / name).write_bytes(content)

    def key(self, name="a.csv", caller="ann", options=""):
        return TableKey(caller, self.stores.of(caller).look_up(name).version, options)

    def write(self, key, size=100):
        """Do what a worker does; return the name of the copy."""
        with self.tables.making(key) as target:
            path = self.folder / "tables" / target.rpartition("/")[2]
            path.mkdir()
            (path / "rows.parquet").write_bytes(b"x" * size)
            self.tables.add(key, rows=3, size=size)
        return path

    def names(self):
        return sorted(path.name for path in (self.folder / "tables").iterdir())


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path)
    yield found
    found.catalog.close()


def test_copy_is_found_also_after_a_restart(world):
    """Under its caller, version and options only."""
    key = world.key()
    path = world.write(key)
    assert world.tables.find(key) == str(path)
    assert world.tables.find(key._replace(options="{}")) is None
    assert world.tables.find(key._replace(caller="bob")) is None
    world.restart()
    assert world.tables.find(key) == str(path)
    assert world.tables.total() == (1, 100)


def test_copy_of_another_reader_is_removed_at_the_start(world):
    """Its values may be others."""
    key = world.key()
    world.write(key)
    world.restart(reader="2")
    assert world.tables.find(key) is None
    assert world.names() == []
    assert world.catalog.tables() == []


def test_copies_are_removed_if_they_are_switched_off(world):
    """And none is found."""
    key = world.key()
    world.write(key)
    world.restart(limit=0)
    assert world.tables.find(key) is None
    assert world.names() == []


def test_folder_without_row_and_row_without_folder_are_removed(world):
    """What a crash leaves, at the start and by a sweep."""
    for clean in (world.restart, lambda: world.stores.sweep(**KEEP_ALL)):
        key = world.key()
        path = world.write(key)
        world.catalog.record_table(
            world.catalog.tables()[0].__class__("gone", "ann", key.version, "x", "1", 1, 1, 1.0)
        )
        (world.folder / "tables" / "orphan").mkdir()
        (world.folder / "tables" / temporary_name("x", "1")).mkdir()
        clean()
        assert world.names() == [path.name]
        assert [row.path for row in world.catalog.tables()] == [path.name]
        path.joinpath("rows.parquet").unlink()
        path.rmdir()
        clean()
        assert world.tables.find(key) is None
        assert world.catalog.tables() == []


def test_sweep_spares_what_is_being_written(world):
    """The worker would write into a folder that is gone."""
    with world.tables.making(world.key()) as target:
        path = world.folder / "tables" / target.rpartition("/")[2]
        path.mkdir()
        part = path.with_name(temporary_name(path.name, "1"))
        part.mkdir()
        world.stores.sweep(**KEEP_ALL)
        assert path.exists()
        assert part.exists()
    world.stores.sweep(**KEEP_ALL)
    assert world.names() == []


def test_copy_goes_with_its_version(world):
    """At once if the file is deleted, by the next sweep if it is replaced."""
    key = world.key()
    world.write(key)
    world.store.delete("a.csv")
    assert world.names() == []
    world.upload("a.csv")
    world.write(world.key())
    world.upload("a.csv", content=b"a\n12\n")
    world.stores.sweep(**KEEP_ALL)
    assert world.names() == []
    assert world.catalog.tables() == []


def test_copies_have_the_room_that_is_set(world):
    """The caller with the most bytes loses the copy with the oldest use; sweeps remember uses."""
    for number, name in enumerate("bcd"):
        world.upload(f"{name}.csv", content=b"a\n" + b"1" * number)
        world.now += 1
        world.write(world.key(f"{name}.csv"), 300)
    world.now += 1
    world.tables.find(world.key("b.csv"))
    world.stores.sweep(**KEEP_ALL)
    world.restart()
    world.upload("a.csv", caller="bob")
    world.now += 1
    world.write(world.key(caller="bob"), 200)
    found = {name: world.tables.find(world.key(f"{name}.csv")) is not None for name in "bcd"}
    assert found == {"b": True, "c": False, "d": True}
    assert world.tables.find(world.key(caller="bob")) is not None
    assert not world.tables.add(world.key("d.csv"), rows=1, size=5000)


def test_listing_tells_rows_of_files_with_a_copy(world):
    """Of others, they are unknown."""
    world.upload("b.csv", content=b"a\n123\n")
    world.write(world.key())
    listed = {info.filename: (info.imported, info.rows) for info in world.store.listing()}
    assert listed == {"a.csv": (True, 3), "b.csv": (False, None)}


def test_copies_do_not_count_as_the_callers_bytes(world):
    """The caller has not asked for them."""
    before = usage(world.store)
    world.write(world.key(), 500)
    assert usage(world.store) == before
