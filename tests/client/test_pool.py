"""The client's connection pool, with fake connections on a mock clock, and once with a server."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from creemson.client import connect as connect_client
from creemson.client.pool import CLOSE_TIMEOUT, ConnectionPool
from creemson.errors import ConnectionLost, ProcessingError
from tests.servers import PATIENCE


class Client:
    """A fake connection: what the pool and its users see of one."""

    def __init__(self, number):
        self.number = number
        self.state = SimpleNamespace(phase="open", retry_count=0, last_activity=0.0)
        self.latency = 0.01

    def die(self):
        self.state.phase = "closed"

    async def ask(self, seconds=1.0):
        await trio.sleep(seconds)
        if self.state.phase == "closed":
            raise _lost()


def _lost(why="lost"):
    return ConnectionLost("connection_lost", why)


@attrs.define
class Server:
    """Fake server: sets how long connecting takes and how it fails, and counts connections."""

    delay: float = 1.0
    faults: list = attrs.field(factory=list)  # one for each of the next connections
    leaving: float = 0.0
    asked: list = attrs.field(factory=list)
    clients: list = attrs.field(factory=list)
    alive: set = attrs.field(factory=set)
    most: int = 0
    goodbyes: int = 0
    break_down: trio.Event = attrs.field(factory=trio.Event)
    breakage: Exception | None = None

    @asynccontextmanager
    async def connect(self, url, **options):
        self.asked.append((url, options))
        fault = self.faults.pop(0) if self.faults else None
        await trio.sleep(self.delay)
        if fault is not None:
            raise fault
        client = Client(len(self.clients) + 1)
        self.clients.append(client)
        self.alive.add(client.number)
        self.most = max(self.most, len(self.alive))
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, scope)
                    yield client
                    nursery.cancel_scope.cancel()
            if scope.cancelled_caught:
                raise self.breakage
            await trio.sleep(self.leaving)
            self.goodbyes += 1
        finally:
            client.die()
            self.alive.remove(client.number)

    async def _watch(self, scope):
        await self.break_down.wait()
        scope.cancel()

    def pool(self, max_size=2, **options):
        return ConnectionPool("ws://test/ws", max_size, connect=self.connect, **options)


@pytest.fixture
def fake():
    return Server()


async def _use(pool, seconds=1.0, *, done=None, name=None):
    async with pool.acquire() as client:
        await client.ask(seconds)
    if done is not None:
        done.append(name)


async def test_connection_is_opened_on_demand_and_reused(autojump_clock, fake):
    """One connection serves several users in turn; it is opened when first needed."""
    async with fake.pool(token="secret") as pool:
        assert fake.asked == []
        for _ in range(3):
            async with pool.acquire() as client:
                assert client is fake.clients[0]
        assert fake.asked == [("ws://test/ws", {"token": "secret"})]
        found = pool.statistics()
        assert (found.size, found.idle, found.opened, found.acquired) == (1, 1, 1, 3)
    assert (fake.alive, fake.goodbyes) == (set(), 1)


async def test_pool_is_bounded_and_serves_in_order(autojump_clock, fake):
    """Ten users of two connections are served in order of arrival."""
    done = []
    async with fake.pool() as pool, trio.open_nursery() as nursery:
        for name in range(10):
            nursery.start_soon(lambda name=name: _use(pool, 1 + name / 100, done=done, name=name))
            await trio.sleep(0.001)
        assert pool.statistics().waiting == 10
        await trio.sleep(1.5)
        assert (pool.statistics().in_use, pool.statistics().waiting) == (2, 8)
    assert done == list(range(10))
    assert (fake.most, len(fake.clients)) == (2, 2)


async def test_healthiest_connection_is_acquired_first(autojump_clock, fake):
    """Health at the moment of acquiring decides."""
    async with fake.pool(3) as pool:
        async with pool.acquire() as first, pool.acquire() as second, pool.acquire() as third:
            pass
        first.state.phase, second.state.retry_count, third.latency = "waiting", 1, None
        async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
            assert (one, two, three) == (third, second, first)
        third.latency, second.state.retry_count, first.state.phase = 0.2, 0, "open"
        second.latency = 0.1
        first.latency = 0.3
        async with pool.acquire() as one, pool.acquire() as two:
            assert (one, two) == (second, third)


async def test_connection_that_died_in_use_is_replaced(autojump_clock, fake):
    """The user sees its own error; the next waiter gets a new connection."""
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        with pytest.raises(ConnectionLost):
            async with pool.acquire() as client:
                nursery.start_soon(_use, pool)
                await wait_all_tasks_blocked()
                client.die()
                await client.ask()
        await trio.sleep(1.5)
        assert (pool.statistics().in_use, pool.statistics().replaced) == (1, 1)
        assert fake.alive == {2}
    assert fake.most == 1


async def test_connection_that_died_idle_is_not_acquired(autojump_clock, fake):
    """It does not count as idle either."""
    async with fake.pool() as pool:
        async with pool.acquire(), pool.acquire():
            pass
        fake.clients[1].die()
        assert pool.statistics().idle == 1
        fake.clients[0].die()
        async with pool.acquire() as client:
            assert client.number == 3
        assert pool.statistics().replaced == 2
        assert fake.alive == {3}


async def test_pool_survives_loss_of_all_connections(autojump_clock, fake):
    """Lost connections, in use or idle, leave the pool by themselves, and the pool continues."""
    fake.breakage = _lost()
    async with fake.pool() as pool:
        async with pool.acquire() as client:
            await _use(pool)
            fake.break_down.set()
            with pytest.raises(ConnectionLost):
                await client.ask()
            assert pool.statistics().size == 0
        fake.break_down = trio.Event()
        async with pool.acquire() as client:
            assert client.number == 3
    assert fake.alive == set()


async def test_programming_error_in_connection_is_raised(autojump_clock, fake):
    """An exception other than a lost connection is raised by the pool."""
    fake.breakage = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with fake.pool() as pool:
            await _use(pool)
            fake.break_down.set()
            await trio.sleep_forever()
    assert fake.alive == set()


@pytest.mark.parametrize("fault", [_lost("There is nobody."), ValueError("token")])
async def test_connect_error_is_raised_unwrapped_to_one_waiter(autojump_clock, fake, fault):
    """The next waiter gets another attempt."""
    fake.faults = [fault]
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(_fails, pool, fault)
        await wait_all_tasks_blocked()
        nursery.start_soon(_use, pool)
    assert (pool.statistics().failed, pool.statistics().opened) == (1, 1)


async def _fails(pool, fault):
    with pytest.raises(type(fault)) as caught:
        async with pool.acquire():
            raise AssertionError
    assert caught.value is fault


async def test_waiters_for_a_missing_server_all_fail(autojump_clock, fake):
    """Each waiter gets the error of a failed attempt."""
    fake.faults, errors = [_lost(str(number)) for number in range(5)], []
    async with fake.pool() as pool, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(_collect, pool, errors)
    assert sorted(error.message for error in errors) == ["0", "1", "2", "3", "4"]
    assert trio.current_time() == 3
    assert pool.statistics().size == 0


async def _collect(pool, errors):
    try:
        await _use(pool)
    except ConnectionLost as error:
        errors.append(error)


async def test_error_in_users_block_is_raised_unwrapped(autojump_clock, fake):
    """The connection is returned, also if the error leaves the pool's own block."""
    with pytest.raises(ZeroDivisionError):
        async with fake.pool() as pool:
            with pytest.raises(ProcessingError):
                async with pool.acquire():
                    raise ProcessingError("busy", "Busy.")
            assert pool.statistics().idle == 1
            async with pool.acquire():
                raise ZeroDivisionError
    assert (fake.alive, fake.goodbyes) == (set(), 1)


async def test_cancelled_waiter_lets_next_one_move_up(autojump_clock, fake):
    """A connection opened for the cancelled waiter is used by the next."""
    done = []
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            await _use(pool)
        assert pool.statistics().waiting == 0
        nursery.start_soon(lambda: _use(pool, done=done, name="a"))
        await trio.sleep(1)
        with trio.move_on_after(0.5) as scope:
            await _use(pool)
        assert scope.cancelled_caught
        await _use(pool, done=done, name="b")
        assert (done, len(fake.asked)) == (["a", "b"], 1)
        assert pool.statistics().idle == 1


@pytest.mark.parametrize("dead", [False, True])
async def test_waiter_cancelled_while_getting_a_connection_passes_it_on(autojump_clock, fake, dead):
    """The next waiter gets it, or a new one if it dies at that moment."""
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        await _use(pool)
        with trio.CancelScope() as scope:
            scope.cancel()
            # Both run while the waiter is at its checkpoint.
            nursery.start_soon(_use, pool)
            if dead:
                nursery.start_soon(_kill, fake.clients[0])
            await _use(pool)
        assert scope.cancelled_caught
    found = pool.statistics()
    assert (found.acquired, found.opened, found.replaced) == (3, 1 + dead, dead)


async def _kill(client):
    client.die()


async def test_cancelled_user_returns_its_connection(autojump_clock, fake):
    """Cancelled during a call, it still returns the connection."""
    async with fake.pool() as pool:
        with trio.move_on_after(2):
            await _use(pool, 100)
        assert pool.statistics().idle == 1


async def test_idle_connections_are_closed_after_timeout(autojump_clock, fake):
    """Unused connections are closed; those in use are not."""
    async with fake.pool(idle_timeout=60) as pool:
        async with pool.acquire():
            await _use(pool)
            started = trio.current_time()
            await trio.sleep(59)
            assert fake.alive == {1, 2}
            await trio.sleep(1.1)
            assert fake.alive == {1}
            await trio.sleep(100)
        await trio.sleep(59)
        assert fake.alive == {1}
        await trio.sleep(2)
        assert (fake.alive, fake.goodbyes) == (set(), 2)
        await _use(pool)
    assert trio.current_time() - started < 230
    assert pool.statistics().replaced == 0


async def test_idle_connections_without_timeout_stay(autojump_clock, fake):
    """An idle connection is still open after a day."""
    async with fake.pool(idle_timeout=None) as pool:
        await _use(pool)
        await trio.sleep(86400)
        assert fake.alive == {1}


async def test_closing_the_pool_waits_for_nobody(autojump_clock, fake):
    """A connection in use is closed, waiters get an error, and a connection being opened is dropped."""
    fake.delay = 10
    async with trio.open_nursery() as nursery:
        async with fake.pool() as pool:
            nursery.start_soon(_loses_connection, pool)
            await trio.sleep(11)
            nursery.start_soon(_is_refused, pool)
            nursery.start_soon(_is_refused, pool)
            await trio.sleep(1)
            assert (pool.statistics().opening, pool.statistics().waiting) == (1, 2)
            before = trio.current_time()
        assert trio.current_time() == before
        assert fake.alive == set()
        assert pool.statistics().size == 0
    await _is_refused(pool)


async def _loses_connection(pool):
    async with pool.acquire() as client:
        with pytest.raises(ConnectionLost):
            await client.ask(20)
            raise AssertionError


async def _is_refused(pool):
    with pytest.raises(trio.ClosedResourceError, match="pool is closed"):
        async with pool.acquire():
            raise AssertionError


async def test_slow_close_handshakes_are_cut_short(autojump_clock, fake):
    """All connections share one close timeout."""
    fake.leaving = 1000
    async with fake.pool() as pool:
        async with pool.acquire(), pool.acquire():
            pass
        before = trio.current_time()
    assert trio.current_time() - before == CLOSE_TIMEOUT
    assert fake.alive == set()


async def test_cancelled_pool_ends_immediately(autojump_clock, fake):
    """No connection remains, and waiters outside its block get an error."""
    fake.leaving = 1000
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(5) as scope:
            async with fake.pool(1) as pool:
                nursery.start_soon(_loses_connection, pool)
                await trio.sleep(2)
                nursery.start_soon(_is_refused, pool)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert fake.alive == set()


async def test_shielded_acquire_while_pool_closes_is_refused(autojump_clock, fake):
    """A user that cleans up in a shielded scope gets an error instead of waiting."""
    with trio.move_on_after(1):
        async with fake.pool() as pool:
            try:
                await trio.sleep_forever()
            finally:
                with (
                    trio.CancelScope(shield=True),
                    pytest.raises(trio.ClosedResourceError, match="being closed"),
                ):
                    await _use(pool)


async def test_pool_that_is_not_open_is_refused(autojump_clock, fake):
    """A pool can be used neither before it is entered nor be entered twice."""
    pool = fake.pool()
    with pytest.raises(trio.ClosedResourceError, match="async with"):
        await _use(pool)
    async with pool:
        await _use(pool)
    with pytest.raises(RuntimeError, match="only once"):
        async with pool:
            raise AssertionError


def test_invalid_size_is_refused_with_value():
    """The error names the invalid value."""
    with pytest.raises(ValueError, match="max_size is 0"):
        ConnectionPool("ws://test/ws", 0)


async def test_twenty_users_share_three_connections(server):
    """Against a real server, twenty users share three connections."""
    opened, answers = [], []

    @asynccontextmanager
    async def connect(url, **options):
        async with connect_client(url, **options) as client:
            opened.append(client)
            yield client

    async def acquire(pool):
        async with pool.acquire() as client:
            answers.append(await client.columns("example.csv"))

    with trio.fail_after(PATIENCE):
        async with ConnectionPool(server.url, 3, connect=connect, token=None) as pool:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(acquire, pool)
            async with pool.acquire() as client:
                assert "example.csv" in [info.filename for info in await client.files()]
            found = pool.statistics()
    assert len(answers) == 20
    assert (len(opened), found.opened, found.idle, found.acquired) == (3, 3, 3, 21)
    with pytest.raises(ConnectionLost):
        await client.files()
