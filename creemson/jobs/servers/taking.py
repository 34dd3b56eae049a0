"""Takes jobs that wait, whenever this server has a free slot for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.jobs.rows import Stored
from creemson.catalog.shared.sharing import Sharing
from creemson.jobs.journal import InThread
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.records import Records
from creemson.jobs.servers.files import JobFiles
from creemson.jobs.servers.following import messages
from creemson.jobs.servers.following.mail import AGAIN, Mail
from creemson.jobs.servers.following.relay import LOOK, Relay
from creemson.jobs.servers.owned import Owned

__all__ = ["Taking"]


class Taking:
    """Takes jobs.

    Args:
        sharing: the rows.
        running_of_caller: maximum number of jobs of one caller that run at once, over all servers.
        queue: the jobs of this server.
        owned: the claims of this server.
        relay: knows which requests of this server follow the jobs.
        mail: tells others what was taken.
        actor: the processor.
        records: converts jobs to rows and back.
        files: the files of all jobs.
        in_thread: runs what blocks.
        logger: Logger.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        running_of_caller: int,
        queue: JobQueue,
        owned: Owned,
        relay: Relay,
        mail: Mail,
        actor: Actor,
        records: Records,
        files: JobFiles,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._turns = sharing.jobs.turns
        self._me = sharing.owner
        self._running_of_caller = running_of_caller
        self._queue = queue
        self._owned = owned
        self._relay = relay
        self._mail = mail
        self._actor = actor
        self._records = records
        self._files = files
        self._in_thread = in_thread
        self._log = logger
        self._reserved = 0  # slots for jobs that are about to be submitted or claimed
        self._used = 0  # slots in use, as far as it is known
        self._may_wait = True  # whether jobs may wait that this server can claim
        self._wake = trio.Event()  # set when there may be something to claim

    @property
    def room(self) -> int:
        """Number of slots for jobs of any party."""
        return max(0, self._queue.slots.room - self._reserved)

    @property
    def has_spare(self) -> bool:
        """Whether, beyond that room, there is a slot for a party that uses none."""
        return self._queue.slots.has_spare and self._reserved <= self._queue.slots.room

    @contextmanager
    def reserved(self, slots: int) -> Iterator[None]:
        """Reserve slots during the block, so that nothing else that is submitted or claimed takes the same ones."""
        self._reserved += slots
        try:
            yield
        finally:
            self._reserved -= slots

    def changed(self) -> None:
        """Note that slots may be free."""
        freed, self._used = self._queue.slots.used < self._used, self._queue.slots.used
        if freed and self._may_wait:
            self._wake.set()

    def look(self) -> None:
        """Look soon: jobs may wait."""
        self._may_wait = True
        self._wake.set()

    async def run(self) -> None:
        """Take jobs that wait, whenever there is room for them, until cancelled."""
        next_spare = trio.current_time()  # if only the spare slot is free, when to look again
        while True:
            with trio.move_on_after(LOOK):
                await self._wake.wait()
            self._wake = trio.Event()
            sent = trio.current_time()
            room = 0 if self._owned.is_leaving else self.room
            # Most jobs may not use the spare slot, so not each that comes is a reason to look.
            spare = self.has_spare and not self._owned.is_leaving and (room > 0 or sent >= next_spare)
            if not (room or spare):
                continue
            if not room:
                next_spare = sent + LOOK
            with self.reserved(room + spare):
                claimed = await self._claim(sent, room, spare=spare)
            if self._may_wait and claimed and self.room:  # some have ended meanwhile
                self._wake.set()

    async def _claim(self, sent: float, room: int, *, spare: bool) -> int:
        """Take waiting jobs and start them; return their number."""
        # Not what it has already: after a crash of the database, a claim may be forgotten there.
        without = [*self._queue.given_up, *(claim.job for claim in self._owned.leases.claims())]
        try:
            claimed = await self._in_thread(
                partial(self._turns.claim, room, self._running_of_caller, without, spare=spare)
            )
        except OSError as error:
            self._log.warning("waiting jobs not claimed", error=str(error))
            await trio.sleep(AGAIN)
            return 0
        if claimed:
            self._mail.tell_all(messages.Claims(self._me, tuple(one.stored.row.id for one in claimed)))
        for one in claimed:
            await self._start(sent, one.stored, one.party)
        self._may_wait = len(claimed) >= room or await self._waits()
        return len(claimed)

    async def _waits(self) -> bool:
        try:
            waits: bool = await self._in_thread(self._turns.waits)
        except OSError:
            return True
        return waits

    async def _start(self, sent: float, stored: Stored, party: str) -> None:
        """Start a job that was claimed, with the requests of this server that follow it."""
        job = self._records.restored(stored.row)
        self._owned.took(sent, stored)
        if job is None or self._owned.is_leaving:
            await self._owned.release(stored)
            return
        job.party = party
        try:
            fault = await self._files.rebind(job)
        except OSError as error:
            self._log.warning("job not started", job=job.id, error=str(error))
            await self._owned.release(stored)
            return
        if self._owned.leases.claim_of(job.id) is None:  # cancelled, or lost meanwhile
            self._relay.see(job.id)
            return
        followed = self._relay.following.take(job.id)
        waiters = {} if followed is None else followed.waiters
        now = trio.current_time()
        wanted = stored.joined or not waiters
        self._actor.apply(self._queue.adopt(now, job, stored.epoch, waiters, wanted=wanted))
        if fault is not None:
            self._actor.apply(self._queue.fail(now, job.id, fault))
