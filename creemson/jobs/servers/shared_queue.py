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

from collections.abc import Callable, Mapping
from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.claims import Claim, LostClaimError
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import CreemsonError, shutting_down
from creemson.jobs.commands import Command, Disconnect
from creemson.jobs.events import Ended
from creemson.jobs.journal import InThread
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records
from creemson.jobs.servers.files import JobFiles
from creemson.jobs.servers.following import messages
from creemson.jobs.servers.following.mail import Mail
from creemson.jobs.servers.following.relay import Relay
from creemson.jobs.servers.others import Others
from creemson.jobs.servers.owned import Owned
from creemson.jobs.servers.remembered import Remembered
from creemson.jobs.servers.requests import Requests
from creemson.jobs.servers.submissions import Submissions
from creemson.jobs.servers.submitting import Submitting
from creemson.jobs.servers.taking import Taking
from creemson.jobs.sharing.bounds import Bounds
from creemson.settings.sections import Settings
from creemson.storage.stores import Stores

__all__ = ["SharedQueue"]

THREADS = 10
"""Maximum number of threads that wait for the database."""


class SharedQueue:
    """Joins the other servers, and leaves them at the end; see :class:`creemson.jobs.keeper.Keeper`.

    Args:
        sharing: the rows, and the hints.
        settings: Effective settings.
        stores: the stores of all callers.
        queue: the jobs of this server.
        bounds: what callers may hold, over all servers.
        actor: the processor.
        records: converts jobs to rows and back.
        refusal: returns the error if no new job can be accepted now.
        in_thread: runs what blocks.
        logger: Logger.

    Attributes:
        recording: records the jobs of this server.
        remembers: False: another server may answer from a job that the queue forgets.
    """

    remembers = False

    def __init__(
        self,
        sharing: Sharing,
        *,
        settings: Settings,
        stores: Stores,
        queue: JobQueue,
        bounds: Bounds,
        actor: Actor,
        records: Records,
        refusal: Callable[[], CreemsonError | None],
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        jobs, running_of_caller = sharing.jobs, settings.limits.jobs_per_caller
        self._rows = jobs.owned
        self._queue = queue
        self._actor = actor
        self._log = logger
        # Of their own, because leases must not wait for transfers, or for each other's transactions.
        self._in_thread = in_threads = partial(in_thread, limiter=trio.CapacityLimiter(THREADS))
        renew_in_thread = partial(in_thread, limiter=trio.CapacityLimiter(1))
        self._files = files = JobFiles(stores, in_thread=in_threads, logger=logger)
        self._mail = mail = Mail(sharing.hints, in_thread=in_threads, logger=logger)
        self._relay = relay = Relay(
            jobs.known, sharing.owner, queue=queue, mail=mail, actor=actor, records=records,
            in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self.recording = self._owned = owned = Owned(
            sharing, queue=queue, relay=relay, actor=actor, files=files, in_thread=in_threads,
            renew_in_thread=renew_in_thread, logger=logger,
        )  # fmt: skip
        self._taking = taking = Taking(
            sharing, running_of_caller=running_of_caller, queue=queue, owned=owned, relay=relay, mail=mail,
            actor=actor, records=records, files=files, in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self._others = Others(sharing, taking=taking, records=records, in_thread=in_threads, logger=logger)
        self._remembered = Remembered(
            jobs.ended, bounds=bounds, keep_outputs=settings.storage.keep_outputs, records=records, files=files,
            in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self._submissions = Submissions(jobs.admission, in_thread=in_threads)
        submitting = Submitting(
            sharing, submissions=self._submissions, bounds=bounds, running_of_caller=running_of_caller,
            timeout=settings.timeouts.job, refusal=refusal, queue=queue, owned=owned, taking=taking, relay=relay,
            mail=mail, actor=actor, records=records, files=files, in_thread=in_threads,
        )  # fmt: skip
        self._requests = Requests(
            sharing, submitting=submitting, queue=queue, owned=owned, relay=relay, mail=mail, actor=actor,
            records=records, in_thread=in_threads, logger=logger,
        )  # fmt: skip
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Share jobs until cancelled; started once this server has told the others that it lives."""
        await self._in_thread(self._rows.renew, ())
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._files.run)
            for task in (
                partial(self._mail.listen, self._heard, self._relay.see_all), self._mail.send, self._relay.run,
                self._submissions.run, self._taking.run, self._owned.renew, self._owned.expire, self._others.run,
                self._remembered.run,
            ):  # fmt: skip
                self._nursery.start_soon(task)
            task_status.started()

    def put(self, command: Command | Disconnect) -> None:
        """Carry out a command after the earlier ones of its connection."""
        assert self._nursery is not None
        self._requests.put(self._nursery, command)

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Count the jobs of all servers, as they were a second ago."""
        return self._others.counts(caller)

    def totals(self) -> Mapping[str, int]:
        """Count the jobs of this server; but those that wait, of all servers."""
        return {**self._queue.counts(), "queued": self._others.counts()["queued"]}

    def changed(self) -> None:
        """Note that slots may be free."""
        self._taking.changed()

    def claim_of(self, job: str) -> Claim:
        """Return the claim under which a job runs.

        Raises:
            LostClaimError: it is another server's by now.
        """
        claim = self._owned.leases.claim_of(job)
        if claim is None:
            raise LostClaimError(job)
        return claim

    def _heard(self, message: messages.Message) -> None:
        match message:
            case messages.Work():
                self._taking.look()
            case messages.Claims(server, jobs):
                for job in jobs:
                    self._relay.owned_by(job, server)
            case messages.Ended(job):
                if self._relay.following.get(job) is not None:
                    self._relay.see(job)
                elif self._queue.active(job) is not None and self._owned.leases.claim_of(job) is not None:
                    assert self._nursery is not None
                    self._nursery.start_soon(self._owned.check, job)
            case messages.News(event):
                for waiter in self._relay.following.heard(event):
                    self._actor.reply(waiter.connection, waiter.request, event)
            case messages.Follow():
                self._relay.tell_about(message)
            case messages.Leave(server, job, cancelled):
                self._relay.left(server, job, cancelled=cancelled)

    async def leave(self) -> bool:
        """Take no more jobs; return whether another server does, to which those of this one can be handed over."""
        self._owned.is_leaving = True
        try:
            await self._in_thread(self._rows.leave)
            return bool(await self._in_thread(self._rows.others))
        except OSError:
            return False

    async def hand_over(self) -> None:
        """Release all jobs, and tell those who follow jobs that the server ends."""
        self._relay.is_over = True
        claims = self._owned.leases.claims()
        for claim in claims:
            self._owned.leases.ended(claim.job)
        try:
            await self._in_thread(self._rows.release, claims)
            if claims:
                await self._mail.tell_at_once(messages.Work())
        except OSError as error:  # the leases end by themselves
            self._log.warning("jobs not released", error=str(error))
        for job in self._relay.following:
            self._relay.tell(self._relay.following.take(job), Ended(job, None, error=shutting_down()))
