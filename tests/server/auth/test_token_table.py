"""Tokens that several servers share: each change is seen by all, and nobody waits for the database."""

import contextlib
import threading

import pytest
import trio
from structlog.testing import CapturingLogger

from creemson.catalog.postgres import PostgresCatalog
from creemson.server.auth.token_table import TokenTable
from creemson.server.auth.tokens import Entry, Tokens
from creemson.server.housekeeping import TOKENS_INTERVAL, keep_tokens

ANN, BOB = Entry("i1", "ann", "00", "11", 1.0), Entry("i2", "bob", "00", "11", 2.0)


@pytest.fixture
def make(postgres_server):
    """A function that returns the tokens as a server has them, and the table behind them."""
    url = postgres_server.url()
    with contextlib.ExitStack() as stack:

        def make():
            sharing = PostgresCatalog(url, shared=True).sharing()
            stack.enter_context(contextlib.closing(sharing))
            sharing.open()
            table = TokenTable(sharing.tokens)
            return Tokens(table), table

        yield make


def test_change_at_one_server_holds_at_the_other_after_its_next_read(make):
    """The command line, which lists and changes tokens, always reads."""
    one, _ = make()
    two, table = make()
    assert two.entries() == []
    token = one.create("ann")
    assert two.find(token) is None
    table.refresh()
    entry = two.find(token)
    assert entry.name == "ann"
    assert two.entries() == one.entries() == [entry]
    with pytest.raises(ValueError, match="already a token 'ann'"):
        two.create("ann")
    one.revoke("ann")
    assert two.knows(entry.id)
    table.refresh()
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


class CatalogTokens:
    """Those of a catalog without a database.

    Args:
        script: what each read finds: the tokens, or an error. The last read cancels ``scope``.
    """

    def __init__(self, *script):
        self._script = list(script)
        self.reads = []  # when, for those in a thread of trio
        self.scope = trio.CancelScope()
        self._found = ()

    def changes(self):
        self.reads.append(trio.from_thread.run_sync(trio.current_time))  # raises if it is on the event loop
        found = self._script.pop(0)
        if not self._script:
            trio.from_thread.run_sync(self.scope.cancel)
        if isinstance(found, Exception):
            raise found
        self._found = found
        return len(found)

    def entries(self):
        return list(self._found)


async def test_tokens_are_read_in_a_thread_and_kept_while_the_database_is_away(autojump_clock):
    """A failure is logged once, and so is its end; reads go on at intervals."""
    away = OSError(5, "the database is away")
    catalog = CatalogTokens([ANN], [ANN, BOB], away, away, [ANN], [ANN], away)
    table, log = TokenTable(catalog), CapturingLogger()
    await trio.to_thread.run_sync(table.refresh)
    seen = []

    def refresh():
        try:
            TokenTable.refresh(table)
        finally:
            seen.append(set(table.current()))

    table.refresh = refresh
    with catalog.scope:
        await keep_tokens(table, log)
    assert seen == [{"i1", "i2"}, {"i1", "i2"}, {"i1", "i2"}, {"i1"}, {"i1"}, {"i1"}]
    began = catalog.reads[0]
    assert catalog.reads[1:] == pytest.approx([began + TOKENS_INTERVAL * number for number in range(1, 7)])
    assert [call.method_name for call in log.calls] == ["error", "info", "error"]


def test_no_check_of_a_token_waits_for_the_database():
    """Whether the token is known or not, and while a read takes long."""
    asked, answer = threading.Event(), threading.Event()

    class Slow:
        def changes(self):
            asked.set()
            answer.wait()
            return 1

        def entries(self):
            return [ANN]

    table = TokenTable(Slow())
    tokens = Tokens(table)
    assert tokens.find("crm_i1_x") is None
    assert not asked.is_set()
    reading = threading.Thread(target=table.refresh)
    reading.start()
    asked.wait()
    assert tokens.find("crm_i1_x") is None
    assert not tokens.knows("i1")
    answer.set()
    reading.join()
    assert tokens.knows("i1")
