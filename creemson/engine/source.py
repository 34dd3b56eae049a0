"""Opens the file of a command once, so that all its bytes belong to one version.

Readers open files by path, some of them several times: for the first bytes, for samples, for each attempt. A file may
be replaced in between, and one version's header would meet the other's rows. ``/proc/self/fd/N`` leads to the open file
each time, even if it has no name any more (proc_pid_fd(5)).
"""

import fcntl
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from creemson.errors import ProcessingError
from creemson.model.identity import identity_of

__all__ = ["opened"]

DESCRIPTOR = 200
"""Descriptor of the file, or half of those that are allowed: more than are open otherwise."""


@contextmanager
def opened(path: Path, name: str, identity: Sequence[int] | None = None) -> Iterator[Path]:
    """Open a file for the duration of the context; the path that it returns leads to this file only.

    Args:
        path: path of the file.
        name: the file's name in messages.
        identity: that of the file which the server has found under this path; None accepts any file.

    Raises:
        ProcessingError: ``file_changed``: another file has this path, or the bytes were changed within the context.
        OSError: the file cannot be opened.
    """
    try:
        file = _open(path)
    except FileNotFoundError:
        raise _changed(name) from None
    try:
        before = identity_of(os.fstat(file))
        if identity is not None and before != tuple(identity):
            raise _changed(name)
        try:
            yield Path(f"/proc/self/fd/{file}")
        except Exception as error:
            if identity_of(os.fstat(file)) != before:  # most likely, that is the cause
                raise _changed(name) from error
            raise
        if identity_of(os.fstat(file)) != before:
            raise _changed(name)
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Open a file with the same descriptor each time, so that what is remembered about its path is found again."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, min(DESCRIPTOR, allowed // 2))
    finally:
        os.close(file)


def _changed(name: str) -> ProcessingError:
    return ProcessingError(
        "file_changed", f"The file {name!r} was changed while it was being read. Ask again."
    )
