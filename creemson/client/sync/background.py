"""The background thread of a synchronous client: it runs trio and the trio client."""

import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

import trio

from creemson.client import client as trio_client
from creemson.errors import ConnectionLost

__all__ = ["Background", "Where", "Work"]

CLOSE_TIMEOUT = 10.0
"""Seconds that the thread may take to end."""

T = TypeVar("T")
Work: TypeAlias = Callable[[trio_client.Client], Awaitable[T]]
"""What the thread does for a caller."""
Where: TypeAlias = Callable[[], AbstractAsyncContextManager[str | Sequence[str]]]
"""Makes an asynchronous context manager that provides the address of a server, or several."""


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
