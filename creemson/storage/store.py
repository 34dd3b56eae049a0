"""The interface of stores: the files, outputs and unfinished uploads of one caller, and what the catalog knows of them.

    Store            what is found, listed, opened, deleted and swept
    Store.versions   what accepted jobs still need of it
    Store.uploads    unfinished uploads, see :mod:`creemson.storage.uploads`
    Store.outputs    see :mod:`creemson.storage.outputs`
    Store.quota      see :mod:`creemson.storage.quota`

The rest of the server accesses files only through stores. Every method may be called from any thread. Methods block,
except where they say otherwise; :attr:`Outputs.is_remote` tells which ones may wait for a network. Of several servers,
all may wait for the database that these share, but :meth:`Store.is_upload` and those that begin or discard an output.

:mod:`creemson.storage.folder` keeps the bytes in a data folder, :mod:`creemson.storage.objects` in an object store.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import attrs

from creemson.errors import ProcessingError
from creemson.model.identity import Identity
from creemson.model.nearest import nearest
from creemson.model.results import FileInfo
from creemson.storage.outputs import Outputs
from creemson.storage.quota import Quota
from creemson.storage.uploads import Uploads

__all__ = [
    "HINT_CANDIDATES",
    "Found",
    "HeldVersions",
    "OpenFile",
    "Store",
    "Stream",
    "file_changed",
    "file_not_found",
]

HINT_CANDIDATES = 100
"""Maximum number of names that are compared for the hint \"Did you mean\"; 10,000 would take a quarter of a second."""


class Found(NamedTuple):
    """Where a file is, for a worker; the version of its content; and how the worker recognises the file."""

    path: str
    version: str
    identity: Identity


class Stream(Protocol):
    """The bytes of an open file."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset`` on; none at the end of the file. May wait.

        Raises:
            OSError: the disk or the object store failed.
        """

    def ready(self, offset: int, room: memoryview) -> int:
        """Read bytes from ``offset`` on into ``room``, without waiting.

        Returns:
            Their number; 0 if :meth:`read_at` would wait, or returns none.
        """

    def close(self) -> None:
        """Close the file; idempotent."""

    def __enter__(self) -> Self:
        """Return the stream."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""


@attrs.frozen
class OpenFile:
    """A file that is open for reading, and remains so if it is removed or replaced meanwhile.

    Attributes:
        path: what :meth:`Store.find` returned.
        stream: its bytes; the caller must close it.
        size: in bytes.
        version: version of the content.
        modified: time of the last change, in seconds since 1970.
    """

    path: Path
    stream: Stream
    size: int
    version: str
    modified: float


class HeldVersions(Protocol):
    """The versions that accepted jobs still need; their bytes stay after the file was replaced or removed."""

    def find(self, name: str, version: str) -> Found:
        """Find a version of a file that was looked up earlier, also if the file was replaced or removed since.

        Does not wait.

        Args:
            name: name given by the client.
            version: the version; :meth:`hold` it, so that its bytes stay.

        Raises:
            ProcessingError: ``file_changed``: its bytes are gone.
        """

    def hold(self, name: str, version: str) -> bool:
        """Keep the bytes of a version until :meth:`release`, even if the file is replaced or removed.

        Does not wait.

        Returns:
            Whether the bytes can be found now; if not, nothing is held.
        """

    def release(self, version: str) -> bool:
        """End :meth:`hold`; return whether :meth:`drop` must be called. Does not wait."""

    def drop(self, version: str) -> None:
        """Remove kept bytes that nobody holds.

        Raises:
            OSError: the disk or the object store failed.
        """

    def drop_unheld(self) -> None:
        """Remove what an earlier server has kept; call this after the jobs have held what they need.

        Raises:
            OSError: the disk or the object store failed.
        """

    def recognise(self, name: str, version: str) -> bool:
        """Compute the digest of a file whose version cannot be told otherwise, for example after ``cp -r``.

        Returns:
            Whether the file has this version; then :meth:`find` finds it.

        Raises:
            OSError: the disk failed.
        """

    def present(self) -> set[str]:
        """Return the versions of the uploaded files, and of bytes that are kept."""


class Store(Protocol):
    """The store of one caller: the files that are there; what concerns the rest is in its parts."""

    @property
    def versions(self) -> HeldVersions:
        """The versions that jobs need."""

    @property
    def uploads(self) -> Uploads:
        """The unfinished uploads."""

    @property
    def outputs(self) -> Outputs:
        """The outputs of jobs."""

    @property
    def quota(self) -> Quota:
        """What the caller may still store."""

    def find(self, name: str) -> Path:
        """Find an uploaded file; if no upload has this name, an output. Counts as a use of the file. Does not wait.

        Args:
            name: name given by the client.

        Returns:
            What :meth:`open`, :meth:`digest` and :meth:`source` take. Only a store knows what it means.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``file_not_found``.
        """

    def look_up(self, name: str) -> Found:
        """Do the same as :meth:`find`, but return what a worker needs. Does not wait."""

    def source(self, path: Path) -> str:
        """Return what a worker reads, for a file that :meth:`find` or :meth:`Outputs.find_stored` has found."""

    def is_upload(self, found: Found) -> bool:
        """Whether a file was uploaded, and is no output. Does not wait."""

    def open(self, path: Path) -> OpenFile:
        """Open a file for reading.

        Args:
            path: as returned by :meth:`find`.

        Raises:
            ProcessingError: ``file_not_found``: it has been removed.
            ProcessingError: ``busy``: too many downloads are open.
            OSError: the disk failed.
        """

    def listing(self) -> tuple[FileInfo, ...]:
        """Return the uploaded files, sorted by name."""

    def delete(self, name: str) -> None:
        """Remove an uploaded file and an unfinished upload of this name; if there is neither, an output.

        A stored output goes with its renderings, texts and file of rejects; a rendering goes alone.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``file_not_found``.
        """

    def digest(self, path: Path, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""

    def record_digest(self, path: Path, version: str, sha256: str) -> None:
        """Record the SHA-256 of a version of a file without a digest; it does not change the version."""

    def sweep(
        self, *, keep_uploads: float, keep_outputs: float, keep_parts: float, now: float | None = None
    ) -> Sequence[str]:
        """Remove files that have not been used for long, and leftovers of a crash.

        Args:
            keep_uploads: seconds for which an uploaded file is kept after its last use.
            keep_outputs: seconds for which an output is kept after its last use.
            keep_parts: seconds for which an unfinished upload is kept after its last write.
            now: time from which the age of files is computed, in seconds since 1970; None uses the clock.

        Returns:
            The removed files, by names for the log.

        Raises:
            OSError: the catalog cannot be read, so nothing is removed; or the disk failed.
        """


def file_changed(name: str) -> ProcessingError:
    """Return the error for a version whose bytes are gone."""
    return ProcessingError(
        "file_changed",
        f"The file {name!r} was changed or removed since this was asked for, and its earlier bytes are gone. "
        "Ask again.",
    )


def file_not_found(name: str, others: Iterable[str]) -> ProcessingError:
    """Return the error for a name that no file has, with the most similar of some other names.

    Names are compared without their extensions: most files have the same one, which makes short names alike.
    """
    by_stem: dict[str, list[str]] = {}
    for other in others:
        by_stem.setdefault(PurePath(other).stem, []).append(other)
    stem = nearest(PurePath(name).stem, by_stem)
    near = None if stem is None else nearest(name, by_stem[stem], 0.0)
    hint = f"Did you mean {near!r}?" if near else "Upload it first."
    return ProcessingError("file_not_found", f"There is no file {name!r}. {hint}")
