"""Commands on a file that may be replaced between its look-up and its opening by a worker."""

from collections.abc import Awaitable, Callable
from typing import Any

from creemson.errors import ProcessingError
from creemson.executors.commands import WorkerCommand
from creemson.executors.executor import Executor, OnProgress
from creemson.storage.store import Found

__all__ = ["MAX_CHANGES", "always_changing", "call_on"]

MAX_CHANGES = 9
"""Number of times that a worker may find another file than the server before the request fails with ``file_changed``;
usually, less than a millisecond lies between the two."""


async def call_on(
    executor: Executor,
    find: Callable[[], Awaitable[Found]],
    command: Callable[[Found], WorkerCommand],
    *,
    on_progress: OnProgress | None = None,
) -> Any:
    """Run a command on a file; if the file is replaced meanwhile, find it again.

    Args:
        executor: runs the command.
        find: returns where the file is now; it may raise an error that ends the search.
        command: returns the command for this file.
        on_progress: see :meth:`Executor.call`.

    Returns:
        What the command returns.

    Raises:
        CreemsonError: see :meth:`Executor.call`, and what ``find`` raises.
        TransientFault: see :meth:`Executor.call`.
    """
    for _ in range(MAX_CHANGES):
        found = await find()
        try:
            return await executor.call(command(found), on_progress=on_progress)
        except ProcessingError as error:
            if error.reason != "file_changed":
                raise
    return await executor.call(command(await find()), on_progress=on_progress)


def always_changing(name: str) -> ProcessingError:
    """Return the error for a file that is replaced whenever it is looked up."""
    return ProcessingError("file_changed", f"{name!r} is being replaced all the time. Ask again.")
