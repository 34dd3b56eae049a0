"""A client that stays connected.

::

    async with connect("ws://127.0.0.1:8000/ws") as client:
        result = await client.process(Path("flights.csv"), columns=["carrier", 5])
        frame = await result.frame()

When the connection breaks, the client comes back by itself: what was asked is asked again, uploads and
downloads go on where they were, jobs are followed from their last event on. The caller sees one result.
"""

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from creemson.client.jobs import Job, Source, options_of, path_of, query_of
from creemson.client.session import ConnectionState, Options, Session, Token
from creemson.client.transfers import Transfers, ignore
from creemson.wire import messages
from creemson.wire.messages import Query

__all__ = ["Client", "ConnectionState", "connect"]


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token = None,
    ssl_context: ssl.SSLContext | None = None,
    give_up_after: float = 60.0,
    wait_for_server: bool = False,
    handshake_timeout: float = 10.0,
    answer_timeout: float = 310.0,
    heartbeat_interval: float = 20.0,
    heartbeat_timeout: float = 20.0,
    dice: random.Random | None = None,
) -> AsyncIterator["Client"]:
    """Open a connection and keep it open; it is closed on leaving.

    Args:
        url: ``ws://HOST:PORT/ws``, or ``wss://`` for TLS.
        token: proves who asks, where the server wants to know; or what gives one, asked before each connection.
        ssl_context: for ``wss://``; None trusts whom the system trusts.
        give_up_after: seconds without a usable connection after which :class:`ConnectionLost` is raised.
        wait_for_server: whether the first connection is tried for that long, too, and not only once.
        handshake_timeout: seconds from the first byte to the server's welcome.
        answer_timeout: seconds that an answer may take; a job is not bound by it.
        heartbeat_interval: seconds between two pings.
        heartbeat_timeout: seconds after a ping in which the server has to show a sign of life.
        dice: where the backoff's chance comes from.

    Yields:
        The client.

    Raises:
        ConnectionLost: there is no server at ``url``.
        CreemsonError: the server refuses.
    """
    options = Options(
        token=token,
        ssl_context=ssl_context,
        give_up_after=give_up_after,
        wait_for_server=wait_for_server,
        handshake_timeout=handshake_timeout,
        answer_timeout=answer_timeout,
        heartbeat_interval=heartbeat_interval,
        heartbeat_timeout=heartbeat_timeout,
        dice=dice or random.Random(),  # noqa: S311 - it spreads load and guards nothing
    )
    session = Session(url, options)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        # An exception that left the nursery would leave it wrapped in a group.
        try:
            nursery.start_soon(session.run)
            await session.connected()
            yield Client(session, nursery)
        except Exception as error:
            failure = error
        await session.close()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Client:
    """A connection that comes back; made by :func:`connect`.

    Attributes:
        session: what keeps it connected, and asks.
    """

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self.session = session
        self._nursery = nursery
        self._transfers = Transfers(session)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.session.url

    @property
    def welcome(self) -> messages.Welcome:
        """What the server has said of itself."""
        assert self.session.welcome is not None
        return self.session.welcome

    @property
    def state(self) -> ConnectionState:
        """What the connection is like."""
        return self.session.state

    @property
    def latency(self) -> float | None:
        """Seconds that a message to the server and back has last taken; None without a connection."""
        return self.session.latency

    def batch(self) -> AbstractAsyncContextManager[None]:
        """Send the requests that are begun in the block in one message.

        It goes out at the end of the block; so await answers behind it. (What is asked in one moment, such as by
        tasks that start together, travels together anyhow.)
        """
        return self.session.batch()

    # --- jobs ----------------------------------------------------------------------------------------

    def process(
        self,
        source: Source,
        *,
        columns: Any = None,
        where: Any = None,
        group_by: Any = None,
        aggregate: Any = None,
        sort: Any = None,
        limit: int | None = None,
        distinct: Any = None,
        cast: Any = None,
        rename: Any = None,
        options: Any = None,
        strict: bool = False,
        preview: int | None = None,
        profile: bool = False,
        timeout: float | None = None,
        on_disconnect: Literal["keep", "cancel"] = "keep",
        overwrite: bool = False,
    ) -> Job:
        """Have a table processed: ``await`` the job for its result, or iterate over its progress first.

        The work goes on when nobody awaits it, also beyond the connection; :meth:`Job.cancel` stops it.

        Args:
            source: the path of a file here, which is uploaded unless the server has the same content under its
                name; or the name of a file of the server's.
            columns: indices from 0 and names, in the order of the output; None means all.
            where: conditions that must all hold, such as ``[("delay", ">", 60)]``.
            group_by: columns that come first in the output of a grouping.
            aggregate: of each group, such as ``[("delay", "mean", "average")]``.
            sort: keys such as ``[("delay", "desc")]``, the most significant first.
            limit: rows of the output at the most.
            distinct: True for each row of the output once; or the columns by which rows are the same.
            cast: types that columns are to have, such as ``{"zip": "string"}``.
            rename: new names for columns of the output, such as ``{"dep_delay": "delay"}``.
            options: how to read the file, where that is not to be found out, such as ``{"delimiter": ";"}``.
            strict: whether a file of which anything has to be mended is an error.
            preview: rows to have within the result.
            profile: whether the result describes each column.
            timeout: seconds that the work may take.
            on_disconnect: whether the work is kept or cancelled when the connection breaks.
            overwrite: whether an upload may replace another file of that name.

        Returns:
            The job, which has been begun.

        Raises:
            InvalidFormat: the arguments make no sense; what only the server can know is told by the job.
        """
        path = path_of(source)
        query = query_of(
            str(source) if path is None else path.name,
            selectedColumns=columns,
            where=where,
            group_by=group_by,
            aggregate=aggregate,
            sort=sort,
            limit=limit,
            distinct=distinct or None,
            cast=cast,
            rename=rename,
            options=options,
            strict=strict or None,
            preview=preview,
            profile=profile or None,
        )
        return self.submit(
            query, timeout=timeout, on_disconnect=on_disconnect, path=path, overwrite=overwrite
        )

    def submit(
        self,
        query: Query,
        *,
        timeout: float | None = None,
        on_disconnect: Literal["keep", "cancel"] = "keep",
        path: Path | None = None,
        overwrite: bool = False,
    ) -> Job:
        """Have a query run: :meth:`process`, for those who have the query already.

        Args:
            query: what to do.
            timeout: seconds that the work may take.
            on_disconnect: whether the work is kept or cancelled when the connection breaks.
            path: what to upload first as ``query.filename``.
            overwrite: whether the upload may replace another file of that name.

        Returns:
            The job, which has been begun.
        """
        request = messages.Process(
            id=self.session.new_id(),
            timeout=timeout,
            on_disconnect=on_disconnect,
            **attrs.asdict(query, recurse=False),
        )
        upload = None
        if path is not None:
            upload = partial(
                self._transfers.upload, path, query.filename, overwrite=overwrite, unless_there=True
            )
        return self._begin(Job(self, request=request, upload=upload))

    def attach(self, job: str, *, after: int = 0) -> Job:
        """Follow a job that was begun elsewhere, or earlier.

        Args:
            job: its name.
            after: number of the last event that is known already.

        Returns:
            The job; awaiting it raises ``job_not_found`` if there is none.
        """
        return self._begin(Job(self, job=job, after=after))

    def _begin(self, job: Job) -> Job:
        if self.session.failure is not None:  # nobody is left to run it
            job._end(self.session.failure)
        else:
            self._nursery.start_soon(job._run)
        return job

    async def jobs(self) -> tuple[messages.JobInfo, ...]:
        """The caller's jobs, the newest first.

        Raises:
            CreemsonError: with the server's reason.
        """
        return (await self.session.ask(messages.ListJobs(id=self.session.new_id()), messages.Jobs)).jobs

    async def cancel(self, job: str) -> None:
        """Stop a job for all who wait for it.

        Raises:
            ProcessingError: ``job_not_found``.
        """
        request = messages.Cancel(id=self.session.new_id(), job=job)
        await self.session.ask(request, messages.Cancelled, done_if="job_not_found")

    # --- files ---------------------------------------------------------------------------------------

    async def columns(self, filename: str) -> tuple[messages.Column, ...]:
        """The columns of a file of the server's.

        Raises:
            CreemsonError: with the server's reason.
        """
        return (await self.describe(filename)).columns

    async def describe(self, filename: str, *, options: Any = None) -> messages.Columns:
        """The columns of a file of the server's, how it is read, and what has to be mended at its beginning.

        Args:
            filename: an output or an uploaded file.
            options: as for :meth:`process`.

        Raises:
            InvalidFormat: the options make no sense.
            CreemsonError: with the server's reason.
        """
        request = messages.ListColumns(
            id=self.session.new_id(), filename=filename, options=options_of(options)
        )
        return await self.session.ask(request, messages.Columns)

    async def files(self) -> tuple[messages.FileInfo, ...]:
        """The files that have been uploaded.

        Raises:
            CreemsonError: with the server's reason.
        """
        return (await self.session.ask(messages.ListFiles(id=self.session.new_id()), messages.Files)).files

    async def delete(self, filename: str) -> None:
        """Remove a file of the server's.

        Raises:
            CreemsonError: with the server's reason.
        """
        request = messages.Delete(id=self.session.new_id(), filename=filename)
        await self.session.ask(request, messages.Deleted, done_if="file_not_found")

    async def rows(
        self, filename: str, *, offset: int = 0, limit: int = 100, options: Any = None
    ) -> messages.Rows:
        """Some rows of a file of the server's.

        Args:
            filename: an output or an uploaded file.
            offset: rows before the first one.
            limit: rows at the most; the server gives 1,000 at once.
            options: as for :meth:`process`.

        Raises:
            CreemsonError: with the server's reason.
        """
        request = messages.ReadRows(
            id=self.session.new_id(),
            filename=filename,
            offset=offset,
            limit=limit,
            options=options_of(options),
        )
        return await self.session.ask(request, messages.Rows)

    async def upload(
        self,
        path: Path,
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> messages.Uploaded:
        """Send a file, or what the server does not have of it yet; uploads of one client take turns.

        Args:
            path: of the file here.
            name: for it on the server; None takes its own.
            overwrite: whether it may replace a file of that name.
            on_progress: is told the bytes that the server has or was sent, and the size; at first, where it begins.

        Returns:
            What the server has: size, digest, columns.

        Raises:
            OSError: the file cannot be read.
            CreemsonError: with the server's reason.
        """
        return await self._transfers.upload(
            path, name or path.name, overwrite=overwrite, report=on_progress or ignore
        )

    async def download(
        self, filename: str, target: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> messages.Downloaded:
        """Fetch a file; it appears under ``target`` when it is complete, and its digest right.

        Args:
            filename: an uploaded file or an output.
            target: path of the file to write here.
            on_progress: is told the bytes received, and the size.

        Returns:
            Size and digest.

        Raises:
            OSError: the file cannot be written.
            CreemsonError: with the server's reason.
        """
        return await self._transfers.download(filename, target, on_progress or ignore)

    async def read(self, filename: str) -> bytes:
        """Fetch a file into memory.

        Raises:
            CreemsonError: with the server's reason.
        """
        return await self._transfers.read(filename)
