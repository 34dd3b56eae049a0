"""The store under any sequence of uploads, crashes and power losses: its answers match what is on disk."""

import hashlib
import os
import tempfile
import time
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError
from creemson.storage.folder import uploads as uploads_module
from creemson.storage.folder.files import Files
from creemson.storage.folder.partial import Part
from creemson.storage.folder.store import FolderStore
from creemson.storage.folder.uploads import SYNC_SECONDS
from tests.examples import examples_of
from tests.stored import usage

SYNC_BYTES = 16
HOUR = 3600.0
QUOTA = 10**6  # so large that it refuses nothing; what it counts is compared with the model
NAMES = st.sampled_from(["a.csv", "b.csv", "c.csv"])
CONTENTS = st.sampled_from([b"", b"small", b"SMALL", bytes(range(20)), bytes(range(100, 160))])
CUTS = st.lists(st.integers(1, 30), max_size=3)
# File times are real and those of the model are hours: half an hour separates them.
KEEPS = st.sampled_from([0.5 * HOUR, 3.5 * HOUR, 24.5 * HOUR, 1000.5 * HOUR])
KEEP_ALL = {"keep_uploads": 1e9, "keep_outputs": 1e9, "keep_parts": 1e9}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def pieces(data, cuts):
    """Yield chunks as a client sends them."""
    start = 0
    for cut in cuts:
        yield data[start : start + cut]
        start += cut
    yield data[start:]


@attrs.define
class Upload:
    """The model of an announced, unfinished upload."""

    content: bytes  # what its client sends
    sha256: str | None
    overwrite: bool
    boot: int
    touched: float
    part: Part | None  # while somebody writes it
    written: bytes = b""
    durable: int = 0
    synced: float = 0.0


class StoreMachine(RuleBasedStateMachine):
    """Drives a store as connections do: per name, one announced upload is open at a time."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(uploads_module, "BOOT_ID", root / "boot_id")
        self.patch.setattr(uploads_module, "SYNC_BYTES", SYNC_BYTES)
        self.born = self.now = float(int(time.time()))
        self.boot = 0
        self.catalogs = []
        self.files = Files(root / "data")
        self.files.prepare()
        self.count = 0
        self.uploads: dict[str, tuple[bytes, str | None]] = {}  # content, and digest if known
        self.outputs: dict[str, bytes] = {}
        self.parts: dict[str, Upload] = {}
        self.unannounced: list[tuple[Part, bytes]] = []
        self.strays: set[Path] = set()  # unannounced uploads left by a crash
        self.used: dict[str, float] = {}  # last use, in the catalog
        self.used_since: dict[str, float] = {}  # last use, in memory only
        self.start()

    def start(self):
        self.boot_id = self.files.root.parent / "boot_id"
        self.boot_id.write_text(f"boot-{self.boot}\n")
        self.catalog = SqliteCatalog(self.files.root / "catalog.db")
        self.catalogs.append(self.catalog)
        assert self.catalog.open() is None
        self.store = FolderStore(self.files, self.catalog, caller="ann", quota=QUOTA, clock=lambda: self.now)

    def teardown(self):
        for part in [upload.part for upload in self.parts.values()] + [part for part, _ in self.unannounced]:
            if part is not None:
                part._close()
        for catalog in self.catalogs:
            catalog.close()
        self.patch.undo()
        self.folder.cleanup()

    def release(self, name):
        """Save an open upload of this name, as in a takeover."""
        upload = self.parts.get(name)
        if upload is not None and upload.part is not None:
            self.store.uploads.save(upload.part)
            upload.part = None
            upload.durable, upload.touched = len(upload.written), self.now

    # --- uploads ---------------------------------------------------------------------------------

    def open(self, name, content, announce, overwrite, resume):
        """Begin or resume an upload; return whether it was accepted."""
        self.release(name)
        sha256 = sha(content) if announce else None
        try:
            part = self.store.uploads.begin(
                name,
                size=len(content),
                sha256=sha256,
                fingerprint=None if announce else "same",  # of any content: the store must not mind
                overwrite=overwrite,
                resume=resume,
            )
        except ProcessingError as error:
            assert error.reason == "file_exists"
            assert name in self.uploads
            assert not overwrite
            return False
        assert overwrite or name not in self.uploads
        old = self.parts.get(name)
        new = Upload(content, sha256, overwrite, self.boot, self.now, part, synced=self.now)
        if resume and old is not None and (len(old.content), old.sha256) == (len(content), sha256):
            there = len(old.written) if old.boot == self.boot else old.durable
            new.written = old.written[:there]
            new.durable = there
        assert (part.size, part.durable) == (len(new.written), new.durable)
        self.parts[name] = new
        return True

    def send(self, name, data):
        upload = self.parts[name]
        durable = self.store.uploads.write(upload.part, data)
        upload.written += data
        enough = len(upload.written) - upload.durable >= max(SYNC_BYTES, upload.durable)
        if self.now - upload.synced >= SYNC_SECONDS or enough:
            upload.durable, upload.touched, upload.synced = len(upload.written), self.now, self.now
        assert durable == upload.durable
        assert upload.part.size == len(upload.written)

    def end(self, name, sha256):
        upload = self.parts.pop(name)
        try:
            assert self.store.uploads.finish(upload.part, sha256) == sha(upload.written)
        except ProcessingError as error:
            reason = "checksum_mismatch" if sha256 not in (None, sha(upload.written)) else "file_exists"
            assert error.reason == reason
            assert reason == "checksum_mismatch" or (name in self.uploads and not upload.overwrite)
        else:
            assert sha256 in (None, sha(upload.written))
            assert upload.overwrite or name not in self.uploads
            self.uploads[name] = upload.written, sha(upload.written)

    @rule(name=NAMES, content=CONTENTS, cuts=CUTS, announce=st.booleans(), overwrite=st.booleans())
    def put(self, name, content, cuts, announce, overwrite):
        if self.open(name, content, announce, overwrite, resume=False):
            assert self.parts[name].written == b""
            for data in pieces(content, cuts):
                self.send(name, data)
            self.end(name, sha(content) if announce else None)
            assert self.uploads[name] == (content, sha(content))

    @rule(name=NAMES, content=CONTENTS, resume=st.booleans())
    def put_with_a_wrong_digest(self, name, content, resume):
        if self.open(name, content, announce=False, overwrite=True, resume=resume):
            self.send(name, content)
            self.end(name, "0" * 64)

    @rule(name=NAMES, content=CONTENTS, announce=st.booleans(), overwrite=st.booleans(), resume=st.booleans())
    def begin(self, name, content, announce, overwrite, resume):
        self.open(name, content, announce, overwrite, resume)

    @precondition(lambda self: self.parts)
    @rule(data=st.data(), crash=st.booleans())
    def resume(self, data, crash):
        """The same client reconnects, to the same server or to the next."""
        name = data.draw(st.sampled_from(sorted(self.parts)))
        if crash:
            self.crash()
        upload = self.parts[name]
        self.open(name, upload.content, upload.sha256 is not None, overwrite=True, resume=True)

    @precondition(lambda self: any(upload.part for upload in self.parts.values()))
    @rule(data=st.data(), size=st.integers(0, 40))
    def write(self, data, size):
        name = self.an_open_one(data)
        upload = self.parts[name]
        start = len(upload.written)
        self.send(name, upload.content[start : start + size])

    @precondition(lambda self: any(upload.part for upload in self.parts.values()))
    @rule(data=st.data(), announce=st.booleans())
    def finish(self, data, announce):
        name = self.an_open_one(data)
        upload = self.parts[name]
        self.send(name, upload.content[len(upload.written) :])
        assert len(upload.written) == len(upload.content)
        # Without an announced digest, another upload of the same size may have resumed this one.
        self.end(name, sha(upload.content) if announce and upload.sha256 else None)

    @precondition(lambda self: any(upload.part for upload in self.parts.values()))
    @rule(data=st.data())
    def save(self, data):
        self.release(self.an_open_one(data))

    @precondition(lambda self: any(upload.part for upload in self.parts.values()))
    @rule(data=st.data())
    def discard(self, data):
        name = self.an_open_one(data)
        self.store.uploads.discard(self.parts.pop(name).part)

    def an_open_one(self, data):
        return data.draw(st.sampled_from(sorted(name for name in self.parts if self.parts[name].part)))

    @rule(name=NAMES, content=CONTENTS)
    def begin_unannounced(self, name, content):
        part = self.store.uploads.begin_unannounced(name, least=len(content))
        assert self.store.uploads.write(part, content) == 0
        self.unannounced.append((part, content))

    @precondition(lambda self: self.unannounced)
    @rule(data=st.data(), end=st.sampled_from(["finish", "finish", "wrong digest", "save", "discard"]))
    def end_unannounced(self, data, end):
        part, content = self.unannounced.pop(data.draw(st.integers(0, len(self.unannounced) - 1)))
        match end:
            case "finish":
                assert self.store.uploads.finish(part, None) == sha(content)
                self.uploads[part.name] = content, sha(content)
            case "wrong digest":
                with pytest.raises(ProcessingError, match="0" * 64):
                    self.store.uploads.finish(part, "0" * 64)
            case "save":
                self.store.uploads.save(part)
            case "discard":
                self.store.uploads.discard(part)

    # --- files -----------------------------------------------------------------------------------

    @rule(name=NAMES, content=CONTENTS)
    def copy_by_hand(self, name, content):
        """Somebody copies a file into the folder, or replaces one."""
        self.count += 1
        aside = self.files.root / f"aside-{self.count}"
        aside.write_bytes(content)
        os.utime(aside, (self.count, self.count))
        aside.rename(self.files.uploads / name)
        self.uploads[name] = content, None
        self.store._recount()

    @rule(name=NAMES, content=CONTENTS)
    def make_output(self, name, content):
        (self.files.outputs / name).write_bytes(content)
        self.outputs[name] = content
        self.store.outputs.publish(name, "")

    @rule(name=NAMES)
    def find(self, name):
        folder = "uploads" if name in self.uploads else "outputs"
        try:
            path = self.store.find(name)
        except ProcessingError as error:
            assert error.reason == "file_not_found"
            assert name not in self.uploads
            assert name not in self.outputs
        else:
            assert path == self.files.root / folder / name
            self.used_since[f"{folder}/{name}"] = self.now

    @rule(name=NAMES)
    def delete(self, name):
        self.release(name)
        dropped = self.parts.pop(name, None)
        try:
            self.store.delete(name)
        except ProcessingError as error:
            assert error.reason == "file_not_found"
            assert dropped is None
            assert name not in self.uploads
            assert name not in self.outputs
        else:
            if name in self.uploads:
                del self.uploads[name]
                self.used.pop(f"uploads/{name}", None)
            elif dropped is None:
                del self.outputs[name]
                self.used.pop(f"outputs/{name}", None)

    # --- crashes and time ----------------------------------------------------------------

    @rule(hours=st.integers(0, 30), steps=st.integers(0, 3))
    def time_passes(self, hours, steps):
        self.now += hours * HOUR + steps * 0.25

    @rule()
    def crash(self):
        """The process is killed: nothing is saved; the kernel closes open files."""
        for upload in self.parts.values():
            if upload.part is not None:
                upload.part._close()
                upload.part = None
        for part, _ in self.unannounced:
            part._close()
            self.strays.add(part.path)
        self.unannounced.clear()
        self.used_since.clear()
        self.start()

    @rule(data=st.data())
    def lose_power(self, data):
        """Any part of the bytes not synced may be on disk, followed by garbage."""
        for name, upload in sorted(self.parts.items()):
            if upload.boot == self.boot:
                there = data.draw(st.integers(upload.durable, len(upload.written)), label=f"there of {name}")
                garbage = data.draw(st.binary(max_size=5), label="garbage")
                path = self.files.root / self.catalog.part("ann", name).path
                path.write_bytes(upload.written[:there] + garbage)
        self.boot += 1
        self.crash()

    @precondition(lambda self: any(upload.part for upload in self.parts.values()))
    @rule(data=st.data(), power=st.booleans())
    def crash_while_a_file_appears(self, data, power):
        """Crash after publishing a file and before removing its part; the next server sweeps at startup."""
        name = self.an_open_one(data)
        upload = self.parts[name]
        if name in self.uploads and not upload.overwrite:
            return
        part = upload.part
        part.sync()
        appear = os.replace if upload.overwrite else os.link
        appear(part.path, part.target)
        self.uploads[name] = upload.written, None
        self.boot += power
        self.crash()
        del self.parts[name]
        removed = {f"parts/{part.path.name}", *(f"parts/{path.name}" for path in self.strays)}
        self.strays.clear()
        self.forget_uses()
        assert set(self.store.sweep(**KEEP_ALL)) == removed

    @rule(keep_uploads=KEEPS, keep_outputs=KEEPS, keep_parts=KEEPS)
    def sweep(self, keep_uploads, keep_outputs, keep_parts):
        expected = {f"parts/{path.name}" for path in self.strays}
        self.strays.clear()
        for name, upload in list(self.parts.items()):
            if upload.part is None and upload.touched < self.now - keep_parts:
                expected.add(self.catalog.part("ann", name).path)
                del self.parts[name]
        self.used |= self.used_since
        self.used_since.clear()
        for folder, files, keep in (
            ("uploads", self.uploads, keep_uploads),
            ("outputs", self.outputs, keep_outputs),
        ):
            for name in list(files):
                if max(self.born, self.used.get(f"{folder}/{name}", 0.0)) < self.now - keep:
                    del files[name]
                    expected.add(f"{folder}/{name}")
        self.forget_uses()
        removed = self.store.sweep(
            keep_uploads=keep_uploads, keep_outputs=keep_outputs, keep_parts=keep_parts
        )
        assert len(removed) == len(set(removed))
        assert set(removed) == expected

    def forget_uses(self):
        there = {f"uploads/{name}" for name in self.uploads} | {f"outputs/{name}" for name in self.outputs}
        self.used = {path: used for path, used in self.used.items() if path in there}

    # --- invariants -----------------------------------------------------------------------

    @invariant()
    def the_files_are_those_of_the_model(self):
        listing = [(info.filename, info.size, info.sha256) for info in self.store.listing()]
        assert listing == [(name, len(data), sha256) for name, (data, sha256) in sorted(self.uploads.items())]
        for name, (data, _) in self.uploads.items():
            assert (self.files.uploads / name).read_bytes() == data

    @invariant()
    def the_parts_are_those_of_the_model(self):
        rows = {row.name: row for row in self.catalog.parts()}
        assert sorted(rows) == sorted(self.parts)
        for name, upload in self.parts.items():
            row = rows[name]
            assert (row.size, row.sha256) == (len(upload.content), upload.sha256)
            assert (row.durable, row.boot) == (upload.durable, f"boot-{upload.boot}")
            assert row.touched == upload.touched
            there = (self.files.root / row.path).read_bytes()
            if upload.boot == self.boot:
                assert there == upload.written
            else:
                assert there[: upload.durable] == upload.written[: upload.durable]
        known = {self.files.root / row.path for row in rows.values()}
        assert set(self.files.parts.iterdir()) == (
            known | {part.path for part, _ in self.unannounced} | self.strays
        )

    @invariant()
    def the_usage_is_that_of_the_model(self):
        """Of a file and one upload that will replace it, only the larger one counts."""
        claims = [(name, len(upload.content)) for name, upload in self.parts.items()]
        claims += [(part.name, len(content)) for part, content in self.unannounced]
        everything = (
            sum(len(data) for data, _ in self.uploads.values())
            + sum(map(len, self.outputs.values()))
            + sum(size for _, size in claims)
        )
        credit = sum(
            min(len(data), max((size for other, size in claims if other == name), default=0))
            for name, (data, _) in self.uploads.items()
        )
        assert everything - credit <= usage(self.store) <= everything
        assert self.store.quota.left == QUOTA - usage(self.store)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=examples_of(100), stateful_step_count=50, deadline=None)
