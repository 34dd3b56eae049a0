"""Unfinished uploads: files appear complete or not at all, and an interrupted upload can be resumed."""

import errno
import hashlib
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.storage.folder import partial
from creemson.storage.folder.partial import Part
from creemson.storage.names import temporary_name
from tests.examples import examples_of

DATA = b"a,b\n1,2\n"
DIGEST = hashlib.sha256(DATA).hexdigest()


class Folder:
    """A folder of partial files and a folder of finished files."""

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
    """Return a replacement for a system call that fails with this error code."""

    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


# --- publishing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_upload_appears_only_when_finished(folder, overwrite):
    """Before `finish` there is no file of its name; afterwards there is no partial file."""
    part = folder.create(overwrite=overwrite)
    part.write(DATA[:3])
    part.write(DATA[3:])
    assert folder.contents() == {}
    assert part.size == len(DATA)
    assert part.finish() == DIGEST
    assert folder.contents() == {"a.csv": DATA}
    assert folder.unfinished() == []


def test_empty_upload_becomes_an_empty_file(folder):
    """An upload of zero bytes is valid."""
    assert folder.create().finish() == hashlib.sha256().hexdigest()
    assert folder.contents() == {"a.csv": b""}


def test_discarded_upload_leaves_nothing(folder):
    """`discard` is possible at any time and idempotent."""
    part = folder.create()
    part.write(DATA)
    part.discard()
    part.discard()
    assert folder.unfinished() == []
    assert folder.contents() == {}


def test_discard_after_finish_keeps_the_file(folder):
    """The published file stays."""
    part = folder.create()
    part.write(DATA)
    part.finish()
    part.discard()
    assert folder.contents() == {"a.csv": DATA}


def test_finish_when_name_is_taken_does_not_overwrite(folder):
    """Of two concurrent uploads of one name, the first to finish keeps the name."""
    first, second = folder.create(), folder.create()
    first.write(b"first")
    second.write(b"second")
    first.finish()
    with pytest.raises(ProcessingError) as caught:
        second.finish()
    assert caught.value.reason == "file_exists"
    assert folder.contents() == {"a.csv": b"first"}
    assert folder.unfinished() == []


def test_finish_with_overwrite_replaces_atomically(folder):
    """The old file stays complete until it is replaced, also for a process that is reading it."""
    (folder.uploads / "a.csv").write_bytes(b"old")
    part = folder.create(overwrite=True)
    part.write(DATA)
    assert folder.contents() == {"a.csv": b"old"}
    with (folder.uploads / "a.csv").open("rb") as reader:
        part.finish()
        assert reader.read() == b"old"
    assert folder.contents() == {"a.csv": DATA}
    assert folder.unfinished() == []


def test_finish_with_wrong_digest_is_refused(folder):
    """`checksum_mismatch` names both digests; upper and lower case are equal."""
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


def test_finish_with_wrong_digest_keeps_the_old_file(folder):
    """The file that was to be replaced is unchanged."""
    (folder.uploads / "a.csv").write_bytes(b"old")
    part = folder.create(overwrite=True)
    part.write(DATA)
    with pytest.raises(ProcessingError):
        part.finish("0" * 64)
    assert folder.contents() == {"a.csv": b"old"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_finish_does_not_follow_links(folder, tmp_path, overwrite):
    """A symbolic link in place of the target is not followed: the file it points to is unchanged."""
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


def test_create_with_existing_part_is_refused(folder):
    """Reusing a partial file that exists would mix two uploads."""
    part = folder.create()
    with pytest.raises(FileExistsError):
        Part.create(part.path, part.target, overwrite=False)


# --- disk errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fdatasync", "link", "fsync", "open"])
def test_full_disk_is_reported_as_storage_full(folder, monkeypatch, call, code):
    """Whichever system call fails, the error is `storage_full`."""
    part = None if call == "open" else folder.create()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        with pytest.raises(ProcessingError) as caught:
            if call == "open":
                folder.create()
            else:
                part.write(DATA)
                part.sync()
                part.finish()
    assert caught.value.reason == "storage_full"
    assert "'a.csv'" in caught.value.message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_during_replace_keeps_the_old_file(folder, monkeypatch, code):
    """`rename` may also fail for lack of space; the old file stays and the partial file is removed."""
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


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "link"])
def test_other_disk_error_is_raised_unchanged(folder, monkeypatch, call):
    """Errors other than lack of space are not converted."""
    part = folder.create()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error") as caught:
            part.write(DATA)
            part.sync()
            part.finish()
    assert caught.value.errno == errno.EIO


def test_closed_part_or_lost_folder_is_not_storage_full(folder):
    """A programming error is not reported as a full disk."""
    part = folder.create()
    part.discard()
    with pytest.raises(OSError, match="Bad file descriptor"):
        part.write(DATA)
    folder.parts.rename(folder.parts.with_name("gone"))
    with pytest.raises(FileNotFoundError):
        folder.create()


def test_short_write_is_completed(folder, monkeypatch):
    """A system call may write only some of the bytes; the rest follows."""
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
    """Let the disk accept this number of bytes and no more."""
    write, room = os.write, some

    def almost_full(file, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(file, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr(os, "write", almost_full)


def test_partial_write_on_full_disk_does_not_count(folder, monkeypatch):
    """A saved part holds only complete writes, so it can be resumed."""
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


def test_write_after_full_disk_continues_at_last_complete_write(folder, monkeypatch):
    """File and digest agree even if the disk was full for a moment."""
    part = folder.create()
    part.write(b"whole,")
    with monkeypatch.context() as patch:
        full_after(patch, 3)
        with pytest.raises(ProcessingError):
            part.write(DATA)
    part.write(b"more")
    assert part.finish() == hashlib.sha256(b"whole,more").hexdigest()
    assert folder.contents() == {"a.csv": b"whole,more"}


def test_finish_after_full_disk_has_complete_writes_only(folder, monkeypatch):
    """Bytes of the chunk that did not fit do not appear in the file."""
    part = folder.create()
    part.write(b"whole,")
    with monkeypatch.context() as patch:
        full_after(patch, 3)
        with pytest.raises(ProcessingError):
            part.write(DATA)
    assert part.finish() == hashlib.sha256(b"whole,").hexdigest()
    assert folder.contents() == {"a.csv": b"whole,"}


def test_failed_sync_makes_nothing_durable(folder, monkeypatch):
    """A successful sync makes all bytes written so far durable."""
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


def test_finish_syncs_file_before_and_folder_after_publishing(folder, monkeypatch):
    """This order makes the file durable under its name."""
    part = folder.create()
    part.write(DATA)
    seen = []
    fsync = os.fsync

    def look(file):
        kind = "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
        seen.append((kind, folder.contents()))
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", look)
        part.finish()
    assert seen == [("file", {}), ("folder", {"a.csv": DATA})]
    assert part.published.st_mtime_ns == part.target.stat().st_mtime_ns


def test_part_leaves_no_descriptor_open(folder):
    """However a part ends, its file descriptor is closed."""
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


# --- resuming ------------------------------------------------------------------------------------------


def test_saved_part_can_be_resumed(folder):
    """Nothing is lost, and the digest covers all bytes."""
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


def test_resume_without_digest_reads_bytes_back(folder, monkeypatch):
    """Another process has only the bytes, which are read in blocks."""
    monkeypatch.setattr(partial, "READ_BYTES", 2)
    part = folder.create()
    part.write(DATA[:5])
    part.save()
    again = folder.resume(part, 5)
    again.write(DATA[5:])
    assert again.finish(DIGEST) == DIGEST
    assert folder.contents() == {"a.csv": DATA}


def test_resume_with_digest_reads_nothing_back(folder, monkeypatch):
    """Rereading gigabytes just to resume would take long."""
    part = folder.create()
    part.write(DATA[:5])
    digest = part.save()
    monkeypatch.setattr(os, "read", failing(errno.EIO))
    again = folder.resume(part, 5, digest=digest)
    again.write(DATA[5:])
    assert again.finish() == DIGEST


@pytest.mark.parametrize("size", [0, 3, len(DATA)])
def test_resume_truncates_bytes_beyond_size(folder, size):
    """Bytes that may not be the ones written are cut off."""
    part = folder.create()
    part.write(DATA)
    part.save()
    again = folder.resume(part, size)
    assert (again.size, again.durable) == (size, size)
    assert folder.unfinished() == [DATA[:size]]
    again.write(b"other")
    assert again.finish() == hashlib.sha256(DATA[:size] + b"other").hexdigest()
    assert folder.contents() == {"a.csv": DATA[:size] + b"other"}


def test_resumed_bytes_are_durable(folder, monkeypatch):
    """Bytes written by a crashed process are synced before they count as durable."""
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


def test_resume_sets_overwrite_again(folder):
    """The resuming request decides whether the file may be overwritten."""
    part = folder.create(overwrite=True)
    part.write(DATA)
    part.save()
    part.target.write_bytes(b"old")
    with pytest.raises(ProcessingError) as caught:
        folder.resume(part, len(DATA), overwrite=False).finish()
    assert caught.value.reason == "file_exists"
    assert folder.contents() == {"a.csv": b"old"}


def test_resume_of_missing_part_fails(folder):
    """No partial file is created."""
    part = folder.create()
    part.discard()
    with pytest.raises(FileNotFoundError):
        folder.resume(part, 0)
    assert folder.unfinished() == []


def test_resume_of_unreadable_part_raises_disk_error(folder, monkeypatch):
    """Its bytes stay unchanged for another attempt."""
    part = folder.create()
    part.write(DATA)
    part.save()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            folder.resume(part, len(DATA))
    assert folder.unfinished() == [DATA]


def test_failed_save_closes_the_part(folder, monkeypatch):
    """Its bytes stay, but none of them counts as durable."""
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


@settings(max_examples=examples_of(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.binary(max_size=40), st.sampled_from(["go on", "know", "read", "cut"])), max_size=8)
)
def test_part_resumed_repeatedly_has_right_bytes(folder, steps):
    """File and digest match the bytes that count, in order."""
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
