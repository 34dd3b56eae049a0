"""The effects that the queue returns: what its caller must do."""

from typing import Any, TypeAlias

import attrs

from creemson.jobs.events import Event, Waiter
from creemson.jobs.queue.job import Job
from creemson.jobs.queue.slots import Lease

__all__ = ["Effect", "Erase", "Forget", "Grant", "Notify", "Record", "Revoke", "Start", "Stop"]


@attrs.frozen
class Start:
    """Effect: run this attempt, and report its end to ``attempt_ended``.

    Attributes:
        waited: seconds since the job was created.
    """

    job: str
    attempt: int
    work: Any
    waited: float = attrs.field(default=0.0, eq=False)


@attrs.frozen
class Stop:
    """Effect: stop the running attempt; its end must still be reported to ``attempt_ended``."""

    job: str
    attempt: int


@attrs.frozen
class Notify:
    """Effect: send an event to a waiter."""

    waiter: Waiter
    event: Event


@attrs.frozen
class Forget:
    """Effect: remove the output of the job, because its result will not be served again."""

    job: str
    work: Any


@attrs.frozen
class Record:
    """Effect: record the job in its current state before carrying out the effects that follow."""

    job: Job


@attrs.frozen
class Erase:
    """Effect: delete the record of the job."""

    job: str


@attrs.frozen
class Grant:
    """Effect: the lease has a slot until it is given to ``release``."""

    lease: Lease


@attrs.frozen
class Revoke:
    """Effect: the server is shutting down; stop waiting or working, and give the lease to ``release``."""

    lease: Lease


Effect: TypeAlias = Start | Stop | Notify | Forget | Record | Erase | Grant | Revoke
