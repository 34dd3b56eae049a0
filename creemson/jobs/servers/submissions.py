"""Submits jobs to the catalog of all servers, in batches."""

from collections import deque

import attrs
import trio

from creemson.catalog.shared.jobs.admission import Admission, Candidate, Outcome
from creemson.jobs.journal import InThread

__all__ = ["Submissions"]

BATCH = 50
"""Maximum number of jobs that are submitted in one transaction."""


@attrs.define
class _Submission:
    candidate: Candidate
    done: trio.Event = attrs.field(factory=trio.Event)
    outcome: Outcome | OSError = None


class Submissions:
    """Submits jobs: those that come during a transaction share the next one.

    Args:
        admission: accepts the jobs.
        in_thread: runs what blocks.
    """

    def __init__(self, admission: Admission, *, in_thread: InThread) -> None:
        self._admission = admission
        self._in_thread = in_thread
        self._waiting: deque[_Submission] = deque()
        self._submitted = trio.Event()

    async def submit(self, candidate: Candidate) -> Outcome:
        """Submit a job.

        Raises:
            OSError: the database failed.
        """
        submission = _Submission(candidate)
        self._waiting.append(submission)
        self._submitted.set()
        await submission.done.wait()
        if isinstance(submission.outcome, OSError):
            raise submission.outcome
        return submission.outcome

    async def run(self) -> None:
        """Submit what comes, until cancelled."""
        while True:
            while not self._waiting:
                self._submitted = trio.Event()
                await self._submitted.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                outcomes = await self._in_thread(self._admission.submit, [one.candidate for one in batch])
            except OSError as error:
                outcomes = [error] * len(batch)
            for submission, outcome in zip(batch, outcomes, strict=True):
                submission.outcome = outcome
                submission.done.set()
