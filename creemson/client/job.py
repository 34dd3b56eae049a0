"""A job from the client's point of view: its progress, and one result."""

import math
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import attrs
import trio

from creemson.client.arguments import request_of
from creemson.client.connection import Connection, to_exception
from creemson.client.local.source import Content
from creemson.client.result import Result
from creemson.client.session import Session
from creemson.client.transfers import Transfers
from creemson.errors import ConnectionLost, CreemsonError, ProcessingError
from creemson.model.results import ResultData
from creemson.wire import messages

__all__ = ["Job", "Progress", "cancel_job"]


@attrs.frozen
class Progress:
    """The progress of a job.

    Attributes:
        phase: ``uploading``, ``queued``, ``reading``, ``sorting`` or ``writing``.
        bytes_read: bytes of the input that were read, or of the upload that were sent.
        bytes_total: size of the input in bytes.
        fraction: progress of the phases ``uploading`` and ``reading``, from 0 to 1.
        rows: rows of the input that were read.
        rows_per_s: rows of the input per second.
        eta_s: estimated remaining seconds; None if unknown.
    """

    phase: str
    bytes_read: int = 0
    bytes_total: int = 0
    fraction: float = 0.0
    rows: int = 0
    rows_per_s: float = 0.0
    eta_s: float | None = None


_FIELDS = tuple(field.name for field in attrs.fields(Progress))


class Job:
    """A job on the server: iterate over its progress, await its result; made by ``Client.process``.

    ::

        job = client.process("flights.csv", columns=["carrier"])
        async for progress in job:
            print(progress.phase, progress.fraction)
        result = await job

    Args:
        session: runs the requests.
        transfers: uploads the input, and fetches the result.
        request: the message that starts the job; None for a job that exists already.
        job: the id of a job that exists already.
        after: number of the last event that is already known.
        content: what to upload first, under the request's file name: a local file, or its content.
        overwrite: whether the upload may replace a file of that name.
        is_temporary: whether to remove the upload when the job has ended.

    Attributes:
        id: the job's id; None until the server has accepted it.
        position: number of jobs ahead in the queue when it was accepted; 0 starts immediately.
        progress: the latest progress.
        logs: messages that the server sent about the job.
    """

    def __init__(
        self,
        session: Session,
        transfers: Transfers,
        *,
        request: messages.Process | None = None,
        job: str | None = None,
        after: int = 0,
        content: Path | Content | None = None,
        overwrite: bool = False,
        is_temporary: bool = False,
    ) -> None:
        self._session = session
        self._transfers = transfers
        self._request = request
        self._content = content
        self._names_file_of_server = request is not None and content is None
        self._overwrite = overwrite
        self._is_temporary = is_temporary
        self._seq = after  # number of the last event that has arrived
        self._outcome: Result | Exception | None = None
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        self.id = job
        self.position: int | None = None
        self.progress: Progress | None = None
        self.logs: list[messages.Log] = []

    @property
    def done(self) -> bool:
        """Whether the job has ended, with a result or an error."""
        return self._outcome is not None

    def __await__(self) -> Generator[Any, Any, Result]:
        return self.result().__await__()

    async def result(self) -> Result:
        """Wait for the result.

        Raises:
            CreemsonError: the job failed or was cancelled, or the connection was lost for too long.
            OSError: the file to upload cannot be read.
        """
        await trio.lowlevel.checkpoint()
        while self._outcome is None:
            await self._changed.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """Iterate over the progress until the job ends; a slow consumer gets only the latest."""
        seen = None
        while True:
            changed = self._changed
            if self.progress is not None and self.progress is not seen:
                seen = self.progress
                yield seen
            elif self._outcome is not None:
                return
            else:
                await changed.wait()

    async def accepted(self) -> str:
        """Wait until the server has accepted the job, that is, has written it to disk.

        Returns:
            The job's id.

        Raises:
            CreemsonError: the server refuses the job.
            OSError: the file to upload cannot be read.
        """
        while self.id is None and self._outcome is None:
            await self._changed.wait()
        if self.id is None:
            await self.result()
        assert self.id is not None
        return self.id

    async def cancel(self) -> None:
        """Stop the job; awaiting it then raises ``cancelled``. Does nothing if the job has ended."""
        if self._outcome is not None:
            return
        if self.id is None:
            message = "The job was cancelled before the server accepted it."
            self._end(ProcessingError("cancelled", message))
            self._scope.cancel()
            if self._request is not None:
                self._session.post(messages.Cancel(id=self._session.new_id(), request=self._request.id))
            return
        try:
            await cancel_job(self._session, self.id)
        except ProcessingError as error:
            if error.reason != "job_not_found":  # it has just ended
                raise

    def start(self, nursery: trio.Nursery) -> None:
        """Start the job, or follow it, in a nursery; the client calls this once.

        Args:
            nursery: the client's nursery; not used if the session is closed.
        """
        if self._session.failure is not None:
            self._end(self._session.failure)
        else:
            nursery.start_soon(self._run)

    # --- following the job ---------------------------------------------------------------------------

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _end(self, outcome: Result | Exception) -> None:
        if self._outcome is None:
            if (
                self._names_file_of_server
                and isinstance(outcome, ProcessingError)
                and outcome.reason == "file_not_found"
            ):
                # The server cannot know that somebody may have meant a local file, as in `process("sales.csv")`.
                outcome.add_note("There is no local file with this path, either.")
            self._outcome = outcome
            self._notify()

    async def _run(self) -> None:
        with self._scope:
            try:
                if self._content is not None:
                    await self._upload(self._content)
                    self._content = None  # it may be a large table
                outcome = await self._session.persist(self._attempt)
                if isinstance(outcome, CreemsonError):
                    self._end(outcome)
                else:
                    self._end(Result(self._transfers, outcome))
            except Exception as error:  # whatever it is, it ends this job only, and not the client
                self._end(error)
            finally:
                self._remove_upload()
                self._end(ConnectionLost("connection_lost", "The client was closed before the job ended."))

    def _remove_upload(self) -> None:
        """Remove a temporary upload, without waiting for it; if there is no connection, the server does so in time."""
        if self._is_temporary and self._request is not None:
            self._session.post(messages.Delete(id=self._session.new_id(), filename=self._request.filename))

    async def _upload(self, content: Path | Content) -> None:
        assert self._request is not None

        def report(done: int, size: int) -> None:
            self.progress = Progress("uploading", done, size, done / size if size else 1.0)
            self._notify()

        await self._transfers.upload(
            content, self._request.filename, overwrite=self._overwrite, report=report, accept_same=True
        )

    async def _attempt(self, connection: Connection) -> ResultData | CreemsonError:
        try:
            return await self._follow(connection)
        except ProcessingError as error:
            if error.reason != "job_not_found" or self._request is None or self.id is None:
                raise
        # The server has lost the job, or another server answers at the same address: start the job again.
        self.id, self._seq = None, 0
        return await self._follow(connection)

    async def _follow(self, connection: Connection) -> ResultData | CreemsonError:
        """Request the job, or attach to it, and follow it until it ends; returns how it ended.

        Raises:
            CreemsonError: the request failed, which says nothing about the job.
        """
        request: messages.Process | messages.Attach
        if self.id is None:
            assert self._request is not None
            request = self._request
        else:
            request = messages.Attach(id=self._session.new_id(), job=self.id, after=self._seq)
        async with connection.exchange(request, answer_timeout=math.inf) as answers:
            while True:
                answer = await answers.receive()
                match answer:
                    case messages.Accepted():
                        self.id, self.position = answer.job, answer.position
                    case messages.Progress():
                        self._seq = answer.seq
                        self.progress = Progress(**{name: getattr(answer, name) for name in _FIELDS})
                    case messages.Log():
                        self._seq = answer.seq
                        self.logs.append(answer)
                    case messages.Result():
                        return answer.data
                    case messages.Error(seq=None):
                        raise to_exception(answer)
                    case messages.Error():  # numbered, so it is the last event of the job
                        return to_exception(answer)
                    case _:
                        continue
                self._notify()


async def cancel_job(session: Session, job: str) -> None:
    """Cancel a job on the server.

    Args:
        session: runs the request.
        job: the job's id.

    Raises:
        CreemsonError: the server refuses, for example with ``job_not_found``.
    """
    request = request_of(messages.Cancel, id=session.new_id(), job=job)
    await session.ask_once(request, messages.Cancelled, done_if="job_not_found")
