"""The pool's decisions under any sequence of events: bounded, fair, and nobody waits in vain."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from creemson.client.lending import Discard, Health, Lend, Lending, Open, Refuse

TIMEOUT = 10.0
HEALTH = st.builds(
    Health,
    connected=st.booleans(),
    retry_count=st.integers(0, 2),
    latency=st.none() | st.sampled_from([0.0, 0.1, 0.2]),
)


class LendingMachine(RuleBasedStateMachine):
    """Carries effects out in a simple model: a line of borrowers, and connections that are somewhere."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.borrowers = 0
        self.line: list[int] = []
        self.where: dict[
            int, str
        ] = {}  # opening, idle, lent or closing, of each connection that has not ended
        self.holder: dict[int, int] = {}
        self.used: dict[int, tuple[float, int]] = {}  # when it became idle, and a number that tells the order
        self.seen: set[int] = set()
        self.stranded: set[int] = set()  # those whose connection has ended under them
        self.steps = 0
        self.lent_total = self.opened_total = self.replaced = 0
        self.closed = False

    @initialize(max_size=st.integers(1, 4))
    def begin(self, max_size):
        self.max_size = max_size
        self.lending = Lending(max_size, idle_timeout=TIMEOUT)

    # --- the model ---

    def find(self, *places):
        return sorted(number for number, place in self.where.items() if place in places)

    def pick(self, data, *places):
        return data.draw(st.sampled_from(self.find(*places)))

    def rest(self, number):
        """It is free: who waits gets it in what follows, or it is idle."""
        self.steps += 1
        self.where[number] = "idle"
        self.used[number] = self.now, self.steps

    def apply(self, effects, error=None):
        for effect in effects:
            match effect:
                case Lend(borrower, number):
                    assert self.where[number] == "idle", "nothing is lent twice"
                    assert borrower == self.line.pop(0), "first come, first served"
                    self.where[number], self.holder[number] = "lent", borrower
                    self.lent_total += 1
                case Open(number):
                    assert number not in self.seen
                    assert len(self.where) < self.max_size
                    assert len(self.find("opening")) < len(self.line), "somebody wants it"
                    self.seen.add(number)
                    self.where[number] = "opening"
                case Discard(number):
                    assert self.where[number] != "closing", "discarded once"
                    self.where[number] = "closing"
                    self.stranded.discard(self.holder.pop(number, None))
                case Refuse(borrower, told):
                    assert told is error
                    assert borrower == self.line.pop(0), "who has waited longest"
                case _:
                    raise AssertionError(effect)

    # --- what happens ---

    @rule(data=st.data())
    def ask(self, data):
        idle = self.find("idle")
        health = {number: data.draw(HEALTH) for number in idle}
        self.borrowers += 1
        self.line.append(self.borrowers)
        effects = self.lending.ask(self.borrowers, health)
        if idle:
            best = min(idle, key=lambda number: self.rank(health[number], number))
            assert effects == [Lend(self.borrowers, best)]
        self.apply(effects)

    def rank(self, health, number):
        latency = (1, 0.0) if health.latency is None else (0, health.latency)
        return 0 if health.connected else 1, health.retry_count, latency, -self.used[number][1]

    @precondition(lambda self: self.find("lent"))
    @rule(data=st.data(), healthy=st.booleans())
    def give_back(self, data, healthy):
        number = self.pick(data, "lent")
        del self.holder[number]
        if healthy:
            self.rest(number)
        self.apply(self.lending.returned(self.now, number, healthy=healthy))
        self.replaced += not healthy
        assert healthy or self.where[number] == "closing"

    @precondition(lambda self: self.line or self.holder or self.stranded)
    @rule(data=st.data(), healthy=st.booleans())
    def give_up(self, data, healthy):
        borrower = data.draw(st.sampled_from(sorted({*self.line, *self.holder.values(), *self.stranded})))
        if borrower in self.line:
            self.line.remove(borrower)
        self.stranded.discard(borrower)
        for number in [number for number, holder in self.holder.items() if holder == borrower]:
            del self.holder[number]
            self.replaced += not healthy
            if healthy:
                self.rest(number)
        self.apply(self.lending.gave_up(self.now, borrower, healthy=healthy))

    @precondition(lambda self: self.find("opening"))
    @rule(data=st.data())
    def opened(self, data):
        number = self.pick(data, "opening")
        self.opened_total += 1
        self.rest(number)
        self.apply(self.lending.opened(self.now, number))

    @precondition(lambda self: self.find("opening"))
    @rule(data=st.data())
    def open_failed(self, data):
        number, error = self.pick(data, "opening"), OSError()
        del self.where[number]
        waited = self.line[:1]
        self.apply(self.lending.open_failed(number, error), error)
        assert not waited or waited[0] not in self.line

    @precondition(lambda self: self.find("idle"))
    @rule(data=st.data())
    def died(self, data):
        number = self.pick(data, "idle")
        self.replaced += 1
        self.apply(self.lending.died(number))
        assert self.where[number] == "closing"

    @precondition(lambda self: self.find("closing", "idle", "lent"))
    @rule(data=st.data())
    def ended(self, data):
        number = self.pick(data, "closing", "idle", "lent")
        self.replaced += self.where.pop(number) != "closing"
        if number in self.holder:
            self.stranded.add(self.holder.pop(number))
        self.apply(self.lending.ended(number))

    @precondition(lambda self: self.closed and self.find("closing"))
    @rule(data=st.data())
    def too_late(self, data):
        """What was under way when the pool was closed."""
        number = self.pick(data, "closing")
        assert self.lending.opened(self.now, number) == []
        assert self.lending.returned(self.now, number, healthy=True) == []

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds):
        self.now += seconds
        self.apply(self.lending.tick(self.now))
        assert all(self.used[number][0] + TIMEOUT > self.now for number in self.find("idle"))

    @precondition(lambda self: not self.closed)
    @rule(chance=st.integers(0, 50))
    def close(self, chance):
        if chance == 37:  # not one that hypothesis likes: most of the time the pool is open
            self.closed = True
            self.apply(self.lending.close())
            assert self.find("closing") == sorted(self.where)

    @invariant()
    def holds(self):
        self.lending.validate()
        assert self.lending.idle == sorted(self.find("idle"), key=lambda number: self.used[number][1])
        if self.line:
            assert not self.closed
            assert not self.find("idle"), "nobody waits in vain"
            wanted = min(len(self.line), self.max_size - len(self.find("lent", "closing")))
            assert len(self.find("opening")) >= wanted
        wake = min((self.used[number][0] + TIMEOUT for number in self.find("idle")), default=math.inf)
        assert self.lending.next_wake() == wake
        found = self.lending.statistics()
        assert (found.replaced, found.opened) == (self.replaced, self.opened_total)
        figures = (found.idle, found.lent, found.opening, found.closing, found.size, found.waiting)
        places = [len(self.find(place)) for place in ("idle", "lent", "opening", "closing")]
        assert figures == (*places, len(self.where), len(self.line))
        assert (found.max_size, found.lent_total) == (self.max_size, self.lent_total)
        assert len(self.where) <= self.max_size
        assert set(self.holder) == set(self.find("lent"))

    @rule()
    def settle(self):
        """What is under way comes to its end."""
        for number, place in list(self.where.items()):
            if place == "opening":
                self.opened_total += 1
                self.rest(number)
                self.apply(self.lending.opened(self.now, number))
            elif place == "lent":
                del self.holder[number]
                self.rest(number)
                self.apply(self.lending.returned(self.now, number, healthy=True))
            elif place == "closing":
                del self.where[number]
                self.apply(self.lending.ended(number))

    def teardown(self):
        """However it went: when connections open and come back, everybody is served."""
        patience = 4 * len(self.line) + 20
        while self.line:
            patience -= 1
            assert patience, "they would wait for ever"
            self.settle()
            self.holds()


TestLending = LendingMachine.TestCase
TestLending.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
