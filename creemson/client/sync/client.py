"""The client for code that is not asynchronous: scripts, notebooks, threads, other event loops.

A background thread runs trio and the trio client. Every method passes its work to that thread, and waits.
"""

import contextlib
import os
import queue
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, asynccontextmanager
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Literal, Self, TypeAlias, TypeVar

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
from creemson.client.sync.background import Background, Where, Work
from creemson.client.sync.result import OnBytes, Result
from creemson.model.results import Column, FileInfo, JobInfo
from creemson.wire import messages

__all__ = ["Client", "OnProgress", "Show"]

CANCEL_TIMEOUT = 2.0
"""Seconds for cancelling a job on the server when the caller stops waiting for it."""

T = TypeVar("T")
OnProgress: TypeAlias = Callable[[Progress], object] | None
Show: TypeAlias = Callable[[Progress], object] | Literal[False] | None
"""What shows the progress of a job: a callback, False for nothing, or None for the default."""


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
    ) -> Result:
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

    def attach(self, job: str, *, after: int = 0, progress: OnProgress = None) -> Result:
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

    def _run(self, work: Work[T]) -> T:
        return self._background.run(work)

    def _follow(
        self, start: Callable[[trio_client.Client], Job], progress: OnProgress, *, keep: bool
    ) -> Result:
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


@asynccontextmanager
async def _fixed(url: str | Sequence[str]) -> AsyncIterator[str | Sequence[str]]:
    """Provide the address of a server that exists already."""
    yield url
