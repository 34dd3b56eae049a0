"""A table of jobs in memory, with the rules of :mod:`creemson.catalog.shared.jobs`, and a clock to turn."""

import attrs

from creemson.catalog.shared.jobs.admission import Candidate, Submitted
from creemson.catalog.shared.jobs.rows import LEASE, Stored
from creemson.catalog.shared.jobs.turns import Claimed


@attrs.define
class Row:
    """A row, and what is not in it for the servers."""

    stored: Stored
    party: str
    until: float = 0.0


class Table:
    """The table."""

    def __init__(self):
        self.rows = {}
        self.time = 0.0
        self.outcomes = []  # (job, outcome, owner, epoch) of each end that was recorded

    def of(self, owner):
        return View(self, owner)


class View:
    """The table as one server sees it."""

    def __init__(self, table, owner):
        self._table = table
        self._owner = owner
        self.admission = self.turns = self.owned = self.known = self  # as in `SharedJobs`

    def _change(self, job, **changes):
        row = self._table.rows[job]
        row.stored = attrs.evolve(row.stored, **changes)

    def _is_mine(self, claim):
        row = self._table.rows.get(claim.job)
        return row is not None and (row.stored.owner, row.stored.epoch) == (claim.owner, claim.epoch)

    def submit(self, candidates: list[Candidate]):
        table, outcomes = self._table, []
        for candidate in candidates:
            row = candidate.row
            known = [
                one.stored
                for one in table.rows.values()
                if (one.stored.row.caller, one.stored.row.key) == (row.caller, row.key)
                and one.stored.row.state in ("queued", "done")
            ]
            if known:
                self._change(known[0].row.id, joined=True)
                outcomes.append(Submitted(known[0], is_new=False))
                continue
            stored = Stored(row, self._owner if candidate.claim else None, int(candidate.claim), joined=False)
            table.rows[row.id] = Row(stored, candidate.party, table.time + LEASE)
            outcomes.append(Submitted(stored, is_new=True))
        return outcomes

    def claim(self, room, running_of_caller, without=()):
        waiting = [
            row
            for row in self._table.rows.values()
            if row.stored.row.state == "queued"
            and row.stored.owner is None
            and row.stored.row.id not in without
        ]
        claimed = []
        for row in waiting[:room]:
            self._change(row.stored.row.id, owner=self._owner, epoch=row.stored.epoch + 1)
            row.until = self._table.time + LEASE
            claimed.append(Claimed(row.stored, row.party))
        return claimed

    def renew(self, jobs):
        found = {}
        for job in jobs:
            row = self._table.rows[job]
            if row.stored.row.state == "queued" and row.stored.owner == self._owner:
                row.until = self._table.time + LEASE
                found[job] = row.stored.epoch
        return found

    def release(self, claims):
        for claim in claims:
            if self._is_mine(claim) and self._table.rows[claim.job].stored.row.state == "queued":
                self._change(claim.job, owner=None)

    def record(self, rows):
        lost = set()
        for row, claim in rows:
            if self._is_mine(claim) and self._table.rows[row.id].stored.row.state in ("queued", row.state):
                if self._table.rows[row.id].stored.row.state == "queued" and row.state != "queued":
                    self._table.outcomes.append((row.id, row.outcome, claim.owner, claim.epoch))
                self._change(row.id, row=row)
            else:
                lost.add(row.id)
        return lost

    def orphans(self):
        found = []
        for row in self._table.rows.values():
            if row.stored.row.state == "queued" and row.stored.owner and row.until < self._table.time:
                restarted = attrs.evolve(row.stored.row, restarts=row.stored.row.restarts + 1)
                self._change(restarted.id, owner=None, row=restarted)
                found.append(row.stored)
        return found

    def cancel(self, caller, job, outcome, finished, *, only_if_unwanted=False):
        row = self._table.rows.get(job)
        if row is None or row.stored.row.caller != caller:
            return None
        before = row.stored
        if before.row.state == "queued" and not (only_if_unwanted and (before.owner or before.joined)):
            ended = attrs.evolve(
                before.row, state="cancelled", outcome=outcome, finished=finished, seq=before.row.seq + 1
            )
            self._change(job, row=ended, owner=None)
            self._table.outcomes.append((job, outcome, None, before.epoch))
        return before

    def job(self, job):
        row = self._table.rows.get(job)
        return None if row is None else row.stored
