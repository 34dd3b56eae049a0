"""Each decision of the connection pool as an example, without any connection."""

import math

import pytest

from creemson.client.pool_state import Discard, Grant, Health, Open, PoolState, PoolStatistics, Refuse

FAULT = OSError("nobody there")


def with_idle(count, *, max_size=9, **options):
    """Return a pool with idle connections 1 to `count`, which were returned at times 1, 2, …"""
    state = PoolState(max_size, **options)
    for number in range(1, count + 1):
        assert state.acquire(-number, {}) == [Open(number)]
        assert state.opened(0, number) == [Grant(-number, number)]
    for number in range(1, count + 1):
        assert state.released(number, number, healthy=True) == []
    assert state.idle == list(range(1, count + 1))
    return state


def same(state):
    return dict.fromkeys(state.idle, Health())


def test_acquire_without_idle_connection_opens_one_up_to_max_size():
    """Each new waiter has a connection opened for it, up to the maximum size."""
    state = PoolState(2)
    assert [state.acquire(waiter, {}) for waiter in "abc"] == [[Open(1)], [Open(2)], []]
    assert state.opened(0, 2) == [Grant("a", 2)]
    assert state.opened(0, 1) == [Grant("b", 1)]
    assert state.released(1, 1, healthy=True) == [Grant("c", 1)]


def test_waiters_are_served_in_order_of_arrival():
    """Whichever connection becomes free goes to the waiter that came first."""
    state = with_idle(1, max_size=1)
    assert [state.acquire(waiter, same(state)) for waiter in "abc"] == [[Grant("a", 1)], [], []]
    assert state.released(2, 1, healthy=True) == [Grant("b", 1)]
    assert state.released(3, 1, healthy=True) == [Grant("c", 1)]
    assert state.released(4, 1, healthy=True) == []


@pytest.mark.parametrize(
    ("first", "second", "granted"),
    [
        (Health(), Health(), 2),
        (Health(retry_count=0, latency=9), Health(retry_count=1, latency=1), 1),
        (Health(latency=0.1), Health(latency=0.2), 1),
        (Health(latency=9), Health(latency=None), 1),
        (Health(connected=True, retry_count=5), Health(connected=False), 1),
    ],
)
def test_acquire_takes_healthiest_idle_connection(first, second, granted):
    """Connected beats disconnected, then few reconnects, then low latency; of equals, the last used one."""
    state = with_idle(2)
    assert state.acquire("a", {1: first, 2: second}) == [Grant("a", granted)]


def test_lost_connection_when_released_is_replaced_if_needed():
    """Its replacement is opened when its slot is free, and only if somebody waits."""
    state = with_idle(1, max_size=1)
    state.acquire("a", same(state))
    state.acquire("b", {})
    assert state.released(1, 1, healthy=False) == [Discard(1)]
    assert state.ended(1) == [Open(2)]
    assert state.opened(2, 2) == [Grant("b", 2)]
    assert state.released(3, 2, healthy=False) == [Discard(2)]
    assert state.ended(2) == []
    assert state.statistics().replaced == 2


def test_idle_connection_found_lost_is_not_granted():
    """An idle connection that was lost is discarded and never granted again."""
    state = with_idle(2)
    assert state.lost(2) == [Discard(2)]
    assert state.acquire("a", same(state)) == [Grant("a", 1)]
    assert state.ended(2) == []


def test_connection_that_ends_by_itself_frees_its_slot():
    """Idle or in use, its slot is free immediately, and it cannot be returned later."""
    state = with_idle(2, max_size=2)
    assert state.ended(2) == []
    state.acquire("a", same(state))
    assert state.acquire("b", {}) == [Open(3)]
    assert state.acquire("c", {}) == []
    assert state.ended(1) == [Open(4)]
    assert state.released(1, 1, healthy=True) == []
    assert state.gave_up(1, "a") == []
    assert state.statistics().replaced == 2


def test_failed_open_is_reported_to_first_waiter_only():
    """The other waiters get another attempt."""
    state = PoolState(1)
    for waiter in "abc":
        state.acquire(waiter, {})
    assert state.open_failed(1, FAULT) == [Refuse("a", FAULT), Open(2)]
    assert state.open_failed(2, FAULT) == [Refuse("b", FAULT), Open(3)]
    assert state.opened(0, 3) == [Grant("c", 3)]
    assert state.statistics().failed == 2


def test_failed_open_without_waiter_is_not_retried():
    """If nobody waits any more, no other connection is opened."""
    state = PoolState(1)
    state.acquire("a", {})
    assert state.gave_up(0, "a") == []
    assert state.open_failed(1, FAULT) == []


def test_waiter_that_gives_up_costs_others_nothing():
    """The others move up, and a connection that nobody needs any more becomes idle."""
    state = PoolState(1)
    for waiter in "abc":
        state.acquire(waiter, {})
    assert state.gave_up(0, "a") == []
    assert state.opened(0, 1) == [Grant("b", 1)]
    assert state.gave_up(0, "c") == []
    assert state.released(1, 1, healthy=True) == []
    assert state.idle == [1]


@pytest.mark.parametrize(("healthy", "effects"), [(True, [Grant("b", 1)]), (False, [Discard(1)])])
def test_waiter_giving_up_with_a_connection_passes_it_on(healthy, effects):
    """A connection just given to it goes to the next waiter if healthy, and is discarded otherwise."""
    state = PoolState(1)
    state.acquire("a", {})
    state.acquire("b", {})
    assert state.opened(0, 1) == [Grant("a", 1)]
    assert state.gave_up(0, "a", healthy=healthy) == effects


def test_connection_being_opened_serves_a_later_waiter():
    """No more connections are opened than there are waiters."""
    state = PoolState(9)
    state.acquire("a", {})
    state.gave_up(0, "a")
    assert state.acquire("b", {}) == []
    assert state.opened(0, 1) == [Grant("b", 1)]


def test_idle_connections_are_discarded_after_timeout():
    """The longest idle goes first; use restarts the timeout."""
    state = with_idle(3, idle_timeout=10)
    assert state.next_wake() == 11
    assert state.tick(10.9) == []
    assert state.tick(12) == [Discard(1), Discard(2)]
    assert state.next_wake() == 13
    state.acquire("a", same(state))
    assert state.next_wake() == math.inf
    assert state.tick(99) == []
    state.released(99, 3, healthy=True)
    assert state.next_wake() == 109


def test_idle_connections_without_timeout_stay():
    """Without an idle timeout, idle connections are never discarded."""
    state = with_idle(1)
    assert state.tick(1e9) == []
    assert state.next_wake() == math.inf


def test_close_discards_all_and_refuses_all():
    """Every connection is discarded, every waiter is refused, and later events have no effect."""
    state = with_idle(2, max_size=3)
    state.acquire("a", same(state))  # connection 2
    state.acquire("b", same(state))
    state.acquire("c", {})
    state.acquire("d", {})
    state.released(1, 1, healthy=True)
    assert state.close() == [Refuse("d", None), Discard(3), Discard(2), Discard(1)]
    assert state.acquire("e", {}) == [Refuse("e", None)]
    assert state.opened(0, 3) == []
    assert state.released(0, 2, healthy=True) == []
    assert [state.ended(1), state.ended(2), state.open_failed(3, FAULT)] == [[], [], []]
    assert state.statistics().size == state.statistics().failed == 0
    state.validate()


def test_statistics_add_up_to_size():
    """Idle, used, opening and closing connections add up to the size."""
    state = with_idle(4, max_size=5)
    state.lost(1)
    for waiter in "abcdef":
        state.acquire(waiter, same(state))
    state.released(9, 2, healthy=True)
    assert state.statistics() == PoolStatistics(
        max_size=5, size=5, idle=0, in_use=3, opening=1, closing=1, waiting=2,
        opened=4, acquired=8, replaced=1, failed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("max_size", "idle_timeout", "message"),
    [(0, None, "max_size is 0"), (-3, None, "-3"), (1, 0, "idle_timeout is 0 s"), (1, math.nan, "nan")],
)
def test_invalid_arguments_are_refused_with_value(max_size, idle_timeout, message):
    """The error names the invalid value."""
    with pytest.raises(ValueError, match=message):
        PoolState(max_size, idle_timeout=idle_timeout)
