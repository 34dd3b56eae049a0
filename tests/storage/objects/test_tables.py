"""Columnar copies that are also objects: kept with their copy, removed with it."""

import pytest

from creemson.storage.objects.stores import ObjectStores
from creemson.storage.stores import Stores
from creemson.storage.tables.tables import TableKey
from tests.storage.objects.conftest import World


class Sharing(World):
    """The stores of a server with workers on other machines."""

    def start(self, **options):
        super().start(**options)
        self.backend = ObjectStores(self.url, self.catalog, clock=lambda: self.now, shares_tables=True)
        self.stores = Stores(self.folder, self.catalog, quota=0, clock=lambda: self.now, backend=self.backend)
        self.backend._garbage.owner = self.catalog.objects.owner("")
        self.store = self.stores.of("ann")
        self.store.versions.drop_unheld()
        self.tables = self.stores.tables

    def open(self, limit=None):
        self.tables.open("reader 1", limit)

    def sweep(self):
        self.stores.sweep(keep_uploads=1e9, keep_outputs=1e9, keep_parts=1e9, now=self.now)

    def make(self, key):
        """Do what a worker does, and return the name of the object."""
        with self.tables.making(key) as path:
            name = f"{self.tables.shared(path).removeprefix(self.url + '/')}/rows.parquet"
            self.bucket.put(name, b"rows")
            self.sweep()
            (self.folder / path).mkdir()
            self.tables.add(key, rows=1, size=4)
        return name

    def objects(self):
        return {name for name, _ in self.bucket.sizes("tables")}


@pytest.fixture
def world(tmp_path, url):
    world = Sharing(tmp_path / "data", url)
    world.upload("t.csv", b"a\n1\n")
    world.open()
    yield world
    world.catalog.close()


@pytest.fixture
def key(world):
    return TableKey("ann", world.store.look_up("t.csv").version, "")


def test_objects_of_a_copy_stay_as_long_as_the_copy(world, key):
    """Over sweeps and a restart; before the copies are known, nothing is removed."""
    name = world.make(key)
    world.sweep()
    world.restart()
    world.sweep()
    world.open()
    world.now += 4000
    world.sweep()
    assert world.objects() == {name}
    world.store.delete("t.csv")
    world.sweep()
    world.sweep()
    assert world.objects() == set()


def test_objects_of_a_copy_that_was_not_finished_are_removed(world, key):
    """By the next sweep; after a crash by the first one that knows the copies."""
    with world.tables.making(key) as path:
        name = f"{world.tables.shared(path).removeprefix(world.url + '/')}/rows.parquet"
        world.bucket.put(name, b"rows")
    world.sweep()
    assert world.objects() == set()
    world.bucket.put(name, b"rows")
    world.restart()
    world.sweep()
    assert world.objects() == {name}
    world.open()
    world.sweep()
    assert world.objects() == set()


def test_objects_without_their_folder_are_removed(world, key):
    """The data folder is new, or was restored from a backup."""
    world.make(key)
    for found in (world.folder / "tables").iterdir():
        found.rmdir()
    world.sweep()
    world.sweep()
    assert world.objects() == set()


def test_objects_of_parts_go_when_their_output_is_published(world):
    """Nobody needs them any more."""
    target = world.store.outputs.begin("out.parquet")
    key = target.removeprefix(world.url + "/").partition("?")[0]
    for name in (key, f"{key}.part0", f"{key}.part1"):
        world.bucket.put(name, b"rows")
    world.store.outputs.publish("out.parquet", target)
    assert {name for name, _ in world.bucket.sizes("outputs")} == {key}
