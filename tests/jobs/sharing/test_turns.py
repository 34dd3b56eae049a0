"""Who gets the next slot."""

from collections import Counter

import attrs
import pytest

from creemson.jobs.sharing.turns import Turns, party_of
from creemson.model.callers import ANYONE


@attrs.define(eq=False)
class Entrant:
    name: str
    caller: str
    party: str


def enter(turns, text, caller=None):
    """Let ``a1 a2 b1`` wait: the letter is the party, and the caller unless one is given."""
    for name in text.split():
        turns.enqueue(Entrant(name, caller or name[0], name[0]))


def fill(turns):
    """Give slots while some can be given; return those who got one."""
    given = []
    while (entrant := turns.next()) is not None:
        turns.take(entrant)
        given.append(entrant)
        turns.validate()
    return given


def names(entrants):
    return " ".join(entrant.name for entrant in entrants)


def test_party_alone_uses_only_the_regular_slots():
    """The spare slot is for others."""
    turns = Turns(slots=2, slots_per_caller=8)
    enter(turns, "a1 a2 a3")
    assert names(fill(turns)) == "a1 a2"


def test_slots_can_become_more_or_fewer():
    """Those in use stay in use; none is given until there are fewer than the new number."""
    turns = Turns(slots=1, slots_per_caller=8)
    enter(turns, "a1 a2 a3 a4")
    given = fill(turns)
    turns.resize(3)
    given += fill(turns)
    assert names(given) == "a1 a2 a3"
    turns.resize(1)
    turns.give_back(given[0])
    assert names(fill(turns)) == ""
    turns.give_back(given[1])
    turns.give_back(given[2])
    assert names(fill(turns)) == "a4"


def test_party_without_a_slot_uses_the_spare_one():
    """So a small job does not wait for the end of another party's long work, whatever waits before it."""
    turns = Turns(slots=2, slots_per_caller=8)
    enter(turns, "a1 a2 a3 a4")
    fill(turns)
    enter(turns, "b1 b2")
    assert names(fill(turns)) == "b1"


def test_spare_slot_is_used_by_one_party_at_a_time():
    """The next one gets it when any slot is free again."""
    turns = Turns(slots=1, slots_per_caller=8)
    enter(turns, "a1 a2")
    first = fill(turns)
    enter(turns, "b1 c1")
    [second] = fill(turns)
    assert second.name == "b1"
    turns.give_back(first[0])
    assert names(fill(turns)) == "a2"
    turns.give_back(second)
    assert names(fill(turns)) == "c1"


def test_parties_take_turns():
    """A party that just got a slot comes after all others, however many of its entrants wait."""
    turns = Turns(slots=1, slots_per_caller=8)
    enter(turns, "a1 a2 a3 a4 b1 b2 c1")
    order = fill(turns)
    for entrant in order:  # grows
        turns.give_back(entrant)
        order += fill(turns)
    assert names(order) == "a1 b1 c1 a2 b2 a3 a4"


@pytest.mark.parametrize("waiting", [100, 1000])
def test_turn_comes_independent_of_what_others_have_queued(waiting):
    """Of two parties with work of the same length, each gets half of the slots."""
    turns = Turns(slots=3, slots_per_caller=8)
    enter(turns, " ".join(f"a{number}" for number in range(waiting)))
    running = fill(turns)
    enter(turns, " ".join(f"b{number}" for number in range(10)))
    running += fill(turns)
    got = Counter()
    while got["b"] < 9:
        turns.give_back(running.pop(0))
        given = fill(turns)
        running += given
        got.update(entrant.party for entrant in given)
        assert abs(got["a"] - got["b"]) <= 2


def test_caller_with_many_connections_has_its_bound():
    """Parties of one caller share the slots of this caller; one without any may use the spare one."""
    turns = Turns(slots=5, slots_per_caller=2)
    enter(turns, "a1 a2 a3", ANYONE)
    assert names(fill(turns)) == "a1 a2"
    enter(turns, "b1 b2 c1", ANYONE)
    assert names(fill(turns)) == "b1"


def test_position_counts_those_who_come_before():
    """Others with the same number of entrants before it, too."""
    turns = Turns(slots=1, slots_per_caller=8)
    enter(turns, "a1 a2 b1 b2")
    last = turns.all_waiting()[-1]
    assert turns.position(last) == 4
    turns.withdraw(turns.all_waiting()[0])
    turns.validate()
    assert turns.position(last) == 3


def test_http_requests_without_authentication_are_one_party():
    """Else one could have a turn for each request."""
    assert party_of(ANYONE, "http-1") == party_of(ANYONE, "http-2")
    assert party_of(ANYONE, "c1") != party_of(ANYONE, "c2")
    assert party_of("token:ann", "c1") == party_of("token:ann", "http-1")
