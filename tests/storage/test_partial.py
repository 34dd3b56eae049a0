"""Uploads under way: files appear whole or not at all, and what there is can be gone on with."""

import errno
import hashlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.storage import parts
from creemson.storage.files import temporary_name
from creemson.storage.parts import Part

DATA = b"a,b\n1,2\n"
DIGEST = hashlib.sha256(DATA).hexdigest()


class Folder:
    """A folder of parts and one of files."""

    def __init__(self, root):
        self.parts = root / "parts"
        self.uploads = root / "uploads"
        self.parts.mkdir()
        self.uploads.mkdir()
        self.count = 0
        self.made = []

    def create(self, name="a.csv", *, overwrite=False):
        self.count += 1
        path = self.parts / temporary_name(name, str(self.count))
        self.made.append(Part.create(path, self.uploads / name, overwrite=overwrite))
        return self.made[-1]

    def resume(self, part, size, *, overwrite=False, digest=None):
        self.made.append(Part.resume(part.path, part.target, overwrite=overwrite, size=size, digest=digest))
        return self.made[-1]

    def contents(self):
        return {path.name: path.read_bytes() for path in self.uploads.iterdir()}

    def unfinished(self):
        return [path.read_bytes() for path in self.parts.iterdir()]


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    for part in folder.made:
        part.discard()


def failing(code):
    """What stands in for a system call."""

    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


# --- appearing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_upload_appears_when_it_is_finished(folder, overwrite):
    """Until then there is no file of its name, and afterwards no part."""
    part = folder.create(overwrite=overwrite)
    part.write(DATA[:3])
    part.write(DATA[3:])
    assert folder.contents() == {}
    assert part.size == len(DATA)
    assert part.finish() == DIGEST
    assert folder.contents() == {"a.csv": DATA}
    assert folder.unfinished() == []


def test_an_empty_upload_is_a_file(folder):
    """No bytes are bytes too."""
    assert folder.create().finish() == hashlib.sha256().hexdigest()
    assert folder.contents() == {"a.csv": b""}


def test_a_discarded_upload_leaves_nothing(folder):
    """Discarding is possible at any time, and twice."""
    part = folder.create()
    part.write(DATA)
    part.discard()
    part.discard()
    assert folder.unfinished() == []
    assert folder.contents() == {}


def test_a_discard_after_the_end_does_nothing(folder):
    """The file that has appeared stays."""
    part = folder.create()
    part.write(DATA)
    part.finish()
    part.discard()
    assert folder.contents() == {"a.csv": DATA}


def test_a_name_taken_meanwhile_is_not_overwritten(folder):
    """Of two uploads of one name at once, the first to finish keeps it."""
    first, second = folder.create(), folder.create()
    first.write(b"first")
    second.write(b"second")
    first.finish()
    with pytest.raises(ProcessingError) as caught:
        second.finish()
    assert caught.value.reason == "file_exists"
    assert folder.contents() == {"a.csv": b"first"}
    assert folder.unfinished() == []


def test_a_file_is_replaced_by_one_that_may(folder):
    """Until the very moment the old one is there whole, also for who reads it while it is replaced."""
    (folder.uploads / "a.csv").write_bytes(b"old")
    part = folder.create(overwrite=True)
    part.write(DATA)
    assert folder.contents() == {"a.csv": b"old"}
    with (folder.uploads / "a.csv").open("rb") as reader:
        part.finish()
        assert reader.read() == b"old"
    assert folder.contents() == {"a.csv": DATA}
    assert folder.unfinished() == []


def test_a_wrong_digest_leaves_nothing(folder):
    """`checksum_mismatch` names both digests; capital letters are no difference."""
    part = folder.create()
    part.write(DATA)
    with pytest.raises(ProcessingError, match=f"{DIGEST}.*{'0' * 64}") as caught:
        part.finish("0" * 64)
    assert caught.value.reason == "checksum_mismatch"
    assert folder.unfinished() == []
    assert folder.contents() == {}
    part = folder.create()
    part.write(DATA)
    assert part.finish(DIGEST.upper()) == DIGEST


def test_a_wrong_digest_replaces_nothing(folder):
    """The file that was to be replaced is as it was."""
    (folder.uploads / "a.csv").write_bytes(b"old")
    part = folder.create(overwrite=True)
    part.write(DATA)
    with pytest.raises(ProcessingError):
        part.finish("0" * 64)
    assert folder.contents() == {"a.csv": b"old"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_are_not_followed(folder, tmp_path, overwrite):
    """A link that has come into the place of the file meanwhile leads nowhere: what it points to stays."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    part = folder.create(overwrite=overwrite)
    part.write(DATA)
    part.target.symlink_to(secret)
    if overwrite:
        part.finish()
        assert not part.target.is_symlink()
        assert part.target.read_bytes() == DATA
    else:
        with pytest.raises(ProcessingError) as caught:
            part.finish()
        assert caught.value.reason == "file_exists"
        assert part.target.is_symlink()
    assert secret.read_text() == "secret"


def test_a_part_that_is_there_is_not_opened_anew(folder):
    """A name that was meant to be new and is not would mix two uploads."""
    part = folder.create()
    with pytest.raises(FileExistsError):
        Part.create(part.path, part.target, overwrite=False)


# --- the disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fdatasync", "link", "fsync", "open"])
def test_a_full_disk_is_told(folder, monkeypatch, call, code):
    """`storage_full`, and not a traceback, whatever the system call that says so."""
    part = None if call == "open" else folder.create()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        with pytest.raises(ProcessingError) as caught:
            if call == "open":
                folder.create()
            else:
                part.write(DATA)
                part.finish()
    assert caught.value.reason == "storage_full"
    assert "'a.csv'" in caught.value.message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_when_a_file_is_replaced(folder, monkeypatch, code):
    """A folder may have no room for a name either; the old file stays, and no part."""
    (folder.uploads / "a.csv").write_bytes(b"old")
    part = folder.create(overwrite=True)
    part.write(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(code))
        with pytest.raises(ProcessingError) as caught:
            part.finish()
    assert caught.value.reason == "storage_full"
    assert folder.contents() == {"a.csv": b"old"}
    assert folder.unfinished() == []


@pytest.mark.parametrize("call", ["write", "fdatasync", "link"])
def test_another_fault_of_the_disk_is_not_hidden(folder, monkeypatch, call):
    """What is no lack of room stays what it is."""
    part = folder.create()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error") as caught:
            part.write(DATA)
            part.finish()
    assert caught.value.errno == errno.EIO


def test_a_closed_part_and_a_lost_folder_are_no_lack_of_room(folder):
    """A fault of the program is not told as one of the disk."""
    part = folder.create()
    part.discard()
    with pytest.raises(OSError, match="Bad file descriptor"):
        part.write(DATA)
    folder.parts.rename(folder.parts.with_name("gone"))
    with pytest.raises(FileNotFoundError):
        folder.create()


def test_a_short_write_is_completed(folder, monkeypatch):
    """One system call may take a part of the bytes only."""
    write = os.write
    taken = []

    def slow(file, data):
        taken.append(write(file, data[:3]))
        return taken[-1]

    part = folder.create()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", slow)
        part.write(DATA)
    assert taken == [3, 3, 2]
    assert part.size == len(DATA)
    assert part.finish(DIGEST) == DIGEST
    assert folder.contents() == {"a.csv": DATA}


def full_after(monkeypatch, some):
    """Let the disk take so many bytes, and no more."""
    write, room = os.write, some

    def almost_full(file, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(file, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr(os, "write", almost_full)


def test_what_a_full_disk_took_does_not_count(folder, monkeypatch):
    """A part that was saved then holds what was written whole, so that it can be gone on with."""
    part = folder.create()
    part.write(b"whole,")
    with monkeypatch.context() as patch:
        full_after(patch, 3)
        with pytest.raises(ProcessingError):
            part.write(DATA)
    assert part.size == 6
    part.save()
    assert folder.unfinished() == [b"whole,"]
    part = folder.resume(part, 6)
    part.write(DATA)
    assert part.finish() == hashlib.sha256(b"whole," + DATA).hexdigest()
    assert folder.contents() == {"a.csv": b"whole," + DATA}


def test_a_write_after_a_full_disk_goes_on_where_the_last_ended(folder, monkeypatch):
    """The bytes of the file are those that the digest is of, also if there was no room for a moment."""
    part = folder.create()
    part.write(b"whole,")
    with monkeypatch.context() as patch:
        full_after(patch, 3)
        with pytest.raises(ProcessingError):
            part.write(DATA)
    part.write(b"more")
    assert part.finish() == hashlib.sha256(b"whole,more").hexdigest()
    assert folder.contents() == {"a.csv": b"whole,more"}


def test_a_finish_after_a_full_disk_has_the_bytes_that_count(folder, monkeypatch):
    """What was written of the chunk that did not fit does not appear."""
    part = folder.create()
    part.write(b"whole,")
    with monkeypatch.context() as patch:
        full_after(patch, 3)
        with pytest.raises(ProcessingError):
            part.write(DATA)
    assert part.finish() == hashlib.sha256(b"whole,").hexdigest()
    assert folder.contents() == {"a.csv": b"whole,"}


def test_a_sync_that_failed_makes_nothing_durable(folder, monkeypatch):
    """And one that did not, all that was written."""
    part = folder.create()
    part.write(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(errno.ENOSPC))
        with pytest.raises(ProcessingError):
            part.sync()
    assert part.durable == 0
    part.sync()
    assert part.durable == len(DATA)
    part.write(b"more")
    assert part.durable == len(DATA)


def test_a_file_is_synced_before_it_appears_and_its_folder_after(folder, monkeypatch):
    """The order that makes it durable under its name."""
    part = folder.create()
    part.write(DATA)
    seen = []
    fdatasync, fsync = os.fdatasync, os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fdatasync", lambda file: (seen.append(("file", folder.contents())), fdatasync(file))
        )
        patch.setattr(os, "fsync", lambda file: (seen.append(("folder", folder.contents())), fsync(file)))
        part.finish()
    assert seen == [("file", {}), ("folder", {"a.csv": DATA})]


def test_no_descriptor_is_left_open(folder):
    """However a part ends."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    finished, discarded, saved, refused = (folder.create(f"{n}.csv") for n in range(4))
    assert len(set(os.listdir("/proc/self/fd"))) == len(before) + 4  # noqa: PTH208
    finished.finish()
    discarded.discard()
    saved.save()
    with pytest.raises(ProcessingError):
        refused.finish("0" * 64)
    with pytest.raises(FileNotFoundError):
        folder.resume(discarded, 0)
    with pytest.raises(OSError, match="Invalid argument"):
        folder.resume(saved, -1)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# --- going on ------------------------------------------------------------------------------------------


def test_a_saved_part_is_gone_on_with(folder):
    """Nothing of it is lost, and the digest is that of all bytes."""
    part = folder.create()
    part.write(DATA[:5])
    digest = part.save()
    assert part.durable == part.size == 5
    assert digest.hexdigest() == hashlib.sha256(DATA[:5]).hexdigest()
    assert folder.unfinished() == [DATA[:5]]
    again = folder.resume(part, 5, digest=digest)
    assert (again.size, again.durable) == (5, 5)
    again.write(DATA[5:])
    assert again.finish(DIGEST) == DIGEST
    assert folder.contents() == {"a.csv": DATA}
    assert folder.unfinished() == []


def test_the_digest_is_read_back_where_it_is_not_known(folder, monkeypatch):
    """Another process has nothing but the bytes; they are read in pieces."""
    monkeypatch.setattr(parts, "READ_BYTES", 2)
    part = folder.create()
    part.write(DATA[:5])
    part.save()
    again = folder.resume(part, 5)
    again.write(DATA[5:])
    assert again.finish(DIGEST) == DIGEST
    assert folder.contents() == {"a.csv": DATA}


def test_a_known_digest_is_not_read_back(folder, monkeypatch):
    """To read gigabytes only to go on would take long."""
    part = folder.create()
    part.write(DATA[:5])
    digest = part.save()
    monkeypatch.setattr(os, "read", failing(errno.EIO))
    again = folder.resume(part, 5, digest=digest)
    again.write(DATA[5:])
    assert again.finish() == DIGEST


@pytest.mark.parametrize("size", [0, 3, len(DATA)])
def test_what_is_beyond_is_cut_off(folder, size):
    """Bytes that may not be those that were written neither count nor stay."""
    part = folder.create()
    part.write(DATA)
    part.save()
    again = folder.resume(part, size)
    assert (again.size, again.durable) == (size, size)
    assert folder.unfinished() == [DATA[:size]]
    again.write(b"other")
    assert again.finish() == hashlib.sha256(DATA[:size] + b"other").hexdigest()
    assert folder.contents() == {"a.csv": DATA[:size] + b"other"}


def test_what_is_gone_on_with_is_durable(folder, monkeypatch):
    """What a crashed process has written is synced before it is said to be."""
    part = folder.create()
    part.write(DATA)
    part._close()
    synced = []
    fdatasync = os.fdatasync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda file: (synced.append(os.fstat(file).st_size), fdatasync(file)))
        again = folder.resume(part, 5)
    assert again.durable == 5
    assert synced == [5]


def test_whether_it_may_overwrite_is_said_anew(folder):
    """The one who goes on decides."""
    part = folder.create(overwrite=True)
    part.write(DATA)
    part.save()
    part.target.write_bytes(b"old")
    with pytest.raises(ProcessingError) as caught:
        folder.resume(part, len(DATA), overwrite=False).finish()
    assert caught.value.reason == "file_exists"
    assert folder.contents() == {"a.csv": b"old"}


def test_a_part_that_is_gone_cannot_be_gone_on_with(folder):
    """And none is made."""
    part = folder.create()
    part.discard()
    with pytest.raises(FileNotFoundError):
        folder.resume(part, 0)
    assert folder.unfinished() == []


def test_a_part_that_cannot_be_read_is_a_fault_of_the_disk(folder, monkeypatch):
    """Its bytes stay as they are, for another attempt."""
    part = folder.create()
    part.write(DATA)
    part.save()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            folder.resume(part, len(DATA))
    assert folder.unfinished() == [DATA]


def test_a_save_that_failed_closes_the_part(folder, monkeypatch):
    """Its bytes are there still, though nothing is certain of them."""
    part = folder.create()
    part.write(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(errno.ENOSPC))
        with pytest.raises(ProcessingError) as caught:
            part.save()
    assert caught.value.reason == "storage_full"
    assert part.durable == 0
    assert folder.unfinished() == [DATA]
    with pytest.raises(OSError, match="Bad file descriptor"):
        part.write(DATA)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.binary(max_size=40), st.sampled_from(["go on", "know", "read", "cut"])), max_size=8)
)
def test_however_often_it_is_gone_on_with_the_bytes_are_right(folder, steps):
    """File and digest are those of the bytes that count, in order."""
    part, expected = folder.create(overwrite=True), b""
    for data, then in steps:
        part.write(data)
        expected += data
        if then != "go on":
            digest = part.save()
            if then == "cut":
                expected = expected[: len(expected) // 2]
            part = folder.resume(
                part, len(expected), overwrite=True, digest=digest if then == "know" else None
            )
        assert part.size == len(expected)
    assert part.finish() == hashlib.sha256(expected).hexdigest()
    assert folder.contents() == {"a.csv": expected}
    assert folder.unfinished() == []
