"""Folders of attempts: only the present attempt of a command can publish what it writes.

A worker may be frozen and wake up when another one has done its work; and Dask runs a task again by itself if its
worker is gone. So the server makes a folder for each attempt, next to the target, and the worker writes into it:

    begin ──> open ──claim──> claimed ──revoke──> removed
                └────────────revoke──────────────────┘

Each arrow is one rename or mkdir, which is atomic also on a network file system. Only one run can claim an attempt. A
worker publishes by renaming a file out of the claimed folder, so once the attempt is revoked, it publishes nothing.
"""

import errno
import secrets
from pathlib import Path

from creemson.storage.names import companion, remove_path, temporary_name

__all__ = ["begin", "claim", "revoke"]

_TRIES = 3
"""Number of times that a folder is removed: its worker may create a file in it meanwhile."""


def begin(target: Path) -> Path:
    """Make the folder of a new attempt to write a target, and return its path. Called by the server.

    Raises:
        OSError: the folder cannot be made.
    """
    folder = target.with_name(temporary_name(target.name, secrets.token_hex(8)))
    folder.mkdir()
    return folder


def claim(folder: Path) -> Path | None:
    """Claim an attempt, and return the path to write to. Called by the worker.

    Returns:
        None: the attempt was claimed by another run, or revoked, or this machine does not see the server's folder.

    Raises:
        OSError: the folder cannot be used.
    """
    claimed = _claimed(folder)
    try:
        folder.rename(claimed)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
            return None
        raise
    return claimed / "result.tmp"


def revoke(folder: Path) -> None:
    """End an attempt, whatever its worker does. Idempotent. Called by the server."""
    gone = companion(folder, "gone")
    for path in (folder, _claimed(folder)):
        try:
            path.rename(gone)
        except OSError:  # it does not exist
            continue
        for _ in range(_TRIES):
            remove_path(gone)
            if not gone.exists():
                break


def _claimed(folder: Path) -> Path:
    return companion(folder, "claimed")
