"""The jobs that this server has: renews its claims, records what comes of them, and gives up what it has lost."""

from collections.abc import Collection, Sequence
from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.catalog import JobRow
from creemson.catalog.shared.claims import Claim
from creemson.catalog.shared.jobs.rows import Stored
from creemson.catalog.shared.sharing import Sharing
from creemson.jobs.events import Ended, Waiter
from creemson.jobs.journal import Delivery, Entry, InThread, rows_of
from creemson.jobs.keeper import Actor
from creemson.jobs.queue.queue import JobQueue
from creemson.jobs.servers.files import JobFiles
from creemson.jobs.servers.following.mail import AGAIN
from creemson.jobs.servers.following.relay import Relay, is_server
from creemson.jobs.servers.leases import RENEW, Leases

__all__ = ["Owned"]


class Owned:
    """The jobs of this server, and how they are recorded; see :class:`creemson.jobs.journal.Recording`.

    Args:
        sharing: the rows.
        queue: runs the jobs.
        relay: follows what is given up.
        actor: the processor.
        files: the files of all jobs.
        in_thread: runs what blocks.
        renew_in_thread: the same, for renewals, which must not wait for anything else.
        logger: Logger.

    Attributes:
        leases: the claims of this server.
        is_leaving: whether this server takes no more jobs.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        queue: JobQueue,
        relay: Relay,
        actor: Actor,
        files: JobFiles,
        in_thread: InThread,
        renew_in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._rows = sharing.jobs.owned
        self._known = sharing.jobs.known
        self._me = sharing.owner
        self._queue = queue
        self._relay = relay
        self._actor = actor
        self._files = files
        self._in_thread = in_thread
        self._renew_in_thread = renew_in_thread
        self._log = logger
        self.leases = Leases()
        self.is_leaving = False
        self._claimed = trio.Event()  # set when there is a new claim

    # --- claims --------------------------------------------------------------------------------------

    def took(self, sent: float, stored: Stored) -> None:
        """Note that a job was claimed by a request that was sent at this time."""
        self.leases.claimed(sent, Claim(stored.row.id, self._me, stored.epoch))
        self._claimed.set()

    async def release(self, stored: Stored) -> None:
        """Let a job wait again that was claimed, and is not started here."""
        job = stored.row.id
        self.leases.ended(job)
        try:
            await self._in_thread(self._rows.release, [Claim(job, self._me, stored.epoch)])
        except OSError as error:  # its lease ends by itself
            self._log.warning("job not released", job=job, error=str(error))

    async def renew(self) -> None:
        """Renew the leases at times, until cancelled."""
        wait = RENEW
        while True:
            await trio.sleep(wait)
            asked, sent = self.leases.claims(), trio.current_time()
            if self._relay.is_over:
                continue
            try:
                found = await self._renew_in_thread(
                    partial(self._rows.renew, [claim.job for claim in asked], lives=not self.is_leaving)
                )
            except OSError as error:
                self._log.warning("leases not renewed", jobs=len(asked), error=str(error))
                wait = AGAIN
                continue
            wait = RENEW
            for claim in self.leases.renewed(sent, asked, found):
                self._give_up(claim.job)

    async def expire(self) -> None:
        """Give up the jobs whose leases could not be renewed in time, until cancelled."""
        while True:
            self._claimed = trio.Event()
            with trio.move_on_at(self.leases.next_wake()):
                await self._claimed.wait()
            for claim in self.leases.expire(trio.current_time()):
                self._log.warning("lease is over", job=claim.job)
                self._give_up(claim.job)

    async def check(self, job: str) -> None:
        """Give up a job of this server if its row says that it has ended."""
        try:
            stored = await self._in_thread(self._known.job, job)
        except OSError:
            return  # the next renewal finds it out
        claim = self.leases.claim_of(job)
        if claim is not None and (
            stored is None or (stored.owner, stored.epoch) != (claim.owner, claim.epoch)
        ):
            self._give_up(job)

    def _give_up(self, job: str) -> None:
        """Stop a job that may be another server's; its requests follow it from now on."""
        self.leases.ended(job)
        found = self._queue.active(job)
        if found is None:
            return
        effects, waiters = self._queue.surrender(trio.current_time(), job)
        self._actor.apply(effects)
        for waiter in waiters:
            if is_server(waiter.connection):
                self._relay.forget_waiter(job, waiter)
            else:
                self._relay.following.add(job, found.caller, waiter, 0)
        self._relay.see(job)

    # --- records -------------------------------------------------------------------------------------

    def record(self, rows: Sequence[JobRow | str]) -> set[str]:
        """Record jobs of this server; return those that were lost."""
        owned = []
        lost = set()
        for row in rows:
            if isinstance(row, JobRow):
                claim = self.leases.claim_of(row.id)
                if claim is None:
                    lost.add(row.id)
                else:
                    owned.append((row, claim))
        return lost | (self._rows.record(owned) if owned else set())

    def recorded(self, batch: Sequence[Entry], lost: Collection[str]) -> list[Delivery]:
        """Give up the jobs that are lost, and release the others that have ended."""
        deliveries = self._lose(batch, lost)
        self._end(rows_of(batch))
        return deliveries

    def failed(self, batch: Sequence[Entry], error: OSError) -> list[Delivery]:
        """Give up all jobs of the batch: when the database is back, they start again."""
        del error
        return self.recorded(batch, {entry.id for entry in batch if isinstance(entry, JobRow)})

    def _end(self, rows: Sequence[JobRow | str]) -> None:
        for row in rows:
            if isinstance(row, JobRow) and row.state != "queued":
                self.leases.ended(row.id)
        self._files.ended(rows)

    def _lose(self, batch: Sequence[Entry], jobs: Collection[str]) -> list[Delivery]:
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
