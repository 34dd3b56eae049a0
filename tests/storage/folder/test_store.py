"""The store: resumable uploads, listing, quota and the sweep."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
import unicodedata
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from creemson.catalog.catalog import PartRow
from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import InvalidFormat, ProcessingError
from creemson.storage.folder import files as files_module
from creemson.storage.folder import store as store_module
from creemson.storage.folder import uploads as uploads_module
from creemson.storage.folder.files import Files
from creemson.storage.folder.store import FolderStore
from creemson.storage.names import temporary_name
from tests.stored import usage

DATA = b"a,b\n1,2\n"
OTHER = b"c,d\n3,4\n"
SIZE = 8
assert len(DATA) == len(OTHER) == SIZE
DAY = 86_400.0
KEEP_ALL = {"keep_uploads": 1000 * DAY, "keep_outputs": 1000 * DAY, "keep_parts": 1000 * DAY}


def sha(data):
    return hashlib.sha256(data).hexdigest()


class World:
    """A data folder on a machine that may crash or lose power."""

    def __init__(self, root):
        self.now = float(int(time.time()))  # file times are real: sweeps happen days later
        self.boot = root / "boot_id"
        self.boot.write_text("boot-0\n")
        self.files = Files(root / "data")
        self.files.prepare()
        self.catalogs = []
        self.made = []
        self.boots = 0
        self.quota = 0
        self.start()

    def start(self):
        """Start a new process; nothing of the old one is closed."""
        self.catalog = SqliteCatalog(self.files.root / "catalog.db")
        self.catalogs.append(self.catalog)
        assert self.catalog.open() is None
        self.store = FolderStore(
            self.files, self.catalog, caller="ann", quota=self.quota, clock=lambda: self.now
        )

    def crash(self, *, power=False):
        if power:
            self.boots += 1
            self.boot.write_text(f"boot-{self.boots}\n")
        self.start()

    def close(self):
        for part in self.made:
            part._close()
        for catalog in self.catalogs:
            catalog.close()

    def begin(self, name="a.csv", *, size=SIZE, sha256=None, overwrite=False, resume=True):
        fingerprint = "same" if sha256 is None else None
        part = self.store.uploads.begin(
            name, size=size, sha256=sha256, fingerprint=fingerprint, overwrite=overwrite, resume=resume
        )
        self.made.append(part)
        return part

    def begin_unannounced(self, name="a.csv", *, least=100):
        self.made.append(self.store.uploads.begin_unannounced(name, least=least))
        return self.made[-1]

    def put(self, name="a.csv", data=DATA, *, overwrite=False):
        part = self.begin(name, size=len(data), overwrite=overwrite, resume=False)
        self.store.uploads.write(part, data)
        return self.store.uploads.finish(part, None)

    def leave(self, name="a.csv", data=DATA[:5], *, size=SIZE, sha256=None):
        """Save an unfinished upload."""
        part = self.begin(name, size=size, sha256=sha256, resume=False)
        self.store.uploads.write(part, data)
        self.store.uploads.save(part)
        return part

    def output(self, name, data=DATA):
        path = self.files.outputs / name
        path.write_bytes(data)
        return path

    def uploads(self):
        return {path.name: path.read_bytes() for path in self.files.uploads.iterdir()}

    def parts(self):
        return sorted(self.files.parts.iterdir())

    def listed(self):
        return {info.filename: info.sha256 for info in self.store.listing()}

    def sweep(self, **keep):
        return sorted(self.store.sweep(**{**KEEP_ALL, **keep}))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads_module, "BOOT_ID", tmp_path / "boot_id")
    world = World(tmp_path)
    yield world
    world.close()


@contextlib.contextmanager
def refused(reason):
    with pytest.raises(ProcessingError) as caught:
        yield
    assert caught.value.reason == reason


def failing(code):
    """Return a replacement for a call that fails with this error code."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


# --- uploads -------------------------------------------------------------------------------------------


def test_upload_appears_only_when_finished(world):
    """Before `finish` there is no file of its name; afterwards neither a part nor a row of it."""
    part = world.begin(sha256=sha(DATA))
    world.store.uploads.write(part, DATA)
    with refused("file_not_found"):
        world.store.find("a.csv")
    assert world.store.listing() == ()
    assert world.store.uploads.finish(part, sha(DATA)) == sha(DATA)
    assert world.store.find("a.csv").read_bytes() == DATA
    assert world.parts() == []
    assert world.catalog.parts() == []


def test_begun_upload_is_in_the_catalog(world):
    """The row is there from the start, with the digest in lower case."""
    part = world.begin(sha256=sha(DATA).upper())
    assert world.catalog.parts() == [
        PartRow(
            path=f"parts/{part.path.name}",
            caller="ann",
            name="a.csv",
            size=8,
            sha256=sha(DATA),
            durable=0,
            boot="boot-0",
            touched=world.now,
        )
    ]


def test_discarded_upload_leaves_nothing(world):
    """`discard` is possible at any time and idempotent."""
    part = world.begin()
    world.store.uploads.write(part, DATA)
    world.store.uploads.discard(part)
    world.store.uploads.discard(part)
    assert world.parts() == []
    assert world.uploads() == {}
    assert world.catalog.parts() == []
    assert world.begin().size == 0


def test_existing_name_without_overwrite_is_refused(world):
    """`file_exists` is raised before any byte is sent."""
    world.put()
    with refused("file_exists"):
        world.begin()
    world.put(data=b"new", overwrite=True)
    assert world.uploads() == {"a.csv": b"new"}


def test_refused_upload_keeps_an_unfinished_one(world):
    """A request that may overwrite can resume it."""
    world.leave()
    (world.files.uploads / "a.csv").write_bytes(b"by hand")
    with refused("file_exists"):
        world.begin(resume=False)
    assert world.begin(overwrite=True).size == 5


def test_finish_when_name_is_taken_does_not_overwrite(world):
    """Of two concurrent uploads of one name, the first to finish keeps the name."""
    part = world.begin()
    world.store.uploads.write(part, DATA)
    other = world.begin_unannounced()
    world.store.uploads.write(other, b"first")
    world.store.uploads.finish(other, None)
    with refused("file_exists"):
        world.store.uploads.finish(part, None)
    assert world.uploads() == {"a.csv": b"first"}
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.listed() == {"a.csv": sha(b"first")}


def test_finish_with_wrong_digest_leaves_nothing(world):
    """The error is `checksum_mismatch`; the next attempt starts at 0."""
    part = world.begin(sha256="0" * 64)
    world.store.uploads.write(part, DATA)
    with refused("checksum_mismatch"):
        world.store.uploads.finish(part, "0" * 64)
    assert world.parts() == []
    assert world.uploads() == {}
    assert world.catalog.parts() == []
    assert world.begin(sha256="0" * 64).size == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_storage_full_and_upload_resumable(world, monkeypatch, code):
    """Bytes written before are saved, and the upload can be resumed."""
    part = world.begin()
    world.store.uploads.write(part, DATA[:5])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(code))
        with refused("storage_full"):
            world.store.uploads.write(part, DATA[5:])
    world.store.uploads.save(part)
    part = world.begin()
    assert part.size == 5
    world.store.uploads.write(part, DATA[5:])
    assert world.store.uploads.finish(part, None) == sha(DATA)


@pytest.mark.parametrize("call", ["record_part", "update_part"])
def test_full_disk_in_catalog_is_storage_full(world, monkeypatch, call):
    """Whichever call fails, the error is the same; an upload that could not begin leaves nothing."""
    monkeypatch.setattr(uploads_module, "SYNC_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, call, failing(errno.ENOSPC))
        with refused("storage_full"):
            world.store.uploads.write(world.begin(), DATA)
    if call == "record_part":
        assert world.parts() == []
    assert world.sweep() == []


def test_other_disk_error_is_raised_unchanged(world, monkeypatch):
    """Errors other than lack of space are not converted, and the sweep need not spare any file."""
    monkeypatch.setattr(world.catalog, "record_part", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        world.begin()
    assert world.parts() == []
    world.files.parts.rename(world.files.root / "gone")
    with pytest.raises(FileNotFoundError):
        world.begin_unannounced()


def test_take_back_removes_only_the_uploaded_file(world):
    """Another file of that name stays, and so does an upload of it in progress."""
    store = world.store
    for later in (None, b"other", b"mine"):
        parts = []
        for content in (b"mine", later):
            if content is not None:
                part = store.uploads.begin(
                    "a.csv", size=len(content), sha256=None, overwrite=True, resume=False
                )
                store.uploads.write(part, content)
                store.uploads.finish(part, None)
                parts.append(part)
        open_part = store.uploads.begin("a.csv", size=9, sha256=None, overwrite=True, resume=False)
        store.uploads.take_back(parts[0])
        assert (store._files.uploads / "a.csv").exists() == (later is not None)
        assert open_part.path.exists()
        store.uploads.discard(open_part)
    store.delete("a.csv")
    store.uploads.take_back(parts[0])


def test_links_and_folders_are_refused_as_names(world, tmp_path):
    """A link could lead anywhere: it is neither read nor replaced."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (world.files.uploads / "link.csv").symlink_to(secret)
    (world.files.uploads / "broken.csv").symlink_to(tmp_path / "nowhere")
    (world.files.uploads / "folder").mkdir()
    for name in ("link.csv", "broken.csv", "folder", "../a.csv", ".a.csv"):
        for begin in (lambda name: world.begin(name, overwrite=True), world.begin_unannounced):
            with pytest.raises(InvalidFormat) as caught:
                begin(name)
            assert caught.value.reason == "invalid_filename"
    for name in ("link.csv", "broken.csv", "../a.csv"):
        for attempt in (world.store.find, world.store.delete):
            with pytest.raises(InvalidFormat) as caught:
                attempt(name)
            assert caught.value.reason == "invalid_filename"
    assert secret.read_text() == "secret"
    assert world.parts() == []


# --- unannounced uploads ---------------------------------------------------------------------


def test_unannounced_upload_replaces_the_file(world):
    """It has no row, appears when finished, and its digest is known."""
    world.put()
    part = world.begin_unannounced()
    assert world.store.uploads.write(part, OTHER) == 0
    assert world.catalog.parts() == []
    assert world.uploads() == {"a.csv": DATA}
    assert world.store.uploads.finish(part, None) == sha(OTHER)
    assert world.uploads() == {"a.csv": OTHER}
    assert world.listed() == {"a.csv": sha(OTHER)}
    assert world.parts() == []


def test_unannounced_upload_cannot_be_saved(world):
    """It is unknown whether another upload is of the same file."""
    part = world.begin_unannounced()
    world.store.uploads.write(part, DATA)
    world.store.uploads.save(part)
    assert world.parts() == []
    assert world.begin().size == 0


def test_unannounced_upload_keeps_an_unfinished_one(world):
    """They are two uploads that happen to have the same name."""
    world.leave()
    part = world.begin_unannounced()
    world.store.uploads.write(part, OTHER)
    world.store.uploads.finish(part, None)
    assert world.begin(overwrite=True).size == 5


def test_unannounced_upload_is_not_synced_while_written(world, monkeypatch):
    """A sync would be useless, because it cannot be resumed after a power loss."""
    monkeypatch.setattr(uploads_module, "SYNC_BYTES", 1)
    part = world.begin_unannounced()
    world.now += 10
    assert world.store.uploads.write(part, DATA) == 0
    assert part.durable == 0


# --- resuming ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((8, sha(DATA)), (8, sha(DATA)), True),
        ((8, sha(DATA)), (8, sha(DATA).upper()), True),
        ((8, None), (8, None), True),
        ((8, sha(DATA)), (8, sha(OTHER)), False),
        ((8, sha(DATA)), (9, sha(DATA)), False),
        ((8, sha(DATA)), (7, sha(DATA)), False),
        ((8, None), (9, None), False),
        ((8, sha(DATA)), (8, None), False),
        ((8, None), (8, sha(DATA)), False),
    ],
)
@pytest.mark.parametrize("crash", [False, True])
def test_same_upload_is_resumed(world, first, second, same, crash):
    """Uploads with the same name, size and digest are the same; of any other, nothing stale is left."""
    old = world.leave(size=first[0], sha256=first[1])
    if crash:
        world.crash()
    part = world.begin(size=second[0], sha256=second[1])
    assert part.size == (5 if same else 0)
    assert (part.path == old.path) == same
    assert world.parts() == [part.path]
    row = world.catalog.part("ann", "a.csv")
    assert (row.path, row.size) == (f"parts/{part.path.name}", second[0])
    assert row.sha256 == (second[1] and second[1].lower())
    assert world.catalog.parts() == [row]
    rest = OTHER[part.size :]
    world.store.uploads.write(part, rest)
    assert world.store.uploads.finish(part, None) == sha((DATA[:5] if same else b"") + rest)
    assert world.parts() == []


def test_upload_of_another_name_is_separate(world):
    """Each name resumes its own part."""
    world.leave("a.csv", DATA[:5])
    world.leave("b.csv", OTHER[:3])
    assert world.begin("b.csv").size == 3
    assert world.begin("c.csv").size == 0
    assert world.begin("a.csv").size == 5


def test_upload_of_another_caller_is_separate(world):
    """Another caller's part is neither resumed nor removed."""
    world.leave()
    bob = FolderStore(world.files, world.catalog, caller="bob", quota=0, clock=lambda: world.now)
    part = bob.uploads.begin("a.csv", size=8, sha256=None, overwrite=False, resume=True)
    assert part.size == 0
    bob.uploads.discard(part)
    assert world.begin().size == 5


def test_upload_without_resume_starts_at_zero(world):
    """The old part is removed."""
    old = world.leave(sha256=sha(DATA))
    part = world.begin(sha256=sha(DATA), resume=False)
    assert part.size == 0
    assert part.path != old.path
    assert world.parts() == [part.path]
    world.store.uploads.write(part, DATA)
    assert world.store.uploads.finish(part, sha(DATA)) == sha(DATA)
    assert world.parts() == []


def test_part_whose_file_is_missing_starts_at_zero(world):
    """Somebody has deleted it by hand."""
    world.leave().path.unlink()
    part = world.begin()
    assert part.size == 0
    world.store.uploads.write(part, DATA)
    assert world.store.uploads.finish(part, None) == sha(DATA)
    assert world.parts() == []
    assert world.catalog.parts() == []


def test_part_can_be_resumed_repeatedly(world):
    """One byte at a time, saved or crashed in between."""
    for number, byte in enumerate(DATA):
        part = world.begin(sha256=sha(DATA))
        assert part.size == number
        world.store.uploads.write(part, bytes([byte]))
        if number % 2:
            world.crash()
        else:
            world.store.uploads.save(part)
    part = world.begin(sha256=sha(DATA))
    assert part.size == len(DATA)
    assert world.store.uploads.finish(part, sha(DATA)) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}
    assert world.parts() == []


def test_digest_of_saved_part_is_kept_in_memory(world, monkeypatch):
    """The same process need not reread the bytes."""
    world.leave()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        part = world.begin()
    world.store.uploads.write(part, DATA[5:])
    assert world.store.uploads.finish(part, None) == sha(DATA)


def test_part_changed_by_hand_gets_digest_of_its_bytes(world):
    """The digest in memory would be that of other bytes."""
    world.leave().path.write_bytes(b"xyz")
    part = world.begin()
    assert part.size == 3
    world.store.uploads.write(part, DATA[3:])
    assert world.store.uploads.finish(part, None) == sha(b"xyz" + DATA[3:])


def test_surplus_bytes_of_part_are_cut_off(world):
    """A part longer than announced is resumed at the announced size."""
    world.leave(data=DATA + b"surplus")
    part = world.begin()
    assert part.size == len(DATA)
    assert world.store.uploads.finish(part, None) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}


def test_part_that_cannot_be_read_stays(world, monkeypatch):
    """The disk error is raised; the next attempt may succeed, and the sweep removes the part in time."""
    old = world.leave()
    world.crash()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            world.begin()
    assert world.parts() == [old.path]
    world.now += 2 * DAY
    assert world.sweep(keep_parts=DAY) == [f"parts/{old.path.name}"]


# --- crashes -------------------------------------------------------------------------------------


def test_crash_of_server_loses_no_byte(world):
    """Written bytes are in the kernel, which survives."""
    part = world.begin(sha256=sha(DATA))
    assert world.store.uploads.write(part, DATA[:5]) == 0
    world.crash()
    part = world.begin(sha256=sha(DATA))
    assert (part.size, part.durable) == (5, 5)
    world.store.uploads.write(part, DATA[5:])
    assert world.store.uploads.finish(part, sha(DATA)) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}


@pytest.mark.parametrize(("there", "expected"), [(8, 6), (6, 6), (2, 2), (0, 0)])
def test_power_loss_keeps_durable_bytes(world, monkeypatch, there, expected):
    """Bytes beyond may be anything and are cut; a file with fewer bytes is taken as it is."""
    monkeypatch.setattr(uploads_module, "SYNC_BYTES", 4)
    part = world.begin(size=20)
    assert [world.store.uploads.write(part, piece) for piece in (b"123", b"456", b"78")] == [0, 6, 6]
    part.path.write_bytes(b"123456??"[:there])
    world.crash(power=True)
    part = world.begin(size=20)
    assert (part.size, part.durable) == (expected, expected)
    assert part.path.stat().st_size == expected
    world.store.uploads.write(part, b"end")
    assert world.store.uploads.finish(part, None) == sha(b"123456"[:expected] + b"end")
    assert world.uploads() == {"a.csv": b"123456"[:expected] + b"end"}


def test_power_loss_before_first_sync_restarts_upload(world):
    """The upload restarts at 0 in the same part."""
    world.store.uploads.write(world.begin(), DATA[:5])
    world.crash(power=True)
    assert world.begin().size == 0
    assert len(world.parts()) == 1


def test_power_loss_keeps_saved_part(world):
    """`save` includes a sync."""
    world.leave()
    assert world.catalog.parts()[0].durable == 5
    world.crash(power=True)
    assert world.begin().size == 5


def test_crash_after_power_loss_loses_no_new_byte(world):
    """Bytes written after the power loss belong to the new boot."""
    world.leave()
    world.crash(power=True)
    world.store.uploads.write(world.begin(), DATA[5:])
    world.crash()
    assert world.begin().size == len(DATA)


def test_crash_after_power_loss_keeps_bytes_uncertain(world):
    """Until the upload is resumed, its bytes belong to the old boot."""
    world.store.uploads.write(world.begin(), DATA[:5])
    world.crash(power=True)
    world.crash()
    assert world.begin().size == 0


def test_unknown_boot_counts_as_power_loss(world, monkeypatch, tmp_path):
    """Without `boot_id`, only durable bytes count."""
    monkeypatch.setattr(uploads_module, "BOOT_ID", tmp_path / "missing")
    world.start()
    world.store.uploads.write(world.begin("a.csv"), DATA[:5])
    world.leave("b.csv")
    world.crash()
    assert world.begin("a.csv").size == 0
    assert world.begin("b.csv").size == 5


def test_upload_is_synced_every_sync_bytes(world, monkeypatch):
    """`write` returns how many bytes are durable; the catalog is updated only afterwards."""
    monkeypatch.setattr(uploads_module, "SYNC_BYTES", 10)
    part = world.begin(size=100)
    synced = []
    fdatasync = os.fdatasync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda file: (synced.append(os.fstat(file).st_size), fdatasync(file)))
        durable = [world.store.uploads.write(part, bytes(4)) for _ in range(7)]
    assert durable == [0, 0, 12, 12, 12, 24, 24]
    assert synced == [12, 24]
    assert world.catalog.part("ann", "a.csv").durable == 24
    assert part.size == 28


def test_upload_is_synced_at_intervals(world):
    """A slow upload is synced too; the time counts from the last sync."""
    part = world.begin(size=100)
    durable = []
    for seconds in (0.0, 0.25, 0.25, 0.25, 0.25, 0.25, 60.0, 0.0):
        world.now += seconds
        durable.append(world.store.uploads.write(part, b"1234"))
    assert durable == [0, 0, 12, 12, 20, 20, 28, 28]
    row = world.catalog.part("ann", "a.csv")
    assert (row.durable, row.touched) == (28, world.now)


def test_part_is_synced_before_the_catalog_records_it(world, monkeypatch):
    """The other order would promise bytes that a power loss takes."""
    part = world.begin()
    fdatasync = os.fdatasync

    def look(file):
        assert world.catalog.part("ann", "a.csv").durable == 0
        fdatasync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", look)
        world.store.uploads.write(part, DATA)
        world.store.uploads.save(part)
    assert world.catalog.part("ann", "a.csv").durable == len(DATA)


@pytest.mark.parametrize("power", [False, True])
def test_published_file_is_never_truncated(world, power):
    """After a crash between publishing and removing the part, the part is the same file."""
    part = world.begin(sha256=sha(DATA))
    world.store.uploads.write(part, DATA)
    os.link(part.path, part.target)
    world.crash(power=power)
    part = world.begin(sha256=sha(DATA), overwrite=True)
    assert world.uploads() == {"a.csv": DATA}, "complete until the new one replaces it"
    world.store.uploads.write(part, DATA[part.size :])
    assert world.uploads() == {"a.csv": DATA}
    assert world.store.uploads.finish(part, sha(DATA)) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}
    assert world.parts() == []


@pytest.mark.parametrize("appear", [os.link, os.replace])
@pytest.mark.parametrize("power", [False, True])
def test_crash_while_publishing_leaves_only_the_file(world, appear, power):
    """The sweep at startup removes part and row; the digest is not known yet."""
    part = world.begin()
    world.store.uploads.write(part, DATA)
    appear(part.path, part.target)
    world.crash(power=power)
    assert world.sweep() == [f"parts/{part.path.name}"]
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.uploads() == {"a.csv": DATA}
    assert world.listed() == {"a.csv": None}
    assert world.sweep() == []


def test_loss_of_catalog_keeps_files(world):
    """Files stay, without digests; unfinished uploads restart, and their bytes are swept."""
    world.put("whole.csv")
    old = world.leave()
    world.catalog.close()
    (world.files.root / "catalog.db").unlink()
    world.start()
    assert world.listed() == {"whole.csv": None}
    part = world.begin()
    assert part.size == 0
    assert world.sweep() == [f"parts/{old.path.name}"]
    assert world.parts() == [part.path]


# --- quota and free space ----------------------------------------------------------------------------------------------


def test_usage_counts_stored_and_announced_bytes(world):
    """Files, outputs, and unfinished uploads in their announced size; not those of other callers."""
    assert usage(world.store) == 0
    world.put("a.csv", bytes(10))
    (world.files.uploads / "by hand.csv").write_bytes(bytes(200))
    world.output("o.parquet", bytes(3000))
    world.output(temporary_name("p.parquet", "1"), bytes(7))
    world.leave("b.csv", bytes(1), size=40_000)
    world.store.uploads.write(world.begin_unannounced("c.csv"), bytes(50))
    assert usage(world.store) == 43_210
    world.catalog.record_part(
        attrs.evolve(world.catalog.parts()[0], path="parts/x", caller="bob", size=500_000)
    )
    assert usage(world.store) == 43_210
    world.store.delete("b.csv")
    assert usage(world.store) == 3_210


def test_quota_is_checked_before_any_byte(world):
    """An exact fit is accepted; beyond, the error is `storage_full` with the figures."""
    world.quota = 1_100
    world.start()
    world.put("a.csv", bytes(1_000))
    world.begin("b.csv", size=100)
    with pytest.raises(
        ProcessingError, match="store 1,100 bytes, 1,100 are stored already; 1 more"
    ) as caught:
        world.begin("c.csv", size=1)
    assert caught.value.reason == "storage_full"
    with refused("storage_full"):
        world.begin_unannounced("c.csv", least=1)
    with refused("storage_full"):
        world.store.quota.check()
    world.begin("c.csv", size=0)
    world.store.delete("a.csv")
    world.store.quota.check(1_000)
    with refused("storage_full"):
        world.store.quota.check(1_001)


def test_overwritten_file_makes_room_for_one_upload_at_a_time(world):
    """Of the file and the upload that replaces it, the larger one counts; so abandoned uploads leave no excess."""
    world.quota = 100
    world.start()
    world.put("a.csv", bytes(60))
    replacing = world.begin("a.csv", size=100, overwrite=True)
    assert usage(world.store) == 100
    with refused("storage_full"):
        world.begin_unannounced("a.csv", least=41)
    world.store.uploads.discard(replacing)
    assert usage(world.store) == 60
    with refused("storage_full"):
        world.begin("a.csv", size=101, overwrite=True)
    unfinished = world.begin("a.csv", size=30, overwrite=True)
    world.store.uploads.write(unfinished, bytes(10))
    world.store.uploads.save(unfinished)
    assert usage(world.store) == 60
    with refused("storage_full"):
        world.begin("b.csv", size=41)
    world.put("a.csv", bytes(90), overwrite=True)
    assert usage(world.store) == 90


def test_upload_is_refused_at_its_end_if_kept_bytes_leave_no_room(world):
    """A job was accepted for the old bytes while the upload was under way."""
    world.quota = 100
    world.start()
    world.put("a.csv", bytes(60))
    part = world.begin("a.csv", size=50, overwrite=True)
    world.store.uploads.write(part, bytes(50))
    version = world.store.look_up("a.csv").version
    assert world.store.versions.hold("a.csv", version)
    with refused("storage_full"):
        world.store.uploads.finish(part, None)
    assert world.store.look_up("a.csv").version == version
    assert usage(world.store) == 60  # the file has its name, so its bytes need not be kept under another, too
    assert not world.store.versions.release(version)
    assert list((world.files.root / "kept").iterdir()) == []
    world.put("a.csv", bytes(50), overwrite=True)
    assert usage(world.store) == 50


def test_upload_of_unknown_size_counts_as_it_is_written(world):
    """It is refused at the byte that does not fit, and its bytes are free again when it is gone."""
    world.quota = 100
    world.start()
    part = world.begin_unannounced("a.csv", least=10)
    assert usage(world.store) == 10
    world.store.uploads.write(part, bytes(60))
    assert usage(world.store) == 60
    with refused("storage_full"):
        world.begin("b.csv", size=41)
    other = world.begin("b.csv", size=40)
    with refused("storage_full"):
        world.store.uploads.write(part, bytes(1))
    world.store.uploads.discard(other)
    world.store.uploads.write(part, bytes(40))
    world.store.uploads.finish(part, None)
    assert usage(world.store) == 100
    assert [path.stat().st_size for path in world.files.uploads.iterdir()] == [100]


def test_output_over_the_quota_is_removed(world):
    """With its texts and rejects; one that fits exactly is counted, and its bytes are free again after its removal."""
    world.quota = 100
    world.start()
    world.put("a.csv", bytes(50))
    assert world.store.quota.left == 50
    world.output("o.parquet", bytes(40))
    world.output("o.texts.parquet", bytes(4))
    world.output("o.rejects.csv", bytes(7))
    with refused("storage_full"):
        world.store.outputs.publish("o.parquet", "")
    assert list(world.files.outputs.iterdir()) == []
    world.output("o.parquet", bytes(40))
    world.output("o.texts.parquet", bytes(4))
    world.output("o.rejects.csv", bytes(6))
    world.store.outputs.publish("o.parquet", "")
    assert (usage(world.store), world.store.quota.left) == (100, 0)
    world.output("o.csv", bytes(1))
    with refused("storage_full"):
        world.store.outputs.publish("o.csv", "")
    assert {path.name for path in world.files.outputs.iterdir()} == {
        "o.parquet",
        "o.texts.parquet",
        "o.rejects.csv",
    }
    world.store.outputs.remove("o.parquet")
    assert usage(world.store) == 50


def test_files_put_there_by_hand_count_from_the_next_sweep(world):
    """So do those of an earlier server, from its start; and what is removed by hand is free again."""
    world.quota = 1000
    world.start()
    (world.files.uploads / "hand.csv").write_bytes(bytes(300))
    assert usage(world.store) == 0
    world.sweep()
    assert usage(world.store) == 300
    world.leave("b.csv", bytes(1), size=200)
    world.crash()
    assert usage(world.store) == 500
    (world.files.uploads / "hand.csv").unlink()
    world.sweep()
    assert usage(world.store) == 200


def test_parallel_uploads_store_at_most_the_quota(world):
    """Of twelve at once, each as large as the quota, one is stored; nothing stays counted of the others."""
    world.quota = 10_000
    world.start()

    def upload(number):
        try:
            if number % 2:
                part = world.store.uploads.begin(
                    f"{number}.csv", size=10_000, sha256=None, overwrite=False, resume=False
                )
            else:
                part = world.store.uploads.begin_unannounced(f"{number}.csv", least=number * 500)
        except ProcessingError as error:
            return error.reason
        try:
            for _ in range(10):
                world.store.uploads.write(part, bytes(1000))
        except ProcessingError as error:
            world.store.uploads.discard(part)
            return error.reason
        world.store.uploads.finish(part, None)
        return "stored"

    with ThreadPoolExecutor(12) as pool:
        ends = list(pool.map(upload, range(12)))
    assert set(ends) <= {"stored", "storage_full"}
    assert ends.count("stored") <= 1
    assert usage(world.store) == 10_000 * ends.count("stored")
    assert sum(path.stat().st_size for path in world.files.uploads.iterdir()) == usage(world.store)


def test_unfinished_upload_reserves_its_full_size(world):
    """It can be resumed when the quota is full; an upload that replaces it may use its room."""
    world.quota = 100
    world.start()
    world.leave(size=90, data=b"x")
    with refused("storage_full"):
        world.begin("b.csv", size=11)
    part = world.begin(size=90)
    assert part.size == 1
    world.store.uploads.save(part)
    part = world.begin(size=100)
    assert part.size == 0
    with refused("storage_full"):
        world.begin("b.csv", size=1)


def test_quota_of_zero_means_unlimited(world):
    """0 disables the quota."""
    world.put("a.csv", bytes(1000))
    world.store.quota.check(10**18)


def test_upload_larger_than_free_disk_is_refused(world, monkeypatch):
    """The error is `storage_full` with the figures; an exact fit is accepted."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 8_766, 1_234))
    with pytest.raises(ProcessingError, match=r"'a\.csv' has 1,235 bytes.*space for only 1,234") as caught:
        world.begin(size=1_235)
    assert caught.value.reason == "storage_full"
    with refused("storage_full"):
        world.begin_unannounced(least=1_235)
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.begin(size=1_234).size == 0


# --- files ---------------------------------------------------------------------------------------------


def test_files_are_listed_by_name(world):
    """With size, time and digest; links, folders, outputs and unfinished uploads are not listed."""
    assert world.store.listing() == ()
    for name in ("b.csv", "ä.csv", "a.csv"):
        world.put(name, name.encode())
    world.output("o.parquet")
    world.leave("c.csv")
    (world.files.uploads / "link.csv").symlink_to(world.files.uploads / "a.csv")
    (world.files.uploads / "folder").mkdir()
    (world.files.uploads / temporary_name("x", "1")).write_bytes(DATA)
    listing = world.store.listing()
    assert [(info.filename, info.size, info.sha256) for info in listing] == [
        ("a.csv", 5, sha(b"a.csv")),
        ("b.csv", 5, sha(b"b.csv")),
        ("ä.csv", 6, sha("ä.csv".encode())),
    ]
    for info in listing:
        assert info.modified == (world.files.uploads / info.filename).stat().st_mtime


def test_file_copied_in_by_hand_has_no_digest_until_recorded(world):
    """Nobody has read it yet."""
    path = world.files.uploads / "a.csv"
    path.write_bytes(DATA)
    assert world.listed() == {"a.csv": None}
    version = world.store.look_up("a.csv").version
    assert world.store.digest(path, version) is None
    world.store.record_digest(path, version, sha(DATA))
    assert world.listed() == {"a.csv": sha(DATA)}
    assert world.store.digest(path, version) == sha(DATA)


def test_digest_is_valid_for_one_version_only(world):
    """A file changed by hand is another version, even with the same name and size."""
    world.put()
    path = world.store.find("a.csv")
    before = world.store.look_up("a.csv").version
    assert world.store.digest(path, before) == sha(DATA)
    path.write_bytes(OTHER)
    os.utime(path, ns=(1, 1))
    assert world.listed() == {"a.csv": None}
    changed = world.store.look_up("a.csv").version
    assert world.store.digest(path, changed) is None
    world.put(data=OTHER, overwrite=True)
    assert world.listed() == {"a.csv": sha(OTHER)}
    assert len({before, changed, world.store.look_up("a.csv").version}) == 3


def test_digest_is_recorded_for_the_right_file(world, monkeypatch):
    """Another upload may replace the file after it is published and before its digest is recorded."""
    forget = world.catalog.forget_part

    def overtake(path):
        monkeypatch.setattr(world.catalog, "forget_part", forget)
        forget(path)
        part = world.begin_unannounced()
        world.store.uploads.write(part, OTHER)
        world.store.uploads.finish(part, None)

    monkeypatch.setattr(world.catalog, "forget_part", overtake)
    assert world.put() == sha(DATA)
    assert world.uploads() == {"a.csv": OTHER}
    assert world.listed()["a.csv"] in (sha(OTHER), None)


def test_digests_survive_a_restart(world):
    """They are in the catalog."""
    world.put()
    world.crash(power=True)
    assert world.listed() == {"a.csv": sha(DATA)}


def test_upload_is_found_before_an_output(world):
    """An output is found if there is no upload of that name."""
    output = world.output("a.csv", OTHER)
    assert world.store.find("a.csv") == output
    world.put()
    assert world.store.find("a.csv").read_bytes() == DATA


def test_delete_removes_file_and_catalog_entries(world):
    """An output of the same name stays."""
    output = world.output("a.csv")
    world.put()
    world.store.find("a.csv")
    world.sweep()
    assert world.catalog.uses() == {"uploads/a.csv": world.now}
    world.store.delete("a.csv")
    assert world.uploads() == {}
    assert world.catalog.uses() == {}
    assert world.catalog.digests() == {}
    assert output.exists()


def test_delete_removes_an_output(world):
    """This holds if no upload has its name."""
    output = world.output("o.parquet")
    world.store.delete("o.parquet")
    assert not output.exists()


@pytest.mark.parametrize("rendering", ["o.csv", "o.normalized.csv", "o.xlsx", "o.rejects.csv"])
def test_delete_of_a_rendering_leaves_its_output(world, rendering):
    """With its texts and other renderings; they go with the output."""
    names = ["o.parquet", "o.texts.parquet", "o.rejects.csv", "o.csv", "o.normalized.csv", "o.xlsx"]
    paths = {name: world.output(name, DATA) for name in names}
    world.store.outputs.expect("o.parquet", len(DATA), len(DATA))
    world.store.delete(rendering)
    assert [name for name, path in paths.items() if not path.exists()] == [rendering]
    assert world.store.outputs.has("o.parquet")
    world.store.delete("o.parquet")
    assert not any(path.exists() for path in paths.values())


def test_upload_hides_the_output_whose_name_it_has(world):
    """Or that of a file that belongs to it; not that of another output, and not after its removal."""
    for name in ("o-1.parquet", "o-1.csv", "o-1.normalized.csv", "o-1.rejects.csv"):
        assert not world.store.outputs.is_hidden("o-1.parquet")
        (world.store._files.uploads / name).write_bytes(b"edited")
        assert world.store.outputs.is_hidden("o-1.parquet")
        assert not world.store.outputs.is_hidden("o-2.parquet")
        world.store.delete(name)
    assert not world.store.outputs.is_hidden("o-1.parquet")


@pytest.mark.parametrize("content", [b"", DATA[:-1], DATA + b"x"])
def test_output_of_another_size_than_expected_is_not_served(world, content):
    """Neither as a cached answer, nor by its name, nor as the source of another format."""
    output = world.output("o.parquet", DATA)
    world.store.outputs.expect("o.parquet", len(DATA))
    assert world.store.outputs.has("o.parquet")
    assert world.store.find("o.parquet") == output
    assert world.store.outputs.find_stored("o.csv") == output
    output.write_bytes(content)
    assert not world.store.outputs.has("o.parquet")
    assert world.store.outputs.find_stored("o.csv") is None
    with pytest.raises(ProcessingError, match="damaged") as caught:
        world.store.find("o.parquet")
    assert caught.value.reason == "file_not_found"
    output.write_bytes(DATA)  # it has been made again
    assert world.store.outputs.has("o.parquet")


@pytest.mark.parametrize("content", [None, b"", DATA + b"x"])
def test_output_without_its_texts_is_not_served(world, content):
    """Nor as the source of another format; it is made again, with its texts."""
    world.output("o.parquet", DATA)
    texts = world.output("o.texts.parquet", DATA)
    world.store.outputs.expect("o.parquet", len(DATA), len(DATA))
    assert world.store.outputs.has("o.parquet")
    if content is None:
        texts.unlink()
    else:
        texts.write_bytes(content)
    for _ in range(2):
        assert not world.store.outputs.has("o.parquet")
    assert world.store.outputs.find_stored("o.csv") is None
    with refused("file_not_found"):
        world.store.find("o.parquet")
    texts.write_bytes(DATA)
    assert world.store.outputs.has("o.parquet")
    world.store.outputs.remove("o.parquet")
    assert not texts.exists()
    world.output("o.parquet", DATA)
    assert world.store.outputs.has("o.parquet")


def test_csv_of_values_is_a_rendering_of_its_output(world):
    """It is removed with it, and so are the texts; these are no output that could be rendered."""
    stored = world.output("o.parquet")
    assert world.store.outputs.find_stored("o.normalized.csv") == stored
    others = [world.output(name) for name in ("o.normalized.csv", "o.texts.parquet", "o.rejects.csv")]
    assert world.store.outputs.find_stored("o.texts.csv") is None
    assert world.store.outputs.find_stored("o.rejects.xlsx") is None
    world.store.outputs.remove("o.parquet")
    assert not any(path.exists() for path in (stored, *others))


def test_upload_with_the_name_of_an_output_may_have_any_size(world):
    """The expected size is that of the output."""
    world.output("o.parquet", DATA)
    world.store.outputs.expect("o.parquet", len(DATA))
    world.put("o.parquet", OTHER + DATA)
    assert world.store.find("o.parquet").read_bytes() == OTHER + DATA


def test_removed_output_is_expected_no_more(world):
    """A file that gets its name later may have any size."""
    for remove in (world.store.outputs.remove, world.store.delete):
        world.output("o.parquet", DATA)
        world.store.outputs.expect("o.parquet", len(DATA))
        remove("o.parquet")
        assert not world.store.outputs.has("o.parquet")
        world.output("o.parquet", OTHER + DATA)
        assert world.store.outputs.has("o.parquet")


def test_delete_removes_an_unfinished_upload(world):
    """It cannot be resumed any more; other uploads can."""
    world.leave("b.csv")
    world.leave()
    world.store.delete("a.csv")
    assert [row.name for row in world.catalog.parts()] == ["b.csv"]
    assert len(world.parts()) == 1
    assert world.begin().size == 0
    assert world.begin("b.csv").size == 5


def test_delete_removes_file_and_unfinished_upload_together(world):
    """Afterwards there is nothing of that name."""
    world.put()
    part = world.begin(overwrite=True)
    world.store.uploads.write(part, OTHER[:5])
    world.store.uploads.save(part)
    world.store.delete("a.csv")
    assert world.uploads() == {}
    assert world.parts() == []
    assert usage(world.store) == 0


def test_delete_of_missing_file_is_refused(world):
    """The error is `file_not_found` with the nearest name."""
    world.put("flights.csv")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights\.csv'") as caught:
        world.store.delete("flihgts.csv")
    assert caught.value.reason == "file_not_found"
    assert world.store.uploads.remove("flights.csv") is False
    assert world.uploads() == {"flights.csv": DATA}


def test_file_deleted_during_listing_is_skipped(world, monkeypatch):
    """It is not an error."""
    world.put("a.csv")
    world.put("b.csv")

    def meanwhile(name):
        (world.files.uploads / "a.csv").unlink(missing_ok=True)
        return False

    monkeypatch.setattr(store_module, "is_temporary", meanwhile)
    assert list(world.listed()) == ["b.csv"]


def test_file_deleted_during_usage_count_is_skipped(world, monkeypatch):
    """It is not an error: many clients delete, upload and count at once."""
    world.put("a.csv")
    world.put("b.csv")

    def meanwhile(name):
        (world.files.uploads / "a.csv").unlink(missing_ok=True)
        return False

    monkeypatch.setattr(files_module, "is_temporary", meanwhile)
    assert usage(world.store) == len(DATA)


# --- sweep -------------------------------------------------------------------------------------


def test_sweep_removes_files_unused_for_long(world):
    """Uploads and outputs each have their own time; the rest is unchanged."""
    world.put()
    world.output("o.parquet")
    assert world.sweep(keep_uploads=DAY, keep_outputs=3 * DAY) == []
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY, keep_outputs=3 * DAY) == ["uploads/a.csv"]
    assert world.uploads() == {}
    assert world.catalog.digests() == {}
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY, keep_outputs=3 * DAY) == ["outputs/o.parquet"]
    assert list(world.files.outputs.iterdir()) == []
    assert world.sweep(keep_uploads=DAY, keep_outputs=3 * DAY) == []


def test_kept_bytes_are_of_an_upload_or_of_an_output(world):
    """Jobs read the texts of an output, which an uploaded copy of it does not have."""
    world.put()
    world.output("o.parquet")
    for name, is_upload in (("a.csv", True), ("o.parquet", False)):
        found = world.store.look_up(name)
        assert world.store.versions.hold(name, found.version)
        world.store.delete(name)
        kept = world.store.versions.find(name, found.version)
        assert kept.path != found.path
        assert world.store.is_upload(found) == world.store.is_upload(kept) == is_upload


def test_texts_and_rejects_are_kept_as_long_as_their_output(world):
    """A use of the output counts for them."""
    keep = {"keep_uploads": DAY, "keep_outputs": DAY}
    names = ["outputs/o.parquet", "outputs/o.rejects.csv", "outputs/o.texts.parquet"]
    for name in names:
        world.output(name.removeprefix("outputs/"))
    world.now += 0.75 * DAY
    world.store.find("o.parquet")
    world.now += 0.75 * DAY
    assert world.sweep(**keep) == []
    world.now += 0.5 * DAY
    assert sorted(world.sweep(**keep)) == names


def test_find_counts_as_use(world):
    """It restarts the file's time, for uploads as for outputs, also across a restart."""
    keep = {"keep_uploads": DAY, "keep_outputs": DAY}
    world.put()
    world.output("o.parquet")
    world.put("unused.csv")
    world.now += 0.75 * DAY
    world.store.find("a.csv")
    world.store.find("o.parquet")
    world.now += 0.75 * DAY
    assert world.sweep(**keep) == ["uploads/unused.csv"]
    world.crash()
    assert world.sweep(**keep) == []
    world.now += 0.5 * DAY
    assert world.sweep(**keep) == ["outputs/o.parquet", "uploads/a.csv"]
    assert world.catalog.uses() == {}


def test_use_is_remembered_when_the_disk_fails(world, monkeypatch):
    """The sweep continues, because it makes room; uses before the error are still known."""
    world.put("old.csv")
    world.put()
    world.now += 2 * DAY
    world.store.find("a.csv")
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "record_use", failing(errno.ENOSPC))
        assert world.sweep(keep_uploads=DAY) == ["uploads/old.csv"]
    assert world.sweep(keep_uploads=DAY) == []
    assert world.uploads() == {"a.csv": DATA}


def test_listing_does_not_count_as_use(world):
    """Otherwise a client that lists now and then would keep everything forever."""
    world.put()
    world.now += 2 * DAY
    world.store.listing()
    assert world.sweep(keep_uploads=DAY) == ["uploads/a.csv"]


def test_old_file_copied_in_today_is_kept(world):
    """Its modification time is that of the original."""
    path = world.files.uploads / "old.csv"
    path.write_bytes(DATA)
    os.utime(path, (0, 0))
    assert world.sweep(keep_uploads=DAY) == []
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY) == ["uploads/old.csv"]


def test_folders_are_not_swept(world):
    """Their owner may remove them."""
    (world.files.uploads / "folder").mkdir()
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY) == []
    assert (world.files.uploads / "folder").is_dir()


def test_swept_link_leaves_its_target(world, tmp_path):
    """The sweep does not leave the folder."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (world.files.uploads / "link.csv").symlink_to(secret)
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY) == ["uploads/link.csv"]
    assert secret.read_text() == "secret"


def test_unfinished_upload_is_swept_after_a_while(world):
    """The time counts from the last resume."""
    old = world.leave("old.csv")
    world.leave("new.csv")
    world.now += 0.75 * DAY
    world.store.uploads.save(world.begin("new.csv"))
    world.now += 0.75 * DAY
    assert world.sweep(keep_parts=DAY) == [f"parts/{old.path.name}"]
    assert [row.name for row in world.catalog.parts()] == ["new.csv"]
    assert len(world.parts()) == 1
    assert world.begin("old.csv").size == 0
    assert world.begin("new.csv").size == 5


def test_open_part_is_never_swept(world):
    """However long no bytes arrive; after a crash it is swept."""
    announced = world.begin("announced.csv")
    unannounced = world.begin_unannounced("unannounced.csv")
    world.leave("resumed.csv")
    resumed = world.begin("resumed.csv")
    world.now += 100 * DAY
    assert world.sweep(keep_parts=DAY) == []
    for part, rest in ((announced, DATA), (unannounced, DATA), (resumed, DATA[5:])):
        world.store.uploads.write(part, rest)
        assert world.store.uploads.finish(part, None) == sha(DATA)
    assert len(world.uploads()) == 3
    world.begin("a.csv")
    world.begin_unannounced("b.csv")
    world.now += 100 * DAY
    world.crash()
    assert len(world.sweep(keep_parts=DAY)) == 2
    assert world.parts() == []


def test_saved_part_is_swept_in_its_time(world):
    """A part is protected only while it is open, whether it could be saved or not."""
    saved, failed = world.begin("saved.csv"), world.begin("failed.csv")
    world.store.uploads.save(saved)
    failed._close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        world.store.uploads.save(failed)
    world.now += 2 * DAY
    expected = sorted(f"parts/{part.path.name}" for part in (saved, failed))
    assert world.sweep(keep_parts=DAY) == expected


def test_rows_without_files_are_swept(world):
    """A file or part removed by hand leaves nothing in the catalog."""
    world.put("gone.csv")
    world.put("there.csv")
    part = world.leave()
    (world.files.uploads / "gone.csv").unlink()
    part.path.unlink()
    assert world.sweep() == [f"parts/{part.path.name}"]
    assert world.catalog.parts() == []
    assert set(world.catalog.uses()) == {"uploads/there.csv"}
    assert world.listed() == {"there.csv": sha(DATA)}


def test_parts_without_rows_are_swept(world):
    """Bytes without a row cannot be resumed; those with one stay."""
    known = world.leave()
    stray = world.files.parts / temporary_name("stray.csv", "1")
    stray.write_bytes(DATA)
    assert world.sweep() == [f"parts/{stray.name}"]
    assert world.parts() == [known.path]


@pytest.mark.parametrize("step", ["before the parts are read", "after the parts were read"])
def test_upload_resumed_during_sweep_is_kept(world, monkeypatch, step):
    """It was about to be removed when its client came back."""
    world.leave()
    world.now += 2 * DAY
    parts = world.catalog.parts
    resumed = []

    def meanwhile(caller):
        rows = parts(caller)
        resumed.append(world.begin())
        return rows if step == "after the parts were read" else parts(caller)

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "parts", meanwhile)
        assert world.sweep(keep_parts=DAY) == []
    world.store.uploads.write(resumed[0], DATA[5:])
    assert world.store.uploads.finish(resumed[0], None) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}


def test_upload_begun_during_sweep_is_kept(world, monkeypatch):
    """This holds for unannounced uploads too."""
    parts = world.catalog.parts
    begun = []

    def meanwhile(caller):
        rows = parts(caller)
        begun.extend([world.begin("a.csv"), world.begin_unannounced("b.csv")])
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "parts", meanwhile)
        assert world.sweep() == []
    for part in begun:
        world.store.uploads.write(part, DATA)
        assert world.store.uploads.finish(part, None) == sha(DATA)


def test_open_upload_saved_during_sweep_is_kept(world, monkeypatch):
    """It was being written when the sweep began, for longer than unfinished ones are kept."""
    part = world.begin()
    world.now += 2 * DAY
    parts = world.catalog.parts

    def meanwhile(caller):
        rows = parts(caller)
        world.store.uploads.save(part)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "parts", meanwhile)
        assert world.sweep(keep_parts=DAY) == []
    assert world.parts() == [part.path]
    assert world.begin().path == part.path


def test_upload_begun_and_saved_during_sweep_is_kept(world, monkeypatch):
    """It had not begun when the sweep read the parts."""
    parts = world.catalog.parts

    def meanwhile(caller):
        rows = parts(caller)
        world.leave()
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "parts", meanwhile)
        assert world.sweep() == []
    assert world.begin().size == 5


def test_file_deleted_during_sweep_is_no_error(world, monkeypatch):
    """Everything else is swept."""
    for name in ("a.csv", "b.csv"):
        world.put(name)
    lstat = Path.lstat
    world.now += 2 * DAY

    def meanwhile(path):
        if path.name == "a.csv":
            path.unlink()
        return lstat(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", meanwhile)
        removed = world.sweep(keep_uploads=DAY)
    assert removed == ["uploads/b.csv"]
    assert world.uploads() == {}
    world.sweep()
    assert world.catalog.digests() == {}


# --- concurrency --------------------------------------------------------------------------------------


def test_concurrent_uploads_of_many_files_all_succeed(world):
    """Each is written in pieces, saved and resumed; all end complete with their digests."""
    contents = {f"{number}.csv": bytes([number]) * (1000 + number) for number in range(8)}

    def upload(name):
        data = contents[name]
        for start in range(0, len(data), 100):
            part = world.begin(name, size=len(data), sha256=sha(data))
            assert part.size == start
            world.store.uploads.write(part, data[start : start + 50])
            world.store.listing()
            world.store.uploads.write(part, data[start + 50 : start + 100])
            if start + 100 < len(data):
                world.store.uploads.save(part)
            usage(world.store)
        assert world.store.uploads.finish(part, sha(data)) == sha(data)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, contents))
    assert world.uploads() == contents
    assert world.listed() == {name: sha(data) for name, data in contents.items()}
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert usage(world.store) == sum(map(len, contents.values()))


def test_concurrent_uploads_of_one_file_leave_one_complete(world):
    """The file is one of them, complete, with its own digest."""

    def upload(number):
        data = bytes([number]) * 1000
        part = world.begin_unannounced(least=1000)
        for start in range(0, 1000, 100):
            world.store.uploads.write(part, data[start : start + 100])
        return world.store.uploads.finish(part, None)

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(upload, range(8)))
    content = world.uploads()["a.csv"]
    assert sha(content) in digests
    assert world.listed()["a.csv"] in (sha(content), None)
    assert world.parts() == []


@pytest.mark.parametrize("on_disk", ["NFC", "NFD", "both"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_upload_replaces_a_file_in_every_spelling(world, on_disk, asked):
    """No twin appears; listing and answers have the composed name, and deleting leaves nothing."""
    forms = {form: unicodedata.normalize(form, "Übersicht.csv") for form in ("NFC", "NFD")}
    for form in forms if on_disk == "both" else [on_disk]:
        (world.files.uploads / forms[form]).write_bytes(DATA)
    before = sorted(world.files.uploads.iterdir())
    with pytest.raises(ProcessingError) as caught:
        world.store.uploads.begin(forms[asked], size=SIZE, sha256=None, overwrite=False, resume=False)
    assert caught.value.reason == "file_exists"
    part = world.store.uploads.begin(forms[asked], size=SIZE, sha256=sha(OTHER), overwrite=True, resume=False)
    world.store.uploads.write(part, OTHER)
    world.store.uploads.save(part)
    other = forms["NFD" if asked == "NFC" else "NFC"]
    part = world.store.uploads.begin(other, size=SIZE, sha256=sha(OTHER), overwrite=True, resume=True)
    assert (part.name, part.size) == (forms["NFC"], SIZE)
    world.store.uploads.finish(part, None)
    assert sorted(world.files.uploads.iterdir()) == before
    assert world.store.find(other).read_bytes() == OTHER
    [listed] = world.store.listing()
    assert listed.filename == forms["NFC"]
    world.store.delete(forms[asked])
    assert list(world.files.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((None, None), (None, None), False),
        ((None, "f"), (None, "f"), True),
        ((None, "f"), (None, "g"), False),
        ((sha(DATA), "f"), (None, "f"), True),
        ((sha(DATA), "f"), (sha(DATA), None), True),
        ((sha(DATA), "f"), (sha(DATA), "g"), False),
        ((sha(DATA), "f"), (sha(OTHER), "f"), False),
        ((sha(DATA), None), (None, "f"), False),
    ],
)
def test_upload_is_resumed_only_if_what_was_given_both_times_is_equal(world, first, second, same):
    """At least one of digest and fingerprint; a third upload must agree with both earlier ones."""

    def begin(sha256, fingerprint):
        fields = {
            "size": SIZE,
            "sha256": sha256,
            "fingerprint": fingerprint,
            "overwrite": True,
            "resume": True,
        }
        world.made.append(world.store.uploads.begin("a.csv", **fields))
        return world.made[-1]

    part = begin(*first)
    world.store.uploads.write(part, DATA[:5])
    world.store.uploads.save(part)
    world.crash()
    part = begin(*second)
    assert part.size == (5 if same else 0)
    world.store.uploads.save(part)
    if same:
        assert begin(sha(OTHER), "f").size == (5 if first[0] is None else 0)
