"""What was asked for and what came of it: nothing may be lost, doubled or wrong."""

from collections import Counter

import attrs

MAX_FAULTS = 1000


@attrs.define
class Ledger:
    """The books of the whole run.

    Attributes:
        actions: how many of each kind were carried through.
        opened: requests sent; each is ``ended`` by its one last answer or ``cut`` by a drop that was on purpose.
        followed: jobs that were accepted before a drop, and were seen to their end after it.
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

    def expect(self, what, seen, wanted):
        """Write down a fault unless both are equal."""
        if seen != wanted:
            self.fault(f"{what}: got {str(seen)[:300]}, expected {str(wanted)[:300]}")

    def check(self):
        """The sums, when all is over."""
        self.expect("requests that ended or were cut", self.ended + self.cut, self.opened)
        self.expect("accepted jobs that were followed after a drop", self.followed, self.orphans)
