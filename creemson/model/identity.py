"""The identity of an open file: what the server and a worker compare to know that they mean the same bytes."""

import os
from typing import NamedTuple

__all__ = ["Identity", "identity_of"]


class Identity(NamedTuple):
    """What tells a file from another one of the same name, and shows that it was written to meanwhile.

    The status-change time does not belong to it: a backup by hard links changes it during a job.

    Attributes:
        inode: number of the inode.
        size: in bytes.
        mtime_ns: time of the last modification, in nanoseconds.
    """

    inode: int
    size: int
    mtime_ns: int


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file with this status."""
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns)
