"""How often waiters are told how far a job is, and what. Without I/O."""

from collections.abc import Mapping
from typing import Any

from creemson.jobs.events import Progressed
from creemson.jobs.queue.job import Job

__all__ = ["PROGRESS_INTERVAL", "progressed"]

PROGRESS_INTERVAL = 0.1
"""Minimum number of seconds between two progress events of one job."""
NOTIFY_TIME = 1e-4
"""Seconds that it takes to send one progress event: 0.08 ms in a connection with a thousand attached requests."""
NOTIFY_SHARE = 0.05
"""Maximum share of the event loop's time for progress events."""


def progressed(now: float, job: Job, slots: int, figures: Mapping[str, Any]) -> Progressed | None:
    """Return the event for the waiters of a running job, with ``rows_per_s`` and ``eta_s`` added.

    Args:
        now: the time.
        job: the job.
        slots: number of jobs that may run at once.
        figures: see :meth:`creemson.jobs.queue.queue.JobQueue.progress`.

    Returns:
        The event; None if the last one was sent too short a time ago.
    """
    assert job.started is not None
    interval = max(PROGRESS_INTERVAL, len(job.waiters) * slots * NOTIFY_TIME / NOTIFY_SHARE)
    finishes = figures["fraction"] >= 1 and (job.latest is None or job.latest.figures["fraction"] < 1)
    if now - job.progressed < interval and not finishes:
        return None
    job.progressed = now
    elapsed = now - job.started
    estimate = job.estimate
    estimate.update(now, job.attempt, figures["fraction"])
    rates = {
        "fraction": estimate.fraction,
        "rows_per_s": round(figures["rows"] / elapsed, 1) if elapsed > 0 else 0.0,
        "eta_s": None if estimate.eta is None else round(estimate.eta, 3),
    }
    event = job.latest = Progressed(job.id, job.next_seq(), {**figures, **rates})
    return event
