"""Each decision of the connection pool as an example, without any connection."""

import math

import pytest

from creemson.client.lending import Discard, Health, Lend, Lending, Open, PoolStatistics, Refuse

FAULT = OSError("nobody there")


def with_idle(count, *, max_size=9, **options):
    """A pool with the idle connections 1 to `count`, which came back at times 1, 2, …"""
    lending = Lending(max_size, **options)
    for number in range(1, count + 1):
        assert lending.ask(-number, {}) == [Open(number)]
        assert lending.opened(0, number) == [Lend(-number, number)]
    for number in range(1, count + 1):
        assert lending.returned(number, number, healthy=True) == []
    assert lending.idle == list(range(1, count + 1))
    return lending


def same(lending):
    return dict.fromkeys(lending.idle, Health())


def test_the_first_borrower_has_one_opened():
    """And the next as well, up to the limit."""
    lending = Lending(2)
    assert [lending.ask(borrower, {}) for borrower in "abc"] == [[Open(1)], [Open(2)], []]
    assert lending.opened(0, 2) == [Lend("a", 2)]
    assert lending.opened(0, 1) == [Lend("b", 1)]
    assert lending.returned(1, 1, healthy=True) == [Lend("c", 1)]


def test_first_come_first_served():
    """Whatever becomes free."""
    lending = with_idle(1, max_size=1)
    assert [lending.ask(borrower, same(lending)) for borrower in "abc"] == [[Lend("a", 1)], [], []]
    assert lending.returned(2, 1, healthy=True) == [Lend("b", 1)]
    assert lending.returned(3, 1, healthy=True) == [Lend("c", 1)]
    assert lending.returned(4, 1, healthy=True) == []


@pytest.mark.parametrize(
    ("first", "second", "lent"),
    [
        (Health(), Health(), 2),
        (Health(retry_count=0, latency=9), Health(retry_count=1, latency=1), 1),
        (Health(latency=0.1), Health(latency=0.2), 1),
        (Health(latency=9), Health(latency=None), 1),
        (Health(connected=True, retry_count=5), Health(connected=False), 1),
    ],
)
def test_the_healthiest_is_lent(first, second, lent):
    """Connected, of few reconnects, quick; of equals the one that was used last."""
    lending = with_idle(2)
    assert lending.ask("a", {1: first, 2: second}) == [Lend("a", lent)]


def test_a_dead_one_that_comes_back_is_replaced():
    """When its place is free, and only if somebody waits."""
    lending = with_idle(1, max_size=1)
    lending.ask("a", same(lending))
    lending.ask("b", {})
    assert lending.returned(1, 1, healthy=False) == [Discard(1)]
    assert lending.ended(1) == [Open(2)]
    assert lending.opened(2, 2) == [Lend("b", 2)]
    assert lending.returned(3, 2, healthy=False) == [Discard(2)]
    assert lending.ended(2) == []
    assert lending.statistics().replaced == 2


def test_an_idle_one_that_is_found_dead():
    """It is not lent any more."""
    lending = with_idle(2)
    assert lending.died(2) == [Discard(2)]
    assert lending.ask("a", same(lending)) == [Lend("a", 1)]
    assert lending.ended(2) == []


def test_one_that_ends_by_itself():
    """Idle or lent, its place is free at once; it cannot come back."""
    lending = with_idle(2, max_size=2)
    assert lending.ended(2) == []
    lending.ask("a", same(lending))
    assert lending.ask("b", {}) == [Open(3)]
    assert lending.ask("c", {}) == []
    assert lending.ended(1) == [Open(4)]
    assert lending.returned(1, 1, healthy=True) == []
    assert lending.gave_up(1, "a") == []
    assert lending.statistics().replaced == 2


def test_a_failure_is_told_to_the_first_who_waits():
    """The others get another try."""
    lending = Lending(1)
    for borrower in "abc":
        lending.ask(borrower, {})
    assert lending.open_failed(1, FAULT) == [Refuse("a", FAULT), Open(2)]
    assert lending.open_failed(2, FAULT) == [Refuse("b", FAULT), Open(3)]
    assert lending.opened(0, 3) == [Lend("c", 3)]
    assert lending.statistics().failed == 2


def test_a_failure_that_nobody_waits_for():
    """It is not tried again."""
    lending = Lending(1)
    lending.ask("a", {})
    assert lending.gave_up(0, "a") == []
    assert lending.open_failed(1, FAULT) == []


def test_giving_up_costs_the_others_nothing():
    """They move up; what was opened in vain is there for the next one."""
    lending = Lending(1)
    for borrower in "abc":
        lending.ask(borrower, {})
    assert lending.gave_up(0, "a") == []
    assert lending.opened(0, 1) == [Lend("b", 1)]
    assert lending.gave_up(0, "c") == []
    assert lending.returned(1, 1, healthy=True) == []
    assert lending.idle == [1]


@pytest.mark.parametrize(("healthy", "effects"), [(True, [Lend("b", 1)]), (False, [Discard(1)])])
def test_giving_up_in_the_moment_of_getting_one(healthy, effects):
    """The next who waits gets it."""
    lending = Lending(1)
    lending.ask("a", {})
    lending.ask("b", {})
    assert lending.opened(0, 1) == [Lend("a", 1)]
    assert lending.gave_up(0, "a", healthy=healthy) == effects


def test_one_that_is_being_opened_serves_who_comes():
    """There are never more of them than borrowers who wait."""
    lending = Lending(9)
    lending.ask("a", {})
    lending.gave_up(0, "a")
    assert lending.ask("b", {}) == []
    assert lending.opened(0, 1) == [Lend("b", 1)]


def test_the_idle_time_out():
    """The longest idle first; a used one starts anew."""
    lending = with_idle(3, idle_timeout=10)
    assert lending.next_wake() == 11
    assert lending.tick(10.9) == []
    assert lending.tick(12) == [Discard(1), Discard(2)]
    assert lending.next_wake() == 13
    lending.ask("a", same(lending))
    assert lending.next_wake() == math.inf
    assert lending.tick(99) == []
    lending.returned(99, 3, healthy=True)
    assert lending.next_wake() == 109


def test_without_a_timeout_they_stay():
    """For good."""
    lending = with_idle(1)
    assert lending.tick(1e9) == []
    assert lending.next_wake() == math.inf


def test_closing():
    """Everything goes, and everybody is told; what comes late does nothing."""
    lending = with_idle(2, max_size=3)
    lending.ask("a", same(lending))  # connection 2
    lending.ask("b", same(lending))
    lending.ask("c", {})
    lending.ask("d", {})
    lending.returned(1, 1, healthy=True)
    assert lending.close() == [Refuse("d", None), Discard(3), Discard(2), Discard(1)]
    assert lending.ask("e", {}) == [Refuse("e", None)]
    assert lending.opened(0, 3) == []
    assert lending.returned(0, 2, healthy=True) == []
    assert [lending.ended(1), lending.ended(2), lending.open_failed(3, FAULT)] == [[], [], []]
    assert lending.statistics().size == lending.statistics().failed == 0
    lending.validate()


def test_statistics():
    """What there is adds up to the size."""
    lending = with_idle(4, max_size=5)
    lending.died(1)
    for borrower in "abcdef":
        lending.ask(borrower, same(lending))
    lending.returned(9, 2, healthy=True)
    assert lending.statistics() == PoolStatistics(
        max_size=5, size=5, idle=0, lent=3, opening=1, closing=1, waiting=2,
        opened=4, lent_total=8, replaced=1, failed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("max_size", "idle_timeout", "message"),
    [(0, None, "max_size is 0"), (-3, None, "-3"), (1, 0, "idle_timeout is 0 s"), (1, math.nan, "nan")],
)
def test_nonsense_is_refused(max_size, idle_timeout, message):
    """With the value."""
    with pytest.raises(ValueError, match=message):
        Lending(max_size, idle_timeout=idle_timeout)
