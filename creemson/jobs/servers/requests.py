"""Carries out what clients ask about jobs, whichever server has them; the commands of one connection in turn."""

from collections import deque

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.jobs.rows import Stored
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import CreemsonError, disk_error, internal_error
from creemson.jobs.commands import (
    Attach,
    CancelJob,
    Cancelled,
    CancelRequest,
    Command,
    Disconnect,
    JobsListed,
    ListJobs,
    Submit,
)
from creemson.jobs.events import Ended, Waiter
from creemson.jobs.journal import InThread
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.effects import Record
from creemson.jobs.queue.errors import already_ended, cancelled, job_not_found
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records, outcome_of
from creemson.jobs.servers.following import messages
from creemson.jobs.servers.following.mail import Mail
from creemson.jobs.servers.following.relay import Relay
from creemson.jobs.servers.owned import Owned
from creemson.jobs.servers.submitting import Submitting
from creemson.model.results import JobInfo

__all__ = ["Requests"]


class Requests:
    """The requests of the connections of this server.

    Args:
        sharing: the rows.
        submitting: submits jobs.
        queue: the jobs of this server.
        owned: the claims of this server.
        relay: lets requests follow jobs.
        mail: tells others who has left, and what was cancelled.
        actor: the processor.
        records: converts jobs to rows and back.
        in_thread: runs what blocks.
        logger: Logger.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        submitting: Submitting,
        queue: JobQueue,
        owned: Owned,
        relay: Relay,
        mail: Mail,
        actor: Actor,
        records: Records,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._known = sharing.jobs.known
        self._me = sharing.owner
        self._submitting = submitting
        self._queue = queue
        self._owned = owned
        self._relay = relay
        self._mail = mail
        self._actor = actor
        self._records = records
        self._in_thread = in_thread
        self._log = logger
        # By connection, whose task carries them out in turn.
        self._asked: dict[str, deque[Command | Disconnect]] = {}

    def put(self, nursery: trio.Nursery, command: Command | Disconnect) -> None:
        """Carry out a command after the earlier ones of its connection."""
        waiting = self._asked.get(command.connection)
        if waiting is None:
            self._asked[command.connection] = deque([command])
            nursery.start_soon(self._serve, command.connection)
        else:
            waiting.append(command)

    async def _serve(self, connection: str) -> None:
        """Carry out the commands of a connection, one after the other."""
        waiting = self._asked[connection]
        while waiting:
            command = waiting[0]
            if isinstance(command, Disconnect):
                await self._disconnected(connection)
            else:
                try:
                    await self._handle(command)
                except CreemsonError as error:
                    self._end(command, error)
                except OSError as error:
                    self._log.warning("request failed", connection=connection, error=str(error))
                    self._end(command, disk_error(error))
                except Exception:
                    # A fault in one request must not affect the others.
                    self._log.exception("request failed unexpectedly", connection=connection)
                    self._end(command, internal_error())
            waiting.popleft()
        del self._asked[connection]

    def _end(self, command: Command, error: CreemsonError) -> None:
        self._actor.reply(command.connection, command.request, Ended(None, None, error=error))

    async def _handle(self, command: Command) -> None:
        match command.ask:
            case Submit() as ask:
                await self._submitting.submit(command, ask)
            case Attach(job, after):
                await self._attach(command, job, after)
            case ListJobs():
                stored = await self._in_thread(self._known.of_caller, command.caller)
                listed = [self._info(one) for one in stored]
                found = tuple(info for info in listed if info is not None)
                self._actor.reply(command.connection, command.request, JobsListed(found))
            case CancelJob(job):
                await self._cancel(command, job)
            case CancelRequest(other):
                await self._leave(command, Waiter(command.connection, other))

    async def _attach(self, command: Command, job: str, after: int) -> None:
        waiter = Waiter(command.connection, command.request)
        if self._queue.active(job) is not None:
            self._actor.apply(self._queue.attach(command.caller, job, after, waiter))
            return
        stored = await self._in_thread(self._known.job, job)
        if stored is None or stored.row.caller != command.caller:
            raise job_not_found(job)
        if stored.row.state == "queued":
            await self._in_thread(self._known.join, job)
            self._relay.join(stored, waiter, after, is_back=True)
            self._relay.see(job)  # it may have ended meanwhile
            return
        ended = self._records.restored(stored.row)
        if ended is None:
            raise job_not_found(job)
        self._actor.reply(command.connection, command.request, ended.outcome())

    async def _cancel(self, command: Command, job: str) -> None:
        error = cancelled(f"The job {job!r} was cancelled.")
        before = await self._in_thread(
            self._known.cancel, command.caller, job, outcome_of(error), self._records.now()
        )
        if before is None:
            raise job_not_found(job)
        if before.row.state in ("done", "failed"):
            raise already_ended(job)
        self._actor.reply(command.connection, command.request, Cancelled(job))
        self._owned.leases.ended(job)
        found = self._queue.active(job)
        if found is not None and not found.ended:
            effects = self._queue.cancel(trio.current_time(), command.caller, job)
            self._actor.apply([effect for effect in effects if not isinstance(effect, Record)])
        self._relay.tell(self._relay.following.take(job), Ended(job, before.row.seq + 1, error=error))
        self._mail.tell_all(messages.Ended(job))

    async def _leave(self, command: Command, waiter: Waiter) -> None:
        """Let one request wait no longer for its job."""
        followed = self._relay.following.job_of(waiter)
        if followed is None:
            job, effects = self._queue.leave(trio.current_time(), waiter)
            self._actor.tell_cancelled(command, job, effects)
            return
        error = cancelled("The request was cancelled.")
        is_last = len(followed.waiters) == 1
        if is_last and followed.owner is not None:
            self._mail.tell(followed.owner, messages.Leave(self._me, followed.job, cancelled=True))
        elif is_last:
            await self._in_thread(
                lambda: self._known.cancel(
                    followed.caller,
                    followed.job,
                    outcome_of(error),
                    self._records.now(),
                    only_if_unwanted=True,
                )
            )
        self._actor.reply(command.connection, command.request, Cancelled(followed.job))
        if self._relay.following.job_of(waiter) is None:  # it has been told meanwhile how the job ended
            return
        self._relay.following.leave(waiter)
        self._actor.reply(waiter.connection, waiter.request, Ended(followed.job, None, error=error))

    async def _disconnected(self, connection: str) -> None:
        ending = {job.id: job for job in self._queue.ending_with(connection)}
        if ending:
            # A request at another server may have joined one, of which this server has not heard yet.
            try:
                for stored in await self._in_thread(self._known.some, list(ending)):
                    ending[stored.row.id].detached += stored.joined
            except OSError as error:
                self._log.warning("jobs end with their connection", jobs=len(ending), error=str(error))
        self._actor.apply(self._queue.disconnect(trio.current_time(), connection))
        for followed in self._relay.following.disconnect(connection):
            if followed.owner is not None:
                self._mail.tell(followed.owner, messages.Leave(self._me, followed.job, cancelled=False))

    def _info(self, stored: Stored) -> JobInfo | None:
        job = self._records.restored(stored.row)
        if job is None:
            return None
        info = self._records.info(job)
        runs = stored.row.state == "queued" and stored.owner is not None
        return attrs.evolve(info, state="running") if runs else info
