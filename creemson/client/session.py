"""Keeps a client connected: reconnects, and repeats requests whose answers were lost with a connection."""

import contextlib
import inspect
import itertools
import math
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias, TypeVar

import attrs
import trio

from creemson.client import handshake
from creemson.client.backoff import Backoff
from creemson.client.connection import Connection, Disconnected
from creemson.client.handshake import Unreachable
from creemson.client.values.to_json import is_unicode
from creemson.client.values.tokens import expiry_of
from creemson.errors import ConnectionLost, CreemsonError, InvalidFormat
from creemson.wire import messages
from creemson.wire.messages import Cancel, ClientMessage

__all__ = ["ConnectionState", "Options", "Session", "Token"]

STABLE_AFTER = 5.0
"""Seconds after which a connection counts as useful, even if no request was made over it."""
MIN_RETRY_DELAY = 0.05
"""Minimum delay in seconds before a rate-limited request is repeated."""
RENEW_AFTER = 0.8
"""Part of the time that a token is still valid, after which the next one is asked for."""
MIN_RENEW_DELAY = 0.5
"""Minimum seconds between two tokens."""
SHUTDOWN_TIMEOUT = 60.0
"""Seconds to wait until a server that is shutting down closes the connection."""

Answer = TypeVar("Answer")
T = TypeVar("T")
Token: TypeAlias = str | Callable[[], str | Awaitable[str | None] | None] | None


@attrs.define
class ConnectionState:
    """The state of a client's connection; read-only for callers.

    Attributes:
        phase: ``connecting`` before the first connection, ``open``, ``waiting`` for the next connection,
            ``closed`` forever.
        retry_count: attempts to connect since the last useful connection.
        last_activity: time at which the server last sent something, on trio's clock.
        connections: number of connections so far.
    """

    phase: Literal["connecting", "open", "waiting", "closed"] = "connecting"
    retry_count: int = 0
    last_activity: float = 0.0
    connections: int = 0


@attrs.frozen(kw_only=True)
class Options:
    """The options of a session; see :func:`creemson.client.connect`."""

    token: Token
    ssl_context: ssl.SSLContext | None
    give_up_after: float
    wait_for_server: bool
    handshake_timeout: float
    answer_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    rng: random.Random
    wall_clock: Callable[[], float] = time.time


class Session:
    """Uses one connection after another, and runs requests over them.

    Args:
        urls: addresses of servers that know the same files and jobs, at least one.
        options: timeouts, token and so on.

    Attributes:
        welcome: the server's latest welcome message; None before the first connection.
    """

    def __init__(self, urls: Sequence[str], options: Options) -> None:
        self._urls = urls
        self._at = 0  # index of the address in use
        self._options = options
        self._ids = map(str, itertools.count(1))
        self._connection: Connection | None = None
        self._changed = trio.Event()
        self._failure: CreemsonError | None = None  # set when the session is closed
        self._state = ConnectionState()
        self._token: str | None = None  # that was sent last
        self.welcome: messages.Welcome | None = None

    @property
    def url(self) -> str:
        """The address in use."""
        return self._urls[self._at]

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        if self._connection is not None:
            self._state.last_activity = self._connection.last_activity
        return self._state

    @property
    def latency(self) -> float | None:
        """Seconds of the last round trip; None without a connection."""
        return None if self._connection is None else self._connection.latency

    # --- requests ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Send the requests that are made in the block in one message; see ``Client.batch``."""
        await trio.lowlevel.checkpoint()
        with self._connection.hold() if self._connection is not None else contextlib.nullcontext():
            yield
            # Two checkpoints: tasks that were started in the block run once before it ends, in any order.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    async def ask(self, request: ClientMessage, answer: type[Answer]) -> Answer:
        """Send a request that has one answer, and wait for the answer.

        Args:
            request: the message, with an id from :meth:`new_id`.
            answer: the class of the answer.

        Returns:
            The answer.

        Raises:
            CreemsonError: the server refuses the request, or there is no connection.
        """

        async def attempt(connection: Connection) -> Answer:
            async with connection.exchange(request) as answers:
                return await answers.expect(answer)

        return await self.persist(attempt)

    async def look_up(self, request: ClientMessage, answer: type[Answer]) -> Answer:
        """Send a request that only reads, and wait for its answer; see :meth:`ask`.

        If the caller is cancelled, for example because its user has typed another letter, the server stops reading.
        """
        try:
            return await self.ask(request, answer)
        except trio.Cancelled:
            self.post(Cancel(id=self.new_id(), request=request.id))
            raise

    async def ask_once(self, request: ClientMessage, answer: type[object], *, done_if: str) -> None:
        """Send a request that can take effect only once, and wait until it has.

        Args:
            request: the message, with an id from :meth:`new_id`.
            answer: the class of the answer.
            done_if: reason of an error that, when the request is repeated, means that an earlier attempt succeeded.

        Raises:
            CreemsonError: the server refuses the request, or there is no connection.
        """
        attempts = itertools.count()

        async def attempt(connection: Connection) -> None:
            repeated = next(attempts) > 0
            try:
                async with connection.exchange(request) as answers:
                    await answers.expect(answer)
            except CreemsonError as error:
                if not (repeated and error.reason == done_if):
                    raise

        await self.persist(attempt)

    @property
    def failure(self) -> CreemsonError | None:
        """The reason why the session is closed; None while it is open."""
        return self._failure

    def post(self, message: ClientMessage) -> None:
        """Send a message without waiting for an answer; it is dropped if there is no connection."""
        if self._connection is not None:
            self._connection.post(message)

    def new_id(self) -> str:
        """Return a new id for a request."""
        return next(self._ids)

    async def persist(self, attempt: Callable[[Connection], Awaitable[T]]) -> T:
        """Run an attempt over a connection; repeat it when the connection is lost or the server rate-limits it.

        Args:
            attempt: called with an open connection.

        Returns:
            The return value of the attempt.

        Raises:
            CreemsonError: raised by the attempt, or because the session is closed.
        """
        deadline = math.inf  # for a request that is rate-limited repeatedly
        while True:
            connection = await self.connected()
            try:
                return await attempt(connection)
            except Disconnected:
                pass
            except ConnectionLost as error:
                if error.reason != "shutting_down":
                    raise
                # The server is about to close the connection; the attempt is repeated over the next one.
                with trio.move_on_after(SHUTDOWN_TIMEOUT) as waiting:
                    await connection.lost.wait()
                if waiting.cancelled_caught:
                    raise
            except CreemsonError as error:
                if error.reason != "rate_limited" or trio.current_time() >= deadline:
                    raise
                deadline = min(deadline, trio.current_time() + self._options.give_up_after)
                # Randomized, so that many requests that were refused together are not repeated together.
                delay = max(error.retry_after or 0.0, MIN_RETRY_DELAY) * self._options.rng.uniform(1, 2)
                await trio.sleep_until(min(trio.current_time() + delay, deadline))

    async def connected(self) -> Connection:
        """Wait for an open connection.

        Raises:
            CreemsonError: the session is closed.
        """
        while self._connection is None or self._connection.lost.is_set():
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        return self._connection

    # --- staying connected ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and reconnect until the session is closed or gives up."""
        options, state = self._options, self._state
        backoff = Backoff(options.rng)
        deadline = trio.current_time() + (options.give_up_after if options.wait_for_server else 0)
        failed = 0  # addresses that were tried in vain, one after another
        while True:
            end = await self._run_one_connection()
            if self._failure is not None:
                return
            connection, self._connection = self._connection, None
            now = trio.current_time()
            # A server that repeatedly sends a welcome and then closes the connection does not count as available.
            if connection is not None and (
                connection.useful or now - connection.opened_at > STABLE_AFTER or state.connections == 1
            ):
                backoff.reset()
                state.retry_count = failed = 0
                deadline = now + options.give_up_after
            if connection is None or connection.is_leaving:
                failed += 1
                self._at = (self._at + 1) % len(self._urls)
                if failed % len(self._urls):
                    state.phase = "waiting" if state.connections else "connecting"
                    self._notify()
                    continue  # with the next address, at once
            else:
                failed = 0
            if end.final or now >= deadline:
                self._fail(end.error)
                return
            state.phase = "waiting" if state.connections else "connecting"
            self._notify()
            delay = backoff.next(at_least=end.retry_after)
            state.retry_count += 1
            await trio.sleep_until(min(now + delay, deadline))

    async def close(self) -> None:
        """Close the session and its connection; pending requests raise :class:`ConnectionLost`."""
        connection = self._connection
        self._fail(ConnectionLost("connection_lost", "The client is closed."))
        if connection is not None and not connection.lost.is_set():
            await connection.close()

    def _notify(self) -> None:
        """Wake the tasks that wait in :meth:`connected`."""
        self._changed.set()
        self._changed = trio.Event()

    def _fail(self, error: CreemsonError) -> None:
        self._state.phase = "closed"
        self._failure = error
        self._notify()

    async def _run_one_connection(self) -> Unreachable:
        """Connect, and run the connection until it is lost; returns why it ended."""
        end = Unreachable(handshake.unreachable_error(self.url, "it does not respond"))
        connection: Connection | None = None
        try:
            with trio.move_on_after(self._options.handshake_timeout) as timeout:
                stream = await handshake.open_stream(self.url, self._options.ssl_context)
                async with stream, trio.open_nursery() as nursery:
                    socket = await handshake.open_websocket(nursery, stream, self.url)
                    connection = Connection(socket, answer_timeout=self._options.answer_timeout)
                    nursery.start_soon(self._run_connection, connection)
                    await self._say_hello(connection)
                    timeout.deadline = math.inf
                    nursery.start_soon(self._renew_token, connection)
                    await connection.wait_closed()
                    nursery.cancel_scope.cancel()
        except* Unreachable as group:
            end = _first_error(group)
        except* Disconnected:
            pass
        except* CreemsonError as group:  # the server's answer to the hello
            error = _first_error(group)
            end = Unreachable(error, final=not error.retryable, retry_after=error.retry_after or 0.0)
        except* Exception as group:  # from trio-websocket's reader: the other side does not speak WebSocket
            end = Unreachable(handshake.unreachable_error(self.url, _first_error(group)))
        if connection is None:
            return end
        error = connection.failure or end.error
        # The token has ended; the function may give another one.
        renewable = self._connection is not None and callable(self._options.token)
        if renewable and error.reason == "unauthenticated":
            connection.final = False
        if self._connection is not None and connection.failure is None:
            error = ConnectionLost("connection_lost", f"The connection to {self.url} was lost.")
        return Unreachable(error, final=end.final or connection.final, retry_after=end.retry_after)

    async def _run_connection(self, connection: Connection) -> None:
        await connection.run(
            heartbeat_interval=self._options.heartbeat_interval,
            heartbeat_timeout=self._options.heartbeat_timeout,
        )

    async def _say_hello(self, connection: Connection) -> None:
        self.welcome = await connection.hello(await self._hello())
        self._connection = connection
        self._state.phase = "open"
        self._state.connections += 1
        self._notify()

    async def _hello(self) -> messages.Hello:
        self._token = await self._next_token()
        return messages.Hello(
            id=self.new_id(),
            version=messages.PROTOCOL_VERSION,
            token=self._token,
            client="creemson.client",
            batch=True,
        )

    async def _renew_token(self, connection: Connection) -> None:
        """Authenticate again, on the open connection, each time before the token expires."""
        while callable(self._options.token) and (expiry := expiry_of(self._token)) is not None:
            left = expiry - self._options.wall_clock()
            await trio.sleep(max(left * RENEW_AFTER, MIN_RENEW_DELAY))
            try:
                hello = await self._hello()
                async with connection.exchange(hello) as answers:
                    await answers.expect(messages.Welcome)
            except (
                Unreachable
            ):  # the function has failed; it is called again, in time or for the next connection
                continue
            except (CreemsonError, Disconnected):  # the server closes the connection
                return

    async def _next_token(self) -> str | None:
        """Return the token to authenticate with."""
        token: Any = self._options.token
        if callable(token):
            try:
                given = token()
                token = await given if inspect.isawaitable(given) else given
            except Exception as error:
                failure = ConnectionLost("connection_lost", f"The token function failed: {error!r}.")
                raise Unreachable(failure) from error
        if token is None or (isinstance(token, str) and is_unicode(token)):
            return token
        fault = InvalidFormat("unauthenticated", "The token is not text, or not valid Unicode.")
        raise Unreachable(fault, final=True)


def _first_error(group: BaseExceptionGroup[Any]) -> Any:
    """Return the first exception in nested groups that is not a group itself."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
