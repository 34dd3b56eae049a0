"""The version of its file on which a job works: it is kept until the job has ended, although the file is replaced."""

import contextlib

import attrs
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError
from creemson.jobs.journal import InThread
from creemson.jobs.queue.job import Job
from creemson.storage.store import HeldVersions

__all__ = ["bind", "drop", "recognise"]


def bind(job: Job, version: str, key: str) -> None:
    """Set the version on which a job works; its key changes if the server that accepted it reads files otherwise."""
    job.work = attrs.evolve(job.work, key=key, version=version)
    job.key = (job.caller, key)


async def recognise(
    versions: HeldVersions, name: str, version: str, *, ask: InThread, in_thread: InThread
) -> None:
    """If a version cannot be found, compute the digest of the file: perhaps only its time has changed.

    Args:
        versions: the versions of the caller's files.
        name: name of the file.
        version: the version.
        ask: looks for it; in a thread if it may wait for a database.
        in_thread: reads the file in a thread.
    """
    try:
        await ask(versions.find, name, version)
    except CreemsonError:
        with contextlib.suppress(OSError):
            await in_thread(versions.recognise, name, version)


async def drop(
    versions: HeldVersions, version: str, in_thread: InThread, logger: FilteringBoundLogger
) -> None:
    """Remove the bytes of a version that no job needs any longer."""
    try:
        await in_thread(versions.drop, version)
    except OSError as error:  # the next server tries again
        logger.warning("kept bytes not removed", error=str(error))
