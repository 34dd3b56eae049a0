"""The temporary folder of ``creemson worker``; those that killed ones have left are removed."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["worker_folder"]

PREFIX = "creemson-worker-"
NEW = f"new-{PREFIX}"
"""Beginning of the name of a folder whose lock is not held yet."""


@contextlib.contextmanager
def worker_folder() -> Iterator[Path]:
    """Make a temporary folder, and hold its lock (flock(2), which ends with the process) until it is removed.

    It may take gigabytes, and a killed process cannot remove it. So the next one does.

    Yields:
        The path of the folder.

    Raises:
        OSError: the folder cannot be made.
    """
    place = Path(tempfile.gettempdir())
    _remove_abandoned(place)
    new = Path(tempfile.mkdtemp(prefix=NEW))
    lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = new.rename(place / new.name.removeprefix("new-"))  # the lock goes with it
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _remove_abandoned(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, or gone
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
