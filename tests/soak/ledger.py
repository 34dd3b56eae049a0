"""Counts requests and their outcomes: nothing may be lost, duplicated or wrong."""

from collections import Counter

import attrs

MAX_FAULTS = 1000


@attrs.define
class Ledger:
    """The counters of the whole run.

    Attributes:
        actions: how many of each kind were completed.
        opened: requests sent; each is ``ended`` by its one last answer or ``cut`` by a deliberate drop.
        followed: jobs accepted before a drop and followed to their end after it.
        errors: by reason.
        faults: everything that should not have happened.
        pings: seconds to the pong.
    """

    actions: Counter = attrs.field(factory=Counter)
    opened: int = 0
    ended: int = 0
    cut: int = 0
    orphans: int = 0
    followed: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    resumed: int = 0
    errors: Counter = attrs.field(factory=Counter)
    faults: list = attrs.field(factory=list)
    pings: list = attrs.field(factory=list)

    def fault(self, text):
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)

    def expect(self, what, seen, expected):
        """Record a fault unless both are equal."""
        if seen != expected:
            self.fault(f"{what}: got {str(seen)[:300]}, expected {str(expected)[:300]}")

    def check(self):
        """Check the totals after the run."""
        self.expect("requests that ended or were cut", self.ended + self.cut, self.opened)
        self.expect("accepted jobs that were followed after a drop", self.followed, self.orphans)
