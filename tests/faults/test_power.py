"""The simulated loss of power: what is recorded, what may be left, and that it finds changes that are not synced."""

import os
import random
import subprocess
import sys

import pytest

from tests.faults.power import Disk, Folder, Record, Recording, build_recorder

ROOT = "/data"


def disk(*calls):
    """Replay calls: (letter, path) with the path as inode, or more."""
    made = Disk(ROOT)
    for op, path, *rest in (("d", ""), *calls):
        other = rest[0] if rest and isinstance(rest[0], str) else ""
        data = rest[0] if rest and isinstance(rest[0], bytes) else b""
        inode = rest[-1] if rest and isinstance(rest[-1], int) else hash(path)
        made.apply(Record(op, inode, 0, ROOT + path, ROOT + other if other else "", data))
    return made


def left(disk, path):
    """The different contents that a file is seen to have after many cuts; None: there is no file."""
    rng, found = random.Random(1), set()
    for _ in range(300):
        wreck = disk.after_cut(rng)
        found.add(wreck.content(path) if path in wreck.files else None)
    return found


def test_unsynced_bytes_may_be_lost_or_replaced_by_zeros():
    """Also some of several writes; synced bytes stay."""
    made = disk(("c", "/a"), ("s", "/a"), ("s", ""))
    made.apply(Record("s", 0, 0, "/", "", b""))
    assert left(made, "a") == {b""}
    made.apply(Record("w", hash("/a"), 0, "/data/a", "", b"xy"))
    made.apply(Record("w", hash("/a"), 2, "/data/a", "", b"z"))
    assert {b"", b"xy", b"xyz", b"\0\0z", b"\0\0\0"} <= left(made, "a")
    made.apply(Record("s", hash("/a"), 0, "/data/a", "", b""))
    assert left(made, "a") == {b"xyz"}


def test_name_may_be_lost_until_its_folder_is_synced():
    """Syncing the file does not help, and the folder is an entry of the one above it, too."""
    made = disk(("c", "/a"), ("w", "/a", b"x"), ("s", "/a"))
    assert left(made, "a") == {b"x", None}
    made.apply(Record("s", hash(""), 0, ROOT, "", b""))
    assert left(made, "a") == {b"x", None}
    made.apply(Record("s", 0, 0, "/", "", b""))
    assert left(made, "a") == {b"x"}
    made.apply(Record("u", 0, 0, "/data/a", "", b""))
    assert left(made, "a") == {b"x", None}


def test_last_changes_of_a_folder_are_lost_first():
    """If a name is there, so are those that the folder got before it."""
    made = disk(("s", ""), ("c", "/a"), ("c", "/b"))
    rng = random.Random(1)
    seen = {frozenset(made.after_cut(rng).files) for _ in range(300)}
    assert seen == {frozenset(), frozenset({"a"}), frozenset({"a", "b"})}


def test_rename_between_folders_loses_no_file():
    """It is in one of them or in both, whichever folder is synced."""
    start = [("d", "/one"), ("d", "/two"), ("c", "/one/a"), ("s", ""), ("s", "/one"), ("s", "/two")]
    for synced in ("", "/one", "/two"):
        made = disk(*start, ("r", "/one/a", "/two/b"), *([("s", synced)] if synced else []))
        made.apply(Record("s", 0, 0, "/", "", b""))
        rng = random.Random(1)
        seen = {frozenset(made.after_cut(rng).files) for _ in range(300)}
        both = {frozenset({"one/a"}), frozenset({"two/b"}), frozenset({"one/a", "two/b"})}
        expected = {"": both, "/one": {frozenset({"two/b"})}, "/two": both - {frozenset({"one/a"})}}
        assert seen == expected[synced], synced
    assert all(node is None or not isinstance(node, Folder) for node in made.possible("two/b"))


def test_call_that_cannot_be_replayed_fails_the_test():
    """For example a shared mapping; SQLite's own, which it builds again, is ignored."""
    made = disk(("c", "/a"), ("x", "/catalog.db-shm", "mmap"))
    with pytest.raises(AssertionError, match="cannot be replayed"):
        made.apply(Record("x", 0, 0, "/data/a", "mmap", b""))


# --- the recorder ---------------------------------------------------------------------------------------

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from creemson.storage import durable
root = Path(sys.argv[1])
durable.make_folders([root / "one" / "two"])
os.chdir(root)
durable.write(Path("a").absolute(), b"old")
durable.write(root / "a", b"new", mode=0o600)
durable.write(root / "b", b"b")
durable.remove([root / "b"])
with open("one/c", "wb") as stream:
    stream.write(b"12345678")
    stream.flush()
    os.pwrite(stream.fileno(), b"xy", 2)
    os.pwritev(stream.fileno(), [b"z", b"!"], 9)
    os.ftruncate(stream.fileno(), 10)
with open("one/c", "rb") as source, open("one/copy", "wb") as copy:
    os.copy_file_range(source.fileno(), copy.fileno(), 5)
os.link("one/c", "one/two/c")
os.rename("one/c", "one/d")
folder = os.open("one", os.O_RDONLY)
os.unlink("copy", dir_fd=folder)
subprocess.run([sys.executable, "-c", "open('one/two/child', 'a').write('x')"], check=True)
open("one/d", "ab").write(b"end")
open("one/two/child", "w").close()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A recording of a program and a child of it."""
    folder = tmp_path_factory.mktemp("power")
    root = folder / "disk" / "data"
    root.parent.mkdir()
    recording = Recording(folder / "calls", root, build_recorder(folder))
    environment = {**os.environ, **recording.environment}
    subprocess.run([sys.executable, "-c", PROGRAM, str(root)], check=True, env=environment, cwd="/")
    recording.mark("end")
    return recording


def test_replay_of_all_calls_is_what_is_really_there(recorded):
    """With relative paths, descriptors of folders, and child processes."""
    made = Disk(recorded.root)
    for call in recorded.records():
        made.apply(call)
    real = {
        str(path.relative_to(recorded.root)): path.read_bytes()
        for path in recorded.root.rglob("*") if path.is_file()
    }  # fmt: skip
    assert {path: file.whole() for path, file in made.files().items()} == real
    assert real["one/d"] == real["one/two/c"] == b"12xy5678\0zend"


def test_durable_changes_survive_every_cut(recorded):
    """Each is complete when its function returns, and never half done before."""
    made, seen = Disk(recorded.root), []
    for call in recorded.records():
        made.apply(call)
        found = {None if file is None else file.whole() for file in made.possible("a")}
        if not seen or found != seen[-1]:
            seen.append(found)
    assert seen == [{None}, {None, b"old"}, {b"old"}, {b"old", b"new"}, {b"new"}]
    assert made.possible("b") == {None}
