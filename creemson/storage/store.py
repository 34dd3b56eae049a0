"""The interface of stores: the files, outputs and unfinished uploads of one caller, and what the catalog knows of them.

The rest of the server accesses files only through stores. Every method may be called from any thread. Methods block,
except where they say otherwise; :attr:`Store.is_remote` tells which ones may wait for a network.

:mod:`creemson.storage.folder` keeps the bytes in a data folder, :mod:`creemson.storage.objects` in an object store.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

import attrs

from creemson.catalog.catalog import PartRow
from creemson.catalog.objects import ObjectRow
from creemson.catalog.shared.claims import Claim
from creemson.errors import ProcessingError
from creemson.model.identity import Identity
from creemson.model.nearest import nearest
from creemson.model.results import FileInfo

__all__ = [
    "HINT_CANDIDATES",
    "Found",
    "OpenFile",
    "Part",
    "Store",
    "Stream",
    "check_digest",
    "file_changed",
    "file_exists",
    "file_not_found",
    "same_content",
    "upload_taken",
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


class Part(Protocol):
    """An unfinished upload, as its owner sees it; the store changes it."""

    @property
    def name(self) -> str:
        """Name that the file will have."""

    @property
    def size(self) -> int:
        """Number of bytes written."""

    @property
    def durable(self) -> int:
        """Number of these that survive a loss of power."""


OwnPart: TypeAlias = Any
"""A part that the same store has begun; each implementation has a class of its own for them."""


class Store(Protocol):
    """The store of one caller."""

    @property
    def is_remote(self) -> bool:
        """Whether :meth:`publish_output` and :meth:`discard_output` wait for a network, so they need a thread."""

    # --- files ---------------------------------------------------------------------------------------

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
        """Return what a worker reads, for a file that :meth:`find` or :meth:`find_output_of` has found."""

    def find_version(self, name: str, version: str) -> Found:
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
            Whether the file has this version; then :meth:`find_version` finds it.

        Raises:
            OSError: the disk failed.
        """

    def versions(self) -> set[str]:
        """Return the versions of the uploaded files, and of bytes that are kept."""

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

    # --- quota ---------------------------------------------------------------------------------------

    def room(self) -> int | None:
        """Return the number of bytes that the caller may still store; None if there is no quota. Does not wait."""

    def check_quota(self, more: int = 1) -> None:
        """Check that ``more`` bytes may be stored. Does not wait.

        Raises:
            ProcessingError: ``storage_full``.
        """

    # --- uploads -------------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        *,
        size: int,
        sha256: str | None,
        fingerprint: str | None = None,
        overwrite: bool,
        resume: bool,
    ) -> Part:
        """Open an upload: resume an unfinished one of the same name, size and content, or begin a new one.

        The content is the same if digest or fingerprint was given both times, and neither differs.

        Args:
            name: name that the file will have.
            size: number of bytes that it will have.
            sha256: digest of its content, if announced.
            fingerprint: what the client has chosen to recognise the content, if announced.
            overwrite: whether it may replace a file of the same name.
            resume: whether an unfinished upload may be resumed; False removes it.

        Returns:
            The part, which already has ``part.size`` bytes. End it with this store's :meth:`finish`, :meth:`save`
            or :meth:`discard`.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``file_exists`` or ``storage_full``.
        """

    def begin_unannounced(self, name: str, *, least: int) -> Part:
        """Open an upload of unknown size that replaces a file of the same name and cannot be resumed.

        Args:
            name: name that the file will have.
            least: number of bytes that it will have at least. They count at once; further ones as they are written.

        Raises:
            InvalidFormat: ``invalid_filename``.
            ProcessingError: ``storage_full``.
        """

    def settle(self, part: OwnPart) -> None:
        """Count an upload whose bytes have all arrived as large as it is, if it was claimed to be larger."""

    def write(self, part: OwnPart, data: bytes) -> int:
        """Append to an upload, and make its bytes durable from time to time.

        Returns:
            The number of its bytes that survive a loss of power.

        Raises:
            ProcessingError: ``storage_full``.
        """

    def sync(self, part: OwnPart) -> int:
        """Make the bytes of a resumable upload durable, and remember how many they are.

        Returns:
            Their number.

        Raises:
            ProcessingError: ``storage_full``.
        """

    def finish(self, part: OwnPart, sha256: str | None) -> str:
        """Turn an upload into a file under its name, durably.

        Args:
            part: the upload.
            sha256: digest that the bytes must have, in hexadecimal; None accepts any digest.

        Returns:
            The digest of the bytes.

        Raises:
            ProcessingError: ``checksum_mismatch``, ``file_exists`` or ``storage_full``; the part is gone.
        """

    def take_back(self, part: OwnPart) -> None:
        """Remove the file that an upload has become; a later file of the same name stays, even with the same bytes."""

    def save(self, part: OwnPart) -> None:
        """Close an upload so that it can be resumed later; if it is not resumable, remove it."""

    def discard(self, part: OwnPart) -> None:
        """Close an upload and remove its bytes."""

    def drop_part(self, name: str) -> bool:
        """Remove an unfinished upload that is not open; return whether there was one."""

    # --- outputs -------------------------------------------------------------------------------------

    def output_path(self, name: str) -> str:
        """Return what a worker writes an output of this name to, or a rendering of an output. Does not wait.

        End it with :meth:`publish_output` or :meth:`discard_output`.
        """

    def publish_output(self, name: str, target: str, claim: Claim | None = None) -> None:
        """Count and publish an output, or a rendering of one, that a worker has written, with what belongs to it.

        Args:
            name: name of the output.
            target: what :meth:`output_path` returned.
            claim: whose job it is an output of, if several servers share the jobs.

        Raises:
            ProcessingError: ``storage_full``: it does not fit the quota, and was removed.
            LostClaimError: the job belongs to another server by now, or has ended; nothing was published. The caller
                must call :meth:`discard_output`.
            OSError: the object store failed.
        """

    def discard_output(self, target: str) -> None:
        """Remove what a worker may have written to ``target`` without an end; never fails."""

    def expect_output(self, name: str, size: int, texts_size: int | None = None) -> None:
        """Note the size of a complete output: from now on, a file of another size is not served in its place.

        Does not wait.

        Args:
            name: name of the output.
            size: its size in bytes.
            texts_size: that of its texts; None if it has none.
        """

    def has_output(self, name: str) -> bool:
        """Return whether there is an output of this name that can be served, with its texts. Does not wait."""

    def is_hidden(self, output: str) -> bool:
        """Return whether an upload has the name of an output, or of another file of it, and is found in its place.

        Does not wait.
        """

    def find_output_of(self, name: str) -> Path | None:
        """Return the stored output of which ``name`` is a rendering in another format, if it exists. Does not wait.

        Raises:
            InvalidFormat: ``invalid_filename``.
        """

    def remove_output(self, name: str) -> None:
        """Remove an output with its renderings, texts and file of rejects; no effect if it does not exist.

        Raises:
            OSError: the disk failed.
        """

    # --- sweeping ------------------------------------------------------------------------------------

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


def check_digest(name: str, digest: str, announced: str | None) -> None:
    """Check that an upload has the digest that was announced, if one was.

    Raises:
        ProcessingError: ``checksum_mismatch``.
    """
    if announced is not None and announced.lower() != digest:
        raise ProcessingError(
            "checksum_mismatch",
            f"The bytes of {name!r} have SHA-256 {digest}, but {announced} was announced. Try again.",
        )


def file_exists(name: str) -> ProcessingError:
    """Return the error for a name that is already used."""
    return ProcessingError(
        "file_exists",
        f"A file {name!r} already exists. Choose another name, or allow overwriting it.",
    )


def same_content(row: PartRow | ObjectRow, sha256: str | None, fingerprint: str | None) -> bool:
    """Return whether an unfinished upload has the content that is announced now."""
    pairs = ((row.sha256, sha256), (row.fingerprint, fingerprint))
    both = [(old, new) for old, new in pairs if old is not None and new is not None]
    return bool(both) and all(old == new for old, new in both)


def upload_taken(name: str, *, deleted: bool) -> ProcessingError:
    """Return the error for an upload that another connection has ended.

    Args:
        name: name of the file.
        deleted: whether the file was deleted; otherwise, another connection has taken the upload over.
    """
    why = (
        f"{name!r} was deleted during its upload. Upload it again if it is still needed."
        if deleted
        else f"Another connection has taken over the upload of {name!r}."
    )
    return ProcessingError("cancelled", why)
