"""The folders of one caller: the names of files, and how files are found on disk.

    DATA/uploads/NAME    uploaded files, and files that were copied there by hand
    DATA/outputs/NAME    outputs of jobs
    DATA/parts/…         unfinished uploads, see :mod:`creemson.storage.folder.partial`
    DATA/kept/VERSION    replaced bytes that accepted jobs still need, see :mod:`creemson.storage.folder.kept`

A file gets its name by one rename (or link) within the same file system, after its bytes are on disk. So it appears
complete or not at all.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from creemson.errors import InvalidFormat, disk_error, is_disk_full
from creemson.model.filenames import MAX_NAME_BYTES, check_name, composed
from creemson.storage import durable
from creemson.storage.names import (
    is_temporary,
    output_names,
    remove_path,
    rendering_of,
)
from creemson.storage.store import HINT_CANDIDATES, file_not_found

__all__ = ["Files", "disk_faults"]

MAX_LISTED = 10_000
"""Maximum number of files among which a name that is spelled in an unusual way is looked for: 5 ms."""


@contextlib.contextmanager
def disk_faults(name: str) -> Iterator[None]:
    """Turn the error of a full disk or quota into ``storage_full``."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_error(error, name=name) from error
        raise


@attrs.frozen
class Files:
    """The files of one caller.

    Args:
        root: folder of the caller; :meth:`prepare` creates it.
        data: data folder that contains ``root``; None if ``root`` is the data folder itself.
    """

    root: Path
    _data: Path | None = None

    def within(self, path: Path) -> str:
        """Return the path relative to the data folder, as in the catalog."""
        return str(path.relative_to(self.data))

    def key(self, path: Path) -> str:
        """Return the path relative to the caller's folder, as in the quota's count."""
        return str(path.relative_to(self.root))

    def size_of(self, key: str) -> int:
        """Return the bytes of the file with a key; 0 if there is none."""
        try:
            found = os.lstat(f"{self.root}/{key}")
        except FileNotFoundError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def sizes(self) -> dict[str, int]:
        """Return the bytes of all complete files by their keys; takes a second for 10^5 files."""
        sizes = {}
        for folder in (self.uploads, self.outputs, self.kept):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                        if entry.is_file(follow_symlinks=False) and not is_temporary(entry.name):
                            sizes[f"{folder.name}/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
        return sizes

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
        """The folder of outputs."""
        return self.root / "outputs"

    @property
    def parts(self) -> Path:
        """The folder of unfinished uploads."""
        return self.root / "parts"

    @property
    def kept(self) -> Path:
        """The folder of replaced bytes that accepted jobs still need."""
        return self.root / "kept"

    def prepare(self) -> None:
        """Create the folders, and remove incomplete outputs of a crashed server.

        Raises:
            OSError: a folder cannot be created or written to.
        """
        with self._explained():
            folders = (self.uploads, self.outputs, self.parts, self.kept)
            durable.make_folders(folders)
            for folder in folders:
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            for path in self.outputs.iterdir():
                if is_temporary(path.name):
                    remove_path(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other servers out of the folder: they would remove unfinished files as leftovers.

        The lock ends with the process, even if it is killed (flock(2)).

        Raises:
            OSError: another server uses the folder.
        """
        with self._explained():
            durable.make_folders([self.root])
            lock = (self.root / "lock").open("wb")
        with lock as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(
                    error.errno,
                    "Another server uses this data folder. Stop that one, or choose another folder with --data-dir "
                    "(storage.data_dir): each server needs its own",
                    str(self.root),
                ) from None
            yield

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Add advice to the error for a folder that cannot be written to."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise OSError(
                error.errno,
                f"The data folder {self.root} cannot be written to. Let the server's user write there, or choose "
                f"another one with --data-dir ({os.strerror(error.errno)})",
                error.filename,
            ) from error

    def find(self, name: str) -> Path:
        """Find an uploaded file; if no upload has this name, an output.

        Args:
            name: name given by the client.

        Returns:
            The path of a regular file.

        Raises:
            InvalidFormat: ``invalid_filename``, also for a symbolic link, which could lead elsewhere.
            ProcessingError: ``file_not_found``, with the most similar name.
        """
        return Path(self.look_up(name)[0])

    def look_up(self, name: str) -> tuple[str, os.stat_result]:
        """Do the same as :meth:`find`, but return the path as a string, and the file's status.

        Every request does this, so it avoids ``Path`` objects: 4 µs instead of 15.
        """
        name = check_name(name)
        for spelled in (name,) if name.isascii() else self._spellings(name):
            for folder in ("uploads", "outputs"):
                path = f"{self.root}/{folder}/{spelled}"
                try:
                    found = os.lstat(path)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                        raise
                    continue
                if stat.S_ISREG(found.st_mode):
                    return path, found
                if stat.S_ISLNK(found.st_mode):
                    raise InvalidFormat(
                        "invalid_filename",
                        f"{name!r} is a link and could lead out of the data folder; use the file itself.",
                    )
        raise file_not_found(name, self._some_names())

    def _spellings(self, name: str) -> Iterator[str]:
        """Yield how a composed name may be spelled on the disk: files that were put there by hand may be decomposed.

        Mixtures of composed and decomposed characters are looked for among a bounded number of uploaded files.
        """
        yield name
        decomposed = unicodedata.normalize("NFD", name)
        if decomposed != name:
            yield decomposed
        with os.scandir(self.uploads) as entries:
            for entry in itertools.islice(entries, MAX_LISTED):
                if composed(entry.name) == name and entry.name not in (name, decomposed):
                    yield entry.name

    def uploads_named(self, name: str) -> list[Path]:
        """Return the uploaded files and links with a name, however it is spelled; the composed spelling first."""
        spellings = (name,) if name.isascii() else self._spellings(name)
        found = [
            self.uploads / spelled for spelled in spellings if len(os.fsencode(spelled)) <= MAX_NAME_BYTES
        ]
        return [path for path in found if os.path.lexists(path)]

    def find_output_of(self, name: str, formats: Sequence[str]) -> Path | None:
        """Return the stored output (in the first of ``formats``) of which ``name`` is a rendering, if it exists."""
        found = rendering_of(check_name(name), formats)
        stored = None if found is None else self.outputs / found[0]
        return stored if stored is not None and stored.is_file() else None

    def output_files(self, name: str, formats: Sequence[str]) -> list[Path]:
        """Return the paths of a stored output, its renderings in other formats, its texts and its file of rejects.

        Does not list the folder: with a thousand outputs that takes 1 ms; removing files that may not exist, 0.03 ms.
        """
        return [self.outputs / one for one in output_names(name, formats)]

    def has_upload(self, names: Iterable[str]) -> bool:
        """Return whether an uploaded file has one of these names, which are :func:`composed`; 1 µs for each name."""
        return any(os.access(f"{self.root}/uploads/{name}", os.F_OK) for name in names)

    def _some_names(self) -> list[str]:
        """Return the names of some files, uploaded ones first.

        A bounded number of entries is read: a folder of 100,000 files takes 50 ms, and this is done in the event loop.
        """
        names: list[str] = []
        for folder in (self.uploads, self.outputs):
            with os.scandir(folder) as entries:
                names += (
                    composed(entry.name)
                    for entry in itertools.islice(entries, HINT_CANDIDATES - len(names))
                    if entry.is_file(follow_symlinks=False) and not is_temporary(entry.name)
                )
        return names
