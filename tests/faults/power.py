"""Loss of power, simulated: what a server and its workers did to a folder is recorded, and replayed up to any moment.

``recorder.c`` records the system calls that change files, in their order, in one log for all processes; the test
appends what it was told, see :meth:`Recording.mark`. :class:`Disk` replays the log. It knows what was certainly on
the disk at each moment, and what only the kernel's cache had:

* bytes written to a file, until the file is synced: each write may be lost, kept, or kept in part, whatever comes later;
* names in a folder, until the folder is synced: the last ones may be lost, in each folder independently. Syncing a file
  does not save its name. Only a rename between two folders is one step: every journaling file system does it that way.

This is stricter than any file system in use, and what POSIX allows.
"""

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import attrs
import pytest

SOURCE = Path(__file__).with_name("recorder.c")
HEAD = struct.Struct("<IBIQqHH")  # struct head in recorder.c
SECTOR = 512
MARK = "!"


def build_recorder(folder):
    """Compile the recorder and return its path; skip the test if there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc: install gcc and libc6-dev to record what the server writes")
    library = folder / "recorder.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


@attrs.frozen
class Record:
    """One call: ``op`` is a letter of recorder.c, or ``MARK``."""

    op: str
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


class Recording:
    """The log of one run.

    Args:
        log: path of the log.
        root: the recorded folder; of the one above it, only its entry matters.
        library: the compiled recorder.
    """

    def __init__(self, log, root, library):
        self.root = root
        self._log = log
        self.environment = {
            "LD_PRELOAD": str(library), "RECORD_LOG": str(log), "RECORD_ROOT": str(root.parent),
        }  # fmt: skip
        self.prefix = ("env", *(f"{name}={value}" for name, value in self.environment.items()))

    def mark(self, kind, **fields):
        """Append a mark: an intent before a request is sent, or a fact after its answer has come."""
        data = json.dumps({"kind": kind, **fields}).encode()
        with self._log.open("ab", buffering=0) as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            log.write(HEAD.pack(HEAD.size + len(data), ord(MARK), 0, 0, 0, 0, 0) + data)

    def records(self):
        """Return all records."""
        data, position, found = self._log.read_bytes(), 0, []
        while position < len(data):
            size, op, _, inode, offset, path, other = HEAD.unpack_from(data, position)
            rest = data[position + HEAD.size : position + size]
            found.append(
                Record(
                    chr(op), inode, offset, rest[:path].decode(), rest[path : path + other].decode(),
                    rest[path + other :],
                )
            )  # fmt: skip
            position += size
        return found


@attrs.define(eq=False)
class File:
    """The bytes of a file: those on the disk, and the calls since the last sync."""

    synced: bytearray = attrs.field(factory=bytearray)
    pending: list[tuple[int, bytes | None]] = attrs.field(
        factory=list
    )  # offset and data; None cuts it off there

    mtime: int | None = None  # time of modification at the last fsync, in nanoseconds
    digest: str | None = None  # of the whole content, once somebody has asked for it

    def whole(self):
        """Return the content as every process sees it."""
        return _applied(self.synced, self.pending)

    def sha256(self):
        """Return the digest of this content."""
        if self.digest is None:
            self.digest = hashlib.sha256(self.whole()).hexdigest()
        return self.digest

    def change(self, offset, data):
        """Write ``data``, or cut the file off if it is None."""
        self.pending.append((offset, data))
        self.digest = None

    def after_cut(self, rng):
        """Return the content as it may be after a loss of power."""
        mood = rng.random()
        if not self.pending or mood < 0.3:
            return bytes(self.synced)
        kept = self.pending if mood < 0.5 else [change for change in self.pending if rng.random() < 0.5]
        torn = [
            (offset, data[: rng.randrange(len(data) + 1) // SECTOR * SECTOR])
            if data and mood > 0.5 and rng.random() < 0.2
            else (offset, data)
            for offset, data in kept
        ]
        content = _applied(self.synced, torn)
        missing = len(self.whole()) - len(content)
        # The size may be on the disk without the bytes.
        return content + bytes(missing) if missing > 0 and rng.random() < 0.5 else content


@attrs.define(eq=False)
class Change:
    """A change of the names in one folder; a rename changes two at once."""

    names: dict[str, "File | Folder | None"]
    after: "tuple[Folder, Change] | None" = (
        None  # the other half of a rename between folders, which is never later
    )


@attrs.define(eq=False)
class Folder:
    """The names in a folder: those on the disk, and the changes since the last sync."""

    synced: dict[str, "File | Folder"] = attrs.field(factory=dict)
    pending: list[Change] = attrs.field(factory=list)
    names: dict[str, "File | Folder"] = attrs.field(factory=dict)  # as every process sees them

    def change(self, names, after=None):
        """Change some names."""
        change = Change(names, after)
        self.pending.append(change)
        _update(self.names, names)
        return change

    def possible(self, name):
        """Return the files and folders that may have this name after a loss of power; None for none."""
        found = self.synced.get(name)
        return {found, *(change.names[name] for change in self.pending if name in change.names)}

    def sync(self, until=None):
        """Make the changes durable (only those up to one of them), and the other halves of renames, too."""
        if until is not None and until not in self.pending:
            return
        count = len(self.pending) if until is None else self.pending.index(until) + 1
        done, self.pending = self.pending[:count], self.pending[count:]
        for change in done:
            _update(self.synced, change.names)
            if change.after is not None:
                change.after[0].sync(change.after[1])


def _update(names, changed):
    for name, node in changed.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _applied(content, changes):
    result = bytearray(content)
    for offset, data in changes:
        if data is None:
            del result[offset:]
            result.extend(bytes(offset - len(result)))
        else:
            result.extend(bytes(max(0, offset - len(result))))
            result[offset : offset + len(data)] = data
    return bytes(result)


class Disk:
    """A folder ``root`` and the one above it, which was there before."""

    def __init__(self, root):
        self._root = str(root)
        self._above = Folder()
        self._inodes = {}

    def apply(self, record):
        """Replay one call; those on files beside the folder are ignored."""
        if record.op == "s" and record.path == str(Path(self._root).parent):
            self._above.sync()
        if record.op == MARK or not self._is_inside(record.path):
            return
        match record.op:
            case "c" | "d":
                node = self._inodes[record.inode] = File() if record.op == "c" else Folder()
                folder, name = self._place(record.path)
                folder.change({name: node})
            case "w":
                self._inodes[record.inode].change(record.offset, record.data)
            case "t":
                self._inodes[record.inode].change(record.offset, None)
            case "u":
                folder, name = self._place(record.path)
                folder.change({name: None})
            case "l":
                (source, old), (target, new) = self._place(record.path), self._place(record.other)
                target.change({new: source.names[old]})
            case "r":
                self._rename(record)
            case "s":
                node = self._inodes[record.inode]
                if isinstance(node, Folder):
                    node.sync()
                else:
                    node.synced, node.pending = bytearray(node.whole()), []
                    node.mtime = record.offset or node.mtime
            case _:
                # SQLite rebuilds this file when it opens the database.
                assert record.path.endswith("-shm"), f"{record.other} of {record.path} cannot be replayed"

    def _rename(self, record):
        (source, old), (target, new) = self._place(record.path), self._place(record.other)
        node = source.names[old]
        if target.names.get(new) is node:  # two links to one file: rename(2) does nothing
            return
        if source is target:
            source.change({old: None, new: node})
        else:
            source.change({old: None}, after=(target, target.change({new: node})))

    def _is_inside(self, path):
        return path == self._root or path.startswith(f"{self._root}/")

    def _place(self, path):
        """Return the folder and the name of a path."""
        assert self._is_inside(path), path
        folder = self._above
        *parents, name = ("root" + path.removeprefix(self._root)).split("/")
        for parent in parents:
            folder = folder.names[parent]
        return folder, name

    def files(self):
        """Return the files by their path, as every process sees the names."""
        return dict(_walk(self._above.names.get("root"), lambda folder: folder.names))

    def possible(self, path):
        """Return the files (or folders) that may have this path after a loss of power; None for no file."""
        nodes = {self._above}
        for name in ("root", *path.split("/")):
            nodes = set().union(
                *(folder.possible(name) if isinstance(folder, Folder) else {None} for folder in nodes)
            )
        return nodes

    def after_cut(self, rng):
        """Return what may be left after a loss of power at this moment."""
        kept = {}
        for folder in self._folders():
            mood = rng.random()
            count = len(folder.pending)
            kept[folder] = 0 if mood < 0.3 else count if mood < 0.6 else rng.randint(0, count)
        settled = False
        while not settled:
            settled = True
            for folder, count in kept.items():
                for position, change in enumerate(folder.pending[:count]):
                    if change.after is None or change.after[1] not in change.after[0].pending:
                        continue
                    other, twin = change.after
                    if other.pending.index(twin) >= kept.get(other, 0):
                        kept[folder], settled = position, False
                        break

        def names(folder):
            left = dict(folder.synced)
            for change in folder.pending[: kept[folder]]:
                _update(left, change.names)
            return left

        contents = {}

        def content(file):
            if file not in contents:
                contents[file] = file.after_cut(rng)
            return contents[file]

        root = names(self._above).get("root")
        return Wreck(dict(_walk(root, names)), content, list(_walk_folders(root, names)))

    def _folders(self):
        found, waiting = [], [self._above]
        while waiting:
            folder = waiting.pop()
            found.append(folder)
            nodes = itertools.chain(
                folder.synced.values(), *(change.names.values() for change in folder.pending)
            )
            waiting += {node for node in nodes if isinstance(node, Folder) and node not in found}
        return found


@attrs.frozen
class Wreck:
    """What is left after a loss of power: files by path, and the paths of the folders."""

    files: dict[str, File]
    _content: object
    folders: list[str]

    def content(self, path):
        """Return the bytes of a file that is left."""
        return self._content(self.files[path])

    def build(self, root):
        """Write it to a folder."""
        for folder in self.folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        first = {}
        for path, file in self.files.items():
            if file in first:
                os.link(root / first[file], root / path)
            else:
                first[file] = path
                (root / path).write_bytes(self.content(path))
                if file.mtime is not None:
                    os.utime(root / path, ns=(file.mtime, file.mtime))
        return root


def _walk(node, names, path=""):
    if node is None:
        return
    for name, child in names(node).items():
        if isinstance(child, Folder):
            yield from _walk(child, names, f"{path}{name}/")
        else:
            yield f"{path}{name}", child


def _walk_folders(node, names, path=""):
    if node is None:
        return
    for name, child in names(node).items():
        if isinstance(child, Folder):
            yield f"{path}{name}"
            yield from _walk_folders(child, names, f"{path}{name}/")
