"""The client for code that is not asynchronous: scripts, notebooks, threads, other event loops.

A background thread runs trio and the trio client. Every method passes its work to that thread, and waits.
"""

import contextlib
import os
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, Self, TypeAlias, TypeVar

import trio

from creemson.client import client as trio_client
from creemson.client import result as trio_result
from creemson.client.arguments import (
    Aggregates,
    ColumnNames,
    Conditions,
    DistinctRows,
    ReadingOptions,
    SortKeys,
    Source,
    options_of,
    view_of,
    work_of,
)
from creemson.client.job import Job, Progress
from creemson.client.local.source import Content
from creemson.client.values.html import html_table
from creemson.errors import ConnectionLost, CreemsonError
from creemson.model.query import MAX_ROWS
from creemson.model.results import (
    Column,
    ColumnProfile,
    FileInfo,
    Issues,
    JobInfo,
    OutputData,
    Reading,
    ResultData,
)
from creemson.wire import messages

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Client", "Result"]

CANCEL_TIMEOUT = 2.0
"""Seconds for cancelling a job on the server when the caller stops waiting for it."""
CLOSE_TIMEOUT = 10.0
"""Seconds that the thread may take to end."""

HTML_ROWS = 10
"""Rows that a notebook shows."""

T = TypeVar("T")
Work: TypeAlias = Callable[[trio_client.Client], Awaitable[T]]
Where: TypeAlias = Callable[[], AbstractAsyncContextManager[str | Sequence[str]]]
"""Makes an asynchronous context manager that provides the address of a server, or several."""
OnProgress: TypeAlias = Callable[[Progress], object] | None
Show: TypeAlias = Callable[[Progress], object] | Literal[False] | None
"""What shows the progress of a job: a callback, False for nothing, or None for the default."""
OnBytes: TypeAlias = Callable[[int, int], object] | None
"""Called with the bytes transferred so far, and the size; in the thread of the client."""


class Client:
    """A client that reconnects automatically. Any number of threads may use it at the same time.

    ::

        with creemson.Client("ws://127.0.0.1:8000/ws") as client:
            result = client.process("flights.csv", columns=["carrier", 5])
            print(result.frame())

    Args:
        url: address of the server, or several; see :func:`creemson.client.connect`.
        where: instead of ``url``: makes an asynchronous context manager that provides the address of a server.
        options: for :func:`creemson.client.connect`, such as ``token``, by name.

    Raises:
        CreemsonError: there is no server, or it refuses the client.
        TypeError: both or neither of ``url`` and ``where`` are given.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        where: Where | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if (url is None) == (where is None):
            raise TypeError("Pass either url or where, and not both.")
        self._background = Background(where or (lambda: _fixed(url or "")), options)
        self._finalizer = weakref.finalize(self, self._background.stop)  # also runs when the program ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread; pending calls raise :class:`ConnectionLost`. Idempotent."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the client was closed, or has given up reconnecting."""
        return self._background.closed

    # --- the methods of the trio client --------------------------------------------------------------

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
        progress: Show = None,
    ) -> "Result":
        """Process a table, and wait for the result.

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
            progress: called with each :class:`creemson.client.Progress`, in the caller's thread; False shows nothing,
                None shows a progress bar, if the client is one of ``creemson`` and there is a terminal or a notebook.

        Returns:
            The result. Interrupting the call (Ctrl-C) cancels the job.

        Raises:
            InvalidFormat: the arguments are invalid.
            CreemsonError: the server refuses the request, or the job failed.
            OSError: the file cannot be read.
        """
        work = work_of(  # in the caller's thread: it may take long, or raise anything
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
        if progress is None:
            with self._progress_bar(source) as show:
                return self._follow(lambda client: client.start(work), show, keep=False)
        return self._follow(lambda client: client.start(work), progress or None, keep=False)

    def _progress_bar(self, source: Source) -> AbstractContextManager[OnProgress]:  # noqa: ARG002 - for subclasses
        """Show the progress of a job in a block, by calling what the block gets; nothing is shown here."""
        return contextlib.nullcontext()

    def attach(self, job: str, *, after: int = 0, progress: OnProgress = None) -> "Result":
        """Follow a job that was started elsewhere, or earlier, and wait for its result.

        Args:
            job: the job's id.
            after: number of the last event that is already known.
            progress: called with each :class:`Progress`, in the caller's thread.

        Returns:
            The result. Interrupting the call does not cancel the job.

        Raises:
            CreemsonError: the job does not exist, or failed.
        """
        return self._follow(lambda client: client.attach(job, after=after), progress, keep=True)

    def jobs(self) -> tuple[JobInfo, ...]:
        """See :meth:`creemson.client.Client.jobs`."""
        return self._run(lambda client: client.jobs())

    def cancel(self, job: str) -> None:
        """See :meth:`creemson.client.Client.cancel`."""
        self._run(lambda client: client.cancel(job))

    def columns(self, filename: str) -> tuple[Column, ...]:
        """See :meth:`creemson.client.Client.columns`."""
        return self._run(lambda client: client.columns(filename))

    def describe(self, filename: str, *, options: ReadingOptions | None = None) -> messages.Columns:
        """See :meth:`creemson.client.Client.describe`."""
        known = options_of(options)
        return self._run(lambda client: client.describe(filename, options=known))

    def files(self) -> tuple[FileInfo, ...]:
        """See :meth:`creemson.client.Client.files`."""
        return self._run(lambda client: client.files())

    def delete(self, filename: str) -> None:
        """See :meth:`creemson.client.Client.delete`."""
        self._run(lambda client: client.delete(filename))

    def rows(
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
        """See :meth:`creemson.client.Client.rows`."""
        known = options_of(options)
        view = view_of(where=where, sort=sort, find=find)
        return self._run(
            lambda client: client.rows(
                filename,
                offset=offset,
                limit=limit,
                where=view.where,
                sort=view.sort,
                find=view.find,
                options=known,
                texts=texts,
            )
        )

    def upload(
        self,
        source: str | os.PathLike[str] | Content,
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnBytes = None,
    ) -> messages.Uploaded:
        """See :meth:`creemson.client.Client.upload`."""
        return self._run(
            lambda client: client.upload(source, name=name, overwrite=overwrite, on_progress=on_progress)
        )

    def download(
        self, filename: str, target: str | os.PathLike[str] | BinaryIO, *, on_progress: OnBytes = None
    ) -> messages.Downloaded:
        """See :meth:`creemson.client.Client.download`."""
        return self._run(lambda client: client.download(filename, target, on_progress=on_progress))

    def read(self, filename: str) -> bytes:
        """See :meth:`creemson.client.Client.read`."""
        return self._run(lambda client: client.read(filename))

    # --- passing work to the thread ------------------------------------------------------------------

    def _run(self, work: Callable[[trio_client.Client], Awaitable[T]]) -> T:
        return self._background.run(work)

    def _follow(
        self, start: Callable[[trio_client.Client], Job], progress: OnProgress, *, keep: bool
    ) -> "Result":
        """Follow a job, and call ``progress`` in this thread; an interruption cancels the job unless ``keep``."""
        steps: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()

        async def work(client: trio_client.Client) -> trio_result.Result:
            job = start(client)
            try:
                async for step in job:
                    steps.put(step)
                return await job
            except trio.Cancelled:
                if not keep:
                    with trio.move_on_after(CANCEL_TIMEOUT, shield=True):
                        await job.cancel()
                raise

        done: Future[trio_result.Result] = Future()
        done.add_done_callback(lambda _: steps.put(None))
        with self._background.running(work, done):
            while (step := steps.get()) is not None:
                if progress is not None:
                    progress(step)
            return Result(self._run, done.result())


class _Run(Protocol):
    """Runs work in the client's thread."""

    def __call__(self, work: Callable[[trio_client.Client], Awaitable[T]]) -> T: ...


class Result:
    """The result of a job: :class:`creemson.client.Result` with synchronous methods.

    Args:
        run: runs work in the client's thread; a method of the client, which keeps the client alive.
        result: the result of the trio client.
    """

    def __init__(self, run: _Run, result: trio_result.Result) -> None:
        self._run = run
        self._result = result

    def __repr__(self) -> str:
        return repr(self._result)

    @property
    def data(self) -> ResultData:
        """The result as in the protocol."""
        return self._result.data

    @property
    def output(self) -> OutputData:
        """All figures of the output."""
        return self._result.output

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._result.rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return self._result.columns

    @property
    def filename(self) -> str:
        """The name of the output on the server, a Parquet file."""
        return self._result.filename

    @property
    def reading(self) -> Reading | None:
        """How the input file was read."""
        return self._result.reading

    @property
    def issues(self) -> Issues | None:
        """What was repaired in the input file, or could not be read; None if nothing."""
        return self._result.issues

    @property
    def preview(self) -> tuple[tuple[object, ...], ...] | None:
        """The first rows; None if they were not requested."""
        return self._result.preview

    @property
    def profile(self) -> tuple[ColumnProfile, ...] | None:
        """Statistics of each column; None if they were not requested."""
        return self._result.profile

    def frame(self) -> "pl.DataFrame":
        """See :meth:`creemson.client.Result.frame`."""
        return self._run(lambda _: self._result.frame())

    def to_pandas(self) -> "pd.DataFrame":
        """See :meth:`creemson.client.Result.to_pandas`."""
        return self._run(lambda _: self._result.to_pandas())

    def lazy(self) -> "pl.LazyFrame":
        """See :meth:`creemson.client.Result.lazy`."""
        return self._run(lambda _: self._result.lazy())

    def save(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        normalized: bool = False,
        on_progress: OnBytes = None,
    ) -> None:
        """See :meth:`creemson.client.Result.save`."""
        self._run(
            lambda _: self._result.save(target, format=format, normalized=normalized, on_progress=on_progress)
        )

    def save_rejects(self, target: str | os.PathLike[str] | BinaryIO) -> bool:
        """See :meth:`creemson.client.Result.save_rejects`."""
        return self._run(lambda _: self._result.save_rejects(target))

    def __len__(self) -> int:
        return self.rows

    def __bool__(self) -> bool:
        return True  # also without rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows, which are fetched in windows: the table may be larger than the memory.

        Dates, times and decimals are texts, as in :meth:`Client.rows`; :meth:`frame` has values of their types.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
        """
        offset = 0
        while offset < self.rows:
            window = self._window(offset, MAX_ROWS)
            yield from window
            offset += len(window)

    def _window(self, offset: int, limit: int) -> tuple[tuple[Any, ...], ...]:
        found = self._run(lambda client: client.rows(self.filename, offset=offset, limit=limit))
        return found.rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Fetch the table, and export it to Arrow libraries (pyarrow, DuckDB, pandas, polars …) without a copy.

        The interface is Arrow's PyCapsule interface; each export fetches the table.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
        """
        return self.frame().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        """Return the first rows as HTML, for notebooks."""
        rows = (self.preview or ())[:HTML_ROWS]
        if len(rows) < min(HTML_ROWS, self.rows):
            with contextlib.suppress(CreemsonError):  # the server is gone; what is known is shown
                rows = self._window(0, HTML_ROWS)
        return html_table(self.output, rows)


@asynccontextmanager
async def _fixed(url: str | Sequence[str]) -> AsyncIterator[str | Sequence[str]]:
    """Provide the address of a server that exists already."""
    yield url


class Background:
    """The background thread; it has no reference to its user, so that the user can be garbage-collected.

    Args:
        where: provides the address of the server.
        options: for :func:`creemson.client.connect`.

    Raises:
        CreemsonError: there is no server, or it refuses the client.
    """

    def __init__(self, where: Where, options: Mapping[str, Any]) -> None:
        self._where = where
        self._options = options
        self._stop = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._client: trio_client.Client | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="creemson-client", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self.stop()
            raise

    @property
    def closed(self) -> bool:
        """Whether the thread no longer accepts work."""
        return not self._thread.is_alive() or self._client is None or self._client.state.phase == "closed"

    def run(self, work: Work[T]) -> T:
        """Run work in the thread, and wait for its result; an exception that interrupts the wait cancels the work.

        Args:
            work: called with the client.

        Returns:
            The return value of the work.

        Raises:
            ConnectionLost: the thread has ended or ends.
            Exception: raised by the work.
        """
        done: Future[T] = Future()
        with self.running(work, done):
            return done.result()

    @contextlib.contextmanager
    def running(self, work: Work[T], done: "Future[T]") -> Iterator[None]:
        """Run work in the thread during the block; an exception that leaves the block cancels the work.

        Args:
            work: called with the client.
            done: gets the return value or the exception of the work.
        """
        scope = trio.CancelScope()
        self._run_soon(lambda: self._start(work, done, scope), done)
        try:
            yield
        except BaseException:
            if not done.done():
                self._run_soon(scope.cancel)
            raise

    def stop(self) -> None:
        """End the thread, and wait until it has ended."""
        self._run_soon(self._stop.set)
        self._thread.join(CLOSE_TIMEOUT)

    # --- in the thread -------------------------------------------------------------------------------

    def _run(self, ready: "Future[None]") -> None:
        try:
            trio.run(self._main, ready)
        except BaseException as error:
            if not ready.done():
                ready.set_exception(_unwrapped(error))

    async def _main(self, ready: "Future[None]") -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with (
            self._where() as url,
            trio_client.connect(url, **self._options) as self._client,
            trio.open_nursery() as self._nursery,
        ):
            ready.set_result(None)
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()

    def _run_soon(self, callback: Callable[[], object], done: "Future[Any] | None" = None) -> None:
        """Call a function in the thread soon; if the thread has ended, set an exception on ``done``."""
        try:
            if self._token is not None:
                self._token.run_sync_soon(callback)
                return
        except trio.RunFinishedError:
            pass
        if done is not None:
            done.set_exception(_closed_error())

    def _start(self, work: Work[T], done: "Future[T]", scope: trio.CancelScope) -> None:
        assert self._nursery is not None
        if self._stop.is_set():
            done.set_exception(_closed_error())
        else:
            self._nursery.start_soon(self._perform, work, done, scope)

    async def _perform(self, work: Work[T], done: "Future[T]", scope: trio.CancelScope) -> None:
        assert self._client is not None
        try:
            with scope:
                try:
                    value = await work(self._client)
                except Exception as error:
                    done.set_exception(error)
                else:
                    done.set_result(value)
        finally:
            if not done.done():
                done.set_exception(_closed_error())


def _unwrapped(error: BaseException) -> BaseException:
    """Return the first exception in nested groups that is not a group itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _closed_error() -> ConnectionLost:
    return ConnectionLost("connection_lost", "The client is closed. Create another one.")
