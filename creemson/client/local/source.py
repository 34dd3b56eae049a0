"""Opens what a client uploads: a local file, or content that the caller has: bytes, an open file, a table."""

import errno
import hashlib
import io
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, TypeGuard

from creemson.client.local.tables import write_table
from creemson.errors import ProcessingError

__all__ = ["Content", "digest_of", "is_content", "is_table", "open_source", "read_some"]

READ_BYTES = 1024 * 1024


class Readable(Protocol):
    """An open file, of bytes or of text."""

    def read(self, size: int = ..., /) -> bytes | str:
        """Read up to a number of bytes or characters."""


class ArrowTable(Protocol):
    """A table of polars, pandas, pyarrow, DuckDB or others: whatever has Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Export the table."""


class LazyTable(Protocol):
    """A lazy table of polars."""

    def sink_parquet(self, path: Any) -> Any:
        """Compute the table, and write it."""


Content: TypeAlias = bytes | bytearray | memoryview | Readable | ArrowTable | LazyTable
"""What can be uploaded, beside a local file."""


def is_content(source: object) -> TypeGuard[Content]:
    """Return whether a source is content, and no path or name."""
    if isinstance(source, str | os.PathLike):
        return False
    return isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read") or is_table(source)


def is_table(source: object) -> bool:
    """Return whether a source is a table in memory, or a lazy one."""
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "sink_parquet")


def open_source(source: Path | Content) -> tuple[BinaryIO, int]:
    """Open what is to be uploaded; this blocks.

    Args:
        source: a file, or content. The content of an open file is read to its end, and stored in a temporary file.

    Returns:
        A stream, and its size in bytes. What is appended to a file from now on is not uploaded.

    Raises:
        OSError: it cannot be read.
        ProcessingError: ``unreadable_file``: it is no regular file, and so has no size that could be announced; or it
            is a table that cannot be converted.
    """
    if isinstance(source, Path):
        return _open_file(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), memoryview(source).nbytes
    stream: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        if is_table(source):
            write_table(source, stream)
        else:
            _copy(source, stream)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream, size


def _copy(source: Any, stream: BinaryIO) -> None:
    while data := source.read(READ_BYTES):
        stream.write(data.encode() if isinstance(data, str) else data)


def _open_file(path: Path) -> tuple[BinaryIO, int]:
    # Without O_NONBLOCK, opening a pipe without a writer would block this thread for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    info = os.fstat(descriptor)
    if stat.S_ISREG(info.st_mode):
        return os.fdopen(descriptor, "rb"), info.st_size
    os.close(descriptor)
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise ProcessingError(
        "unreadable_file",
        f"{str(path)!r} is a pipe, a device or a socket. Pass an open file, or write its content to a file.",
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
