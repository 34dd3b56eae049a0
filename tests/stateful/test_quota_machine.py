"""The ledger of a quota under threads that take turns at every step: the disk never holds more than the quota."""

from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from creemson.errors import ProcessingError
from creemson.storage.quota import Ledger
from tests.examples import examples_of

QUOTA = 100
NAMES = st.sampled_from(["uploads/a", "uploads/b", "outputs/c"])
SIZES = st.sampled_from([0, 1, 20, 50, 51, 99, 100, 101])


class QuotaMachine(RuleBasedStateMachine):
    """Threads are generators: each `yield` is a place where another thread may run. The disk is a dictionary."""

    def __init__(self):
        super().__init__()
        self.disk: dict[str, int] = {}
        self.ledger = Ledger(QUOTA, lambda key: self.disk.get(key, 0))
        self.threads: list[Iterator[None]] = []
        self.count = 0
        self.unadmitted: set[str] = (
            set()
        )  # outputs that a worker has written and the server has not counted yet
        self.replacing: dict[str, str] = {}  # by name: the upload that has the credit for its file

    def part(self):
        self.count += 1
        return f"parts/{self.count}"

    # --- what threads of a server do ---------------------------------------------------------------

    def upload(self, name, announced, sizes, *, keep):
        """An upload: its size is claimed before, or piece by piece; then the file gets its name."""
        part = self.part()
        size = sum(sizes)
        if not self.claims(part, 0, size if announced else 0, name):
            return
        self.replacing.setdefault(name, part)
        yield
        written = 0
        for piece in sizes:
            if not announced and not self.claims(part, written, written + piece):
                break
            yield
            written += piece
            self.disk[part] = written
            yield
        if keep and written == size:
            self.disk[name] = self.disk.pop(part, 0)  # a rename
            yield
            self.ledger.publish(part, name)
        else:
            self.disk.pop(part, None)
            yield
            self.ledger.release(part)
        self.replacing = {name: other for name, other in self.replacing.items() if other != part}

    def claims(self, part, before, after, name=None):
        """Claim bytes; return whether they fit."""
        total = self.ledger.total
        try:
            self.ledger.claim(part, after, replaces=name)
        except ProcessingError:
            assert total + after - before > QUOTA, "it was refused but fits"
            assert self.ledger.total == total
            return False
        assert self.ledger.total <= max(total, QUOTA), "it was accepted but does not fit"
        return True

    def output(self, name, size):
        """A job: the worker writes at most what was left at its start; then the file is counted, or removed."""
        if size > self.ledger.left:
            return
        yield
        self.unadmitted.add(name)
        self.disk[name] = size
        yield
        try:
            self.ledger.admit(name)
        except ProcessingError:
            yield
            self.disk.pop(name, None)
            self.unadmitted.discard(name)
            yield
            self.ledger.settle(name)
        else:
            self.unadmitted.discard(name)

    def delete(self, name):
        self.disk.pop(name, None)
        yield
        self.ledger.settle(name)

    def replace_unfinished(self, size, after):
        """An unfinished upload is replaced by one of another size, which may use its room."""
        old, new = self.part(), self.part()
        try:
            self.ledger.claim(old, size)
            self.disk[old] = size
            yield
            fits = self.ledger.total - size + after <= QUOTA
            try:
                self.ledger.claim(new, after, instead_of=old)
            except ProcessingError:
                assert not fits
                new = None
            else:
                assert fits or not after
            yield
        except ProcessingError:
            return
        self.disk.pop(old, None)
        yield
        self.ledger.release(old)
        if new is not None:
            self.disk[new] = after
            yield
            self.disk.pop(new)
            yield
            self.ledger.release(new)

    def scan(self):
        """A sweep lists the folder slowly, while the others go on."""
        self.ledger.begin_scan()
        found = {}
        for name in ("uploads/a", "uploads/b", "outputs/c"):
            yield
            found[name] = self.disk.get(name, 0)
        yield
        claimed = [f"parts/{number}" for number in range(1, self.count + 1)]
        self.ledger.end_scan(found, claimed=claimed)

    # --- rules -------------------------------------------------------------------------------------

    def begin(self, thread):
        self.threads.append(thread)

    @rule(name=NAMES, announced=st.booleans(), sizes=st.lists(SIZES, max_size=3), keep=st.booleans())
    def start_upload(self, name, announced, sizes, keep):
        self.begin(self.upload(name, announced, sizes, keep=keep))

    @rule(name=NAMES, size=SIZES)
    def start_output(self, name, size):
        if not any(name == other for other in self.unadmitted):
            self.begin(self.output(name, size))

    @rule(name=NAMES)
    def start_delete(self, name):
        self.begin(self.delete(name))

    @rule(size=SIZES, after=SIZES)
    def start_replacement(self, size, after):
        self.begin(self.replace_unfinished(size, after))

    @precondition(lambda self: not any(thread.__name__ == "scan" for thread in self.threads))
    @rule()
    def start_scan(self):
        self.begin(self.scan())

    @precondition(lambda self: self.threads)
    @rule(data=st.data(), steps=st.integers(1, 4))
    def step(self, data, steps):
        """One thread goes on."""
        thread = data.draw(st.sampled_from(self.threads))
        for _ in range(steps):
            if next(thread, "ended") == "ended":
                self.threads.remove(thread)
                return

    @rule()
    def rest(self):
        """All threads end, in turns; then the ledger is what a fresh scan finds."""
        while self.threads:
            for thread in list(self.threads):
                if next(thread, "ended") == "ended":
                    self.threads.remove(thread)
        self.unadmitted.clear()
        assert self.ledger.total == sum(self.disk.values())
        assert self.ledger.left == QUOTA - self.ledger.total
        assert sum(self.disk.values()) <= QUOTA

    @invariant()
    def the_disk_holds_at_most_the_quota(self):
        """Apart from outputs that were just written, each within what was left when its job began.

        Of a file and the upload that will replace it, only the larger one counts.
        """
        counted = {key: size for key, size in self.disk.items() if key not in self.unadmitted}
        for name, part in self.replacing.items():
            pair = counted.pop(name, 0), counted.pop(part, 0)
            counted[name] = max(pair)
        assert sum(counted.values()) <= QUOTA
        assert sum(counted.values()) <= self.ledger.total

    def teardown(self):
        self.rest()


TestQuota = QuotaMachine.TestCase
TestQuota.settings = settings(max_examples=examples_of(150), stateful_step_count=50, deadline=None)
