"""The interface of unfinished uploads, and what both kinds of stores say of them."""

from typing import Any, Protocol, TypeAlias

from creemson.errors import ProcessingError

__all__ = ["OwnPart", "Part", "Uploads", "check_digest", "file_exists", "same_content", "upload_taken"]


class Announced(Protocol):
    """What was announced of the content of an unfinished upload, as the catalog has it."""

    @property
    def sha256(self) -> str | None:
        """Digest, if it was announced."""

    @property
    def fingerprint(self) -> str | None:
        """What the client has chosen to recognise the content, if it was announced."""


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


class Uploads(Protocol):
    """The unfinished uploads of one caller. All methods block."""

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
            The part, which already has ``part.size`` bytes. End it with :meth:`finish`, :meth:`save` or
            :meth:`discard` of the same store.

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

    def remove(self, name: str) -> bool:
        """Remove an unfinished upload that is not open; return whether there was one."""


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


def same_content(row: Announced, sha256: str | None, fingerprint: str | None) -> bool:
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
