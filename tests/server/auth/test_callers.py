"""The gate and the protocol behind it: who is let in, for how long, and how often they may speak."""

import json

import pytest
import structlog

from creemson.errors import InvalidFormat
from creemson.server import effects as wanted
from creemson.server.bucket import Buckets
from creemson.server.gate import Gate
from creemson.server.identity import Identity, unauthenticated
from creemson.server.protocol import ConnectionState, Protocol
from creemson.settings import Limits, Timeouts

HELLO = {"type": "hello", "version": 1}


class Names:
    """Everybody's token is their name; some are revoked."""

    required = True

    def __init__(self):
        self.gone = set()
        self.broken = False

    def identify(self, token):
        if self.broken:
            raise OSError(5, "Input/output error")
        if not token.isalpha() or token in self.gone:
            raise unauthenticated("No token.")
        return Identity(token.lower())

    def holds(self, identity):
        if self.broken:
            raise OSError(5, "Input/output error")
        return identity.caller not in self.gone


@pytest.fixture
def names():
    return Names()


@pytest.fixture
def gate(names):
    return Gate(names, per_caller=2, pace=Buckets(rate=0.1, burst=5), logger=structlog.get_logger())


def connect(gate, *, began=0.0):
    return Protocol(
        ConnectionState(id="c", caller="", began=began), limits=Limits(), timeouts=Timeouts(), server="test",
        wall_clock=lambda: 0.0, gate=gate, auth_timeout=10.0,
    )  # fmt: skip


def say(protocol, message, now=1.0):
    return protocol.text(now, json.dumps(message))


def reasons(effects):
    return [
        getattr(effect.message, "reason", effect.message.type)
        for effect in effects
        if isinstance(effect, wanted.Send)
    ]


def closes(effects):
    return [int(effect.code) for effect in effects if isinstance(effect, wanted.Close)]


def test_a_caller_is_who_the_token_says(gate):
    """And stays so; another `hello` may prove it again, without a token there is nothing to prove."""
    protocol = connect(gate)
    assert reasons(say(protocol, {**HELLO, "token": "Ann"})) == ["welcome"]
    assert protocol.state.caller == "ann"
    assert gate.connections("ann") == 1
    for token in ({}, {"token": "ANN"}):
        assert reasons(say(protocol, {**HELLO, **token})) == ["welcome"]
    assert gate.connections("ann") == 1
    effects = say(protocol, {**HELLO, "token": "Bob"})
    assert (reasons(effects), closes(effects)) == (["forbidden"], [])
    assert protocol.state.caller == "ann"


def test_after_the_close_nothing_is_heard(gate):
    """Not even a good token in the same batch."""
    protocol = connect(gate)
    good = {**HELLO, "token": "Ann"}
    effects = say(protocol, {"type": "batch", "messages": [{**HELLO, "token": "1"}, good, {"type": "ping"}]})
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])
    assert say(protocol, good) == []
    assert protocol.binary(1.0, b"x") == []
    assert protocol.recheck(100.0) == []
    assert protocol.state.identity is None


def test_time_without_a_token_is_short(gate):
    """`auth.timeout` from the handshake; afterwards, only the proof counts."""
    protocol, known = connect(gate, began=5.0), connect(gate, began=5.0)
    say(known, {**HELLO, "token": "Ann"})
    assert protocol.recheck(14.9) == known.recheck(14.9) == []
    effects = protocol.recheck(15.0)
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])
    assert known.recheck(1e9) == []


def test_a_proof_that_does_not_hold_any_more(gate, names):
    """Told once."""
    protocol = connect(gate)
    say(protocol, {**HELLO, "token": "Ann"})
    names.gone.add("ann")
    effects = protocol.recheck(2.0)
    assert (reasons(effects), closes(effects)) == (["unauthenticated"], [4401])
    assert protocol.recheck(3.0) == []


def test_tokens_that_cannot_be_read_let_nobody_in_and_put_nobody_out(gate, names):
    """The peer is told that it is no fault of its own, and may try again."""
    inside, outside = connect(gate), connect(gate)
    say(inside, {**HELLO, "token": "Ann"})
    names.broken = True
    assert inside.recheck(2.0) == []
    effects = say(outside, {**HELLO, "token": "Bob"})
    assert (reasons(effects), closes(effects)) == (["internal"], [])
    names.broken = False
    assert reasons(say(outside, {**HELLO, "token": "Bob"})) == ["welcome"]


def test_a_caller_has_so_many_connections(gate):
    """One more is refused; when one has gone, there is room."""
    protocols = [connect(gate) for _ in range(3)]
    effects = [say(protocol, {**HELLO, "token": "Ann"}) for protocol in protocols]
    assert list(map(reasons, effects)) == [["welcome"], ["welcome"], ["too_many_connections"]]
    assert closes(effects[2]) == [4429]
    gate.leave(protocols[0].state.identity)
    gate.check(Identity("ann"))
    gate.enter(Identity("ann"))
    with pytest.raises(InvalidFormat, match="2 connections"):
        gate.check(Identity("ann"))
    gate.check(Identity("bob"))


def test_a_caller_has_one_pace_for_all_connections(gate):
    """However many there are; others have their own."""
    ann, again, bob = connect(gate), connect(gate), connect(gate)
    for protocol, token in ((ann, "Ann"), (again, "Ann"), (bob, "Bob")):
        say(protocol, {**HELLO, "token": token})
    told = [reasons(say(ann if number % 2 else again, {"type": "ping"}))[0] for number in range(7)]
    assert told == ["pong"] * 5 + ["rate_limited"] * 2
    assert reasons(say(bob, {"type": "ping"})) == ["pong"]
    assert reasons(say(again, {"type": "ping"}, now=20.0)) == ["pong"]


def test_a_pace_is_told_with_the_time_to_wait(gate):
    """So that nobody has to guess."""
    protocol = connect(gate)
    say(protocol, {**HELLO, "token": "Ann"})
    for _ in range(5):
        say(protocol, {"type": "ping"})
    (effect,) = say(protocol, {"type": "ping", "id": "late"})
    assert (effect.message.id, effect.message.retry_after) == ("late", 10.0)
