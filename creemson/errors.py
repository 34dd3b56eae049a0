"""What can go wrong, said once: the reasons, their codes, and the exceptions that carry them.

    CreemsonError
    ├── ConnectionLost     1001  the other side or the server went away
    ├── InvalidFormat      1002  what was sent cannot be understood or is not allowed
    └── ProcessingError    1003  what was asked for cannot be done

A code names a family, a *reason* (a slug of :data:`REASONS`) names the fault. The codes are message
codes; they collide in number with the close codes of RFC 6455 and are never used as such.
"""

import errno
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar

import attrs

__all__ = [
    "REASONS",
    "CloseCode",
    "Code",
    "ConnectionLost",
    "CreemsonError",
    "InvalidFormat",
    "ProcessingError",
    "Reason",
    "disk_error",
    "error_for",
]


class Code(IntEnum):
    """The three message codes that the oldest clients know."""

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
        code: the family, one of the three message codes.
        retryable: whether the same request may succeed later, unchanged.
        status: the HTTP status for the same fault.
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
"""Every reason of the protocol with its family, whether it is worth a retry, and its HTTP status."""


class CreemsonError(Exception):
    """Base of everything that this package raises for its callers to handle.

    Args:
        reason: a slug of :data:`REASONS` that belongs to the class's family.
        message: written for the person who reads it: what was wrong, with the value, and what to do.
        details: one line per single fault, where there are several or where they have a path.
        retry_after: seconds after which a retry makes sense, where that is known.

    Raises:
        ValueError: the reason is unknown or of another family.
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
            raise ValueError(f"{reason!r} is no reason of {type(self).__name__}")
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = tuple(details)
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, unchanged."""
        return REASONS[self.reason].retryable


class ConnectionLost(CreemsonError):  # noqa: N818 - the name that the protocol gives to 1001
    """1001: the connection, the server or the other side went away."""

    code = Code.CONNECTION_LOST


class InvalidFormat(CreemsonError):  # noqa: N818 - the name that the protocol gives to 1002
    """1002: the message cannot be understood, or it asks for what is not allowed."""

    code = Code.INVALID_FORMAT


class ProcessingError(CreemsonError):
    """1003: the message was understood, and what it asks for cannot be done."""

    code = Code.PROCESSING_ERROR


_FAMILIES: Mapping[Code, type[CreemsonError]] = MappingProxyType(
    {family.code: family for family in (ConnectionLost, InvalidFormat, ProcessingError)}
)


def error_for(
    reason: str, message: str, *, details: Sequence[str] = (), retry_after: float | None = None
) -> CreemsonError:
    """Make the exception of the family that ``reason`` belongs to.

    A reason that this version does not know (a newer server's) becomes ``internal``.

    >>> error_for("busy", "The queue is full.")
    ProcessingError('The queue is full.')
    """
    known = reason if reason in REASONS else "internal"
    family = _FAMILIES[REASONS[known].code]
    return family(known, message, details=details, retry_after=retry_after)


def disk_error(error: OSError) -> ProcessingError:
    """What a peer is told of a fault of the disk, which is logged with more words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProcessingError(
            "storage_full", "There is no room on the server's disk. Delete files or ask for room."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ProcessingError(
            "internal",
            "The server's disk can only be read at the moment, not written to. It is logged; try again later.",
        )
    if error.errno == errno.EBUSY:
        return ProcessingError(
            "busy", "The server's catalog is held by another program. Try again in a moment.", retry_after=5.0
        )
    return ProcessingError(
        "internal", f"The server could not reach its disk ({error.strerror}). It is logged; try again later."
    )
