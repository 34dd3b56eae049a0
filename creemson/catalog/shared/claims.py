"""The right of one server to run a job, and to record what comes of it."""

import attrs

__all__ = ["Claim", "LostClaimError"]


@attrs.frozen
class Claim:
    """A job belongs to a server: until it ends, is released, or is taken over after the lease is over.

    Attributes:
        job: id of the job.
        owner: id of the server; each process has another one.
        epoch: how often the job has been claimed by then. So an owner who was away knows that it is not the last one.
    """

    job: str
    owner: str
    epoch: int


class LostClaimError(Exception):
    """The job belongs to another server by now, or has ended; nothing was recorded."""
