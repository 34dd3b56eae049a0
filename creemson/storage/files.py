"""Files on disk: safe names, uploads that appear whole, outputs.

    DATA/uploads/NAME    what was uploaded, or put there by hand
    DATA/outputs/NAME    what jobs made
    DATA/parts/…         uploads under way, see :mod:`creemson.storage.parts`

A file appears under its name by one rename (or link) within the same file system, after its bytes
are on disk, or it does not appear at all.
"""

import difflib
import errno
import fcntl
import glob
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from creemson.errors import InvalidFormat, ProcessingError

__all__ = [
    "Files",
    "check_name",
    "companion",
    "disk_faults",
    "exists_already",
    "is_temporary",
    "owner_name",
    "rejects_name",
    "remove_with_companions",
    "temporary_name",
    "version_of",
]

MAX_NAME_BYTES = 255
"""Linux's NAME_MAX."""
HINT_CANDIDATES = 100
"""Names that are compared for a hint; 10,000 would take a quarter of a second."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""All characters of the Unicode category Cc; it will never have more (unicode.org, stability policy)."""
_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE | re.DOTALL)
"""Device names of Windows, also with an extension: files travel on to other machines."""
_REJECTS_SUFFIX = ".rejects.csv"
_TEMPORARY_SUFFIX = ".tmp"


def check_name(name: str) -> str:
    """Hold a file name to the rule of the protocol: one component that is safe everywhere.

    Args:
        name: as the client gave it.

    Returns:
        The same name.

    Raises:
        InvalidFormat: ``invalid_filename``, saying what is wrong with it.

    >>> check_name("Größe 2024.csv")
    'Größe 2024.csv'
    """
    fault = _name_fault(name)
    if fault:
        raise InvalidFormat(
            "invalid_filename",
            f"The file name {name[:80]!r} {fault}. Give one plain name such as 'data.csv'.",
        )
    return name


def _name_fault(name: str) -> str | None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not 1 <= size <= MAX_NAME_BYTES:
        return f"has {size} bytes, and 1 to {MAX_NAME_BYTES} are allowed"
    if "/" in name or "\\" in name:
        return "contains a path separator"
    if _CONTROL.search(name):
        return "contains a control character"
    if name.startswith("."):
        return "begins with a dot"
    if name.endswith((".", " ")):
        return "ends with a dot or a space"
    if _DRIVE.match(name):
        return "begins with a drive letter"
    if _RESERVED.fullmatch(name):
        return "is reserved for a device on some systems"
    return None


def temporary_name(name: str, attempt: str) -> str:
    """The hidden name under which ``name`` is written, in the same folder, until it is complete."""
    return f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.{attempt}{_TEMPORARY_SUFFIX}"


def companion(part: Path, purpose: str) -> Path:
    """The temporary path of something that is made together with ``part``, and goes with it.

    >>> companion(Path(".0123.1.tmp"), "mended").name
    '.0123.1.mended.tmp'
    """
    return part.with_name(f"{part.stem}.{purpose}{_TEMPORARY_SUFFIX}")


def remove_with_companions(part: Path) -> None:
    """Remove a temporary file, and what was made together with it."""
    part.unlink(missing_ok=True)
    for path in part.parent.glob(f"{glob.escape(part.stem)}.*{_TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def rejects_name(output: str) -> str:
    """The name of the file that tells what had to be mended, or was lost, on the way to a stored output.

    >>> rejects_name("flights-0123456789ab.parquet")
    'flights-0123456789ab.rejects.csv'
    """
    return f"{output.rsplit('.', 1)[0]}{_REJECTS_SUFFIX}"


def owner_name(name: str, stored: str) -> str:
    """The name of the file that another one goes with: its output for a file of rejects, else itself.

    Args:
        name: of the file.
        stored: the extension of outputs.

    >>> owner_name("flights-0123456789ab.rejects.csv", "parquet")
    'flights-0123456789ab.parquet'
    """
    return f"{name.removesuffix(_REJECTS_SUFFIX)}.{stored}" if name.endswith(_REJECTS_SUFFIX) else name


def is_temporary(name: str) -> bool:
    """Whether ``name`` was made by :func:`temporary_name`.

    >>> is_temporary(temporary_name("a.csv", "1")), is_temporary("a.csv")
    (True, False)
    """
    return name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX)


@contextmanager
def disk_faults(name: str) -> Iterator[None]:
    """Turn a full disk or quota into ``storage_full``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProcessingError(
                "storage_full",
                f"There is no room on the server's disk for {name!r}. Delete files or ask for room.",
            ) from error
        raise


@attrs.frozen
class Files:
    """The files of one caller.

    Args:
        root: the folder that holds them; :meth:`prepare` makes it.
        data: the data folder that it is in; None if it is that itself.
    """

    root: Path
    _data: Path | None = None

    def within(self, path: Path) -> str:
        """The path as the catalog knows it: within the data folder."""
        return str(path.relative_to(self.data))

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._data or self.root

    @property
    def uploads(self) -> Path:
        """The folder of uploaded files."""
        return self.root / "uploads"

    @property
    def outputs(self) -> Path:
        """The folder of what jobs made."""
        return self.root / "outputs"

    @property
    def parts(self) -> Path:
        """The folder of uploads under way."""
        return self.root / "parts"

    def prepare(self) -> None:
        """Make the folders and remove what a crashed server's jobs left half-written.

        Raises:
            OSError: the folder cannot be made or written.
        """
        with self._in_words():
            for folder in (self.uploads, self.outputs, self.parts):
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            for path in self.outputs.iterdir():
                if is_temporary(path.name):
                    path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other servers out of the folder: they would take files under way for leftovers.

        The lock ends with the process, however that ends (flock(2)).

        Raises:
            OSError: another server uses the folder.
        """
        with self._in_words():
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "lock").open("wb")
        with lock as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(error.errno, "Another server uses this data folder", str(self.root)) from None
            yield

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Say what to do about a folder that cannot be written to."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise OSError(
                error.errno,
                f"The data folder {self.root} cannot be written to. Let the server's user write there, or give "
                f"another one with --data-dir ({os.strerror(error.errno)})",
                error.filename,
            ) from error

    def find(self, name: str) -> Path:
        """The path of an uploaded file or, if there is none of that name, of an output.

        Args:
            name: as the client gave it.

        Returns:
            The path of a regular file.

        Raises:
            InvalidFormat: ``invalid_filename``, also for a symbolic link, which could lead elsewhere.
            ProcessingError: ``file_not_found``, with the nearest name.
        """
        return Path(self.look_up(name)[0])

    def look_up(self, name: str) -> tuple[str, os.stat_result]:
        """As :meth:`find`; the path as text, and what the system says of the file.

        Every request does this, so it is done without objects for paths: 4 µs instead of 15.
        """
        check_name(name)
        for folder in ("uploads", "outputs"):
            path = f"{self.root}/{folder}/{name}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                return path, found
            if stat.S_ISLNK(found.st_mode):
                raise InvalidFormat(
                    "invalid_filename",
                    f"{name!r} is a link and may lead out of the data folder; use the file itself.",
                )
        names = (path.name for path in itertools.islice(self.regular_files(), HINT_CANDIDATES))
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Upload it first."
        raise ProcessingError("file_not_found", f"There is no file {name!r}. {hint}")

    def find_output_of(self, name: str, formats: Sequence[str]) -> Path | None:
        """The stored output (in the first of the ``formats``) that ``name`` asks for in another."""
        path = self.outputs / check_name(name)
        stored = path.with_suffix(f".{formats[0]}")
        return stored if path.suffix[1:] in formats and stored.is_file() else None

    def remove_output(self, name: str, formats: Sequence[str]) -> None:
        """Remove a stored output, and what was rendered from it in other formats.

        Among a thousand outputs, to look which there are takes 1 ms; to remove what may not be there takes 0.03.
        """
        stem = name.rsplit(".", 1)[0]
        for format_ in formats:
            (self.outputs / f"{stem}.{format_}").unlink(missing_ok=True)
        (self.outputs / rejects_name(name)).unlink(missing_ok=True)

    def regular_files(self) -> Iterator[Path]:
        """All files, uploaded ones first."""
        for folder in (self.uploads, self.outputs):
            yield from (path for path in folder.iterdir() if path.is_file() and not is_temporary(path.name))

    def version(self, path: Path) -> str:
        """What changes when the file's content does: its identity, size and times.

        Reading the content to digest it would cost more than many a job; a rewrite within one tick of
        the file system's clock that keeps inode and size goes unnoticed.
        """
        return version_of(path.stat())


def version_of(found: os.stat_result) -> str:
    """See :meth:`Files.version`."""
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


def exists_already(name: str) -> ProcessingError:
    """The error for a name that is taken."""
    return ProcessingError(
        "file_exists",
        f"There is a file {name!r} already. Choose another name, or say that it may be overwritten.",
    )
