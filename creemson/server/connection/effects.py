"""What the protocol wants done: the effects that a connection carries out, in their order."""

from typing import TypeAlias

import attrs

from creemson.errors import CloseCode
from creemson.wire import messages
from creemson.wire.messages import Options, ServerMessage

__all__ = [
    "Attach",
    "CancelJob",
    "CancelRequest",
    "Close",
    "DeleteFile",
    "DropUpload",
    "Effect",
    "FinishUpload",
    "ListFiles",
    "ListJobs",
    "OpenDownload",
    "OpenUpload",
    "ReadColumns",
    "ReadRows",
    "RemoveUpload",
    "Send",
    "StopDownload",
    "Submit",
    "WriteChunk",
]


@attrs.frozen
class Send:
    """Send a message; a newer one with the same ``replaces`` makes an unsent older one superfluous.

    What comes with ``replaces`` equal to an earlier message's ``follows`` stays behind that message.
    """

    message: ServerMessage
    replaces: int | None = None
    follows: int | None = None


@attrs.frozen
class Close:
    """Send what is waiting, then the close frame."""

    code: CloseCode
    reason: str


@attrs.frozen
class Submit:
    """Have a job done; what becomes of it comes back by :meth:`Protocol.job_event`."""

    request: int
    query: messages.Query
    timeout: float | None
    keep: bool


@attrs.frozen
class Attach:
    """Follow a job; what becomes of it comes back as for :class:`Submit`."""

    request: int
    job: str
    after: int


@attrs.frozen
class ListJobs:
    """Find out the caller's jobs; answered by :meth:`Protocol.jobs`."""

    request: int


@attrs.frozen
class CancelJob:
    """Stop a job of the caller's; answered by :meth:`Protocol.cancelled` or ``fail``."""

    request: int
    job: str


@attrs.frozen
class CancelRequest:
    """Stop waiting for the job of another request; answered as :class:`CancelJob` is."""

    request: int
    other: int


@attrs.frozen
class ReadColumns:
    """Find out a file's columns; answered by :meth:`Protocol.columns` or ``fail``."""

    request: int
    filename: str
    options: Options | None = None


@attrs.frozen
class ReadRows:
    """Find out a window of a table; answered by :meth:`Protocol.rows` or ``fail``."""

    request: int
    filename: str
    offset: int
    limit: int
    options: Options | None = None


@attrs.frozen
class ListFiles:
    """Find out what the caller has uploaded; answered by :meth:`Protocol.files` or ``fail``."""

    request: int


@attrs.frozen
class DeleteFile:
    """Remove a file; answered by :meth:`Protocol.deleted` or ``fail``."""

    request: int
    filename: str


@attrs.frozen
class OpenUpload:
    """Begin an upload or go on with it; answered by :meth:`Protocol.upload_opened` or ``fail``."""

    request: int
    filename: str
    size: int
    sha256: str | None
    overwrite: bool


@attrs.frozen
class WriteChunk:
    """Append to the open upload; answered by :meth:`Protocol.chunk_written` or ``fail``."""

    request: int
    data: bytes


@attrs.frozen
class FinishUpload:
    """Let the file appear; answered by :meth:`Protocol.uploaded` or ``fail``."""

    request: int
    filename: str
    sha256: str | None


@attrs.frozen
class DropUpload:
    """Remove what there is of an upload that failed; not answered."""


@attrs.frozen
class RemoveUpload:
    """Take back a file that has appeared: more bytes came for it than were announced; not answered."""

    request: int
    filename: str


@attrs.frozen
class OpenDownload:
    """Send a file's bytes between the two messages; ended by :meth:`Protocol.downloaded` or ``fail``."""

    request: int
    filename: str
    offset: int


@attrs.frozen
class StopDownload:
    """Send no more of a download; not answered."""

    request: int


Effect: TypeAlias = (
    Send
    | Close
    | Submit
    | Attach
    | ListJobs
    | CancelJob
    | CancelRequest
    | ReadColumns
    | ReadRows
    | ListFiles
    | DeleteFile
    | OpenUpload
    | WriteChunk
    | FinishUpload
    | DropUpload
    | RemoveUpload
    | OpenDownload
    | StopDownload
)
