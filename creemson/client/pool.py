"""A pool of connections: many borrowers share few of them.

::

    async with ConnectionPool("ws://127.0.0.1:8000/ws", max_size=4) as pool:
        async with pool.lend() as client:
            await client.columns("flights.csv")

What is lent to whom is decided in :mod:`creemson.client.lending`. Each connection lives in a task of its own,
so that a borrower's block runs in the borrower's task and under nobody else's cancel scope.
"""

import functools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import attrs
import trio

from creemson.client import connection
from creemson.client.connection import Client
from creemson.client.lending import Discard, Effect, Health, Lend, Lending, Open, PoolStatistics, Refuse
from creemson.errors import CreemsonError

__all__ = ["ConnectionPool", "PoolStatistics"]

CLOSE_TIMEOUT = 5.0
"""Seconds that a connection has for saying goodbye; then it is cut off."""


@attrs.define(eq=False)
class _Member:
    """One connection of the pool.

    Attributes:
        number: its name.
        scope: of its task.
        leave: set when it shall end.
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
class _Borrower:
    """Who waits for a connection; the answer is a member, an error, or neither if the pool was closed."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    member: _Member | None = None
    error: Exception | None = None

    def answer(self, member: _Member | None, error: Exception | None = None) -> None:
        self.member, self.error = member, error
        self.answered.set()


class ConnectionPool:
    """At most ``max_size`` connections to one server, opened when they are needed. Use it in ``async with``.

    Leaving closes all of them, also those that are lent: their borrowers' calls raise ``ConnectionLost``.

    Args:
        url: ``ws://HOST:PORT/ws``.
        max_size: connections that there may be, from 1.
        idle_timeout: seconds after which a connection that nobody uses is closed; None keeps it.
        connect: makes a connection; is called with ``url`` and ``options``.
        options: for :func:`creemson.client.connection.connect`, such as ``token``.

    Raises:
        ValueError: ``max_size`` or ``idle_timeout`` is too small.
    """

    def __init__(
        self,
        url: str,
        max_size: int = 100,
        *,
        idle_timeout: float | None = 300.0,
        connect: Callable[..., AbstractAsyncContextManager[Client]] = connection.connect,
        **options: Any,
    ) -> None:
        self._lending = Lending(max_size, idle_timeout=idle_timeout)
        self._idle_timeout = idle_timeout
        self._connect = functools.partial(connect, url, **options)
        self._members: dict[int, _Member] = {}
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Self:
        if self._nursery is not None:
            raise RuntimeError("A connection pool is entered only once. Make another one.")
        self._running = self._run()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._running.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Client]:
        """Borrow a connection; it goes back on leaving.

        Yields:
            The client of the healthiest connection that is idle, or of the next that there is: who came first
            gets it first.

        Raises:
            CreemsonError: what kept a new connection from being opened.
            trio.ClosedResourceError: the pool is closed, or was not entered.
        """
        if self._nursery is None:
            raise trio.ClosedResourceError("The connection pool is not open: enter it by `async with`.")
        borrower = _Borrower()
        self._do(self._lending.ask(borrower, self._inspect()))
        try:
            await borrower.answered.wait()
        except BaseException:  # cancelled, perhaps in the moment in which the answer came
            healthy = borrower.member is None or borrower.member.alive
            self._do(self._lending.gave_up(trio.current_time(), borrower, healthy=healthy))
            raise
        member = borrower.member
        if member is None:
            raise borrower.error or trio.ClosedResourceError("The connection pool is closed.")
        assert member.client is not None
        try:
            yield member.client
        finally:
            now = trio.current_time()
            self._do(self._lending.returned(now, member.number, healthy=member.alive))

    def statistics(self) -> PoolStatistics:
        """Count what there is and what was done; idle connections that have died are found and dropped."""
        self._inspect()
        return self._lending.statistics()

    def _inspect(self) -> dict[int, Health]:
        """Drop the idle connections that are dead, and tell how the others do."""
        for number in self._lending.idle:
            if not self._members[number].alive:
                self._do(self._lending.died(number))
        return {number: self._members[number].health for number in self._lending.idle}

    def _do(self, effects: Iterable[Effect]) -> None:
        assert self._nursery is not None
        for effect in effects:
            match effect:
                case Open(number):
                    member = self._members[number] = _Member(number)
                    self._nursery.start_soon(self._keep, member)
                case Discard(number):
                    self._members[number].end()
                case Lend(_Borrower() as borrower, number):
                    borrower.answer(self._members[number])
                case Refuse(_Borrower() as borrower, error):
                    borrower.answer(None, error)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        timer = trio.CancelScope()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._keep_time, timer)
            try:
                yield
            except Exception as error:  # an exception that left the nursery would leave it wrapped in a group
                failure = error
            finally:
                timer.cancel()
                self._do(self._lending.close())
        if failure is not None:
            raise failure

    async def _keep_time(self, scope: trio.CancelScope) -> None:
        with scope:
            while self._idle_timeout is not None:
                now = trio.current_time()
                self._do(self._lending.tick(now))
                # Nothing that becomes idle while this sleeps is overdue before it wakes.
                await trio.sleep_until(min(self._lending.next_wake(), now + self._idle_timeout))

    async def _keep(self, member: _Member) -> None:
        """The life of one connection."""
        # Told to who waits if this task is cancelled with everything else.
        error: Exception = trio.ClosedResourceError("The connection pool is being closed.")
        try:
            with member.scope:
                async with self._connect() as member.client:
                    self._do(self._lending.opened(trio.current_time(), member.number))
                    await member.leave.wait()
        except Exception as fault:
            error = fault
            # A connection may be lost at any time; anything else is a fault of the program.
            if member.client is not None and not isinstance(fault, CreemsonError):
                raise
        finally:
            del self._members[member.number]
            if member.client is None:
                self._do(self._lending.open_failed(member.number, error))
            else:
                self._do(self._lending.ended(member.number))
