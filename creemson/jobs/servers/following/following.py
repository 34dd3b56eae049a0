"""Follows the jobs that another server has, or that none has yet, for the requests of this server. Without I/O."""

import math
from collections.abc import Iterator

import attrs

from creemson.jobs.events import Logged, Progressed, Waiter, events_after

__all__ = ["Followed", "Following"]

ASK_AGAIN = 5.0
"""Seconds after which the owner of a job is asked again."""


@attrs.define
class Followed:
    """A job of another server.

    Attributes:
        job, caller: its id, and who owns it.
        owner: the server that was asked to tell about it; None if the job waits.
        asked: when it was asked the last time.
        timeout: seconds for the job that a request has asked for.
        keep: whether any request wants the job to go on without it.
        is_back: whether any request may be one that the owner knows as lost.
        waiters: the requests that wait for it, each with the number of the last event that it has seen.
        seq: number of the last event that was heard.
        logged, latest: what was heard, for those who come later.
    """

    job: str
    caller: str
    owner: str | None = None
    asked: float = -math.inf
    timeout: float = 0.0
    keep: bool = False
    is_back: bool = False
    waiters: dict[Waiter, int] = attrs.field(factory=dict)
    seq: int = 0
    logged: list[Logged] = attrs.field(factory=list)
    latest: Progressed | None = None

    def events(self, after: int) -> list[Logged | Progressed]:
        """Return the events with a number above ``after`` that are known."""
        return events_after(after, self.logged, self.latest)


class Following:
    """The jobs that are followed, by id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Followed] = {}
        self._by_connection: dict[str, dict[Waiter, str]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._jobs))

    def get(self, job: str) -> Followed | None:
        """Return a job."""
        return self._jobs.get(job)

    def add(
        self,
        job: str,
        caller: str,
        waiter: Waiter,
        after: int | None,
        *,
        timeout: float = 0.0,
        is_back: bool = False,
    ) -> list[Logged | Progressed]:
        """Let a request wait for a job.

        Args:
            job: its id.
            caller: who owns it.
            waiter: the request.
            after: number of the last event that it has seen; None: it wants only those that come from now on.
            timeout: seconds for the job that it has asked for.
            is_back: whether it may be one that waited elsewhere before.

        Returns:
            The events that it can be told at once.
        """
        followed = self._jobs.setdefault(job, Followed(job, caller))
        followed.timeout = max(followed.timeout, timeout)
        followed.keep |= waiter.keep
        followed.is_back |= is_back
        followed.waiters[waiter] = followed.seq if after is None else after
        self._by_connection.setdefault(waiter.connection, {})[waiter] = job
        return followed.events(followed.waiters[waiter])

    def owned_by(self, now: float, job: str, owner: str | None) -> Followed | None:
        """Note who has a job; return it if that server must be asked to tell about it.

        It is asked again at times, because a hint may be lost.
        """
        followed = self._jobs.get(job)
        if followed is None or (followed.owner == owner and now < followed.asked + ASK_AGAIN):
            return None
        followed.owner = owner
        if owner is None:
            return None
        followed.asked = now
        return followed

    def job_of(self, waiter: Waiter) -> Followed | None:
        """Return the job for which a request waits here."""
        job = self._by_connection.get(waiter.connection, {}).get(waiter)
        return None if job is None else self._jobs[job]

    def heard(self, event: Progressed | Logged) -> list[Waiter]:
        """Note an event; return whom to tell. Late and repeated ones are told to nobody."""
        followed = self._jobs.get(event.job)
        if followed is None or event.seq <= followed.seq:
            return []
        followed.seq = event.seq
        if isinstance(event, Logged):
            followed.logged.append(event)
        else:
            followed.latest = event
        return [waiter for waiter, after in followed.waiters.items() if event.seq > after]

    def leave(self, waiter: Waiter) -> tuple[Followed, bool]:
        """Let a request wait no longer; return the job, and whether nobody here waits for it now.

        Raises:
            KeyError: it does not wait here.
        """
        followed = self._jobs[self._by_connection[waiter.connection][waiter]]
        self._drop(waiter)
        del followed.waiters[waiter]
        if not followed.waiters:
            del self._jobs[followed.job]
        return followed, not followed.waiters

    def disconnect(self, connection: str) -> list[Followed]:
        """Remove the requests of a connection; return the jobs for which nobody here waits now."""
        left = [self.leave(waiter) for waiter in list(self._by_connection.get(connection, {}))]
        return [followed for followed, last in left if last]

    def take(self, job: str) -> Followed | None:
        """Stop following a job, because it has ended, or is this server's own now."""
        followed = self._jobs.pop(job, None)
        for waiter in () if followed is None else followed.waiters:
            self._drop(waiter)
        return followed

    def _drop(self, waiter: Waiter) -> None:
        of_connection = self._by_connection[waiter.connection]
        del of_connection[waiter]
        if not of_connection:
            del self._by_connection[waiter.connection]
