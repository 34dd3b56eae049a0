"""Errors: the reasons, their codes, and the exceptions that carry them.

    CreemsonError
    ├── ConnectionLost     1001  the connection, the peer or the server is gone
    ├── InvalidFormat      1002  the message cannot be understood, or is not allowed
    └── ProcessingError    1003  the message was understood, but the request failed

A code names a family of errors; a *reason* (a slug of :data:`REASONS`) names the error. The codes are message codes:
some equal close codes of RFC 6455, but they are never used as close codes.
"""

import errno
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar

import attrs

__all__ = [
    "HOW_TO_AUTHENTICATE",
    "REASONS",
    "SHUTDOWN_REASON",
    "CloseCode",
    "Code",
    "ConnectionLost",
    "CreemsonError",
    "DatabaseError",
    "InvalidFormat",
    "ObjectStoreError",
    "ProcessingError",
    "Reason",
    "database_away",
    "disk_error",
    "error_for",
    "internal_error",
    "is_disk_full",
    "shutting_down",
    "storage_full",
]


class Code(IntEnum):
    """The three message codes, known to the oldest clients."""

    CONNECTION_LOST = 1001
    INVALID_FORMAT = 1002
    PROCESSING_ERROR = 1003


class CloseCode(IntEnum):
    """WebSocket close codes in use (RFC 6455 section 7.4.1; 4000-4999 are private use, 7.4.2)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_PAYLOAD = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    UNAUTHENTICATED = 4401
    TIMED_OUT = 4408
    RATE_LIMITED = 4429


@attrs.frozen
class Reason:
    """One row of :data:`REASONS`.

    Attributes:
        code: the family of the error.
        retryable: whether the same request, unchanged, may succeed later.
        status: the HTTP status of the same error.
    """

    code: Code
    retryable: bool
    status: int


def _rows(code: Code, **rows: tuple[bool, int]) -> dict[str, Reason]:
    return {slug: Reason(code, retryable, status) for slug, (retryable, status) in rows.items()}


REASONS: Mapping[str, Reason] = MappingProxyType(
    _rows(
        Code.CONNECTION_LOST,
        connection_lost=(True, 503),
        shutting_down=(True, 503),
    )
    | _rows(
        Code.INVALID_FORMAT,
        invalid_json=(False, 400),
        invalid_message=(False, 400),
        unknown_type=(False, 400),
        duplicate_id=(False, 400),
        message_too_large=(False, 413),
        invalid_filename=(False, 400),
        invalid_columns=(False, 400),
        unexpected_binary=(False, 400),
        offset_mismatch=(False, 400),
        size_mismatch=(False, 400),
        unauthenticated=(False, 401),
        forbidden=(False, 403),
        rate_limited=(True, 429),
        too_many_connections=(True, 503),
    )
    | _rows(
        Code.PROCESSING_ERROR,
        file_not_found=(False, 404),
        file_exists=(False, 409),
        file_changed=(False, 409),
        unsupported_format=(False, 415),
        unreadable_file=(False, 400),
        column_not_found=(False, 400),
        job_not_found=(False, 404),
        job_timeout=(False, 503),
        cancelled=(False, 409),
        out_of_memory=(False, 503),
        storage_full=(True, 507),
        upload_too_large=(False, 413),
        checksum_mismatch=(True, 400),
        worker_died=(True, 503),
        busy=(True, 503),
        internal=(False, 500),
    )
)
"""Every reason of the protocol: its family, whether a retry may succeed, and its HTTP status."""


class CreemsonError(Exception):
    """Base class of all errors that callers of this package should handle.

    Args:
        reason: a slug in :data:`REASONS` that belongs to this class's family.
        message: text for people: what was wrong, with the value, and what to do.
        details: one line per fault, if there are several faults or if they have a path in the message.
        retry_after: seconds after which to retry, if known.

    Raises:
        ValueError: the reason is unknown or belongs to another family.
    """

    code: ClassVar[Code]

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        details: Sequence[str] = (),
        retry_after: float | None = None,
    ) -> None:
        if reason not in REASONS or REASONS[reason].code is not self.code:
            raise ValueError(f"{reason!r} is not a reason of {type(self).__name__}")
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = tuple(details)
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request, unchanged, may succeed later."""
        return REASONS[self.reason].retryable


class ConnectionLost(CreemsonError):  # noqa: N818 - the protocol's name of 1001
    """1001: the connection, the peer or the server is gone."""

    code = Code.CONNECTION_LOST


class InvalidFormat(CreemsonError):  # noqa: N818 - the protocol's name of 1002
    """1002: the message cannot be understood, or is not allowed."""

    code = Code.INVALID_FORMAT


class ProcessingError(CreemsonError):
    """1003: the message was understood, but the request failed."""

    code = Code.PROCESSING_ERROR


_FAMILIES: Mapping[Code, type[CreemsonError]] = MappingProxyType(
    {family.code: family for family in (ConnectionLost, InvalidFormat, ProcessingError)}
)


def error_for(
    reason: str, message: str, *, details: Sequence[str] = (), retry_after: float | None = None
) -> CreemsonError:
    """Make the exception for a reason.

    An unknown reason (from a newer server) becomes ``internal``.

    >>> error_for("busy", "The queue is full.")
    ProcessingError('The queue is full.')
    """
    known = reason if reason in REASONS else "internal"
    family = _FAMILIES[REASONS[known].code]
    return family(known, message, details=details, retry_after=retry_after)


class ObjectStoreError(OSError):
    """The object store failed.

    Args:
        message: text for the operator: what was wrong, and where; without credentials.
    """

    def __init__(self, message: str) -> None:
        super().__init__(errno.EIO, message)

    def __str__(self) -> str:
        return str(self.strerror)


class DatabaseError(OSError):
    """The database server with the catalog failed.

    Args:
        message: text for the operator: what was wrong, and where; without credentials.
        passing: whether it cannot be used at the moment, as while it restarts; otherwise, waiting does not help.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(errno.EIO, message)
        self.passing = passing

    def __str__(self) -> str:
        return str(self.strerror)


def is_disk_full(error: OSError) -> bool:
    """Return whether the disk or a quota of the system is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_error(error: OSError, *, name: str | None = None) -> ProcessingError:
    """Make the error that a peer gets when the server's disk, object store or database fails; the log has the details.

    Args:
        error: the error of the disk.
        name: name of the file for which the disk has no space.
    """
    if isinstance(error, ObjectStoreError):
        return ProcessingError(
            "busy",
            "The server cannot reach its object store at the moment. The error was logged; try again later.",
            retry_after=5.0,
        )
    if isinstance(error, DatabaseError):
        # What it says is for the operator: it names hosts, and may quote rows.
        if error.passing:
            return database_away()
        return ProcessingError(
            "internal", "The server's database failed. The error was logged; try again later."
        )
    if is_disk_full(error):
        full = "The server's disk is full" if name is None else f"The server's disk has no space for {name!r}"
        return ProcessingError("storage_full", f"{full}. Delete files, or ask the operator for more space.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ProcessingError(
            "internal",
            "The server's disk is read-only at the moment. The error was logged; try again later.",
        )
    if error.errno == errno.EBUSY:
        return ProcessingError(
            "busy",
            "The server's catalog is locked by another program. Try again in a moment.",
            retry_after=5.0,
        )
    return ProcessingError(
        "internal", f"The server's disk failed ({error.strerror}). The error was logged; try again later."
    )


def database_away() -> ProcessingError:
    """Return the error for a request that needs the database with the catalog, which cannot be reached."""
    return ProcessingError(
        "busy",
        "The server cannot reach its database at the moment. The error was logged; try again later.",
        retry_after=5.0,
    )


def storage_full(quota: int, total: int, more: int) -> ProcessingError:
    """Return the error for bytes that do not fit the quota of a caller.

    Args:
        quota: maximum number of bytes.
        total: number of bytes that are stored.
        more: number of bytes that do not fit.
    """
    return ProcessingError(
        "storage_full",
        f"You may store {quota:,} bytes, {total:,} are stored already; {more:,} more do not fit. "
        "Delete files that you no longer need.",
    )


HOW_TO_AUTHENTICATE = "send `hello` with a token, or Authorization: Bearer TOKEN"
"""What a peer without a token must do, in the words of the protocol; commands have other words for it."""
SHUTDOWN_REASON = "the server is shutting down"
"""Reason in the close frame of a connection that the server closes while it shuts down."""


def shutting_down() -> ConnectionLost:
    """Return the error for a request that arrives while the server is shutting down."""
    return ConnectionLost("shutting_down", "The server is shutting down. Try again when it is back.")


def internal_error() -> ProcessingError:
    """Return the error for a bug in the server; the caller must log the bug."""
    return ProcessingError("internal", "The server failed unexpectedly. The error was logged.")
