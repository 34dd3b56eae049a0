"""Opens a local file for an upload."""

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from creemson.errors import ProcessingError

__all__ = ["digest_of", "open_source", "read_some"]

READ_BYTES = 1024 * 1024


def open_source(path: Path) -> tuple[BinaryIO, int]:
    """Open a file to upload; this blocks.

    Returns:
        The file, and its size in bytes. What is appended to it from now on is not uploaded.

    Raises:
        OSError: it cannot be read.
        ProcessingError: ``unreadable_file``: it is no regular file, and so has no size that could be announced.
    """
    # Without O_NONBLOCK, opening a pipe without a writer would block this thread for ever.
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    info = os.fstat(stream.fileno())
    if stat.S_ISREG(info.st_mode):
        return stream, info.st_size
    stream.close()
    raise ProcessingError(
        "unreadable_file",
        f"{str(path)!r} is a pipe, a device or a socket. Write its content to a file, and upload that.",
    )


def digest_of(stream: BinaryIO, size: int, name: str) -> str:
    """Return the SHA-256 of the first bytes of a file; this blocks.

    Args:
        stream: the file, at its beginning.
        size: number of bytes.
        name: name of the file, for errors.

    Raises:
        ProcessingError: ``unreadable_file``: the file has become shorter.
    """
    digest = hashlib.sha256()
    while size:
        data = read_some(stream, min(size, READ_BYTES), name)
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def read_some(stream: BinaryIO, size: int, name: str) -> bytes:
    """Read up to ``size`` bytes; this blocks.

    Raises:
        ProcessingError: ``unreadable_file``: the file has become shorter.
    """
    data = stream.read(size)
    if not data:
        raise ProcessingError("unreadable_file", f"{name!r} shrank during the upload. Upload it again.")
    return data
