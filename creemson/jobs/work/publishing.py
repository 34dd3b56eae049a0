"""The outputs of jobs: published when their worker has ended well, otherwise discarded; removed in the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.claims import Claim
from creemson.jobs.journal import InThread
from creemson.jobs.queue.job import Job
from creemson.jobs.records import Work
from creemson.storage.outputs import Outputs
from creemson.storage.stores import Stores

__all__ = ["expect_output", "output_target", "remove_output"]


@asynccontextmanager
async def output_target(
    outputs: Outputs, name: str, in_thread: InThread, claim: Claim | None = None
) -> AsyncIterator[str]:
    """Let a worker write an output in the block; publish it at the end of the block, or discard it after an error.

    Args:
        outputs: the outputs of the caller.
        name: name of the output.
        in_thread: runs what blocks in a thread.
        claim: whose job it is; None if there is only one server.

    Yields:
        What the worker writes to.

    Raises:
        ProcessingError: ``storage_full``: it does not fit the quota.
        LostClaimError: the job belongs to another server by now; the output is discarded.
        OSError: the object store failed.
    """
    target = outputs.begin(name)
    published = False
    try:
        yield target
        if outputs.is_remote:
            await in_thread(outputs.publish, name, target, claim)
        else:
            outputs.publish(name, target, claim)
        published = True
    finally:
        if not published:
            outputs.discard(target)


def expect_output(stores: Stores, job: Job) -> None:
    """Let the store serve the output of a job that is done only with the size that the worker has reported."""
    output = job.value.output_data
    if output.size is not None:
        stores.of(job.caller).outputs.expect(job.work.output, output.size, output.texts_size)


def remove_output(stores: Stores, work: Work, logger: FilteringBoundLogger) -> None:
    """Remove the output of a job that is done."""
    try:
        stores.of(work.caller).outputs.remove(work.output)
    except OSError as error:
        logger.warning("output not removed", output=work.output, error=str(error))
