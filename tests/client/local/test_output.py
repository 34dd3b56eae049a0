"""Local files are written through links, pipes and devices, keep what they are, and are never half written."""

import errno
import os
import pty
import resource
import stat
import subprocess
import threading
import tty
from contextlib import contextmanager
from pathlib import Path

import pytest

from creemson.client.local import output as outputs
from creemson.client.local.output import Output, target_of
from tests.faults.disks import full, mounted, small_disk
from tests.servers import PATIENCE

CONTENT = b"new content\n" * 1000


def write(target, content=CONTENT):
    """Write a file with an output."""
    output = Output.open(Path(target))
    try:
        output.stream.write(content)
        output.publisher()()
    finally:
        output.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_file_has_the_permissions_of_any_new_file(tmp_path):
    """The mask of the process applies."""
    mask = os.umask(0o027)
    try:
        write(tmp_path / "new.csv")
    finally:
        os.umask(mask)
    assert (tmp_path / "new.csv").read_bytes() == CONTENT
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o640
    assert names(tmp_path) == ["new.csv"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_replaced_file_keeps_its_permissions(tmp_path, mode):
    """A private file stays private, at every moment."""
    path = tmp_path / "old.csv"
    path.write_text("old")
    path.chmod(mode)
    output = Output.open(path)
    output.stream.write(CONTENT)
    assert all(stat.S_IMODE(each.stat().st_mode) == mode for each in tmp_path.iterdir())
    output.publisher()()
    output.close()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (CONTENT, mode)
    assert names(tmp_path) == ["old.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_replaced_file_keeps_its_owner(tmp_path):
    """Root may write another user's file, which stays that user's."""
    path = tmp_path / "hers.csv"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (1234, 2345, CONTENT)


def test_symbolic_link_stays_a_link(tmp_path):
    """The file that it names is written, also through several links, and if it does not exist yet."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old.csv").write_text("old")
    for link, target in (("a.csv", "there/old.csv"), ("b.csv", "a.csv"), ("c.csv", "there/new.csv")):
        (tmp_path / link).symlink_to(target)
    for link, target in (("b.csv", "old.csv"), ("c.csv", "new.csv")):
        write(tmp_path / link)
        assert (tmp_path / "there" / target).read_bytes() == CONTENT
        assert (tmp_path / link).is_symlink()
    assert names(tmp_path / "there") == ["new.csv", "old.csv"]
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "loop.csv")


@pytest.mark.parametrize("size", [3, 100_000])
def test_hard_links_keep_the_same_content(tmp_path, size):
    """The other name shows the new content, too; whether it is longer or shorter."""
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_bytes(bytes(size))
    other.hardlink_to(path)
    write(path)
    assert (path.read_bytes(), other.read_bytes()) == (CONTENT, CONTENT)
    assert path.samefile(other)


def test_pipe_gets_the_content_and_stays_a_pipe(tmp_path):
    """A reader of a named pipe gets everything; a reader that leaves is an error."""
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    write(path, CONTENT * 100)
    reader.join(PATIENCE)
    assert received == [CONTENT * 100]
    assert stat.S_ISFIFO(path.stat().st_mode)

    leaver = threading.Thread(target=lambda: path.open("rb").close())
    leaver.start()
    with pytest.raises(BrokenPipeError):
        write(path, CONTENT * 100)
    leaver.join(PATIENCE)
    assert names(tmp_path) == ["pipe.csv"]


def test_terminal_gets_the_content(tmp_path):
    """A device is written to, also through a link."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        (tmp_path / "terminal.csv").symlink_to(os.ttyname(theirs))
        write(tmp_path / "terminal.csv", b"a,b\n")
        assert os.read(ours, 100) == b"a,b\n"
        assert stat.S_ISCHR((tmp_path / "terminal.csv").stat().st_mode)
    finally:
        os.close(ours)
        os.close(theirs)


def test_output_that_is_given_up_leaves_everything_as_it_was(tmp_path):
    """Nothing is left but the old file."""
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv"):
        output = Output.open(tmp_path / name)
        output.stream.write(CONTENT)
        output.close()
    assert names(tmp_path) == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_target_that_cannot_be_written_is_refused_at_once(tmp_path):
    """A folder, a folder that does not exist; the error has the name that the caller gave."""
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        Output.open(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere/a\.csv"):
        Output.open(tmp_path / "nowhere" / "a.csv")
    with pytest.raises(OSError, match="too long"):
        Output.open(tmp_path / ("x" * 300))
    # A path object has lost the slash, which `open` would refuse in the same way.
    with pytest.raises(IsADirectoryError, match="new/"):
        target_of("new/")
    assert target_of("new") == Path("new")


@contextmanager
def largest_file(size):
    """Limit the size of files that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("links", [1, 2])
def test_limit_on_file_sizes_leaves_the_old_file(tmp_path, links):
    """Whether it is replaced or written in place."""
    path = tmp_path / "old.csv"
    path.write_text("old")
    if links == 2:
        (tmp_path / "other.csv").hardlink_to(path)
    with largest_file(5000), pytest.raises(OSError, match="too large"):
        write(path)
    assert path.read_text() == "old"
    assert all(name.endswith(".csv") for name in names(tmp_path))


@pytest.mark.parametrize("links", [1, 2])
def test_full_disk_leaves_the_old_file(tmp_path, links):
    """Whether it is replaced or written in place."""
    with small_disk(tmp_path / "disk", 1) as disk:
        path = disk / "old.csv"
        path.write_text("old")
        if links == 2:
            (disk / "other.csv").hardlink_to(path)
        with full(disk), pytest.raises(OSError, match="No space"):
            write(path, bytes(100_000))
        assert path.read_text() == "old"
        assert all(name.endswith(".csv") for name in names(disk))


def test_mount_point_is_written_in_place(tmp_path):
    """A single file that is mounted into a container cannot be renamed over."""
    real, path = tmp_path / "real.csv", tmp_path / "mounted.csv"
    real.write_text("old")
    path.write_text("below")
    with mounted_file(real, path):
        write(path)
        assert path.read_bytes() == CONTENT
    assert (real.read_bytes(), path.read_text()) == (CONTENT, "below")
    assert names(tmp_path) == ["mounted.csv", "real.csv"]


@contextmanager
def mounted_file(source, target):
    """Mount a file on another one."""
    done = subprocess.run(["mount", "--bind", source, target], capture_output=True)
    if done.returncode:
        pytest.skip("this user may not mount anything here (mount(8)): run the test as root")
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def test_folder_without_write_permission_does_not_prevent_writing_a_file_in_it(tmp_path, monkeypatch):
    """As cp, it needs the permission to write the file only."""

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(outputs, "_beside", refused)
    path = tmp_path / "old.csv"
    path.write_text("old")
    write(path)
    assert path.read_bytes() == CONTENT
    with pytest.raises(PermissionError):
        write(tmp_path / "new.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_read_only_file_is_not_replaced(tmp_path):
    """As cp, it does not replace what it may not write, though the folder would allow it."""
    path = tmp_path / "old.csv"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write(path)


def test_read_only_disk_is_an_error(tmp_path):
    """The error comes before anything is fetched."""
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "old.csv").write_text("old")
        with mounted(disk, "-o", "remount,ro"):
            for name in ("old.csv", "new.csv"):
                with pytest.raises(OSError, match="Read-only"):
                    Output.open(disk / name)
