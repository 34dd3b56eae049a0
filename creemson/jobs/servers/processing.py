"""What the part of the processor that shares jobs needs of the rest of it."""

from collections.abc import Sequence
from typing import Protocol

from creemson.catalog.catalog import JobRow
from creemson.errors import CreemsonError
from creemson.jobs.commands import Command, Port, Reply, Submit
from creemson.jobs.queue.job import Effect, Job
from creemson.model.results import JobInfo

__all__ = ["Processing"]


class Processing(Protocol):
    """What the processor does for this part of it."""

    def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out effects of the queue."""

    def reply(self, connection: str, request: int, reply: Reply) -> None:
        """Deliver a reply after all entries of the journal that precede it."""

    def tell_cancelled(self, command: Command, job: str, effects: Sequence[Effect]) -> None:
        """Reply to a cancel before its effects are told, but after they are recorded."""

    def register(self, connection: str, port: Port | None) -> None:
        """Let replies to a connection leave through a port; None: nowhere, from now on."""

    async def prepare(self, command: Command, ask: Submit) -> Job:
        """Return a new job for the present version of its file.

        Raises:
            CreemsonError: it is refused.
        """

    async def has_output(self, job: Job) -> bool:
        """Whether the output of a job that is done is still there."""

    async def remove_output(self, job: Job) -> None:
        """Remove the output of a job that is done."""

    async def rebind(self, job: Job) -> CreemsonError | None:
        """Let an unfinished job start on its version of the file; return the error if that is impossible."""

    def restored(self, row: JobRow) -> Job | None:
        """Return the job that a row describes; None if this version of the server does not understand it."""

    def row(self, job: Job) -> JobRow:
        """Return the row that describes a job."""

    def info(self, job: Job) -> JobInfo:
        """Return what clients are told about a job."""

    def now_in_row(self) -> float:
        """Return the time in seconds since 1970."""
