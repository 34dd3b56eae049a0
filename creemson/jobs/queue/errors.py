"""The errors of jobs, and of requests that concern them."""

from creemson.errors import ProcessingError

__all__ = [
    "already_ended",
    "cancelled",
    "disconnected",
    "job_not_found",
    "nothing_to_cancel",
    "timed_out",
    "too_many_restarts",
]


def cancelled(message: str) -> ProcessingError:
    """Return the error of a job or a request that was cancelled."""
    return ProcessingError("cancelled", message)


def job_not_found(job: str) -> ProcessingError:
    """Return the error of a request for a job that does not exist, or is another caller's."""
    return ProcessingError(
        "job_not_found",
        f"There is no job {job[:80]!r}. It may have been forgotten; `jobs` lists those that the server knows.",
    )


def already_ended(job: str) -> ProcessingError:
    """Return the error of a request to cancel a job that is done or has failed."""
    return ProcessingError("job_not_found", f"The job {job!r} has already ended; there is nothing to cancel.")


def too_many_restarts(restarts: int) -> ProcessingError:
    """Return the error of a job during which servers have stopped too often."""
    return ProcessingError(
        "worker_died",
        f"The server stopped {restarts} times before this job was done, so it is not tried again. "
        "Ask for less, or read the server's log.",
    )


def disconnected() -> ProcessingError:
    """Return the error of a job that has ended with its connection."""
    return cancelled("The client disconnected, so its job was cancelled.")


def nothing_to_cancel() -> ProcessingError:
    """Return the error of a request to cancel a request that waits for no job."""
    return ProcessingError("job_not_found", "That request has no unfinished job; there is nothing to cancel.")


def timed_out(timeout: float) -> ProcessingError:
    """Return the error of a job that took too long."""
    return ProcessingError(
        "job_timeout",
        f"The job took longer than {timeout:g} s, its timeout. Ask for less, or for more time.",
    )
