"""A pool of connections: many tasks share a few connections.

::

    async with ConnectionPool("ws://127.0.0.1:8000/ws", max_size=4) as pool:
        async with pool.acquire() as client:
            await client.columns("flights.csv")

:mod:`creemson.client.pool_state` decides which task gets which connection. Each connection runs in a task of its own,
so the block of an acquiring task runs in that task and under its own cancel scopes only.
"""

import functools
import inspect
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self, TypedDict, Unpack

import attrs
import trio

from creemson.client.client import Client
from creemson.client.client import connect as connect_client
from creemson.client.pool_state import Discard, Effect, Grant, Health, Open, PoolState, PoolStatistics, Refuse
from creemson.client.session import Token
from creemson.errors import CreemsonError

__all__ = ["ConnectionPool", "PoolStatistics"]

CLOSE_TIMEOUT = 5.0
"""Seconds that closing a connection may take before it is aborted."""


@attrs.define(eq=False)
class _Member:
    """One connection of the pool.

    Attributes:
        number: identifies it in the pool's state.
        scope: cancel scope of its task.
        leave: set to close it.
        client: None while it is being opened.
    """

    number: int
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    leave: trio.Event = attrs.field(factory=trio.Event)
    client: Client | None = None

    @property
    def alive(self) -> bool:
        return self.client is not None and self.client.state.phase != "closed"

    @property
    def health(self) -> Health:
        assert self.client is not None
        state = self.client.state
        return Health(state.phase == "open", state.retry_count, self.client.latency)

    def end(self) -> None:
        if self.client is None:
            self.scope.cancel()
        else:
            self.leave.set()
            self.scope.deadline = trio.current_time() + CLOSE_TIMEOUT


@attrs.define(eq=False)
class _Waiter:
    """A task that waits for a connection; answered with a member, an error, or neither if the pool was closed."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    member: _Member | None = None
    error: Exception | None = None

    def answer(self, member: _Member | None, error: Exception | None = None) -> None:
        self.member, self.error = member, error
        self.answered.set()


class ConnectOptions(TypedDict, total=False):
    """The options of :func:`creemson.client.connect`."""

    token: Token
    ssl_context: ssl.SSLContext | None
    give_up_after: float
    wait_for_server: bool
    handshake_timeout: float
    answer_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    rng: random.Random | None


class ConnectionPool:
    """Up to ``max_size`` connections to one server, opened when they are needed. Use it with ``async with``.

    Leaving the block closes all connections; calls on connections that are still in use raise ``ConnectionLost``.

    Args:
        url: address of the server, or several, as for :func:`creemson.client.connect`.
        max_size: maximum number of connections, from 1.
        idle_timeout: seconds after which an unused connection is closed; None disables this.
        connect: opens a connection; called with ``url`` and ``options``.
        options: for :func:`creemson.client.connect`, such as ``token``.

    Raises:
        TypeError: there is no such option.
        ValueError: ``max_size`` or ``idle_timeout`` is too small.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        max_size: int = 100,
        *,
        idle_timeout: float | None = 300.0,
        connect: Callable[..., AbstractAsyncContextManager[Client]] = connect_client,
        **options: Unpack[ConnectOptions],
    ) -> None:
        inspect.signature(connect).bind(url, **options)  # a misspelt option is an error here, not in a task
        self._state = PoolState(max_size, idle_timeout=idle_timeout)
        self._idle_timeout = idle_timeout
        self._connect = functools.partial(connect, url, **options)
        self._members: dict[int, _Member] = {}
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Self:
        if self._nursery is not None:
            raise RuntimeError("A connection pool can be entered only once. Create another one.")
        self._running = self._run()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._running.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Client]:
        """Acquire a connection; it is released at the end of the block.

        Yields:
            The client of the healthiest idle connection, or of the next available one. Tasks are served in order
            of arrival.

        Raises:
            CreemsonError: a new connection could not be opened.
            trio.ClosedResourceError: the pool is closed, or was not entered.
        """
        if self._nursery is None:
            raise trio.ClosedResourceError("The connection pool is not open: enter it with `async with`.")
        waiter = _Waiter()
        self._apply(self._state.acquire(waiter, self._inspect()))
        try:
            await waiter.answered.wait()
        except BaseException:  # cancelled, possibly just after the connection was granted
            healthy = waiter.member is None or waiter.member.alive
            self._apply(self._state.gave_up(trio.current_time(), waiter, healthy=healthy))
            raise
        member = waiter.member
        if member is None:
            raise waiter.error or trio.ClosedResourceError("The connection pool is closed.")
        assert member.client is not None
        try:
            yield member.client
        finally:
            now = trio.current_time()
            self._apply(self._state.released(now, member.number, healthy=member.alive))

    def statistics(self) -> PoolStatistics:
        """Count the connections and the waiters, after removing idle connections that were lost."""
        self._inspect()
        return self._state.statistics()

    def _inspect(self) -> dict[int, Health]:
        """Remove the idle connections that were lost, and return the health of the others."""
        for number in self._state.idle:
            if not self._members[number].alive:
                self._apply(self._state.lost(number))
        return {number: self._members[number].health for number in self._state.idle}

    def _apply(self, effects: Iterable[Effect]) -> None:
        assert self._nursery is not None
        for effect in effects:
            match effect:
                case Open(number):
                    member = self._members[number] = _Member(number)
                    self._nursery.start_soon(self._run_member, member)
                case Discard(number):
                    self._members[number].end()
                case Grant(_Waiter() as waiter, number):
                    waiter.answer(self._members[number])
                case Refuse(_Waiter() as waiter, error):
                    waiter.answer(None, error)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        timer = trio.CancelScope()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._run_timer, timer)
            try:
                yield
            except Exception as error:
                failure = error  # the nursery would wrap an exception that passes through it in a group
            finally:
                timer.cancel()
                self._apply(self._state.close())
        if failure is not None:
            raise failure

    async def _run_timer(self, scope: trio.CancelScope) -> None:
        with scope:
            while self._idle_timeout is not None:
                now = trio.current_time()
                self._apply(self._state.tick(now))
                # A connection that becomes idle during this sleep is not overdue before the sleep ends.
                await trio.sleep_until(min(self._state.next_wake(), now + self._idle_timeout))

    async def _run_member(self, member: _Member) -> None:
        """Open one connection, and keep it until it is discarded or lost."""
        # The waiter gets this error if the whole pool is cancelled.
        error: Exception = trio.ClosedResourceError("The connection pool is being closed.")
        try:
            with member.scope:
                async with self._connect() as member.client:
                    self._apply(self._state.opened(trio.current_time(), member.number))
                    await member.leave.wait()
        except Exception as failure:
            error = failure
            # A connection may be lost at any time; any other error is a bug.
            if member.client is not None and not isinstance(failure, CreemsonError):
                raise
        finally:
            del self._members[member.number]
            if member.client is None:
                self._apply(self._state.open_failed(member.number, error))
            else:
                self._apply(self._state.ended(member.number))
