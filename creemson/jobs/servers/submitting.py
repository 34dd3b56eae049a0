"""Submits the jobs of this server's clients: starts them here, lets them wait for any server, or joins equal ones."""

import secrets
from collections.abc import Callable

import trio

from creemson.catalog.shared.jobs.admission import Candidate, Full, Limits
from creemson.catalog.shared.jobs.rows import Stored
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import CreemsonError, ProcessingError, shutting_down
from creemson.jobs.commands import Command, Submit
from creemson.jobs.events import Accepted, Waiter
from creemson.jobs.journal import InThread
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.job import Job
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records, Work
from creemson.jobs.servers.files import JobFiles
from creemson.jobs.servers.following import messages
from creemson.jobs.servers.following.mail import Mail
from creemson.jobs.servers.following.relay import Relay
from creemson.jobs.servers.owned import Owned
from creemson.jobs.servers.submissions import Submissions
from creemson.jobs.servers.taking import Taking
from creemson.jobs.sharing.bounds import Bounds, too_many_bytes, too_many_jobs
from creemson.jobs.sharing.turns import party_of
from creemson.jobs.work.reading import MAX_CHANGES, always_changing

__all__ = ["Submitting"]


class Submitting:
    """Submits jobs.

    Args:
        sharing: the rows.
        submissions: submits jobs to the catalog in batches.
        bounds: what callers may hold, over all servers.
        running_of_caller: maximum number of jobs of one caller that run at once, over all servers.
        timeout: maximum seconds for a job.
        refusal: returns the error if no new job can be accepted now.
        queue: the jobs of this server.
        owned: the claims of this server.
        taking: knows which slots are free.
        relay: lets requests follow jobs.
        mail: tells others that jobs wait.
        actor: the processor.
        records: converts jobs to rows and back.
        files: the files of all jobs.
        in_thread: runs what blocks.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        submissions: Submissions,
        bounds: Bounds,
        running_of_caller: int,
        timeout: float,
        refusal: Callable[[], CreemsonError | None],
        queue: JobQueue,
        owned: Owned,
        taking: Taking,
        relay: Relay,
        mail: Mail,
        actor: Actor,
        records: Records,
        files: JobFiles,
        in_thread: InThread,
    ) -> None:
        self._ended = sharing.jobs.ended
        self._submissions = submissions
        self._limits = Limits(
            bounds.queued.per_caller,
            bounds.queued.total,
            bounds.active_bytes.per_caller,
            bounds.active_bytes.total,
            running_of_caller,
        )
        self._timeout = timeout
        self._refusal = refusal
        self._queue = queue
        self._owned = owned
        self._taking = taking
        self._relay = relay
        self._mail = mail
        self._actor = actor
        self._records = records
        self._files = files
        self._in_thread = in_thread

    async def submit(self, command: Command, ask: Submit) -> None:
        """Submit a job.

        Raises:
            CreemsonError: it is refused.
            OSError: the database failed.
        """
        for _ in range(MAX_CHANGES):
            if await self._try(command, ask):
                return
        raise always_changing(ask.query.filename)

    async def _try(self, command: Command, ask: Submit) -> bool:
        """Submit a job; return False if that must be tried again."""
        self._check_leaving()
        new = await self._new_job(command, ask)
        waiter = Waiter(command.connection, command.request, ask.keep)
        # A job that ends with its connection stays where the connection is.
        claim = not ask.keep or self._taking.room > 0
        spare = not claim and self._taking.has_spare
        with self._taking.reserved(claim or spare):
            sent = trio.current_time()
            outcome = await self._submissions.submit(
                Candidate(self._records.row(new), new.party, claim, self._limits, spare)
            )
        if outcome is None:
            return False
        if isinstance(outcome, Full):
            raise _refusal(outcome)
        stored = outcome.stored
        if stored.row.state == "done":
            return await self._answer_again(command, stored)
        if not outcome.is_new:
            self._accept(command, stored, int(stored.owner is None))
            self._relay.join(stored, waiter, None, timeout=new.timeout)
            return True
        if stored.owner is None:
            self._accept(command, stored, outcome.waiting + 1)
            self._relay.join(stored, waiter, 0)
            self._mail.tell_all(messages.Work())
            self._taking.look()
            # Another server may have claimed it before its hint meant anything here.
            self._relay.see(stored.row.id)
            return True
        if self._owned.is_leaving:  # meanwhile; another server starts it
            await self._owned.release(stored)
            raise shutting_down()
        self._accept(command, stored, 0)
        self._owned.took(sent, stored)
        effects = self._queue.adopt(trio.current_time(), new, stored.epoch, [waiter], wanted=False)
        self._actor.apply(effects)
        return True

    async def _new_job(self, command: Command, ask: Submit) -> Job:
        """Return a new job for the present version of its file."""
        query = ask.query
        version = await self._files.version(command.caller, query.filename)
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        key, size_bytes = await self._files.key_of(command.caller, version, query)
        return Job(
            secrets.token_hex(8),
            (command.caller, key),
            command.caller,
            Work(query, key, command.caller, version),
            ask.timeout_within(self._timeout),
            created=trio.current_time(),
            party=party_of(command.caller, command.connection),
            kept=ask.keep,
            size_bytes=size_bytes,
        )

    def _check_leaving(self) -> None:
        if self._owned.is_leaving:
            raise shutting_down()

    def _accept(self, command: Command, stored: Stored, position: int) -> None:
        self._actor.reply(command.connection, command.request, Accepted(stored.row.id, position))

    async def _answer_again(self, command: Command, stored: Stored) -> bool:
        """Answer with the result of an equal job; return False if it cannot be given again."""
        done = self._records.restored(stored.row)
        if done is None or not await self._files.has_output(done):
            await self._in_thread(self._ended.forget, [stored.row.id])
            return False
        self._actor.reply(command.connection, command.request, Accepted(done.id, 0))
        self._actor.reply(command.connection, command.request, done.outcome(cached=True))
        return True


def _refusal(full: Full) -> ProcessingError:
    if full.what == "jobs":
        return too_many_jobs(full.amount, mine=full.mine)
    return too_many_bytes(full.amount, full.bound, mine=full.mine)
