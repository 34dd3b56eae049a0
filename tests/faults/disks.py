"""Small disks for tests that fill or break them; skipped where mounting is not allowed."""

import subprocess
from contextlib import contextmanager

import pytest


def run(*command):
    """Run a system command; return whether it succeeded."""
    try:
        return subprocess.run(list(map(str, command)), capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def mounted(folder, *options):
    """Mount something on a folder; unmount it at the end in any case."""
    folder.mkdir(exist_ok=True)
    if not run("mount", *options, folder):
        pytest.skip("this user may not mount anything here (mount(8)): run the test as root")
    try:
        yield folder
    finally:
        run("umount", folder) or run("umount", "-l", folder)


@contextmanager
def small_disk(folder, megabytes):
    """Mount a disk of a few megabytes, in memory."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={megabytes}m", "none"):
        yield folder


@contextmanager
def full(folder, *, leave=0):
    """Fill a disk except for ``leave`` bytes; free it again after the block."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(64 * 1024)) == 64 * 1024:
                pass
        except OSError:
            pass
        if leave:
            stream.truncate(stream.tell() - leave)
    try:
        yield
    finally:
        filler.unlink()
