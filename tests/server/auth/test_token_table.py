"""Tokens that several servers share: each change is seen by all."""

import contextlib

import pytest

from creemson.catalog.postgres import PostgresCatalog
from creemson.server.auth.token_table import READ_INTERVAL, TokenTable
from creemson.server.auth.tokens import Entry, Tokens


@pytest.fixture(scope="module")
def url(postgres_server):
    return postgres_server.url()


@pytest.fixture
def make(url):
    """A function that returns the tokens as a server has them."""
    with contextlib.ExitStack() as stack:

        def make(clock):
            sharing = PostgresCatalog(url, shared=True).sharing()
            stack.enter_context(contextlib.closing(sharing))
            sharing.open()
            return Tokens(TokenTable(sharing.tokens, clock=clock))

        yield make


def test_change_at_one_server_holds_at_the_other_within_half_a_second(make):
    """A new token is known at once."""
    now = [0.0]
    one = make(lambda: now[0])
    two = make(lambda: now[0])
    assert two.entries() == []
    token = one.create("ann")
    entry = two.find(token)
    assert entry.name == "ann"
    assert two.entries() == one.entries() == [entry]
    with pytest.raises(ValueError, match="already a token 'ann'"):
        two.create("ann")
    one.revoke("ann")
    now[0] += READ_INTERVAL
    assert not two.knows(entry.id)
    assert two.find(token) is None
    with pytest.raises(ValueError, match="no token 'ann'"):
        two.revoke("ann")


def test_tokens_of_a_file_are_taken_over_once(postgres_server):
    """Later, a revoked token must not come back."""
    given = [Entry("i1", "bob", "00", "11", 1.0), Entry("i2", "eve", "00", "11", 2.0)]
    with contextlib.closing(PostgresCatalog(postgres_server.url(), shared=True).sharing()) as sharing:
        sharing.open()
        assert sharing.tokens.import_once([]) == 0
        assert sharing.tokens.import_once(given) == 2
        assert sharing.tokens.entries() == given
        assert sharing.tokens.remove("bob")
        assert sharing.tokens.import_once(given) == 0
        assert sharing.tokens.entries() == given[1:]
