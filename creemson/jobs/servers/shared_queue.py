"""The part of the processor that shares its jobs with other servers.

    submit ──> row ──claim──> JobQueue of one server ──record──> row with the outcome
                 └─────────── followed by all servers with requests that wait for it

A job that finds no room waits in the catalog, where any server with a free slot claims it. The server that has the
claim runs the job in its :class:`~creemson.jobs.queue.queue.JobQueue`, as if it were alone; it may record and publish
only as long as the claim is the latest. A server whose requests wait for a job of another one is told by hints, and
looks at the rows of all jobs that it follows at times, because a hint may be lost.
"""

import sys
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import JobRow
from creemson.catalog.shared.claims import Claim
from creemson.catalog.shared.jobs.admission import Candidate, Full, Limits
from creemson.catalog.shared.jobs.rows import Stored
from creemson.catalog.shared.sharing import Sharing
from creemson.errors import CreemsonError, ProcessingError, disk_error, internal_error, shutting_down
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
from creemson.jobs.events import Accepted, Ended, Waiter
from creemson.jobs.journal import Delivery, Entry, InThread
from creemson.jobs.queue.job import Record
from creemson.jobs.queue.queue import (
    COUNTED,
    MAX_RESTARTS,
    JobQueue,
    already_ended,
    cancelled,
    job_not_found,
    too_many_restarts,
)
from creemson.jobs.records import outcome_of
from creemson.jobs.servers import messages
from creemson.jobs.servers.leases import RENEW, Leases
from creemson.jobs.servers.mail import AGAIN, Mail
from creemson.jobs.servers.processing import Processing
from creemson.jobs.servers.relay import LOOK, Relay, is_server
from creemson.jobs.servers.remembered import Remembered
from creemson.jobs.servers.submissions import Submissions
from creemson.jobs.sharing.bounds import Bounds, too_many_bytes, too_many_jobs
from creemson.jobs.work.reading import MAX_CHANGES, always_changing
from creemson.model.results import JobInfo

__all__ = ["SharedQueue"]

THREADS = 10
"""Maximum number of threads that wait for the database."""


class SharedQueue:
    """Handles the commands that concern jobs; see the module.

    Args:
        sharing: the rows, and the hints.
        queue: the jobs of this server.
        bounds: what callers may hold, over all servers.
        running_of_caller: maximum number of jobs of one caller that run at once, over all servers.
        processing: the rest of the processor.
        in_thread: runs what blocks.
        keep_outputs: seconds after which an ended job is forgotten, if its output is gone.
        logger: Logger.
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
        self._rows = sharing.jobs
        self._me = sharing.owner
        self._queue = queue
        self._limits = Limits(
            bounds.queued.per_caller,
            bounds.queued.total,
            bounds.active_bytes.per_caller,
            bounds.active_bytes.total,
            running_of_caller,
        )
        self._processing = processing
        # Of their own, because leases must not wait for transfers, or for each other's transactions.
        self._in_thread = partial(in_thread, limiter=trio.CapacityLimiter(THREADS))
        self._renew_in_thread = partial(in_thread, limiter=trio.CapacityLimiter(1))
        self._log = logger
        self._mail = Mail(sharing.hints, in_thread=self._in_thread, logger=logger)
        self._relay = Relay(
            sharing.jobs.known, sharing.owner, queue=queue, mail=self._mail, processing=processing,
            in_thread=self._in_thread, logger=logger,
        )  # fmt: skip
        self._remembered = Remembered(
            sharing.jobs.ended, bounds=bounds, keep_outputs=keep_outputs, processing=processing,
            in_thread=self._in_thread, logger=logger,
        )  # fmt: skip
        self._nursery: trio.Nursery | None = None
        self._leases = Leases()
        self._claimed = trio.Event()  # set when there is a new claim
        # By connection, whose task carries them out in turn.
        self._asked: dict[str, deque[Command | Disconnect]] = {}
        self._submissions = Submissions(sharing.jobs.admission, in_thread=self._in_thread)
        self._reserved = 0  # slots for jobs that are about to be submitted
        self._used = 0  # slots in use, as far as it is known
        self._may_wait = True  # whether jobs may wait that this server can claim
        self._wake = trio.Event()  # set when there may be something to claim
        self._draining = False
        self._counts: Counter[tuple[str, str]] = Counter()  # of the last look: by caller and state

    # --- for the processor ---------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Share jobs until cancelled; started once this server has told the others that it lives."""
        await self._in_thread(self._rows.owned.renew, ())
        async with trio.open_nursery() as self._nursery:
            for task in (
                partial(self._mail.listen, self._heard, self._relay.see_all), self._mail.send, self._relay.run,
                self._submissions.run, self._claim, self._renew, self._expire, self._look_for_others,
                self._remembered.run,
            ):  # fmt: skip
                self._nursery.start_soon(task)
            task_status.started()

    def put(self, command: Command | Disconnect) -> None:
        """Carry out a command after the earlier ones of its connection."""
        assert self._nursery is not None
        waiting = self._asked.get(command.connection)
        if waiting is None:
            self._asked[command.connection] = deque([command])
            self._nursery.start_soon(self._serve, command.connection)
        else:
            waiting.append(command)

    def changed(self) -> None:
        """Note that slots may be free."""
        freed, self._used = self._queue.used < self._used, self._queue.used
        if freed and self._may_wait:
            self._wake.set()

    def claim_of(self, job: str) -> Claim | None:
        """Return the claim of a job of this server; None if it is lost."""
        return self._leases.claim_of(job)

    def record(self, rows: Sequence[JobRow | str]) -> set[str]:
        """Record jobs of this server; return those that were lost. Runs in a thread."""
        owned = []
        lost = set()
        for row in rows:
            if isinstance(row, JobRow):
                claim = self._leases.claim_of(row.id)
                if claim is None:
                    lost.add(row.id)
                else:
                    owned.append((row, claim))
        return lost | (self._rows.owned.record(owned) if owned else set())

    def recorded(self, rows: Iterable[JobRow | str]) -> None:
        """Note which rows were recorded."""
        for row in rows:
            if isinstance(row, JobRow) and row.state != "queued":
                self._leases.ended(row.id)

    def lost(self, batch: Sequence[Entry], jobs: Collection[str]) -> list[Delivery]:
        """Give up jobs that could not be recorded; return the deliveries of the batch that must still be made."""
        for job in jobs:
            self._give_up(job)
        rows = {entry.id: entry for entry in batch if isinstance(entry, JobRow)}
        kept = []
        for entry in batch:
            if not isinstance(entry, Delivery):
                continue
            ended = entry.reply.job if isinstance(entry.reply, Ended) else None
            if ended in jobs and ended is not None and not is_server(entry.connection):
                # Whoever waits for the job gets the outcome that the job's next owner finds.
                waiter = Waiter(entry.connection, entry.request, rows[ended].kept)
                self._relay.following.add(ended, rows[ended].caller, waiter, 0)
                self._relay.see(ended)
            else:
                kept.append(entry)
        return kept

    def counts(self, caller: str | None = None) -> dict[str, int]:
        """Count the jobs of all servers, as they were a second ago."""
        counted: Counter[str] = Counter()
        for (owner, state), number in self._counts.items():
            if caller in (None, owner):
                counted[state] += number
        return {state: counted[state] for state in COUNTED}

    async def has_others(self) -> bool:
        """Take no more jobs; return whether another server does, to which those of this one can be handed over."""
        self._draining = True
        try:
            await self._in_thread(self._rows.owned.leave)
            return bool(await self._in_thread(self._rows.owned.others))
        except OSError:
            return False

    async def hand_over(self) -> None:
        """Release all jobs, and tell those who follow jobs that the server ends."""
        self._relay.is_over = True
        claims = self._leases.claims()
        for claim in claims:
            self._leases.ended(claim.job)
        try:
            await self._in_thread(self._rows.owned.release, claims)
            if claims:
                await self._mail.tell_at_once(messages.Work())
        except OSError as error:  # the leases end by themselves
            self._log.warning("jobs not released", error=str(error))
        for job in self._relay.following:
            self._relay.tell(self._relay.following.take(job), Ended(job, None, error=shutting_down()))

    # --- commands ------------------------------------------------------------------------------------

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
        self._processing.reply(command.connection, command.request, Ended(None, None, error=error))

    async def _handle(self, command: Command) -> None:
        match command.ask:
            case Submit() as ask:
                for _ in range(MAX_CHANGES):
                    if await self._submit(command, ask):
                        return
                raise always_changing(ask.query.filename)
            case Attach(job, after):
                await self._attach(command, job, after)
            case ListJobs():
                stored = await self._in_thread(self._rows.known.of_caller, command.caller)
                listed = [self._info(one) for one in stored]
                found = tuple(info for info in listed if info is not None)
                self._processing.reply(command.connection, command.request, JobsListed(found))
            case CancelJob(job):
                await self._cancel(command, job)
            case CancelRequest(other):
                await self._leave(command, Waiter(command.connection, other))

    async def _submit(self, command: Command, ask: Submit) -> bool:
        """Submit a job; return False if that must be tried again."""
        self._check_draining()
        new = await self._processing.prepare(command, ask)
        waiter = Waiter(command.connection, command.request, ask.keep)
        # A job that ends with its connection stays where the connection is.
        claim = not ask.keep or self._room() > 0
        spare = not claim and self._has_spare()
        self._reserved += claim or spare
        try:
            sent = trio.current_time()
            outcome = await self._submissions.submit(
                Candidate(self._processing.row(new), new.party, claim, self._limits, spare)
            )
        finally:
            self._reserved -= claim or spare
        if outcome is None:
            return False
        if isinstance(outcome, Full):
            raise _refusal(outcome)
        stored = outcome.stored
        if stored.row.state == "done":
            return await self._answer_again(command, stored)
        if not outcome.is_new:
            self._processing.reply(
                command.connection, command.request, Accepted(stored.row.id, int(stored.owner is None))
            )
            self._join(stored, waiter, None, timeout=new.timeout)
            return True
        if stored.owner is None:
            self._processing.reply(
                command.connection, command.request, Accepted(stored.row.id, outcome.waiting + 1)
            )
            self._join(stored, waiter, 0)
            self._mail.tell_all(messages.Work())
            self._may_wait = True
            self._wake.set()
            # Another server may have claimed it before its hint meant anything here.
            self._relay.see(stored.row.id)
            return True
        if self._draining:  # meanwhile; another server starts it
            await self._release(stored)
            raise shutting_down()
        self._processing.reply(command.connection, command.request, Accepted(stored.row.id, 0))
        self._took(sent, stored)
        effects = self._queue.adopt(trio.current_time(), new, stored.epoch, [waiter], wanted=False)
        self._processing.apply(effects)
        return True

    def _check_draining(self) -> None:
        if self._draining:
            raise shutting_down()

    async def _answer_again(self, command: Command, stored: Stored) -> bool:
        """Answer with the result of an equal job; return False if it cannot be given again."""
        done = self._processing.restored(stored.row)
        if done is None or not await self._processing.has_output(done):
            await self._in_thread(self._rows.ended.forget, [stored.row.id])
            return False
        self._processing.reply(command.connection, command.request, Accepted(done.id, 0))
        self._processing.reply(command.connection, command.request, done.outcome(cached=True))
        return True

    async def _attach(self, command: Command, job: str, after: int) -> None:
        waiter = Waiter(command.connection, command.request)
        if self._queue.active(job) is not None:
            self._processing.apply(self._queue.attach(command.caller, job, after, waiter))
            return
        stored = await self._in_thread(self._rows.known.job, job)
        if stored is None or stored.row.caller != command.caller:
            raise job_not_found(job)
        if stored.row.state == "queued":
            await self._in_thread(self._rows.known.join, job)
            self._join(stored, waiter, after, is_back=True)
            self._relay.see(job)  # it may have ended meanwhile
            return
        ended = self._processing.restored(stored.row)
        if ended is None:
            raise job_not_found(job)
        self._processing.reply(command.connection, command.request, ended.outcome())

    def _join(
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
            self._processing.apply(self._queue.attach(row.caller, row.id, seen, waiter, is_back=is_back))
            return
        known = self._relay.following.add(row.id, row.caller, waiter, after, timeout=timeout, is_back=is_back)
        for event in known:
            self._processing.reply(waiter.connection, waiter.request, event)
        self._relay.owned_by(row.id, stored.owner)

    async def _cancel(self, command: Command, job: str) -> None:
        error = cancelled(f"The job {job!r} was cancelled.")
        before = await self._in_thread(
            self._rows.known.cancel, command.caller, job, outcome_of(error), self._processing.now_in_row()
        )
        if before is None:
            raise job_not_found(job)
        if before.row.state in ("done", "failed"):
            raise already_ended(job)
        self._processing.reply(command.connection, command.request, Cancelled(job))
        self._leases.ended(job)
        found = self._queue.active(job)
        if found is not None and not found.ended:
            effects = self._queue.cancel(trio.current_time(), command.caller, job)
            self._processing.apply([effect for effect in effects if not isinstance(effect, Record)])
        self._relay.tell(self._relay.following.take(job), Ended(job, before.row.seq + 1, error=error))
        self._mail.tell_all(messages.Ended(job))

    async def _leave(self, command: Command, waiter: Waiter) -> None:
        """Let one request wait no longer for its job."""
        followed = self._relay.following.job_of(waiter)
        if followed is None:
            job, effects = self._queue.leave(trio.current_time(), waiter)
            self._processing.tell_cancelled(command, job, effects)
            return
        error = cancelled("The request was cancelled.")
        is_last = len(followed.waiters) == 1
        if is_last and followed.owner is not None:
            self._mail.tell(followed.owner, messages.Leave(self._me, followed.job, cancelled=True))
        elif is_last:
            await self._in_thread(
                lambda: self._rows.known.cancel(
                    followed.caller,
                    followed.job,
                    outcome_of(error),
                    self._processing.now_in_row(),
                    only_if_unwanted=True,
                )
            )
        self._processing.reply(command.connection, command.request, Cancelled(followed.job))
        if self._relay.following.job_of(waiter) is None:  # it has been told meanwhile how the job ended
            return
        self._relay.following.leave(waiter)
        self._processing.reply(waiter.connection, waiter.request, Ended(followed.job, None, error=error))

    async def _disconnected(self, connection: str) -> None:
        ending = {job.id: job for job in self._queue.ending_with(connection)}
        if ending:
            # A request at another server may have joined one, of which this server has not heard yet.
            try:
                for stored in await self._in_thread(self._rows.known.some, list(ending)):
                    ending[stored.row.id].detached += stored.joined
            except OSError as error:
                self._log.warning("jobs end with their connection", jobs=len(ending), error=str(error))
        self._processing.apply(self._queue.disconnect(trio.current_time(), connection))
        for followed in self._relay.following.disconnect(connection):
            if followed.owner is not None:
                self._mail.tell(followed.owner, messages.Leave(self._me, followed.job, cancelled=False))

    def _info(self, stored: Stored) -> JobInfo | None:
        job = self._processing.restored(stored.row)
        if job is None:
            return None
        info = self._processing.info(job)
        runs = stored.row.state == "queued" and stored.owner is not None
        return attrs.evolve(info, state="running") if runs else info

    # --- jobs of this server -------------------------------------------------------------------------

    def _room(self) -> int:
        return max(0, self._queue.room - self._reserved)

    def _has_spare(self) -> bool:
        return self._queue.has_spare and self._reserved <= self._queue.room

    def _took(self, sent: float, stored: Stored) -> None:
        self._leases.claimed(sent, Claim(stored.row.id, self._me, stored.epoch))
        self._claimed.set()

    async def _claim(self) -> None:
        """Take jobs that wait, whenever there is room for them."""
        next_spare = trio.current_time()  # if only the spare slot is free, when to look again
        while True:
            with trio.move_on_after(LOOK):
                await self._wake.wait()
            self._wake = trio.Event()
            sent = trio.current_time()
            room = 0 if self._draining else self._room()
            # Most jobs may not use the spare slot, so not each that comes is a reason to look.
            spare = self._has_spare() and not self._draining and (room > 0 or sent >= next_spare)
            if not (room or spare):
                continue
            if not room:
                next_spare = sent + LOOK
            self._reserved += room + spare  # so that no job that is submitted meanwhile takes the same slots
            try:
                claimed = await self._claim_some(sent, room, spare=spare)
            finally:
                self._reserved -= room + spare
            if self._may_wait and claimed and self._room():  # some have ended meanwhile
                self._wake.set()

    async def _claim_some(self, sent: float, room: int, *, spare: bool) -> int:
        """Take waiting jobs and start them; return their number."""
        # Not what it has already: after a crash of the database, a claim may be forgotten there.
        without = [*self._queue.given_up, *(claim.job for claim in self._leases.claims())]
        try:
            claimed = await self._in_thread(
                partial(self._rows.turns.claim, room, self._limits.running_of_caller, without, spare=spare)
            )
        except OSError as error:
            self._log.warning("waiting jobs not claimed", error=str(error))
            await trio.sleep(AGAIN)
            return 0
        if claimed:
            self._mail.tell_all(messages.Claims(self._me, tuple(one.stored.row.id for one in claimed)))
        for one in claimed:
            await self._adopt(sent, one.stored, one.party)
        self._may_wait = len(claimed) >= room or await self._waits()
        return len(claimed)

    async def _waits(self) -> bool:
        try:
            waits: bool = await self._in_thread(self._rows.turns.waits)
        except OSError:
            return True
        return waits

    async def _adopt(self, sent: float, stored: Stored, party: str) -> None:
        """Start a job that was claimed, with the requests of this server that follow it."""
        job = self._processing.restored(stored.row)
        self._took(sent, stored)
        if job is None or self._draining:
            await self._release(stored)
            return
        job.party = party
        try:
            fault = await self._processing.rebind(job)
        except OSError as error:
            self._log.warning("job not started", job=job.id, error=str(error))
            await self._release(stored)
            return
        if self._leases.claim_of(job.id) is None:  # cancelled, or lost meanwhile
            self._relay.see(job.id)
            return
        followed = self._relay.following.take(job.id)
        waiters = {} if followed is None else followed.waiters
        now = trio.current_time()
        wanted = stored.joined or not waiters
        self._processing.apply(self._queue.adopt(now, job, stored.epoch, waiters, wanted=wanted))
        if fault is not None:
            self._processing.apply(self._queue.fail(now, job.id, fault))

    async def _release(self, stored: Stored) -> None:
        """Let a job wait again that was claimed, and is not started here."""
        job = stored.row.id
        self._leases.ended(job)
        try:
            await self._in_thread(self._rows.owned.release, [Claim(job, self._me, stored.epoch)])
        except OSError as error:  # its lease ends by itself
            self._log.warning("job not released", job=job, error=str(error))

    async def _renew(self) -> None:
        """Renew the leases at times."""
        wait = RENEW
        while True:
            await trio.sleep(wait)
            asked, sent = self._leases.claims(), trio.current_time()
            if self._relay.is_over:
                continue
            try:
                found = await self._renew_in_thread(
                    partial(self._rows.owned.renew, [claim.job for claim in asked], lives=not self._draining)
                )
            except OSError as error:
                self._log.warning("leases not renewed", jobs=len(asked), error=str(error))
                wait = AGAIN
                continue
            wait = RENEW
            for claim in self._leases.renewed(sent, asked, found):
                self._give_up(claim.job)

    async def _expire(self) -> None:
        """Give up the jobs whose leases could not be renewed in time."""
        while True:
            self._claimed = trio.Event()
            with trio.move_on_at(self._leases.next_wake()):
                await self._claimed.wait()
            for claim in self._leases.expire(trio.current_time()):
                self._log.warning("lease is over", job=claim.job)
                self._give_up(claim.job)

    def _give_up(self, job: str) -> None:
        """Stop a job that may be another server's; its requests follow it from now on."""
        self._leases.ended(job)
        found = self._queue.active(job)
        if found is None:
            return
        effects, waiters = self._queue.surrender(trio.current_time(), job)
        self._processing.apply(effects)
        for waiter in waiters:
            if is_server(waiter.connection):
                self._relay.forget_waiter(job, waiter)
            else:
                self._relay.following.add(job, found.caller, waiter, 0)
        self._relay.see(job)

    async def _look_for_others(self) -> None:
        """Let jobs wait again whose owners are gone; count all jobs."""
        while True:
            try:
                for orphan in await self._in_thread(self._rows.owned.orphans):
                    await self._end_orphan(orphan)
                    self._may_wait = True
                    self._wake.set()
                counted = await self._in_thread(self._rows.known.counts)
            except OSError as error:
                self._log.warning("jobs of other servers not read", error=str(error))
            else:
                self._counts = Counter()
                for caller, state, owned, number in counted:
                    shown = "running" if owned and state == "queued" else state
                    self._counts[caller, shown] += number
            await trio.sleep(LOOK)

    async def _end_orphan(self, orphan: Stored) -> None:
        """End a job that nobody shall start again."""
        error: ProcessingError | None = None
        if not orphan.row.kept:
            error = ProcessingError(
                "worker_died",
                "The server that had the job was stopped or cut off, and the job was to end with its connection. "
                "Ask again.",
            )
        elif orphan.row.restarts > MAX_RESTARTS:
            error = too_many_restarts(orphan.row.restarts)
        if error is not None:
            now = self._processing.now_in_row()
            await self._in_thread(
                self._rows.owned.settle, orphan.row.id, orphan.epoch, outcome_of(error), now
            )
        else:
            self._log.info("job of another server starts again", job=orphan.row.id)

    def _heard(self, message: messages.Message) -> None:
        match message:
            case messages.Work():
                self._may_wait = True
                self._wake.set()
            case messages.Claims(server, jobs):
                for job in jobs:
                    self._relay.owned_by(job, server)
            case messages.Ended(job):
                if self._relay.following.get(job) is not None:
                    self._relay.see(job)
                elif self._queue.active(job) is not None and self._leases.claim_of(job) is not None:
                    assert self._nursery is not None
                    self._nursery.start_soon(self._check, job)
            case messages.News(event):
                for waiter in self._relay.following.heard(event):
                    self._processing.reply(waiter.connection, waiter.request, event)
            case messages.Follow():
                self._relay.tell_about(message)
            case messages.Leave(server, job, cancelled):
                self._relay.left(server, job, cancelled=cancelled)

    async def _check(self, job: str) -> None:
        """Give up a job of this server if its row says that it has ended."""
        try:
            stored = await self._in_thread(self._rows.known.job, job)
        except OSError:
            return  # the next renewal finds it out
        claim = self._leases.claim_of(job)
        if claim is not None and (
            stored is None or (stored.owner, stored.epoch) != (claim.owner, claim.epoch)
        ):
            self._give_up(job)


def _refusal(full: Full) -> ProcessingError:
    if full.what == "jobs":
        return too_many_jobs(full.amount, mine=full.mine)
    return too_many_bytes(full.amount, full.bound, mine=full.mine)
