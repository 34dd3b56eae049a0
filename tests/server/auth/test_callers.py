"""Authentication and limits per caller, with the protocol behind them."""

import json

import pytest
import structlog

from creemson.errors import InvalidFormat
from creemson.metrics import Metrics
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import Identity, unauthenticated
from creemson.server.auth.rate_limit import TokenBuckets
from creemson.server.connection.effects import Close, Send
from creemson.server.connection.protocol import Protocol
from creemson.server.connection.state import ConnectionState
from creemson.settings.sections import Auth, Settings

HELLO = {"type": "hello", "version": 1}


class NameAuthenticator:
    """Every token is the caller's name; some are revoked."""

    required = True

    def __init__(self):
        self.revoked = set()
        self.broken = False

    def identify(self, token):
        if self.broken:
            raise OSError(5, "Input/output error")
        if not token.isalpha() or token in self.revoked:
            raise unauthenticated("No token.")
        return Identity(token.lower())

    def holds(self, identity):
        if self.broken:
            raise OSError(5, "Input/output error")
        return identity.caller not in self.revoked


@pytest.fixture
def authenticator():
    return NameAuthenticator()


@pytest.fixture
def callers(authenticator):
    return Callers(
        authenticator, per_caller=2, pace=TokenBuckets(rate=0.1, burst=5), logger=structlog.get_logger()
    )


def connect(callers, *, began=0.0):
    return Protocol(
        ConnectionState(id="c", caller="", began=began), settings=Settings(auth=Auth(timeout=10.0)), callers=callers,
        metrics=Metrics(), wall_clock=lambda: 0.0,
    )  # fmt: skip


def say(protocol, message, now=1.0):
    return list(protocol.text(now, json.dumps(message)))


def reasons(effects):
    return [
        getattr(effect.message, "reason", effect.message.type)
        for effect in effects
        if isinstance(effect, Send)
    ]


def closes(effects):
    return [int(effect.code) for effect in effects if isinstance(effect, Close)]


def test_hello_with_token_sets_the_caller_for_good(callers):
    """Another `hello` may repeat the token or omit it; another caller's token is forbidden."""
    protocol = connect(callers)
    assert reasons(say(protocol, {**HELLO, "token": "Ann"})) == ["welcome"]
    assert protocol.state.caller == "ann"
    assert callers.connections("ann") == 1
    for token in ({}, {"token": "ANN"}):
        assert reasons(say(protocol, {**HELLO, **token})) == ["welcome"]
    assert callers.connections("ann") == 1
    effects = say(protocol, {**HELLO, "token": "Bob"})
    assert (reasons(effects), closes(effects)) == (["forbidden"], [])
    assert protocol.state.caller == "ann"


def test_message_after_a_close_is_ignored(callers):
    """Even a valid token in the same batch."""
    protocol = connect(callers)
    good = {**HELLO, "token": "Ann"}
    effects = say(protocol, {"type": "batch", "messages": [{**HELLO, "token": "1"}, good, {"type": "ping"}]})
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])
    assert say(protocol, good) == []
    assert protocol.binary(1.0, b"x") == []
    assert protocol.recheck(100.0) == []
    assert protocol.state.identity is None


@pytest.mark.parametrize("members", [0, 1, 1001])
def test_batch_of_a_stranger_is_refused_whatever_its_size(callers, members):
    """As any other message before the token."""
    effects = say(connect(callers), {"type": "batch", "messages": [{"type": "ping"}] * members})
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])


def test_connection_without_token_closes_after_auth_timeout(callers):
    """`auth.timeout` runs from the handshake and does not apply after authentication."""
    protocol, known = connect(callers, began=5.0), connect(callers, began=5.0)
    say(known, {**HELLO, "token": "Ann"})
    assert protocol.recheck(14.9) == known.recheck(14.9) == []
    effects = protocol.recheck(15.0)
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])
    assert known.recheck(1e9) == []


def test_recheck_of_a_revoked_token_closes_once(callers, authenticator):
    """The error is sent only once."""
    protocol = connect(callers)
    say(protocol, {**HELLO, "token": "Ann"})
    authenticator.revoked.add("ann")
    effects = protocol.recheck(2.0)
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])
    assert protocol.recheck(3.0) == []


def test_unreadable_tokens_admit_nobody_and_close_nobody(callers, authenticator):
    """The peer gets `internal`, not its own error, and may try again."""
    inside, outside = connect(callers), connect(callers)
    say(inside, {**HELLO, "token": "Ann"})
    authenticator.broken = True
    assert inside.recheck(2.0) == []
    effects = say(outside, {**HELLO, "token": "Bob"})
    assert (reasons(effects), closes(effects)) == (["internal"], [])
    authenticator.broken = False
    assert reasons(say(outside, {**HELLO, "token": "Bob"})) == ["welcome"]


def test_connection_over_the_limit_per_caller_is_refused(callers):
    """Once another connection has ended, a new one is accepted."""
    protocols = [connect(callers) for _ in range(3)]
    effects = [say(protocol, {**HELLO, "token": "Ann"}) for protocol in protocols]
    assert list(map(reasons, effects)) == [["welcome"], ["welcome"], ["too_many_connections"]]
    assert closes(effects[2]) == [4429]
    callers.leave(protocols[0].state.identity)
    callers.check(Identity("ann"))
    callers.enter(Identity("ann"))
    with pytest.raises(InvalidFormat, match="2 open connections"):
        callers.check(Identity("ann"))
    callers.check(Identity("bob"))


def test_rate_limit_of_a_caller_is_shared_by_its_connections(callers):
    """Other callers have their own limit."""
    ann, again, bob = connect(callers), connect(callers), connect(callers)
    for protocol, token in ((ann, "Ann"), (again, "Ann"), (bob, "Bob")):
        say(protocol, {**HELLO, "token": token})
    answers = [reasons(say(ann if number % 2 else again, {"type": "ping"}))[0] for number in range(7)]
    assert answers == ["pong"] * 5 + ["rate_limited"] * 2
    assert reasons(say(bob, {"type": "ping"})) == ["pong"]
    assert reasons(say(again, {"type": "ping"}, now=20.0)) == ["pong"]


def test_rate_limited_answer_has_the_time_to_wait(callers):
    """The client need not guess `retry_after`."""
    protocol = connect(callers)
    say(protocol, {**HELLO, "token": "Ann"})
    for _ in range(5):
        say(protocol, {"type": "ping"})
    (effect,) = say(protocol, {"type": "ping", "id": "late"})
    assert (effect.message.id, effect.message.retry_after) == ("late", 10.0)


def test_what_uses_an_identity_is_told_when_it_ends():
    """As long as it uses it, and once for each use."""
    authenticator = NameAuthenticator()
    callers = Callers(
        authenticator, per_caller=1, pace=TokenBuckets(rate=1, burst=1), logger=structlog.get_logger()
    )
    ended = []
    ann, bob = callers.identify("ann"), callers.identify("bob")
    with callers.using(ann, lambda: ended.append(1)), callers.using(bob, lambda: ended.append(2)):
        with callers.using(ann, lambda: ended.append(3)):
            callers.recheck()
            assert ended == []
        authenticator.revoked.add("ann")
        callers.recheck()
        assert ended == [1]
    callers.recheck()
    assert ended == [1]
    assert not callers._used


def test_unreadable_tokens_are_logged_once_for_all_connections():
    """They are checked twice a second each."""

    class Broken(NameAuthenticator):
        def holds(self, identity):
            raise OSError("the disk failed")

    logs = structlog.testing.CapturingLogger()
    callers = Callers(
        Broken(),
        per_caller=2,
        pace=TokenBuckets(rate=0.1, burst=5),
        logger=structlog.wrap_logger(logs, processors=[]),
    )
    for number in range(100):
        assert callers.holds(Identity(f"token:{number}"))
    assert [call.kwargs["event"] for call in logs.calls] == ["tokens cannot be read"]
