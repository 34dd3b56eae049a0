"""The part of the processor that shares its jobs with other servers.

    submit ──> row ──claim──> JobQueue of one server ──record──> row with the outcome
                 └─────────── followed by all servers with requests that wait for it

A job that finds no room waits in the catalog, where any server with a free slot claims it. The server that has the
claim runs the job in its :class:`~creemson.jobs.queue.queue.JobQueue`, as if it were alone; it may record and publish
only as long as the claim is the latest. A server whose requests wait for a job of another one is told by hints, and
looks at the rows of all jobs that it follows at times, because a hint may be lost.

What clients ask is carried out by ``requests``, jobs are accepted by ``submitting``, claimed by ``taking``, kept by
``owned`` and followed by ``following``; ``others`` and ``remembered`` look after the jobs of all servers.
"""

from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.sharing import Sharing
from creemson.errors import shutting_down
from creemson.jobs.commands import Command, Disconnect
from creemson.jobs.events import Ended
from creemson.jobs.journal import InThread
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.servers.following import messages
from creemson.jobs.servers.following.mail import Mail
from creemson.jobs.servers.following.relay import Relay
from creemson.jobs.servers.others import Others
from creemson.jobs.servers.owned import Owned
from creemson.jobs.servers.processing import Processing
from creemson.jobs.servers.remembered import Remembered
from creemson.jobs.servers.requests import Requests
from creemson.jobs.servers.submissions import Submissions
from creemson.jobs.servers.submitting import Submitting
from creemson.jobs.servers.taking import Taking
from creemson.jobs.sharing.bounds import Bounds

__all__ = ["SharedQueue"]

THREADS = 10
"""Maximum number of threads that wait for the database."""


class SharedQueue:
    """Joins the other servers, and leaves them at the end.

    Args:
        sharing: the rows, and the hints.
        queue: the jobs of this server.
        bounds: what callers may hold, over all servers.
        running_of_caller: maximum number of jobs of one caller that run at once, over all servers.
        processing: the rest of the processor.
        in_thread: runs what blocks.
        keep_outputs: seconds after which an ended job is forgotten, if its output is gone.
        logger: Logger.

    Attributes:
        owned: the claims of this server.
        taking: takes jobs that wait.
        others: the jobs of all servers.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        queue: JobQueue,
        bounds: Bounds,
        running_of_caller: int,
        processing: Processing,
        in_thread: InThread,
        keep_outputs: float,
        logger: FilteringBoundLogger,
    ) -> None:
        self._rows = sharing.jobs.owned
        self._queue = queue
        self._processing = processing
        self._log = logger
        # Of their own, because leases must not wait for transfers, or for each other's transactions.
        self._in_thread = in_threads = partial(in_thread, limiter=trio.CapacityLimiter(THREADS))
        self._mail = mail = Mail(sharing.hints, in_thread=in_threads, logger=logger)
        self._relay = relay = Relay(
            sharing.jobs.known, sharing.owner, queue=queue, mail=mail, processing=processing,
            in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self.owned = owned = Owned(
            sharing, queue=queue, relay=relay, processing=processing, in_thread=in_threads,
            renew_in_thread=partial(in_thread, limiter=trio.CapacityLimiter(1)), logger=logger,
        )  # fmt: skip
        self.taking = taking = Taking(
            sharing, running_of_caller=running_of_caller, queue=queue, owned=owned, relay=relay, mail=mail,
            processing=processing, in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self.others = Others(
            sharing, taking=taking, processing=processing, in_thread=in_threads, logger=logger
        )
        self._remembered = Remembered(
            sharing.jobs.ended, bounds=bounds, keep_outputs=keep_outputs, processing=processing,
            in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self._submissions = Submissions(sharing.jobs.admission, in_thread=in_threads)
        submitting = Submitting(
            sharing, submissions=self._submissions, bounds=bounds, running_of_caller=running_of_caller, queue=queue,
            owned=owned, taking=taking, relay=relay, mail=mail, processing=processing, in_thread=in_threads,
        )  # fmt: skip
        self._requests = Requests(
            sharing, submitting=submitting, queue=queue, owned=owned, relay=relay, mail=mail, processing=processing,
            in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Share jobs until cancelled; started once this server has told the others that it lives."""
        await self._in_thread(self._rows.renew, ())
        async with trio.open_nursery() as self._nursery:
            for task in (
                partial(self._mail.listen, self._heard, self._relay.see_all), self._mail.send, self._relay.run,
                self._submissions.run, self.taking.run, self.owned.renew, self.owned.expire, self.others.run,
                self._remembered.run,
            ):  # fmt: skip
                self._nursery.start_soon(task)
            task_status.started()

    def put(self, command: Command | Disconnect) -> None:
        """Carry out a command after the earlier ones of its connection."""
        assert self._nursery is not None
        self._requests.put(self._nursery, command)

    def _heard(self, message: messages.Message) -> None:
        match message:
            case messages.Work():
                self.taking.look()
            case messages.Claims(server, jobs):
                for job in jobs:
                    self._relay.owned_by(job, server)
            case messages.Ended(job):
                if self._relay.following.get(job) is not None:
                    self._relay.see(job)
                elif self._queue.active(job) is not None and self.owned.leases.claim_of(job) is not None:
                    assert self._nursery is not None
                    self._nursery.start_soon(self.owned.check, job)
            case messages.News(event):
                for waiter in self._relay.following.heard(event):
                    self._processing.reply(waiter.connection, waiter.request, event)
            case messages.Follow():
                self._relay.tell_about(message)
            case messages.Leave(server, job, cancelled):
                self._relay.left(server, job, cancelled=cancelled)

    async def has_others(self) -> bool:
        """Take no more jobs; return whether another server does, to which those of this one can be handed over."""
        self.owned.is_leaving = True
        try:
            await self._in_thread(self._rows.leave)
            return bool(await self._in_thread(self._rows.others))
        except OSError:
            return False

    async def hand_over(self) -> None:
        """Release all jobs, and tell those who follow jobs that the server ends."""
        self._relay.is_over = True
        claims = self.owned.leases.claims()
        for claim in claims:
            self.owned.leases.ended(claim.job)
        try:
            await self._in_thread(self._rows.release, claims)
            if claims:
                await self._mail.tell_at_once(messages.Work())
        except OSError as error:  # the leases end by themselves
            self._log.warning("jobs not released", error=str(error))
        for job in self._relay.following:
            self._relay.tell(self._relay.following.take(job), Ended(job, None, error=shutting_down()))
