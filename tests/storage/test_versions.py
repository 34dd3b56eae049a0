"""Versions of files: what changes them, and what does not."""

import concurrent.futures
import hashlib
import os
import shutil
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError
from creemson.storage import versions as versions_module
from creemson.storage.folder.files import Files
from creemson.storage.folder.store import FolderStore
from creemson.storage.versions import Versions, digest_version, is_same, stat_version

DATA = b"a,b\n1,2\n"


def opened(root):
    files = Files(root)
    files.prepare()
    catalog = SqliteCatalog(root / "catalog.db")
    catalog.open()
    return FolderStore(files, catalog, caller="ann", quota=0, clock=lambda: 0.0), catalog


@pytest.fixture
def store(tmp_path):
    store, catalog = opened(tmp_path / "data")
    yield store
    catalog.close()


def put(store, name="a.csv", data=DATA):
    part = store.uploads.begin_unannounced(name, least=1)
    store.uploads.write(part, data)
    store.uploads.finish(part, None)
    return part


def test_upload_has_its_digest_as_version(store, tmp_path):
    """Also after an upload of the same bytes, and for the next server."""
    put(store)
    first = store.look_up("a.csv")
    assert first.version.startswith("sha256:")
    put(store)
    second = store.look_up("a.csv")
    assert second.version == first.version
    assert second.identity != first.identity
    later, catalog = opened(tmp_path / "data")
    assert later.look_up("a.csv") == second
    put(later, data=b"other")
    assert later.look_up("a.csv").version != first.version
    with pytest.raises(ProcessingError, match="changed") as caught:
        later.versions.find("a.csv", first.version)
    assert caught.value.reason == "file_changed"
    catalog.close()


def link_all(source, target):
    shutil.copytree(source, target, copy_function=os.link)


@pytest.mark.parametrize("copy", [shutil.copytree, link_all])
def test_copied_data_folder_keeps_versions(store, tmp_path, copy):
    """By ``cp -a`` and ``cp -al``, in the original and in the copy; an output, too."""
    put(store)
    output = tmp_path / "data" / "outputs" / "o.parquet"
    output.write_bytes(b"PAR1")
    before = {name: store.look_up(name).version for name in ("a.csv", "o.parquet")}
    copy(tmp_path / "data", tmp_path / "copy")
    assert store.look_up("a.csv").version == before["a.csv"]
    later, catalog = opened(tmp_path / "copy")
    assert later.look_up("a.csv").version == before["a.csv"]
    for name, version in before.items():
        assert store.versions.find(name, version).version == version
        assert later.versions.find(name, version).version == version
    catalog.close()


def test_file_put_there_by_hand_survives_a_backup_by_hard_links(store, tmp_path):
    """The backup changes only the status-change time: a job that was accepted still finds its version."""
    path = tmp_path / "data" / "uploads" / "a.csv"
    path.write_bytes(DATA)
    before = store.look_up("a.csv")
    os.link(path, tmp_path / "backup.csv")
    assert store.versions.find("a.csv", before.version).identity == before.identity


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"c,d\n3,4\n"),
        lambda path: path.write_bytes(DATA + b"3,4\n"),
        lambda path: os.truncate(path, 3),
        lambda path: shutil.copy2(path.with_name("other.csv"), path),
    ],
)
def test_change_by_hand_makes_another_version(store, tmp_path, change, published):
    """Of an upload and of a file that was put there by hand, also with the same size."""
    path = tmp_path / "data" / "uploads" / "a.csv"
    other = path.with_name("other.csv")
    other.write_bytes(b"c,d\n3,4\n")
    os.utime(other, ns=(5, 5))
    if published:
        put(store)
    else:
        path.write_bytes(DATA)
        os.utime(path, ns=(7, 7))
    before = store.look_up("a.csv")
    change(path)
    after = store.look_up("a.csv")
    assert after.version != before.version
    assert after.identity != before.identity
    with pytest.raises(ProcessingError):
        store.versions.find("a.csv", before.version)


def test_repeated_look_ups_read_the_catalog_once(store, monkeypatch, tmp_path):
    """Every request looks up a file."""
    put(store)
    (tmp_path / "data" / "uploads" / "b.csv").write_bytes(DATA)
    later, catalog = opened(tmp_path / "data")
    reads = []
    read = catalog.digest
    monkeypatch.setattr(
        later._file_versions._uploaded, "_read", lambda *key: (reads.append(key), read(*key))[1]
    )
    for _ in range(3):
        later.look_up("a.csv")
        later.look_up("b.csv")
        put(later, "c.csv")
        later.look_up("c.csv")
    assert [path for path, _ in reads] == ["uploads/a.csv", "uploads/b.csv"]
    catalog.close()


def test_known_versions_are_bounded_and_read_again(monkeypatch, tmp_path):
    """A caller with more files than are kept in memory gets the same answers."""
    monkeypatch.setattr(versions_module, "MAX_KNOWN", 3)
    path = tmp_path / "a.csv"
    path.write_bytes(DATA)
    versions = Versions(lambda name, _: f"digest of {name}")
    for number in range(10):
        assert versions.of(f"{number % 5}", path.stat()) == digest_version(f"digest of {number % 5}")
        assert len(versions._known) <= 3


def test_failing_catalog_leaves_the_version_by_status(tmp_path):
    """It is asked again by the next look-up."""
    path = tmp_path / "a.csv"
    path.write_bytes(DATA)
    answers = [OSError("locked"), "ab"]

    def read(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    versions = Versions(read)
    assert versions.of("a.csv", path.stat()) == stat_version(path.stat())
    assert versions.of("a.csv", path.stat()) == "sha256:ab"


STATUS = st.builds(
    lambda inode, size, mtime: os.stat_result(
        (0o100644, inode, 0, 1, 0, 0, size, 0, 0, 0, 0.0, 0.0, 0.0, 0, mtime, 9)
    ),
    st.integers(1, 30),
    st.integers(0, 30),
    st.integers(-30, 30),
)


@given(STATUS, STATUS)
def test_same_file_is_recognised_by_inode_size_and_time(first, second):
    """No two different triples have texts that look alike."""
    triples = [(status.st_ino, status.st_size, status.st_mtime_ns) for status in (first, second)]
    assert is_same(stat_version(first), second) == (triples[0] == triples[1])
    assert is_same(stat_version(first), second, moved=True) == (triples[0][1:] == triples[1][1:])
    assert not is_same("sha256:ab", first)


def test_publishing_in_turns_leaves_the_digest_of_the_last(store, tmp_path):
    """The catalog agrees with the file after any number of uploads of one name at the same time."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: put(store, data=b"%08d" % number), range(40)))
    found = store.look_up("a.csv")
    with sqlite3.connect(tmp_path / "data" / "catalog.db") as database:
        [(digest,)] = database.execute("SELECT sha256 FROM files WHERE path = 'uploads/a.csv'").fetchall()
    database.close()
    assert found.version == digest_version(digest)
    assert hashlib.sha256((tmp_path / "data" / "uploads" / "a.csv").read_bytes()).hexdigest() == digest
