"""Lets requests follow the jobs of other servers, and other servers those of this one.

A server that follows a job is a waiter of it in the queue of the job's server, like a request of a connection.
"""

import sys

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.jobs.known import KnownJobs
from creemson.catalog.shared.jobs.rows import Stored
from creemson.jobs.commands import Reply
from creemson.jobs.events import Accepted, Ended, Waiter
from creemson.jobs.journal import InThread
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.errors import job_not_found
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records
from creemson.jobs.servers.following import messages
from creemson.jobs.servers.following.following import Followed, Following
from creemson.jobs.servers.following.mail import AGAIN, Mail

__all__ = ["LOOK", "Relay", "is_server", "name_of"]

LOOK = 1.0
"""Seconds between two looks at the rows of jobs."""
_SERVER = "server-"


class Relay:
    """Follows and is followed.

    Args:
        rows: the jobs of all servers.
        owner: id of this server.
        queue: the jobs of this server.
        mail: tells others something.
        actor: the processor.
        records: converts jobs to rows and back.
        in_thread: runs what blocks.
        logger: Logger.

    Attributes:
        following: the jobs of others that requests of this server wait for.
        is_over: whether all jobs of this server were handed over.
    """

    def __init__(
        self,
        rows: KnownJobs,
        owner: str,
        *,
        queue: JobQueue,
        mail: Mail,
        actor: Actor,
        records: Records,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._rows = rows
        self._me = owner
        self._queue = queue
        self._mail = mail
        self._actor = actor
        self._records = records
        self._in_thread = in_thread
        self._log = logger
        self.following = Following()
        self.is_over = False
        self._unseen: set[str] = set()  # jobs whose rows are to be read
        self._look = trio.Event()
        self._remote: dict[tuple[str, str], Waiter] = {}  # by server and job: the request of that server
        self._number = 0

    def see_all(self) -> None:
        """Read the rows of all jobs that are followed soon."""
        self._unseen.update(self.following)
        self._look.set()

    async def run(self) -> None:
        """Read the rows of jobs that are followed: soon, if there is a reason; at times, of all. Until cancelled."""
        last = trio.current_time()
        while True:
            with trio.move_on_at(last + LOOK):
                await self._look.wait()
            self._look = trio.Event()
            wanted, self._unseen = self._unseen, set()
            if trio.current_time() >= last + LOOK:
                last = trio.current_time()
                wanted.update(self.following)
            wanted = {job for job in wanted if self.following.get(job) is not None}
            if not wanted:
                continue
            try:
                # Most of them wait or run: of these, not the whole rows are read.
                states = await self._in_thread(self._rows.states, wanted)
                ended = [job for job, state, _ in states if state != "queued"]
                rows = await self._in_thread(self._rows.some, ended) if ended else []
            except OSError as error:
                self._log.warning("jobs of other servers not read", error=str(error))
                await trio.sleep(AGAIN)
                continue
            for job, state, owner in states:
                if state == "queued":
                    self.owned_by(job, owner)
            for stored in rows:
                self._saw_end(stored)
            for job in wanted - {job for job, *_ in states}:
                self.tell(self.following.take(job), Ended(None, None, error=job_not_found(job)))

    def see(self, job: str) -> None:
        """Read the row of a job soon."""
        self._unseen.add(job)
        self._look.set()

    def owned_by(self, job: str, owner: str | None) -> None:
        """Note who has a job that is followed, and ask that server to tell about it."""
        if owner == self._me:
            return
        followed = self.following.owned_by(trio.current_time(), job, owner)
        if followed is not None and owner is not None:
            self._mail.tell(
                owner,
                messages.Follow(
                    self._me, job, followed.caller, followed.timeout, followed.keep, followed.is_back
                ),
            )

    def join(
        self,
        stored: Stored,
        waiter: Waiter,
        after: int | None,
        *,
        timeout: float = 0.0,
        is_back: bool = False,
    ) -> None:
        """Let a request wait for an unfinished job, wherever it is; see :meth:`Following.add`."""
        row = stored.row
        found = self._queue.active(row.id)
        if found is not None:
            found.timeout = max(found.timeout, timeout)  # nobody gets less time than requested
            seen = sys.maxsize if after is None else after
            self._actor.apply(self._queue.attach(row.caller, row.id, seen, waiter, is_back=is_back))
            return
        known = self.following.add(row.id, row.caller, waiter, after, timeout=timeout, is_back=is_back)
        for event in known:
            self._actor.reply(waiter.connection, waiter.request, event)
        self.owned_by(row.id, stored.owner)

    def _saw_end(self, stored: Stored) -> None:
        """Tell those who follow a job how it has ended."""
        job = stored.row.id
        followed = self.following.take(job)
        if followed is None:
            return
        ended = self._records.restored(stored.row)
        self.tell(followed, Ended(None, None, error=job_not_found(job)) if ended is None else ended.outcome())

    def tell(self, followed: Followed | None, event: Ended) -> None:
        """Tell all requests that have followed a job how it has ended."""
        for waiter in () if followed is None else followed.waiters:
            self._actor.reply(waiter.connection, waiter.request, event)

    def tell_about(self, asked: messages.Follow) -> None:
        """Let another server know what becomes of a job of this one."""
        server, job = asked.server, asked.job
        found = self._queue.active(job)
        if found is None or found.ended or found.caller != asked.caller or self.is_over:
            self._mail.tell(server, messages.Ended(job))
            return
        found.timeout = max(found.timeout, asked.timeout)
        if (server, job) in self._remote:
            return
        self._number += 1
        connection = name_of(server)
        waiter = self._remote[server, job] = Waiter(connection, self._number, asked.keep)
        self._actor.register(connection, _Remote(self, server))
        self._actor.apply(self._queue.attach(asked.caller, job, 0, waiter, is_back=asked.is_back))

    def left(self, server: str, job: str, *, cancelled: bool) -> None:
        """Tell another server no more about a job."""
        waiter = self.forget(server, job)
        if waiter is None or not self._queue.waits(waiter):
            return
        now = trio.current_time()
        if cancelled:
            self._actor.apply(self._queue.leave(now, waiter)[1])
        else:
            self._actor.apply(self._queue.lose(now, waiter))

    def forget(self, server: str, job: str) -> Waiter | None:
        """Remove the request of another server that stands for all of its requests for a job."""
        waiter = self._remote.pop((server, job), None)
        if all(other != server for other, _ in self._remote):
            self._actor.register(name_of(server), None)
        return waiter

    def forget_waiter(self, job: str, waiter: Waiter) -> None:
        """Do the same for a waiter that the queue has given up."""
        self.forget(waiter.connection.removeprefix(_SERVER), job)

    def forward(self, server: str, reply: Reply) -> None:
        """Tell another server what its request would be told here."""
        if isinstance(reply, Ended):
            if reply.job is not None:
                self.forget(server, reply.job)
                self._mail.tell(server, messages.Ended(reply.job))
        elif not isinstance(reply, Accepted):
            self._mail.tell(server, messages.News(reply))  # type: ignore[arg-type] # the queue sends nothing else


def name_of(server: str) -> str:
    """Return the name of a server among those of connections.

    >>> is_server(name_of("ab12"))
    True
    """
    return f"{_SERVER}{server}"


def is_server(connection: str) -> bool:
    """Whether this is the name of a server."""
    return connection.startswith(_SERVER)


@attrs.frozen
class _Remote:
    """The port of another server."""

    relay: Relay
    server: str

    def deliver(self, request: int, reply: Reply) -> None:
        del request  # the reply names its job
        self.relay.forward(self.server, reply)
