"""Outputs that a worker writes: published when the worker has ended well, discarded otherwise."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from creemson.catalog.shared.claims import Claim
from creemson.jobs.journal import InThread
from creemson.storage.store import Store

__all__ = ["output_target"]


@asynccontextmanager
async def output_target(
    store: Store, name: str, in_thread: InThread, claim: Claim | None = None
) -> AsyncIterator[str]:
    """Let a worker write an output in the block; publish it at the end of the block, or discard it after an error.

    Args:
        store: the store of the caller.
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
    target = store.output_path(name)
    published = False
    try:
        yield target
        if store.is_remote:
            await in_thread(store.publish_output, name, target, claim)
        else:
            store.publish_output(name, target, claim)
        published = True
    finally:
        if not published:
            store.discard_output(target)
