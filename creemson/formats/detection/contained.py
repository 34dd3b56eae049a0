"""Writes the table that is inside another file where readers can open it: from an archive, or in another encoding.

Readers, and polars in particular, open files by path. The table gets a file without a name, which the kernel removes
when nobody holds it any more, however the process ends (O_TMPFILE, open(2)).
"""

import codecs
import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from creemson.errors import ProcessingError
from creemson.formats.blocks import blocks
from creemson.formats.detection.archive import Member, extract
from creemson.formats.source import Source

__all__ = ["Contained", "recoded", "unpacked"]

MAX_REMEMBERED, MAX_REMEMBERED_BYTES = 2, 256 << 20
"""Maximum number of files that are kept for the next command, and the maximum size of each: to show columns, then rows,
then to process them does not unpack an archive three times."""


class Contained:
    """A file without a name, which exists as long as this object.

    Args:
        file: Its descriptor.

    Attributes:
        path: A path of the file.
    """

    def __init__(self, file: int) -> None:
        self.path = Path(f"/proc/self/fd/{file}")
        self.close = weakref.finalize(self, os.close, file)


_known: OrderedDict[Any, Contained] = OrderedDict()


def unpacked(path: Path, name: str, member: Member, folder: Path | None) -> Contained:
    """Unpack a member of an archive.

    Args:
        path: Path of the archive.
        name: Its name in messages.
        member: The member.
        folder: The folder in which to write; None for that of the archive.

    Raises:
        ProcessingError: As :func:`~creemson.formats.detection.archive.extract`.
        OSError: The disk failed.
    """
    return _contained(path, member.index, folder, lambda target: extract(path, name, member, target))


def recoded(path: Path, name: str, source: Source, folder: Path | None) -> Contained:
    """Write a text in UTF-8.

    Args:
        path: Path of the file.
        name: Its name in messages.
        source: Its compression, and its encoding.
        folder: The folder in which to write; None for that of the file.

    Raises:
        ProcessingError: ``unreadable_file``: the file does not have this encoding.
        OSError: The disk failed.
    """
    return _contained(path, source.encoding, folder, lambda target: _recode(path, name, source, target))


def _recode(path: Path, name: str, source: Source, target: IO[bytes]) -> None:
    assert source.encoding is not None
    decoder = codecs.getincrementaldecoder(source.encoding)()
    try:
        with closing(blocks(path, name, source)) as pieces:
            for piece in pieces:
                target.write(decoder.decode(piece).encode())
        target.write(decoder.decode(b"", final=True).encode())
    except UnicodeError:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} is not valid {source.encoding.upper()} to its end. Save it again, in UTF-8.",
        ) from None


def _contained(
    path: Path, part: object, folder: Path | None, write: Callable[[IO[bytes]], None]
) -> Contained:
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, part)
    known = _known.get(key)
    if known is not None:
        _known.move_to_end(key)
        return known
    file = _nameless(folder or Path(os.path.realpath(path)).parent)
    contained = Contained(file)
    try:
        with os.fdopen(file, "wb", closefd=False) as stream:
            write(stream)
            size = stream.tell()
    except BaseException:
        contained.close()
        raise
    if size <= MAX_REMEMBERED_BYTES:
        _known[key] = contained
        if len(_known) > MAX_REMEMBERED:
            _known.popitem(last=False)
    return contained


def _nameless(folder: Path) -> int:
    """Create a file without a name; return its descriptor."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # a folder that is read-only, or a file system without such files
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
