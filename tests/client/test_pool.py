"""The client's connection pool: with connections that are none, at the speed of a mock clock; once with a server."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from creemson.client import connection
from creemson.client.pool import CLOSE_TIMEOUT, ConnectionPool
from creemson.errors import ConnectionLost, ProcessingError


class Client:
    """What the pool and a borrower see of a connection."""

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
    """Makes connections: how long that takes, how it fails, and which there are."""

    delay: float = 1.0
    faults: list = attrs.field(factory=list)  # of the next connections, one for each
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


async def _borrow(pool, seconds=1.0, *, done=None, name=None):
    async with pool.lend() as client:
        await client.ask(seconds)
    if done is not None:
        done.append(name)


async def test_borrowed_and_returned(autojump_clock, fake):
    """One connection serves one after the other; it is opened when it is first needed."""
    async with fake.pool(token="secret") as pool:
        assert fake.asked == []
        for _ in range(3):
            async with pool.lend() as client:
                assert client is fake.clients[0]
        assert fake.asked == [("ws://test/ws", {"token": "secret"})]
        found = pool.statistics()
        assert (found.size, found.idle, found.opened, found.lent_total) == (1, 1, 1, 3)
    assert (fake.alive, fake.goodbyes) == (set(), 1)


async def test_bounded_and_fair(autojump_clock, fake):
    """Ten borrowers of two connections are served in the order in which they came."""
    done = []
    async with fake.pool() as pool, trio.open_nursery() as nursery:
        for name in range(10):
            nursery.start_soon(lambda name=name: _borrow(pool, 1 + name / 100, done=done, name=name))
            await trio.sleep(0.001)
        assert pool.statistics().waiting == 10
        await trio.sleep(1.5)
        assert (pool.statistics().lent, pool.statistics().waiting) == (2, 8)
    assert done == list(range(10))
    assert (fake.most, len(fake.clients)) == (2, 2)


async def test_the_healthiest_first(autojump_clock, fake):
    """As it is in the moment of lending."""
    async with fake.pool(3) as pool:
        async with pool.lend() as first, pool.lend() as second, pool.lend() as third:
            pass
        first.state.phase, second.state.retry_count, third.latency = "waiting", 1, None
        async with pool.lend() as one, pool.lend() as two, pool.lend() as three:
            assert (one, two, three) == (third, second, first)
        third.latency, second.state.retry_count, first.state.phase = 0.2, 0, "open"
        second.latency = 0.1
        first.latency = 0.3
        async with pool.lend() as one, pool.lend() as two:
            assert (one, two) == (second, third)


async def test_one_that_died_with_its_borrower_is_replaced(autojump_clock, fake):
    """The borrower sees its own error; who waits gets a new one."""
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        with pytest.raises(ConnectionLost):
            async with pool.lend() as client:
                nursery.start_soon(_borrow, pool)
                await wait_all_tasks_blocked()
                client.die()
                await client.ask()
        await trio.sleep(1.5)
        assert (pool.statistics().lent, pool.statistics().replaced) == (1, 1)
        assert fake.alive == {2}
    assert fake.most == 1


async def test_one_that_died_idle_is_not_lent(autojump_clock, fake):
    """It does not even count as idle."""
    async with fake.pool() as pool:
        async with pool.lend(), pool.lend():
            pass
        fake.clients[1].die()
        assert pool.statistics().idle == 1
        fake.clients[0].die()
        async with pool.lend() as client:
            assert client.number == 3
        assert pool.statistics().replaced == 2
        assert fake.alive == {3}


async def test_all_connections_break_down(autojump_clock, fake):
    """Lent or idle, they leave the pool by themselves; it goes on."""
    fake.breakage = _lost()
    async with fake.pool() as pool:
        async with pool.lend() as client:
            await _borrow(pool)
            fake.break_down.set()
            with pytest.raises(ConnectionLost):
                await client.ask()
            assert pool.statistics().size == 0
        fake.break_down = trio.Event()
        async with pool.lend() as client:
            assert client.number == 3
    assert fake.alive == set()


async def test_a_fault_of_the_program_is_not_hidden(autojump_clock, fake):
    """What is no loss of a connection comes out of the pool."""
    fake.breakage = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with fake.pool() as pool:
            await _borrow(pool)
            fake.break_down.set()
            await trio.sleep_forever()
    assert fake.alive == set()


@pytest.mark.parametrize("fault", [_lost("There is nobody."), ValueError("token")])
async def test_an_error_of_connecting_is_told_plainly(autojump_clock, fake, fault):
    """To one borrower; the next one has another try."""
    fake.faults = [fault]
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(_fails, pool, fault)
        await wait_all_tasks_blocked()
        nursery.start_soon(_borrow, pool)
    assert (pool.statistics().failed, pool.statistics().opened) == (1, 1)


async def _fails(pool, fault):
    with pytest.raises(type(fault)) as caught:
        async with pool.lend():
            raise AssertionError
    assert caught.value is fault


async def test_nobody_waits_for_ever_for_a_server_that_is_gone(autojump_clock, fake):
    """Each hears of a failed try."""
    fake.faults, told = [_lost(str(number)) for number in range(5)], []
    async with fake.pool() as pool, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(_collect, pool, told)
    assert sorted(error.message for error in told) == ["0", "1", "2", "3", "4"]
    assert trio.current_time() == 3
    assert pool.statistics().size == 0


async def _collect(pool, told):
    try:
        await _borrow(pool)
    except ConnectionLost as error:
        told.append(error)


async def test_an_error_of_a_borrower_is_its_own(autojump_clock, fake):
    """Not wrapped, and the connection goes back; also where it leaves the pool's own block."""
    with pytest.raises(ZeroDivisionError):
        async with fake.pool() as pool:
            with pytest.raises(ProcessingError):
                async with pool.lend():
                    raise ProcessingError("busy", "Busy.")
            assert pool.statistics().idle == 1
            async with pool.lend():
                raise ZeroDivisionError
    assert (fake.alive, fake.goodbyes) == (set(), 1)


async def test_a_cancelled_waiter_costs_nothing(autojump_clock, fake):
    """The next one moves up; what was opened for it is used."""
    done = []
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            await _borrow(pool)
        assert pool.statistics().waiting == 0
        nursery.start_soon(lambda: _borrow(pool, done=done, name="a"))
        await trio.sleep(1)
        with trio.move_on_after(0.5) as scope:
            await _borrow(pool)
        assert scope.cancelled_caught
        await _borrow(pool, done=done, name="b")
        assert (done, len(fake.asked)) == (["a", "b"], 1)
        assert pool.statistics().idle == 1


@pytest.mark.parametrize("dead", [False, True])
async def test_cancelled_in_the_moment_of_getting_one(autojump_clock, fake, dead):
    """The next one gets it; if it dies in that moment, another."""
    async with fake.pool(1) as pool, trio.open_nursery() as nursery:
        await _borrow(pool)
        with trio.CancelScope() as scope:
            scope.cancel()
            # Both run while the borrower takes its checkpoint.
            nursery.start_soon(_borrow, pool)
            if dead:
                nursery.start_soon(_kill, fake.clients[0])
            await _borrow(pool)
        assert scope.cancelled_caught
    found = pool.statistics()
    assert (found.lent_total, found.opened, found.replaced) == (3, 1 + dead, dead)


async def _kill(client):
    client.die()


async def test_a_cancelled_borrower_gives_back(autojump_clock, fake):
    """In the middle of a call."""
    async with fake.pool() as pool:
        with trio.move_on_after(2):
            await _borrow(pool, 100)
        assert pool.statistics().idle == 1


async def test_the_idle_are_closed_in_time(autojump_clock, fake):
    """Those that nobody used; not those that are lent."""
    async with fake.pool(idle_timeout=60) as pool:
        async with pool.lend():
            await _borrow(pool)
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
        await _borrow(pool)
    assert trio.current_time() - started < 230
    assert pool.statistics().replaced == 0


async def test_without_a_timeout_the_idle_stay(autojump_clock, fake):
    """For a day."""
    async with fake.pool(idle_timeout=None) as pool:
        await _borrow(pool)
        await trio.sleep(86400)
        assert fake.alive == {1}


async def test_closing_waits_for_nobody(autojump_clock, fake):
    """A lent connection is closed under its borrower, those who wait are told, one being opened is dropped."""
    fake.delay = 10
    async with trio.open_nursery() as nursery:
        async with fake.pool() as pool:
            nursery.start_soon(_loses, pool)
            await trio.sleep(11)
            nursery.start_soon(_is_told, pool)
            nursery.start_soon(_is_told, pool)
            await trio.sleep(1)
            assert (pool.statistics().opening, pool.statistics().waiting) == (1, 2)
            before = trio.current_time()
        assert trio.current_time() == before
        assert fake.alive == set()
        assert pool.statistics().size == 0
    await _is_told(pool)


async def _loses(pool):
    async with pool.lend() as client:
        with pytest.raises(ConnectionLost):
            await client.ask(20)
            raise AssertionError


async def _is_told(pool):
    with pytest.raises(trio.ClosedResourceError, match="pool is closed"):
        async with pool.lend():
            raise AssertionError


async def test_a_slow_goodbye_is_cut_short(autojump_clock, fake):
    """All at the same time."""
    fake.leaving = 1000
    async with fake.pool() as pool:
        async with pool.lend(), pool.lend():
            pass
        before = trio.current_time()
    assert trio.current_time() - before == CLOSE_TIMEOUT
    assert fake.alive == set()


async def test_a_cancelled_pool_leaves_at_once(autojump_clock, fake):
    """Nothing stays, and who waits outside of it is told."""
    fake.leaving = 1000
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(5) as scope:
            async with fake.pool(1) as pool:
                nursery.start_soon(_loses, pool)
                await trio.sleep(2)
                nursery.start_soon(_is_told, pool)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert fake.alive == set()


async def test_a_borrower_that_cannot_be_cancelled(autojump_clock, fake):
    """One that cleans up while everything is cancelled is told that there is nothing to have."""
    with trio.move_on_after(1):
        async with fake.pool() as pool:
            try:
                await trio.sleep_forever()
            finally:
                with (
                    trio.CancelScope(shield=True),
                    pytest.raises(trio.ClosedResourceError, match="being closed"),
                ):
                    await _borrow(pool)


async def test_used_where_it_is_not_open(autojump_clock, fake):
    """Before, or for the second time."""
    pool = fake.pool()
    with pytest.raises(trio.ClosedResourceError, match="async with"):
        await _borrow(pool)
    async with pool:
        await _borrow(pool)
    with pytest.raises(RuntimeError, match="only once"):
        async with pool:
            raise AssertionError


def test_nonsense_is_refused():
    """With the value."""
    with pytest.raises(ValueError, match="max_size is 0"):
        ConnectionPool("ws://test/ws", 0)


async def test_twenty_borrowers_share_three_connections(server):
    """Of a real server."""
    opened, answers = [], []

    @asynccontextmanager
    async def connect(url, **options):
        async with connection.connect(url, **options) as client:
            opened.append(client)
            yield client

    async def borrow(pool):
        async with pool.lend() as client:
            answers.append(await client.columns("example.csv"))

    with trio.fail_after(30):
        async with ConnectionPool(server.url, 3, connect=connect, token=None) as pool:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(borrow, pool)
            async with pool.lend() as client:
                assert "example.csv" in [info.filename for info in await client.files()]
            found = pool.statistics()
    assert len(answers) == 20
    assert (len(opened), found.opened, found.idle, found.lent_total) == (3, 3, 3, 21)
    with pytest.raises(ConnectionLost):
        await client.files()
