"""Durable changes: what is synced, and in which order. `tests/faults/test_power_cuts.py` replays whole servers."""

import errno
import os
import stat
from pathlib import Path

import pytest

from creemson.catalog.sqlite import SqliteCatalog
from creemson.model.callers import ANYONE
from creemson.storage import durable
from creemson.storage.folder import partial
from creemson.storage.folder.files import Files
from creemson.storage.folder.partial import Part
from creemson.storage.folder.stores import folder_of
from creemson.storage.names import is_temporary
from creemson.storage.stores import Stores


@pytest.fixture
def catalog(tmp_path_factory):
    catalog = SqliteCatalog(tmp_path_factory.mktemp("catalog") / "catalog.db")
    catalog.open()
    yield catalog
    catalog.close()


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The changes and syncs below the temporary folder, in their order: (call, path, …)."""
    made = []

    def named(what):
        path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else Path(what)
        if not path.is_relative_to(tmp_path):  # pytest's own
            return str(path)
        return "TEMPORARY" if is_temporary(path.name) else str(path.relative_to(tmp_path))

    def record(name, count):
        real = getattr(os, name)

        def recorded(*args, **options):
            made.append((name, *map(named, args[:count])))
            return real(*args, **options)

        monkeypatch.setattr(os, name, recorded)

    for name, count in (
        ("fsync", 1),
        ("fdatasync", 1),
        ("mkdir", 1),
        ("unlink", 1),
        ("replace", 2),
        ("link", 2),
    ):
        record(name, count)
    return made


def test_published_file_has_its_bytes_before_its_name(tmp_path, calls):
    """The bytes, the name, and then the entry of the folder."""
    part = tmp_path / ".part"
    part.write_bytes(b"x")
    durable.publish(part, tmp_path / "a.csv")
    assert calls == [("fdatasync", ".part"), ("replace", ".part", "a.csv"), ("fsync", ".")]
    assert (tmp_path / "a.csv").read_bytes() == b"x"


def test_written_file_is_durable_and_has_its_mode(tmp_path, calls):
    """A leftover of a killed process does not get in the way, and gives nobody else access."""
    path = tmp_path / "tokens"
    durable.write(path, b"old")
    calls.clear()
    durable.write(path, b"new", mode=0o600)
    assert calls[-3:] == [("fdatasync", "TEMPORARY"), ("replace", "TEMPORARY", "tokens"), ("fsync", ".")]
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokens"]


def test_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    """A full disk loses neither the old content nor any space."""
    path = tmp_path / "tokens"
    durable.write(path, b"old")

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="No space"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokens"]


def test_removed_files_are_synced_once_per_folder_even_if_they_were_gone(tmp_path, calls):
    """Another request may have removed a file a moment ago and not have synced it yet."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_bytes(b"x")
    calls.clear()
    durable.remove([tmp_path / "one" / "a", tmp_path / "one" / "b", tmp_path / "c"])
    assert calls[:3] == [("unlink", "one/a"), ("unlink", "one/b"), ("unlink", "c")]
    assert sorted(calls[3:]) == [("fsync", "."), ("fsync", "one")]


def test_new_folders_are_entries_that_are_synced_too(tmp_path, calls):
    """Each new folder is an entry of the one above it; those that were there already cost nothing."""
    folders = [tmp_path / "a" / "b", tmp_path / "a" / "c"]
    durable.make_folders(folders)
    assert [call for call in calls if call[0] == "mkdir"] == [
        ("mkdir", "a"),
        ("mkdir", "a/b"),
        ("mkdir", "a/c"),
    ]
    assert sorted(call for call in calls if call[0] != "mkdir") == [("fsync", "."), ("fsync", "a")]
    calls.clear()
    durable.make_folders(folders)
    assert calls == []


@pytest.mark.parametrize(("error", "raised"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_failed_sync_of_a_folder_is_an_error_unless_it_is_unsupported(tmp_path, monkeypatch, error, raised):
    """Some network file systems cannot sync folders; a disk that fails must not be taken for one of these."""

    def fail(_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fail)
    if raised:
        with pytest.raises(OSError, match="Input/output"):
            durable.sync_folder(tmp_path)
    else:
        durable.sync_folder(tmp_path)


# --- who uses it ----------------------------------------------------------------------------------------


def test_bytes_of_a_part_count_as_durable_only_with_its_name(tmp_path, calls):
    """The first sync also makes the temporary file's entry durable; the next ones need not."""
    part = Part.create(tmp_path / ".0.tmp", tmp_path / "a.csv", overwrite=False)
    part.write(b"ab")
    part.sync()
    part.write(b"cd")
    part.sync()
    assert calls == [("fdatasync", "TEMPORARY"), ("fsync", "."), ("fdatasync", "TEMPORARY")]
    part.save()
    calls.clear()
    again = Part.resume(part.path, part.target, overwrite=False, size=4)
    assert calls == [("fdatasync", "TEMPORARY"), ("fsync", ".")]
    assert again.durable == 4
    again.discard()


def test_deleted_file_is_gone_durably(tmp_path, calls, catalog):
    """`deleted` is told when `delete` returns."""
    store = Stores(tmp_path, catalog, quota=0, clock=lambda: 0.0).of(ANYONE)
    (tmp_path / "uploads" / "a.csv").write_bytes(b"a\n1\n")
    calls.clear()
    store.delete("a.csv")
    # One removal: a second one could hit an upload that has got the name meanwhile.
    assert calls == [("unlink", "uploads/a.csv"), ("fsync", "uploads")]


def test_label_of_a_new_caller_is_durable_before_the_store_exists(tmp_path, calls, catalog):
    """Its folders are on the disk before its label is."""
    Stores(tmp_path, catalog, quota=0, clock=lambda: 0.0).of("token:ann")
    here = f"callers/{folder_of('token:ann')}"
    synced = [call[1] for call in calls if call[0] == "fsync"]
    assert set(synced[:-1]) == {".", "callers", here}
    assert calls[-3:] == [
        ("fdatasync", "TEMPORARY"),
        ("replace", "TEMPORARY", f"{here}/caller"),
        ("fsync", here),
    ]


@pytest.mark.parametrize("content", [b"", b"token:bob", b"\xff", None])
def test_damaged_label_is_no_caller_and_is_written_again(tmp_path, catalog, content):
    """A loss of power under an earlier version left empty labels, which became a caller without a name."""
    folder = Files(tmp_path / "callers" / folder_of("token:ann"), tmp_path)
    folder.prepare()
    if content is not None:
        (folder.root / "caller").write_bytes(content)
    stores = Stores(tmp_path, catalog, quota=0, clock=lambda: 0.0)
    stores.prepare()
    assert [path.name for path in (tmp_path / "callers").iterdir()] == [folder_of("token:ann")]
    stores.of("token:ann")
    assert (folder.root / "caller").read_text() == "token:ann"


def test_part_starts_writeback_as_it_grows(tmp_path, monkeypatch):
    """Each byte is covered once, in file order."""
    begun = []
    monkeypatch.setattr(partial, "BEGIN_BYTES", 10)
    monkeypatch.setattr(durable, "begin_writing", lambda file, offset, size: begun.append((offset, size)))
    part = Part.create(tmp_path / "a.part", tmp_path / "a", overwrite=False)
    for size in (4, 4, 4, 30, 1):
        part.write(bytes(size))
    part.finish()
    assert begun == [(0, 12), (12, 30)]
    assert (tmp_path / "a").stat().st_size == 43


def test_writeback_on_invalid_descriptor_is_ignored(tmp_path):
    """Writeback of a file works; for an invalid descriptor nothing is raised, because a later sync reports errors."""
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(100_000))
        file.flush()
        durable.begin_writing(file.fileno(), 0, 100_000)
        os.fdatasync(file.fileno())
    durable.begin_writing(-1, 0, 1)
