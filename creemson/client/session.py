"""A connection that comes back: connecting again and again, and asking again what has not been answered."""

import contextlib
import inspect
import itertools
import math
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias, TypeVar

import attrs
import trio

from creemson.client import link as links
from creemson.client.backoff import Backoff
from creemson.client.link import Link, LinkLost, Unreachable
from creemson.errors import ConnectionLost, CreemsonError
from creemson.wire import messages
from creemson.wire.messages import ClientMessage

__all__ = ["ConnectionState", "Options", "Session", "Token"]

STABLE = 5.0
"""Seconds after which a connection counts as a good one, also if nothing was asked over it."""
SOON = 0.05
"""Seconds that are waited at least when the server says that it was asked too often."""
FAREWELL = 60.0
"""Seconds that a server which says that it is shutting down may take for it."""

Answer = TypeVar("Answer")
T = TypeVar("T")
Token: TypeAlias = str | Callable[[], str | Awaitable[str | None] | None] | None


@attrs.define
class ConnectionState:
    """What a client's connection is like; to be looked at.

    Attributes:
        phase: ``connecting`` for the first time, ``open``, ``waiting`` to be open again, ``closed`` for good.
        retry_count: attempts to connect since it was last of use.
        last_activity: when something last came from the server, on trio's clock.
        connections: how many there were.
    """

    phase: Literal["connecting", "open", "waiting", "closed"] = "connecting"
    retry_count: int = 0
    last_activity: float = 0.0
    connections: int = 0


@attrs.frozen(kw_only=True)
class Options:
    """See :func:`creemson.client.connect`."""

    token: Token
    ssl_context: ssl.SSLContext | None
    give_up_after: float
    wait_for_server: bool
    handshake_timeout: float
    answer_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    dice: random.Random


class Session:
    """One link after another, and what is asked over them.

    Args:
        url: of the server.
        options: in force.

    Attributes:
        welcome: what the server has said of itself; None before the first connection.
    """

    def __init__(self, url: str, options: Options) -> None:
        self.url = url
        self._options = options
        self._ids = map(str, itertools.count(1))
        self._link: Link | None = None
        self._changed = trio.Event()
        self._failure: CreemsonError | None = None
        self._state = ConnectionState()
        self.welcome: messages.Welcome | None = None

    @property
    def state(self) -> ConnectionState:
        """What the connection is like."""
        if self._link is not None:
            self._state.last_activity = self._link.last_activity
        return self._state

    @property
    def latency(self) -> float | None:
        """Seconds that a message to the server and back has last taken; None without a connection."""
        return None if self._link is None else self._link.latency

    # --- requests ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Send the requests that are begun in the block in one message.

        It goes out at the end of the block; so await answers behind it. (What is asked in one moment, such as by
        tasks that start together, travels together anyhow.)
        """
        await trio.lowlevel.checkpoint()
        with self._link.held() if self._link is not None else contextlib.nullcontext():
            yield
            # Tasks that were started in the block have their first turn, whether it comes before ours or not.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    async def ask(
        self, request: ClientMessage, answer: type[Answer], *, done_if: str | None = None
    ) -> Answer:
        """Put a request that has one answer.

        Args:
            request: with an id of :meth:`new_id`.
            answer: the class of the answer.
            done_if: the error that shows, when it is asked again, that the first time has had its effect.

        Returns:
            The answer; None for ``done_if``.

        Raises:
            CreemsonError: with the server's reason, or because there is no connection.
        """
        tries = itertools.count()

        async def attempt(link: Link) -> Answer:
            again = next(tries) > 0
            async with link.exchange(request) as answers:
                try:
                    return await answers.expect(answer)
                except CreemsonError as error:
                    if again and error.reason == done_if:
                        return None  # type: ignore[return-value] # as promised
                    raise

        return await self.persist(attempt)

    @property
    def failure(self) -> CreemsonError | None:
        """Why there will be no connection any more; None as long as there may be one."""
        return self._failure

    def post(self, message: ClientMessage) -> None:
        """Send a message whose answer nobody awaits, if there is a connection."""
        if self._link is not None:
            self._link.post(message)

    def new_id(self) -> str:
        """An id for a request."""
        return next(self._ids)

    async def persist(self, attempt: Callable[[Link], Awaitable[T]]) -> T:
        """Do something over a connection; if that breaks, over the next one, and if that is too often, later.

        Args:
            attempt: is given the link.

        Returns:
            What it returns.

        Raises:
            CreemsonError: the attempt's, or because no connection is to be had.
        """
        patience = math.inf
        while True:
            link = await self.connected()
            try:
                return await attempt(link)
            except LinkLost:
                pass
            except ConnectionLost as error:
                if error.reason != "shutting_down":
                    raise
                # It is about to close the connection; whoever comes back finds the next server.
                with trio.move_on_after(FAREWELL) as waited:
                    await link.lost.wait()
                if waited.cancelled_caught:
                    raise
            except CreemsonError as error:
                if error.reason != "rate_limited" or trio.current_time() >= patience:
                    raise
                patience = min(patience, trio.current_time() + self._options.give_up_after)
                # Many that were refused at once are not to come back at once.
                wait = max(error.retry_after or 0.0, SOON) * self._options.dice.uniform(1, 2)
                await trio.sleep_until(min(trio.current_time() + wait, patience))

    async def connected(self) -> Link:
        """The link, when there is one.

        Raises:
            CreemsonError: there will be none.
        """
        while self._link is None or self._link.lost.is_set():
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        return self._link

    # --- staying connected ---------------------------------------------------------------------------

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Connect, again and again, until that makes no sense any more."""
        options, state = self._options, self._state
        backoff = Backoff(options.dice)
        patience = trio.current_time() + (options.give_up_after if options.wait_for_server else 0)
        while True:
            fault = await self._one_link()
            if self._failure is not None:
                return
            link, self._link = self._link, None
            now = trio.current_time()
            # A server that welcomes us and goes away, again and again, is of no use.
            if link is not None and (link.useful or now - link.began > STABLE or state.connections == 1):
                backoff.reset()
                state.retry_count = 0
                patience = now + options.give_up_after
            if fault.final or now >= patience:
                self._fail(fault.error)
                return
            state.phase = "waiting" if state.connections else "connecting"
            self._change()
            delay = backoff.next(at_least=fault.retry_after)
            state.retry_count += 1
            await trio.sleep_until(min(now + delay, patience))

    def _fail(self, error: CreemsonError) -> None:
        self._state.phase = "closed"
        self._failure = error
        self._change()

    async def _one_link(self) -> Unreachable:
        """Connect, and stay so for as long as it lasts; returns why it ended."""
        fault = Unreachable(links.nobody(self.url, "it does not answer"))
        link: Link | None = None
        try:
            with trio.move_on_after(self._options.handshake_timeout) as handshake:
                stream = await links.reach(self.url, self._options.ssl_context)
                async with stream, trio.open_nursery() as nursery:
                    socket = await links.shake_hands(nursery, stream, self.url)
                    link = Link(socket, answer_timeout=self._options.answer_timeout)
                    nursery.start_soon(self._run_link, link)
                    await self._greet(link)
                    handshake.deadline = float("inf")
                    await link.ended()
                    nursery.cancel_scope.cancel()
        except* Unreachable as group:
            fault = _first(group)
        except* LinkLost:
            pass
        except* CreemsonError as group:  # the server's answer to our hello
            error = _first(group)
            fault = Unreachable(error, final=not error.retryable, retry_after=error.retry_after or 0.0)
        except* Exception as group:  # of trio-websocket's reader, to which somebody spoke another language
            fault = Unreachable(links.nobody(self.url, _first(group)))
        if link is None:
            return fault
        error = link.failure or fault.error
        if self._link is not None and link.failure is None:
            error = ConnectionLost("connection_lost", f"The connection to {self.url} was lost.")
        return Unreachable(error, final=fault.final or link.final, retry_after=fault.retry_after)

    async def _run_link(self, link: Link) -> None:
        await link.run(interval=self._options.heartbeat_interval, patience=self._options.heartbeat_timeout)

    async def _greet(self, link: Link) -> None:
        hello = messages.Hello(
            id=self.new_id(),
            version=messages.PROTOCOL_VERSION,
            token=await self._token(),
            client="creemson.client",
            batch=True,
        )
        self.welcome = await link.hello(hello)
        self._link = link
        self._state.phase = "open"
        self._state.connections += 1
        self._change()

    async def _token(self) -> str | None:
        """The token of this moment."""
        token = self._options.token
        if not callable(token):
            return token
        try:
            given = token()
            return await given if inspect.isawaitable(given) else given
        except Exception as error:
            fault = ConnectionLost("connection_lost", f"There is no token to say hello with: {error!r}.")
            raise Unreachable(fault) from error

    async def close(self) -> None:
        """Say goodbye; whoever waits for something is told so."""
        link = self._link
        self._fail(ConnectionLost("connection_lost", "The client is closed."))
        if link is not None and not link.lost.is_set():
            await link.close()


def _first(group: BaseExceptionGroup[Any]) -> Any:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
