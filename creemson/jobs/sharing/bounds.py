"""What one caller may hold, and all callers together: each bound is counted per caller first and in all second."""

import math
from collections import Counter

import attrs

from creemson.errors import ProcessingError
from creemson.settings.sections import Settings

__all__ = [
    "Bound", "Bounds", "Tally", "bounds_of", "busy", "bytes_excess", "jobs_excess", "too_many_bytes", "too_many_jobs",
]  # fmt: skip

BUSY_RETRY_AFTER = 1.0
"""Seconds after which a refused caller may try again."""

MAX_REMEMBERED = 1000
"""Maximum number of ended jobs of all callers that are remembered."""
MAX_JOBS_BYTES = 16 * 1024 * 1024
"""Maximum size, as JSON, of the requests of all active jobs, and of the remembered results of all callers. As objects,
they take up to eleven times as much memory."""
CALLER_JOBS_BYTES = 4 * 1024 * 1024
"""The same for one caller."""
MAX_LOOKUPS = 1000
"""Maximum number of look-ups of all callers that wait."""
RESULTS_PER_CALLER = 200
"""Default of ``limits.results_per_caller``."""
LOOKUPS_PER_CALLER = 100
"""Default of ``limits.lookups_per_caller``."""
QUEUE_SHARE = 5
"""``limits.queue_per_caller`` is by default this part of ``limits.queue``: a fifth."""


@attrs.frozen
class Bound:
    """The maximum of one caller, and of all callers together."""

    per_caller: float = math.inf
    total: float = math.inf


@attrs.frozen(kw_only=True)
class Bounds:
    """The bounds of a server.

    Attributes:
        queued: number of jobs and renderings that wait.
        active_bytes: size of the requests of active jobs, as JSON.
        remembered: number of ended jobs that are remembered, so that the same request can be served from cache.
        remembered_bytes: size of their results, as JSON.
        lookups: number of look-ups that wait.
    """

    queued: Bound = Bound()
    active_bytes: Bound = Bound()
    remembered: Bound = Bound()
    remembered_bytes: Bound = Bound()
    lookups: Bound = Bound()


def bounds_of(settings: Settings) -> Bounds:
    """Return the bounds for these settings.

    Without authentication there is only one caller, from whom nobody else needs protection. Then a bound per caller
    that is not set is the bound in all.
    """
    limits, alone = settings.limits, settings.auth.mode == "none"

    def bound(given: int | None, default: int, total: int) -> Bound:
        return Bound((total if alone else min(default, total)) if given is None else given, total)

    jobs_bytes = MAX_JOBS_BYTES if alone and limits.results_per_caller is None else CALLER_JOBS_BYTES
    return Bounds(
        queued=bound(limits.queue_per_caller, max(1, limits.queue // QUEUE_SHARE), limits.queue),
        active_bytes=Bound(MAX_JOBS_BYTES if alone else CALLER_JOBS_BYTES, MAX_JOBS_BYTES),
        remembered=bound(limits.results_per_caller, RESULTS_PER_CALLER, MAX_REMEMBERED),
        remembered_bytes=Bound(jobs_bytes, MAX_JOBS_BYTES),
        lookups=bound(limits.lookups_per_caller, LOOKUPS_PER_CALLER, MAX_LOOKUPS),
    )


class Tally:
    """Counts what each caller holds, and all together.

    Args:
        bound: what they may hold.

    Attributes:
        bound: the same.
        held: what each caller holds; a caller who holds nothing is absent.
        total: what all hold together.
    """

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.held: Counter[str] = Counter()
        self.total = 0

    def add(self, caller: str, amount: int) -> None:
        """Count ``amount`` more, or less if it is negative."""
        self.total += amount
        self.held[caller] += amount
        if not self.held[caller]:
            del self.held[caller]


def jobs_excess(jobs: Tally, caller: str) -> ProcessingError | None:
    """Return the error if one more job would exceed a bound: of its caller, or of all callers."""
    mine, bound = jobs.held[caller], jobs.bound
    if mine >= bound.per_caller and mine < bound.total:
        return too_many_jobs(mine, mine=True)
    if jobs.total >= bound.total:
        return too_many_jobs(jobs.total, mine=False)
    return None


def bytes_excess(size: Tally, caller: str, more: int) -> ProcessingError | None:
    """Return the same for so many more bytes; what is too large alone is let in while nothing else is there."""
    mine, bound = size.held[caller], size.bound
    if mine and mine + more > bound.per_caller:
        return too_many_bytes(mine, bound.per_caller, mine=True)
    if size.total and size.total + more > bound.total:
        return too_many_bytes(size.total, bound.total, mine=False)
    return None


def too_many_jobs(waiting: int, *, mine: bool) -> ProcessingError:
    """Return the error of a caller for whom no more job may wait: because of its own ones, or of those of all."""
    if mine:
        return busy(f"{waiting} of your jobs wait already, the most for one caller.")
    return busy(f"The queue is full: {waiting} jobs wait already.")


def too_many_bytes(waiting: int, bound: float, *, mine: bool) -> ProcessingError:
    """Return the same for a caller whose request is too large beside those that wait."""
    if mine:
        return busy(f"Your waiting jobs have {waiting} bytes; {bound} is the most.")
    return busy(f"All waiting jobs have {waiting} bytes; {bound} is the most.")


def busy(why: str) -> ProcessingError:
    """Return the error of a caller who may try again in a moment."""
    return ProcessingError("busy", f"{why} Try again in a moment.", retry_after=BUSY_RETRY_AFTER)
