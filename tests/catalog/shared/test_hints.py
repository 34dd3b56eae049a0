"""Hints between servers, by a real PostgreSQL."""

import contextlib
import select
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from creemson.catalog.shared.hints import ALL
from creemson.catalog.shared.postgres_hints import PostgresHints
from tests.servers import PATIENCE


@pytest.fixture
def make(postgres_server):
    """A function that returns the hints of a server."""
    url = postgres_server.url()
    with contextlib.ExitStack() as stack:

        def make(owner):
            hints = PostgresHints(lambda: psycopg.connect(url, autocommit=True), owner)
            return stack.enter_context(contextlib.closing(hints))

        yield make


def receive(hints, descriptor, count):
    found = []
    while len(found) < count:
        assert select.select([descriptor], [], [], PATIENCE)[0], found
        found += hints.received()
    return found


def test_hints_arrive_in_order_at_whom_they_are_for(make):
    """At one server, or at all."""
    one, two = make("one"), make("two")
    ones, twos = one.connect(), two.connect()
    two.send([("one", "a"), (ALL, "b"), ("one", "c"), ("two", "d")])
    assert receive(one, ones, 3) == ["a", "b", "c"]
    assert receive(two, twos, 2) == ["b", "d"]


def test_threads_may_send_hints_at_once(make):
    """A server that leaves says so while the last news of its jobs are still being sent."""
    one, two = make("one"), make("two")
    descriptor = two.connect()
    batches = [[("two", f"{thread}-{number}") for number in range(3)] for thread in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one.send, batches))
    assert sorted(receive(two, descriptor, 120)) == sorted(hint for batch in batches for _, hint in batch)
