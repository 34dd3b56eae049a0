"""The scratch folder: copies are right, shared, and bounded."""

import random
import threading

import pytest

from creemson.errors import ObjectStoreError, ProcessingError
from creemson.storage.objects.address import Address
from creemson.storage.objects.scratch import Scratch

LARGE = random.Random(3).randbytes(200_000)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scratch"


def address(world, name):
    return world.store.look_up(name).path


def fetch(scratch, place, check=lambda: None):
    with scratch.fetched(place, "a.csv", check) as path:
        return path.read_bytes()


def copies(folder):
    return [path for path in folder.iterdir() if not path.name.endswith("lock")]


def test_file_of_several_objects_is_fetched_once(world, folder, monkeypatch):
    """A second worker finds it."""
    world.upload("a.csv", LARGE)
    world.upload("empty.csv", b"")
    place = address(world, "a.csv")
    assert fetch(Scratch(folder, 10**6), place) == LARGE
    assert fetch(Scratch(folder, 10**6), address(world, "empty.csv")) == b""
    world.store.delete("a.csv")
    assert fetch(Scratch(folder, 10**6), place) == LARGE
    assert sorted(path.stat().st_size for path in copies(folder)) == [0, len(LARGE)]


def test_removed_file_is_reported_as_changed(world, folder):
    """So the server looks for it again."""
    world.upload("a.csv", LARGE)
    place = address(world, "a.csv")
    world.store.delete("a.csv")
    with pytest.raises(ProcessingError) as caught:
        fetch(Scratch(folder, 10**6), place)
    assert caught.value.reason == "file_changed"
    assert copies(folder) == []


def test_object_of_another_size_is_not_used(world, folder):
    """Somebody has written to the bucket."""
    world.upload("a.csv", b"abc")
    (name,) = world.objects()
    world.bucket.put(name, b"ab")
    with pytest.raises(ObjectStoreError, match="another size"):
        fetch(Scratch(folder, 10**6), address(world, "a.csv"))
    assert copies(folder) == []


def test_copy_that_was_not_used_for_the_longest_time_makes_room(world, folder):
    """A copy that is being read stays, however old it is."""
    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):
        world.upload(name, name.encode() * 8000)
    scratch = Scratch(folder, 100_000)
    with scratch.fetched(address(world, "a.csv"), "a.csv", lambda: None) as first:
        fetch(scratch, address(world, "b.csv"))
        fetch(scratch, address(world, "c.csv"))  # in place of b
        assert first.read_bytes() == b"a.csv" * 8000
        assert len(copies(folder)) == 2
    fetch(scratch, address(world, "c.csv"))
    fetch(scratch, address(world, "d.csv"))  # in place of a, which was used before c
    assert not first.exists()
    assert sum(path.stat().st_size for path in copies(folder)) <= 100_000


def test_file_larger_than_the_folder_may_be_is_refused(world, folder):
    """With the setting that limits it."""
    world.upload("a.csv", LARGE)
    with pytest.raises(ProcessingError, match=r"storage\.scratch_bytes") as caught:
        fetch(Scratch(folder, 1000), address(world, "a.csv"))
    assert caught.value.reason == "storage_full"


def test_workers_that_need_the_same_file_fetch_it_once(world, folder):
    """The others wait for the first one."""
    world.upload("a.csv", LARGE)
    place, fetched = address(world, "a.csv"), []
    threads = [
        threading.Thread(target=lambda: fetched.append(fetch(Scratch(folder, 250_000), place)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [LARGE] * 4
    assert len(copies(folder)) == 1


def test_stopped_fetch_leaves_nothing(world, folder):
    """The command was cancelled."""
    world.upload("a.csv", LARGE)

    def stop():
        raise KeyError

    with pytest.raises(KeyError):
        fetch(Scratch(folder, 10**6), address(world, "a.csv"), stop)
    assert copies(folder) == []


def test_leftovers_of_killed_workers_are_removed_at_the_start(folder):
    """Copies stay: their names tell what they are."""
    folder.mkdir()
    for name in (".0123.1-2-3.tmp", ".0123.1-2-3.texts.tmp", "copy"):
        (folder / name).write_bytes(b"x")
    Scratch(folder, 1).prepare()
    assert [path.name for path in folder.iterdir()] == ["copy"]


def test_copy_that_a_killed_worker_has_not_completed_makes_room(world, folder):
    """But not an output that is being written."""
    world.upload("a.csv", LARGE)
    folder.mkdir()
    for name in (".0123.fetch-77.tmp", ".0123.1-2-3.tmp"):
        (folder / name).write_bytes(bytes(30_000))
    assert fetch(Scratch(folder, 240_000), address(world, "a.csv")) == LARGE
    assert (folder / ".0123.1-2-3.tmp").exists()
    assert not (folder / ".0123.fetch-77.tmp").exists()


def test_address_survives_as_text(world):
    """With any name."""
    place = Address("bucket", "a/key", "größe & co?.csv", 5, 2)
    assert Address.parse(str(place)) == place
    target = Address("bucket", "a/o/output.parquet", "flights-1.parquet")
    assert Address.parse(str(target)) == target
    assert target.beside(lambda name: name[:-8] + ".csv") == Address(
        "bucket", "a/o/output.csv", "flights-1.csv"
    )
    with pytest.raises(ValueError, match="no address"):
        Address.parse("/a/path")
