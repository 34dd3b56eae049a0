"""The client for trio, which stays connected.

::

    async with connect("ws://127.0.0.1:8000/ws") as client:
        result = await client.process(Path("flights.csv"), columns=["carrier", 5])
        frame = await result.frame()

When the connection is lost, the client reconnects automatically: it repeats requests that were not answered, resumes
uploads and downloads where they stopped, and follows jobs from their last event. The caller sees one result.
"""

import os
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import attrs
import trio

from creemson.client.arguments import (
    Aggregates,
    ColumnNames,
    Conditions,
    DistinctRows,
    ReadingOptions,
    SortKeys,
    Source,
    Work,
    check_durations,
    request_of,
    sort_keys,
    upload_of,
    work_for,
    work_of,
)
from creemson.client.handshake import websocket_url
from creemson.client.job import Job, cancel_job
from creemson.client.local.output import target_of
from creemson.client.local.source import Content
from creemson.client.session import ConnectionState, Options, Session, Token
from creemson.client.transfers import Transfers, ignore
from creemson.model.query import Query
from creemson.model.results import Column, FileInfo, JobInfo
from creemson.wire import messages

__all__ = ["Client", "ConnectionState", "connect"]


@asynccontextmanager
async def connect(
    url: str | Sequence[str],
    *,
    token: Token = None,
    ssl_context: ssl.SSLContext | None = None,
    give_up_after: float = 60.0,
    wait_for_server: bool = False,
    handshake_timeout: float = 10.0,
    answer_timeout: float = 310.0,
    heartbeat_interval: float = 20.0,
    heartbeat_timeout: float = 20.0,
    rng: random.Random | None = None,
) -> AsyncIterator["Client"]:
    """Connect to a server and stay connected; the connection is closed at the end of the block.

    Args:
        url: address of the server, ``http://HOST:PORT``, or ``https://`` for TLS; also ``ws://HOST:PORT/ws``. Several
            addresses are those of servers that know the same files and jobs; if one shuts down or cannot be reached,
            the client goes to the next one at once.
        token: authenticates the caller, if the server requires it; or a function that returns the token, which may be
            asynchronous: called before each connection attempt, and before a JSON web token expires.
        ssl_context: for TLS; None trusts the certificates that the system trusts.
        give_up_after: seconds without a useful connection after which :class:`ConnectionLost` is raised.
        wait_for_server: whether to retry the first connection for ``give_up_after`` seconds, instead of trying it once.
        handshake_timeout: seconds from opening the connection to the server's welcome.
        answer_timeout: maximum number of seconds until an answer; does not apply to jobs.
        heartbeat_interval: seconds between two pings.
        heartbeat_timeout: seconds after a ping within which the server must respond.
        rng: random number generator for the delays between connection attempts; seed it to make them reproducible.

    All durations may be infinite.

    Yields:
        The client.

    Raises:
        ConnectionLost: there is no server at ``url``.
        CreemsonError: the server refuses the client.
        ValueError: a duration is negative or not a number, or there is no address.
    """
    urls = [url] if isinstance(url, str) else list(url)
    if not urls:
        raise ValueError("Pass the address of a server, or several; the list is empty.")
    check_durations(
        give_up_after=give_up_after,
        handshake_timeout=handshake_timeout,
        answer_timeout=answer_timeout,
        heartbeat_interval=heartbeat_interval,
        heartbeat_timeout=heartbeat_timeout,
    )
    options = Options(
        token=token,
        ssl_context=ssl_context,
        give_up_after=give_up_after,
        wait_for_server=wait_for_server,
        handshake_timeout=handshake_timeout,
        answer_timeout=answer_timeout,
        heartbeat_interval=heartbeat_interval,
        heartbeat_timeout=heartbeat_timeout,
        rng=rng or random.Random(),  # noqa: S311 - it spreads load and has no effect on security
    )
    session = Session([websocket_url(each) for each in urls], options)
    failure: Exception | KeyboardInterrupt | None = None
    async with trio.open_nursery() as nursery:
        # The nursery would wrap an exception that passes through it in a group.
        try:
            nursery.start_soon(session.run)
            await session.connected()
            yield Client(session, nursery)
        except (Exception, KeyboardInterrupt) as error:
            failure = error
        await session.close()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Client:
    """A client that reconnects automatically; made by :func:`connect`.

    Args:
        session: keeps the client connected, and runs its requests.
        nursery: runs the client's jobs.

    Attributes:
        session: keeps the client connected, and runs its requests.
    """

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self.session = session
        self._nursery = nursery
        self._transfers = Transfers(session)

    @property
    def url(self) -> str:
        """The address of the server in use."""
        return self.session.url

    @property
    def welcome(self) -> messages.Welcome:
        """The server's welcome message: version, limits, formats."""
        assert self.session.welcome is not None
        return self.session.welcome

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self.session.state

    @property
    def latency(self) -> float | None:
        """Seconds of the last round trip to the server; None without a connection."""
        return self.session.latency

    def batch(self) -> AbstractAsyncContextManager[None]:
        """Send the requests that are made in the block in one message.

        The message is sent at the end of the block, so await the answers after it. (Requests that are made in the same
        iteration of the event loop, such as by tasks that start together, are sent together anyway.)
        """
        return self.session.batch()

    # --- jobs ----------------------------------------------------------------------------------------

    def process(
        self,
        source: Source,
        *,
        columns: ColumnNames | None = None,
        where: Conditions | None = None,
        group_by: ColumnNames | None = None,
        aggregate: Aggregates | None = None,
        sort: SortKeys | None = None,
        limit: int | None = None,
        distinct: DistinctRows | None = None,
        cast: Mapping[str, str] | None = None,
        rename: Mapping[str, str] | None = None,
        options: ReadingOptions | None = None,
        strict: bool = False,
        preview: int | None = None,
        profile: bool = False,
        timeout: float | None = None,
        on_disconnect: Literal["keep", "cancel"] = "keep",
        name: str | None = None,
        overwrite: bool = False,
    ) -> Job:
        """Start a job that processes a table: ``await`` it for its result, or iterate over its progress first.

        The job continues even if nobody awaits it or the connection is lost; :meth:`Job.cancel` stops it.

        Args:
            source: the path of a local file, which is uploaded unless the server has the same content under its name;
                the name of a file on the server; or content to upload: bytes, an open file, or a table of polars,
                pandas, pyarrow or any other library with Arrow's PyCapsule interface.
            columns: 0-based indices or names, in the order of the output; None selects all.
            where: conditions that must all hold, such as ``[("delay", ">", 60)]``.
            group_by: the columns to group by, which come first in the output.
            aggregate: aggregates of each group, such as ``[("delay", "mean", "average")]``; ``("*", "count")``
                counts rows.
            sort: a column, or sort keys such as ``["carrier", ("delay", "desc")]``, the most significant first.
            limit: maximum number of rows of the output.
            distinct: True removes duplicate rows of the output; columns remove rows that are the same in these columns.
            cast: types to convert columns to, such as ``{"zip": "string"}``.
            rename: new names of columns of the output, such as ``{"dep_delay": "delay"}``.
            options: how to read the file, where this is not detected correctly, such as ``{"delimiter": ";"}``.
            strict: whether a file that needs repairs is an error.
            preview: number of rows to include in the result.
            profile: whether the result describes each column.
            timeout: maximum duration of the job in seconds.
            on_disconnect: whether the job is kept or cancelled when the connection is lost.
            name: name of the upload on the server; None uses the name of the local or open file. Content without any
                name is removed from the server when the job has ended.
            overwrite: whether an upload may replace a different file of that name.

        Returns:
            The job, which has been started.

        Raises:
            InvalidFormat: the arguments are invalid. Errors that only the server can detect are raised by the job.
        """
        work = work_of(
            source,
            columns=columns,
            where=where,
            group_by=group_by,
            aggregate=aggregate,
            sort=sort,
            limit=limit,
            distinct=distinct,
            cast=cast,
            rename=rename,
            options=options,
            strict=strict,
            preview=preview,
            profile=profile,
            timeout=timeout,
            on_disconnect=on_disconnect,
            name=name,
            overwrite=overwrite,
        )
        return self.start(work)

    def submit(
        self,
        query: Query,
        *,
        timeout: float | None = None,
        on_disconnect: Literal["keep", "cancel"] = "keep",
        content: Path | Content | None = None,
        overwrite: bool = False,
        is_temporary: bool = False,
    ) -> Job:
        """Start a job for a query: like :meth:`process`, for callers that already have a query.

        Args:
            query: the query.
            timeout: maximum duration of the job in seconds.
            on_disconnect: whether the job is kept or cancelled when the connection is lost.
            content: what to upload first as ``query.filename``: a local file, or content as for :meth:`process`.
            overwrite: whether the upload may replace a different file of that name.
            is_temporary: whether to remove the upload when the job has ended.

        Returns:
            The job, which has been started.

        Raises:
            InvalidFormat: the query is invalid.
        """
        work = work_for(
            query,
            timeout=timeout,
            on_disconnect=on_disconnect,
            content=content,
            overwrite=overwrite,
            is_temporary=is_temporary,
        )
        return self.start(work)

    def start(self, work: Work) -> Job:
        """Start a job whose arguments are checked already; used by :meth:`process` and the synchronous client.

        Args:
            work: what to do.

        Returns:
            The job, which has been started.
        """
        request = attrs.evolve(work.request, id=self.session.new_id())
        return self._start(
            Job(
                self.session,
                self._transfers,
                request=request,
                content=work.content,
                overwrite=work.overwrite,
                is_temporary=work.is_temporary,
            )
        )

    def attach(self, job: str, *, after: int = 0) -> Job:
        """Follow a job that was started elsewhere, or earlier.

        Args:
            job: the job's id.
            after: number of the last event that is already known.

        Returns:
            The job; awaiting it raises ``job_not_found`` if it does not exist.

        Raises:
            InvalidFormat: an argument is invalid.
        """
        request = request_of(messages.Attach, id="attach", job=job, after=after)
        return self._start(Job(self.session, self._transfers, job=request.job, after=request.after))

    def _start(self, job: Job) -> Job:
        job.start(self._nursery)
        return job

    async def jobs(self) -> tuple[JobInfo, ...]:
        """List the caller's jobs, newest first.

        Raises:
            CreemsonError: the server refuses the request.
        """
        return (await self.session.ask(messages.ListJobs(id=self.session.new_id()), messages.Jobs)).jobs

    async def cancel(self, job: str) -> None:
        """Cancel a job for all clients that wait for it.

        Args:
            job: the job's id.

        Raises:
            ProcessingError: ``job_not_found``.
        """
        await cancel_job(self.session, job)

    # --- files ---------------------------------------------------------------------------------------

    async def columns(self, filename: str) -> tuple[Column, ...]:
        """List the columns of a file on the server.

        Raises:
            CreemsonError: the server refuses the request.
        """
        return (await self.describe(filename)).columns

    async def describe(self, filename: str, *, options: ReadingOptions | None = None) -> messages.Columns:
        """Describe a file on the server: its columns, how it is read, and what is repaired at its beginning.

        Args:
            filename: name of an uploaded file or an output.
            options: as for :meth:`process`.

        Raises:
            InvalidFormat: the options are invalid.
            CreemsonError: the server refuses the request.
        """
        request = request_of(
            messages.ListColumns, id=self.session.new_id(), filename=filename, options=options
        )
        return await self.session.look_up(request, messages.Columns)

    async def files(self) -> tuple[FileInfo, ...]:
        """List the uploaded files.

        Raises:
            CreemsonError: the server refuses the request.
        """
        return (await self.session.ask(messages.ListFiles(id=self.session.new_id()), messages.Files)).files

    async def delete(self, filename: str) -> None:
        """Delete a file on the server.

        Raises:
            CreemsonError: the server refuses the request.
        """
        request = request_of(messages.Delete, id=self.session.new_id(), filename=filename)
        await self.session.ask_once(request, messages.Deleted, done_if="file_not_found")

    async def rows(
        self,
        filename: str,
        *,
        offset: int = 0,
        limit: int = 100,
        where: Conditions | None = None,
        sort: SortKeys | None = None,
        find: str | None = None,
        options: ReadingOptions | None = None,
        texts: bool = False,
    ) -> messages.Rows:
        """Read a window of rows of a file on the server: of all rows, or of those that meet conditions.

        Rows that do not fit one message are asked for by further messages, until ``limit`` is reached.

        Args:
            filename: name of an uploaded file or an output.
            offset: number of rows to skip, of those that meet the conditions.
            limit: maximum number of rows, at most 1,000.
            where: conditions, as for :meth:`process`.
            sort: sort keys, as for :meth:`process`.
            find: text that a row must have in any of its cells, in any case; None for all rows.
            options: as for :meth:`process`.
            texts: whether the cells are texts, as the file writes them; otherwise they are values.

        Returns:
            Columns and rows; ``total`` is the number of rows that meet the conditions, None while unknown. If
            ``complete`` is false, only a part of the file was looked at in the time allowed; ask again later.

        Raises:
            CreemsonError: the server refuses a request; ``message_too_large`` if a single row does not fit a message.
        """
        request = request_of(
            messages.ReadRows,
            id=self.session.new_id(),
            filename=filename,
            offset=offset,
            limit=limit,
            where=where,
            sort=sort_keys(sort),
            find=find,
            options=options,
            texts=texts,
        )
        first: messages.Rows | None = None
        rows: list[tuple[Any, ...]] = []
        while True:
            answer = await self.session.look_up(request, messages.Rows)
            first = first or answer
            rows += answer.rows
            if not answer.more or not answer.rows:
                return attrs.evolve(first, rows=tuple(rows), total=answer.total, more=False)
            request = attrs.evolve(
                request,
                id=self.session.new_id(),
                offset=request.offset + len(answer.rows),
                limit=request.limit - len(answer.rows),
            )

    async def upload(
        self,
        source: str | os.PathLike[str] | Content,
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> messages.Uploaded:
        """Upload a file, or the part of it that the server does not have; a client runs one upload at a time.

        Args:
            source: the local file, or content as for :meth:`process`.
            name: name of the file on the server; None uses the name of the local or open file.
            overwrite: whether the upload may replace a file of that name.
            on_progress: called with the bytes sent so far, and the size; first with the offset at which the upload
                starts.

        Returns:
            Size, digest and columns of the file on the server.

        Raises:
            InvalidFormat: content without a name, or an argument is invalid.
            OSError: the file cannot be read.
            CreemsonError: the server refuses the request.
        """
        content, name = upload_of(source, name)
        return await self._transfers.upload(content, name, overwrite=overwrite, report=on_progress or ignore)

    async def download(
        self,
        filename: str,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> messages.Downloaded:
        """Download a file; it appears at ``target`` when it is complete and its digest is verified.

        Args:
            filename: name of an uploaded file or an output.
            target: path of the local file to write, or a stream of bytes.
            on_progress: called with the bytes received so far, and the size.

        Returns:
            Size and digest.

        Raises:
            OSError: the file cannot be written.
            CreemsonError: the server refuses the request.
        """
        return await self._transfers.download(filename, target_of(target), on_progress or ignore)

    async def read(self, filename: str) -> bytes:
        """Download a file into memory.

        Raises:
            CreemsonError: the server refuses the request.
        """
        return await self._transfers.read(filename)
