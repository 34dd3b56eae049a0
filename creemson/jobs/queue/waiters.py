"""Which requests wait for which job. Without I/O."""

from collections.abc import Iterable

from creemson.jobs.events import Waiter
from creemson.jobs.queue.job import Job

__all__ = ["Waiters"]


class Waiters:
    """The requests that wait for jobs, by connection; each job knows its own ones, too."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[Waiter, Job]] = {}

    def add(self, job: Job, waiter: Waiter) -> None:
        """Let a request wait for a job."""
        of_connection = self._jobs.setdefault(waiter.connection, {})
        assert waiter not in of_connection, waiter
        of_connection[waiter] = job
        job.waiters[waiter] = None

    def job_of(self, waiter: Waiter) -> Job | None:
        """Return the job for which a request waits."""
        return self._jobs.get(waiter.connection, {}).get(waiter)

    def of_connection(self, connection: str) -> dict[Waiter, Job]:
        """Return the requests of a connection, with their jobs."""
        return dict(self._jobs.get(connection, {}))

    def remove(self, waiter: Waiter) -> Job:
        """Let a request wait no longer; return its job."""
        job = self._drop(waiter)
        del job.waiters[waiter]
        return job

    def clear(self, job: Job) -> Iterable[Waiter]:
        """Let nobody wait for a job any longer; return who did."""
        waiters, job.waiters = job.waiters, {}
        for waiter in waiters:
            self._drop(waiter)
        return waiters

    def _drop(self, waiter: Waiter) -> Job:
        of_connection = self._jobs[waiter.connection]
        job = of_connection.pop(waiter)
        if not of_connection:
            del self._jobs[waiter.connection]
        return job

    def validate(self, jobs: Iterable[Job]) -> None:
        """Assert the invariants, for all jobs."""
        expected: dict[str, dict[Waiter, Job]] = {}
        for job in jobs:
            for waiter in job.waiters:
                expected.setdefault(waiter.connection, {})[waiter] = job
        assert expected == self._jobs
