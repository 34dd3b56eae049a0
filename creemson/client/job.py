"""Jobs as their client sees them: their progress, and one result."""

import datetime
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio

from creemson.client.link import Link, raised
from creemson.client.result import Result
from creemson.errors import ConnectionLost, CreemsonError, ProcessingError
from creemson.wire import codec, messages
from creemson.wire.messages import Options, Query, ResultData

if TYPE_CHECKING:
    from creemson.client.connection import Client

__all__ = ["Job", "Progress", "Source", "path_of", "query_of"]

Source: TypeAlias = str | Path
"""What to process: a file here by its path, or a file of the server's by its name."""


@attrs.frozen
class Progress:
    """How far a job is.

    Attributes:
        phase: ``uploading``, ``queued``, ``reading``, ``sorting`` or ``writing``.
        bytes_read, bytes_total: of the input, or of the upload.
        fraction: of the phases ``uploading`` and ``reading``, from 0 to 1.
        rows: of the input, so far.
        rows_per_s: of the input.
        eta_s: seconds that are left; None where there is no telling.
    """

    phase: str
    bytes_read: int = 0
    bytes_total: int = 0
    fraction: float = 0.0
    rows: int = 0
    rows_per_s: float = 0.0
    eta_s: float | None = None


class Job:
    """A job that is under way: iterate over its progress, await its result; made by ``Client.process``.

    ::

        job = client.process("flights.csv", columns=["carrier"])
        async for progress in job:
            print(progress.phase, progress.fraction)
        result = await job

    Attributes:
        id: its name, once the server has accepted it.
        position: jobs that come first, when it was accepted; 0 starts at once.
        progress: the latest.
        logs: what the server has said of it besides.
    """

    def __init__(
        self,
        client: "Client",
        *,
        request: messages.Process | None = None,
        job: str | None = None,
        after: int = 0,
        upload: Callable[..., Awaitable[object]] | None = None,
    ) -> None:
        self._client = client
        self._request = request
        self._upload = upload
        self._seq = after
        self._outcome: Result | Exception | None = None
        self._scope = trio.CancelScope()
        self._news = trio.Event()
        self.id = job
        self.position: int | None = None
        self.progress: Progress | None = None
        self.logs: list[messages.Log] = []

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._outcome is not None

    def __await__(self) -> Generator[Any, Any, Result]:
        return self.result().__await__()

    async def result(self) -> Result:
        """Wait for the result.

        Raises:
            CreemsonError: why there is none.
            OSError: the file to be uploaded cannot be read.
        """
        await trio.lowlevel.checkpoint()
        while self._outcome is None:
            await self._news.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """The progress, the newest only for who is slow; ends with the job, however that ends."""
        seen = None
        while True:
            news = self._news
            if self.progress is not None and self.progress is not seen:
                seen = self.progress
                yield seen
            elif self._outcome is not None:
                return
            else:
                await news.wait()

    async def accepted(self) -> str:
        """Wait until the server has accepted the job, which it does only when it is safe.

        Returns:
            Its name.

        Raises:
            CreemsonError: it has not.
        """
        while self.id is None and self._outcome is None:
            await self._news.wait()
        if self.id is None:
            await self.result()
        assert self.id is not None
        return self.id

    async def cancel(self) -> None:
        """Stop the work; awaiting the job then raises ``cancelled``. Nothing happens if it has ended."""
        if self._outcome is not None:
            return
        if self.id is None:
            self._end(
                ProcessingError("cancelled", "The job was cancelled before the server had accepted it.")
            )
            self._scope.cancel()
            if self._request is not None:
                self._client.session.post(
                    messages.Cancel(id=self._client.session.new_id(), request=self._request.id)
                )
            return
        try:
            await self._client.cancel(self.id)
        except ProcessingError as error:
            if error.reason != "job_not_found":  # it has ended in this moment
                raise

    # --- how it goes ---------------------------------------------------------------------------------

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _end(self, outcome: Result | Exception) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._tell()

    async def _run(self) -> None:
        with self._scope:
            try:
                if self._upload is not None:
                    await self._upload(report=self._uploaded)
                made = await self._client.session.persist(self._attempt)
                self._end(made if isinstance(made, CreemsonError) else Result(self._client, made))
            except (CreemsonError, OSError) as error:
                self._end(error)
            finally:
                self._end(ConnectionLost("connection_lost", "The client was closed before the job's end."))

    def _uploaded(self, done: int, size: int) -> None:
        self.progress = Progress("uploading", done, size, done / size if size else 1.0)
        self._tell()

    async def _attempt(self, link: Link) -> ResultData | CreemsonError:
        try:
            return await self._follow(link)
        except ProcessingError as error:
            # A server that has lost its memory, or another one at the same address, is asked from the start.
            if error.reason != "job_not_found" or self._request is None or self.id is None:
                raise
        self.id, self._seq = None, 0
        return await self._follow(link)

    async def _follow(self, link: Link) -> ResultData | CreemsonError:
        """Have the job run, or go on following it; returns how it ended.

        Raises:
            CreemsonError: the request ended, and not the job.
        """
        request: messages.Process | messages.Attach
        if self.id is None:
            assert self._request is not None
            request = self._request
        else:
            request = messages.Attach(id=self._client.session.new_id(), job=self.id, after=self._seq)
        async with link.exchange(request, patience=math.inf) as answers:
            while True:
                answer = await answers.receive()
                match answer:
                    case messages.Accepted():
                        self.id, self.position = answer.job, answer.position
                    case messages.Progress():
                        self._seq = answer.seq
                        names = [field.name for field in attrs.fields(Progress)]
                        self.progress = Progress(**{name: getattr(answer, name) for name in names})
                    case messages.Log():
                        self._seq = answer.seq
                        self.logs.append(answer)
                    case messages.Result():
                        return answer.data
                    case messages.Error(seq=None):
                        raise raised(answer)
                    case messages.Error():  # an event of the job like any other, and the last one
                        return raised(answer)
                    case _:
                        continue
                self._tell()


def path_of(source: Source) -> Path | None:
    """The path, if it is one: every ``Path``, a text with a separator, and the name of a file that is here."""
    if isinstance(source, str) and os.sep not in source and not Path(source).is_file():
        return None
    return Path(source)


def query_of(filename: str, **fields: Any) -> Query:
    """The query for what Python says.

    >>> query_of("a.csv", selectedColumns=["x"], where=[("x", ">", 1)]).where
    (Condition(column='x', operator='>', value=1),)

    Raises:
        InvalidFormat: it makes no sense.
    """
    asked = {
        "filename": filename,
        **{name: _plain(value) for name, value in fields.items() if value is not None},
    }
    return codec.structure(asked, Query)


def options_of(options: Any) -> Options | None:
    """The options for what Python says.

    Args:
        options: a mapping, :class:`~creemson.wire.messages.Options`, or None.

    Raises:
        InvalidFormat: it makes no sense.
    """
    if options is None or isinstance(options, Options):
        return options
    return codec.structure(_plain(options), Options)


def _plain(value: Any) -> Any:
    """The value as JSON says it."""
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Options):
        return codec.plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if hasattr(value, "__iter__"):
        return [_plain(member) for member in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy's
