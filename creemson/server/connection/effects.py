"""Effects: the decisions of the protocol, which the connection actor carries out in their order.

The result of an effect with a ``request`` goes to the named method of ``Protocol``, or to ``fail()``.
"""

from typing import TypeAlias

import attrs

from creemson.errors import CloseCode
from creemson.jobs.commands import Ask
from creemson.wire.messages import ServerMessage

__all__ = [
    "AskProcessor",
    "Close",
    "DeleteFile",
    "DropUpload",
    "Effect",
    "FinishUpload",
    "ListFiles",
    "OpenUpload",
    "RemoveUpload",
    "Send",
    "StopDownload",
    "WriteChunk",
]

# --- to the peer -------------------------------------------------------------------------------------


@attrs.frozen
class Send:
    """Send a message.

    Attributes:
        message: the message.
        replaces: if an unsent message has the same value, this one takes its place (newer progress).
        follows: later messages whose ``replaces`` has this value must not overtake this message.
        encoded: the text of the message if it is encoded already; a large one is encoded in a thread.
    """

    message: ServerMessage
    replaces: int | None = None
    follows: int | None = None
    encoded: str | None = None


@attrs.frozen
class Close:
    """Send what is waiting, then the close frame."""

    code: CloseCode
    reason: str


@attrs.frozen
class StopDownload:
    """Stop sending the bytes of a download; there is no result."""

    request: int


# --- to the processor --------------------------------------------------------------------------------


@attrs.frozen
class AskProcessor:
    """Send a command to the processor; its replies go to ``reply()``, and the bytes of a file go to the peer."""

    request: int
    ask: Ask


# --- to the store ------------------------------------------------------------------------------------


@attrs.frozen
class ListFiles:
    """List the caller's uploads; the result goes to ``files()``."""

    request: int


@attrs.frozen
class DeleteFile:
    """Remove a file; the result goes to ``deleted()``."""

    request: int
    filename: str


@attrs.frozen
class OpenUpload:
    """Start an upload, or continue it; the result goes to ``upload_opened()``."""

    request: int
    filename: str
    size: int
    sha256: str | None
    overwrite: bool
    fingerprint: str | None = None


@attrs.frozen
class WriteChunk:
    """Append to the open upload; the result goes to ``chunk_written()``."""

    request: int
    data: bytes


@attrs.frozen
class FinishUpload:
    """Put the file in place and read its columns; the result goes to ``upload_finished()`` and later ``uploaded()``."""

    request: int
    filename: str
    sha256: str | None


@attrs.frozen
class DropUpload:
    """Remove the bytes of an upload that failed; there is no result."""


@attrs.frozen
class RemoveUpload:
    """Remove a file that is already in place, since more bytes arrived than were announced; there is no result."""

    request: int
    filename: str


Effect: TypeAlias = (
    Send
    | Close
    | StopDownload
    | AskProcessor
    | ListFiles
    | DeleteFile
    | OpenUpload
    | WriteChunk
    | FinishUpload
    | DropUpload
    | RemoveUpload
)
