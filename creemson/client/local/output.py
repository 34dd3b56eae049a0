"""Writes a local file as cp would, but never half of it.

    no such file, or an ordinary one   a temporary file beside it, renamed at the end; mode, owner and group are kept
    one that a rename would change     a temporary file elsewhere, copied into it at the end: hard links, access lists,
                                       a foreign owner, a folder without write permission, a mount point
    a pipe, a device, an open stream   a temporary file elsewhere, copied into it at the end

Symbolic links are followed.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

__all__ = ["Output", "target_of"]

COPY_BYTES = 1024 * 1024


def target_of(target: str | os.PathLike[str] | BinaryIO) -> Path | BinaryIO:
    """Return a path, or the stream that was given.

    Raises:
        IsADirectoryError: the path has a slash at its end, as :func:`open` says of it.
    """
    if isinstance(target, str) and target.endswith("/"):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    return Path(target) if isinstance(target, str | os.PathLike) else target


class Output:
    """A local file that is being written: it changes only when it is complete. Made by :meth:`open`.

    Attributes:
        stream: takes the content.
        may_block: whether :meth:`publisher` may take for ever: nobody may read from a pipe.
    """

    def __init__(
        self, target: Path | BinaryIO, stream: BinaryIO, temporary: Path | None, *, may_block: bool
    ) -> None:
        self._target = target
        self._temporary = temporary
        self.stream = stream
        self.may_block = may_block

    @classmethod
    def open(cls, target: Path | BinaryIO) -> Self:
        """Prepare to write a file, or an open stream; this blocks. The caller must call :meth:`close`.

        Raises:
            OSError: it cannot be written.
        """
        if not isinstance(target, Path):
            return cls(target, _unnamed(), None, may_block=True)
        try:
            found = target.stat()
        except FileNotFoundError:
            found = None
        if found is not None and not stat.S_ISREG(found.st_mode):
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
            return cls(target, _unnamed(), None, may_block=True)
        target = Path(os.path.realpath(target))
        if found is None:
            return cls(target, *_beside(target, 0o666), may_block=False)
        os.close(
            os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        )  # a file that may not be written is not replaced either
        if found.st_nlink == 1 and not _has_attributes(target):
            with contextlib.suppress(OSError):  # the folder or the owner forbids it
                return cls(target, *_beside(target, 0o600, like=found), may_block=False)
        return cls(target, _unnamed(), None, may_block=False)

    def publisher(self) -> Callable[[], None]:
        """Return a function that puts the content in its place, and blocks; call it once, before :meth:`close`.

        It needs nothing that :meth:`close` closes, so that a thread in which it blocks can be abandoned.

        Raises:
            OSError: the content cannot be written.
        """
        self.stream.flush()
        if self._temporary is None:
            content = os.fdopen(os.dup(self.stream.fileno()), "rb")
            target = self._target
            if not isinstance(target, Path):
                return partial(_copy, content, target)
            copy = _pour if self.may_block else _overwrite
            return partial(copy, content, target)
        return self._replace

    def close(self) -> None:
        """Remove what is temporary."""
        try:
            self.stream.close()
        finally:
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)

    def _replace(self) -> None:
        assert self._temporary is not None
        assert isinstance(self._target, Path)
        os.fsync(self.stream.fileno())  # or a power cut may leave an empty file under the name
        try:
            self._temporary.replace(self._target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a mount point, such as one file in a container
                raise
            _overwrite(os.fdopen(os.dup(self.stream.fileno()), "rb"), self._target)


def _unnamed() -> BinaryIO:
    return tempfile.TemporaryFile()


def _beside(target: Path, mode: int, *, like: os.stat_result | None = None) -> tuple[BinaryIO, Path]:
    """Create a temporary file in the folder of another one.

    Args:
        target: the other file.
        mode: the permissions, before the mask of the process.
        like: the file's owner, group and permissions; None leaves those of a new file.

    Raises:
        OSError: the folder, or the owner, does not allow it.
    """
    path = target.with_name(f".creemson-{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        file = os.open(path, flags, mode)
    except OSError as error:
        error.filename = str(target)  # the caller knows this name
        raise
    try:
        if like is not None:
            now = os.fstat(file)
            if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
                os.fchown(file, like.st_uid, like.st_gid)
            os.fchmod(file, stat.S_IMODE(like.st_mode))
        return os.fdopen(file, "w+b"), path
    except BaseException:
        os.close(file)
        path.unlink()
        raise


def _has_attributes(path: Path) -> bool:
    """Return whether a file has an access list or other attributes that a new file would not have."""
    try:
        return any(not name.startswith("security.") for name in os.listxattr(path))
    except OSError:
        return False


def _copy(content: BinaryIO, stream: BinaryIO) -> None:
    """Write content into a stream that the caller has opened, and close the content."""
    with content:
        content.seek(0)
        shutil.copyfileobj(content, stream, COPY_BYTES)
        stream.flush()


def _pour(content: BinaryIO, target: Path) -> None:
    """Write content into a pipe or a device, and close the content."""
    with content, os.fdopen(os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), "wb") as stream:
        content.seek(0)
        shutil.copyfileobj(content, stream, COPY_BYTES)


def _overwrite(content: BinaryIO, target: Path) -> None:
    """Write content into a file in place, and close the content; nothing is changed if the disk is too full for it."""
    with content, os.fdopen(os.open(target, os.O_WRONLY | os.O_CLOEXEC), "wb") as stream:
        size, before = os.fstat(content.fileno()).st_size, os.fstat(stream.fileno()).st_size
        if size > before:
            try:
                os.posix_fallocate(stream.fileno(), before, size - before)
            except OSError as error:
                os.ftruncate(stream.fileno(), before)
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # this file system cannot reserve
                    raise
        content.seek(0)
        shutil.copyfileobj(content, stream, COPY_BYTES)
        stream.flush()
        os.ftruncate(stream.fileno(), size)
