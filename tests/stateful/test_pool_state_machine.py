"""The pool's decisions under any sequence of events: bounded, fair, and nobody waits without need."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from creemson.client.pool_state import Discard, Grant, Health, Open, PoolState, Refuse
from tests.examples import examples_of

TIMEOUT = 10.0
HEALTH = st.builds(
    Health,
    connected=st.booleans(),
    retry_count=st.integers(0, 2),
    latency=st.none() | st.sampled_from([0.0, 0.1, 0.2]),
)


class PoolStateMachine(RuleBasedStateMachine):
    """Carries out effects in a simple model: a queue of waiters, and connections with a place each."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.waiters = 0
        self.line: list[int] = []
        self.where: dict[
            int, str
        ] = {}  # opening, idle, in use or closing, of each connection that has not ended
        self.holder: dict[int, int] = {}
        self.used: dict[int, tuple[float, int]] = {}  # when it became idle, and a number for the order
        self.seen: set[int] = set()
        self.stranded: set[int] = set()  # waiters whose connection has ended while in use
        self.steps = 0
        self.acquired = self.opened_total = self.replaced = 0
        self.closed = False

    @initialize(max_size=st.integers(1, 4))
    def begin(self, max_size):
        self.max_size = max_size
        self.state = PoolState(max_size, idle_timeout=TIMEOUT)

    # --- the model ---

    def find(self, *places):
        return sorted(number for number, place in self.where.items() if place in places)

    def pick(self, data, *places):
        return data.draw(st.sampled_from(self.find(*places)))

    def rest(self, number):
        """The connection is free: the next effects give it to a waiter, or it stays idle."""
        self.steps += 1
        self.where[number] = "idle"
        self.used[number] = self.now, self.steps

    def apply(self, effects, error=None):
        for effect in effects:
            match effect:
                case Grant(waiter, number):
                    assert self.where[number] == "idle", "no connection is granted twice"
                    assert waiter == self.line.pop(0), "first come, first served"
                    self.where[number], self.holder[number] = "in use", waiter
                    self.acquired += 1
                case Open(number):
                    assert number not in self.seen
                    assert len(self.where) < self.max_size
                    assert len(self.find("opening")) < len(self.line), "somebody needs it"
                    self.seen.add(number)
                    self.where[number] = "opening"
                case Discard(number):
                    assert self.where[number] != "closing", "discarded once"
                    self.where[number] = "closing"
                    self.stranded.discard(self.holder.pop(number, None))
                case Refuse(waiter, reported):
                    assert reported is error
                    assert waiter == self.line.pop(0), "the longest waiter is refused"
                case _:
                    raise AssertionError(effect)

    # --- events ---

    @rule(data=st.data())
    def ask(self, data):
        idle = self.find("idle")
        health = {number: data.draw(HEALTH) for number in idle}
        self.waiters += 1
        self.line.append(self.waiters)
        effects = self.state.acquire(self.waiters, health)
        if idle:
            best = min(idle, key=lambda number: self.rank(health[number], number))
            assert effects == [Grant(self.waiters, best)]
        self.apply(effects)

    def rank(self, health, number):
        latency = (1, 0.0) if health.latency is None else (0, health.latency)
        return 0 if health.connected else 1, health.retry_count, latency, -self.used[number][1]

    @precondition(lambda self: self.find("in use"))
    @rule(data=st.data(), healthy=st.booleans())
    def give_back(self, data, healthy):
        number = self.pick(data, "in use")
        del self.holder[number]
        if healthy:
            self.rest(number)
        self.apply(self.state.released(self.now, number, healthy=healthy))
        self.replaced += not healthy
        assert healthy or self.where[number] == "closing"

    @precondition(lambda self: self.line or self.holder or self.stranded)
    @rule(data=st.data(), healthy=st.booleans())
    def give_up(self, data, healthy):
        waiter = data.draw(st.sampled_from(sorted({*self.line, *self.holder.values(), *self.stranded})))
        if waiter in self.line:
            self.line.remove(waiter)
        self.stranded.discard(waiter)
        for number in [number for number, holder in self.holder.items() if holder == waiter]:
            del self.holder[number]
            self.replaced += not healthy
            if healthy:
                self.rest(number)
        self.apply(self.state.gave_up(self.now, waiter, healthy=healthy))

    @precondition(lambda self: self.find("opening"))
    @rule(data=st.data())
    def opened(self, data):
        number = self.pick(data, "opening")
        self.opened_total += 1
        self.rest(number)
        self.apply(self.state.opened(self.now, number))

    @precondition(lambda self: self.find("opening"))
    @rule(data=st.data())
    def open_failed(self, data):
        number, error = self.pick(data, "opening"), OSError()
        del self.where[number]
        waited = self.line[:1]
        self.apply(self.state.open_failed(number, error), error)
        assert not waited or waited[0] not in self.line

    @precondition(lambda self: self.find("idle"))
    @rule(data=st.data())
    def died(self, data):
        number = self.pick(data, "idle")
        self.replaced += 1
        self.apply(self.state.lost(number))
        assert self.where[number] == "closing"

    @precondition(lambda self: self.find("closing", "idle", "in use"))
    @rule(data=st.data())
    def ended(self, data):
        number = self.pick(data, "closing", "idle", "in use")
        self.replaced += self.where.pop(number) != "closing"
        if number in self.holder:
            self.stranded.add(self.holder.pop(number))
        self.apply(self.state.ended(number))

    @precondition(lambda self: self.closed and self.find("closing"))
    @rule(data=st.data())
    def too_late(self, data):
        """An event of a connection that was in use when the pool was closed."""
        number = self.pick(data, "closing")
        assert self.state.opened(self.now, number) == []
        assert self.state.released(self.now, number, healthy=True) == []

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds):
        self.now += seconds
        self.apply(self.state.tick(self.now))
        assert all(self.used[number][0] + TIMEOUT > self.now for number in self.find("idle"))

    @precondition(lambda self: not self.closed)
    @rule(chance=st.integers(0, 50))
    def close(self, chance):
        if chance == 37:  # a number hypothesis rarely picks, so that the pool is mostly open
            self.closed = True
            self.apply(self.state.close())
            assert self.find("closing") == sorted(self.where)

    @invariant()
    def holds(self):
        self.state.validate()
        assert self.state.idle == sorted(self.find("idle"), key=lambda number: self.used[number][1])
        if self.line:
            assert not self.closed
            assert not self.find("idle"), "nobody waits while a connection is idle"
            needed = min(len(self.line), self.max_size - len(self.find("in use", "closing")))
            assert len(self.find("opening")) >= needed
        wake = min((self.used[number][0] + TIMEOUT for number in self.find("idle")), default=math.inf)
        assert self.state.next_wake() == wake
        found = self.state.statistics()
        assert (found.replaced, found.opened) == (self.replaced, self.opened_total)
        figures = (found.idle, found.in_use, found.opening, found.closing, found.size, found.waiting)
        places = [len(self.find(place)) for place in ("idle", "in use", "opening", "closing")]
        assert figures == (*places, len(self.where), len(self.line))
        assert (found.max_size, found.acquired) == (self.max_size, self.acquired)
        assert len(self.where) <= self.max_size
        assert set(self.holder) == set(self.find("in use"))

    @rule()
    def settle(self):
        """Complete all pending operations."""
        for number, place in list(self.where.items()):
            if place == "opening":
                self.opened_total += 1
                self.rest(number)
                self.apply(self.state.opened(self.now, number))
            elif place == "in use":
                del self.holder[number]
                self.rest(number)
                self.apply(self.state.released(self.now, number, healthy=True))
            elif place == "closing":
                del self.where[number]
                self.apply(self.state.ended(number))

    def teardown(self):
        """Whatever happened: when connections open and are returned, every waiter is served."""
        patience = 4 * len(self.line) + 20
        while self.line:
            patience -= 1
            assert patience, "they would wait forever"
            self.settle()
            self.holds()


TestPoolState = PoolStateMachine.TestCase
TestPoolState.settings = settings(max_examples=examples_of(150), stateful_step_count=40, deadline=None)
