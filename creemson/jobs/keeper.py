"""Who keeps the jobs: this server alone, in its memory; or several servers together, in their catalog.

    commands ──> Processor (an Actor) ──put──> Keeper ──> JobQueue ──effects──> Actor ──> journal, executors, ports

:class:`~creemson.jobs.alone.alone.Alone` and :class:`~creemson.jobs.servers.shared_queue.SharedQueue` are the keepers.
Both use the job queue of this server, and let the processor carry out its effects.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from creemson.catalog.shared.claims import Claim
from creemson.jobs.commands import Command, Disconnect, Port, Reply
from creemson.jobs.journal import Recording
from creemson.jobs.queue.effects import Effect

__all__ = ["Actor", "Keeper"]


class Actor(Protocol):
    """What the processor does for a keeper."""

    def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out effects of the queue."""

    def reply(self, connection: str, request: int, reply: Reply) -> None:
        """Deliver a reply after all entries of the journal that precede it."""

    def tell_cancelled(self, command: Command, job: str, effects: Sequence[Effect]) -> None:
        """Reply to a cancel before its effects are told, but after they are recorded."""

    def register(self, connection: str, port: Port | None) -> None:
        """Let replies to a connection leave through a port; None: nowhere, from now on."""


class Keeper(Protocol):
    """What the processor needs of who keeps the jobs."""

    @property
    def remembers(self) -> bool:
        """Whether the queue has all ended jobs that are remembered: what it forgets is deleted."""

    @property
    def recording(self) -> Recording:
        """How jobs are recorded."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep jobs until cancelled; started when requests can be carried out."""

    def put(self, command: Command | Disconnect) -> None:
        """Carry out a request that concerns jobs, or the end of a connection.

        Raises:
            CreemsonError: the request is refused.
        """

    def counts(self, caller: str | None = None) -> Mapping[str, int]:
        """Count jobs by state; see :meth:`JobQueue.counts`."""

    def totals(self) -> Mapping[str, int]:
        """Count the jobs for the metrics of this server."""

    def changed(self) -> None:
        """Note that effects were carried out, so slots may be free."""

    def claim_of(self, job: str) -> Claim | None:
        """Return the claim under which a job runs; None if no other server could have it.

        Raises:
            LostClaimError: it is another server's by now.
        """

    async def leave(self) -> bool:
        """Take no more jobs; return whether another server starts those of this one again at once."""

    async def hand_over(self) -> None:
        """Give up all jobs: what is to be recorded has been recorded."""
