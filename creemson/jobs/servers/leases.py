"""Decides how long this server may believe that a job is its own. Without I/O.

A claim lasts :data:`~creemson.catalog.shared.jobs.rows.LEASE` seconds by the clock of the database, from when it was
made or renewed there. The server knows only when it sent the request, by a clock of its own that may run at another
pace. So it counts from then, and stops earlier. Whatever it does too late changes nothing: only the owner of the latest
epoch can record anything. See Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file
cache consistency" (SOSP 1989).
"""

import math
from collections.abc import Collection, Mapping

import attrs

from creemson.catalog.shared.claims import Claim
from creemson.catalog.shared.jobs.rows import LEASE

__all__ = ["MARGIN", "RENEW", "Leases"]

RENEW = 3.0
"""Seconds between two renewals."""
MARGIN = 1.0
"""Seconds before the end of a lease at which its owner stops: for a clock that is slower by a tenth."""


@attrs.define
class _Held:
    claim: Claim
    until: float


class Leases:
    """The claims of this server. Times are in seconds, of a monotonic clock."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def claimed(self, sent: float, claim: Claim) -> None:
        """Note a claim whose request was sent at this time."""
        self._held[claim.job] = _Held(claim, sent + LEASE - MARGIN)

    def claim_of(self, job: str) -> Claim | None:
        """Return the claim of a job, if it is still this server's own as far as that can be known."""
        held = self._held.get(job)
        return None if held is None else held.claim

    def claims(self) -> list[Claim]:
        """Return all claims."""
        return [held.claim for held in self._held.values()]

    def ended(self, job: str) -> Claim | None:
        """Forget and return the claim of a job."""
        held = self._held.pop(job, None)
        return None if held is None else held.claim

    def renewed(self, sent: float, asked: Collection[Claim], found: Mapping[str, int]) -> list[Claim]:
        """Note the answer to a renewal.

        Args:
            sent: when its request was sent.
            asked: the claims that it named.
            found: the epochs of those jobs that are this server's.

        Returns:
            The claims that are lost. What was claimed since the request was sent is none of them.
        """
        lost = []
        for claim in asked:
            held = self._held.get(claim.job)
            if held is None or held.claim != claim:
                continue  # it has ended, or was claimed anew
            if found.get(claim.job) == claim.epoch:
                held.until = max(held.until, sent + LEASE - MARGIN)
            else:
                del self._held[claim.job]
                lost.append(claim)
        return lost

    def expire(self, now: float) -> list[Claim]:
        """Forget and return the claims that were not renewed in time: their jobs may be another server's."""
        over = [held.claim for held in self._held.values() if held.until <= now]
        for claim in over:
            del self._held[claim.job]
        return over

    def next_wake(self) -> float:
        """Return the time when :meth:`expire` is due; infinity without claims."""
        return min((held.until for held in self._held.values()), default=math.inf)
