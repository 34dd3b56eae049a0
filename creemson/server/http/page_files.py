"""The files of the page, as they are sent: scripts without the comments and indents that people need to read them.

A quarter of the scripts are comments and indents. Removing them needs no build step, and the page is there sooner over
a slow line.
"""

import hashlib
import io
import re
from pathlib import Path

from creemson.storage.store import OpenFile

__all__ = ["PAGE_FILES", "compact", "open_page_file"]

STATIC = Path(__file__).parents[2] / "page"
"""The folder with the page."""
PAGE_FILES = frozenset(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
"""The files of the page."""
_COMMENTS = re.compile(r"^[ \t]*(?://.*|/\*\*[^*]*(?:\*(?!/)[^*]*)*\*/)$", re.MULTILINE)
"""Comments that have their lines for themselves, and so are not part of a text."""
_INDENTS = re.compile(r"^[ \t]+", re.MULTILINE)
"""They would be part of a text in a template of several lines, of which the scripts of the page have none."""


class _Bytes(io.BytesIO):
    """Bytes that are open like a file; see :class:`creemson.storage.store.Stream`."""

    def read_at(self, offset: int, size: int) -> bytes:
        return self.getvalue()[offset : offset + size]

    def ready(self, offset: int, room: memoryview) -> int:
        data = self.read_at(offset, len(room))
        room[: len(data)] = data
        return len(data)


def open_page_file(name: str) -> OpenFile:
    """Open a file of the page as it is sent.

    Args:
        name: one of :data:`PAGE_FILES`.

    Raises:
        OSError: if it cannot be read.
    """
    path = STATIC / name
    data = path.read_bytes()
    if path.suffix == ".js":
        data = compact(data.decode()).encode()
    version = hashlib.sha256(data).hexdigest()
    return OpenFile(path, _Bytes(data), len(data), version, path.stat().st_mtime)


def compact(script: str) -> str:
    r"""Remove indents, and the comments that have their lines for themselves. The lines stay, so that their numbers do.

    >>> compact('/** Greets. */\nif (a) {\n  const url = "http://a"; // kept\n  // removed\n}\n')
    '\nif (a) {\nconst url = "http://a"; // kept\n\n}\n'
    """
    return _INDENTS.sub("", _COMMENTS.sub(lambda comment: "\n" * comment[0].count("\n"), script))
