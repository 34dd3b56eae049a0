"""The uploads and the download of one connection: which one is open, and how many of its bytes have arrived. Sans-IO.

    upload ──> receiving ── the file is in place ──> complete ── its columns are read ──> uploaded
                  │ an error, cancel, takeover,         │
                  ↓ more bytes than announced           ↓ more bytes than announced
               DropUpload                            RemoveUpload

A new upload may start while the columns of the previous one are read; then binary messages belong to the new one.
"""

import attrs

from creemson.errors import InvalidFormat, ProcessingError
from creemson.jobs.commands import FindFile, StopLookUp
from creemson.server.connection.effects import (
    AskProcessor,
    DropUpload,
    Effect,
    FinishUpload,
    OpenUpload,
    RemoveUpload,
    StopDownload,
)
from creemson.wire import messages

__all__ = ["Transfers", "UploadInProgress"]


@attrs.define(eq=False)
class UploadInProgress:
    """An upload that has no final answer yet.

    Attributes:
        request: number of the request.
        message: its announcement.
        received: number of bytes that have arrived.
        reported: number of bytes that were reported to the peer as durable.
    """

    request: int
    message: messages.Upload
    received: int = 0
    reported: int = 0

    def take(self, size: int) -> bool:
        """Count a chunk of ``size`` bytes; if more arrive than were announced, count nothing and return False."""
        received = self.received + size
        if received > self.message.size:
            return False
        self.received = received
        return True

    def surplus(self, size: int) -> InvalidFormat:
        """Return the error for ``size`` bytes more than were announced."""
        return InvalidFormat(
            "size_mismatch",
            f"{self.received + size} bytes arrived for {self.message.filename!r}, but {self.message.size} were "
            "announced. The upload was dropped; start it again.",
        )

    def finish_if_whole(self) -> list[Effect]:
        """Return the effect that puts the file in place, once all bytes have arrived."""
        if self.received < self.message.size:
            return []
        return [FinishUpload(self.request, self.message.filename, self.message.sha256)]


class Transfers:
    """The open upload and the open download of one connection, at most one of each.

    Args:
        upload_bytes: maximum size of an upload.

    Attributes:
        receiving: the upload whose bytes are arriving.
        complete: the upload before it, while its columns are read and no new one has started.
        stray_reported: whether an error for binary messages without an upload was sent; reset by text messages.
    """

    def __init__(self, upload_bytes: int) -> None:
        self.receiving: UploadInProgress | None = None
        self.complete: UploadInProgress | None = None
        self.stray_reported = False
        self._upload_bytes = upload_bytes
        self._download: int | None = None  # request of the open download

    def open_upload(self, request: int, message: messages.Upload) -> OpenUpload:
        """Open an upload.

        Raises:
            ProcessingError: another one is open, or it is too large.
        """
        if self.receiving is not None:
            raise ProcessingError(
                "busy",
                f"The upload of {self.receiving.message.filename!r} is still open on this connection. "
                "Wait for its end, or open another connection.",
            )
        if message.size > self._upload_bytes:
            raise ProcessingError(
                "upload_too_large",
                f"{message.filename!r} has {message.size} bytes; the maximum is {self._upload_bytes}.",
            )
        self.receiving, self.complete = UploadInProgress(request, message), None
        return OpenUpload(
            request, message.filename, message.size, message.sha256, message.overwrite, message.fingerprint
        )

    def open_download(self, request: int, message: messages.Download) -> AskProcessor:
        """Open a download: the processor finds the file first.

        Raises:
            ProcessingError: another one is open.
        """
        if self._download is not None:
            raise ProcessingError(
                "busy",
                "A download is in progress on this connection. Wait for its end, or open another connection.",
            )
        self._download = request
        return AskProcessor(request, FindFile(message.filename))

    def stray(self, size: int) -> InvalidFormat | None:
        """Return the error for a binary message without an upload; only once for the rest of a failed upload."""
        if self.stray_reported:
            return None
        self.stray_reported = True
        return InvalidFormat(
            "unexpected_binary",
            f"{size} bytes arrived in a binary frame, but no upload is open. Send `upload` first.",
        )

    def stop(self, request: int) -> list[Effect]:
        """Return the effects that stop a transfer which the peer cancels.

        Raises:
            ProcessingError: ``job_not_found``: the upload is already complete.
        """
        if self._download == request:
            # Its file may still be looked for, or rendered.
            return [StopDownload(request), AskProcessor(request, StopLookUp(request))]
        if self.receiving is None or self.receiving.request != request:
            raise ProcessingError("job_not_found", "The upload is complete. Delete the file instead.")
        return []

    def fail(self, request: int) -> list[Effect]:
        """End the transfer of a request that fails, if it is one; return the effects that undo it."""
        if self.receiving is not None and self.receiving.request == request:
            self.receiving = None
            self.stray_reported = False
            return [DropUpload()]
        if self.complete is not None and self.complete.request == request:
            filename, self.complete = self.complete.message.filename, None
            return [RemoveUpload(request, filename)]
        if self._download == request:
            self._download = None
        return []

    def succeed(self, request: int) -> None:
        """End the transfer of a request that succeeds."""
        if self.complete is not None and self.complete.request == request:
            self.complete = None
        if self._download == request:
            self._download = None
