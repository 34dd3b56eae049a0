"""The client for code that is not asynchronous: scripts, notebooks, threads, other event loops.

One thread in the background runs trio and the client; every call hands it a piece of work and waits.
"""

import contextlib
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import trio

from creemson.client import connection
from creemson.client import result as results
from creemson.client.jobs import Job, Progress, Source
from creemson.errors import ConnectionLost
from creemson.wire import messages
from creemson.wire.messages import ColumnProfile, OutputData, ResultData

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Client", "Result"]

CLOSE_TIMEOUT = 10.0
"""Seconds that the background thread may take to end."""
CANCEL_TIMEOUT = 2.0
"""Seconds in which the server can be told that a job is not wanted any more."""

T = TypeVar("T")
OnProgress: TypeAlias = Callable[[Progress], object] | None
Where: TypeAlias = Callable[[], AbstractAsyncContextManager[str]]
"""Gives the address of a server for as long as it is needed."""


class _Background:
    """The thread, and what runs in it. It does not know the client it serves, so that that can be collected."""

    def __init__(self, where: Where, options: dict[str, Any]) -> None:
        self._where = where
        self._options = options
        self._stop = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._client: connection.Client | None = None
        self._trio: trio.lowlevel.TrioToken | None = None
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="creemson-client", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self.stop()
            raise

    def _run(self, ready: "Future[None]") -> None:
        try:
            trio.run(self._main, ready)
        except BaseException as error:
            if not ready.done():
                ready.set_exception(_plain(error))

    async def _main(self, ready: "Future[None]") -> None:
        self._trio = trio.lowlevel.current_trio_token()
        async with (
            self._where() as url,
            connection.connect(url, **self._options) as self._client,
            trio.open_nursery() as self._nursery,
        ):
            ready.set_result(None)
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()

    @property
    def over(self) -> bool:
        """Whether nothing can be asked any more."""
        return not self._thread.is_alive() or self._client is None or self._client.state.phase == "closed"

    def call(self, work: Callable[[connection.Client], Awaitable[T]], done: "Future[T]") -> trio.CancelScope:
        """Begin some work; ``done`` tells how it ends, and cancelling the scope ends it."""
        scope = trio.CancelScope()
        self._soon(lambda: self._begin(work, done, scope), done)
        return scope

    def cancel(self, scope: trio.CancelScope) -> None:
        """Cancel from another thread."""
        self._soon(scope.cancel)

    def stop(self) -> None:
        """End the thread, and wait for that."""
        self._soon(self._stop.set)
        self._thread.join(CLOSE_TIMEOUT)

    def _soon(self, act: Callable[[], object], done: "Future[Any] | None" = None) -> None:
        try:
            if self._trio is not None:
                self._trio.run_sync_soon(act)
                return
        except trio.RunFinishedError:
            pass
        if done is not None:
            done.set_exception(_closed())

    def _begin(
        self, work: Callable[[connection.Client], Awaitable[T]], done: "Future[T]", scope: trio.CancelScope
    ) -> None:
        assert self._nursery is not None
        if self._stop.is_set():
            done.set_exception(_closed())
        else:
            self._nursery.start_soon(self._carry_out, work, done, scope)

    async def _carry_out(
        self, work: Callable[[connection.Client], Awaitable[T]], done: "Future[T]", scope: trio.CancelScope
    ) -> None:
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
                done.set_exception(_closed())


class Client:
    """A connection that comes back, for plain threads: any number of them may use it at once.

    ::

        with creemson.Client("ws://127.0.0.1:8000/ws") as client:
            result = client.process("flights.csv", columns=["carrier", 5])
            print(result.frame())

    Args:
        url: of the server.
        where: gives an address instead, for as long as it is needed.
        options: for :func:`creemson.client.connect`, such as ``token``.

    Raises:
        CreemsonError: there is no server, or it refuses.
    """

    def __init__(self, url: str | None = None, *, where: Where | None = None, **options: Any) -> None:
        if (url is None) == (where is None):
            raise TypeError("A client has either a url or where.")
        self._background = _Background(where or (lambda: _at(url or "")), options)
        self._finalizer = weakref.finalize(self, self._background.stop)  # at the program's end, too

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye and end the thread; whoever waits is told :class:`ConnectionLost`. Once more does no harm."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or has given up."""
        return self._background.over

    # --- the trio client's, one by one ---------------------------------------------------------------

    def process(self, source: Source, *, progress: OnProgress = None, **asked: Any) -> "Result":
        """Have a table processed, and wait for its result.

        Args:
            source: the path of a file here, or the name of one on the server.
            progress: is called with each :class:`Progress`, in this thread.
            asked: as for :meth:`creemson.client.Client.process`: ``columns``, ``where``, ``group_by``, ``aggregate``,
                ``sort``, ``limit``, ``distinct``, ``cast``, ``rename``, ``options``, ``strict``,
                ``preview``, ``profile``, ``timeout``, ``on_disconnect``, ``overwrite``.

        Returns:
            The result. Interrupting the wait (Ctrl-C) cancels the work.

        Raises:
            CreemsonError: with the server's reason.
            OSError: the file cannot be read.
        """
        return self._follow(lambda client: client.process(source, **asked), progress, keep=False)

    def attach(self, job: str, *, after: int = 0, progress: OnProgress = None) -> "Result":
        """Follow a job that was begun elsewhere, or earlier, and wait for its result.

        Args:
            job: its name.
            after: number of the last event that is known already.
            progress: is called with each :class:`Progress`, in this thread.

        Raises:
            CreemsonError: with the server's reason.
        """
        return self._follow(lambda client: client.attach(job, after=after), progress, keep=True)

    def jobs(self) -> tuple[messages.JobInfo, ...]:
        """See :meth:`creemson.client.Client.jobs`."""
        return self._ask(lambda client: client.jobs())

    def cancel(self, job: str) -> None:
        """See :meth:`creemson.client.Client.cancel`."""
        self._ask(lambda client: client.cancel(job))

    def columns(self, filename: str) -> tuple[messages.Column, ...]:
        """See :meth:`creemson.client.Client.columns`."""
        return self._ask(lambda client: client.columns(filename))

    def describe(self, filename: str, *, options: Any = None) -> messages.Columns:
        """See :meth:`creemson.client.Client.describe`."""
        return self._ask(lambda client: client.describe(filename, options=options))

    def files(self) -> tuple[messages.FileInfo, ...]:
        """See :meth:`creemson.client.Client.files`."""
        return self._ask(lambda client: client.files())

    def delete(self, filename: str) -> None:
        """See :meth:`creemson.client.Client.delete`."""
        self._ask(lambda client: client.delete(filename))

    def rows(self, filename: str, *, offset: int = 0, limit: int = 100, options: Any = None) -> messages.Rows:
        """See :meth:`creemson.client.Client.rows`."""
        return self._ask(lambda client: client.rows(filename, offset=offset, limit=limit, options=options))

    def upload(
        self, path: Path | str, *, name: str | None = None, overwrite: bool = False
    ) -> messages.Uploaded:
        """See :meth:`creemson.client.Client.upload`."""
        return self._ask(lambda client: client.upload(Path(path), name=name, overwrite=overwrite))

    def download(self, filename: str, target: Path | str) -> messages.Downloaded:
        """See :meth:`creemson.client.Client.download`."""
        return self._ask(lambda client: client.download(filename, Path(target)))

    def read(self, filename: str) -> bytes:
        """See :meth:`creemson.client.Client.read`."""
        return self._ask(lambda client: client.read(filename))

    # --- handing over --------------------------------------------------------------------------------

    def _ask(self, work: Callable[[connection.Client], Awaitable[T]]) -> T:
        done: Future[T] = Future()
        scope = self._background.call(work, done)
        with self._cancelling(scope, done):
            return done.result()

    def _follow(
        self, begin: Callable[[connection.Client], Job], progress: OnProgress, *, keep: bool
    ) -> "Result":
        """Follow a job, calling ``progress`` in this thread."""
        news: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()

        async def work(client: connection.Client) -> results.Result:
            job = begin(client)
            try:
                async for step in job:
                    news.put(step)
                return await job
            except trio.Cancelled:
                if not keep:
                    with trio.move_on_after(CANCEL_TIMEOUT, shield=True):
                        await job.cancel()
                raise

        done: Future[results.Result] = Future()
        done.add_done_callback(lambda _: news.put(None))
        scope = self._background.call(work, done)
        with self._cancelling(scope, done):
            while (step := news.get()) is not None:
                if progress is not None:
                    progress(step)
            return Result(self, done.result())

    @contextlib.contextmanager
    def _cancelling(self, scope: trio.CancelScope, done: "Future[Any]") -> Any:
        """Who stops waiting does not want the work any more."""
        try:
            yield
        except BaseException:
            if not done.done():
                self._background.cancel(scope)
            raise


class Result:
    """What a job has made: :class:`creemson.client.Result`, whose methods wait.

    Attributes:
        data: as the protocol says it.
    """

    def __init__(self, client: Client, made: results.Result) -> None:
        self._client = client
        self._made = made

    def __repr__(self) -> str:
        return repr(self._made)

    @property
    def data(self) -> ResultData:
        """As the protocol says it."""
        return self._made.data

    @property
    def output(self) -> OutputData:
        """All figures."""
        return self._made.output

    @property
    def rows(self) -> int:
        """How many."""
        return self._made.rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, in order."""
        return self._made.columns

    @property
    def filename(self) -> str:
        """The name of the output on the server, Parquet."""
        return self._made.filename

    @property
    def reading(self) -> messages.Reading | None:
        """How the file was read."""
        return self._made.reading

    @property
    def issues(self) -> messages.Issues | None:
        """What had to be mended in the file, or could not be read."""
        return self._made.issues

    @property
    def preview(self) -> tuple[tuple[object, ...], ...] | None:
        """The first rows, where they were asked for."""
        return self._made.preview

    @property
    def profile(self) -> tuple[ColumnProfile, ...] | None:
        """What each column holds, where it was asked for."""
        return self._made.profile

    def frame(self) -> "pl.DataFrame":
        """See :meth:`creemson.client.Result.frame`."""
        return self._client._ask(lambda _: self._made.frame())

    def lazy(self) -> "pl.LazyFrame":
        """See :meth:`creemson.client.Result.lazy`."""
        return self._client._ask(lambda _: self._made.lazy())

    def save(self, path: Path | str) -> None:
        """See :meth:`creemson.client.Result.save`."""
        self._client._ask(lambda _: self._made.save(path))


@asynccontextmanager
async def _at(url: str) -> AsyncIterator[str]:
    yield url


def _plain(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _closed() -> ConnectionLost:
    return ConnectionLost("connection_lost", "The client is closed. Make another one.")
