"""The store: uploads that can be gone on with, what is listed and counted, what is swept."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from creemson.errors import InvalidFormat, ProcessingError
from creemson.storage import files as files_module
from creemson.storage import store as store_module
from creemson.storage.catalog import Catalog, PartRow
from creemson.storage.files import Files, temporary_name
from creemson.storage.store import Store

DATA = b"a,b\n1,2\n"
OTHER = b"c,d\n3,4\n"
SIZE = 8
assert len(DATA) == len(OTHER) == SIZE
DAY = 86_400.0
KEEP_ALL = {"keep_uploads": 1000 * DAY, "keep_outputs": 1000 * DAY, "keep_parts": 1000 * DAY}


def sha(data):
    return hashlib.sha256(data).hexdigest()


class World:
    """A data folder on a machine, whose server may crash, and whose power may fail."""

    def __init__(self, root):
        self.now = float(int(time.time()))  # the disk's own times are real: sweeping happens days later
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
        """A new process; nothing of an old one is closed."""
        self.catalog = Catalog(self.files.root / "catalog.db")
        self.catalogs.append(self.catalog)
        assert self.catalog.open() is None
        self.store = Store(self.files, self.catalog, caller="ann", quota=self.quota, clock=lambda: self.now)

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
        part = self.store.begin(name, size=size, sha256=sha256, overwrite=overwrite, resume=resume)
        self.made.append(part)
        return part

    def begin_unannounced(self, name="a.csv", *, most=100):
        self.made.append(self.store.begin_unannounced(name, most=most))
        return self.made[-1]

    def put(self, name="a.csv", data=DATA, *, overwrite=False):
        part = self.begin(name, size=len(data), overwrite=overwrite, resume=False)
        self.store.write(part, data)
        return self.store.finish(part, None)

    def leave(self, name="a.csv", data=DATA[:5], *, size=SIZE, sha256=None):
        """An unfinished upload, saved."""
        part = self.begin(name, size=size, sha256=sha256, resume=False)
        self.store.write(part, data)
        self.store.save(part)
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
    monkeypatch.setattr(store_module, "BOOT_ID", tmp_path / "boot_id")
    world = World(tmp_path)
    yield world
    world.close()


@contextlib.contextmanager
def refused(reason):
    with pytest.raises(ProcessingError) as caught:
        yield
    assert caught.value.reason == reason


def failing(code):
    """What stands in for a call that fails."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


# --- uploads -------------------------------------------------------------------------------------------


def test_an_upload_appears_when_it_is_finished(world):
    """Until then there is no file of its name; afterwards neither a part nor a row of one."""
    part = world.begin(sha256=sha(DATA))
    world.store.write(part, DATA)
    with refused("file_not_found"):
        world.store.find("a.csv")
    assert world.store.listing() == ()
    assert world.store.finish(part, sha(DATA)) == sha(DATA)
    assert world.store.find("a.csv").read_bytes() == DATA
    assert world.parts() == []
    assert world.catalog.parts() == []


def test_what_was_announced_is_in_the_catalog(world):
    """From the first moment, with the digest in small letters."""
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


def test_a_discarded_upload_leaves_nothing(world):
    """Discarding is possible at any time, and twice."""
    part = world.begin()
    world.store.write(part, DATA)
    world.store.discard(part)
    world.store.discard(part)
    assert world.parts() == []
    assert world.uploads() == {}
    assert world.catalog.parts() == []
    assert world.begin().size == 0


def test_an_existing_name_needs_overwrite(world):
    """`file_exists` is told before the bytes are sent."""
    world.put()
    with refused("file_exists"):
        world.begin()
    world.put(data=b"new", overwrite=True)
    assert world.uploads() == {"a.csv": b"new"}


def test_a_refused_upload_leaves_an_unfinished_one_as_it_is(world):
    """It can be gone on with by who may overwrite."""
    world.leave()
    (world.files.uploads / "a.csv").write_bytes(b"by hand")
    with refused("file_exists"):
        world.begin(resume=False)
    assert world.begin(overwrite=True).size == 5


def test_a_name_taken_meanwhile_is_not_overwritten(world):
    """Of two uploads of one name at once, the first to finish keeps it."""
    part = world.begin()
    world.store.write(part, DATA)
    other = world.begin_unannounced()
    world.store.write(other, b"first")
    world.store.finish(other, None)
    with refused("file_exists"):
        world.store.finish(part, None)
    assert world.uploads() == {"a.csv": b"first"}
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.listed() == {"a.csv": sha(b"first")}


def test_a_wrong_digest_leaves_nothing(world):
    """`checksum_mismatch`; the next attempt begins afresh."""
    part = world.begin(sha256="0" * 64)
    world.store.write(part, DATA)
    with refused("checksum_mismatch"):
        world.store.finish(part, "0" * 64)
    assert world.parts() == []
    assert world.uploads() == {}
    assert world.catalog.parts() == []
    assert world.begin(sha256="0" * 64).size == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(world, monkeypatch, code):
    """`storage_full`, and not a traceback; what was there before is saved, and can be gone on with."""
    part = world.begin()
    world.store.write(part, DATA[:5])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(code))
        with refused("storage_full"):
            world.store.write(part, DATA[5:])
    world.store.save(part)
    part = world.begin()
    assert part.size == 5
    world.store.write(part, DATA[5:])
    assert world.store.finish(part, None) == sha(DATA)


@pytest.mark.parametrize("call", ["record_part", "update_part"])
def test_a_full_disk_is_told_by_the_catalog_too(world, monkeypatch, call):
    """`storage_full`, whoever found it full; an upload that could not begin leaves nothing."""
    monkeypatch.setattr(store_module, "SYNC_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, call, failing(errno.ENOSPC))
        with refused("storage_full"):
            world.store.write(world.begin(), DATA)
    if call == "record_part":
        assert world.parts() == []
    assert world.sweep() == []


def test_another_fault_of_the_disk_is_not_hidden(world, monkeypatch):
    """What is no lack of room stays what it is; nothing is left that the sweep would spare."""
    monkeypatch.setattr(world.catalog, "record_part", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        world.begin()
    assert world.parts() == []
    world.files.parts.rename(world.files.root / "gone")
    with pytest.raises(FileNotFoundError):
        world.begin_unannounced()


def test_only_what_was_uploaded_is_taken_back(world):
    """Somebody else's file of that name stays, and so does an upload of it that is under way."""
    store = world.store
    for content, stays in ((b"mine", False), (b"other", True)):
        part = store.begin("a.csv", size=len(content), sha256=None, overwrite=True, resume=False)
        store.write(part, content)
        store.finish(part, None)
        open_part = store.begin("a.csv", size=9, sha256=None, overwrite=True, resume=False)
        store.take_back("a.csv", hashlib.sha256(b"mine").hexdigest())
        assert (store.files.uploads / "a.csv").exists() == stays
        assert open_part.path.exists()
        store.discard(open_part)
    store.take_back("nothing.csv", "0" * 64)


def test_links_and_folders_are_not_written_to(world, tmp_path):
    """A link in the uploads could lead anywhere: it is neither read nor replaced."""
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


# --- uploads that nobody announced ---------------------------------------------------------------------


def test_an_unannounced_upload_replaces(world):
    """It has no row, appears when it is finished, and its digest is known."""
    world.put()
    part = world.begin_unannounced()
    assert world.store.write(part, OTHER) == 0
    assert world.catalog.parts() == []
    assert world.uploads() == {"a.csv": DATA}
    assert world.store.finish(part, None) == sha(OTHER)
    assert world.uploads() == {"a.csv": OTHER}
    assert world.listed() == {"a.csv": sha(OTHER)}
    assert world.parts() == []


def test_an_unannounced_upload_cannot_be_saved(world):
    """There is no telling whether another is of the same file."""
    part = world.begin_unannounced()
    world.store.write(part, DATA)
    world.store.save(part)
    assert world.parts() == []
    assert world.begin().size == 0


def test_an_unannounced_upload_leaves_an_unfinished_one(world):
    """They are two uploads, which happen to have one name."""
    world.leave()
    part = world.begin_unannounced()
    world.store.write(part, OTHER)
    world.store.finish(part, None)
    assert world.begin(overwrite=True).size == 5


def test_an_unannounced_upload_is_not_synced_as_it_goes(world, monkeypatch):
    """It would be of no use after a loss of power."""
    monkeypatch.setattr(store_module, "SYNC_BYTES", 1)
    part = world.begin_unannounced()
    world.now += 10
    assert world.store.write(part, DATA) == 0
    assert part.durable == 0


# --- going on ------------------------------------------------------------------------------------------


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
def test_the_same_upload_is_gone_on_with(world, first, second, same, crash):
    """The same are those of one name, size and digest; of any other, nothing stale is left."""
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
    world.store.write(part, rest)
    assert world.store.finish(part, None) == sha((DATA[:5] if same else b"") + rest)
    assert world.parts() == []


def test_another_name_is_another_upload(world):
    """Each goes on with its own."""
    world.leave("a.csv", DATA[:5])
    world.leave("b.csv", OTHER[:3])
    assert world.begin("b.csv").size == 3
    assert world.begin("c.csv").size == 0
    assert world.begin("a.csv").size == 5


def test_another_caller_is_another_upload(world):
    """What somebody else has begun is neither gone on with nor removed."""
    world.leave()
    bob = Store(world.files, world.catalog, caller="bob", quota=0, clock=lambda: world.now)
    part = bob.begin("a.csv", size=8, sha256=None, overwrite=False, resume=True)
    assert part.size == 0
    bob.discard(part)
    assert world.begin().size == 5


def test_who_does_not_resume_begins_afresh(world):
    """What there was is removed."""
    old = world.leave(sha256=sha(DATA))
    part = world.begin(sha256=sha(DATA), resume=False)
    assert part.size == 0
    assert part.path != old.path
    assert world.parts() == [part.path]
    world.store.write(part, DATA)
    assert world.store.finish(part, sha(DATA)) == sha(DATA)
    assert world.parts() == []


def test_a_part_whose_bytes_are_gone_is_begun_afresh(world):
    """Somebody has tidied up by hand."""
    world.leave().path.unlink()
    part = world.begin()
    assert part.size == 0
    world.store.write(part, DATA)
    assert world.store.finish(part, None) == sha(DATA)
    assert world.parts() == []
    assert world.catalog.parts() == []


def test_a_part_may_be_gone_on_with_often(world):
    """A byte at a time, saved or crashed in between."""
    for number, byte in enumerate(DATA):
        part = world.begin(sha256=sha(DATA))
        assert part.size == number
        world.store.write(part, bytes([byte]))
        if number % 2:
            world.crash()
        else:
            world.store.save(part)
    part = world.begin(sha256=sha(DATA))
    assert part.size == len(DATA)
    assert world.store.finish(part, sha(DATA)) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}
    assert world.parts() == []


def test_the_digest_of_a_saved_part_is_remembered(world, monkeypatch):
    """In the same process it need not be read back."""
    world.leave()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        part = world.begin()
    world.store.write(part, DATA[5:])
    assert world.store.finish(part, None) == sha(DATA)


def test_a_part_that_was_changed_by_hand_has_the_digest_of_its_bytes(world):
    """The remembered digest would be that of other bytes."""
    world.leave().path.write_bytes(b"xyz")
    part = world.begin()
    assert part.size == 3
    world.store.write(part, DATA[3:])
    assert world.store.finish(part, None) == sha(b"xyz" + DATA[3:])


def test_surplus_bytes_are_cut_off(world):
    """Of a part that has more than was announced, those that were announced are gone on with."""
    world.leave(data=DATA + b"surplus")
    part = world.begin()
    assert part.size == len(DATA)
    assert world.store.finish(part, None) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}


def test_a_part_that_cannot_be_read_stays(world, monkeypatch):
    """A fault of the disk is told; the next attempt may succeed, and the sweep does not spare it for ever."""
    old = world.leave()
    world.crash()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            world.begin()
    assert world.parts() == [old.path]
    world.now += 2 * DAY
    assert world.sweep(keep_parts=DAY) == [f"parts/{old.path.name}"]


# --- what survives -------------------------------------------------------------------------------------


def test_a_crash_of_the_server_loses_no_byte(world):
    """What a process has written is in the kernel's hands, which lives on."""
    part = world.begin(sha256=sha(DATA))
    assert world.store.write(part, DATA[:5]) == 0
    world.crash()
    part = world.begin(sha256=sha(DATA))
    assert (part.size, part.durable) == (5, 5)
    world.store.write(part, DATA[5:])
    assert world.store.finish(part, sha(DATA)) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}


@pytest.mark.parametrize(("there", "expected"), [(8, 6), (6, 6), (2, 2), (0, 0)])
def test_a_loss_of_power_leaves_what_was_durable(world, monkeypatch, there, expected):
    """Whatever is in the file beyond it may be anything; a file that has less has lied, and is believed."""
    monkeypatch.setattr(store_module, "SYNC_BYTES", 4)
    part = world.begin(size=20)
    assert [world.store.write(part, piece) for piece in (b"123", b"456", b"78")] == [0, 6, 6]
    part.path.write_bytes(b"123456??"[:there])
    world.crash(power=True)
    part = world.begin(size=20)
    assert (part.size, part.durable) == (expected, expected)
    assert part.path.stat().st_size == expected
    world.store.write(part, b"end")
    assert world.store.finish(part, None) == sha(b"123456"[:expected] + b"end")
    assert world.uploads() == {"a.csv": b"123456"[:expected] + b"end"}


def test_a_loss_of_power_before_the_first_sync_leaves_nothing(world):
    """The upload begins at 0, in the same part."""
    world.store.write(world.begin(), DATA[:5])
    world.crash(power=True)
    assert world.begin().size == 0
    assert len(world.parts()) == 1


def test_a_loss_of_power_leaves_what_was_saved(world):
    """To save is to sync."""
    world.leave()
    assert world.catalog.parts()[0].durable == 5
    world.crash(power=True)
    assert world.begin().size == 5


def test_after_a_loss_of_power_a_crash_loses_no_byte(world):
    """What is written after it is of the new boot."""
    world.leave()
    world.crash(power=True)
    world.store.write(world.begin(), DATA[5:])
    world.crash()
    assert world.begin().size == len(DATA)


def test_a_crash_after_a_loss_of_power_makes_nothing_certain(world):
    """As long as nobody has gone on with it, the bytes are of the old boot."""
    world.store.write(world.begin(), DATA[:5])
    world.crash(power=True)
    world.crash()
    assert world.begin().size == 0


def test_where_the_boot_is_not_known_only_the_durable_bytes_count(world, monkeypatch, tmp_path):
    """A system without `boot_id` is taken to have lost power."""
    monkeypatch.setattr(store_module, "BOOT_ID", tmp_path / "missing")
    world.start()
    world.store.write(world.begin("a.csv"), DATA[:5])
    world.leave("b.csv")
    world.crash()
    assert world.begin("a.csv").size == 0
    assert world.begin("b.csv").size == 5


def test_an_upload_is_synced_after_so_many_bytes(world, monkeypatch):
    """`write` tells how many survive; the catalog knows, and not before they do."""
    monkeypatch.setattr(store_module, "SYNC_BYTES", 10)
    part = world.begin(size=100)
    synced = []
    fdatasync = os.fdatasync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda file: (synced.append(os.fstat(file).st_size), fdatasync(file)))
        told = [world.store.write(part, bytes(4)) for _ in range(7)]
    assert told == [0, 0, 12, 12, 12, 24, 24]
    assert synced == [12, 24]
    assert world.catalog.part("ann", "a.csv").durable == 24
    assert part.size == 28


def test_an_upload_is_synced_after_so_many_seconds(world):
    """Also a slow one's client hears of it; the time counts from the last sync."""
    part = world.begin(size=100)
    told = []
    for seconds in (0.0, 0.25, 0.25, 0.25, 0.25, 0.25, 60.0, 0.0):
        world.now += seconds
        told.append(world.store.write(part, b"1234"))
    assert told == [0, 0, 12, 12, 20, 20, 28, 28]
    row = world.catalog.part("ann", "a.csv")
    assert (row.durable, row.touched) == (28, world.now)


def test_a_part_is_on_the_disk_before_the_catalog_says_so(world, monkeypatch):
    """The other order would promise bytes that a loss of power takes."""
    part = world.begin()
    fdatasync = os.fdatasync

    def look(file):
        assert world.catalog.part("ann", "a.csv").durable == 0
        fdatasync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", look)
        world.store.write(part, DATA)
        world.store.save(part)
    assert world.catalog.part("ann", "a.csv").durable == len(DATA)


@pytest.mark.parametrize("power", [False, True])
def test_a_file_that_has_appeared_is_never_cut(world, power):
    """A crash came between its appearing and the part's removal: the part is the very file."""
    part = world.begin(sha256=sha(DATA))
    world.store.write(part, DATA)
    os.link(part.path, part.target)
    world.crash(power=power)
    part = world.begin(sha256=sha(DATA), overwrite=True)
    assert world.uploads() == {"a.csv": DATA}, "whole, until the new one takes its place"
    world.store.write(part, DATA[part.size :])
    assert world.uploads() == {"a.csv": DATA}
    assert world.store.finish(part, sha(DATA)) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}
    assert world.parts() == []


@pytest.mark.parametrize("appear", [os.link, os.replace])
@pytest.mark.parametrize("power", [False, True])
def test_a_crash_while_a_file_appears_leaves_the_file_only(world, appear, power):
    """The sweep at the server's start removes the part and the row; the digest is not known yet."""
    part = world.begin()
    world.store.write(part, DATA)
    appear(part.path, part.target)
    world.crash(power=power)
    assert world.sweep() == [f"parts/{part.path.name}"]
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.uploads() == {"a.csv": DATA}
    assert world.listed() == {"a.csv": None}
    assert world.sweep() == []


def test_the_loss_of_the_catalog_is_bearable(world):
    """Files are still there, without digests; unfinished uploads begin afresh, and their bytes are swept."""
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


# --- room ----------------------------------------------------------------------------------------------


def test_what_is_stored_is_counted(world):
    """Files, outputs, and unfinished uploads in the size that they will have; not those of others."""
    assert world.store.usage() == 0
    world.put("a.csv", bytes(10))
    (world.files.uploads / "by hand.csv").write_bytes(bytes(200))
    world.output("o.parquet", bytes(3000))
    world.output(temporary_name("p.parquet", "1"), bytes(7))
    world.leave("b.csv", bytes(1), size=40_000)
    world.store.write(world.begin_unannounced("c.csv"), bytes(50))
    assert world.store.usage() == 43_210
    world.catalog.record_part(
        attrs.evolve(world.catalog.parts()[0], path="parts/x", caller="bob", size=500_000)
    )
    assert world.store.usage() == 43_210
    world.store.delete("b.csv")
    assert world.store.usage() == 3_210


def test_the_quota_is_told_before_the_bytes_are_sent(world):
    """What just fits is welcome; what does not is `storage_full`, with the figures."""
    world.quota = 1_100
    world.start()
    world.put("a.csv", bytes(1_000))
    world.begin("b.csv", size=100)
    with pytest.raises(
        ProcessingError, match="store 1,100 bytes here, 1,100 are stored, and 1 more"
    ) as caught:
        world.begin("c.csv", size=1)
    assert caught.value.reason == "storage_full"
    with refused("storage_full"):
        world.begin_unannounced("c.csv", most=1)
    with refused("storage_full"):
        world.store.check_quota()
    world.begin("c.csv", size=0)
    world.store.delete("a.csv")
    world.store.check_quota(1_000)
    with refused("storage_full"):
        world.store.check_quota(1_001)


def test_the_bytes_of_an_overwritten_file_count_for_nothing(world):
    """They make room for the new one."""
    world.quota = 100
    world.start()
    world.put("a.csv", bytes(60))
    world.put("b.csv", bytes(20))
    with refused("storage_full"):
        world.begin("a.csv", size=81, overwrite=True)
    with refused("storage_full"):
        world.begin_unannounced("a.csv", most=81)
    world.store.discard(world.begin_unannounced("a.csv", most=80))
    world.put("a.csv", bytes(80), overwrite=True)
    assert world.store.usage() == 100


def test_an_unfinished_upload_counts_in_full(world):
    """Its room is kept: it is gone on with though there is no more, and one that replaces it has its room."""
    world.quota = 100
    world.start()
    world.leave(size=90, data=b"x")
    with refused("storage_full"):
        world.begin("b.csv", size=11)
    part = world.begin(size=90)
    assert part.size == 1
    world.store.save(part)
    part = world.begin(size=100)
    assert part.size == 0
    with refused("storage_full"):
        world.begin("b.csv", size=1)


def test_without_a_quota_there_is_no_bound(world):
    """0 is none."""
    world.put("a.csv", bytes(1000))
    world.store.check_quota(10**18)


def test_a_disk_that_is_too_small_is_told_before_the_bytes_are_sent(world, monkeypatch):
    """`storage_full`, with the figures; what just fits is welcome."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 8_766, 1_234))
    with pytest.raises(ProcessingError, match=r"'a\.csv' has 1,235 bytes.*room for 1,234") as caught:
        world.begin(size=1_235)
    assert caught.value.reason == "storage_full"
    with refused("storage_full"):
        world.begin_unannounced(most=1_235)
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.begin(size=1_234).size == 0


# --- files ---------------------------------------------------------------------------------------------


def test_files_are_listed_by_name(world):
    """With size, time and digest; links, folders, outputs and what is under way are no files."""
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


def test_a_file_put_there_by_hand_is_listed_without_a_digest(world):
    """Nobody has read it yet; once it is recorded, it is listed."""
    path = world.files.uploads / "a.csv"
    path.write_bytes(DATA)
    assert world.listed() == {"a.csv": None}
    version = world.files.version(path)
    assert world.store.digest(path, version) is None
    world.store.record_digest(path, version, sha(DATA))
    assert world.listed() == {"a.csv": sha(DATA)}
    assert world.store.digest(path, version) == sha(DATA)


def test_a_digest_is_listed_for_its_version_only(world):
    """A file that was changed by hand is another, though it has name and size of the old one."""
    world.put()
    path = world.store.find("a.csv")
    before = world.files.version(path)
    assert world.store.digest(path, before) == sha(DATA)
    path.write_bytes(OTHER)
    os.utime(path, ns=(1, 1))
    assert world.listed() == {"a.csv": None}
    assert world.store.digest(path, world.files.version(path)) is None
    world.put(data=OTHER, overwrite=True)
    assert world.listed() == {"a.csv": sha(OTHER)}
    assert world.store.digest(path, before) is None


def test_a_digest_is_recorded_for_the_file_that_has_it(world, monkeypatch):
    """Another upload may take the file's place just after it appeared, before its digest is recorded."""
    forget = world.catalog.forget_part

    def overtake(path):
        monkeypatch.setattr(world.catalog, "forget_part", forget)
        forget(path)
        part = world.begin_unannounced()
        world.store.write(part, OTHER)
        world.store.finish(part, None)

    monkeypatch.setattr(world.catalog, "forget_part", overtake)
    assert world.put() == sha(DATA)
    assert world.uploads() == {"a.csv": OTHER}
    assert world.listed()["a.csv"] in (sha(OTHER), None)


def test_digests_survive_a_restart(world):
    """They are in the catalog."""
    world.put()
    world.crash(power=True)
    assert world.listed() == {"a.csv": sha(DATA)}


def test_an_upload_is_found_before_an_output(world):
    """And an output where there is no upload."""
    output = world.output("a.csv", OTHER)
    assert world.store.find("a.csv") == output
    world.put()
    assert world.store.find("a.csv").read_bytes() == DATA


def test_a_file_is_deleted(world):
    """With what the catalog knows of it; an output of the name stays."""
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


def test_an_output_is_deleted(world):
    """Where no upload has its name."""
    output = world.output("o.parquet")
    world.store.delete("o.parquet")
    assert not output.exists()


def test_an_unfinished_upload_is_deleted(world):
    """It cannot be gone on with any more; other uploads can."""
    world.leave("b.csv")
    world.leave()
    world.store.delete("a.csv")
    assert [row.name for row in world.catalog.parts()] == ["b.csv"]
    assert len(world.parts()) == 1
    assert world.begin().size == 0
    assert world.begin("b.csv").size == 5


def test_a_file_goes_with_the_unfinished_upload_of_its_name(world):
    """After a delete there is nothing of that name."""
    world.put()
    part = world.begin(overwrite=True)
    world.store.write(part, OTHER[:5])
    world.store.save(part)
    world.store.delete("a.csv")
    assert world.uploads() == {}
    assert world.parts() == []
    assert world.store.usage() == 0


def test_what_is_not_there_cannot_be_deleted(world):
    """`file_not_found`, with the nearest name."""
    world.put("flights.csv")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights\.csv'") as caught:
        world.store.delete("flihgts.csv")
    assert caught.value.reason == "file_not_found"
    assert world.store.drop_part("flights.csv") is False
    assert world.uploads() == {"flights.csv": DATA}


def test_what_is_deleted_while_it_is_listed_is_not_listed(world, monkeypatch):
    """And is no fault."""
    world.put("a.csv")
    world.put("b.csv")

    def meanwhile(name):
        (world.files.uploads / "a.csv").unlink(missing_ok=True)
        return False

    monkeypatch.setattr(store_module, "is_temporary", meanwhile)
    assert list(world.listed()) == ["b.csv"]


def test_what_is_deleted_while_it_is_counted_is_not_counted(world, monkeypatch):
    """And is no fault: many delete, upload and count at once."""
    world.put("a.csv")
    world.put("b.csv")

    def meanwhile(name):
        (world.files.uploads / "a.csv").unlink(missing_ok=True)
        return False

    monkeypatch.setattr(files_module, "is_temporary", meanwhile)
    assert world.store.usage() == len(DATA)


# --- keeping order -------------------------------------------------------------------------------------


def test_what_nobody_has_used_for_long_is_swept(world):
    """Uploads and outputs, each after its own time; what is kept stays as it is."""
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


def test_to_find_a_file_is_to_use_it(world):
    """Its time begins anew, for uploads as for outputs; also if the server is restarted meanwhile."""
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


def test_a_use_is_not_forgotten_when_the_disk_fails(world, monkeypatch):
    """The sweep goes on, since it makes room; what was used before the fault is still known to be used."""
    world.put("old.csv")
    world.put()
    world.now += 2 * DAY
    world.store.find("a.csv")
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "record_use", failing(errno.ENOSPC))
        assert world.sweep(keep_uploads=DAY) == ["uploads/old.csv"]
    assert world.sweep(keep_uploads=DAY) == []
    assert world.uploads() == {"a.csv": DATA}


def test_a_listing_is_no_use(world):
    """Otherwise a client that looks now and then would keep everything for ever."""
    world.put()
    world.now += 2 * DAY
    world.store.listing()
    assert world.sweep(keep_uploads=DAY) == ["uploads/a.csv"]


def test_an_old_file_that_was_copied_in_today_is_kept(world):
    """Its time of modification is that of the original."""
    path = world.files.uploads / "old.csv"
    path.write_bytes(DATA)
    os.utime(path, (0, 0))
    assert world.sweep(keep_uploads=DAY) == []
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY) == ["uploads/old.csv"]


def test_folders_are_not_swept(world):
    """Whoever has put them there may remove them."""
    (world.files.uploads / "folder").mkdir()
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY) == []
    assert (world.files.uploads / "folder").is_dir()


def test_a_swept_link_leaves_what_it_points_to(world, tmp_path):
    """The sweep does not leave the folder."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (world.files.uploads / "link.csv").symlink_to(secret)
    world.now += 2 * DAY
    assert world.sweep(keep_uploads=DAY) == ["uploads/link.csv"]
    assert secret.read_text() == "secret"


def test_an_unfinished_upload_is_given_up_after_a_while(world):
    """Counted from when it was last gone on with."""
    old = world.leave("old.csv")
    world.leave("new.csv")
    world.now += 0.75 * DAY
    world.store.save(world.begin("new.csv"))
    world.now += 0.75 * DAY
    assert world.sweep(keep_parts=DAY) == [f"parts/{old.path.name}"]
    assert [row.name for row in world.catalog.parts()] == ["new.csv"]
    assert len(world.parts()) == 1
    assert world.begin("old.csv").size == 0
    assert world.begin("new.csv").size == 5


def test_what_is_being_written_is_never_swept(world):
    """However long nothing has come; with what a crash has left it is otherwise."""
    announced = world.begin("announced.csv")
    unannounced = world.begin_unannounced("unannounced.csv")
    world.leave("resumed.csv")
    resumed = world.begin("resumed.csv")
    world.now += 100 * DAY
    assert world.sweep(keep_parts=DAY) == []
    for part, rest in ((announced, DATA), (unannounced, DATA), (resumed, DATA[5:])):
        world.store.write(part, rest)
        assert world.store.finish(part, None) == sha(DATA)
    assert len(world.uploads()) == 3
    world.begin("a.csv")
    world.begin_unannounced("b.csv")
    world.now += 100 * DAY
    world.crash()
    assert len(world.sweep(keep_parts=DAY)) == 2
    assert world.parts() == []


def test_what_is_saved_is_swept_in_its_time(world):
    """A part is protected while it is open, and no longer, whether it could be saved or not."""
    saved, failed = world.begin("saved.csv"), world.begin("failed.csv")
    world.store.save(saved)
    failed._close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        world.store.save(failed)
    world.now += 2 * DAY
    expected = sorted(f"parts/{part.path.name}" for part in (saved, failed))
    assert world.sweep(keep_parts=DAY) == expected


def test_rows_without_files_are_swept(world):
    """A file and a part that somebody has removed by hand leave nothing in the catalog."""
    world.put("gone.csv")
    world.put("there.csv")
    part = world.leave()
    (world.files.uploads / "gone.csv").unlink()
    part.path.unlink()
    assert world.sweep() == [f"parts/{part.path.name}"]
    assert world.catalog.parts() == []
    assert set(world.catalog.uses()) == {"uploads/there.csv"}
    assert world.listed() == {"there.csv": sha(DATA)}


def test_stray_parts_are_swept(world):
    """Nobody can go on with bytes of which there is no row; those with one stay."""
    known = world.leave()
    stray = world.files.parts / temporary_name("stray.csv", "1")
    stray.write_bytes(DATA)
    assert world.sweep() == [f"parts/{stray.name}"]
    assert world.parts() == [known.path]


@pytest.mark.parametrize("step", ["before the parts are read", "after the parts were read"])
def test_an_upload_gone_on_with_while_the_sweep_runs_is_kept(world, monkeypatch, step):
    """It was about to be given up when its client came back."""
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
    world.store.write(resumed[0], DATA[5:])
    assert world.store.finish(resumed[0], None) == sha(DATA)
    assert world.uploads() == {"a.csv": DATA}


def test_an_upload_begun_while_the_sweep_runs_is_kept(world, monkeypatch):
    """Also one that no catalog knows."""
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
        world.store.write(part, DATA)
        assert world.store.finish(part, None) == sha(DATA)


def test_an_upload_let_go_of_while_the_sweep_runs_is_kept(world, monkeypatch):
    """It was being written when the sweep began, for longer than unfinished ones are kept."""
    part = world.begin()
    world.now += 2 * DAY
    parts = world.catalog.parts

    def meanwhile(caller):
        rows = parts(caller)
        world.store.save(part)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "parts", meanwhile)
        assert world.sweep(keep_parts=DAY) == []
    assert world.parts() == [part.path]
    assert world.begin().path == part.path


def test_an_upload_saved_while_the_sweep_runs_is_kept(world, monkeypatch):
    """It was not yet begun when the sweep asked the catalog for parts."""
    parts = world.catalog.parts

    def meanwhile(caller):
        rows = parts(caller)
        world.leave()
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "parts", meanwhile)
        assert world.sweep() == []
    assert world.begin().size == 5


def test_a_file_deleted_while_the_sweep_runs_is_no_fault(world, monkeypatch):
    """What is to be swept besides it is swept."""
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


# --- many at once --------------------------------------------------------------------------------------


def test_several_threads_upload_at_once(world):
    """Each has its own, in pieces, saved and gone on with; all are there in the end, with their digests."""
    contents = {f"{number}.csv": bytes([number]) * (1000 + number) for number in range(8)}

    def upload(name):
        data = contents[name]
        for start in range(0, len(data), 100):
            part = world.begin(name, size=len(data), sha256=sha(data))
            assert part.size == start
            world.store.write(part, data[start : start + 50])
            world.store.listing()
            world.store.write(part, data[start + 50 : start + 100])
            if start + 100 < len(data):
                world.store.save(part)
            world.store.usage()
        assert world.store.finish(part, sha(data)) == sha(data)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, contents))
    assert world.uploads() == contents
    assert world.listed() == {name: sha(data) for name, data in contents.items()}
    assert world.parts() == []
    assert world.catalog.parts() == []
    assert world.store.usage() == sum(map(len, contents.values()))


def test_several_threads_replace_one_file_at_once(world):
    """The file is one of them, whole, and its digest is its own."""

    def upload(number):
        data = bytes([number]) * 1000
        part = world.begin_unannounced(most=1000)
        for start in range(0, 1000, 100):
            world.store.write(part, data[start : start + 100])
        return world.store.finish(part, None)

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(upload, range(8)))
    content = world.uploads()["a.csv"]
    assert sha(content) in digests
    assert world.listed()["a.csv"] in (sha(content), None)
    assert world.parts() == []
